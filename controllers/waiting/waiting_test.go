// SPDX-License-Identifier: Apache-2.0

package waiting_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-operator/mqtt-operator/controllers/waiting"
)

func TestWhoWaitsIsTakenOnce(t *testing.T) {
	var (
		l             waiting.List
		alice, bob    = types.NamespacedName{Name: "alice"}, types.NamespacedName{Name: "bob"}
		first, second = types.NamespacedName{Name: "first"}, types.NamespacedName{Name: "second"}
	)
	l.Remove(alice) // who never waited
	l.Add(alice, first)
	l.Add(bob, first)
	l.Add(bob, second) // and no more for the first
	if got := l.Take(first); len(got) != 1 || got[0].NamespacedName != alice {
		t.Errorf("for the first wait %v, want alice", got)
	}
	if got := l.Take(first); len(got) != 0 {
		t.Errorf("for the first still wait %v", got)
	}
	l.Remove(bob)
	if got := l.Take(second); len(got) != 0 {
		t.Errorf("for the second wait %v, although nobody does", got)
	}
}
