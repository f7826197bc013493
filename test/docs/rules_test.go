// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

// leastExamples keeps the table of examples from vanishing unnoticed.
const leastExamples = 30

// TestAccessRuleExamples asks package acl what access-rules.md says. In the table a rule is written as
//
//	allow|deny publish|subscribe|publish,subscribe FILTER [maxQoS=N] [retain=false]
//
// one code span each, and a question as
//
//	publish|subscribe|deliver TOPIC-OR-FILTER [qos=N] [retain] [user=NAME] [client=ID]
//
// by user alice with client id phone where it says nothing else; user= alone is a client without a name.
func TestAccessRuleExamples(t *testing.T) {
	t.Parallel()

	p := onePage(t, "docs/access-rules.md")
	examples := 0

	for _, table := range p.tablesOf("rules") {
		asks, answers := table.column("question"), table.column("answer")
		if asks < 0 || answers < 0 {
			t.Fatalf("%s: a table of rules needs the columns question and answer", p.path)
		}

		for _, r := range table.rows {
			examples++

			got, err := answer(r.cells[0], strings.Trim(r.cells[asks], "`"))
			if err != nil {
				t.Errorf("%s:%d: %v", p.path, r.line, err)
			} else if got != r.cells[answers] {
				t.Errorf("%s:%d: %s, asked %s: the page says %q, package acl says %q", p.path, r.line, r.cells[0], r.cells[asks], r.cells[answers], got)
			}
		}
	}

	if examples < leastExamples {
		t.Errorf("%s has %d examples, fewer than %d", p.path, examples, leastExamples)
	}
}

func answer(rules, question string) (string, error) {
	var list []acl.Rule

	for _, found := range codeSpan.FindAllStringSubmatch(rules, -1) {
		rule, err := parseRule(found[1])
		if err != nil {
			return "", err
		}

		list = append(list, rule)
	}

	policy, err := acl.Compile(list)
	if err != nil {
		return "", fmt.Errorf("rules%w", err)
	}

	return ask(policy, question)
}

func parseRule(text string) (acl.Rule, error) {
	words := strings.Fields(text)
	if len(words) < 3 {
		return acl.Rule{}, fmt.Errorf("rule %q: too few words", text)
	}

	rule := acl.Rule{Effect: acl.Effect(words[0]), Filter: words[2]}
	for action := range strings.SplitSeq(words[1], ",") {
		rule.Actions = append(rule.Actions, acl.Action(action))
	}

	for _, option := range words[3:] {
		switch name, value, _ := strings.Cut(option, "="); name {
		case "maxQoS":
			n, err := strconv.ParseUint(value, 10, 8)
			if err != nil {
				return rule, fmt.Errorf("rule %q: %w", text, err)
			}

			rule.MaxQoS = new(byte(n))
		case "retain":
			rule.Retain = new(value == "true")
		default:
			return rule, fmt.Errorf("rule %q: unknown word %q", text, option)
		}
	}

	return rule, nil
}

func ask(policy *acl.Policy, question string) (string, error) {
	words := strings.Fields(question)
	if len(words) < 2 {
		return "", fmt.Errorf("question %q: too few words", question)
	}

	var (
		who    = acl.Subject{Username: "alice", ClientID: "phone"}
		qos    byte
		retain bool
	)

	for _, option := range words[2:] {
		switch name, value, _ := strings.Cut(option, "="); name {
		case "qos":
			n, err := strconv.ParseUint(value, 10, 8)
			if err != nil {
				return "", fmt.Errorf("question %q: %w", question, err)
			}

			qos = byte(n)
		case "retain":
			retain = true
		case "user":
			who.Username = value
		case "client":
			who.ClientID = value
		default:
			return "", fmt.Errorf("question %q: unknown word %q", question, option)
		}
	}

	var decision acl.Decision

	switch words[0] {
	case "publish":
		decision = policy.Publish(who, words[1], qos, retain)
	case "subscribe":
		decision = policy.Subscribe(who, words[1], qos)
	case "deliver":
		decision = policy.Deliver(who, words[1])
	default:
		return "", fmt.Errorf("question %q: unknown verb", question)
	}

	switch {
	case !decision.Allowed:
		return "no", nil
	case words[0] == "subscribe" && decision.MaxQoS != qos:
		return fmt.Sprintf("yes, with QoS %d", decision.MaxQoS), nil
	default:
		return "yes", nil
	}
}
