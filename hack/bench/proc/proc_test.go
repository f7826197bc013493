// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

func TestStat(t *testing.T) {
	const text = "12 (a (b) c) S 1 12 12 0 -1 4194304 100 200 0 0 150 50 7 3 20 0 1 0 100 1000 10 18446744073709551615"
	if got, err := parseStat(text); got != 2100*time.Millisecond || err != nil {
		t.Errorf("got %s, %v, want 2.1s: times are counted behind the last bracket", got, err)
	}
	if _, err := parseStat("12 (a) S 1"); err == nil {
		t.Error("too few fields are an error")
	}
}

func TestMemoryLines(t *testing.T) {
	text := []byte("VmHWM:\t 99 kB\nVmRSS:\t   12 kB\n")
	if got := kib(text, "VmRSS:"); got != 12<<10 {
		t.Errorf("got %d", got)
	}
	if got := kib(text, "Pss:"); got != 0 {
		t.Errorf("got %d for a line that is not there", got)
	}
}

func TestChildrenCount(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if tree := Tree(os.Getpid()); !slices.Contains(tree, cmd.Process.Pid) {
		t.Errorf("%d is not in %v", cmd.Process.Pid, tree)
	}
	own, err := Mem(cmd.Process.Pid)
	if err != nil || own.RSS <= 0 {
		t.Errorf("got %+v, %v", own, err)
	}
	if all, err := Mem(os.Getpid()); err != nil || all.RSS <= own.RSS {
		t.Errorf("the child alone has %d, both have %d, %v", own.RSS, all.RSS, err)
	}
	if _, err := CPU(os.Getpid()); err != nil {
		t.Error(err)
	}
}
