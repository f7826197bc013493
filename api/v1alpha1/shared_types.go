// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	networkingv1 "k8s.io/api/networking/v1"
)

// Words that more than one kind uses.

// BrokerReference names the broker that an object belongs to.
type BrokerReference struct {
	// name is the name of the MQTTBroker.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	Name string `json:"name,omitempty"`

	// namespace is the namespace of the MQTTBroker. Default: the namespace of this object. Another namespace works only
	// where the broker's allowedNamespaces says so; until then the answer is the same as if there were no such broker.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace *string `json:"namespace,omitempty"`
}

// SecretReference names a Secret of the same namespace. The Secret must carry the label mqtt-operator.io/allow: "true",
// else it is treated as if it were not there.
type SecretReference struct {
	// name is the name of the Secret.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
}

// SecretKeyReference names one key of a Secret of the same namespace. The Secret must carry the label
// mqtt-operator.io/allow: "true", else it is treated as if it were not there.
type SecretKeyReference struct {
	// name is the name of the Secret.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// key is the key inside the Secret. The default is said where the reference is used.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-._a-zA-Z0-9]+$')",message="a Secret's key is made of letters, digits, '-', '_' and '.'"
	Key *string `json:"key,omitempty"`
}

// ConfigMapKeyReference names one key of a ConfigMap of the same namespace. The ConfigMap must carry the label
// mqtt-operator.io/allow: "true", else it is treated as if it were not there.
type ConfigMapKeyReference struct {
	// name is the name of the ConfigMap.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// key is the key inside the ConfigMap. The default is said where the reference is used.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-._a-zA-Z0-9]+$')",message="a ConfigMap's key is made of letters, digits, '-', '_' and '.'"
	Key *string `json:"key,omitempty"`
}

// PodNetworkPolicy shapes the NetworkPolicy of a broker's or bridge's pods.
//
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="!has(self.enabled) || self.enabled || !has(self.metricsFrom)",message="spec.networkPolicy.metricsFrom needs the NetworkPolicy: remove it, or set spec.networkPolicy.enabled to true"
type PodNetworkPolicy struct {
	// enabled makes the NetworkPolicy. Default: true; with false it is deleted, and the cluster's network lets everybody
	// reach the pods whom no other NetworkPolicy keeps away.
	//
	// +optional
	Enabled *bool `json:"enabled,omitempty"`

	// metricsFrom lists the peers that may read metrics and health, port 9440, 1 to 32. The kubelet's probes come from
	// the pod's own node, which a NetworkPolicy does not keep away. Default: everybody.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(p, has(p.ipBlock) != (has(p.podSelector) || has(p.namespaceSelector)))",message="spec.networkPolicy.metricsFrom needs in each peer either ipBlock, or podSelector, namespaceSelector or both"
	MetricsFrom []networkingv1.NetworkPolicyPeer `json:"metricsFrom,omitempty"`
}

// Monitoring makes objects for Prometheus and Grafana.
//
// +kubebuilder:validation:MinProperties=1
type Monitoring struct {
	// podMonitor makes a PodMonitor, by which the Prometheus operator finds the pods' metrics. Without its kinds in the
	// cluster nothing is made, and the condition MonitoringReady says so. Default: none.
	//
	// +optional
	PodMonitor *MonitoringObject `json:"podMonitor,omitempty"`

	// prometheusRule makes a PrometheusRule with alerts. Without that kind in the cluster nothing is made, and the condition
	// MonitoringReady says so. Default: none.
	//
	// +optional
	PrometheusRule *MonitoringObject `json:"prometheusRule,omitempty"`

	// dashboard makes a ConfigMap with a Grafana dashboard, labelled grafana_dashboard: "1". Default: none.
	//
	// +optional
	Dashboard *MonitoringObject `json:"dashboard,omitempty"`
}

