// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

const tAuth = 15

func (p *peer) puback(m posted) {
	p.t.Helper()
	p.send(packet{kind: tPuback, body: binary.BigEndian.AppendUint16(nil, m.id)})
}

// anybody lets anna and the writer do everything.
func anybody(t testing.TB) *contract.Config {
	t.Helper()

	return baseConfig(person(t, "anna", allow("#")), person(t, "writer", allow("#")))
}

func withTLS(t testing.TB, c *contract.Config) *contract.Config {
	t.Helper()

	c.Listeners = append(c.Listeners, contract.Listener{
		Name: "tls", Protocol: contract.TLS, Address: "127.0.0.1:0", TLS: &contract.ListenerTLS{Pair: "pair", MinVersion: "1.2"},
	})
	c.Pairs = map[string]contract.KeyPair{"pair": keyPair(t, 1)}

	return c
}

func kept(id string) login {
	return login{version: 5, id: id, user: "anna", password: "anna", resume: true, props: u32prop(pExpiry, 3600)}
}

// over lets a login happen on a connection of any kind.
func (h *house) over(listener string) net.Conn {
	if listener == "tls" {
		return h.secure(listener)
	}

	return h.dial(listener)
}

func (h *house) come(listener string, l login) *peer {
	h.t.Helper()

	if l.password == "" {
		l.password = l.user
	}

	p := newPeer(h.t, h.over(listener), l.version)
	p.send(l.packet())

	if ack := p.expect(tConnack); ack.body[1] != 0 {
		h.t.Fatalf("CONNACK %#x", ack.body[1])
	}

	return p
}

func TestPacketsInPieces(t *testing.T) {
	h := open(t, Options{}, withTLS(t, anybody(t)))

	subscribe := packet{kind: tSubscribe, flags: 2, body: append(append([]byte{0, 1, 0}, text("a")...), 0)}
	publish := func(payload []byte) []byte {
		return packet{kind: tPublish, body: append(append(text("a"), 0), payload...)}.encode()
	}

	for _, listener := range []string{"tcp", "tls"} {
		t.Run(listener, func(t *testing.T) {
			login := login{version: 5, user: "anna", password: "anna"}
			whole := bytes.Join([][]byte{
				login.packet().encode(), subscribe.encode(), publish(nil), publish([]byte("0123456789")),
			}, nil)

			for at := 1; at < len(whole); at++ {
				p := newPeer(t, h.over(listener), 5)
				p.sendRaw(whole[:at])
				p.sendRaw(whole[at:])
				p.expect(tConnack)
				p.expect(tSuback)

				if first, second := p.message(), p.message(); first.payload != "" || second.payload != "0123456789" {
					t.Fatalf("cut at %d: %+v, %+v", at, first, second)
				}

				_ = p.Close()
			}
		})

		t.Run(listener+", large", func(t *testing.T) {
			p := h.come(listener, login{version: 5, id: "large", user: "anna"})
			p.subscribe(0, "a")

			random := bytes.Repeat([]byte("the quick brown fox "), 16<<10)

			for _, size := range []int{0, 1, 126, 127, 128, 4 << 10, 8 << 10, 16382, 16383, 16384, 20_000, 60_000, 65_530, 65_536, 70_000, 131_072, 140_000, 300 << 10} {
				for _, piece := range []int{1 << 20, 100_003, 65_536, 9973, 1021} {
					b := publish(random[:size])
					b = append(b, publish([]byte("next"))...)

					done := make(chan struct{})

					go func() {
						defer close(done)

						for rest := b; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
							if _, err := p.Write(rest[:min(piece, len(rest))]); err != nil {
								t.Error(err)

								return
							}
						}
					}()

					if m := p.message(); m.payload != string(random[:size]) {
						t.Fatalf("%d bytes in pieces of %d came as %d other bytes", size, piece, len(m.payload))
					}

					if m := p.message(); m.payload != "next" {
						t.Fatalf("%d bytes in pieces of %d: %+v came next", size, piece, m)
					}

					<-done
				}
			}
		})
	}
}

// gathered writes at once what was written since it began to hold.
type gathered struct {
	net.Conn

	hold bool
	held []byte
}

func (g *gathered) Write(b []byte) (int, error) {
	if !g.hold {
		return g.Conn.Write(b)
	}

	g.held = append(g.held, b...)

	return len(b), nil
}

// SetWriteDeadline does nothing: crypto/tls ends writing with one.
func (g *gathered) SetWriteDeadline(time.Time) error { return nil }

