// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

// TestDisruptionBudget: there where it is wanted or there is more than one pod, always with room for one pod to go; it heals, and goes
// where it is not wanted.
func TestDisruptionBudget(t *testing.T) {
	w := newWorld(t)
	broker := gen.Broker(w.namespace, "mq")
	w.create(broker)
	w.ready(broker)
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "mq-broker"}}
	w.gone(budget)
	if c := meta.FindStatusCondition(broker.Status.Conditions, string(v1alpha1.ConditionDisruptionBudgetReady)); c != nil {
		t.Errorf("a broker without a budget says %+v", c)
	}

	wanted := policyv1.PodDisruptionBudgetSpec{
		MaxUnavailable: new(intstr.FromInt32(1)), UnhealthyPodEvictionPolicy: new(policyv1.AlwaysAllow),
		Selector: &metav1.LabelSelector{MatchLabels: v1alpha1.BrokerSelector("mq")},
	}
	stands := func(what string) {
		t.Helper()
		w.eventually(what, func() error {
			if err := k8s.Get(t.Context(), client.ObjectKeyFromObject(budget), budget); err != nil {
				return err
			}
			if diff := cmp.Diff(wanted, budget.Spec); diff != "" {
				return errors.New(diff)
			}
			return nil
		})
	}
	enable := func(enabled *bool) {
		t.Helper()
		change(w, broker, func(b *v1alpha1.MQTTBroker) {
			b.Spec.PodDisruptionBudget = nil
			if enabled != nil {
				b.Spec.PodDisruptionBudget = &v1alpha1.BrokerDisruptionBudget{Enabled: enabled}
			}
		})
	}
	enable(new(true))
	stands("one pod has a budget where it is wished")
	w.ready(broker)
	w.is(broker, v1alpha1.ConditionDisruptionBudgetReady, metav1.ConditionTrue, v1alpha1.ReasonDisruptionBudgetReady)
	change(w, budget, func(b *policyv1.PodDisruptionBudget) { b.Spec.MaxUnavailable = new(intstr.FromInt32(0)) })
	stands("a budget that blocks is put back")

	enable(nil)
	w.gone(budget)
	w.ready(broker)
	if c := meta.FindStatusCondition(broker.Status.Conditions, string(v1alpha1.ConditionDisruptionBudgetReady)); c != nil {
		t.Errorf("a broker without a budget says %+v", c)
	}
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Replicas = new(int32(3)) })
	stands("three pods have one")
	enable(new(false))
	w.gone(budget)
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Replicas = nil })
	w.ready(broker)
}

// TestSomebodyElsesDisruptionBudget keeps nothing from its way.
func TestSomebodyElsesDisruptionBudget(t *testing.T) {
	w := newWorld(t)
	foreign := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "mq-broker"}}
	foreign.Spec.MinAvailable = new(intstr.FromInt32(7))
	broker, alice := gen.Broker(w.namespace, "mq"), gen.User(w.namespace, "alice", "mq")
	broker.Spec.PodDisruptionBudget = &v1alpha1.BrokerDisruptionBudget{Enabled: new(true)}
	w.create(foreign, broker, alice)
	w.is(broker, v1alpha1.ConditionDisruptionBudgetReady, metav1.ConditionFalse, v1alpha1.ReasonObjectConflict)
	w.is(broker, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonObjectConflict)
	w.is(broker, v1alpha1.ConditionConfigApplied, metav1.ConditionTrue, v1alpha1.ReasonConfigApplied)
	w.eventually("the broker knows the user all the same", func() error {
		if w.known("mq", "alice") == nil {
			return errors.New("it does not")
		}
		return nil
	})
	must(t, k8s.Get(t.Context(), client.ObjectKeyFromObject(foreign), foreign))
	if foreign.Spec.MinAvailable == nil || len(foreign.OwnerReferences) > 0 {
		t.Error(fmt.Sprintf("it was taken over: %+v", foreign))
	}
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.PodDisruptionBudget.Enabled = new(false) })
	w.ready(broker)
	w.exists(foreign)
}
