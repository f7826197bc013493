// SPDX-License-Identifier: Apache-2.0

package mqttbroker

import (
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

func TestAStageOfACAIsNotOverslept(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	in := func(phase v1alpha1.CAPhase, ago time.Duration) pki.CA {
		return pki.CA{Phase: phase, Since: now.Add(-ago)}
	}
	stable := in(v1alpha1.CAStable, time.Hour)
	waiting := in(v1alpha1.CAIntroducing, 5*time.Second)
	for name, tc := range map[string]struct {
		reason   string
		material *verdict.Material
		grace    time.Duration
		want     time.Duration
	}{
		"nothing is known":        {reason: "a pass may end before it has looked", want: recheck},
		"no rotation":             {reason: "nobody waits", material: &verdict.Material{CA: stable, ClientCA: &stable}, grace: 10 * time.Second, want: recheck},
		"clients have their time": {reason: "the next stage begins when it is over", material: &verdict.Material{CA: waiting}, grace: 25 * time.Second, want: 20 * time.Second},
		"of the client CA":        {reason: "both are replaced in stages", material: &verdict.Material{CA: stable, ClientCA: &waiting}, grace: 25 * time.Second, want: 20 * time.Second},
		"their time is over":      {reason: "something else is waited for, and asked for each second", material: &verdict.Material{CA: waiting}, grace: time.Second, want: answerRecheck},
		"a long time":             {reason: "a broker is looked at each minute in any case", material: &verdict.Material{CA: waiting}, grace: 24 * time.Hour, want: recheck},
	} {
		t.Run(name, func(t *testing.T) {
			p := &pass{facts: &verdict.Facts{Now: now}, material: tc.material}
			p.facts.Spec.ClientGrace = tc.grace
			if got := p.again(); got != tc.want {
				t.Errorf("got %v, want %v: %s", got, tc.want, tc.reason)
			}
		})
	}
}
