// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Protocol levels.
const (
	V311 = 4
	V5   = 5
)

// Types of packets.
const (
	Connect     = 1
	Connack     = 2
	Publish     = 3
	Puback      = 4
	Pubrec      = 5
	Pubrel      = 6
	Pubcomp     = 7
	Subscribe   = 8
	Suback      = 9
	Unsubscribe = 10
	Unsuback    = 11
	Pingreq     = 12
	Pingresp    = 13
	Disconnect  = 14
)

// MaxRemaining is the largest length that four bytes can tell.
const MaxRemaining = 268_435_455

var (
	errLength = errors.New("wire: length of more than four bytes")
	errShort  = errors.New("wire: packet ends early")
)

// Packet is one packet as a view into the buffer it was read into.
type Packet struct {
	Type, Flags byte
	Body        []byte
}

// Split takes the first packet off b and tells how many bytes it has; 0 means that more are needed.
func Split(b []byte) (Packet, int, error) {
	if len(b) < 2 {
		return Packet{}, 0, nil
	}
	// Nearly every packet of a benchmark has a length of one byte.
	if length := int(b[1]); length < 0x80 {
		if len(b) < 2+length {
			return Packet{}, 0, nil
		}
		return Packet{Type: b[0] >> 4, Flags: b[0] & 15, Body: b[2 : 2+length]}, 2 + length, nil
	}
	length, n, err := varint(b[1:])
	if n == 0 || err != nil || len(b) < 1+n+length {
		return Packet{}, 0, err
	}
	return Packet{Type: b[0] >> 4, Flags: b[0] & 15, Body: b[1+n : 1+n+length]}, 1 + n + length, nil
}

// varint reads a variable byte integer; n is 0 if it has not ended yet.
func varint(b []byte) (value, n int, err error) {
	for i := range 4 {
		if i == len(b) {
			return 0, 0, nil
		}
		value |= int(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return value, i + 1, nil
		}
	}
	return 0, 0, errLength
}

func appendVarint(dst []byte, value int) []byte {
	for value >= 0x80 {
		dst = append(dst, byte(value)|0x80)
		value >>= 7
	}
	return append(dst, byte(value)) //nolint:gosec // less than 128
}

func appendString(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...) //nolint:gosec // the caller's strings are short
}

// Message is a PUBLISH; Topic and Payload are views.
type Message struct {
	QoS      byte
	Retain   bool
	PacketID uint16
	Topic    []byte
	Payload  []byte
}

// ParsePublish reads a PUBLISH.
func ParsePublish(p Packet, version byte) (Message, error) {
	b := p.Body
	if len(b) < 2 {
		return Message{}, errShort
	}
	length := int(b[0])<<8 | int(b[1])
	at := 2 + length
	m := Message{QoS: p.Flags >> 1 & 3, Retain: p.Flags&1 != 0}
	if m.QoS > 0 {
		at += 2
	}
	if len(b) < at {
		return Message{}, errShort
	}
	m.Topic = b[2 : 2+length]
	if m.QoS > 0 {
		m.PacketID = binary.BigEndian.Uint16(b[at-2:])
	}
	if version == V5 {
		size, n, err := varint(b[at:])
		if err != nil || n == 0 || len(b) < at+n+size {
			return Message{}, errShort
		}
		at += n + size
	}
	m.Payload = b[at:]
	return m, nil
}

// PacketID is the identifier with which an acknowledgement, SUBSCRIBE or UNSUBSCRIBE begins.
func PacketID(p Packet) (uint16, error) {
	if len(p.Body) < 2 {
		return 0, errShort
	}
	return binary.BigEndian.Uint16(p.Body), nil
}

// Refused is the reason code of an acknowledgement of MQTT 5 that means an error, or 0.
func Refused(p Packet, version byte) byte {
	if version == V5 && len(p.Body) > 2 && p.Body[2] >= 0x80 {
		return p.Body[2]
	}
	return 0
}

// CheckConnack is an error unless the server says welcome; present tells whether it had a session.
func CheckConnack(p Packet) (present bool, err error) {
	if p.Type != Connack || len(p.Body) < 2 {
		return false, fmt.Errorf("wire: packet of type %d instead of CONNACK", p.Type)
	}
	if p.Body[1] != 0 {
		return false, fmt.Errorf("wire: connection refused with code 0x%02x", p.Body[1])
	}
	return p.Body[0]&1 != 0, nil
}

