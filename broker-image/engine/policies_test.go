// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// sharing is a user with shared policies behind its own rules.
func sharing(t testing.TB, name string, policies []string, rules ...acl.Rule) contract.User {
	t.Helper()

	u := person(t, name, rules...)
	u.Policies = policies

	return u
}

func TestSharedPolicies(t *testing.T) {
	config := baseConfig(
		sharing(t, "anna", []string{"lab/deny", "lab/all"}, allow("own"), deny("lab/no")),
		sharing(t, "otto", []string{"lab/all", "lab/deny"}), person(t, "none"))
	config.Policies = map[string][]acl.Rule{"lab/all": {allow("lab/#"), allow("%u/#")}, "lab/deny": {deny("lab/secret")}}
	h := open(t, Options{}, config)

	anna, otto, none := h.user("anna"), h.user("otto"), h.user("none")

	for _, c := range []struct {
		reason string
		p      *peer
		topic  string
		code   byte
	}{
		{"the own rules come first", anna, "lab/no", 0x87},
		{"then the policies, in the user's order", anna, "lab/secret", 0x87},
		{"the other order is another answer", otto, "lab/secret", 0},
		{"what the first says nothing about the second decides", anna, "lab/x", 0},
		{"tokens are each user's own", anna, "anna/x", 0},
		{"tokens are each user's own", anna, "otto/x", 0x87},
		{"who names no policy has none", none, "lab/x", 0x87},
	} {
		if got := c.p.published(c.topic, "", false); got != c.code {
			t.Errorf("%s: %s: %#x, want %#x", c.reason, c.topic, got, c.code)
		}
	}
}

// TestWhatDidNotChangeKeepsItsPointer: an unchanged policy is compiled once in the broker's life, and so is who names it.
func TestWhatDidNotChangeKeepsItsPointer(t *testing.T) {
	users := func() []contract.User {
		return []contract.User{
			sharing(t, "both", []string{"a", "b"}, allow("x")), sharing(t, "a", []string{"a"}), sharing(t, "none", nil, allow("x")),
		}
	}
	config := func(change func(c *contract.Config)) *contract.Config {
		c := baseConfig(users()...)
		c.Policies = map[string][]acl.Rule{"a": {allow("a")}, "b": {allow("b")}}
		change(c)

		return c
	}

	before, err := compile(config(func(*contract.Config) {}), nil, nil)
	if err != nil {
		t.Fatal(err)
	}

	for name, c := range map[string]struct {
		change   func(c *contract.Config)
		users    []string // whose struct is new
		policies []string // whose rules are new
	}{
		"nothing":               {change: func(*contract.Config) {}},
		"a policy of one user":  {change: func(c *contract.Config) { c.Policies["b"] = []acl.Rule{allow("c")} }, users: []string{"both"}, policies: []string{"both"}},
		"a policy of two":       {change: func(c *contract.Config) { c.Policies["a"] = nil }, users: []string{"a", "both"}, policies: []string{"a", "both"}},
		"a policy of nobody":    {change: func(c *contract.Config) { c.Policies["c"] = []acl.Rule{allow("c")} }},
		"the password of one":   {change: func(c *contract.Config) { c.Users[0].Verifiers = c.Users[1].Verifiers }, users: []string{"both"}},
		"one is suspended":      {change: func(c *contract.Config) { c.Users[0].Suspended = true }, users: []string{"both"}},
		"the order of policies": {change: func(c *contract.Config) { c.Users[0].Policies = []string{"b", "a"} }, users: []string{"both"}, policies: []string{"both"}},
		"the rules of one":      {change: func(c *contract.Config) { c.Users[2].ACL = []acl.Rule{deny("x")} }, users: []string{"none"}, policies: []string{"none"}},
	} {
		t.Run(name, func(t *testing.T) {
			after, err := compile(config(c.change), before, nil)
			if err != nil {
				t.Fatal(err)
			}

			var users, policies []string

			for _, name := range []string{"a", "both", "none"} {
				if after.users[name] != before.users[name] {
					users = append(users, name)
				}

				if after.users[name].policy != before.users[name].policy {
					policies = append(policies, name)
				}

				if after.users[name].account != before.users[name].account {
					t.Errorf("%s has another account", name)
				}
			}

			if !slices.Equal(users, c.users) || !slices.Equal(policies, c.policies) || len(after.changed) != len(c.users) {
				t.Errorf("new users %v, want %v; new rules %v, want %v; %d counted", users, c.users, policies, c.policies, len(after.changed))
			}
		})
	}
}

