// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

// families waits until a Service has addresses of these families, in this order.
func (w *world) families(service string, want ...corev1.IPFamily) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("Service %s is of %v", service, want), func() error {
		s := &corev1.Service{}
		if err := k8s.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: service}, s); err != nil {
			return err
		}
		var is []corev1.IPFamily
		for _, text := range s.Spec.ClusterIPs {
			address, err := netip.ParseAddr(text)
			switch {
			case err != nil:
			case address.Is6():
				is = append(is, corev1.IPv6Protocol)
			default:
				is = append(is, corev1.IPv4Protocol)
			}
		}
		if s.Spec.ClusterIP != corev1.ClusterIPNone && !slices.Equal(is, want) || !slices.Equal(s.Spec.IPFamilies, want) {
			return fmt.Errorf("it has %v, and says %v, %v", s.Spec.ClusterIPs, s.Spec.IPFamilies, *s.Spec.IPFamilyPolicy)
		}
		return nil
	})
}

// TestFamiliesOfServices, in a cluster of both: both by default, one where one is wanted, in the order that is wanted; the second can
// come and go.
func TestFamiliesOfServices(t *testing.T) {
	w := newWorld(t)
	shaped := func(name string, port int32, policy corev1.IPFamilyPolicy, families ...corev1.IPFamily) gen.BrokerOption {
		l := gen.Plain(name, port)
		l.Service = &v1alpha1.ListenerService{IPFamilyPolicy: &policy, IPFamilies: families}
		return gen.WithListener(l)
	}
	broker := gen.Broker(w.namespace, "mq",
		shaped("six", 1886, corev1.IPFamilyPolicySingleStack, corev1.IPv6Protocol),
		shaped("one", 1881, corev1.IPFamilyPolicySingleStack),
		shaped("both", 1882, corev1.IPFamilyPolicyRequireDualStack, corev1.IPv6Protocol, corev1.IPv4Protocol))
	w.create(broker)
	w.ready(broker)
	w.families("mq-headless", corev1.IPv4Protocol, corev1.IPv6Protocol)
	w.families("mq-mqtts", corev1.IPv4Protocol, corev1.IPv6Protocol)
	w.families("mq-six", corev1.IPv6Protocol)
	w.families("mq-one", corev1.IPv4Protocol)
	w.families("mq-both", corev1.IPv6Protocol, corev1.IPv4Protocol)

	before := w.kubelet.pod("mq").UID
	change(w, broker, func(b *v1alpha1.MQTTBroker) {
		b.Spec.Listeners[1].Service = &v1alpha1.ListenerService{IPFamilies: []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}}
		b.Spec.Listeners[3].Service = &v1alpha1.ListenerService{IPFamilyPolicy: new(corev1.IPFamilyPolicySingleStack), IPFamilies: []corev1.IPFamily{corev1.IPv6Protocol}}
	})
	w.families("mq-six", corev1.IPv6Protocol, corev1.IPv4Protocol)
	w.families("mq-both", corev1.IPv6Protocol)
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Listeners[3].Service = nil })
	w.families("mq-both", corev1.IPv6Protocol, corev1.IPv4Protocol)
	w.ready(broker)
	w.settle()
	if now := w.kubelet.pod("mq").UID; now != before {
		t.Error("the pod was replaced")
	}

	// A Service keeps its first family; who wants another one is told.
	change(w, broker, func(b *v1alpha1.MQTTBroker) {
		b.Spec.Listeners[2].Service.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
	})
	w.is(broker, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonApplyRefused)
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Listeners[2].Service = nil })
	w.ready(broker)
}
