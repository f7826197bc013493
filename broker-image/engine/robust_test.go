// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// TestTheDeadlySubscribe is A1: one packet that ends the library's process.
func TestTheDeadlySubscribe(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#")), person(t, "other", allow("#"))))

	other := h.user("other")
	other.subscribe(0, "will")

	attacker := h.login(login{version: 5, id: "x", user: "anna", willTopic: "will", willText: "gone"})
	attacker.subscribe(0, "a")
	attacker.send(packet{kind: tSubscribe, flags: 2, body: append([]byte{0, 9, 0}, text("a")...)})
	attacker.expectClosed()

	if m := other.message(); m.payload != "gone" {
		t.Errorf("whoever dies of it leaves as from any broken connection, got %+v", m)
	}

	eventually(t, "the attacker must leave nothing behind", func() bool {
		s := h.Status()

		return s.Panics == 0 && s.Connections == 1 && s.Sessions == 1
	})

	other.nothing("the others go on")

	if n := h.index.Len() - 1; n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}

	h.login(login{version: 5, id: "x", user: "anna"}).alive()
}

func TestClaimedLength(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#"))))
	huge := []byte{0xFF, 0xFF, 0xFF, 0x7F}

	var before, after runtime.MemStats

	runtime.ReadMemStats(&before)

	for range 20 {
		conn := h.dial("tcp")
		if _, err := conn.Write(append([]byte{0x10}, huge...)); err != nil {
			t.Fatal(err)
		}

		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatalf("a claim of 256 MB must end the connection, got %v", err)
		}
	}

	runtime.ReadMemStats(&after)

	if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
		t.Errorf("%d MB were allocated for claims", grown>>20)
	}

	p := h.user("anna")
	p.sendRaw(append([]byte{0x30}, huge...))

	if got := p.expectClosed(); got != 0x95 {
		t.Errorf("DISCONNECT %#x, want 0x95 [MQTT-3.2.2-15]", got)
	}

	if h.Status().RefusedPackets != 21 {
		t.Errorf("%d refused packets counted, want 21", h.Status().RefusedPackets)
	}
}

func TestWhoIsNotLetInYetMayClaimLittle(t *testing.T) {
	config := baseConfig(person(t, "anna", allow("#")))
	config.Limits.MaxPacketSize = contract.MaxPacketSize
	h := open(t, Options{ConnectPatience: time.Hour}, config)

	conn := h.dial("tcp")
	if _, err := conn.Write([]byte{0x10, 0x80, 0x80, 0x20}); err != nil { // 512 KiB
		t.Fatal(err)
	}

	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("however large packets may be, a CONNECT may not; got %v", err)
	}
}

func TestMaximumPacketSizeIsLive(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#"))))
	p := h.user("anna")
	big := strings.Repeat("x", 4000)

	p.published("a", big, false)
	h.mustApply(func(c *contract.Config) { c.Limits.MaxPacketSize = 1000 })
	p.published("a", big[:900], false)
	p.publish(posted{topic: "a", payload: big})

	if got := p.expectClosed(); got != 0x95 {
		t.Errorf("DISCONNECT %#x, want 0x95", got)
	}
}

func TestAConnectOfReasonableSize(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#"))))
	h.login(login{version: 5, id: strings.Repeat("i", 60000), user: "anna", willTopic: "w", willText: strings.Repeat("w", 65000)}).bye()
}

func TestHalfOpenConnections(t *testing.T) {
	h := open(t, Options{ConnectPatience: 100 * time.Millisecond}, baseConfig(person(t, "anna", allow("#"))))

	for name, sent := range map[string][]byte{
		"nothing":            nil,
		"half a header":      {0x10, 0x80},
		"half a CONNECT":     login{version: 5, id: "x"}.packet().encode()[:10],
		"another packet":     {0xC0, 0},
		"a type without use": {0x00, 0},
		"a longer length":    {0x10, 0x80, 0x80, 0x80, 0x80, 1},
	} {
		conn := h.dial("tcp")
		_, _ = conn.Write(sent)

		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v, want the end", name, err)
		}
	}
}

