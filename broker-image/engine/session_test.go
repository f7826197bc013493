// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

func TestAClientIDBelongsToItsUser(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#")), person(t, "otto", allow("#"))))
	keep := u32prop(pExpiry, 3600)

	anna := h.login(login{version: 5, id: "device", user: "anna", props: keep})
	anna.subscribe(1, "a")

	for version, want := range map[byte]byte{5: 0x85, 4: 2} {
		if _, ack := h.knock(login{version: version, id: "device", user: "otto", password: "otto"}); ack.body[1] != want {
			t.Errorf("MQTT %d, session online: CONNACK %#x, want %#x", version, ack.body[1], want)
		}
	}

	anna.nothing("the session must not notice")
	anna.bye()

	if _, ack := h.knock(login{id: "device", user: "otto", password: "otto", resume: true}); ack.body[1] != 0x85 {
		t.Errorf("session offline: CONNACK %#x, want 0x85", ack.body[1])
	}

	if _, ack := h.knock(login{id: "device", user: "otto", password: "otto"}); ack.body[1] != 0x85 {
		t.Errorf("a clean start would end another user's session: CONNACK %#x, want 0x85", ack.body[1])
	}

	_, ack := h.knock(login{id: "device", user: "anna", password: "anna", resume: true})
	if ack.body[1] != 0 || ack.body[0] != 1 {
		t.Errorf("the owner gets its session back: CONNACK % x", ack.body[:2])
	}
}

func TestTakeover(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#"))))

	first := h.user("anna")
	second := h.user("anna")

	if got := first.expectClosed(); got != 0x8E {
		t.Errorf("DISCONNECT %#x, want 0x8E [MQTT-3.1.4-3]", got)
	}

	second.subscribe(0, "a")
	second.publish(posted{topic: "a", payload: "x"})

	if m := second.message(); m.payload != "x" {
		t.Errorf("got %+v", m)
	}

	eventually(t, "one connection and one session must be left", func() bool {
		s := h.Status()

		return s.Connections == 1 && s.Sessions == 1
	})
}

// TestTakeoverStorm connects one client id from many sides at once. One must be left, and it must work.
func TestTakeoverStorm(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#"))))

	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		peers []*peer
	)

	for range 20 {
		wg.Go(func() {
			p := newPeer(t, h.dial("tcp"), 5)
			if _, err := p.Write(login{version: 5, id: "same", user: "anna", password: "anna"}.packet().encode()); err != nil {
				return
			}

			if pk, err := p.receive(); err != nil || pk.kind != tConnack {
				return
			}

			mu.Lock()
			defer mu.Unlock()

			peers = append(peers, p)
		})
	}

	wg.Wait()

	eventually(t, "one connection must be left", func() bool { return h.Status().Connections == 1 })

	works := 0

	for _, p := range peers {
		if _, err := p.Write(packet{kind: tPingreq}.encode()); err != nil {
			continue
		}

		if pk, err := p.receive(); err == nil && pk.kind == tPingresp {
			works++
		}
	}

	if works != 1 {
		t.Errorf("%d connections work, want 1", works)
	}
}

func TestQoS2IsReceivedOnce(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#")), person(t, "reader", allow("#"))))
	keep := login{version: 5, id: "anna", user: "anna", password: "anna", resume: true, props: u32prop(pExpiry, 3600)}

	reader := h.user("reader")
	reader.subscribe(0, "#")

	anna := h.login(keep)
	body := append(binary.BigEndian.AppendUint16(text("a"), 7), 0, 'x')
	once := packet{kind: tPublish, flags: 4, body: body}

	anna.send(once)
	anna.expect(tPubrec)
	anna.send(packet{kind: tPublish, flags: 4 | 8, body: body})

	if ack := anna.expect(tPubrec); len(ack.body) > 2 && ack.body[2] != 0 {
		t.Errorf("a duplicate is acknowledged like the first, got %#x [MQTT-4.3.3-10]", ack.body[2])
	}

	_ = anna.Close()
	anna = h.login(keep)
	anna.send(packet{kind: tPublish, flags: 4 | 8, body: body})
	anna.expect(tPubrec)

	if m := reader.message(); m.payload != "x" {
		t.Errorf("got %+v", m)
	}

	reader.nothing("one message must arrive once, over a reconnect too")

	release := packet{kind: tPubrel, flags: 2, body: []byte{0, 7}}
	anna.send(release)

	if ack := anna.expect(tPubcomp); !bytes.Equal(ack.body[:2], []byte{0, 7}) || (len(ack.body) > 2 && ack.body[2] != 0) {
		t.Errorf("PUBCOMP % x", ack.body)
	}

	anna.send(release)

	if ack := anna.expect(tPubcomp); len(ack.body) < 3 || ack.body[2] != 0x92 {
		t.Errorf("a second release: PUBCOMP % x, want 0x92", ack.body)
	}

	anna.send(once)
	anna.expect(tPubrec)

	if m := reader.message(); m.payload != "x" {
		t.Errorf("a released id is free for the next message, got %+v", m)
	}
}

