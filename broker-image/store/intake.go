// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

const (
	// incomingName is where an intake is put together, and readyName says that it is whole and to be taken.
	incomingName = "incoming"
	readyName    = "TAKE-IN"
	readyText    = "mqtt-broker intake 1\n"

	// intakeBatch is how much an intake hands to its database at once, and intakeTable how much that keeps in memory, twice.
	intakeBatch = 256 << 10
	intakeTable = 4 << 20
	// intakeAsk is how much may be written until it is asked again what the disk has free.
	intakeAsk = 4 << 20
)

// Intake puts together, beside a store, what is to take its place. Nothing of it counts before Adopt, and from then on all of
// it does: the next Open of the directory takes it in. So whenever the process ends, the directory holds the one or the other.
//
// The records are those of a [Snapshot], in its order. Numbers of group commits are those of another store and go.
type Intake struct {
	dir     string
	reserve int64
	shift   int64
	db      *pebble.DB
	batch   *pebble.Batch
	cache   *pebble.Cache
	damage  error
	before  []byte
	value   []byte
	asked   int64 // bytes since the disk was asked
	holding Holding
}

// NewIntake begins one beside the store in dir, which may be open or not. Shift is added to all moments, in milliseconds.
// There is one at a time.
func NewIntake(dir string, shift int64, o Options) (*Intake, error) {
	i := &Intake{dir: dir, reserve: o.ReserveBytes, shift: shift, cache: pebble.NewCache(1 << 20)}
	if i.reserve <= 0 {
		i.reserve = defaultReserve
	}
	if _, err := os.Stat(filepath.Join(dir, readyName)); err == nil {
		i.cache.Unref()
		return nil, errors.New("store: what was taken in before waits for the next start")
	}
	if err := i.open(); err != nil {
		i.Discard()
		return nil, err
	}
	return i, nil
}

func (i *Intake) open() error {
	if err := os.RemoveAll(i.place()); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if err := os.Mkdir(i.place(), 0o700); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if err := i.room(); err != nil {
		return err
	}
	// Without a log: what is not whole is of no use. So the fence has nothing to do.
	fs := newFence(vfs.Default, func() bool { return false })
	quiet := ears{
		log: slog.New(slog.DiscardHandler), trouble: func(error) {}, calm: func() {}, flush: func(error) {},
		damaged: func(err error) { i.damage = err },
	}
	o := databaseOptions(fs, i.cache, quiet, false)
	o.DisableWAL, o.MemTableSize, o.MemTableStopWritesThreshold = true, intakeTable, 2
	db, err := openPebble(filepath.Join(i.place(), innerName), fs, o)
	if err != nil {
		return err
	}
	i.db, i.batch = db, db.NewBatch()
	return nil
}

func (i *Intake) place() string { return filepath.Join(i.dir, incomingName) }

// room refuses to go on when the store that runs would get into need.
func (i *Intake) room() error {
	var st unix.Statfs_t
	if err := unix.Statfs(i.dir, &st); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < 2*i.reserve { //nolint:gosec // a disk is smaller than 8 EiB
		return fmt.Errorf("store: %w: %d bytes are free, and %d of them are left to what runs", ErrFull, free, 2*i.reserve)
	}
	i.asked = 0
	return nil
}

// Add adds a record. The error wraps [ErrDamaged] where it is none.
func (i *Intake) Add(key, value []byte) error {
	if len(i.before) > 0 && bytes.Compare(i.before, key) >= 0 {
		return fmt.Errorf("a record out of order: %w", ErrDamaged)
	}
	i.before = append(i.before[:0], key...)
	value, err := i.convert(key, value)
	if err != nil {
		return err
	}
	i.holding.count(key, value)
	if err := i.batch.Set(key, value, nil); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	i.asked += int64(len(key) + len(value))
	if i.asked >= intakeAsk {
		if err := i.room(); err != nil {
			return err
		}
	}
	if i.batch.Len() >= intakeBatch {
		return i.apply()
	}
	return nil
}

func (i *Intake) apply() error {
	if err := i.db.Apply(i.batch, pebble.NoSync); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	i.batch.Reset()
	return nil
}

// convert checks a record, and gives what stands here in its place.
func (i *Intake) convert(key, value []byte) ([]byte, error) {
	if len(key) == 0 {
		return nil, fmt.Errorf("no key: %w: %w", errRecord, ErrDamaged)
	}
	switch key[0] {
	case keyMeta:
		return value, nil
	case keyHighest:
		if len(key) != 1 || len(value) != 2*idLen {
			return nil, fmt.Errorf("numbers: %w: %w", errRecord, ErrDamaged)
		}
		return value, nil
	case keyBody, keyLarge, keyRetained:
		return i.message(value)
	case keySession:
		return i.session(key, value)
	default:
		return nil, fmt.Errorf("a record of kind %q: %w: %w", key[0], errRecord, ErrDamaged)
	}
}

