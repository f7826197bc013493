// SPDX-License-Identifier: Apache-2.0

// Command index joins the archives of one image, one for each platform, and by choice pushes the whole to a registry.
//
//	index --repository ghcr.io/mqtt-operator/mqtt-broker --tag 1.0.0 [--push] amd64/broker.tar arm64/broker.tar
//
// It prints a line for the whole and one for each platform: what it is, and by which digest it can be pulled. Who pushes is
// what docker login or the like has stored. A registry on loopback is spoken to without TLS.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "index:", err)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("index", flag.ContinueOnError)
	repository := flags.String("repository", "", "where the image belongs, without a tag")
	tag := flags.String("tag", "", "the tag")
	push := flags.Bool("push", false, "push it there")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("no archive is named")
	}
	reference, err := name.NewTag(*repository+":"+*tag, name.StrictValidation)
	if err != nil {
		return err
	}
	index, lines, err := join(*repository, flags.Args())
	if err != nil {
		return err
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	if *push {
		if err := remote.WriteIndex(reference, index, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
			return fmt.Errorf("push %s: %w", reference, err)
		}
	}
	fmt.Fprintf(out, "index %s@%s\n", *repository, digest)
	for _, line := range lines {
		fmt.Fprintln(out, line)
	}
	return nil
}

// join makes one index of archives, in the order of their platforms, so that it does not hang on the order they are named in.
func join(repository string, archives []string) (v1.ImageIndex, []string, error) {
	type part struct {
		mutate.IndexAddendum

		line string
	}
	var parts []part
	for _, archive := range archives {
		img, err := tarball.ImageFromPath(archive, nil)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", archive, err)
		}
		config, err := img.ConfigFile()
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", archive, err)
		}
		digest, err := img.Digest()
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", archive, err)
		}
		platform := v1.Platform{OS: config.OS, Architecture: config.Architecture}
		parts = append(parts, part{
			mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &platform}},
			fmt.Sprintf("%s %s@%s", platform, repository, digest),
		})
	}
	slices.SortFunc(parts, func(a, b part) int {
		return strings.Compare(a.Descriptor.Platform.String(), b.Descriptor.Platform.String())
	})
	// The images are of Docker's media types, which every registry and runtime takes; so is what joins them.
	index := mutate.IndexMediaType(empty.Index, types.DockerManifestList)
	var lines []string
	for i, p := range parts {
		if i > 0 && p.Descriptor.Platform.String() == parts[i-1].Descriptor.Platform.String() {
			return nil, nil, fmt.Errorf("two archives are for %s", p.Descriptor.Platform)
		}
		index = mutate.AppendManifests(index, p.IndexAddendum)
		lines = append(lines, p.line)
	}
	return index, lines, nil
}
