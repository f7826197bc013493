// SPDX-License-Identifier: Apache-2.0

package load

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/mqtt-operator/mqtt-operator/hack/bench/wire"
)

// Payload of every measured message: when it was due, which flow, which run, which number.
const (
	dueAt      = 0
	flowAt     = 8
	runAt      = 12
	numberAt   = 16
	minPayload = 24
)

// subscribeBatch is how many filters one SUBSCRIBE carries at most.
const subscribeBatch = 200

// Client is one MQTT client.
type Client struct {
	ID      string
	Filters []string
	QoS     byte           // of its subscriptions
	Keep    bool           // its session
	Server  netip.AddrPort // another than that of the bench
	Slot    int            // its place among the receivers of its flows
	// Ready is called when it is connected and all its subscriptions are granted.
	Ready func()
	// Message, if set, gets every message instead of the flows.
	Message func(m wire.Message)

	bench      *Bench
	conn       *Conn
	flow       *Flow
	subscribed int // filters that were asked for
	ready      bool
	Present    bool // the server had a session
}

// Opened greets the server.
func (c *Client) Opened(conn *Conn) {
	conn.Send(wire.AppendConnect(conn.Out(), wire.ConnectOptions{Version: c.bench.Version, ClientID: c.ID, KeepAlive: 600, Keep: c.Keep}))
}

// Closed notes the end of a connection that should have lived.
func (c *Client) Closed(_ *Conn, err error) {
	c.bench.fail(fmt.Errorf("client %s: connection lost: %w", c.ID, err))
}

// Data reads packets.
func (c *Client) Data(conn *Conn, b []byte) (int, error) {
	used := 0
	now := c.bench.loop.Now()
	out := conn.Out()
	had := len(out)
	for {
		p, n, err := wire.Split(b[used:])
		if err != nil {
			return used, err
		}
		if n == 0 {
			break
		}
		used += n
		if p.Type == wire.Publish {
			m, err := wire.ParsePublish(p, c.bench.Version)
			if err != nil {
				return used, err
			}
			switch m.QoS {
			case 1:
				out = wire.AppendAck(out, wire.Puback, m.PacketID)
			case 2:
				out = wire.AppendAck(out, wire.Pubrec, m.PacketID)
			}
			c.received(m, now)
			continue
		}
		if out, err = c.control(p, out); err != nil {
			return used, err
		}
	}
	if len(out) != had {
		conn.Send(out)
	}
	return used, nil
}

func (c *Client) received(m wire.Message, now int64) {
	b := c.bench
	if c.Message != nil {
		c.Message(m)
		return
	}
	if len(m.Payload) < minPayload || binary.LittleEndian.Uint32(m.Payload[runAt:]) != b.id {
		b.Foreign++
		return
	}
	flow := binary.LittleEndian.Uint32(m.Payload[flowAt:])
	if int(flow) >= len(b.flows) {
		b.Foreign++
		return
	}
	b.flows[flow].got(c.Slot, binary.LittleEndian.Uint64(m.Payload[numberAt:]), int64(binary.LittleEndian.Uint64(m.Payload[dueAt:])), now) //nolint:gosec // our own clock
}

// control answers what is no PUBLISH.
func (c *Client) control(p wire.Packet, out []byte) ([]byte, error) {
	switch p.Type {
	case wire.Connack:
		present, err := wire.CheckConnack(p)
		if err != nil {
			return out, err
		}
		c.Present = present
		return c.progress(out), nil
	case wire.Suback:
		granted, err := wire.CheckSuback(p, c.bench.Version)
		if err != nil {
			return out, err
		}
		if granted < c.QoS {
			c.bench.Granted = min(c.bench.Granted, granted)
		}
		return c.progress(out), nil
	case wire.Pubrel:
		id, err := wire.PacketID(p)
		return wire.AppendAck(out, wire.Pubcomp, id), err
	case wire.Pubrec:
		id, err := wire.PacketID(p)
		if code := wire.Refused(p, c.bench.Version); code != 0 {
			return out, fmt.Errorf("client %s: message refused with code 0x%02x", c.ID, code)
		}
		return wire.AppendAck(out, wire.Pubrel, id), err
	case wire.Puback, wire.Pubcomp:
		id, err := wire.PacketID(p)
		if code := wire.Refused(p, c.bench.Version); code != 0 {
			return out, fmt.Errorf("client %s: message refused with code 0x%02x", c.ID, code)
		}
		if err == nil && c.flow != nil {
			c.flow.acknowledged(id)
		}
		return out, err
	case wire.Pingresp:
		return out, nil
	case wire.Disconnect:
		return out, fmt.Errorf("client %s: disconnected by the server: % x", c.ID, p.Body)
	default:
		return out, fmt.Errorf("client %s: packet of type %d is not for clients", c.ID, p.Type)
	}
}

// progress subscribes to what is left, or says that all is done.
func (c *Client) progress(out []byte) []byte {
	if left := c.Filters[c.subscribed:]; len(left) > 0 {
		batch := left[:min(len(left), subscribeBatch)]
		c.subscribed += len(batch)
		return wire.AppendSubscribe(out, c.bench.Version, 1, batch, c.QoS)
	}
	if !c.ready {
		c.ready = true
		c.bench.ready++
		if c.Ready != nil {
			c.Ready()
		}
	}
	return out
}

// Subscribe adds filters to those of a connected client; Ready is called again.
func (c *Client) Subscribe(filters []string) {
	c.Filters = append(c.Filters, filters...)
	if c.ready {
		c.ready = false
		c.bench.ready--
		c.conn.Send(c.progress(c.conn.Out()))
	}
}

// Hang up with DISCONNECT: the server need not guess.
func (c *Client) Hang() {
	if c.conn != nil && c.conn.fd >= 0 {
		c.conn.Send(wire.AppendEmpty(c.conn.Out(), wire.Disconnect))
		c.conn.flush()
		c.conn.Close()
	}
}
