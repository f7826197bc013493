// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const lastStage = `
FROM golang AS build
ARG PACKAGES="./cmd/a ./cmd/b"
RUN true
FROM scratch
ARG VERSION=0
LABEL title="a b" \
      version="${VERSION}"
COPY --from=build /out/a /a
USER 65532:65532
ENTRYPOINT ["/a", "serve"]
`

func TestRecipe(t *testing.T) {
	cases := map[string]struct {
		reason, from, to string // what is replaced in lastStage
		want             string // part of the refusal, empty for none
	}{
		"a plain Dockerfile is followed":         {reason: "it is what the project has"},
		"an unknown instruction is refused":      {reason: "the archive would lack what docker build does", from: "USER 65532:65532", to: "ENV A=b\nUSER 65532:65532", want: "line 10: ENV"},
		"a user by name is refused":              {reason: "the kubelet cannot tell that nonroot is not root", from: "USER 65532:65532", to: "USER nonroot", want: "in numbers"},
		"root is refused":                        {reason: "restricted namespaces would refuse the pod", from: "USER 65532:65532", to: "USER 0:0", want: "not root"},
		"a file from elsewhere is refused":       {reason: "only what the build stage compiled is here", from: "COPY --from=build /out/a /a", to: "COPY a /a", want: "want --from=build /out/PROGRAM"},
		"a build stage without packages":         {reason: "nothing says what to compile", from: "PACKAGES=", to: "P=", want: "no ARG PACKAGES"},
		"a last stage without a user":            {reason: "the image would run as root", from: "USER 65532:65532", to: "", want: "needs COPY, USER and ENTRYPOINT"},
		"an entrypoint in shell form is refused": {reason: "there is no shell", from: `["/a", "serve"]`, to: "/a serve", want: "line 11: ENTRYPOINT"},
		"a label without quotes is refused":      {reason: "one way to write them is enough", from: `"a b"`, to: "a", want: "needs quotes"},
		"a Dockerfile with one stage is refused": {reason: "the last stage copies from the one before", from: "FROM scratch", to: "", want: "found 1"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			text := lastStage
			if c.from != "" {
				text = strings.Replace(text, c.from, c.to, 1)
			}
			r, err := parseRecipe(text, map[string]string{"VERSION": "7"})
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("got %v, want a refusal with %q: %s", err, c.want, c.reason)
				}
				return
			}
			if err != nil {
				t.Fatalf("refused with %v: %s", err, c.reason)
			}
			if got := strings.Join(r.Packages, ","); got != "./cmd/a,./cmd/b" {
				t.Errorf("packages %s", got)
			}
			if r.Labels["version"] != "7" || r.Labels["title"] != "a b" || len(r.Labels) != 2 {
				t.Errorf("labels %v", r.Labels)
			}
			if r.Files["/a"] != "a" || r.User != "65532:65532" || strings.Join(r.Entrypoint, " ") != "/a serve" {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func TestDockerfilesOfThisRepositoryCanBeFollowed(t *testing.T) {
	for _, target := range append(targets, testTargets...) {
		r, err := readRecipe("../../"+target.Dockerfile, map[string]string{"VERSION": "1.2.3", "REVISION": "abc"})
		if err != nil {
			t.Fatal(err)
		}
		if r.User != "65532:65532" || r.Labels["org.opencontainers.image.version"] != "1.2.3" ||
			r.Labels["org.opencontainers.image.title"] != target.Name {
			t.Errorf("%s: got %+v", target.Dockerfile, r)
		}
	}
}

// A second machine has its sources elsewhere and has compiled nothing yet.
func TestEqualInputGivesEqualBytes(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	source, elsewhere := smallRepository(t, ""), filepath.Join(t.TempDir(), "a", "longer", "path")
	if err := os.CopyFS(elsewhere, os.DirFS(source)); err != nil {
		t.Fatal(err)
	}
	first, second := t.TempDir(), t.TempDir()
	args := []string{"--version", "1.0.0"}
	if err := run(t.Context(), append(args, "--source", source, "--out", first), os.Stderr); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOCACHE", t.TempDir())
	if err := run(t.Context(), append(args, "--source", elsewhere, "--out", second), os.Stderr); err != nil {
		t.Fatal(err)
	}
	for _, target := range targets {
		same(t, first, second, target)
	}
}

// same compares what was made of one target in two folders.
func same(t *testing.T, first, second string, of target) {
	t.Helper()
	for _, name := range []string{of.Archive, strings.TrimSuffix(of.Archive, ".tar") + ".spdx.json"} {
		if digestOf(t, filepath.Join(first, name)) != digestOf(t, filepath.Join(second, name)) {
			t.Errorf("%s differs between two runs", name)
		}
	}
}

func TestImageSaysWhatItIs(t *testing.T) {
	source, out := smallRepository(t, ""), t.TempDir()
	var said bytes.Buffer
	args := []string{"--source", source, "--out", out, "--version", "1.0.0", "--tag", "dev", "--arch", "arm64"}
	if err := run(t.Context(), args, &said); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"ghcr.io/mqtt-operator/mqtt-operator:dev linux/arm64", "ghcr.io/mqtt-operator/mqtt-broker:dev linux/arm64", "MB unpacked"} {
		if !strings.Contains(said.String(), line) {
			t.Errorf("%q is not in:\n%s", line, said.String())
		}
	}
	img, err := tarball.ImageFromPath(filepath.Join(out, "broker.tar"), nil)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if file.OS != "linux" || file.Architecture != "arm64" || file.Config.User != "65532:65532" {
		t.Errorf("got %s/%s, user %s", file.OS, file.Architecture, file.Config.User)
	}
	if file.Config.Labels["version"] != "1.0.0" || !file.Created.IsZero() {
		t.Errorf("got labels %v, created %s", file.Config.Labels, file.Created)
	}
}

func TestTooLargeAnImageIsRefused(t *testing.T) {
	source := smallRepository(t, strings.Repeat("x", 26*megabyte))
	err := run(t.Context(), []string{"--source", source, "--out", t.TempDir(), "--version", "1.0.0"}, os.Stderr)
	if err == nil || !strings.Contains(err.Error(), "mqtt-broker: the image has") {
		t.Fatalf("got %v, want a refusal of the broker's size", err)
	}
}

// smallRepository has the shape of this one and programs that compile in no time; ballast is carried in the broker.
func smallRepository(t *testing.T, ballast string) string {
	t.Helper()
	root := t.TempDir()
	dockerfile := func(program string) string {
		text := strings.ReplaceAll(lastStage, "./cmd/a ./cmd/b", "./"+program)
		return strings.ReplaceAll(text, "/out/a /a", "/out/"+program+" /"+program)
	}
	for name, content := range map[string]string{
		"go.mod":                  "module small\n\ngo 1.26.0\n",
		"Dockerfile":              dockerfile("operator"),
		"broker-image/Dockerfile": dockerfile("broker"),
		"operator/main.go":        "package main\n\nfunc main() {}\n",
		"broker/ballast":          ballast,
		"broker/main.go":          "package main\n\nimport _ \"embed\"\n\n//go:embed ballast\nvar ballast string\n\nfunc main() { println(ballast) }\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func digestOf(t *testing.T, path string) [sha256.Size]byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(content)
}
