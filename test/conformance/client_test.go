// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// patience is how long a broker may take for what it has to do at once.
const patience = 5 * time.Second

// client is one connection. It fails its scene when the broker sends what a broker may not send.
type client struct {
	s       *scene
	name    string
	v       byte
	conn    io.ReadWriteCloser
	until   func(time.Time)
	r       *bufio.Reader
	waiting []*packet // came before what was waited for
	nextID  uint16

	maxPacket  int // what we said in CONNECT
	maxAlias   uint16
	noProblems bool

	open map[uint16]bool // packet identifiers that the broker uses and that we did not free
}

// dial opens a connection to one of the target's doors and sends nothing.
func (s *scene) dial(door string) *client {
	address := s.target.doors[door]
	if address == "" {
		s.skipf("the target has no door %q", door)
	}

	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		s.failf("dial: %v", err)
	}

	return s.adopt(conn, func(at time.Time) { _ = conn.SetDeadline(at) })
}

func (s *scene) adopt(conn io.ReadWriteCloser, until func(time.Time)) *client {
	c := &client{
		s: s, name: fmt.Sprintf("client %d", len(s.clients)+1), v: s.v, conn: conn, until: until,
		r: bufio.NewReader(conn), open: map[uint16]bool{},
	}
	s.clients = append(s.clients, c)

	return c
}

func (c *client) failf(format string, args ...any) {
	c.s.failf("%s: %s", c.name, fmt.Sprintf(format, args...))
}

// send writes packets in one go. That the broker has closed already shows when we read.
func (c *client) send(packets ...[]byte) {
	c.until(time.Now().Add(patience))

	_, _ = c.conn.Write(join(packets...))
}

// drop ends the connection without a word.
func (c *client) drop() { _ = c.conn.Close() }

// bye ends the connection in order.
func (c *client) bye() {
	c.send(disconnect(c.v, 0, nil))
	c.ends()
}

// read gives the next packet, or nil where the broker has closed.
func (c *client) read(within time.Duration) *packet {
	c.until(time.Now().Add(within))

	first, err := c.r.ReadByte()
	if err != nil {
		return c.stopped(err)
	}

	var length []byte

	for {
		b, err := c.r.ReadByte()
		if err != nil {
			return c.stopped(err)
		}

		if length = append(length, b); b&0x80 == 0 || len(length) > 4 {
			break
		}
	}

	lengths := &reader{rest: length}

	body := make([]byte, lengths.varint("the remaining length"))
	if lengths.err != nil {
		c.failf("%v", lengths.err)
	}

	if _, err := io.ReadFull(c.r, body); err != nil {
		return c.stopped(err)
	}

	p, err := decode(first, body, c.v)
	if err != nil {
		c.failf("%v", err)
	}

	c.check(p)

	return p
}

func (c *client) stopped(err error) *packet {
	if wait, ok := err.(net.Error); ok && wait.Timeout() { //nolint:errorlint // a timeout of a connection is not wrapped
		c.failf("the broker neither sent nor closed in time")
	}

	return nil
}

// check holds a packet against what this client said in its CONNECT.
func (c *client) check(p *packet) {
	if c.maxPacket > 0 && p.size > c.maxPacket {
		c.failf("%v has %d bytes; we take %d [MQTT-3.1.2-24]", p, p.size, c.maxPacket)
	}

	if alias, ok := p.props.get(topicAlias).(uint16); ok && alias > c.maxAlias {
		c.failf("%v has an alias above %d [MQTT-3.1.2-26]", p, c.maxAlias)
	}

	if c.noProblems && p.typ != typePublish && p.typ != typeConnack && p.typ != typeDisconnect &&
		(p.props.get(reasonString) != nil || p.props.get(userProperty) != nil) {
		c.failf("%v explains itself to a client that wants no explanations [MQTT-3.1.2-29]", p)
	}

	if p.typ == typePublish && p.qos() > 0 {
		if c.open[p.id] {
			c.failf("%v has a packet identifier that is in use [MQTT-2.2.1-4]", p)
		}

		c.open[p.id] = true
	}
}

// next gives the next packet that nobody has looked at; there must be one.
func (c *client) next() *packet {
	if len(c.waiting) > 0 {
		p := c.waiting[0]
		c.waiting = c.waiting[1:]

		return p
	}

	p := c.read(patience)
	if p == nil {
		c.failf("the broker closed the connection, but should send something")
	}

	return p
}

