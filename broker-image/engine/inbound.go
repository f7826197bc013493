// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

// What clients publish is handled here and handed to the library as if it came from inside. The library keeps both
// directions of packet ids in one map, so that a client's message would delete one of ours; it acknowledges before it
// has delivered; and it checks the rules before it knows what an alias stands for. Here, in this order: alias, topic,
// rules, duplicates, delivery to every queue, the disk if the message must outlive us, and only then the
// acknowledgement.

// inboxes keep the packet ids of QoS 2 messages that have been received and not yet released, by client id. They live
// as long as the session.
type inboxes struct {
	mu sync.Mutex
	by map[string]*inbox
}

// inbox is one session's.
type inbox struct {
	mu  sync.Mutex
	ids map[uint16]struct{}
}

// add is false if the id was there.
func (in *inbox) add(id uint16) bool {
	in.mu.Lock()
	defer in.mu.Unlock()

	_, again := in.ids[id]
	in.ids[id] = struct{}{}

	return !again
}

// remove is false if the id was not there.
func (in *inbox) remove(id uint16) bool {
	in.mu.Lock()
	defer in.mu.Unlock()

	_, ok := in.ids[id]
	delete(in.ids, id)

	return ok
}

// outside tells whether one more id would not fit; an id that is there already needs no room.
func (in *inbox) outside(id uint16, room int) bool {
	in.mu.Lock()
	defer in.mu.Unlock()

	_, again := in.ids[id]

	return !again && len(in.ids) >= room
}

func (b *inboxes) open(client string, fresh bool) *inbox {
	b.mu.Lock()
	defer b.mu.Unlock()

	in, ok := b.by[client]
	if !ok || fresh {
		in = &inbox{ids: map[uint16]struct{}{}}
		b.by[client] = in
	}

	return in
}

func (b *inboxes) drop(client string) {
	b.mu.Lock()
	defer b.mu.Unlock()

	delete(b.by, client)
}

// acknowledgement is an answer that waits for the disk.
type acknowledgement struct {
	client *mqtt.Client
	packet packets.Packet
	ready  <-chan error // nil if there is nothing to wait for
}

// acks is a connection's queue of acknowledgements. It gets a goroutine only when one has to wait.
type acks struct {
	queue   chan acknowledgement
	pending atomic.Int32 // in the queue
	pubacks atomic.Int32 // of these, for QoS 1
}

const maxAcks = 1024

// publish handles a PUBLISH. The library gets to see only a packet that it drops.
func (h *hook) publish(c *conn, cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	swallowed := pk
	swallowed.TopicName, swallowed.Payload, swallowed.Properties = nowhere, nil, packets.Properties{}
	swallowed.FixedHeader.Qos, swallowed.PacketID = 0, 0

	code := h.engine.receive(c, cl, &pk)

	switch {
	case code == packets.CodeSuccess:
		return swallowed, nil
	case code == packets.ErrNotAuthorized && c.version < 5:
		return pk, packets.ErrRejectPacket // closes: [MQTT-3.3.5-2] of 3.1.1 leaves that, or acknowledging what is lost
	default:
		_ = h.engine.server.DisconnectClient(cl, code)

		return pk, packets.ErrRejectPacket
	}
}

// receive takes a PUBLISH in. Any code but success ends the connection.
func (e *Engine) receive(c *conn, cl *mqtt.Client, pk *packets.Packet) packets.Code {
	qos, id := pk.FixedHeader.Qos, pk.PacketID

	if code := c.resolveAlias(pk); code != packets.CodeSuccess {
		return code
	}

	// The alias is gone by now, so an empty topic is one [MQTT-4.7.3-1], as are wildcards [MQTT-3.3.2-2].
	if acl.ValidateTopic(pk.TopicName) != nil {
		return packets.ErrTopicNameInvalid
	}

	if code := pk.PublishValidate(0); code != packets.CodeSuccess {
		return code
	}

	if qos > 0 && c.version == 5 && c.inbox.outside(id, c.window-int(c.acks.pubacks.Load())) {
		return packets.ErrReceiveMaximum // [MQTT-3.3.4-7]
	}

	policy := e.state.Load().policy(cl.Properties.Username, c.door.Name)

	if !publishable(pk.TopicName) || !policy.Publish(c.subject, pk.TopicName, qos, pk.FixedHeader.Retain).Allowed {
		return e.refusePublish(c, cl, pk)
	}

	if qos == 2 {
		if !c.inbox.add(id) { // [MQTT-4.3.3-10]
			c.acknowledge(cl, packets.Pubrec, id, packets.CodeSuccess, nil)

			return packets.CodeSuccess
		}

		e.store.putReceived(cl, id)
	}

	mark := e.store.mark()

	if code := e.inject(cl.ID, pk); code != packets.CodeSuccess {
		return code
	}

	switch qos {
	case 1:
		c.acknowledge(cl, packets.Puback, id, packets.CodeSuccess, e.store.sinceMark(mark))
	case 2:
		c.acknowledge(cl, packets.Pubrec, id, packets.CodeSuccess, e.store.sinceMark(mark))
	}

	return packets.CodeSuccess
}

