// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// whoCanList is what who-can prints with -o json. Fields are added, never changed.
type whoCanList struct {
	Action string `json:"action"`
	Filter string `json:"filter"`
	QoS    uint8  `json:"qos"`
	Retain bool   `json:"retain,omitempty"`
	// Users are those for whom all of the filter is allowed, by username; then listeners.
	Users []whoCanUser `json:"users"`
	// Suspended users are those that would be in the list if they could connect.
	Suspended []string `json:"suspended,omitempty"`
	// Depending users are those for whom it depends on the client id or the common name.
	Depending []string   `json:"depending,omitempty"`
	Config    configInfo `json:"config"`
}

type whoCanUser struct {
	// User is the username; empty for anonymous clients of Listener.
	User      string    `json:"user,omitempty"`
	Listener  string    `json:"listener,omitempty"`
	DecidedBy *ruleInfo `json:"decidedBy"`
	// MaxQoS is the highest QoS that is allowed.
	MaxQoS uint8 `json:"maxQoS"`
}

func whoCan(s streams, open opener) *cobra.Command {
	f, output := connection{}, ""
	var (
		qos    uint8
		retain bool
	)
	c := &cobra.Command{
		Use:   "who-can publish|subscribe FILTER",
		Short: "List the users who may publish or subscribe to all of a filter",
		Long: "List the users of a broker for whom the whole filter is allowed, with the rule that decides. With --qos and --retain\n" +
			"only those who may do it so.",
		Example: "  kubectl mqtt who-can subscribe 'factory/#' -n factory\n" +
			"  kubectl mqtt who-can publish factory/press-7/orders --qos 1 --retain -n factory -o json",
		Args:      cobra.ExactArgs(2),
		ValidArgs: []string{string(acl.Publish), string(acl.Subscribe)},
		RunE: func(c *cobra.Command, args []string) error {
			// A filter may be asked about for publishing, too.
			if _, err := newQuestion(string(acl.Subscribe), args[1], qos, false); err != nil {
				return err
			}
			q := question{action: acl.Action(args[0]), topic: args[1], qos: qos, retain: retain}
			switch {
			case q.action != acl.Publish && q.action != acl.Subscribe:
				return usage("%s is neither publish nor subscribe", shown(args[0]))
			case q.action == acl.Subscribe && retain:
				return usage("--retain is about publishing")
			}
			l, err := observe(c.Context(), open, f)
			if err != nil {
				return err
			}
			b := &book{l}
			return b.whoCan(q).print(s, b, q, output)
		},
	}
	f.flags(c)
	questionFlags(c, &qos, &retain)
	outputFlag(c, &output)
	return c
}

// whoCan asks for everybody.
func (b *book) whoCan(q question) *whoCanList {
	list := &whoCanList{Action: string(q.action), Filter: q.topic, QoS: q.qos, Retain: q.retain, Users: []whoCanUser{}, Config: b.info}
	if b.reserved(q) != "" {
		return list
	}
	for i := range b.config.Users {
		u := &b.config.Users[i]
		id := b.user(u)
		who := acl.Subject{Username: u.Username}
		d, allowed := id.whole(who, q)
		switch {
		case allowed && u.Suspended:
			list.Suspended = append(list.Suspended, u.Username)
		case allowed:
			list.Users = append(list.Users, whoCanUser{User: u.Username, DecidedBy: id.rule(d.Rule), MaxQoS: d.MaxQoS})
		case !u.Suspended && id.mayDepend(who, q, u.ClientIDs):
			list.Depending = append(list.Depending, u.Username)
		}
	}
	for i := range b.config.Listeners {
		l := &b.config.Listeners[i]
		if l.Anonymous == nil {
			continue
		}
		id := b.anonymous(i)
		if d, allowed := id.whole(acl.Subject{}, q); allowed {
			list.Users = append(list.Users, whoCanUser{Listener: l.Name, DecidedBy: id.rule(d.Rule), MaxQoS: d.MaxQoS})
		}
	}
	return list
}

const maxQoS = 2

