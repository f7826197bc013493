// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

func TestClientIDs(t *testing.T) {
	bounded := func(name string, bounds *contract.ClientIDs) contract.User {
		u := person(t, name, allow("#"))
		u.ClientIDs = bounds

		return u
	}
	book := &logbook{}
	h := open(t, Options{Log: book.logger()}, baseConfig(
		bounded("exact", &contract.ClientIDs{Exact: []string{"one", "two"}}), bounded("prefix", &contract.ClientIDs{Prefix: "press-"}),
		bounded("free", nil)))

	for name, c := range map[string]struct {
		reason, user, id string
		v5, v3           byte
		log              string
	}{
		"one of those named":          {user: "exact", id: "two"},
		"none of those named":         {user: "exact", id: "three", v5: 0x85, v3: 2, log: "the user may not use this client id"},
		"the beginning of one":        {user: "exact", id: "tw", v5: 0x85, v3: 2},
		"one in another case":         {user: "exact", id: "Two", v5: 0x85, v3: 2},
		"an empty one, and names":     {reason: "the broker cannot choose for it", user: "exact", v5: 0x85, v3: 2, log: "may only use those that are named for it"},
		"with the prefix":             {user: "prefix", id: "press-7"},
		"the prefix itself":           {user: "prefix", id: "press-"},
		"without the prefix":          {user: "prefix", id: "Press-7", v5: 0x85, v3: 2},
		"the prefix further on":       {user: "prefix", id: "a-press-7", v5: 0x85, v3: 2},
		"an empty one, and a prefix":  {user: "prefix"},
		"who has no bounds":           {user: "free", id: "anything"},
		"who has none, and no id":     {user: "free"},
		"another's, beyond its bound": {user: "free", id: "press-7"},
	} {
		t.Run(name, func(t *testing.T) {
			for version, want := range map[byte]byte{5: c.v5, 4: c.v3} {
				p, ack := h.knock(login{version: version, id: c.id, user: c.user, password: c.user})
				if ack.body[1] != want {
					t.Fatalf("%s\nMQTT %d: CONNACK %#x, want %#x", c.reason, version, ack.body[1], want)
				}

				if want == 0 {
					p.bye()

					continue
				}

				p.expectClosed()
			}

			eventually(t, "the log must say "+c.log, func() bool { return strings.Contains(book.String(), c.log) })
		})
	}

	// [MQTT-3.2.2-16]: the property Assigned Client Identifier, 0x12.
	p, ack := h.knock(login{user: "prefix", password: "prefix"})
	if id := assignedID(ack.body); !strings.HasPrefix(id, "press-") || len(id) < len("press-")+20 {
		t.Errorf("%q was assigned", id)
	}

	p.bye()

	if got := h.line(`mqtt_broker_auth_failures_total{reason="wrong_client_id"}`); !strings.HasSuffix(got, " 12") {
		t.Error(got)
	}
}

// assignedID takes the client identifier out of a CONNACK.
func assignedID(body []byte) string {
	rest := body[3 : 3+int(body[2])]

	for len(rest) > 0 {
		switch rest[0] {
		case pExpiry, pMaxPacket:
			rest = rest[5:]
		case pAliasMax, pReceiveMax:
			rest = rest[3:]
		case 0x12:
			return string(rest[3 : 3+int(binary.BigEndian.Uint16(rest[1:]))])
		default:
			return ""
		}
	}

	return ""
}

// limited is a user with a quota, whose password is its name.
func limited(t testing.TB, q *contract.Quota) contract.User {
	t.Helper()

	u := person(t, "anna", allow("#"))
	u.Quota = q

	return u
}

