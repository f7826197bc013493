// SPDX-License-Identifier: Apache-2.0

package topics

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// modelMatch is the rule of MQTT, level by level.
func modelMatch(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")

	if strings.HasPrefix(topic, "$") && (f[0] == "#" || f[0] == "+") {
		return false
	}

	for i, l := range f {
		switch {
		case l == "#":
			return true
		case i == len(t) || (l != "+" && l != t[i]):
			return false
		}
	}

	return len(f) == len(t)
}

// seen is an entry in a form that can be compared: what anybody's and what one's own messages look like.
type seen struct {
	Subscriber int
	Others     View
	Own        View
	Back       bool
}

type seenShare struct {
	Name    string
	Members []seen
}

type answer struct {
	Entries []seen
	Groups  []seenShare
}

type subscription struct {
	filter string
	s      int
}

// model is an index that looks at everything.
type model map[subscription]Options

func joined(v View, o Options) View {
	v.QoS = max(v.QoS, o.QoS)
	v.RetainAsPublished = v.RetainAsPublished || o.RetainAsPublished

	if o.Identifier != 0 {
		v.Identifiers = append(v.Identifiers, o.Identifier)
		slices.Sort(v.Identifiers)
	}

	return v
}

func (m model) match(topic string) answer {
	plain := map[int]seen{}
	groups := map[string][]seen{}

	for k, o := range m {
		inner := k.filter

		shared := strings.HasPrefix(inner, "$share/")
		if shared {
			inner = strings.SplitN(inner, "/", 3)[2]
		}

		if !modelMatch(inner, topic) {
			continue
		}

		e := plain[k.s]
		if shared {
			e = seen{}
		}

		e.Subscriber = k.s
		e.Others = joined(e.Others, o)

		if !o.NoLocal {
			e.Own, e.Back = joined(e.Own, o), true
		}

		if shared {
			groups[k.filter] = append(groups[k.filter], e)
		} else {
			plain[k.s] = e
		}
	}

	var a answer

	for _, e := range plain {
		a.Entries = append(a.Entries, e)
	}

	for name, members := range groups {
		a.Groups = append(a.Groups, seenShare{Name: name, Members: members})
	}

	return a.sorted()
}

func (a answer) sorted() answer {
	bySubscriber := func(x, y seen) int { return x.Subscriber - y.Subscriber }

	slices.SortFunc(a.Entries, bySubscriber)
	slices.SortFunc(a.Groups, func(x, y seenShare) int { return cmp.Compare(x.Name, y.Name) })

	for _, g := range a.Groups {
		slices.SortFunc(g.Members, bySubscriber)
	}

	return a
}

func shown(entries []Entry[int]) []seen {
	var all []seen

	for _, e := range entries {
		own, back := e.ForPublisher()
		v := e.ForOthers()
		v.Identifiers = slices.Clone(v.Identifiers)
		slices.Sort(v.Identifiers)

		own.Identifiers = slices.Clone(own.Identifiers)
		slices.Sort(own.Identifiers)

		all = append(all, seen{Subscriber: e.Subscriber, Others: v, Own: own, Back: back})
	}

	return all
}

func answerOf(r *Result[int]) answer {
	a := answer{Entries: shown(r.Entries)}

	for _, g := range r.Groups {
		a.Groups = append(a.Groups, seenShare{Name: g.Name, Members: shown(g.Members)})
	}

	return a.sorted()
}

// source turns bytes into decisions, for the fuzzer and for seeds.
type source struct {
	data []byte
}

func (s *source) next(n int) int {
	if len(s.data) == 0 {
		return 0
	}

	b := s.data[0]
	s.data = s.data[1:]

	return int(b) % n
}

func (s *source) topic() string {
	words := []string{"a", "b", "", "$x", "a!", "a0"}
	levels := make([]string, 0, 4)

	for range 1 + s.next(4) {
		levels = append(levels, words[s.next(len(words))])
	}

	if t := strings.Join(levels, "/"); t != "" {
		return t
	}

	return "a"
}

func (s *source) filter() string {
	levels := strings.Split(s.topic(), "/")
	for i := range levels {
		if s.next(3) == 0 {
			levels[i] = "+"
		}
	}

	switch s.next(4) {
	case 0:
		levels = append(levels, "#")
	case 1:
		levels[len(levels)-1] = "#"
	}

	return strings.Join(levels, "/")
}

func (s *source) subscription() subscription {
	filter := s.filter()
	if g := s.next(6); g < 2 {
		filter = fmt.Sprintf("$share/g%d/%s", g, filter)
	}

	return subscription{filter: filter, s: s.next(5)}
}

func (s *source) options() Options {
	return Options{
		QoS:               byte(s.next(3)),
		NoLocal:           s.next(2) == 0,
		RetainAsPublished: s.next(2) == 0,
		Identifier:        uint32(s.next(4)),
	}
}

