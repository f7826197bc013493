// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

func TestConnect(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("a/#"), only(acl.Publish, "w"))))

	cases := map[string]struct {
		reason string
		login  login
		v5, v3 byte // what the CONNACK says
	}{
		"the right password":            {"the plain case", login{user: "anna", password: "anna"}, 0, 0},
		"a wrong password":              {"", login{user: "anna", password: "otto"}, 0x86, 5},
		"an unknown user":               {"", login{user: "otto", password: "otto"}, 0x86, 5},
		"a user without password":       {"a name alone proves nothing", login{user: "anna"}, 0x86, 5},
		"nobody":                        {"default deny", login{}, 0x86, 5},
		"a will inside the rules":       {"", login{user: "anna", password: "anna", willTopic: "a/w", willText: "x"}, 0, 0},
		"a will outside the rules":      {"A2: wills need the rules too", login{user: "anna", password: "anna", willTopic: "b", willText: "x"}, 0x87, 5},
		"a will to $SYS":                {"the tree is the broker's", login{user: "anna", password: "anna", willTopic: "$SYS/x", willText: "x"}, 0x87, 5},
		"a will that reads only grants": {"", login{user: "anna", password: "anna", willTopic: "w", willText: "x"}, 0, 0},
	}
	for name, c := range cases {
		for version, want := range map[byte]byte{5: c.v5, 4: c.v3} {
			t.Run(name, func(t *testing.T) {
				l := c.login
				l.version, l.id = version, "c"

				p, ack := h.knock(l)
				if ack.body[1] != want {
					t.Errorf("%s\nMQTT %d: CONNACK %#x, want %#x", c.reason, version, ack.body[1], want)
				}

				if want != 0 {
					p.expectClosed()
				} else {
					p.bye()
				}
			})
		}
	}

	p, ack := h.knock(login{id: "c", user: "anna", password: "anna", props: append([]byte{pAuthMethod}, text("SCRAM-SHA-1")...)})
	if ack.body[1] != 0x8C {
		t.Errorf("an authentication method that is not known: CONNACK %#x, want 0x8C [MQTT-4.12.0-1]", ack.body[1])
	}

	p.expectClosed()
}

func TestAnonymous(t *testing.T) {
	config := baseConfig(person(t, "anna", allow("#")))
	config.Listeners[0].Anonymous = &contract.Anonymous{ACL: []acl.Rule{allow("public/#")}}
	h := open(t, Options{}, config)

	p := h.login(login{version: 5, id: "x"})
	if code := p.published("public/a", "", false); code != 0 {
		t.Errorf("the listener's rules allow it, got %#x", code)
	}

	if code := p.published("private", "", false); code != 0x87 {
		t.Errorf("the listener's rules do not allow it, got %#x", code)
	}

	if got := p.subscribe(0, "public/+", "#"); !bytes.Equal(got, []byte{0, 0x87}) {
		t.Errorf("SUBACK % x, want 00 87", got)
	}

	if _, ack := h.knock(login{id: "y", user: "anna", password: "wrong"}); ack.body[1] != 0x86 {
		t.Errorf("credentials that are given must be right, even where none are needed; got %#x", ack.body[1])
	}
}

func TestPublish(t *testing.T) {
	h := open(t, Options{}, baseConfig(
		person(t, "anna", allow("a/#"), acl.Rule{
			Effect: acl.Allow, Actions: []acl.Action{acl.Publish}, Filter: "limited",
			MaxQoS: new(byte), Retain: new(bool),
		}),
		person(t, "reader", only(acl.Subscribe, "#"), only(acl.Subscribe, "$x/#"))))

	reader, anna := h.user("reader"), h.user("anna")
	reader.subscribe(2, "#", "$x/#")

	for _, c := range []struct {
		reason string
		m      posted
		code   byte
	}{
		{"QoS 1 inside the rules", posted{topic: "a/b", qos: 1}, 0},
		{"QoS 2 inside the rules", posted{topic: "a/b", qos: 2}, 0},
		{"QoS 1 outside the rules", posted{topic: "b", qos: 1}, 0x87},
		{"QoS 2 outside the rules", posted{topic: "b", qos: 2}, 0x87},
		{"QoS above the rule", posted{topic: "limited", qos: 1}, 0x87},
		{"$SYS is the broker's", posted{topic: "$SYS/x", qos: 1}, 0x87},
		{"$SYS in another spelling", posted{topic: "$sys/x", qos: 2}, 0x87},
		{"a share is no topic", posted{topic: "$share/g/a", qos: 1}, 0x87},
		{"more levels than a topic may have", posted{topic: "a" + strings.Repeat("/a", 128), qos: 1}, 0x90},
	} {
		anna.publish(c.m)

		kind := byte(tPuback)
		if c.m.qos == 2 {
			kind = tPubrec
		}

		ack := anna.expect(kind)
		code := reason(ack)

		if code != c.code {
			t.Errorf("%s: acknowledged with %#x, want %#x", c.reason, code, c.code)
		}

		if c.m.qos == 2 && code == 0 {
			anna.send(packet{kind: tPubrel, flags: 2, body: ack.body[:2]})
			anna.expect(tPubcomp)
		}

		if c.code == 0 {
			if got := reader.message(); got.topic != c.m.topic {
				t.Errorf("%s: the reader got %q", c.reason, got.topic)
			}
		}
	}

	anna.publish(posted{topic: "b"})
	anna.publish(posted{topic: "limited", retain: true})
	anna.alive()
	reader.nothing("QoS 0 outside the rules must be dropped, and so must all that was refused")

	anna.publish(posted{topic: "limited", payload: "yes"})

	if got := reader.message(); got.payload != "yes" {
		t.Errorf("QoS 0 unretained is what the rule allows, got %+v", got)
	}
}

