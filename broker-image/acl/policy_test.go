// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func allowAll(filter string) Rule {
	return Rule{Effect: Allow, Actions: []Action{Publish, Subscribe}, Filter: filter}
}

func denyAll(filter string) Rule {
	return Rule{Effect: Deny, Actions: []Action{Publish, Subscribe}, Filter: filter}
}

func mustCompile(t testing.TB, rules ...Rule) *Policy {
	t.Helper()

	p, err := Compile(rules)
	if err != nil {
		t.Fatalf("Compile(%v): %v", rules, err)
	}

	return p
}

var anna = Subject{Username: "anna", ClientID: "c1", CommonName: "anna.example"}

func TestPublish(t *testing.T) {
	cases := map[string]struct {
		reason string
		rules  []Rule
		who    Subject
		topic  string
		qos    byte
		retain bool
		want   Decision
	}{
		"no rule denies": {
			reason: "default deny",
			topic:  "a", want: Decision{Rule: -1},
		},
		"a literal rule is its topic": {
			reason: "the plain case",
			rules:  []Rule{allowAll("a/b")}, topic: "a/b", want: Decision{Allowed: true, MaxQoS: 2},
		},
		"a literal rule is not the prefix of a topic": {
			reason: "a grant on allowed must not open allowed/secret",
			rules:  []Rule{allowAll("allowed")}, topic: "allowed/secret", want: Decision{Rule: -1},
		},
		"a literal rule is not the prefix of a level": {
			reason: "the prefix look must not replace the match",
			rules:  []Rule{allowAll("a/b")}, topic: "a/bc", want: Decision{Rule: -1},
		},
		"many levels match the parent": {
			reason: "MQTT 5.0 §4.7.1.2: sport/# matches sport",
			rules:  []Rule{allowAll("a/#")}, topic: "a", want: Decision{Allowed: true, MaxQoS: 2},
		},
		"the wildcard does not open $SYS": {
			reason: "[MQTT-4.7.2-1]",
			rules:  []Rule{allowAll("#"), allowAll("+/b")}, topic: "$SYS/b", want: Decision{Rule: -1},
		},
		"a rule that says $SYS opens it": {
			reason: "granted in words",
			rules:  []Rule{allowAll("$SYS/#")}, topic: "$SYS/b", want: Decision{Allowed: true, MaxQoS: 2},
		},
		"the first match wins, deny first": {
			reason: "order is the rule",
			rules:  []Rule{denyAll("a/b"), allowAll("a/#")}, topic: "a/b", want: Decision{Rule: 0},
		},
		"the first match wins, allow first": {
			reason: "order is the rule",
			rules:  []Rule{allowAll("a/#"), denyAll("a/b")}, topic: "a/b", want: Decision{Allowed: true, MaxQoS: 2},
		},
		"a QoS above the grant asks the next rule": {
			reason: "a narrower rule before a wider one must not hide it",
			rules: []Rule{
				{Effect: Allow, Actions: []Action{Publish}, Filter: "a", MaxQoS: new(byte(0))},
				{Effect: Allow, Actions: []Action{Publish}, Filter: "a", MaxQoS: new(byte(1))},
			},
			topic: "a", qos: 1, want: Decision{Allowed: true, Rule: 1, MaxQoS: 1},
		},
		"a QoS above every grant is denied": {
			reason: "maxQoS is a limit",
			rules:  []Rule{{Effect: Allow, Actions: []Action{Publish}, Filter: "a", MaxQoS: new(byte(0))}},
			topic:  "a", qos: 1, want: Decision{Rule: -1},
		},
		"retained is denied where retain is false": {
			reason: "retain: false is a limit",
			rules:  []Rule{{Effect: Allow, Actions: []Action{Publish}, Filter: "a", Retain: new(false)}},
			topic:  "a", retain: true, want: Decision{Rule: -1},
		},
		"unretained is granted where retain is false": {
			reason: "retain: false limits retained messages only",
			rules:  []Rule{{Effect: Allow, Actions: []Action{Publish}, Filter: "a", Retain: new(false)}},
			topic:  "a", want: Decision{Allowed: true, MaxQoS: 2},
		},
		"a rule for subscribing grants no publishing": {
			reason: "actions are apart",
			rules:  []Rule{{Effect: Allow, Actions: []Action{Subscribe}, Filter: "a"}},
			topic:  "a", want: Decision{Rule: -1},
		},
		"a token is the name": {
			reason: "one policy for a fleet",
			rules:  []Rule{allowAll("d/%u/%c/%cn/#")}, who: anna, topic: "d/anna/c1/anna.example/x",
			want: Decision{Allowed: true, MaxQoS: 2},
		},
		"a token is no other name": {
			reason: "one policy for a fleet",
			rules:  []Rule{allowAll("d/%u/#")}, who: anna, topic: "d/otto/x", want: Decision{Rule: -1},
		},
		"an empty token matches nothing": {
			reason: "a client without a certificate must not own the empty level",
			rules:  []Rule{allowAll("d/%cn/#")}, who: Subject{Username: "u"}, topic: "d//x", want: Decision{Rule: -1},
		},
		"a client id that is a wildcard matches nothing": {
			reason: "client ids are chosen by the client",
			rules:  []Rule{allowAll("d/%c/x")}, who: Subject{ClientID: "+"}, topic: "d/+/x", want: Decision{Rule: -1},
		},
		"a client id with a slash matches nothing": {
			reason: "client ids are chosen by the client",
			rules:  []Rule{allowAll("d/%c/x")}, who: Subject{ClientID: "a/b"}, topic: "d/a/b/x", want: Decision{Rule: -1},
		},
		"a name never opens a $ tree": {
			reason: "a user called $SYS must not own it through %u/#",
			rules:  []Rule{allowAll("%u/#")}, who: Subject{Username: "$SYS"}, topic: "$SYS/x", want: Decision{Rule: -1},
		},
		"a wildcard is no topic": {
			reason: "[MQTT-3.3.2-2]",
			rules:  []Rule{allowAll("#")}, topic: "a/+", want: Decision{Rule: -1},
		},
		"broken UTF-8 is no topic": {
			reason: "[MQTT-1.5.4-1]",
			rules:  []Rule{allowAll("#")}, topic: "a/\xff", want: Decision{Rule: -1},
		},
		"letters beyond ASCII are": {
			reason: "topics are UTF-8",
			rules:  []Rule{allowAll("ä/+")}, topic: "ä/ö", want: Decision{Allowed: true, MaxQoS: 2},
		},
		"QoS 3 does not exist": {
			reason: "[MQTT-3.3.1-4]",
			rules:  []Rule{allowAll("#")}, topic: "a", qos: 3, want: Decision{Rule: -1},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := mustCompile(t, c.rules...).Publish(c.who, c.topic, c.qos, c.retain)
			if got != c.want {
				t.Errorf("%s\nPublish(%q) = %+v, want %+v", c.reason, c.topic, got, c.want)
			}
		})
	}
}

