// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Versions of the protocol, as CONNECT carries them.
const (
	v31  byte = 3
	v311 byte = 4
	v5   byte = 5
)

// Types of packets.
const (
	typeConnect     byte = 1
	typeConnack     byte = 2
	typePublish     byte = 3
	typePuback      byte = 4
	typePubrec      byte = 5
	typePubrel      byte = 6
	typePubcomp     byte = 7
	typeSubscribe   byte = 8
	typeSuback      byte = 9
	typeUnsubscribe byte = 10
	typeUnsuback    byte = 11
	typePingreq     byte = 12
	typePingresp    byte = 13
	typeDisconnect  byte = 14
	typeAuth        byte = 15
)

var typeNames = [...]string{
	"type 0", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK",
	"UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
}

// Properties.
const (
	payloadFormat    byte = 0x01
	messageExpiry    byte = 0x02
	contentType      byte = 0x03
	responseTopic    byte = 0x08
	correlationData  byte = 0x09
	subscriptionID   byte = 0x0B
	sessionExpiry    byte = 0x11
	assignedClientID byte = 0x12
	serverKeepAlive  byte = 0x13
	authMethod       byte = 0x15
	authData         byte = 0x16
	problemInfo      byte = 0x17
	willDelay        byte = 0x18
	requestResponse  byte = 0x19
	responseInfo     byte = 0x1A
	serverReference  byte = 0x1C
	reasonString     byte = 0x1F
	receiveMaximum   byte = 0x21
	aliasMaximum     byte = 0x22
	topicAlias       byte = 0x23
	maximumQoS       byte = 0x24
	retainAvailable  byte = 0x25
	userProperty     byte = 0x26
	maximumPacket    byte = 0x27
	wildcardSubs     byte = 0x28
	subscriptionIDs  byte = 0x29
	sharedSubs       byte = 0x2A
)

// Forms of a property's value: what an encoder takes and a decoder gives.
type (
	number uint32    // variable byte integer
	pair   [2]string // user property
	octets []byte    // goes out as it is, to say what nobody may say
)

type prop struct {
	id    byte
	value any
}

type props []prop

// get gives the first value of a property, or nil.
func (p props) get(id byte) any {
	for _, x := range p {
		if x.id == id {
			return x.value
		}
	}

	return nil
}

func (p props) all(id byte) []any {
	var out []any

	for _, x := range p {
		if x.id == id {
			out = append(out, x.value)
		}
	}

	return out
}

// with gives a copy that has one more property.
func (p props) with(id byte, value any) props { return append(append(props{}, p...), prop{id, value}) }

func varint(n int) []byte {
	var out []byte

	for {
		b := byte(n & 0x7F)
		if n >>= 7; n == 0 {
			return append(out, b)
		}

		out = append(out, b|0x80)
	}
}

func u16(n int) []byte { return []byte{byte(n >> 8), byte(n)} }

