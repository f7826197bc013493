// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"slices"
	"strconv"
	"strings"
)

var subscribeCases = map[string]scenario{
	"SUBSCRIBE is answered filter by filter": {
		five:  "3.8.4-1 3.8.4-2 3.8.4-5 3.8.4-6 3.8.4-7 3.9.2-1 3.9.3-1 3.9.3-2 2.2.1-6",
		three: "3.8.4-1 3.8.4-2 3.8.4-4 3.8.4-5 3.8.4-6 3.9.3-1 3.9.3-2 2.3.1-7", also: []byte{v31},
		run: func(s *scene) {
			c := s.join("a")
			c.subscribe(filter{s.topic("0"), 0}, filter{s.topic("1"), 1}, filter{s.topic("2"), 2}, filter{s.topic("0b"), 0})

			c.send(subscribe(s.v, 65535, nil, filter{s.topic("3"), 1}))

			if p := c.await(typeSuback); p.id != 65535 {
				c.failf("the broker sent %v", p)
			}

			for i := range 3 {
				c.publish(message{topic: s.topic(strconv.Itoa(i)), payload: strconv.Itoa(i), qos: 2})

				if p := c.take(strconv.Itoa(i)); int(p.qos()) != i {
					c.failf("the broker sent %v", p)
				}
			}
		},
	},
	"a filter that is refused does not spoil the others": {
		five: "3.8.4-5 3.8.4-7 3.9.3-2", three: "3.8.4-4 3.8.4-5 3.9.3-1 3.9.3-2",
		run: func(s *scene) {
			c := s.join("a", at("ruled"))

			got := c.ask(nil, filter{s.topic("x"), 1}, filter{deniedTopic + "x", 1}, filter{s.topic("y"), 2}).codes
			if want := []byte{1, map[bool]byte{true: 0x87, false: 0x80}[s.v == v5], 2}; !slices.Equal(got, want) {
				// A broker may grant what it will not deliver.
				c.s.shouldf("the broker answered %#02x; it should answer %#02x", got, want)
			}

			c.publish(message{topic: s.topic("y"), payload: "1", qos: 2})
			c.take("1")
		},
	},
	"the same filter again replaces the subscription": {
		five: "3.8.4-3 3.8.4-4", three: "3.8.4-3", also: []byte{v31},
		run: func(s *scene) {
			p, c := s.join("p"), s.join("c")
			c.subscribe(filter{s.topic("x"), 2})
			c.subscribe(filter{s.topic("x"), 0})
			p.publish(message{topic: s.topic("x"), payload: "1", qos: 2})

			if got := c.take("1"); got.qos() != 0 {
				c.failf("the broker sent %v", got)
			}

			s.fence(p, c)
			c.unsubscribe(s.topic("x"))
			p.publish(message{topic: s.topic("x"), payload: "2", qos: 2})
			s.fence(p, c)
		},
	},
	"no message is lost while a subscription is replaced": {
		five: "3.8.4-4", three: "3.8.4-3", also: []byte{v31},
		run: func(s *scene) {
			p, c := s.join("p"), s.join("c")
			c.subscribe(filter{s.topic("x"), 1})

			const count = 40
			for i := range count {
				m := message{topic: s.topic("x"), payload: strconv.Itoa(i), qos: 1, id: p.id()}
				p.send(m.bytes(s.v))
				c.send(subscribe(s.v, c.id(), nil, filter{s.topic("x"), byte(1 + i%2)}))
				c.await(typeSuback)
				p.acked(typePuback, m.id)
			}

			for i := range count {
				c.take(strconv.Itoa(i))
			}
		},
	},
	"who unsubscribed gets nothing new": {
		five:  "3.10.4-1 3.10.4-2 3.10.4-4 3.10.4-5 3.11.2-1 3.11.3-1 3.11.3-2 2.2.1-6",
		three: "3.10.4-1 3.10.4-2 3.10.4-4 2.3.1-7", also: []byte{v31},
		run: func(s *scene) {
			p, c := s.join("p"), s.join("c")
			c.subscribe(filter{s.topic("x"), 1}, filter{s.topic("+"), 1})

			if got := c.unsubscribe(s.topic("x")); s.v == v5 && got.codes[0] != 0 {
				c.failf("the broker sent %v", got)
			}

			p.publish(message{topic: s.topic("x"), payload: "1", qos: 1})
			c.take("1") // by the other one: filters are compared character by character
			c.unsubscribe(s.topic("+"))
			p.publish(message{topic: s.topic("x"), payload: "2", qos: 1})
			s.fence(p, c)
		},
	},
	"UNSUBSCRIBE is answered although there was nothing": {
		five: "3.10.4-5 3.11.3-2", three: "3.10.4-5", also: []byte{v31},
		run: func(s *scene) {
			c := s.join("a")
			if got := c.unsubscribe(s.topic("never")); s.v == v5 && got.codes[0] != 0x11 {
				c.s.shouldf("the broker answered %#02x; it should answer 0x11", got.codes[0])
			}
		},
	},
	"UNSUBSCRIBE of several filters is answered once": {
		five: "3.10.4-6 3.11.3-1 3.11.3-2", three: "3.10.4-6", also: []byte{v31},
		run: func(s *scene) {
			p, c := s.join("p"), s.join("c")
			c.subscribe(filter{s.topic("1"), 1}, filter{s.topic("2"), 1}, filter{s.topic("3"), 1})

			got := c.unsubscribe(s.topic("1"), s.topic("never"), s.topic("3"))
			if want := []byte{0, 0x11, 0}; s.v == v5 && !slices.Equal(got.codes, want) {
				c.s.shouldf("the broker answered %#02x; it should answer %#02x", got.codes, want)
			}

			for _, name := range []string{"1", "3", "2"} {
				p.publish(message{topic: s.topic(name), payload: name, qos: 1})
			}

			c.take("2")
			s.fence(p, c)
		},
	},
	"what was on its way is delivered after UNSUBSCRIBE": {
		five: "3.10.4-3", three: "3.10.4-3", also: []byte{v31},
		run: func(s *scene) {
			p, c := s.join("p"), s.stay("c")
			c.subscribe(filter{s.topic("x"), 2})
			p.publish(message{topic: s.topic("x"), payload: "1", qos: 1})
			p.publish(message{topic: s.topic("x"), payload: "2", qos: 2})
			one, two := c.receive("1"), c.receive("2")
			c.unsubscribe(s.topic("x"))
			c.send(ack(typePubrec, two.id))
			c.acked(typePubrel, two.id)
			c.drop()

			c = s.back("c")
			if again := c.receive("1"); again.id != one.id || !again.dup() {
				c.failf("the broker sent %v", again)
			}

			c.acked(typePubrel, two.id)
		},
	},
	"no local keeps a client's own messages away": {
		five: "3.8.4-3",
		run: func(s *scene) {
			a, b := s.join("a"), s.join("b")
			a.subscribe(filter{s.topic("x"), 1 | noLocal})
			a.publish(message{topic: s.topic("x"), payload: "mine", qos: 1})
			b.publish(message{topic: s.topic("x"), payload: "yours", qos: 1})
			a.take("yours")
			a.subscribe(filter{s.topic("x"), 1})
			a.publish(message{topic: s.topic("x"), payload: "mine", qos: 1})
			a.take("mine")
		},
	},
	"overlapping subscriptions get the highest QoS": {
		five: "3.3.4-2", three: "3.3.5-1", also: []byte{v31},
		run: func(s *scene) {
			p, c := s.join("p"), s.join("c")
			c.subscribe(filter{s.topic("x/#"), 0}, filter{s.topic("x/+"), 2}, filter{s.topic("x/y"), 1})
			p.publish(message{topic: s.topic("x/y"), payload: "1", qos: 2})

			var most byte

			// A broker may send one message or one for each subscription.
			for n := 0; n == 0 || len(c.waiting) > 0; n++ {
				most = max(most, c.take("1").qos())
				c.ping()
			}

			if most != 2 {
				c.failf("the highest QoS is %d", most)
			}
		},
	},
	"overlapping subscriptions give all their identifiers": {
		five: "3.3.4-3 3.3.4-4 3.3.4-5",
		run: func(s *scene) {
			p, c := s.join("p"), s.join("c")
			c.subscribeAs(props{{subscriptionID, number(1)}}, filter{s.topic("x/#"), 0})
			c.subscribeAs(props{{subscriptionID, number(268435455)}}, filter{s.topic("x/+"), 2})
			c.subscribeAs(nil, filter{s.topic("x/y"), 1})
			c.subscribeAs(props{{subscriptionID, number(200)}}, filter{s.topic("z"), 1})
			p.publish(message{topic: s.topic("x/y"), payload: "1", qos: 2})

			var got []any

			for n := 0; n == 0 || len(c.waiting) > 0; n++ {
				got = append(got, c.take("1").props.all(subscriptionID)...)
				c.ping()
			}

			if len(got) != 2 || !slices.Contains(got, any(number(1))) || !slices.Contains(got, any(number(268435455))) {
				c.failf("the identifiers are %v", got)
			}
		},
	},
	"a new subscription has a new identifier, or none": {
		five: "3.3.4-3 3.8.4-3",
		run: func(s *scene) {
			p, c := s.join("p"), s.stay("c")
			c.subscribeAs(props{{subscriptionID, number(1)}}, filter{s.topic("x"), 1})
			c.subscribeAs(props{{subscriptionID, number(2)}}, filter{s.topic("x"), 1})
			c.bye()
			p.publish(message{topic: s.topic("x"), payload: "1", qos: 1})

			c = s.back("c")
			if got := c.take("1").props.all(subscriptionID); !slices.Equal(got, []any{number(2)}) {
				c.failf("the identifiers are %v", got)
			}

			c.subscribeAs(nil, filter{s.topic("x"), 1})
			p.publish(message{topic: s.topic("x"), payload: "2", qos: 1})

			if got := c.take("2").props.all(subscriptionID); got != nil {
				c.failf("the identifiers are %v", got)
			}
		},
	},
	"PINGREQ is answered": {
		five: "3.12.4-1", three: "3.12.4-1", also: []byte{v31},
		run: func(s *scene) {
			c := s.join("a")
			c.send(pingreq(), pingreq(), pingreq())

			for range 3 {
				c.expect(typePingresp)
			}
		},
	},
	"nothing is sent after DISCONNECT, and the connection ends": {
		five: "3.14.4-1 3.14.4-2 3.14.2-1 3.14.2-2",
		run: func(s *scene) {
			p, c := s.join("p"), s.join("c")
			c.subscribe(filter{s.topic("x"), 1})
			c.send(frame(typeSubscribe, 2, u16(1), props{}.bytes())) // no filter
			c.closes(0x82, 0x81)
			p.publish(message{topic: s.topic("x"), payload: "1", qos: 1})
		},
	},
	"who says DISCONNECT is let go": {
		five: "3.14.4-3", three: "3.14.4-3", also: []byte{v31},
		run: func(s *scene) {
			c := s.join("a")
			m := message{topic: s.topic("x"), payload: "late"}
			c.send(disconnect(s.v, 0, nil), m.bytes(s.v), pingreq())
			c.ends()
		},
	},
}

