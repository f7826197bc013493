// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

const (
	// maxConnect bounds the first packet: before a client has proved who it is, it may not make us hold more. It leaves
	// room for a client id, a will and a token of 64 KiB each.
	maxConnect = 256 << 10
	// writePatience is how long one write may take before the connection counts as dead.
	writePatience = 10 * time.Second
	// farewell is how long we read on after our last word, so that the peer gets it before a reset.
	farewell    = 250 * time.Millisecond
	maxFarewell = 64 << 10
)

var (
	errTooLarge    = errors.New("packet larger than the limit")
	errNotConnect  = errors.New("the first packet is not CONNECT")
	errBadLength   = errors.New("malformed remaining length")
	errClosedByUs  = errors.New("connection closed by the broker")
	errUnspeakable = errors.New("packet type does not exist")
)

// identity is who a connection belongs to. It does not change once the connection has one.
type identity struct {
	username string // empty for anonymous
	verifier string // the one that the password fitted
	probe    bool
	door     *door
}

// conn is a client's connection as the library sees it. It bounds what reaches the library and keeps the deadlines.
//
// Fields without a lock belong to the goroutine that reads the connection.
type conn struct {
	net.Conn
	engine  *Engine
	door    *door
	frame   framer
	failure error // to be returned by the next Read

	who         *identity
	subject     acl.Subject
	version     byte
	id          string
	claim       *claim
	keepAlive   time.Duration
	established bool

	aliases  map[uint16]string
	aliasMax uint16
	window   int // QoS 1 and 2 messages that may be under way to us
	inbox    *inbox
	acks     acks
	request  uint16   // packet id of the request under way, where the library is shown another
	known    bool     // the PUBREL under way is for a message that we have
	granting []string // filters of the SUBSCRIBE under way that are granted
	refused  []bool   // filters of the SUBSCRIBE under way that are not authorized
	decided  *state   // what decided the SUBSCRIBE under way
	capped   bool     // the session expiry asked for was cut
	will     *will

	writing atomic.Bool // deadlines for writes are ours from now on
	mute    atomic.Bool // speaks MQTT 3, which knows no DISCONNECT from the server
	closed  atomic.Bool
	closing sync.Once
	done    chan struct{} // closed when the connection has left no trace but its session
}

func newConn(e *Engine, raw net.Conn, d *door) *conn {
	return &conn{Conn: raw, engine: e, door: d, done: make(chan struct{})}
}

// Read hands on only bytes of packets whose length is allowed.
func (c *conn) Read(p []byte) (int, error) {
	if c.failure != nil {
		return 0, c.failure
	}

	if c.closed.Load() {
		return 0, errClosedByUs
	}

	n, err := c.Conn.Read(p)
	if err != nil && c.closed.Load() {
		err = errClosedByUs
	}

	good, bad := c.frame.check(p[:n], c.limit())
	if bad != nil {
		c.failure = bad
		c.refuseFrame(bad)

		if good == 0 {
			return 0, bad
		}

		return good, nil
	}

	return n, err
}

func (c *conn) limit() int {
	limit := int(c.engine.state.Load().config.Limits.MaxPacketSize)
	if !c.established {
		return min(limit, maxConnect)
	}

	return limit
}

// refuseFrame tells a client of MQTT 5 why it is about to lose its connection.
func (c *conn) refuseFrame(reason error) {
	c.engine.refusedPackets.Add(1)

	code := byte(0x81) // malformed packet
	if errors.Is(reason, errTooLarge) {
		code = 0x95
	}

	if c.established && c.version == 5 {
		_, _ = c.Write([]byte{0xE0, 2, code, 0})
	}

	if c.established {
		c.engine.audit.line("connection closed", "client", c.id, "user", c.subject.Username, "reason", reason.Error())
	}
}

