// SPDX-License-Identifier: Apache-2.0

// Package relay is the least that can be called a broker: it hands messages on and does nothing else. It has no access
// rules, no sessions, no limits and no timers, and its filters are exact topics, or a prefix with one wildcard behind it.
// What the load generator reaches against it is the generator's own ceiling on the machine, with a server on the same
// cores, and its latency is what the machine itself costs. It stands on the same loop as the generator.
package relay

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/mqtt-operator/mqtt-operator/hack/bench/load"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/wire"
)

// Server is a relay.
type Server struct {
	loop     *load.Loop
	exact    map[string][]*peer
	prefixes []prefix
}

type prefix struct {
	text  []byte
	peers []*peer
}

// Listen opens a relay at an address of this machine.
func Listen(address netip.AddrPort) (*Server, netip.AddrPort, error) {
	loop, err := load.NewLoop()
	if err != nil {
		return nil, address, err
	}
	s := &Server{loop: loop, exact: map[string][]*peer{}}
	address, err = loop.Listen(address, func() load.Handler { return &peer{server: s} })
	if err != nil {
		loop.Close()
		return nil, address, err
	}
	return s, address, nil
}

// Run serves until the context ends.
func (s *Server) Run(ctx context.Context) error {
	defer s.loop.Close()
	return s.loop.Run(ctx)
}

// peer is one client.
type peer struct {
	server  *Server
	conn    *load.Conn
	version byte
	qos     byte // of all its subscriptions
	last    uint16
	filters []string
}

// Opened remembers the connection.
func (p *peer) Opened(c *load.Conn) { p.conn = c }

// Closed forgets the client's subscriptions.
func (p *peer) Closed(*load.Conn, error) {
	s := p.server
	is := func(other *peer) bool { return other == p }
	for _, filter := range p.filters {
		if text, found := wildcard(filter); found {
			for i := range s.prefixes {
				if string(s.prefixes[i].text) == text {
					s.prefixes[i].peers = slices.DeleteFunc(s.prefixes[i].peers, is)
				}
			}
		} else if s.exact[filter] = slices.DeleteFunc(s.exact[filter], is); len(s.exact[filter]) == 0 {
			delete(s.exact, filter)
		}
	}
}

// Data answers packets and hands messages on.
func (p *peer) Data(c *load.Conn, b []byte) (int, error) {
	used := 0
	for {
		packet, n, err := wire.Split(b[used:])
		if err != nil || n == 0 {
			return used, err
		}
		used += n
		if err := p.packet(c, packet, b[used-n:used]); err != nil {
			return used, err
		}
	}
}

func (p *peer) packet(c *load.Conn, packet wire.Packet, raw []byte) error {
	switch packet.Type {
	case wire.Publish:
		m, err := wire.ParsePublish(packet, p.version)
		if err != nil {
			return err
		}
		switch m.QoS {
		case 1:
			c.Send(wire.AppendAck(c.Out(), wire.Puback, m.PacketID))
		case 2:
			c.Send(wire.AppendAck(c.Out(), wire.Pubrec, m.PacketID))
		}
		p.server.deliver(&m, raw)
		return nil
	case wire.Pubrec:
		return p.answer(c, packet, wire.Pubrel)
	case wire.Pubrel:
		return p.answer(c, packet, wire.Pubcomp)
	case wire.Puback, wire.Pubcomp:
		return nil
	case wire.Pingreq:
		c.Send(wire.AppendEmpty(c.Out(), wire.Pingresp))
		return nil
	case wire.Connect:
		version, err := wire.ConnectVersion(packet)
		p.version = version
		c.Send(wire.AppendConnack(c.Out(), version))
		return err
	case wire.Subscribe:
		id, filters, qos, err := wire.ParseSubscribe(packet, p.version)
		p.qos = qos
		for _, filter := range filters {
			p.server.subscribe(p, filter)
		}
		c.Send(wire.AppendSuback(c.Out(), p.version, id, len(filters), qos))
		return err
	case wire.Disconnect:
		p.Closed(c, nil)
		c.Close()
		return nil
	default:
		return fmt.Errorf("packet of type %d", packet.Type)
	}
}

func (p *peer) answer(c *load.Conn, packet wire.Packet, kind byte) error {
	id, err := wire.PacketID(packet)
	c.Send(wire.AppendAck(c.Out(), kind, id))
	return err
}

// wildcard tells the text before a filter's only wildcard.
func wildcard(filter string) (text string, found bool) {
	at := strings.IndexAny(filter, "+#")
	if at < 0 {
		return "", false
	}
	return filter[:at], true
}

func (s *Server) subscribe(p *peer, filter string) {
	p.filters = append(p.filters, filter)
	text, found := wildcard(filter)
	if !found {
		s.exact[filter] = append(s.exact[filter], p)
		return
	}
	for i := range s.prefixes {
		if string(s.prefixes[i].text) == text {
			s.prefixes[i].peers = append(s.prefixes[i].peers, p)
			return
		}
	}
	s.prefixes = append(s.prefixes, prefix{text: []byte(text), peers: []*peer{p}})
}

func (s *Server) deliver(m *wire.Message, raw []byte) {
	for _, p := range s.exact[string(m.Topic)] {
		p.send(m, raw)
	}
	for i := range s.prefixes {
		if bytes.HasPrefix(m.Topic, s.prefixes[i].text) {
			for _, p := range s.prefixes[i].peers {
				p.send(m, raw)
			}
		}
	}
}

// send hands a message on, as it came: publishers ask for the QoS that subscribers have.
func (p *peer) send(m *wire.Message, raw []byte) {
	out := p.conn.Out()
	at := len(out)
	out = append(out, raw...)
	if m.QoS > 0 {
		p.last++
		if p.last == 0 {
			p.last = 1
		}
		// Head, topic and identifier have the same place in both packets.
		idAt := at + len(raw) - len(m.Payload) - 2
		if p.version == wire.V5 {
			idAt--
		}
		binary.BigEndian.PutUint16(out[idAt:], p.last)
	}
	p.conn.Send(out)
}
