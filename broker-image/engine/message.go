// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"strings"

	"github.com/mqtt-operator/mqtt-operator/broker-image/store"
	"github.com/mqtt-operator/mqtt-operator/broker-image/topics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// message is an application message. One that is shared never changes.
type message struct {
	topic   string
	payload []byte
	// properties are those that a server forwards unaltered, in wire form [MQTT-3.3.2-4].
	properties []byte
	publisher  string
	// created and expiresAt are Unix milliseconds; an expiresAt of 0 means never.
	created, expiresAt int64
	qos                byte
	retain             bool
	// born orders retained messages by when they were set.
	born uint64
}

// expiry is the interval to send at a moment [MQTT-3.3.2-6]. It is false when the message has expired [MQTT-3.3.2-5].
func (m *message) expiry(now int64) (seconds uint32, alive bool) {
	if m.expiresAt == 0 {
		return 0, true
	}

	left := m.expiresAt - now
	if left <= 0 {
		return 0, false
	}

	return uint32(min((left+999)/1000, forever)), true
}

func (m *message) size() int { return len(m.topic) + len(m.payload) + len(m.properties) }

// publication is a message on its way to everyone it concerns. Its bytes may lie in a read buffer; keep makes a copy
// that lasts.
type publication struct {
	message

	from     *session // nil for the broker's own messages and for wills
	borrowed bool
	kept     *message
	ref      store.MessageRef
	stored   bool // ref is valid
	many     bool // frames are worth caching
	frames   [12][]byte
	pids     [12]int
}

// keep gives the message bytes of its own, once.
func (p *publication) keep() *message {
	if p.kept != nil {
		return p.kept
	}

	m := p.message

	if p.borrowed {
		// One allocation for all of it.
		all := make([]byte, 0, len(m.payload)+len(m.properties))
		all = append(all, m.payload...)
		all = append(all, m.properties...)
		m.payload = all[:len(m.payload):len(m.payload)]
		m.properties = all[len(m.payload):]
		m.topic = strings.Clone(m.topic)
	}

	p.kept = &m

	return p.kept
}

// reset forgets the publication, but not its buffers.
func (p *publication) reset() {
	p.message, p.from, p.kept, p.ref, p.stored, p.many, p.borrowed = message{}, nil, nil, 0, false, false, false

	for i := range p.frames {
		if cap(p.frames[i]) > smallPacket {
			p.frames[i] = nil
		}

		p.frames[i] = p.frames[i][:0]
	}
}

// frame gives the packet as all subscribers of one version, QoS and retain flag get it, and where its packet id is.
func (p *publication) frame(v wire.Version, h *wire.PublishHeader) ([]byte, int) {
	i := int(h.QoS) << 2
	if v == wire.V5 {
		i |= 2
	}

	if h.Retain {
		i |= 1
	}

	if len(p.frames[i]) == 0 {
		p.frames[i], p.pids[i] = wire.AppendPublish(p.frames[i], v, h, p.topic, p.properties, p.payload)
	}

	return p.frames[i], p.pids[i]
}

// grant is what one subscriber gets of a message.
type grant struct {
	qos    byte
	retain bool
	ids    []uint32
	// group is set when the message came by a shared subscription: another member may get it instead.
	group *topics.Shared[*session]
	// last: no other member takes it, so what finds no room is dropped.
	last bool
}

// others tells whether somebody else may have room.
func (g *grant) others() bool { return g.group != nil && !g.last }

func storedMessage(m *message) *store.Message {
	return &store.Message{
		Topic: m.topic, Payload: m.payload, Properties: m.properties, QoS: m.qos, Retain: m.retain,
		ExpiresAt: m.expiresAt, Created: m.created, Publisher: m.publisher,
	}
}

func restoredMessage(m *store.Message) *message {
	return &message{
		topic: m.Topic, payload: m.Payload, properties: m.Properties, qos: m.QoS, retain: m.Retain,
		expiresAt: m.ExpiresAt, created: m.Created, publisher: m.Publisher,
	}
}
