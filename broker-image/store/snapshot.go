// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// Form is the number of the form of what a [Snapshot] gives and an [Intake] takes: that of the store itself.
const Form = 1

// ErrReopened says that the database that a snapshot was taken of was given up after a fault.
var ErrReopened = errors.New("the store had a fault meanwhile, and was opened anew")

// Holding says how much there is.
type Holding struct {
	Sessions, Subscriptions int64
	// Queued are entries of queues, Inbound packet ids of QoS 2.
	Queued, Inbound int64
	Wills, Retained int64
}

// Empty says that there is nothing that anybody would miss.
func (h Holding) Empty() bool { return h.Sessions == 0 && h.Retained == 0 }

// count counts a record in. It looks at no more than that takes.
func (h *Holding) count(key, value []byte) {
	switch {
	case key[0] == keyRetained:
		h.Retained++
	case key[0] != keySession || len(key) <= 1+idLen:
	case key[1+idLen] == partSubscription:
		h.Subscriptions++
	case key[1+idLen] == partInbound:
		h.Inbound++
	case key[1+idLen] == partQueue:
		h.Queued++
	case key[1+idLen] == partSession:
		h.Sessions++
		if len(value) > 0 && value[0]&sessionWill != 0 {
			h.Wills++
		}
	}
}

// Snapshot is all that the store held at one moment. While it is open the disk keeps what was removed since then.
type Snapshot struct {
	s       *Store
	d       *database
	at      *pebble.Snapshot
	from    []byte // the key to go on with
	holding Holding
}

// Snapshot takes one. What was committed before is in it; of a commit under way all or nothing is. It stops nobody.
func (s *Store) Snapshot() (*Snapshot, error) {
	d := s.database()
	if d == nil {
		return nil, s.faultError()
	}
	at, err := d.snapshot()
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	n := &Snapshot{s: s, d: d, at: at}
	s.current.Lock()
	defer s.current.Unlock()
	if s.current.d.Load() != d {
		go d.letGo(at)
		return nil, ErrReopened
	}
	s.current.snapshots = append(s.current.snapshots, n)
	return n, nil
}

// snapshot comes back also if pebble does not: somebody may stand still with its locks.
func (d *database) snapshot() (*pebble.Snapshot, error) {
	type answer struct {
		at  *pebble.Snapshot
		err error
	}
	taken := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if r := recover(); r != nil { // it has been closed
				a.err = ErrReopened
			}
			taken <- a
		}()
		a.at = d.NewSnapshot()
	}()
	select {
	case a := <-taken:
		return a.at, a.err
	case <-d.fs.parked:
		return nil, d.fs.why()
	}
}

// Next calls each with the records that follow, in the order of their keys, until they come to so many bytes: at least one.
// It is [io.EOF] when none is left. Each must not wait for anything, and what it is given is good until it returns.
func (n *Snapshot) Next(size int, each func(key, value []byte)) (err error) {
	n.s.current.RLock()
	defer n.s.current.RUnlock()
	switch {
	case n.at == nil:
		return ErrClosed
	case n.s.current.d.Load() != n.d:
		return ErrReopened
	case n.s.disk.full.Load():
		// What was removed since the begin takes room as long as this lasts.
		return fmt.Errorf("%w: it cannot be spared for a snapshot", ErrFull)
	}
	it, err := n.at.NewIter(&pebble.IterOptions{LowerBound: n.from})
	if err != nil {
		return fmt.Errorf("snapshot: %w", explain(n.s.dir, err))
	}
	defer func() {
		if shut := it.Close(); shut != nil {
			err = fmt.Errorf("snapshot: %w", explain(n.s.dir, errors.Join(err, shut)))
		}
	}()
	for ok := it.First(); ok; ok = it.Next() {
		key := it.Key()
		if size <= 0 {
			n.from = append(n.from[:0], key...)
			return nil
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("snapshot: %w", explain(n.s.dir, err))
		}
		if key[0] != keyGroup { // it counts what this store alone has written
			n.holding.count(key, value)
			each(key, value)
			size -= len(key) + len(value)
		}
	}
	n.from = append(n.from[:0], lastKey...)
	return io.EOF
}

// lastKey lies behind all others.
var lastKey = []byte{0xFF} //nolint:gochecknoglobals // a constant, if slices could be one

// Holding is what has been given so far.
func (n *Snapshot) Holding() Holding { return n.holding }

// Close lets go of it.
func (n *Snapshot) Close() {
	n.s.current.Lock()
	at := n.at
	n.at = nil
	mine := n.s.current.d.Load() == n.d
	n.s.current.snapshots = slices.DeleteFunc(n.s.current.snapshots, func(o *Snapshot) bool { return o == n })
	n.s.current.Unlock()
	if at == nil || !mine { // closed, or gone with its database
		return
	}
	n.d.letGo(at)
}

// letGo closes a snapshot, and comes back also if pebble does not.
func (d *database) letGo(at *pebble.Snapshot) {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		defer func() { _ = recover() }() // closed meanwhile
		_ = at.Close()
	}()
	select {
	case <-gone:
	case <-d.fs.parked:
	}
}

// takeSnapshots ends those that are open. current is held for writing.
func (s *Store) takeSnapshots() []*pebble.Snapshot {
	var open []*pebble.Snapshot
	for _, n := range s.current.snapshots {
		open = append(open, n.at)
		n.at = nil
	}
	s.current.snapshots = nil
	return open
}

// Holding counts what is stored now.
func (s *Store) Holding() (Holding, error) {
	n, err := s.Snapshot()
	if err != nil {
		return Holding{}, err
	}
	defer n.Close()
	for err == nil {
		err = n.Next(stepBytes, func(_, _ []byte) {})
	}
	if !errors.Is(err, io.EOF) {
		return Holding{}, err
	}
	return n.Holding(), nil
}

// stepBytes is how much is read while nobody can close the database.
const stepBytes = 1 << 20

// Look counts what is stored in a directory that nobody has open, and changes nothing about it that is not finished. One
// that holds no store holds nothing.
func Look(dir string, o Options) (Holding, error) {
	o.look = true
	s, err := Open(dir, o)
	if err != nil {
		return Holding{}, err
	}
	h, err := s.Holding()
	return h, errors.Join(err, s.Close())
}
