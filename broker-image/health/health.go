// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

const (
	// shared is how long an answer is good for.
	shared = time.Second
	// patience bounds one probe, all listeners together; it must be shorter than the timeout of who asks.
	patience = 4 * time.Second
)

// Target is one listener.
type Target struct {
	Name string
	// Network is tcp or unix.
	Network string
	Address string
	// TLS is nil for a listener without.
	TLS *tls.Config
	// WebSocket is the path of a listener that begins with HTTP, else empty.
	WebSocket string
	// Proxy tells whether a PROXY header from an address is read; nil if from none. The address of a unix socket is the
	// zero one.
	Proxy func(from netip.Addr) bool
	// Full says that the listener has let in as many as it may. It serves those, so it is not tried and not at fault.
	Full bool
}

// Broker is what is asked about.
type Broker struct {
	// Targets are the listeners of now. An error means that there is nothing to serve yet, or no more.
	Targets func() ([]Target, error)
	// Storage says why what must be kept cannot be written, or nothing. It is said and makes nobody unready: see the
	// package comment. Nil says nothing.
	Storage func() string
	// Username and Password let the probe in.
	Username, Password string
}

// Checker answers both questions. It is safe for concurrent use.
type Checker struct {
	broker Broker
	off    atomic.Pointer[string]

	mu    sync.Mutex
	asked time.Time
	body  string
	ready bool
}

// New makes a Checker.
func New(broker Broker) *Checker { return &Checker{broker: broker} }

// Off makes the broker unready from now on, without asking it. The reason is what callers get.
func (c *Checker) Off(reason string) { c.off.Store(&reason) }

// Handler serves both paths.
func (c *Checker) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+contract.LivePath, func(w http.ResponseWriter, _ *http.Request) { answer(w, true, "alive\n") })
	mux.HandleFunc("GET "+contract.ReadyPath, func(w http.ResponseWriter, _ *http.Request) {
		ready, body := c.Ready() //nolint:contextcheck // the answer is shared, so no caller may cut it short
		answer(w, ready, body)
	})

	return mux
}

func answer(w http.ResponseWriter, good bool, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")

	if !good {
		w.WriteHeader(http.StatusServiceUnavailable)
	}

	_, _ = w.Write([]byte(body)) // a caller that is gone needs no answer
}

// Ready tells whether a client gets through every listener, in words with a line for each.
func (c *Checker) Ready() (bool, string) {
	if reason := c.off.Load(); reason != nil {
		return false, *reason + "\n"
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	if time.Since(c.asked) >= shared {
		c.ready, c.body = c.look()
		c.asked = time.Now()
	}

	return c.ready, c.body
}

func (c *Checker) look() (bool, string) {
	targets, err := c.broker.Targets()
	if err != nil {
		return false, err.Error() + "\n"
	}

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	var all sync.WaitGroup

	faults := make([]error, len(targets))

	for i := range targets {
		if !targets[i].Full {
			all.Go(func() { faults[i] = c.try(ctx, &targets[i]) })
		}
	}

	all.Wait()

	ready := true

	var body strings.Builder

	for i := range targets {
		switch {
		case targets[i].Full:
			fmt.Fprintf(&body, "listener %s: full, it has as many connections as it may\n", targets[i].Name)
		case faults[i] == nil:
			fmt.Fprintf(&body, "listener %s: ok\n", targets[i].Name)
		default:
			ready = false

			fmt.Fprintf(&body, "listener %s: %v\n", targets[i].Name, faults[i])
		}
	}

	if len(targets) == 0 {
		body.WriteString("the configuration has no listeners\n")
	}

	if c.broker.Storage != nil {
		if fault := c.broker.Storage(); fault != "" {
			fmt.Fprintf(&body, "storage: degraded, what must be kept is refused: %s\n", fault)
		} else {
			body.WriteString("storage: ok\n")
		}
	}

	return ready, body.String()
}

// try goes through one listener as a client does.
func (c *Checker) try(ctx context.Context, t *Target) error {
	var dialer net.Dialer

	network := t.Network
	if network == "" {
		network = "tcp"
	}

	conn, err := dialer.DialContext(ctx, network, t.Address)
	if err != nil {
		return fmt.Errorf("no connection: %w", err)
	}

	defer func() { _ = conn.Close() }()

	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}

	if t.Proxy != nil && t.Proxy(source(conn)) {
		if _, err := conn.Write([]byte("PROXY UNKNOWN\r\n")); err != nil {
			return fmt.Errorf("PROXY header: %w", err)
		}
	}

	if t.TLS != nil {
		secure := tls.Client(conn, t.TLS)
		if err := secure.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("no TLS: %w", err)
		}

		conn = secure
	}

	if t.WebSocket != "" {
		upgraded, err := upgrade(ctx, conn, t.WebSocket)
		if err != nil {
			return fmt.Errorf("no WebSocket: %w", err)
		}

		conn = upgraded
	}

	return c.converse(conn)
}

