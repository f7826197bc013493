// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"bytes"
	"io"
	"strings"
	"time"
)

var connectCases = map[string]scenario{
	"the first packet must be CONNECT": {
		five: "3.1.0-1 3.14.0-1 4.13.1-1", three: "3.1.0-1", also: []byte{v31},
		run: func(s *scene) {
			m := message{topic: s.topic("a"), payload: "x"}

			for _, first := range [][]byte{pingreq(), m.bytes(s.v), subscribe(s.v, 1, nil, filter{s.topic("a"), 0}), disconnect(s.v, 0, nil)} {
				c := s.dial("open")
				c.send(first)
				c.ends()
			}
		},
	},
	"a second CONNECT ends the connection": {
		five: "3.1.0-2 4.13.1-1", three: "3.1.0-2", also: []byte{v31},
		run: func(s *scene) {
			c := s.join("a")
			k := connect{version: s.v, id: s.id("a"), clean: true}
			c.send(k.bytes())
			c.closes(0x82)
		},
	},
	"another protocol name is not served": {
		five: "3.1.2-1", three: "3.1.2-1", also: []byte{v31},
		run: func(s *scene) {
			for _, name := range []string{"MQTX", "mqtt", "MQTTT", ""} {
				k := connect{version: s.v, protocol: name, id: s.id("a"), clean: true}
				if name == "" {
					k.payload = func(b []byte) []byte { return b }
				}

				wire := k.bytes()
				if name == "" {
					wire = frame(typeConnect, 0, text(""), []byte{s.v, 2, 0, 0}, text(s.id("a")))
				}

				c := s.dial("open")
				c.send(wire)
				c.unserved()
			}
		},
	},
	"a protocol version that does not exist is refused": {
		five: "3.1.2-2", three: "3.1.2-2", also: []byte{v31},
		run: func(s *scene) {
			for _, version := range []byte{0, 2, 6, 127} {
				k := connect{version: version, protocol: "MQTT", id: s.id("a"), clean: true}
				c := s.dial("open")
				c.send(k.bytes())
				c.until(time.Now().Add(patience))

				// Nobody can know in which version's form the answer to an unknown version comes.
				answer, err := io.ReadAll(c.r)
				if err != nil && len(answer) == 0 && !strings.Contains(err.Error(), "reset") {
					c.failf("version %d: %v", version, err)
				}

				if !bytes.Equal(answer, []byte{0x20, 2, 0, 1}) && !bytes.HasPrefix(answer, []byte{0x20, 3, 0, 0x84}) && !(len(answer) > 3 && answer[0] == 0x20 && answer[3] == 0x84) {
					c.failf("version %d: the broker answered % x", version, answer)
				}
			}
		},
	},
	"MQIsdp is version 3.1 and MQTT is not": {
		also: []byte{v31},
		run: func(s *scene) {
			s.join("a").ping()

			c := s.dial("open")
			k := connect{version: v31, protocol: "MQTT", id: s.id("b"), clean: true}
			c.send(k.bytes())
			c.refuses(1)
		},
	},
	"version 3.1 needs a client identifier": {
		also: []byte{v31},
		run: func(s *scene) {
			c := s.dial("open")
			k := connect{version: v31, clean: true}
			c.send(k.bytes())
			c.refuses(2)
		},
	},
	"the answer to CONNECT comes first and once": {
		five: "3.2.0-1 3.2.0-2 3.1.4-5 3.2.2-1 3.2.2-8 2.2.2-1", three: "3.2.0-1 3.1.4-4", also: []byte{v31},
		run: func(s *scene) {
			k := connect{version: s.v, id: s.id("a"), clean: true}
			m := message{topic: s.topic("a"), payload: "x", qos: 1, id: 2}
			c := s.dial("open")
			c.send(k.bytes(), subscribe(s.v, 1, nil, filter{s.topic("a"), 1}), m.bytes(s.v))

			if p := c.expect(typeConnack); p.code != 0 || p.sessionPresent {
				c.failf("the broker sent %v", p)
			}

			c.await(typeSuback)
			c.await(typePuback)
			c.take("x")
			c.quiet()
		},
	},
	"a client that is owed messages is greeted first": {
		five: "3.2.0-1", three: "3.2.0-1", also: []byte{v31},
		run: func(s *scene) {
			a, b := s.stay("a"), s.join("b")
			a.subscribe(filter{s.topic("x"), 1})
			a.bye()
			b.publish(message{topic: s.topic("x"), payload: "1", qos: 1})

			s.back("a") // takes nothing but CONNACK as the first packet
		},
	},
	"identifiers of 1 to 23 letters and digits are taken": {
		five: "3.1.3-3 3.1.3-2", three: "3.1.3-5 3.1.3-3", also: []byte{v31},
		run: func(s *scene) {
			long := s.prefix + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
			own := string('0' + rune(s.v)) // the versions run side by side

			for _, id := range []string{own, string('A' + rune(s.v)), string('a' + rune(s.v)), long[:23], own + "0123456789abcdefghijkl", own + "mnopqrstuvwxyzABCDEFGH"} {
				c := s.dial("open")
				if p := c.connect(connect{id: id, clean: true}); s.v == v5 && p.props.get(assignedClientID) != nil {
					c.failf("the broker gave another identifier: %v", p)
				}

				c.bye()
			}
		},
	},
	"an empty identifier is replaced by a unique one": {
		five: "3.1.3-4 3.1.3-6 3.1.3-7 3.2.2-16",
		run: func(s *scene) {
			seen := map[string]bool{}

			for range 3 {
				c := s.dial("open")
				p := c.connect(connect{clean: true, props: props{{sessionExpiry, uint32(60)}}})

				id, _ := p.props.get(assignedClientID).(string)
				if id == "" || seen[id] {
					c.failf("the broker assigned %q", id)
				}

				seen[id] = true

				c.drop()

				again := s.dial("open")
				if !again.connect(connect{id: id, props: props{{sessionExpiry, uint32(0)}}}).sessionPresent {
					again.failf("the session is not known by the identifier that was assigned")
				}
			}
		},
	},
	"an empty identifier with a clean session is served": {
		three: "3.1.3-6",
		run: func(s *scene) {
			a, b := s.dial("open"), s.dial("open")
			a.connect(connect{clean: true})
			b.connect(connect{clean: true})
			a.ping()
			b.ping()
		},
	},
	"an empty identifier without a clean session is refused": {
		three: "3.1.3-8 3.1.3-9 3.2.2-4 3.2.2-5",
		run: func(s *scene) {
			c := s.dial("open")
			k := connect{version: s.v}
			c.send(k.bytes())
			c.refuses(2)
		},
	},
	"an identifier that is refused ends the connection": {
		five: "3.1.3-5 3.1.3-8",
		run: func(s *scene) {
			// A broker may take every identifier. One of the longest possible is the likeliest to be refused.
			k := connect{version: s.v, id: strings.Repeat("a", 65535), clean: true}
			c := s.dial("open")
			c.send(k.bytes())

			p := c.read(patience)

			switch {
			case p == nil:
			case p.typ != typeConnack:
				c.failf("the broker sent %v", p)
			case p.code == 0:
				c.ping()
			case p.code != 0x85 && p.code != 0x95:
				c.failf("the broker sent %v", p)
			default:
				c.ends()
			}
		},
	},
	"the same identifier ends the connection that had it": {
		five: "3.1.4-3 3.1.3-2", three: "3.1.4-2 3.1.3-2", also: []byte{v31},
		run: func(s *scene) {
			first := s.join("a")
			second := s.join("a")
			first.closes(0x8E)
			second.ping()

			other := s.join("b")
			other.subscribe(filter{s.topic("x"), 0})
			second.publish(message{topic: s.topic("x"), payload: "1"})
			other.take("1")
		},
	},
	"whoever takes a session over has its subscriptions": {
		five: "3.1.4-3 3.1.2-5 3.2.2-3", three: "3.1.4-2 3.1.2-4 3.2.2-2", also: []byte{v31},
		run: func(s *scene) {
			first := s.stay("a")
			first.subscribe(filter{s.topic("x"), 1})

			second := s.back("a")
			first.closes(0x8E)

			s.join("b").publish(message{topic: s.topic("x"), payload: "1", qos: 1})
			second.take("1")
		},
	},
	"who may not come in is told so, and nothing more that it sent counts": {
		five: "3.1.4-2 3.1.4-6 3.2.2-6 3.2.2-7 3.2.2-8 4.13.2-1 3.14.0-1", three: "3.1.4-5 3.2.2-4 3.2.2-5", also: []byte{v31},
		run: func(s *scene) {
			watch := s.join("watch")
			watch.subscribe(filter{s.topic("#"), 1})

			k := connect{version: s.v, id: s.id("b"), clean: true, will: &will{topic: s.topic("will"), payload: "w"}}
			m := message{topic: s.topic("x"), payload: "x"}
			c := s.dial("guarded")
			c.send(k.bytes(), m.bytes(s.v))

			switch p := c.read(patience); {
			case p == nil:
				c.s.shouldf("the broker closed without CONNACK")
			case p.typ != typeConnack || p.code == 0 || s.v < v5 && p.code != 4 && p.code != 5 ||
				s.v == v5 && p.code != 0x86 && p.code != 0x87:
				c.failf("the broker sent %v", p)
			default:
				c.ends()
			}

			s.fence(watch, watch)
		},
	},
	"a client that is silent for one and a half times its keep-alive is gone": {
		five: "3.1.2-11 3.1.2-22 3.2.2-22", three: "3.1.2-24", also: []byte{v31},
		run: func(s *scene) {
			watch := s.join("watch")
			watch.subscribe(filter{s.topic("will"), 0})

			c := s.join("a", keepAlive(1), leaving(will{topic: s.topic("will"), payload: "gone"}))
			live := s.join("b", keepAlive(1))

			for end := time.Now().Add(2500 * time.Millisecond); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
				live.ping()
			}

			live.bye()
			c.closesWithin(2 * patience)
			watch.take("gone") // as if the network had failed
		},
	},
	"any packet keeps a client alive": {
		five: "3.1.2-22", three: "3.1.2-24", also: []byte{v31},
		run: func(s *scene) {
			c := s.join("a", keepAlive(1))
			for end := time.Now().Add(2500 * time.Millisecond); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
				c.send((&message{topic: s.topic("x"), payload: "x"}).bytes(s.v))
			}

			c.ping()
		},
	},
	"a keep-alive of zero is none": {
		five: "3.1.2-22", three: "3.1.2-24",
		run: func(s *scene) {
			c := s.join("a", keepAlive(0))
			time.Sleep(2500 * time.Millisecond)
			c.ping()
		},
	},
	"the server's keep-alive counts, not the client's": {
		five: "3.1.2-21 3.2.2-22",
		run: func(s *scene) {
			c := s.dial("limited")
			p := c.connect(connect{id: s.id("a"), clean: true, keepAlive: 600})

			n, _ := p.props.get(serverKeepAlive).(uint16)
			if n == 0 {
				c.failf("the broker announces no keep-alive: %v", p)
			}

			c.closesWithin(time.Duration(n)*3*time.Second/2 + 3*time.Second)
		},
	},
	"nobody gets response information who did not ask for it": {
		five: "3.1.2-28",
		run: func(s *scene) {
			for _, options := range [][]option{nil, {with(requestResponse, byte(0))}} {
				c := s.dial("open")
				k := connect{id: s.id("a"), clean: true}

				for _, o := range options {
					o(&k)
				}

				if p := c.connect(k); p.props.get(responseInfo) != nil {
					c.failf("the broker sent %v", p)
				}
			}

			s.join("b", with(requestResponse, byte(1))).ping()
		},
	},
	"nobody gets explanations who does not want them": {
		five: "3.1.2-29",
		run: func(s *scene) {
			c := s.join("a", at("ruled"), with(problemInfo, byte(0)))
			c.offer(message{topic: deniedTopic + "x", payload: "1", qos: 1})
			c.offer(message{topic: deniedTopic + "x", payload: "1", qos: 2})
			c.ask(nil, filter{deniedTopic + "x", 1})
			c.unsubscribe(s.topic("none"))
			c.send(ack(typePubrel, 77))
			c.acked(typePubcomp, 77)
			c.send(ack(typePubrec, 78))

			if p := c.await(typePubrel); p.id != 78 {
				c.failf("the broker sent %v", p)
			}
		},
	},
	"every feature that is not denied in CONNACK is there": {
		five: "3.2.2-9 3.2.2-10 3.2.2-12 3.2.2-13",
		run: func(s *scene) {
			c := s.dial("open")
			p := c.connect(connect{id: s.id("a"), clean: true})

			most := byte(2)
			if q, ok := p.props.get(maximumQoS).(byte); ok {
				most = q
			}

			if codes := c.ask(nil, filter{s.topic("0"), 0}, filter{s.topic("1"), 1}, filter{s.topic("2"), 2}).codes; codes[2] > most {
				c.failf("the broker grants %v and can do QoS %d", codes, most)
			}

			w := s.dial("open")
			w.announce(connect{id: s.id("b"), clean: true, will: &will{topic: s.topic("w"), qos: 2, retain: true}})

			retains, said := p.props.get(retainAvailable).(byte)

			switch {
			case most < 2:
				w.refuses(0, 0x9B)
			case said && retains == 0:
				w.refuses(0, 0x9A)
			default:
				if q := w.expect(typeConnack); q.code != 0 {
					w.failf("the broker sent %v", q)
				}
			}
		},
	},
	"an ordered stream of bytes is enough, however it is cut": {
		five: "4.2-1", three: "7.1.1-1 7.0.0-2", also: []byte{v31},
		run: func(s *scene) {
			k := connect{version: s.v, id: s.id("a"), clean: true}
			m := message{topic: s.topic("x"), payload: "x", qos: 1, id: 2}
			c := s.dial("open")

			for _, b := range join(k.bytes(), subscribe(s.v, 1, nil, filter{s.topic("x"), 1}), m.bytes(s.v)) {
				c.send([]byte{b})
			}

			c.expect(typeConnack)
			c.await(typeSuback)
			c.await(typePuback)
			c.take("x")
		},
	},
}

