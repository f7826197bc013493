// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

const (
	// maxBacklog is what may wait to be written to a destination before messages of QoS 0 are dropped.
	maxBacklog = 1 << 20
	// unacknowledgedRoom is how many messages of QoS 0 may wait behind others.
	unacknowledgedRoom = 1000

	// propResponseTopic is the identifier of a property (MQTT 5.0, section 2.2.2.2).
	propResponseTopic = 0x08

	minPause = 500 * time.Millisecond
	maxPause = 30 * time.Second
)

// flow is a route in one direction: the messages between their arrival from the source and the moment when the source
// has been told that the destination has them. They stand in the order of their arrival; acknowledgements leave in the
// same order [MQTT-4.6.0-2].
type flow struct {
	route     string
	direction contract.Direction
	identity  string
	hop       []byte // what it adds to the properties of each message
	counts    *counts
	// fromEchoes and toEchoes are of the ends, nil where they speak 5 or nothing comes back from them.
	fromEchoes, toEchoes *echoes

	mu   sync.Mutex
	room *sync.Cond // of those who wait for the flow to get shorter

	mapping, before *mapping
	sub             subscription
	inflight        int

	source, dest peer
	subscribed   bool

	// The entries head to tail, in a ring. Those before cursor are sent or done.
	ring               []*entry
	head, cursor, tail uint64
	inFlight           int
	spare              []*entry
	// orphans are entries whose source's connection was lost before they were acknowledged, by identifier. The source
	// will deliver them again, before anything else; then they are found here and need not be sent twice.
	orphans map[uint16]*entry
	// half are identifiers of QoS 2 whose PUBREC was sent and whose PUBREL has not come.
	half map[uint16]bool

	// ignoring leaves what arrives to the source: the connection is about to be made anew. holding sends nothing more.
	ignoring, holding bool
	// The destination asked for patience.
	pausedUntil time.Time
	pause       time.Duration

	wary          wary
	lastError     string
	lastErrorTime time.Time
}

func newFlow(route string, d contract.Direction, identity string, c *counts) *flow {
	f := &flow{
		route: route, direction: d, identity: identity, hop: hopOf(identity), counts: c,
		ring: make([]*entry, 64), orphans: map[uint16]*entry{}, half: map[uint16]bool{},
	}
	f.room = sync.NewCond(&f.mu)

	return f
}

// set gives the flow its route. What the old one was about and is still waiting at the source goes by the old one.
func (f *flow) set(m *mapping, sub subscription, inflight int) {
	f.mu.Lock()
	defer f.mu.Unlock()

	if f.mapping != nil && (f.mapping.source() != m.source() || f.mapping.to != m.to) {
		f.before = f.mapping
	}

	f.mapping, f.sub, f.inflight = m, sub, inflight
	f.room.Broadcast()
	f.pump(time.Now())
	f.flush()
}

// flush sends what the flow has caused. Whoever reads a connection does it when all is read; the others call this.
func (f *flow) flush() {
	if f.dest != nil {
		f.dest.flush()
	}

	if f.source != nil {
		f.source.flush()
	}
}

func (f *flow) length() int { return int(f.tail - f.head) } //nolint:gosec // bounded by the window

func (f *flow) at(n uint64) *entry { return f.ring[slot(n, f.ring)] }

// slot is the place of an entry in a ring, whose length is a power of two.
func slot(n uint64, ring []*entry) uint64 {
	return n & uint64(len(ring)-1) //nolint:gosec // a ring is never empty
}

func (f *flow) push(e *entry) {
	if f.length() == len(f.ring) {
		wider := make([]*entry, 2*len(f.ring))
		for n := f.head; n < f.tail; n++ {
			wider[slot(n, wider)] = f.at(n)
		}

		f.ring = wider
	}

	f.ring[slot(f.tail, f.ring)] = e
	f.tail++
}

func (f *flow) newEntry() *entry {
	if n := len(f.spare); n > 0 {
		e := f.spare[n-1]
		f.spare = f.spare[:n-1]

		return e
	}

	return &entry{}
}

// sourceUp begins a connection to the source. It is called before anything is read from it.
func (f *flow) sourceUp(p peer, present bool) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.source, f.subscribed, f.ignoring = p, false, false

	if !present {
		clear(f.half)
		f.release()
	}

	f.reap()
	f.room.Broadcast()
}

func (f *flow) sourceSubscribed(p peer) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.subscribed = f.source == p
}

