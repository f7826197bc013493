// SPDX-License-Identifier: Apache-2.0

package condition_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/condition"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestAConditionKeepsItsTimeUntilItFlips(t *testing.T) {
	set := &condition.Set{Generation: 1, Now: now}
	set.False(v1alpha1.ConditionReady, verdict.Finding{Reason: v1alpha1.ReasonConfigPending})
	set.Now, set.Generation = now.Add(time.Minute), 2
	set.False(v1alpha1.ConditionReady, verdict.Finding{Reason: v1alpha1.ReasonPodsNotReady, Message: "another reason"})
	c := set.Get(v1alpha1.ConditionReady)
	if !c.LastTransitionTime.Time.Equal(now) || c.ObservedGeneration != 2 || c.Reason != "PodsNotReady" {
		t.Errorf("%+v: only a flip moves the time", c)
	}
	set.True(v1alpha1.ConditionReady, v1alpha1.ReasonReady, "")
	if c = set.Get(v1alpha1.ConditionReady); !c.LastTransitionTime.Time.Equal(now.Add(time.Minute)) {
		t.Errorf("%+v: a flip moves the time", c)
	}
}

func TestALongMessageIsCut(t *testing.T) {
	set := &condition.Set{Now: now}
	set.False(v1alpha1.ConditionReady, verdict.Finding{Message: strings.Repeat("x", 1<<20)})
	if n := len(set.Get(v1alpha1.ConditionReady).Message); n > 32768 {
		t.Errorf("%d bytes: the API server would refuse the whole status", n)
	}
}

func TestOneEventForEachFlip(t *testing.T) {
	ready := func(status metav1.ConditionStatus, kinds ...v1alpha1.ConditionType) []metav1.Condition {
		var list []metav1.Condition
		for _, kind := range kinds {
			list = append(list, metav1.Condition{Type: string(kind), Status: status, Reason: "Because"})
		}
		return list
	}
	pending := ready("False", v1alpha1.ConditionApplied, v1alpha1.ConditionReady)
	for i := range pending {
		pending[i].Reason = string(v1alpha1.ReasonConfigPending)
	}
	for name, tc := range map[string]struct {
		reason        string
		before, after []metav1.Condition
		want          string
	}{
		"good news":    {before: ready("False", v1alpha1.ConditionReady), after: ready("True", v1alpha1.ConditionReady), want: "Normal Because Ready is True"},
		"bad news":     {before: ready("True", v1alpha1.ConditionReady), after: ready("False", v1alpha1.ConditionReady), want: "Warning Because Ready is False"},
		"no news":      {reason: "an event for each pass is noise", before: ready("True", v1alpha1.ConditionReady), after: ready("True", v1alpha1.ConditionReady)},
		"a new object": {reason: "everything is false at first", after: ready("False", v1alpha1.ConditionReady)},
		"a first step": {reason: "readiness will say it", after: ready("True", v1alpha1.ConditionCredentialsReady)},
		"a step again": {before: ready("False", v1alpha1.ConditionCredentialsReady), after: ready("True", v1alpha1.ConditionCredentialsReady), want: "Normal Because CredentialsReady is True"},
		"ready, and all of it": {
			reason: "one event is enough", before: ready("False", v1alpha1.ConditionApplied, v1alpha1.ConditionReady),
			after: ready("True", v1alpha1.ConditionApplied, v1alpha1.ConditionReady), want: "Normal Because Ready is True",
		},
		"not ready, and why": {
			reason: "Ready repeats what it is not ready for", before: ready("True", v1alpha1.ConditionApplied, v1alpha1.ConditionReady),
			after: ready("False", v1alpha1.ConditionApplied, v1alpha1.ConditionReady), want: "Warning Because Ready is False",
		},
		"ready, with a warning": {
			after: append(ready("True", v1alpha1.ConditionInsecure), ready("True", v1alpha1.ConditionApplied)...), want: "Warning Because Insecure is True",
		},
		"a warning appears": {after: ready("True", v1alpha1.ConditionInsecure), want: "Warning Because Insecure is True"},
		"a warning goes":    {before: ready("True", v1alpha1.ConditionInsecure), after: ready("False", v1alpha1.ConditionInsecure), want: "Normal Because Insecure is False"},
		"stalled":           {reason: "Ready says the same", after: ready("True", v1alpha1.ConditionStalled)},
		"on its way":        {reason: "each of ten thousand comes that way", before: ready("True", v1alpha1.ConditionReady), after: pending},
		"arrived":           {reason: "so does each", before: pending, after: ready("True", v1alpha1.ConditionApplied, v1alpha1.ConditionReady)},
		"lost on its way":   {reason: "Ready is what it was", before: pending, after: ready("False", v1alpha1.ConditionReady)},
		"nobody knows":      {reason: "not knowing is no news", before: ready("True", v1alpha1.ConditionReady), after: ready("Unknown", v1alpha1.ConditionReady)},
	} {
		t.Run(name, func(t *testing.T) {
			recorder := events.NewFakeRecorder(4)
			condition.Tell(recorder, gen.Broker("factory", "mq"), tc.before, tc.after, v1alpha1.ReasonConfigPending)
			got := ""
			select {
			case got = <-recorder.Events:
			default:
			}
			if !strings.HasPrefix(got, tc.want) || (tc.want == "") != (got == "") || len(recorder.Events) > 0 {
				t.Errorf("got %q, want %q: %s", got, tc.want, tc.reason)
			}
		})
	}
}