// CheckSuback is an error if a filter was refused; lowest is the smallest QoS that was granted.
func CheckSuback(p Packet, version byte) (lowest byte, err error) {
	if len(p.Body) < 3 {
		return 0, errShort
	}
	codes := p.Body[2:]
	if version == V5 {
		size, n, err := varint(codes)
		if err != nil || n == 0 || len(codes) < n+size {
			return 0, errShort
		}
		codes = codes[n+size:]
	}
	lowest = 2
	for _, code := range codes {
		if code >= 0x80 {
			return 0, fmt.Errorf("wire: subscription refused with code 0x%02x", code)
		}
		lowest = min(lowest, code)
	}
	return lowest, nil
}

// ConnectOptions are what a client says first.
type ConnectOptions struct {
	Version   byte
	ClientID  string
	KeepAlive uint16
	// Keep asks for a session that outlives the connection: no clean session, and in MQTT 5 one that never expires.
	Keep bool
}

// AppendConnect appends a CONNECT.
func AppendConnect(dst []byte, o ConnectOptions) []byte {
	length := 10 + 2 + len(o.ClientID)
	properties := 0
	if o.Version == V5 {
		if o.Keep {
			properties = 5
		}
		length += 1 + properties
	}
	dst = appendVarint(append(dst, Connect<<4), length)
	dst = appendString(dst, "MQTT")
	flags := byte(2)
	if o.Keep {
		flags = 0
	}
	dst = binary.BigEndian.AppendUint16(append(dst, o.Version, flags), o.KeepAlive)
	if o.Version == V5 {
		dst = append(dst, byte(properties))
		if o.Keep {
			dst = append(dst, 0x11, 0xff, 0xff, 0xff, 0xff)
		}
	}
	return appendString(dst, o.ClientID)
}

// AppendSubscribe appends a SUBSCRIBE for filters.
func AppendSubscribe(dst []byte, version byte, id uint16, filters []string, qos byte) []byte {
	length := 2
	if version == V5 {
		length++
	}
	for _, filter := range filters {
		length += 2 + len(filter) + 1
	}
	dst = appendVarint(append(dst, Subscribe<<4|2), length)
	dst = binary.BigEndian.AppendUint16(dst, id)
	if version == V5 {
		dst = append(dst, 0)
	}
	for _, filter := range filters {
		dst = append(appendString(dst, filter), qos)
	}
	return dst
}

// PublishOptions are what the head of a PUBLISH says.
type PublishOptions struct {
	Version, QoS byte
	Retain       bool
	PacketID     uint16
}

// AppendPublish appends a PUBLISH and tells where in dst its packet identifier (if it has one) and its payload begin.
func AppendPublish(dst []byte, o PublishOptions, topic string, payload []byte) (out []byte, idAt, payloadAt int) {
	length := 2 + len(topic) + len(payload)
	if o.QoS > 0 {
		length += 2
	}
	if o.Version == V5 {
		length++
	}
	flags := o.QoS << 1
	if o.Retain {
		flags |= 1
	}
	dst = appendVarint(append(dst, Publish<<4|flags), length)
	dst = appendString(dst, topic)
	if o.QoS > 0 {
		idAt = len(dst)
		dst = binary.BigEndian.AppendUint16(dst, o.PacketID)
	}
	if o.Version == V5 {
		dst = append(dst, 0)
	}
	return append(dst, payload...), idAt, len(dst)
}

// AppendAck appends a PUBACK, PUBREC, PUBREL or PUBCOMP that means success, which is the same in all versions.
func AppendAck(dst []byte, kind byte, id uint16) []byte {
	first := kind << 4
	if kind == Pubrel {
		first |= 2
	}
	return append(dst, first, 2, byte(id>>8), byte(id)) //nolint:gosec // its lower half
}

// AppendEmpty appends a packet without a body: PINGREQ, PINGRESP, DISCONNECT.
func AppendEmpty(dst []byte, kind byte) []byte { return append(dst, kind<<4, 0) }
