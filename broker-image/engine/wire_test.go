// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// patience is generous because the tests share their machine; nothing waits for it unless it fails.
const patience = 30 * time.Second

// The packet types, as the high half of the first byte.
const (
	tConnect, tConnack, tPublish, tPuback, tPubrec, tPubrel, tPubcomp = 1, 2, 3, 4, 5, 6, 7
	tSubscribe, tSuback, tUnsubscribe, tUnsuback                      = 8, 9, 10, 11
	tPingreq, tPingresp, tDisconnect                                  = 12, 13, 14
)

// packet is a packet as it lies on the wire.
type packet struct {
	kind, flags byte
	body        []byte
}

func (p packet) encode() []byte {
	out := []byte{p.kind<<4 | p.flags}
	n := len(p.body)

	for {
		b := byte(n & 0x7F)
		if n >>= 7; n > 0 {
			out = append(out, b|0x80)

			continue
		}

		return append(append(out, b), p.body...)
	}
}

func text(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

// props frames properties with their length.
func props(parts ...[]byte) []byte {
	all := bytes.Join(parts, nil)

	return append(binary.AppendUvarint(nil, uint64(len(all))), all...)
}

func u32prop(id byte, v uint32) []byte { return binary.BigEndian.AppendUint32([]byte{id}, v) }
func u16prop(id byte, v uint16) []byte { return binary.BigEndian.AppendUint16([]byte{id}, v) }

const (
	pExpiry, pWillDelay, pMaxPacket = 0x11, 0x18, 0x27
	pAlias, pAliasMax, pReceiveMax  = 0x23, 0x22, 0x21
	pContentType, pAuthMethod       = 0x03, 0x15
)

// login is what a CONNECT says.
type login struct {
	version             byte
	id, user, password  string
	resume              bool
	keepAlive           uint16
	props               []byte // without length
	willTopic, willText string
	willQoS             byte
	willRetain          bool
	willProps           []byte
}

func (l login) packet() packet {
	flags := byte(0)
	if !l.resume {
		flags |= 2
	}

	if l.willTopic != "" {
		flags |= 4 | l.willQoS<<3
		if l.willRetain {
			flags |= 32
		}
	}

	if l.user != "" {
		flags |= 128
	}

	if l.password != "" {
		flags |= 64
	}

	body := append(text("MQTT"), l.version, flags)
	body = binary.BigEndian.AppendUint16(body, l.keepAlive)

	if l.version == 5 {
		body = append(body, props(l.props)...)
	}

	body = append(body, text(l.id)...)

	if l.willTopic != "" {
		if l.version == 5 {
			body = append(body, props(l.willProps)...)
		}

		body = append(append(body, text(l.willTopic)...), text(l.willText)...)
	}

	if l.user != "" {
		body = append(body, text(l.user)...)
	}

	if l.password != "" {
		body = append(body, text(l.password)...)
	}

	return packet{kind: tConnect, body: body}
}

// peer is a client made of bytes.
type peer struct {
	net.Conn

	t       testing.TB
	in      *bufio.Reader
	version byte
	nextID  uint16
}

func (p *peer) send(pk packet) {
	p.t.Helper()
	p.sendRaw(pk.encode())
}

func (p *peer) sendRaw(b []byte) {
	p.t.Helper()

	if _, err := p.Write(b); err != nil {
		p.t.Fatalf("write: %v", err)
	}
}

func (p *peer) receive() (packet, error) {
	first, err := p.in.ReadByte()
	if err != nil {
		return packet{}, err
	}

	n, shift := 0, 0

	for {
		b, err := p.in.ReadByte()
		if err != nil {
			return packet{}, err
		}

		n |= int(b&0x7F) << shift
		shift += 7

		if b&0x80 == 0 {
			break
		}
	}

	body := make([]byte, n)
	_, err = io.ReadFull(p.in, body)

	return packet{kind: first >> 4, flags: first & 15, body: body}, err
}

func (p *peer) expect(kind byte) packet {
	p.t.Helper()

	pk, err := p.receive()
	if err != nil {
		p.t.Fatalf("waiting for packet type %d: %v", kind, err)
	}

	if pk.kind != kind {
		p.t.Fatalf("got packet type %d (% x), want %d", pk.kind, pk.body, kind)
	}

	return pk
}

// expectClosed reads until the end and returns the reason of a DISCONNECT that came before it, or -1.
func (p *peer) expectClosed() int {
	p.t.Helper()

	reason := -1

	for {
		pk, err := p.receive()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			p.t.Fatal("the connection is still open")
		}

		if err != nil {
			return reason
		}

		if pk.kind == tDisconnect {
			reason = 0
			if len(pk.body) > 0 {
				reason = int(pk.body[0])
			}

			if p.version < 5 {
				p.t.Error("MQTT 3 knows no DISCONNECT from the server")
			}
		}
	}
}

