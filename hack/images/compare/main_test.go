// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/image"
)

func TestRun(t *testing.T) {
	base := func() image.Image {
		return image.Image{
			Files:      map[string]image.File{"/bin/a": {Mode: 0o755, Content: []byte("a")}},
			Entrypoint: []string{"/bin/a"},
			User:       "65532:65532",
			Labels:     map[string]string{"version": "1"},
			Arch:       "amd64",
		}
	}
	cases := map[string]struct {
		change func(*image.Image)
		want   string // part of the output, empty if the images are the same
	}{
		"the same":             {func(*image.Image) {}, ""},
		"the builder's traces": {func(i *image.Image) { i.Env, i.Labels["io.buildah.version"] = []string{"PATH=/bin"}, "1" }, ""},
		"another user":         {func(i *image.Image) { i.User = "" }, "! user "},
		"another entrypoint":   {func(i *image.Image) { i.Entrypoint = nil }, "! entrypoint "},
		"another platform":     {func(i *image.Image) { i.Arch = "arm64" }, "! platform "},
		"another label":        {func(i *image.Image) { i.Labels["version"] = "2" }, "! label version "},
		"another content":      {func(i *image.Image) { i.Files["/bin/a"] = image.File{Mode: 0o755} }, "! file /bin/a "},
		"another mode":         {func(i *image.Image) { i.Files["/bin/a"] = image.File{Mode: 0o700, Content: []byte("a")} }, "! file /bin/a "},
		"a file more":          {func(i *image.Image) { i.Files["/b"] = image.File{Mode: 0o755} }, "! file /b "},
		"a variable more":      {func(i *image.Image) { i.Env = []string{"A=b"} }, "! environment A "},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			left, right := filepath.Join(t.TempDir(), "left.tar"), filepath.Join(t.TempDir(), "right.tar")
			if err := base().Write(left, "example.com/a:1"); err != nil {
				t.Fatal(err)
			}
			changed := base()
			c.change(&changed)
			if err := changed.Write(right, "example.com/b:2"); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			same, err := run(left, right, &out)
			if err != nil {
				t.Fatal(err)
			}
			if same != (c.want == "") || !strings.Contains(out.String(), c.want) {
				t.Errorf("same is %v, want %q in:\n%s", same, c.want, out.String())
			}
		})
	}
}
