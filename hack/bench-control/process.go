// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// spawner starts processes from one thread that never ends: the kernel kills a child when the thread that made it ends,
// so that none stays when this program is killed.
type spawner struct{ calls chan func() }

func newSpawner() *spawner {
	s := &spawner{calls: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for call := range s.calls {
			call()
		}
	}()
	return s
}

// process is a child that runs.
type process struct {
	pid  int
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{}
}

// start runs a binary whose output goes into a file of dir.
func (s *spawner) start(dir, name string, env []string, binary string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.Command(binary, args...) //nolint:gosec,noctx // a binary that was built for this; stop ends it
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = dir, log, log, append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	s.calls <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p.pid = p.cmd.Process.Pid
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// patience is how long a process may take to end when it is asked to.
const patience = 30 * time.Second

// stop asks the process to end, and kills it if it does not.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// alive is an error with the end of its log if the process has ended.
func (p *process) alive() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s has ended:\n%s", p.name, p.tail())
	default:
		return nil
	}
}

const tailBytes = 4096

func (p *process) tail() string {
	text, _ := os.ReadFile(p.log)
	return string(text[max(0, len(text)-tailBytes):])
}

// memory is the resident set of now, and the greatest since forgetPeak, in bytes; zero when the process is gone.
func (p *process) memory() (now, peak int64) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	return kib(text, "VmRSS:"), kib(text, "VmHWM:")
}

// forgetPeak begins the greatest resident set anew.
func (p *process) forgetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.pid), []byte("5"), 0)
}

// cpu is the processor time that the process has used.
func (p *process) cpu() time.Duration {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	used, _ := parseStat(string(text))
	return used
}

// tick is the unit of times in /proc/PID/stat on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// parseStat adds utime and stime. The name of a process may hold spaces and brackets.
func parseStat(text string) (time.Duration, error) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, errors.New("/proc/PID/stat has too few fields")
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/PID/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// kib reads a line such as "VmRSS:  1234 kB" in bytes; 0 where there is none.
func kib(text []byte, name string) int64 {
	for line := range bytes.Lines(text) {
		if rest, found := bytes.CutPrefix(line, []byte(name)); found {
			if fields := bytes.Fields(rest); len(fields) > 0 {
				n, _ := strconv.ParseInt(string(fields[0]), 10, 64)
				return n << 10
			}
		}
	}
	return 0
}

// machine says what this computer is.
func machine() string {
	model := "unknown processor"
	if file, err := os.Open("/proc/cpuinfo"); err == nil {
		for lines := bufio.NewScanner(file); lines.Scan(); {
			if name, value, _ := strings.Cut(lines.Text(), ":"); strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
			}
		}
		_ = file.Close()
	}
	memory, _ := os.ReadFile("/proc/meminfo")
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	version, _, _ := strings.Cut(strings.TrimSpace(string(release)), "-")
	return fmt.Sprintf("%d × %s, %d GiB memory, Linux %s, %s", runtime.NumCPU(), model, (kib(memory, "MemTotal:")+1<<29)>>30, version, runtime.Version())
}

// load is the load average of the last minute.
func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
