// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	corev1 "k8s.io/api/core/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// Reason codes that stories ask for.
const (
	badUserNameOrPassword = 0x86
	notAuthorized         = 0x87
	serverUnavailable     = 0x88
	badAuthMethod         = 0x8C
	administrativeAction  = 0x98
)

// answerTime is how long the broker may take to answer one packet on a busy machine.
const answerTime = 20 * time.Second

// binding is what an application reads from its mounted Secret.
type binding struct {
	host, port, username, password string
	ca                             []byte
	// certificate and key are of the client, empty unless the user logs in by certificate.
	certificate, key []byte
}

// binding reads the binding Secret of a user.
func (s *story) binding(user string) (binding, error) {
	secret, err := s.secret(v1alpha1.BindingSecretName(user))
	if err != nil {
		return binding{}, err
	}
	text := func(key string) string { return string(secret.Data[key]) }
	return binding{
		host: text(v1alpha1.BindingHost), port: text(v1alpha1.BindingPort), ca: secret.Data[v1alpha1.BindingCA],
		username: text(v1alpha1.BindingUsername), password: text(v1alpha1.BindingPassword),
		certificate: secret.Data[corev1.TLSCertKey], key: secret.Data[corev1.TLSPrivateKeyKey],
	}, nil
}

// dial opens the connection below MQTT: TLS where the binding names a CA.
func (b binding) dial(ctx context.Context) (net.Conn, error) {
	address := net.JoinHostPort(b.host, b.port)
	config, err := b.trust()
	if err != nil {
		return nil, err
	}
	if config == nil {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
}

// trust is what a client needs for TLS, nil where the listener has none.
func (b binding) trust() (*tls.Config, error) {
	if len(b.ca) == 0 {
		return nil, nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(b.ca) {
		return nil, errors.New("ca.crt of the binding holds no certificate")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: b.host}
	if len(b.certificate) > 0 {
		pair, err := tls.X509KeyPair(b.certificate, b.key)
		if err != nil {
			return nil, fmt.Errorf("tls.crt and tls.key of the binding: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// session says how a client wants to be known.
type session struct {
	clientID string
	// expiry in seconds: more than 0 keeps the session over the end of the connection.
	expiry uint32
	resume bool
	// method of enhanced authentication, with what it begins with; empty for none.
	method string
	proof  []byte
	// steps go on with the method where it has more than one; nil where it has not.
	steps paho.Auther //nolint:misspell // paho.golang calls it so
	// hear takes messages as they come, in place of the channel of the client.
	hear func(*paho.Publish)
	// dial takes the place of the binding's own.
	dial func(context.Context) (net.Conn, error)
}

// oneStep is a method of authentication that ends with what it begins with.
type oneStep struct{}

func (oneStep) Authenticate(*paho.Auth) *paho.Auth { return &paho.Auth{ReasonCode: notAuthorized} }
func (oneStep) Authenticated()                     {}

// mqttClient is an MQTT 5 connection that remembers what it was sent.
type mqttClient struct {
	name     string
	paho     *paho.Client
	present  bool
	proof    []byte // the broker's own, in CONNACK
	messages chan *paho.Publish
	hear     func(*paho.Publish)
	closed   chan struct{}

	mu sync.Mutex
	// why the connection ended and when, with the reason code of a DISCONNECT, 0 without one.
	why    error
	at     time.Time
	reason byte
}

// refusal is a CONNACK, SUBACK or PUBACK that says no.
type refusal struct {
	code byte
	text string
}

func (r *refusal) Error() string { return fmt.Sprintf("%s: reason code %#x", r.text, r.code) }

// refusedWith complains unless err is a refusal with that code.
func refusedWith(err error, code byte) error {
	var r *refusal
	switch {
	case err == nil:
		return errors.New("it was allowed")
	case !errors.As(err, &r):
		return fmt.Errorf("it failed in another way: %w", err)
	case r.code != code:
		return fmt.Errorf("the reason code is %#x, not %#x", r.code, code)
	default:
		return nil
	}
}

// connectWith opens a connection with this binding.
func connectWith(b binding, want session) (*mqttClient, error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	if want.dial == nil {
		want.dial = b.dial
	}
	conn, err := want.dial(ctx)
	if err != nil {
		return nil, err
	}
	if want.clientID == "" {
		want.clientID = b.username + "-" + random(4)
	}
	if want.steps == nil {
		want.steps = oneStep{}
	}
	c := &mqttClient{name: want.clientID, hear: want.hear, closed: make(chan struct{})}
	if c.hear == nil {
		c.messages = make(chan *paho.Publish, 10_000)
	}
	c.paho = paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(conn), ClientID: want.clientID, PacketTimeout: answerTime,
		AuthHandler: want.steps, OnPublishReceived: []func(paho.PublishReceived) (bool, error){c.receive},
		OnServerDisconnect: func(d *paho.Disconnect) {
			c.end(&refusal{code: d.ReasonCode, text: "the broker disconnects"}, d.ReasonCode)
		},
		OnClientError: func(err error) { c.end(err, 0) },
	})
	connack, err := c.paho.Connect(ctx, &paho.Connect{
		ClientID: want.clientID, KeepAlive: 30, CleanStart: !want.resume,
		Username: b.username, UsernameFlag: b.username != "", Password: []byte(b.password), PasswordFlag: b.password != "",
		Properties: &paho.ConnectProperties{SessionExpiryInterval: &want.expiry, AuthMethod: want.method, AuthData: want.proof},
	})
	if connack != nil && connack.ReasonCode >= 0x80 {
		return nil, &refusal{code: connack.ReasonCode, text: "CONNECT"}
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	c.present = connack.SessionPresent
	if connack.Properties != nil {
		c.proof = connack.Properties.AuthData
	}
	return c, nil
}

func (c *mqttClient) receive(p paho.PublishReceived) (bool, error) {
	if c.hear != nil {
		c.hear(p.Packet)
		return true, nil
	}
	select {
	case c.messages <- p.Packet:
	default: // nobody reads: the story does not care
	}
	return true, nil
}

func (c *mqttClient) end(why error, reason byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why == nil {
		c.why, c.reason, c.at = why, reason, time.Now()
		close(c.closed)
	}
}

// ended is why the connection is no more, nil while it stands.
func (c *mqttClient) ended() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.why
}

// tryConnect opens a connection as a user of the story.
func (s *story) tryConnect(user string, want session) (*mqttClient, error) {
	b, err := s.binding(user)
	if err != nil {
		return nil, err
	}
	c, err := connectWith(b, want)
	if err == nil {
		s.Cleanup(func() { c.leave() })
	}
	return c, err
}

// connect opens a connection as a user of the story, who must be let in.
func (s *story) connect(user string) *mqttClient {
	s.Helper()
	return s.connectAs(user, session{})
}

func (s *story) connectAs(user string, want session) *mqttClient {
	s.Helper()
	var c *mqttClient
	var refused error
	s.eventually(patience, "the way to the broker is open", func() error {
		c, refused = s.tryConnect(user, want)
		// A Service learns of a ready pod a moment after the pod itself; what the broker says is final.
		if closed := (&net.OpError{}); errors.As(refused, &closed) && closed.Op == "dial" {
			return refused
		}
		return nil
	})
	if refused != nil {
		s.Fatalf("user %s cannot connect: %v", user, refused)
	}
	return c
}

// reconnect tries until the user is let in.
func (s *story) reconnect(user string, want session) *mqttClient {
	s.Helper()
	var c *mqttClient
	took := s.eventually(patience, "user "+user+" can connect", func() (err error) {
		c, err = s.tryConnect(user, want)
		return err
	})
	s.sayf("user %s is connected after %.2fs", user, took.Seconds())
	return c
}

// leave says goodbye and forgets about it.
func (c *mqttClient) leave() {
	_ = c.paho.Disconnect(&paho.Disconnect{})
	c.end(errors.New("we left"), 0)
}

func (c *mqttClient) subscribe(filter string, qos byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	suback, err := c.paho.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: qos}}})
	if suback != nil && len(suback.Reasons) > 0 && suback.Reasons[0] >= 0x80 {
		return &refusal{code: suback.Reasons[0], text: "SUBSCRIBE " + filter}
	}
	return err
}

