// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"text/template"
)

const (
	pluginPackage = "./cmd/kubectl-mqtt"
	// everywhere are the platforms that a release has archives for.
	everywhere = "darwin/amd64,darwin/arm64,linux/amd64,linux/arm64,windows/amd64"
)

//go:embed krew.yaml
var krew string

// archive is one platform's, as krew is to know it.
type archive struct {
	OS, Arch, Name, Program, SHA256 string
}

type options struct {
	root, out, version, platforms string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])

	stop()

	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "release:", err)
		}

		os.Exit(1)
	}
}

// semantic is what krew takes for a version, without the v.
var semantic = regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)

func run(ctx context.Context, args []string) error {
	var o options

	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.StringVar(&o.root, "root", ".", "root of the repository")
	flags.StringVar(&o.out, "out", "dist", "folder for the archives and the manifest")
	flags.StringVar(&o.version, "version", "", "version, such as 1.2.3 (required)")
	flags.StringVar(&o.platforms, "platforms", everywhere, "for which, as OS/ARCH, separated by commas")

	if err := flags.Parse(args); err != nil {
		return err
	}

	if !semantic.MatchString(o.version) {
		return fmt.Errorf("--version=%s: want one such as 1.2.3 or 1.2.3-rc.1", o.version)
	}

	if err := os.MkdirAll(o.out, 0o750); err != nil {
		return err
	}

	var archives []archive

	for platform := range strings.SplitSeq(o.platforms, ",") {
		a, err := o.make(ctx, platform)
		if err != nil {
			return fmt.Errorf("%s: %w", platform, err)
		}

		archives = append(archives, a)
	}

	manifest, err := fill(krew, o.version, archives)
	if err != nil {
		return err
	}

	return os.WriteFile(filepath.Join(o.out, "mqtt.yaml"), manifest, 0o644) //nolint:gosec // for everybody to read
}

// make compiles the plugin for one platform and packs it.
func (o options) make(ctx context.Context, platform string) (archive, error) {
	a := archive{Program: "kubectl-mqtt"}

	var ok bool
	if a.OS, a.Arch, ok = strings.Cut(platform, "/"); !ok {
		return a, errors.New("want OS/ARCH")
	}

	if a.OS == "windows" {
		a.Program += ".exe"
	}

	a.Name = strings.Join([]string{"kubectl-mqtt", o.version, a.OS, a.Arch}, "_") + ".tar.gz"

	folder, err := os.MkdirTemp("", "release")
	if err != nil {
		return a, err
	}

	defer func() { _ = os.RemoveAll(folder) }()

	program := filepath.Join(folder, a.Program)
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", //nolint:gosec // the version is looked at above
		"-ldflags", "-s -w -X main.version="+o.version, "-o", program, pluginPackage)
	command.Dir = o.root
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+a.OS, "GOARCH="+a.Arch, "GOFLAGS=", "GOWORK=off")
	command.Stderr = os.Stderr

	if err := command.Run(); err != nil {
		return a, fmt.Errorf("go build: %w", err)
	}

	packed, err := pack([]string{program, filepath.Join(o.root, "LICENSE")})
	if err != nil {
		return a, err
	}

	a.SHA256 = fmt.Sprintf("%x", sha256.Sum256(packed))

	return a, os.WriteFile(filepath.Join(o.out, a.Name), packed, 0o644) //nolint:gosec // as the manifest
}

// pack puts files side by side into an archive; the first is the program.
func pack(paths []string) ([]byte, error) {
	var buffer bytes.Buffer

	compressed, err := gzip.NewWriterLevel(&buffer, gzip.BestCompression)
	if err != nil {
		return nil, err
	}

	content := tar.NewWriter(compressed)

	for i, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}

		header := &tar.Header{Typeflag: tar.TypeReg, Name: filepath.Base(path), Mode: 0o644, Size: int64(len(text)), Format: tar.FormatUSTAR}
		if i == 0 {
			header.Mode = 0o755
		}

		if err := content.WriteHeader(header); err != nil {
			return nil, err
		}

		if _, err := io.Copy(content, bytes.NewReader(text)); err != nil {
			return nil, err
		}
	}

	// Only then is all of it in the buffer.
	err = errors.Join(content.Close(), compressed.Close())

	return buffer.Bytes(), err
}

// fill writes the manifest from its template.
func fill(text, version string, archives []archive) ([]byte, error) {
	parsed, err := template.New("krew.yaml").Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, err
	}

	var filled bytes.Buffer

	err = parsed.Execute(&filled, struct {
		Version  string
		Archives []archive
	}{version, archives})

	return filled.Bytes(), err
}
