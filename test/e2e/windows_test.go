// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// afterOpening is how long after its opening a window may still be waited for: the operator looks at the very second, and
// then clients are sent away.
const afterOpening = 20 * time.Second

// TestAChangeWaitsForItsWindow: one that opens the minute after next. Until then clients are served, and what replaces no pod
// is done.
func TestAChangeWaitsForItsWindow(t *testing.T) {
	t.Parallel()
	s := begin(t)
	broker := s.broker(withVolume)
	s.user("anna", allow("#"))
	steady, pod := s.pulse("anna", "steady"), s.pod()
	if err := steady.from.retain("kept", "since before the window"); err != nil {
		t.Fatal(err)
	}

	opens := time.Now().UTC().Truncate(time.Minute).Add(2 * time.Minute)
	s.sayf("the pod gets another label, and a window that opens at %s", opens.Format(time.TimeOnly))
	s.update(broker, func() {
		broker.Spec.Pod = &v1alpha1.BrokerPod{Labels: map[string]v1alpha1.LabelValue{"team": "press"}}
		broker.Spec.Updates = &v1alpha1.BrokerUpdates{MaintenanceWindows: []v1alpha1.MaintenanceWindow{{
			Name: "soon", Start: opens.Format("15:04"), Duration: &metav1.Duration{Duration: time.Hour},
		}}}
	})
	s.sayf("%s", s.await(broker, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonWaitingForWindow))
	if pending := broker.Status.PendingRestart; pending == nil || pending.Reason != v1alpha1.ReasonPodChanged || pending.Opens == nil || !pending.Opens.Time.Equal(opens) {
		t.Errorf("the status does not say what waits until when: %+v", pending)
	}
	s.user("newcomer", allow("#"))
	s.mustPublish(s.connect("newcomer"), "elsewhere", "let in while the change waits")
	s.beat(steady)
	s.samePod(pod)

	ended := s.awaitEndWithin(steady.from, time.Until(opens)+patience)
	s.sayf("clients were sent away %.1fs after the window opened", ended.Sub(opens).Seconds())
	if ended.Before(opens) || ended.After(opens.Add(afterOpening)) {
		t.Errorf("want it within %v after that", afterOpening)
	}
	again := s.reconnect("anna", session{})
	s.mustSubscribe(again, "kept")
	s.hears(again, "kept", "since before the window")
	s.awaitReady(broker)
	if last := broker.Status.LastRestart; last == nil || last.Reason != v1alpha1.ReasonPodChanged || broker.Status.PendingRestart != nil {
		t.Errorf("last restart %+v, pending %+v", last, broker.Status.PendingRestart)
	}
	if now := s.pod(); now.UID == pod.UID || now.Labels["team"] != "press" {
		t.Errorf("the pod has labels %v", now.Labels)
	}
}
