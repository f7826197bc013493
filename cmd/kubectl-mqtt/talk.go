// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session/state"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

// talker are the flags of pub and sub.
type talker struct {
	connection

	asUser, clientID string
	qos              uint8
}

func (t *talker) talkerFlags(c *cobra.Command) {
	t.clusterFlags(c)
	c.Flags().Lookup("namespace").Usage = "namespace of the user; empty: that of the context"
	c.Flags().StringVar(&t.asUser, "as-user", "", "the MQTTUser as whom to connect (required)")
	c.Flags().StringVar(&t.clientID, "client-id", "", "the client id; empty: a new one that the user may have")
	c.Flags().Uint8Var(&t.qos, "qos", 0, "quality of service: 0, 1 or 2")
}

func (t *talker) check() error {
	if t.asUser == "" {
		return usage("say as whom with --as-user and the name of an MQTTUser")
	}
	if t.qos > maxQoS {
		return usage("--qos %d is not 0, 1 or 2", t.qos)
	}
	return nil
}

func pub(s streams, open opener) *cobra.Command {
	t, retain := talker{}, false
	c := &cobra.Command{
		Use:   "pub TOPIC MESSAGE --as-user NAME",
		Short: "Publish a message as a user",
		Long: "Publish a message as an MQTTUser, with what its binding Secret holds, through the API server: nothing of the broker\n" +
			"need be reachable from here. The rules of the user decide. By QoS 1 or 2 the verb waits for the acknowledgement.\n\n" +
			"An empty MESSAGE with --retain removes the retained message of the topic. The exit code is 1 where the broker does\n" +
			"not take the message.",
		Example: "  kubectl mqtt pub factory/press-7/orders start --as-user press-7 --qos 1 -n factory",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if err := t.check(); err != nil {
				return err
			}
			if err := acl.ValidateTopic(args[0]); err != nil {
				return usage("%s: %v", shown(args[0]), err)
			}
			ctx, cancel := context.WithTimeout(c.Context(), reachPatience)
			defer cancel()
			l, err := t.connect(ctx, open, nil)
			if err != nil {
				return err
			}
			defer l.close()
			answer, err := l.Publish(ctx, &paho.Publish{Topic: args[0], Payload: []byte(args[1]), QoS: t.qos, Retain: retain})
			switch {
			case answer != nil && answer.ReasonCode >= refusalCode:
				return &exit{exitNo, fmt.Errorf("the broker does not take it: %s", said(answer.ReasonCode, packets.PUBACK, reasonOf(answer)))}
			case err != nil:
				return &exit{exitUnknown, l.explain(err)}
			case t.qos == 0:
				sayf(s.err, "note: sent; with QoS 0 no broker says whether it took it")
			case answer.ReasonCode == nobodySubscribed:
				sayf(s.err, "note: taken; nobody has subscribed to it")
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	t.talkerFlags(c)
	c.Flags().BoolVar(&retain, "retain", false, "have the broker keep it for those who subscribe later")
	return c
}

// message is what sub prints with -o json, one a line. Fields are added, never changed.
type message struct {
	Topic  string `json:"topic"`
	QoS    byte   `json:"qos"`
	Retain bool   `json:"retain,omitempty"`
	// Payload is text; PayloadBase64 stands in its place where it is none.
	Payload       *string `json:"payload,omitempty"`
	PayloadBase64 []byte  `json:"payloadBase64,omitempty"`
}

func sub(s streams, open opener) *cobra.Command {
	t, output := talker{}, ""
	var (
		count int
		span  time.Duration
		raw   bool
	)
	c := &cobra.Command{
		Use:   "sub FILTER --as-user NAME",
		Short: "Subscribe as a user, and print what comes",
		Long: "Subscribe as an MQTTUser, with what its binding Secret holds, through the API server, and print what comes: topic and\n" +
			"payload, one message a line. The rules of the user decide; nobody else's messages are taken away, unless FILTER is a\n" +
			"shared subscription. It ends with Ctrl-C, after --count messages, or when --for is over.\n\n" +
			"The exit code is 1 where the broker refuses the subscription, or ends the connection.",
		Example: "  kubectl mqtt sub 'factory/#' --as-user alice -n factory\n" +
			"  kubectl mqtt sub factory/press-7/state --as-user alice -n factory --count 1 -o json",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := t.check(); err != nil {
				return err
			}
			if err := acl.ValidateFilter(args[0]); err != nil {
				return usage("%s: %v", shown(args[0]), err)
			}
			if raw && output != "" {
				return usage("--raw and -o do not go together")
			}
			p := &printer{streams: s, output: output, raw: raw, left: count, done: make(chan struct{})}
			l, err := t.connect(c.Context(), open, p.take)
			if err != nil {
				return err
			}
			defer l.close()
			if err := l.subscribe(c.Context(), args[0], t.qos); err != nil {
				return err
			}
			sayf(s.err, "note: subscribed to %s as %s", shown(args[0]), l.username)
			return l.wait(c.Context(), p.done, span)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	t.talkerFlags(c)
	c.Flags().IntVar(&count, "count", 0, "end after so many messages; 0: do not")
	c.Flags().DurationVar(&span, "for", 0, "end after this time; 0: do not")
	c.Flags().BoolVar(&raw, "raw", false, "print payloads as they are, and nothing else")
	outputFlag(c, &output)
	return c
}

// printer prints messages until there have been enough.
type printer struct {
	streams

	output string
	raw    bool
	left   int
	done   chan struct{} // closed when there have been enough
	ended  bool
}

func (p *printer) take(r paho.PublishReceived) (bool, error) {
	if p.ended {
		return true, nil
	}
	m := r.Packet
	switch {
	case p.raw:
		_, _ = p.out.Write(m.Payload) // as in sayf
	case p.output != "":
		p.write(m)
	default:
		sayf(p.out, "%s %s", shown(m.Topic), payload(m.Payload))
	}
	p.left--
	if p.left == 0 {
		p.ended = true
		close(p.done)
	}
	return true, nil
}

func (p *printer) write(m *paho.Publish) {
	said := message{Topic: m.Topic, QoS: m.QoS, Retain: m.Retain}
	if utf8.Valid(m.Payload) {
		said.Payload = new(string(m.Payload))
	} else {
		said.PayloadBase64 = m.Payload
	}
	if p.output == "yaml" {
		sayf(p.out, "---")
		_ = printAs(p.out, p.output, said) // as in sayf
		return
	}
	_ = json.NewEncoder(p.out).Encode(said) //nolint:errchkjson // as in sayf
}

// payload is a payload as it can stand in a line.
func payload(b []byte) string {
	if len(b) == 0 {
		return "(empty)"
	}
	return shown(string(b))
}

// Reason codes of MQTT 5 that are of interest here.
const (
	nobodySubscribed byte = 0x10
	refusalCode      byte = 0x80
)

// line is a connection to a broker as a user.
type line struct {
	*paho.Client

	username string
	conn     net.Conn

	mu  sync.Mutex
	why error         // why it ended
	end chan struct{} // closed when it has
}

// connect connects as the user that the flags name. take gets what comes.
func (t *talker) connect(ctx context.Context, open opener, take func(paho.PublishReceived) (bool, error)) (*line, error) {
	at, namespace, err := open(t.connection)
	if err != nil {
		return nil, &exit{exitUnknown, err}
	}
	user := &v1alpha1.MQTTUser{}
	if err := at.Get(ctx, client.ObjectKey{Namespace: namespace, Name: t.asUser}, user); err != nil {
		return nil, &exit{exitUnknown, explained(err)}
	}
	id, err := clientIDFor(user, t.clientID)
	if err != nil {
		return nil, err
	}
	binding, err := at.binding(ctx, user)
	if err != nil {
		return nil, err
	}
	broker := &v1alpha1.MQTTBroker{}
	if err := at.Get(ctx, client.ObjectKey{Namespace: user.BrokerNamespace(), Name: user.Spec.BrokerRef.Name}, broker); err != nil {
		return nil, &exit{exitUnknown, err}
	}
	r, err := at.reach(ctx, broker)
	if err != nil {
		return nil, err
	}
	conn, err := r.open(ctx, binding)
	if err != nil {
		return nil, &exit{exitUnknown, err}
	}
	return begin(ctx, conn, id, binding, take)
}

// begin says CONNECT.
func begin(ctx context.Context, conn net.Conn, id string, b *binding, take func(paho.PublishReceived) (bool, error)) (*line, error) {
	l := &line{username: b.username, conn: conn, end: make(chan struct{})}
	config := paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(conn), PacketTimeout: reachPatience, Session: careful{state.NewInMemory()},
		OnClientError: func(err error) { l.over(err) },
		OnServerDisconnect: func(d *paho.Disconnect) {
			text := ""
			if d.Properties != nil {
				text = d.Properties.ReasonString
			}
			l.over(fmt.Errorf("the broker ended the connection: %s", said(d.ReasonCode, packets.DISCONNECT, text)))
		},
	}
	if take != nil {
		config.OnPublishReceived = []func(paho.PublishReceived) (bool, error){take}
	}
	l.Client = paho.NewClient(config)
	connect := &paho.Connect{
		ClientID: id, CleanStart: true, KeepAlive: 30, Username: b.username, UsernameFlag: true,
		Password: b.password, PasswordFlag: len(b.password) > 0,
		Properties: &paho.ConnectProperties{RequestProblemInfo: true},
	}
	ack, err := l.Connect(ctx, connect)
	if ack != nil && ack.ReasonCode >= refusalCode {
		_ = conn.Close()
		text := ""
		if ack.Properties != nil {
			text = ack.Properties.ReasonString
		}
		return nil, &exit{exitNo, fmt.Errorf("the broker does not let %s in: %s", shown(b.username), said(ack.ReasonCode, packets.CONNACK, text))}
	}
	if err != nil {
		_ = conn.Close()
		return nil, &exit{exitUnknown, fmt.Errorf("listener %s: %w", b.address, l.explain(err))}
	}
	return l, nil
}

// careful is the library's session without its panic: up to v0.23.0 a PUBREC that is read while the connection ends is
// answered on no connection, and a goroutine of the library would end the program.
type careful struct{ *state.State }

// PacketReceived is of session.SessionManager.
func (c careful) PacketReceived(p *packets.ControlPacket, to chan<- *packets.Publish) (err error) {
	defer func() {
		if recover() != nil {
			err = net.ErrClosed
		}
	}()
	return c.State.PacketReceived(p, to)
}

// over notes why the line has ended, once.
func (l *line) over(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why == nil {
		l.why = why
		close(l.end)
	}
}

// explain prefers what ended the line to what a call noticed of it.
func (l *line) explain(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why != nil {
		return l.why
	}
	return err
}

// close says goodbye, and waits until it has been heard: what was published with QoS 0 stands before it in the same line.
func (l *line) close() {
	_ = l.Disconnect(&paho.Disconnect{}) // whoever is gone needs no goodbye
	select {
	case <-l.Done():
	case <-time.After(2 * goodbyePatience):
	}
	_ = l.conn.Close()
}

func (l *line) subscribe(ctx context.Context, filter string, qos byte) error {
	ctx, cancel := context.WithTimeout(ctx, reachPatience)
	defer cancel()
	ack, err := l.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: qos}}})
	if ack != nil && len(ack.Reasons) == 1 && ack.Reasons[0] >= refusalCode {
		text := ""
		if ack.Properties != nil {
			text = ack.Properties.ReasonString
		}
		return &exit{exitNo, fmt.Errorf("the broker refuses the subscription to %s: %s", shown(filter), said(ack.Reasons[0], packets.SUBACK, text))}
	}
	if err != nil {
		return &exit{exitUnknown, l.explain(err)}
	}
	return nil
}

