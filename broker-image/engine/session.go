// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/store"
	"github.com/mqtt-operator/mqtt-operator/broker-image/topics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

const (
	forever = 0xFFFFFFFF
	// pageMessages and pageBytes are how much of a queue on disk is read at once.
	pageMessages = 256
	pageBytes    = 256 << 10
	// keptMessages and keptBytes are how much of the queue of a connected persistent session stays in memory beside the
	// disk.
	keptMessages = 1024
	keptBytes    = 1 << 20
)

// session is what outlives a connection: subscriptions, and messages of QoS 1 and 2 both ways.
type session struct {
	e        *Engine
	id       store.SessionID
	clientID string
	username string
	// commonName is that of the certificate which the client came with last; guarded by mu.
	commonName string
	listener   string
	stored     bool // messages and subscriptions are on disk

	// conn is the connection that has the session now; nil while it is offline. It changes under mu.
	conn atomic.Pointer[conn]

	mu     sync.Mutex
	expiry uint32 // seconds
	ended  bool
	// rules are those that every one of subs was judged by, with subject; nil if that is not known.
	rules *acl.Policy
	// maxQueued is the bound of the user's quota; 0 if it has none.
	maxQueued int
	// suspended: its user is gone; nothing is delivered until it comes back.
	suspended  bool
	willStored bool
	subs       []subscription
	unsure     map[string]*unsure // by filter: subscriptions with a change on its way to the disk
	out        outbox
	unsafe     seqSet // on their way to the disk
	messages   int    // that wait to be sent, in memory or on disk; a PUBREL that is owed is one of no bytes
	bytes      int64  // of messages
	offline    int    // how many messages of out lie on disk only
	kept       int64  // bytes of messages of out that are in memory
	received   packetSet
	// undone counts how often the disk refused a change of received.
	undone   uint32
	retained []retainedDue
	will     *will
	// claims are the rules that the last token brought along; nil: none.
	claims *claims
	dueAt  int64 // when will or session is due while offline, Unix milliseconds; 0: never
	away   int64 // since when it is offline, Unix milliseconds
	// sentBefore: messages before this sequence number were sent by this process.
	sentBefore uint64
	// mayHaveSeen: messages before this sequence number that came before seenUntil may have been sent by an earlier
	// process.
	mayHaveSeen uint64
	seenUntil   int64
	timer       timer
}

type subscription struct {
	topics.Options

	filter string
}

// retainedDue is a retained message that a new subscription is owed.
type retainedDue struct {
	m   *message
	qos byte
	ids []uint32
}

func (s *session) find(filter string) int {
	for i := range s.subs {
		if s.subs[i].filter == filter {
			return i
		}
	}

	return -1
}

// depth is a quick upper bound of how many messages wait.
func (s *session) depth() int { return s.offline + s.out.len }

// takeover takes the session from its connection, if it has one, and settles its will. The shard's lock is held. The
// answer is a will that must be published now.
func (s *session) takeover(r *round, old *conn, resumed bool) (due *will) {
	if old != nil {
		old.disconnect(r, wire.SessionTakenOver, "another connection has come with this client id", metrics.TakenOver) // [MQTT-3.1.4-3]
	}

	s.e.wheel.stop(&s.timer)

	s.mu.Lock()
	defer s.mu.Unlock()

	if old != nil {
		s.conn.Store(nil)
		s.park()
	}

	w := s.will
	s.will, s.dueAt = nil, 0

	if w == nil {
		return nil
	}

	// A session that goes on within the delay keeps its will back [MQTT-3.1.3-9].
	if resumed && w.delay > 0 {
		return nil
	}

	return w
}

