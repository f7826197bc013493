// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

const (
	// maxWindow is the most publications in flight. The identifiers above are for SUBSCRIBE and UNSUBSCRIBE at 5; at 3.1.1 a
	// connection has either the one or the other.
	maxWindow = 65000
	topCode   = 0x80
	// released is the QoS of an inbound that is a PUBREL: the identifier is free again.
	released = 0xff
)

// exchange is what a connection carries beside its own affairs: publications and their acknowledgements, both ways. It
// stands in place of what the libraries have for that, because it has to be asynchronous in both directions, must not be
// repeated behind the back of the flow, and is nearly all that there is to read: there it cost more than the rest of a
// message's way through the bridge.
type exchange struct {
	*stream

	owner   owner
	self    peer // as the owner knows it
	version wire.Version
	limit   limits
	// clean says that the session ends with the connection, and with it what a server holds of QoS 2 until PUBREL: only
	// at PUBCOMP such a message has arrived for certain.
	clean bool
	// inHand says that the owner is busy with a message, or lets this connection wait for room.
	inHand atomic.Bool
	// lenient reads a packet as the library would: our reader is as strict as our broker is with clients.
	lenient func(packet []byte) error

	// What was read last, for the goroutine that reads.
	publication wire.Publish
	message     inbound
	answer      wire.Ack

	// The flow that publishes and the reader take turns by mu.
	mu       sync.Mutex
	inFlight []*entry // by identifier, from 1
	received []bool   // PUBREC came for it, and it is only kept until PUBCOMP
	free     []uint16

	why atomic.Pointer[fault]
}

// isExchange tells whether a packet with this first byte is of the exchange of publications.
func isExchange(first byte) bool {
	kind := wire.Type(first)

	return kind >= wire.TypePublish && kind <= wire.TypePubcomp
}

// begin makes room for as many publications as the server takes.
func (x *exchange) begin() {
	x.inFlight = make([]*entry, x.limit.window+1)
	x.received = make([]bool, x.limit.window+1)
	x.free = make([]uint16, 0, x.limit.window)

	for id := x.limit.window; id > 0; id-- {
		x.free = append(x.free, uint16(id)) //nolint:gosec // bounded by maxWindow
	}
}

func (x *exchange) limits() *limits { return &x.limit }

func (x *exchange) abort(why *fault) {
	x.why.CompareAndSwap(nil, why)
	x.fail(net.ErrClosed)
}

// handle takes a packet of the exchange before the library would read it. It runs in the goroutine that reads, so that a
// message needs no other one on its way. The packet is good until it returns.
func (x *exchange) handle(packet []byte) error {
	var err error

	if wire.Type(packet[0]) == wire.TypePublish {
		m := &x.publication

		if err = wire.ParsePublish(packet, x.version, m); err == nil {
			x.message = inbound{
				topic: string(m.Topic), payload: bytes.Clone(m.Payload), qos: m.QoS, retain: m.Retain, dup: m.Dup, id: m.PacketID,
				props: bytes.Clone(m.Properties), expires: m.HasExpiry, expiry: m.Expiry,
			}
			x.inHand.Store(true)
			x.owner.received(x.self, &x.message)
			x.inHand.Store(false)

			return nil
		}
	} else if err = wire.ParseAck(packet, x.version, &x.answer); err == nil {
		x.answered(x.answer.Type, x.answer.PacketID, x.answer.Code)

		return nil
	}

	// Our broker would not take it from a client. A bridge takes what it can.
	if x.lenient(packet) != nil {
		return fmt.Errorf("%w: %w", errNotMQTT, err)
	}

	return nil
}

// answered takes an acknowledgement.
func (x *exchange) answered(kind byte, id uint16, code byte) {
	switch kind {
	case wire.TypePuback:
		if e := x.take(id, true); e != nil {
			x.owner.completed(x.self, e, code)
		}
	case wire.TypePubrec:
		x.pubrec(id, code)
	case wire.TypePubrel:
		x.gather(func(b []byte) []byte { return appendAck(b, 0x70, id) })
		x.owner.received(x.self, &inbound{id: id, qos: released})
	case wire.TypePubcomp:
		x.pubcomp(id)
	}
}

// pubrec lets the message go. In a session that outlives the connection it is the server's from here on, and the flow is
// told; its identifier stays taken until PUBCOMP.
func (x *exchange) pubrec(id uint16, code byte) {
	if code >= topCode {
		if e := x.take(id, true); e != nil {
			x.owner.completed(x.self, e, code)
		}

		return
	}

	x.gather(func(b []byte) []byte { return appendAck(b, 0x62, id) })

	if x.clean {
		return
	}

	if e := x.take(id, false); e != nil {
		x.owner.completed(x.self, e, code)
	}
}

// take is the entry that an identifier stands for, once; nil if it stands for none.
func (x *exchange) take(id uint16, release bool) *entry {
	x.mu.Lock()
	defer x.mu.Unlock()

	if int(id) >= len(x.inFlight) || x.inFlight[id] == nil {
		return nil
	}

	e := x.inFlight[id]
	x.inFlight[id] = nil
	x.owed.Add(-1)

	if release {
		x.free = append(x.free, id)
	} else {
		x.received[id] = true
	}

	return e
}

// pubcomp ends what PUBREC has not. Identifiers that answer the sweep stand for nothing.
func (x *exchange) pubcomp(id uint16) {
	if x.clean {
		if e := x.take(id, true); e != nil {
			x.owner.completed(x.self, e, 0)
		}

		return
	}

	x.mu.Lock()
	waits := int(id) < len(x.received) && x.received[id]

	if waits {
		x.received[id] = false
		x.free = append(x.free, id)
	}

	x.mu.Unlock()

	if waits {
		x.owner.completed(x.self, nil, 0)
	}
}

func (x *exchange) publish(e *entry, now time.Time) error {
	left := uint32(0)
	if e.expires {
		left, _ = e.left(now)
	}

	header := e.header(left)

	size := wire.PublishSize(x.version, &header, len(e.topic), len(e.props), len(e.payload))
	if size > wire.MaxSize || (x.limit.maxPacket > 0 && int64(size) > int64(x.limit.maxPacket)) {
		return errTooLarge
	}

	if e.outQoS > 0 {
		x.mu.Lock()

		if len(x.free) == 0 {
			x.mu.Unlock()

			return errNoRoom
		}

		id := x.free[len(x.free)-1]
		header.PacketID = id
		x.free = x.free[:len(x.free)-1]
		x.inFlight[id] = e
		x.mu.Unlock()
		x.owed.Add(1)
	}

	x.gather(func(b []byte) []byte {
		b, _ = wire.AppendPublish(b, x.version, &header, e.topic, e.props, e.payload)

		return b
	})

	return nil
}

func (x *exchange) note(topic, payload string) {
	e := &entry{topic: topic, payload: []byte(payload)}
	_ = x.publish(e, time.Time{})

	x.flush()
}

func (x *exchange) acknowledge(e *entry) {
	kind := byte(0x40)
	if e.qos == 2 {
		kind = 0x50
	}

	x.gather(func(b []byte) []byte { return appendAck(b, kind, e.id) })
}

// appendAck adds an acknowledgement that says success; it is the same in all versions.
func appendAck(b []byte, kind byte, id uint16) []byte {
	return binary.BigEndian.AppendUint16(append(b, kind, 2), id)
}
