// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"encoding/binary"
	"math"
	"net"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/listen"
	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

const (
	// strangerPacket is the largest packet of who is not let in yet: a CONNECT with a will of some size.
	strangerPacket = 256 << 10
	// lastWordsPatience is how long a peer has to take in what it is told before its connection is cut.
	lastWordsPatience = 2 * time.Second
	// stallPatience is how long a peer may take nothing of what waits for it.
	stallPatience = 30 * time.Second
)

// identity is who a connection belongs to. It never changes; a client that proves itself anew gets another one.
type identity struct {
	username string
	verifier string // the text of the verifier that fitted
	probe    bool
	vouched  bool // by an Exchange, not by a password
	// peer is the client certificate that it is tied to; nil if that plays no part.
	peer *listen.Peer
	// named: it is the certificate that says the username.
	named bool
	// commonName is the certificate's, if that is fit for a topic.
	commonName string
	// until is when what was shown ceases to prove anything, in Unix milliseconds of the system's clock, as whoever
	// issued it reads it; 0 is never. The connection ends then.
	until int64
	// token is what else a token said; nil if there was none.
	token *bearer
}

// lapses is how long what was shown goes on to prove who it is; never, if it has no end.
func (i *identity) lapses(now time.Time) time.Duration {
	if i == nil || i.until == 0 {
		return math.MaxInt64
	}

	return time.UnixMilli(i.until).Sub(now)
}

type phase uint8

const (
	stranger       phase = iota // no CONNECT yet
	authenticating              // CONNECT is being decided on
	established                 // CONNACK with success is on its way
)

// conn is one network connection. What stands above mu belongs to the goroutine that reads the connection, its owner:
// a worker, or its own.
type conn struct {
	output // guarded by mu

	e      *Engine
	door   *door
	socket *listen.Conn // gives the place under the listener's bounds back
	stream net.Conn     // nil when a worker serves it
	worker *worker
	fd     int

	version  wire.Version
	phase    phase
	paused   bool // nothing is read before resume
	hungUp   bool // the peer sends no more
	orderly  bool // the client said goodbye
	problem  bool // the client wants to know reasons [MQTT-3.1.2-29]
	in       []byte
	who      *identity
	subject  acl.Subject
	sess     *session
	aliases  []string
	exchange *exchange
	connect  *wire.Connect // between CONNECT and CONNACK of an exchange
	bucket   *bucket
	account  *account // of its user; nil if there is none. Written before it is let in
	asked    uint32   // the session expiry of the CONNECT

	// quota and aliasMax are what the client was promised in CONNACK.
	quota    int32
	aliasMax uint16

	// heard is when something came last, in Unix milliseconds.
	heard atomic.Int64
	// owed counts publishes of QoS 1 and 2 that are not answered in full.
	owed   atomic.Int32
	policy atomic.Pointer[acl.Policy]
	// member is who it belongs to once it is let in, for whoever is not the owner.
	member  atomic.Pointer[identity]
	timer   timer
	ended   metrics.Disconnection
	joined  bool          // counted as connected; guarded by Engine.mu
	seated  uint64        // when it was given its place in account, 0 if it has none; guarded by Engine.mu
	wakeUp  chan struct{} // of a stream
	entered bool          // the worker watches it
	pause   pause
	verdict atomic.Pointer[verified]
	ruling  atomic.Pointer[ruling]
	one     [1]byte

	mu        sync.Mutex
	keepAlive time.Duration // negative before CONNECT
	// window of what the client takes at once, and its largest packet; 0 means any.
	receiveMaximum int
	maxPacket      uint32
	outAliases     map[string]uint16
	outAliasMax    uint16
	answers        answers
	closing        bool // nothing may be appended any more
	dead           bool // the owner is done with it
}

// answers are the acknowledgements that are owed, in the order in which they must leave [MQTT-4.6.0-2] [MQTT-4.6.0-3].
type answers struct {
	waiting []answer
	first   uint64
}

type answer struct {
	typ, code byte
	id        uint16
	raw       []byte // instead of the above
	ready     bool
	// settles: the client's quota grows when it leaves.
	settles bool
	// received: the packet id of the message of QoS 2 that this answers for the first time.
	received uint16
	// released: the packet id that this ends.
	released uint16
	// again: what is answered has come before, on another connection maybe, and may be on its way to the disk still.
	// undone is what the session's was when it came.
	again  bool
	undone uint32
}