func TestGoodbyeAndCloseAtOnceOverTLS(t *testing.T) {
	h := open(t, Options{}, withTLS(t, anybody(t)))
	w := h.user("writer")
	w.subscribe(0, "will")

	raw := &gathered{Conn: h.dial("tls")}
	// Only before TLS 1.3 does the record say that it is the last.
	conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	p := newPeer(t, conn, 5)
	p.send(login{version: 5, id: "short", user: "anna", password: "anna", willTopic: "will", willText: "died"}.packet())
	p.expect(tConnack)

	raw.hold = true

	p.send(packet{kind: tDisconnect})

	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}

	if _, err := raw.Conn.Write(raw.held); err != nil {
		t.Fatal(err)
	}

	eventually(t, "the client must be gone", func() bool { return h.Status().Connections == 1 })
	w.nothing("TLS tells the last bytes and the end at once; DISCONNECT must count")
}

func TestResendAfterTakeover(t *testing.T) {
	for name, options := range map[string]Options{"in memory": {}, "on disk": {DataDir: t.TempDir()}} {
		t.Run(name, func(t *testing.T) {
			h := open(t, options, anybody(t))
			first := h.login(kept("anna"))
			first.subscribe(1, "a")

			w := h.user("writer")
			for i := range 3 {
				w.published("a", strconv.Itoa(i), false)
			}

			ids := map[string]uint16{}

			for range 3 {
				m := first.message()
				ids[m.payload] = m.id
			}

			first.puback(posted{id: ids["1"]})
			first.alive()

			second := newPeer(t, h.dial("tcp"), 5)
			second.send(kept("anna").packet())
			second.expect(tConnack)

			for _, want := range []string{"0", "2"} {
				pk := second.expect(tPublish)
				if m := second.decode(pk); m.payload != want || m.id != ids[want] || pk.flags&8 == 0 {
					t.Errorf("[MQTT-4.4.0-1] [MQTT-3.3.1-1]: want %s again, with its id and DUP; got %+v, flags %b", want, m, pk.flags)
				}
			}

			w.published("a", "3", false)

			pk := second.expect(tPublish)
			if m := second.decode(pk); m.payload != "3" || pk.flags&8 != 0 {
				t.Errorf("what is new carries no DUP: %+v, flags %b", m, pk.flags)
			}
		})
	}
}

// TestPubrelIsOwed goes on with a QoS 2 message of which PUBREC has come: by a new connection, or after a crash.
func TestPubrelIsOwed(t *testing.T) {
	for name, crash := range map[string]bool{"takeover": false, "crash": true} {
		t.Run(name, func(t *testing.T) {
			h := open(t, Options{DataDir: t.TempDir()}, anybody(t))
			anna := h.login(kept("anna"))
			anna.subscribe(2, "a")

			w := h.user("writer")
			w.publish(posted{topic: "a", payload: "x", qos: 2})
			w.expect(tPubrec)

			m := anna.message()
			anna.send(packet{kind: tPubrec, body: binary.BigEndian.AppendUint16(nil, m.id)})
			anna.expect(tPubrel)

			if crash {
				h = open(t, Options{DataDir: copyStore(t, h)}, anybody(t))
			}

			for range 2 {
				p := newPeer(t, h.dial("tcp"), 5)
				p.send(kept("anna").packet())
				p.expect(tConnack)

				if rel := p.expect(tPubrel); binary.BigEndian.Uint16(rel.body) != m.id {
					t.Errorf("PUBREL % x, want id %d", rel.body, m.id)
				}

				anna = p
			}

			anna.send(packet{kind: tPubcomp, body: binary.BigEndian.AppendUint16(nil, m.id)})
			anna.nothing("all is done")
			eventually(t, "nothing waits any more", func() bool { return h.queuedMessages.Load() == 0 && h.queuedBytes.Load() == 0 })

			p := h.login(kept("anna"))
			p.nothing("[MQTT-4.3.3-7]: a packet id that is done must not come back")
		})
	}
}

