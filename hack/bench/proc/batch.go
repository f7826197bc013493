// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Policies of sched(7).
const (
	schedOther = 0
	schedBatch = 3
)

// Batch makes all threads of this process SCHED_BATCH until undo is called: when one has something to do it waits for its
// turn, in place of stopping whoever has the processor. A load generator that shares a machine with what it measures
// would else measure mostly how often it stops it; the devices that it stands for do not. Processes that are started
// meanwhile would inherit it.
func Batch() (undo func() error, err error) {
	if err := setPolicy(schedBatch); err != nil {
		return nil, errors.Join(err, setPolicy(schedOther))
	}
	return func() error { return setPolicy(schedOther) }, nil
}

// setPolicy changes all threads. One that begins meanwhile has the policy of its parent, which may be the old one: so it
// looks again until there are no others.
func setPolicy(policy uint32) error {
	for seen := map[int]bool{}; ; {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		isNew := false
		for _, task := range tasks {
			id, err := strconv.Atoi(task.Name())
			if err != nil || seen[id] {
				continue
			}
			seen[id], isNew = true, true
			now, err := unix.SchedGetAttr(id, 0)
			if err == nil {
				err = unix.SchedSetAttr(id, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Nice: now.Nice}, 0)
			}
			if err != nil && !errors.Is(err, unix.ESRCH) { // it may have ended
				return fmt.Errorf("scheduling policy of thread %d: %w", id, err)
			}
		}
		if !isNew {
			return nil
		}
	}
}
