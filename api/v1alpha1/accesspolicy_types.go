// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MQTTAccessPolicySpec says what the policy grants and to whom.
type MQTTAccessPolicySpec struct {
	// rules are asked in order after a user's own acl; the first that matches decides. Where a user has several policies
	// they are asked one after the other: those of its policyRefs in their order, then those whose userSelector matches, by
	// name.
	//
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	Rules []ACLRule `json:"rules,omitempty"`

	// userSelector binds the policy to the users of this namespace whose labels it matches; {} matches all. Default: none;
	// then only users that name the policy in their policyRefs are bound.
	//
	// +optional
	UserSelector *metav1.LabelSelector `json:"userSelector,omitempty"`
}

// MQTTAccessPolicyStatus is what the operator knows about the policy.
type MQTTAccessPolicyStatus struct {
	// conditions are Ready, and Stalled while it is true.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that this status speaks of.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// boundUsers is the number of users that the policy is bound to, by name or by label, whether or not a broker knows
	// them.
	//
	// +optional
	BoundUsers *int32 `json:"boundUsers,omitempty"`
}

// MQTTAccessPolicy holds rules that many users share.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=mqttaccesspolicies,singular=mqttaccesspolicy,shortName=mqap,categories=mqtt,scope=Namespaced
// +kubebuilder:printcolumn:name="Users",type=integer,JSONPath=`.status.boundUsers`,description="Users that the policy is bound to"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether the rules are in force"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,description="Why it is so"
type MQTTAccessPolicy struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata.
	//
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says what is wanted.
	//
	// +required
	Spec MQTTAccessPolicySpec `json:"spec,omitzero"`

	// status says what is true now. Until the operator has looked at the object, observedGeneration is -1: tools that read
	// kstatus take an object without a status for one that is ready.
	//
	// +optional
	// +default={"observedGeneration":-1}
	Status MQTTAccessPolicyStatus `json:"status,omitzero"`
}

// MQTTAccessPolicyList is a list of MQTTAccessPolicy.
//
// +kubebuilder:object:root=true
type MQTTAccessPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []MQTTAccessPolicy `json:"items"`
}
