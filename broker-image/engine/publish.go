// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"strings"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/topics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// handlePublish takes a message from a client.
func (c *conn) handlePublish(r *round, packet []byte) error {
	in := &r.parsed
	if err := wire.ParsePublish(packet, c.version, in); err != nil {
		return err
	}

	r.count.Received.Publish(in.QoS, 1, len(in.Payload))

	now := c.e.state.Load()

	topic, err := c.topicOf(in)
	if err != nil {
		return err
	}

	if c.bucket != nil && !c.bucket.take(r.now) {
		c.slowDown(r)
	}

	if in.QoS > 0 {
		if again, err := c.beginReceive(r, in); again || err != nil {
			return err
		}
	}

	if code := c.mayPublish(r, in, topic, &now.limits); code != wire.Success {
		if t := c.e.tracer.Load(); t != nil {
			t.denied(c, in, topic, code)
		}

		return c.refusePublish(r, in, code)
	}

	p := r.publication()
	p.message = message{
		topic: topic, payload: in.Payload, properties: in.Properties, publisher: c.subject.ClientID,
		created: r.nowMS, qos: in.QoS, retain: in.Retain,
	}
	p.borrowed, p.from = true, c.sess

	if in.HasExpiry {
		p.expiresAt = r.nowMS + int64(in.Expiry)*1000
	}

	kept, found := c.e.route(r, p)

	r.release(p)
	c.acknowledge(r, in, kept, found)

	if kept || in.Retain {
		c.mindDisk(r)
	}

	return nil
}

// topicOf resolves the alias and looks whether the topic is one that anybody may publish to. The answer may be a view
// into the packet.
func (c *conn) topicOf(in *wire.Publish) (string, error) {
	topic := view(in.Topic)

	if in.Alias == 0 {
		return topic, nil
	}

	if in.Alias > c.aliasMax {
		return "", &wire.Error{Code: wire.TopicAliasInvalid, Reason: "a topic alias above the maximum [MQTT-3.3.2-9]"}
	}

	if len(in.Topic) > 0 {
		if int(in.Alias) >= len(c.aliases) {
			c.aliases = append(c.aliases, make([]string, int(in.Alias)+1-len(c.aliases))...)
		}

		c.aliases[in.Alias] = strings.Clone(topic)

		return topic, nil
	}

	if int(in.Alias) >= len(c.aliases) || c.aliases[in.Alias] == "" {
		return "", &wire.Error{Code: wire.ProtocolError, Reason: "a topic alias that was never set [MQTT-3.3.2-7]"}
	}

	return c.aliases[in.Alias], nil
}

// beginReceive counts a message of QoS 1 or 2 against the window, and recognises one of QoS 2 that has come before.
func (c *conn) beginReceive(r *round, in *wire.Publish) (again bool, err error) {
	s := c.sess

	if in.QoS == 2 {
		s.mu.Lock()
		again = s.received.has(in.PacketID)
		undone := s.undone
		s.mu.Unlock()

		if again { // [MQTT-4.3.3-10]
			c.oweAgain(r, answer{typ: wire.TypePubrec, id: in.PacketID, again: true, undone: undone})

			return true, nil
		}
	}

	if c.owed.Add(1) > c.quota && c.version == wire.V5 {
		return false, &wire.Error{Code: wire.ReceiveMaximumExceeded, Reason: "more messages at once than the receive maximum [MQTT-3.3.4-7]"}
	}

	return false, nil
}

func (c *conn) mayPublish(r *round, in *wire.Publish, topic string, l *limits) byte {
	if code := publishable(topic, l); code != wire.Success {
		return code
	}

	if !c.policy.Load().Publish(c.subject, topic, in.QoS, in.Retain).Allowed {
		r.count.Deny(metrics.Publish)
		c.e.refusedPublishes.Add(1)
		c.e.audit.line("publish refused", "client", c.subject.ClientID, "user", c.subject.Username, "listener", c.door.Name,
			"remote", c.remote(), "topic", topic)

		return wire.NotAuthorized
	}

	return wire.Success
}

// refusePublish answers a message that may not be published. Before MQTT 5 there is no answer that says no
// [MQTT-3.3.5-2].
func (c *conn) refusePublish(r *round, in *wire.Publish, code byte) error {
	switch {
	case in.QoS == 0:
		return nil
	case c.version != wire.V5:
		c.goes(metrics.Revoked)

		return nil
	case in.QoS == 1:
		c.owe(r, answer{typ: wire.TypePuback, id: in.PacketID, code: code, settles: true}, false)
	default:
		c.owe(r, answer{typ: wire.TypePubrec, id: in.PacketID, code: code, settles: true}, false)
	}

	return nil
}