// playIndex makes the same changes to an index and to its model, and asks both.
func playIndex(t *testing.T, data []byte) {
	t.Helper()

	s := &source{data: data}
	x, m := New[int](), model{}
	into := &Result[int]{}
	made := []subscription{}

	for len(s.data) > 0 {
		before := x.Generation()

		switch s.next(9) {
		case 0, 1, 2:
			k, o := s.subscription(), s.options()
			_, want := m[k]
			m[k] = o
			made = append(made, k)

			if got := x.Subscribe(k.filter, k.s, o); got != want {
				t.Errorf("Subscribe(%q, %d) said existed=%v, want %v", k.filter, k.s, got, want)
			}

			if x.Generation() == before {
				t.Error("Subscribe did not change the generation")
			}
		case 3:
			// A crowd at once: subscribers beyond those that come and go one by one.
			k, o := s.subscription(), s.options()
			from, n := 5+s.next(40), s.next(60)

			for i := from; i < from+n; i++ {
				k.s = i
				m[k] = o
				x.Subscribe(k.filter, k.s, o)

				made = append(made, k)
			}
		case 4, 5:
			k := s.subscription()
			if len(made) > 0 && s.next(4) > 0 {
				k = made[(s.next(256)*256+s.next(256))%len(made)]
			}

			unsubscribeBoth(t, x, m, k)
		case 6:
			// Most of a filter leave.
			k := s.subscription()
			if len(made) > 0 {
				k = made[s.next(256)%len(made)]
			}

			for i := s.next(8); i < 120; i++ {
				k.s = i
				unsubscribeBoth(t, x, m, k)
			}
		default:
			topic := s.topic()
			x.Match(topic, into)

			if diff := gocmp.Diff(m.match(topic), answerOf(into)); diff != "" {
				t.Fatalf("Match(%q) (-want +got):\n%s", topic, diff)
			}
		}

		if x.Len() != len(m) {
			t.Fatalf("Len() = %d, want %d", x.Len(), len(m))
		}
	}

	for k := range m {
		x.Unsubscribe(k.filter, k.s)
	}

	wantBare(t, x)
}

func unsubscribeBoth(t *testing.T, x *Index[int], m model, k subscription) {
	t.Helper()

	_, want := m[k]
	delete(m, k)

	if got := x.Unsubscribe(k.filter, k.s); got != want {
		t.Errorf("Unsubscribe(%q, %d) = %v, want %v", k.filter, k.s, got, want)
	}
}

// wantBare checks that nothing is left behind.
func wantBare(t *testing.T, x *Index[int]) {
	t.Helper()

	if x.Len() != 0 || len(x.shares) != 0 {
		t.Errorf("Len() = %d and %d shares are left", x.Len(), len(x.shares))
	}

	if n := &x.root; n.children.Load() != 0 || n.only.Load() != nil || n.wild.Load() != nil || n.here.Load() != nil {
		t.Error("the root still has something under it")
	}

	for i := range x.edges.parts {
		if x.edges.parts[i].Load() != nil {
			t.Errorf("part %d of the table is still there", i)
		}
	}
}

// playRetained makes the same changes to a Retained and to a map, and asks both.
func playRetained(t *testing.T, data []byte) {
	t.Helper()

	s := &source{data: data}
	r, m := NewRetained[int](), map[string]int{}

	for step := 0; len(s.data) > 0; step++ {
		switch s.next(5) {
		case 0, 1:
			topic := s.topic()
			want, wantHad := m[topic]
			m[topic] = step

			if old, had := r.Set(topic, step); old != want || had != wantHad {
				t.Errorf("Set(%q) = %d, %v, want %d, %v", topic, old, had, want, wantHad)
			}
		case 2:
			topic := s.topic()
			want, wantHad := m[topic]

			if got, had := r.Get(topic); got != want || had != wantHad {
				t.Errorf("Get(%q) = %d, %v, want %d, %v", topic, got, had, want, wantHad)
			}

			delete(m, topic)

			if old, had := r.Delete(topic); old != want || had != wantHad {
				t.Errorf("Delete(%q) = %d, %v, want %d, %v", topic, old, had, want, wantHad)
			}
		case 3:
			// Many at once, so that chunks are split, and many away.
			base, away := s.topic(), s.next(2) == 0

			for i := range 40 * s.next(20) {
				topic := fmt.Sprintf("%s/%d/%s", base, i*7%1000, []string{"a", "b"}[i%2])
				if away {
					delete(m, topic)
					r.Delete(topic)
				} else {
					m[topic] = step
					r.Set(topic, step)
				}
			}
		default:
			compareRetained(t, r, m, s.filter())
		}

		if r.Len() != len(m) {
			t.Fatalf("Len() = %d, want %d", r.Len(), len(m))
		}
	}

	compareRetained(t, r, m, "#")

	for topic := range m {
		r.Delete(topic)
	}

	if r.Len() != 0 || len(r.chunks) != 0 {
		t.Errorf("Len() = %d and %d chunks are left", r.Len(), len(r.chunks))
	}
}

func compareRetained(t *testing.T, r *Retained[int], m map[string]int, filter string) {
	t.Helper()

	want, got := map[string]int{}, map[string]int{}

	for topic, message := range m {
		if modelMatch(filter, topic) {
			want[topic] = message
		}
	}

	r.Match(filter, func(topic string, message int) bool {
		if _, twice := got[topic]; twice {
			t.Errorf("Match(%q) yields %q twice", filter, topic)
		}

		got[topic] = message

		return true
	})

	if diff := gocmp.Diff(want, got); diff != "" {
		t.Fatalf("Match(%q) (-want +got):\n%s", filter, diff)
	}
}
