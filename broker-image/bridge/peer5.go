// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/log"
	"github.com/eclipse/paho.golang/paho/session"

	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// sweptWindow is the most publications of QoS 2 in flight, so that a new process can release all identifiers that the
// one before may have left at the server.
const sweptWindow = 256

// peer5 is a connection of MQTT 5. The library keeps the connection and its keep-alive, and subscribes.
type peer5 struct {
	exchange

	client   *paho.Client
	endpoint string
	window   int
	sweep    bool

	// By identifier, under the exchange's mu.
	replies map[uint16]chan<- packets.ControlPacket
	lastID  uint16

	told sync.Once
}

var _ session.SessionManager = (*peer5)(nil)

func (w *passage) open5(ctx context.Context, s *stream, endpoint string) (peer, error) {
	p := &peer5{
		exchange: exchange{stream: s, owner: w.owner, version: wire.V5, clean: w.clean}, endpoint: endpoint, sweep: w.sweep, window: w.window,
		replies: map[uint16]chan<- packets.ControlPacket{},
	}
	p.self, p.lenient = p, p.lenientRead
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
		OnClientError: func(err error) { p.lost(asFault(endpoint, err)) },
		OnServerDisconnect: func(d *paho.Disconnect) {
			said := ""
			if d.Properties != nil {
				said = d.Properties.ReasonString
			}

			p.lost(refusal5(endpoint, d.ReasonCode, said))
		},
	})
	s.quiet.Store(int64(w.patience))
	s.isAside, s.aside = isExchange, p.handle

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

func (p *peer5) part() { _ = p.client.Disconnect(&paho.Disconnect{}) }

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

	p.begin()

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

// lenientRead reads a packet of the exchange by the library.
func (p *peer5) lenientRead(packet []byte) error {
	read, err := packets.ReadPacket(bytes.NewReader(packet))
	if err != nil {
		return err
	}

	return p.PacketReceived(read, nil)
}

// PacketReceived is of session.SessionManager; the answers to SUBSCRIBE and UNSUBSCRIBE come by it.
func (p *peer5) PacketReceived(packet *packets.ControlPacket, _ chan<- *packets.Publish) error {
	switch c := packet.Content.(type) {
	case *packets.Publish:
		if c.QoS > 2 {
			return errNotMQTT
		}

		props, err := forwarded(c.Properties)
		if err != nil {
			return err
		}

		m := &inbound{topic: c.Topic, payload: c.Payload, qos: c.QoS, retain: c.Retain, dup: c.Duplicate, id: c.PacketID, props: props}
		if expiry := c.Properties.MessageExpiry; expiry != nil {
			m.expires, m.expiry = true, *expiry
		}

		p.owner.received(p, m)
	case *packets.Puback:
		p.answered(wire.TypePuback, c.PacketID, c.ReasonCode)
	case *packets.Pubrec:
		p.answered(wire.TypePubrec, c.PacketID, c.ReasonCode)
	case *packets.Pubrel:
		p.answered(wire.TypePubrel, c.PacketID, c.ReasonCode)
	case *packets.Pubcomp:
		p.answered(wire.TypePubcomp, c.PacketID, c.ReasonCode)
	case *packets.Suback:
		p.reply(c.PacketID, packet)
	case *packets.Unsuback:
		p.reply(c.PacketID, packet)
	}

	return nil
}

// forwarded gives the properties that are passed on their wire form.
func forwarded(p *packets.Properties) ([]byte, error) {
	said := wire.Forwarded{ContentType: p.ContentType, ResponseTopic: p.ResponseTopic, CorrelationData: p.CorrelationData}
	if p.PayloadFormat != nil {
		said.HasFormat, said.Text = true, *p.PayloadFormat == 1
	}

	for i := range p.User {
		said.User = append(said.User, [2]string{p.User[i].Key, p.User[i].Value})
	}

	return wire.AppendForwarded(nil, &said)
}

func (p *peer5) reply(id uint16, packet *packets.ControlPacket) {
	p.mu.Lock()
	defer p.mu.Unlock()

	if reply := p.replies[id]; reply != nil {
		delete(p.replies, id)

		reply <- *packet
	}
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
