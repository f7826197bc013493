// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	oci "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// TestRelease makes a release for this machine's platform, pushes it to a registry on loopback, and looks at it as those do
// who install it. A dry run before shows that it would have been the same.
func TestRelease(t *testing.T) {
	server := httptest.NewServer(oci.New(oci.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	repository := strings.TrimPrefix(server.URL, "http://") + "/mqtt-operator"
	release := func(args ...string) string {
		t.Helper()
		out := filepath.Join(t.TempDir(), "release")
		command := exec.CommandContext(t.Context(), "../release.sh", append(args, "1.2.3", out)...)
		command.Env = append(os.Environ(), "REGISTRY="+repository, "ARCHES="+runtime.GOARCH, "PLATFORMS=linux/"+runtime.GOARCH,
			"REVISION=abc", "SOURCE_DATE_EPOCH=1700000000")
		if text, err := command.CombinedOutput(); err != nil {
			t.Fatalf("hack/release.sh: %v: %s", err, text)
		}
		return out
	}
	dry := release("--dry-run")
	if n := len(tags(t, repository+"/mqtt-broker")); n != 0 {
		t.Errorf("a dry run pushed %d tags", n)
	}
	out := release()

	sums := map[string]string{}
	for _, folder := range []string{dry, out} {
		for _, line := range lines(t, filepath.Join(folder, "checksums.txt")) {
			sum, file, _ := strings.Cut(line, "  ")
			if got := fmt.Sprintf("%x", digestOf(t, filepath.Join(folder, file))); got != sum {
				t.Errorf("%s has the sum %s, checksums.txt says %s", file, got, sum)
			}
			// Helm writes the time into the archive of a chart.
			if before, ok := sums[file]; ok && before != sum && !strings.HasSuffix(file, ".tgz") {
				t.Errorf("%s differs between two runs", file)
			}
			sums[file] = sum
		}
	}
	for _, file := range []string{
		"mqtt-operator-1.2.3.tgz", "mqtt-operator-1.2.3.yaml", "mqtt-operator-bundle-1.2.3.tar.gz", "mqtt.yaml",
		"kubectl-mqtt_1.2.3_linux_" + runtime.GOARCH + ".tar.gz", "mqtt-operator_1.2.3_linux_" + runtime.GOARCH + ".spdx.json",
		"mqtt-broker_1.2.3_linux_" + runtime.GOARCH + ".spdx.json",
	} {
		if sums[file] == "" {
			t.Errorf("the release has no %s with a sum", file)
		}
	}

	// What is pulled by the tag is what images.txt names, and its bill of materials names it.
	listed := lines(t, filepath.Join(out, "images.txt"))
	if len(listed) != 4 {
		t.Fatalf("images.txt has %q", listed)
	}
	for _, line := range listed {
		reference, bill, _ := strings.Cut(line, " ")
		at, err := name.NewDigest(reference)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := remote.Get(at); err != nil {
			t.Errorf("%s cannot be pulled: %v", reference, err)
		}
		if bill == "-" {
			tag := at.Context().Tag("1.2.3")
			if index, err := remote.Get(tag); err != nil || index.Digest.String() != at.DigestStr() {
				t.Errorf("the tag is %v, images.txt says %s: %v", index, reference, err)
			}
			continue
		}
		text, err := os.ReadFile(filepath.Join(out, bill))
		if err != nil {
			t.Fatal(err)
		}
		if sum := readBill(t, text).Packages[0].PackageChecksums[0].Value; "sha256:"+sum != at.DigestStr() {
			t.Errorf("%s is of the image %s, and stands beside %s", bill, sum, reference)
		}
	}
	if got := tags(t, repository+"/charts/mqtt-operator"); len(got) != 1 || got[0] != "1.2.3" {
		t.Errorf("the chart has the tags %q", got)
	}

	// Each way to install asks for the images of this release.
	plain, err := os.ReadFile(filepath.Join(out, "mqtt-operator-1.2.3.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{
		"the manifests":        string(plain),
		"the bundle":           inside(t, filepath.Join(out, "mqtt-operator-bundle-1.2.3.tar.gz"), "bundle/manifests/mqtt-operator.clusterserviceversion.yaml"),
		"the chart's metadata": inside(t, filepath.Join(out, "mqtt-operator-1.2.3.tgz"), "mqtt-operator/Chart.yaml"),
	} {
		wanted := []string{"ghcr.io/mqtt-operator/mqtt-operator:1.2.3", "ghcr.io/mqtt-operator/mqtt-broker:1.2.3"}
		if where == "the chart's metadata" {
			wanted = []string{"\nversion: 1.2.3\n", "\nappVersion: 1.2.3\n"}
		}
		for _, want := range wanted {
			if !strings.Contains("\n"+text, want) || strings.Contains(text, "0.1.0-dev") {
				t.Errorf("%s has no %q, or speaks of 0.1.0-dev", where, want)
			}
		}
	}
	if n := strings.Count(string(plain), "\nkind: CustomResourceDefinition\n"); n != 4 {
		t.Errorf("the manifests have %d kinds", n)
	}
}

func TestReleaseRefuses(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "old.tar.gz"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		args []string
		want string
	}{
		"a folder with something in it": {[]string{"--dry-run", "1.2.3", full}, "is not empty"},
		"a version with a v":            {[]string{"--dry-run", "v1.2.3", "x"}, "without a v"},
		"no folder":                     {[]string{"--dry-run", "1.2.3"}, "usage:"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			text, err := exec.CommandContext(t.Context(), "../release.sh", c.args...).CombinedOutput()
			if err == nil || !strings.Contains(string(text), c.want) {
				t.Errorf("got %v and %q, want a refusal with %q", err, text, c.want)
			}
		})
	}
}

// tags are those of a repository, none where there is no repository.
func tags(t *testing.T, repository string) []string {
	t.Helper()
	at, err := name.NewRepository(repository)
	if err != nil {
		t.Fatal(err)
	}
	found, err := remote.List(at)
	if err != nil && !strings.Contains(err.Error(), "NAME_UNKNOWN") {
		t.Fatal(err)
	}
	return found
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for scanner := bufio.NewScanner(bytes.NewReader(text)); scanner.Scan(); {
		found = append(found, scanner.Text())
	}
	return found
}

// inside is a file in a compressed archive.
func inside(t *testing.T, archive, path string) string {
	t.Helper()
	packed, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	plain, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	for content := tar.NewReader(plain); ; {
		header, err := content.Next()
		if errors.Is(err, io.EOF) {
			t.Fatalf("%s has no %s", archive, path)
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Name == path {
			text, err := io.ReadAll(content)
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
	}
}