func text(s string) []byte { return append(u16(len(s)), s...) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// bytes writes the properties with their length before them.
func (p props) bytes() []byte {
	var out []byte

	for _, x := range p {
		if raw, ok := x.value.(octets); ok {
			out = append(append(out, x.id), raw...)

			continue
		}

		out = append(out, x.id)

		switch value := x.value.(type) {
		case byte:
			out = append(out, value)
		case uint16:
			out = binary.BigEndian.AppendUint16(out, value)
		case uint32:
			out = binary.BigEndian.AppendUint32(out, value)
		case number:
			out = append(out, varint(int(value))...)
		case string:
			out = append(out, text(value)...)
		case []byte:
			out = append(append(out, u16(len(value))...), value...)
		case pair:
			out = append(append(out, text(value[0])...), text(value[1])...)
		default:
			panic(fmt.Sprintf("property %#x has a %T", x.id, x.value))
		}
	}

	return append(varint(len(out)), out...)
}

// frame writes a packet around its parts.
func frame(typ, flags byte, parts ...[]byte) []byte {
	body := join(parts...)

	return join([]byte{typ<<4 | flags}, varint(len(body)), body)
}

type will struct {
	topic   string
	payload string
	qos     byte
	retain  bool
	props   props
}

// connect is a CONNECT packet; what it says about flags can be overruled by tune.
type connect struct {
	door      string // where the client knocks; empty: open
	version   byte
	protocol  string // empty: as the version wants it
	id        string
	clean     bool
	keepAlive int
	props     props
	will      *will
	username  *string
	password  *string
	tune      func(flags byte) byte
	payload   func(payload []byte) []byte
}

func (c *connect) flags() byte {
	var flags byte

	if c.clean {
		flags |= 0x02
	}

	if c.will != nil {
		flags |= 0x04 | c.will.qos<<3

		if c.will.retain {
			flags |= 0x20
		}
	}

	if c.password != nil {
		flags |= 0x40
	}

	if c.username != nil {
		flags |= 0x80
	}

	if c.tune != nil {
		flags = c.tune(flags)
	}

	return flags
}

func (c *connect) bytes() []byte {
	name := c.protocol
	if name == "" {
		name = map[bool]string{true: "MQIsdp", false: "MQTT"}[c.version == v31]
	}

	head := join(text(name), []byte{c.version, c.flags()}, u16(c.keepAlive))
	if c.version >= v5 {
		head = append(head, c.props.bytes()...)
	}

	payload := text(c.id)

	if c.will != nil {
		if c.version >= v5 {
			payload = append(payload, c.will.props.bytes()...)
		}

		payload = join(payload, text(c.will.topic), text(c.will.payload))
	}

	if c.username != nil {
		payload = append(payload, text(*c.username)...)
	}

	if c.password != nil {
		payload = append(payload, text(*c.password)...)
	}

	if c.payload != nil {
		payload = c.payload(payload)
	}

	return frame(typeConnect, 0, head, payload)
}

// message is a PUBLISH packet.
type message struct {
	topic   string
	payload string
	qos     byte
	retain  bool
	dup     bool
	id      uint16
	props   props
}

func (m *message) bytes(v byte) []byte {
	flags := m.qos << 1
	if m.retain {
		flags |= 1
	}

	if m.dup {
		flags |= 8
	}

	body := text(m.topic)
	if m.qos > 0 {
		body = append(body, u16(int(m.id))...)
	}

	if v == v5 {
		body = append(body, m.props.bytes()...)
	}

	return frame(typePublish, flags, body, []byte(m.payload))
}

// filter is one wish of a SUBSCRIBE packet.
type filter struct {
	name    string
	options byte
}

// Options of a subscription.
const (
	noLocal           byte = 0x04
	retainAsPublished byte = 0x08
	sendIfNew         byte = 0x10
	sendNever         byte = 0x20
)

func subscribe(v byte, id uint16, p props, filters ...filter) []byte {
	body := u16(int(id))
	if v == v5 {
		body = append(body, p.bytes()...)
	}

	for _, f := range filters {
		body = append(append(body, text(f.name)...), f.options)
	}

	return frame(typeSubscribe, 2, body)
}

func unsubscribe(v byte, id uint16, p props, filters ...string) []byte {
	body := u16(int(id))
	if v == v5 {
		body = append(body, p.bytes()...)
	}

	for _, f := range filters {
		body = append(body, text(f)...)
	}

	return frame(typeUnsubscribe, 2, body)
}

// ack writes PUBACK, PUBREC, PUBREL or PUBCOMP: in the short form, or with a reason code.
func ack(typ byte, id uint16, code ...byte) []byte {
	var flags byte
	if typ == typePubrel {
		flags = 2
	}

	return frame(typ, flags, u16(int(id)), code)
}

func disconnect(v, code byte, p props) []byte {
	switch {
	case v < v5 || code == 0 && p == nil:
		return frame(typeDisconnect, 0)
	case p == nil:
		return frame(typeDisconnect, 0, []byte{code})
	default:
		return frame(typeDisconnect, 0, []byte{code}, p.bytes())
	}
}

func auth(code byte, p props) []byte { return frame(typeAuth, 0, []byte{code}, p.bytes()) }

func pingreq() []byte { return []byte{typePingreq << 4, 0} }

// packet is what came from the broker.
type packet struct {
	typ            byte
	flags          byte
	size           int
	id             uint16
	code           byte   // the return code in CONNACK of MQTT 3
	codes          []byte // of SUBACK and UNSUBACK
	sessionPresent bool
	topic          string
	payload        string
	props          props
}

func (p *packet) qos() byte    { return p.flags >> 1 & 3 }
func (p *packet) retain() bool { return p.flags&1 != 0 }
func (p *packet) dup() bool    { return p.flags&8 != 0 }

func (p *packet) String() string {
	var b strings.Builder

	b.WriteString(typeNames[p.typ])

	switch p.typ {
	case typePublish:
		fmt.Fprintf(&b, " %q=%.40q qos=%d retain=%t dup=%t", p.topic, p.payload, p.qos(), p.retain(), p.dup())
	case typeSuback, typeUnsuback:
		fmt.Fprintf(&b, " codes=%#x", p.codes)
	default:
		fmt.Fprintf(&b, " code=%#02x", p.code)
	}

	if p.id != 0 {
		fmt.Fprintf(&b, " id=%d", p.id)
	}

	if len(p.props) > 0 {
		fmt.Fprintf(&b, " %v", p.props)
	}

	return b.String()
}

// reader takes a packet apart and remembers the first thing that is wrong with it.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) failf(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *reader) take(n int, what string) []byte {
	if r.err != nil || n > len(r.rest) {
		r.failf("%s: %d bytes are missing", what, n-len(r.rest))

		return make([]byte, n)
	}

	out := r.rest[:n]
	r.rest = r.rest[n:]

	return out
}

