// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"testing"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

func compiled(t *testing.T, before *state, users ...contract.User) *state {
	t.Helper()

	s, err := compile(baseConfig(users...), before, nil)
	if err != nil {
		t.Fatal(err)
	}

	return s
}

// TestEqualRulesStandInMemoryOnce, and one user's change is no other's.
func TestEqualRulesStandInMemoryOnce(t *testing.T) {
	user := func(name string, rules ...acl.Rule) contract.User { return contract.User{Username: name, ACL: rules} }
	low := byte(0)
	capped := allow("devices/%u/#")
	capped.MaxQoS = &low

	first := compiled(t, nil, user("a", allow("devices/%u/#")), user("b", allow("devices/%u/#")), user("c", allow("other")), user("d", capped))
	if first.users["a"].policy != first.users["b"].policy {
		t.Error("a and b have equal rules, each for itself")
	}

	for _, name := range []string{"c", "d"} {
		if first.users["a"].policy == first.users[name].policy {
			t.Errorf("%s has the rules of a", name)
		}
	}

	second := compiled(t, first, user("a", allow("narrow")), user("b", allow("devices/%u/#")), user("e", allow("devices/%u/#")))
	if second.users["b"] != first.users["b"] {
		t.Error("b is another one after a was changed")
	}

	if second.users["e"].policy != first.users["b"].policy {
		t.Error("e has rules of its own")
	}

	asks := acl.Subject{Username: "a"}
	if second.users["a"].policy.Publish(asks, "devices/a/t", 0, false).Allowed || !second.users["a"].policy.Publish(asks, "narrow", 0, false).Allowed {
		t.Error("a has not the rules that it was given")
	}

	if len(second.lists) != 2 {
		t.Errorf("%d lists are kept, want the two in use", len(second.lists))
	}
}

// TestRulesOfOneHashStayApart makes two lists meet in one hash.
func TestRulesOfOneHashStayApart(t *testing.T) {
	l := lists{}

	one, err := l.of([]acl.Rule{allow("one")}, nil)
	if err != nil {
		t.Fatal(err)
	}

	l[hashOf([]acl.Rule{allow("two")})] = one

	two, err := l.of([]acl.Rule{allow("two")}, nil)
	if err != nil {
		t.Fatal(err)
	}

	if two == one || !two.policy.Publish(acl.Subject{}, "two", 0, false).Allowed {
		t.Error("a user has the rules of another")
	}
}
