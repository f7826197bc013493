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

// Bounds of one look at all members: what other people write must not cost the one who looks more than that. Prefixes may make
// topics longer without end.
const (
	circleVisits = 100_000
	circleBytes  = 8 << 20
	circleTopic  = 2048
)

// Circles looks for messages that go round through several bridges without end, because no bridge can know that it has
// carried them before: somewhere on the way is one that is bare. Each circle is given as the steps of one round, and each
// member that belongs to any is a step of one of them. Circles inside one bridge are not looked for, see [Bridge.Loop], nor
// those that a bridge ends by what it remembers of its own. Among very many routes not all are found.
func Circles(members []Member) (all [][]Step) {
	w := &walker{members: members, leaving: map[string][]int{}, visits: circleVisits, bytes: circleBytes}
	for m := range members {
		for i := range members[m].Routes {
			for _, d := range []Direction{In, Out} {
				if members[m].Routes[i].Goes(d) {
					w.legs = append(w.legs, leg{hop{&members[m].Routes[i], d}, m})
				}
			}
		}
	}
	for n := range w.legs {
		from, _ := w.ends(n)
		for _, name := range from {
			w.leaving[name] = append(w.leaving[name], n)
		}
	}
	known := map[int]bool{} // members that a circle was found for
	for n := range w.legs {
		if known[w.legs[n].member] {
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
	members       []Member
	legs          []leg
	leaving       map[string][]int // the legs that begin at a broker
	visits, bytes int              // what is left
}

// ends are the brokers that a leg goes from and to.
func (w *walker) ends(n int) (from, to []string) {
	m := &w.members[w.legs[n].member]
	if w.legs[n].direction == Out {
		return m.Local, m.Remote
	}
	return m.Remote, m.Local
}

func (w *walker) isBare(n int) bool { return w.members[w.legs[n].member].Bare }

// visit is one arrival of topics at a leg.
type visit struct {
	leg    int
	topics string
	// turn counts how often the first leg has been met, this time included.
	turn int
	// bare says that since then a leg was, this one included.
	bare bool
}

// round is the second round of topics that come to a leg for the third time, if it is bare somewhere; nil where there is
// none. Twice is not enough, as in [Bridge.Loop].
func (w *walker) round(first int) []Step {
	begin := visit{first, w.legs[first].source(), 1, w.isBare(first)}
	before := map[visit]visit{begin: begin}
	for queue := []visit{begin}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		carried, ok := w.legs[at.leg].carry(at.topics)
		if !ok || len(carried) > circleTopic {
			continue
		}
		if at.leg == first && at.turn == 3 {
			return w.path(before, at)
		}
		for _, next := range w.after(at, first, carried) {
			if _, seen := before[next]; seen {
				continue
			}
			if w.visits, w.bytes = w.visits-1, w.bytes-len(carried); w.visits < 0 || w.bytes < 0 {
				return nil
			}
			before[next] = at
			queue = append(queue, next)
		}
	}
	return nil
}

// after are the arrivals that follow one by which topics were carried. A round that is bare nowhere does not end at the first
// leg: there the topics are known.
func (w *walker) after(at visit, first int, carried string) (all []visit) {
	_, to := w.ends(at.leg)
	for _, name := range to {
		for _, n := range w.leaving[name] {
			switch {
			case w.legs[n].member == w.legs[at.leg].member:
			case n != first:
				all = append(all, visit{n, carried, at.turn, at.bare || w.isBare(n)})
			case at.turn == 1 || at.bare:
				all = append(all, visit{n, carried, at.turn + 1, w.isBare(n)})
			}
		}
	}
	return all
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