func (r *reader) byte(what string) byte { return r.take(1, what)[0] }

func (r *reader) u16(what string) uint16 { return binary.BigEndian.Uint16(r.take(2, what)) }

func (r *reader) text(what string) string {
	s := string(r.take(int(r.u16(what)), what))
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		r.failf("%s is no string of MQTT [MQTT-1.5.4-1] [MQTT-1.5.4-2]", what)
	}

	return s
}

func (r *reader) varint(what string) int {
	value := 0

	for i := range 4 {
		b := r.byte(what)
		value |= int(b&0x7F) << (7 * i)

		if b&0x80 == 0 {
			if b == 0 && i > 0 {
				r.failf("%s is longer than it must be [MQTT-1.5.5-1]", what)
			}

			return value
		}
	}

	r.failf("%s has more than four bytes", what)

	return 0
}

// allowed names the properties that a server may send, by packet.
var allowed = map[byte][]byte{
	typeConnack: {
		sessionExpiry, assignedClientID, serverKeepAlive, authMethod, authData, responseInfo, serverReference, reasonString,
		receiveMaximum, aliasMaximum, maximumQoS, retainAvailable, userProperty, maximumPacket, wildcardSubs, subscriptionIDs,
		sharedSubs,
	},
	typePublish: {
		payloadFormat, messageExpiry, contentType, responseTopic, correlationData, subscriptionID, topicAlias, userProperty,
	},
	typePuback:     {reasonString, userProperty},
	typePubrec:     {reasonString, userProperty},
	typePubrel:     {reasonString, userProperty},
	typePubcomp:    {reasonString, userProperty},
	typeSuback:     {reasonString, userProperty},
	typeUnsuback:   {reasonString, userProperty},
	typeDisconnect: {serverReference, reasonString, userProperty}, // no session expiry [MQTT-3.14.2-2]
	typeAuth:       {authMethod, authData, reasonString, userProperty},
}

func (r *reader) props(typ byte) props {
	n := r.varint("the length of the properties")
	inner := &reader{rest: r.take(n, "properties"), err: r.err}
	seen := map[byte]bool{}

	var out props

	for len(inner.rest) > 0 && inner.err == nil {
		id := inner.byte("property")
		if !bytes.Contains(allowed[typ], []byte{id}) {
			inner.failf("%s has property %#02x, which it may not have", typeNames[typ], id)
		}

		if seen[id] && id != userProperty && (id != subscriptionID || typ != typePublish) {
			inner.failf("property %#02x comes twice", id)
		}

		seen[id] = true
		out = append(out, prop{id, inner.value(id)})
	}

	r.err = inner.err

	return out
}

func (r *reader) value(id byte) any {
	what := fmt.Sprintf("property %#02x", id)

	switch id {
	case payloadFormat, problemInfo, requestResponse, maximumQoS, retainAvailable, wildcardSubs, subscriptionIDs, sharedSubs:
		b := r.byte(what)
		if b > 1 {
			r.failf("%s is %d", what, b)
		}

		return b
	case messageExpiry, sessionExpiry, willDelay, maximumPacket:
		return binary.BigEndian.Uint32(r.take(4, what))
	case contentType, responseTopic, assignedClientID, authMethod, responseInfo, serverReference, reasonString:
		return r.text(what)
	case correlationData, authData:
		return append([]byte{}, r.take(int(r.u16(what)), what)...)
	case subscriptionID:
		n := r.varint(what)
		if n == 0 {
			r.failf("%s is 0", what)
		}

		return number(n)
	case serverKeepAlive, receiveMaximum, aliasMaximum, topicAlias:
		n := r.u16(what)
		if n == 0 && (id == receiveMaximum || id == topicAlias) {
			r.failf("%s is 0", what)
		}

		return n
	case userProperty:
		return pair{r.text(what), r.text(what)}
	default:
		r.failf("%s is unknown", what)

		return nil
	}
}

