// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestTurnsHoldTheMachineWhileItIsMeasured(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	other, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	try := func() error {
		err := syscall.Flock(int(other.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
		if err == nil {
			err = syscall.Flock(int(other.Fd()), syscall.LOCK_UN)
		}
		return err
	}
	failed := errors.New("as told")
	err = newTurns(path).take(func() error {
		if try() == nil {
			t.Error("others must wait")
		}
		return failed
	})
	if !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	if err := try(); err != nil {
		t.Errorf("others must go on afterwards: %v", err)
	}
	if err := newTurns("").take(func() error { return nil }); err != nil {
		t.Errorf("nobody to share with: %v", err)
	}
	if err := newTurns(filepath.Join(path, "x")).take(func() error { return nil }); err == nil {
		t.Error("a file that cannot be had must be said")
	}
}