func TestKeepAlive(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#"))))

	p := h.login(login{version: 5, id: "short", user: "anna", keepAlive: 1})
	start := time.Now()

	p.expectClosed()

	if took := time.Since(start); took < 1400*time.Millisecond {
		t.Errorf("closed after %v, one and a half times the keep-alive is 1.5 s [MQTT-3.1.2-22]", took)
	}

	long := h.login(login{version: 5, id: "long", user: "anna", keepAlive: 65535})
	eventually(t, "must be a member", func() bool { return h.Status().Connections == 1 })
	long.alive()

	if c := h.allMembers()[0]; c.keepAlive != 65535*time.Second {
		t.Errorf("keep-alive %v", c.keepAlive)
	}
}

// TestNothingSecretIsLogged is A8: the library logs whole packets.
func TestNothingSecretIsLogged(t *testing.T) {
	log := &logbook{}
	h := open(t, Options{Log: log.logger(), DataDir: t.TempDir()}, baseConfig(person(t, "anna", allow("a/#"))))

	const secret, content = "p4ssw0rd", "p4yl0ad"

	if _, ack := h.knock(login{user: "anna", password: secret}); ack.body[1] != 0x86 {
		t.Error("must be refused")
	}

	p := h.user("anna")
	p.published("a/b", content, true)
	p.publish(posted{topic: "no", payload: content, qos: 1})
	p.expect(tPuback)
	p.send(login{version: 5, id: "again", user: "anna", password: secret}.packet()) // a second CONNECT
	p.expectClosed()

	p = h.user("anna")
	p.send(packet{kind: tPublish, body: append(append(text("a/+"), 0), content...)}) // a topic that is none
	p.expectClosed()

	v3 := h.user3("anna")
	v3.publish(posted{topic: "no", payload: content, qos: 1})
	v3.expectClosed()

	willing := h.login(login{version: 5, id: "w", user: "anna", willTopic: "a/w", willText: content})
	willing.send(packet{kind: tSubscribe, flags: 2, body: append([]byte{0, 9, 0}, text("a")...)}) // A1
	willing.expectClosed()
	h.close()

	for _, s := range []string{secret, content, fmt.Sprintf("% x", content), strings.Trim(fmt.Sprintf("%d", []byte(content)), "[]"), "$sha256$"} {
		if strings.Contains(log.String(), s) {
			t.Errorf("the log holds %q", s)
		}
	}

	for _, s := range []string{"client connected", "client refused", "publish refused"} {
		if !strings.Contains(log.String(), s) {
			t.Errorf("the log should say %q:\n%s", s, log.String())
		}
	}
}

func TestAuditIsRateLimited(t *testing.T) {
	log := &logbook{}
	a := newAuditor(log.logger())

	for range 10 * auditBurst {
		a.line("client refused")
	}

	if n := strings.Count(log.String(), "client refused"); n > 2*auditBurst {
		t.Errorf("%d lines", n)
	}

	a.take(time.Now().Add(time.Hour))

	if _, ok := a.take(time.Now().Add(2 * time.Hour)); !ok {
		t.Error("after a while there must be room again")
	}
}

// TestAPoisonedQueue is B12: a message that the client cannot take must not lock it out.
func TestAPoisonedQueue(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#")), person(t, "writer", only(acl.Publish, "#"))))
	keep := login{version: 5, id: "anna", user: "anna", resume: true, props: u32prop(pExpiry, 3600)}

	p := h.login(keep)
	p.subscribe(1, "a")
	p.bye()

	w := h.user("writer")
	w.published("a", strings.Repeat("x", 2000), false)
	w.published("a", "small", false)

	keep.props = append(keep.props, u32prop(pMaxPacket, 500)...)

	p = h.login(keep)
	if m := p.message(); m.payload != "small" {
		t.Errorf("got %d bytes", len(m.payload))
	}

	p.nothing("what is too large for the client is dropped [MQTT-3.1.2-25]")
}

func TestAliasesOutwards(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#"))))
	p := h.login(login{version: 5, id: "anna", user: "anna", props: u16prop(pAliasMax, 1)})
	p.subscribe(0, "#")

	for i, want := range []posted{
		{topic: "a", props: []byte{pAlias, 0, 1}}, {props: []byte{pAlias, 0, 1}}, {topic: "b"}, {props: []byte{pAlias, 0, 1}},
	} {
		p.publish(posted{topic: []string{"a", "a", "b", "a"}[i]})

		if m := p.message(); m.topic != want.topic || !bytes.Equal(m.props, want.props) {
			t.Errorf("message %d: got %+v, want %+v [MQTT-3.1.2-26]", i, m, want)
		}
	}
}