// codes of MQTT 5 that a server may send, by packet.
var codes = map[byte][]byte{
	typeConnack: {
		0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C,
		0x9D, 0x9F,
	},
	typePuback:   {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
	typePubrec:   {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
	typePubrel:   {0x00, 0x92},
	typePubcomp:  {0x00, 0x92},
	typeSuback:   {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
	typeUnsuback: {0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
	typeDisconnect: {
		0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A,
		0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
	},
	typeAuth: {0x00, 0x18},
}

func (r *reader) code(typ, v byte) byte {
	code := r.byte("the reason code")

	switch {
	case v == v5 && !bytes.Contains(codes[typ], []byte{code}):
		r.failf("%s has reason code %#02x, which it may not have", typeNames[typ], code)
	case v < v5 && typ == typeConnack && code > 5:
		r.failf("CONNACK has return code %d", code)
	case v < v5 && typ == typeSuback && code > 2 && code != 0x80:
		r.failf("SUBACK has return code %#02x [MQTT-3.9.3-2]", code)
	}

	return code
}

// decode reads what a broker sent as strictly as a client may.
func decode(first byte, body []byte, v byte) (*packet, error) {
	p := &packet{typ: first >> 4, flags: first & 0x0F, size: 1 + len(varint(len(body))) + len(body)}
	r := &reader{rest: body}

	if p.typ != typePublish {
		want := byte(0)
		if p.typ == typePubrel {
			want = 2
		}

		if p.flags != want {
			r.failf("%s has flags %#x [MQTT-2.1.3-1]", typeNames[p.typ], p.flags)
		}
	}

	switch p.typ {
	case typeConnack:
		decodeConnack(r, p, v)
	case typePublish:
		decodePublish(r, p, v)
	case typePuback, typePubrec, typePubrel, typePubcomp:
		decodeAck(r, p, v)
	case typeSuback, typeUnsuback:
		decodeSuback(r, p, v)
	case typePingresp:
	case typeDisconnect, typeAuth:
		decodeEnd(r, p, v)
	default:
		r.failf("a server sends no %s", typeNames[p.typ])
	}

	if len(r.rest) > 0 {
		r.failf("%s has %d bytes too many", typeNames[p.typ], len(r.rest))
	}

	if r.err != nil {
		return p, fmt.Errorf("the broker sent %s that no broker may send: %w", p, r.err)
	}

	return p, nil
}

func decodeConnack(r *reader, p *packet, v byte) {
	flags := r.byte("the acknowledge flags")
	if flags > 1 {
		r.failf("CONNACK has acknowledge flags %#02x [MQTT-3.2.2-1]", flags)
	}

	p.sessionPresent = flags&1 != 0
	p.code = r.code(p.typ, v)

	if v == v5 {
		p.props = r.props(p.typ)
	}

	if p.code != 0 && p.sessionPresent {
		r.failf("CONNACK refuses and has a session present [MQTT-3.2.2-6]")
	}
}

func decodePublish(r *reader, p *packet, v byte) {
	p.topic = r.text("the topic")

	if p.qos() == 3 {
		r.failf("PUBLISH has QoS 3 [MQTT-3.3.1-4]")
	}

	if p.qos() == 0 && p.dup() {
		r.failf("PUBLISH has QoS 0 and DUP [MQTT-3.3.1-2]")
	}

	if p.qos() > 0 {
		if p.id = r.u16("the packet identifier"); p.id == 0 {
			r.failf("PUBLISH has packet identifier 0 [MQTT-2.2.1-4]")
		}
	}

	if v == v5 {
		p.props = r.props(p.typ)
	}

	if strings.ContainsAny(p.topic, "+#") {
		r.failf("PUBLISH has a wildcard in its topic [MQTT-3.3.2-2]")
	}

	p.payload = string(r.rest)
	r.rest = nil
}

func decodeAck(r *reader, p *packet, v byte) {
	if p.id = r.u16("the packet identifier"); p.id == 0 {
		r.failf("%s has packet identifier 0", typeNames[p.typ])
	}

	if v == v5 && len(r.rest) > 0 {
		p.code = r.code(p.typ, v)
	}

	if v == v5 && len(r.rest) > 0 {
		p.props = r.props(p.typ)
	}
}

func decodeSuback(r *reader, p *packet, v byte) {
	p.id = r.u16("the packet identifier")

	if v == v5 {
		p.props = r.props(p.typ)
	}

	if v < v5 && p.typ == typeUnsuback {
		return
	}

	for len(r.rest) > 0 && r.err == nil {
		p.codes = append(p.codes, r.code(p.typ, v))
	}
}

func decodeEnd(r *reader, p *packet, v byte) {
	if v < v5 {
		r.failf("a server of MQTT 3 sends no %s", typeNames[p.typ])

		return
	}

	if len(r.rest) > 0 {
		p.code = r.code(p.typ, v)
	}

	if len(r.rest) > 0 {
		p.props = r.props(p.typ)
	}
}
