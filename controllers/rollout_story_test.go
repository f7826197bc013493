// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// TestAChangeThatFails is taken back when its time is over, and tried again when the spec changes: also where an older operator
// has made the pods, which said something else of them.
func TestAChangeThatFails(t *testing.T) {
	t.Run("pods of now", func(t *testing.T) { aChangeThatFails(t, func(*world, *v1alpha1.MQTTBroker) {}) })
	t.Run("pods of the first edition", func(t *testing.T) { aChangeThatFails(t, (*world).ofFirstEdition) })
}

// ofFirstEdition gives a broker the pods that operators made before there were editions. The operator lets them stand.
func (w *world) ofFirstEdition(broker *v1alpha1.MQTTBroker) {
	w.t.Helper()
	before, set := w.kubelet.pod(broker.Name).UID, w.statefulSet()
	delete(set.Annotations, verdict.TemplateAnnotation)
	delete(set.Spec.Template.Annotations, desired.EditionAnnotation)
	startup := set.Spec.Template.Spec.Containers[0].StartupProbe
	startup.PeriodSeconds, startup.FailureThreshold = 2, 60
	if err := k8s.Update(w.t.Context(), set); err != nil {
		w.t.Fatal(err)
	}
	first := w.anotherPod(before)
	w.ready(broker)
	w.settle()
	if w.kubelet.pod(broker.Name).UID != first {
		w.t.Fatal("an operator that knows of editions has replaced pods which have none")
	}
}

func aChangeThatFails(t *testing.T, older func(*world, *v1alpha1.MQTTBroker)) {
	t.Helper()
	const missing = "example.com/broker:missing"
	clock := &later{}
	w := newWorldOf(t, clock)
	w.kubelet.missing.Store(missing, true)
	broker, alice := gen.Broker(w.namespace, "mq"), gen.User(w.namespace, "alice", "mq")
	w.create(broker, alice)
	w.ready(broker, alice)
	older(w, broker)
	first := w.kubelet.pod("mq").UID

	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Image = new(missing) })
	second := w.anotherPod(first)
	w.is(broker, v1alpha1.ConditionProgressing, metav1.ConditionTrue, v1alpha1.ReasonRolloutInProgress)
	w.is(broker, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPodsNotReady)
	w.settle()
	if w.kubelet.pod("mq").UID != second {
		t.Fatal("its time is not over yet")
	}

	clock.by.Store(int64(11 * time.Minute))
	w.wish(broker, "touched", "1") // the operator looks by itself, when its clock says so
	third := w.anotherPod(second)
	for _, kind := range []v1alpha1.ConditionType{v1alpha1.ConditionProgressing, v1alpha1.ConditionReady} {
		c := w.is(broker, kind, metav1.ConditionFalse, v1alpha1.ReasonRolloutStuck)
		for _, words := range []string{"within 10m", "mq-broker-0 waits (ImagePullBackOff)", "until the spec changes"} {
			if !strings.Contains(c.Message, words) {
				t.Errorf("%s does not say %q: %s", kind, words, c.Message)
			}
		}
	}
	w.is(broker, v1alpha1.ConditionAvailable, metav1.ConditionTrue, v1alpha1.ReasonPodsReady)
	if last := broker.Status.LastRestart; last == nil || last.Reason != v1alpha1.ReasonRolloutStuck {
		t.Errorf("the status does not say why it was restarted: %+v", last)
	}
	w.recorded(v1alpha1.ReasonRolloutStuck)
	if image := w.kubelet.of("mq").pod.Spec.Containers[0].Image; image != "example.com/broker:1" {
		t.Errorf("it came back with %s", image)
	}

	// So it stays, whoever looks and whatever else changes.
	clock.by.Store(int64(time.Hour))
	change(w, broker, func(b *v1alpha1.MQTTBroker) { gen.WithListener(gen.Plain("mqtt", 1883))(b) })
	w.startOperator()
	w.is(broker, v1alpha1.ConditionConfigApplied, metav1.ConditionTrue, v1alpha1.ReasonConfigApplied)
	w.settle()
	if w.kubelet.pod("mq").UID != third {
		t.Fatal("what had failed was tried again")
	}
	w.is(broker, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonRolloutStuck)

	// The spec that it runs is no change.
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Image = nil })
	w.ready(broker)
	w.settle()
	if w.kubelet.pod("mq").UID != third {
		t.Error("it had this form already")
	}

	// A form that works is taken, and with it what this operator says of pods.
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Image = new("example.com/broker:2") })
	w.anotherPod(third)
	w.ready(broker)
	if edition := w.statefulSet().Spec.Template.Annotations[desired.EditionAnnotation]; edition != "2" {
		t.Errorf("the new pods are of edition %q", edition)
	}
	if last := broker.Status.LastRestart; last.Reason != v1alpha1.ReasonImageChanged {
		t.Errorf("restarted for %+v", last)
	}
}
