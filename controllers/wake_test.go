// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// TestManyWakeUpsShareAPass: ten thousand users that come within ten seconds cost a pass each half second, and one that
// comes alone waits for nobody.
func TestManyWakeUpsShareAPass(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	broker, other := request("factory", "mq")[0], request("factory", "other")[0]
	passive := clocktesting.NewFakePassiveClock(now)
	p := &pacer{clock: passive, users: func(context.Context, reconcile.Request) int { return 10_000 }}
	if wait := p.wait(t.Context(), broker); wait != wakeGrace {
		t.Errorf("the first waits %v, want only for what comes with it", wait)
	}
	due := map[time.Time]bool{}
	for range 10_000 {
		now = now.Add(time.Millisecond)
		passive.SetTime(now)
		wait := p.wait(t.Context(), broker)
		if wait > time.Second {
			t.Fatalf("one waits %v", wait)
		}
		due[now.Add(wait)] = true
	}
	if len(due) > 21 {
		t.Errorf("%d passes in ten seconds, want two a second", len(due))
	}
	if wait := p.wait(t.Context(), other); wait != wakeGrace {
		t.Errorf("another broker waits %v", wait)
	}
	passive.SetTime(now.Add(time.Minute))
	if wait := p.wait(t.Context(), broker); wait != wakeGrace {
		t.Errorf("after a pause one waits %v", wait)
	}
	p.forget(broker)
	if len(p.due) != 1 {
		t.Error("a broker that is gone is remembered")
	}
}
