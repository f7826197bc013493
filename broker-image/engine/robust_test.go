// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
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

// TestNothingSecretIsLogged is A8: the library logs whole packets. What a client sends as password, payload or data of
// an authentication goes neither into the log, in either format, nor into traces, metrics or panics.
func TestNothingSecretIsLogged(t *testing.T) {
	const secret, content = "p4ssw0rd", "p4yl0ad"

	plain, structured := &logbook{}, &logbook{}
	options := &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}
	log := slog.New(slog.NewMultiHandler(slog.NewTextHandler(plain, options), slog.NewJSONHandler(structured, options)))

	h := open(t, Options{
		Log: log, DataDir: t.TempDir(),
		Methods: map[string]func() Exchange{"known": func() Exchange { return failing{} }},
	}, baseConfig(person(t, "anna", allow("a/#")), person(t, "otto", only(acl.Subscribe, "#"))))
	h.mustApply(func(c *contract.Config) {
		c.Limits.MaxQueuedMessages, c.Limits.MaxRetainedMessages, c.Limits.ReceiveMaximum = 1, 1, 2
	})

	everything := h.spyOn(TraceFilter{TopicFilter: "#"})

	var clients []*spy
	for _, id := range []string{"client-anna", ""} {
		clients = append(clients, h.spyOn(TraceFilter{ClientID: id, TopicFilter: "+/#"}))
	}

	revealing(t, h, secret, content)

	probe := h.ProbeCredential().Password
	numbers := scrape(h)

	h.close()

	places := map[string]string{"text log": plain.String(), "JSON log": structured.String(), "metrics": numbers}
	for i, s := range append(clients, everything) {
		<-s.done

		places[fmt.Sprintf("trace %d", i)] = fmt.Sprintf("%#v", s.events)
		if len(s.events) < 5 {
			t.Errorf("trace %d has seen little: %v", i, s.lines())
		}
	}

	for where, said := range places {
		for _, s := range []string{
			secret, content, probe, "$sha256$", fmt.Sprintf("% x", content), fmt.Sprintf("%x", content), fmt.Sprintf("%x", secret),
			strings.Trim(fmt.Sprintf("%d", []byte(content)), "[]"), strings.Trim(fmt.Sprintf("%d", []byte(secret)), "[]"),
			base64.StdEncoding.EncodeToString([]byte(content)), base64.StdEncoding.EncodeToString([]byte(secret)),
		} {
			if strings.Contains(said, s) {
				t.Errorf("the %s holds %q", where, s)
			}
		}
	}

	for _, s := range []string{
		"client connected", "client refused", "publish refused", "subscription refused", "client broke the protocol",
		"the queue of a session is full", "is not retained", "client disconnected",
	} {
		if !strings.Contains(plain.String(), s) {
			t.Errorf("the log should say %q:\n%s", s, plain)
		}
	}
}

// revealing does everything that has something to hide in it, with success and without.
func revealing(t *testing.T, h *house, secret, content string) {
	t.Helper()

	// Passwords that are wrong, of nobody, and without a user.
	for _, l := range []login{
		{user: "anna", password: secret},
		{user: "nobody", password: secret},
		{password: secret},
		{user: "anna", password: secret, version: 4},
		{user: "anna", password: "anna", willTopic: "no", willText: content},
		{user: "anna", password: "anna", willTopic: "a/+", willText: content},
		{version: 5, props: append([]byte{pAuthMethod}, append(text("unknown"), append([]byte{0x16}, text(secret)...)...)...)},
		{version: 5, props: append([]byte{pAuthMethod}, append(text("known"), append([]byte{0x16}, text(secret)...)...)...)},
		{version: 9, user: "anna", password: secret},
	} {
		if _, ack := h.knock(l); ack.body[1] == 0 {
			t.Errorf("must be refused: %+v", l)
		}
	}

	away := h.login(login{version: 5, id: "away", user: "otto", resume: true, props: u32prop(pExpiry, 3600)})
	away.subscribe(2, "a/#")
	away.bye()

	there := h.login(login{version: 5, id: "there", user: "otto", props: u32prop(pMaxPacket, 100)})
	there.subscribe(0, "a/#")

	p := h.user("anna")
	p.subscribe(0, "no/"+"x")
	p.published("a/b", content, true)
	p.published("a/c", content, true) // no more is retained
	p.published("a/d", content, false)
	p.publish(posted{topic: "a/big", payload: strings.Repeat(content, 50)})
	p.publish(posted{topic: "no", payload: content})
	p.published("no", content, false)
	p.publish(posted{topic: "a/2", payload: content, qos: 2})
	p.expect(tPubrec)
	p.send(packet{kind: tPubrel, flags: 2, body: []byte{byte(p.nextID >> 8), byte(p.nextID)}})
	p.expect(tPubcomp)
	p.send(login{version: 5, id: "again", user: "anna", password: secret}.packet()) // a second CONNECT
	p.expectClosed()

	for reason, broken := range map[string]packet{
		"a topic that is none":      {kind: tPublish, body: append(append(text("a/+"), 0), content...)},
		"an alias that is none":     {kind: tPublish, body: append(append(text(""), props(u16prop(pAlias, 7))...), content...)},
		"a topic that is no UTF-8":  {kind: tPublish, body: append(append(text("a\xff"), 0), content...)},
		"a bad property":            {kind: tPublish, body: append(append(text("a"), 2, 0x7E, 1), content...)},
		"an AUTH for no method":     {kind: 15, body: append([]byte{0x18}, props(append([]byte{pAuthMethod}, text(secret)...))...)},
		"a packet of the server":    {kind: tConnack, body: []byte(content)},
		"a SUBSCRIBE that is none":  {kind: tSubscribe, flags: 2, body: append([]byte{0, 9, 0}, content...)},
		"a PUBACK that is too long": {kind: tPuback, body: append([]byte{0, 1, 0, 0}, content...)},
		"an UNSUBSCRIBE in pieces":  {kind: tUnsubscribe, flags: 2, body: append([]byte{0, 9, 0}, content...)},
	} {
		p := h.login(login{version: 5, id: "client-anna", user: "anna", willTopic: "a/w", willText: content})
		p.send(broken)

		if p.expectClosed() == 0 {
			t.Errorf("%s must end the connection", reason)
		}
	}

	v3 := h.user3("anna")
	v3.publish(posted{topic: "no", payload: content, qos: 1})
	v3.expectClosed()

	// What waits is dropped with its session.
	h.login(login{version: 5, id: "away", user: "otto"}).bye()
	there.bye()

	// A user whose password is changed is sent away, and its will published.
	p = h.login(login{version: 5, id: "client-anna", user: "anna", willTopic: "a/w", willText: content})
	h.mustApply(func(c *contract.Config) { c.Users[0].Verifiers = []string{person(t, secret).Verifiers[0]} })
	p.expectClosed()
	h.login(login{version: 5, id: "client-anna", user: "anna", password: secret}).bye()

	if err := h.apply(func(c *contract.Config) { c.Users[0].Verifiers = []string{"$sha256$" + secret} }); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("a verifier that is none must be refused, and not repeated: %v", err)
	}
}