// sourceLost makes orphans of what is not acknowledged.
func (f *flow) sourceLost(p peer) {
	f.mu.Lock()
	defer f.mu.Unlock()

	if f.source != p {
		return
	}

	f.source, f.subscribed = nil, false

	for n := f.head; n < f.tail; n++ {
		if e := f.at(n); e.source == p && e.qos > 0 {
			f.orphans[e.id] = e
		}
	}

	f.room.Broadcast()
}

// release gives up waiting for the source to deliver again what it had not been told of.
func (f *flow) release() {
	clear(f.orphans)

	for n := f.head; n < f.tail; n++ {
		if e := f.at(n); e.source != f.source {
			e.source = nil
		}
	}
}

func (f *flow) destUp(p peer) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.dest, f.holding, f.pausedUntil = p, false, time.Time{}
	f.wary.began()
	f.pump(time.Now())
	p.flush()
}

// destLost puts what was sent and not answered back in line: the destination may get it twice, never out of order.
func (f *flow) destLost(p peer, why *fault) {
	f.mu.Lock()
	defer f.mu.Unlock()

	if f.dest != p {
		return
	}

	if f.wary.wasFit = f.wary.fit; why.mayBeOverAMessage() {
		f.ended(time.Now())
	}

	f.dest, f.inFlight, f.cursor = nil, 0, f.head

	for n := f.head; n < f.tail; n++ {
		e := f.at(n)
		if e.state == sent {
			e.state, e.repeat = waiting, true
		}

		if e.qos == 0 && e.state == waiting {
			e.state = done
			f.counts.drop(DropNotConnected)
		}
	}

	f.reap()
	f.flush()
	f.room.Broadcast()
}

// received takes a message from the source.
func (f *flow) received(p peer, m *inbound) {
	now := time.Now()

	f.mu.Lock()
	defer f.mu.Unlock()

	if m.qos == released {
		if p == f.source {
			delete(f.half, m.id)
		}

		return
	}

	if m.qos > 0 && p.limits().floods { // who is not read from sends no more
		for f.source == p && !f.ignoring && f.length() >= f.inflight && len(f.orphans) == 0 {
			f.flush() // what gathered since the last pause is what there is to wait for
			f.room.Wait()

			now = time.Now()
		}
	}

	if p != f.source || (f.ignoring && m.qos > 0) {
		return // it will be delivered again
	}

	var mark uint64
	if m.qos > 0 {
		mark = digest(m.topic, m.payload)
		if f.isKnown(p, m, mark) {
			f.reap()

			return
		}
	}

	f.counts.bytes.Add(int64(len(m.payload)))

	e := f.newEntry()
	*e = entry{source: p, id: m.id, qos: m.qos, mark: mark, arrived: now}

	if reason, text := f.translate(e, m, now); reason != "" {
		f.giveUp(e, reason, text, now)
	} else if m.qos == 0 && (e.state == done || !f.takesUnacknowledged()) {
		return
	}

	f.push(e)
	f.pump(now)
}

// isKnown tells whether a message is here already: the source delivers it again because its connection was lost.
func (f *flow) isKnown(p peer, m *inbound, mark uint64) bool {
	if m.qos == 2 && f.half[m.id] {
		// It was taken; only the PUBREC got lost [MQTT-4.3.3-10].
		p.acknowledge(&entry{id: m.id, qos: 2})

		return true
	}

	if len(f.orphans) == 0 {
		return false
	}

	e := f.orphans[m.id]
	if !m.dup || e == nil || e.mark != mark || e.qos != m.qos {
		// What is delivered again comes first and in order, so nothing more of what is known will come.
		f.release()
		f.reap()

		return false
	}

	delete(f.orphans, m.id)
	e.source = p

	return true
}

// takesUnacknowledged tells whether there is room for a message of QoS 0, and counts it if not.
func (f *flow) takesUnacknowledged() bool {
	switch {
	case f.dest == nil:
		f.counts.drop(DropNotConnected)
	case f.length() >= f.inflight+unacknowledgedRoom || f.dest.backlog() > maxBacklog:
		f.counts.drop(DropSlow)
	default:
		return true
	}

	return false
}