// alive proves that everything sent before has been processed.
func (p *peer) alive() {
	p.t.Helper()
	p.send(packet{kind: tPingreq})
	p.expect(tPingresp)
}

// message is a PUBLISH.
type posted struct {
	topic, payload string
	qos            byte
	retain         bool
	id             uint16
	props          []byte
}

func (p *peer) publish(m posted) uint16 {
	p.t.Helper()

	flags := m.qos << 1
	if m.retain {
		flags |= 1
	}

	body := text(m.topic)

	if m.qos > 0 {
		p.nextID++
		m.id = p.nextID
		body = binary.BigEndian.AppendUint16(body, m.id)
	}

	if p.version == 5 {
		body = append(body, props(m.props)...)
	}

	p.send(packet{kind: tPublish, flags: flags, body: append(body, m.payload...)})

	return m.id
}

// published publishes with QoS 1 and waits for the acknowledgement, whose reason it returns.
func (p *peer) published(topic, payload string, retain bool) byte {
	p.t.Helper()
	p.publish(posted{topic: topic, payload: payload, qos: 1, retain: retain})

	return reason(p.expect(tPuback))
}

// reason is what an acknowledgement says. That nobody has subscribed is as good as success.
func reason(ack packet) byte {
	if len(ack.body) > 2 && ack.body[2] != 0x10 {
		return ack.body[2]
	}

	return 0
}

func (p *peer) decode(pk packet) posted {
	p.t.Helper()

	if pk.kind != tPublish {
		p.t.Fatalf("got packet type %d (% x), want a PUBLISH", pk.kind, pk.body)
	}

	n := int(binary.BigEndian.Uint16(pk.body))
	m := posted{topic: string(pk.body[2 : 2+n]), qos: pk.flags >> 1 & 3, retain: pk.flags&1 == 1}
	rest := pk.body[2+n:]

	if m.qos > 0 {
		m.id = binary.BigEndian.Uint16(rest)
		rest = rest[2:]
	}

	if p.version == 5 {
		m.props = rest[1 : 1+int(rest[0])]
		rest = rest[1+int(rest[0]):]
	}

	m.payload = string(rest)

	return m
}

func (p *peer) message() posted {
	p.t.Helper()

	return p.decode(p.expect(tPublish))
}

// nothing proves that no message is under way to the peer: what it hears next is the answer to its ping.
func (p *peer) nothing(reason string) {
	p.t.Helper()
	p.send(packet{kind: tPingreq})

	pk, err := p.receive()
	if err != nil {
		p.t.Fatalf("%s: %v", reason, err)
	}

	if pk.kind == tPublish {
		p.t.Fatalf("%s; got %+v", reason, p.decode(pk))
	}

	if pk.kind != tPingresp {
		p.t.Fatalf("%s; got packet type %d (% x)", reason, pk.kind, pk.body)
	}
}

// subscribe returns the reason code of each filter.
func (p *peer) subscribe(qos byte, filters ...string) []byte {
	p.t.Helper()

	p.nextID++
	body := binary.BigEndian.AppendUint16(nil, p.nextID)

	if p.version == 5 {
		body = append(body, 0)
	}

	for _, f := range filters {
		body = append(append(body, text(f)...), qos)
	}

	p.send(packet{kind: tSubscribe, flags: 2, body: body})

	ack := p.expect(tSuback)
	if p.version == 5 {
		return ack.body[3+int(ack.body[2]):]
	}

	return ack.body[2:]
}

func (p *peer) bye() {
	p.t.Helper()
	p.send(packet{kind: tDisconnect})
	p.expectClosed()
}

// connackProps reads the properties that tests look at.
func connackProps(t testing.TB, body []byte) map[byte]uint32 {
	t.Helper()

	found := map[byte]uint32{}
	rest := body[3 : 3+int(body[2])]

	for len(rest) > 0 {
		id := rest[0]

		switch id {
		case pExpiry, pMaxPacket:
			found[id] = binary.BigEndian.Uint32(rest[1:])
			rest = rest[5:]
		case pAliasMax, pReceiveMax:
			found[id] = uint32(binary.BigEndian.Uint16(rest[1:]))
			rest = rest[3:]
		case 0x1F, 0x12:
			rest = rest[3+int(binary.BigEndian.Uint16(rest[1:])):]
		default:
			t.Fatalf("unknown property %#x in CONNACK", id)
		}
	}

	return found
}
