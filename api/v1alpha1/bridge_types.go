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

	// inflight is the most messages of a route and direction that wait for the destination's acknowledgement, 1 to 65535.
	// After a crash at most so many arrive twice, and a route carries no more than this in one round trip to the remote
	// broker: 1000 are 10,000 messages a second where that takes 100 ms. Default: 1000.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Inflight *int32 `json:"inflight,omitempty"`

	// maxQueuedMessages is the most messages of a route that wait at a broker of this cluster while the bridge or its other
	// end is away, 1 to 10000000. It is never more than the broker's spec.limits.maxQueuedMessages and maxQueuedBytes allow;
	// status.local.notice and status.remote.notice say where the broker keeps fewer. What a broker elsewhere keeps is its own
	// matter. Default: as many as the broker keeps for anybody.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000000
	MaxQueuedMessages *int32 `json:"maxQueuedMessages,omitempty"`

	// sessionExpiry is how long both brokers are asked to keep what waits for the bridge while it is away, 0s to 1193046h.
	// A broker may give less; status.local.notice and status.remote.notice say so. Default: 168h.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('1193046h')",message="spec.sessionExpiry must be between 0s and 1193046h"
	SessionExpiry *metav1.Duration `json:"sessionExpiry,omitempty"`

	// replicas is the number of pods: 1; 2 for one that is active and one that stands by and takes over within seconds; 0
	// for none. Default: 1. Two pods never share the work: where one is not enough, let several bridges name the same
	// routes[].share.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2
	Replicas *int32 `json:"replicas,omitempty"`

	// suspend stops the bridge while it is true: its pods hold no connection, and what waits at the sources stays there as
	// long as their sessions last. Default: false.
	//
	// +optional
	Suspend *bool `json:"suspend,omitempty"`

	// image is the image that holds mqtt-bridge. Default: the broker image of the operator's release at the time when
	// the bridge was made; a newer operator keeps it, so that its upgrade restarts nobody.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^[^\\\\s]+$')",message="spec.image is the reference of a container image and holds no white space"
	Image *string `json:"image,omitempty"`

	// logging says what the bridge writes to its log. Default: info and above, as JSON.
	//
	// +optional
	Logging *BrokerLogging `json:"logging,omitempty"`

	// pod shapes the bridge's pods. A change replaces them. Default: a container that requests 100m cpu and 128Mi memory,
	// anywhere.
	//
	// +optional
	Pod *BrokerPod `json:"pod,omitempty"`

	// networkPolicy shapes the NetworkPolicy <bridge>-bridge, by which the cluster's network keeps others away from the
	// bridge's pods. Default: one that admits the operator to the admin port and everybody to the metrics; the pods
	// themselves may connect to whatever they are told to.
	//
	// +optional
	NetworkPolicy *PodNetworkPolicy `json:"networkPolicy,omitempty"`

	// monitoring makes objects for Prometheus and Grafana. Default: none.
	//
	// +optional
	Monitoring *Monitoring `json:"monitoring,omitempty"`
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
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="has(self.endpoints) != has(self.brokerRef)",message="spec.remote needs exactly one of endpoints and brokerRef"
// +kubebuilder:validation:XValidation:rule="!has(self.tls) || !has(self.endpoints) || self.endpoints.all(e, e.startsWith('mqtts://') || e.startsWith('wss://'))",message="spec.remote.tls needs endpoints with mqtts:// or wss://"
// +kubebuilder:validation:XValidation:rule="!has(self.brokerRef) || (!has(self.tls) && !has(self.credentialsSecretRef))",message="spec.remote.brokerRef brings credentials and trust along: remove tls and credentialsSecretRef"
type BridgeRemote struct {
	// brokerRef names another MQTTBroker of this cluster in place of endpoints. The operator makes an MQTTUser
	// <metadata.name>-bridge-remote of it, which may do no more than the routes need. Default: none.
	//
	// +optional
	BrokerRef *BrokerReference `json:"brokerRef,omitempty"`

	// endpoints are tried in order until one answers, 1 to 8, each as mqtt://host:port, mqtts://host:port,
	// ws://host:port/path or wss://host:port/path. Default: none; then brokerRef must be there.
	//
	// +optional
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

	// clientIDPrefix begins the client identifiers at both ends, 1 to 64 letters, digits and any of -_.: ; the name of a
	// route follows it. No other bridge of these brokers may use the same. Default: <namespace>.<name>, and where that is
	// too long its beginning and a sum of the whole.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-_.:A-Za-z0-9]+$')",message="spec.remote.clientIDPrefix is made of letters, digits, '-', '_', '.' and ':'"
	ClientIDPrefix *string `json:"clientIDPrefix,omitempty"`

	// keepAlive is how often a quiet connection is probed, 5s to 18h. Default: 30s.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('5s') && duration(self) <= duration('18h')",message="spec.remote.keepAlive must be between 5s and 18h"
	KeepAlive *metav1.Duration `json:"keepAlive,omitempty"`

	// cleanStart begins a new session at each connection to the remote broker, so that what came there while the bridge
	// was away is lost. Default: false.
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
//
// +kubebuilder:validation:XValidation:rule="!has(self.share) || self.direction != 'both'",message="spec.routes[].share needs direction in or out: a shared subscription cannot tell what the bridge itself has sent"
// +kubebuilder:validation:XValidation:rule="!(self.filter.startsWith('+') || self.filter.startsWith('#')) || ((!has(self.localPrefix) || self.localPrefix.endsWith('/')) && (!has(self.remotePrefix) || self.remotePrefix.endsWith('/')))",message="spec.routes[].filter begins with a wildcard, which is a whole level: let localPrefix and remotePrefix end with /"
// +kubebuilder:validation:XValidation:rule="size(self.filter) + (has(self.localPrefix) ? size(self.localPrefix) : 0) <= 1024 && size(self.filter) + (has(self.remotePrefix) ? size(self.remotePrefix) : 0) <= 1024",message="spec.routes[].filter and the prefix before it may have at most 1024 characters together"
type BridgeRoute struct {
	// name names the route in status and metrics: a DNS label of at most 32 characters.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="spec.routes[].name must be a DNS label: a-z, 0-9 and -, beginning and ending with a letter or digit"
	Name string `json:"name,omitempty"`

	// direction is in (remote to local), out (local to remote) or both. With both, what comes from one side is not sent
	// back there.
	//
	// +required
	Direction RouteDirection `json:"direction,omitempty"`

	// filter picks the messages by topic, without the prefix of the side that they come from, 1 to 1024 characters.
	//
	// +required
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('$share/')",message="spec.routes[].filter may not begin with $share/: name the group in spec.routes[].share"
	// +kubebuilder:validation:XValidation:rule="!self.contains('%u') && !self.contains('%c')",message="spec.routes[].filter may not hold %u or %c: in the rules of the bridge's user they would stand for something else"
	Filter TopicFilter `json:"filter,omitempty"`

	// localPrefix stands before the topic at the local end, at most 256 characters without wildcards. Default: none.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="!self.matches('[+#\\\\x00]') && !self.startsWith('$') && !self.contains('%u') && !self.contains('%c')",message="spec.routes[].localPrefix may not hold +, #, NUL, %u or %c, nor begin with $"
	LocalPrefix *string `json:"localPrefix,omitempty"`

	// remotePrefix stands before the topic at the remote end, at most 256 characters without wildcards. Default: none.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="!self.matches('[+#\\\\x00]') && !self.startsWith('$') && !self.contains('%u') && !self.contains('%c')",message="spec.routes[].remotePrefix may not hold +, #, NUL, %u or %c, nor begin with $"
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

	// share is the name of a group at the source, 1 to 64 characters without "/" and wildcards. Every bridge whose route
	// names the same group, filter and source gets a part of the messages, so that several carry what is too much for
	// one. Messages of one topic then go different ways and may overtake each other. Default: none; the bridge gets every
	// message and keeps their order.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="!self.matches('[+#/\\\\p{Cc}]')",message="spec.routes[].share may not hold +, #, / or control characters"
	Share *string `json:"share,omitempty"`
}

// MQTTBridgeStatus is what the operator knows about the bridge.
type MQTTBridgeStatus struct {
	// conditions are Ready, Applied, LocalConnected, RemoteConnected, NetworkPolicyReady and MonitoringReady, and
	// Looping and Stalled while they are true.
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

	// revision says which configuration is wanted and which one runs.
	//
	// +optional
	Revision *RevisionStatus `json:"revision,omitempty"`

	// pods says how each pod is doing.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Pods []BridgePodStatus `json:"pods,omitempty"`

	// local speaks of the connection to the local broker.
	//
	// +optional
	Local *BridgeEndStatus `json:"local,omitempty"`

	// remote speaks of the connection to the remote broker.
	//
	// +optional
	Remote *BridgeEndStatus `json:"remote,omitempty"`

	// routes says how each route is doing. A route that loses or gets its connections is written at once; numbers, errors and
	// times move all the time and are written at most every 30 s. The bridge's own metrics are of the moment.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Routes []RouteStatus `json:"routes,omitempty"`

	// monitoring are the kinds of the objects that the operator has made for spec.monitoring.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=63
	Monitoring []string `json:"monitoring,omitempty"`

	// countedAt is when the numbers in routes were written.
	//
	// +optional
	CountedAt *metav1.Time `json:"countedAt,omitempty"`
}

// BridgePodStatus says how a pod is doing.
type BridgePodStatus struct {
	// name is the name of the pod.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// ready says whether the pod's readiness probe passes.
	//
	// +optional
	Ready *bool `json:"ready,omitempty"`

	// active says whether the pod carries messages and knows that no other does; one that stands by does not, and one that
	// the local broker does not answer cannot know.
	//
	// +optional
	Active *bool `json:"active,omitempty"`

	// configRevision is the revision that the pod has answered.
	//
	// +optional
	ConfigRevision *int64 `json:"configRevision,omitempty"`
}

// BridgeEndStatus speaks of the connection to one of the two brokers.
type BridgeEndStatus struct {
	// endpoint is the address that answered last.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Endpoint string `json:"endpoint,omitempty"`

	// notice is what the broker would not give as asked: a shorter session, a shorter queue, a smaller packet, no retained
	// messages.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Notice string `json:"notice,omitempty"`
}

// RouteStatus says how a route is doing.
type RouteStatus struct {
	// name is the name of the route.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	Name string `json:"name,omitempty"`

	// connected says whether messages of every direction of the route can flow.
	//
	// +optional
	Connected *bool `json:"connected,omitempty"`

	// forwarded is the number of messages that the destination has taken since the pods started.
	//
	// +optional
	Forwarded *int64 `json:"forwarded,omitempty"`

	// forwardedPerMinute is how fast that number grew when it was last written.
	//
	// +optional
	ForwardedPerMinute *int64 `json:"forwardedPerMinute,omitempty"`

	// dropped is the number of messages given up since the pods started.
	//
	// +optional
	Dropped *int64 `json:"dropped,omitempty"`

	// dropReasons says why they were given up.
	//
	// +optional
	// +listType=map
	// +listMapKey=reason
	// +kubebuilder:validation:MaxItems=16
	DropReasons []DropReason `json:"dropReasons,omitempty"`

	// queued is the number of messages taken from the source that the destination has not acknowledged yet.
	//
	// +optional
	Queued *int64 `json:"queued,omitempty"`

	// lagSeconds is the age of the oldest of them, in whole seconds.
	//
	// +optional
	LagSeconds *int64 `json:"lagSeconds,omitempty"`

	// lastError is why the route last failed; empty if it never did.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	LastError string `json:"lastError,omitempty"`

	// lastErrorTime is when that was.
	//
	// +optional
	LastErrorTime *metav1.Time `json:"lastErrorTime,omitempty"`
}

// DropReason counts the messages that were given up for one reason.
type DropReason struct {
	// reason is one word: TooLarge, Refused, Loop and others.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`

	// count is how many there were.
	//
	// +optional
	Count *int64 `json:"count,omitempty"`
}

// MQTTBridge moves messages between a broker and any remote MQTT broker.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=mqttbridges,singular=mqttbridge,shortName=mqbr,categories=mqtt,scope=Namespaced
// +kubebuilder:printcolumn:name="Broker",type=string,JSONPath=`.spec.brokerRef.name`,description="The broker at the local end"
// +kubebuilder:printcolumn:name="Remote",type=string,JSONPath=`.status.remote.endpoint`,description="The endpoint of the remote broker that answered last"
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

	// status says what is true now. Until the operator has looked at the object, observedGeneration is -1: tools that read
	// kstatus take an object without a status for one that is ready.
	//
	// +optional
	// +default={"observedGeneration":-1}
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
