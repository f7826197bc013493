// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"encoding/binary"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// inbound is a message as it came from a source, whatever the version.
type inbound struct {
	topic   string
	payload []byte
	qos     byte
	retain  bool
	dup     bool
	id      uint16
	// props are nil where the source speaks 3.1.1.
	props *packets.Properties
	// ack acknowledges at a source that speaks 3.1.1.
	ack func()
}

// Where an entry stands.
const (
	waiting = iota // to be sent
	sent           // and not acknowledged by the destination
	done           // by the destination, or given up
)

// entry is a message on its way through a flow.
type entry struct {
	// What to acknowledge, and on which connection. qos 0 needs nothing.
	source peer
	id     uint16
	qos    byte
	ack    func()
	// mark tells a message that is delivered again from another one with the same identifier.
	mark    uint64
	arrived time.Time
	// expiry is what was left at arrival, in seconds; meaningful with expires.
	expires bool
	expiry  uint32

	// What goes to the destination.
	topic   string
	payload []byte
	retain  bool
	outQoS  byte
	props   *packets.Properties

	state uint8
	// strikes is how many connections ended while this message alone was under way; it stops counting at extremeStrikes.
	strikes uint8
	repeat  bool // it was sent before
	sent    time.Time
	counted bool // it was remembered as a possible echo
}

// left is what remains of the expiry; false once nothing does.
func (e *entry) left(now time.Time) (uint32, bool) {
	passed := max(0, int64(now.Sub(e.arrived)/time.Second))
	if passed >= int64(e.expiry) {
		return 0, false
	}

	return e.expiry - uint32(passed), true //nolint:gosec // less than expiry
}

// Identifiers of properties that a PUBLISH carries (MQTT 5.0, section 2.2.2.2).
const (
	propPayloadFormat = 0x01
	propExpiry        = 0x02
	propContentType   = 0x03
	propResponseTopic = 0x08
	propCorrelation   = 0x09
	propUser          = 0x26
)

const maxRemaining = 268_435_455

// size5 is the length of the properties of a PUBLISH of version 5, and its remaining length.
func (e *entry) size5() (properties, rest int) {
	if e.expires {
		properties += 5
	}

	if p := e.props; p != nil {
		if p.PayloadFormat != nil {
			properties += 2
		}

		if p.ContentType != "" {
			properties += 3 + len(p.ContentType)
		}

		if p.ResponseTopic != "" {
			properties += 3 + len(p.ResponseTopic)
		}

		if p.CorrelationData != nil {
			properties += 3 + len(p.CorrelationData)
		}

		for i := range p.User {
			properties += 5 + len(p.User[i].Key) + len(p.User[i].Value)
		}
	}

	rest = 2 + len(e.topic) + digitsOf(properties) + properties + len(e.payload)
	if e.outQoS > 0 {
		rest += 2
	}

	return properties, rest
}

// append5 adds the PUBLISH of version 5. left is what remains of the expiry.
func (e *entry) append5(b []byte, id uint16, left uint32, properties, rest int) []byte {
	flags := byte(0x30) | e.outQoS<<1
	if e.retain {
		flags |= 1
	}

	b = append(b, flags)
	b = appendLength(b, rest)
	b = appendText(b, e.topic)

	if e.outQoS > 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}

	b = appendLength(b, properties)
	if e.expires {
		b = append(b, propExpiry)
		b = binary.BigEndian.AppendUint32(b, left)
	}

	if p := e.props; p != nil {
		if p.PayloadFormat != nil {
			b = append(b, propPayloadFormat, *p.PayloadFormat)
		}

		if p.ContentType != "" {
			b = appendText(append(b, propContentType), p.ContentType)
		}

		if p.ResponseTopic != "" {
			b = appendText(append(b, propResponseTopic), p.ResponseTopic)
		}

		if p.CorrelationData != nil {
			b = appendText(append(b, propCorrelation), string(p.CorrelationData))
		}

		for i := range p.User {
			b = appendText(append(b, propUser), p.User[i].Key)
			b = appendText(b, p.User[i].Value)
		}
	}

	return append(b, e.payload...)
}

func digitsOf(length int) int {
	n := 1
	for ; length >= 128; length >>= 7 {
		n++
	}

	return n
}

func appendLength(b []byte, length int) []byte {
	for ; length >= 128; length >>= 7 {
		b = append(b, byte(length)|0x80)
	}

	return append(b, byte(length)) //nolint:gosec // less than 128
}

func appendText(b []byte, text string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(text))) //nolint:gosec // topics are bounded, the rest came from a packet

	return append(b, text...)
}