// attach gives the session to a connection: CONNACK first, then what the session owes. The shard's lock is held.
func (s *session) attach(r *round, c *conn, now *state, w *will, expiry uint32, resumed bool, assigned string) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.expiry, s.will, s.listener, s.commonName, s.claims = expiry, w, c.door.Name, c.subject.CommonName, c.who.claims()
	s.maxQueued = now.queuedMessages(s.username)
	s.dueAt = 0

	// The rules may have changed while nobody was here.
	if resumed {
		s.narrow(r, c.subject, c.policy.Load())
	} else {
		s.rules = c.policy.Load()
	}

	c.phase = established
	c.asked = c.connect.SessionExpiry
	ack := c.connack(now, assigned, expiry)
	ack.SessionPresent = resumed // [MQTT-3.2.2-2] [MQTT-3.2.2-3]

	c.mu.Lock()

	if c.closing {
		c.mu.Unlock()
		s.conn.Store(c) // its owner is about to detach it

		return
	}

	c.put(r, func(b []byte) []byte { return wire.AppendConnack(b, c.version, ack) })
	c.mu.Unlock()

	r.count.Sent.Packets(wire.TypeConnack, 1)
	s.conn.Store(c)
	c.prompt = true
	c.connect = nil
	c.startKeepAlive()

	if s.stored || w != nil && s.e.store != nil && !c.who.probe {
		s.save(r, true, r.nowMS)
		r.settle()
	}

	s.resend()
	s.pumpLocked(r)
}

// save writes the session's own record. mu is held.
func (s *session) save(r *round, connected bool, since int64) {
	record := &store.Session{
		ID: s.id, ClientID: s.clientID, Username: s.username, CommonName: s.commonName, Listener: s.listener, Expiry: s.expiry,
		Connected: connected, Since: since, NextSeq: s.out.next,
	}

	if c := s.conn.Load(); c != nil {
		record.Version = byte(c.version)
	}

	if s.will != nil {
		record.Will = &store.Will{Message: *storedMessage(s.will.message), DueDelay: s.will.delay}

		// A will has no time at which it expires before it is published: the interval stands there, and one more, so
		// that 0 goes on saying that there is none.
		if s.will.expires {
			record.Will.Message.ExpiresAt = int64(s.will.interval) + 1
		}

		s.willStored = true
	}

	r.write().PutSession(record)
}

// detach takes the session from a connection that is no more. It is called by the connection's owner.
func (s *session) detach(r *round, c *conn) {
	e := s.e
	sh := e.sessions.shard(s.clientID)

	sh.mu.Lock()
	s.mu.Lock()

	if s.conn.Load() != c {
		s.mu.Unlock()
		sh.mu.Unlock()

		return // taken over
	}

	s.conn.Store(nil)
	s.away = r.nowMS
	s.park()

	w := s.will
	if c.orderly {
		w = nil // [MQTT-3.14.4-3]
	}

	s.will = w

	var due *will
	if w != nil && (w.delay == 0 || s.expiry == 0) {
		due, s.will = w, nil
	}

	over := s.expiry == 0
	if !over {
		s.schedule(r.nowMS)

		if s.stored {
			s.save(r, false, r.nowMS)
		}
	}

	s.mu.Unlock()

	if over {
		e.discard(r, s)
	}

	// With its will, which must not be lost between the two.
	if due != nil {
		e.publishWill(r, due)
	}

	r.settle()
	sh.mu.Unlock()
}

// schedule sets the timer to what is due first while nobody is connected: the will or the end of the session. mu is
// held.
func (s *session) schedule(now int64) {
	s.dueAt = 0
	if s.expiry != forever {
		s.dueAt = s.away + int64(s.expiry)*1000
	}

	if s.will != nil {
		if due := s.away + int64(s.will.delay)*1000; s.dueAt == 0 || due < s.dueAt { // [MQTT-3.1.2-8]
			s.dueAt = due
		}
	}

	if s.dueAt != 0 {
		s.e.wheel.set(&s.timer, time.Duration(max(0, s.dueAt-now))*time.Millisecond)
	}
}

// alarm looks at what has become due. It runs on the wheel's goroutine.
func (s *session) alarm(r *round) {
	if due := s.overdue(r); due != nil {
		s.e.publishWill(r, due)
	}
}

// overdue ends the session if its time is over, and gives the will that is due.
func (s *session) overdue(r *round) *will {
	sh := s.e.sessions.shard(s.clientID)

	sh.mu.Lock()
	defer sh.mu.Unlock()

	due, over := s.lookWhatIsDue(r)

	if over {
		s.e.discard(r, s)
		r.count.SessionsExpired.Add(1)
	}

	return due
}

func (s *session) lookWhatIsDue(r *round) (due *will, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.conn.Load() != nil || s.ended || s.dueAt == 0 {
		return nil, false
	}

	over = s.expiry != forever && r.nowMS >= s.away+int64(s.expiry)*1000

	if s.will != nil && (over || r.nowMS >= s.away+int64(s.will.delay)*1000) {
		due, s.will = s.will, nil

		if !over && s.stored {
			s.save(r, false, s.away)
		}
	}

	if !over {
		s.schedule(r.nowMS)
	}

	return due, over
}