var sharedCases = map[string]scenario{
	"members of a share take turns, and each message goes to one": {
		five: "4.8.2-1 4.8.2-2 4.5.0-1",
		run: func(s *scene) {
			p, a, b, alone := s.join("p"), s.join("a"), s.join("b"), s.join("alone")
			share := filter{"$share/g/" + s.topic("x/+"), 1}
			a.subscribe(share)
			b.subscribe(share)
			alone.subscribe(filter{s.topic("x/1"), 1})

			const count = 12
			for i := range count {
				p.publish(message{topic: s.topic("x/1"), payload: strconv.Itoa(i), qos: 1})
				alone.take(strconv.Itoa(i))
			}

			a.ping()
			b.ping()

			// Acknowledgements reach the publisher before or after the delivery: wait for the rest by what is still missing.
			got := map[string]int{}
			counts := [2]int{}

			s.eventually("every message arrives once", func() bool {
				for i, c := range []*client{a, b} {
					c.ping()

					for len(c.waiting) > 0 {
						m := c.expect(typePublish)
						c.finish(m)

						got[m.payload]++
						counts[i]++
					}
				}

				return len(got) == count
			})

			for payload, n := range got {
				if n != 1 {
					s.failf("message %s came %d times", payload, n)
				}
			}

			if counts[0] == 0 || counts[1] == 0 {
				s.shouldf("the members got %v messages", counts)
			}
		},
	},
	"each share gets its own copy": {
		five: "4.8.2-1",
		run: func(s *scene) {
			p, a, b := s.join("p"), s.join("a"), s.join("b")
			a.subscribe(filter{"$share/g1/" + s.topic("x"), 1})
			b.subscribe(filter{"$share/g2/" + s.topic("x"), 1})
			p.publish(message{topic: s.topic("x"), payload: "1", qos: 1})
			a.take("1")
			b.take("1")
			a.unsubscribe("$share/g1/" + s.topic("x"))
			p.publish(message{topic: s.topic("x"), payload: "2", qos: 1})
			b.take("2")
			s.fence(p, a)
		},
	},
	"a share is no other subscription of the same filter": {
		five: "4.8.2-1 3.8.4-3",
		run: func(s *scene) {
			p, a := s.join("p"), s.join("a")
			a.subscribe(filter{"$share/g/" + s.topic("x"), 1}, filter{s.topic("x"), 1})
			p.publish(message{topic: s.topic("x"), payload: "1", qos: 1})
			a.take("1")
			a.take("1")
			a.unsubscribe(s.topic("x"))
			p.publish(message{topic: s.topic("x"), payload: "2", qos: 1})
			a.take("2")
			s.fence(p, a)
		},
	},
	"a share gets nothing that is retained": {
		also: []byte{v5}, // section 4.8.2, without a number
		run: func(s *scene) {
			p, a := s.join("p"), s.join("a")
			p.publish(message{topic: s.topic("x"), payload: "1", qos: 1, retain: true})
			a.subscribe(filter{"$share/g/" + s.topic("x"), 1})
			s.fence(p, a)
		},
	},
	"a share's member gets the QoS that it was granted": {
		five: "4.8.2-3",
		run: func(s *scene) {
			p, a := s.join("p"), s.join("a")
			for granted := range byte(3) {
				a.subscribe(filter{"$share/g/" + s.topic("x"), granted})
				p.publish(message{topic: s.topic("x"), payload: "1", qos: 2})

				if got := a.take("1"); got.qos() != granted {
					a.failf("granted %d, the broker sent %v", granted, got)
				}
			}
		},
	},
	"a share with a bad name is refused": {
		five: "4.8.2-1 4.8.2-2",
		run: func(s *scene) {
			for _, name := range []string{"$share/", "$share/g", "$share/g/", "$share//x", "$share/g+/x", "$share/+/x", "$share/g#/x", "$share/#", "$share/g/x#"} {
				c := s.join("a")
				c.send(subscribe(s.v, 1, nil, filter{name, 0}))
				c.refusedFilter()
			}
		},
	},
	"a message of QoS 2 stays with the member that it was sent to": {
		five: "4.8.2-4",
		run: func(s *scene) {
			p, a, b := s.join("p"), s.stay("a"), s.join("b")
			share := filter{"$share/g/" + s.topic("x"), 2}
			a.subscribe(share)
			p.publish(message{topic: s.topic("x"), payload: "1", qos: 2})
			first := a.receive("1")
			b.subscribe(share)
			a.drop()
			s.fence(p, b)

			a = s.back("a")

			again := a.receive("1")
			if again.id != first.id {
				a.failf("first %v, then %v", first, again)
			}

			a.finish(again)
		},
	},
	"a message of QoS 2 whose member's session ends goes to nobody else": {
		five: "4.8.2-5",
		run: func(s *scene) {
			p, a, b := s.join("p"), s.join("a"), s.join("b")
			share := filter{"$share/g/" + s.topic("x"), 2}
			a.subscribe(share)
			p.publish(message{topic: s.topic("x"), payload: "1", qos: 2})
			a.receive("1")
			b.subscribe(share)
			a.bye()
			s.fence(p, b)
		},
	},
	"a message that its member refuses goes to nobody else": {
		five: "4.8.2-6 4.4.0-2",
		run: func(s *scene) {
			p, a, b := s.join("p"), s.join("a"), s.join("b")
			share := filter{"$share/g/" + s.topic("x"), 2}
			a.subscribe(share)

			for qos, typ := range map[byte]byte{1: typePuback, 2: typePubrec} {
				p.publish(message{topic: s.topic("x"), payload: "1", qos: qos})

				m := a.receive("1")
				a.send(ack(typ, m.id, 0x80))
				a.free(m.id)
			}

			a.ping()
			b.subscribe(share)
			a.bye()
			s.fence(p, b)
		},
	},
	"a message of QoS 1 whose member leaves may go to another": {
		five: "4.8.2-3",
		run: func(s *scene) {
			p, a, b := s.join("p"), s.join("a"), s.join("b")
			share := filter{"$share/g/" + s.topic("x"), 1}
			a.subscribe(share)
			p.publish(message{topic: s.topic("x"), payload: "1", qos: 1})
			a.receive("1")
			b.subscribe(share)
			a.bye()
			b.ping()

			// The specification lets the broker choose. What comes must be the message.
			b.subscribe(filter{s.topic("end"), 1})
			p.publish(message{topic: s.topic("end"), payload: "end", qos: 1})

			if m := b.expect(typePublish); m.payload == "1" {
				b.finish(m)
				b.take("end")
			} else if m.payload != "end" {
				b.failf("the broker sent %v", m)
			}
		},
	},
}

