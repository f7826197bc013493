// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"strconv"
	"time"
)

var sessionCases = map[string]scenario{
	"a clean start ends the session that was there": {
		five: "3.1.2-4 3.1.4-4 3.2.2-2", three: "3.1.2-6 3.1.4-3 3.2.2-1", also: []byte{v31},
		run: func(s *scene) {
			a, b := s.stay("a"), s.join("b")
			a.subscribe(filter{s.topic("x"), 1})
			a.bye()
			b.publish(message{topic: s.topic("x"), payload: "1", qos: 1})

			clean := func(k *connect) { k.clean = true }

			a, p := s.resume("a", clean)
			if p.sessionPresent {
				a.failf("the old session is present: %v", p)
			}

			b.publish(message{topic: s.topic("x"), payload: "2", qos: 1})
			s.fence(b, a)
		},
	},
	"a session without an expiry ends with its connection": {
		five: "4.1.0-2 3.2.2-2", three: "3.1.2-6 3.2.2-3", also: []byte{v31},
		run: func(s *scene) {
			a := s.join("a")
			a.subscribe(filter{s.topic("x"), 1})
			a.bye()

			if a, p := s.resume("a"); p.sessionPresent {
				a.failf("the old session is present: %v", p)
			}
		},
	},
	"a new session is not called present": {
		five: "3.2.2-3", three: "3.2.2-3", also: []byte{v31},
		run: func(s *scene) { s.stay("a") },
	},
	"a session keeps subscriptions and messages while its client is away": {
		five: "3.1.2-5 3.1.2-23 3.2.2-3 4.5.0-1 3.1.3-2", three: "3.1.2-4 3.1.2-5 3.2.2-2 4.1.0-1 4.5.0-1 3.1.3-2", also: []byte{v31},
		run: func(s *scene) {
			a, b := s.stay("a"), s.join("b")
			a.subscribe(filter{s.topic("1"), 1}, filter{s.topic("2"), 2})
			a.drop()
			b.publish(message{topic: s.topic("1"), payload: "one", qos: 1})
			b.publish(message{topic: s.topic("1"), payload: "one again", qos: 2})
			b.publish(message{topic: s.topic("2"), payload: "two", qos: 2})

			a = s.back("a")
			a.take("one")
			a.take("one again")

			if p := a.take("two"); p.qos() != 2 {
				a.failf("the broker sent %v", p)
			}

			b.publish(message{topic: s.topic("1"), payload: "live", qos: 1})
			a.take("live")
			a.bye()

			a = s.back("a")
			s.fence(b, a) // each message came once
		},
	},
	"a session lasts as long as its connection": {
		five: "4.1.0-1", three: "4.1.0-2 4.1.0-1", also: []byte{v31},
		run: func(s *scene) {
			a, b := s.join("a"), s.join("b")
			a.subscribe(filter{s.topic("x"), 1})

			for i := range 3 {
				b.publish(message{topic: s.topic("x"), payload: strconv.Itoa(i), qos: 1})
				a.take(strconv.Itoa(i))
			}
		},
	},
	"a session ends when its expiry has passed": {
		five: "4.1.0-2 3.1.2-23",
		run: func(s *scene) {
			k := connect{id: s.id("a"), clean: true, props: props{{sessionExpiry, uint32(1)}}}
			c := s.dial("open")
			c.connect(k)
			c.subscribe(filter{s.topic("x"), 1})
			c.drop()

			k.clean = false
			k.props = props{{sessionExpiry, uint32(600)}}

			time.Sleep(2500 * time.Millisecond)

			c = s.dial("open")
			if c.connect(k).sessionPresent {
				c.failf("the session is present after its time")
			}

			c.drop()

			c = s.dial("open")
			if !c.connect(k).sessionPresent {
				c.failf("the session is gone before its time")
			}
		},
	},
	"a session's clock does not run while its client is there": {
		five: "4.1.0-1",
		run: func(s *scene) {
			k := connect{id: s.id("a"), props: props{{sessionExpiry, uint32(1)}}}
			a, b := s.dial("open"), s.join("b")
			a.connect(k)
			a.subscribe(filter{s.topic("x"), 1})
			time.Sleep(2 * time.Second)
			b.publish(message{topic: s.topic("x"), payload: "1", qos: 1})
			a.take("1")
		},
	},
	"a client may change the expiry when it leaves": {
		five: "4.1.0-2 3.1.2-23",
		run: func(s *scene) {
			a := s.stay("a")
			a.send(disconnect(s.v, 0, props{{sessionExpiry, uint32(0)}}))
			a.ends()

			a = s.stay("a") // is new
			a.bye()

			b := s.dial("open")
			b.connect(connect{id: s.id("b"), clean: true, props: props{{sessionExpiry, uint32(1)}}})
			b.send(disconnect(s.v, 0, props{{sessionExpiry, uint32(600)}}))
			b.ends()
			time.Sleep(2 * time.Second)
			s.back("b")
		},
	},
	"an expiry of zero may not become another when the client leaves": {
		five: "4.13.1-1",
		run: func(s *scene) {
			a := s.join("a")
			a.send(disconnect(s.v, 0, props{{sessionExpiry, uint32(60)}}))
			a.closes(0x82)
		},
	},
	"a session remembers that a message of QoS 2 came": {
		five: "3.1.2-23 4.3.3-10 3.1.2-5", three: "4.1.0-1 3.1.2-4 4.3.3-2", also: []byte{v31},
		run: func(s *scene) {
			b := s.join("b")
			b.subscribe(filter{s.topic("x"), 2})

			a := s.stay("a")
			m := message{topic: s.topic("x"), payload: "once", qos: 2, id: 9}
			a.send(m.bytes(s.v))
			a.acked(typePubrec, 9)
			a.drop()

			a = s.back("a")
			m.dup = true
			a.send(m.bytes(s.v))
			a.acked(typePubrec, 9)
			a.release(9)
			b.take("once")
			s.fence(a, b)
		},
	},
	"a client may ask for an expiry and is told of another": {
		five: "3.1.2-23",
		run: func(s *scene) {
			c := s.dial("open")
			p := c.connect(connect{id: s.id("a"), clean: true, props: props{{sessionExpiry, uint32(0xFFFFFFFF)}}})

			if n, ok := p.props.get(sessionExpiry).(uint32); ok && n == 0 {
				c.failf("the broker keeps no session: %v", p)
			}

			c.drop()
			s.back("a")
		},
	},
	"retained messages are no part of a session": {
		five: "3.3.1-5", three: "3.1.2-7", also: []byte{v31},
		run: func(s *scene) {
			a := s.join("a")
			a.publish(message{topic: s.topic("x"), payload: "kept", qos: 1, retain: true})
			a.bye()
			s.join("a").bye()

			b := s.join("b")
			b.subscribe(filter{s.topic("x"), 0})
			b.take("kept")
		},
	},
}
