// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// sickFS fails what its hook says.
type sickFS struct {
	vfs.FS

	hook atomic.Pointer[func(op, name string) error]
}

func (f *sickFS) ask(op, name string) error {
	if h := f.hook.Load(); h != nil {
		return (*h)(op, filepath.Base(name))
	}
	return nil
}

func (f *sickFS) wrap(name string, open func() (vfs.File, error)) (vfs.File, error) {
	if err := f.ask("create", name); err != nil {
		return nil, err
	}
	file, err := open()
	return &sickFile{File: file, fs: f, name: name}, err
}

func (f *sickFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.wrap(name, func() (vfs.File, error) { return f.FS.Create(name, c) })
}

func (f *sickFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.wrap(to, func() (vfs.File, error) { return f.FS.ReuseForWrite(from, to, c) })
}

func (f *sickFS) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	return &sickFile{File: file, fs: f, name: "directory"}, err
}

type sickFile struct {
	vfs.File

	fs   *sickFS
	name string
}

func (f *sickFile) Write(p []byte) (int, error) {
	if err := f.fs.ask("write", f.name); err != nil {
		n, _ := f.File.Write(p[:len(p)/2]) // as a real disk does
		return n, err
	}
	return f.File.Write(p)
}

func (f *sickFile) Sync() error {
	if err := f.fs.ask("sync", f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *sickFile) SyncData() error {
	if err := f.fs.ask("sync", f.name); err != nil {
		return err
	}
	return f.File.SyncData()
}

func TestADiskThatFails(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		op, suffix string
		err        error
		interval   bool
		reason     string
	}{
		"the log cannot be synced": {
			op: "sync", suffix: ".log", err: syscall.EIO,
			reason: "what is not synced must not be acknowledged, nor come back",
		},
		"the log cannot be written": {
			op: "write", suffix: ".log", err: syscall.EIO,
			reason: "half a record is on disk, which must be cut off",
		},
		"the log meets a full disk": {
			op: "write", suffix: ".log", err: syscall.ENOSPC,
			reason: "another process may have taken the reserve",
		},
		"no log can be made": {
			op: "create", suffix: ".log", err: syscall.ENOSPC,
			reason: "pebble would end the process when it turns to the next log",
		},
		"the directory cannot be synced": {
			op: "sync", suffix: "directory", err: syscall.EIO,
			reason: "pebble would end the process when it turns to the next log",
		},
		"the manifest cannot be synced": {
			op: "sync", suffix: "MANIFEST-*", err: syscall.EIO,
			reason: "pebble calls Fatalf on a goroutine of its own",
		},
		"tables cannot be written": {
			op: "write", suffix: ".sst", err: syscall.ENOSPC,
			reason: "memory must not fill until commits wait for ever",
		},
		"the log cannot be written, in interval mode": {
			op: "write", suffix: ".log", err: syscall.EIO, interval: true,
			reason: "nobody waits for the write that fails",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := &sickFS{FS: vfs.Default}
			dir := t.TempDir()
			s := fresh1(t, dir, Options{fs: fs, Interval: c.interval, ReserveBytes: 1})
			commit(t, s, func(tx *Tx) { tx.PutSession(&Session{ID: 1}) })
			seq, acked := uint64(0), map[uint64]bool{}
			put := func() error {
				seq++
				err := tryCommit(t, s, func(tx *Tx) { tx.Enqueue(1, seq, tx.PutMessage(message("t", 100<<10)), 1, false, nil) })
				acked[seq] = err == nil
				return err
			}
			for range 5 {
				if err := put(); err != nil {
					t.Fatal(err)
				}
			}
			hook := func(op, name string) error {
				if op == c.op && (strings.HasSuffix(name, c.suffix) || strings.HasPrefix(name, strings.TrimSuffix(c.suffix, "*"))) {
					return c.err
				}
				return nil
			}
			fs.hook.Store(&hook)
			failed := false
			for deadline := time.Now().Add(patience); !failed; {
				failed = put() != nil
				if time.Now().After(deadline) {
					t.Fatalf("%s: the disk failed, and nobody noticed", c.reason)
				}
			}
			if f := s.Fault(); f == "" {
				t.Errorf("%s: no word about it", c.reason)
			}
			if err := put(); err == nil {
				t.Errorf("%s: committed while out of order", c.reason)
			}
			fs.hook.Store(nil)
			for deadline := time.Now().Add(patience); put() != nil || s.Fault() != ""; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%s: it does not heal: %s", c.reason, s.Fault())
				}
			}
			check := func() {
				t.Helper()
				have := map[uint64]bool{}
				for _, q := range queue(t, s, 1) {
					have[q.Seq] = true
					if !acked[q.Seq] {
						t.Errorf("%s: message %d was refused, and is there", c.reason, q.Seq)
					}
				}
				for n, ok := range acked {
					// In interval mode the last second may be lost with the disk.
					if ok && !have[n] && !c.interval {
						t.Errorf("%s: message %d was acknowledged, and is gone", c.reason, n)
					}
				}
			}
			check()
			shut(t, s)
			s = fresh1(t, dir, Options{fs: fs, ReserveBytes: 1})
			check()
			shut(t, s)
		})
	}
}

func TestAnErrorWhileOpening(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"create", "sync", "write"} {
		fs := &sickFS{FS: vfs.Default}
		dir := t.TempDir()
		s := fresh1(t, dir, Options{fs: fs})
		commit(t, s, func(tx *Tx) { tx.PutMeta("a", []byte("b")) })
		shut(t, s)
		hook := func(o, name string) error {
			if o == op && strings.HasSuffix(name, ".log") {
				return syscall.EIO
			}
			return nil
		}
		fs.hook.Store(&hook)
		if s, err := Open(dir, Options{fs: fs}); err == nil {
			_ = s.Restore(Visitor{})
			if err := tryCommit(t, s, func(tx *Tx) { tx.PutMeta("a", []byte("c")) }); !errors.Is(err, syscall.EIO) {
				t.Errorf("%s: %v", op, err)
			}
			if err := s.Close(); err == nil {
				t.Errorf("%s: closed as if nothing was", op)
			}
		}
		fs.hook.Store(nil)
		s = open(t, dir, Options{fs: fs})
		if got := restore(t, s).Meta["a"]; got != "b" {
			t.Errorf("%s: restored %q", op, got)
		}
		shut(t, s)
	}
}