// refusedFilter wants a SUBSCRIBE of one filter refused: by SUBACK, or with the connection.
func (c *client) refusedFilter() {
	p := c.read(patience)

	switch {
	case p == nil && c.v < v5:
	case p == nil:
		c.s.shouldf("the broker closed without SUBACK or DISCONNECT")
	case p.typ == typeSuback && p.codes[0] >= 0x80:
		if c.v == v5 && p.codes[0] != 0x8F && p.codes[0] != 0x87 {
			c.s.shouldf("the broker refused with %#02x; it should say 0x8F", p.codes[0])
		}
	case p.typ == typeDisconnect && slices.Contains([]byte{0x81, 0x82, 0x8F}, p.code):
		c.ends()
	default:
		c.failf("the broker sent %v", p)
	}
}

// accepts subscribes at QoS 0 and wants it granted.
func (c *client) accepts(name string) { c.subscribe(filter{name, 0}) }

var topicCases = map[string]scenario{
	"filters match as they should": {
		five: "4.7.1-1 4.7.1-2 3.3.2-3", three: "4.7.1-2 4.7.1-3 3.8.3-2 3.3.2-3", also: []byte{v31},
		run: func(s *scene) {
			p := s.join("p")

			for name, want := range map[string]string{
				"a/b":   "a/b",
				"a/#":   "a a/ a/b a/b/c a//b a/b/",
				"a/+":   "a/ a/b",
				"+/b":   "a/b /b A/b",
				"+/+":   "a/ a/b /b A/b",
				"+":     "a",
				"a/+/c": "a/b/c",
				"a/+/+": "a/b/c a//b a/b/",
				"a/+/#": "a/ a/b a/b/c a//b a/b/",
				"/+":    "/b",
				"/#":    "/b",
				"#":     "a a/ a/b a/b/c a//b a/b/ /b A/b",
			} {
				c := s.join("c")
				c.accepts(s.topic(name))

				var expected []string

				for _, topic := range []string{"a", "a/", "a/b", "a/b/c", "a//b", "a/b/", "/b", "A/b"} {
					p.publish(message{topic: s.topic(topic), payload: topic})

					if slices.Contains(strings.Fields(want), topic) {
						expected = append(expected, topic)
					}
				}

				for _, topic := range expected {
					c.take(topic)
				}

				s.fence(p, c)
				c.bye()
			}
		},
	},
	"filters with misplaced wildcards are refused": {
		five: "4.7.1-1 4.7.1-2", three: "4.7.1-2 4.7.1-3 3.8.3-2", also: []byte{v31},
		run: func(s *scene) {
			for _, name := range []string{"a#", "a/#/b", "#/a", "a+", "+a", "a/b+/c", "##", "a/##"} {
				c := s.join("a")
				c.send(subscribe(s.v, 1, nil, filter{s.topic(name), 0}))
				c.refusedFilter()
			}
		},
	},
	"an empty filter is refused": {
		five: "4.7.3-1", three: "4.7.3-1", also: []byte{v31},
		run: func(s *scene) {
			c := s.join("a")
			c.send(subscribe(s.v, 1, nil, filter{"", 0}))
			c.refusedFilter()
		},
	},
	"a wildcard at the beginning does not match a topic that begins with $": {
		five: "4.7.2-1", three: "4.7.2-1", also: []byte{v31},
		run: func(s *scene) {
			p, a, b := s.join("p"), s.join("a"), s.join("b")
			topic := "$test/" + s.prefix + "/x"
			a.accepts("+/" + s.prefix + "/x")
			b.accepts("$test/" + s.prefix + "/+")
			p.send((&message{topic: topic, payload: "1"}).bytes(s.v))
			p.ping()
			b.take("1")
			s.fence(p, a)

			all := s.join("all")
			all.accepts("#")
			p.send((&message{topic: topic, payload: "2"}).bytes(s.v))
			b.take("2")
			p.publish(message{topic: s.topic("end"), payload: "3", qos: 1})

			for {
				m := all.expect(typePublish)
				if strings.HasPrefix(m.topic, "$") && !m.retain() {
					all.failf("# matches: %v", m)
				}

				if m.topic == s.topic("end") {
					return
				}
			}
		},
	},
	"nothing in topics is normalised": {
		five: "4.7.3-4 1.5.4-3", three: "4.7.3-4 1.5.3-3", also: []byte{v31},
		run: func(s *scene) {
			c := s.join("a")
			names := []string{
				"a", "A", "a/", "/a", "a b", " a", "a//b", "a/./b", "a/../b", "%41", "\uFEFFa", "a\uFEFF", "é", "e\u0301",
				"\u200Ba", "\U0001F600", "a\\b", "~",
			}

			for i, name := range names {
				c.subscribeAs(nil, filter{s.topic(name), 0})
				c.publish(message{topic: s.topic(name), payload: strconv.Itoa(i)})

				if p := c.take(strconv.Itoa(i)); p.topic != s.topic(name) {
					c.failf("published to %q, came to %q", s.topic(name), p.topic)
				}
			}

			s.fence(c, c)
		},
	},
	"topics may be as long as a string can be": {
		five: "4.7.3-3", three: "4.7.3-3",
		run: func(s *scene) {
			c := s.join("a")
			name := s.topic(strings.Repeat("x", 65535-len(s.topic(""))))
			c.accepts(name)
			c.publish(message{topic: name, payload: "1"})

			if p := c.take("1"); p.topic != name {
				c.failf("the topic has %d bytes", len(p.topic))
			}
		},
	},
	"a topic may be one character": {
		five: "4.7.3-1", three: "4.7.3-1",
		run: func(s *scene) {
			c := s.join("a")
			c.accepts("/")
			c.publish(message{topic: "/", payload: s.prefix})

			for c.expect(typePublish).payload != s.prefix {
			}
		},
	},
}
