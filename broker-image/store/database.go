// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	cacheBytes    = 8 << 20
	memTableBytes = 8 << 20
	// groupBytes bounds one group commit. Far below half a memtable: a batch above that is flushed on its own.
	groupBytes = 1 << 20
	// emptyTable is what pebble calls a flush of nothing but removals that needed no table.
	emptyTable = "pebble: empty table"
	// closePatience is how long a database that failed may take to close before it is left to itself.
	closePatience = 2 * time.Second
)

// database is one opening of pebble, with a goroutine that applies batches. After an error it is given up and another
// one is opened in its place.
type database struct {
	*pebble.DB

	fs   *fence
	jobs chan job
	done chan result
}

// job is a batch for the applying goroutine.
type job struct {
	batch *pebble.Batch
	sync  bool
	done  chan<- result
}

// result is what became of a job. With sync there are two: first it is applied, then it is on disk.
type result struct {
	final bool
	err   error
	took  time.Duration
}

// ears are told what the database does in the background.
type ears struct {
	log     *slog.Logger
	trouble func(err error) // a flush or a compaction failed
	calm    func()          // one went well
	flush   func(err error) // a flush ended
	damaged func(err error)
}

// logger takes what pebble says. Fatalf must not return and must not end the process.
type logger struct {
	log *slog.Logger
	fs  *fence
}

func (l logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	l.log.Warn("store: database", "message", fmt.Sprintf(format, args...))
}

func (l logger) Fatalf(format string, args ...any) {
	l.fs.fail(fmt.Errorf(format, args...))
	l.fs.park()
}

func databaseOptions(fs *fence, cache *pebble.Cache, e ears, readOnly bool) *pebble.Options {
	o := &pebble.Options{
		Cache: cache,
		// Nothing of ours waits for a second compaction, and the broker needs the processors.
		CompactionConcurrencyRange: func() (int, int) { return 1, 1 },
		FS:                         fs,
		FormatMajorVersion:         pebble.FormatValueSeparation,
		L0CompactionThreshold:      4,
		L0StopWritesThreshold:      24,
		LBaseMaxBytes:              32 << 20,
		Logger:                     logger{log: e.log, fs: fs},
		MaxManifestFileSize:        1 << 20,
		MaxOpenFiles:               256,
		MemTableSize:               memTableBytes,
		// Above three memtables that wait for their flush, commits wait.
		MemTableStopWritesThreshold: 4,
		ReadOnly:                    readOnly,
		EventListener: &pebble.EventListener{
			BackgroundError: e.trouble,
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				e.damaged(fmt.Errorf("%s: %w: %w", i.Path, i.Details, ErrDamaged))
			},
			FlushEnd: func(i pebble.FlushInfo) {
				if i.Err != nil && i.Err.Error() == emptyTable {
					i.Err = nil
				}
				e.flush(i.Err)
				if i.Err == nil {
					e.calm()
				}
			},
			CompactionEnd: func(i pebble.CompactionInfo) {
				if i.Err == nil {
					e.calm()
				}
			},
		},
	}
	// The other scheduler wakes up ten times a second for ever. With one compaction at a time there is nothing that it
	// could find: the next one is granted when one ends.
	o.Experimental.CompactionScheduler = pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()
	return o
}

// openPebble opens pebble, and comes back also if pebble does not.
func openPebble(dir string, fs *fence, o *pebble.Options) (*pebble.DB, error) {
	type answer struct {
		db  *pebble.DB
		err error
	}
	opened := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if r := recover(); r != nil {
				a.err = fmt.Errorf("open: %v: %w", r, ErrDamaged)
			}
			opened <- a
		}()
		a.db, a.err = pebble.Open(dir, o)
	}()
	select {
	case a := <-opened:
		if a.err != nil {
			return nil, explain(dir, a.err)
		}
		return a.db, nil
	case <-fs.parked:
		return nil, explain(dir, fs.why())
	}
}

// explain says whether an error means damage, and what can be done about it.
func explain(dir string, err error) error {
	var errno syscall.Errno
	switch {
	case errors.Is(err, ErrDamaged):
		return err
	case errors.Is(err, errFenced), errors.As(err, &errno) && !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s: %w", dir, err) // the disk, not what is on it
	}
	// Pebble marks only a part of what it finds as corruption, but all that is not the disk's word is.
	return fmt.Errorf("%s: %w: %w; restore the directory from a copy, or move it away to start empty",
		dir, err, ErrDamaged)
}

