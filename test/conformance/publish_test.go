// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
)

// everything is what a message can carry and a broker must hand on unaltered.
var everything = props{
	{payloadFormat, byte(1)},
	{contentType, "text/plain; ü"},
	{responseTopic, "answer/here"},
	{correlationData, []byte{0, 1, 0xFF}},
	{userProperty, pair{"b", "2"}},
	{userProperty, pair{"a", "1"}},
	{userProperty, pair{"b", "1"}},
	{userProperty, pair{"", ""}},
}

// sameProperties holds a message against everything.
func (c *client) sameProperties(p *packet) {
	for _, x := range everything {
		if diff := cmp.Diff(everything.all(x.id), p.props.all(x.id)); diff != "" {
			c.failf("property %#02x came changed (-sent +received):\n%s", x.id, diff)
		}
	}
}

var publishCases = map[string]scenario{
	"a message reaches whoever subscribed to its topic, and nobody else": {
		five: "3.3.2-3 4.5.0-1 3.3.4-1 4.3.1-1 2.2.1-2", three: "3.3.2-3 4.5.0-1 3.3.4-1 4.3.1-1 2.3.1-5", also: []byte{v31},
		run: func(s *scene) {
			a, b, p := s.join("a"), s.join("b"), s.join("p")
			a.subscribe(filter{s.topic("x/+"), 0})
			b.subscribe(filter{s.topic("y"), 0})
			p.publish(message{topic: s.topic("x/1"), payload: "1"})

			if got := a.take("1"); got.topic != s.topic("x/1") || got.qos() != 0 || got.retain() {
				a.failf("the broker sent %v", got)
			}

			s.fence(p, b)
			p.quiet()
		},
	},
	"a message keeps its payload, byte for byte": {
		five: "3.3.4-1", three: "3.3.4-1", also: []byte{v31},
		run: func(s *scene) {
			c := s.join("a")
			c.subscribe(filter{s.topic("x"), 1})

			for _, payload := range []string{"", "\x00\xff\xfe", strings.Repeat("x", 127), strings.Repeat("y", 20000), strings.Repeat("z", 300000)} {
				c.publish(message{topic: s.topic("x"), payload: payload, qos: 1})
				c.take(payload)
			}
		},
	},
	"a message of QoS 1 is acknowledged with its identifier": {
		five: "3.3.4-1 4.3.2-4 2.2.1-5 3.4.2-1", three: "3.3.4-1 4.3.2-2 2.3.1-6", also: []byte{v31},
		run: func(s *scene) {
			c := s.join("a")
			for _, id := range []uint16{1, 255, 256, 65535} {
				c.publish(message{topic: s.topic("x"), payload: "1", qos: 1, id: id})
			}
		},
	},
	"a message of QoS 2 is received, released and completed with its identifier": {
		five: "3.3.4-1 4.3.3-8 4.3.3-11 2.2.1-5 3.5.2-1 3.7.2-1", three: "3.3.4-1 4.3.3-2 2.3.1-6", also: []byte{v31},
		run: func(s *scene) {
			c := s.join("a")
			for _, id := range []uint16{1, 255, 256, 65535} {
				c.publish(message{topic: s.topic("x"), payload: "1", qos: 2, id: id})
			}
		},
	},
	"an identifier is free again after PUBACK": {
		five: "4.3.2-5", three: "4.3.2-2", also: []byte{v31},
		run: func(s *scene) {
			a, b := s.join("a"), s.join("b")
			b.subscribe(filter{s.topic("x"), 1})
			a.publish(message{topic: s.topic("x"), payload: "1", qos: 1, id: 5})
			a.publish(message{topic: s.topic("x"), payload: "2", qos: 1, id: 5, dup: true})
			b.take("1")
			b.take("2")
		},
	},
	"a message of QoS 2 that comes again before its release is not delivered again": {
		five: "4.3.3-10 4.3.3-8", three: "4.3.3-2", also: []byte{v31},
		run: func(s *scene) {
			a, b := s.join("a"), s.join("b")
			b.subscribe(filter{s.topic("x"), 2})

			m := message{topic: s.topic("x"), payload: "1", qos: 2, id: 5}
			a.send(m.bytes(s.v))
			a.acked(typePubrec, 5)

			m.dup = true
			a.send(m.bytes(s.v))
			a.acked(typePubrec, 5)
			a.release(5)
			b.take("1")
			s.fence(a, b)
		},
	},
	"an identifier is free again after PUBCOMP": {
		five: "4.3.3-12", three: "4.3.3-2", also: []byte{v31},
		run: func(s *scene) {
			a, b := s.join("a"), s.join("b")
			b.subscribe(filter{s.topic("x"), 2})
			a.publish(message{topic: s.topic("x"), payload: "1", qos: 2, id: 5})
			a.publish(message{topic: s.topic("x"), payload: "2", qos: 2, id: 5, dup: true})
			b.take("1")
			b.take("2")
		},
	},
	"a message that was refused leaves its identifier free": {
		five: "4.3.3-9 3.4.2-1 3.5.2-1",
		run: func(s *scene) {
			watch := s.join("watch")
			watch.subscribe(filter{s.topic("x"), 2}, filter{deniedTopic + s.prefix, 2})

			c := s.join("a", at("ruled"))
			for _, qos := range []byte{1, 2} {
				if code := c.offer(message{topic: deniedTopic + s.prefix, payload: "no", qos: qos, id: 7}); code != 0x87 {
					c.failf("the message was not refused: %#02x", code)
				}

				c.publish(message{topic: s.topic("x"), payload: "yes", qos: qos, id: 7})
				watch.take("yes")
			}

			s.fence(watch, watch)
		},
	},
	"a message that was refused is acknowledged or ends the connection": {
		three: "3.3.5-2", also: []byte{v31},
		run: func(s *scene) {
			watch := s.join("watch")
			watch.subscribe(filter{deniedTopic + s.prefix, 2})

			for _, qos := range []byte{0, 1, 2} {
				c := s.join("a", at("ruled"))
				m := message{topic: deniedTopic + s.prefix, payload: "no", qos: qos, id: 7}
				c.send(m.bytes(s.v), pingreq())

				if p := c.read(patience); p != nil && p.typ != typePingresp && p.id != 7 {
					c.failf("the broker sent %v", p)
				}
			}

			s.fence(watch, watch)
		},
	},
	"PUBREL is answered although nobody knows its identifier": {
		five: "4.3.3-11 3.7.2-1", three: "4.3.3-2",
		run: func(s *scene) {
			c := s.join("a")
			c.send(ack(typePubrel, 4321))

			if code := c.acked(typePubcomp, 4321); s.v == v5 && code != 0x92 {
				c.s.shouldf("PUBCOMP has %#02x; it should have 0x92", code)
			}
		},
	},
	"PUBREC is answered although nobody knows its identifier": {
		five: "3.6.2-1 4.3.3-4",
		run: func(s *scene) {
			c := s.join("a")
			c.send(ack(typePubrec, 4321))

			if p := c.await(typePubrel); p.id != 4321 || p.code != 0x92 {
				c.s.shouldf("the broker sent %v; PUBREL should have 0x92", p)
			}
		},
	},
	"acknowledgements that nobody waits for do no harm": {
		five: "4.4.0-1", three: "4.4.0-1",
		run: func(s *scene) {
			c := s.join("a")
			c.send(ack(typePuback, 4321), ack(typePubcomp, 4321))
			c.quiet()
		},
	},
	"DUP is not handed on": {
		five: "3.3.1-3 4.3.2-2 4.3.3-2", three: "3.3.1-3 4.3.2-1 4.3.3-1", also: []byte{v31},
		run: func(s *scene) {
			a, b := s.join("a"), s.join("b")
			b.subscribe(filter{s.topic("x"), 2})

			for _, qos := range []byte{1, 2} {
				a.publish(message{topic: s.topic("x"), payload: "1", qos: qos, dup: true})

				if p := b.take("1"); p.dup() {
					b.failf("the broker sent %v", p)
				}
			}
		},
	},
	"a message has the lower of its own QoS and the granted one": {
		five: "3.8.4-8 3.8.4-7 3.3.1-2", three: "3.8.4-6 3.3.1-2", also: []byte{v31},
		run: func(s *scene) {
			p := s.join("p")

			for granted := range byte(3) {
				c := s.join(fmt.Sprintf("s%d", granted))
				c.subscribe(filter{s.topic("x"), granted})

				for qos := range byte(3) {
					p.publish(message{topic: s.topic("x"), payload: strconv.Itoa(int(qos)), qos: qos})

					if got := c.take(strconv.Itoa(int(qos))); got.qos() != min(qos, granted) || got.dup() {
						c.failf("granted %d, published %d: the broker sent %v", granted, qos, got)
					}
				}

				c.bye()
			}
		},
	},
	"a message keeps all its properties, and user properties their order": {
		five: "3.3.2-4 3.3.2-15 3.3.2-16 3.3.2-17 3.3.2-18 3.3.2-20",
		run: func(s *scene) {
			a, b := s.join("a"), s.stay("b")
			b.subscribe(filter{s.topic("x"), 1})
			a.publish(message{topic: s.topic("x"), payload: "live", qos: 1, props: everything})
			b.sameProperties(b.take("live"))
			b.bye()
			a.publish(message{topic: s.topic("x"), payload: "queued", qos: 1, props: everything, retain: true})
			b = s.back("b")
			b.sameProperties(b.take("queued"))

			late := s.join("late")
			late.subscribe(filter{s.topic("x"), 0})
			late.sameProperties(late.take("queued"))
		},
	},
	"a payload format of 0 is handed on too": {
		five: "3.3.2-4",
		run: func(s *scene) {
			c := s.join("a")
			c.subscribe(filter{s.topic("x"), 0})
			c.publish(message{topic: s.topic("x"), payload: "\xff", props: props{{payloadFormat, byte(0)}}})

			if p := c.take("\xff"); p.props.get(payloadFormat) != byte(0) {
				c.s.shouldf("the broker sent %v without its payload format", p)
			}
		},
	},
	"a message that expired is not delivered": {
		five: "3.3.2-5 3.3.2-6",
		run: func(s *scene) {
			a, b := s.stay("a"), s.join("b")
			a.subscribe(filter{s.topic("x"), 1})
			a.bye()
			b.publish(message{topic: s.topic("x"), payload: "short", qos: 1, props: props{{messageExpiry, uint32(1)}}})
			b.publish(message{topic: s.topic("x"), payload: "long", qos: 1, props: props{{messageExpiry, uint32(600)}}})
			b.publish(message{topic: s.topic("r"), payload: "short", qos: 1, retain: true, props: props{{messageExpiry, uint32(1)}}})
			time.Sleep(2500 * time.Millisecond)

			a = s.back("a")

			left, _ := a.take("long").props.get(messageExpiry).(uint32)
			if left < 590 || left > 598 {
				a.failf("the message waited for more than 2 of its 600 seconds, and has %d left", left)
			}

			b.subscribe(filter{s.topic("r"), 0})
			s.fence(b, b)
		},
	},
	"a message with an expiry has it when it is delivered at once": {
		five: "3.3.2-6",
		run: func(s *scene) {
			c := s.join("a")
			c.subscribe(filter{s.topic("x"), 1})
			c.publish(message{topic: s.topic("x"), payload: "1", qos: 1, props: props{{messageExpiry, uint32(600)}}})

			if left, _ := c.take("1").props.get(messageExpiry).(uint32); left != 600 && left != 599 {
				c.failf("it has %d seconds left", left)
			}
		},
	},
	"a message that was sent does not expire": {
		five: "4.3.3-7 4.3.3-13",
		run: func(s *scene) {
			a, b := s.stay("a"), s.join("b")
			a.subscribe(filter{s.topic("x"), 2})
			b.publish(message{topic: s.topic("x"), payload: "1", qos: 2, props: props{{messageExpiry, uint32(1)}}})

			p := a.receive("1")
			a.drop()
			time.Sleep(2 * time.Second)

			a = s.back("a")

			again := a.receive("1")
			if again.id != p.id || !again.dup() {
				a.failf("first %v, then %v", p, again)
			}

			a.finish(again)
		},
	},
	"a message of QoS 2 is completed although it expired meanwhile": {
		five: "4.3.3-13 4.3.3-7",
		run: func(s *scene) {
			a, b := s.join("a"), s.join("b")
			a.subscribe(filter{s.topic("x"), 2})

			m := message{topic: s.topic("x"), payload: "1", qos: 2, id: 3, props: props{{messageExpiry, uint32(1)}}}
			b.send(m.bytes(s.v))
			b.acked(typePubrec, 3)
			time.Sleep(2 * time.Second)
			b.release(3)

			// It may have been handed on at once, or have expired before it was.
			a.ping()

			if len(a.waiting) > 0 {
				a.take("1")
			}
		},
	},
}

