// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"context"
	"errors"
	"math"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// handOver is how long the library may take to accept a publication. It takes longer only while a connection ends.
const handOver = 500 * time.Millisecond

// peer3 is a connection of MQTT 3.1.1.
type peer3 struct {
	*stream

	owner    owner
	client   mqtt.Client
	endpoint string
	limit    limits
	patience time.Duration

	// sent are publications in their order, with what the library will tell of them.
	sent chan publication
	why  atomic.Pointer[fault]
}

type publication struct {
	entry *entry
	token mqtt.Token
}

func (w *passage) open3(ctx context.Context, s *stream, endpoint string) (peer, error) {
	p := &peer3{
		stream: s, owner: w.owner, endpoint: endpoint, patience: w.patience,
		limit: limits{window: min(w.window, maxWindow), maxQoS: 2, retain: true, wildcards: true, shared: true, expiryKept: true, expiry: math.MaxUint32},
	}
	s.hold = make(chan struct{}) // the library would deliver messages before it says that it is connected
	p.sent = make(chan publication, p.limit.window)

	options := mqtt.NewClientOptions().
		AddBroker("tcp://bridge").
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return s, nil }).
		SetProtocolVersion(4).SetClientID(w.clientID).SetCleanSession(w.clean).SetKeepAlive(w.keepAlive).
		SetPingTimeout(math.MaxInt64). // the stream finds out that a server is silent, and knows when it does not listen itself
		SetConnectTimeout(w.patience).SetWriteTimeout(handOver).
		SetAutoReconnect(false).SetConnectRetry(false).SetResumeSubs(false).
		SetOrderMatters(true).SetAutoAckDisabled(true).
		SetDefaultPublishHandler(p.arrived)

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

	go p.complete()
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

// complete waits for one publication after the other: no goroutine for each.
func (p *peer3) complete() {
	for {
		var next publication

		select {
		case next = <-p.sent:
		case <-p.closed:
			return
		}

		select {
		case <-next.token.Done():
		case <-p.closed:
			return
		}

		if err := next.token.Error(); err != nil { // it was not sent, and will not be by this connection
			p.fail(err)

			return
		}

		p.owner.completed(p, next.entry, 0)

		if len(p.sent) == 0 {
			p.owner.idle()
		}
	}
}

func (p *peer3) arrived(_ mqtt.Client, m mqtt.Message) {
	p.owner.received(p, &inbound{
		topic: m.Topic(), payload: m.Payload(), qos: m.Qos(), retain: m.Retained(), dup: m.Duplicate(), id: m.MessageID(), ack: m.Ack,
	})
	// The goroutine that reads is ahead of this one, so its idling says nothing.
	p.owner.idle()
}

func (p *peer3) limits() *limits { return &p.limit }

func (p *peer3) part() {
	_, _ = p.stream.Write([]byte{0xe0, 0}) // DISCONNECT
	_ = p.stream.Close()
}

func (p *peer3) abort(why *fault) {
	p.why.CompareAndSwap(nil, why)
	p.fail(net.ErrClosed)
}

func (p *peer3) publish(e *entry, _ time.Time) error {
	if 4+len(e.topic)+len(e.payload) > maxRemaining {
		return errTooLarge
	}

	if len(p.sent) == cap(p.sent) {
		return errNoRoom
	}

	select {
	case <-p.closed:
		return errNoRoom
	default:
	}

	token := p.client.Publish(e.topic, e.outQoS, e.retain, e.payload)

	select {
	case <-token.Done():
		// What the library did not send must not be overtaken by what it does.
		if err := token.Error(); err != nil {
			p.fail(err)

			return errNoRoom
		}
	default:
	}

	if e.outQoS > 0 {
		p.sent <- publication{e, token}
	}

	return nil
}

func (p *peer3) note(topic, payload string) { p.client.Publish(topic, 0, false, payload) }

func (p *peer3) acknowledge(e *entry) { e.ack() }

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

func (p *peer3) wait(ctx context.Context, token mqtt.Token) error {
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()

	select {
	case <-token.Done():
		return token.Error()
	case <-p.closed:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}
