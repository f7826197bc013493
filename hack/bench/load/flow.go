// SPDX-License-Identifier: Apache-2.0

package load

import (
	"encoding/binary"

	"github.com/mqtt-operator/mqtt-operator/hack/bench/wire"
)

// FlowOptions say how one publisher sends.
type FlowOptions struct {
	QoS    byte
	Retain bool
	Topics []string // in turn
	// Receivers are how many clients get each message; their slots are 0 to Receivers-1.
	Receivers int
	// Ahead is how many messages the slowest receiver may be behind. So nothing is dropped, and every message counts.
	Ahead int
	// Window is how many messages of QoS 1 and 2 may wait for their acknowledgement.
	Window int
	// Limit, if not 0, is how many messages are sent at most.
	Limit uint64
	// Patch, if set, writes into the topic of each message; the topic keeps its length.
	Patch func(topic []byte, number uint64)
}

// template is a message that was encoded once.
type template struct {
	bytes           []byte
	topic           int // its length
	idAt, payloadAt int
}

// Flow is one publisher and those who get its messages.
type Flow struct {
	FlowOptions

	bench     *Bench
	index     uint32
	sender    *Client
	templates []template
	free      []uint16 // packet identifiers
	pos       []uint64 // next number of each receiver
	done      []uint16 // how many receivers are past a number, in a ring
	min       uint64   // all receivers are past all numbers below
	batch     uint64   // no less is sent at once
	queued    bool     // for top
	least     uint64   // min when it last moved, as far as we looked
	since     int64    // when that was
	first     []int64  // when slot 0 had a number, in a ring as long as done

	Sent, Acked uint64
}

// init encodes the templates. A window has 65,535 messages at most: packet identifiers are not zero.
func (f *Flow) init(run uint32, version byte, payload int) {
	body := make([]byte, max(payload, minPayload))
	binary.LittleEndian.PutUint32(body[flowAt:], f.index)
	binary.LittleEndian.PutUint32(body[runAt:], run)
	for _, topic := range f.Topics {
		t := template{topic: len(topic)}
		t.bytes, t.idAt, t.payloadAt = encode(version, f.QoS, f.Retain, topic, body)
		f.templates = append(f.templates, t)
	}
	if f.QoS > 0 {
		for id := min(f.Window, 65535); id > 0; id-- {
			f.free = append(f.free, uint16(id))
		}
	}
	f.pos = make([]uint64, f.Receivers)
	if f.Receivers > 1 {
		size := 1
		for size < 4*(f.Ahead+1) {
			size *= 2
		}
		f.done = make([]uint16, size)
	}
	f.batch = 1
	if f.QoS == 0 {
		f.batch = uint64(max(1, f.Ahead/8))
	}
}

// room is how many messages may be sent now.
func (f *Flow) room() uint64 {
	room := ^uint64(0)
	if f.Receivers > 0 {
		room = f.min + uint64(f.Ahead) - f.Sent //nolint:gosec // positive
	}
	if f.QoS > 0 {
		room = min(room, uint64(len(f.free)))
	}
	if f.Limit > 0 {
		room = min(room, f.Limit-f.Sent)
	}
	return room
}

// top sends what may be sent.
func (f *Flow) top(now int64) {
	f.queued = false
	if f.bench.stopped {
		return
	}
	room := f.room()
	if room == 0 || (room < f.batch && f.Sent > f.min) {
		return
	}
	conn := f.sender.conn
	out := conn.Out()
	for range min(room, 4096) {
		out = f.append(out, now)
	}
	conn.Send(out)
}

// append encodes the next message.
func (f *Flow) append(out []byte, due int64) []byte {
	t := &f.templates[0]
	if len(f.templates) > 1 {
		t = &f.templates[f.Sent%uint64(len(f.templates))]
	}
	at := len(out)
	out = append(out, t.bytes...)
	if f.QoS > 0 {
		last := len(f.free) - 1
		binary.BigEndian.PutUint16(out[at+t.idAt:], f.free[last])
		f.free = f.free[:last]
	}
	if f.Patch != nil {
		// The topic stands before the identifier, or before the payload and the empty properties of MQTT 5.
		end := t.idAt
		if f.QoS == 0 {
			end = t.payloadAt
			if f.bench.Version == wire.V5 {
				end--
			}
		}
		f.Patch(out[at+end-t.topic:at+end], f.Sent)
	}
	body := out[at+t.payloadAt:]
	binary.LittleEndian.PutUint64(body[dueAt:], uint64(due)) //nolint:gosec // our own clock
	binary.LittleEndian.PutUint64(body[numberAt:], f.Sent)
	f.Sent++
	return out
}

func (f *Flow) acknowledged(id uint16) {
	f.Acked++
	f.free = append(f.free, id)
	f.wake()
}

// got is called for each message that a receiver reads.
func (f *Flow) got(slot int, number uint64, due, now int64) {
	b := f.bench
	if slot >= len(f.pos) || number >= f.Sent {
		b.Foreign++
		return
	}
	next := f.pos[slot]
	if number < next {
		b.Again++ // twice, out of order, or after we gave it up
		return
	}
	b.Lost += number - next
	b.Delivered++
	if b.Latency != nil && (b.Between == nil || slot == 1) {
		b.latency(due, now)
	}
	if b.Between != nil {
		f.between(slot, number, now)
	}
	f.advance(slot, number+1)
}

// between compares the first two receivers. What the second one had earlier counts as nothing.
func (f *Flow) between(slot int, number uint64, now int64) {
	if f.first == nil {
		f.first = make([]int64, len(f.done))
	}
	at := &f.first[number&uint64(len(f.first)-1)]
	switch {
	case slot == 0 && *at < 0: // the second one was earlier
		*at = 0
	case slot == 0:
		*at = now
	case slot == 1:
		took := int64(1)
		if *at > 0 {
			took = max(1, min(now-*at, f.bench.Between.HighestTrackableValue()))
			*at = 0
		} else {
			*at = -1
		}
		_ = f.bench.Between.RecordValue(took)
	}
}

func (f *Flow) advance(slot int, to uint64) {
	from := f.pos[slot]
	f.pos[slot] = to
	if f.done == nil {
		f.min = to
		f.wake()
		return
	}
	mask := uint64(len(f.done) - 1) //nolint:gosec // it has a receiver
	for ; from < to; from++ {
		f.done[from&mask]++
	}
	before := f.min
	for f.min < f.Sent && int(f.done[f.min&mask]) == f.Receivers {
		f.done[f.min&mask] = 0
		f.min++
	}
	if f.min != before {
		f.wake()
	}
}

// giveUp forgets messages that somebody has not got, so that a broker that drops does not end the run.
func (f *Flow) giveUp() {
	for slot, pos := range f.pos {
		if pos < f.Sent {
			f.bench.Lost += f.Sent - pos
			f.advance(slot, f.Sent)
		}
	}
}

// full tells whether receivers have got as many messages as can be on their way.
func (f *Flow) full() bool { return f.min >= uint64(f.Ahead) } //nolint:gosec // positive

func (f *Flow) wake() {
	if !f.queued {
		f.queued = true
		f.bench.due = append(f.bench.due, f)
	}
}