// TestASharedPolicyIsNarrowed: subscriptions, queued messages and wills obey it, of who is here and of who is not.
func TestASharedPolicyIsNarrowed(t *testing.T) {
	config := baseConfig(
		person(t, "writer", only(acl.Publish, "#")), person(t, "witness", allow("#")),
		sharing(t, "anna", []string{"p"}), sharing(t, "away", []string{"p"}), sharing(t, "dead", []string{"p"}))
	config.Policies = map[string][]acl.Rule{"p": {allow("a/#"), allow("b"), allow("w")}}
	h := open(t, Options{DataDir: t.TempDir()}, config)

	writer, witness, anna := h.user("writer"), h.user("witness"), h.user("anna")
	witness.subscribe(1, "w")
	anna.subscribe(1, "a/#", "b")

	away := login{id: "away", user: "away", resume: true, props: u32prop(pExpiry, 3600)}
	p := h.login(away)
	p.subscribe(1, "a/#", "b")
	_ = p.Close()

	dead := h.login(login{id: "dead", user: "dead", willTopic: "w", willText: "farewell", willQoS: 1})

	eventually(t, "it is away", func() bool { return h.Status().Connections == 4 })

	for i := range 3 {
		writer.published("a/1", strconv.Itoa(i), false)
		writer.published("b", strconv.Itoa(i), false)
	}

	for range 6 {
		anna.message()
	}

	h.mustApply(func(c *contract.Config) {
		c.Policies = map[string][]acl.Rule{"p": {allow("b")}}
	})

	writer.published("a/1", "late", false)
	writer.published("b", "late", false)

	if m := anna.message(); m.topic != "b" || m.payload != "late" {
		t.Errorf("got %+v", m)
	}

	anna.nothing("a/# is not granted any more")

	if n := h.Status().QueuedMessages; n != 7 {
		t.Errorf("%d messages wait, want the 6 from before and one on b: who is away has lost its subscription as well", n)
	}

	p = h.login(away)
	for _, want := range []string{"0", "1", "2", "late"} {
		if m := p.message(); m.topic != "b" || m.payload != want {
			t.Errorf("got %+v, want %q on b: queued messages obey the rules of now", m, want)
		}
	}

	p.nothing("what was queued and may not be delivered any more is dropped")

	_ = dead.Close()
	eventually(t, "it is dead", func() bool { return h.Status().Connections == 4 })
	witness.nothing("the will is not granted any more")
}

