// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"slices"

	"github.com/mqtt-operator/mqtt-operator/broker-image/topics"
)

// maxPacketID is the number of packet ids [MQTT-2.2.1-3].
const maxPacketID = 65535

// entry is one message of QoS 1 or 2 in an outbox.
type entry struct {
	// m is nil when the message lies on disk, or need not be sent again.
	m     *message
	ids   []uint32
	group *topics.Shared[*session]
	// size is that of the message, also while it is not in memory.
	size   int
	qos    byte
	retain bool
	// released: PUBREC has come, PUBREL is what is owed [MQTT-4.3.3-5].
	released bool
	// confirming: PUBREC has come, and its mark is on its way to the disk.
	confirming bool
	// done: acknowledged, or dropped. It goes when all before it have gone.
	done bool
}

// outbox holds the messages of QoS 1 and 2 of one session from the oldest that is not acknowledged. It is a ring; the
// position in it gives the sequence number, and that the packet id.
//
//	first            first+sent          first+len            next
//	  │ sent, some done │ in memory, to send │ on disk only      │
type outbox struct {
	ring []entry
	head int
	len  int
	sent int
	// first is the sequence number of the head, next the one that the next message gets. They begin at 1.
	first, next uint64
	// inflight counts what was sent and is not done.
	inflight int
}

func packetID(seq uint64) uint16 { return uint16((seq-1)%maxPacketID + 1) }

func (o *outbox) at(i int) *entry { return &o.ring[(o.head+i)&(len(o.ring)-1)] }

// push appends an entry at the end of what is in memory; it must follow it without a gap.
func (o *outbox) push(e entry) {
	if o.len == len(o.ring) {
		bigger := make([]entry, max(4, 2*len(o.ring)))
		for i := range o.len {
			bigger[i] = *o.at(i)
		}

		o.ring, o.head = bigger, 0
	}

	o.len++
	*o.at(o.len - 1) = e
}

// spilled is how many sequence numbers behind what is in memory exist only on disk.
func (o *outbox) spilled() uint64 { return o.next - o.first - uint64(o.len) } //nolint:gosec // not negative

// find gives the entry that was sent with a packet id, and its sequence number.
func (o *outbox) find(id uint16) (*entry, uint64) {
	if o.sent == 0 || id == 0 {
		return nil, 0
	}

	i := (int(id) - int(packetID(o.first)) + maxPacketID) % maxPacketID
	if i >= o.sent {
		return nil, 0
	}

	if e := o.at(i); !e.done {
		return e, o.first + uint64(i) //nolint:gosec // not negative
	}

	return nil, 0
}

// finish marks an entry that was sent as done and lets go what stands at the head.
func (o *outbox) finish(e *entry) {
	e.done, e.m, e.ids, e.group = true, nil, nil, nil
	o.inflight--
	o.trim()
}

// trim lets go of entries at the head that are done.
func (o *outbox) trim() {
	for o.len > 0 && o.at(0).done {
		*o.at(0) = entry{}
		o.head = (o.head + 1) & (len(o.ring) - 1)
		o.len--
		o.sent = max(0, o.sent-1)
		o.first++
	}

	if o.len == 0 {
		o.ring, o.head = shrink(o.ring), 0
	}
}

// shrink keeps a small ring for the next message, and gives a large one back.
func shrink(ring []entry) []entry {
	if len(ring) > 32 {
		return nil
	}

	return ring
}

// roomForID tells whether the next message to be sent may have its packet id: the one that had it before is done.
func (o *outbox) roomForID() bool { return o.sent < maxPacketID }

// forget drops what has not been sent from memory; it lies on disk.
func (o *outbox) forget() {
	for i := o.sent; i < o.len; i++ {
		*o.at(i) = entry{}
	}

	o.len = o.sent

	for i := range o.len {
		o.at(i).m = nil
	}
}

// packetSet is a set of packet ids. Most hold a handful.
type packetSet struct {
	few  []uint16
	many *[maxPacketID/64 + 1]uint64
	n    int
}

const fewPacketIDs = 32

func (s *packetSet) has(id uint16) bool {
	if s.many != nil {
		return s.many[id/64]&(1<<(id%64)) != 0
	}

	return slices.Contains(s.few, id)
}

// add is false if the id was there.
func (s *packetSet) add(id uint16) bool {
	if s.has(id) {
		return false
	}

	s.n++

	if s.many == nil && len(s.few) == fewPacketIDs {
		s.many = new([maxPacketID/64 + 1]uint64)
		for _, have := range s.few {
			s.many[have/64] |= 1 << (have % 64)
		}

		s.few = nil
	}

	if s.many != nil {
		s.many[id/64] |= 1 << (id % 64)
	} else {
		s.few = append(s.few, id)
	}

	return true
}

// remove is false if the id was not there.
func (s *packetSet) remove(id uint16) bool {
	if !s.has(id) {
		return false
	}

	s.n--

	if s.many != nil {
		s.many[id/64] &^= 1 << (id % 64)
		if s.n == 0 {
			s.many = nil
		}

		return true
	}

	for i, have := range s.few {
		if have == id {
			s.few[i] = s.few[len(s.few)-1]
			s.few = s.few[:len(s.few)-1]

			break
		}
	}

	return true
}

// seqSet holds the sequence numbers that are on their way to the disk, in order.
type seqSet struct {
	seqs []uint64
	gone []bool
	head int // all before it are gone
}

func (s *seqSet) add(seq uint64) { s.seqs, s.gone = append(s.seqs, seq), append(s.gone, false) }

func (s *seqSet) remove(seq uint64) {
	if i, ok := slices.BinarySearch(s.seqs[s.head:], seq); ok {
		s.gone[s.head+i] = true
	}

	for s.head < len(s.seqs) && s.gone[s.head] {
		s.head++
	}

	switch {
	case s.head < len(s.seqs)/2 || s.head == 0: // moved only when that is cheap for each
	case s.head == len(s.seqs) && cap(s.seqs) > 1024:
		*s = seqSet{}
	default:
		s.seqs = append(s.seqs[:0], s.seqs[s.head:]...)
		s.gone = append(s.gone[:0], s.gone[s.head:]...)
		s.head = 0
	}
}

// safe is the sequence number up to which everything is on disk, given the next one to be given out.
func (s *seqSet) safe(next uint64) uint64 {
	if s.head < len(s.seqs) {
		return s.seqs[s.head] - 1
	}

	return next - 1
}