// wait lets messages come until one of the ends is there.
func (l *line) wait(ctx context.Context, enough <-chan struct{}, span time.Duration) error {
	var over <-chan time.Time
	if span > 0 {
		over = time.After(span)
	}
	select {
	case <-ctx.Done():
	case <-enough:
	case <-over:
	case <-l.end:
		return &exit{exitNo, l.explain(nil)}
	}
	return nil
}

// said is a reason code in words, with those of the broker if it has any.
func said(code, packet byte, words string) string {
	names := map[byte]string{
		0x81: "malformed packet", 0x82: "protocol error", 0x84: "it does not speak MQTT 5 here", 0x85: "the client id is not valid, or belongs to another user",
		0x86: "unknown user, or wrong password", 0x87: "not authorized", 0x88: "it is unavailable", 0x89: "it is busy",
		0x8A: "banned", 0x8B: "it is shutting down", 0x8D: "nothing came for too long", 0x8E: "another client has come with this client id", 0x8F: "the filter is not valid",
		0x90: "the topic is not valid", 0x95: "the packet is too large", 0x97: "a quota is exceeded", 0x98: "an administrative action", 0x99: "the payload is not what it is said to be",
		0x9A: "retained messages are not taken", 0x9B: "this QoS is not taken", 0x9C: "use another server", 0x9D: "it has moved", 0x9E: "shared subscriptions are not taken",
		0x9F: "connections come too fast",
	}
	text := names[code]
	if text == "" {
		text = fmt.Sprintf("reason code of packet type %d", packet)
	}
	text += fmt.Sprintf(" (0x%02X)", code)
	if words != "" {
		text += ": " + shown(words)
	}
	return text
}

