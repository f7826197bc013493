// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exec replaces the calling program by a command in the machine's network. The command sees the host's files, except
// that names are resolved as resolvConf says: the host's own servers cannot be reached from there.
func Exec(dir, resolvConf string, argv, env []string) error {
	path, err := lookPath(argv[0], env)
	if err != nil {
		return err
	}
	// The thread is never unlocked: it becomes the new program.
	runtime.LockOSThread()
	if err := enterNetwork(dir); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mount namespace: %w: run as root", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount /: %w", err)
	}
	// Where there is no such file, or a link that leads nowhere, there is nothing to hide.
	if target, err := filepath.EvalSymlinks("/etc/resolv.conf"); err == nil {
		if err := unix.Mount(resolvConf, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", target, err)
		}
	}
	if err := syscall.Exec(path, argv, env); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Output runs a command in the machine's network and returns what it prints.
func Output(dir string, cmd *exec.Cmd) ([]byte, error) {
	type result struct {
		output []byte
		err    error
	}
	done := make(chan result)
	go func() {
		// Locked and never unlocked: the thread that changed its namespace ends with this goroutine.
		runtime.LockOSThread()
		if err := enterNetwork(dir); err != nil {
			done <- result{err: err}
			return
		}
		output, err := cmd.CombinedOutput()
		done <- result{output, err}
	}()
	r := <-done
	return r.output, r.err
}

func enterNetwork(dir string) error {
	pid, _, err := Running(dir)
	if err != nil {
		return err
	}
	network, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return fmt.Errorf("network of the node: %w: run as root", err)
	}
	defer network.Close()
	if err := unix.Setns(int(network.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("network of the node: %w: run as root", err)
	}
	return nil
}

// lookPath finds a program along the PATH that it will have, not along the caller's.
func lookPath(name string, env []string) (string, error) {
	for i := len(env) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(env[i], "PATH="); ok {
			if err := os.Setenv("PATH", value); err != nil {
				return "", err
			}
			break
		}
	}
	return exec.LookPath(name)
}