// TestPacketIDsOfTheTwoDirections is the library's worst fault: both directions shared one map.
func TestPacketIDsOfTheTwoDirections(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#")), person(t, "writer", allow("#"))))
	session := login{version: 5, id: "anna", user: "anna", password: "anna", resume: true, props: u32prop(pExpiry, 3600)}

	anna, writer := h.login(session), h.user("writer")
	anna.subscribe(1, "in")
	writer.published("in", "kept", false)

	m := anna.message()

	for _, qos := range []byte{1, 2} {
		body := append(binary.BigEndian.AppendUint16(text("out"), m.id), 0)
		anna.send(packet{kind: tPublish, flags: qos << 1, body: body})

		if qos == 1 {
			anna.expect(tPuback)

			continue
		}

		anna.expect(tPubrec)
		anna.send(packet{kind: tPubrel, flags: 2, body: binary.BigEndian.AppendUint16(nil, m.id)})
		anna.expect(tPubcomp)
	}

	anna.nextID = m.id - 1
	if got := anna.subscribe(1, "other"); got[0] != 1 {
		t.Errorf("a SUBSCRIBE with the id of a message to the client is answered %#x", got[0])
	}

	_ = anna.Close()
	anna = h.login(session)

	if again := anna.message(); again.payload != "kept" {
		t.Errorf("the message was not acknowledged and must come again, got %+v", again)
	}
}

func TestReceiveMaximum(t *testing.T) {
	config := baseConfig(person(t, "anna", allow("#")))
	config.Limits.ReceiveMaximum = 2
	h := open(t, Options{}, config)

	p := h.user("anna")
	for range 2 {
		p.publish(posted{topic: "a", qos: 2})
		p.expect(tPubrec)
	}

	p.publish(posted{topic: "a"})
	p.alive()
	p.publish(posted{topic: "a", qos: 2})

	if got := p.expectClosed(); got != 0x93 {
		t.Errorf("DISCONNECT %#x, want 0x93 [MQTT-3.3.4-9]", got)
	}

	v3 := h.user3("anna")
	for range 5 {
		v3.publish(posted{topic: "a", qos: 2})
		v3.expect(tPubrec)
	}
}

func TestWill(t *testing.T) {
	reader := func(h *house) *peer {
		p := h.user("reader")
		p.subscribe(1, "#")

		return p
	}
	start := func(t *testing.T) *house {
		t.Helper()

		return open(t, Options{}, baseConfig(person(t, "anna", allow("#")), person(t, "reader", allow("#"))))
	}
	dying := login{version: 5, id: "anna", user: "anna", willTopic: "will", willText: "gone", willQoS: 1}

	t.Run("a connection that breaks releases it, properties included", func(t *testing.T) {
		h := start(t)
		r := reader(h)
		l := dying
		l.willProps = append([]byte{pContentType}, text("text/plain")...)
		_ = h.login(l).Close()

		if m := r.message(); m.topic != "will" || m.payload != "gone" || m.qos != 1 || !bytes.Contains(m.props, []byte("text/plain")) {
			t.Errorf("got %+v", m)
		}
	})
	t.Run("a goodbye forgets it", func(t *testing.T) {
		h := start(t)
		r := reader(h)
		h.login(dying).bye()
		r.nothing("[MQTT-3.14.4-3]")
	})
	t.Run("a goodbye with will releases it", func(t *testing.T) {
		h := start(t)
		r := reader(h)
		p := h.login(dying)
		p.send(packet{kind: tDisconnect, body: []byte{4, 0}})
		p.expectClosed()

		if m := r.message(); m.payload != "gone" {
			t.Errorf("got %+v", m)
		}
	})
	t.Run("what the rules no longer allow is not released", func(t *testing.T) {
		h := start(t)
		r := reader(h)
		p := h.login(dying)
		h.mustApply(func(c *contract.Config) { c.Users[0] = person(t, "anna", allow("a")) })
		_ = p.Close()
		eventually(t, "anna must be gone", func() bool { return h.Status().Connections == 1 })
		r.nothing("A2: the rules at release count")
	})
	t.Run("a user that is removed has no last word", func(t *testing.T) {
		h := start(t)
		r := reader(h)
		p := h.login(dying)
		h.mustApply(func(c *contract.Config) { c.Users = c.Users[1:] })
		p.expectClosed()
		eventually(t, "anna must be gone", func() bool { return h.Status().Connections == 1 })
		r.nothing("the user is gone, so is its will")
	})
	t.Run("a delayed will waits, and is forgotten when the session comes back", func(t *testing.T) {
		h := start(t)
		r := reader(h)
		l := dying
		l.resume = true
		l.props, l.willProps = u32prop(pExpiry, 3600), u32prop(pWillDelay, 1)

		_ = h.login(l).Close()
		r.nothing("the delay is not over")
		eventually(t, "the will must be waiting", func() bool { return h.pendingWills() == 1 })

		l.willTopic = ""
		back := h.login(l)

		if h.pendingWills() != 0 {
			t.Error("[MQTT-3.1.3-9]")
		}

		back.bye()

		l.willTopic, l.id = "will", "again"
		_ = h.login(l).Close()

		if m := r.message(); m.payload != "gone" {
			t.Errorf("when the delay is over the will is published, got %+v", m)
		}
	})
	t.Run("a delayed will is due when a new session replaces the old", func(t *testing.T) {
		h := start(t)
		r := reader(h)
		l := dying
		l.props, l.willProps = u32prop(pExpiry, 3600), u32prop(pWillDelay, 3600)

		_ = h.login(l).Close()
		eventually(t, "the will must be waiting", func() bool { return h.pendingWills() == 1 })

		l.willTopic = ""
		h.login(l)

		if m := r.message(); m.payload != "gone" {
			t.Errorf("the session has ended, got %+v", m)
		}
	})
}

