// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// listModel answers for an ordered list of rules by looking at every topic of a small world.
type listModel struct {
	rules []Rule
	who   Subject
	world [][]string
}

// filter is what a rule's filter comes to for the subject. It is false if it matches nothing.
func (m *listModel) filter(r Rule) ([]string, bool) {
	levels := strings.Split(r.Filter, "/")
	values := map[string]string{
		TokenUsername: m.who.Username, TokenClientID: m.who.ClientID, TokenCommonName: m.who.CommonName,
	}

	for i, l := range levels {
		value, token := values[l]

		switch {
		case !token:
			continue
		case value == "", strings.ContainsAny(value, "/+#\x00"), i == 0 && value[0] == '$':
			return nil, false
		}

		levels[i] = value
	}

	return levels, true
}

func (m *listModel) decide(action Action, hit func(r Rule, filter []string) bool) Decision {
	for i, r := range m.rules {
		speaks := false
		for _, a := range r.Actions {
			speaks = speaks || a == action
		}

		filter, ok := m.filter(r)
		if !speaks || !ok || !hit(r, filter) {
			continue
		}

		if r.Effect == Deny {
			return Decision{Rule: i}
		}

		return Decision{Allowed: true, Rule: i, MaxQoS: capOf(r)}
	}

	return Decision{Rule: -1}
}

func capOf(r Rule) byte {
	if r.MaxQoS == nil {
		return 2
	}

	return *r.MaxQoS
}

func (m *listModel) publish(topic string, qos byte, retain bool) Decision {
	return m.decide(Publish, func(r Rule, filter []string) bool {
		above := r.Effect == Allow && (qos > capOf(r) || (retain && r.Retain != nil && !*r.Retain))

		return !above && modelMatch(filter, strings.Split(topic, "/"))
	})
}

func (m *listModel) deliver(topic string) Decision {
	return m.decide(Subscribe, func(_ Rule, filter []string) bool {
		return modelMatch(filter, strings.Split(topic, "/"))
	})
}

func (m *listModel) subscribe(asked string, qos byte) Decision {
	if rest, shared := strings.CutPrefix(asked, "$share/"); shared {
		_, asked, _ = strings.Cut(rest, "/")
	}

	levels := strings.Split(asked, "/")

	d := m.decide(Subscribe, func(r Rule, filter []string) bool {
		subset, overlap := true, false

		for _, topic := range m.world {
			in, granted := modelMatch(levels, topic), modelMatch(filter, topic)
			subset = subset && (!in || granted)
			overlap = overlap || (in && granted)
		}

		return (r.Effect == Allow && subset) || (r.Effect == Deny && overlap)
	})

	d.MaxQoS = min(d.MaxQoS, qos)

	return d
}

// draws turns bytes into decisions.
type draws struct {
	data []byte
}

func (d *draws) next(n int) int {
	if len(d.data) == 0 {
		return 0
	}

	b := d.data[0]
	d.data = d.data[1:]

	return int(b) % n
}

func (d *draws) words(alphabet []string) string {
	levels := make([]string, 0, 3)
	for range 1 + d.next(3) {
		levels = append(levels, alphabet[d.next(len(alphabet))])
	}

	return strings.Join(levels, "/")
}

func (d *draws) rule() Rule {
	r := Rule{
		Effect:  []Effect{Allow, Allow, Deny}[d.next(3)],
		Actions: [][]Action{{Publish}, {Subscribe}, {Publish, Subscribe}, {Subscribe, Publish}}[d.next(4)],
		Filter:  d.words([]string{"a", "b", "", "$s", "+", "+", "#", "%u", "%c", "%cn"}),
	}

	if q := byte(d.next(6)); q < 3 {
		r.MaxQoS = &q
	}

	if k := d.next(4); k < 2 {
		retain := k == 0
		r.Retain = &retain
	}

	return r
}

func playPolicy(t *testing.T, data []byte, world [][]string) {
	t.Helper()

	d := &draws{data: data}
	names := []string{"a", "u", "$s", "", "+", "#", "a/b", "b"}
	m := &listModel{
		who: Subject{
			Username: names[d.next(len(names))], ClientID: names[d.next(len(names))], CommonName: names[d.next(len(names))],
		},
		world: world,
	}

	for range 1 + d.next(6) {
		if r := d.rule(); r.Validate() == nil {
			m.rules = append(m.rules, r)
		}
	}

	p := mustCompile(t, m.rules...)

	for range 12 {
		topic, qos, retain := d.words([]string{"a", "b", "z", "", "$s", "u"}), byte(d.next(3)), d.next(2) == 0

		if ValidateTopic(topic) == nil {
			if got, want := p.Publish(m.who, topic, qos, retain), m.publish(topic, qos, retain); got != want {
				t.Errorf("Publish(%+v, %q, %d, %t) = %+v, want %+v by %+v", m.who, topic, qos, retain, got, want, m.rules)
			}

			if got, want := p.Deliver(m.who, topic), m.deliver(topic); got != want {
				t.Errorf("Deliver(%+v, %q) = %+v, want %+v by %+v", m.who, topic, got, want, m.rules)
			}
		}

		filter := d.words([]string{"a", "b", "z", "", "$s", "u", "+", "+", "#"})
		if d.next(4) == 0 {
			filter = "$share/g/" + filter
		}

		if ValidateFilter(filter) == nil {
			if got, want := p.Subscribe(m.who, filter, qos), m.subscribe(filter, qos); got != want {
				t.Errorf("Subscribe(%+v, %q, %d) = %+v, want %+v by %+v", m.who, filter, qos, got, want, m.rules)
			}
		}
	}
}

// policyWorld is one level deeper than any filter drawn, and has words in each level that no rule names.
func policyWorld() [][]string {
	return validSequences(sequences([]string{"a", "b", "u", "z", "$s", "$z", ""}, 4), ValidateTopic)
}

func policyGames(n int) [][]byte {
	random := rand.New(rand.NewPCG(3, 4))
	all := make([][]byte, n)

	for i := range all {
		all[i] = make([]byte, 220)
		for j := range all[i] {
			all[i][j] = byte(random.Uint32())
		}
	}

	return all
}

func TestListsAgainstTheModel(t *testing.T) {
	world := policyWorld()
	for _, data := range policyGames(150) {
		playPolicy(t, data, world)
	}
}

// FuzzPolicyLists compares whole lists of rules, with tokens and bounds, with the model.
func FuzzPolicyLists(f *testing.F) {
	for _, data := range policyGames(8) {
		f.Add(data)
	}

	world := policyWorld()

	f.Fuzz(func(t *testing.T, data []byte) { playPolicy(t, data, world) })
}
