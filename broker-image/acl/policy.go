// SPDX-License-Identifier: Apache-2.0

package acl

import (
	"fmt"
	"strings"
)

// Subject is who asks. A part that is not known stays empty.
type Subject struct {
	Username   string
	ClientID   string
	CommonName string
}

// Decision is the answer to one question.
type Decision struct {
	// Allowed is the answer.
	Allowed bool
	// Rule is the index of the rule that decided, or -1 if none matched.
	Rule int
	// MaxQoS is the highest QoS granted; it says nothing if Allowed is false.
	MaxQoS byte
}

// Policy is a compiled list of rules. It never changes and is safe for concurrent use. A nil Policy denies everything.
//
// It is made of parts, each a list of rules, so that what many users share is held once.
type Policy struct {
	parts [][]compiled
}

type kind uint8

const (
	literal    kind = iota
	single          // +
	multi           // #
	username        // %u
	clientID        // %c
	commonName      // %cn
)

type level struct {
	kind kind
	text string
}

type compiled struct {
	allow      bool
	publishes  bool
	subscribes bool
	retain     bool
	maxQoS     byte
	// prefix is the text of the first skip levels, all literal, with the slash behind them: one look rejects most.
	prefix string
	skip   int
	levels []level
}

// Compile turns rules into a Policy. It fails on the first rule that is not valid; its error begins with the rule's
// index and the field's name.
func Compile(rules []Rule) (*Policy, error) {
	part := make([]compiled, 0, len(rules))

	for i, r := range rules {
		if err := r.Validate(); err != nil {
			return nil, fmt.Errorf("[%d].%w", i, err)
		}

		part = append(part, compile(r))
	}

	return &Policy{parts: [][]compiled{part}}, nil
}

// Join is the policy that asks the rules of each, in order. It copies none of them; nil ones are passed over. The index
// of a rule in a [Decision] counts through all of them.
func Join(policies ...*Policy) *Policy {
	joined := &Policy{}

	for _, p := range policies {
		if p != nil {
			joined.parts = append(joined.parts, p.parts...)
		}
	}

	return joined
}

// Len is the number of rules.
func (p *Policy) Len() (n int) {
	if p == nil {
		return 0
	}

	for _, part := range p.parts {
		n += len(part)
	}

	return n
}

func compile(r Rule) compiled {
	c := compiled{
		allow:  r.Effect == Allow,
		retain: r.Retain == nil || *r.Retain,
		maxQoS: maxQoS,
		levels: compileFilter(r.Filter),
	}
	c.prefix, c.skip = fixedPrefix(c.levels)

	if r.MaxQoS != nil {
		c.maxQoS = *r.MaxQoS
	}

	for _, a := range r.Actions {
		c.publishes = c.publishes || a == Publish
		c.subscribes = c.subscribes || a == Subscribe
	}

	return c
}

func compileFilter(filter string) []level {
	parts := strings.Split(filter, "/")
	levels := make([]level, 0, len(parts))

	for _, part := range parts {
		l := level{kind: literal, text: strings.Clone(part)}

		switch part {
		case "+":
			l = level{kind: single}
		case "#":
			l = level{kind: multi}
		case TokenUsername:
			l = level{kind: username}
		case TokenClientID:
			l = level{kind: clientID}
		case TokenCommonName:
			l = level{kind: commonName}
		}

		levels = append(levels, l)
	}

	if len(levels) != 2 || levels[1].kind != multi {
		return levels
	}

	switch first := levels[0]; {
	case first.kind == single:
		// +/# and # hold the same topics: every topic has a first level.
		return levels[1:]
	case first.kind == literal && first.text == "":
		// The parent of /# would be the empty topic, which does not exist: this is /+/#.
		return []level{first, {kind: single}, {kind: multi}}
	}

	return levels
}

// fixedPrefix returns the literal levels that another level than # follows, and how many they are.
func fixedPrefix(levels []level) (string, int) {
	var b strings.Builder

	for i, l := range levels {
		if l.kind != literal || i+1 == len(levels) || levels[i+1].kind == multi {
			return b.String(), i
		}

		b.WriteString(l.text)
		b.WriteByte('/')
	}

	return b.String(), len(levels)
}

// Publish decides on a message to topic.
func (p *Policy) Publish(s Subject, topic string, qos byte, retain bool) Decision {
	if p == nil || qos > maxQoS || !plainTopic(topic) {
		return Decision{Rule: -1}
	}

	n, before := namesOf(&s), 0

	for _, part := range p.parts {
		for i := range part {
			r := &part[i]
			if !r.publishes || !r.holds(&n, topic) {
				continue
			}

			if !r.allow {
				return Decision{Rule: before + i}
			}

			if qos <= r.maxQoS && (r.retain || !retain) {
				return Decision{Allowed: true, Rule: before + i, MaxQoS: r.maxQoS}
			}
		}

		before += len(part)
	}

	return Decision{Rule: -1}
}