// await gives the next packet of a type and keeps what came before it.
func (c *client) await(typ byte) *packet {
	for i, p := range c.waiting {
		if p.typ == typ {
			c.waiting = slices.Delete(c.waiting, i, i+1)

			return p
		}
	}

	for {
		p := c.read(patience)
		if p == nil {
			c.failf("the broker closed the connection, but should send %s", typeNames[typ])
		}

		if p.typ == typ {
			return p
		}

		if p.typ == typeDisconnect {
			c.failf("the broker sent %v, but should send %s", p, typeNames[typ])
		}

		c.waiting = append(c.waiting, p)
	}
}

// expect gives the next packet, which must be of a type.
func (c *client) expect(typ byte) *packet {
	p := c.next()
	if p.typ != typ {
		c.failf("the broker sent %v, but should send %s", p, typeNames[typ])
	}

	return p
}

// quiet shows by PINGREQ that the broker had nothing to say.
func (c *client) quiet() {
	c.ping()

	if len(c.waiting) > 0 {
		c.failf("the broker sent %v, but should send nothing", c.waiting[0])
	}
}

func (c *client) ping() {
	c.send(pingreq())
	c.await(typePingresp)
}

// ends waits for the end of the connection, which must come without a word.
func (c *client) ends() {
	if p := c.read(patience); p != nil {
		c.failf("the broker sent %v, but should close the connection", p)
	}
}

// closes waits for the end of the connection: in MQTT 5 with a DISCONNECT that has one of the codes, else without a word.
func (c *client) closes(codes ...byte) {
	if len(c.waiting) > 0 {
		c.failf("the broker sent %v, but should close the connection", c.waiting[0])
	}

	c.closesWithin(patience, codes...)
}

func (c *client) closesWithin(within time.Duration, codes ...byte) {
	p := c.read(within)

	switch {
	case p == nil:
		if c.v == v5 && len(codes) > 0 {
			c.s.shouldf("%s: the broker closed without DISCONNECT; it should say %#02x", c.name, codes)
		}

		return
	case p.typ != typeDisconnect:
		c.failf("the broker sent %v, but should close the connection", p)
	case len(codes) > 0 && !slices.Contains(codes, p.code):
		c.s.shouldf("%s: the broker said %#02x; it should say %#02x", c.name, p.code, codes)
	}

	c.ends()
}

// refuses waits for the answer to a CONNECT that must be refused. MQTT 3 has other codes; -1: there must be no CONNACK.
func (c *client) refuses(old int, codes ...byte) {
	p := c.read(patience)

	switch {
	case p == nil:
		if c.v == v5 && len(codes) > 0 {
			c.s.mayf("%s: the broker closed without CONNACK; it may say %#02x", c.name, codes)
		} else if old >= 0 {
			c.failf("the broker closed without CONNACK, but should say %d", old)
		}

		return
	case p.typ != typeConnack:
		c.failf("the broker sent %v, but should refuse the CONNECT [MQTT-3.14.0-1]", p)
	case p.code == 0:
		c.failf("the broker accepted the CONNECT, but should refuse it")
	case c.v < v5 && old < 0:
		c.s.shouldf("%s: the broker sent %v; it should close without", c.name, p)
	case c.v < v5 && p.code != byte(old):
		c.failf("the broker sent return code %d, but should send %d", p.code, old)
	case c.v == v5 && len(codes) > 0 && !slices.Contains(codes, p.code):
		c.s.shouldf("%s: the broker said %#02x; it should say %#02x", c.name, p.code, codes)
	}

	c.ends()
}

// unserved waits for the end of the connection of who does not speak MQTT; a refusal may come before.
func (c *client) unserved() {
	switch p := c.read(patience); {
	case p == nil:
	case p.typ != typeConnack || p.code == 0:
		c.failf("the broker sent %v, but should close the connection", p)
	default:
		c.ends()
	}
}

// id gives a packet identifier that this client has not used.
func (c *client) id() uint16 {
	c.nextID++

	return c.nextID
}

