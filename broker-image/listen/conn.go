// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is an accepted connection. It is a net.Conn; over WebSocket, Read and Write carry the bytes of the binary messages.
// After a deadline has passed, a connection with TLS or WebSocket is of no more use, because half a record may be gone.
type Conn struct {
	// Settings are those it was accepted under.
	Settings *Settings

	listener *Listener
	remote   netip.AddrPort
	deadline time.Duration // after the listener's epoch; 0 is none
	peer     *Peer         // written before the handler has the Conn

	mu       sync.Mutex
	fd       int      // -1 if there is conn, or nothing any more
	conn     net.Conn // nil as long as nobody has asked for it
	owned    bool
	released atomic.Bool
}

var _ net.Conn = (*Conn)(nil)

// Owned says that the handler was given a goroutine with the connection, and may block.
func (c *Conn) Owned() bool { return c.owned }

// Peer is who the client is by its certificate; nil if it has shown none.
func (c *Conn) Peer() *Peer { return c.peer }

// Remote is the client's address, after a PROXY header; not valid for a unix socket.
func (c *Conn) Remote() netip.AddrPort { return c.remote }

// Deadline is when the patience with this connection ends, or zero. Who takes the raw descriptor has to see to it.
func (c *Conn) Deadline() time.Time {
	if c.deadline == 0 {
		return time.Time{}
	}

	return c.listener.epoch.Add(c.deadline)
}

// RemoteAddr is the client's address, after a PROXY header.
func (c *Conn) RemoteAddr() net.Addr {
	if c.remote.IsValid() {
		return net.TCPAddrFromAddrPort(c.remote)
	}

	return &net.UnixAddr{Net: "unix"}
}

// LocalAddr is the address that the client's system, or its proxy's, has connected to.
func (c *Conn) LocalAddr() net.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()

	switch {
	case c.conn != nil:
		return c.conn.LocalAddr()
	case c.fd >= 0:
		if a := localAddr(c.fd); a != nil {
			return a
		}
	}

	return c.listener.Address()
}

// Read reads.
func (c *Conn) Read(p []byte) (int, error) {
	conn, err := c.stream()
	if err != nil {
		return 0, err
	}

	return conn.Read(p)
}

// Write writes. Each Write is one WebSocket message, so whole packets should be written together.
func (c *Conn) Write(p []byte) (int, error) {
	conn, err := c.stream()
	if err != nil {
		return 0, err
	}

	return conn.Write(p)
}

// SetDeadline replaces the deadline that runs from accept.
func (c *Conn) SetDeadline(t time.Time) error {
	return c.with(func(conn net.Conn) error { return conn.SetDeadline(t) })
}

// SetReadDeadline replaces the reading half of it.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.with(func(conn net.Conn) error { return conn.SetReadDeadline(t) })
}

// SetWriteDeadline replaces the writing half of it.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.with(func(conn net.Conn) error { return conn.SetWriteDeadline(t) })
}

func (c *Conn) with(f func(net.Conn) error) error {
	conn, err := c.stream()
	if err != nil {
		return err
	}

	return f(conn)
}

// stream makes a net.Conn of the descriptor if it is none yet.
func (c *Conn) stream() (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.conn != nil {
		return c.conn, nil
	}

	if c.fd < 0 {
		return nil, net.ErrClosed
	}

	fd := c.fd
	c.fd = -1

	conn, err := adopt(fd)
	if err != nil {
		return nil, fmt.Errorf("connection: %w", err)
	}

	c.conn = conn
	_ = conn.SetDeadline(c.Deadline())

	return conn, nil
}

// Raw gives the descriptor of a plain TCP or unix connection away: it does not block, closes on exec, is not known to
// Go's poller, sends without delay and keeps itself alive. What was read beyond the PROXY header comes as early. From then
// on the caller closes the descriptor and calls Release, once each; the Conn is closed for all else. It says no for TLS
// and WebSocket, for a closed connection and on systems other than Linux.
func (c *Conn) Raw() (fd int, early []byte, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.fd >= 0 {
		fd, c.fd = c.fd, -1

		return fd, nil, true
	}

	if c.conn == nil || c.Settings.TLS != nil || c.Settings.WebSocket != nil {
		return -1, nil, false
	}

	conn := c.conn
	if t, ok := conn.(*transport); ok {
		conn, early = t.Conn, t.early
	}

	fd, err := disown(conn)
	if err != nil {
		return -1, nil, false
	}

	c.conn = nil

	return fd, early, true
}

// Release gives the place under MaxConnections back after Raw.
func (c *Conn) Release() {
	if !c.released.Swap(true) {
		c.listener.open.Add(-1)
	}
}

// Close ends the connection and gives its place back. With TLS or WebSocket it says goodbye first, for which a peer that
// does not read gets a quarter of a second.
func (c *Conn) Close() error {
	c.mu.Lock()
	conn, fd := c.conn, c.fd
	c.fd = -1
	c.mu.Unlock()

	if fd >= 0 {
		closeFD(fd)
	}

	// The Conn stays known, so that who still reads gets the error of a closed one.
	var err error
	if conn != nil && !c.released.Load() {
		err = conn.Close()
	}

	c.Release()

	return err
}

// open reads the PROXY header and does the handshakes.
func (c *Conn) open(ask header) (Reason, error) {
	raw, err := c.stream()
	if err != nil {
		return Broken, err
	}

	t := &transport{Conn: raw}
	conn := net.Conn(t)

	// Whatever is reached, Close must find it.
	defer func() {
		c.mu.Lock()
		c.conn = conn
		c.mu.Unlock()
	}()

	if ask != noHeader {
		source, early, err := readHeader(raw, ask)
		if err != nil {
			return BadProxyHeader, err
		}

		t.early = early

		if source.IsValid() {
			c.remote = source
		}
	}

	if c.Settings.TLS != nil {
		secure := tls.Server(t, c.Settings.TLS)
		if err := secure.HandshakeContext(context.Background()); err != nil {
			return handshakeReason(err), err
		}

		state := secure.ConnectionState()
		c.peer = c.Settings.Trust.peer(&state)
		conn = &farewell{Conn: secure, transport: t}
	}

	if c.Settings.WebSocket != nil {
		upgraded, err := upgrade(conn, c.Settings.WebSocket)
		if err != nil {
			return BadUpgrade, err
		}

		conn = upgraded
	}

	return 0, nil
}

// transport is the connection below TLS and WebSocket: first come the bytes that were read too early.
type transport struct {
	net.Conn
	early   []byte
	leaving atomic.Bool
}

// Read reads.
func (t *transport) Read(p []byte) (int, error) {
	if len(t.early) == 0 {
		return t.Conn.Read(p)
	}

	n := copy(p, t.early)
	if t.early = t.early[n:]; len(t.early) == 0 {
		t.early = nil
	}

	return n, nil
}

// SetWriteDeadline is capped while we leave, because crypto/tls grants its goodbye five seconds.
func (t *transport) SetWriteDeadline(at time.Time) error {
	if last := time.Now().Add(goodbye); t.leaving.Load() && (at.IsZero() || at.After(last)) {
		at = last
	}

	return t.Conn.SetWriteDeadline(at)
}

// farewell is a TLS connection that is left in a moment.
type farewell struct {
	*tls.Conn
	transport *transport
}

// goodbye is how long a peer may keep us from leaving politely.
const goodbye = 250 * time.Millisecond

// Close says so and closes.
func (f *farewell) Close() error {
	f.transport.leaving.Store(true)

	return f.Conn.Close()
}
