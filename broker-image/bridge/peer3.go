// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/url"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// handOver is how long the library may take to accept a SUBSCRIBE. It takes longer only while a connection ends.
const handOver = 500 * time.Millisecond

// peer3 is a connection of MQTT 3.1.1. The library keeps the connection and its keep-alive, and subscribes.
type peer3 struct {
	exchange

	client   mqtt.Client
	endpoint string
	patience time.Duration
}

func (w *passage) open3(ctx context.Context, s *stream, endpoint string) (peer, error) {
	p := &peer3{exchange: exchange{stream: s, owner: w.owner, version: wire.V311, clean: w.clean}, endpoint: endpoint, patience: w.patience}
	p.self, p.lenient = p, p.lenientRead
	p.limit = limits{
		window: min(w.window, maxWindow), floods: true, maxQoS: 2, retain: true, wildcards: true, shared: true, expiryKept: true,
		expiry: math.MaxUint32,
	}
	p.begin()

	s.isAside, s.aside = isExchange, p.handle
	s.hold = make(chan struct{}) // messages may come before the library says that it is connected

	options := mqtt.NewClientOptions().
		AddBroker("tcp://bridge").
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return s, nil }).
		SetProtocolVersion(4).SetClientID(w.clientID).SetCleanSession(w.clean).SetKeepAlive(w.keepAlive).
		SetPingTimeout(math.MaxInt64). // the stream finds out that a server is silent, and knows when it does not listen itself
		SetConnectTimeout(w.patience).SetWriteTimeout(handOver).SetAutoReconnect(false).SetConnectRetry(false).SetResumeSubs(false)

	if w.end.Username != "" {
		options.SetUsername(w.end.Username).SetPassword(w.end.Password)
	}

	if w.willTopic != "" {
		options.SetWill(w.willTopic, w.will, 0, false)
	}

	p.client = mqtt.NewClient(options)
	s.quiet.Store(int64(w.patience))

	token := p.client.Connect()

	select {
	case <-token.Done():
	case <-ctx.Done():
		s.fail(context.DeadlineExceeded)
		<-token.Done()
	}

	if err := token.Error(); err != nil {
		s.fail(err)

		return nil, p.notLetIn(err)
	}

	said := s.guard.connack.Load()
	p.owner.up(p, said != nil && said.flags&1 == 1)
	close(s.hold)

	s.quiet.Store(int64(w.keepAlive + w.keepAlive/2 + time.Second))

	go p.ping(w.keepAlive)
	go func() {
		<-s.closed
		// The library tells only once all its goroutines have ended, some of which may wait for the flow.
		why := p.why.Load()
		if why == nil {
			why = asFault(endpoint, s.err)
		}

		p.owner.lost(p, why)
		p.client.Disconnect(0)
	}()

	return p, nil
}

func (p *peer3) notLetIn(err error) *fault {
	said := p.guard.connack.Load()

	switch {
	case said != nil && said.code != 0:
		return refusal3(p.endpoint, said.code)
	case p.err != nil && !errors.Is(p.err, net.ErrClosed):
		err = p.err
	}

	if isEnd(err) || isReset(err) {
		return faultf(ReasonClosed, "%s: the broker closed the connection without an answer to CONNECT; it may refuse the client identifier, its log will say", p.endpoint)
	}

	return asFault(p.endpoint, err)
}

// lenientRead reads a packet of the exchange by the library.
func (p *peer3) lenientRead(packet []byte) error {
	if len(packet) < 4 { // the library makes up what is not there
		return io.ErrUnexpectedEOF
	}

	read, err := packets.ReadPacket(bytes.NewReader(packet))
	if err != nil {
		return err
	}

	switch c := read.(type) {
	case *packets.PublishPacket:
		if c.Qos > 2 {
			return errNotMQTT
		}

		p.owner.received(p, &inbound{topic: c.TopicName, payload: c.Payload, qos: c.Qos, retain: c.Retain, dup: c.Dup, id: c.MessageID})
	case *packets.PubackPacket:
		p.answered(wire.TypePuback, c.MessageID, 0)
	case *packets.PubrecPacket:
		p.answered(wire.TypePubrec, c.MessageID, 0)
	case *packets.PubrelPacket:
		p.answered(wire.TypePubrel, c.MessageID, 0)
	case *packets.PubcompPacket:
		p.answered(wire.TypePubcomp, c.MessageID, 0)
	}

	return nil
}

// ping keeps the connection alive while it is not read from because there is no room: the library sends no PINGREQ before it
// has read the answer to the one before, and a server ends a connection that says nothing [MQTT-3.1.2-24 of 3.1.1].
func (p *peer3) ping(keepAlive time.Duration) {
	if keepAlive <= 0 {
		return
	}

	ticker := time.NewTicker(keepAlive * 3 / 4)
	defer ticker.Stop()

	for {
		select {
		case <-p.closed:
			return
		case <-ticker.C:
			_, _ = p.stream.Write([]byte{0xc0, 0})
		}
	}
}

func (p *peer3) part() {
	_, _ = p.stream.Write([]byte{0xe0, 0}) // DISCONNECT
	_ = p.stream.Close()
}

func (p *peer3) subscribe(ctx context.Context, s subscription) (code byte, said string, err error) {
	token := p.client.Subscribe(s.filter, s.qos, nil)
	if err := p.wait(ctx, token); err != nil {
		return 0, "", err
	}

	if t, ok := token.(*mqtt.SubscribeToken); ok {
		for _, granted := range t.Result() {
			return granted, "", nil
		}
	}

	return 0, "", errNotMQTT
}

func (p *peer3) unsubscribe(ctx context.Context, filter string) error {
	return p.wait(ctx, p.client.Unsubscribe(filter))
}

// wait waits for an answer, as long as the server may take. What stands before it and waits for room is not the server's
// fault.
func (p *peer3) wait(ctx context.Context, token mqtt.Token) error {
	timer := time.NewTimer(p.patience)
	defer timer.Stop()

	for {
		select {
		case <-token.Done():
			return token.Error()
		case <-p.closed:
			return net.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			if !p.inHand.Load() {
				return context.DeadlineExceeded
			}

			timer.Reset(p.patience)
		}
	}
}
