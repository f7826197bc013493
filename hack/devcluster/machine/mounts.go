// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is the part of a mountinfo line that is used here.
type mount struct {
	device string // major:minor, which tells two mounts of one file system from two file systems
	point  string
	kind   string
}

// parseMounts reads /proc/PID/mountinfo: "id parent major:minor root point options [tags...] - kind source options".
func parseMounts(mountinfo string) []mount {
	var mounts []mount
	for line := range strings.Lines(mountinfo) {
		left, right, ok := strings.Cut(line, " - ")
		fields, kinds := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 5 || len(kinds) < 1 {
			continue
		}
		mounts = append(mounts, mount{device: fields[2], point: unescape.Replace(fields[4]), kind: kinds[0]})
	}
	return mounts
}

// unescape undoes the kernel's octal escapes in mount points.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// privateDirs are the places that the node's programs write to by default. Each is replaced by a directory of the
// machine's own, so that nothing of the host's is touched and two machines never meet.
var privateDirs = map[string]os.FileMode{
	"/run":     0o755,
	"/tmp":     0o1777,
	"/var/lib": 0o755,
	"/var/log": 0o755,
}

// decoys are host-wide kernel settings that the kubelet would change if it did not find them as it likes them. The
// machine shows it files with its wishes in their place, and the host keeps its settings.
var decoys = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// layOutMounts makes the calling process's new mount namespace the machine's file systems.
func layOutMounts(spec Spec) error {
	// Slave, so that a disk that the host unmounts is not held here; nothing done here reaches the host.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount /: %w", err)
	}
	for name, source := range spec.Executables {
		if err := bind(source, filepath.Join(spec.Dir, executables, name)); err != nil {
			return err
		}
	}
	if err := mountSys(spec); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := mountDecoys(spec); err != nil {
		return err
	}

	// The state directory may itself lie in a directory that is about to be replaced; it stays in sight under its name.
	root := filepath.Join(spec.Dir, privateRoot)
	for dir, mode := range privateDirs {
		own := filepath.Join(root, dir)
		if err := makeDir(own, mode); err != nil {
			return err
		}
		if rest, inside := strings.CutPrefix(spec.Dir, dir+"/"); inside {
			if err := unix.Mount(own, own, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("mount %s: %w", own, err)
			}
			if err := bindAll(spec.Dir, filepath.Join(own, rest)); err != nil {
				return err
			}
		}
	}
	for dir := range privateDirs {
		// Not every path is a directory of its own: /run may be reached as /var/run, but never the other way.
		if err := bindAll(filepath.Join(root, dir), dir); err != nil {
			return err
		}
	}
	// The kubelet and containerd hand mounts to containers by propagation.
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount /: %w", err)
	}
	return nil
}

// mountSys shows the machine's own network devices under /sys, and keeps the cgroup hierarchies there.
func mountSys(spec Spec) error {
	const cgroups = "/sys/fs/cgroup"
	keep := filepath.Join(spec.Dir, "cgroup")
	if err := bindAll(cgroups, keep); err != nil {
		return err
	}
	if err := unix.Unmount("/sys", unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount /sys: %w", err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	if err := bindAll(keep, cgroups); err != nil {
		return err
	}
	return unix.Unmount(keep, unix.MNT_DETACH)
}

func mountDecoys(spec Spec) error {
	for name, value := range decoys {
		file := filepath.Join(spec.Dir, "sysctl", strings.ReplaceAll(name, "/", "."))
		if err := makeDir(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		target := filepath.Join("/proc/sys", name)
		if err := unix.Mount(file, target, "", unix.MS_BIND, ""); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("mount %s: %w", target, err)
		}
	}
	return nil
}

func bind(source, target string) error {
	return bindWith(source, target, unix.MS_BIND)
}

func bindAll(source, target string) error {
	return bindWith(source, target, unix.MS_BIND|unix.MS_REC)
}

func bindWith(source, target string, flags uintptr) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, target, "", flags, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", source, target, err)
	}
	return nil
}

// makeDir makes a directory with exactly these permissions, whatever the umask.
func makeDir(dir string, mode os.FileMode) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if mode&0o1000 != 0 {
		mode = mode&0o777 | os.ModeSticky
	}
	return os.Chmod(dir, mode)
}

// unmountBelow unmounts whatever the host has mounted in a directory. Machines mount nothing there themselves; this is
// so that removing the directory can never reach into a file system that someone else put into it.
func unmountBelow(dir string) error {
	for range 100 {
		mountinfo, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return err
		}
		last := ""
		for _, m := range parseMounts(string(mountinfo)) {
			if m.point == dir || strings.HasPrefix(m.point, dir+"/") {
				last = m.point
			}
		}
		if last == "" {
			return nil
		}
		if err := unix.Unmount(last, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s: %w", last, err)
		}
	}
	return fmt.Errorf("%s: still has mounts after 100 were removed: look at /proc/self/mountinfo", dir)
}