func openDatabase(dir string, fs *fence, cache *pebble.Cache, e ears) (*database, error) {
	db, err := openPebble(dir, fs, databaseOptions(fs, cache, e, false))
	if err != nil {
		return nil, err
	}
	d := &database{DB: db, fs: fs, jobs: make(chan job, 1), done: make(chan result, 2)}
	go d.work()
	return d, nil
}

// work applies one batch after the other.
func (d *database) work() {
	for j := range d.jobs {
		begin := time.Now()
		err := d.apply(j)
		if err == nil && j.sync {
			j.done <- result{}
			err = d.wait(j.batch)
		}
		j.done <- result{final: true, err: err, took: time.Since(begin)}
	}
}

func (d *database) apply(j job) (err error) {
	if !d.fs.begin() {
		return d.fs.why()
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("apply: %v", r)
			d.fs.fail(err)
			d.fs.stuck() // pebble has left its locks behind, and cannot be closed
			return
		}
		d.fs.end()
	}()
	if !j.sync {
		return d.Apply(j.batch, pebble.NoSync) //nolint:wrapcheck // the caller says what it was
	}
	return d.ApplyNoSyncWait(j.batch, pebble.Sync) //nolint:wrapcheck // as above
}

func (d *database) wait(b *pebble.Batch) error {
	err := b.SyncWait()
	if err != nil {
		d.fs.fail(err)
	}
	return err //nolint:wrapcheck // as above
}

// run applies a batch and waits until that is done.
func (d *database) run(b *pebble.Batch, sync bool) error {
	done := make(chan result, 2)
	d.jobs <- job{batch: b, sync: sync, done: done}
	for {
		select {
		case r := <-done:
			if r.final {
				return r.err
			}
		case <-d.fs.parked:
			return d.fs.why()
		}
	}
}

// empty flushes the log: with an empty one the next start has nothing to replay, and nothing of it can have rotted.
func (d *database) empty() error {
	if !d.fs.begin() {
		return d.fs.why()
	}
	flushed, err := d.AsyncFlush() // turns to the next log, as applying a batch may do
	d.fs.end()
	if err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	<-flushed
	return nil
}

// giveUp ends a database that failed. It changes nothing on disk any more when this returns. If it does not close in
// time it stays in memory: a goroutine of it stands still.
func (d *database) giveUp() {
	d.fs.close()
	select {
	case <-d.fs.parked:
		return
	default:
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		defer func() { _ = recover() }() // it is over with it anyway
		close(d.jobs)
		_ = d.Close()
	}()
	timer := time.NewTimer(closePatience)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
	case <-d.fs.parked:
	}
}

// cutLog takes from the logs what follows the last group that was acknowledged, so that what was refused does not come
// back.
func cutLog(dir, name string, size int64) error {
	if name == "" {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cut the log: %w", err)
	}
	last := logNumber(filepath.Base(name))
	for _, e := range entries {
		if logNumber(e.Name()) > last {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("cut the log: %w", err)
			}
		}
	}
	if info, err := os.Stat(name); err == nil && info.Size() > size {
		if err := os.Truncate(name, size); err != nil {
			return fmt.Errorf("cut the log: %w", err)
		}
	}
	return nil
}

// logNumber is the number of a log by its name, or 0.
func logNumber(name string) uint64 {
	num, is := strings.CutSuffix(name, ".log")
	if !is {
		return 0
	}
	n, err := strconv.ParseUint(num, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// checkManifest reads the manifest as far as the seal says it goes. Pebble takes the first record that does not read
// for the end.
func checkManifest(dir string, fs vfs.FS, p promise) error {
	desc, err := pebble.Peek(dir, fs)
	if err != nil {
		return explain(dir, err)
	}
	if !desc.Exists {
		if p.group == 0 {
			return nil
		}
		return fmt.Errorf("%s: the database is gone: %w; restore the directory from a copy, or remove the file %s "+
			"beside it to start empty", dir, ErrDamaged, sealName)
	}
	name := filepath.Base(desc.ManifestFilename)
	num, is := strings.CutPrefix(name, "MANIFEST-")
	if n, err := strconv.ParseUint(num, 10, 64); !is || err != nil || n != p.manifest {
		return nil // a newer one, of which the seal does not know yet
	}
	file, err := fs.Open(filepath.Join(dir, name))
	if err != nil {
		return explain(dir, err)
	}
	defer func() { _ = file.Close() }()
	records := record.NewReader(file, 0)
	for records.Offset() < p.manifestN {
		r, err := records.Next()
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if err != nil {
			return fmt.Errorf("%s: unreadable at byte %d of %d: %w: %w; restore the directory from a copy",
				filepath.Join(dir, name), records.Offset(), p.manifestN, err, ErrDamaged)
		}
	}
	return nil
}