// source is where a connection comes from, as the other side sees it.
func source(conn net.Conn) netip.Addr {
	local, ok := conn.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}

	return local.AddrPort().Addr()
}

// upgrade asks for a WebSocket on a connection that is there already.
func upgrade(ctx context.Context, conn net.Conn, path string) (net.Conn, error) {
	used := false
	client := &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				if used {
					return nil, errors.New("the listener closed the connection")
				}

				used = true

				return conn, nil
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}

	// TLS has been done, whatever the scheme says.
	ws, response, err := websocket.Dial(ctx, "ws://probe"+path, &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"mqtt"}})
	if response != nil && response.Body != nil {
		_ = response.Body.Close()
	}

	if err != nil {
		return nil, err
	}

	if got := ws.Subprotocol(); got != "mqtt" {
		return nil, fmt.Errorf("the subprotocol is %q", got)
	}

	return websocket.NetConn(ctx, ws, websocket.MessageBinary), nil
}

// The packets of MQTT 3.1.1 that the probe needs.
const (
	connect    = 0x10
	connack    = 0x20
	pingreq    = 0xC0
	pingresp   = 0xD0
	disconnect = 0xE0

	cleanWithCredentials = 0xC2
	protocolLevel        = 4
	keepAliveSeconds     = 10
)

func (c *Checker) converse(conn net.Conn) error {
	body := append(text("MQTT"), protocolLevel, cleanWithCredentials, 0, keepAliveSeconds)
	body = append(body, text("")...) // the broker chooses the client id
	body = append(body, text(c.broker.Username)...)
	body = append(body, text(c.broker.Password)...)

	if len(body) > maxBody {
		return errors.New("the probe's credential is too long")
	}

	packet := append([]byte{connect, byte(len(body))}, body...) //nolint:gosec // bounded above

	ack, err := ask(conn, packet, connack, 2)
	if err != nil {
		return fmt.Errorf("CONNECT: %w", err)
	}

	if ack[1] != 0 {
		return fmt.Errorf("CONNECT: refused with code %d", ack[1])
	}

	if _, err := ask(conn, []byte{pingreq, 0}, pingresp, 0); err != nil {
		return fmt.Errorf("PINGREQ: %w", err)
	}

	_, _ = conn.Write([]byte{disconnect, 0}) // all is proved

	return nil
}

// maxBody keeps the length of the CONNECT in one byte.
const maxBody = 127

// text frames a string; converse refuses what would not fit.
func text(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) //nolint:gosec // see above
}

// ask sends a packet and reads one of the wanted type and length.
func ask(conn net.Conn, packet []byte, want byte, length int) ([]byte, error) {
	if _, err := conn.Write(packet); err != nil {
		return nil, fmt.Errorf("cannot be sent: %w", err)
	}

	reply := make([]byte, 2+length)

	for n := 0; n < len(reply); {
		read, err := conn.Read(reply[n:])
		n += read

		if err != nil && n < len(reply) {
			return nil, fmt.Errorf("no answer: %w", err)
		}
	}

	if reply[0] != want || int(reply[1]) != length {
		return nil, fmt.Errorf("answered with packet %#x of %d bytes", reply[0], reply[1])
	}

	return reply[2:], nil
}
