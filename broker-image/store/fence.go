// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var errFenced = errors.New("this database was given up")

// failurePause slows down what the database tries again and again while the disk refuses it.
const failurePause = 200 * time.Millisecond

// fence is the file system as one opened database sees it. It can be shut, so that a database that was given up changes
// nothing any more, whatever its goroutines still do. It also keeps an error from where the database would end the
// process on it: see failed.
type fence struct {
	vfs.FS

	// spare is asked when the disk is full. True: some space was freed.
	spare func() bool

	mu   sync.RWMutex // held for reading by each change
	shut bool

	state    sync.Mutex
	applying bool
	cause    error
	dead     chan struct{} // closed with the first error that cannot be lived with
	parked   chan struct{} // closed when a goroutine of the database stands still for ever

	log      atomic.Pointer[logFile]
	manifest atomic.Pointer[manifestMark]
}

// logFile is the write-ahead log that is being written.
type logFile struct {
	name   string
	synced atomic.Int64 // bytes known to be on disk
}

// manifestMark says how much of a manifest is known to be on disk.
type manifestMark struct {
	num    uint64
	synced int64
}

func newFence(inner vfs.FS, spare func() bool) *fence {
	return &fence{FS: inner, spare: spare, dead: make(chan struct{}), parked: make(chan struct{})}
}

// close makes every later change fail. It waits for those under way.
func (f *fence) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shut = true
}

// begin is called before the database applies a batch; false: it must not.
func (f *fence) begin() bool {
	f.state.Lock()
	defer f.state.Unlock()
	f.applying = f.cause == nil
	return f.applying
}

// end is called when the batch is applied, and only its sync may be waited for.
func (f *fence) end() {
	f.state.Lock()
	defer f.state.Unlock()
	f.applying = false
}

// fail gives the database up. It tells whether a batch is being applied.
func (f *fence) fail(err error) bool {
	f.state.Lock()
	defer f.state.Unlock()
	if f.cause == nil {
		f.cause = err
		close(f.dead)
	}
	return f.applying
}

func (f *fence) why() error {
	f.state.Lock()
	defer f.state.Unlock()
	return f.cause
}

// park lets the calling goroutine stand still for ever. It is the only way to stop the database in places where an
// error, a panic and even runtime.Goexit end the process: it unlocks a mutex that it has not locked.
func (f *fence) park() {
	f.stuck()
	select {}
}

// stuck notes that the database cannot be closed any more.
func (f *fence) stuck() {
	f.state.Lock()
	defer f.state.Unlock()
	select {
	case <-f.parked:
	default:
		close(f.parked)
	}
}

// change runs do, which changes something on disk.
func (f *fence) change(critical bool, do func() error) error {
	err := f.try(do)
	if errors.Is(err, syscall.ENOSPC) && f.spare() {
		err = f.try(do)
	}
	if err == nil {
		return nil
	}
	return f.failed(critical, err)
}

func (f *fence) try(do func() error) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.shut {
		return errFenced
	}
	return do()
}

// failed decides what becomes of an error. Without its log the database is of no use. While a batch is being applied,
// pebble ends the process on an error of the log; so that one is never shown to it. Everything else it tries again.
func (f *fence) failed(critical bool, err error) error {
	if !critical {
		time.Sleep(failurePause)
		return err
	}
	if f.fail(err) {
		f.park()
	}
	return err
}

func (f *fence) create(name string, open func() (vfs.File, error)) (vfs.File, error) {
	base := filepath.Base(name)
	isLog := strings.HasSuffix(base, ".log")
	var file vfs.File
	err := f.change(isLog, func() error {
		var err error
		file, err = open()
		return err //nolint:wrapcheck // the database looks at what it gets
	})
	if err != nil {
		return nil, err
	}
	out := &fenceFile{File: file, fence: f}
	if isLog {
		out.log = &logFile{name: name}
		f.log.Store(out.log)
	}
	if num, is := strings.CutPrefix(base, "MANIFEST-"); is {
		out.manifest, _ = strconv.ParseUint(num, 10, 64)
	}
	return out, nil
}

func (f *fence) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.create(name, func() (vfs.File, error) { return f.FS.Create(name, c) })
}

func (f *fence) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.create(to, func() (vfs.File, error) { return f.FS.ReuseForWrite(from, to, c) })
}

func (f *fence) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.create(name, func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, opts...) })
}

func (f *fence) OpenDir(name string) (vfs.File, error) {
	dir, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, fmt.Errorf("open directory: %w", err)
	}
	return &fenceFile{File: dir, fence: f, directory: true}, nil
}

func (f *fence) Link(from, to string) error {
	return f.change(false, func() error { return f.FS.Link(from, to) })
}

func (f *fence) Remove(name string) error { return f.try(func() error { return f.FS.Remove(name) }) }

func (f *fence) RemoveAll(name string) error {
	return f.try(func() error { return f.FS.RemoveAll(name) })
}

func (f *fence) Rename(from, to string) error {
	return f.change(false, func() error { return f.FS.Rename(from, to) })
}

// Lock does nothing: the store itself holds a lock, for longer than one database is open.
func (f *fence) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

func (f *fence) Unwrap() vfs.FS { return f.FS }

// fenceFile is a file that is written.
type fenceFile struct {
	vfs.File

	fence     *fence
	log       *logFile
	manifest  uint64
	directory bool
	written   atomic.Int64
}

func (f *fenceFile) critical() bool { return f.log != nil || f.directory }

func (f *fenceFile) Write(p []byte) (int, error) {
	done := 0
	err := f.fence.change(f.critical(), func() error {
		n, err := f.File.Write(p[done:]) // the second try goes on where the first one ended
		done += n
		f.written.Add(int64(n))
		return err //nolint:wrapcheck // the database looks at what it gets
	})
	return done, err
}

func (f *fenceFile) WriteAt(p []byte, at int64) (int, error) {
	done := 0
	err := f.fence.change(f.critical(), func() error {
		n, err := f.File.WriteAt(p[done:], at+int64(done))
		done += n
		return err //nolint:wrapcheck // the database looks at what it gets
	})
	return done, err
}

func (f *fenceFile) sync(do func() error) error {
	upTo := f.written.Load()
	if err := f.fence.change(f.critical(), do); err != nil {
		return err
	}
	if f.log != nil {
		f.log.synced.Store(upTo)
	}
	if f.manifest != 0 {
		f.fence.manifest.Store(&manifestMark{num: f.manifest, synced: upTo})
	}
	return nil
}

func (f *fenceFile) Sync() error { return f.sync(f.File.Sync) }

func (f *fenceFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *fenceFile) SyncTo(length int64) (full bool, err error) {
	err = f.fence.change(f.critical(), func() error {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

func (f *fenceFile) Close() error {
	err := f.File.Close()
	if err != nil && f.critical() {
		return f.fence.failed(true, err)
	}
	return err //nolint:wrapcheck // the database looks at what it gets
}
