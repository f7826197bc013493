// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"strconv"
	"strings"
)

var flowCases = map[string]scenario{
	"no more messages are in flight than the client takes": {
		five: "3.3.4-7 3.3.4-9 4.9.0-1 4.9.0-2",
		run: func(s *scene) {
			p, c := s.join("p"), s.join("c", with(receiveMaximum, uint16(2)))
			c.subscribe(filter{s.topic("x"), 2})

			for i := range 5 {
				p.publish(message{topic: s.topic("x"), payload: strconv.Itoa(i), qos: byte(1 + i%2)})
			}

			zero, one := c.receive("0"), c.receive("1") // QoS 1, QoS 2
			c.quiet()
			c.send(ack(typePubrec, one.id))
			c.acked(typePubrel, one.id)
			c.quiet() // PUBREC makes no room
			c.send(ack(typePubcomp, one.id))
			c.free(one.id)

			two := c.receive("2")
			c.quiet()
			c.send(ack(typePuback, zero.id))
			c.free(zero.id)

			three := c.receive("3")
			c.quiet()
			c.send(ack(typePubrec, three.id, 0x80)) // a refusal does
			c.free(three.id)
			c.finish(c.receive("4"))
			c.finish(two)
			c.quiet()
		},
	},
	"one message in flight is enough for all": {
		five: "4.9.0-1 3.3.4-7 4.6.0-5",
		run: func(s *scene) {
			p, c := s.join("p"), s.join("c", with(receiveMaximum, uint16(1)))
			c.subscribe(filter{s.topic("x"), 1})

			for i := range 10 {
				p.publish(message{topic: s.topic("x"), payload: strconv.Itoa(i), qos: 1})
			}

			for i := range 10 {
				m := c.receive(strconv.Itoa(i))
				c.quiet()
				c.finish(m)
			}
		},
	},
	"a full window holds nothing else up": {
		five: "4.9.0-3 3.3.4-9 3.3.4-10",
		run: func(s *scene) {
			p, c := s.join("p"), s.join("c", with(receiveMaximum, uint16(1)))
			c.subscribe(filter{s.topic("x"), 1})
			p.publish(message{topic: s.topic("x"), payload: "1", qos: 1})
			c.receive("1")
			p.publish(message{topic: s.topic("x"), payload: "2", qos: 1})
			c.subscribe(filter{s.topic("y"), 0})
			c.unsubscribe(s.topic("y"))
			c.publish(message{topic: s.topic("z"), payload: "3", qos: 1})
			c.publish(message{topic: s.topic("z"), payload: "4", qos: 2})
			c.quiet()
		},
	},
	"a window begins anew with each connection": {
		five: "4.9.0-1",
		run: func(s *scene) {
			p, c := s.join("p"), s.stay("c", with(receiveMaximum, uint16(2)))
			c.subscribe(filter{s.topic("x"), 1})

			for i := range 4 {
				p.publish(message{topic: s.topic("x"), payload: strconv.Itoa(i), qos: 1})
			}

			c.receive("0")
			c.receive("1")
			c.drop()

			c = s.back("c", with(receiveMaximum, uint16(3)))
			first := c.receive("0")
			c.receive("1")
			c.receive("2")
			c.quiet()
			c.finish(first)
			c.receive("3")
		},
	},
	"a client may send as much at once as CONNACK says": {
		five: "4.9.0-3 3.3.4-8",
		run: func(s *scene) {
			c, most := s.narrow(receiveMaximum)
			for i := range most {
				m := message{topic: s.topic("x"), payload: "1", qos: 2, id: uint16(i + 1)}
				c.send(m.bytes(s.v))
				c.acked(typePubrec, m.id)
			}

			c.release(1) // makes room for one
			m := message{topic: s.topic("x"), payload: "1", qos: 2, id: 1}
			c.send(m.bytes(s.v))
			c.acked(typePubrec, 1)
			c.quiet()
		},
	},
	"a client that sends more at once than CONNACK says is disconnected": {
		five: "3.3.4-8 4.13.1-1",
		run: func(s *scene) {
			c, most := s.narrow(receiveMaximum)

			for i := range most {
				m := message{topic: s.topic("x"), payload: "1", qos: 2, id: uint16(i + 1)}
				c.send(m.bytes(s.v))
				c.acked(typePubrec, m.id)
			}

			m := message{topic: s.topic("x"), payload: "1", qos: 2, id: uint16(most + 1)}
			c.send(m.bytes(s.v))
			c.closes(0x93)
		},
	},
}