func TestALongQueueAndAFlappingClient(t *testing.T) {
	const messages = 10_000

	for name, options := range map[string]Options{"in memory": {}, "on disk": {DataDir: t.TempDir()}} {
		t.Run(name, func(t *testing.T) {
			config := anybody(t)
			config.Limits.MaxQueuedMessages = messages + 10
			config.Limits.MaxQueuedBytes = 64 << 20
			h := open(t, options, config)

			anna := h.login(kept("anna"))
			anna.subscribe(1, "a")
			anna.bye()

			w := h.user("writer")

			for i := 0; i < messages; i += 10 {
				for j := i; j < i+10; j++ {
					m := posted{topic: "a", payload: fmt.Sprintf("%05d", j), qos: 1}
					if j%7 == 3 {
						m.props = u32prop(0x02, 3600)
					}

					w.publish(m)
				}

				for range 10 {
					w.expect(tPuback)
				}
			}

			if n := h.queuedMessages.Load(); n != messages {
				t.Errorf("%d messages wait, want %d", n, messages)
			}

			for next, turn := 0, 1; next < messages; turn++ {
				p := h.login(kept("anna"))

				// Each time somewhat more is read than acknowledged.
				for i := range min(turn*37, messages-next) {
					m := p.message()

					if want := fmt.Sprintf("%05d", next+i); m.payload != want {
						t.Fatalf("turn %d: got %s, want %s", turn, m.payload, want)
					}

					if i < turn*31 {
						p.puback(m)
					}
				}

				next = min(next+turn*31, messages)

				p.send(packet{kind: tPingreq})

				for {
					pk, err := p.receive()
					if err != nil {
						t.Fatal(err)
					}

					if pk.kind == tPingresp {
						break
					}
				}

				_ = p.Close()
			}

			p := h.login(kept("anna"))
			p.nothing("everything was delivered")

			if n, b := h.queuedMessages.Load(), h.queuedBytes.Load(); n != 0 || b != 0 {
				t.Errorf("%d messages of %d bytes are counted as waiting, and none does", n, b)
			}
		})
	}
}

func TestQueuesAreNotCountedWhenTheirSessionEnds(t *testing.T) {
	for name, options := range map[string]Options{"in memory": {}, "on disk": {DataDir: t.TempDir()}} {
		t.Run(name, func(t *testing.T) {
			h := open(t, options, anybody(t))
			l := kept("anna")
			l.props = append(l.props, u16prop(pReceiveMax, 2)...)
			anna := h.login(l)
			anna.subscribe(1, "a")

			w := h.user("writer")
			for range 5 {
				w.published("a", "x", false)
			}

			anna.message()
			anna.message()
			eventually(t, "three wait", func() bool { return h.queuedMessages.Load() == 3 })

			h.login(login{version: 5, id: "anna", user: "anna"})
			eventually(t, "the session has ended with its queue", func() bool {
				return h.queuedMessages.Load() == 0 && h.queuedBytes.Load() == 0
			})
		})
	}
}

func TestAWillExpiresAfterARestartToo(t *testing.T) {
	h := open(t, Options{DataDir: t.TempDir()}, anybody(t))
	l := kept("anna")
	l.willTopic, l.willText, l.willQoS = "will", "died", 1
	l.willProps = u32prop(0x02, 600)
	h.login(l)

	w := kept("watcher")
	h.login(w).subscribe(1, "will")

	h = open(t, Options{DataDir: copyStore(t, h)}, anybody(t))
	m := h.login(w).message()

	if m.payload != "died" || len(m.props) != 5 || m.props[0] != 2 {
		t.Fatalf("want the will with its expiry, got %+v", m)
	}

	if left := binary.BigEndian.Uint32(m.props[1:]); left < 500 || left > 600 {
		t.Errorf("the will expires in %d s, want nearly 600", left)
	}
}

// TestARefusedMessageIsNotKnown: what the disk refuses was not received, and must be taken when it comes again.
func TestARefusedMessageIsNotKnown(t *testing.T) {
	h := open(t, Options{DataDir: t.TempDir()}, anybody(t))
	anna := h.login(kept("anna"))
	anna.publish(posted{topic: "a", payload: "x", qos: 2})
	anna.expect(tPubrec)

	var c *conn
	for _, m := range h.allMembers() {
		c = m
	}

	known := func() bool {
		sh := h.sessions.shard("anna")

		sh.mu.Lock()
		defer sh.mu.Unlock()

		s := sh.byID["anna"]

		s.mu.Lock()
		defer s.mu.Unlock()

		return s.received.has(1)
	}

	if !known() {
		t.Fatal("the id must be known")
	}

	r := h.borrow()
	c.answer(r, waitingAnswer{c: c, received: 1}, errors.New("the disk is full"))
	h.giveBack(r)

	if known() {
		t.Error("the id must be forgotten")
	}
}

