// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
)

// TestWatchedAndFenced: the operator has the rights that it takes to keep a NetworkPolicy, a dashboard and what the Prometheus
// operator reads, and admits its own pods. The kinds of the Prometheus operator come and go meanwhile.
func TestWatchedAndFenced(t *testing.T) {
	t.Parallel()
	s := begin(t)
	object := func() *v1alpha1.MonitoringObject { return &v1alpha1.MonitoringObject{Enabled: new(true)} }
	broker := s.broker(func(b *v1alpha1.MQTTBroker) {
		b.Spec.Monitoring = &v1alpha1.Monitoring{PodMonitor: object(), PrometheusRule: object(), Dashboard: object()}
	})
	pod := s.pod()
	s.await(broker, v1alpha1.ConditionNetworkPolicyReady, metav1.ConditionTrue, v1alpha1.ReasonNetworkPolicyReady)
	s.sayf("%s", s.await(broker, v1alpha1.ConditionMonitoringReady, metav1.ConditionFalse, v1alpha1.ReasonMonitoringKindMissing))

	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: s.namespace, Name: name} }
	policy := &networkingv1.NetworkPolicy{ObjectMeta: meta(v1alpha1.NetworkPolicyName(brokerName))}
	dashboard := &corev1.ConfigMap{ObjectMeta: meta(v1alpha1.DashboardName(brokerName))}
	for _, child := range []client.Object{policy, dashboard} {
		s.sayf("%s was deleted and came back after %.2fs", named(child), s.deleteAndAwait(child).Seconds())
	}

	// Whom it admits to the admin port are the operator's own pods.
	peers := 0
	for _, way := range policy.Spec.Ingress {
		for _, peer := range way.From {
			pods := &corev1.PodList{}
			namespace := peer.NamespaceSelector.MatchLabels[corev1.LabelMetadataName]
			if err := kube.List(s.ctx, pods, client.InNamespace(namespace), client.MatchingLabels(peer.PodSelector.MatchLabels)); err != nil {
				t.Fatal(err)
			}
			for i := range pods.Items {
				peers++
				if !strings.HasPrefix(pods.Items[i].Name, operatorName+"-") {
					t.Errorf("pod %s/%s reaches the admin port", namespace, pods.Items[i].Name)
				}
			}
		}
	}
	if peers == 0 {
		t.Errorf("the operator is shut out: %+v", policy.Spec.Ingress)
	}

	s.sayf("the kinds of the Prometheus operator are installed")
	for _, kind := range []string{"PodMonitor", "PrometheusRule"} {
		s.define(kind)
	}
	s.await(broker, v1alpha1.ConditionMonitoringReady, metav1.ConditionTrue, v1alpha1.ReasonMonitoringReady)
	made := desired.MonitoringOf(broker)
	for _, kind := range []string{"PodMonitor", "PrometheusRule"} {
		if err := s.get(made[kind]); err != nil {
			t.Error(err)
		}
	}
	s.update(broker, func() { broker.Spec.Monitoring = nil })
	s.await(broker, v1alpha1.ConditionMonitoringReady, metav1.ConditionTrue, v1alpha1.ReasonNoMonitoring)
	for kind, object := range made {
		if err := kube.Get(s.ctx, client.ObjectKeyFromObject(object), object); client.IgnoreNotFound(err) != nil || err == nil {
			t.Errorf("the %s is still there: %v", kind, err)
		}
	}
	s.update(broker, func() { broker.Spec.NetworkPolicy = &v1alpha1.PodNetworkPolicy{Enabled: new(false)} })
	s.await(broker, v1alpha1.ConditionNetworkPolicyReady, metav1.ConditionTrue, v1alpha1.ReasonNetworkPolicyOff)
	s.awaitReady(broker)
	s.samePod(pod)
}

// define installs as much of a kind of the Prometheus operator as ours knows, for the time of the story.
func (s *story) define(kind string) {
	s.Helper()
	plural := strings.ToLower(kind) + "s"
	definition := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": plural + ".monitoring.coreos.com"},
		"spec": map[string]any{
			"group": "monitoring.coreos.com", "scope": "Namespaced",
			"names": map[string]any{"plural": plural, "singular": strings.ToLower(kind), "kind": kind, "listKind": kind + "List"},
			"versions": []any{map[string]any{
				"name": "v1", "served": true, "storage": true,
				"schema": map[string]any{"openAPIV3Schema": map[string]any{
					"type": "object", "properties": map[string]any{"spec": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
				}},
			}},
		},
	}}
	s.create(definition)
	s.Cleanup(func() {
		if err := kube.Delete(context.Background(), definition); client.IgnoreNotFound(err) != nil {
			s.Error(err)
		}
	})
}
