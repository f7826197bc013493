// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// policies of all threads of this process.
func policies(t *testing.T) map[uint32]int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	count := map[uint32]int{}
	for _, task := range tasks {
		id, err := strconv.Atoi(task.Name())
		if err != nil {
			t.Fatal(err)
		}
		if attr, err := unix.SchedGetAttr(id, 0); err == nil {
			count[attr.Policy]++
		}
	}
	return count
}

func TestBatchIsForAllThreadsAndForATime(t *testing.T) {
	undo, err := Batch()
	if err != nil {
		t.Fatal(err)
	}
	if got := policies(t); got[schedBatch] < 2 || got[schedOther] > 0 {
		t.Errorf("threads by policy: %v", got)
	}
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	if got := policies(t); got[schedOther] < 2 || got[schedBatch] > 0 {
		t.Errorf("afterwards: %v", got)
	}
}