// park lets go of what a session without a connection need not have in memory. mu is held.
func (s *session) park() {
	s.retained = nil

	if !s.stored {
		return
	}

	for i := s.out.sent; i < s.out.len; i++ {
		if !s.out.at(i).done {
			s.offline++
		}
	}

	s.out.forget()
	s.kept = 0
}

// room tells whether one more message may wait, and why not. mu is held.
func (s *session) room(size int) (metrics.Reason, bool) {
	l := &s.e.state.Load().limits

	switch {
	case s.depth() >= l.MaxQueuedMessages, s.maxQueued > 0 && s.depth() >= s.maxQueued:
		return metrics.QueueMessages, false
	case s.bytes+int64(size) > l.MaxQueuedBytes && s.depth() > 0:
		return metrics.QueueBytes, false
	}

	return 0, true
}

// deliver hands a message to the session. It is false if the session has no use for it: another member of a shared
// subscription may.
func (s *session) deliver(r *round, p *publication, g grant) bool {
	if g.qos == 0 {
		return s.deliverNow(r, p, g)
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	c := s.conn.Load()
	if s.ended || s.suspended || c == nil && s.expiry == 0 {
		return false
	}

	if s.stored {
		return s.enqueueStored(r, c, p, g)
	}

	if c != nil && s.out.sent == s.out.len && s.out.inflight < c.receiveMaximum && s.out.roomForID() && !c.crowded() {
		s.sendFirst(r, c, p, g)

		return true
	}

	return s.enqueue(r, p, g)
}

// deliverNow sends a message of QoS 0 if there is a connection that takes it.
func (s *session) deliverNow(r *round, p *publication, g grant) bool {
	c := s.conn.Load()
	if c == nil {
		return false
	}

	expiry, alive := p.expiry(r.nowMS)
	if !alive {
		s.drop(r, metrics.Expired, &p.message)

		return true
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	if c.closing {
		return false
	}

	if pending := c.pending(); pending > 0 && pending+len(p.payload) > fullOutput {
		if g.others() {
			return false
		}

		s.drop(r, metrics.SlowClient, &p.message)

		return true
	}

	h := wire.PublishHeader{Retain: g.retain, Identifiers: g.ids, Expiry: expiry, HasExpiry: p.expiresAt != 0}
	if !c.encode(r, &p.message, p, &h) {
		s.drop(r, metrics.TooLarge, &p.message)
	}

	return true
}

// crowded tells whether messages should wait in the session rather than in the connection's output.
func (c *conn) crowded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.closing {
		return true
	}

	if c.pending() < calmOutput {
		return false
	}

	c.hungry = true

	return true
}

// sendFirst sends a message that need not wait: from the read buffer to the output, without a copy of its own. mu is
// held.
func (s *session) sendFirst(r *round, c *conn, p *publication, g grant) {
	e := entry{ids: g.ids, group: g.group, qos: g.qos, retain: g.retain, size: p.size()}

	expiry, alive := p.expiry(r.nowMS)
	if !alive {
		s.drop(r, metrics.Expired, &p.message)

		return
	}

	h := wire.PublishHeader{
		QoS: g.qos, Retain: g.retain, PacketID: packetID(s.out.next), Identifiers: g.ids,
		Expiry: expiry, HasExpiry: p.expiresAt != 0,
	}

	c.mu.Lock()
	ok := c.encode(r, &p.message, p, &h)
	c.mu.Unlock()

	if !ok {
		s.drop(r, metrics.TooLarge, &p.message) // [MQTT-3.1.2-25]

		return
	}

	if s.keeps(g.group) {
		e.m = p.keep()
	} else {
		e.ids = nil
	}

	s.out.push(e)
	s.out.next++
	s.out.sent++
	s.out.inflight++
}

// keeps tells whether a message that was sent must be kept in memory until it is acknowledged: it may have to be sent
// again, and lies nowhere else.
func (s *session) keeps(group *topics.Shared[*session]) bool {
	return !s.stored && (s.expiry > 0 || group != nil)
}

// enqueue lets a message wait in memory. mu is held.
func (s *session) enqueue(r *round, p *publication, g grant) bool {
	if why, ok := s.room(p.size()); !ok {
		if g.others() {
			return false
		}

		s.drop(r, why, &p.message)
		s.e.noteFull(s, why)

		return true
	}

	s.out.push(entry{m: p.keep(), ids: g.ids, group: g.group, qos: g.qos, retain: g.retain, size: p.size()})
	s.out.next++
	s.grow(p.size())
	s.queued(p, &g)

	return true
}

// grow and lessen count what waits. mu is held.
func (s *session) grow(size int) {
	s.messages++
	s.bytes += int64(size)
	s.e.queuedMessages.Add(1)
	s.e.queuedBytes.Add(int64(size))
}

func (s *session) lessen(size int) {
	s.messages--
	s.bytes -= int64(size)
	s.e.queuedMessages.Add(-1)
	s.e.queuedBytes.Add(-int64(size))
}

// enqueueStored puts a message into the queue on disk. It is sent when it is there. mu is held.
func (s *session) enqueueStored(r *round, c *conn, p *publication, g grant) bool {
	if why, ok := s.room(p.size()); !ok {
		if g.others() {
			return false
		}

		s.drop(r, why, &p.message)
		s.e.noteFull(s, why)

		return true
	}

	tx := r.write()
	if !p.stored {
		p.ref, p.stored = tx.PutMessage(storedMessage(&p.message)), true
	}

	seq := s.out.next
	kept := s.out.spilled() == 0
	s.out.next++
	tx.Enqueue(s.id, seq, p.ref, g.qos, g.retain, g.ids)

	after := r.then()
	after.hard = true
	after.queued = append(after.queued, waitingEntry{s: s, seq: seq, size: p.size()})
	s.unsafe.add(seq)
	s.grow(p.size())
	s.queued(p, &g)

	// What is on its way to a client that keeps up stays in memory too.
	if c != nil && kept && s.out.len-s.out.sent < keptMessages && s.kept < keptBytes {
		s.out.push(entry{m: p.keep(), ids: g.ids, group: g.group, qos: g.qos, retain: g.retain, size: p.size()})
		s.kept += int64(p.size())
	} else {
		s.offline++
	}

	return true
}

// committed is told that a message is on disk, or cannot be. It runs on the store's goroutine.
func (s *session) committed(r *round, q waitingEntry, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if q.mark {
		s.marked(r, q.seq, err)

		return
	}

	s.unsafe.remove(q.seq)

	if s.ended {
		if err == nil {
			r.write().Dequeue(s.id, q.seq) // the session was deleted before its message came to the disk
		}

		return
	}

	if err != nil {
		r.count.Drop(metrics.StorageFault, 1, q.size)

		if t := s.e.tracer.Load(); t != nil {
			t.dropped(s, metrics.StorageFault, nil, 1)
		}

		s.lessen(q.size)

		if i := q.seq - s.out.first; q.seq >= s.out.first && i < uint64(s.out.len) { //nolint:gosec // not negative
			e := s.out.at(int(i)) //nolint:gosec // bounded
			s.kept -= int64(q.size)
			e.done, e.m = true, nil
			s.out.trim()
		} else {
			s.offline--
		}
	}

	s.pumpLocked(r)
}

// pump sends what the client takes at the moment.
func (s *session) pump(r *round) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.pumpLocked(r)
}

