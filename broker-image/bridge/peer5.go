// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/log"
	"github.com/eclipse/paho.golang/paho/session"
)

const (
	// maxWindow is the most publications in flight; the identifiers above are for SUBSCRIBE and UNSUBSCRIBE.
	maxWindow = 65000
	// sweptWindow is the most publications of QoS 2 in flight, so that a new process can release all identifiers that the
	// one before may have left at the server.
	sweptWindow = 256
	topCode     = 0x80
)

// peer5 is a connection of MQTT 5. The library keeps the connection and its keep-alive, and subscribes; the exchange of
// publications and their acknowledgements is here, in place of the library's session, because it has to be asynchronous
// in both directions and must not be repeated behind the back of the flow.
type peer5 struct {
	*stream

	owner    owner
	client   *paho.Client
	endpoint string
	limit    limits
	window   int
	sweep    bool

	// inFlight and free are guarded by the flow that publishes, with mu against the reader.
	mu       sync.Mutex
	inFlight []*entry // by identifier, from 1
	received []bool   // PUBREC came for it
	free     []uint16
	replies  map[uint16]chan<- packets.ControlPacket
	lastID   uint16

	why  atomic.Pointer[fault]
	told sync.Once
}

var _ session.SessionManager = (*peer5)(nil)

func (w *passage) open5(ctx context.Context, s *stream, endpoint string) (peer, error) {
	p := &peer5{
		stream: s, owner: w.owner, endpoint: endpoint, sweep: w.sweep, window: w.window,
		replies: map[uint16]chan<- packets.ControlPacket{},
	}
	window := uint16(min(w.window, math.MaxUint16)) //nolint:gosec // bounded
	connect := &paho.Connect{
		ClientID: w.clientID, CleanStart: w.clean, KeepAlive: uint16(w.keepAlive / time.Second), //nolint:gosec // bounded by the contract
		Username: w.end.Username, UsernameFlag: w.end.Username != "",
		Password: []byte(w.end.Password), PasswordFlag: w.end.Password != "",
		Properties: &paho.ConnectProperties{SessionExpiryInterval: &w.expiry, ReceiveMaximum: &window, RequestProblemInfo: true},
	}

	if w.willTopic != "" {
		connect.WillMessage = &paho.WillMessage{Topic: w.willTopic, Payload: []byte(w.will)}
	}

	p.client = paho.NewClient(paho.ClientConfig{
		Conn: s, Session: p, PingHandler: &pinger{}, PacketTimeout: w.patience,
		EnableManualAcknowledgment: true, SendAcksInterval: time.Hour, // see PacketReceived
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){p.unacknowledged},
		OnClientError:     func(err error) { p.lost(asFault(endpoint, err)) },
		OnServerDisconnect: func(d *paho.Disconnect) {
			said := ""
			if d.Properties != nil {
				said = d.Properties.ReasonString
			}

			p.lost(refusal5(endpoint, d.ReasonCode, said))
		},
	})
	s.quiet.Store(int64(w.patience))

	ack, err := p.client.Connect(ctx, connect)
	if err != nil {
		s.fail(err)

		return nil, p.notLetIn(ack, err)
	}

	keepAlive := w.keepAlive
	if ack.Properties.ServerKeepAlive != nil && *ack.Properties.ServerKeepAlive > 0 {
		keepAlive = time.Duration(*ack.Properties.ServerKeepAlive) * time.Second
	}

	s.quiet.Store(int64(keepAlive + keepAlive/2))
	// The library tells of some ends only.
	go func() {
		<-s.closed
		p.lost(asFault(endpoint, s.err))
	}()

	return p, nil
}

// notLetIn is why CONNECT failed.
func (p *peer5) notLetIn(ack *paho.Connack, err error) *fault {
	said := p.guard.connack.Load()

	switch {
	case ack != nil && ack.ReasonCode >= topCode:
		words := ""
		if ack.Properties != nil {
			words = ack.Properties.ReasonString
		}

		return refusal5(p.endpoint, ack.ReasonCode, words)
	case said != nil && said.short && said.code != 0: // what a server of 3.1.1 says to somebody who speaks 5
		return refusal5(p.endpoint, 0x84, "")
	case p.err != nil && !errors.Is(p.err, net.ErrClosed):
		err = p.err
	}

	if isEnd(err) || isReset(err) {
		return faultf(ReasonClosed, "%s: the broker closed the connection without an answer to CONNECT; it may refuse the client identifier or the version, its log will say", p.endpoint)
	}

	return asFault(p.endpoint, err)
}

// lost tells the owner, once.
func (p *peer5) lost(why *fault) {
	p.told.Do(func() {
		if known := p.why.Load(); known != nil {
			why = known
		}

		p.fail(net.ErrClosed)
		p.owner.lost(p, why)
	})
}

func (p *peer5) limits() *limits { return &p.limit }

func (p *peer5) part() { _ = p.client.Disconnect(&paho.Disconnect{}) }

func (p *peer5) abort(why *fault) {
	p.why.CompareAndSwap(nil, why)
	p.fail(net.ErrClosed)
}

