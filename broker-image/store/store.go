// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

var (
	// ErrFull says that the disk has less free space than the reserve. Nothing of the transaction is in the store; it
	// may be tried again later.
	ErrFull = errors.New("the disk is full")
	// ErrFormat says that the directory holds something that this release cannot read.
	ErrFormat = errors.New("the data directory has another format")
	// ErrDamaged says that what is on disk is not what was written.
	ErrDamaged = errors.New("the data directory is damaged")
	// ErrClosed says that the store is closed.
	ErrClosed = errors.New("the store is closed")
)

const (
	formatName  = "FORMAT"
	formatText  = "mqtt-broker store 1\n"
	lockName    = "LOCK"
	innerName   = "pebble"
	oldPattern  = "*.db"
	closeBudget = 10 * time.Second
)

// Options of a store. The zero value is good.
type Options struct {
	// Log gets what an operator of the broker should know. Nil: nothing is logged.
	Log *slog.Logger
	// Interval trades safety for speed: a transaction is done as soon as it is applied, and the disk is synced once a
	// second. A crash of the machine or the process may then lose the last second.
	Interval bool
	// ReserveBytes is the free space under which writes are refused. 0 means 32 MiB.
	ReserveBytes int64
	// Observe is called after each group commit with the time the disk took and the number of transactions in it.
	Observe func(sync time.Duration, transactions int)
	// AfterGroup is called once after the dones of a group have run, on the same goroutine.
	AfterGroup func()

	look bool   // only to count
	fs   vfs.FS // for tests
}

// Store keeps what outlives the process. All methods may be called from any goroutine.
type Store struct {
	o Options
	// interval is Options.Interval as it is now.
	interval atomic.Bool
	dir      string
	lock     *os.File
	cache    *pebble.Cache
	disk     *disk

	crashed bool
	highest SessionID

	mu       sync.Mutex
	handed   []waiting
	ready    *ledger // made by Restore
	restored bool
	closing  bool

	wake    chan struct{}
	ended   chan struct{}
	pending atomic.Int64
	shared  atomic.Int64
	visible atomic.Uint64 // the last group whose dones have run or are about to

	// current is nil while the store is out of order. Readers hold its lock, so that nobody closes it under them.
	current struct {
		sync.RWMutex

		d atomic.Pointer[database]
		// snapshots that are open, of d.
		snapshots []*Snapshot
	}

	fault   atomic.Pointer[error]
	trouble atomic.Pointer[error] // in the background; gone when a flush or compaction goes well
	jam     atomic.Pointer[error] // the last flush failed: memory fills, and at last commits would wait for ever
	jammed  chan struct{}
	damage  atomic.Pointer[error] // found while reading; stays

	seals    *seal
	sealOnce sync.Once
	c        *committer
	stats    struct{ groups, transactions, syncs, refused, reopened atomic.Uint64 }
}

// Open opens the store in dir, which is created if it is not there.
func Open(dir string, o Options) (s *Store, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.fs == nil {
		o.fs = vfs.Default
	}
	s = &Store{
		o: o, dir: dir, wake: make(chan struct{}, 1), ended: make(chan struct{}), jammed: make(chan struct{}, 1),
		cache: pebble.NewCache(cacheBytes),
	}
	s.disk = newDisk(dir, o.ReserveBytes, s.full)
	if err := s.prepare(); err != nil {
		s.release()
		return nil, err
	}
	d, err := s.first()
	if err != nil {
		s.release()
		return nil, err
	}
	s.interval.Store(o.Interval)
	if s.highest, _, err = d.numbers(); err != nil {
		d.giveUp()
		s.release()
		return nil, explain(dir, err)
	}
	s.disk.fill()
	s.c.adopt(d)
	go s.c.run()
	return s, nil
}

// prepare makes the directory ours.
func (s *Store) prepare() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if old, err := filepath.Glob(filepath.Join(s.dir, oldPattern)); err == nil && len(old) > 0 {
		return fmt.Errorf("%s: %w: it is the store of an earlier form of the broker; move it away to start empty",
			old[0], ErrFormat)
	}
	lock, err := os.OpenFile(filepath.Join(s.dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	s.lock = lock
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("%s: another process has it open: %w", s.dir, err)
	}
	if err := s.format(); err != nil {
		return err
	}
	return s.takeIn()
}

// format checks the number of the format, or writes it.
func (s *Store) format() error {
	path := filepath.Join(s.dir, formatName)
	have, err := os.ReadFile(path)
	switch {
	case err == nil && string(have) == formatText:
		return nil
	case err == nil:
		return fmt.Errorf("%s says %q: %w: this release knows %q; start the release that wrote it, or move the "+
			"directory away to start empty", path, firstLine(have), ErrFormat, strings.TrimSpace(formatText))
	case !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("store: %w", err)
	}
	if _, err := os.Stat(s.inner()); err == nil {
		return fmt.Errorf("%s is missing: %w: restore the directory from a copy", path, ErrDamaged)
	}
	return writeSynced(path, formatText)
}