func TestQuotaOfConnections(t *testing.T) {
	for _, version := range []byte{5, 4} {
		t.Run(fmt.Sprint("MQTT ", version), func(t *testing.T) {
			full := byte(0x97)
			if version == 4 {
				full = 3 // "server unavailable": come again later
			}

			book := &logbook{}
			h := open(t, Options{Log: book.logger()}, baseConfig(limited(t, &contract.Quota{Connections: 2}), person(t, "otto", allow("#"))))
			enter := func(id string) *peer {
				return h.login(login{version: version, id: id, user: "anna"})
			}
			refused := func(id string) {
				t.Helper()

				p, ack := h.knock(login{version: version, id: id, user: "anna", password: "anna"})
				if ack.body[1] != full {
					t.Fatalf("CONNACK %#x, want %#x", ack.body[1], full)
				}

				p.expectClosed()
			}

			one, two := enter("1"), enter("2")
			refused("3")

			if !strings.Contains(book.String(), tooManyConnections) {
				t.Error("the log does not say why")
			}

			if got := h.line(`mqtt_broker_connections_refused_total{listener="tcp",reason="user_quota"}`); !strings.HasSuffix(got, " 1") {
				t.Error(got)
			}

			h.user("otto").alive() // another user is not concerned

			// Who takes over its own session takes the place as well, or nobody could come back after a broken line.
			again := enter("2")
			two.expectClosed()
			refused("3")
			one.nothing("nobody else was harmed")

			one.bye()
			eventually(t, "the place must be free again", func() bool { return h.Status().Connections == 2 })

			three := enter("3")

			// A smaller quota: those that came last go.
			h.mustApply(func(c *contract.Config) { c.Users[0] = limited(t, &contract.Quota{Connections: 1}) })

			want := -1
			if version == 5 {
				want = 0x97
			}

			if got := three.expectClosed(); got != want {
				t.Errorf("DISCONNECT %#x, want %#x", got, want)
			}

			again.nothing("the first of the two stays")
			refused("4")

			// And a greater one.
			h.mustApply(func(c *contract.Config) { c.Users[0] = limited(t, &contract.Quota{Connections: 3}) })
			enter("4")
			enter("5")
			refused("6")

			// None at all, and one again: what is open still counts.
			h.mustApply(func(c *contract.Config) { c.Users[0] = limited(t, nil) })
			enter("6")
			h.mustApply(func(c *contract.Config) { c.Users[0] = limited(t, &contract.Quota{Connections: 4}) })
			refused("7")
		})
	}
}

// TestQuotaOfRates: what a user sends is read more slowly, over all its connections together, and nothing is lost.
func TestQuotaOfRates(t *testing.T) {
	large := strings.Repeat("x", 2000)

	for name, c := range map[string]struct {
		quota   contract.Quota
		payload string
		count   int // in all
		least   time.Duration
	}{
		// A second's worth is free; the rest takes its time, and what is under way when the debt begins is let through.
		"messages": {contract.Quota{PublishRate: 20}, "x", 50, time.Second},
		"bytes":    {contract.Quota{BytesRate: 10_000}, large, 15, time.Second},
		"both":     {contract.Quota{PublishRate: 1000, BytesRate: 10_000}, large, 15, time.Second},
	} {
		for _, version := range []byte{5, 4} {
			t.Run(fmt.Sprintf("%s/MQTT %d", name, version), func(t *testing.T) {
				h := open(t, Options{}, baseConfig(limited(t, &c.quota), person(t, "reader", allow("#"))))
				reader := h.user("reader")
				reader.subscribe(0, "#")

				senders := []*peer{
					h.login(login{version: version, id: "1", user: "anna"}), h.login(login{version: version, id: "2", user: "anna"}),
				}
				start := time.Now()

				for i := range c.count {
					senders[i%2].publish(posted{topic: "t", payload: c.payload})
				}

				for range c.count {
					if m := reader.message(); m.payload != c.payload {
						t.Fatalf("got %+v", m)
					}
				}

				if took := time.Since(start); took < c.least {
					t.Errorf("%d messages took %v; the quota gives them %v at least", c.count, took, c.least)
				}
			})
		}
	}
}

// TestARateThatIsLiftedIsFeltAtOnce: a client that would have to wait for an hour goes on.
func TestARateThatIsLiftedIsFeltAtOnce(t *testing.T) {
	h := open(t, Options{}, baseConfig(limited(t, &contract.Quota{BytesRate: 1024}), person(t, "reader", allow("#"))))
	reader := h.user("reader")
	reader.subscribe(0, "#")

	anna := h.user("anna")
	anna.publish(posted{topic: "t", payload: strings.Repeat("x", 1<<19)})
	anna.publish(posted{topic: "t", payload: "behind"})

	if m := reader.message(); len(m.payload) != 1<<19 {
		t.Fatalf("a packet of any size is let through, and paid for afterwards; got %d bytes", len(m.payload))
	}

	reader.nothing("what is behind it has to wait")

	h.mustApply(func(c *contract.Config) { c.Users[0] = limited(t, nil) })

	if m := reader.message(); m.payload != "behind" {
		t.Errorf("got %q", m.payload)
	}
}

// TestWhoWaitsForItsRateIsNotSilent: it is the broker that does not read.
func TestWhoWaitsForItsRateIsNotSilent(t *testing.T) {
	h := open(t, Options{}, baseConfig(limited(t, &contract.Quota{BytesRate: 1024}), person(t, "reader", allow("#"))))
	reader := h.user("reader")
	reader.subscribe(0, "#")

	anna := h.login(login{id: "c", user: "anna", keepAlive: 1})
	anna.publish(posted{topic: "t", payload: strings.Repeat("x", 6<<10)}) // five seconds, of which one is free
	anna.publish(posted{topic: "t", payload: "behind"})
	reader.message()

	if m := reader.message(); m.payload != "behind" {
		t.Errorf("got %q", m.payload)
	}
}

