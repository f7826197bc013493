// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// retainedSize is what counts against the bound of retained messages.
func (m *message) retainedSize() int64 { return int64(len(m.topic) + len(m.payload)) }

// retainedRoom tells whether one more message may be retained.
func (e *Engine) retainedRoom(topic string, size int) bool {
	l := &e.state.Load().limits
	if size == 0 || reserved(topic) {
		return true
	}

	if e.retained.Len() < l.MaxRetainedMessages && e.retainedBytes.Load()+int64(len(topic)+size) <= l.MaxRetainedBytes {
		return true
	}

	// One that takes the place of another needs no more room than it.
	old, had := e.retained.Get(topic)

	return had && len(old.payload) >= size
}

// noteRetainedFull says that a message was delivered but not retained.
func (e *Engine) noteRetainedFull(p *publication) {
	e.audit.line("a message is not retained: there are as many as there may be", "topic", p.topic, "client", p.publisher)
}

// retain keeps the message for subscribers to come, before it is matched: see sendRetained. It tells whether the
// message has to be on disk before it is acknowledged.
func (e *Engine) retain(r *round, p *publication) (kept bool) {
	p.born = e.births.Add(1)
	stored := e.store != nil && (p.from != nil || !reserved(p.topic))

	var before retainedBefore

	if len(p.payload) == 0 { // [MQTT-3.3.1-6]
		old, had := e.retained.Delete(p.topic)
		if !had {
			return false
		}

		e.retainedBytes.Add(-old.retainedSize())

		before = retainedBefore{topic: old.topic, old: old}
	} else {
		before = e.setRetained(r, p)
	}

	if !stored {
		return false
	}

	if before.now == nil {
		r.write().DeleteRetained(before.topic)
	} else {
		r.write().PutRetained(storedMessage(before.now))
	}

	r.then().retains = append(r.then().retains, before)

	if p.qos > 0 {
		r.hard()
	}

	return p.qos > 0
}

// setRetained keeps the message in memory.
func (e *Engine) setRetained(r *round, p *publication) retainedBefore {
	m := p.keep()
	m.retain = true

	old, had := e.retained.Set(m.topic, m)
	if had {
		e.retainedBytes.Add(-old.retainedSize())
	}

	e.retainedBytes.Add(m.retainedSize())

	if m.expiresAt != 0 {
		e.expireRetained(r, m)
	}

	return retainedBefore{topic: m.topic, old: old, now: m}
}

// restoreRetained takes back what the disk has refused, unless another message has come since.
func (e *Engine) restoreRetained(b retainedBefore) {
	current, had := e.retained.Get(b.topic)
	if had != (b.now != nil) || current != b.now {
		return
	}

	if b.old == nil {
		e.retained.Delete(b.topic)
		e.retainedBytes.Add(-b.now.retainedSize())

		return
	}

	e.retained.Set(b.topic, b.old)
	e.retainedBytes.Add(b.old.retainedSize())

	if b.now != nil {
		e.retainedBytes.Add(-b.now.retainedSize())
	}
}

// sendRetained gives a new subscription the retained messages. The filter is in the index already. A message that was
// retained after this moment has been matched after it too, and comes by itself; so only those born before are taken.
func (s *session) sendRetained(r *round, c *conn, filter string, qos byte, id uint32) {
	if _, _, shared := acl.SplitShare(filter); shared {
		return
	}

	var ids []uint32
	if id != 0 {
		ids = []uint32{id}
	}

	born := s.e.births.Load()

	var due []retainedDue

	s.e.retained.Match(filter, func(_ string, m *message) bool {
		if m.born <= born {
			due = append(due, retainedDue{m: m, qos: min(qos, m.qos), ids: ids})
		}

		return true
	})

	if len(due) == 0 {
		return
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	if s.ended || s.conn.Load() != c {
		return
	}

	s.retained = append(s.retained, due...)
	s.pumpLocked(r)
}

// pumpRetained sends retained messages as the client takes them: however many there are, they wait as references. mu is
// held.
func (s *session) pumpRetained(r *round, c *conn) {
	for len(s.retained) > 0 {
		if c.crowded() {
			return
		}

		due := &s.retained[0]

		// One that was replaced meanwhile has been sent by itself already.
		if current, ok := s.e.retained.Get(due.m.topic); ok && current == due.m {
			if !s.sendRetainedNow(r, c, due) {
				return
			}
		}

		*due = retainedDue{}
		s.retained = s.retained[1:]
	}

	s.retained = nil
}

// sendRetainedNow is false if the window is full.
func (s *session) sendRetainedNow(r *round, c *conn, due *retainedDue) bool {
	m := due.m

	expiry, alive := m.expiry(r.nowMS)
	if !alive {
		return true
	}

	if due.qos == 0 {
		h := wire.PublishHeader{Retain: true, Identifiers: due.ids, Expiry: expiry, HasExpiry: m.expiresAt != 0} // [MQTT-3.3.1-8]

		c.mu.Lock()
		defer c.mu.Unlock()

		if !c.closing && !c.encode(r, m, nil, &h) {
			s.drop(r, metrics.TooLarge, m)
		}

		return true
	}

	if s.depth() >= max(c.receiveMaximum, 16) {
		return false // pumped again when an acknowledgement comes
	}

	p := r.publication()
	p.message, p.kept = *m, m
	g := grant{qos: due.qos, retain: true, ids: due.ids}

	switch {
	case s.stored:
		s.enqueueStored(r, c, p, g)
	case s.out.sent == s.out.len && s.out.inflight < c.receiveMaximum && s.out.roomForID():
		s.sendFirst(r, c, p, g)
	default:
		s.enqueue(r, p, g)
	}

	r.release(p)

	return true
}