func TestPublishMQTT3(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("a/#"))))

	p := h.user3("anna")
	p.subscribe(0, "#", "a/#")
	p.publish(posted{topic: "b"})
	p.nothing("QoS 0 outside the rules is dropped")
	p.publish(posted{topic: "b", qos: 1})

	if got := p.expectClosed(); got != -1 {
		t.Errorf("DISCONNECT %#x from the server", got)
	}
}

func TestSubscribe(t *testing.T) {
	capped := allow("capped")
	capped.MaxQoS = new(byte)

	h := open(t, Options{}, baseConfig(person(t, "anna",
		deny("d/secret"), allow("a/+"), allow("d/#"), capped, allow("$SYS/broker/#"))))

	for _, c := range []struct {
		reason, filter string
		v5             byte
	}{
		{"inside the rules", "a/b", 2},
		{"the rule itself", "a/+", 2},
		{"a/+ does not open a/#", "a/#", 0x87},
		{"everything is more than something", "#", 0x87},
		{"a share does not widen", "$share/g/a/#", 0x87},
		{"a share inside the rules", "$share/g/a/+", 2},
		{"a share in another spelling is none", "$SHARE/g/a/+", 0x87},
		{"a denied topic refuses what would carry it", "d/#", 0x87},
		{"a denied topic refuses only that", "d/open", 2},
		{"the QoS is capped", "capped", 0},
		{"$SYS as far as granted", "$SYS/broker/clients/+", 2},
		{"$SYS as far as granted only", "$SYS/#", 0x87},
		{"not a filter", "a/#/b", 0x8F},
		{"not a filter", "a+/b", 0x8F},
		{"more levels than the index bears", "d" + strings.Repeat("/a", 128), 0x8F},
	} {
		v3 := c.v5
		if v3 > 2 {
			v3 = 0x80
		}

		for version, want := range map[byte]byte{5: c.v5, 4: v3} {
			p := h.login(login{version: version, id: "c", user: "anna"})
			if got := p.subscribe(2, c.filter); len(got) != 1 || got[0] != want {
				t.Errorf("%s: SUBSCRIBE %.40q over MQTT %d is answered % x, want %#x", c.reason, c.filter, version, got, want)
			}

			p.bye()
		}
	}

	p := h.user("anna")
	if got := p.subscribe(1, "no", "a/b", "a/#/c", "capped"); !bytes.Equal(got, []byte{0x87, 1, 0x8F, 0}) {
		t.Errorf("each filter has its own answer, got % x", got)
	}

	if got := p.subscribe(1, "a/x"); !bytes.Equal(got, []byte{1}) {
		t.Errorf("what was refused before must not stick, got % x", got)
	}
}

