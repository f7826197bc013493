// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// inbound is a message as it came from a source, whatever the version.
type inbound struct {
	topic   string
	payload []byte
	qos     byte
	retain  bool
	dup     bool
	id      uint16
	// props are those that are passed on, in wire form: see [wire.Publish]. There are none in 3.1.1.
	props []byte
	// expiry is in seconds; meaningful with expires.
	expires bool
	expiry  uint32
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
	props   []byte // as in inbound

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

// header is what stands before topic and payload in the PUBLISH. left is what remains of the expiry, which there is at 5 alone.
func (e *entry) header(left uint32) wire.PublishHeader {
	return wire.PublishHeader{Retain: e.retain, QoS: e.outQoS, Expiry: left, HasExpiry: e.expires}
}
