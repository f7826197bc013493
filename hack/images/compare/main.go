// SPDX-License-Identifier: Apache-2.0

// Command compare says in what two images differ that counts when they run: platform, user, entrypoint, command, labels
// and every file. What only tells how an image was built is left out: times, layers, the builder's own label, and the
// PATH that builders set for images without a shell too.
package main

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: compare ONE.tar OTHER.tar")
		os.Exit(2)
	}
	same, err := run(os.Args[1], os.Args[2], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(2)
	}
	if !same {
		os.Exit(1)
	}
}

// run prints each fact of the two archives once, or both where they differ.
func run(left, right string, out io.Writer) (bool, error) {
	a, err := facts(left)
	if err != nil {
		return false, fmt.Errorf("%s: %w", left, err)
	}
	b, err := facts(right)
	if err != nil {
		return false, fmt.Errorf("%s: %w", right, err)
	}
	same := true
	all := maps.Clone(a)
	maps.Copy(all, b)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if a[name] == b[name] {
			fmt.Fprintf(out, "  %-50s %s\n", name, a[name])
			continue
		}
		same = false
		fmt.Fprintf(out, "! %-50s %s\n! %-50s %s\n", name, a[name], "", b[name])
	}
	return same, nil
}

func facts(archive string) (map[string]string, error) {
	img, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	found := map[string]string{
		"platform":   file.OS + "/" + file.Architecture,
		"user":       file.Config.User,
		"entrypoint": fmt.Sprintf("%q", file.Config.Entrypoint),
		"command":    fmt.Sprintf("%q", file.Config.Cmd),
		"folder":     strings.TrimSuffix(file.Config.WorkingDir, "/"),
		"volumes":    strconv.Itoa(len(file.Config.Volumes)),
	}
	for _, variable := range file.Config.Env {
		if name, value, _ := strings.Cut(variable, "="); name != "PATH" {
			found["environment "+name] = value
		}
	}
	for key, value := range file.Config.Labels {
		if key != "io.buildah.version" {
			found["label "+key] = value
		}
	}
	return found, content(img, found)
}

// content adds every file with its mode and digest.
func content(img v1.Image, found map[string]string) error {
	reader := mutate.Extract(img)
	defer func() { _ = reader.Close() }()
	archive := tar.NewReader(reader)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		digest := sha256.New()
		if _, err := io.Copy(digest, archive); err != nil { //nolint:gosec // an image that we just built
			return err
		}
		name := "/" + strings.Trim(strings.TrimPrefix(header.Name, "."), "/")
		if header.Typeflag == tar.TypeDir {
			continue
		}
		found["file "+name] = fmt.Sprintf("%04o %d:%d sha256:%x", header.Mode&0o7777, header.Uid, header.Gid, digest.Sum(nil))
	}
}