func (s *session) pumpLocked(r *round) {
	c := s.conn.Load()
	if c == nil || s.ended || s.suspended {
		return
	}

	limit := s.out.next
	if s.stored {
		limit = s.unsafe.safe(s.out.next) + 1
	}

	for s.out.inflight < c.receiveMaximum && s.out.roomForID() {
		if c.crowded() {
			return
		}

		seq := s.out.first + uint64(s.out.sent) //nolint:gosec // not negative
		if seq >= limit {
			break
		}

		if s.out.sent == s.out.len && !s.page(r, c, limit) {
			break
		}

		if !s.sendNext(r, c) {
			return
		}
	}

	s.pumpRetained(r, c)
}

// page reads the next part of the queue from disk. mu is held.
func (s *session) page(r *round, c *conn, limit uint64) bool {
	from := s.out.first + uint64(s.out.len) //nolint:gosec // not negative
	if from >= limit {
		return false
	}

	found, ok := s.readQueue(r, c, from)
	if !ok {
		return false
	}

	at := from

	for i := range found {
		q := &found[i]
		if q.Seq >= limit {
			break
		}

		if s.out.len == 0 {
			s.out.first, at = q.Seq, q.Seq
		}

		for ; at < q.Seq; at++ {
			s.out.push(entry{done: true})
		}

		e := entry{qos: q.QoS, retain: q.Retain, ids: q.Identifiers, released: q.Released}
		if q.Message != nil {
			e.m = restoredMessage(q.Message)
			e.size = e.m.size()
			s.kept += int64(e.size)
		}

		s.out.push(e)
		at++
		s.offline = max(0, s.offline-1)
	}

	clear(found)

	if len(found) == 0 {
		// Nothing there: what had these numbers was dropped.
		if s.out.len == 0 {
			s.out.first = limit
		} else {
			for ; at < limit; at++ {
				s.out.push(entry{done: true})
			}
		}
	}

	if s.out.spilled() == 0 {
		s.recount()
	}

	return s.out.sent < s.out.len
}