func (c *mqttClient) publish(topic, text string) error {
	return c.send(&paho.Publish{Topic: topic, QoS: 1, Payload: []byte(text)})
}

func (c *mqttClient) retain(topic, text string) error {
	return c.send(&paho.Publish{Topic: topic, QoS: 1, Retain: true, Payload: []byte(text)})
}

func (c *mqttClient) send(p *paho.Publish) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	answer, err := c.paho.Publish(ctx, p)
	if answer != nil && answer.ReasonCode >= 0x80 {
		return &refusal{code: answer.ReasonCode, text: "PUBLISH " + p.Topic}
	}
	return err
}

// mustSubscribe and mustPublish end the story where the broker refuses.
func (s *story) mustSubscribe(c *mqttClient, filters ...string) {
	s.Helper()
	for _, filter := range filters {
		if err := c.subscribe(filter, 1); err != nil {
			s.Fatalf("%s cannot subscribe to %s: %v", c.name, filter, err)
		}
	}
}

func (s *story) mustPublish(c *mqttClient, topic, text string) {
	s.Helper()
	if err := c.publish(topic, text); err != nil {
		s.Fatalf("%s cannot publish to %s: %v", c.name, topic, err)
	}
}

// hears waits until the client was sent this very message and returns the others that came before it.
func (s *story) hears(c *mqttClient, topic, text string) []string {
	s.Helper()
	var before []string
	deadline := time.After(patience)
	for {
		select {
		case m := <-c.messages:
			if m.Topic == topic && string(m.Payload) == text {
				return before
			}
			before = append(before, m.Topic+" "+string(m.Payload))
		case <-c.closed:
			s.Fatalf("%s waits for %q on %s, but its connection ended: %v (heard before: %s)", c.name, text, topic, c.ended(), strings.Join(before, "; "))
		case <-deadline:
			s.Fatalf("%s never heard %q on %s (heard: %s)", c.name, text, topic, strings.Join(before, "; "))
		}
	}
}