func newConn(e *Engine, d *door, socket *listen.Conn) *conn {
	c := &conn{
		e: e, door: d, socket: socket, fd: -1, problem: true, ended: metrics.ConnectionLost,
	}
	c.timer.fire = c.alarm
	c.heard.Store(e.milliseconds(time.Now()))

	return c
}

// startKeepAlive begins to listen for silence.
func (c *conn) startKeepAlive() {
	next := stallPatience
	if c.keepAlive > 0 { // only its owner writes it
		next = min(next, c.keepAlive*3/2)
	}

	c.e.wheel.set(&c.timer, min(next, max(0, c.who.lapses(time.Now()))))
}

func (c *conn) remote() string {
	if a := c.socket.RemoteAddr(); a != nil {
		return a.String()
	}

	return ""
}

// limit is the largest packet that is read.
func (c *conn) limit() uint32 {
	limit := c.e.state.Load().limits.MaxPacketSize
	if c.phase == stranger {
		return min(limit, strangerPacket)
	}

	return limit
}

// feed handles all whole packets in data and tells how many bytes they were.
func (c *conn) feed(r *round, data []byte) (consumed int) {
	defer func() {
		if fault := recover(); fault != nil {
			c.panicked(r, fault)

			consumed = len(data)
		}
	}()

	c.heard.Store(r.nowMS)

	for consumed < len(data) && !c.paused {
		switch deaf, choked := c.attention(); {
		case deaf:
			return len(data)
		case choked:
			c.paused, c.pause = true, pauseOutput

			return consumed
		}

		size, err := wire.Next(data[consumed:], c.limit())
		if err != nil {
			c.refuse(r, err)

			return len(data)
		}

		if size == 0 {
			break
		}

		c.handle(r, data[consumed:consumed+size])
		consumed += size
	}

	if c.deaf() {
		return len(data)
	}

	return consumed
}

// attention tells whether what comes in does not matter any more, and whether the client has to take in answers before
// it may ask for more.
func (c *conn) attention() (deaf, choked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.choked = c.choked || c.pending() > chokedOutput

	return c.closing, c.choked
}

// deaf tells whether what comes in does not matter any more.
func (c *conn) deaf() bool {
	c.mu.Lock()
	defer c.mu.Unlock()

	return c.closing
}

func (c *conn) panicked(r *round, fault any) {
	r.count.Panics.Add(1)
	c.e.log.Error("a connection was closed because handling it failed; please report this", "listener", c.door.Name,
		"fault", fault, "stack", string(debug.Stack()))
	c.goes(metrics.ServerError)
}

func (c *conn) handle(r *round, packet []byte) {
	typ := wire.Type(packet[0])

	if typ != wire.TypePublish {
		r.count.Received.Packets(typ, 1)
	}

	if c.phase != established {
		c.handleStranger(r, typ, packet)

		return
	}

	published := 0

	var err error

	switch typ {
	case wire.TypePublish:
		published = 1
		err = c.handlePublish(r, packet)
	case wire.TypePuback, wire.TypePubrec, wire.TypePubrel, wire.TypePubcomp:
		err = c.handleAck(r, packet)
	case wire.TypeSubscribe:
		err = c.handleSubscribe(r, packet)
	case wire.TypeUnsubscribe:
		err = c.handleUnsubscribe(r, packet)
	case wire.TypePingreq:
		if err = wire.Validate(packet, c.version); err == nil {
			c.mu.Lock()
			c.put(r, wire.AppendPingresp) // [MQTT-3.12.4-1]
			c.mu.Unlock()
		}
	case wire.TypeDisconnect:
		err = c.handleDisconnect(packet)
	case wire.TypeAuth:
		err = c.handleAuth(r, packet)
	case wire.TypeConnect:
		err = &wire.Error{Code: wire.ProtocolError, Reason: "a second CONNECT [MQTT-3.1.0-2]"}
	default:
		err = &wire.Error{Code: wire.ProtocolError, Reason: "a packet that only a server may send"}
	}

	if err != nil {
		c.refuse(r, err)
	}

	c.pay(r, published, len(packet))
}