// readQueue reads a part of the queue from disk, or parts with the client. mu is held.
func (s *session) readQueue(r *round, c *conn, from uint64) ([]store.Queued, bool) {
	found, err := s.e.store.Read(s.id, from, pageMessages, pageBytes, r.pages[:0])
	if err != nil {
		s.e.log.Error("a queue cannot be read from disk; its client is disconnected", "client", s.clientID, "error", err)
		s.e.storageFailed(err)
		c.disconnect(r, wire.UnspecifiedError, "the queue cannot be read", metrics.ServerError)

		return nil, false
	}

	r.pages = found[:0]

	return found, true
}

// recount counts again what waits when all of it is in memory: on disk messages have other sizes than here. mu is held.
func (s *session) recount() {
	n, bytes := 0, int64(0)

	for i := s.out.sent; i < s.out.len; i++ {
		if e := s.out.at(i); !e.done {
			n++
			bytes += int64(e.size)
		}
	}

	s.e.queuedMessages.Add(int64(n - s.messages))
	s.e.queuedBytes.Add(bytes - s.bytes)
	s.messages, s.bytes, s.offline = n, bytes, 0
}

// sendNext sends the first entry that has not been sent, or passes over it. It is false when that has to wait. mu is
// held.
func (s *session) sendNext(r *round, c *conn) bool {
	e := s.out.at(s.out.sent)
	seq := s.out.first + uint64(s.out.sent) //nolint:gosec // not negative

	switch {
	case e.done:
		s.out.sent++
		s.out.trim()

		return true
	case e.confirming && !e.released:
		return false // sent again when it is known what is on disk
	case e.released:
		s.out.sent++
		s.out.inflight++
		s.lessen(e.size)
		c.sendRelease(r, packetID(seq))

		return true
	case e.m == nil:
		return s.reload(r, c, e, seq)
	}

	m := e.m
	dup := seq < s.sentBefore || seq < s.mayHaveSeen && m.created <= s.seenUntil
	why, ok := s.sendEntry(r, c, e, m, packetID(seq), dup)

	s.out.sent++
	s.out.inflight++

	if s.stored {
		s.kept -= int64(e.size)
	}

	s.lessen(e.size)

	if !ok {
		s.drop(r, why, m)

		if s.stored {
			r.write().Dequeue(s.id, seq)
		}

		s.out.finish(e)

		return true
	}

	if !s.keeps(e.group) {
		e.m, e.ids = nil, nil
	}

	return true
}

// reload reads messages again that were sent and are to be sent once more. mu is held.
func (s *session) reload(r *round, c *conn, first *entry, seq uint64) bool {
	var found []store.Queued

	if s.stored {
		var ok bool
		if found, ok = s.readQueue(r, c, seq); !ok {
			return false
		}
	}

	for i := range found {
		q := &found[i]

		at := q.Seq - s.out.first
		if at >= uint64(s.out.len) { //nolint:gosec // not negative
			break
		}

		e := s.out.at(int(at)) //nolint:gosec // bounded
		if e.done || e.released || e.m != nil {
			continue
		}

		if q.Released {
			e.released = true

			continue
		}

		e.m, e.ids = restoredMessage(q.Message), q.Identifiers
		s.kept += int64(e.size)
	}

	clear(found)

	if first.m == nil && !first.released { // there is nothing to send it from
		s.lessen(first.size)
		first.done = true
	}

	return true
}

