// SPDX-License-Identifier: Apache-2.0

package topics

import (
	"fmt"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

func TestRetainedMatch(t *testing.T) {
	all := []string{
		"/", "/x", "$SYS/up", "$a", "a", "a!", "a!/b", "a/", "a/$x", "a/b", "a/b/c", "a/b!/c", "a/c", "a/c/b", "a0", "b/b",
	}

	cases := map[string]struct {
		reason string
		filter string
		want   []string
	}{
		"no wildcard":             {reason: "one topic", filter: "a/b", want: []string{"a/b"}},
		"nothing there":           {reason: "a prefix is not enough", filter: "a/b/"},
		"all":                     {reason: "[MQTT-4.7.2-1]", filter: "#", want: append([]string{"/", "/x"}, all[4:]...)},
		"all of a single level":   {reason: "[MQTT-4.7.2-1]", filter: "+", want: []string{"a", "a!", "a0"}},
		"$ in words":              {reason: "the filter names it", filter: "$SYS/#", want: []string{"$SYS/up"}},
		"the parent":              {reason: "a/# matches a", filter: "a/#", want: []string{"a", "a/", "a/$x", "a/b", "a/b!/c", "a/b/c", "a/c", "a/c/b"}},
		"one level below":         {reason: "not two", filter: "a/+", want: []string{"a/", "a/$x", "a/b", "a/c"}},
		"a wildcard in front":     {reason: "each first level is asked", filter: "+/b", want: []string{"a!/b", "a/b", "b/b"}},
		"a wildcard amid":         {reason: "each middle level is asked", filter: "a/+/c", want: []string{"a/b!/c", "a/b/c"}},
		"a wildcard and a parent": {reason: "+/b/# matches a/b", filter: "+/b/#", want: []string{"a!/b", "a/b", "a/b/c", "b/b"}},
		"an empty first level":    {reason: "it is a level", filter: "/+", want: []string{"/", "/x"}},
		"an empty level matched":  {reason: "it is a level", filter: "+/x", want: []string{"/x"}},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := NewRetained[string]()
			for _, topic := range all {
				r.Set(topic, topic)
			}

			want, got := map[string]string{}, map[string]string{}
			for _, topic := range c.want {
				want[topic] = topic
			}

			r.Match(c.filter, func(topic, m string) bool {
				got[topic] = m

				return true
			})

			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("%s; Match(%q) (-want +got):\n%s", c.reason, c.filter, diff)
			}
		})
	}
}

func TestRetainedMatchStops(t *testing.T) {
	r := NewRetained[int]()
	for i := range 1000 {
		r.Set(fmt.Sprintf("a/%d", i), i)
	}

	for _, filter := range []string{"a/+", "a/5"} {
		n := 0

		r.Match(filter, func(string, int) bool {
			n++

			return false
		})

		if n != 1 {
			t.Errorf("Match(%q) yields %d times after it was told to stop", filter, n)
		}
	}
}

func TestRetainedMayChangeInYield(t *testing.T) {
	r := NewRetained[int]()

	const n = 3000

	for i := range n {
		r.Set(fmt.Sprintf("a/%d", i), i)
	}

	got := 0

	r.Match("a/#", func(topic string, _ int) bool {
		got++

		r.Set("a", 0)         // before
		r.Set("b/"+topic, 0)  // behind
		r.Set(topic+"/x", -1) // in between
		r.Delete(topic)

		return true
	})

	if got < n || got > 2*n {
		t.Errorf("%d topics, want %d and at most as many new ones", got, n)
	}

	if _, had := r.Get("a/1"); had {
		t.Error("a/1 was deleted and is there")
	}
}

// TestRetainedConcurrentUse has goroutines that change what is theirs, and others that must see all that stays, once.
func TestRetainedConcurrentUse(t *testing.T) {
	r := NewRetained[int]()

	const stay = 2000

	for i := range stay {
		r.Set(fmt.Sprintf("a/%d/stay", i), i)
	}

	var all sync.WaitGroup

	for w := range 2 {
		all.Go(func() {
			for round := range 20 {
				for i := range 300 {
					r.Set(fmt.Sprintf("a/%d/%d", i*7, w), round)
				}

				for i := range 300 {
					topic := fmt.Sprintf("a/%d/%d", i*7, w)
					if got, had := r.Delete(topic); !had || got != round {
						t.Errorf("Delete(%q) = %d, %v, want %d", topic, got, had, round)
					}
				}
			}
		})
	}

	for _, filter := range []string{"#", "a/+/stay", "a/#", "+/+/+"} {
		all.Go(func() {
			for range 10 {
				seen := map[string]bool{}
				got := 0

				r.Match(filter, func(topic string, m int) bool {
					if seen[topic] {
						t.Errorf("%q is there twice", topic)
					}

					seen[topic] = true

					if topic == fmt.Sprintf("a/%d/stay", m) {
						got++
					}

					return true
				})

				if got != stay {
					t.Errorf("Match(%q) found %d of %d that stayed", filter, got, stay)
				}
			}
		})
	}

	all.Wait()

	if r.Len() != stay {
		t.Errorf("Len() = %d, want %d", r.Len(), stay)
	}
}
