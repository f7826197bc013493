// SPDX-License-Identifier: Apache-2.0

package topics

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

func TestMatch(t *testing.T) {
	type sub struct {
		filter string
		s      int
		o      Options
	}

	one := func(filter string) []sub { return []sub{{filter: filter, s: 1}} }
	found := answer{Entries: []seen{{Subscriber: 1, Back: true}}}

	cases := map[string]struct {
		reason string
		subs   []sub
		topic  string
		want   answer
	}{
		"a filter without wildcards is its topic": {
			reason: "the plain case", subs: one("a/b"), topic: "a/b", want: found,
		},
		"a filter is not the prefix of a topic": {
			reason: "levels are whole", subs: one("a"), topic: "a/b",
		},
		"a topic is not the prefix of a filter": {
			reason: "levels are whole", subs: one("a/b"), topic: "a",
		},
		"an empty level is a level": {
			reason: "MQTT 5.0 §4.7.1.3: +/+ matches /finance", subs: one("+/+"), topic: "/finance", want: found,
		},
		"a slash at the end opens one more level": {
			reason: "a and a/ are two topics", subs: one("a"), topic: "a/",
		},
		"many levels match the parent": {
			reason: "MQTT 5.0 §4.7.1.2: sport/# matches sport", subs: one("sport/#"), topic: "sport", want: found,
		},
		"many levels below a single one match its parent": {
			reason: "+/# matches a", subs: one("+/#"), topic: "a", want: found,
		},
		"a single level does not match the parent": {
			reason: "a/+ is not a", subs: one("a/+"), topic: "a",
		},
		"# leaves $ alone":   {reason: "[MQTT-4.7.2-1]", subs: one("#"), topic: "$SYS/a"},
		"+ leaves $ alone":   {reason: "[MQTT-4.7.2-1]", subs: one("+/a"), topic: "$SYS/a"},
		"a filter may say $": {reason: "MQTT 5.0 §4.7.2", subs: one("$SYS/+"), topic: "$SYS/a", want: found},
		"$ in a later level is a letter": {
			reason: "only the first level counts", subs: one("a/+"), topic: "a/$b", want: found,
		},
		"a share leaves $ alone": {
			reason: "[MQTT-4.7.2-1] speaks of the filter without the share", subs: one("$share/g/#"), topic: "$SYS/a",
		},
		"overlapping subscriptions make one entry": {
			reason: "[MQTT-3.3.4-2]: the highest QoS; [MQTT-3.3.4-4]: all identifiers",
			subs: []sub{
				{filter: "a/#", s: 1, o: Options{QoS: 1, Identifier: 7}},
				{filter: "a/+", s: 1, o: Options{QoS: 2, Identifier: 8, RetainAsPublished: true}},
				{filter: "a/b", s: 1},
			},
			topic: "a/b",
			want: answer{Entries: []seen{{
				Subscriber: 1,
				Others:     View{QoS: 2, RetainAsPublished: true, Identifiers: []uint32{7, 8}},
				Own:        View{QoS: 2, RetainAsPublished: true, Identifiers: []uint32{7, 8}},
				Back:       true,
			}}},
		},
		"an identifier that is there twice is named twice": {
			reason: "MQTT 5.0 §3.3.4: the PUBLISH then carries identical identifiers",
			subs: []sub{
				{filter: "a/#", s: 1, o: Options{Identifier: 7}},
				{filter: "a/+", s: 1, o: Options{Identifier: 7}},
			},
			topic: "a/b",
			want: answer{Entries: []seen{{
				Subscriber: 1, Back: true,
				Others: View{Identifiers: []uint32{7, 7}}, Own: View{Identifiers: []uint32{7, 7}},
			}}},
		},
		"no local hides a subscriber from itself": {
			reason: "[MQTT-3.8.3-3]",
			subs:   []sub{{filter: "a", s: 1, o: Options{NoLocal: true, QoS: 1}}},
			topic:  "a",
			want:   answer{Entries: []seen{{Subscriber: 1, Others: View{QoS: 1}}}},
		},
		"no local of one subscription does not hide another": {
			reason: "No Local belongs to a subscription, not to a client",
			subs: []sub{
				{filter: "a", s: 1, o: Options{NoLocal: true, QoS: 2, Identifier: 1}},
				{filter: "+", s: 1, o: Options{QoS: 1, Identifier: 2}},
			},
			topic: "a",
			want: answer{Entries: []seen{{
				Subscriber: 1,
				Others:     View{QoS: 2, Identifiers: []uint32{1, 2}},
				Own:        View{QoS: 1, Identifiers: []uint32{2}},
				Back:       true,
			}}},
		},
		"a share and a subscription both count": {
			reason: "MQTT 5.0 §4.8.2: they are not the same subscription",
			subs: []sub{
				{filter: "$share/g/a", s: 1, o: Options{QoS: 1}},
				{filter: "$share/g/a", s: 2},
				{filter: "$share/h/a", s: 1},
				{filter: "$share/g/+", s: 1},
				{filter: "a", s: 1, o: Options{QoS: 2}},
			},
			topic: "a",
			want: answer{
				Entries: []seen{{Subscriber: 1, Others: View{QoS: 2}, Own: View{QoS: 2}, Back: true}},
				Groups: []seenShare{
					{Name: "$share/g/+", Members: []seen{{Subscriber: 1, Back: true}}},
					{Name: "$share/g/a", Members: []seen{
						{Subscriber: 1, Others: View{QoS: 1}, Own: View{QoS: 1}, Back: true},
						{Subscriber: 2, Back: true},
					}},
					{Name: "$share/h/a", Members: []seen{{Subscriber: 1, Back: true}}},
				},
			},
		},
		"a subscription made again has its new options": {
			reason: "[MQTT-3.8.4-3]: it replaces the old one",
			subs: []sub{
				{filter: "a", s: 1, o: Options{QoS: 2, NoLocal: true, Identifier: 3}},
				{filter: "a", s: 1, o: Options{QoS: 1}},
			},
			topic: "a",
			want:  answer{Entries: []seen{{Subscriber: 1, Others: View{QoS: 1}, Own: View{QoS: 1}, Back: true}}},
		},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			x := New[int]()
			for _, s := range c.subs {
				x.Subscribe(s.filter, s.s, s.o)
			}

			var r Result[int]

			x.Match(c.topic, &r)

			if diff := gocmp.Diff(c.want, answerOf(&r)); diff != "" {
				t.Errorf("%s; Match(%q) (-want +got):\n%s", c.reason, c.topic, diff)
			}
		})
	}
}