// MonitoringObject says whether an object is made and how it is found.
type MonitoringObject struct {
	// enabled makes the object; with false one that was made is deleted.
	//
	// +required
	Enabled *bool `json:"enabled,omitempty"`

	// labels are added to the object, at most 32, so that Prometheus or Grafana picks it up. Keys of app.kubernetes.io and
	// mqtt-operator.io are the operator's own. Default: none.
	//
	// +optional
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.contains('mqtt-operator.io/') && !k.startsWith('app.kubernetes.io/'))",message="the labels of monitoring objects may not hold keys of app.kubernetes.io or mqtt-operator.io: they are the operator's own"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !format.qualifiedName().validate(k).hasValue())",message="the labels of monitoring objects need keys like name or example.com/name"
	Labels map[string]LabelValue `json:"labels,omitempty"`
}

// LabelValue is what the value of a label can be: at most 63 letters, digits, '-', '_' and '.', beginning and ending with
// a letter or digit, or nothing.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$`
type LabelValue string

// ACLEffect says what a rule does with what it matches.
//
// +kubebuilder:validation:Enum=allow;deny
type ACLEffect string

// The effects of a rule.
const (
	ACLAllow ACLEffect = "allow"
	ACLDeny  ACLEffect = "deny"
)

// ACLAction is what a client wants to do with a topic.
//
// +kubebuilder:validation:Enum=publish;subscribe
type ACLAction string

// The actions of a rule.
const (
	ACLPublish   ACLAction = "publish"
	ACLSubscribe ACLAction = "subscribe"
)

// TopicFilter is an MQTT topic filter: levels between slashes, + for one whole level, # for all that follows, as the
// last level only. In the rules of users and policies a level may also be one of the tokens %u (username), %c (client
// id) or %cn (common name of the client certificate).
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=1024
// +kubebuilder:validation:XValidation:rule="self.matches('^((\\\\+|[^+#/\\\\x00]*)(/(\\\\+|[^+#/\\\\x00]*))*(/#)?|#)$')",message="not an MQTT topic filter: + stands for one whole level, # for all that follows and only as the last level, and no character may be NUL"
type TopicFilter string

// ACLRule grants or denies actions on topics. The rules of a list are asked in order, the first one that matches
// decides, and what no rule matches is denied.
//
// +kubebuilder:validation:XValidation:rule="self.effect == 'allow' || !has(self.maxQoS)",message="maxQoS narrows what is allowed: remove it from a deny rule"
// +kubebuilder:validation:XValidation:rule="self.effect == 'allow' || !has(self.retain)",message="retain narrows what is allowed: remove it from a deny rule"
// +kubebuilder:validation:XValidation:rule="!has(self.retain) || 'publish' in self.actions",message="retain is about publishing: remove it from a rule whose actions do not hold publish"
type ACLRule struct {
	// effect says what the rule does: allow or deny.
	//
	// +required
	Effect ACLEffect `json:"effect,omitempty"`

	// actions are what the rule is about: publish, subscribe or both.
	//
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	Actions []ACLAction `json:"actions,omitempty"`

	// filter is the topic filter that the rule covers, 1 to 1024 characters. A subscription is allowed only if its
	// whole filter lies inside this one. The tokens %u, %c and %cn stand for the username, the client id and the
	// common name of the client certificate; each must be a level of its own, and for a connection that has no such
	// value the rule matches nothing. Shared subscriptions ($share/group/filter) are judged by their filter.
	//
	// +required
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('$share/')",message="rules name the filter of a shared subscription without the prefix: write what follows $share/<group>/"
	// +kubebuilder:validation:XValidation:rule="!self.matches('[^/]%[uc]|%u[^/]|%c[^/n]|%cn[^/]')",message="the tokens %u, %c and %cn must each be a whole level of the filter"
	Filter TopicFilter `json:"filter,omitempty"`

	// maxQoS is the highest QoS that the rule allows, 0 to 2; default 2. A subscription is granted at most this QoS, a
	// message published with a higher one is refused. Only in allow rules.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2
	MaxQoS *int32 `json:"maxQoS,omitempty"`

	// retain says whether a message published under this rule may be a retained one; default true. Only in allow rules.
	//
	// +optional
	Retain *bool `json:"retain,omitempty"`
}
