// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/coder/websocket"
	_ "golang.org/x/crypto/x509roots/fallback" // an image without a system has no system's roots

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// peer is one MQTT connection that is up.
type peer interface {
	// limits are what the server takes.
	limits() *limits
	// publish sends an entry and does not wait. It is called under the lock of the flow whose destination this is.
	publish(e *entry, now time.Time) error
	// acknowledge tells the source that a message is taken.
	acknowledge(e *entry)
	// note sends a message with QoS 0 and no properties.
	note(topic, payload string)
	// subscribe asks for one filter and returns what was granted, or a code of 0x80 and above.
	subscribe(ctx context.Context, s subscription) (code byte, said string, err error)
	unsubscribe(ctx context.Context, filter string) error
	// flush sends what has gathered.
	flush()
	// backlog is how many bytes wait to be sent.
	backlog() int
	// part ends the connection with a DISCONNECT; abort ends it at once, for a reason.
	part()
	abort(why *fault)
}

// subscription is a filter with its options.
type subscription struct {
	filter string
	qos    byte
	retain bool // as published, at 5
	// noLocal keeps from the bridge what it published itself by the same connection, at 5.
	noLocal bool
}

// limits are what a server told of itself.
type limits struct {
	maxPacket  uint32 // 0 for no bound
	window     int
	floods     bool // as a source it sends as much as it likes: before 5 there is no Receive Maximum
	maxQoS     byte
	retain     bool
	wildcards  bool
	shared     bool
	expiry     uint32 // of the session, as granted
	expiryKept bool   // as asked
}

var (
	errTooLarge = errors.New("larger than the destination takes")
	errNoRoom   = errors.New("the window is full")
)

// owner is told what happens on a connection. The methods are called by the goroutine that reads it, lost by any.
type owner interface {
	// up is called when the server has let the client in and before anything else is read.
	up(p peer, sessionPresent bool)
	received(p peer, m *inbound)
	// completed is called when the destination has answered for an entry. code is 0x80 or above where it refuses.
	completed(p peer, e *entry, code byte)
	// idle is called when all that was there is read.
	idle()
	// lost is called once, when the connection is no more.
	lost(p peer, why *fault)
}

// passage is how a connection is made.
type passage struct {
	end      *contract.BridgeEnd
	clientID string
	clean    bool
	expiry   uint32
	// window is the most messages that the server may have in flight to here, and from here.
	window    int
	keepAlive time.Duration
	willTopic string
	will      string
	// sweep releases QoS 2 identifiers that an earlier process may have left behind.
	sweep    bool
	patience time.Duration
	owner    owner
}

// open makes a connection to one endpoint.
func (w *passage) open(ctx context.Context, endpoint string) (peer, error) {
	ctx, cancel := context.WithTimeout(ctx, w.patience)
	defer cancel()

	conn, err := dial(ctx, w.end, endpoint)
	if err != nil {
		return nil, asFault(endpoint, err)
	}

	s := newStream(conn, w.end.Version, max(w.patience, writeTime))
	s.idle = w.owner.idle
	// The libraries do not end with the context while they wait for CONNACK.
	stop := context.AfterFunc(ctx, func() { s.fail(context.DeadlineExceeded) })
	defer stop()

	if w.end.Version == 5 {
		return w.open5(ctx, s, endpoint)
	}

	return w.open3(ctx, s, endpoint)
}

const writeTime = 30 * time.Second

// dial opens what carries MQTT.
func dial(ctx context.Context, end *contract.BridgeEnd, endpoint string) (net.Conn, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, faultf(ReasonHostNotFound, "the endpoint is no address")
	}

	port := u.Port()
	if port == "" {
		port = map[string]string{"mqtt": "1883", "mqtts": "8883", "ws": "80", "wss": "443"}[u.Scheme]
	}

	address := net.JoinHostPort(u.Hostname(), port)
	dialer := &net.Dialer{}

	switch u.Scheme {
	case "mqtt":
		return dialer.DialContext(ctx, "tcp", address)
	case "mqtts":
		settings, err := trust(end, u.Hostname())
		if err != nil {
			return nil, err
		}

		return (&tls.Dialer{NetDialer: dialer, Config: settings}).DialContext(ctx, "tcp", address)
	default:
		return dialWebSocket(ctx, end, u)
	}
}

func trust(end *contract.BridgeEnd, host string) (*tls.Config, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if end.ServerName != "" {
		settings.ServerName = end.ServerName
	}

	if end.CAs != "" {
		settings.RootCAs = x509.NewCertPool()
		settings.RootCAs.AppendCertsFromPEM([]byte(end.CAs))
	}

	if end.Pair.Certificate != "" {
		pair, err := tls.X509KeyPair([]byte(end.Pair.Certificate), []byte(end.Pair.PrivateKey))
		if err != nil {
			return nil, faultf(ReasonOursRefused, "the client certificate and its key are no pair")
		}

		settings.Certificates = []tls.Certificate{pair}
	}

	return settings, nil
}

func dialWebSocket(ctx context.Context, end *contract.BridgeEnd, u *url.URL) (net.Conn, error) {
	settings, err := trust(end, u.Hostname())
	if err != nil {
		return nil, err
	}

	target := *u
	if target.Path == "" {
		target.Path = contract.DefaultWebSocketPath
	}

	conn, response, err := websocket.Dial(ctx, target.String(), &websocket.DialOptions{
		HTTPClient:   &http.Client{Transport: &http.Transport{TLSClientConfig: settings}},
		Subprotocols: []string{"mqtt"}, // [MQTT-6.0.0-3]
	})
	if response != nil && response.Body != nil && err != nil {
		_ = response.Body.Close()
	}

	if err != nil {
		if response != nil && response.StatusCode != http.StatusSwitchingProtocols {
			return nil, faultf(ReasonWebSocketRefused, "%s: the server answers %d and opens no WebSocket; check the path", u.Redacted(), response.StatusCode)
		}

		return nil, fmt.Errorf("websocket: %w", err)
	}

	conn.SetReadLimit(-1) // the guard bounds packets

	return websocket.NetConn(context.Background(), conn, websocket.MessageBinary), nil //nolint:contextcheck // it outlives the dialling
}