// fill subscribes so many, with numbers from 0.
func fill(x *Index[int], filter string, n int) {
	for i := range n {
		x.Subscribe(filter, i, Options{QoS: 1, Identifier: uint32(1 + i/3)})
	}
}

func TestAResultStaysAsItWas(t *testing.T) {
	for _, n := range []int{1, 5, crowdFrom, crowdFrom + 1, 300} {
		for _, filter := range []string{"a", "$share/g/a"} {
			t.Run(fmt.Sprintf("%d on %s", n, filter), func(t *testing.T) {
				x := New[int]()
				fill(x, filter, n)

				var r Result[int]

				x.Match("a", &r)

				before := answerOf(&r)

				x.Unsubscribe(filter, 0)
				wantSame(t, before, &r)

				var later Result[int]

				x.Match("a", &later)

				beforeLater := answerOf(&later)

				for i := range n {
					x.Subscribe(filter, n-1-i, Options{QoS: 0, NoLocal: true, Identifier: 9})
				}

				wantSame(t, beforeLater, &later)

				for i := range n {
					x.Subscribe(filter, i, Options{QoS: 2, NoLocal: true, Identifier: 9})
					x.Subscribe(filter, n+i, Options{QoS: 2})
					x.Unsubscribe(filter, i)
				}

				wantSame(t, before, &r)
				wantSame(t, beforeLater, &later)
			})
		}
	}
}

