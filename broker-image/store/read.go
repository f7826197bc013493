// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// walk reads what lies from lower up to before upper. Key and value are only good until visit returns.
func (d *database) walk(lower, upper []byte, visit func(key, value []byte) error) (err error) {
	it, err := d.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if err := visit(it.Key(), v); err != nil {
			return err
		}
	}
	return nil // what went wrong on the way comes back from Close
}

// Read appends to into what session id has queued from seq on, in order: at most limit messages, and after the first no
// more than maxBytes of them. What is not yet as safe as its transaction asked for is not shown.
func (s *Store) Read(id SessionID, from uint64, limit, maxBytes int, into []Queued) ([]Queued, error) {
	s.current.RLock()
	defer s.current.RUnlock()
	d := s.current.d.Load()
	if d == nil {
		return into, s.faultError()
	}
	r := reader{d: d, id: id, visible: s.visible.Load(), limit: limit, bytes: maxBytes, out: into}
	err := d.walk(appendQueueKey(nil, id, from), sessionEnd(id), r.visit)
	if err != nil && !errors.Is(err, errEnough) {
		err = explain(s.dir, fmt.Errorf("queue of session %d: %w", id, err))
		if errors.Is(err, ErrDamaged) {
			s.damage.CompareAndSwap(nil, &err)
		}
		return into, err
	}
	return r.out, nil
}

var errEnough = errors.New("enough")

// reader gathers a part of a queue.
type reader struct {
	d            *database
	id           SessionID
	visible      uint64
	limit, bytes int
	some         bool
	out          []Queued
}

func (r *reader) visit(key, v []byte) error {
	var e entry
	if err := decodeEntry(v, &e); err != nil {
		return err
	}
	if e.group > r.visible || r.limit <= 0 || r.some && e.size > uint64(max(r.bytes, 0)) {
		return errEnough
	}
	q := Queued{
		Seq: binary.BigEndian.Uint64(key[len(key)-seqLen:]), QoS: e.qos, Retain: e.retain, Released: e.released,
	}
	var err error
	if q.Identifiers, err = decodeIdentifiers(e.identifiers); err != nil {
		return err
	}
	if !e.released {
		q.Message, err = r.message(q.Seq, &e)
		if errors.Is(err, ErrDamaged) {
			if changed, now := r.now(key, v); changed {
				return now
			}
		}
		if err != nil {
			return err
		}
	}
	r.out = append(r.out, q)
	r.some = true
	r.limit--
	r.bytes -= int(e.size) //nolint:gosec // checked above
	return nil
}

// now looks again at an entry whose message is not there any more, and reports whether it has changed. The walk sees the
// queue as it was when it began; what the client acknowledged just before may be taken out, message and all, while it
// walks.
func (r *reader) now(key, old []byte) (changed bool, err error) {
	v, closer, err := r.d.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return true, fmt.Errorf("look again: %w", err)
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	if bytes.Equal(v, old) {
		return false, nil
	}
	return true, r.visit(key, v)
}

// message reads the message of an entry into memory of its own.
func (r *reader) message(seq uint64, e *entry) (*Message, error) {
	m := new(Message)
	var key []byte
	switch e.kind {
	case bodyInline:
		return m, decodeMessage(bytes.Clone(e.inline), m)
	case bodyShared:
		key = appendBodyKey(nil, e.body)
	default:
		key = appendLargeKey(nil, r.id, seq)
	}
	v, closer, err := r.d.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, fmt.Errorf("message %d is gone: %w", seq, ErrDamaged)
	}
	if err != nil {
		return nil, fmt.Errorf("message %d: %w", seq, err)
	}
	defer func() { _ = closer.Close() }()
	if uint64(len(v)) != e.size {
		return nil, fmt.Errorf("message %d has %d bytes instead of %d: %w", seq, len(v), e.size, ErrDamaged)
	}
	return m, decodeMessage(bytes.Clone(v), m)
}

// Restore hands over all that is stored: meta, sessions, retained messages. It is called once, after Open and before
// the first Commit. An error means that not all was handed over.
func (s *Store) Restore(visit Visitor) error {
	s.current.RLock()
	defer s.current.RUnlock()
	d := s.current.d.Load()
	if d == nil {
		return s.faultError()
	}
	l, err := d.read(visit, s.crashed)
	if err != nil {
		return explain(s.dir, err)
	}
	s.shared.Store(int64(len(l.pointers)))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready, s.restored = l, true
	return nil
}