var qosCases = map[string]scenario{
	"what was not acknowledged comes again after a return, and never before": {
		five:  "3.3.1-1 4.4.0-1 4.3.2-3 4.3.3-3 4.3.2-1 4.3.3-1 4.6.0-1",
		three: "3.3.1-1 4.4.0-1 4.3.2-1 4.3.3-1 2.3.1-3 2.3.1-4 4.6.0-1", also: []byte{v31},
		run: func(s *scene) {
			a, b := s.stay("a"), s.join("b")
			a.subscribe(filter{s.topic("x"), 2})

			var first []*packet

			for i := range 4 {
				payload := strconv.Itoa(i)
				b.publish(message{topic: s.topic("x"), payload: payload, qos: byte(1 + i%2)})

				p := a.receive(payload)
				if p.dup() {
					a.failf("the broker sent %v for the first time", p)
				}

				first = append(first, p)
			}

			time.Sleep(1500 * time.Millisecond)
			a.quiet()
			a.drop()

			a = s.back("a")

			for i, want := range first {
				p := a.receive(strconv.Itoa(i))
				if p.id != want.id || p.qos() != want.qos() || !p.dup() {
					a.failf("first %v, then %v", want, p)
				}
			}

			for _, p := range first {
				a.finish(p)
			}

			a.bye()
			s.fence(b, s.back("a"))
		},
	},
	"what was received is released again after a return, and not sent again": {
		five: "4.3.3-5 4.3.3-6 4.3.3-4 4.4.0-1 2.2.1-5", three: "4.3.3-1 4.4.0-1 2.3.1-3 2.3.1-6", also: []byte{v31},
		run: func(s *scene) {
			a, b := s.stay("a"), s.join("b")
			a.subscribe(filter{s.topic("x"), 2})
			b.publish(message{topic: s.topic("x"), payload: "1", qos: 2})

			p := a.receive("1")
			a.send(ack(typePubrec, p.id))

			if rel := a.await(typePubrel); rel.id != p.id {
				a.failf("the broker sent %v", rel)
			}

			a.quiet()
			a.drop()

			a = s.back("a")
			if rel := a.expect(typePubrel); rel.id != p.id {
				a.failf("the broker sent %v", rel)
			}

			a.quiet()
			a.send(ack(typePubcomp, p.id))
			a.bye()
			s.fence(b, s.back("a"))
		},
	},
	"what a client refused is not sent again": {
		five: "4.4.0-2",
		run: func(s *scene) {
			a, b := s.stay("a"), s.join("b")
			a.subscribe(filter{s.topic("x"), 2})

			for qos, typ := range map[byte]byte{1: typePuback, 2: typePubrec} {
				b.publish(message{topic: s.topic("x"), payload: "1", qos: qos})

				p := a.receive("1")
				a.send(ack(typ, p.id, 0x80))
				a.free(p.id)
			}

			a.quiet() // above all no PUBREL
			a.drop()
			s.fence(b, s.back("a"))
		},
	},
	"each message in flight has an identifier of its own": {
		five: "2.2.1-4 4.3.2-1 4.3.3-1", three: "2.3.1-4 2.3.1-1 4.3.2-1 4.3.3-1", also: []byte{v31},
		run: func(s *scene) {
			a, b := s.join("a"), s.join("b")
			a.subscribe(filter{s.topic("x"), 2})

			for i := range 10 {
				b.publish(message{topic: s.topic("x"), payload: strconv.Itoa(i), qos: byte(1 + i%2)})
				a.receive(strconv.Itoa(i)) // check counts identifiers
			}
		},
	},
	"messages come in the order in which they were published": {
		five: "4.6.0-5 4.6.0-6", three: "4.6.0-5 4.6.0-6", also: []byte{v31},
		run: func(s *scene) {
			for qos := range byte(3) {
				a, b := s.join("a"), s.join("b")
				a.subscribe(filter{s.topic("x/#"), qos})

				const count, window = 60, 15

				for at := 0; at < count; at += window {
					for i := range window {
						m := message{topic: s.topic("x/y"), payload: strconv.Itoa(at + i), qos: qos, id: uint16(at + i + 1)}
						b.send(m.bytes(s.v))
					}

					for i := range window {
						id := uint16(at + i + 1)

						switch qos {
						case 1:
							b.acked(typePuback, id)
						case 2:
							b.acked(typePubrec, id)
							b.release(id)
						}
					}
				}

				for i := range count {
					a.take(strconv.Itoa(i))
				}
			}
		},
	},
	"acknowledgements leave in the order of the messages": {
		five: "4.6.0-2 4.6.0-3", three: "4.6.0-2 4.6.0-3 4.6.0-6", also: []byte{v31},
		run: func(s *scene) {
			c := s.stay("a")
			c.subscribe(filter{s.topic("no"), 0})

			ids := []uint16{9, 3, 7, 1, 5}
			for qos, typ := range map[byte]byte{1: typePuback, 2: typePubrec} {
				for _, id := range ids {
					m := message{topic: s.topic("x"), payload: "1", qos: qos, id: id, retain: id == 7}
					c.send(m.bytes(s.v))
				}

				for _, id := range ids {
					c.acked(typ, id)
				}
			}
		},
	},
	"releases leave in the order of the receipts": {
		five: "4.6.0-4", three: "4.6.0-4 4.6.0-6", also: []byte{v31},
		run: func(s *scene) {
			a, b := s.stay("a"), s.join("b")
			a.subscribe(filter{s.topic("x"), 2})

			var ids []uint16

			for i := range 5 {
				b.publish(message{topic: s.topic("x"), payload: strconv.Itoa(i), qos: 2})
				ids = append(ids, a.receive(strconv.Itoa(i)).id)
			}

			for _, id := range ids {
				a.send(ack(typePubrec, id))
			}

			for _, id := range ids {
				a.acked(typePubrel, id)
			}

			a.drop()
			a = s.back("a")

			for _, id := range ids {
				a.acked(typePubrel, id)
			}
		},
	},
	"a queue is delivered in order": {
		five: "4.6.0-5 4.6.0-1", three: "4.6.0-6 4.6.0-1", also: []byte{v31},
		run: func(s *scene) {
			a, b := s.stay("a"), s.join("b")
			a.subscribe(filter{s.topic("x"), 2})
			a.bye()

			const count = 50
			for i := range count {
				b.publish(message{topic: s.topic("x"), payload: strconv.Itoa(i), qos: byte(1 + i%2)})
			}

			a = s.back("a")

			got := map[byte][]int{}

			for range count {
				p := a.expect(typePublish)

				var n int
				if _, err := fmt.Sscan(p.payload, &n); err != nil {
					a.failf("%v: %v", p, err)
				}

				got[p.qos()] = append(got[p.qos()], n)

				a.finish(p)
			}

			// Order is promised for one QoS.
			if !slices.IsSorted(got[1]) || !slices.IsSorted(got[2]) {
				a.failf("the order is %v", got)
			}
		},
	},
}

