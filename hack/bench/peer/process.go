// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// spawn starts commands from one thread that never ends: a child is killed by the kernel when the thread that made it
// does, which is how no broker stays when this program is killed.
var spawn = sync.OnceValue(func() chan<- func() {
	calls := make(chan func())
	go func() {
		runtime.LockOSThread()
		for call := range calls {
			call()
		}
	}()
	return calls
})

// Process is a broker that runs.
type Process struct {
	Address netip.AddrPort
	Dir     string
	Pid     int

	log  string
	done chan struct{}
	err  error
}

// startProcess runs argv in dir in a process group of its own.
func startProcess(dir string, argv, env []string) (*Process, error) {
	p := &Process{Dir: dir, log: filepath.Join(dir, "log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:gosec,noctx // a broker of ours, which Stop ends
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	spawn() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, err
	}
	p.Pid = cmd.Process.Pid
	go func() {
		p.err = cmd.Wait()
		// At once, while nobody else can have its number: children that it left.
		_ = syscall.Kill(-p.Pid, syscall.SIGKILL)
		close(p.done)
	}()
	return p, nil
}

// Alive is an error if the broker has ended, with the end of its log.
func (p *Process) Alive() error {
	select {
	case <-p.done:
		return fmt.Errorf("the broker has ended (%w):\n%s", cmp.Or(p.err, errEnded), p.Tail())
	default:
		return nil
	}
}

var errEnded = errors.New("by itself")

// Tail is the end of the broker's log, or of a crash its beginning.
func (p *Process) Tail() string {
	const most = 15
	text, _ := os.ReadFile(p.log)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") || strings.HasPrefix(line, "SIG") {
			return strings.Join(lines[i:min(len(lines), i+most)], "\n")
		}
	}
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}

// KeepLog copies the log to where it outlives the run; it returns nothing if there is none.
func (p *Process) KeepLog(path string) string {
	if copyFile(path, p.log) != nil {
		return ""
	}
	return path
}

// Stop ends the broker and all its children, politely for a while.
func (p *Process) Stop(patience time.Duration) {
	p.signal(p.Pid, syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.Kill()
	}
}

// Kill ends the broker and all its children at once.
func (p *Process) Kill() {
	p.signal(-p.Pid, syscall.SIGKILL)
	<-p.done
}

// signal reaches nobody once the broker has ended: its number may be another's.
func (p *Process) signal(pid int, signal syscall.Signal) {
	select {
	case <-p.done:
	default:
		_ = syscall.Kill(pid, signal)
	}
}

// run executes a command to its end, and says its output only if it failed.
func run(ctx context.Context, dir string, env []string, argv ...string) (string, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // commands of this package
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &out, &out
	// With its whole group: a compiler has children.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		text := bytes.TrimSpace(out.Bytes())
		return "", fmt.Errorf("%s: %w\n%s", filepath.Base(argv[0])+" "+argv[1], err, text[max(0, len(text)-2000):])
	}
	return out.String(), nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