// translate fills in what goes to the destination, or says why nothing does.
func (f *flow) translate(e *entry, m *inbound, now time.Time) (reason, text string) {
	way := f.mapping
	topic, found := way.topic(m.topic)

	if !found && f.before != nil {
		way = f.before
		topic, found = way.topic(m.topic)
	}

	switch {
	case !found:
		return DropNoRoute, fmt.Sprintf("the topic %q, which the source sent, is outside of the route; an earlier configuration may have asked for it", printable(m.topic))
	case topic == "":
		return DropTopicEmpty, fmt.Sprintf("nothing is left of the topic %q behind its prefix", printable(m.topic))
	case len(topic) > maxTopic:
		return DropTopicTooLong, fmt.Sprintf("with the prefix of the destination a topic has %d bytes, MQTT carries %d; shorten the prefix", len(topic), maxTopic)
	case seenBefore(m.props, f.identity):
		return DropLoop, "a message came back that this bridge had carried before; look for another bridge between the same brokers"
	case f.fromEchoes != nil && f.fromEchoes.isEcho(digest(m.topic, m.payload), now):
		f.counts.drop(DropLoop)
		e.state = done

		return "", ""
	}

	e.topic, e.payload = topic, m.payload
	e.outQoS = min(m.qos, f.sub.qos)
	e.retain = m.retain && f.sub.retain

	e.expires, e.expiry = m.expires, m.expiry

	if len(m.props) == 0 {
		e.props = f.hop

		return "", ""
	}

	props := m.props

	if bytes.IndexByte(props, propResponseTopic) >= 0 {
		said, err := wire.ParseForwarded(props)
		if err == nil && said.ResponseTopic != "" {
			said.ResponseTopic = way.answer(said.ResponseTopic)
			props, err = wire.AppendForwarded(nil, &said)
		}

		if err != nil {
			return DropTopicTooLong, "with the prefix of the destination a response topic is longer than MQTT carries; shorten the prefix"
		}
	}

	e.props = slices.Concat(props, f.hop)

	return "", ""
}

// giveUp ends the way of a message: the source is told that it is taken, and people are told why it was not.
func (f *flow) giveUp(e *entry, reason, text string, now time.Time) {
	e.state = done
	f.counts.drop(reason)

	if text != "" {
		f.lastError, f.lastErrorTime = text, now
	}
}

// window is how many messages may wait for the destination.
func (f *flow) window() int { return f.wary.bound(f.widest()) }

// widest is the window of a destination that nothing is wrong with.
func (f *flow) widest() int { return min(f.inflight, f.dest.limits().window) }

// pump sends what may be sent.
func (f *flow) pump(now time.Time) {
	for f.dest != nil && f.cursor < f.tail && !f.holding {
		e := f.at(f.cursor)
		if e.state != waiting {
			f.cursor++

			continue
		}

		if f.inFlight >= f.window() && e.outQoS > 0 || now.Before(f.pausedUntil) || f.wary.alone {
			break
		}

		next, alone := f.choose(f.cursor, now)
		if next == nil || !f.send(next, now) {
			break
		}

		if f.wary.alone = alone && next.state == sent; next == e {
			f.cursor++
		}
	}

	f.reap()
}

// send hands one entry to the destination; false where it takes none now.
func (f *flow) send(e *entry, now time.Time) bool {
	limits := f.dest.limits()
	e.outQoS = min(e.outQoS, limits.maxQoS)
	e.retain = e.retain && limits.retain

	if e.expires {
		if _, alive := e.left(now); !alive {
			f.giveUp(e, DropExpired, "", now)

			return true
		}
	}

	if f.toEchoes != nil && !e.counted {
		f.toEchoes.remember(digest(e.topic, e.payload), now)

		e.counted = true
	}

	switch err := f.dest.publish(e, now); {
	case err == nil:
	case errors.Is(err, errTooLarge):
		f.giveUp(e, DropTooLarge, fmt.Sprintf("a message on %q with %d bytes is larger than the destination takes; raise its maximum packet size", printable(e.topic), len(e.payload)), now)

		return true
	default:
		return false
	}

	if e.outQoS == 0 {
		e.state = done
		f.counts.forward(now.Sub(e.arrived))

		return true
	}

	e.state, e.sent = sent, now
	f.inFlight++

	return true
}

// completed takes the answer of the destination.
func (f *flow) completed(p peer, e *entry, code byte) {
	f.mu.Lock()
	defer f.mu.Unlock()

	if p != f.dest {
		return
	}

	now := time.Now()

	if e != nil {
		f.inFlight--
		f.wary.answered(f.widest(), now)
		f.answered(e, code, now)
	}

	f.pump(now)
	f.room.Broadcast()
}