var retainCases = map[string]scenario{
	"a retained message replaces the one before it and meets later subscribers": {
		five: "3.3.1-5 3.3.1-9", three: "3.3.1-5 3.3.1-6 3.3.1-8", also: []byte{v31},
		run: func(s *scene) {
			p := s.join("p")
			p.publish(message{topic: s.topic("x/1"), payload: "old", qos: 1, retain: true})
			p.publish(message{topic: s.topic("x/1"), payload: "new", qos: 1, retain: true})

			for i, name := range []string{s.topic("x/1"), s.topic("x/+"), s.topic("x/#"), s.topic("+/1")} {
				c := s.join(fmt.Sprintf("s%d", i))
				c.subscribe(filter{name, 1})

				if got := c.take("new"); !got.retain() || got.qos() != 1 {
					c.failf("the broker sent %v", got)
				}

				s.fence(p, c)
			}
		},
	},
	"a retained message of QoS 0 replaces the one before it": {
		five: "3.3.1-5", three: "3.3.1-7", also: []byte{v31},
		run: func(s *scene) {
			p, c := s.join("p"), s.join("c")
			p.publish(message{topic: s.topic("x"), payload: "old", qos: 1, retain: true})
			p.publish(message{topic: s.topic("x"), payload: "new", retain: true})
			c.subscribe(filter{s.topic("x"), 1})
			c.take("new")
			s.fence(p, c)
		},
	},
	"an empty retained message is delivered, removes what was retained, and is not retained": {
		five: "3.3.1-6 3.3.1-7", three: "3.3.1-10 3.3.1-11", also: []byte{v31},
		run: func(s *scene) {
			p, live, late := s.join("p"), s.join("live"), s.join("late")
			p.publish(message{topic: s.topic("x"), payload: "old", qos: 1, retain: true})
			live.subscribe(filter{s.topic("x"), 1})
			live.take("old")
			p.publish(message{topic: s.topic("x"), qos: 1, retain: true})
			live.take("")
			late.subscribe(filter{s.topic("x"), 1})
			s.fence(p, late)
		},
	},
	"a message that is not retained changes nothing that is": {
		five: "3.3.1-8", three: "3.3.1-12", also: []byte{v31},
		run: func(s *scene) {
			p, c := s.join("p"), s.join("c")
			p.publish(message{topic: s.topic("x"), payload: "kept", qos: 1, retain: true})
			p.publish(message{topic: s.topic("x"), payload: "passing", qos: 1})
			p.publish(message{topic: s.topic("x"), qos: 1})
			p.publish(message{topic: s.topic("y"), payload: "passing", qos: 1})
			c.subscribe(filter{s.topic("x"), 1}, filter{s.topic("y"), 1})
			c.take("kept")
			s.fence(p, c)
		},
	},
	"a retained message reaches a subscriber that is there without RETAIN": {
		five: "3.3.1-12", three: "3.3.1-9", also: []byte{v31},
		run: func(s *scene) {
			p, c := s.join("p"), s.join("c")
			c.subscribe(filter{s.topic("x"), 1})
			p.publish(message{topic: s.topic("x"), payload: "1", qos: 1, retain: true})

			if got := c.take("1"); got.retain() {
				c.failf("the broker sent %v", got)
			}
		},
	},
	"retain as published keeps RETAIN as it was": {
		five: "3.3.1-13 3.3.1-12",
		run: func(s *scene) {
			p, c := s.join("p"), s.join("c")
			c.subscribe(filter{s.topic("x"), 1 | retainAsPublished})

			for _, retain := range []bool{true, false} {
				p.publish(message{topic: s.topic("x"), payload: "1", qos: 1, retain: retain})

				if got := c.take("1"); got.retain() != retain {
					c.failf("published with %t, the broker sent %v", retain, got)
				}
			}
		},
	},
	"retain handling 0 sends what is retained at each SUBSCRIBE": {
		five: "3.3.1-9 3.8.4-4", three: "3.8.4-3 3.3.1-6", also: []byte{v31},
		run: func(s *scene) {
			p, c := s.join("p"), s.join("c")
			p.publish(message{topic: s.topic("x"), payload: "kept", qos: 1, retain: true})

			for range 2 {
				c.subscribe(filter{s.topic("x"), 1})

				if got := c.take("kept"); !got.retain() {
					c.failf("the broker sent %v", got)
				}
			}

			s.fence(p, c)
		},
	},
	"retain handling 1 sends what is retained at the first SUBSCRIBE": {
		five: "3.3.1-10",
		run: func(s *scene) {
			p, c := s.join("p"), s.stay("c")
			p.publish(message{topic: s.topic("x"), payload: "kept", qos: 1, retain: true})
			c.subscribe(filter{s.topic("x"), 1 | sendIfNew})
			c.take("kept")
			c.subscribe(filter{s.topic("x"), 1 | sendIfNew})
			s.fence(p, c)
			c.bye()

			c = s.back("c")
			c.subscribe(filter{s.topic("x"), 1 | sendIfNew})
			s.fence(p, c)
			c.unsubscribe(s.topic("x"))
			c.subscribe(filter{s.topic("x"), 1 | sendIfNew})
			c.take("kept")
		},
	},
	"retain handling 2 sends nothing that is retained": {
		five: "3.3.1-11",
		run: func(s *scene) {
			p, c := s.join("p"), s.join("c")
			p.publish(message{topic: s.topic("x"), payload: "kept", qos: 1, retain: true})
			c.subscribe(filter{s.topic("x"), 1 | sendNever})
			s.fence(p, c)
		},
	},
	"a retained message has the lower of its own QoS and the granted one": {
		five: "3.8.4-8", three: "3.8.4-6",
		run: func(s *scene) {
			p := s.join("p")
			p.publish(message{topic: s.topic("x"), payload: "1", qos: 1, retain: true})

			for granted := range byte(3) {
				c := s.join("c")
				c.subscribe(filter{s.topic("x"), granted})

				if got := c.take("1"); got.qos() != min(1, granted) || got.dup() {
					c.failf("granted %d, the broker sent %v", granted, got)
				}

				c.bye()
			}
		},
	},
	"a retained message has the identifier of the subscription that it answers": {
		five: "3.3.4-3",
		run: func(s *scene) {
			p, c := s.join("p"), s.join("c")
			p.publish(message{topic: s.topic("x"), payload: "1", qos: 1, retain: true})
			c.subscribeAs(props{{subscriptionID, number(300)}}, filter{s.topic("x"), 1})

			if got := c.take("1"); got.props.get(subscriptionID) != number(300) {
				c.failf("the broker sent %v", got)
			}
		},
	},
}