func (e *Engine) pendingWills() int {
	n := 0

	e.sessions.each(func(s *session) {
		s.mu.Lock()
		defer s.mu.Unlock()

		if s.will != nil && s.conn.Load() == nil {
			n++
		}
	})

	return n
}

func TestConnackSaysTheLimits(t *testing.T) {
	config := baseConfig(person(t, "anna", allow("#")))
	config.Limits = contract.Limits{MaxPacketSize: 4711, ReceiveMaximum: 12, TopicAliasMaximum: 3, MaxSessionExpiry: 60}
	h := open(t, Options{}, config)

	p, ack := h.knock(login{id: "c", user: "anna", password: "anna", props: u32prop(pExpiry, 3600)})
	got := connackProps(t, ack.body)

	for id, want := range map[byte]uint32{pMaxPacket: 4711, pReceiveMax: 12, pAliasMax: 3, pExpiry: 60} {
		if got[id] != want {
			t.Errorf("property %#x is %d, want %d", id, got[id], want)
		}
	}

	p.bye()

	_, ack = h.knock(login{id: "c", user: "anna", password: "anna", props: u32prop(pExpiry, 30)})
	if _, said := connackProps(t, ack.body)[pExpiry]; said {
		t.Error("an expiry that was not cut need not be said")
	}
}

func TestSessionsEnd(t *testing.T) {
	config := baseConfig(person(t, "anna", allow("#")))
	config.Limits.MaxSessionExpiry = 1
	h := open(t, Options{DataDir: t.TempDir()}, config)

	for version, l := range map[byte]login{4: {version: 4, id: "v3"}, 5: {version: 5, id: "v5", props: u32prop(pExpiry, 3600)}} {
		l.user, l.resume = "anna", true
		p := h.login(l)
		p.subscribe(1, fmt.Sprintf("a/%d", version))
		p.bye()
	}

	eventually(t, "sessions must end when their time is over, those of MQTT 3 too", func() bool {
		return h.Status().Sessions == 0
	})

	if n := h.index.Len(); n != 0 {
		t.Errorf("%d subscriptions outlive their session", n)
	}

	h.close()

	left := open(t, Options{DataDir: h.options.DataDir}, config)
	if n := left.Status().Sessions; n != 0 {
		t.Errorf("%d sessions are left on disk", n)
	}
}

