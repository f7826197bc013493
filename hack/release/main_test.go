// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// manifest is what krew reads, as far as this project uses it.
type manifest struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Version          string     `json:"version"`
		Homepage         string     `json:"homepage"`
		ShortDescription string     `json:"shortDescription"`
		Description      string     `json:"description"`
		Caveats          string     `json:"caveats"`
		Platforms        []platform `json:"platforms"`
	} `json:"spec"`
}

type platform struct {
	Selector struct {
		MatchLabels map[string]string `json:"matchLabels"`
	} `json:"selector"`
	URI    string `json:"uri"`
	SHA256 string `json:"sha256"`
	Bin    string `json:"bin"`
	Files  []struct {
		From string `json:"from"`
		To   string `json:"to"`
	} `json:"files"`
}

// files unpacks an archive.
func files(t *testing.T, path string) map[string][]byte {
	t.Helper()

	packed, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()

	plain, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}

	found := map[string][]byte{}

	for content := tar.NewReader(plain); ; {
		header, err := content.Next()
		if errors.Is(err, io.EOF) {
			return found
		}

		if err != nil {
			t.Fatal(err)
		}

		if header.ModTime.Unix() != 0 || header.Uid != 0 || header.Uname != "" || (header.Mode == 0o755) != strings.HasPrefix(header.Name, "kubectl-mqtt") {
			t.Errorf("%s: of %s, by %q, mode %o", header.Name, header.ModTime, header.Uname, header.Mode)
		}

		if found[header.Name], err = io.ReadAll(content); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()

	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	return text
}

// TestManifestFitsTheArchives does what krew does with a release of this platform: finds the archive, compares its sum,
// unpacks it and runs the program.
func TestManifestFitsTheArchives(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	for _, out := range []string{first, second} {
		err := run(t.Context(), []string{"--root", "../..", "--out", out, "--version", "1.2.3", "--platforms", runtime.GOOS + "/" + runtime.GOARCH})
		if err != nil {
			t.Fatal(err)
		}
	}

	text := read(t, filepath.Join(first, "mqtt.yaml"))
	if !bytes.Equal(text, read(t, filepath.Join(second, "mqtt.yaml"))) {
		t.Error("a second run makes other archives")
	}

	m := decoded(t, text)
	if len(m.Spec.Platforms) != 1 {
		t.Fatalf("got %d platforms", len(m.Spec.Platforms))
	}

	p := m.Spec.Platforms[0]
	if p.Selector.MatchLabels["os"] != runtime.GOOS || p.Selector.MatchLabels["arch"] != runtime.GOARCH {
		t.Errorf("it is for %v", p.Selector.MatchLabels)
	}

	name, ok := strings.CutPrefix(p.URI, "https://github.com/mqtt-operator/mqtt-operator/releases/download/v1.2.3/")
	if !ok {
		t.Fatalf("it is at %s", p.URI)
	}

	archive := filepath.Join(first, name)
	if sum := fmt.Sprintf("%x", sha256.Sum256(read(t, archive))); sum != p.SHA256 {
		t.Errorf("the sum is %s, the manifest says %s", sum, p.SHA256)
	}

	unpacked, home := files(t, archive), t.TempDir()

	for _, f := range p.Files {
		if len(unpacked[f.From]) == 0 || f.To != "." {
			t.Errorf("%s is to go to %s, and the archive has it with %d bytes", f.From, f.To, len(unpacked[f.From]))
		}

		if err := os.WriteFile(filepath.Join(home, f.From), unpacked[f.From], 0o700); err != nil {
			t.Fatal(err)
		}
	}

	if !bytes.Equal(unpacked["LICENSE"], read(t, "../../LICENSE")) {
		t.Error("the licence is not ours")
	}

	said, err := exec.CommandContext(t.Context(), filepath.Join(home, p.Bin), "version").CombinedOutput()
	if err != nil || !strings.Contains(string(said), "1.2.3") {
		t.Errorf("the program says %q, %v", said, err)
	}
}

// decoded reads a manifest and refuses what krew does not know and what its index does not take.
func decoded(t *testing.T, text []byte) manifest {
	t.Helper()

	var m manifest
	if err := yaml.UnmarshalStrict(text, &m); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}

	if m.APIVersion != "krew.googlecontainertools.github.com/v1alpha2" || m.Kind != "Plugin" || m.Metadata.Name != "mqtt" {
		t.Errorf("it is %s %s %s", m.APIVersion, m.Kind, m.Metadata.Name)
	}

	if !regexp.MustCompile(`^v\d+\.\d+\.\d+`).MatchString(m.Spec.Version) {
		t.Errorf("the version %q does not begin with a v", m.Spec.Version)
	}

	if d := m.Spec.ShortDescription; d == "" || len(d) > 50 || strings.HasSuffix(d, ".") || strings.Contains(strings.ToLower(d), "kubectl") {
		t.Errorf("the short description %q is no short one", d)
	}

	for _, field := range []string{m.Spec.Homepage, m.Spec.Description, m.Spec.Caveats} {
		if field == "" {
			t.Error("a text is missing")
		}
	}

	return m
}

func TestEachPlatformHasItsProgram(t *testing.T) {
	text, err := fill(krew, "1.2.3", []archive{
		{OS: "linux", Arch: "arm64", Name: "a.tar.gz", Program: "kubectl-mqtt", SHA256: "1"},
		{OS: "windows", Arch: "amd64", Name: "b.tar.gz", Program: "kubectl-mqtt.exe", SHA256: "2"},
	})
	if err != nil {
		t.Fatal(err)
	}

	platforms := decoded(t, text).Spec.Platforms
	if len(platforms) != 2 || platforms[1].Bin != "kubectl-mqtt.exe" || platforms[1].Files[0].From != "kubectl-mqtt.exe" ||
		!strings.HasSuffix(platforms[0].URI, "/v1.2.3/a.tar.gz") || platforms[0].Selector.MatchLabels["arch"] != "arm64" {
		t.Errorf("got %+v", platforms)
	}
}

func TestWrongUseIsRefused(t *testing.T) {
	cases := map[string]struct {
		args []string
		want string
	}{
		"no version":        {nil, "want one such as 1.2.3"},
		"a version with v":  {[]string{"--version", "v1.2.3"}, "want one such as 1.2.3"},
		"half a version":    {[]string{"--version", "1.2"}, "want one such as 1.2.3"},
		"a flag inside":     {[]string{"--version", "1.2.3 -X main.other=1"}, "want one such as 1.2.3"},
		"half a platform":   {[]string{"--version", "1.2.3", "--platforms", "linux"}, "want OS/ARCH"},
		"no such platform":  {[]string{"--version", "1.2.3", "--platforms", "plan10/amd64"}, "go build"},
		"an unknown flag":   {[]string{"--version", "1.2.3", "--template", "x"}, "not defined"},
		"nothing to unpack": {[]string{"--version", "1.2.3", "--platforms", ""}, "want OS/ARCH"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"--root", "../..", "--out", t.TempDir()}, c.args...)
			if err := run(t.Context(), args); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a refusal with %q", err, c.want)
			}
		})
	}
}
