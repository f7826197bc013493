// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Identity names one process for ever. A process id alone does not: it is used again.
type Identity struct {
	PID int `json:"pid"`
	// Started is the process's start time in clock ticks since boot.
	Started uint64 `json:"started"`
	// Boot is the kernel's id of the boot that Started counts from.
	Boot string `json:"boot"`
}

// Identify looks up the identity of a running process.
func Identify(pid int) (Identity, error) {
	_, started, err := stat(pid)
	if err != nil {
		return Identity{}, err
	}
	boot, err := bootID()
	if err != nil {
		return Identity{}, err
	}
	return Identity{PID: pid, Started: started, Boot: boot}, nil
}

// Alive is whether this very process still runs; one that has ended but was not collected does not.
func (i Identity) Alive() bool {
	if i.PID <= 0 {
		return false
	}
	state, started, err := stat(i.PID)
	if err != nil || state == 'Z' || state == 'X' || started != i.Started {
		return false
	}
	boot, err := bootID()
	return err == nil && boot == i.Boot
}

// Kill ends the process and waits until it, and with it all of its pid namespace, is gone.
func (i Identity) Kill(ctx context.Context) error {
	for i.Alive() {
		if err := syscall.Kill(i.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("process %d: kill: %w", i.PID, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d: still there after SIGKILL: a process of the node hangs in the kernel "+
				"(look for state D in: ps -o pid,stat,wchan,args)", i.PID)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

func stat(pid int) (state byte, started uint64, err error) {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	return parseStat(line)
}

// parseStat reads fields 3 (state) and 22 (start time) of /proc/PID/stat. The second field is the program's name in
// parentheses and may itself hold spaces and parentheses, so the fields are counted from the last one.
func parseStat(line []byte) (state byte, started uint64, err error) {
	end := bytes.LastIndexByte(line, ')')
	if end < 0 {
		return 0, 0, fmt.Errorf("process status %q: no program name", line)
	}
	fields := strings.Fields(string(line[end+1:]))
	if len(fields) < 20 || len(fields[0]) != 1 {
		return 0, 0, fmt.Errorf("process status %q: too few fields", line)
	}
	started, err = strconv.ParseUint(fields[19], 10, 64)
	return fields[0][0], started, err
}

func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}
