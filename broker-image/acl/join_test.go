// SPDX-License-Identifier: Apache-2.0

package acl_test

import (
	"testing"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

func rules(t *testing.T, rules ...acl.Rule) *acl.Policy {
	t.Helper()

	p, err := acl.Compile(rules)
	if err != nil {
		t.Fatal(err)
	}

	return p
}

func TestJoinAsksOneAfterTheOther(t *testing.T) {
	both := []acl.Action{acl.Publish, acl.Subscribe}
	own := rules(t, acl.Rule{Effect: acl.Deny, Actions: both, Filter: "a/secret"}, acl.Rule{Effect: acl.Allow, Actions: both, Filter: "a/+"})
	shared := rules(t, acl.Rule{Effect: acl.Allow, Actions: both, Filter: "a/secret"}, acl.Rule{Effect: acl.Allow, Actions: both, Filter: "b/#"})
	p := acl.Join(own, nil, shared)

	if p.Len() != 4 || acl.Join().Len() != 0 || (*acl.Policy)(nil).Len() != 0 {
		t.Errorf("%d rules", p.Len())
	}

	for topic, want := range map[string]acl.Decision{
		"a/secret": {Rule: 0}, // the user's own rules come first
		"a/x":      {Rule: 1, Allowed: true, MaxQoS: 2},
		"b/x":      {Rule: 3, Allowed: true, MaxQoS: 2},
		"c":        {Rule: -1},
	} {
		if got := p.Publish(acl.Subject{}, topic, 2, false); got != want {
			t.Errorf("publish %s: got %+v, want %+v", topic, got, want)
		}

		if got := p.Subscribe(acl.Subject{}, topic, 2); got != want {
			t.Errorf("subscribe %s: got %+v, want %+v", topic, got, want)
		}

		if got := p.Deliver(acl.Subject{}, topic); got != want {
			t.Errorf("deliver %s: got %+v, want %+v", topic, got, want)
		}
	}

	if got := acl.Join().Publish(acl.Subject{}, "a", 0, false); got.Allowed || got.Rule != -1 {
		t.Errorf("nothing joined grants nothing, got %+v", got)
	}
}