// TestAnIDThatTheDiskDidNotReleaseIsKnown: or it would come back with a restart, and swallow the next message that has it.
func TestAnIDThatTheDiskDidNotReleaseIsKnown(t *testing.T) {
	h := open(t, Options{DataDir: t.TempDir()}, anybody(t))

	anna := h.login(kept("anna"))
	anna.publish(posted{topic: "a", payload: "x", qos: 2})
	anna.expect(tPubrec)

	var c *conn
	for _, m := range h.allMembers() {
		c = m
	}

	known := func() bool {
		c.sess.mu.Lock()
		defer c.sess.mu.Unlock()

		return c.sess.received.has(1)
	}

	anna.send(packet{kind: tPubrel, flags: 2, body: []byte{0, 1}})
	anna.expect(tPubcomp)

	if known() {
		t.Fatal("the id must be free")
	}

	before := c.sess.hasUndone()
	r := h.borrow()
	c.answer(r, waitingAnswer{c: c, released: 1}, errors.New("the disk is full"))
	h.giveBack(r)

	if !known() {
		t.Error("the disk knows the id, so the session must: a restart would bring it back")
	}

	// What was answered a second time meanwhile is not true any more.
	r = h.borrow()
	c.owe(r, answer{typ: tPubcomp, id: 1, again: true, undone: before}, true)
	r.write()
	h.giveBack(r)
	anna.expectClosed()
}

func TestPublishersWaitForTheDisk(t *testing.T) {
	h := open(t, Options{DataDir: t.TempDir()}, withTLS(t, anybody(t)))
	h.busyDisk = -1 // always

	anna := h.login(kept("anna"))
	anna.subscribe(1, "a")
	anna.bye()

	for _, listener := range []string{"tcp", "tls"} {
		t.Run(listener, func(*testing.T) {
			w := h.come(listener, login{version: 5, id: "w", user: "writer"})

			for range 200 {
				w.publish(posted{topic: "a", payload: strings.Repeat("x", 100), qos: 1})
			}

			for range 200 {
				w.expect(tPuback)
			}

			w.alive()

			// Nor does the disk get more of those who do not wait for it than it takes.
			for range 200 {
				w.publish(posted{topic: "retained", payload: strings.Repeat("x", 100), retain: true})
			}

			w.alive()
		})
	}
}

func TestPublishRate(t *testing.T) {
	config := withTLS(t, anybody(t))
	config.Limits.PublishRate = 200
	h := open(t, Options{}, config)

	for _, listener := range []string{"tcp", "tls"} {
		t.Run(listener, func(t *testing.T) {
			p := h.come(listener, login{version: 5, id: "p" + listener, user: "anna"})
			p.subscribe(0, "a")

			for i := range 300 {
				p.publish(posted{topic: "a", payload: strconv.Itoa(i)})
			}

			for i := range 300 {
				if m := p.message(); m.payload != strconv.Itoa(i) {
					t.Fatalf("got %+v, want %d", m, i)
				}
			}

			p.alive()
		})
	}
}

// TestWhoDoesNotTakeAnswers: what is owed to a client must not fill the memory.
func TestWhoDoesNotTakeAnswers(t *testing.T) {
	const pings = 8 << 20

	h := open(t, Options{}, anybody(t))
	p := h.user("anna")

	written := make(chan error, 1)

	go func() {
		some := bytes.Repeat([]byte{tPingreq << 4, 0}, 64<<10)
		for range pings / (64 << 10) {
			if _, err := p.Write(some); err != nil {
				written <- err

				return
			}
		}

		written <- nil
	}()

	_ = p.SetDeadline(time.Now().Add(4 * patience))

	c := h.allMembers()[0]
	eventually(t, "the client is not read any more", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()

		return c.choked
	})

	c.mu.Lock()
	if n := c.pending(); n > chokedOutput+64 {
		t.Errorf("%d bytes wait, want at most %d", n, chokedOutput)
	}
	c.mu.Unlock()

	if n, err := io.CopyN(io.Discard, p.in, 2*pings); err != nil {
		t.Fatal(n, err)
	}

	if err := <-written; err != nil {
		t.Error(err)
	}
}

func TestAWorkerThatHasGoneIsNotRung(t *testing.T) {
	h := open(t, Options{}, anybody(t))
	h.close()

	w := h.workers[0]
	dir := t.TempDir()

	for i := range 200 {
		f, err := os.Create(dir + "/" + strconv.Itoa(i))
		if err != nil {
			t.Fatal(err)
		}

		t.Cleanup(func() { _ = f.Close() })

		if int(f.Fd()) != w.bell {
			continue
		}

		w.post(&conn{}) // a password that was checked too late

		if b, _ := os.ReadFile(f.Name()); len(b) > 0 {
			t.Errorf("another file got % x", b)
		}

		return
	}

	t.Skip("the bell's number was not given out again")
}

