// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/image"
)

// registry holds the project's images.
const registry = "ghcr.io/mqtt-operator/"

// megabyte is what registries count in.
const megabyte = 1_000_000

// target is one image of the project.
type target struct {
	Name       string // of the image, below the registry
	Archive    string
	Dockerfile string
	Limit      int64 // the most bytes it may have when unpacked, 0 for no limit
}

var targets = []target{
	{Name: "mqtt-operator", Archive: "operator.tar", Dockerfile: "Dockerfile"},
	{Name: "mqtt-broker", Archive: "broker.tar", Dockerfile: "broker-image/Dockerfile", Limit: 25 * megabyte},
}

// testTargets are for the project's own tests; nobody publishes them.
var testTargets = []target{
	{Name: "mqtt-operator-e2e-client", Archive: "e2e-client.tar", Dockerfile: "test/e2e/client/Dockerfile"},
}

// options say what to make.
type options struct {
	Source  string // root of the repository
	Out     string // folder of the archives
	Tag     string
	Version string // what the binaries and labels say
	// Revision is the commit that the labels name.
	Revision string
	Arch     string
	// Created is when the sources were, which the bills of materials have to say.
	Created time.Time
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "images:", err)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	flags.StringVar(&o.Source, "source", "../..", "root of the repository")
	flags.StringVar(&o.Out, "out", "../../dist", "folder for the archives")
	flags.StringVar(&o.Version, "version", "", "version that binaries and labels say (default: what git describe says, else 0.1.0-dev)")
	flags.StringVar(&o.Tag, "tag", "", "tag of the images (default: the version)")
	flags.StringVar(&o.Revision, "revision", "", "commit that the labels name (default: what git says)")
	tests := flags.Bool("tests", false, "make the images of the tests in place of those of the product")
	flags.StringVar(&o.Arch, "arch", runtime.GOARCH, "amd64 or arm64")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.Arch != "amd64" && o.Arch != "arm64" {
		return fmt.Errorf("--arch=%s: want amd64 or arm64", o.Arch)
	}
	if o.Version == "" {
		o.Version = version(o.Source)
	}
	if o.Revision == "" {
		o.Revision = revision(o.Source)
	}
	if o.Tag == "" {
		o.Tag = o.Version
	}
	var err error
	if o.Created, err = created(o.Source); err != nil {
		return err
	}
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return err
	}
	which := targets
	if *tests {
		which = testTargets
	}
	for _, t := range which {
		if err := t.make(ctx, o, out); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
	}
	return nil
}

// make compiles one image's programs and writes its archive.
func (t target) make(ctx context.Context, o options, out io.Writer) error {
	r, err := readRecipe(filepath.Join(o.Source, t.Dockerfile), map[string]string{
		"VERSION":  o.Version,
		"REVISION": o.Revision,
	})
	if err != nil {
		return err
	}
	img := image.Image{
		Files: map[string]image.File{}, Entrypoint: r.Entrypoint, User: r.User, Labels: r.Labels, Arch: o.Arch,
	}
	bin, err := os.MkdirTemp("", "images")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(bin) }()
	if err := compile(ctx, o, bin, r.Packages); err != nil {
		return err
	}
	for to, program := range r.Files {
		if img.Files[to], err = image.Executable(filepath.Join(bin, program)); err != nil {
			return err
		}
	}
	archive := filepath.Join(o.Out, t.Archive)
	if err := img.Write(archive, registry+t.Name+":"+o.Tag); err != nil {
		return err
	}
	packed, unpacked, digest, err := measure(archive)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s%s:%s linux/%s  %.1f MB packed, %.1f MB unpacked  %s  %s\n", registry, t.Name, o.Tag, o.Arch,
		float64(packed)/megabyte, float64(unpacked)/megabyte, digest, archive)
	if err := t.list(o, r, bin, archive, digest); err != nil {
		return err
	}
	if t.Limit > 0 && unpacked > t.Limit {
		return fmt.Errorf("the image has %.1f MB, more than the %d MB it may have", float64(unpacked)/megabyte, t.Limit/megabyte)
	}
	return nil
}

// list writes the bill of materials of an image beside its archive.
func (t target) list(o options, r recipe, bin, archive, digest string) error {
	i := inventory{name: t.Name, version: o.Version, arch: o.Arch, digest: digest, created: o.Created, programs: map[string]string{}}
	for to, program := range r.Files {
		i.programs[to] = filepath.Join(bin, program)
	}
	d, err := i.bill()
	if err != nil {
		return fmt.Errorf("bill of materials: %w", err)
	}
	_, err = d.write(archive)
	return err
}

// compile runs the same go build as the Dockerfiles; hack/dockerfiles.sh compares the binaries.
func compile(ctx context.Context, o options, to string, packages []string) error {
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version=" + o.Version, "-o", to + "/"}
	command := exec.CommandContext(ctx, "go", append(args, packages...)...)
	command.Dir = o.Source
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+o.Arch, "GOFLAGS=", "GOWORK=off")
	command.Stderr = os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("go build %s: %w", strings.Join(packages, " "), err)
	}
	return nil
}

// measure reads an archive back: the size of its layers as they travel and as they lie on a disk, and the digest.
func measure(archive string) (packed, unpacked int64, digest string, err error) {
	img, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		return 0, 0, "", err
	}
	layers, err := img.Layers()
	if err != nil {
		return 0, 0, "", err
	}
	for _, layer := range layers {
		size, err := layer.Size()
		if err != nil {
			return 0, 0, "", err
		}
		packed += size
		content, err := layer.Uncompressed()
		if err != nil {
			return 0, 0, "", err
		}
		plain, err := io.Copy(io.Discard, content)
		if err := errors.Join(err, content.Close()); err != nil {
			return 0, 0, "", err
		}
		unpacked += plain
	}
	hash, err := img.Digest()
	return packed, unpacked, hash.String(), err
}

// version is what git calls this commit, without the v of its tag.
func version(source string) string {
	if described := git(source, "describe", "--tags", "--match=v[0-9]*", "--dirty"); described != "" {
		return strings.TrimPrefix(path.Base(described), "v")
	}
	return "0.1.0-dev"
}

// revision is the commit that the images are made from.
func revision(source string) string {
	commit := git(source, "rev-parse", "HEAD")
	switch {
	case commit == "":
		return "unknown"
	case git(source, "status", "--porcelain") != "":
		return commit + "-dirty"
	default:
		return commit
	}
}

// created is what SOURCE_DATE_EPOCH says, else when the commit was made, else the beginning of 1970: never the time of the
// build, which would make every document another one.
func created(source string) (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		text = git(source, "log", "-1", "--format=%ct")
	}
	if text == "" {
		return time.Unix(0, 0), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0), nil
}

// git is what git says, empty where there is no git or no repository.
func git(source string, args ...string) string {
	command := exec.Command("git", args...)
	command.Dir = source
	said, err := command.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(said))
}
