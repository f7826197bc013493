// SPDX-License-Identifier: Apache-2.0

package contract

import "slices"

// Member is a bridge among others.
type Member struct {
	Routes []BridgeRoute
	// Local and Remote name the brokers at its ends. Two ends are at one broker where they share a name.
	Local, Remote []string
	// Bare says that the names of the bridges that a message has passed do not come through its remote end: MQTT 3.1.1 has
	// no user properties.
	Bare bool
}

// Step is a route of a member by which a message goes on.
type Step struct {
	Member int
	Route  string
}

// circleSteps bounds how much is looked at for one route: prefixes may make topics longer without end.
const circleSteps = 10_000

// Circles looks for messages that go round through several bridges without end, because no bridge can know that it has
// carried them before: somewhere on the way is one that is bare. Each circle is given as the steps of one round. Circles
// inside one bridge are not looked for, see [Bridge.Loop], nor those that a bridge ends by what it remembers of its own.
func Circles(members []Member) (all [][]Step) {
	var legs []leg
	for m := range members {
		for i := range members[m].Routes {
			for _, d := range []Direction{In, Out} {
				if members[m].Routes[i].Goes(d) {
					legs = append(legs, leg{hop{&members[m].Routes[i], d}, m})
				}
			}
		}
	}
	w := &walker{members: members, legs: legs, leaving: map[string][]int{}}
	for n := range legs {
		from, _ := w.ends(n)
		for _, name := range from {
			w.leaving[name] = append(w.leaving[name], n)
		}
	}
	known := map[int]bool{} // members that a circle was found for
	for n := range legs {
		if m := legs[n].member; !members[m].Bare || known[m] {
			continue
		}
		if circle := w.round(n); circle != nil {
			all = append(all, circle)
			for _, step := range circle {
				known[step.Member] = true
			}
		}
	}
	return all
}

// leg is a hop of a member.
type leg struct {
	hop

	member int
}

// walker sends topics through the legs.
type walker struct {
	members []Member
	legs    []leg
	leaving map[string][]int // the legs that begin at a broker
}

// ends are the brokers that a leg goes from and to.
func (w *walker) ends(n int) (from, to []string) {
	m := &w.members[w.legs[n].member]
	if w.legs[n].direction == Out {
		return m.Local, m.Remote
	}
	return m.Remote, m.Local
}

// visit is one arrival of topics at a leg.
type visit struct {
	leg    int
	topics string
	// turn counts how often the first leg has been met, this time included.
	turn int
}

// round is the second round of topics that come to a leg for the third time; nil where none do. Twice is not enough, as in
// [Bridge.Loop].
func (w *walker) round(first int) []Step {
	begin := visit{first, w.legs[first].source(), 1}
	before := map[visit]visit{begin: begin}
	for queue := []visit{begin}; len(queue) > 0 && len(before) < circleSteps; queue = queue[1:] {
		at := queue[0]
		carried, ok := w.legs[at.leg].carry(at.topics)
		if !ok {
			continue
		}
		if at.leg == first && at.turn == 3 {
			return w.path(before, at)
		}
		_, to := w.ends(at.leg)
		for _, name := range to {
			for _, n := range w.leaving[name] {
				next := visit{n, carried, at.turn}
				if n == first {
					next.turn++
				}
				if _, seen := before[next]; !seen && w.legs[n].member != w.legs[at.leg].member {
					before[next] = at
					queue = append(queue, next)
				}
			}
		}
	}
	return nil
}

// path is the round that ends before a visit.
func (w *walker) path(before map[visit]visit, end visit) (steps []Step) {
	for at := before[end]; ; at = before[at] {
		steps = append(steps, Step{w.legs[at.leg].member, w.legs[at.leg].route.Name})
		if at.leg == end.leg {
			slices.Reverse(steps)
			return steps
		}
	}
}
