// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

// later is a clock that can be put forward.
type later struct{ by atomic.Int64 }

func (l *later) Now() time.Time                   { return time.Now().Add(time.Duration(l.by.Load())) }
func (l *later) Since(at time.Time) time.Duration { return l.Now().Sub(at) }

// hour is a window of an hour that opens after that time.
func hour(now time.Time, after time.Duration) *v1alpha1.BrokerUpdates {
	return &v1alpha1.BrokerUpdates{MaintenanceWindows: []v1alpha1.MaintenanceWindow{{
		Name: "hour", Start: now.Add(after).UTC().Format("15:04"), Duration: &metav1.Duration{Duration: time.Hour},
	}}}
}

// TestAChangeThatReplacesPodsWaits for a maintenance window, and what replaces none does not.
func TestAChangeThatReplacesPodsWaits(t *testing.T) {
	clock := &later{}
	w := newWorldOf(t, clock)
	class := w.storageClass(true)
	broker := gen.Broker(w.namespace, "mq", gen.WithVolume("1Gi", class.Name))
	broker.Spec.Updates = hour(clock.Now(), 2*time.Hour)
	w.create(broker)
	w.ready(broker)
	first := w.kubelet.pod("mq").UID

	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Image = new("example.com/broker:own") })
	c := w.is(broker, v1alpha1.ConditionProgressing, metav1.ConditionTrue, v1alpha1.ReasonWaitingForWindow)
	w.is(broker, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonWaitingForWindow)
	pending := broker.Status.PendingRestart
	if pending == nil || pending.Reason != v1alpha1.ReasonImageChanged || pending.Window == nil || *pending.Window != "hour" || pending.Opens == nil || !pending.Opens.After(clock.Now()) {
		t.Fatalf("the status does not say what waits for what: %+v", pending)
	}
	for _, words := range []string{"ImageChanged", "since " + pending.Since.UTC().Format(time.RFC3339), "window hour, which opens at " + pending.Opens.UTC().Format(time.RFC3339), v1alpha1.AnnotationUrgent} {
		if !strings.Contains(c.Message, words) {
			t.Errorf("the message does not say %q: %s", words, c.Message)
		}
	}

	// What replaces nothing is done meanwhile, and it stays the same wait.
	change(w, broker, func(b *v1alpha1.MQTTBroker) { gen.WithListener(gen.Plain("mqtt", 1883))(b) })
	w.exists(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "mq-mqtt"}})
	change(w, broker, func(b *v1alpha1.MQTTBroker) {
		b.Spec.Persistence.Retention = &v1alpha1.PersistenceRetention{WhenDeleted: new(v1alpha1.DeleteVolume)}
	})
	w.eventually("volumes go with the broker", func() error {
		if policy := w.statefulSet().Spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted; policy != "Delete" {
			return errors.New(string(policy))
		}
		return nil
	})
	w.grow(broker, "2Gi")
	w.eventually("the volume grows, and its StatefulSet waits", func() error {
		if sizes := w.sizes(); sizes != "1Gi 2Gi 2Gi" {
			return errors.New(sizes)
		}
		return nil
	})
	w.startOperator()
	w.settle()
	w.exists(broker)
	if now := broker.Status.PendingRestart; now == nil || !now.Since.Equal(&pending.Since) {
		t.Errorf("it waits since %+v", now)
	}
	if w.kubelet.pod("mq").UID != first {
		t.Fatal("the pod was replaced outside of the window")
	}

	clock.by.Store(int64(2 * time.Hour))
	w.wish(broker, "touched", "1") // the operator looks by itself, at the time that it has noted; that is two hours from now
	second := w.anotherPod(first)
	w.ready(broker)
	if last := broker.Status.LastRestart; last == nil || last.Reason != v1alpha1.ReasonImageChanged || broker.Status.PendingRestart != nil {
		t.Errorf("last restart %+v, pending %+v", last, broker.Status.PendingRestart)
	}
	if sizes := w.sizes(); sizes != "2Gi 2Gi 2Gi" {
		t.Errorf("sizes %s", sizes)
	}

	// The window is over. What is urgent does not wait for the next.
	clock.by.Store(int64(4 * time.Hour))
	w.wish(broker, v1alpha1.AnnotationRestartAt, "2026-11-28T18:00:00Z")
	w.is(broker, v1alpha1.ConditionProgressing, metav1.ConditionTrue, v1alpha1.ReasonWaitingForWindow)
	if w.kubelet.pod("mq").UID != second {
		t.Fatal("the pod was replaced outside of the window")
	}
	w.wish(broker, v1alpha1.AnnotationUrgent, "true")
	w.anotherPod(second)
	w.ready(broker)
	w.wish(broker, v1alpha1.AnnotationUrgent, "")

	// Where no pod runs, nobody is disturbed.
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Replicas = new(int32(0)) })
	w.is(broker, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonHibernated)
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Image = nil })
	w.is(broker, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonHibernated)
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Replicas = nil })
	w.ready(broker)
	if image := w.kubelet.of("mq").pod.Spec.Containers[0].Image; image != "example.com/broker:1" {
		t.Errorf("it came back with %s", image)
	}
}

// TestAWindowThatNeverOpens is said in words, and holds what waits for it.
func TestAWindowThatNeverOpens(t *testing.T) {
	w := newWorld(t)
	broker := gen.Broker(w.namespace, "mq")
	broker.Spec.Updates = hour(time.Now(), 0)
	broker.Spec.Updates.MaintenanceWindows[0].TimeZone = new("Europe/Atlantis")
	w.create(broker)
	c := w.is(broker, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonMaintenanceWindowInvalid)
	if !strings.Contains(c.Message, "window hour") {
		t.Errorf("the message must name it: %s", c.Message)
	}
	w.is(broker, v1alpha1.ConditionAvailable, metav1.ConditionTrue, v1alpha1.ReasonPodsReady)
	before := w.kubelet.pod("mq").UID
	w.wish(broker, v1alpha1.AnnotationRestartAt, "2026-11-28T18:00:00Z")
	w.eventually("it waits", func() error {
		if err := k8s.Get(t.Context(), client.ObjectKeyFromObject(broker), broker); err != nil {
			return err
		}
		if broker.Status.PendingRestart == nil {
			return errors.New("nothing is pending")
		}
		return nil
	})
	if pending := broker.Status.PendingRestart; pending.Window != nil || pending.Opens != nil {
		t.Errorf("no window opens: %+v", pending)
	}
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Updates.MaintenanceWindows[0].TimeZone = new("UTC") })
	w.anotherPod(before)
	w.ready(broker)
}