// awaitEnd waits until the broker ends the connection, and returns when that was.
func (s *story) awaitEnd(c *mqttClient) time.Time {
	s.Helper()
	return s.awaitEndWithin(c, patience)
}

func (s *story) awaitEndWithin(c *mqttClient, within time.Duration) time.Time {
	s.Helper()
	select {
	case <-c.closed:
		return time.Now()
	case <-time.After(within):
		s.Fatalf("%s is still connected", c.name)
		return time.Time{}
	}
}

// pulse is a pair of clients that exchange a message again and again, to see that nothing disturbs them.
type pulse struct {
	from, to *mqttClient
	topic    string
	beats    int
}

func (s *story) pulse(user, topic string) *pulse {
	s.Helper()
	p := &pulse{from: s.connect(user), to: s.connect(user), topic: topic}
	s.mustSubscribe(p.to, topic)
	s.beat(p)
	return p
}

// beat sends one message through; a connection that has ended since the last beat ends the story.
func (s *story) beat(p *pulse) {
	s.Helper()
	for _, c := range []*mqttClient{p.from, p.to} {
		if err := c.ended(); err != nil {
			s.Fatalf("%s lost its connection, and nothing in this story is a reason for that: %v", c.name, err)
		}
	}
	p.beats++
	text := fmt.Sprintf("beat %d", p.beats)
	s.mustPublish(p.from, p.topic, text)
	if others := s.hears(p.to, p.topic, text); len(others) > 0 {
		s.Errorf("besides %q there came %s", text, strings.Join(others, "; "))
	}
}

// served is the certificate that a listener shows.
func (b binding) served() ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	conn, err := b.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	secured, ok := conn.(*tls.Conn)
	if !ok {
		return nil, errors.New("no TLS")
	}
	return slices.Clone(secured.ConnectionState().PeerCertificates[0].Raw), nil
}

func message(topic, text string, qos byte) *paho.Publish {
	return &paho.Publish{Topic: topic, QoS: qos, Payload: []byte(text)}
}
