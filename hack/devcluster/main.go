// SPDX-License-Identifier: Apache-2.0

// Command devcluster runs a Kubernetes node for development and tests, with no container engine and no registry.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/build"
)

const usage = `devcluster runs a Kubernetes node for development and tests.

Every program is built from its Go module; nothing is pulled from a registry. The node lives in namespaces of its own:
no packet leaves it, and "down" removes all of it.

Usage: devcluster [--name NAME] COMMAND

Commands:
  build             build all components into the cache, and install missing Debian packages
  assets            build what envtest needs and print its directory (KUBEBUILDER_ASSETS)
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "devcluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	builder, err := newBuilder()
	if err != nil {
		return err
	}
	switch args[0] {
	case "build":
		if err := build.System(ctx, os.Stderr); err != nil {
			return err
		}
		_, err := builder.Build(ctx, build.All...)
		return err
	case "assets":
		dir, err := builder.Assets(ctx)
		if err != nil {
			return err
		}
		fmt.Println(dir)
		return nil
	}
	return errors.New("unknown command")
}

func newBuilder() (*build.Builder, error) {
	source := os.Getenv("DEVCLUSTER_SOURCE")
	if source == "" {
		working, _ := os.Getwd()
		executable, _ := os.Executable()
		_, here, _, _ := runtime.Caller(0)
		var err error
		if source, err = build.SourceRoot(working, filepath.Dir(executable), filepath.Dir(here)); err != nil {
			return nil, err
		}
	}
	cache, err := build.CacheRoot(os.Getenv)
	if err != nil {
		return nil, err
	}
	return &build.Builder{Source: source, Cache: cache, Out: os.Stderr}, nil
}