// Write gives each write a deadline. A write that failed may have left half a packet behind, so it is the last.
func (c *conn) Write(p []byte) (int, error) {
	if c.closed.Load() {
		return 0, errClosedByUs
	}

	// MQTT 3 has no DISCONNECT from the server; the library sends one all the same.
	if c.mute.Load() && len(p) == 2 && p[0] == 0xE0 && p[1] == 0 {
		return len(p), nil
	}

	if c.writing.Load() {
		_ = c.Conn.SetWriteDeadline(time.Now().Add(writePatience))
	}

	n, err := c.Conn.Write(p)
	if err != nil {
		_ = c.Close()
	}

	return n, err
}

// SetDeadline is called by the library before each packet. The deadline that counts until CONNECT is done was set when
// the connection was accepted; from then on it is one and a half times the keep-alive [MQTT-3.1.2-22], computed here
// because the library's own arithmetic overflows.
func (c *conn) SetDeadline(time.Time) error {
	if !c.established {
		return nil
	}

	var deadline time.Time
	if c.keepAlive > 0 {
		deadline = time.Now().Add(c.keepAlive + c.keepAlive/2)
	}

	if c.closed.Load() {
		deadline = time.Unix(1, 0)
	}

	err := c.Conn.SetReadDeadline(deadline)
	if c.closed.Load() { // Close came in between; its deadline must stand
		err = c.Conn.SetReadDeadline(time.Unix(1, 0))
	}

	return err
}

// Close stops both directions. The socket itself is closed by goodbye, after the peer had a chance to read our last
// packet.
func (c *conn) Close() error {
	c.closing.Do(func() {
		c.closed.Store(true)
		_ = c.Conn.SetReadDeadline(time.Unix(1, 0))
		// A write that hangs must not outlive the decision to close.
		time.AfterFunc(2*farewell, func() { _ = c.Conn.Close() })
	})

	return nil
}

// goodbye closes the socket so that what was written last arrives: a close with unread input would be a reset, and a
// reset can overtake it.
func (c *conn) goodbye() {
	_ = c.Close()
	raw := c.Conn

	if secure, ok := raw.(*tls.Conn); ok {
		_ = secure.SetWriteDeadline(time.Now().Add(farewell))
		_ = secure.CloseWrite()
		raw = secure.NetConn()
	}

	if half, ok := raw.(interface{ CloseWrite() error }); ok {
		_ = raw.SetReadDeadline(time.Now().Add(farewell))
		_ = half.CloseWrite()
		_, _ = io.CopyN(io.Discard, raw, maxFarewell)
	}

	_ = c.Conn.Close()
}

// framer follows the boundaries of packets through a stream. The library makes room for a whole packet as soon as it
// has read its header, so a header that claims too much must never reach it.
type framer struct {
	first  bool // a packet has been seen
	header int  // bytes of the header consumed, 0 between packets
	length int
	body   int // bytes of the body to come
}

// check returns how many bytes of p may be handed on, and an error if not all.
func (f *framer) check(p []byte, limit int) (int, error) {
	start := 0 // of the packet under way, as far as it lies in p

	for i := 0; i < len(p); {
		if f.body > 0 {
			skip := min(f.body, len(p)-i)
			f.body -= skip
			i += skip

			continue
		}

		var err error

		if f.header == 0 {
			start = i
			err = f.begin(p[i])
		} else {
			err = f.measure(p[i], limit)
		}

		if err != nil {
			return start, err
		}

		i++
	}

	return len(p), nil
}

// begin takes the first byte of a packet.
func (f *framer) begin(b byte) error {
	if !f.first && b != 0x10 { // [MQTT-3.1.0-1]
		return errNotConnect
	}

	if b>>4 == 0 {
		return errUnspeakable
	}

	f.header, f.length = 1, 0

	return nil
}

// measure takes one byte of a packet's length.
func (f *framer) measure(b byte, limit int) error {
	f.length |= int(b&0x7F) << (7 * (f.header - 1))
	f.header++

	switch more := b&0x80 != 0; {
	case f.length > limit-f.header:
		return errTooLarge
	case more && f.header > 4, !more && b == 0 && f.header > 2: // five bytes, or not the shortest form [MQTT-1.5.5-1]
		return errBadLength
	case !more:
		f.body, f.header, f.first = f.length, 0, true
	}

	return nil
}
