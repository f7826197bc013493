// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"log"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/image"
)

// archive is an image of one program for a platform.
func archive(t *testing.T, arch string) string {
	t.Helper()
	img := image.Image{
		Files: map[string]image.File{"/a": {Mode: 0o755, Content: []byte(arch)}}, Entrypoint: []string{"/a"}, User: "65532:65532", Arch: arch,
	}
	path := filepath.Join(t.TempDir(), arch+".tar")
	if err := img.Write(path, "example.com/a:1"); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPushedIsWhatWasSaid pushes to a registry on loopback and pulls by what was printed.
func TestPushedIsWhatWasSaid(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	repository := strings.TrimPrefix(server.URL, "http://") + "/ours/a"
	amd64, arm64 := archive(t, "amd64"), archive(t, "arm64")

	var said, dry bytes.Buffer
	if err := run(t.Context(), []string{"--repository", repository, "--tag", "1.0.0", "--push", amd64, arm64}, &said); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), []string{"--repository", repository, "--tag", "1.0.0", arm64, amd64}, &dry); err != nil {
		t.Fatal(err)
	}
	if said.String() != dry.String() {
		t.Errorf("in another order and without a push it is another image:\n%s%s", said.String(), dry.String())
	}
	lines := strings.Split(strings.TrimSpace(said.String()), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "index "+repository+"@sha256:") {
		t.Fatalf("got %q", lines)
	}
	for i, platform := range []string{"linux/amd64", "linux/arm64"} {
		what, where, _ := strings.Cut(lines[i+1], " ")
		if what != platform {
			t.Errorf("line %d is for %s, want %s", i+1, what, platform)
		}
		// Who pulls the tag on that platform gets that image.
		tag, err := name.ParseReference(repository + ":1.0.0")
		if err != nil {
			t.Fatal(err)
		}
		arch := strings.TrimPrefix(platform, "linux/")
		img, err := remote.Image(tag, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}))
		if err != nil {
			t.Fatal(err)
		}
		digest, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(where, "@"+digest.String()) {
			t.Errorf("%s is %s, and %s was said", platform, digest, where)
		}
	}
}

func TestWrongUseIsRefused(t *testing.T) {
	one := archive(t, "amd64")
	cases := map[string]struct {
		args []string
		want string
	}{
		"no archive":           {[]string{"--repository", "example.com/a", "--tag", "1"}, "no archive is named"},
		"one platform twice":   {[]string{"--repository", "example.com/a", "--tag", "1", one, one}, "two archives are for linux/amd64"},
		"no repository":        {[]string{"--tag", "1", one}, "repository"},
		"an archive not there": {[]string{"--repository", "example.com/a", "--tag", "1", one + "x"}, "no such file"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := run(t.Context(), c.args, &out); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a refusal with %q", err, c.want)
			}
		})
	}
}