// acknowledge answers a message that was taken: at once, or when it is on disk.
func (c *conn) acknowledge(r *round, in *wire.Publish, kept, found bool) {
	if in.QoS == 0 {
		return
	}

	var code byte
	if !found && c.version == wire.V5 {
		code = wire.NoMatchingSubscribers
	}

	if in.QoS == 1 {
		c.owe(r, answer{typ: wire.TypePuback, id: in.PacketID, code: code, settles: true}, kept) // [MQTT-4.3.2-4]

		return
	}

	s := c.sess
	s.mu.Lock()
	s.received.add(in.PacketID)

	if s.stored && !s.ended {
		r.write().PutInbound(s.id, in.PacketID)

		kept = true
	}

	s.mu.Unlock()

	c.owe(r, answer{typ: wire.TypePubrec, id: in.PacketID, code: code, received: in.PacketID}, kept) // [MQTT-4.3.3-8]
}

// forget forgets that a message of QoS 2 was received.
func (s *session) forget(id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.received.remove(id)
	s.undone++
}

// recall takes back that a message of QoS 2 was released.
func (s *session) recall(id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.received.add(id)
	s.undone++
}

func (s *session) hasUndone() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.undone
}

// oweAgain answers what has come before. That may be on its way to the disk still, and a crash or a fault may come
// first.
func (c *conn) oweAgain(r *round, a answer) {
	wait := c.sess.stored
	if wait {
		r.write() // an empty transaction comes behind those that were handed over
	}

	c.owe(r, a, wait)
}

// handleAck handles PUBACK, PUBREC and PUBCOMP for what the client was sent, and PUBREL for what it has sent.
func (c *conn) handleAck(r *round, packet []byte) error {
	a := &r.ack
	if err := wire.ParseAck(packet, c.version, a); err != nil {
		return err
	}

	if t := c.e.tracer.Load(); t != nil {
		t.ack(c, TraceAckReceived, a.Type, a.PacketID, a.Code)
	}

	if a.Type == wire.TypePubrel {
		c.handlePubrel(r, a.PacketID)

		return nil
	}

	s := c.sess

	s.mu.Lock()
	defer s.mu.Unlock()

	if s.conn.Load() != c {
		return nil // taken over meanwhile
	}

	e, seq := s.out.find(a.PacketID)

	switch {
	case a.Type == wire.TypePubrec:
		return c.handlePubrec(r, s, e, seq, a)
	case e == nil, a.Type == wire.TypePuback && e.qos != 1, a.Type == wire.TypePubcomp && !e.released:
		return nil // of an earlier life; nothing to be done about it
	}

	s.settle(r, e, seq)

	return nil
}

// settle ends the delivery of a message and sends what its place is wanted for. mu is held.
func (s *session) settle(r *round, e *entry, seq uint64) {
	if s.stored {
		r.write().Dequeue(s.id, seq)
	}

	s.out.finish(e)
	s.pumpLocked(r)
}

func (c *conn) handlePubrec(r *round, s *session, e *entry, seq uint64, a *wire.Ack) error {
	switch {
	case e == nil || e.qos != 2:
		var code byte
		if c.version == wire.V5 {
			code = wire.PacketIdentifierNotFound
		}

		if a.Code < 0x80 {
			c.owe(r, answer{typ: wire.TypePubrel, id: a.PacketID, code: code}, false)
		}
	case a.Code >= 0x80: // [MQTT-4.4.0-2]
		s.settle(r, e, seq)
	case e.confirming && !e.released:
		// Its mark is on its way to the disk, and the PUBREL behind it.
	case s.stored && !e.released:
		e.confirming = true
		r.write().Release(s.id, seq)

		after := r.then()
		after.hard = true
		after.queued = append(after.queued, waitingEntry{s: s, seq: seq, mark: true})
		c.owe(r, answer{typ: wire.TypePubrel, id: a.PacketID}, true)
	default:
		s.release(e, false)
		c.owe(r, answer{typ: wire.TypePubrel, id: a.PacketID}, false) // [MQTT-4.3.3-4]
	}

	return nil
}

// marked is told that the mark of a PUBREC is on disk. mu is held.
func (s *session) marked(r *round, seq uint64, err error) {
	i := seq - s.out.first
	if s.ended || seq < s.out.first || i >= uint64(s.out.len) { //nolint:gosec // not negative
		return
	}

	e := s.out.at(int(i)) //nolint:gosec // bounded
	if e.done {
		return
	}

	e.confirming = false

	if err == nil {
		s.release(e, i >= uint64(s.out.sent)) //nolint:gosec // not negative
	}

	s.pumpLocked(r)
}

