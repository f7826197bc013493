// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// turns lets a bench share its machine with other work that is polite enough to stand still while something is measured:
// it holds the files of -turns (flock, exclusive, taken in their order) for one scenario of one round at a time, or for
// one curve. Without files it does nothing.
type turns []string

func newTurns(text string) turns {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// take waits for the machine, and gives it back after do.
func (t turns) take(do func() error) error {
	var held []*os.File
	defer func() {
		for _, f := range held {
			_ = f.Close()
		}
	}()
	for _, path := range t {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return fmt.Errorf("-turns: %w", err)
		}
		held = append(held, f)
		for {
			err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
			if !errors.Is(err, syscall.EINTR) {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("-turns %s: %w", path, err)
		}
	}
	return do()
}
