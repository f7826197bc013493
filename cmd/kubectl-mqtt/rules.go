// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// question is what somebody wants to do.
type question struct {
	action acl.Action
	topic  string // a filter where the action is subscribe
	qos    byte
	retain bool
}

// ruleInfo is a rule with the place where a person can change it. Fields are added, never changed.
type ruleInfo struct {
	// Kind is MQTTUser, MQTTAccessPolicy or MQTTBroker.
	Kind string `json:"kind"`
	// Namespace of the object.
	Namespace string `json:"namespace,omitempty"`
	// Name of the object; for an MQTTUser that may not be looked up it is the username.
	Name string `json:"name"`
	// Field of the rule in the object, such as spec.acl[2].
	Field string `json:"field"`
	// Number of the rule in its list, from 1 on.
	Number int      `json:"number"`
	Rule   acl.Rule `json:"rule"`
}

// String is the rule as a person would point to it.
func (r *ruleInfo) String() string {
	return fmt.Sprintf("rule %d of %s %s (%s: %s)", r.Number, r.Kind, shown(r.Name), r.Field, sentence(r.Rule))
}

// sentence is a rule in one line.
func sentence(r acl.Rule) string {
	actions := make([]string, len(r.Actions))
	for i, a := range r.Actions {
		actions[i] = string(a)
	}
	text := fmt.Sprintf("%s %s %s", r.Effect, strings.Join(actions, ", "), shown(r.Filter))
	if r.MaxQoS != nil {
		text += fmt.Sprintf(", at most QoS %d", *r.MaxQoS)
	}
	if r.Retain != nil && !*r.Retain {
		text += ", not retained"
	}
	return text
}

// part is a list of rules in one object.
type part struct {
	kind, namespace, name, field string

	rules []acl.Rule
}

// identity is somebody with rules, in the parts in which they are asked.
type identity struct {
	parts    []part
	compiled *acl.Policy
}

// policy is what the broker asks, made when it is needed. A configuration that was read holds valid rules alone; were it
// otherwise, nothing would be allowed.
func (id *identity) policy() *acl.Policy {
	if id.compiled == nil {
		var all []*acl.Policy
		for i := range id.parts {
			compiled, err := acl.Compile(id.parts[i].rules)
			if err != nil {
				return nil
			}
			all = append(all, compiled)
		}
		id.compiled = acl.Join(all...)
	}
	return id.compiled
}

// book knows the rules of all who may connect.
type book struct{ *live }

// user is a user with its own rules and its policies.
func (b *book) user(u *contract.User) *identity {
	own := part{kind: "MQTTUser", name: u.Username, field: "spec.acl", rules: u.ACL}
	if object := b.objects[u.Username]; object != nil {
		own.namespace, own.name = object.Namespace, object.Name
	}
	id := &identity{parts: []part{own}}
	for _, key := range u.Policies {
		namespace, name, _ := strings.Cut(key, "/")
		id.parts = append(id.parts, part{kind: "MQTTAccessPolicy", namespace: namespace, name: name, field: "spec.rules", rules: b.config.Policies[key]})
	}
	return id
}

// anonymous is who connects to a listener without a name.
func (b *book) anonymous(index int) *identity {
	l := &b.config.Listeners[index]
	// A listener that cannot be opened is not in the configuration: its place in the spec is another then.
	for i := range b.broker.Spec.Listeners {
		if b.broker.Spec.Listeners[i].Name == l.Name {
			index = i
		}
	}
	return &identity{parts: []part{{
		kind: "MQTTBroker", namespace: b.broker.Namespace, name: b.broker.Name,
		field: fmt.Sprintf("spec.listeners[%d].anonymous.acl", index), rules: l.Anonymous.ACL,
	}}}
}

// ask is what the broker asks.
func (id *identity) ask(who acl.Subject, q question) acl.Decision {
	if q.action == acl.Publish {
		return id.policy().Publish(who, q.topic, q.qos, q.retain)
	}
	return id.policy().Subscribe(who, q.topic, q.qos)
}

// rule finds the rule that a decision names, nil if none decided.
func (id *identity) rule(index int) *ruleInfo {
	for i := range id.parts {
		p := &id.parts[i]
		if index >= 0 && index < len(p.rules) {
			return &ruleInfo{
				Kind: p.kind, Namespace: p.namespace, Name: p.name, Field: fmt.Sprintf("%s[%d]", p.field, index), Number: index + 1, Rule: p.rules[index],
			}
		}
		index -= len(p.rules)
	}
	return nil
}

// each visits all rules in order.
func (id *identity) each(visit func(index int, rule acl.Rule)) {
	n := 0
	for i := range id.parts {
		for _, rule := range id.parts[i].rules {
			visit(n, rule)
			n++
		}
	}
}

// What an answer can depend on.
const (
	onClientID   = "clientID"
	onCommonName = "commonName"
)

// depends says which names that were not given would change the answer. allowed bounds the client ids to be thought of.
func (id *identity) depends(who acl.Subject, q question, allowed *contract.ClientIDs) []string {
	var on []string
	if who.ClientID == "" && id.changes(who, q, acl.TokenClientID, func(s *acl.Subject, value string) bool {
		s.ClientID = value
		return allowed.Allow(value)
	}) {
		on = append(on, onClientID)
	}
	if who.CommonName == "" && id.changes(who, q, acl.TokenCommonName, func(s *acl.Subject, value string) bool {
		s.CommonName = value
		return true
	}) {
		on = append(on, onCommonName)
	}
	return on
}

// changes says whether some value for a token gives another answer. set puts a value in, unless it cannot be one.
func (id *identity) changes(who acl.Subject, q question, token string, set func(*acl.Subject, string) bool) (found bool) {
	_, filter, _ := acl.SplitShare(q.topic)
	asked := strings.Split(filter, "/")
	base, asking := acl.Decision{}, false
	id.each(func(_ int, rule acl.Rule) {
		if found || !strings.Contains(rule.Filter, token) {
			return
		}
		if !asking {
			base, asking = id.ask(who, q), true
		}
		for i, level := range strings.Split(rule.Filter, "/") {
			value := "any" // where a wildcard is asked for, every name is as good
			if i < len(asked) && asked[i] != "+" && asked[i] != "#" {
				value = asked[i]
			}
			other := who
			if level != token || value == "" || !set(&other, value) {
				continue
			}
			d := id.ask(other, q)
			found = found || d.Allowed != base.Allowed || d.Rule != base.Rule
		}
	})
	return found
}

// reserved says why nobody may publish to a topic, or nothing. It holds before every rule.
func (b *book) reserved(q question) string {
	_, filter, _ := acl.SplitShare(q.topic)
	if levels := strings.Count(filter, "/") + 1; levels > b.config.Limits.MaxTopicLevels {
		return fmt.Sprintf("it has %d levels, and the broker takes %d (spec.limits.maxTopicLevels)", levels, b.config.Limits.MaxTopicLevels)
	}
	if first, _, _ := strings.Cut(q.topic, "/"); q.action == acl.Publish && (first == "$SYS" || first == "$share") {
		return "topics below " + first + " are the broker's own, and no rule opens them"
	}
	return ""
}
