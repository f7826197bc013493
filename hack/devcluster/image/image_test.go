// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

var sample = Image{
	Files: map[string]File{
		"/usr/bin/tool": {Mode: 0o755, Content: []byte("program")},
		"/etc/config":   {Mode: 0o644, Content: []byte("text")},
	},
	Entrypoint: []string{"/usr/bin/tool"},
	User:       "1000:1000",
	Arch:       "amd64",
}

func TestWriteIsReadAsAnImage(t *testing.T) {
	archive := filepath.Join(t.TempDir(), "image.tar")
	if err := sample.Write(archive, "localhost/sample:1"); err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.OS != "linux" || config.Architecture != "amd64" || config.Config.User != "1000:1000" ||
		!reflect.DeepEqual(config.Config.Entrypoint, sample.Entrypoint) {
		t.Errorf("config %+v", config)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("layers %v, %v, want one", layers, err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	var got []string
	for archive := tar.NewReader(content); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %o", header.Name, header.Mode))
	}
	want := []string{"etc/ 755", "etc/config 644", "usr/ 755", "usr/bin/ 755", "usr/bin/tool 755"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("layer holds %v, want %v: parents first, in order", got, want)
	}
}

func TestWriteIsReproducible(t *testing.T) {
	var archives [2][]byte
	for i := range archives {
		path := filepath.Join(t.TempDir(), "image.tar")
		if err := sample.Write(path, "localhost/sample:1"); err != nil {
			t.Fatal(err)
		}
		archives[i], _ = os.ReadFile(path)
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("equal images differ: a digest would change with every build")
	}
}

func TestWriteRefuses(t *testing.T) {
	cases := map[string]struct {
		image     Image
		reference string
	}{
		"a relative path":         {Image{Files: map[string]File{"tool": {}}}, "localhost/sample:1"},
		"a path with dots":        {Image{Files: map[string]File{"/a/../b": {}}}, "localhost/sample:1"},
		"a file that is parent":   {Image{Files: map[string]File{"/a": {}, "/a/b": {}}}, "localhost/sample:1"},
		"a reference with no tag": {sample, "localhost/sample"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if err := tc.image.Write(filepath.Join(t.TempDir(), "image.tar"), tc.reference); err == nil {
				t.Error("no error")
			}
		})
	}
}
