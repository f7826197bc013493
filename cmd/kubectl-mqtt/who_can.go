// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
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
			b, err := newBook(l)
			if err != nil {
				return err
			}
			list, err := b.whoCan(q)
			if err != nil {
				return err
			}
			return list.print(s, b, q, output)
		},
	}
	f.flags(c)
	questionFlags(c, &qos, &retain)
	outputFlag(c, &output)
	return c
}

// whoCan asks for everybody.
func (b *book) whoCan(q question) (*whoCanList, error) {
	list := &whoCanList{Action: string(q.action), Filter: q.topic, QoS: q.qos, Retain: q.retain, Users: []whoCanUser{}, Config: b.info}
	if b.reserved(q) != "" {
		return list, nil
	}
	for i := range b.config.Users {
		u := &b.config.Users[i]
		id, err := b.user(u)
		if err != nil {
			return nil, err
		}
		who := acl.Subject{Username: u.Username}
		d, allowed := id.whole(who, q)
		switch {
		case allowed && u.Suspended:
			list.Suspended = append(list.Suspended, u.Username)
		case allowed:
			list.Users = append(list.Users, whoCanUser{User: u.Username, DecidedBy: id.rule(d.Rule), MaxQoS: d.MaxQoS})
		case !u.Suspended && len(id.publishing(q).depends(who, question{action: acl.Subscribe, topic: q.topic, qos: q.qos}, u.ClientIDs)) > 0:
			list.Depending = append(list.Depending, u.Username)
		}
	}
	for i := range b.config.Listeners {
		l := &b.config.Listeners[i]
		if l.Anonymous == nil {
			continue
		}
		id, err := b.anonymous(i)
		if err != nil {
			return nil, err
		}
		if d, allowed := id.whole(acl.Subject{}, q); allowed {
			list.Users = append(list.Users, whoCanUser{Listener: l.Name, DecidedBy: id.rule(d.Rule), MaxQoS: d.MaxQoS})
		}
	}
	return list, nil
}

// whole says whether all of a filter is allowed at the QoS asked for, and gives the highest QoS at which it is.
func (id *identity) whole(who acl.Subject, q question) (acl.Decision, bool) {
	if q.action == acl.Subscribe {
		d := id.policy.Subscribe(who, q.topic, maxQoS)
		return d, d.Allowed && d.MaxQoS >= q.qos
	}
	for qos := maxQoS; qos >= int(q.qos); qos-- {
		at := q
		at.qos = byte(qos) //nolint:gosec // 0 to 2
		if d := id.publishing(at).policy.Subscribe(who, q.topic, maxQoS); d.Allowed {
			d.MaxQoS = at.qos
			return d, true
		}
	}
	return acl.Decision{}, false
}

const maxQoS = 2

// publishing has the rules of id that can match a message of this QoS, said for subscribing: the question whether all
// topics of a filter are allowed is answered there. The numbers of the rules stay the same. For a question about
// subscribing it is id itself.
func (id *identity) publishing(q question) *identity {
	if q.action == acl.Subscribe {
		return id
	}
	var rules []acl.Rule
	id.each(func(_ int, rule acl.Rule) {
		matches := slices.Contains(rule.Actions, acl.Publish) &&
			(rule.MaxQoS == nil || q.qos <= *rule.MaxQoS) && (rule.Retain == nil || *rule.Retain || !q.retain)
		said := acl.Rule{Effect: rule.Effect, Actions: []acl.Action{acl.Subscribe}, Filter: rule.Filter}
		if !matches {
			said.Actions = []acl.Action{acl.Publish} // says nothing about subscribing, and keeps its place
		}
		rules = append(rules, said)
	})
	policy, err := acl.Compile(rules)
	if err != nil { // the rules were compiled before
		return joined()
	}
	return joined(part{rules: rules, policy: policy})
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
		say(s.err, "note: %s", reason)
	}
	if n := len(l.Suspended); n > 0 {
		say(s.err, "note: %d more would be allowed, but are suspended: %s", n, few(l.Suspended))
	}
	if n := len(l.Depending); n > 0 {
		say(s.err, "note: for %d more it depends on the client id or the common name: %s; ask with can-i", n, few(l.Depending))
	}
	say(s.err, "note: %s", b.note())
	return nil
}

func (l *whoCanList) table(s streams) {
	if len(l.Users) == 0 {
		say(s.out, "nobody")
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
	text := ""
	for i, name := range names[:min(most, len(names))] {
		if i > 0 {
			text += ", "
		}
		text += shown(name)
	}
	if len(names) > most {
		text += ", …"
	}
	return text
}