// challenge is a method that asks once.
type challenge struct{ asked bool }

func (c *challenge) Step(data []byte) ([]byte, bool, string, error) {
	switch {
	case string(data) == "panic":
		panic("a method that fails")
	case string(data) == "no":
		return nil, false, "", errors.New("refused")
	case !c.asked:
		c.asked = true

		return []byte("who?"), false, "", nil
	}

	return []byte("welcome"), true, string(data), nil
}

func authPacket(code byte, method, data string) packet {
	return packet{kind: tAuth, body: append([]byte{code}, props(
		append([]byte{pAuthMethod}, text(method)...), append([]byte{0x16}, text(data)...))...)}
}

func TestEnhancedAuthentication(t *testing.T) {
	h := open(t, Options{Methods: map[string]func() Exchange{
		"ask": func() Exchange { return &challenge{} },
	}}, anybody(t))

	connect := func(data string) *peer {
		p := newPeer(t, h.dial("tcp"), 5)
		p.send(login{version: 5, id: "asked", props: append(
			append([]byte{pAuthMethod}, text("ask")...), append([]byte{0x16}, text(data)...)...)}.packet())

		return p
	}

	in := func() *peer {
		p := connect("hello")
		if auth := p.expect(tAuth); auth.body[0] != wire.ContinueAuthentication || !bytes.Contains(auth.body, []byte("who?")) {
			t.Fatalf("AUTH % x", auth.body)
		}

		p.send(authPacket(wire.ContinueAuthentication, "ask", "anna"))

		if ack := p.expect(tConnack); ack.body[1] != 0 || !bytes.Contains(ack.body, []byte("welcome")) {
			t.Fatalf("CONNACK % x", ack.body)
		}

		return p
	}

	t.Run("let in", func(t *testing.T) {
		if got := in().subscribe(1, "a"); !cmp.Equal(got, []byte{1}) {
			t.Errorf("anna's rules must hold: % x", got)
		}
	})

	t.Run("again", func(t *testing.T) {
		p := in()
		p.send(authPacket(wire.ReAuthenticate, "ask", "hello"))
		p.expect(tAuth)
		p.send(authPacket(wire.ContinueAuthentication, "ask", "anna"))

		if auth := p.expect(tAuth); auth.body[0] != wire.Success {
			t.Errorf("AUTH % x", auth.body)
		}

		p.alive()
	})

	for name, c := range map[string]struct {
		say  []packet
		want byte
	}{
		"another method":             {[]packet{authPacket(wire.ReAuthenticate, "other", "x")}, wire.BadAuthenticationMethod},
		"going on with what is over": {[]packet{authPacket(wire.ContinueAuthentication, "ask", "anna")}, wire.ProtocolError},
		"refused the second time":    {[]packet{authPacket(wire.ReAuthenticate, "ask", "no")}, wire.NotAuthorized},
		"another user": {[]packet{
			authPacket(wire.ReAuthenticate, "ask", "hello"), authPacket(wire.ContinueAuthentication, "ask", "writer"),
		}, wire.NotAuthorized},
	} {
		t.Run(name, func(t *testing.T) {
			p := in()
			for _, pk := range c.say {
				p.send(pk)
			}

			if got := p.expectClosed(); got != int(c.want) {
				t.Errorf("DISCONNECT %#x, want %#x", got, c.want)
			}
		})
	}

	t.Run("refused", func(t *testing.T) {
		if ack := connect("no").expect(tConnack); ack.body[1] != wire.NotAuthorized {
			t.Errorf("CONNACK % x", ack.body)
		}
	})

	t.Run("a panic closes one connection", func(*testing.T) {
		other := h.user("writer")
		connect("panic").expectClosed()

		p := in()
		p.send(authPacket(wire.ReAuthenticate, "ask", "panic"))
		p.expectClosed()
		other.alive()
	})
}