func reasonOf(answer *paho.PublishResponse) string {
	if answer.Properties == nil {
		return ""
	}
	return answer.Properties.ReasonString
}

// clientIDFor is a client id that the user may have, and that nobody else has.
func clientIDFor(user *v1alpha1.MQTTUser, wanted string) (string, error) {
	allowed := user.Spec.ClientIDs
	switch {
	case wanted != "":
		return wanted, nil
	case allowed != nil && len(allowed.Exact) > 0:
		return "", usage("MQTTUser %s may connect with these client ids alone: %s; say which with --client-id; a client that is connected with it is sent away", user.Name, strings.Join(allowed.Exact, ", "))
	case allowed != nil && allowed.Prefix != nil:
		return *allowed.Prefix + "kubectl-mqtt-" + rand.Text()[:10], nil
	default:
		return "kubectl-mqtt-" + rand.Text()[:10], nil
	}
}

// binding is what the binding Secret of a user holds.
type binding struct {
	host, address, username string

	password []byte
	trust    *tls.Config // nil without TLS
	endpoint *url.URL
}

// binding reads the binding Secret of a user.
func (s *site) binding(ctx context.Context, user *v1alpha1.MQTTUser) (*binding, error) {
	name := v1alpha1.BindingSecretName(user.Name)
	if user.Status.Binding != nil {
		name = user.Status.Binding.Name
	}
	secret := &corev1.Secret{}
	err := s.Get(ctx, client.ObjectKey{Namespace: user.Namespace, Name: name}, secret)
	switch {
	case apierrors.IsForbidden(err):
		return nil, &exit{exitUnknown, fmt.Errorf("you may not read Secret %s, which holds the way to the broker: ask somebody who may", name)}
	case apierrors.IsNotFound(err):
		return nil, &exit{exitUnknown, fmt.Errorf("MQTTUser %s has no binding yet: see kubectl -n %s describe mqttuser %s", user.Name, user.Namespace, user.Name)}
	case err != nil:
		return nil, &exit{exitUnknown, err}
	}
	b, err := parseBinding(secret.Data)
	if err != nil {
		return nil, &exit{exitUnknown, fmt.Errorf("secret %s: %w", name, err)}
	}
	return b, nil
}