func TestPersistence(t *testing.T) {
	config := baseConfig(
		person(t, "anna", allow("a/#")), person(t, "otto", allow("#")), person(t, "writer", only(acl.Publish, "#")))
	keep := func(id, user string, version byte) login {
		l := login{version: version, id: id, user: user, resume: true}
		if version == 5 {
			l.props = u32prop(pExpiry, 3600)
		}

		return l
	}

	first := open(t, Options{DataDir: t.TempDir()}, config)
	anna := first.login(keep("anna:1", "anna", 5))
	anna.subscribe(1, "a/+", "secret")
	// The library looks for retained messages when the SUBACK is out, so what is published meanwhile would come twice.
	anna.send(packet{kind: tPingreq})
	anna.expect(tPingresp)

	otto := first.login(keep("otto", "otto", 4))
	otto.subscribe(2, "a/2")

	writer := first.login(keep("writer", "writer", 5))
	writer.send(packet{kind: tPublish, flags: 4, body: append(binary.BigEndian.AppendUint16(text("x"), 9), 0)})
	writer.expect(tPubrec)
	writer.published("a/kept", "retained", true)
	writer.published("a/gone", "retained", true)
	writer.published("a/gone", "", true)

	for range 2 {
		anna.message() // not acknowledged
	}

	anna.message()
	_ = anna.Close()
	_ = otto.Close()

	for i := range 3 {
		writer.published("a/2", strconv.Itoa(i), false)
	}

	// No shutdown: what was acknowledged must be on disk already.
	second := open(t, Options{DataDir: copyStore(t, first)}, config)

	_, ack := second.knock(login{version: 5, id: "anna:1", user: "otto", password: "otto", resume: true})
	if ack.body[1] != 0x85 {
		t.Errorf("a session belongs to its user over a restart too: CONNACK %#x", ack.body[1])
	}

	p := newPeer(t, second.dial("tcp"), 5)
	l := keep("anna:1", "anna", 5)
	l.password = "anna"
	p.send(l.packet())

	if ack := p.expect(tConnack); ack.body[0] != 1 {
		t.Error("the session must be present")
	}

	got := map[string]int{}
	ids := map[uint16]bool{}

	for range 6 {
		m := p.message()
		got[m.topic+"="+m.payload]++
		ids[m.id] = true
	}

	for _, want := range []string{"a/kept=retained", "a/gone=retained", "a/gone=", "a/2=0", "a/2=1", "a/2=2"} {
		if got[want] != 1 {
			t.Errorf("messages that waited: %v, want %s once", got, want)
		}
	}

	if len(ids) != 6 {
		t.Errorf("each message needs an id of its own, got %v", ids)
	}

	p.nothing("nothing else may come")

	w := second.login(keep("writer", "writer", 5))
	w.send(packet{kind: tPubrel, flags: 2, body: []byte{0, 9}})

	if ack := w.expect(tPubcomp); len(ack.body) > 2 && ack.body[2] != 0 {
		t.Errorf("a QoS 2 message that was received before the restart is known: PUBCOMP % x", ack.body)
	}

	w.published("secret", "x", false)
	w.published("a/3", "new", false)

	if m := p.message(); m.topic != "a/3" {
		t.Errorf("the subscription must be back, and the refused one not; got %+v", m)
	}

	o := second.login(keep("otto", "otto", 4))
	for i := range 3 {
		m := o.message()
		if m.qos != 1 || m.topic != "a/2" {
			t.Errorf("message %d: %+v", i, m)
		}
	}

	fresh := second.login(login{version: 5, id: "fresh", user: "anna"})
	fresh.subscribe(0, "a/#")

	if m := fresh.message(); m.topic != "a/kept" || !m.retain {
		t.Errorf("retained messages must be back, got %+v", m)
	}

	fresh.nothing("a retained message that was deleted stays away")
}

func TestARuleThatChangedWhileTheBrokerWasDown(t *testing.T) {
	dir := t.TempDir()
	config := baseConfig(person(t, "anna", allow("#")), person(t, "writer", only(acl.Publish, "#")))
	keep := login{version: 5, id: "anna", user: "anna", resume: true, props: u32prop(pExpiry, 3600)}

	first := open(t, Options{DataDir: dir}, config)
	anna := first.login(keep)
	anna.subscribe(1, "a", "b")
	anna.bye()

	w := first.user("writer")
	w.published("a", "waits", false)
	w.published("b", "waits", false)
	first.close()

	config.Users[0] = person(t, "anna", allow("a"))
	second := open(t, Options{DataDir: dir}, config)
	p := second.login(keep)

	if m := p.message(); m.topic != "a" {
		t.Errorf("got %+v, want only what the new rules allow", m)
	}

	second.user("writer").published("b", "new", false)
	p.nothing("A11: what the rules no longer allow must not come, waiting or new")
}

func TestAUserThatComesBackFindsItsSession(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#")), person(t, "writer", only(acl.Publish, "#"))))
	keep := login{version: 5, id: "anna", user: "anna", resume: true, props: u32prop(pExpiry, 3600)}
	h.login(keep).subscribe(1, "a")

	h.mustApply(func(c *contract.Config) { c.Users = c.Users[1:] })
	eventually(t, "anna must be gone", func() bool { return h.Status().Connections == 0 })
	h.user("writer").published("a", "meanwhile", false)

	h.mustApply(func(c *contract.Config) { c.Users = append(c.Users, person(t, "anna", allow("#"))) })

	p := h.login(keep)
	p.nothing("nothing is kept for a user that does not exist")
	h.user("writer").published("a", "now", false)

	if m := p.message(); m.payload != "now" {
		t.Errorf("the subscription must have survived, got %+v", m)
	}
}
