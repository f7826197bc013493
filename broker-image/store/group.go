// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// place is where a pointer lies.
type place struct {
	id  SessionID
	seq uint64
}

// apart counts the entries of one session whose message does not lie in the queue itself.
type apart struct {
	count  int
	lo, hi uint64 // the range of their sequence numbers
	large  bool
}

// ledger knows how many pointers each shared message has. It belongs to the committing goroutine, is made by reading
// all queues once, and is the only thing that grows with what lies on disk: by 24 to 32 bytes a shared message.
type ledger struct {
	pointers map[uint64]uint32
	sessions map[SessionID]*apart
	next     uint64 // the last body id given
	highest  SessionID
}

func newLedger() *ledger {
	return &ledger{pointers: make(map[uint64]uint32), sessions: make(map[SessionID]*apart)}
}

// note counts an entry whose message lies apart.
func (l *ledger) note(id SessionID, seq uint64, kind byte) {
	a := l.sessions[id]
	if a == nil {
		a = &apart{lo: seq}
		l.sessions[id] = a
	}
	a.count++
	a.lo, a.hi = min(a.lo, seq), max(a.hi, seq)
	a.large = a.large || kind == bodyLarge
}

// forget takes an entry back.
func (l *ledger) forget(id SessionID) {
	if a := l.sessions[id]; a != nil {
		a.count--
		if a.count == 0 {
			delete(l.sessions, id)
		}
	}
}

// fresh is an entry that was put into the group that is being built, and cannot be read from the database yet.
type fresh struct {
	place

	kind byte
	body uint64
}

// group is what one commit to the database holds.
type group struct {
	number  uint64
	batch   *pebble.Batch
	waiting []waiting
	bytes   int64
	sync    bool
	applied bool

	freshes []fresh
	index   map[place]int // of freshes; made when first needed
	gone    map[place]struct{}
	raised  bool // the highest session or body id has changed
	scratch []byte
}

func (g *group) reset() {
	clear(g.waiting)
	clear(g.index)
	clear(g.gone)
	*g = group{
		batch: g.batch, waiting: g.waiting[:0], freshes: g.freshes[:0], index: g.index, gone: g.gone, scratch: g.scratch[:0],
	}
}

// open begins the batch with the number of the group and that of the last one known to be synced. It stands first, so
// that it can be found in a log that does not read any more.
func (g *group) open(d *database, number, synced uint64) {
	g.number = number
	if g.batch == nil {
		g.batch = d.NewBatch()
	} else {
		g.batch.Reset()
	}
	g.scratch = binary.BigEndian.AppendUint64(g.scratch[:0], number)
	g.scratch = binary.BigEndian.AppendUint64(g.scratch, synced)
	_ = g.batch.Set([]byte{keyGroup}, g.scratch, nil)
}

// shut ends the batch.
func (g *group) shut(l *ledger) {
	if !g.raised {
		return
	}
	g.scratch = binary.BigEndian.AppendUint64(g.scratch[:0], uint64(l.highest))
	g.scratch = binary.BigEndian.AppendUint64(g.scratch, l.next)
	_ = g.batch.Set([]byte{keyHighest}, g.scratch, nil)
}

// builder turns transactions into a batch.
type builder struct {
	*group

	l  *ledger
	db *database
}