// whole says whether all of a filter is allowed at the QoS asked for, and gives the highest QoS at which it is.
func (id *identity) whole(who acl.Subject, q question) (acl.Decision, bool) {
	best, allowed := acl.Decision{}, false
	// Who may publish at a high QoS may do so at a lower one, too.
	for qos := q.qos; qos <= maxQoS; qos++ {
		at := q
		at.qos = qos
		said, places := id.about(at)
		d := said.policy().Subscribe(who, q.topic, maxQoS)
		if !d.Allowed || d.MaxQoS < q.qos {
			break
		}
		d.Rule = places[d.Rule]
		best, allowed = d, true
		if q.action == acl.Subscribe {
			break
		}
		best.MaxQoS = qos
	}
	return best, allowed
}

// mayDepend says whether the client id or the common name could make a yes of a no.
func (id *identity) mayDepend(who acl.Subject, q question, ids *contract.ClientIDs) bool {
	said, _ := id.about(q)
	return len(said.depends(who, question{action: acl.Subscribe, topic: q.topic, qos: q.qos}, ids)) > 0
}

// about has the rules of id that can play a part in a question, said for subscribing: whether all topics of a filter are
// allowed is answered there. It gives the place that each of them has in id, too.
func (id *identity) about(q question) (*identity, []int) {
	var (
		rules  []acl.Rule
		places []int
	)
	_, filter, _ := acl.SplitShare(q.topic)
	id.each(func(index int, rule acl.Rule) {
		if !slices.Contains(rule.Actions, q.action) || apart(rule.Filter, filter) {
			return
		}
		if q.action == acl.Publish {
			if rule.MaxQoS != nil && q.qos > *rule.MaxQoS || rule.Retain != nil && !*rule.Retain && q.retain {
				return
			}
			rule.MaxQoS = nil
		}
		rule.Actions, rule.Retain = []acl.Action{acl.Subscribe}, nil
		rules, places = append(rules, rule), append(places, index)
	})
	return &identity{parts: []part{{rules: rules}}}, places
}

// apart says that no topic can be in both filters, without looking closely: before thousands of rules are compiled, most
// are sorted out by it.
func apart(rule, asked string) bool {
	for {
		r, restOfRule, more := strings.Cut(rule, "/")
		a, restOfAsked, moreAsked := strings.Cut(asked, "/")
		if r == "#" || a == "#" {
			return false
		}
		open := r == "+" || a == "+" || r == acl.TokenUsername || r == acl.TokenClientID || r == acl.TokenCommonName
		if !open && r != a {
			return true
		}
		if !more || !moreAsked {
			return false
		}
		rule, asked = restOfRule, restOfAsked
	}
}

func (l *whoCanList) print(s streams, b *book, q question, output string) error {
	if output != "" {
		if err := printAs(s.out, output, l); err != nil {
			return &exit{exitUnknown, err}
		}
	} else {
		l.table(s)
	}
	if reason := b.reserved(q); reason != "" {
		sayf(s.err, "note: %s", reason)
	}
	if n := len(l.Suspended); n > 0 {
		sayf(s.err, "note: %d more would be allowed, but are suspended: %s", n, few(l.Suspended))
	}
	if n := len(l.Depending); n > 0 {
		sayf(s.err, "note: for %d more it depends on the client id or the common name: %s; ask with can-i", n, few(l.Depending))
	}
	sayf(s.err, "note: %s", b.note())
	return nil
}

func (l *whoCanList) table(s streams) {
	if len(l.Users) == 0 {
		sayf(s.out, "nobody")
		return
	}
	rows := [][]string{{"USER", "DECIDED BY", "MAX QOS"}}
	for _, u := range l.Users {
		name := shown(u.User)
		if u.Listener != "" {
			name = "(anyone on listener " + u.Listener + ")"
		}
		rows = append(rows, []string{name, u.DecidedBy.String(), strconv.Itoa(int(u.MaxQoS))})
	}
	table(s.out, rows)
}

// few are the first of many names.
func few(names []string) string {
	const most = 5
	var first []string
	for _, name := range names[:min(most, len(names))] {
		first = append(first, shown(name))
	}
	if len(names) > most {
		first = append(first, "…")
	}
	return strings.Join(first, ", ")
}
