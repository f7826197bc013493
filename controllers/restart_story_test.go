// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"errors"
	"fmt"
	"testing"

	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

// wish sets an annotation of a broker, or removes it where value is empty.
func (w *world) wish(broker *v1alpha1.MQTTBroker, annotation, value string) {
	w.t.Helper()
	change(w, broker, func(b *v1alpha1.MQTTBroker) {
		if value == "" {
			delete(b.Annotations, annotation)
			return
		}
		if b.Annotations == nil {
			b.Annotations = map[string]string{}
		}
		b.Annotations[annotation] = value
	})
}

// anotherPod waits until the broker has another pod than before.
func (w *world) anotherPod(before types.UID) types.UID {
	w.t.Helper()
	now := before
	w.eventually("the pod is replaced", func() error {
		c := w.kubelet.find(func(c *container) bool { return c.pod.Labels[v1alpha1.LabelBroker] == "mq" })
		if c == nil || c.pod.UID == before {
			return errors.New("it is the old one")
		}
		now = c.pod.UID
		return nil
	})
	return now
}

// told waits for an event about a broker.
func (w *world) recorded(reason v1alpha1.ConditionReason) {
	w.t.Helper()
	w.eventually("an event tells of "+string(reason), func() error {
		list := &eventsv1.EventList{}
		if err := k8s.List(w.t.Context(), list, client.InNamespace(w.namespace)); err != nil {
			return err
		}
		for i := range list.Items {
			if list.Items[i].Reason == string(reason) {
				return nil
			}
		}
		return fmt.Errorf("none of %d does", len(list.Items))
	})
}

// TestARestartThatSomebodyAsksFor comes once for each wish, and only for one that is a time.
func TestARestartThatSomebodyAsksFor(t *testing.T) {
	w := newWorld(t)
	broker := gen.Broker(w.namespace, "mq")
	w.create(broker)
	w.ready(broker)
	first := w.kubelet.pod("mq").UID

	w.wish(broker, v1alpha1.AnnotationRestartAt, "tonight")
	w.is(broker, v1alpha1.ConditionProgressing, metav1.ConditionFalse, v1alpha1.ReasonRestartAtInvalid)
	w.recorded(v1alpha1.ReasonRestartAtInvalid)
	w.ready(broker)
	w.settle()
	if w.kubelet.pod("mq").UID != first || broker.Status.LastRestart != nil {
		t.Errorf("a wish that nobody can read restarted the broker: %+v", broker.Status.LastRestart)
	}

	w.wish(broker, v1alpha1.AnnotationRestartAt, "2026-11-28T18:00:00Z")
	second := w.anotherPod(first)
	w.is(broker, v1alpha1.ConditionProgressing, metav1.ConditionTrue, v1alpha1.ReasonRolloutComplete)
	w.ready(broker)
	w.recorded(v1alpha1.ReasonRestartRequested)
	if last := broker.Status.LastRestart; last == nil || last.Reason != v1alpha1.ReasonRestartRequested {
		t.Errorf("the status does not say why: %+v", last)
	}

	for _, same := range []string{"2026-11-28T19:00:00+01:00", "some day", ""} {
		w.wish(broker, v1alpha1.AnnotationRestartAt, same)
		w.settle()
		if w.kubelet.pod("mq").UID != second {
			t.Fatalf("%q is no other wish, and the pod was replaced", same)
		}
	}
	w.startOperator()
	w.settle()
	if w.kubelet.pod("mq").UID != second {
		t.Fatal("an operator that begins fulfilled the wish again")
	}

	w.wish(broker, v1alpha1.AnnotationRestartAt, "2026-11-28T18:00:00.5Z")
	w.anotherPod(second)
	w.ready(broker)
}