func TestSubscribe(t *testing.T) {
	cases := map[string]struct {
		reason string
		rules  []Rule
		who    Subject
		filter string
		qos    byte
		want   Decision
	}{
		"a single-level rule stays on its level": {
			reason: "a grant on a/+ must not open a subscription to a/#",
			rules:  []Rule{allowAll("a/+")}, filter: "a/#", want: Decision{Rule: -1},
		},
		"a rule contains itself": {
			reason: "the plain case",
			rules:  []Rule{allowAll("a/+/#")}, filter: "a/+/#", want: Decision{Allowed: true},
		},
		"a wider rule contains a narrower filter": {
			reason: "subset",
			rules:  []Rule{allowAll("a/#")}, filter: "a/+/b", want: Decision{Allowed: true},
		},
		"a literal rule does not contain a wildcard": {
			reason: "subset, not match",
			rules:  []Rule{allowAll("a/b")}, filter: "a/+", want: Decision{Rule: -1},
		},
		"# is not inside $SYS nor the other way round": {
			reason: "[MQTT-4.7.2-1]",
			rules:  []Rule{allowAll("#")}, filter: "$SYS/#", want: Decision{Rule: -1},
		},
		"a deny rule refuses what overlaps it": {
			reason: "a/# would carry a/secret",
			rules:  []Rule{denyAll("a/secret"), allowAll("a/#")}, filter: "a/#", want: Decision{Rule: 0},
		},
		"a deny rule leaves what does not overlap it": {
			reason: "a/b carries nothing of a/secret",
			rules:  []Rule{denyAll("a/secret"), allowAll("a/#")}, filter: "a/b", want: Decision{Allowed: true, Rule: 1},
		},
		"a deny of $SYS does not overlap #": {
			reason: "# never carries $SYS",
			rules:  []Rule{denyAll("$SYS/#"), allowAll("#")}, filter: "#", want: Decision{Allowed: true, Rule: 1},
		},
		"the share group plays no part": {
			reason: "the inner filter is what is read",
			rules:  []Rule{allowAll("a/+")}, filter: "$share/g/a/b", want: Decision{Allowed: true},
		},
		"a share group does not hide a denied filter": {
			reason: "the inner filter is what is read",
			rules:  []Rule{denyAll("a/b"), allowAll("#")}, filter: "$share/g/a/b", want: Decision{Rule: 0},
		},
		"a share without a filter is refused": {
			reason: "[MQTT-4.8.2-2]",
			rules:  []Rule{allowAll("#")}, filter: "$share/g", want: Decision{Rule: -1},
		},
		"a share with a wildcard group is refused": {
			reason: "[MQTT-4.8.2-2]",
			rules:  []Rule{allowAll("#")}, filter: "$share/+/a", want: Decision{Rule: -1},
		},
		"the bare word $share is refused": {
			reason: "it is a share without a group",
			rules:  []Rule{allowAll("#")}, filter: "$share", want: Decision{Rule: -1},
		},
		"the QoS is capped": {
			reason: "maxQoS caps, it does not refuse",
			rules:  []Rule{{Effect: Allow, Actions: []Action{Subscribe}, Filter: "a", MaxQoS: new(byte(1))}},
			filter: "a", qos: 2, want: Decision{Allowed: true, MaxQoS: 1},
		},
		"a token grants the own branch": {
			reason: "fleet policy", who: anna,
			rules: []Rule{allowAll("d/%u/#")}, filter: "d/anna/+", want: Decision{Allowed: true},
		},
		"a token does not grant all branches": {
			reason: "fleet policy", who: anna,
			rules: []Rule{allowAll("d/%u/#")}, filter: "d/+/x", want: Decision{Rule: -1},
		},
		"an invalid filter is refused": {
			reason: "[MQTT-4.7.1-1]",
			rules:  []Rule{allowAll("#")}, filter: "a/#/b", want: Decision{Rule: -1},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := mustCompile(t, c.rules...).Subscribe(c.who, c.filter, c.qos)
			if got != c.want {
				t.Errorf("%s\nSubscribe(%q) = %+v, want %+v", c.reason, c.filter, got, c.want)
			}
		})
	}
}