// narrow connects to the door with narrow limits and gives one of them.
func (s *scene) narrow(limit byte) (*client, int) {
	c := s.dial("limited")
	p := c.connect(connect{id: s.id("narrow"), clean: true})

	var n int

	switch value := p.props.get(limit).(type) {
	case uint16:
		n = int(value)
	case uint32:
		n = int(value)
	}

	if n == 0 || limit == receiveMaximum && n > 1000 {
		s.skipf("the door %q does not limit property %#02x", "limited", limit)
	}

	return c, n
}

// small is too little for most explanations, and enough for every answer without one.
const small = uint32(48)

var limitCases = map[string]scenario{
	"a message that is too large for a client is dropped and the next one comes": {
		five: "3.1.2-24 3.1.2-25",
		run: func(s *scene) {
			p, c := s.join("p"), s.join("c", with(maximumPacket, uint32(200)), with(receiveMaximum, uint16(1)))
			other := s.join("other")
			c.subscribe(filter{s.topic("x"), 2})
			other.subscribe(filter{s.topic("x"), 2})

			for qos := range byte(3) {
				large := strings.Repeat("l", 200)
				p.publish(message{topic: s.topic("x"), payload: large, qos: qos})
				other.take(large)
				p.publish(message{topic: s.topic("x"), payload: "fits", qos: qos})
				other.take("fits")
				c.take("fits")
			}
		},
	},
	"a message that is exactly as large as a client takes is sent": {
		five: "3.1.2-24",
		run: func(s *scene) {
			const limit = 120

			p, c := s.join("p"), s.join("c", with(maximumPacket, uint32(limit)))
			c.subscribe(filter{s.topic("x"), 1})

			m := message{topic: s.topic("x"), qos: 1, id: 1}
			m.payload = strings.Repeat("f", limit-len(m.bytes(s.v)))
			p.publish(message{topic: s.topic("x"), payload: m.payload + "x", qos: 1})
			p.publish(message{topic: s.topic("x"), payload: m.payload, qos: 1})
			c.take(m.payload)
			s.fence(p, c)
		},
	},
	"a queued or retained message that is too large is dropped": {
		five: "3.1.2-25 3.1.2-24",
		run: func(s *scene) {
			p, c := s.join("p"), s.stay("c")
			c.subscribe(filter{s.topic("x"), 1})
			c.bye()
			p.publish(message{topic: s.topic("x"), payload: strings.Repeat("l", 200), qos: 1, retain: true})
			p.publish(message{topic: s.topic("x"), payload: "fits", qos: 1})

			c = s.back("c", with(maximumPacket, uint32(200)))
			c.take("fits")
			c.subscribe(filter{s.topic("x"), 1})
			s.fence(p, c)
		},
	},
	"no answer grows beyond what a client takes": {
		five: "3.2.2-19 3.2.2-20 3.4.2-2 3.4.2-3 3.5.2-2 3.5.2-3 3.6.2-2 3.6.2-3 3.7.2-2 3.7.2-3 3.9.2-2 3.11.2-2 3.14.2-3 3.14.2-4",
		run: func(s *scene) {
			c := s.join("a", at("ruled"), with(maximumPacket, small)) // CONNACK
			c.maxPacket = int(small)
			c.offer(message{topic: deniedTopic + "x", payload: "1", qos: 1}) // PUBACK
			c.offer(message{topic: deniedTopic + "x", payload: "1", qos: 2}) // PUBREC
			c.ask(nil, filter{deniedTopic + "x", 1})                         // SUBACK
			c.unsubscribe(s.topic("none"))                                   // UNSUBACK
			c.send(ack(typePubrel, 77))
			c.acked(typePubcomp, 77)
			c.send(ack(typePubrec, 78))
			c.await(typePubrel)
			c.send(subscribe(s.v, 9, nil)) // DISCONNECT
			c.closes(0x82, 0x81)

			// A refusal has to fit as well.
			g := s.dial("guarded")
			g.announce(connect{id: s.id("g"), clean: true, props: props{{maximumPacket, uint32(8)}}})

			if p := g.read(patience); p != nil && (p.typ != typeConnack || p.code == 0) {
				g.failf("the broker sent %v", p)
			}
		},
	},
	"a packet that is larger than CONNACK allows ends the connection": {
		five: "4.13.1-1", also: []byte{v311},
		run: func(s *scene) {
			limit := limitedPacket

			c := s.dial("limited")

			p := c.connect(connect{id: s.id("a"), clean: true})
			if n, ok := p.props.get(maximumPacket).(uint32); ok {
				limit = int(n)
			} else if s.v == v5 {
				s.shouldf("CONNACK does not say how large a packet may be")
			}

			m := message{topic: s.topic("x"), qos: 1, id: 1}
			m.payload = strings.Repeat("x", limit-len(m.bytes(s.v))-1) // the length takes two bytes now

			if n := len(m.bytes(s.v)); n != limit {
				s.failf("the message has %d bytes", n)
			}

			c.publish(m)

			m.payload += strings.Repeat("x", 64)
			c.send(m.bytes(s.v))
			c.closes(0x95)
		},
	},
	"a claim to send far too much ends the connection at once": {
		five: "4.13.1-1", also: []byte{v311},
		run: func(s *scene) {
			c := s.dial("limited")
			c.connect(connect{id: s.id("a"), clean: true})
			c.send([]byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F})
			c.closes(0x95)
		},
	},
}

