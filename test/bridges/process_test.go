// SPDX-License-Identifier: Apache-2.0

package bridges

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// program is what is run, and run again.
type program struct {
	name string
	dir  string
	argv []string
	env  []string
	// ready says whether it serves; nil: as soon as it runs.
	ready func() error

	mu   sync.Mutex
	pid  int
	gone chan struct{}
	err  error
}

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

// start runs it and waits until it serves.
func (p *program) start() error {
	if err := p.launch(); err != nil {
		return err
	}

	if p.ready == nil {
		return nil
	}

	var last error

	if !within(2*patience, func() bool {
		if last = p.ready(); last == nil || p.ended() {
			return true
		}

		return false
	}) || last != nil {
		p.kill()

		return fmt.Errorf("%s does not serve: %w; its log ends with:\n%s", p.name, last, p.tail(20))
	}

	return nil
}

// launch runs it and waits for nothing.
func (p *program) launch() error {
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}

	defer log.Close()

	command := exec.CommandContext(context.Background(), p.argv[0], p.argv[1:]...)
	command.Dir, command.Stdout, command.Stderr = p.dir, log, log
	command.Env = append(os.Environ(), p.env...)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	started := make(chan error)

	spawn() <- func() { started <- command.Start() }

	if err := <-started; err != nil {
		return err
	}

	gone := make(chan struct{})

	p.mu.Lock()
	p.pid, p.gone, p.err = command.Process.Pid, gone, nil
	p.mu.Unlock()

	go func() {
		err := command.Wait()

		// At once, while nobody else can have its number: children that it left.
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL)

		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(gone)
	}()

	return nil
}

func (p *program) ended() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

// stop ends it as an administrator does; one that does not listen is killed.
func (p *program) stop() {
	if p.ended() {
		return
	}

	_ = syscall.Kill(p.pid, syscall.SIGTERM)

	select {
	case <-p.gone:
	case <-time.After(patience / 2):
		p.kill()
	}
}

// kill ends it, and all its children, as a power cut does.
func (p *program) kill() {
	if p.ended() {
		return
	}

	_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	<-p.gone
}

func (p *program) log() string { return filepath.Join(p.dir, p.name+".log") }

// tail is the end of the log, or of a crash its beginning.
func (p *program) tail(most int) string {
	text, _ := os.ReadFile(p.log())
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")

	for i, line := range lines {
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") || strings.HasPrefix(line, "SIGQUIT:") {
			return strings.Join(lines[max(0, i-most):min(len(lines), i+20*most)], "\n")
		}
	}

	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}

// memory reads a line of /proc/PID/status in KiB, such as VmRSS or VmHWM.
func (p *program) memory(name string) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))

	for line := range bytes.Lines(text) {
		if rest, found := bytes.CutPrefix(line, []byte(name+":")); found {
			kib, _ := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)

			return kib
		}
	}

	return 0
}

// under starts it for a test, ends it with the test, and shows what it said if the test fails.
func (p *program) under(t *testing.T) *program {
	t.Helper()

	if err := p.start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		died := p.ended()

		if t.Failed() && !died && p.argv[0] == bridgeBinary { // it tells what each of its goroutines waits for
			_ = syscall.Kill(p.pid, syscall.SIGQUIT)
		}

		p.stop()

		if t.Failed() {
			t.Logf("the log of %s ends with (ended by itself: %v):\n%s", p.name, died, p.tail(25))
		}
	})

	return p
}

var ports sync.Map

// freePort is one below those that outgoing connections take: it must still be free when a peer comes back.
func freePort(t *testing.T) int {
	t.Helper()

	for range 1000 {
		port := 20_000 + rand.IntN(10_000)
		if _, taken := ports.LoadOrStore(port, true); taken {
			continue
		}

		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", loopback(port))
		if err == nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}

			return port
		}
	}

	t.Fatal("no port is free")

	return 0
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// file writes a text file and gives its path.
func file(t *testing.T, dir, name, text string) string {
	t.Helper()

	path := filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}

	return path
}
