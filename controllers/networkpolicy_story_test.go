// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

// networkPolicy waits until the NetworkPolicy of that name is as wanted.
func (w *world) networkPolicy(what, name string, wanted networkingv1.NetworkPolicySpec) *networkingv1.NetworkPolicy {
	w.t.Helper()
	policy := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}}
	w.eventually(what, func() error {
		if err := k8s.Get(w.t.Context(), client.ObjectKeyFromObject(policy), policy); err != nil {
			return err
		}
		if diff := cmp.Diff(wanted, policy.Spec); diff != "" {
			return errors.New("(-want +is)\n" + diff)
		}
		return nil
	})
	return policy
}

func wayIn(port int32, peers ...networkingv1.NetworkPolicyPeer) networkingv1.NetworkPolicyIngressRule {
	return networkingv1.NetworkPolicyIngressRule{
		From:  peers,
		Ports: []networkingv1.NetworkPolicyPort{{Protocol: new(corev1.ProtocolTCP), Port: new(intstr.FromInt32(port))}},
	}
}

func wayOut(namespace string, ports ...string) networkingv1.NetworkPolicyEgressRule {
	rule := networkingv1.NetworkPolicyEgressRule{}
	if namespace != "" {
		rule.To = []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": namespace}}}}
	}
	for _, text := range ports {
		protocol, number, _ := strings.Cut(text, " ")
		port := networkingv1.NetworkPolicyPort{Protocol: new(corev1.Protocol(protocol))}
		if number != "" {
			port.Port = new(intstr.Parse(number))
		}
		rule.Ports = append(rule.Ports, port)
	}
	return rule
}

var (
	operatorPeer = networkingv1.NetworkPolicyPeer{
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": operatorPods.Namespace}},
		PodSelector:       &metav1.LabelSelector{MatchLabels: operatorPods.Labels},
	}
	somebody = networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"plant": "7"}}}
	scraper  = networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "prometheus"}}}
)

func policyOfBroker(egress []networkingv1.NetworkPolicyEgressRule, ingress ...networkingv1.NetworkPolicyIngressRule) networkingv1.NetworkPolicySpec {
	return networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: v1alpha1.BrokerSelector("mq")},
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		Ingress:     ingress, Egress: egress,
	}
}

// TestNetworkPolicyOfABroker: there from the start, follows the listeners and the issuers, heals, goes where it is not wanted,
// and never takes the place of somebody else's.
func TestNetworkPolicyOfABroker(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	broker := gen.Broker(w.namespace, "mq")
	w.create(broker)
	w.ready(broker)
	w.is(broker, v1alpha1.ConditionNetworkPolicyReady, metav1.ConditionTrue, v1alpha1.ReasonNetworkPolicyReady)
	wide := policyOfBroker(nil, wayIn(8883), wayIn(9443, operatorPeer), wayIn(9440))
	policy := w.networkPolicy("everybody reaches the listener, the operator alone the admin port", "mq-broker", wide)
	if !metav1.IsControlledBy(policy, broker) || policy.Labels[v1alpha1.LabelManagedBy] != v1alpha1.ManagedByValue {
		t.Errorf("it belongs to %v with the labels %v", policy.OwnerReferences, policy.Labels)
	}

	pod := w.kubelet.pod("mq").UID
	change(w, broker, func(b *v1alpha1.MQTTBroker) {
		gen.WithListener(gen.Plain("inside", 1883))(b)
		b.Spec.Listeners[1].From = []networkingv1.NetworkPolicyPeer{somebody}
		b.Spec.NetworkPolicy = &v1alpha1.PodNetworkPolicy{MetricsFrom: []networkingv1.NetworkPolicyPeer{scraper}}
		jwt := func(name, url string) v1alpha1.JWTIssuer {
			return v1alpha1.JWTIssuer{Issuer: name, Audiences: []string{"mqtt"}, JWKS: v1alpha1.JWKSource{URL: &url}}
		}
		b.Spec.Authentication = &v1alpha1.BrokerAuthentication{JWT: []v1alpha1.JWTIssuer{
			jwt("a", "https://login.example.com/keys"), jwt("b", "https://login.example.org:8443/keys"),
			jwt("c", "https://keycloak.auth.svc.example/keys"), jwt("d", "https://other.example.com/keys"),
		}}
	})
	narrow := policyOfBroker(
		[]networkingv1.NetworkPolicyEgressRule{
			wayOut("auth", "TCP"), wayOut("", "UDP 53", "TCP 53", "UDP 5353", "TCP 5353"), wayOut("", "TCP 443", "TCP 8443"),
		},
		wayIn(8883), wayIn(1883, somebody), wayIn(9443, operatorPeer), wayIn(9440, scraper))
	policy = w.networkPolicy("it follows the spec", "mq-broker", narrow)
	w.ready(broker)
	if w.kubelet.pod("mq").UID != pod {
		t.Error("a NetworkPolicy restarted the broker")
	}

	// What somebody changes or deletes comes back.
	change(w, policy, func(p *networkingv1.NetworkPolicy) { p.Spec.Ingress = nil })
	policy = w.networkPolicy("a change is undone", "mq-broker", narrow)
	must(t, k8s.Delete(t.Context(), policy))
	w.networkPolicy("it is made anew", "mq-broker", narrow)

	// What the API server does not take leaves the one of before, and the broker its configuration.
	change(w, broker, func(b *v1alpha1.MQTTBroker) {
		b.Spec.Listeners[1].From = []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/99"}}}
	})
	c := w.is(broker, v1alpha1.ConditionNetworkPolicyReady, metav1.ConditionFalse, v1alpha1.ReasonApplyRefused)
	if !strings.Contains(c.Message, "10.0.0.0/99") {
		t.Errorf("the message does not say what is wrong: %s", c.Message)
	}
	w.is(broker, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonApplyRefused)
	w.is(broker, v1alpha1.ConditionConfigApplied, metav1.ConditionTrue, v1alpha1.ReasonConfigApplied)
	w.networkPolicy("the one of before stands", "mq-broker", narrow)

	change(w, broker, func(b *v1alpha1.MQTTBroker) {
		b.Spec.Listeners, b.Spec.Authentication = b.Spec.Listeners[:1], nil
		b.Spec.NetworkPolicy = &v1alpha1.PodNetworkPolicy{Enabled: new(false)}
	})
	w.gone(policy)
	w.is(broker, v1alpha1.ConditionNetworkPolicyReady, metav1.ConditionTrue, v1alpha1.ReasonNetworkPolicyOff)
	w.ready(broker)

	// Somebody else's is left alone, and keeps nothing else from its way.
	foreign := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "mq-broker"}}
	foreign.Spec.PodSelector = metav1.LabelSelector{MatchLabels: map[string]string{"app": "other"}}
	w.create(foreign)
	version := foreign.ResourceVersion
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.NetworkPolicy = nil })
	c = w.is(broker, v1alpha1.ConditionNetworkPolicyReady, metav1.ConditionFalse, v1alpha1.ReasonObjectConflict)
	if !strings.Contains(c.Message, "NetworkPolicy mq-broker exists and was not made for this object") {
		t.Errorf("the message does not name it: %s", c.Message)
	}
	w.is(broker, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonObjectConflict)
	user := gen.User(w.namespace, "alice", "mq")
	w.create(user)
	w.ready(user)
	must(t, k8s.Get(t.Context(), client.ObjectKeyFromObject(foreign), foreign))
	if foreign.ResourceVersion != version {
		t.Error("somebody else's NetworkPolicy was written")
	}
	must(t, k8s.Delete(t.Context(), foreign))
	w.ready(broker)
	w.networkPolicy("once the name is free it is made", "mq-broker", wide)
}