func TestRedirect(t *testing.T) {
	h := open(t, Options{}, anybody(t))
	stays := h.user("writer")
	old := h.user3("writer")

	for _, c := range []struct {
		permanent bool
		want      byte
	}{{false, wire.UseAnotherServer}, {true, wire.ServerMoved}} {
		h.Redirect(&Redirect{Reference: "other.example:8883", Permanent: c.permanent})

		_, ack := h.knock(login{version: 5, id: "new", user: "anna", password: "anna"})
		if ack.body[1] != c.want || !bytes.Contains(ack.body, []byte("other.example:8883")) {
			t.Errorf("CONNACK % x, want %#x and where to", ack.body, c.want)
		}
	}

	if _, ack := h.knock(login{version: 4, id: "new3", user: "anna", password: "anna"}); ack.body[1] != 3 {
		t.Errorf("MQTT 3 has no better word: CONNACK % x", ack.body)
	}

	stays.alive()

	go h.close()

	if pk := stays.expect(tDisconnect); pk.body[0] != wire.ServerMoved || !bytes.Contains(pk.body, []byte("other.example:8883")) {
		t.Errorf("DISCONNECT % x", pk.body)
	}

	old.expectClosed()
}

func TestServerKeepAlive(t *testing.T) {
	config := anybody(t)
	config.Limits.ServerKeepAlive = 1
	h := open(t, Options{}, config)
	p := newPeer(t, h.dial("tcp"), 5)
	p.send(login{version: 5, id: "k", user: "anna", password: "anna", keepAlive: 600}.packet())

	if ack := p.expect(tConnack); !bytes.Contains(ack.body, []byte{0x13, 0, 1}) {
		t.Errorf("[MQTT-3.1.2-21]: CONNACK % x says nothing of the keep-alive", ack.body)
	}

	if got := p.expectClosed(); got != int(wire.KeepAliveTimeout) {
		t.Errorf("DISCONNECT %#x, want %#x", got, wire.KeepAliveTimeout)
	}
}

// TestShutdownWhileBusy: clients that publish, subscribe, come and go, with the disk, while everything ends.
func TestShutdownWhileBusy(t *testing.T) {
	for range 3 {
		h := open(t, Options{DataDir: t.TempDir()}, withTLS(t, anybody(t)))
		stop := make(chan struct{})
		ended := make(chan struct{}, 16)

		for i := range 8 {
			listener := []string{"tcp", "tls"}[i%2]
			address := h.address(listener)

			go func() {
				defer func() { ended <- struct{}{} }()

				for {
					select {
					case <-stop:
						return
					default:
					}

					busyClient(listener, address, i)
				}
			}()
		}

		eventually(t, "messages flow", func() bool { return h.queuedMessages.Load() > 0 || h.Status().Sessions > 3 })

		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}

		cancel()
		close(stop)

		for range 8 {
			<-ended
		}
	}
}

func busyClient(listener, address string, i int) {
	raw, err := net.Dial("tcp", address)
	if err != nil {
		return
	}

	defer func() { _ = raw.Close() }()

	_ = raw.SetDeadline(time.Now().Add(time.Second))

	conn := raw
	if listener == "tls" {
		conn = tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
	}

	subscribe := packet{kind: tSubscribe, flags: 2, body: append(append([]byte{0, 1, 0}, text("a/#")...), 2)}
	b := append(kept("busy"+strconv.Itoa(i%5)).packet().encode(), subscribe.encode()...)

	for id := range 50 {
		b = append(b, packet{kind: tPublish, flags: byte(id%3) << 1, body: append(
			append(text("a/x"), publishHead(id)...), strings.Repeat("y", id*100)...)}.encode()...)
	}

	_, _ = conn.Write(b)

	in := make([]byte, 32<<10)
	for {
		if _, err := conn.Read(in); err != nil {
			return
		}
	}
}

func publishHead(id int) []byte {
	if id%3 == 0 {
		return []byte{0}
	}

	return []byte{0, byte(id + 1), 0}
}

// TestSharedSubscriptionsLoseNothing: what a member has not acknowledged when its session ends goes to another.
func TestSharedSubscriptionsLoseNothing(t *testing.T) {
	config := anybody(t)
	h := open(t, Options{}, config)
	first := h.login(login{version: 5, id: "first", user: "anna"})
	first.subscribe(1, "$share/g/a")

	w := h.user("writer")
	for i := range 5 {
		w.published("a", strconv.Itoa(i), false)
	}

	for range 5 {
		first.message()
	}

	second := h.login(login{version: 5, id: "second", user: "anna"})
	second.subscribe(1, "$share/g/a")
	_ = first.Close()

	for i := range 5 {
		if m := second.message(); m.payload != strconv.Itoa(i) {
			t.Errorf("got %+v, want %d", m, i)
		}
	}
}