// connect sends a CONNECT and wants it accepted.
func (c *client) connect(k connect) *packet {
	c.announce(k)

	p := c.expect(typeConnack)
	if p.code != 0 {
		c.failf("the broker refused: %v", p)
	}

	return p
}

// announce sends a CONNECT.
func (c *client) announce(k connect) {
	if k.version == 0 {
		k.version = c.v
	}

	if n, ok := k.props.get(maximumPacket).(uint32); ok {
		c.maxPacket = int(n)
	}

	if n, ok := k.props.get(aliasMaximum).(uint16); ok {
		c.maxAlias = n
	}

	if n, ok := k.props.get(problemInfo).(byte); ok {
		c.noProblems = n == 0
	}

	c.send(k.bytes())
}

// ask subscribes and gives the SUBACK as it is.
func (c *client) ask(p props, filters ...filter) *packet {
	id := c.id()
	c.send(subscribe(c.v, id, p, filters...))

	answer := c.await(typeSuback)
	if answer.id != id {
		c.failf("%v answers SUBSCRIBE %d [MQTT-3.8.4-2]", answer, id)
	}

	if len(answer.codes) != len(filters) {
		c.failf("%v answers %d filters [MQTT-3.9.3-1]", answer, len(filters))
	}

	return answer
}

// subscribe wants every filter granted as asked for.
func (c *client) subscribe(filters ...filter) { c.subscribeAs(nil, filters...) }

func (c *client) subscribeAs(p props, filters ...filter) {
	answer := c.ask(p, filters...)

	for i, f := range filters {
		if answer.codes[i] != f.options&3 {
			c.failf("%v: filter %d should be granted QoS %d", answer, i+1, f.options&3)
		}
	}
}

func (c *client) unsubscribe(filters ...string) *packet {
	id := c.id()
	c.send(unsubscribe(c.v, id, nil, filters...))

	answer := c.await(typeUnsuback)
	if answer.id != id {
		c.failf("%v answers UNSUBSCRIBE %d [MQTT-3.10.4-4]", answer, id)
	}

	if c.v == v5 && len(answer.codes) != len(filters) {
		c.failf("%v answers %d filters [MQTT-3.11.3-1]", answer, len(filters))
	}

	return answer
}

// publish sends a message and sees to it that the broker takes it over.
func (c *client) publish(m message) {
	if code := c.offer(m); code >= 0x80 {
		c.failf("the broker refused the message with %#02x", code)
	}
}

// offer sends a message and gives the broker's reason code.
func (c *client) offer(m message) byte {
	if m.qos > 0 && m.id == 0 {
		m.id = c.id()
	}

	c.send(m.bytes(c.v))

	switch m.qos {
	case 0:
		c.ping()

		return 0
	case 1:
		return c.acked(typePuback, m.id)
	default:
		code := c.acked(typePubrec, m.id)
		if code < 0x80 {
			c.release(m.id)
		}

		return code
	}
}

func (c *client) release(id uint16) {
	c.send(ack(typePubrel, id))

	if code := c.acked(typePubcomp, id); code != 0 {
		c.failf("PUBCOMP has %#02x", code)
	}
}

func (c *client) acked(typ byte, id uint16) byte {
	p := c.await(typ)
	if p.id != id {
		c.failf("the broker sent %v, but should answer id %d", p, id)
	}

	return p.code
}

// receive gives the next message, which must have this payload, without an answer to it.
func (c *client) receive(payload string) *packet {
	p := c.expect(typePublish)
	if p.payload != payload {
		c.failf("the broker sent %v, but should send %.40q", p, payload)
	}

	return p
}

// take receives a message and answers as its QoS wants it.
func (c *client) take(payload string) *packet {
	p := c.receive(payload)
	c.finish(p)

	return p
}

// finish answers a message to the end.
func (c *client) finish(p *packet) {
	switch p.qos() {
	case 1:
		c.free(p.id)
		c.send(ack(typePuback, p.id))
	case 2:
		c.send(ack(typePubrec, p.id))

		if rel := c.await(typePubrel); rel.id != p.id || rel.code != 0 {
			c.failf("the broker sent %v, but should release %d", rel, p.id)
		}

		c.free(p.id)
		c.send(ack(typePubcomp, p.id))
	}
}

// free says that the broker may use a packet identifier again.
func (c *client) free(id uint16) { delete(c.open, id) }