// release lets go of a message of which PUBREC has come: what is owed from now on is PUBREL. mu is held.
func (s *session) release(e *entry, waits bool) {
	if waits {
		s.lessen(e.size)
		s.grow(0)

		if e.m != nil && s.stored {
			s.kept -= int64(e.size)
		}
	}

	e.released, e.m, e.ids, e.size = true, nil, nil, 0
}

// handlePubrel ends a QoS 2 message of the client: its packet id is free again [MQTT-4.3.3-11].
func (c *conn) handlePubrel(r *round, id uint16) {
	s := c.sess

	s.mu.Lock()
	known, undone := s.received.remove(id), s.undone

	if known && s.stored {
		r.write().DeleteInbound(s.id, id)
	}

	s.mu.Unlock()

	if known {
		c.owe(r, answer{typ: wire.TypePubcomp, id: id, settles: true, released: id}, s.stored)

		return
	}

	var code byte
	if c.version == wire.V5 {
		code = wire.PacketIdentifierNotFound
	}

	c.oweAgain(r, answer{typ: wire.TypePubcomp, id: id, code: code, again: true, undone: undone})
}

// route brings a message to everyone it concerns: the one place that decides where it goes. Kept tells whether it has
// to be on disk before it is acknowledged, found whether anybody has subscribed.
func (e *Engine) route(r *round, p *publication) (kept, found bool) {
	if p.retain {
		if e.retainedRoom(p.topic, len(p.payload)) {
			kept = e.retain(r, p)
		} else {
			e.noteRetainedFull(p)
		}
	}

	matched := r.match(p.topic)
	p.many = len(matched.Entries)+len(matched.Groups) > 1

	if t := e.tracer.Load(); t != nil {
		t.published(p, len(matched.Entries)+len(matched.Groups))
	}

	for i := range matched.Entries {
		entry := &matched.Entries[i]

		v := entry.ForOthers()
		if entry.Own != topics.OwnSame && entry.Subscriber == p.from {
			var mine bool
			if v, mine = entry.ForPublisher(); !mine { // [MQTT-3.8.3-3]
				continue
			}
		}

		entry.Subscriber.deliver(r, p, grant{
			qos: min(p.qos, v.QoS), retain: p.retain && v.RetainAsPublished, ids: v.Identifiers, // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
		})
	}

	for i := range matched.Groups {
		e.deliverShared(r, p, &matched.Groups[i], nil)
	}

	found = len(matched.Entries)+len(matched.Groups) > 0
	kept = kept || p.stored && p.qos > 0

	return kept, found
}

// deliverShared hands a message to one member of a group: the next in turn that is connected and takes it, else one that
// will come back for it [MQTT-4.8.2-4]. Only when nobody has room is it dropped, for one of them.
func (e *Engine) deliverShared(r *round, p *publication, group *topics.Shared[*session], except *session) {
	if group == nil || len(group.Members) == 0 {
		return
	}

	n := len(group.Members)
	start := int(group.Next.Add(1))

	for pass := range passes {
		for i := range n {
			m := &group.Members[(start+i)%n]
			s := m.Subscriber

			if s == except || !s.suits(pass) {
				continue
			}

			v := m.ForOthers()
			if s.deliver(r, p, grant{
				qos: min(p.qos, v.QoS), retain: p.retain && v.RetainAsPublished, ids: v.Identifiers, group: group,
				last: pass == passes-1,
			}) {
				return
			}
		}
	}
}

// passes is how often the members of a group are asked.
const passes = 4

// suits tells whether a member of a group is one to be asked: first those that are connected and have room, then those
// that are connected, then the others, and in the end all, to drop what nobody has room for.
func (s *session) suits(pass int) bool {
	c := s.conn.Load()

	switch pass {
	case 0:
		if c == nil {
			return false
		}

		s.mu.Lock()
		defer s.mu.Unlock()

		return s.out.inflight < c.receiveMaximum && s.offline == 0 && s.out.sent == s.out.len
	case 1:
		return c != nil
	case 2:
		return c == nil
	default:
		return true
	}
}

// subjectOf is who a session belongs to, for the rules.
func (s *session) subject() acl.Subject {
	return acl.Subject{Username: s.username, ClientID: s.clientID, CommonName: s.commonName}
}
