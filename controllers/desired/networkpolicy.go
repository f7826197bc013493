// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// NetworkPolicy keeps others away from the broker's pods, nil where the spec wants none: clients reach the listeners, the
// operator alone the admin port, and the pods nothing but the issuers whose keys they fetch.
func NetworkPolicy(f *verdict.Facts) *networkingv1.NetworkPolicy {
	if !f.Spec.Network.Enabled {
		return nil
	}
	policy := &networkingv1.NetworkPolicy{ObjectMeta: meta(f, v1alpha1.NetworkPolicyName(f.Broker.Name))}
	policy.Spec = networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: v1alpha1.BrokerSelector(f.Broker.Name)},
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		Egress:      brokerEgress(f),
	}
	for _, l := range f.Spec.Listeners {
		policy.Spec.Ingress = append(policy.Spec.Ingress, ingress(l.From, l.Port))
	}
	policy.Spec.Ingress = append(policy.Spec.Ingress, ownIngress(f.Operator, f.Spec.Network)...)
	return policy
}

// BridgeNetworkPolicy keeps others away from the bridge's pods, nil where the spec wants none. Where these may connect to is
// left open: a remote broker may be anywhere, and behind a Service its port is another one than the endpoint says.
func BridgeNetworkPolicy(f *verdict.BridgeFacts) *networkingv1.NetworkPolicy {
	if !f.Spec.Network.Enabled {
		return nil
	}
	policy := &networkingv1.NetworkPolicy{ObjectMeta: bridgeMeta(f, v1alpha1.BridgeNetworkPolicyName(f.Bridge.Name))}
	policy.Spec = networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: v1alpha1.BridgeSelector(f.Bridge.Name)},
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		Ingress:     ownIngress(f.Operator, f.Spec.Network),
	}
	return policy
}

// ownIngress is the ways into a pod that are not for clients: the admin port and the one of health and metrics. An operator
// that does not know where its own pods are leaves the admin port to its certificates.
func ownIngress(operator verdict.Operator, network v1alpha1.ResolvedNetworkPolicy) []networkingv1.NetworkPolicyIngressRule {
	var peers []networkingv1.NetworkPolicyPeer
	if operator.Namespace != "" && len(operator.Labels) > 0 {
		peers = []networkingv1.NetworkPolicyPeer{{
			NamespaceSelector: namespaceNamed(operator.Namespace),
			PodSelector:       &metav1.LabelSelector{MatchLabels: maps.Clone(operator.Labels)},
		}}
	}
	return []networkingv1.NetworkPolicyIngressRule{ingress(peers, contract.AdminPort), ingress(network.MetricsFrom, contract.HealthPort)}
}

// ingress lets peers reach a port; without any, everybody.
func ingress(peers []networkingv1.NetworkPolicyPeer, port int32) networkingv1.NetworkPolicyIngressRule {
	return networkingv1.NetworkPolicyIngressRule{From: peers, Ports: []networkingv1.NetworkPolicyPort{policyPort(corev1.ProtocolTCP, port)}}
}

// dnsPorts are where names are asked for: the usual one, and the one behind it where the cluster's resolver is a pod that may
// not bind that.
var dnsPorts = []int32{53, 5353}

// brokerEgress is what the broker's pods may connect to. Without an issuer whose keys they fetch that is nothing. An issuer of
// the cluster is reached at its pods, whose port nobody tells here; any other at the port of its address.
func brokerEgress(f *verdict.Facts) []networkingv1.NetworkPolicyEgressRule {
	var (
		ports []int32
		rules []networkingv1.NetworkPolicyEgressRule
	)
	for _, issuer := range f.Spec.Tokens.Issuers {
		address, err := url.Parse(issuer.URL)
		if issuer.URL == "" || err != nil {
			continue
		}
		if namespace := serviceNamespace(address.Hostname()); namespace != "" {
			rules = append(rules, networkingv1.NetworkPolicyEgressRule{
				To:    []networkingv1.NetworkPolicyPeer{{NamespaceSelector: namespaceNamed(namespace)}},
				Ports: []networkingv1.NetworkPolicyPort{{Protocol: new(corev1.ProtocolTCP)}},
			})
			continue
		}
		ports = append(ports, portOf(address))
	}
	if len(ports)+len(rules) == 0 {
		return nil
	}
	dns := networkingv1.NetworkPolicyEgressRule{}
	for _, port := range dnsPorts {
		dns.Ports = append(dns.Ports, policyPort(corev1.ProtocolUDP, port), policyPort(corev1.ProtocolTCP, port))
	}
	rules = append(rules, dns)
	if len(ports) > 0 {
		outside := networkingv1.NetworkPolicyEgressRule{}
		slices.Sort(ports)
		for _, port := range slices.Compact(ports) {
			outside.Ports = append(outside.Ports, policyPort(corev1.ProtocolTCP, port))
		}
		rules = append(rules, outside)
	}
	return rules
}

// serviceNamespace is the namespace in the name of a Service, SERVICE.NAMESPACE.svc and what may follow, else empty.
func serviceNamespace(host string) string {
	labels := strings.Split(host, ".")
	if len(labels) < 3 || labels[2] != "svc" {
		return ""
	}
	return labels[1]
}

const httpsPort = 443

func portOf(address *url.URL) int32 {
	if port, err := strconv.ParseInt(address.Port(), 10, 32); err == nil {
		return int32(port)
	}
	return httpsPort
}

func policyPort(protocol corev1.Protocol, port int32) networkingv1.NetworkPolicyPort {
	return networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: new(intstr.FromInt32(port))}
}

// namespaceNamed selects a namespace by the label that Kubernetes itself keeps on it.
func namespaceNamed(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: name}}
}