// ConAckReceived is of session.SessionManager.
func (p *peer5) ConAckReceived(_ io.Writer, connect *packets.Connect, ack *packets.Connack) error {
	p.limit = limits{window: math.MaxUint16, maxQoS: 2, retain: true, wildcards: true, shared: true, expiryKept: true}
	props := ack.Properties

	if connect.Properties != nil && connect.Properties.SessionExpiryInterval != nil {
		p.limit.expiry = *connect.Properties.SessionExpiryInterval
	}

	if props.SessionExpiryInterval != nil && *props.SessionExpiryInterval < p.limit.expiry {
		p.limit.expiry, p.limit.expiryKept = *props.SessionExpiryInterval, false
	}

	if props.ReceiveMaximum != nil {
		p.limit.window = int(*props.ReceiveMaximum)
	}

	if props.MaximumPacketSize != nil {
		p.limit.maxPacket = *props.MaximumPacketSize
	}

	if props.MaximumQOS != nil {
		p.limit.maxQoS = *props.MaximumQOS
	}

	p.limit.retain = props.RetainAvailable == nil || *props.RetainAvailable == 1
	p.limit.wildcards = props.WildcardSubAvailable == nil || *props.WildcardSubAvailable == 1
	p.limit.shared = props.SharedSubAvailable == nil || *props.SharedSubAvailable == 1
	p.limit.window = min(p.limit.window, p.window, maxWindow)

	if p.sweep {
		p.limit.window = min(p.limit.window, sweptWindow)
	}

	p.inFlight = make([]*entry, p.limit.window+1)
	p.received = make([]bool, p.limit.window+1)
	p.free = make([]uint16, 0, p.limit.window)

	for id := p.limit.window; id > 0; id-- {
		p.free = append(p.free, uint16(id)) //nolint:gosec // bounded by maxWindow
	}

	if p.sweep && ack.SessionPresent {
		p.gather(func(b []byte) []byte {
			for id := range uint16(sweptWindow) {
				b = appendAck(b, 0x62, id+1)
			}

			return b
		})
	}

	p.owner.up(p, ack.SessionPresent)

	return nil
}

// ConnectionLost is of session.SessionManager.
func (p *peer5) ConnectionLost(d *packets.Disconnect) error {
	if d != nil {
		said := ""
		if d.Properties != nil {
			said = d.Properties.ReasonString
		}

		p.why.CompareAndSwap(nil, refusal5(p.endpoint, d.ReasonCode, said))
	}

	p.mu.Lock()
	defer p.mu.Unlock()

	for id, reply := range p.replies {
		delete(p.replies, id)

		reply <- packets.ControlPacket{}
	}

	return nil
}

// AddToSession is of session.SessionManager; SUBSCRIBE and UNSUBSCRIBE come by it.
func (p *peer5) AddToSession(_ context.Context, packet session.Packet, reply chan<- packets.ControlPacket) error {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.lastID = p.lastID%(math.MaxUint16-maxWindow) + 1
	id := maxWindow + p.lastID

	if p.replies[id] != nil {
		return session.ErrPacketIdentifiersExhausted
	}

	p.replies[id] = reply

	packet.SetIdentifier(id)

	return nil
}

// PacketReceived is of session.SessionManager. It runs in the goroutine that reads, so that a message needs no other one
// on its way.
func (p *peer5) PacketReceived(packet *packets.ControlPacket, _ chan<- *packets.Publish) error {
	switch c := packet.Content.(type) {
	case *packets.Publish:
		p.owner.received(p, &inbound{
			topic: c.Topic, payload: c.Payload, qos: c.QoS, retain: c.Retain, dup: c.Duplicate, id: c.PacketID, props: c.Properties,
		})
	case *packets.Puback:
		if e := p.take(c.PacketID, true); e != nil {
			p.owner.completed(p, e, c.ReasonCode)
		}
	case *packets.Pubrec:
		p.pubrec(c)
	case *packets.Pubrel:
		p.gather(func(b []byte) []byte { return appendAck(b, 0x70, c.PacketID) })
		p.owner.received(p, &inbound{id: c.PacketID, qos: released})
	case *packets.Pubcomp:
		p.pubcomp(c.PacketID)
	case *packets.Suback:
		p.reply(c.PacketID, packet)
	case *packets.Unsuback:
		p.reply(c.PacketID, packet)
	}

	return nil
}

// released is the QoS of an inbound that is a PUBREL: the identifier is free again.
const released = 0xff

// pubrec ends what the flow waits for: from here on the message is the destination's. Its identifier stays taken until
// PUBCOMP.
func (p *peer5) pubrec(c *packets.Pubrec) {
	if c.ReasonCode >= topCode {
		if e := p.take(c.PacketID, true); e != nil {
			p.owner.completed(p, e, c.ReasonCode)
		}

		return
	}

	p.gather(func(b []byte) []byte { return appendAck(b, 0x62, c.PacketID) })

	if e := p.take(c.PacketID, false); e != nil {
		p.owner.completed(p, e, c.ReasonCode)
	}
}