func firstLine(b []byte) string {
	line, _, _ := strings.Cut(string(b[:min(len(b), 64)]), "\n")
	return line
}

// writeSynced writes a small file so that it is there in full or not at all.
func writeSynced(path, text string) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err //nolint:wrapcheck // the path is in it
	}
	return errors.Join(f.Sync(), f.Close())
}

func (s *Store) inner() string { return filepath.Join(s.dir, innerName) }

// first opens the database for the first time, and checks it against the seal.
func (s *Store) first() (*database, error) {
	seals, p, found, err := openSeal(filepath.Join(s.dir, sealName))
	if err != nil {
		return nil, err
	}
	s.seals = seals
	there, err := pebble.Peek(s.inner(), s.o.fs)
	s.crashed = err == nil && there.Exists && (!found || !p.clean)
	if found {
		if err := checkManifest(s.inner(), s.o.fs, p); err != nil {
			return nil, err
		}
		if s.crashed {
			if err := s.rehearse(p); err != nil {
				return nil, err
			}
		}
	}
	d, err := s.open()
	if err != nil {
		return nil, err
	}
	n, err := d.groupNumber()
	if err == nil {
		err = s.kept(n, p)
	}
	if err != nil {
		d.giveUp()
		return nil, explain(s.inner(), err)
	}
	s.c = &committer{s: s, next: &group{}, ledger: newLedger(), number: max(n, p.group), synced: max(n, p.group)}
	s.visible.Store(s.c.number)
	s.sealWith(promise{group: s.c.synced})
	if err := errors.Join(s.seals.sync(), syncDir(s.dir)); err != nil {
		d.giveUp()
		return nil, err
	}
	return d, nil
}

// rehearse reads the database without changing it, after a crash: opening it for good throws away what lies behind the
// end of the log.
func (s *Store) rehearse(p promise) error {
	fs := newFence(s.o.fs, func() bool { return false })
	db, err := openPebble(s.inner(), fs, databaseOptions(fs, s.cache, s.ears(), true))
	if err != nil {
		return err
	}
	d := &database{DB: db, fs: fs}
	n, err := d.groupNumber()
	if err == nil {
		err = s.kept(n, p)
	}
	if err == nil {
		err = checkLogs(s.inner(), n)
	}
	return errors.Join(err, db.Close())
}

// kept compares the last group found with the last one that was acknowledged.
func (s *Store) kept(n uint64, p promise) error {
	if n >= p.group {
		return nil
	}
	return fmt.Errorf("%s: the log ends at commit %d, but %d was on disk: %w; restore the directory from a copy, or "+
		"remove the file %s beside it to go on with what is left", s.inner(), n, p.group, ErrDamaged, sealName)
}

func (s *Store) ears() ears {
	return ears{
		log: s.o.Log,
		trouble: func(err error) {
			if s.trouble.Swap(&err) == nil {
				s.o.Log.Error("store: background work fails", "error", err)
			}
		},
		calm: func() { s.trouble.Store(nil) },
		flush: func(err error) {
			if err == nil {
				s.jam.Store(nil)
				return
			}
			s.jam.Store(&err)
			select {
			case s.jammed <- struct{}{}:
			default:
			}
		},
		damaged: func(err error) {
			if s.damage.Swap(&err) == nil {
				s.o.Log.Error("store: damage found", "error", err)
			}
		},
	}
}

func (s *Store) open() (*database, error) {
	return openDatabase(s.inner(), newFence(s.o.fs, s.disk.spare), s.cache, s.ears())
}

// release frees what a store holds that could not be opened, or is closed.
func (s *Store) release() {
	if s.seals != nil {
		_ = s.seals.file.Close()
	}
	if s.lock != nil {
		// A process that is being forked at this moment holds the file too, but not against this.
		_ = unix.Flock(int(s.lock.Fd()), unix.LOCK_UN)
		_ = s.lock.Close()
	}
	s.cache.Unref()
}

// seal writes what is on disk now into the seal.
func (s *Store) seal(fs *fence, group uint64, clean bool) {
	p := promise{group: group, clean: clean}
	if m := fs.manifest.Load(); m != nil {
		p.manifest, p.manifestN = m.num, m.synced
	}
	s.sealWith(p)
}

// sealWith writes the seal. That it cannot be written makes the check at the next start weaker, and is no reason to
// refuse anything.
func (s *Store) sealWith(p promise) {
	if err := s.seals.write(p); err != nil {
		s.sealOnce.Do(func() { s.o.Log.Warn("store: the seal cannot be written", "error", err) })
	}
}

func (s *Store) database() *database { return s.current.d.Load() }

func (s *Store) useDatabase(d *database) {
	s.current.Lock()
	defer s.current.Unlock()
	s.current.d.Store(d)
}

func (s *Store) dropDatabase() {
	s.current.Lock()
	d := s.current.d.Swap(nil)
	s.takeSnapshots() // they go with it
	s.current.Unlock()
	if d != nil {
		d.giveUp()
	}
}

func (s *Store) setFault(err error) {
	if old := s.fault.Swap(&err); old == nil {
		s.o.Log.Error("store: out of order", "error", err)
	}
}