// sendEntry writes one message to the connection.
func (s *session) sendEntry(r *round, c *conn, e *entry, m *message, id uint16, dup bool) (metrics.Reason, bool) {
	expiry, alive := m.expiry(r.nowMS)
	if !alive && !dup { // one that was sent before stays owed [MQTT-3.3.2-5]
		return metrics.Expired, false
	}

	// Rules may have changed since the message was queued.
	if !c.policy.Load().Deliver(c.subject, m.topic).Allowed && !reserved(m.topic) {
		return metrics.NotAuthorized, false
	}

	h := wire.PublishHeader{
		Dup: dup, QoS: e.qos, Retain: e.retain, PacketID: id, Identifiers: e.ids, Expiry: expiry, HasExpiry: m.expiresAt != 0,
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	if !c.encode(r, m, nil, &h) {
		return metrics.TooLarge, false
	}

	return 0, true
}

// resend has everything sent again that an earlier connection was sent and that is not acknowledged, in the same order
// [MQTT-4.4.0-1] [MQTT-4.6.0-1]. mu is held.
func (s *session) resend() {
	sent := s.out.sent
	if sent == 0 {
		return
	}

	// From the start, so that the window of this connection is kept [MQTT-3.3.4-9].
	s.sentBefore = max(s.sentBefore, s.out.first+uint64(sent)) //nolint:gosec // not negative
	s.out.sent, s.out.inflight = 0, 0

	for i := range sent {
		if e := s.out.at(i); !e.done {
			s.grow(e.size)
		}
	}

	s.out.trim()
}

func (c *conn) sendRelease(r *round, id uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.closing {
		return
	}

	b := c.buffer()
	*b = wire.AppendAck(*b, c.version, wire.TypePubrel, id, wire.Success, "")
	r.count.Sent.Packets(wire.TypePubrel, 1)
	c.touch(r)
}

// orphans are messages that came by a shared subscription and that nobody has acknowledged, at the end of the session.
// Those of QoS 2 must not go to another [MQTT-4.8.2-5]. mu is held.
func (s *session) orphans() (found []*entry) {
	if s.stored {
		return nil
	}

	for i := range s.out.len {
		if e := s.out.at(i); !e.done && e.m != nil && e.group != nil && (e.qos == 1 || i >= s.out.sent) {
			moved := *e
			found = append(found, &moved)
		}
	}

	return found
}

// redispatch gives a message of a shared subscription to another member.
func (e *Engine) redispatch(r *round, from *session, o *entry) {
	p := r.publication()
	p.message = *o.m
	p.kept = o.m

	members := e.membersNow(r, o)
	e.deliverShared(r, p, members, from)
	r.release(p)
}

// membersNow finds the group again as it is now.
func (e *Engine) membersNow(r *round, o *entry) *topics.Shared[*session] {
	found := r.match(o.m.topic)
	for i := range found.Groups {
		if found.Groups[i].Name == o.group.Name {
			return &found.Groups[i]
		}
	}

	return nil
}

// narrow makes the session obey rules that may have changed: subscriptions that are not granted any more go, QoS that
// is too high is capped. mu is held.
func (s *session) narrow(r *round, subject acl.Subject, policy *acl.Policy) {
	s.suspended, s.rules = policy == nil, policy
	if policy == nil {
		return
	}

	kept := s.subs[:0]

	for _, sub := range s.subs {
		d := policy.Subscribe(subject, sub.filter, sub.QoS)

		switch {
		case !d.Allowed:
			s.e.index.Unsubscribe(sub.filter, s)

			if s.stored {
				r.write().DeleteSubscription(s.id, sub.filter)
			}

			continue
		case d.MaxQoS < sub.QoS:
			sub.QoS = d.MaxQoS
			s.e.index.Subscribe(sub.filter, s, sub.Options)
			s.saveSubscription(r, &sub)
		}

		kept = append(kept, sub)
	}

	clear(s.subs[len(kept):])
	s.subs = kept
}

func (s *session) saveSubscription(r *round, sub *subscription) {
	if s.stored {
		r.write().PutSubscription(s.id, sub.filter, store.SubscriptionOptions{
			QoS: sub.QoS, NoLocal: sub.NoLocal, RetainAsPublished: sub.RetainAsPublished,
			RetainHandling: sub.RetainHandling, Identifier: sub.Identifier,
		})
	}
}
