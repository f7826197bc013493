// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// siege is a broker that is killed again and again, with all who talk to it.
type siege struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	at     atomic.Pointer[string]
	// acked counts what publishers were told is safe.
	acked atomic.Int64
	// calm: publishers begin nothing new.
	calm atomic.Bool

	publishers  []*publisher
	subscribers []*subscriber
	running     sync.WaitGroup
}

// fail ends the siege: the broker has broken a promise.
func (g *siege) failf(format string, args ...any) { g.cancel(fmt.Errorf(format, args...)) }

// connect comes back until the broker is there. It is nil when the siege is over.
func (g *siege) connect(w who) *client {
	for g.ctx.Err() == nil {
		c, err := dial(*g.at.Load(), w)
		if err == nil {
			return c
		}

		select {
		case <-g.ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}

	return nil
}

// resume connects somebody whom the broker must remember.
func (g *siege) resume(w who) *client {
	c := g.connect(w)
	if c != nil && !c.resumed {
		g.failf("%s: its session is lost", w.id)
		c.close()

		return nil
	}

	return c
}

// publisher sends numbered messages and keeps them until they are acknowledged, also over a new connection.
type publisher struct {
	who

	g      *siege
	rand   *rand.Rand
	window int
	// ids is how many packet ids it uses: with few, each soon stands for another message.
	ids    uint16
	nextID uint16
	total  [3]int // by QoS
	// flight holds what is not acknowledged, in order.
	flight []*sent
	done   chan struct{}
}

type sent struct {
	id       uint16
	qos      byte
	seq      int
	received bool // PUBREC has come
}

func (p *publisher) topic(qos byte) string { return fmt.Sprintf("load/%s/%d", p.id, qos) }

// payload begins with the number. Some are larger than what the store keeps inside its queue.
func payload(seq int) string {
	size := 0

	switch {
	case seq%97 == 0:
		size = 20 << 10
	case seq%31 == 0:
		size = 2 << 10
	}

	return strconv.Itoa(seq) + ":" + strings.Repeat("x", size)
}

func (p *publisher) packet(m *sent, dup bool) []byte {
	return p.frame(p.topic(m.qos), payload(m.seq), wire.PublishHeader{QoS: m.qos, PacketID: m.id, Dup: dup})
}

func (w who) frame(topic, content string, h wire.PublishHeader) []byte {
	b, _ := wire.AppendPublish(nil, w.v(), &h, topic, nil, []byte(content))

	return b
}

func (p *publisher) run() {
	defer close(p.done)

	for p.g.ctx.Err() == nil && !p.finished() {
		c := p.g.resume(p.who)
		if c == nil {
			return
		}

		p.talk(c)
		c.close()
	}
}

func (p *publisher) finished() bool { return p.g.calm.Load() && len(p.flight) == 0 }

// talk goes on until the connection breaks or everything is acknowledged.
func (p *publisher) talk(c *client) {
	var out []byte

	for _, m := range p.flight { // [MQTT-4.4.0-1]
		if m.received {
			out = wire.AppendAck(out, c.v(), wire.TypePubrel, m.id, wire.Success, "")
		} else {
			out = append(out, p.packet(m, true)...)
		}
	}

	for !p.finished() && p.g.ctx.Err() == nil {
		for len(p.flight) < p.window && !p.g.calm.Load() {
			out = append(out, p.packet(p.next(), false)...)
		}

		if len(out) > 0 && c.send(out) != nil {
			return
		}

		out = out[:0]

		for first := true; first || c.in.Buffered() > 0; first = false {
			in, err := c.read(patience)
			if err != nil {
				return
			}

			out = p.hear(out, in)
		}
	}
}

func (p *publisher) next() *sent {
	for taken := true; taken; {
		p.nextID = p.nextID%p.ids + 1
		taken = slices.ContainsFunc(p.flight, func(m *sent) bool { return m.id == p.nextID })
	}

	qos := byte(1 + p.rand.IntN(2))
	p.total[qos]++
	m := &sent{id: p.nextID, qos: qos, seq: p.total[qos]}
	p.flight = append(p.flight, m)

	return m
}

// hear takes an acknowledgement, and appends what is to be answered.
func (p *publisher) hear(out, in []byte) []byte {
	typ, id := wire.Type(in[0]), binary.BigEndian.Uint16(in[2:])

	// The PUBCOMP before this one may have been lost with its connection.
	if code := reason(in); code != 0 && (typ != wire.TypePubcomp || code != wire.PacketIdentifierNotFound) {
		p.g.failf("%s: acknowledgement of type %d says %#x", p.id, typ, code)

		return out
	}

	i := slices.IndexFunc(p.flight, func(m *sent) bool { return m.id == id })
	if i < 0 {
		p.g.failf("%s: acknowledgement of type %d for %d, which is not in flight", p.id, typ, id)

		return out
	}

	m := p.flight[i]

	switch {
	case typ == wire.TypePubrec && m.qos == 2:
		m.received = true

		return wire.AppendAck(out, p.v(), wire.TypePubrel, id, wire.Success, "")
	case typ == wire.TypePuback && m.qos == 1:
		if first := slices.IndexFunc(p.flight, func(m *sent) bool { return m.qos == 1 }); first != i { // [MQTT-4.6.0-2]
			p.g.failf("%s: number %d is acknowledged before number %d", p.id, m.seq, p.flight[first].seq)
		}
	case typ == wire.TypePubcomp && m.received:
	default:
		p.g.failf("%s: acknowledgement of type %d for QoS %d", p.id, typ, m.qos)
	}

	p.flight = slices.Delete(p.flight, i, i+1)
	p.g.acked.Add(1)

	return out
}

// subscriber checks what arrives. What it knows outlives its connections, as a good client's knowledge does.
type subscriber struct {
	who

	g    *siege
	rand *rand.Rand
	// flaps: it cuts its connection again and again.
	flaps bool
	// held are packet ids of QoS 2 whose PUBREL has not come.
	held map[uint16]bool

	mu   sync.Mutex
	last map[string]int // by topic: the highest number that came
}

func (s *subscriber) run() {
	for s.g.ctx.Err() == nil {
		c := s.g.resume(s.who)
		if c == nil {
			return
		}

		stop := context.AfterFunc(s.g.ctx, c.close)
		s.listen(c)
		stop()
		c.close()
	}
}

func (s *subscriber) listen(c *client) {
	var (
		out  []byte
		left = 1 + s.rand.IntN(300)
	)

	for {
		in, err := c.read(time.Hour)
		if err != nil {
			return
		}

		out = s.hear(out, in)

		left--
		if s.flaps && left == 0 {
			// Half of the time what it would have answered is lost.
			if s.rand.IntN(2) == 0 {
				_ = c.send(out)
			}

			return
		}

		if c.in.Buffered() == 0 && len(out) > 0 {
			if c.send(out) != nil {
				return
			}

			out = out[:0]
		}
	}
}

func (s *subscriber) hear(out, in []byte) []byte {
	switch typ := wire.Type(in[0]); typ {
	case wire.TypePublish:
		var m wire.Publish
		if err := wire.ParsePublish(in, s.v(), &m); err != nil {
			s.g.failf("%s: a PUBLISH that is none: %w", s.id, err)

			return out
		}

		return s.take(out, &m)
	case wire.TypePubrel:
		id := binary.BigEndian.Uint16(in[2:])
		delete(s.held, id)

		return wire.AppendAck(out, s.v(), wire.TypePubcomp, id, wire.Success, "")
	default:
		s.g.failf("%s: packet of type %d: % x", s.id, typ, in)

		return out
	}
}

func (s *subscriber) take(out []byte, m *wire.Publish) []byte {
	number, _, _ := strings.Cut(string(m.Payload), ":")

	seq, err := strconv.Atoi(number)
	if err != nil || string(m.Payload) != payload(seq) {
		s.g.failf("%s: a payload that nobody sent, with %d bytes", s.id, len(m.Payload))

		return out
	}

	answer := wire.TypePuback

	if m.QoS == 2 {
		answer = wire.TypePubrec
	}

	if m.QoS != 2 || !s.held[m.PacketID] {
		s.count(string(m.Topic), seq, m)
	}

	if m.QoS == 2 {
		s.held[m.PacketID] = true
	}

	return wire.AppendAck(out, s.v(), answer, m.PacketID, wire.Success, "")
}

// count enters a message that an application would have got. Since publishers number them and send again what was not
// acknowledged, the next new one is always one higher.
func (s *subscriber) count(topic string, seq int, m *wire.Publish) {
	s.mu.Lock()
	defer s.mu.Unlock()

	last := s.last[topic]

	switch {
	case seq == last+1:
		s.last[topic] = seq
	case seq > last:
		s.g.failf("%s: %s: number %d came after %d: what is between is lost or late (QoS %d, id %d, dup %v)",
			s.id, topic, seq, last, m.QoS, m.PacketID, m.Dup)
	case m.QoS == 2:
		s.g.failf("%s: %s: number %d came again after %d with QoS 2 (id %d, dup %v)", s.id, topic, seq, last, m.PacketID, m.Dup)
	}
}

// missing tells what has not come.
func (s *subscriber) missing(publishers []*publisher) string {
	s.mu.Lock()
	defer s.mu.Unlock()

	for _, p := range publishers {
		for qos := byte(1); qos <= 2; qos++ {
			if have, want := s.last[p.topic(qos)], p.total[qos]; have != want {
				return fmt.Sprintf("%s: %s: %d of %d have come", s.id, p.topic(qos), have, want)
			}
		}
	}

	return ""
}
