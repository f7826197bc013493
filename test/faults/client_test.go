// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// who is what a client says in its CONNECT.
type who struct {
	id      string
	version wire.Version
	// keep: the session outlives the connection.
	keep bool
	// clean begins a new session.
	clean bool
	// window is the receive maximum; 0 says none.
	window uint16
}

func (w who) v() wire.Version {
	if w.version == 0 {
		return wire.V5
	}

	return w.version
}

func text(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

func packet(first byte, body []byte) []byte {
	p := []byte{first}
	n := len(body)

	for {
		b := byte(n % 128)
		if n /= 128; n > 0 {
			p = append(p, b|0x80)

			continue
		}

		return append(append(p, b), body...)
	}
}

func (w who) connect() []byte {
	five := w.v() == wire.V5
	b := append(text(nil, "MQTT"), byte(w.v()))

	var flags byte
	if w.clean || !five && !w.keep {
		flags = 2
	}

	b = append(b, flags, 0, 0) // no keep-alive

	if five {
		var properties []byte
		if w.keep {
			properties = binary.BigEndian.AppendUint32(append(properties, 0x11), 3600)
		}

		if w.window > 0 {
			properties = binary.BigEndian.AppendUint16(append(properties, 0x21), w.window)
		}

		b = append(append(b, byte(len(properties))), properties...)
	}

	return packet(wire.TypeConnect<<4, text(b, w.id))
}

// client is one connection.
type client struct {
	who

	conn    net.Conn
	in      *bufio.Reader
	resumed bool // the broker had the session
	buf     []byte
}

// dial connects, and waits for CONNACK.
func dial(at string, w who) (*client, error) {
	conn, err := net.DialTimeout("tcp", at, patience)
	if err != nil {
		return nil, err
	}

	c, err := greet(conn, w)
	if err != nil {
		_ = conn.Close()
	}

	return c, err
}

// greet says CONNECT on a connection that may be of any kind.
func greet(conn net.Conn, w who) (*client, error) {
	c := &client{who: w, conn: conn, in: bufio.NewReaderSize(conn, 4<<10)}

	if err := c.send(w.connect()); err != nil {
		return nil, err
	}

	p, err := c.read(patience)
	if err != nil {
		return nil, err
	}

	if wire.Type(p[0]) != wire.TypeConnack || len(p) < 4 {
		return nil, fmt.Errorf("%s: packet of type %d in place of CONNACK", w.id, wire.Type(p[0]))
	}

	if p[3] != 0 {
		return nil, fmt.Errorf("%s: CONNACK says %#x", w.id, p[3])
	}

	c.resumed = p[2]&1 != 0

	return c, nil
}

func join(t testing.TB, at string, w who) *client {
	t.Helper()

	c, err := dial(at, w)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(c.close)

	return c
}

func (c *client) close() { _ = c.conn.Close() }

func (c *client) send(p []byte) error {
	_ = c.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := c.conn.Write(p)

	return err
}

// read gives the next packet, which holds until the next call.
func (c *client) read(limit time.Duration) ([]byte, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(limit))

	c.buf = c.buf[:0]
	size, shift := 0, 0

	for i := 0; ; i++ {
		b, err := c.in.ReadByte()
		if err != nil {
			return nil, err
		}

		c.buf = append(c.buf, b)
		if i == 0 {
			continue
		}

		size |= int(b&0x7f) << shift
		shift += 7

		if b < 0x80 {
			break
		}

		if i == 4 {
			return nil, errors.New("a length of five bytes")
		}
	}

	head := len(c.buf)
	if need := head + size; cap(c.buf) < need {
		c.buf = append(make([]byte, 0, need), c.buf...)
	}

	c.buf = c.buf[:head+size]
	_, err := io.ReadFull(c.in, c.buf[head:])

	return c.buf, err
}

// await reads until a packet of a type comes. Others are answered as far as they need it, and forgotten.
func (c *client) await(typ byte) ([]byte, error) {
	for {
		p, err := c.read(patience)
		if err != nil {
			return nil, fmt.Errorf("%s waits for a packet of type %d: %w", c.id, typ, err)
		}

		switch got := wire.Type(p[0]); got {
		case typ:
			return p, nil
		case wire.TypeDisconnect:
			return nil, fmt.Errorf("%s was disconnected: % x", c.id, p)
		default:
			if err := c.obey(p); err != nil {
				return nil, err
			}
		}
	}
}

// obey gives the answer that a packet asks for.
func (c *client) obey(p []byte) error {
	switch wire.Type(p[0]) {
	case wire.TypePublish:
		var m wire.Publish
		if err := wire.ParsePublish(p, c.v(), &m); err != nil {
			return err
		}

		return c.answer(&m)
	case wire.TypePubrec:
		return c.ack(wire.TypePubrel, binary.BigEndian.Uint16(p[2:]))
	case wire.TypePubrel:
		return c.ack(wire.TypePubcomp, binary.BigEndian.Uint16(p[2:]))
	}

	return nil
}

func (c *client) answer(m *wire.Publish) error {
	switch m.QoS {
	case 1:
		return c.ack(wire.TypePuback, m.PacketID)
	case 2:
		return c.ack(wire.TypePubrec, m.PacketID)
	}

	return nil
}

func (c *client) ack(typ byte, id uint16) error {
	return c.send(wire.AppendAck(nil, c.v(), typ, id, wire.Success, ""))
}

func (c *client) subscribePacket(filter string, qos byte) []byte {
	b := []byte{0, 1}
	if c.v() == wire.V5 {
		b = append(b, 0)
	}

	return packet(wire.TypeSubscribe<<4|2, append(text(b, filter), qos))
}

func (c *client) subscribe(filter string, qos byte) error {
	if err := c.send(c.subscribePacket(filter, qos)); err != nil {
		return err
	}

	p, err := c.await(wire.TypeSuback)
	if err != nil {
		return err
	}

	if code := p[len(p)-1]; code != qos {
		return fmt.Errorf("%s: SUBACK says %#x", c.id, code)
	}

	return nil
}

// unsubscribe gives the reason code. It is for MQTT 5.
func (c *client) unsubscribe(filter string) (code byte, err error) {
	if err := c.send(packet(wire.TypeUnsubscribe<<4|2, text([]byte{0, 2, 0}, filter))); err != nil {
		return 0, err
	}

	p, err := c.await(wire.TypeUnsuback)
	if err != nil {
		return 0, err
	}

	return p[len(p)-1], nil
}

// publishPacket is one PUBLISH.
func (c *client) publishPacket(topic, payload string, h wire.PublishHeader) []byte {
	p, _ := wire.AppendPublish(nil, c.v(), &h, topic, nil, []byte(payload))

	return p
}

// publish sends a message and waits until it is acknowledged. The answer is the reason code.
func (c *client) publish(topic, payload string, h wire.PublishHeader) (code byte, err error) {
	if err := c.send(c.publishPacket(topic, payload, h)); err != nil || h.QoS == 0 {
		return 0, err
	}

	typ := wire.TypePuback
	if h.QoS == 2 {
		typ = wire.TypePubrec
	}

	p, err := c.await(typ)
	if err != nil {
		return 0, err
	}

	if code = reason(p); code >= 0x80 || h.QoS == 1 {
		return code, nil
	}

	if err := c.ack(wire.TypePubrel, h.PacketID); err != nil {
		return 0, err
	}

	_, err = c.await(wire.TypePubcomp)

	return code, err
}

// reason is the reason code of an acknowledgement.
func reason(p []byte) byte {
	if len(p) > 4 {
		return p[4]
	}

	return 0
}