func wantSame(t *testing.T, before answer, r *Result[int]) {
	t.Helper()

	if diff := gocmp.Diff(before, answerOf(r)); diff != "" {
		t.Errorf("a kept result must not change with the index (-before +after):\n%s", diff)
	}
}

// TestManyBrothers has enough children under one node to collide in the table.
func TestManyBrothers(t *testing.T) {
	x := New[int]()

	const n = 20_000

	for i := range n {
		x.Subscribe(deviceFlat(i), i, Options{})
	}

	for i := range n {
		if i%3 > 0 {
			x.Unsubscribe(deviceFlat(i), i)
		}
	}

	var r Result[int]

	for i := range n {
		x.Match(deviceFlat(i), &r)

		if want := 1 - min(i%3, 1); len(r.Entries) != want {
			t.Errorf("%s: %d subscribers, want %d", deviceFlat(i), len(r.Entries), want)
		}
	}

	for i := 0; i < n; i += 3 {
		x.Unsubscribe(deviceFlat(i), i)
	}

	wantBare(t, x)
}

func TestEqualHashesAreNotEqualNodes(t *testing.T) {
	var e edges[int]

	one, two := &node[int]{}, &node[int]{}
	a := &node[int]{parent: one, text: "x", hash: 5}
	b := &node[int]{parent: two, text: "x", hash: 5}

	e.put(a)

	if e.get(two, "x", 5) != nil || e.get(one, "y", 5) != nil {
		t.Error("a node was found for another's parent or text")
	}

	e.put(b)
	e.remove(a)

	if e.get(two, "x", 5) != b || e.get(one, "x", 5) != nil {
		t.Error("the wrong node was removed, or one behind it is out of reach")
	}
}

func TestAReusedResultKeepsNobody(t *testing.T) {
	x := New[*int]()
	one, two := new(int), new(int)

	x.Subscribe("a", one, Options{})
	x.Subscribe("+", two, Options{})
	x.Subscribe("$share/g/a", two, Options{})

	var r Result[*int]

	x.Match("a", &r)
	x.Match("b", &r)

	for _, e := range r.buffer[len(r.Entries):cap(r.buffer)] {
		if e.Subscriber != nil {
			t.Error("a subscriber of the last result is still referred to")
		}
	}

	for _, g := range r.Groups[:cap(r.Groups)] {
		if g.Members != nil {
			t.Error("a group of the last result is still referred to")
		}
	}
}