// TestNetworkPolicyOfABridge: as of a broker, and the bridge may connect to whatever it is told to.
func TestNetworkPolicyOfABridge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bridge := gen.Bridge(w.namespace, "cloud", "mq")
	w.create(gen.Broker(w.namespace, "mq"), bridge)
	w.ready(bridge)
	w.is(bridge, v1alpha1.ConditionNetworkPolicyReady, metav1.ConditionTrue, v1alpha1.ReasonNetworkPolicyReady)
	spec := func(scrapers ...networkingv1.NetworkPolicyPeer) networkingv1.NetworkPolicySpec {
		return networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: v1alpha1.BridgeSelector("cloud")},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
			Ingress:     []networkingv1.NetworkPolicyIngressRule{wayIn(9443, operatorPeer), wayIn(9440, scrapers...)},
		}
	}
	policy := w.networkPolicy("the operator alone reaches the admin port", "cloud-bridge", spec())
	change(w, bridge, func(b *v1alpha1.MQTTBridge) {
		b.Spec.NetworkPolicy = &v1alpha1.PodNetworkPolicy{MetricsFrom: []networkingv1.NetworkPolicyPeer{scraper}}
	})
	w.networkPolicy("it follows the spec", "cloud-bridge", spec(scraper))
	must(t, k8s.Delete(t.Context(), policy))
	w.networkPolicy("it is made anew", "cloud-bridge", spec(scraper))
	change(w, bridge, func(b *v1alpha1.MQTTBridge) { b.Spec.NetworkPolicy = &v1alpha1.PodNetworkPolicy{Enabled: new(false)} })
	w.gone(policy)
	w.is(bridge, v1alpha1.ConditionNetworkPolicyReady, metav1.ConditionTrue, v1alpha1.ReasonNetworkPolicyOff)

	foreign := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "cloud-bridge"}}
	w.create(foreign)
	change(w, bridge, func(b *v1alpha1.MQTTBridge) {
		b.Spec.NetworkPolicy = nil
		b.Spec.Routes = append(b.Spec.Routes, gen.Route("alarms", v1alpha1.RouteOut, "alarms/#"))
	})
	w.is(bridge, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonObjectConflict)
	w.is(bridge, v1alpha1.ConditionApplied, metav1.ConditionTrue, v1alpha1.ReasonConfigApplied)
	w.eventually("the route is carried all the same", func() error {
		if routes := w.bridge("cloud", 0).runs().Routes; !slices.ContainsFunc(routes, func(r contract.BridgeRoute) bool { return r.Name == "alarms" }) {
			return fmt.Errorf("it runs %v", routes)
		}
		return nil
	})
	must(t, k8s.Delete(t.Context(), foreign))
	w.ready(bridge)
	w.networkPolicy("once the name is free it is made", "cloud-bridge", spec())
}
