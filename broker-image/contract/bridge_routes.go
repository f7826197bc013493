// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"fmt"
	"strings"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

// LocalFilter is what the route is about at the local end, RemoteFilter at the remote one.
func (r *BridgeRoute) LocalFilter() string { return r.LocalPrefix + r.Filter }

// RemoteFilter is what the route is about at the remote end.
func (r *BridgeRoute) RemoteFilter() string { return r.RemotePrefix + r.Filter }

// Goes says whether messages go in the direction, In or Out.
func (r *BridgeRoute) Goes(d Direction) bool { return r.Direction == d || r.Direction == Both }

// Prefixes are those of the side that messages of a direction come from and of the one that they go to.
func (r *BridgeRoute) Prefixes(d Direction) (source, destination string) {
	if d == In {
		return r.RemotePrefix, r.LocalPrefix
	}
	return r.LocalPrefix, r.RemotePrefix
}

// BridgeLockPrefix begins the topic by which the processes of one bridge agree who is active. No wildcard of a route picks
// it, since it begins with $ [MQTT-4.7.2-1].
const BridgeLockPrefix = "$mqtt-bridge/lock/"

// LockTopic is where the processes of a bridge meet at the local broker.
func (b *Bridge) LockTopic() string { return BridgeLockPrefix + b.Local.ClientIDPrefix }

// BridgeRules are the least that the user at the local end must be granted: what the routes take and bring, and the topic
// by which replicas agree who is active.
func BridgeRules(b *Bridge) []acl.Rule {
	retainsNothing, once := false, byte(0)
	rules := []acl.Rule{{
		Effect: acl.Allow, Actions: []acl.Action{acl.Publish, acl.Subscribe},
		Filter: b.LockTopic(), MaxQoS: &once, Retain: &retainsNothing,
	}}
	seen := map[string]bool{}
	for i := range b.Routes {
		r := &b.Routes[i]
		if filter := r.LocalFilter(); r.Goes(Out) && !seen["out "+filter] {
			seen["out "+filter] = true
			qos, _ := b.widest(Out, filter)
			rules = append(rules, acl.Rule{Effect: acl.Allow, Actions: []acl.Action{acl.Subscribe}, Filter: filter, MaxQoS: qosOf(qos)})
		}
		if filter := r.LocalFilter(); r.Goes(In) && !seen["in "+filter] {
			seen["in "+filter] = true
			qos, retains := b.widest(In, filter)
			rules = append(rules, acl.Rule{
				Effect: acl.Allow, Actions: []acl.Action{acl.Publish}, Filter: filter, MaxQoS: qosOf(qos), Retain: &retains,
			})
		}
	}
	return rules
}

// widest is what the routes that share topics with the filter ask for, taken together: the first rule that matches
// decides, so that each of them has to grant what any of them needs.
func (b *Bridge) widest(d Direction, filter string) (qos byte, retains bool) {
	for i := range b.Routes {
		r := &b.Routes[i]
		if _, shared := intersect(filter, r.LocalFilter()); r.Goes(d) && shared {
			qos, retains = max(qos, r.MaxQoS), retains || r.Retain
		}
	}
	return qos, retains
}

func qosOf(qos byte) *byte {
	if qos == 2 {
		return nil
	}
	return &qos
}

// LoopProblem says that two routes feed each other, and what to do.
func LoopProblem(first, second string) string {
	return fmt.Sprintf("%s and %s feed each other: what one brings over, the other takes back; narrow a filter or change a prefix", first, second)
}

// hop is a route in one direction.
type hop struct {
	route     *BridgeRoute
	direction Direction
}

// source and destination are the filters at both sides.
func (h hop) source() string {
	from, _ := h.route.Prefixes(h.direction)
	return from + h.route.Filter
}

// carry is what becomes of the topics inside topics that the hop takes; false where it takes none.
func (h hop) carry(topics string) (string, bool) {
	taken, found := intersect(topics, h.source())
	if !found {
		return "", false
	}
	from, to := h.route.Prefixes(h.direction)
	rest, found := strings.CutPrefix(taken, from)
	if !found || to+rest == "" { // the level above a #, see [BridgeRoute.Filter]
		return "", false
	}
	return to + rest, true
}

// Loop looks for messages that come back to the route that they came by and go round again, and names two routes that
// bring that about. A route of direction both is no loop by itself: its two directions share a connection, or know what
// they have just carried.
func (b *Bridge) Loop() (first, second string, found bool) {
	var hops []hop
	for i := range b.Routes {
		for _, d := range []Direction{In, Out} {
			if b.Routes[i].Goes(d) {
				hops = append(hops, hop{&b.Routes[i], d})
			}
		}
	}
	w := &follower{hops: hops, dead: map[string]bool{}}
	for n := range hops {
		if w.follow(n, hops[n].source()) {
			return w.first, w.second, true
		}
	}
	return "", "", false
}

// follower sends filters through the hops.
type follower struct {
	hops          []hop
	path          []int
	dead          map[string]bool
	first, second string
}

// follow reports whether topics, given to a hop, come by the same hop for the third time. Twice is not enough: prefixes
// that are changed on the way may lead out of the circle.
func (w *follower) follow(n int, topics string) bool {
	state := fmt.Sprint(n, " ", topics)
	if w.dead[state] {
		return false
	}
	carried, ok := w.hops[n].carry(topics)
	if ok {
		times := 0
		for _, before := range w.path {
			if before == n {
				times++
			}
		}
		if times == 2 {
			w.first, w.second = w.hops[w.path[len(w.path)-1]].route.Name, w.hops[n].route.Name
			return true
		}
		w.path = append(w.path, n)
		for next := range w.hops {
			if w.hops[next].direction != w.hops[n].direction && w.hops[next].route != w.hops[n].route && w.follow(next, carried) {
				return true
			}
		}
		w.path = w.path[:len(w.path)-1]
	}
	w.dead[state] = true
	return false
}

// intersect is the filter for exactly the topics that two filters have in common; false where there are none.
func intersect(a, b string) (string, bool) {
	if (a[0] == '$') != (b[0] == '$') && (a[0] == '#' || a[0] == '+' || b[0] == '#' || b[0] == '+') {
		return "", false // [MQTT-4.7.2-1]
	}
	left, right := strings.Split(a, "/"), strings.Split(b, "/")
	var levels []string
	for i := 0; ; i++ {
		switch {
		case i == len(left) && i == len(right):
			return strings.Join(levels, "/"), true
		case i == len(left):
			return strings.Join(levels, "/"), right[i] == "#" // which matches the level above, too
		case i == len(right):
			return strings.Join(levels, "/"), left[i] == "#"
		case left[i] == "#":
			return strings.Join(append(levels, right[i:]...), "/"), true
		case right[i] == "#":
			return strings.Join(append(levels, left[i:]...), "/"), true
		case left[i] == "+":
			levels = append(levels, right[i])
		case right[i] == "+" || left[i] == right[i]:
			levels = append(levels, left[i])
		default:
			return "", false
		}
	}
}

// Overlap tells whether two filters have a topic in common. Both must be valid.
func Overlap(a, b string) bool {
	_, found := intersect(a, b)
	return found
}