// add encodes a transaction. After an error the group is of no use, nor is the ledger.
func (b *builder) add(tx *Tx) error {
	if tx.highest > b.l.highest {
		b.l.highest = tx.highest
		b.raised = true
	}
	for i := range tx.ops {
		if err := b.op(tx, &tx.ops[i]); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) op(tx *Tx, o *op) error {
	switch o.kind {
	case opSet:
		middle := o.at + o.key
		return b.batch.Set(tx.buf[o.at:middle], tx.buf[middle:middle+o.value], nil)
	case opDelete:
		return b.batch.Delete(tx.buf[o.at:o.at+o.key], nil)
	case opEnqueue:
		return b.enqueue(tx, o)
	case opDequeue:
		if err := b.drop(o.id, o.seq); err != nil {
			return err
		}
		b.scratch = appendQueueKey(b.scratch[:0], o.id, o.seq)
		return b.batch.Delete(b.scratch, nil)
	case opRelease:
		if err := b.drop(o.id, o.seq); err != nil {
			return err
		}
		b.scratch = appendQueueKey(b.scratch[:0], o.id, o.seq)
		key := len(b.scratch)
		b.scratch = appendEntryHead(b.scratch, &entry{qos: 2, released: true, kind: bodyNone})
		return b.batch.Set(b.scratch[:key], b.scratch[key:], nil)
	case opDropQueue:
		return b.dropRange(o.id, partQueue)
	case opDeleteSession:
		return b.dropRange(o.id, partSession)
	}
	return fmt.Errorf("change of kind %d", o.kind)
}

func (b *builder) enqueue(tx *Tx, o *op) error {
	m := &tx.bodies[o.ref]
	bytes := tx.buf[m.at : m.at+m.size]
	e := entry{
		qos: o.qos, retain: o.retain, group: b.number, identifiers: tx.buf[o.at : o.at+o.key], size: uint64(m.size), //nolint:gosec // a length
	}
	var tail []byte
	switch {
	case m.pointers > 1:
		if m.id == 0 {
			if err := b.share(m, bytes); err != nil {
				return err
			}
		}
		e.kind, e.body = bodyShared, m.id
	case m.size > inlineMax:
		e.kind = bodyLarge
		b.scratch = appendLargeKey(b.scratch[:0], o.id, o.seq)
		if err := b.batch.Set(b.scratch, bytes, nil); err != nil {
			return fmt.Errorf("set: %w", err)
		}
	default:
		e.kind, tail = bodyInline, bytes
	}
	if e.kind != bodyInline {
		b.l.note(o.id, o.seq, e.kind)
		b.remember(fresh{place: place{o.id, o.seq}, kind: e.kind, body: e.body})
	}
	b.scratch = appendEntryHead(b.scratch[:0], &e)
	var key [1 + idLen + 1 + seqLen]byte
	appendQueueKey(key[:0], o.id, o.seq)
	d := b.batch.SetDeferred(len(key), len(b.scratch)+len(tail))
	copy(d.Key, key[:])
	copy(d.Value[copy(d.Value, b.scratch):], tail)
	return d.Finish()
}

// share stores a message for several sessions.
func (b *builder) share(m *body, bytes []byte) error {
	b.l.next++
	b.raised = true
	m.id = b.l.next
	b.l.pointers[m.id] = m.pointers
	b.scratch = appendBodyKey(b.scratch[:0], m.id)
	return b.batch.Set(b.scratch, bytes, nil)
}

func (b *builder) remember(f fresh) {
	b.freshes = append(b.freshes, f)
	if len(b.index) > 0 {
		b.index[f.place] = len(b.freshes) - 1
	}
}

// find looks for an entry of the group that is being built.
func (b *builder) find(p place) (int, bool) {
	if len(b.index) == 0 && len(b.freshes) > 0 {
		if b.index == nil {
			b.index = make(map[place]int, len(b.freshes))
		}
		for i, f := range b.freshes {
			b.index[f.place] = i
		}
	}
	i, ok := b.index[p]
	return i, ok
}

// drop gives up what an entry points at, before the entry itself goes.
func (b *builder) drop(id SessionID, seq uint64) error {
	a := b.l.sessions[id]
	if a == nil || seq < a.lo || seq > a.hi {
		return nil // the message lies in the entry
	}
	p := place{id, seq}
	if _, ok := b.gone[p]; ok {
		return nil
	}
	kind, shared, err := b.look(p)
	if err != nil || kind == bodyInline || kind == bodyNone {
		return err
	}
	if b.gone == nil {
		b.gone = make(map[place]struct{})
	}
	b.gone[p] = struct{}{}
	b.l.forget(id)
	return b.release(p, kind, shared)
}

// look finds out how the message of an entry is stored; bodyNone if there is no such entry.
func (b *builder) look(p place) (kind byte, shared uint64, err error) {
	if i, ok := b.find(p); ok {
		return b.freshes[i].kind, b.freshes[i].body, nil
	}
	b.scratch = appendQueueKey(b.scratch[:0], p.id, p.seq)
	v, closer, err := b.db.Get(b.scratch)
	if errors.Is(err, pebble.ErrNotFound) {
		return bodyNone, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("queue of session %d: %w", p.id, err)
	}
	var e entry
	err = decodeEntry(v, &e)
	kind, shared = e.kind, e.body
	_ = closer.Close()
	return kind, shared, err
}

// release removes a message, if no other entry points at it.
func (b *builder) release(p place, kind byte, shared uint64) error {
	if kind == bodyLarge {
		b.scratch = appendLargeKey(b.scratch[:0], p.id, p.seq)
		return b.batch.Delete(b.scratch, nil)
	}
	n := b.l.pointers[shared]
	if n > 1 {
		b.l.pointers[shared] = n - 1
		return nil
	}
	delete(b.l.pointers, shared)
	b.scratch = appendBodyKey(b.scratch[:0], shared)
	return b.batch.Delete(b.scratch, nil)
}

// dropRange removes all of a session from a part on: its queue, or everything.
func (b *builder) dropRange(id SessionID, from byte) error {
	if a := b.l.sessions[id]; a != nil {
		if err := b.dropApart(id, a); err != nil {
			return err
		}
	}
	begin := appendSessionKey(nil, id, from)
	end := sessionEnd(id)
	return b.batch.DeleteRange(begin, end, nil)
}

// dropApart gives up all messages of a session that lie apart. It reads the queue, but no message.
func (b *builder) dropApart(id SessionID, a *apart) error {
	for i := range b.freshes {
		f := &b.freshes[i]
		if _, gone := b.gone[f.place]; f.id != id || gone || f.kind == bodyNone {
			continue
		}
		if err := b.release(f.place, f.kind, f.body); err != nil {
			return err
		}
		f.kind = bodyNone
	}
	err := b.db.walk(appendQueueKey(nil, id, a.lo), sessionEnd(id), func(key, v []byte) error {
		p := place{id, binary.BigEndian.Uint64(key[len(key)-seqLen:])}
		if _, gone := b.gone[p]; gone {
			return nil
		}
		var e entry
		if err := decodeEntry(v, &e); err != nil {
			return err
		}
		if e.kind != bodyShared {
			return nil // large ones go with their range
		}
		return b.release(p, e.kind, e.body)
	})
	if err != nil {
		return err
	}
	delete(b.l.sessions, id)
	if !a.large {
		return nil
	}
	return b.batch.DeleteRange(appendLargeKey(nil, id, 0), appendLargeKey(nil, id+1, 0), nil)
}