func TestDelivery(t *testing.T) {
	h := open(t, Options{}, baseConfig(
		person(t, "writer", only(acl.Publish, "#")),
		person(t, "reader", allow("a/#"))))

	writer, reader := h.user("writer"), h.user("reader")
	writer.published("a/1", "kept", true)
	writer.published("a/2", "kept", true)
	writer.published("b", "kept", true)

	reader.subscribe(1, "a/#")

	got := map[string]bool{}
	for range 2 {
		m := reader.message()
		got[m.topic] = m.retain
	}

	if !got["a/1"] || !got["a/2"] {
		t.Errorf("retained messages: %v", got)
	}

	// The rules are narrowed under the subscription: to a part of it, so that it has to go.
	h.mustApply(func(c *contract.Config) { c.Users[1] = person(t, "reader", allow("a/1")) })
	writer.published("a/1", "x", false)
	writer.published("a/2", "x", false)
	reader.nothing("a subscription that is wider than the rules must be withdrawn")

	if code := reader.subscribe(1, "a/1", "a/#"); !bytes.Equal(code, []byte{1, 0x87}) {
		t.Errorf("SUBACK % x, want 01 87", code)
	}

	if m := reader.message(); m.topic != "a/1" || m.payload != "kept" || !m.retain {
		t.Errorf("got %+v, want the retained message on a/1", m)
	}

	// Widened again, the client subscribes and gets everything.
	h.mustApply(func(c *contract.Config) { c.Users[1] = person(t, "reader", allow("a/#")) })

	if code := reader.subscribe(0, "a/+"); !bytes.Equal(code, []byte{0}) {
		t.Errorf("SUBACK % x, want 00", code)
	}
}

func TestNarrowingCapsTheQoS(t *testing.T) {
	h := open(t, Options{}, baseConfig(
		person(t, "writer", only(acl.Publish, "#")), person(t, "reader", allow("a"), allow("b"))))

	writer, reader := h.user("writer"), h.user("reader")
	reader.subscribe(1, "a", "b")

	capped := allow("a")
	capped.MaxQoS = new(byte)

	h.mustApply(func(c *contract.Config) { c.Users[1] = person(t, "reader", capped, allow("b")) })
	writer.published("a", "", false)
	writer.published("b", "", false)

	if m := reader.message(); m.topic != "a" || m.qos != 0 {
		t.Errorf("got %+v, want a with QoS 0", m)
	}

	if m := reader.message(); m.topic != "b" || m.qos != 1 {
		t.Errorf("got %+v, want b with QoS 1 as before", m)
	}
}

func TestTopicAlias(t *testing.T) {
	h := open(t, Options{}, baseConfig(
		person(t, "anna", allow("a/#")), person(t, "reader", only(acl.Subscribe, "#"))))
	alias := func(n uint16) []byte { return u16prop(pAlias, n) }

	reader := h.user("reader")
	reader.subscribe(0, "#")

	anna := h.user("anna")
	anna.publish(posted{topic: "a/1", payload: "set", props: alias(3)})
	anna.publish(posted{payload: "used", props: alias(3)})

	for _, want := range []string{"set", "used"} {
		if m := reader.message(); m.topic != "a/1" || m.payload != want {
			t.Errorf("got %+v, want %q on a/1", m, want)
		}
	}

	// A9: what an alias stands for is what the rules are asked about.
	anna.publish(posted{topic: "secret", payload: "set", qos: 1, props: alias(4)})

	if ack := anna.expect(tPuback); len(ack.body) < 3 || ack.body[2] != 0x87 {
		t.Errorf("PUBACK % x, want 0x87", ack.body)
	}

	anna.publish(posted{payload: "used", qos: 1, props: alias(4)})

	if ack := anna.expect(tPuback); len(ack.body) < 3 || ack.body[2] != 0x87 {
		t.Errorf("an alias must not get past the rules: PUBACK % x, want 0x87", ack.body)
	}

	reader.nothing("nothing of that may arrive")

	anna.publish(posted{payload: "x", props: alias(5)})

	if got := anna.expectClosed(); got != 0x82 {
		t.Errorf("an alias that was never set: DISCONNECT %#x, want 0x82", got)
	}

	for _, n := range []uint16{0, contract.DefaultLimits().TopicAliasMaximum + 1} {
		p := h.user("anna")
		p.publish(posted{topic: "a", props: alias(n)})

		if got := p.expectClosed(); got != 0x94 {
			t.Errorf("alias %d: DISCONNECT %#x, want 0x94 [MQTT-3.3.2-8] [MQTT-3.3.2-9]", n, got)
		}
	}

	reader.nothing("nothing of that may arrive")
}

func TestSysIsNotInTheWildcard(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#")), person(t, "watch", only(acl.Subscribe, "$SYS/#"))))

	p := h.user("anna")
	p.subscribe(0, "#", "+/#")
	p.nothing("# must not carry $SYS [MQTT-4.7.2-1]")

	if got := p.subscribe(0, "$SYS/#"); got[0] != 0x87 {
		t.Errorf("# must not grant $SYS, got %#x", got[0])
	}

	w := h.user("watch")
	w.subscribe(0, "$SYS/broker/version")

	if m := w.message(); m.topic != "$SYS/broker/version" {
		t.Errorf("a rule that says $SYS grants it, got %+v", m)
	}
}
