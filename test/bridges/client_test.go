// SPDX-License-Identifier: Apache-2.0

package bridges

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	pahov3 "github.com/eclipse/paho.mqtt.golang"
)

// end is how a broker is reached.
type end struct {
	address  string
	version  int // of MQTT: 5 or 4
	user     string
	password string
	secure   bool
}

// message is one that arrived.
type message struct {
	topic    string
	payload  []byte
	qos      byte
	retained bool
	// dup: the broker may have sent it before, to this client. Nobody passes that on [MQTT-3.3.1-3].
	dup bool
}

// options are what a connection is made with.
type options struct {
	id string
	// keep asks for a session that outlives the connection.
	keep    bool
	receive func(m message)
}

// connection is one MQTT connection, of one version or the other.
type connection interface {
	// publish returns when the broker has answered as the QoS asks for.
	publish(ctx context.Context, topic string, qos byte, retain bool, payload []byte) error
	// subscribe gives the QoS that was granted.
	subscribe(ctx context.Context, filter string, qos byte) (byte, error)
	// present says whether the broker had a session.
	present() bool
	// lost is closed when the connection has ended.
	lost() <-chan struct{}
	close()
}

func dial(ctx context.Context, e end, o options) (connection, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	if e.version == 5 {
		return dial5(ctx, e, o)
	}

	return dial4(ctx, e, o)
}

// greet is an error unless a client is welcome.
func greet(e end) error {
	c, err := dial(context.Background(), e, options{id: "greet"})
	if err != nil {
		return err
	}

	c.close()

	return nil
}

func (e end) open(ctx context.Context) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", e.address)
	if err != nil || !e.secure {
		return conn, err
	}

	authority, err := os.ReadFile(caFile())
	if err != nil {
		return nil, err
	}

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)

	secured := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12})
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()

		return nil, err
	}

	return secured, nil
}

const keepAlive = 60 // seconds

var errLost = errors.New("the connection has ended")

// client5 speaks MQTT 5.
type client5 struct {
	client *paho.Client
	had    bool
	ended  chan struct{}
	once   sync.Once
	// life ends with the connection.
	life context.Context
	over func()
}

func dial5(ctx context.Context, e end, o options) (connection, error) {
	conn, err := e.open(ctx)
	if err != nil {
		return nil, err
	}

	c := &client5{ended: make(chan struct{})}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	c.life = life
	c.over = func() { c.once.Do(func() { close(c.ended); end() }) }
	c.client = paho.NewClient(paho.ClientConfig{
		ClientID: o.id, Conn: packets.NewThreadSafeConn(conn), PacketTimeout: patience,
		OnClientError:      func(error) { c.over() },
		OnServerDisconnect: func(*paho.Disconnect) { c.over() },
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			if o.receive != nil {
				o.receive(message{p.Packet.Topic, p.Packet.Payload, p.Packet.QoS, p.Packet.Retain, p.Packet.Duplicate()})
			}

			return true, nil
		}},
	})
	hello := &paho.Connect{ClientID: o.id, KeepAlive: keepAlive, CleanStart: !o.keep, Properties: &paho.ConnectProperties{}}

	if o.keep {
		hour := uint32(3600)
		hello.Properties.SessionExpiryInterval = &hour
	}

	if e.user != "" {
		hello.Username, hello.UsernameFlag, hello.Password, hello.PasswordFlag = e.user, true, []byte(e.password), true
	}

	answer, err := c.client.Connect(ctx, hello)
	if err != nil {
		conn.Close()

		return nil, err
	}

	c.had = answer.SessionPresent

	return c, nil
}

func (c *client5) publish(ctx context.Context, topic string, qos byte, retain bool, payload []byte) error {
	select {
	case <-c.ended:
		return errLost
	default:
	}

	// The library waits for its session to be resumed, which nobody will do: the end of the connection ends its wait, too.
	_, err := c.client.Publish(c.life, &paho.Publish{Topic: topic, QoS: qos, Retain: retain, Payload: payload})
	if err == nil {
		err = ctx.Err()
	}

	return err
}

func (c *client5) subscribe(ctx context.Context, filter string, qos byte) (byte, error) {
	answer, err := c.client.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: qos}}})
	if err != nil {
		return 0, err
	}

	return answer.Reasons[0], nil
}

func (c *client5) present() bool         { return c.had }
func (c *client5) lost() <-chan struct{} { return c.ended }

func (c *client5) close() {
	_ = c.client.Disconnect(&paho.Disconnect{})
	c.over()
}

// client4 speaks MQTT 3.1.1.
type client4 struct {
	client pahov3.Client
	had    bool
	ended  chan struct{}
	once   sync.Once
}

func (c *client4) over() { c.once.Do(func() { close(c.ended) }) }

func dial4(ctx context.Context, e end, o options) (connection, error) {
	c := &client4{ended: make(chan struct{})}
	settings := pahov3.NewClientOptions().AddBroker("tcp://" + e.address).SetClientID(o.id).SetProtocolVersion(4).
		SetCleanSession(!o.keep).SetAutoReconnect(false).SetKeepAlive(keepAlive * time.Second).SetOrderMatters(true).
		SetConnectionLostHandler(func(pahov3.Client, error) { c.over() }).
		SetCustomOpenConnectionFn(func(_ *url.URL, _ pahov3.ClientOptions) (net.Conn, error) { return e.open(ctx) }).
		SetDefaultPublishHandler(func(_ pahov3.Client, m pahov3.Message) {
			if o.receive != nil {
				o.receive(message{m.Topic(), m.Payload(), m.Qos(), m.Retained(), m.Duplicate()})
			}
		})

	if e.user != "" {
		settings.SetUsername(e.user).SetPassword(e.password)
	}

	c.client = pahov3.NewClient(settings)

	token := c.client.Connect()
	if err := c.await(ctx, token); err != nil {
		return nil, err
	}

	if hello, ok := token.(*pahov3.ConnectToken); ok {
		c.had = hello.SessionPresent()
	}

	return c, nil
}

// await waits for an answer, or for the end of the connection.
func (c *client4) await(ctx context.Context, token pahov3.Token) error {
	select {
	case <-token.Done():
		return token.Error()
	case <-c.ended:
		return errLost
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *client4) publish(ctx context.Context, topic string, qos byte, retain bool, payload []byte) error {
	return c.await(ctx, c.client.Publish(topic, qos, retain, payload))
}

func (c *client4) subscribe(ctx context.Context, filter string, qos byte) (byte, error) {
	token := c.client.Subscribe(filter, qos, nil)
	if err := c.await(ctx, token); err != nil {
		return 0, err
	}

	answer, ok := token.(*pahov3.SubscribeToken)
	if !ok {
		return 0, errors.New("no answer to the subscription")
	}

	granted := answer.Result()[filter]
	if granted >= 0x80 {
		return 0, fmt.Errorf("the subscription to %s is refused", filter)
	}

	return granted, nil
}

func (c *client4) present() bool         { return c.had }
func (c *client4) lost() <-chan struct{} { return c.ended }

// close ends what waits for an answer, too: the library keeps that for a later connection.
func (c *client4) close() {
	c.client.Disconnect(100)
	c.over()
}
