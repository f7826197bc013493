// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// FirstCommand is the hidden argument by which a program that uses this package becomes First.
const FirstCommand = "machine-first"

// stepsFD is where First and its payload find the pipe to Start.
const stepsFD = 3

// First is the main function of the machine's first process. It returns the exit status.
func First() int {
	unix.CloseOnExec(stepsFD)
	steps := os.NewFile(stepsFD, "steps")
	var spec Spec
	// The word: whoever started us has recorded us. If it died before that, the pipe just ends.
	if err := json.NewDecoder(os.Stdin).Decode(&spec); err != nil {
		return 1
	}
	pid, err := firstSteps(spec, steps)
	if err != nil {
		tellFailed(steps, err)
		return 1
	}
	// The payload has its own end of the pipe; Start must see it close when the payload does.
	steps.Close()
	return reap(pid)
}

func firstSteps(spec Spec, steps *os.File) (payload int, err error) {
	if err := joinCgroup(spec.Name); err != nil {
		return 0, err
	}
	if err := unix.Sethostname([]byte(spec.Name)); err != nil {
		return 0, fmt.Errorf("host name: %w", err)
	}
	if err := layOutNetwork(spec); err != nil {
		return 0, err
	}
	if err := layOutMounts(spec); err != nil {
		return 0, err
	}

	// By this name the program is found even where its file is out of sight by now.
	cmd := exec.Command("/proc/self/exe", spec.Payload...)
	cmd.Args[0] = "devcluster"
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{steps}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("payload: %w", err)
	}
	return cmd.Process.Pid, nil
}

// reap collects every process that loses its parent, until the payload ends. Then First ends, and the kernel ends all.
func reap(payload int) int {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 1
		}
		if pid == payload {
			return status.ExitStatus()
		}
	}
}

// tellFailed writes the failure as one line, however many its text has.
func tellFailed(steps *os.File, err error) {
	text, _ := json.Marshal(err.Error())
	fmt.Fprintf(steps, "failed %s\n", text)
}