// take is the entry that an identifier stands for, once; nil if it stands for none.
func (p *peer5) take(id uint16, release bool) *entry {
	p.mu.Lock()
	defer p.mu.Unlock()

	if int(id) >= len(p.inFlight) || p.inFlight[id] == nil {
		return nil
	}

	e := p.inFlight[id]
	p.inFlight[id] = nil
	p.owed.Add(-1)

	if release {
		p.free = append(p.free, id)
	} else {
		p.received[id] = true
	}

	return e
}

// pubcomp frees an identifier that waits for it. Those that answer the sweep do not.
func (p *peer5) pubcomp(id uint16) {
	p.mu.Lock()
	waits := int(id) < len(p.received) && p.received[id]

	if waits {
		p.received[id] = false
		p.free = append(p.free, id)
	}

	p.mu.Unlock()

	if waits {
		p.owner.completed(p, nil, 0)
	}
}

func (p *peer5) reply(id uint16, packet *packets.ControlPacket) {
	p.mu.Lock()
	defer p.mu.Unlock()

	if reply := p.replies[id]; reply != nil {
		delete(p.replies, id)

		reply <- *packet
	}
}

// unacknowledged takes messages of QoS 0, which pass the session by.
func (p *peer5) unacknowledged(r paho.PublishReceived) (bool, error) {
	m := r.Packet.Packet()
	p.owner.received(p, &inbound{topic: m.Topic, payload: m.Payload, retain: m.Retain, props: m.Properties})
	p.owner.idle()

	return true, nil
}

func (p *peer5) publish(e *entry, now time.Time) error {
	left := uint32(0)
	if e.expires {
		left, _ = e.left(now)
	}

	properties, rest := e.size5()
	if rest > maxRemaining || (p.limit.maxPacket > 0 && int64(1+digitsOf(rest)+rest) > int64(p.limit.maxPacket)) {
		return errTooLarge
	}

	id := uint16(0)

	if e.outQoS > 0 {
		p.mu.Lock()

		if len(p.free) == 0 {
			p.mu.Unlock()

			return errNoRoom
		}

		id = p.free[len(p.free)-1]
		p.free = p.free[:len(p.free)-1]
		p.inFlight[id] = e
		p.mu.Unlock()
		p.owed.Add(1)
	}

	p.gather(func(b []byte) []byte { return e.append5(b, id, left, properties, rest) })

	return nil
}

func (p *peer5) note(topic, payload string) {
	e := &entry{topic: topic, payload: []byte(payload)}
	_ = p.publish(e, time.Time{})

	p.flush()
}

func (p *peer5) acknowledge(e *entry) {
	kind := byte(0x40)
	if e.qos == 2 {
		kind = 0x50
	}

	p.gather(func(b []byte) []byte { return appendAck(b, kind, e.id) })
}

// appendAck adds an acknowledgement that says success.
func appendAck(b []byte, kind byte, id uint16) []byte {
	return binary.BigEndian.AppendUint16(append(b, kind, 2), id)
}

func (p *peer5) subscribe(ctx context.Context, s subscription) (code byte, said string, err error) {
	// Retained messages come with a new subscription only: a connection that is made again brings none twice.
	ack, err := p.client.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{
		Topic: s.filter, QoS: s.qos, NoLocal: s.noLocal, RetainAsPublished: s.retain, RetainHandling: 1,
	}}})
	if ack == nil || len(ack.Reasons) != 1 {
		if err == nil {
			err = errNotMQTT
		}

		return 0, "", err
	}

	if ack.Properties != nil {
		said = ack.Properties.ReasonString
	}

	return ack.Reasons[0], said, nil
}

func (p *peer5) unsubscribe(ctx context.Context, filter string) error {
	_, err := p.client.Unsubscribe(ctx, &paho.Unsubscribe{Topics: []string{filter}})

	return err
}

// The rest of session.SessionManager has nothing to do here.

// Ack is of session.SessionManager.
func (p *peer5) Ack(*packets.Publish) error { return nil }

// SetErrorLogger is of session.SessionManager.
func (p *peer5) SetErrorLogger(log.Logger) {}

// SetDebugLogger is of session.SessionManager.
func (p *peer5) SetDebugLogger(log.Logger) {}

// pinger keeps a connection alive. That a server is silent for too long is found by the stream.
type pinger struct{}

// Run is of paho.Pinger.
func (g *pinger) Run(ctx context.Context, conn net.Conn, keepAlive uint16) error {
	if keepAlive == 0 {
		return nil
	}

	// An answer has to come within one and a half times the keep-alive.
	ticker := time.NewTicker(time.Duration(keepAlive) * time.Second * 3 / 4)
	defer ticker.Stop()

	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}

		if _, err := packets.NewControlPacket(packets.PINGREQ).WriteTo(conn); err != nil {
			return err
		}
	}
}

// PacketSent is of paho.Pinger.
func (*pinger) PacketSent() {}

// PacketReceived is of paho.Pinger.
func (*pinger) PacketReceived() {}

// PingResp is of paho.Pinger.
func (*pinger) PingResp() {}

// SetDebug is of paho.Pinger.
func (*pinger) SetDebug(log.Logger) {}
