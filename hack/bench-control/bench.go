// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// bench is one run of the program.
type bench struct {
	*settings

	root     string // of the repository
	dir      string // for everything of this run
	operator string // the binaries
	broker   string
	began    time.Time
	progress io.Writer
	report   *report
	spawn    *spawner
}

func newBench(ctx context.Context, s *settings, progress io.Writer) (*bench, error) {
	b := &bench{settings: s, began: time.Now(), progress: progress, spawn: newSpawner()}
	var err error
	if b.root, err = findRoot(); err != nil {
		return nil, err
	}
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return nil, errors.New("there is no kube-apiserver: export KUBEBUILDER_ASSETS=$(go run -C hack/devcluster . assets), or use make bench-control")
	}
	if b.dir, err = os.MkdirTemp("", "bench-control-"); err != nil {
		return nil, err
	}
	b.sayf("building the operator and the broker")
	b.operator, b.broker = filepath.Join(b.dir, "operator"), filepath.Join(b.dir, "mqtt-broker")
	for binary, pkg := range map[string]string{b.operator: "./cmd/operator", b.broker: "./broker-image/cmd/mqtt-broker"} {
		if _, err := b.command(ctx, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-o", binary, pkg); err != nil {
			b.close()
			return nil, err
		}
	}
	return b, nil
}

func (b *bench) close() { _ = os.RemoveAll(b.dir) } //nolint:gosec // a directory of our own making

// sayf tells how far it is.
func (b *bench) sayf(format string, args ...any) {
	at := time.Since(b.began).Round(time.Second)
	_, _ = fmt.Fprintf(b.progress, "%02d:%02d  %s\n", int(at.Minutes()), int(at.Seconds())%60, fmt.Sprintf(format, args...))
}

// command runs a program in the repository and returns what it printed.
func (b *bench) command(ctx context.Context, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the go command with words of ours
	var out, errs bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = b.root, &out, &errs, append(os.Environ(), env...)
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String(), nil
}

// findRoot goes up from the working directory to the repository.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		text, _ := os.ReadFile(filepath.Join(dir, "go.mod"))
		if bytes.HasPrefix(text, []byte("module github.com/mqtt-operator/mqtt-operator\n")) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("run this inside the repository")
		}
		dir = filepath.Dir(dir)
	}
}

// notYet is an answer that time alone may change.
type notYet struct{ why error }

func (e notYet) Error() string { return e.why.Error() }

// wait is a [notYet] in words.
func wait(format string, args ...any) error { return notYet{fmt.Errorf(format, args...)} }

// until asks, with a pause between two questions, until the answer is nil or an error other than [notYet], or ctx ends.
func until(ctx context.Context, pause time.Duration, ask func() error) error {
	for {
		err := ask()
		if _, again := errors.AsType[notYet](err); !again {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}