func TestMembersOfAShareTakeTurns(t *testing.T) {
	x := New[int]()
	fill(x, "$share/g/a/+", 3)

	var r, other Result[int]

	x.Match("a/b", &r)
	r.Groups[0].Next.Add(1)

	x.Subscribe("$share/g/a/+", 9, Options{})
	x.Match("a/c", &other)

	if got := other.Groups[0].Next.Add(1); got != 2 {
		t.Errorf("the turn is %d in another result, want 2: it belongs to the share", got)
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	x := New[int]()
	fill(x, "a/b/c", 3)
	fill(x, "a/+/c", 100)
	fill(x, "x/#", 200)
	fill(x, "$share/g/x/y", 20)

	var r Result[int]

	for _, topic := range []string{"a/x/c", "x/y", "nobody/here", "a"} {
		if n := testing.AllocsPerRun(10, func() { x.Match(topic, &r) }); n > 0 {
			t.Errorf("Match(%q) allocates %v times", topic, n)
		}
	}
}

func TestManyLevels(t *testing.T) {
	x := New[int]()
	deep := strings.Repeat("a/", 32000) + "a"
	filter := strings.Repeat("+/", 32000) + "+"

	x.Subscribe(deep, 1, Options{})
	x.Subscribe(filter, 2, Options{})
	x.Subscribe("a/#", 3, Options{})

	var r Result[int]

	x.Match(deep, &r)

	if len(r.Entries) != 3 {
		t.Errorf("%d subscribers, want 3", len(r.Entries))
	}

	for i, f := range []string{deep, filter, "a/#"} {
		x.Unsubscribe(f, i+1)
	}

	wantBare(t, x)
}

func TestManySpots(t *testing.T) {
	x := New[int]()
	topic := "a/a/a/a/a"
	want := 0

	for mask := range 1 << 5 {
		levels := strings.Split(topic, "/")
		for i := range levels {
			if mask>>i&1 == 1 {
				levels[i] = "+"
			}
		}

		x.Subscribe(strings.Join(levels, "/"), mask%7, Options{Identifier: 1})

		want++
	}

	var r Result[int]

	x.Match(topic, &r)

	got := 0
	for _, e := range r.Entries {
		got += len(e.Identifiers)
	}

	if len(r.Entries) != 7 || got != want {
		t.Errorf("%d subscribers with %d identifiers, want 7 with %d", len(r.Entries), got, want)
	}
}

// TestConcurrentUse has goroutines that change what is theirs and must see it at once, while others only look.
func TestConcurrentUse(t *testing.T) {
	const (
		workers = 4
		rounds  = 400
	)

	x := New[int]()
	fill(x, "a/b", 40)      // stays
	fill(x, "stay/+/on", 1) // stays

	holds := func(r *Result[int], s int) bool {
		return slices.ContainsFunc(r.Entries, func(e Entry[int]) bool { return e.Subscriber == s })
	}

	var (
		changers, lookers sync.WaitGroup
		done              atomic.Bool
	)

	for w := range workers {
		me := 1000 + w

		changers.Go(func() {
			var r Result[int]

			for i := range rounds {
				mine := fmt.Sprintf("a/%d", i%50)
				filters := []string{"a/b", "a/+", "#", "a/c/d", mine, mine + "/+/x", "$share/g/a/b"}
				before := x.Generation()

				for j, f := range filters {
					x.Subscribe(f, me, Options{QoS: byte(j % 3), Identifier: uint32(j + 1)})
				}

				if x.Generation() == before {
					t.Error("the generation stood still")
				}

				for _, topic := range []string{"a/b", "a/c/d", mine, mine + "/y/x"} {
					x.Match(topic, &r)

					if !holds(&r, me) {
						t.Errorf("%q: subscribed, and not found", topic)
					}
				}

				for _, f := range filters {
					if !x.Unsubscribe(f, me) {
						t.Errorf("%q is gone", f)
					}
				}

				for _, topic := range []string{"a/b", "a/c/d", mine, mine + "/y/x"} {
					x.Match(topic, &r)

					if holds(&r, me) {
						t.Errorf("%q: unsubscribed, and found", topic)
					}
				}
			}
		})
	}

	for range 2 {
		lookers.Go(func() {
			var r Result[int]

			for !done.Load() {
				x.Match("a/b", &r)

				stay := 0

				for _, e := range r.Entries {
					if e.Subscriber < 40 {
						stay++
					}
				}

				if stay != 40 {
					t.Errorf("%d of 40 found that never left", stay)
				}

				x.Match("stay/here/on", &r)

				if !holds(&r, 0) {
					t.Error("one that never left was not found")
				}
			}
		})
	}

	changers.Wait()
	done.Store(true)
	lookers.Wait()

	if x.Len() != 41 {
		t.Errorf("Len() = %d, want 41", x.Len())
	}
}

// TestAChildIsNeverOutOfSight turns one child into several and back while others look for it.
func TestAChildIsNeverOutOfSight(t *testing.T) {
	x := New[int]()
	x.Subscribe("p/stay", 1, Options{})

	var (
		looker sync.WaitGroup
		done   atomic.Bool
	)

	looker.Go(func() {
		var r Result[int]

		for !done.Load() {
			x.Match("p/stay", &r)

			if len(r.Entries) != 1 {
				t.Error("the child that stays was not found")
			}
		}
	})

	for round := range 200 {
		n := 1 + round%20*10
		for i := range n {
			x.Subscribe(fmt.Sprintf("p/%d", i), 2, Options{})
		}

		for i := range n {
			x.Unsubscribe(fmt.Sprintf("p/%d", i), 2)
		}
	}

	done.Store(true)
	looker.Wait()
}