func TestDeliver(t *testing.T) {
	p := mustCompile(t,
		denyAll("a/secret"),
		Rule{Effect: Allow, Actions: []Action{Publish}, Filter: "w/#"},
		Rule{Effect: Allow, Actions: []Action{Subscribe}, Filter: "a/#", MaxQoS: new(byte(1))},
	)
	for topic, want := range map[string]Decision{
		"a/b":      {Allowed: true, Rule: 2, MaxQoS: 1},
		"a/secret": {Rule: 0},
		"w/x":      {Rule: -1},
		"a/+":      {Rule: -1},
		"":         {Rule: -1},
	} {
		if got := p.Deliver(anna, topic); got != want {
			t.Errorf("Deliver(%q) = %+v, want %+v", topic, got, want)
		}
	}
}

func TestNilPolicyDenies(t *testing.T) {
	var p *Policy
	if p.Publish(anna, "a", 0, false).Allowed || p.Subscribe(anna, "a", 0).Allowed || p.Deliver(anna, "a").Allowed {
		t.Error("a nil policy must deny everything")
	}
}

func TestPolicyDoesNotChangeWithItsRules(t *testing.T) {
	rules := []Rule{{Effect: Allow, Actions: []Action{Publish}, Filter: "a", MaxQoS: new(byte(0))}}
	p := mustCompile(t, rules...)
	rules[0].Filter, *rules[0].MaxQoS, rules[0].Actions[0] = "b", 2, Subscribe

	if got := p.Publish(anna, "a", 1, false); got.Allowed {
		t.Errorf("the policy must be a copy of its rules, got %+v", got)
	}
}

// The model below enumerates. It shares no code with the engine.

func modelMatch(filter, topic []string) bool {
	if strings.HasPrefix(topic[0], "$") && (filter[0] == "+" || filter[0] == "#") {
		return false
	}

	for {
		switch {
		case len(filter) == 0:
			return len(topic) == 0
		case filter[0] == "#":
			return true
		case len(topic) == 0:
			return false
		case filter[0] != "+" && filter[0] != topic[0]:
			return false
		}

		filter, topic = filter[1:], topic[1:]
	}
}

// sequences returns every list of 1 to depth words of the alphabet.
func sequences(alphabet []string, depth int) [][]string {
	var all, last [][]string

	last = [][]string{nil}
	for range depth {
		var next [][]string

		for _, head := range last {
			for _, word := range alphabet {
				next = append(next, append(slices.Clip(head), word))
			}
		}

		all, last = append(all, next...), next
	}

	return all
}

func validSequences(sequences [][]string, valid func(string) error) [][]string {
	var out [][]string

	for _, s := range sequences {
		if valid(strings.Join(s, "/")) == nil {
			out = append(out, s)
		}
	}

	return out
}

