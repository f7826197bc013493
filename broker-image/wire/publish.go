// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"slices"
)

// Publish is a PUBLISH packet. Its slices are views into the packet and live as long as that does; Properties may be a
// view into memory of the Publish itself, which the next ParsePublish writes over. To be used again and again.
type Publish struct {
	Dup, Retain bool
	QoS         byte
	PacketID    uint16
	// Topic is empty only if Alias stands for it.
	Topic, Payload []byte
	// Alias is 0 if there is none.
	Alias     uint16
	Expiry    uint32
	HasExpiry bool
	// Properties are those that a server forwards unaltered, in wire form and in their order: payload format, content
	// type, response topic, correlation data and user properties. Without a length in front.
	Properties []byte

	scratch []byte
}

// ParsePublish checks a whole PUBLISH packet that a client sent and looks into it. It allocates nothing, unless
// properties must be copied for the first time because one that is not forwarded stands between those that are.
//
// It does not look whether the payload is UTF-8 when the payload format says so: a server may, and need not.
func ParsePublish(packet []byte, v Version, p *Publish) error {
	b, err := body(packet, TypePublish, v)
	if err != nil {
		return err
	}
	first := packet[0]
	p.Dup, p.Retain, p.QoS = first&dupBit != 0, first&0x01 != 0, first>>1&0x03
	p.PacketID, p.Alias, p.Expiry, p.HasExpiry, p.Properties = 0, 0, 0, false, nil
	if p.Dup && p.QoS == 0 && v != V31 {
		return malformed("DUP is set in a PUBLISH of QoS 0 [MQTT-3.3.1-2]")
	}
	topic, b, ok := binaryData(b)
	if !ok {
		return errShort
	}
	if err := checkTopic(topic); err != nil {
		return err
	}
	p.Topic = topic
	if p.QoS > 0 {
		if p.PacketID, b, err = packetID(b); err != nil {
			return err
		}
	}
	if v.five() {
		if b, err = p.properties(b); err != nil {
			return err
		}
	}
	if len(topic) == 0 && p.Alias == 0 {
		return protocol("the topic is empty and no alias stands for it [MQTT-4.7.3-1]")
	}
	p.Payload = slices.Clip(b) // to append to it must not write over the next packet
	return nil
}

// properties reads what the publisher says to the server, and keeps the rest as it is.
func (p *Publish) properties(b []byte) ([]byte, error) {
	if len(b) > 0 && b[0] == 0 {
		return b[1:], nil
	}
	w, rest, err := walk(b, inPublish)
	if err != nil {
		return nil, err
	}
	from, to, copied := 0, 0, false // w.all[from:to] is kept, and follows what was copied
	for {
		more, err := w.next()
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		switch w.id {
		case propTopicAlias:
			p.Alias = uint16(w.number) // #nosec G115 -- read from two bytes
		case propMessageExpiry:
			p.Expiry, p.HasExpiry = w.number, true
		case propSubscriptionIdentifier:
			return nil, protocol("a client sent a subscription identifier [MQTT-3.3.4-6]")
		default:
			if from == to {
				from = w.start
			} else if to != w.start {
				if !copied {
					p.scratch, copied = p.scratch[:0], true
				}
				p.scratch = append(p.scratch, w.all[from:to]...)
				from = w.start
			}
			to = w.end
		}
	}
	if copied {
		p.scratch = append(p.scratch, w.all[from:to]...)
		p.Properties = p.scratch
	} else {
		p.Properties = w.all[from:to:to]
	}
	return rest, nil
}

// packetID takes a packet identifier from the front of b.
func packetID(b []byte) (uint16, []byte, error) {
	if len(b) < 2 {
		return 0, nil, errShort
	}
	pid := binary.BigEndian.Uint16(b)
	if pid == 0 {
		return 0, nil, protocol("the packet identifier is 0 [MQTT-2.2.1-3]")
	}
	return pid, b[2:], nil
}

// PublishHeader is what differs between copies of one message, which share topic, properties and payload.
type PublishHeader struct {
	Dup, Retain bool
	QoS         byte
	PacketID    uint16
	// Alias is 0 for none. Alias, Expiry and Identifiers exist in MQTT 5 only and are left out for other versions.
	Alias       uint16
	Expiry      uint32
	HasExpiry   bool
	Identifiers []uint32
}

// propertiesSize is the size of all properties of the copy, without their length.
func (h *PublishHeader) propertiesSize(forwarded int) int {
	n := forwarded
	if h.Alias != 0 {
		n += 3
	}
	if h.HasExpiry {
		n += 5
	}
	for _, id := range h.Identifiers {
		n += 1 + varintSize(id)
	}
	return n
}

// remaining is the remaining length of the copy, and the size of its properties, which is 0 before MQTT 5.
func (h *PublishHeader) remaining(v Version, topicLen, propertiesLen, payloadLen int) (remaining, properties int) {
	remaining = 2 + topicLen + payloadLen
	if h.QoS > 0 {
		remaining += 2
	}
	if v.five() {
		properties = h.propertiesSize(propertiesLen)
		remaining += varintSize(u32(properties)) + properties
	}
	return remaining, properties
}

// PublishSize is the size of the whole packet that AppendPublish would write. A message whose size is above
// MaxSize must not be written, nor one above the receiver's maximum [MQTT-3.1.2-24].
func PublishSize(v Version, h *PublishHeader, topicLen, propertiesLen, payloadLen int) int {
	remaining, _ := h.remaining(v, topicLen, propertiesLen, payloadLen)
	return 1 + varintSize(u32(remaining)) + remaining
}

// AppendPublish writes a PUBLISH packet. Properties are in the form of Publish.Properties. pid is where the packet
// identifier lies, counted from the first byte written; 0 for QoS 0, which has none. Whoever copies the packet for
// another receiver patches the two bytes there.
func AppendPublish[T string | []byte](dst []byte, v Version, h *PublishHeader, topic T, properties, payload []byte) (out []byte, pid int) {
	dst = slices.Grow(dst, PublishSize(v, h, len(topic), len(properties), len(payload)))
	dst, pid = AppendPublishHead(dst, v, h, topic, properties, len(payload))
	return append(dst, payload...), pid
}

// AppendPublishHead writes a PUBLISH packet up to its payload, of which it only needs the length, so that many receivers
// can share a large one.
func AppendPublishHead[T string | []byte](dst []byte, v Version, h *PublishHeader, topic T, properties []byte, payloadLen int) (out []byte, pid int) {
	before := len(dst)
	remaining, size := h.remaining(v, len(topic), len(properties), payloadLen)
	first := TypePublish<<4 | h.QoS<<1
	if h.Dup {
		first |= dupBit
	}
	if h.Retain {
		first |= 0x01
	}
	dst = appendVarint(append(dst, first), u32(remaining))
	dst = appendText(dst, topic)
	if h.QoS > 0 {
		pid = len(dst) - before
		dst = binary.BigEndian.AppendUint16(dst, h.PacketID)
	}
	if !v.five() {
		return dst, pid
	}
	dst = appendVarint(dst, u32(size))
	if h.Alias != 0 {
		dst = appendShort(dst, propTopicAlias, h.Alias)
	}
	if h.HasExpiry {
		dst = appendNumber(dst, propMessageExpiry, h.Expiry)
	}
	for _, id := range h.Identifiers {
		dst = appendVarint(append(dst, propSubscriptionIdentifier), id)
	}
	return append(dst, properties...), pid
}