func (f *flow) answered(e *entry, code byte, now time.Time) {
	switch {
	case code < topCode:
		e.state = done
		f.pause = 0

		if len(f.wary.refused) > 0 {
			f.wary.accept(e)
		}

		f.counts.forward(now.Sub(e.arrived))
	case code == 0x97:
		e.state, e.repeat = waiting, true
		f.cursor = f.head
		f.pause = min(max(2*f.pause, minPause), maxPause)
		f.pausedUntil = now.Add(f.pause)
		f.lastError, f.lastErrorTime = "the destination's quota is used up; the route waits and tries again", now
	default:
		reason, text := dropOf(code)
		f.giveUp(e, reason, fmt.Sprintf("%s (topic %q)", text, printable(e.topic)), now)
	}
}

// reap acknowledges and forgets what is done, from the front.
func (f *flow) reap() {
	for f.head < f.tail {
		e := f.at(f.head)
		if e.state != done {
			return
		}

		if e.qos > 0 && e.source != nil {
			if e.source != f.source {
				return // it will be delivered again, and then it is known; see release
			}

			e.source.acknowledge(e)

			if e.qos == 2 {
				f.half[e.id] = true
			}
		}

		f.ring[slot(f.head, f.ring)] = nil
		f.head++
		f.room.Broadcast() // whoever brought this about, and whatever else is under way
		f.cursor = max(f.cursor, f.head)

		*e = entry{}
		if len(f.spare) < cap(f.ring) {
			f.spare = append(f.spare, e)
		}
	}
}

// tick looks after what only time brings: it tells whether the destination owes an answer for too long.
func (f *flow) tick(now time.Time, patience time.Duration) (overdue peer) {
	f.mu.Lock()
	defer f.mu.Unlock()

	if f.dest == nil {
		return nil
	}

	for n := f.head; n < f.tail; n++ {
		if e := f.at(n); e.state == sent {
			if now.Sub(e.sent) > patience {
				return f.dest
			}

			break
		}
	}

	if !f.pausedUntil.IsZero() && !now.Before(f.pausedUntil) {
		f.pausedUntil = time.Time{}
		f.pump(now)
		f.flush()
	}

	return nil
}

// drain waits until all that was taken is acknowledged, and takes no more meanwhile.
func (f *flow) drain(ctx context.Context) {
	f.until(ctx, func() bool { return f.head == f.tail || f.dest == nil }, func() { f.ignoring = true })
}

// hold waits until the destination has answered for all that was sent, and sends no more meanwhile.
func (f *flow) hold(ctx context.Context) {
	f.until(ctx, func() bool { return f.inFlight == 0 || f.dest == nil }, func() { f.holding = true })
}

func (f *flow) until(ctx context.Context, is func() bool, begin func()) {
	stop := context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()

		f.room.Broadcast()
	})
	defer stop()

	f.mu.Lock()
	defer f.mu.Unlock()

	begin()
	f.room.Broadcast()

	for !is() && ctx.Err() == nil {
		f.room.Wait()
	}
}

// fail keeps an error for people.
func (f *flow) fail(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.lastError, f.lastErrorTime = text, time.Now()
}

// state is what a status says of a flow.
type state struct {
	connected     bool
	queued        int64
	lag           time.Duration
	lastError     string
	lastErrorTime time.Time
}

func (f *flow) state(now time.Time) state {
	f.mu.Lock()
	defer f.mu.Unlock()

	s := state{connected: f.source != nil && f.subscribed && f.dest != nil, lastError: f.lastError, lastErrorTime: f.lastErrorTime}

	for n := f.head; n < f.tail; n++ {
		e := f.at(n)
		if e.state == done {
			continue
		}

		if s.queued == 0 {
			s.lag = now.Sub(e.arrived)
		}

		s.queued++
	}

	return s
}

// quality is the highest QoS of the route.
func (f *flow) quality() byte {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.sub.qos
}

// smaller is the largest packet that the destination takes, where the source may send larger ones; else 0.
func (f *flow) smaller() uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()

	if f.source == nil || f.dest == nil {
		return 0
	}

	if from, to := f.source.limits().maxPacket, f.dest.limits().maxPacket; to > 0 && (from == 0 || to < from) {
		return to
	}

	return 0
}

func (f *flow) retains() bool {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.sub.retain
}

// subscription is what to ask the source for. shared says that the bridge publishes at the source by the same
// connection, so that the server can leave out what comes from there.
func (f *flow) subscription(shared bool) subscription {
	f.mu.Lock()
	defer f.mu.Unlock()

	s := f.sub
	s.noLocal = shared && !strings.HasPrefix(s.filter, "$share/") // [MQTT-3.8.3-4]

	return s
}
