// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/build"
	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/image"
	"github.com/mqtt-operator/mqtt-operator/hack/devcluster/machine"
)

// PayloadCommand is the hidden argument by which this program becomes the payload of a machine; the state directory
// follows.
const PayloadCommand = "cluster-payload"

// Plan is what the payload has to know; it travels in the state directory.
type Plan struct {
	Layout      `json:"layout"`
	Family      Family `json:"family"`
	Plugins     string `json:"plugins"`
	Snapshotter string `json:"snapshotter"`
}

func (p Plan) controlPlane() ControlPlane {
	return ControlPlane{Layout: p.Layout, Family: p.Family, Address: p.Family.address(0)}
}

func (p Plan) node() Node {
	return Node{Layout: p.Layout, Family: p.Family, Index: 0, Plugins: p.Plugins, Snapshotter: p.Snapshotter}
}

func (p Plan) pauseArchive() string { return p.config("pause.tar") }

func planFile(dir string) string { return filepath.Join(dir, "plan.json") }

// LoadPlan reads the plan of the cluster with this state directory.
func LoadPlan(dir string) (Plan, error) {
	var p Plan
	content, err := os.ReadFile(planFile(dir))
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(content, &p)
}

// ErrUp says that there is nothing to do; ErrUpOld, that the components have changed since the cluster was started.
var (
	ErrUp    = errors.New("already up")
	ErrUpOld = errors.New("already up, with components built earlier: to use the present ones: devcluster down, then up")
)

// Up starts a cluster with addresses of one family from the components in the given directories, by component name. What
// an earlier cluster of the name has left behind is removed first.
func Up(ctx context.Context, l Layout, family Family, components map[string]string, say func(string)) error {
	unlock, err := lock(ctx, l.Dir, say)
	if err != nil {
		return err
	}
	defer func() { unlock() }()

	if _, spec, err := machine.Running(l.Dir); err == nil {
		if report, err := machine.ReadReport(l.Dir); err == nil && report.Ready {
			// A plan from before there were families has none, which is IPv4.
			if p, err := LoadPlan(l.Dir); err == nil && p.Family.addressType() != family.addressType() {
				return fmt.Errorf("already up, with %s: devcluster down, then up", p.Family.addressType())
			}
			if !maps.Equal(spec.Executables, components) {
				return ErrUpOld
			}
			return ErrUp
		}
	}
	// The lock is held: no other command is at work on this cluster, and whatever is here is a leftover.
	entries, err := os.ReadDir(l.Dir)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		say("cleaning up after an earlier run that did not end well")
		if err := remove(ctx, l); err != nil {
			return err
		}
		// The lock went with the directory.
		unlock()
		if unlock, err = lock(ctx, l.Dir, say); err != nil {
			return err
		}
	}

	say("writing keys and configuration")
	p, err := prepare(l, family, components)
	if err != nil {
		return err
	}
	return machine.Start(ctx, machine.Spec{
		Name:        l.Name,
		Dir:         l.Dir,
		Address:     family.address(0).String(),
		Executables: components,
		Path:        build.SystemPath,
		Payload:     []string{PayloadCommand, p.Dir},
	}, say)
}

func prepare(l Layout, family Family, components map[string]string) (Plan, error) {
	p := Plan{Layout: l, Family: family}
	var err error
	if p.Plugins, err = build.CNIPlugins(); err != nil {
		return p, err
	}
	if p.Snapshotter, err = snapshotter(l.Dir); err != nil {
		return p, err
	}
	c, n := p.controlPlane(), p.node()
	if err := c.writeFiles([]Node{n}, time.Now()); err != nil {
		return p, err
	}
	if err := n.writeFiles(); err != nil {
		return p, err
	}
	if err := writeFile(c.config("Corefile"), []byte(c.corefile()), 0o644); err != nil {
		return p, err
	}
	pause, err := image.Executable(filepath.Join(components[build.Pause.Name], "pause"))
	if err != nil {
		return p, err
	}
	if err := (image.Image{
		Files:      map[string]image.File{"/pause": pause},
		Entrypoint: []string{"/pause"},
		User:       "65535:65535",
	}).Write(p.pauseArchive(), pauseImage); err != nil {
		return p, err
	}
	if err := os.MkdirAll(machine.HostPath(l.Dir, volumesDir), 0o755); err != nil {
		return p, err
	}
	return p, writeJSON(planFile(l.Dir), p, 0o644)
}

// snapshotter picks overlays where the file system can carry them: an overlay, as in a container, can not.
func snapshotter(dir string) (string, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return "", fmt.Errorf("%s: %w", dir, err)
	}
	if stat.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return "native", nil
	}
	return "overlayfs", nil
}

// Down removes a cluster and everything it has left. It is no error if there is none; found tells.
func Down(ctx context.Context, l Layout, say func(string)) (found bool, err error) {
	if _, err := os.Stat(l.Dir); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	unlock, err := lock(ctx, l.Dir, say)
	if err != nil {
		return true, err
	}
	defer unlock()
	return true, remove(ctx, l)
}

func remove(ctx context.Context, l Layout) error {
	// Long, because a busy computer may need it to end hundreds of processes.
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := machine.Remove(ctx, l.Dir, l.Name); err != nil {
		return err
	}
	// Goes with the last cluster.
	_ = os.Remove(Base)
	return nil
}

// lock takes the state directory, made if needed, for one command at a time. The directory is its own lock file, so
// that no lock is left when it is removed; one who waited for a directory that is gone by then starts over.
func lock(ctx context.Context, dir string, say func(string)) (unlock func(), err error) {
	waiting := false
	for {
		held, err := tryLock(dir)
		if err != nil {
			return nil, fmt.Errorf("state directory: %w", err)
		}
		if held != nil {
			return func() { held.Close() }, nil
		}
		if !waiting {
			waiting = true
			say("waiting for another command on this cluster to end")
		}
		select {
		case <-ctx.Done():
			return nil, errors.New("interrupted while another command is at work on this cluster")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// tryLock returns nil if someone else has the lock, or had it on a directory that is gone.
func tryLock(dir string) (*os.File, error) {
	err := os.MkdirAll(dir, 0o755)
	var file *os.File
	if err == nil {
		file, err = os.Open(dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // someone is just removing it, or with the last cluster its parent
	}
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
			return nil, nil
		}
		return nil, err
	}
	ours, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	if now, err := os.Stat(dir); err != nil || !os.SameFile(ours, now) {
		file.Close()
		return nil, nil
	}
	return file, nil
}
