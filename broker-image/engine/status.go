// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
)

// Status is what the engine does now.
type Status struct {
	// Connections is the number of clients connected.
	Connections int
	// Sessions is the number of sessions kept, those of connected clients included.
	Sessions  int
	Listeners []ListenerStatus
	// QueuedMessages wait in sessions for their clients, RetainedMessages for subscriptions.
	QueuedMessages, RetainedMessages int64
	// Storage says why what must be kept cannot be written to disk, or nothing.
	Storage string
	// Panics is the number of connections that ended in a panic, since start, over the listeners that are open now.
	Panics int64
	// What clients were refused since start.
	RefusedConnects, RefusedPublishes, RefusedSubscribes, RefusedPackets int64
}

// ListenerStatus is one door.
type ListenerStatus struct {
	Name string
	// Address is where it is bound.
	Address string
	// Error says why it cannot accept at the moment, or nothing.
	Error string
}

// Status looks around.
func (e *Engine) Status() Status {
	s := Status{
		RefusedConnects: e.refusedConnects.Load(), RefusedPublishes: e.refusedPublishes.Load(),
		RefusedSubscribes: e.refusedSubscribes.Load(), RefusedPackets: e.refusedPackets.Load(),
	}

	s.Connections = int(e.connections.Load())
	s.Sessions = int(e.sessionCount())
	s.QueuedMessages, s.RetainedMessages = e.queuedMessages.Load(), int64(e.retained.Len())

	if e.store != nil {
		s.Storage = e.store.Fault()
	}

	e.applying.Lock()
	defer e.applying.Unlock()

	now := e.state.Load()
	if now == nil {
		return s
	}

	for _, d := range now.doors {
		if l := e.sockets[d.socket()]; l != nil {
			s.Listeners = append(s.Listeners, ListenerStatus{Name: d.Name, Address: l.Address().String(), Error: l.Fault()})
			s.Panics += l.Panics()
		}
	}

	return s
}

// Target is a door as a probe reaches it from inside.
type Target struct {
	Name string
	// Network is tcp or unix.
	Network string
	Address string
	// TLS is nil for a door without. It accepts exactly the certificate that is configured now.
	TLS *tls.Config
	// WebSocket is the path of a door that begins with HTTP, else empty.
	WebSocket string
	// Proxy tells whether who comes from an address may send a PROXY header first; nil if nobody may. The address of a
	// unix socket is the zero one.
	Proxy func(from netip.Addr) bool
	// Full says that the door has let in as many as it may, so that a probe would be turned away too.
	Full bool
}

// ErrNotServing says that no configuration has been applied yet, or that the broker is shutting down.
var ErrNotServing = errors.New("no configuration has been applied yet")

// Targets are the doors to probe.
func (e *Engine) Targets() ([]Target, error) {
	if e.stopping.Load() {
		return nil, ErrStopped
	}

	e.applying.Lock()
	defer e.applying.Unlock()

	now := e.state.Load()
	if now == nil {
		return nil, ErrNotServing
	}

	targets := make([]Target, 0, len(now.doors))

	for _, d := range now.doors {
		l := e.sockets[d.socket()]
		if l == nil {
			continue
		}

		t := Target{
			Name: d.Name, Network: d.network(), Address: reachable(l.Address()),
			Full: d.MaxConnections > 0 && l.Connections() >= d.MaxConnections,
		}

		if d.Protocol.IsWebSocket() {
			t.WebSocket = d.Endpoint().Path
		}

		if p := d.settings(&now.limits).Proxy; p != nil {
			t.Proxy = p.Listens
		}

		if d.tls != nil {
			t.TLS = pinned(d.leaf)
			t.TLS.Certificates = []tls.Certificate{*e.guest}
		}

		targets = append(targets, t)
	}

	return targets, nil
}

// ProbeCredential is what a probe connects with.
func (e *Engine) ProbeCredential() Credential { return e.probe }

// reachable is the address to dial for a socket that may be bound to every address.
func reachable(bound net.Addr) string {
	tcp, ok := bound.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return bound.String()
	}

	loopback := net.IPv4(127, 0, 0, 1)
	if addrs, err := net.InterfaceAddrs(); err == nil && !hasIPv4Loopback(addrs) {
		loopback = net.IPv6loopback
	}

	return (&net.TCPAddr{IP: loopback, Port: tcp.Port}).String()
}

func hasIPv4Loopback(addrs []net.Addr) bool {
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsLoopback() && n.IP.To4() != nil {
			return true
		}
	}

	return false
}

// pinned trusts one certificate and no other: names and authorities say nothing about a connection to oneself.
func pinned(leaf []byte) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // the check below is stricter
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || !bytes.Equal(s.PeerCertificates[0].Raw, leaf) {
				return errors.New("the listener shows another certificate than the configured one")
			}

			return nil
		},
	}
}
