// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Builder builds components from Source into Cache and tells Out about it.
type Builder struct {
	Source string
	Cache  string
	Out    io.Writer
}

// progressEvery is how often a running build says that it is still at work.
const progressEvery = 15 * time.Second

// Build makes every given component that the cache lacks and returns each one's directory of executables.
func (b *Builder) Build(ctx context.Context, components ...Component) (map[string]string, error) {
	toolchain, err := b.toolchain(ctx)
	if err != nil {
		return nil, err
	}
	dirs := map[string]string{}
	for i, c := range components {
		dir, err := b.build(ctx, c, toolchain, fmt.Sprintf("[%d/%d] %s", i+1, len(components), c.Name))
		if err != nil {
			return nil, err
		}
		dirs[c.Name] = dir
	}
	return dirs, nil
}

// Assets makes the directory that controller-runtime's envtest takes as KUBEBUILDER_ASSETS.
func (b *Builder) Assets(ctx context.Context) (string, error) {
	dirs, err := b.Build(ctx, Kubernetes, Etcd)
	if err != nil {
		return "", err
	}
	executables := map[string]string{
		"kube-apiserver": filepath.Join(dirs[Kubernetes.Name], "kube-apiserver"),
		"kubectl":        filepath.Join(dirs[Kubernetes.Name], "kubectl"),
		"etcd":           filepath.Join(dirs[Etcd.Name], "etcd"),
	}
	// The directory is named by what it points at, so a change of version never alters one already handed out.
	name := "assets-" + suffix(dirs[Kubernetes.Name]) + "-" + suffix(dirs[Etcd.Name])
	return b.install(name, func(dir string) error {
		for name, target := range executables {
			if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
				return err
			}
		}
		return nil
	})
}

func suffix(dir string) string {
	return dir[strings.LastIndex(dir, "-")+1:]
}

func (b *Builder) toolchain(ctx context.Context) (string, error) {
	// GOWORK is off for the builds too: a workspace would override the components' pins.
	cmd := exec.CommandContext(ctx, "go", "version")
	cmd.Dir = filepath.Join(b.Source, Kubernetes.Dir)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("go version: %w: install Go (https://go.dev/dl) and have it on PATH; "+
			"with sudo, keep it there: sudo env PATH=\"$PATH\"", err)
	}
	if err != nil {
		return "", fmt.Errorf("go version: %w: %s", err, complaint.String())
	}
	return strings.TrimSpace(string(out)), nil
}

func (b *Builder) build(ctx context.Context, c Component, toolchain, title string) (string, error) {
	source := filepath.Join(b.Source, c.Dir)
	digest, err := c.digest(toolchain, os.DirFS(source))
	if err != nil {
		return "", err
	}
	goMod, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	version := c.Version(goMod)
	if version != "" {
		title += " " + version
	}

	name := c.Name + "-" + digest
	if dir := filepath.Join(b.Cache, name); exists(dir) {
		// The time of last use, for prune. In another user's cache it stays what it was.
		_ = os.Chtimes(dir, time.Time{}, time.Now())
		return dir, nil
	}
	unlock, err := b.lock(c.Name, title)
	if err != nil {
		return "", err
	}
	defer unlock()

	b.prune(c.Name)
	return b.install(name, func(dir string) error {
		long := ""
		if c.Long != "" {
			long = " (the first time takes " + c.Long + ")"
		}
		fmt.Fprintf(b.Out, "%s: building%s\n", title, long)
		start := time.Now()
		for executable, pkg := range c.Executables {
			args := append([]string{"build", "-v", "-o", filepath.Join(dir, executable)}, goFlags...)
			if c.Tags != "" {
				args = append(args, "-tags", c.Tags)
			}
			flags := "-s -w"
			for _, variable := range c.Stamp {
				flags += fmt.Sprintf(" -X %s=%s", variable, version)
			}
			args = append(args, "-ldflags", flags, pkg)
			if err := b.goBuild(ctx, source, title, start, args); err != nil {
				return fmt.Errorf("component %s: %w", c.Name, err)
			}
		}
		for _, link := range c.Links {
			for executable := range c.Executables {
				if err := os.Symlink(executable, filepath.Join(dir, link)); err != nil {
					return err
				}
			}
		}
		fmt.Fprintf(b.Out, "%s: built in %s\n", title, time.Since(start).Round(time.Second))
		return nil
	})
}

// goBuild runs the go command, which with -v names each package as it compiles it: the count is the progress.
func (b *Builder) goBuild(ctx context.Context, dir, title string, start time.Time, args []string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	// No cgo: the executables then need no library of the machine they run on, in a container or out of it.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}

	var compiled, downloaded atomic.Int64
	var complaints bytes.Buffer
	var reading sync.WaitGroup
	reading.Go(func() {
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			switch line := lines.Text(); {
			case strings.HasPrefix(line, "go: downloading "):
				downloaded.Add(1)
			case strings.ContainsAny(line, " :\t"):
				fmt.Fprintln(&complaints, line)
			default:
				compiled.Add(1)
			}
		}
	})
	finished := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-finished:
				return
			case <-tick.C:
				fmt.Fprintf(b.Out, "%s: %s, %d modules downloaded, %d packages compiled\n", title,
					time.Since(start).Round(time.Second), downloaded.Load(), compiled.Load())
			}
		}
	})
	reading.Wait()
	err = cmd.Wait()
	close(finished)
	telling.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted; what is compiled so far is kept, run the command again to go on")
	}
	if err != nil {
		return fmt.Errorf("go %s (in %s): %w\n%s", strings.Join(args, " "), dir, err, tail(complaints.String(), 40))
	}
	return nil
}

// install fills a new cache directory and gives it its name only when it is complete.
func (b *Builder) install(name string, fill func(dir string) error) (string, error) {
	final := filepath.Join(b.Cache, name)
	if exists(final) {
		return final, nil
	}
	if err := os.MkdirAll(b.Cache, 0o755); err != nil {
		return "", fmt.Errorf("cache: %w: set MQTT_OPERATOR_CACHE to a directory you can write", err)
	}
	dir, err := os.MkdirTemp(b.Cache, "."+name+"-")
	if err != nil {
		return "", fmt.Errorf("cache: %w: set MQTT_OPERATOR_CACHE to a directory you can write", err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	if err := fill(dir); err != nil {
		return "", err
	}
	if err := os.Rename(dir, final); err != nil && !exists(final) {
		return "", err
	}
	return final, nil
}

// keep is how long a build that nobody uses stays in the cache: old branches come back, but not after months.
const keep = 30 * 24 * time.Hour

// prune removes the builds of a component that were not used for long.
func (b *Builder) prune(component string) {
	dirs, _ := filepath.Glob(filepath.Join(b.Cache, component+"-*"))
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > keep {
			_ = os.RemoveAll(dir)
		}
	}
}

// lock keeps two builds of one component from doing the same minutes of work side by side.
func (b *Builder) lock(name, title string) (unlock func(), err error) {
	if err := os.MkdirAll(b.Cache, 0o755); err != nil {
		return nil, fmt.Errorf("cache: %w: set MQTT_OPERATOR_CACHE to a directory you can write", err)
	}
	file, err := os.OpenFile(filepath.Join(b.Cache, "."+name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		fmt.Fprintf(b.Out, "%s: waiting for another build of it to end\n", title)
		for err = syscall.EINTR; errors.Is(err, syscall.EINTR); {
			err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
		}
		if err != nil {
			file.Close()
			return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
		}
	}
	return func() { file.Close() }, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