// handleStranger lets nothing pass but a CONNECT, and AUTH where an exchange is under way [MQTT-3.1.0-1].
func (c *conn) handleStranger(r *round, typ byte, packet []byte) {
	switch {
	case typ == wire.TypeConnect && c.phase == stranger:
		c.handleConnect(r, packet)
	case typ == wire.TypeAuth && c.phase == authenticating && c.exchange != nil:
		if err := c.handleAuth(r, packet); err != nil {
			c.refuse(r, err)
		}
	default:
		r.e.door(c).Refused(metrics.BadConnect)
		c.sever()
	}
}

// refuse ends the connection because of what the client sent.
func (c *conn) refuse(r *round, err error) {
	code := wire.CodeOf(err)

	r.e.refusedPackets.Add(1)

	if c.phase != established {
		r.e.door(c).Refused(metrics.BadConnect)
		c.sever() // there is nobody yet whom to tell [MQTT-4.13.1-1]

		return
	}

	ended := metrics.ProtocolError
	if code == wire.PacketTooLarge {
		ended = metrics.PacketTooLarge
	}

	r.e.audit.line("client broke the protocol", "client", c.subject.ClientID, "user", c.subject.Username, "listener",
		c.door.Name, "remote", c.remote(), "reason", err)

	if t := c.e.tracer.Load(); t != nil {
		t.fault(c, code, err)
	}

	c.disconnect(r, code, err.Error(), ended)
}

// disconnect ends the connection from any goroutine. A client of MQTT 5 is told why; the others know no such packet.
func (c *conn) disconnect(r *round, code byte, why string, ended metrics.Disconnection) {
	c.disconnectTo(r, code, why, "", ended)
}

// disconnectTo is false if the connection is on its way to its end already.
func (c *conn) disconnectTo(r *round, code byte, why, reference string, ended metrics.Disconnection) bool {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.closing || c.dead {
		return false
	}

	if !c.problem {
		why = ""
	}

	if c.version == wire.V5 {
		packet := wire.AppendDisconnect(nil, code, why, reference)
		if c.maxPacket > 0 && len(packet) > int(c.maxPacket) { // [MQTT-3.14.2-3]
			packet = wire.AppendDisconnect(packet[:0], code, "", "")
		}

		c.put(r, func(b []byte) []byte { return append(b, packet...) })
		r.count.Sent.Packets(wire.TypeDisconnect, 1)
	}

	c.ended = ended
	c.closing, c.lastWords = true, true
	c.touch(r)
	c.e.wheel.set(&c.timer, lastWordsPatience)

	return true
}

// goes cuts the connection and says how it ended.
func (c *conn) goes(ended metrics.Disconnection) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if !c.closing {
		c.ended = ended
	}

	c.severLocked()
}

// sever cuts the connection. Its owner notices and cleans up. It may be called from any goroutine.
func (c *conn) sever() {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.severLocked()
}

func (c *conn) severLocked() {
	c.closing = true

	if c.dead {
		return
	}

	if c.stream != nil {
		c.cutStream()
	} else {
		c.cutSocket()
	}
}

// cutStream never waits: closing TLS may want to write.
func (c *conn) cutStream() {
	_ = c.stream.SetDeadline(time.Unix(1, 0))
	c.wakeStream()
}

func (c *conn) wakeStream() {
	select {
	case c.wakeUp <- struct{}{}:
	default:
	}
}

// answer makes an acknowledgement ready that waited for the disk.
func (c *conn) answer(r *round, w waitingAnswer, err error) {
	switch {
	case err != nil && w.received != 0: // the message has not been taken: it must not be known when it comes again
		c.sess.forget(w.received)
	case err != nil && w.released != 0: // the disk still knows it, and would after a restart
		c.sess.recall(w.released)
	}

	undone := w.again && c.sess.hasUndone() != w.undone // maybe what this is about

	c.mu.Lock()
	defer c.mu.Unlock()

	i := w.at - c.answers.first
	if c.closing || i >= uint64(len(c.answers.waiting)) {
		return
	}

	a := &c.answers.waiting[i]
	a.ready = true

	if undone || err != nil && !c.refuseStored(a) {
		// Before MQTT 5 there is no way to say no: without an answer the client sends it again when it comes back.
		c.ended = metrics.ServerError
		c.severLocked()

		return
	}

	c.drainAnswers(r)
}

