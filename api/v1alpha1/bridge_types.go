// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MQTTBridgeSpec says which messages go where.
type MQTTBridgeSpec struct {
	// brokerRef names the broker at the local end. Immutable.
	//
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec.brokerRef is immutable: delete the bridge and create it for the other broker"
	BrokerRef BrokerReference `json:"brokerRef,omitzero"`

	// remote is the broker at the other end.
	//
	// +required
	Remote BridgeRemote `json:"remote,omitzero"`

	// routes are the flows of messages, 1 to 64.
	//
	// +required
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Routes []BridgeRoute `json:"routes,omitempty"`

	// inflight is the most messages of a route that wait for the destination's acknowledgement, 1 to 65535. Default: 100.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Inflight *int32 `json:"inflight,omitempty"`

	// suspend stops the bridge while it is true; what waits at the sources stays there. Default: false.
	//
	// +optional
	Suspend *bool `json:"suspend,omitempty"`
}

// MQTTProtocolVersion is a version of the MQTT protocol.
//
// +kubebuilder:validation:Enum=v5;v3.1.1
type MQTTProtocolVersion string

// The protocol versions that a bridge speaks.
const (
	MQTTv5   MQTTProtocolVersion = "v5"
	MQTTv311 MQTTProtocolVersion = "v3.1.1"
)

// BridgeRemote is the broker at the other end of a bridge.
//
// +kubebuilder:validation:XValidation:rule="!has(self.tls) || self.endpoints.all(e, e.startsWith('mqtts://') || e.startsWith('wss://'))",message="spec.remote.tls needs endpoints with mqtts:// or wss://"
type BridgeRemote struct {
	// endpoints are tried in order until one answers, 1 to 8, each as mqtt://host:port, mqtts://host:port,
	// ws://host:port/path or wss://host:port/path.
	//
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.all(e, e.matches('^(mqtts?|wss?)://([-.A-Za-z0-9]+|\\\\[[:0-9A-Fa-f]+\\\\])(:[0-9]{1,5})?(/[^?#@\\\\s]*)?$'))",message="spec.remote.endpoints are mqtt://, mqtts://, ws:// or wss:// with a host and, if it is not the usual one, a port, and hold no credentials"
	Endpoints []string `json:"endpoints,omitempty"`

	// protocolVersion is what is spoken with the remote broker: v5 or v3.1.1. Default: v5.
	//
	// +optional
	ProtocolVersion *MQTTProtocolVersion `json:"protocolVersion,omitempty"`

	// tls says whom to trust and which certificate to show. Default: the system's roots and no certificate.
	//
	// +optional
	TLS *BridgeTLS `json:"tls,omitempty"`

	// credentialsSecretRef names a Secret of this namespace with the keys username and password. The Secret must carry
	// the label mqtt-operator.io/allow: "true". Default: no credentials.
	//
	// +optional
	CredentialsSecretRef *SecretReference `json:"credentialsSecretRef,omitempty"`

	// clientIDPrefix begins the client identifiers at both ends, 1 to 64 characters without wildcards. Default:
	// <namespace>.<name>.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="!self.matches('[+#/\\\\p{Cc}]')",message="spec.remote.clientIDPrefix may not hold +, #, / or control characters"
	ClientIDPrefix *string `json:"clientIDPrefix,omitempty"`

	// keepAlive is how often a quiet connection is probed, 5s to 18h. Default: 30s.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('5s') && duration(self) <= duration('18h')",message="spec.remote.keepAlive must be between 5s and 18h"
	KeepAlive *metav1.Duration `json:"keepAlive,omitempty"`

	// cleanStart begins a new session at each connection, so that what came while the bridge was away is lost.
	// Default: false.
	//
	// +optional
	CleanStart *bool `json:"cleanStart,omitempty"`
}

// BridgeTLS says whom a bridge trusts and which certificate it shows.
//
// +kubebuilder:validation:MinProperties=1
type BridgeTLS struct {
	// caSecretRef names a Secret of this namespace that holds the CA certificates to trust; key defaults to "ca.crt".
	// The Secret must carry the label mqtt-operator.io/allow: "true". Default: the system's roots.
	//
	// +optional
	CASecretRef *SecretKeyReference `json:"caSecretRef,omitempty"`

	// certificateSecretRef names a Secret of this namespace with the keys tls.crt and tls.key to show to the remote
	// broker. The Secret must carry the label mqtt-operator.io/allow: "true". Default: none.
	//
	// +optional
	CertificateSecretRef *SecretReference `json:"certificateSecretRef,omitempty"`

	// serverName is the name that the remote certificate must carry. Default: the host of the endpoint.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ServerName *string `json:"serverName,omitempty"`
}