// Subscribe decides on a subscription to filter. The group of a shared subscription plays no part. MaxQoS of the answer
// is the QoS to grant: the one asked for, capped by the rule.
func (p *Policy) Subscribe(s Subject, filter string, qos byte) Decision {
	if p == nil || qos > maxQoS || ValidateFilter(filter) != nil {
		return Decision{Rule: -1}
	}

	_, filter, _ = SplitShare(filter)
	if filter == "/#" {
		filter = "/+/#" // as in compileFilter
	}

	n, before := namesOf(&s), 0

	for _, part := range p.parts {
		for i := range part {
			r := &part[i]

			switch {
			case !r.subscribes:
			case !r.allow && r.overlaps(&n, filter):
				return Decision{Rule: before + i}
			case r.allow && r.holds(&n, filter):
				return Decision{Allowed: true, Rule: before + i, MaxQoS: min(qos, r.maxQoS)}
			}
		}

		before += len(part)
	}

	return Decision{Rule: -1}
}

// Deliver decides whether a message on topic may be handed to the subject. It is the check for retained messages and
// for subscriptions that were granted under older rules.
func (p *Policy) Deliver(s Subject, topic string) Decision {
	if p == nil || !plainTopic(topic) {
		return Decision{Rule: -1}
	}

	n, before := namesOf(&s), 0

	for _, part := range p.parts {
		for i := range part {
			r := &part[i]
			if !r.subscribes || !r.holds(&n, topic) {
				continue
			}

			if !r.allow {
				return Decision{Rule: before + i}
			}

			return Decision{Allowed: true, Rule: before + i, MaxQoS: r.maxQoS}
		}

		before += len(part)
	}

	return Decision{Rule: -1}
}

// plainTopic is ValidateTopic for the hot path: no words, only the answer.
func plainTopic(topic string) bool {
	if topic == "" || len(topic) > maxTopicBytes {
		return false
	}

	for i := range len(topic) {
		switch c := topic[i]; {
		case c == 0 || c == '+' || c == '#':
			return false
		case c >= 0x80:
			return ValidateTopic(topic) == nil
		}
	}

	return true
}

// names are the values of the tokens for one question; what must not match is empty.
type names [3]string

func namesOf(s *Subject) names {
	return names{usable(s.Username), usable(s.ClientID), usable(s.CommonName)}
}

// usable returns the value if it can stand for one whole level, and nothing otherwise.
func usable(value string) string {
	for i := range len(value) {
		if c := value[i]; c == '/' || c == '+' || c == '#' || c == 0 {
			return ""
		}
	}

	return value
}

// resolve returns the text that the level stands for. It is false for a wildcard, and for a token that can match
// nothing.
func (l *level) resolve(n *names, first bool) (string, bool) {
	switch l.kind {
	case literal:
		return l.text, true
	case single, multi:
		return "", false
	default:
		value := n[l.kind-username]

		return value, value != "" && !(first && value[0] == '$')
	}
}

// holds tells whether every topic that the asked topic or filter stands for is inside the rule's filter. For a topic
// this is the match; for a filter it is the subset test, because only a + covers a +, only a # covers a #, and a literal
// covers neither.
func (c *compiled) holds(n *names, asked string) bool {
	if !strings.HasPrefix(asked, c.prefix) {
		return false
	}

	pos := len(c.prefix) // behind len(asked) once the last level is consumed

	for i := c.skip; i < len(c.levels); i++ {
		l := &c.levels[i]
		if l.kind == multi {
			return i > 0 || asked[0] != '$' // [MQTT-4.7.2-1]
		}

		if pos > len(asked) {
			return false
		}

		rest := asked[pos:]

		if l.kind == single {
			if i == 0 && asked[0] == '$' { // [MQTT-4.7.2-1]
				return false
			}

			if rest == "#" { // wider than a rule that has more to say
				return false
			}

			if end := strings.IndexByte(rest, '/'); end >= 0 {
				pos += end + 1
			} else {
				pos = len(asked) + 1
			}

			continue
		}

		want, ok := l.resolve(n, i == 0)
		if !ok || !strings.HasPrefix(rest, want) || (len(rest) > len(want) && rest[len(want)] != '/') {
			return false
		}

		pos += len(want) + 1
	}

	return pos > len(asked)
}

// overlaps tells whether any topic is inside both the requested filter and the rule's.
func (c *compiled) overlaps(n *names, filter string) bool {
	dollar := filter[0] == '$'
	walk := walker{rest: filter}
	open := false // the requested filter has ended in #: whatever the rule goes on to say is inside

	for i := range c.levels {
		l := &c.levels[i]
		if l.kind == multi {
			return i > 0 || !dollar // [MQTT-4.7.2-1]
		}

		want, named := l.resolve(n, i == 0)
		if !named && l.kind != single {
			return false
		}

		if open {
			continue
		}

		have, ok := walk.next()

		switch {
		case !ok:
			return false
		case have == "#" || have == "+":
			open = have == "#"

			if i == 0 && named && strings.HasPrefix(want, "$") { // [MQTT-4.7.2-1]
				return false
			}
		case l.kind == single:
			if i == 0 && dollar { // [MQTT-4.7.2-1]
				return false
			}
		case want != have:
			return false
		}
	}

	if open || walk.done {
		return true
	}

	// The rule has ended; # behind its last level still matches it as the parent.
	have, _ := walk.next()

	return have == "#"
}