func parseBinding(data map[string][]byte) (*binding, error) {
	b := &binding{host: string(data[v1alpha1.BindingHost]), username: string(data[v1alpha1.BindingUsername]), password: data[v1alpha1.BindingPassword]}
	b.address = net.JoinHostPort(b.host, string(data[v1alpha1.BindingPort]))
	var err error
	if b.endpoint, err = url.Parse(string(data[v1alpha1.BindingURI])); err != nil {
		return nil, errors.New("uri is none") // the parser's words would repeat it
	}
	hasPair := len(data[v1alpha1.BindingCert]) > 0
	switch {
	case b.host == "" || b.endpoint.Port() == "":
		return nil, errors.New("host or uri is missing")
	case len(b.password) == 0 && !hasPair:
		return nil, errors.New("holds neither password nor certificate: this user proves itself by a token, which this verb cannot draw")
	}
	if !slices.Contains([]string{"mqtts", "wss"}, b.endpoint.Scheme) {
		return b, nil
	}
	b.trust = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: b.host}
	if ca := data[v1alpha1.BindingCA]; len(ca) > 0 {
		b.trust.RootCAs = x509.NewCertPool()
		b.trust.RootCAs.AppendCertsFromPEM(ca)
	}
	if hasPair {
		pair, err := tls.X509KeyPair(data[v1alpha1.BindingCert], data[v1alpha1.BindingKey])
		if err != nil {
			return nil, err
		}
		b.trust.Certificates = []tls.Certificate{pair}
	}
	return b, nil
}

// open connects to the listener of a binding in a pod: TLS by the name of the binding, and WebSocket where it is one.
func (r *reached) open(ctx context.Context, b *binding) (net.Conn, error) {
	port, err := strconv.Atoi(b.endpoint.Port())
	if err != nil {
		return nil, err
	}
	resolved := r.broker.Resolved()
	for _, l := range resolved.Listeners {
		if l.Port == int32(port) && l.ProxyProtocol != nil && l.ProxyProtocol.Mode == v1alpha1.ProxyProtocolRequired { //nolint:gosec // a port
			return nil, fmt.Errorf("listener %s wants a PROXY header first, which nobody can send through the API server: bind the user to another one (spec.binding.listener)", l.Name)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, reachPatience)
	defer cancel()
	plain, err := r.dial(ctx, client.ObjectKeyFromObject(&r.pods[0]), port)
	if err != nil {
		return nil, err
	}
	conn := plain
	if b.trust != nil {
		secure := tls.Client(plain, b.trust)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = plain.Close()
			return nil, fmt.Errorf("listener %s: %w", b.address, err)
		}
		conn = secure
	}
	if b.endpoint.Scheme != "ws" && b.endpoint.Scheme != "wss" {
		return conn, nil
	}
	// What is encrypted is so already.
	socket, response, err := websocket.Dial(ctx, "ws://"+b.endpoint.Host+b.endpoint.Path, &websocket.DialOptions{
		Subprotocols: []string{"mqtt"}, // [MQTT-6.0.0-3]
		HTTPClient: &http.Client{Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		}},
	})
	if response != nil && response.Body != nil {
		_ = response.Body.Close()
	}
	if err != nil {
		_ = plain.Close()
		return nil, fmt.Errorf("listener %s: %w", b.address, err)
	}
	socket.SetReadLimit(-1)
	return websocket.NetConn(context.WithoutCancel(ctx), socket, websocket.MessageBinary), nil
}
