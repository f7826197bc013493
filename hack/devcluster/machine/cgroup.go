// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// CgroupRoot is the parent of every machine's cgroup.
const CgroupRoot = "mqtt-operator-devcluster"

// ownCgroup is where a machine's own processes are. On cgroup v2 a group with children may hold no processes itself.
const ownCgroup = "machine"

// hierarchy is one mounted tree of cgroups: version 2 has one, version 1 one per set of controllers.
type hierarchy struct {
	mount string
	v2    bool
}

// hierarchies picks the cgroup trees out of /proc/self/mountinfo, each once.
func hierarchies(mountinfo string) []hierarchy {
	var found []hierarchy
	seen := map[string]bool{}
	for _, m := range parseMounts(mountinfo) {
		if (m.kind != "cgroup" && m.kind != "cgroup2") || seen[m.device] {
			continue
		}
		seen[m.device] = true
		found = append(found, hierarchy{mount: m.point, v2: m.kind == "cgroup2"})
	}
	return found
}

func mountedHierarchies() ([]hierarchy, error) {
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	found := hierarchies(string(mountinfo))
	if len(found) == 0 {
		return nil, errors.New("no cgroup hierarchy is mounted: the node needs /sys/fs/cgroup")
	}
	return found, nil
}

// makeCgroup creates the machine's group, and below it the one for its own processes, in every hierarchy.
func makeCgroup(name string) error {
	trees, err := mountedHierarchies()
	if err != nil {
		return err
	}
	for _, tree := range trees {
		// The removal of another machine takes an empty parent with it, perhaps between our first step and our second.
		// Once our own group is in it, it stays.
		for tries := 0; ; tries++ {
			err := makePath(tree, CgroupRoot, name, ownCgroup)
			if err == nil {
				break
			}
			if !errors.Is(err, fs.ErrNotExist) || tries == 100 {
				return fmt.Errorf("cgroup: %w", err)
			}
		}
	}
	return nil
}

func makePath(tree hierarchy, elements ...string) error {
	dir := tree.mount
	for _, element := range elements {
		parent := dir
		dir = filepath.Join(dir, element)
		if tree.v2 {
			if err := delegate(parent); err != nil {
				return err
			}
		}
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if !tree.v2 {
			if err := inheritCPUs(parent, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// delegate lets the children of a version 2 group use every controller that the group has.
func delegate(dir string) error {
	controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, controller := range strings.Fields(string(controllers)) {
		err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
		if errors.Is(err, syscall.EBUSY) {
			return fmt.Errorf("%s: cannot pass the controller %s on, since processes are in the group itself: "+
				"in a container, give it the host's cgroup namespace, or move its processes to a child group", dir, controller)
		}
		// A controller that the kernel will not pass on (such as cpu while real-time threads run) is only a loss if
		// the kubelet needs it, and the kubelet says so itself.
	}
	return nil
}

// inheritCPUs fills a new version 1 cpuset, which would otherwise accept no process.
func inheritCPUs(parent, dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		have, err := os.ReadFile(filepath.Join(dir, file))
		if errors.Is(err, fs.ErrNotExist) && exists(dir) {
			return nil // another controller's hierarchy
		}
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(have)) != "" {
			continue
		}
		value, err := os.ReadFile(filepath.Join(parent, file))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file), value, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// joinCgroup moves the calling process into the group for the machine's own processes.
func joinCgroup(name string) error {
	trees, err := mountedHierarchies()
	if err != nil {
		return err
	}
	for _, tree := range trees {
		procs := filepath.Join(tree.mount, CgroupRoot, name, ownCgroup, "cgroup.procs")
		if err := os.WriteFile(procs, []byte("0"), 0o644); err != nil {
			return fmt.Errorf("cgroup: %w", err)
		}
	}
	return nil
}

// removeCgroup removes the machine's group and all below it, ending whatever still runs in them: only the machine and
// its containers ever did.
func removeCgroup(ctx context.Context, name string) error {
	trees, err := mountedHierarchies()
	if err != nil {
		return err
	}
	for _, tree := range trees {
		root := filepath.Join(tree.mount, CgroupRoot)
		for {
			err := removeTree(filepath.Join(root, name))
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("cgroup: %w", err)
			case <-time.After(20 * time.Millisecond):
			}
		}
		// The parent goes with the last machine; while another has it, it is not empty and stays.
		_ = os.Remove(root)
	}
	return nil
}

func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeTree(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err == nil {
		for _, field := range strings.Fields(string(procs)) {
			// 0 stands for a process of an outer pid namespace, which kill would take for our own group.
			if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