// message moves the moments of a message.
func (i *Intake) message(value []byte) ([]byte, error) {
	var m Message
	if err := decodeMessage(value, &m); err != nil {
		return nil, err
	}
	if i.shift == 0 {
		return value, nil
	}
	m.Created += i.shift
	if m.ExpiresAt != 0 {
		m.ExpiresAt += i.shift
	}
	i.value = appendMessage(i.value[:0], &m)
	return i.value, nil
}

func (i *Intake) session(key, value []byte) ([]byte, error) {
	id, part, rest, err := splitSessionKey(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrDamaged)
	}
	switch part {
	case partSession:
		s := Session{ID: id}
		if err := decodeSession(value, &s); err != nil {
			return nil, err
		}
		s.Since += i.shift // a will has no moment before it is published
		i.value = appendSession(i.value[:0], &s)
		return i.value, nil
	case partSubscription:
		_, err := decodeOptions(value)
		return value, err
	case partInbound:
		if len(rest) == 2 {
			return value, nil
		}
	case partQueue:
		if len(rest) == seqLen {
			return i.entry(value)
		}
	}
	return nil, fmt.Errorf("part %q of session %d: %w: %w", part, id, errRecord, ErrDamaged)
}

// entry takes the group out of an entry of a queue, which readers would wait for.
func (i *Intake) entry(value []byte) ([]byte, error) {
	var e entry
	if err := decodeEntry(value, &e); err != nil {
		return nil, err
	}
	e.group = 0
	if e.kind != bodyInline {
		i.value = appendEntryHead(i.value[:0], &e)
		return i.value, nil
	}
	tail := e.inline
	if i.shift != 0 {
		moved, err := i.message(tail)
		if err != nil {
			return nil, err
		}
		tail = bytes.Clone(moved)
	}
	i.value = append(appendEntryHead(i.value[:0], &e), tail...)
	return i.value, nil
}

// Holding is what was added.
func (i *Intake) Holding() Holding { return i.holding }

// Finish brings all of it to the disk and reads it once as Open would, to know now what else would be known too late. No
// record may follow.
func (i *Intake) Finish() error {
	if err := i.apply(); err != nil {
		return err
	}
	if err := i.room(); err != nil {
		return err
	}
	if err := i.db.Flush(); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	d := &database{DB: i.db}
	if _, err := d.read(Visitor{}, false); err != nil {
		return err
	}
	db := i.db
	i.db = nil
	if err := errors.Join(i.batch.Close(), db.Close()); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	i.batch = nil
	if i.damage != nil {
		return i.damage
	}
	if err := errors.Join(syncDir(filepath.Join(i.place(), innerName)), syncDir(i.place()), syncDir(i.dir)); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// Adopt has the next Open take what was finished in the place of what the directory holds. It is on disk when it returns.
func (i *Intake) Adopt() error {
	if i.db != nil {
		return errors.New("store: the intake is not finished")
	}
	i.free()
	return writeSynced(filepath.Join(i.dir, readyName), readyText)
}

// Discard forgets an intake that was not adopted.
func (i *Intake) Discard() {
	if i.db != nil {
		if i.batch != nil {
			_ = i.batch.Close()
		}
		_ = i.db.Close()
		i.db = nil
	}
	i.free()
	_ = os.RemoveAll(i.place()) // the next Open would do it too
}

func (i *Intake) free() {
	if i.cache != nil {
		i.cache.Unref()
		i.cache = nil
	}
}

// takeIn takes the place of what the directory holds, if an intake was adopted, and removes one that was not. It may end at
// any moment, and is done again from where it was.
func (s *Store) takeIn() error {
	if s.o.look {
		return nil
	}
	incoming, ready := filepath.Join(s.dir, incomingName), filepath.Join(s.dir, readyName)
	text, err := os.ReadFile(ready)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := os.RemoveAll(incoming); err != nil {
			return fmt.Errorf("store: %w", err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("store: %w", err)
	case string(text) != readyText:
		return fmt.Errorf("%s says %q: %w: this release knows %q", ready, firstLine(text), ErrFormat, readyText[:len(readyText)-1])
	}
	// What is still there has not been moved yet.
	if _, err := os.Stat(filepath.Join(incoming, innerName)); err == nil {
		s.o.Log.Info("store: takes in what was restored")
		err = errors.Join(os.RemoveAll(s.inner()), removeIfThere(filepath.Join(s.dir, sealName)))
		if err == nil {
			err = os.Rename(filepath.Join(incoming, innerName), s.inner())
		}
		if err = errors.Join(err, syncDir(s.dir)); err != nil {
			return fmt.Errorf("store: %w", err)
		}
	}
	err = os.Remove(ready)
	if err == nil {
		err = errors.Join(syncDir(s.dir), os.RemoveAll(incoming))
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err //nolint:wrapcheck // the path is in it
	}
	return nil
}
