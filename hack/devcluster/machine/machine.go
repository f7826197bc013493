// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Spec is all there is to know about a machine before it starts.
type Spec struct {
	// Name is the name of the machine's cgroup, and its host name.
	Name string `json:"name"`
	// Dir is the state directory; nothing the machine does is stored outside it.
	Dir string `json:"dir"`
	// Address is the machine's, of IPv4 or of IPv6. There is no other beside it, but for those of the loopback interface.
	Address string `json:"address"`
	// Executables maps a name to a directory that the machine sees as Executable(Dir, name), wherever it lies on the
	// host; the originals may be in a place that the machine has replaced by its own.
	Executables map[string]string `json:"executables"`
	// Path is where the machine's processes look for the system's programs; the caller's own PATH may lack sbin.
	Path string `json:"path"`
	// Payload is what First runs once all is laid out: arguments to this very program.
	Payload []string `json:"payload"`
}

// The parts of a state directory that belong to this package.
const (
	recordFile  = "machine.json"
	privateRoot = "root"
	executables = "executables"
	// Logs is where services write.
	Logs = "logs"
)

// record is what is remembered about a machine that was started.
type record struct {
	First Identity `json:"first"`
	Spec  Spec     `json:"spec"`
}

// ExecutableDir is where the machine sees a directory of executables.
func ExecutableDir(dir, name string) string {
	return filepath.Join(dir, executables, name)
}

// HostPath is where the host sees a file that the machine has under one of its private directories.
func HostPath(dir, path string) string {
	return filepath.Join(dir, privateRoot, path)
}

// Start starts a machine whose state directory exists, and returns when its payload says that it is ready. Until then
// each step that the payload announces goes to say. When Start fails the machine no longer runs, but its directory is
// left for a look at the logs.
func Start(ctx context.Context, spec Spec, say func(step string)) error {
	if err := os.MkdirAll(filepath.Join(spec.Dir, Logs), 0o755); err != nil {
		return err
	}
	if err := makeCgroup(spec.Name); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(spec.Dir, Logs, "machine.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	wordRead, wordWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	defer wordWrite.Close()
	stepsRead, stepsWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stepsRead.Close()

	first := exec.Command("/proc/self/exe", FirstCommand)
	first.Dir = "/"
	first.Env = []string{"PATH=" + spec.Path, "HOME=/root"}
	first.Stdin, first.Stdout, first.Stderr = wordRead, log, log
	first.ExtraFiles = []*os.File{stepsWrite}
	first.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Setsid:     true, // an interrupt at the terminal is for the command, not for the machine
	}
	err = first.Start()
	wordRead.Close()
	stepsWrite.Close()
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("new namespaces: %w: run as root, and in a container with its full privileges", err)
	}
	if err != nil {
		return fmt.Errorf("new namespaces: %w", err)
	}
	// Collected here, or a machine that ends while this program still runs would stay as a zombie.
	go func() { _ = first.Wait() }()

	identity, err := Identify(first.Process.Pid)
	if err != nil {
		return err
	}
	// Interrupted, the half-built machine ends, and with its end of the pipe closed the loop below ends too.
	stopWatching := context.AfterFunc(ctx, func() { _ = identity.Kill(context.Background()) })
	defer stopWatching()
	fail := func(err error) error {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		if killErr := identity.Kill(context.Background()); killErr != nil {
			return errors.Join(err, killErr)
		}
		return err
	}
	if err := writeRecord(spec.Dir, record{First: identity, Spec: spec}); err != nil {
		return fail(err)
	}
	if err := json.NewEncoder(wordWrite).Encode(spec); err != nil {
		return fail(fmt.Errorf("first process: %w", err))
	}

	lines := bufio.NewScanner(stepsRead)
	for lines.Scan() {
		kind, text, _ := strings.Cut(lines.Text(), " ")
		switch kind {
		case "step":
			say(text)
		case "ready":
			return nil
		case "failed":
			var reason string
			if err := json.Unmarshal([]byte(text), &reason); err != nil {
				reason = text
			}
			return fail(errors.New(reason))
		}
	}
	return fail(fmt.Errorf("the machine ended early: %s", lastLines(log.Name(), 5)))
}

// Alive is whether the machine with this state directory runs.
func Alive(dir string) bool {
	r, err := readRecord(dir)
	return err == nil && r.First.Alive()
}

// Running looks up the first process, as the host counts, and the specification of a machine that runs.
func Running(dir string) (pid int, spec Spec, err error) {
	r, err := readRecord(dir)
	if err != nil {
		return 0, Spec{}, err
	}
	if !r.First.Alive() {
		return 0, Spec{}, fmt.Errorf("machine %s: not running", r.Spec.Name)
	}
	return r.First.PID, r.Spec, nil
}

// Stop ends the machine's processes, if there are any, and leaves its directory.
func Stop(ctx context.Context, dir string) error {
	r, err := readRecord(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return r.First.Kill(ctx)
}

// Remove stops the machine and removes everything it has left: its cgroup, mounts in its directory, the directory.
func Remove(ctx context.Context, dir, name string) error {
	if err := Stop(ctx, dir); err != nil {
		return err
	}
	if err := removeCgroup(ctx, name); err != nil {
		return err
	}
	if err := unmountBelow(dir); err != nil {
		return err
	}
	// The kernel gives up the last mounts of a dead namespace a moment after its last process; a directory that is
	// still a mount point in there can already be removed, but a busy overlay may need another try.
	for {
		err := os.RemoveAll(dir)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("state directory: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func readRecord(dir string) (record, error) {
	var r record
	content, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(content, &r); err != nil {
		return r, fmt.Errorf("%s: %w", filepath.Join(dir, recordFile), err)
	}
	return r, nil
}

func writeRecord(dir string, r record) error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return writeWhole(filepath.Join(dir, recordFile), content)
}

// writeWhole replaces a file, so that a reader sees the old or the new content and never a part.
func writeWhole(path string, content []byte) error {
	if err := os.WriteFile(path+".new", content, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func lastLines(path string, count int) string {
	file, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > 1<<16 {
		_, _ = file.Seek(-1<<16, io.SeekEnd)
	}
	content, err := io.ReadAll(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}