// failing is a method of authentication that lets nobody in.
type failing struct{}

func (failing) Step([]byte) ([]byte, bool, string, error) {
	return nil, false, "", errors.New("the proof does not fit")
}

// scrape is what /metrics shows.
func scrape(h *house) string {
	w := httptest.NewRecorder()
	h.Metrics().Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))

	return w.Body.String()
}

// TestRefusalsAreAudited: who was refused what, where, and from which address; a flood of one kind is cut short, and does
// not hide the others.
func TestRefusalsAreAudited(t *testing.T) {
	book := &logbook{}
	h := open(t, Options{Log: book.logger()}, baseConfig(person(t, "anna", allow("a/#"))))
	p := h.user("anna")
	remote := p.LocalAddr().String()

	for range 10 * auditBurst {
		p.publish(posted{topic: "no/1", payload: "x"})
	}

	p.subscribe(0, "no/2") // its answer comes after all of them were looked at
	p.published("a/1", "x", false)
	p.send(packet{kind: tConnack})
	p.expectClosed()
	h.close()

	lines := strings.Split(book.String(), "\n")
	count := func(what string) (n int) {
		for _, line := range lines {
			if !strings.Contains(line, what) || strings.Contains(line, "left out") {
				continue
			}

			n++

			for _, want := range []string{"client=client-anna", "user=anna", "listener=tcp", "remote=" + remote} {
				if !strings.Contains(line, want) {
					t.Errorf("%q lacks %s", line, want)
				}
			}
		}

		return n
	}

	if n := count("publish refused"); n < auditBurst || n > 3*auditBurst {
		t.Errorf("%d lines about publishing, want the burst of %d and a few more", n, auditBurst)
	}

	if n := count("subscription refused"); n != 1 {
		t.Errorf("%d lines about the subscription", n)
	}

	if n := count("client broke the protocol"); n != 1 {
		t.Errorf("%d lines about the broken protocol", n)
	}

	for _, want := range []string{"topic=no/1", "filter=no/2"} {
		if !strings.Contains(book.String(), want) {
			t.Errorf("the log does not say %s", want)
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

	for i, other := range [][]any{{"reason", "another"}, {"user", "x", "reason", "a third"}} {
		a.line("client refused", other...)

		if !strings.Contains(log.String(), fmt.Sprint(other[len(other)-1])) {
			t.Errorf("a flood of one kind must not hide kind %d", i)
		}
	}

	if got := a.left.Load(); got < 8*auditBurst {
		t.Errorf("%d lines were counted as left out", got)
	}

	for i := range 10 * auditKinds {
		a.line("client refused", "reason", i)
	}

	if len(a.kinds) > auditKinds+1 {
		t.Errorf("%d kinds are kept", len(a.kinds))
	}

	if skipped, ok := a.take("client refused: ", time.Now().Add(time.Hour)); !ok || skipped == 0 {
		t.Errorf("after a while there must be room again, and a word on what was left out: %d, %t", skipped, ok)
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

func TestAWorkerAccepts(t *testing.T) {
	config := baseConfig(person(t, "anna", allow("#")))
	config.Listeners[0].ConnectRate = &contract.Rate{PerSecond: 20, Burst: 1}

	h := open(t, Options{}, config)

	for i := range 4 { // each but the first waits for its turn
		h.login(login{id: strconv.Itoa(i), user: "anna"})
	}

	doors := func() (n int) {
		for _, w := range h.workers {
			w.mu.Lock()
			n += len(w.gates)
			w.mu.Unlock()
		}

		return n
	}

	// The descriptor of a listener that has gone is soon that of another, or of a connection.
	for range 20 {
		h.mustApply(func(c *contract.Config) {
			c.Listeners = append(c.Listeners, contract.Listener{Name: "more", Protocol: contract.TCP, Address: "127.0.0.1:0"})
		})

		conn := h.dial("more")
		p := newPeer(t, conn, 5)
		p.send(login{version: 5, id: "more", user: "anna", password: "anna"}.packet())
		p.expect(tConnack)

		h.mustApply(func(c *contract.Config) { c.Listeners = c.Listeners[:1] })
	}

	eventually(t, "a listener that is closed must be forgotten", func() bool { return doors() == 1 })
}