// refuseStored changes an answer to one that says that nothing was stored.
func (c *conn) refuseStored(a *answer) bool {
	if c.version != wire.V5 {
		return false
	}

	switch a.typ {
	case wire.TypePuback, wire.TypePubrec:
		a.code = wire.QuotaExceeded

		if a.typ == wire.TypePubrec {
			a.settles = true
		}

		return true
	case wire.TypeSuback, wire.TypeUnsuback:
		code := wire.QuotaExceeded
		if a.typ == wire.TypeUnsuback {
			code = wire.ImplementationSpecificError // that a quota is exceeded is no answer to UNSUBSCRIBE
		}

		for i := len(a.raw) - int(a.code); i < len(a.raw); i++ {
			a.raw[i] = code
		}

		return true
	default:
		return false
	}
}

// owe queues an acknowledgement. With wait it leaves when the round's transaction is on disk; without, as soon as those
// before it have left.
func (c *conn) owe(r *round, a answer, wait bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.closing && (a.received == 0 && a.released == 0 || !wait) {
		return
	}

	if !wait && len(c.answers.waiting) == 0 {
		c.appendAnswer(r, &a)

		return
	}

	a.ready = !wait
	c.answers.waiting = append(c.answers.waiting, a)

	if wait {
		after := r.then()
		after.hard = true
		after.answers = append(after.answers, waitingAnswer{
			c: c, at: c.answers.first + uint64(len(c.answers.waiting)) - 1, received: a.received, released: a.released,
			again: a.again, undone: a.undone,
		})
	}
}

func (c *conn) drainAnswers(r *round) {
	n := 0
	for n < len(c.answers.waiting) && c.answers.waiting[n].ready {
		c.appendAnswer(r, &c.answers.waiting[n])
		n++
	}

	if n == 0 {
		return
	}

	c.answers.first += uint64(n)

	if n == len(c.answers.waiting) {
		c.answers.waiting = c.answers.waiting[:0]
		if cap(c.answers.waiting) > 64 {
			c.answers.waiting = nil
		}

		return
	}

	c.answers.waiting = append(c.answers.waiting[:0], c.answers.waiting[n:]...)
}

func (c *conn) appendAnswer(r *round, a *answer) {
	r.count.Sent.Packets(a.typ, 1)

	if t := c.e.tracer.Load(); t != nil {
		t.ack(c, TraceAckSent, a.typ, a.id, a.code)
	}

	if a.settles {
		c.owed.Add(-1)
	}

	if a.raw != nil {
		c.put(r, func(b []byte) []byte { return append(b, a.raw...) })

		return
	}

	b := c.buffer()
	*b = wire.AppendAck(*b, c.version, a.typ, a.id, a.code, "")
	c.touch(r)
}

// put appends one packet. mu is held.
func (c *conn) put(r *round, appendTo func([]byte) []byte) {
	if c.closing {
		return
	}

	b := c.buffer()
	*b = appendTo(*b)
	c.touch(r)
}

// touch has the connection flushed at the end of the round. mu is held.
func (c *conn) touch(r *round) {
	if !c.dirty {
		c.dirty = true
		r.dirty = append(r.dirty, c)
	}
}

// resume reads on after a pause.
func (c *conn) resume() {
	if c.stream != nil {
		c.wakeStream()

		return
	}

	c.worker.post(c)
}

