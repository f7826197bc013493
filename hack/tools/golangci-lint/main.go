// SPDX-License-Identifier: Apache-2.0

// Command golangci-lint is golangci-lint with the linter for Kubernetes APIs compiled in. The release binary has no
// such plugin, and "golangci-lint custom" would clone a repository for it: here the Go module cache is enough.
package main

import (
	"fmt"
	"os"
	"runtime/debug"

	"github.com/golangci/golangci-lint/v2/pkg/commands"
	"github.com/golangci/golangci-lint/v2/pkg/exitcodes"
	_ "sigs.k8s.io/kube-api-linter" // registers the module plugin "kubeapilinter"
)

const self = "github.com/golangci/golangci-lint/v2"

func main() {
	info := commands.BuildInfo{GoVersion: "unknown", Version: "unknown", Commit: "unknown", Date: "unknown"}

	if build, ok := debug.ReadBuildInfo(); ok {
		info.GoVersion = build.GoVersion

		for _, dep := range build.Deps {
			if dep.Path == self {
				info.Version = dep.Version
			}
		}
	}

	if err := commands.Execute(info); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitcodes.Failure)
	}
}