func TestQuotaOfSessions(t *testing.T) {
	hour, day := uint32(3600), uint32(24*3600)

	h := open(t, Options{DataDir: t.TempDir()}, baseConfig(
		limited(t, &contract.Quota{QueuedMessages: 3, SessionExpiry: &hour}), person(t, "writer", allow("#"))))
	writer := h.user("writer")

	// Both versions: MQTT 3 asks for ever, and gets what there is.
	for _, version := range []byte{5, 4} {
		id := fmt.Sprint("c", version)
		resume := login{version: version, id: id, user: "anna", resume: true}

		if version == 5 {
			resume.props = u32prop(pExpiry, day)
		}

		p, ack := h.knock(login{version: version, id: id, user: "anna", password: "anna", resume: true, props: resume.props})
		if version == 5 {
			if got := connackProps(t, ack.body)[pExpiry]; got != hour {
				t.Errorf("session expiry %d, want %d: the client is told [MQTT-3.2.2-21]", got, hour)
			}
		}

		p.subscribe(1, id)
		_ = p.Close()
		eventually(t, "it is away", func() bool { return h.Status().Connections == 1 })

		for i := range 5 {
			writer.published(id, strconv.Itoa(i), false)
		}

		p = h.login(resume)
		for i := range 3 {
			if m := p.message(); m.payload != strconv.Itoa(i) {
				t.Errorf("got %q, want %d", m.payload, i)
			}
		}

		p.nothing("no more than three wait for it")
		_ = p.Close()
		eventually(t, "it is away", func() bool { return h.Status().Connections == 1 })

		// More may wait from now on.
		h.mustApply(func(c *contract.Config) {
			c.Users[0] = limited(t, &contract.Quota{QueuedMessages: 4, SessionExpiry: &hour})
		})

		for i := range 5 {
			writer.published(id, strconv.Itoa(i), false)
		}

		if n := h.Status().QueuedMessages; version == 5 && n != 1 {
			t.Errorf("%d messages wait, want 1 behind the three that were sent and not acknowledged", n)
		}

		h.mustApply(func(c *contract.Config) {
			c.Users[0] = limited(t, &contract.Quota{QueuedMessages: 3, SessionExpiry: &hour})
		})
	}

	if n := h.Status().Sessions; n != 3 {
		t.Fatalf("%d sessions", n)
	}

	// An end that is sooner holds for those that are away too.
	h.mustApply(func(c *contract.Config) {
		c.Users[0] = limited(t, &contract.Quota{SessionExpiry: new(uint32)})
	})
	eventually(t, "sessions that may not last are ended", func() bool { return h.Status().Sessions == 1 })
}

// TestSuspended: the user is kept out and told no more than a stranger; its session stays.
func TestSuspended(t *testing.T) {
	book := &logbook{}
	h := open(t, Options{Log: book.logger(), DataDir: t.TempDir()}, baseConfig(limited(t, nil), person(t, "writer", allow("#"))))
	suspend := func(yes bool) {
		h.mustApply(func(c *contract.Config) {
			u := limited(t, nil)
			u.Suspended = yes
			c.Users[0] = u
		})
	}

	writer := h.user("writer")
	resume := login{id: "c", user: "anna", resume: true, props: u32prop(pExpiry, 3600)}
	v5 := h.login(resume)
	v5.subscribe(1, "t")

	v3 := h.user3("anna")
	suspend(true)

	if got := v5.expectClosed(); got != 0x98 {
		t.Errorf("DISCONNECT %#x, want 0x98", got)
	}

	v3.expectClosed()
	writer.published("t", "while away", false)

	for version, want := range map[byte]byte{5: 0x86, 4: 5} {
		for _, password := range []string{"anna", "wrong"} {
			if _, ack := h.knock(login{version: version, id: "c", user: "anna", password: password}); ack.body[1] != want {
				t.Errorf("MQTT %d, password %q: CONNACK %#x, want %#x as for a stranger", version, password, ack.body[1], want)
			}
		}
	}

	if !strings.Contains(book.String(), "the user is suspended") {
		t.Error("the log does not say why")
	}

	if got := h.line(`mqtt_broker_auth_failures_total{reason="suspended"}`); !strings.HasSuffix(got, " 2") {
		t.Error(got)
	}

	suspend(false)

	if m := h.login(resume).message(); m.payload != "while away" {
		t.Errorf("got %+v: the session must have stayed", m)
	}
}

func BenchmarkMeter(b *testing.B) {
	m := &meter{messageRate: 1 << 40, byteRate: 1 << 40, messages: 1 << 40, bytes: 1 << 40, last: time.Now()}
	now := time.Now()

	b.ReportAllocs()

	for b.Loop() {
		m.spend(now, 1, 100)
	}
}