// TestAgainstTheModel checks match, subset and overlap of every pair of small filters against the sets of topics that
// they hold. The alphabet of topics has words that no filter has, and topics are one level deeper than filters, so that
// a wildcard is never exhausted by luck.
func TestAgainstTheModel(t *testing.T) {
	filters := validSequences(sequences([]string{"a", "b", "$s", "", "+", "#"}, 3), ValidateFilter)
	topics := validSequences(sequences([]string{"a", "b", "z", "$s", "$z", ""}, 4), ValidateTopic)
	all := func(filter []string) string { return strings.Join(filter, "/") }

	sets := make([][]bool, len(filters))
	for i, f := range filters {
		sets[i] = make([]bool, len(topics))
		c := compile(allowAll(strings.Join(f, "/")))

		for j, topic := range topics {
			sets[i][j] = modelMatch(f, topic)
			if got := c.holds(&names{}, all(topic)); got != sets[i][j] {
				t.Fatalf("filter %q matches topic %q: %t, the model says %t", f, topic, got, sets[i][j])
			}
		}
	}

	for i, rule := range filters {
		allow, deny := mustCompile(t, allowAll(all(rule))), mustCompile(t, denyAll(all(rule)))

		for j, asked := range filters {
			subset, overlap := true, false

			for k := range topics {
				subset = subset && (!sets[j][k] || sets[i][k])
				overlap = overlap || (sets[j][k] && sets[i][k])
			}

			if got := allow.Subscribe(Subject{}, all(asked), 0).Allowed; got != subset {
				t.Errorf("rule %q contains %q: %t, the model says %t", rule, asked, got, subset)
			}

			if got := deny.Subscribe(Subject{}, all(asked), 0).Rule == 0; got != overlap {
				t.Errorf("rule %q overlaps %q: %t, the model says %t", rule, asked, got, overlap)
			}
		}
	}

	t.Logf("%d filters, %d topics", len(filters), len(topics))
}

// FuzzPolicy feeds wild rules and topics and checks what must always hold.
func FuzzPolicy(f *testing.F) {
	f.Add("a/%u/#", "a/+/b", "a/x/b", "x", "c")
	f.Add("+/#", "#", "/", "$x", "")
	f.Add("$SYS/#", "$SYS/+", "$SYS/a", "a/b", "+")
	f.Add("%cn/%c", "$share/g/a", "a", "", "#")
	f.Fuzz(func(t *testing.T, rule, filter, topic, user, client string) {
		allow, err := Compile([]Rule{allowAll(rule)})
		if err != nil {
			return
		}

		deny := mustCompile(t, denyAll(rule), allowAll("#"), allowAll("$SYS/#"))
		who := Subject{Username: user, ClientID: client}

		granted := allow.Subscribe(who, filter, 0).Allowed
		read := allow.Deliver(who, topic).Allowed

		if read != allow.Publish(who, topic, 0, false).Allowed {
			t.Errorf("one rule for both actions must answer both alike on %q", topic)
		}

		_, inner, _ := SplitShare(filter)
		carried := ValidateFilter(inner) == nil && ValidateTopic(topic) == nil &&
			modelMatch(strings.Split(inner, "/"), strings.Split(topic, "/"))

		if granted && carried && !read {
			t.Errorf("rule %q grants filter %q, which carries topic %q, which it does not let be read", rule, filter, topic)
		}

		if deny.Subscribe(who, filter, 0).Allowed && carried && read {
			t.Errorf("deny %q lets filter %q through, which carries topic %q that it denies", rule, filter, topic)
		}
	})
}

func benchmarkPolicy(b *testing.B) *Policy {
	b.Helper()

	rules := make([]Rule, 0, 50)

	for i := range 49 {
		switch i % 3 {
		case 0:
			rules = append(rules, allowAll(fmt.Sprintf("site/%d/+/state", i)))
		case 1:
			rules = append(rules, allowAll(fmt.Sprintf("site/%%u/%d/#", i)))
		default:
			rules = append(rules, denyAll(fmt.Sprintf("site/+/%d/secret", i)))
		}
	}

	return mustCompile(b, append(rules, allowAll("site/%u/device/#"))...)
}

func BenchmarkPolicy(b *testing.B) {
	const topic = "site/anna/device/4711/temperature"

	p := benchmarkPolicy(b)

	for name, ask := range map[string]func() Decision{
		"publish":   func() Decision { return p.Publish(anna, topic, 1, false) },
		"subscribe": func() Decision { return p.Subscribe(anna, "site/anna/device/+/temperature", 1) },
		"deliver":   func() Decision { return p.Deliver(anna, topic) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()

			for b.Loop() {
				if d := ask(); !d.Allowed || d.Rule != 49 {
					b.Fatalf("got %+v, want the last rule to allow", d)
				}
			}
		})
	}
}

func TestQuestionsDoNotAllocate(t *testing.T) {
	p := mustCompile(t, denyAll("x/+/y"), allowAll("site/%u/#"))

	n := testing.AllocsPerRun(100, func() {
		p.Publish(anna, "site/anna/a", 1, true)
		p.Subscribe(anna, "$share/g/site/anna/+", 1)
		p.Deliver(anna, "site/anna/a")
	})
	if n != 0 {
		t.Errorf("%v allocations per round, want none: this is asked for every message", n)
	}
}