var willCases = map[string]scenario{
	"a will is published when the connection breaks, as the client wrote it": {
		five: "3.1.2-6 3.1.2-9 3.1.2-14", three: "3.1.2-8 3.1.2-9 3.1.2-16", also: []byte{v31},
		run: func(s *scene) {
			watch := s.join("watch")
			watch.subscribe(filter{s.topic("will"), 2})

			for qos := range byte(3) {
				c := s.join("a", leaving(will{topic: s.topic("will"), payload: "gone", qos: qos}))
				c.drop()

				if p := watch.take("gone"); p.qos() != qos || p.retain() {
					watch.failf("the broker sent %v", p)
				}
			}

			late := s.join("late")
			late.subscribe(filter{s.topic("will"), 2})
			s.fence(late, late)
		},
	},
	"a will may be empty": {
		five: "3.1.2-9", three: "3.1.2-9",
		run: func(s *scene) {
			watch := s.join("watch")
			watch.subscribe(filter{s.topic("will"), 0})
			s.join("a", leaving(will{topic: s.topic("will")})).drop()
			watch.take("")
		},
	},
	"a retained will is retained": {
		five: "3.1.2-15", three: "3.1.2-17", also: []byte{v31},
		run: func(s *scene) {
			watch := s.join("watch")
			watch.subscribe(filter{s.topic("will"), 1})
			s.join("a", leaving(will{topic: s.topic("will"), payload: "gone", qos: 1, retain: true})).drop()
			watch.take("gone")

			late := s.join("late")
			late.subscribe(filter{s.topic("will"), 1})

			if p := late.take("gone"); !p.retain() {
				late.failf("the broker sent %v", p)
			}
		},
	},
	"who leaves in order leaves no will": {
		five: "3.14.4-3 3.1.2-10", three: "3.14.4-3 3.1.2-10", also: []byte{v31},
		run: func(s *scene) {
			watch := s.join("watch")
			watch.subscribe(filter{s.topic("will"), 0})
			s.join("a", leaving(will{topic: s.topic("will"), payload: "gone"})).bye()
			s.fence(watch, watch)
		},
	},
	"a will is published once": {
		five: "3.1.2-10", three: "3.1.2-10",
		run: func(s *scene) {
			watch := s.join("watch")
			watch.subscribe(filter{s.topic("will"), 0})
			s.stay("a", leaving(will{topic: s.topic("will"), payload: "gone"})).drop()
			watch.take("gone")
			s.back("a").drop()
			s.back("a").bye()
			s.fence(watch, watch)
		},
	},
	"who has no will leaves none": {
		five: "3.1.2-10", three: "3.1.2-12", also: []byte{v31},
		run: func(s *scene) {
			watch := s.join("watch")
			watch.subscribe(filter{s.topic("#"), 0})
			s.join("a").drop()
			s.join("a").bye()
			s.fence(watch, watch)
		},
	},
	"a client may leave with its will": {
		five: "3.14.4-3",
		run: func(s *scene) {
			watch := s.join("watch")
			watch.subscribe(filter{s.topic("will"), 0})
			c := s.join("a", leaving(will{topic: s.topic("will"), payload: "gone"}))
			c.send(disconnect(s.v, 0x04, nil))
			watch.take("gone")
			c.ends()
		},
	},
	"a client that breaks the rules leaves its will": {
		five: "3.1.2-6", three: "3.1.2-8", also: []byte{v31},
		run: func(s *scene) {
			watch := s.join("watch")
			watch.subscribe(filter{s.topic("will"), 0})
			s.join("a", leaving(will{topic: s.topic("will"), payload: "gone"})).send([]byte{0x36, 0})
			watch.take("gone")
		},
	},
	"a client whose session is taken over leaves its will": {
		five: "3.1.2-6", three: "3.1.2-8", also: []byte{v31},
		run: func(s *scene) {
			watch := s.join("watch")
			watch.subscribe(filter{s.topic("will"), 0})
			s.stay("a", leaving(will{topic: s.topic("will"), payload: "gone"}))

			clean := func(k *connect) { k.clean = true }
			s.resume("a", clean)
			watch.take("gone")
		},
	},
	"a will waits for its delay": {
		five: "3.1.3-9",
		run: func(s *scene) {
			watch := s.join("watch")
			watch.subscribe(filter{s.topic("will"), 0})
			s.stay("a", leaving(will{topic: s.topic("will"), payload: "gone", props: props{{willDelay, uint32(2)}}})).drop()
			s.fence(watch, watch)
			watch.take("gone")
		},
	},
	"who is back in time leaves no will": {
		five: "3.1.3-9",
		run: func(s *scene) {
			watch := s.join("watch")
			watch.subscribe(filter{s.topic("will"), 0})
			s.stay("a", leaving(will{topic: s.topic("will"), payload: "gone", props: props{{willDelay, uint32(2)}}})).drop()
			s.back("a")
			time.Sleep(3 * time.Second)
			s.fence(watch, watch)
		},
	},
	"a will does not wait longer than its session lives": {
		five: "3.1.3-9 4.1.0-2",
		run: func(s *scene) {
			watch := s.join("watch")
			watch.subscribe(filter{s.topic("will"), 0})
			c := s.dial("open")
			c.connect(connect{id: s.id("a"), clean: true, props: props{{sessionExpiry, uint32(1)}}, will: &will{
				topic: s.topic("will"), payload: "gone", props: props{{willDelay, uint32(600)}},
			}})
			c.drop()
			watch.take("gone")
		},
	},
	"a new session ends the wait of the old one's will": {
		also: []byte{v5}, // section 3.1.3.2.2, without a number
		run: func(s *scene) {
			watch := s.join("watch")
			watch.subscribe(filter{s.topic("will"), 0})
			s.stay("a", leaving(will{topic: s.topic("will"), payload: "gone", props: props{{willDelay, uint32(600)}}})).drop()
			s.join("a")
			watch.take("gone")
		},
	},
	"a will keeps its properties, and user properties their order": {
		five: "3.1.3-10 3.3.2-4 3.3.2-15 3.3.2-16 3.3.2-17 3.3.2-18 3.3.2-20",
		run: func(s *scene) {
			watch := s.join("watch")
			watch.subscribe(filter{s.topic("will"), 1})
			s.join("a", leaving(will{
				topic: s.topic("will"), payload: "gone", qos: 1, props: everything.with(willDelay, uint32(0)),
			})).drop()
			watch.sameProperties(watch.take("gone"))
		},
	},
	"a will to a topic that is denied is not published": {
		five: "3.1.4-2", three: "3.3.5-2",
		run: func(s *scene) {
			watch := s.join("watch")
			watch.subscribe(filter{deniedTopic + s.prefix, 1})

			c := s.dial("ruled")
			c.announce(connect{id: s.id("a"), clean: true, will: &will{topic: deniedTopic + s.prefix, payload: "w", qos: 1}})

			if p := c.read(patience); p != nil && p.code == 0 {
				c.drop()
			}

			s.join("a").bye()
			s.fence(watch, watch)
		},
	},
}
