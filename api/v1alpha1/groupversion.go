// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The kinds of the group.
const (
	KindMQTTBroker       = "MQTTBroker"
	KindMQTTUser         = "MQTTUser"
	KindMQTTAccessPolicy = "MQTTAccessPolicy"
	KindMQTTBridge       = "MQTTBridge"
)

var (
	// GroupVersion is the group and version of every kind here.
	GroupVersion = schema.GroupVersion{Group: "mqtt-operator.io", Version: "v1alpha1"}

	schemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

	// AddToScheme teaches a scheme the kinds of this package.
	AddToScheme = schemeBuilder.AddToScheme
)

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&MQTTBroker{}, &MQTTBrokerList{},
		&MQTTUser{}, &MQTTUserList{},
		&MQTTAccessPolicy{}, &MQTTAccessPolicyList{},
		&MQTTBridge{}, &MQTTBridgeList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)

	return nil
}