func (s *Store) clearFault() {
	s.fault.Store(nil)
	s.trouble.Store(nil)
	s.jam.Store(nil)
	s.o.Log.Info("store: in order again")
}

func (s *Store) full(full bool, free int64) {
	if full {
		s.o.Log.Error("store: the disk is full, writes are refused", "free", free, "reserve", s.disk.reserve)
	} else {
		s.o.Log.Info("store: the disk has room again", "free", free)
	}
}

func (s *Store) count(g *group) {
	s.stats.groups.Add(1)
	s.stats.transactions.Add(uint64(len(g.waiting)))
	if g.sync {
		s.stats.syncs.Add(1)
	}
}

// SetInterval changes [Options.Interval] for the transactions to come.
func (s *Store) SetInterval(on bool) { s.interval.Store(on) }

// Highest is the highest session id that was ever stored; 0 if there is none.
func (s *Store) Highest() SessionID { return s.highest }

// Crashed says that the last process did not close the store, so that any stored message may have been sent.
func (s *Store) Crashed() bool { return s.crashed }

// Begin gives an empty transaction. It goes back to its pool with Commit or Discard.
func (s *Store) Begin() *Tx { return txPool.Get().(*Tx) } //nolint:forcetypeassert,errcheck // the pool holds nothing else

// Pending is how many bytes of transactions wait for the disk. Commit takes all it is given: it is the caller who has
// to stop reading from publishers while this is above what it wants to spend.
func (s *Store) Pending() int64 { return s.pending.Load() }

// Fault says in words what is wrong; it is empty if nothing is.
func (s *Store) Fault() string {
	for _, e := range []*atomic.Pointer[error]{&s.fault, &s.damage, &s.jam, &s.trouble} {
		if err := e.Load(); err != nil {
			return (*err).Error()
		}
	}
	if s.disk.full.Load() {
		return fmt.Sprintf("%v: %d bytes are free, %d are kept in reserve", ErrFull, s.disk.free.Load(), s.disk.reserve)
	}
	return ""
}

// Stats of the store.
func (s *Store) Stats() Stats {
	v := Stats{
		Groups: s.stats.groups.Load(), Transactions: s.stats.transactions.Load(), Syncs: s.stats.syncs.Load(),
		Refused: s.stats.refused.Load(), Reopened: s.stats.reopened.Load(), Pending: s.pending.Load(),
		FreeBytes: s.disk.free.Load(), Shared: int(s.shared.Load()),
	}
	s.current.RLock()
	defer s.current.RUnlock()
	if d := s.current.d.Load(); d != nil {
		v.DiskBytes = int64(d.Metrics().DiskSpaceUsage()) //nolint:gosec // a disk is smaller than 8 EiB
	}
	return v
}

// Close waits for all that was committed, and closes the store.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		<-s.ended
		return nil
	}
	s.closing = true
	s.mu.Unlock()
	s.poke()
	<-s.ended
	defer s.release()
	s.current.Lock()
	defer s.current.Unlock()
	d := s.current.d.Swap(nil)
	open := s.takeSnapshots()
	if d == nil {
		return s.faultError()
	}
	return s.closeDatabase(d, open)
}

// closeDatabase flushes and closes the database. It comes back also if the database does not.
func (s *Store) closeDatabase(d *database, open []*pebble.Snapshot) error {
	closed := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				closed <- fmt.Errorf("close: %v", r)
			}
		}()
		close(d.jobs)
		err := d.empty()
		for _, at := range open {
			err = errors.Join(err, at.Close())
		}
		closed <- errors.Join(err, d.Close())
	}()
	timer := time.NewTimer(closeBudget)
	defer timer.Stop()
	var err error
	select {
	case err = <-closed:
	case <-d.fs.parked:
		err = d.fs.why()
	case <-timer.C:
		err = errors.New("the database does not close")
	}
	if err != nil {
		d.fs.close()
		return fmt.Errorf("store: %w", err)
	}
	s.seal(d.fs, s.c.number, true)
	return s.seals.sync()
}

// numbers gives the highest ids that were ever given.
func (d *database) numbers() (session SessionID, body uint64, err error) {
	v, closer, err := d.Get([]byte{keyHighest})
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("numbers: %w", err)
	}
	defer func() { _ = closer.Close() }()
	if len(v) != idLen+idLen {
		return 0, 0, fmt.Errorf("numbers: %w: %w", errRecord, ErrDamaged)
	}
	return SessionID(binary.BigEndian.Uint64(v)), binary.BigEndian.Uint64(v[idLen:]), nil
}

// groupNumber gives the number of the last group commit; 0 if there was none.
func (d *database) groupNumber() (uint64, error) {
	v, closer, err := d.Get([]byte{keyGroup})
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("group number: %w", err)
	}
	defer func() { _ = closer.Close() }()
	if len(v) != idLen+idLen {
		return 0, fmt.Errorf("group number: %w: %w", errRecord, ErrDamaged)
	}
	return binary.BigEndian.Uint64(v), nil
}
