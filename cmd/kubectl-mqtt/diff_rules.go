// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

// Levels that stand for any in the topics that rules are tried with.
const (
	anyLevel  = "any"
	manyRules = 24 // above it three rules are not looked at together
)

// lessAndMore says what somebody may do no more under other rules, and what may be done beside. It asks both lists about a topic of
// each part into which their filters divide the topics that a rule which came, went or moved is about.
func lessAndMore(who acl.Subject, before, after []acl.Rule) (less, more []string) {
	// What is not known stands for itself, so that a rule's token stands in the answer.
	if who.ClientID == "" {
		who.ClientID = acl.TokenClientID
	}
	if who.CommonName == "" {
		who.CommonName = acl.TokenCommonName
	}
	was, err := acl.Compile(before)
	if err != nil {
		was = nil // no broker took it
	}
	is, err := acl.Compile(after)
	if err != nil {
		is = nil
	}
	l, m := &losses{}, &losses{}
	for _, region := range regions(who, before, after) {
		l.compare(who, was, is, region)
		m.compare(who, is, was, region)
	}
	return l.texts(), m.texts()
}

// regions are filters for the parts of all topics about which the two lists may say different things.
func regions(who acl.Subject, before, after []acl.Rule) []string {
	named := func(rule *acl.Rule) string {
		levels := strings.Split(rule.Filter, "/")
		for i, level := range levels {
			switch level {
			case acl.TokenUsername:
				levels[i] = who.Username
			case acl.TokenClientID:
				levels[i] = who.ClientID
			case acl.TokenCommonName:
				levels[i] = who.CommonName
			}
		}
		return strings.Join(levels, "/")
	}
	var all, changed []string
	kept := commonRules(before, after)
	for n, list := range [][]acl.Rule{before, after} {
		for i := range list {
			filter := named(&list[i])
			all = append(all, filter)
			if !slices.ContainsFunc(kept, func(pair [2]int) bool { return pair[n] == i }) {
				changed = append(changed, filter)
			}
		}
	}
	found := map[string]bool{}
	var list []string
	add := func(filter string) {
		if !found[filter] {
			found[filter] = true
			list = append(list, filter)
		}
	}
	for _, c := range changed {
		add(c)
		for _, other := range all {
			both, meet := intersection(c, other)
			if !meet {
				continue
			}
			add(both)
			add(other) // a subscription to it is about both
			for _, third := range all {
				if three, meet := intersection(both, third); meet && len(all) <= manyRules {
					add(three)
				}
			}
		}
	}
	return list
}

// commonRules are the places of the rules that both lists have in the same order.
func commonRules(before, after []acl.Rule) [][2]int {
	texts := func(rules []acl.Rule) []any {
		list := make([]any, len(rules))
		for i := range rules {
			list[i] = sentence(rules[i])
		}
		return list
	}
	return longestCommon(texts(before), texts(after))
}

// intersection is a filter for topics that are in both; false where there are none.
func intersection(a, b string) (string, bool) {
	x, y := strings.Split(a, "/"), strings.Split(b, "/")
	var levels []string
	for i := 0; ; i++ {
		switch {
		case i < len(x) && x[i] == "#":
			if i <= len(y) {
				return strings.Join(append(levels, y[min(i, len(y)):]...), "/"), len(levels)+len(y[min(i, len(y)):]) > 0
			}
			return "", false
		case i < len(y) && y[i] == "#":
			return strings.Join(append(levels, x[min(i, len(x)):]...), "/"), len(levels)+len(x[min(i, len(x)):]) > 0
		case i == len(x) || i == len(y):
			return strings.Join(levels, "/"), len(x) == len(y)
		case x[i] == "+":
			levels = append(levels, y[i])
		case y[i] == "+" || x[i] == y[i]:
			levels = append(levels, x[i])
		default:
			return "", false
		}
	}
}

// topicsOf are topics in a filter: with each way in which its # may end.
func topicsOf(filter string) []string {
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		if level == "+" {
			levels[i] = anyLevel
		}
	}
	last := len(levels) - 1
	if levels[last] != "#" {
		return []string{strings.Join(levels, "/")}
	}
	base := strings.Join(levels[:last], "/")
	if last == 0 {
		return []string{anyLevel, anyLevel + "/" + anyLevel}
	}
	return []string{base, base + "/" + anyLevel, base + "/" + anyLevel + "/" + anyLevel}
}

// loss is something that is granted no more, for the topics of a filter.
type loss struct{ action, filter, how string }

type losses struct{ list []loss }

// compare notes what the one list grants in a region and the other does not.
func (l *losses) compare(who acl.Subject, was, is *acl.Policy, region string) {
	for i, topic := range topicsOf(region) {
		shownAs := region
		if above, isOpen := strings.CutSuffix(region, "/#"); isOpen && i == 0 {
			shownAs = above // a topic of the level above, which is in the region, too
		}
		for _, q := range []struct {
			qos    byte
			retain bool
			how    string
		}{{0, false, ""}, {0, true, " retained"}, {1, false, " at QoS 1"}, {2, false, " at QoS 2"}} {
			if was.Publish(who, topic, q.qos, q.retain).Allowed && !is.Publish(who, topic, q.qos, q.retain).Allowed {
				l.add(loss{string(acl.Publish), shownAs, q.how})
				if q.how == "" {
					break // and all the others
				}
			}
		}
	}
	for _, filter := range append([]string{region}, topicsOf(region)...) {
		granted, left := was.Subscribe(who, filter, 2), is.Subscribe(who, filter, 2)
		switch {
		case granted.Allowed && !left.Allowed:
			l.add(loss{string(acl.Subscribe), filter, ""})
		case granted.Allowed && granted.MaxQoS > left.MaxQoS:
			l.add(loss{string(acl.Subscribe), filter, fmt.Sprintf(" above QoS %d", left.MaxQoS)})
		}
	}
}

// add leaves out what is inside of something that is known, and what is inside of the new one.
func (l *losses) add(next loss) {
	for _, known := range l.list {
		if known.action == next.action && (known.how == next.how || known.how == "") && isWithin(next.filter, known.filter) {
			return
		}
	}
	l.list = slices.DeleteFunc(l.list, func(known loss) bool {
		return known.action == next.action && (known.how == next.how || next.how == "") && isWithin(known.filter, next.filter)
	})
	l.list = append(l.list, next)
}

// isWithin reports whether all topics of a filter are in the other.
func isWithin(filter, wider string) bool {
	x, y := strings.Split(filter, "/"), strings.Split(wider, "/")
	for i, level := range y {
		switch {
		case level == "#":
			return true
		case i >= len(x) || x[i] == "#", level != "+" && level != x[i]:
			return false
		}
	}
	return len(x) == len(y)
}

// mostLosses is how many stand in one line.
const mostLosses = 6

func (l *losses) texts() []string {
	var texts []string
	for _, each := range l.list {
		texts = append(texts, each.action+" "+shown(each.filter)+each.how)
	}
	slices.Sort(texts)
	if texts = slices.Compact(texts); len(texts) > mostLosses {
		texts = append(texts[:mostLosses], fmt.Sprintf("and %d more", len(texts)-mostLosses))
	}
	return texts
}
