// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// TestNoEvictionIsBlocked: with a PodDisruptionBudget the only pod of a broker can be evicted, as a node is drained, and so can one
// that will never be ready.
func TestNoEvictionIsBlocked(t *testing.T) {
	t.Parallel()
	s := begin(t)
	broker := s.broker(withVolume, func(b *v1alpha1.MQTTBroker) {
		b.Spec.PodDisruptionBudget = &v1alpha1.BrokerDisruptionBudget{Enabled: new(true)}
	})
	s.await(broker, v1alpha1.ConditionDisruptionBudgetReady, metav1.ConditionTrue, v1alpha1.ReasonDisruptionBudgetReady)
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1alpha1.DisruptionBudgetName(brokerName)}}
	allows := func(n int32) {
		t.Helper()
		s.eventually(patience, fmt.Sprintf("the budget has room for %d", n), func() error {
			if err := s.get(budget); err != nil {
				return err
			}
			if budget.Status.ObservedGeneration != budget.Generation || budget.Status.ExpectedPods != 1 || budget.Status.DisruptionsAllowed != n {
				return fmt.Errorf("%+v", budget.Status)
			}
			return nil
		})
	}
	evict := func(pod *corev1.Pod) {
		t.Helper()
		if err := kube.SubResource("eviction").Create(s.ctx, pod, &policyv1.Eviction{}); err != nil {
			t.Fatalf("pod %s cannot be evicted: %v", pod.Name, err)
		}
	}
	another := func(before types.UID, is func(*corev1.Pod) error) *corev1.Pod {
		t.Helper()
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1alpha1.PodName(brokerName, 0)}}
		s.eventually(patience, "there is another pod", func() error {
			if err := s.get(pod); err != nil {
				return err
			}
			if pod.UID == before {
				return errors.New("it is the old one")
			}
			return is(pod)
		})
		return pod
	}
	allows(1)
	first := s.pod()
	evict(first)
	another(first.UID, func(*corev1.Pod) error { return nil })
	s.awaitReady(broker)
	s.sayf("the only pod was evicted, and another one serves")

	allows(1)
	second := s.pod()
	s.update(broker, func() { broker.Spec.Image = new("localhost/there-is-none:1") })
	stuck := another(second.UID, func(pod *corev1.Pod) error {
		for _, c := range pod.Status.ContainerStatuses {
			if c.State.Waiting != nil && c.State.Waiting.Reason != "ContainerCreating" {
				return nil
			}
		}
		return errors.New("it has not failed yet")
	})
	allows(0)
	evict(stuck)
	another(stuck.UID, func(*corev1.Pod) error { return nil })
	s.sayf("a pod that is not ready was evicted although the budget has no room")
	s.update(broker, func() { broker.Spec.Image = nil })
	s.awaitReady(broker)
}