// read goes through everything but the messages that lie apart, and makes the ledger. With sweep it also removes what
// nothing points at.
func (d *database) read(visit Visitor, sweep bool) (*ledger, error) {
	l := newLedger()
	var err error
	if l.highest, l.next, err = d.numbers(); err != nil {
		return nil, err
	}
	if visit.Meta != nil {
		err = d.walk([]byte{keyMeta}, []byte{keyMeta + 1}, func(key, v []byte) error {
			return visit.Meta(string(key[1:]), bytes.Clone(v))
		})
		if err != nil {
			return nil, err
		}
	}
	g := gatherer{l: l, visit: visit.Session}
	if err := d.walk([]byte{keySession}, []byte{keySession + 1}, g.record); err != nil {
		return nil, err
	}
	if err := g.finish(); err != nil {
		return nil, err
	}
	if visit.Retained != nil {
		err = d.walk([]byte{keyRetained}, []byte{keyRetained + 1}, func(_, v []byte) error {
			m := new(Message)
			if err := decodeMessage(bytes.Clone(v), m); err != nil {
				return err
			}
			return visit.Retained(m)
		})
		if err != nil {
			return nil, err
		}
	}
	if sweep {
		err = d.sweep(l, g.orphans)
	}
	return l, err
}

// sweep removes what nothing points at. A transaction leaves nothing behind, so there is little to expect.
func (d *database) sweep(l *ledger, orphans []SessionID) error {
	batch := d.NewBatch()
	defer func() { _ = batch.Close() }()
	for _, id := range orphans {
		_ = batch.DeleteRange(appendSessionKey(nil, id, 0), sessionEnd(id), nil)
		_ = batch.DeleteRange(appendLargeKey(nil, id, 0), appendLargeKey(nil, id+1, 0), nil)
	}
	err := d.walk([]byte{keyBody}, []byte{keyBody + 1}, func(key, _ []byte) error {
		if len(key) != 1+idLen {
			return fmt.Errorf("body: %w: %w", errRecord, ErrDamaged)
		}
		if _, ok := l.pointers[binary.BigEndian.Uint64(key[1:])]; !ok {
			_ = batch.Delete(key, nil)
		}
		return nil
	})
	if err != nil || batch.Empty() {
		return err
	}
	if err := d.run(batch, false); err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	return nil
}

// gatherer puts the records of sessions together, which come in order.
type gatherer struct {
	l       *ledger
	visit   func(*Restored) error
	at      *Restored
	there   bool // the session itself was found, not only what belongs to it
	orphans []SessionID
}

func (g *gatherer) record(key, v []byte) error {
	id, part, rest, err := splitSessionKey(key)
	if err != nil {
		return fmt.Errorf("%w: %w", err, ErrDamaged)
	}
	if g.at == nil || g.at.Session.ID != id {
		if err := g.finish(); err != nil {
			return err
		}
		g.at, g.there = &Restored{}, false
		g.at.Session.ID = id
	}
	g.l.highest = max(g.l.highest, id)
	switch part {
	case partSession:
		g.there = true
		return decodeSession(bytes.Clone(v), &g.at.Session)
	case partSubscription:
		o, err := decodeOptions(v)
		g.at.Subscriptions = append(g.at.Subscriptions, Subscription{Filter: string(rest), SubscriptionOptions: o})
		return err
	case partInbound:
		if len(rest) != 2 {
			return fmt.Errorf("inbound id: %w: %w", errRecord, ErrDamaged)
		}
		g.at.Inbound = append(g.at.Inbound, binary.BigEndian.Uint16(rest))
		return nil
	case partQueue:
		return g.queued(rest, v)
	}
	return fmt.Errorf("part %q of session %d: %w: %w", part, id, errRecord, ErrDamaged)
}

func (g *gatherer) queued(rest, v []byte) error {
	if len(rest) != seqLen {
		return fmt.Errorf("queue: %w: %w", errRecord, ErrDamaged)
	}
	var e entry
	if err := decodeEntry(v, &e); err != nil {
		return err
	}
	seq := binary.BigEndian.Uint64(rest)
	q := &g.at.Queue
	if q.Count == 0 {
		q.First = seq
	}
	q.Count++
	q.Bytes += int64(e.size) //nolint:gosec // a message is smaller than 8 EiB
	q.Next = seq + 1
	if !g.there {
		return nil
	}
	if e.kind == bodyShared {
		g.l.pointers[e.body]++
		g.l.next = max(g.l.next, e.body)
	}
	if e.kind == bodyShared || e.kind == bodyLarge {
		g.l.note(g.at.Session.ID, seq, e.kind)
	}
	return nil
}

// finish hands over the session whose last record was seen.
func (g *gatherer) finish() error {
	at := g.at
	if at == nil {
		return nil
	}
	g.at = nil
	if !g.there {
		g.orphans = append(g.orphans, at.Session.ID)
		return nil
	}
	at.Queue.Next = max(at.Queue.Next, at.Session.NextSeq, 1)
	if g.visit == nil {
		return nil
	}
	return g.visit(at)
}