// RouteDirection is the way that messages go, seen from the local broker.
//
// +kubebuilder:validation:Enum=in;out;both
type RouteDirection string

// The directions of a route.
const (
	RouteIn   RouteDirection = "in"
	RouteOut  RouteDirection = "out"
	RouteBoth RouteDirection = "both"
)

// BridgeRoute is one flow of messages.
type BridgeRoute struct {
	// name names the route in status and metrics: a DNS label of at most 32 characters.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="spec.routes[].name must be a DNS label: a-z, 0-9 and -, beginning and ending with a letter or digit"
	Name string `json:"name,omitempty"`

	// direction is in (remote to local), out (local to remote) or both.
	//
	// +required
	Direction RouteDirection `json:"direction,omitempty"`

	// filter picks the messages by topic, without the prefix of the side that they come from, 1 to 1024 characters.
	// Tokens mean nothing here.
	//
	// +required
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('$share/')",message="spec.routes[].filter may not begin with $share/: a bridge needs every message for itself"
	Filter TopicFilter `json:"filter,omitempty"`

	// localPrefix stands before the topic at the local end, at most 256 characters without wildcards. Default: none.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="!self.matches('[+#\\\\x00]') && !self.startsWith('$')",message="spec.routes[].localPrefix may not hold +, # or NUL, nor begin with $"
	LocalPrefix *string `json:"localPrefix,omitempty"`

	// remotePrefix stands before the topic at the remote end, at most 256 characters without wildcards. Default: none.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="!self.matches('[+#\\\\x00]') && !self.startsWith('$')",message="spec.routes[].remotePrefix may not hold +, # or NUL, nor begin with $"
	RemotePrefix *string `json:"remotePrefix,omitempty"`

	// maxQoS is the highest QoS with which messages are taken and passed on, 0 to 2. Default: 1.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2
	MaxQoS *int32 `json:"maxQoS,omitempty"`

	// retain passes the retain flag on. Default: true; with false every message arrives as an ordinary one.
	//
	// +optional
	Retain *bool `json:"retain,omitempty"`
}

// MQTTBridgeStatus is what the operator knows about the bridge.
type MQTTBridgeStatus struct {
	// conditions are Ready, Applied, LocalConnected and RemoteConnected, and Stalled while it is true.
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

	// routes says how each route is doing.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Routes []RouteStatus `json:"routes,omitempty"`
}

// RouteStatus says how a route is doing.
type RouteStatus struct {
	// name is the name of the route.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	Name string `json:"name,omitempty"`

	// connected says whether both ends of the route are connected.
	//
	// +optional
	Connected *bool `json:"connected,omitempty"`

	// forwarded is the number of messages passed on since the bridge started.
	//
	// +optional
	Forwarded *int64 `json:"forwarded,omitempty"`

	// dropped is the number of messages given up since the bridge started.
	//
	// +optional
	Dropped *int64 `json:"dropped,omitempty"`

	// queued is the number of messages that wait for an acknowledgement.
	//
	// +optional
	Queued *int64 `json:"queued,omitempty"`

	// lastError is why the route last failed; empty if it never did.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	LastError string `json:"lastError,omitempty"`
}

// not alive: there is no bridge binary yet.
// +kubebuilder:validation:XValidation:rule="false",message="spec is not alive in this version of MQTTBridge: run a bridge of your own as a client of the broker"

// MQTTBridge moves messages between a broker and any remote MQTT broker.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=mqttbridges,singular=mqttbridge,shortName=mqbr,categories=mqtt,scope=Namespaced
// +kubebuilder:printcolumn:name="Broker",type=string,JSONPath=`.spec.brokerRef.name`,description="The broker at the local end"
// +kubebuilder:printcolumn:name="Remote",type=string,JSONPath=`.spec.remote.endpoints[0]`,description="The first endpoint of the remote broker"
// +kubebuilder:printcolumn:name="Connected",type=string,JSONPath=`.status.conditions[?(@.type=="RemoteConnected")].status`,description="Whether the remote end is connected"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether messages flow on every route"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,description="Why it is so"
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 52 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name of a bridge may have at most 52 characters and must be a DNS-1035 label: a-z, 0-9 and -, beginning with a letter"
type MQTTBridge struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata; name is a DNS-1035 label of at most 52 characters.
	//
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says what is wanted.
	//
	// +required
	Spec MQTTBridgeSpec `json:"spec,omitzero"`

	// status says what is true now.
	//
	// +optional
	Status MQTTBridgeStatus `json:"status,omitzero"`
}

// MQTTBridgeList is a list of MQTTBridge.
//
// +kubebuilder:object:root=true
type MQTTBridgeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []MQTTBridge `json:"items"`
}