// alarm looks at what time has brought. It runs on the wheel's goroutine.
func (c *conn) alarm(r *round) {
	c.mu.Lock()
	closing, dead, keepAlive := c.closing, c.dead, c.keepAlive
	stalled := c.blockedSince != 0 && r.nowMS-c.blockedSince >= stallPatience.Milliseconds()
	c.mu.Unlock()

	switch {
	case dead:
		return
	case closing:
		c.sever()

		return
	case keepAlive < 0: // CONNECT has not come in time
		c.e.door(c).Refused(metrics.ConnectTimeout)
		c.sever()

		return
	case stalled:
		c.disconnect(r, wire.QuotaExceeded, "the client does not read", metrics.NotReading)

		return
	}

	left := c.member.Load().lapses(r.now)
	if left <= 0 {
		c.disconnect(r, wire.NotAuthorized, "what proved who the client is has expired", metrics.Revoked)

		return
	}

	silence := time.Duration(r.nowMS-c.heard.Load()) * time.Millisecond
	patience := keepAlive * 3 / 2 // [MQTT-3.1.2-22]

	if keepAlive > 0 && silence >= patience {
		c.disconnect(r, wire.KeepAliveTimeout, "nothing came for one and a half times the keep-alive", metrics.KeepAliveTimeout)

		return
	}

	next := stallPatience
	if keepAlive > 0 {
		next = min(next, patience-silence)
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	// Whoever has set the timer meanwhile, for an end or for another identity, did it under mu.
	if !c.closing {
		c.e.wheel.set(&c.timer, min(next, max(0, c.member.Load().lapses(r.now))))
	}
}

// end is called by the owner, once, when the connection is no more.
func (c *conn) end(r *round) {
	c.e.wheel.stop(&c.timer)

	c.mu.Lock()
	ended := c.ended
	c.mu.Unlock()

	c.e.leave(c, ended)

	if c.sess != nil {
		c.sess.detach(r, c)
	}

	c.mu.Lock()
	c.dead, c.closing = true, true
	c.discard()
	c.answers.waiting = nil
	busy := c.flushing

	// Who writes closes; but a peer that has stopped sending may never read again.
	if busy && c.stream != nil {
		_ = c.stream.SetWriteDeadline(time.Now().Add(lastWordsPatience))
	}
	c.mu.Unlock()

	if !busy {
		c.release()
	}
}

// release gives the socket back. It is called once, by the owner or by the last one to write.
func (c *conn) release() {
	if c.stream != nil {
		_ = c.socket.Close()

		return
	}

	c.closeSocket()
	c.socket.Release()
}

// encode appends one PUBLISH. mu is held and there is room. The answer is false if the client takes no packet of that
// size [MQTT-3.1.2-24].
func (c *conn) encode(r *round, m *message, p *publication, h *wire.PublishHeader) bool {
	if c.closing {
		return true // nothing comes after DISCONNECT; it is sent again to who comes back [MQTT-3.14.4-1]
	}

	topic := m.topic

	if c.outAliasMax > 0 && c.version == wire.V5 {
		topic = c.alias(h, topic)
	}

	size := wire.PublishSize(c.version, h, len(topic), len(m.properties), len(m.payload))
	if c.maxPacket > 0 && uint32(size) > c.maxPacket { //nolint:gosec // bounded by the specification
		if h.Alias != 0 && topic != "" {
			delete(c.outAliases, m.topic)
		}

		return false
	}

	switch {
	case size > smallPacket && p != nil && !p.borrowed, size > smallPacket && p == nil:
		c.share(func(b []byte) []byte {
			b, _ = wire.AppendPublishHead(b, c.version, h, topic, m.properties, len(m.payload))

			return b
		}, m.payload)
	case size > smallPacket:
		kept := p.keep()
		c.share(func(b []byte) []byte {
			b, _ = wire.AppendPublishHead(b, c.version, h, topic, kept.properties, len(kept.payload))

			return b
		}, kept.payload)
	case p != nil && p.many && h.Identifiers == nil && h.Alias == 0 && !h.Dup:
		frame, pid := p.frame(c.version, h)
		b := c.buffer()
		at := len(*b)
		*b = append(*b, frame...)

		if pid > 0 {
			binary.BigEndian.PutUint16((*b)[at+pid:], h.PacketID)
		}
	default:
		b := c.buffer()
		*b, _ = wire.AppendPublish(*b, c.version, h, topic, m.properties, m.payload)
	}

	r.count.Sent.Publish(h.QoS, 1, len(m.payload))
	r.delivered++
	c.touch(r)

	if t := c.e.tracer.Load(); t != nil {
		t.sent(c, m, h)
	}

	return true
}

// alias gives the topic to write beside an alias: none, if the client knows the alias.
func (c *conn) alias(h *wire.PublishHeader, topic string) string {
	if alias, ok := c.outAliases[topic]; ok {
		h.Alias = alias

		return ""
	}

	if len(c.outAliases) >= int(c.outAliasMax) {
		return topic
	}

	if c.outAliases == nil {
		c.outAliases = map[string]uint16{}
	}

	h.Alias = uint16(len(c.outAliases) + 1) //nolint:gosec // bounded by the maximum
	c.outAliases[strings.Clone(topic)] = h.Alias

	return topic
}