var propertyCases = map[string]scenario{
	"a topic alias stands for the topic that it was given": {
		five: "3.3.2-12 3.3.2-7 3.2.2-17",
		run: func(s *scene) {
			p, c, most := s.aliases()
			c.subscribe(filter{s.topic("#"), 1})

			for _, alias := range []uint16{1, most} {
				p.publish(message{topic: s.topic(strconv.Itoa(int(alias))), payload: "set", qos: 1, props: props{{topicAlias, alias}}})

				if m := c.take("set"); m.topic != s.topic(strconv.Itoa(int(alias))) {
					c.failf("the broker sent %v", m)
				}
			}

			for _, alias := range []uint16{1, most} {
				for qos := range byte(3) {
					p.publish(message{payload: "used", qos: qos, props: props{{topicAlias, alias}}})

					if m := c.take("used"); m.topic != s.topic(strconv.Itoa(int(alias))) {
						c.failf("the broker sent %v", m)
					}
				}
			}

			p.publish(message{topic: s.topic("other"), payload: "changed", qos: 1, props: props{{topicAlias, uint16(1)}}})
			c.take("changed")
			p.publish(message{payload: "used", qos: 1, props: props{{topicAlias, uint16(1)}}})

			if m := c.take("used"); m.topic != s.topic("other") {
				c.failf("the broker sent %v", m)
			}
		},
	},
	"a topic alias one above the maximum ends the connection": {
		five: "3.3.2-9 3.2.2-17",
		run: func(s *scene) {
			p, _, most := s.aliases()
			if most == 65535 {
				s.skipf("the broker takes every alias")
			}

			m := message{topic: s.topic("x"), props: props{{topicAlias, most + 1}}}
			p.send(m.bytes(s.v))
			p.closes(aliasInvalid)
		},
	},
	"a topic alias ends with its connection": {
		five: "3.3.2-7 3.3.2-10",
		run: func(s *scene) {
			p := s.stay("p")
			p.publish(message{topic: s.topic("x"), payload: "set", qos: 1, props: props{{topicAlias, uint16(1)}}})
			p.drop()

			p = s.back("p")
			m := message{payload: "used", props: props{{topicAlias, uint16(1)}}}
			p.send(m.bytes(s.v))
			p.closes(0x82)
		},
	},
	"a retained message keeps its topic when it came by alias": {
		five: "3.3.2-12",
		run: func(s *scene) {
			p, c, _ := s.aliases()
			p.publish(message{topic: s.topic("x"), payload: "set", qos: 1, props: props{{topicAlias, uint16(1)}}})
			p.publish(message{payload: "kept", qos: 1, retain: true, props: props{{topicAlias, uint16(1)}}})
			c.subscribe(filter{s.topic("x"), 1})
			c.take("kept")
		},
	},
	"a client that takes no aliases gets none": {
		five: "3.1.2-27 3.3.2-11",
		run: func(s *scene) {
			p, a, b := s.join("p"), s.join("a"), s.join("b", with(aliasMaximum, uint16(0)))
			for _, c := range []*client{a, b} {
				c.subscribe(filter{s.topic("x"), 1})

				for range 3 {
					p.publish(message{topic: s.topic("x"), payload: "1", qos: 1, props: props{{topicAlias, uint16(1)}}})

					if m := c.take("1"); m.topic != s.topic("x") || m.props.get(topicAlias) != nil {
						c.failf("the broker sent %v", m)
					}
				}

				c.bye()
			}
		},
	},
	"a client that takes aliases gets no more than it takes, and can resolve them": {
		five: "3.1.2-26 3.3.2-8 3.3.2-11",
		run: func(s *scene) {
			p, c := s.join("p"), s.stay("c", with(aliasMaximum, uint16(2)))
			c.subscribe(filter{s.topic("#"), 1})

			known := map[uint16]string{}

			for round := range 3 {
				for i := range 4 {
					want := s.topic(strconv.Itoa(i))
					p.publish(message{topic: want, payload: "1", qos: 1})

					m := c.take("1")
					if alias, ok := m.props.get(topicAlias).(uint16); ok {
						if m.topic == "" {
							m.topic = known[alias]
						}

						known[alias] = m.topic
					}

					if m.topic != want {
						c.failf("the broker sent %v", m)
					}
				}

				if round == 1 { // a new connection knows no aliases
					c.bye()
					c = s.back("c", with(aliasMaximum, uint16(2)))
					known = map[uint16]string{}
				}
			}
		},
	},
	"every property of CONNECT is taken": {
		five: "3.1.4-5",
		run: func(s *scene) {
			c := s.dial("open")
			c.connect(connect{id: s.id("a"), clean: true, props: props{
				{userProperty, pair{"a", "1"}},
				{maximumPacket, uint32(1 << 20)},
				{requestResponse, byte(1)},
				{problemInfo, byte(1)},
				{aliasMaximum, uint16(65535)},
				{receiveMaximum, uint16(65535)},
				{sessionExpiry, uint32(0)},
				{userProperty, pair{"a", "1"}},
			}})
			c.ping()
		},
	},
	"every property of SUBSCRIBE, UNSUBSCRIBE, acknowledgements and DISCONNECT is taken": {
		five: "3.8.4-1 3.10.4-4",
		run: func(s *scene) {
			user := props{{userProperty, pair{"a", "1"}}}
			why := user.with(reasonString, "because")
			c := s.join("a")
			c.send(subscribe(s.v, 1, user.with(subscriptionID, number(5)), filter{s.topic("x"), 2}))
			c.await(typeSuback)

			for qos := byte(1); qos < 3; qos++ {
				c.publish(message{topic: s.topic("x"), payload: "1", qos: qos})

				m := c.receive("1")
				c.free(m.id)

				if qos == 1 {
					c.send(frame(typePuback, 0, u16(int(m.id)), []byte{0}, why.bytes()))

					continue
				}

				c.send(frame(typePubrec, 0, u16(int(m.id)), []byte{0}, why.bytes()))
				c.acked(typePubrel, m.id)
				c.send(frame(typePubcomp, 0, u16(int(m.id)), []byte{0}, why.bytes()))
			}

			m := message{topic: s.topic("y"), payload: "1", qos: 2, id: 9}
			c.send(m.bytes(s.v))
			c.acked(typePubrec, 9)
			c.send(frame(typePubrel, 2, u16(9), []byte{0}, why.bytes()))
			c.acked(typePubcomp, 9)
			c.send(unsubscribe(s.v, 2, user, s.topic("x")))
			c.await(typeUnsuback)
			c.send(disconnect(s.v, 0, why.with(sessionExpiry, uint32(0))))
			c.ends()
		},
	},
}

// aliases connects a publisher that may use aliases, and a subscriber.
func (s *scene) aliases() (p, c *client, most uint16) {
	p = s.dial("open")
	n, _ := p.connect(connect{id: s.id("p"), clean: true}).props.get(aliasMaximum).(uint16)

	if n == 0 {
		s.skipf("the broker takes no aliases")
	}

	return p, s.join("c"), n
}