func (e *Engine) refusePublish(c *conn, cl *mqtt.Client, pk *packets.Packet) packets.Code {
	e.refusedPublishes.Add(1)
	e.audit.line("publish refused", "client", c.id, "user", c.subject.Username, "topic", pk.TopicName,
		"qos", pk.FixedHeader.Qos, "retain", pk.FixedHeader.Retain)

	switch {
	case pk.FixedHeader.Qos == 0:
	case c.version < 5:
		return packets.ErrNotAuthorized
	case pk.FixedHeader.Qos == 1:
		c.acknowledge(cl, packets.Puback, pk.PacketID, packets.ErrNotAuthorized, nil)
	default:
		c.acknowledge(cl, packets.Pubrec, pk.PacketID, packets.ErrNotAuthorized, nil)
	}

	return packets.CodeSuccess
}

// inject delivers a message to every queue that it belongs into.
func (e *Engine) inject(origin string, pk *packets.Packet) packets.Code {
	message := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: pk.FixedHeader.Qos, Retain: pk.FixedHeader.Retain},
		TopicName:   strings.Clone(pk.TopicName),
		Payload:     pk.Payload,
		Properties:  pk.Properties,
		PacketID:    uint16(min(pk.FixedHeader.Qos, 1)), // never sent; the library insists on one above QoS 0
	}
	message.Connect.ClientIdentifier = origin // OnPublish makes it the origin, which no-local needs

	err := e.server.InjectPacket(e.sender, message)

	// The library has counted the message when it came and again now.
	atomic.AddInt64(&e.server.Info.PacketsReceived, -1)
	atomic.AddInt64(&e.server.Info.MessagesReceived, -1)

	var code packets.Code

	switch {
	case err == nil:
		return packets.CodeSuccess
	case errors.As(err, &code):
		return code
	default:
		return packets.ErrUnspecifiedError
	}
}

// OnPublish is called for what inject hands over.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if cl != h.engine.sender {
		return pk, packets.ErrRejectPacket
	}

	pk.Origin = pk.Connect.ClientIdentifier
	pk.Connect = packets.ConnectParams{}

	return pk, nil
}

// acknowledge answers a PUBLISH, when what it waits for is on disk. Answers leave in the order of the messages.
func (c *conn) acknowledge(cl *mqtt.Client, kind byte, id uint16, code packets.Code, ready <-chan error) {
	a := acknowledgement{client: cl, ready: ready, packet: packets.Packet{
		FixedHeader: packets.FixedHeader{Type: kind}, PacketID: id, ReasonCode: code.Code,
	}}

	if ready == nil && c.acks.pending.Load() == 0 {
		_ = cl.WritePacket(a.packet)

		return
	}

	if c.acks.queue == nil {
		c.acks.queue = make(chan acknowledgement, maxAcks)

		go c.answer(c.acks.queue)
	}

	if kind == packets.Puback {
		c.acks.pubacks.Add(1)
	}

	c.acks.pending.Add(1)
	c.acks.queue <- a
}

func (c *conn) answer(queue <-chan acknowledgement) {
	for a := range queue {
		if a.ready != nil && <-a.ready != nil {
			// What cannot be kept must not be acknowledged.
			if c.version < 5 {
				_ = c.Close()
			}

			if a.packet.FixedHeader.Type == packets.Pubrec {
				c.inbox.remove(a.packet.PacketID)
			}

			a.packet.ReasonCode = packets.ErrQuotaExceeded.Code
		}

		_ = a.client.WritePacket(a.packet)

		if a.packet.FixedHeader.Type == packets.Puback {
			c.acks.pubacks.Add(-1)
		}

		c.acks.pending.Add(-1)
	}
}

// release takes a PUBREL. The library is shown one for an id that it never has; what it answers is corrected by
// released.
func (h *hook) release(c *conn, cl *mqtt.Client, pk packets.Packet) packets.Packet {
	c.known = c.inbox.remove(pk.PacketID)
	if c.known {
		h.engine.store.deleteReceived(cl, pk.PacketID)
	}

	c.request, pk.PacketID = pk.PacketID, 0

	return pk
}

func (c *conn) released(pk *packets.Packet) {
	if pk.PacketID != 0 {
		return
	}

	pk.PacketID = c.request
	if c.known {
		pk.ReasonCode, pk.Properties = packets.CodeSuccess.Code, packets.Properties{}
	}
}
