// SPDX-License-Identifier: Apache-2.0

// Package image writes container images without a container engine.
//
// In: files, and how to start them. Out: an archive that "ctr images import" and "docker load" read. Equal input gives
// equal bytes: times are zero and files are sorted.
package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"sort"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Image is one layer of files and the process that starts in them.
type Image struct {
	// Files maps an absolute path to the file there; parent directories appear by themselves.
	Files      map[string]File
	Entrypoint []string
	Cmd        []string
	Env        []string
	// User is "uid" or "uid:gid", empty for root. Use numbers: runAsNonRoot refuses a name.
	User       string
	WorkingDir string
	Labels     map[string]string
	// Arch is a Go architecture name, empty for this machine's.
	Arch string
}

// File is a regular file's permissions and content.
type File struct {
	Mode    int64
	Content []byte
}

// Executable reads a program from the disk.
func Executable(path string) (File, error) {
	content, err := os.ReadFile(path)
	return File{Mode: 0o755, Content: content}, err
}

// Write stores the image under the given reference in an archive file.
func (i Image) Write(archive, reference string) error {
	tag, err := name.NewTag(reference, name.StrictValidation)
	if err != nil {
		return fmt.Errorf("image %s: %w", reference, err)
	}
	img, err := i.assemble()
	if err != nil {
		return fmt.Errorf("image %s: %w", reference, err)
	}
	if err := tarball.WriteToFile(archive, tag, img); err != nil {
		return fmt.Errorf("image %s: %w", reference, err)
	}
	return nil
}

func (i Image) assemble() (v1.Image, error) {
	content, err := i.layer()
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	})
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS = "linux"
	file.Architecture = i.Arch
	if i.Arch == "" {
		file.Architecture = runtime.GOARCH
	}
	file.Config = v1.Config{
		Entrypoint: i.Entrypoint,
		Cmd:        i.Cmd,
		Env:        i.Env,
		User:       i.User,
		WorkingDir: i.WorkingDir,
		Labels:     i.Labels,
	}
	return mutate.ConfigFile(img, file)
}

func (i Image) layer() ([]byte, error) {
	directories := map[string]bool{}
	var paths []string
	for p := range i.Files {
		if !path.IsAbs(p) || path.Clean(p) != p || p == "/" {
			return nil, fmt.Errorf("file %q: want a clean absolute path", p)
		}
		paths = append(paths, p)
		for dir := path.Dir(p); dir != "/"; dir = path.Dir(dir) {
			directories[dir] = true
		}
	}
	for dir := range directories {
		if _, isFile := i.Files[dir]; isFile {
			return nil, fmt.Errorf("file %q: also the parent of another file", dir)
		}
		paths = append(paths, dir)
	}
	// Sorted, a directory stands before what it holds.
	sort.Strings(paths)

	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	for _, p := range paths {
		header := &tar.Header{Name: strings.TrimPrefix(p, "/"), Format: tar.FormatPAX}
		file, isFile := i.Files[p]
		if isFile {
			header.Typeflag, header.Mode, header.Size = tar.TypeReg, file.Mode, int64(len(file.Content))
		} else {
			header.Typeflag, header.Mode, header.Name = tar.TypeDir, 0o755, header.Name+"/"
		}
		if err := archive.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("file %q: %w", p, err)
		}
		if _, err := archive.Write(file.Content); err != nil {
			return nil, fmt.Errorf("file %q: %w", p, err)
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}
