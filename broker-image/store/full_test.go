// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tiny gives a directory on a file system of its own.
func tiny(t *testing.T, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may mount a file system that is small enough to be filled")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("this system does not let us mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestAFullDisk(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		reserve int64
		rude    bool // another process takes all there is, at once
		reason  string
	}{
		"the store fills it":            {reserve: 8 << 20, reason: "the reserve keeps the database from a full disk"},
		"another process takes it":      {reserve: 8 << 20, rude: true, reason: "the ballast helps over the first moment"},
		"there is hardly any reserve":   {reserve: 1, reason: "the database meets the full disk itself"},
		"no reserve, and another comes": {reserve: 1, rude: true, reason: "the database meets the full disk itself"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := tiny(t, "64m")
			data := filepath.Join(dir, "data")
			s := fresh1(t, data, Options{ReserveBytes: c.reserve})
			commit(t, s, func(tx *Tx) { tx.PutSession(&Session{ID: 1}) })
			seq, acked := uint64(0), map[uint64]bool{}
			noise := make([]byte, 64<<10)
			put := func() error {
				seq++
				for i := range noise {
					noise[i] = byte(uint64(i)*seq*2654435761>>13) ^ byte(i>>3) // does not compress well
				}
				m := &Message{Topic: "t", Payload: noise}
				err := tryCommit(t, s, func(tx *Tx) { tx.Enqueue(1, seq, tx.PutMessage(m), 1, false, nil) })
				acked[seq] = err == nil
				return err
			}
			if c.rude {
				for range 20 {
					if err := put(); err != nil {
						t.Fatal(err)
					}
				}
				hog(t, filepath.Join(dir, "hog"))
			}
			var err error
			for deadline := time.Now().Add(patience); err == nil; err = put() {
				if time.Now().After(deadline) {
					t.Fatal("it never fills")
				}
			}
			if c.reserve > 1 && !errors.Is(err, ErrFull) {
				t.Errorf("%s: %v", c.reason, err)
			}
			if s.Fault() == "" {
				t.Errorf("%s: no word about it", c.reason)
			}
			if c.rude {
				if err := os.Remove(filepath.Join(dir, "hog")); err != nil {
					t.Fatal(err)
				}
			} else if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=256m"); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(patience); put() != nil || s.Fault() != ""; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%s: it does not heal: %s", c.reason, s.Fault())
				}
			}
			for range 2 {
				have := map[uint64]bool{}
				for _, q := range queue(t, s, 1) {
					have[q.Seq] = true
				}
				for n, ok := range acked {
					if ok != have[n] {
						t.Errorf("%s: message %d: acknowledged %v, there %v", c.reason, n, ok, have[n])
					}
				}
				shut(t, s)
				s = fresh1(t, data, Options{ReserveBytes: c.reserve})
			}
			shut(t, s)
		})
	}
}

// hog takes all the space there is.
func hog(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for size := 1 << 20; size >= 1; size /= 2 {
		for b := make([]byte, size); err == nil; {
			_, err = f.Write(b)
		}
		err = nil
	}
}

func TestWhatMakesRoomIsLetInLonger(t *testing.T) {
	t.Parallel()
	s := fresh1(t, t.TempDir(), Options{})
	defer shut(t, s)
	commit(t, s, func(tx *Tx) {
		tx.PutSession(&Session{ID: 1})
		tx.Enqueue(1, 1, tx.PutMessage(message("t", 10)), 1, false, nil)
	})
	d := newDisk(t.TempDir(), 0, func(bool, int64) {})
	d.reserve = d.ask() * 2
	grows, shrinks := s.Begin(), s.Begin()
	grows.PutMeta("a", nil)
	shrinks.Dequeue(1, 1)
	if err := d.admit(grows); !errors.Is(err, ErrFull) {
		t.Errorf("what grows: %v", err)
	}
	if err := d.admit(shrinks); err != nil {
		t.Errorf("what removes: %v", err)
	}
}