// TestTricks: what people try to get past the rules, in packets.
func TestTricks(t *testing.T) {
	long := strings.Repeat("a", 65535)
	deep := strings.Repeat("a/", 100) + "a"

	h := open(t, Options{}, baseConfig(
		person(t, "anna", deny("d/secret"), allow("a/+"), allow("d/#"), allow("e//f"), only(acl.Publish, "p/+"), only(acl.Subscribe, "long/#")),
		person(t, "writer", allow("#"), allow("$x/#"))))

	for filter, want := range map[string]byte{
		"a/+": 1, "a/b": 1, "a/": 1, "a": 0x87, "a/#": 0x87, "a/+/#": 0x87, "a/+/+": 0x87, "a//": 0x87, "+": 0x87, "+/+": 0x87, "+/b": 0x87,
		"#": 0x87, "+/#": 0x87, "/#": 0x87, "//": 0x87, "$SYS/#": 0x87, "$SYS/broker/version": 0x87, "+/broker/version": 0x87, "$x/#": 0x87,
		"$share/g/#": 0x87, "$share/g/a/#": 0x87, "$share/g/+/#": 0x87, "$share/g/$SYS/#": 0x87, "$share/g/a/+": 1, "$share/a/+": 0x87,
		"$share//a/+": 0x8F, "$share/g+/a/b": 0x8F, "$share/g": 0x8F, "$share/g/": 0x8F, "$share/g/$share/g/#": 0x87, "$queue/a/#": 0x87,
		"d/secret": 0x87, "d/+": 0x87, "d/#": 0x87, "+/secret": 0x87, "d/secret/#": 0x87, "d/public": 1, "d/Secret": 1, "d/secret/": 1,
		"e//f": 1, "e/+/f": 0x87, "e/f": 0x87, "e///f": 0x87, "p/x": 0x87, "": 0x8F, "a/b\x00": 0x8F, "long/" + long[5:]: 1, long: 0x87,
	} {
		p := h.login(login{id: "c", user: "anna"})

		if strings.Contains(filter, "\x00") || filter == "" || strings.HasPrefix(filter, "$share/") && want == 0x8F {
			// Some of these are malformed packets rather than refused filters: the connection ends.
			p.nextID++
			p.send(packet{kind: tSubscribe, flags: 2, body: append(append([]byte{0, 1, 0}, text(filter)...), 1)})

			if pk, err := p.receive(); err == nil && pk.kind == tSuback && pk.body[3] < 0x80 {
				t.Errorf("subscribe %.40q is granted", filter)
			}

			_ = p.Close()

			continue
		}

		if got := p.subscribe(1, filter); got[0] != want {
			t.Errorf("subscribe %.40q: %#x, want %#x", filter, got[0], want)
		}

		p.bye()
	}

	anna := h.user("anna")

	for topic, want := range map[string]byte{
		"a/b": 0, "a/": 0, "a": 0x87, "a/b/c": 0x87, "/a/b": 0x87, "a//": 0x87, "A/b": 0x87, "e//f": 0, "e/f": 0x87, "d/secret": 0x87, "d/secret/": 0,
		"$SYS/broker/version": 0x87, "$share/g/a/b": 0x87, "p/" + long[2:]: 0, long: 0x87, "long/x": 0x87, deep: 0x87,
	} {
		if got := anna.published(topic, "", false); got != want {
			t.Errorf("publish %.40q: %#x, want %#x", topic, got, want)
		}
	}

	// An alias stands for its topic, under the rules of the moment.
	alias := u16prop(pAlias, 1)
	anna.publish(posted{topic: "a/b", qos: 1, props: alias})

	if got := reason(anna.expect(tPuback)); got != 0 {
		t.Errorf("an alias of what is allowed: %#x", got)
	}

	h.mustApply(func(c *contract.Config) { c.Users[0] = person(t, "anna", allow("other")) })
	anna.publish(posted{qos: 1, props: alias})

	if got := reason(anna.expect(tPuback)); got != 0x87 {
		t.Errorf("an alias that was set before its topic was forbidden: %#x, want 0x87", got)
	}

	for _, topic := range []string{"a/b", "$SYS/x", long} {
		if _, ack := h.knock(login{id: "w", user: "anna", password: "anna", willTopic: topic, willText: "x"}); ack.body[1] != 0x87 {
			t.Errorf("a will on %.20q: CONNACK %#x, want 0x87", topic, ack.body[1])
		}
	}
}

// BenchmarkApply is what a change of one user among ten thousand costs, once the text is parsed.
func BenchmarkApply(b *testing.B) {
	const users = 10_000

	rules := func(n int) []acl.Rule {
		return []acl.Rule{allow(fmt.Sprintf("plant/%d/#", n)), only(acl.Subscribe, "orders/%u/+"), deny("plant/secret")}
	}
	build := func(pass int) *contract.Config {
		c := baseConfig()
		c.Policies = map[string][]acl.Rule{}

		for i := range 10 {
			c.Policies[fmt.Sprint("p", i)] = rules(i)
		}

		for i := range users {
			u := contract.User{
				Username: fmt.Sprintf("user-%d", i), Certificate: &contract.CertificateLogin{Pins: []string{strings.Repeat("ab", 32)}},
				ACL: rules(i), Policies: []string{fmt.Sprint("p", i%10), fmt.Sprint("p", (i+1)%10)}, Quota: &contract.Quota{PublishRate: 100},
			}
			c.Users = append(c.Users, u)
		}

		c.Users[0].ACL = append(c.Users[0].ACL, allow(fmt.Sprint("pass/", pass)))

		return c
	}

	for name, change := range map[string]func(c *contract.Config, pass int){
		"one user": func(*contract.Config, int) {},
		"one policy of 2000": func(c *contract.Config, pass int) {
			c.Policies["p0"] = append(rules(0), allow(fmt.Sprint("pass/", pass)))
		},
	} {
		b.Run(name, func(b *testing.B) {
			h := open(b, Options{}, build(0))
			two := [2]*contract.Config{build(1), build(2)}

			for i := range two {
				change(two[i], i)
			}

			worst := time.Duration(0)

			b.ReportAllocs()

			for i := 0; b.Loop(); i++ {
				next := *two[i%2]
				next.Revision = int64(i + 2)
				start := time.Now()

				if err := h.Apply(&next); err != nil {
					b.Fatal(err)
				}

				worst = max(worst, time.Since(start))
			}

			b.ReportMetric(float64(worst.Microseconds())/1000, "ms-worst")
		})
	}
}
