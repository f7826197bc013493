// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// MQTTBrokerSpec says what broker is wanted.
//
// +kubebuilder:validation:XValidation:rule="has(self.persistence) == has(oldSelf.persistence)",message="spec.persistence cannot be added or removed later: create another broker"
// +kubebuilder:validation:XValidation:rule="has(self.persistence) || !has(self.authentication) || !has(self.authentication.passwordCache) || self.authentication.passwordCache != 'Volume'",message="spec.authentication.passwordCache Volume needs spec.persistence: without a volume nothing outlives the pod"
// +kubebuilder:validation:XValidation:rule="(has(self.authentication) && has(self.authentication.jwt)) || !self.listeners.exists(l, has(l.authentication) && 'jwt' in l.authentication)",message="spec.listeners[].authentication with jwt needs spec.authentication.jwt: name who issues the tokens"
// +kubebuilder:validation:XValidation:rule="(has(self.authentication) && has(self.authentication.serviceAccounts)) || !self.listeners.exists(l, has(l.authentication) && 'serviceAccount' in l.authentication)",message="spec.listeners[].authentication with serviceAccount needs spec.authentication.serviceAccounts: name the audiences"
// +kubebuilder:validation:XValidation:rule="!has(self.networkPolicy) || !has(self.networkPolicy.enabled) || self.networkPolicy.enabled || !self.listeners.exists(l, has(l.from))",message="spec.listeners[].from needs the NetworkPolicy: remove it, or set spec.networkPolicy.enabled to true"
type MQTTBrokerSpec struct {
	// image is the broker's container image. Default: the image that belongs to the operator's release. A change
	// restarts the broker.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^[^\\\\s]+$')",message="spec.image is the reference of a container image and holds no white space"
	Image *string `json:"image,omitempty"`

	// not alive: more than one broker that share no sessions are not a cluster.
	// +kubebuilder:validation:XValidation:rule="self <= 1",message="spec.replicas above 1 is not alive in this version: set 0 or 1"

	// replicas is the number of broker pods, 0 to 31. Default: 1. With 0 the broker hibernates: no pod runs, its volume
	// and its Secrets stay.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=31
	Replicas *int32 `json:"replicas,omitempty"`

	// listeners are the doors of the broker, 1 to 16. Each gets a Service <broker>-<listener>. Changes are taken
	// without a restart.
	//
	// +required
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, b.port == a.port))",message="spec.listeners need a port each: two listeners have the same"
	Listeners []BrokerListener `json:"listeners,omitempty"`

	// authentication names who may vouch for clients beside the MQTTUser objects, default nobody, and says how the
	// broker remembers passwords. Changes are taken without a restart.
	//
	// +optional
	Authentication *BrokerAuthentication `json:"authentication,omitempty"`

	// ca shapes the broker's own CAs, <broker>-ca and <broker>-client-ca.
	//
	// +optional
	CA *BrokerCA `json:"ca,omitempty"`

	// limits bounds what clients may use. Changes are taken without a restart and hold for open connections too, except
	// receiveMaximum, topicAliasMaximum, maxSessionExpiry and serverKeepAlive, which a client learns when it connects.
	//
	// +optional
	Limits *BrokerLimits `json:"limits,omitempty"`

	// persistence gives each pod a volume for sessions, queued and retained messages. Default: none; then all of them
	// live as long as the pod. Whether there is a volume cannot be changed later.
	//
	// +optional
	Persistence *BrokerPersistence `json:"persistence,omitempty"`

	// updates says how and when clients may be disturbed.
	//
	// +optional
	Updates *BrokerUpdates `json:"updates,omitempty"`

	// allowedNamespaces says which namespaces may hold users of this broker. Default: its own only. What is taken away
	// ends the connections of its users. Namespaces outside of the operator's scope are never seen.
	//
	// +optional
	AllowedNamespaces *AllowedNamespaces `json:"allowedNamespaces,omitempty"`

	// networkPolicy shapes the NetworkPolicy <broker>-broker, by which the cluster's network keeps others away from the
	// broker's pods. Default: one that admits everybody to the listeners and to the metrics, and the operator alone to
	// the admin port. Changes are taken without a restart.
	//
	// +optional
	NetworkPolicy *PodNetworkPolicy `json:"networkPolicy,omitempty"`

	// podDisruptionBudget shapes the PodDisruptionBudget <broker>-broker, by which evictions, as those of a node that is
	// drained, take one pod at a time. It blocks none for good: one pod may always go, and one that is not ready in any
	// case. Changes are taken without a restart.
	//
	// +optional
	PodDisruptionBudget *BrokerDisruptionBudget `json:"podDisruptionBudget,omitempty"`

	// monitoring makes objects for Prometheus and Grafana. Default: none.
	//
	// +optional
	Monitoring *Monitoring `json:"monitoring,omitempty"`

	// logging says what the broker writes to its log. Changes are taken without a restart.
	//
	// +optional
	Logging *BrokerLogging `json:"logging,omitempty"`

	// pod shapes the broker's pods. A change restarts the broker.
	//
	// +optional
	Pod *BrokerPod `json:"pod,omitempty"`

	// not alive: the forbidden paths are not agreed on yet.
	// +kubebuilder:validation:XValidation:rule="false",message="spec.overlay is not alive in this version: remove it and use spec.pod and spec.listeners[].service"

	// overlay patches objects that the operator makes, after everything else.
	//
	// +optional
	Overlay *BrokerOverlay `json:"overlay,omitempty"`
}

// ListenerProtocol is what a listener speaks.
//
// +kubebuilder:validation:Enum=tcp;tls;ws;wss
type ListenerProtocol string

// The protocols of a listener.
const (
	ProtocolTCP ListenerProtocol = "tcp" // MQTT over plain TCP
	ProtocolTLS ListenerProtocol = "tls" // MQTT over TLS
	ProtocolWS  ListenerProtocol = "ws"  // MQTT over WebSocket, plain
	ProtocolWSS ListenerProtocol = "wss" // MQTT over WebSocket over TLS
)

// BrokerListener is one door of the broker.
//
// +kubebuilder:validation:XValidation:rule="(self.protocol in ['tls', 'wss']) == has(self.tls)",message="spec.listeners[].tls is needed with protocol tls or wss, and must be absent with tcp or ws"
// +kubebuilder:validation:XValidation:rule="self.protocol in ['ws', 'wss'] || !has(self.websocket)",message="spec.listeners[].websocket needs protocol ws or wss"
// +kubebuilder:validation:XValidation:rule="!has(self.authentication) || !('certificate' in self.authentication) || (has(self.tls) && has(self.tls.clientAuth) && self.tls.clientAuth != 'none')",message="spec.listeners[].authentication with certificate needs tls.clientAuth optional or required"
type BrokerListener struct {
	// name names the listener, its Service and its port: a DNS label of at most 15 characters with a letter in it and
	// no "--", and none of admin, headless, health, metrics, which are the operator's own.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]+(-[a-z0-9]+)*$') && self.matches('[a-z]')",message="spec.listeners[].name must be a DNS label that can name a port: a-z, 0-9 and single -, with a letter, beginning and ending with a letter or digit"
	// +kubebuilder:validation:XValidation:rule="!(self in ['admin', 'headless', 'health', 'metrics'])",message="spec.listeners[].name may not be admin, headless, health or metrics: these are the operator's own"
	Name string `json:"name,omitempty"`

	// protocol is what the listener speaks: tcp, tls, ws or wss. There is no default: tcp and ws carry passwords and
	// messages in plain text, and choosing them makes the condition Insecure true.
	//
	// +required
	Protocol ListenerProtocol `json:"protocol,omitempty"`

	// port is the TCP port of pod and Service, 1024 to 65535 and not 9440 to 9449, which are the broker's own.
	//
	// +required
	// +kubebuilder:validation:Minimum=1024
	// +kubebuilder:validation:Maximum=65535
	// +kubebuilder:validation:XValidation:rule="self < 9440 || self > 9449",message="spec.listeners[].port may not be 9440 to 9449: these are the broker's own ports"
	Port int32 `json:"port,omitempty"`

	// service shapes the Service of the listener. Default: one of type ClusterIP.
	//
	// +optional
	Service *ListenerService `json:"service,omitempty"`

	// tls says where the certificate comes from. Needed with protocol tls and wss, and only there.
	//
	// +optional
	TLS *ListenerTLS `json:"tls,omitempty"`

	// authentication lists the ways to prove an identity that this listener accepts: password, certificate (needs
	// tls.clientAuth), jwt (needs spec.authentication.jwt) and serviceAccount (needs
	// spec.authentication.serviceAccounts). Default: every one that the broker is configured for.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=4
	Authentication []ListenerAuthentication `json:"authentication,omitempty"`

	// anonymous lets clients in without a username. Default: nobody.
	//
	// +optional
	Anonymous *ListenerAnonymous `json:"anonymous,omitempty"`

	// maxConnections is the most connections per pod at the same time, 1 to 10000000. Default: no bound. Who comes beyond
	// it is closed at once; open connections stay, also when the bound is lowered.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000000
	MaxConnections *int32 `json:"maxConnections,omitempty"`

	// connectRate bounds how fast connections are accepted per pod: those that come faster wait their turn. Default: no
	// bound.
	//
	// +optional
	ConnectRate *ConnectRate `json:"connectRate,omitempty"`

	// proxyProtocol reads the client's address from the PROXY protocol, version 1 or 2, that a load balancer speaks before
	// it passes a connection on. Default: the peer is the client.
	//
	// +optional
	ProxyProtocol *ProxyProtocol `json:"proxyProtocol,omitempty"`

	// websocket shapes the HTTP side of a listener with protocol ws or wss.
	//
	// +optional
	WebSocket *ListenerWebSocket `json:"websocket,omitempty"`

	// from lists the peers that the broker's NetworkPolicy lets reach this listener, 1 to 32; nobody else does, bridges
	// not excepted. Default: everybody.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(p, has(p.ipBlock) != (has(p.podSelector) || has(p.namespaceSelector)))",message="spec.listeners[].from needs in each peer either ipBlock, or podSelector, namespaceSelector or both"
	From []networkingv1.NetworkPolicyPeer `json:"from,omitempty"`
}

// ListenerService shapes the Service of a listener.
//
// +kubebuilder:validation:XValidation:rule="!has(self.nodePort) || (has(self.type) && self.type in ['NodePort', 'LoadBalancer'])",message="spec.listeners[].service.nodePort needs type NodePort or LoadBalancer"
// +kubebuilder:validation:XValidation:rule="!has(self.externalTrafficPolicy) || (has(self.type) && self.type in ['NodePort', 'LoadBalancer'])",message="spec.listeners[].service.externalTrafficPolicy needs type NodePort or LoadBalancer"
// +kubebuilder:validation:XValidation:rule="!has(self.loadBalancerClass) || (has(self.type) && self.type == 'LoadBalancer')",message="spec.listeners[].service.loadBalancerClass needs type LoadBalancer"
// +kubebuilder:validation:XValidation:rule="!has(self.ipFamilies) || (size(self.ipFamilies) == 1) == (has(self.ipFamilyPolicy) && self.ipFamilyPolicy == 'SingleStack')",message="spec.listeners[].service.ipFamilies holds one family with ipFamilyPolicy SingleStack, and both with any other"
// +kubebuilder:validation:XValidation:rule="!has(self.ipFamilies) || !has(oldSelf.ipFamilies) || self.ipFamilies[0] == oldSelf.ipFamilies[0]",message="spec.listeners[].service.ipFamilies cannot begin with another family later: a Service keeps its first; give the listener another name"
type ListenerService struct {
	// type is ClusterIP, NodePort or LoadBalancer. Default: ClusterIP.
	//
	// +optional
	// +kubebuilder:validation:Enum=ClusterIP;NodePort;LoadBalancer
	Type *corev1.ServiceType `json:"type,omitempty"`

	// annotations are added to the Service, at most 32; a cloud's load balancer reads its settings there. Keys of
	// mqtt-operator.io are the operator's own.
	//
	// +optional
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.contains('mqtt-operator.io/'))",message="spec.listeners[].service.annotations may not hold keys of mqtt-operator.io: they are the operator's own"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !format.qualifiedName().validate(k).hasValue())",message="spec.listeners[].service.annotations need keys like name or example.com/name"
	Annotations map[string]string `json:"annotations,omitempty"`

	// nodePort is the port on every node, 1 to 65535 within the cluster's range. Default: the cluster picks one.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	NodePort *int32 `json:"nodePort,omitempty"`

	// loadBalancerClass picks the load balancer's implementation. Default: the cluster's own.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.qualifiedName().validate(self).hasValue()",message="spec.listeners[].service.loadBalancerClass must look like name or example.com/name"
	LoadBalancerClass *string `json:"loadBalancerClass,omitempty"`

	// externalTrafficPolicy is Cluster or Local; Local keeps the client's address. Default: Cluster.
	//
	// +optional
	// +kubebuilder:validation:Enum=Cluster;Local
	ExternalTrafficPolicy *corev1.ServiceExternalTrafficPolicy `json:"externalTrafficPolicy,omitempty"`

	// ipFamilyPolicy is SingleStack, PreferDualStack or RequireDualStack: whether the Service has addresses of both IPv4 and
	// IPv6. Default: PreferDualStack, both where the cluster has both. The broker itself listens on all addresses of its pod.
	//
	// +optional
	// +kubebuilder:validation:Enum=SingleStack;PreferDualStack;RequireDualStack
	IPFamilyPolicy *corev1.IPFamilyPolicy `json:"ipFamilyPolicy,omitempty"`

	// ipFamilies are the families of the Service's addresses: IPv4 or IPv6 with ipFamilyPolicy SingleStack, and with any other
	// both, in the order of the addresses. The first one stays. Default: the order of the cluster.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:Enum=IPv4;IPv6
	// +kubebuilder:validation:XValidation:rule="size(self) < 2 || self[0] != self[1]",message="spec.listeners[].service.ipFamilies may hold a family once"
	IPFamilies []corev1.IPFamily `json:"ipFamilies,omitempty"`
}

// TLSVersion is a version of TLS.
//
// +kubebuilder:validation:Enum=TLSv1.2;TLSv1.3
type TLSVersion string

// The TLS versions that a listener may demand.
const (
	TLSVersion12 TLSVersion = "TLSv1.2"
	TLSVersion13 TLSVersion = "TLSv1.3"
)

// ClientAuth says whether a listener asks for client certificates.
//
// +kubebuilder:validation:Enum=none;optional;required
type ClientAuth string

// The ways to ask for client certificates.
const (
	ClientAuthNone     ClientAuth = "none"
	ClientAuthOptional ClientAuth = "optional"
	ClientAuthRequired ClientAuth = "required"
)

// CertificateUsername says which part of a client certificate is the username.
//
// +kubebuilder:validation:Enum=cn;san
type CertificateUsername string

// The parts of a client certificate that can be the username.
const (
	UsernameFromCN  CertificateUsername = "cn"
	UsernameFromSAN CertificateUsername = "san"
)

// ListenerTLS says where a listener's certificate comes from and what it asks of clients.
//
// +kubebuilder:validation:XValidation:rule="(has(self.secretRef) ? 1 : 0) + (has(self.issuerRef) ? 1 : 0) + (has(self.selfManaged) ? 1 : 0) == 1",message="spec.listeners[].tls needs exactly one of secretRef, issuerRef and selfManaged"
// +kubebuilder:validation:XValidation:rule="(has(self.clientAuth) && self.clientAuth != 'none') || !has(self.usernameFrom)",message="spec.listeners[].tls.usernameFrom needs clientAuth optional or required"
// +kubebuilder:validation:XValidation:rule="(has(self.clientAuth) && self.clientAuth != 'none') || !has(self.clientCASecretRef)",message="spec.listeners[].tls.clientCASecretRef needs clientAuth optional or required"
// +kubebuilder:validation:XValidation:rule="(has(self.clientAuth) && self.clientAuth != 'none') || !has(self.crlSecretRef)",message="spec.listeners[].tls.crlSecretRef needs clientAuth optional or required"
type ListenerTLS struct {
	// secretRef names a Secret of this namespace with the keys tls.crt and tls.key. The Secret must carry the label
	// mqtt-operator.io/allow: "true". A new certificate is taken without a restart; a pair that does not match is
	// refused and the old one goes on serving.
	//
	// +optional
	SecretRef *SecretReference `json:"secretRef,omitempty"`

	// issuerRef names the cert-manager issuer that signs the listener's certificate. The operator asks for it by a
	// Certificate <broker>-<listener>-issued with the names that selfManaged would have; the issuer must sign names inside
	// the cluster. For other names write a Certificate yourself and use secretRef. Needs cert-manager in the cluster.
	//
	// +optional
	IssuerRef *IssuerReference `json:"issuerRef,omitempty"`

	// selfManaged lets the operator sign the certificate with a CA of this broker, kept in the Secret <broker>-ca. Write
	// an empty object: {}.
	//
	// +optional
	SelfManaged *SelfManagedTLS `json:"selfManaged,omitempty"`

	// clientAuth says whether clients show a certificate: none, optional or required. Default: none. With required, whoever
	// shows none does not get through the TLS handshake; with optional he may prove himself in another way. Trusted are the
	// broker's own client CA, which signs the certificates of users with authentication.certificate and is kept in the
	// Secret <broker>-client-ca, and those of clientCASecretRef.
	//
	// +optional
	ClientAuth *ClientAuth `json:"clientAuth,omitempty"`

	// clientCASecretRef names a Secret of this namespace that holds CA certificates, PEM, whose client certificates are
	// trusted beside those of the broker's own client CA; key defaults to "ca.crt". The Secret must carry the label
	// mqtt-operator.io/allow: "true". Default: none. While it cannot be used, the CAs that were trusted before are.
	//
	// +optional
	ClientCASecretRef *SecretKeyReference `json:"clientCASecretRef,omitempty"`

	// usernameFrom is the part of the client certificate that is the username: cn (the common name) or san (the first
	// DNS name, else the first e-mail address, else the first URI). Default: cn.
	//
	// +optional
	UsernameFrom *CertificateUsername `json:"usernameFrom,omitempty"`

	// crlSecretRef names a Secret of this namespace that holds certificate revocation lists, PEM, each signed by a CA of
	// clientCASecretRef or by the broker's own client CA; key defaults to "ca.crl". The Secret must carry the label
	// mqtt-operator.io/allow: "true". Default: none. While it cannot be used, the lists that were in force before are.
	//
	// +optional
	CRLSecretRef *SecretKeyReference `json:"crlSecretRef,omitempty"`

	// minVersion is the oldest TLS version that is accepted: TLSv1.2 or TLSv1.3. Default: TLSv1.3. Devices that
	// are some years old may need TLSv1.2.
	//
	// +optional
	MinVersion *TLSVersion `json:"minVersion,omitempty"`
}

// BrokerCA shapes the CAs that the operator keeps for a broker.
//
// +kubebuilder:validation:MinProperties=1
type BrokerCA struct {
	// clientGrace is how long clients get to fetch what a new CA needs of them, whole seconds from 0s to 8760h. Default:
	// 24h. A CA is replaced in stages; each stage in which clients have something to do lasts at least this long: first
	// to trust the new CA beside the old one, then to take certificates that the new one has signed.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('8760h') && duration(self).getMilliseconds() % 1000 == 0",message="spec.ca.clientGrace must be whole seconds from 0s to 8760h"
	ClientGrace *metav1.Duration `json:"clientGrace,omitempty"`
}

// IssuerReference names a cert-manager issuer.
type IssuerReference struct {
	// name is the name of the issuer.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// kind is the kind of the issuer. Default: Issuer.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind *string `json:"kind,omitempty"`

	// group is the API group of the issuer. Default: cert-manager.io.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Group *string `json:"group,omitempty"`
}

// SelfManagedTLS asks for a certificate signed by the operator. It has no fields yet.
type SelfManagedTLS struct{}

// ListenerAuthentication is a way in that a listener accepts.
//
// +kubebuilder:validation:Enum=password;certificate;jwt;serviceAccount
type ListenerAuthentication string

// ListenerAnonymous lets clients in without a username.
//
// +kubebuilder:validation:XValidation:rule="self.enabled || !has(self.acl)",message="spec.listeners[].anonymous.acl needs enabled: true"
type ListenerAnonymous struct {
	// enabled lets clients connect without a username. True makes the broker's condition Insecure true.
	//
	// +required
	Enabled *bool `json:"enabled,omitempty"`

	// acl are the rules of such clients, at most 64, asked in order; the first that matches decides, no match denies.
	// Default: none, so that they may connect but neither publish nor subscribe.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	ACL []ACLRule `json:"acl,omitempty"`
}

// ConnectRate bounds how fast connections are accepted.
type ConnectRate struct {
	// perSecond is the number of connections per second, 1 to 1000000.
	//
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	PerSecond int32 `json:"perSecond,omitempty"`

	// burst is the number of connections that may come at once, 1 to 1000000. Default: perSecond.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	Burst *int32 `json:"burst,omitempty"`
}

// ProxyProtocolMode says whether a PROXY header is expected.
//
// +kubebuilder:validation:Enum=required;optional
type ProxyProtocolMode string

// Whether a PROXY header is expected.
const (
	ProxyProtocolRequired ProxyProtocolMode = "required"
	ProxyProtocolOptional ProxyProtocolMode = "optional"
)

// ProxyProtocol reads the client's address from the PROXY protocol.
type ProxyProtocol struct {
	// mode is required or optional. Default: required. It is about connections from the trusted networks: without a
	// header, required closes them and optional takes the peer for the client.
	//
	// +optional
	Mode *ProxyProtocolMode `json:"mode,omitempty"`

	// trustedCIDRs are the networks whose headers are believed, 1 to 32.
	//
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=43
	// +kubebuilder:validation:XValidation:rule="self.all(c, isCIDR(c))",message="spec.listeners[].proxyProtocol.trustedCIDRs are networks like 10.0.0.0/8 or fd00::/8"
	TrustedCIDRs []string `json:"trustedCIDRs,omitempty"`
}

// ListenerWebSocket shapes the HTTP side of a listener.
type ListenerWebSocket struct {
	// path is the path of the endpoint: / followed by characters that need no escape in a URL. Default: /mqtt.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^/[-A-Za-z0-9._~!$&()*+,;=:@/\\']*$')",message="spec.listeners[].websocket.path begins with / and holds only letters, digits and -._~!$&'()*+,;=:@/"
	Path *string `json:"path,omitempty"`

	// allowedOrigins are the values of the Origin header that are accepted, at most 32, such as https://example.com or
	// https://example.com:8443; there are no wildcards. Default: requests with an Origin header are accepted only if it is
	// the host itself. Clients that are no browser send none and are accepted.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.all(o, o.matches('^[A-Za-z0-9+.-]+://[-A-Za-z0-9._~:\\\\[\\\\]]+$'))",message="spec.listeners[].websocket.allowedOrigins are origins as a browser sends them, like https://example.com or https://example.com:8443"
	AllowedOrigins []string `json:"allowedOrigins,omitempty"`
}

// PasswordCache says where a broker remembers which passwords were right.
//
// +kubebuilder:validation:Enum=Memory;Volume
type PasswordCache string

// Where a broker remembers which passwords were right.
const (
	PasswordCacheMemory PasswordCache = "Memory"
	PasswordCacheVolume PasswordCache = "Volume"
)

// BrokerAuthentication names who may vouch for clients beside the MQTTUser objects, and says how passwords are remembered.
//
// +kubebuilder:validation:XValidation:rule="!has(self.jwt) || self.jwt.all(i, i.issuer != '*')",message="spec.authentication.jwt[].issuer may not be *: write the value of the iss claim"
// +kubebuilder:validation:MinProperties=1
type BrokerAuthentication struct {
	// jwt lists the issuers whose tokens are accepted as passwords, at most 8.
	//
	// +optional
	// +listType=map
	// +listMapKey=issuer
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	JWT []JWTIssuer `json:"jwt,omitempty"`

	// serviceAccounts accepts tokens of this cluster's ServiceAccounts. Default: none. The operator reads who signs them
	// from the API server and hands the broker the public keys.
	//
	// +optional
	ServiceAccounts *ServiceAccountTokens `json:"serviceAccounts,omitempty"`

	// passwordCache is where the broker remembers which passwords were right, so that a slow hash (argon2id, bcrypt,
	// PBKDF2) is computed once per password and not at each login: Memory or Volume. Default: Memory, which a restart
	// empties; then each chosen password costs some 30 ms of one core again. With Volume, which needs spec.persistence, a
	// file on the volume keeps it over restarts. The file alone lets nobody test a guess. But who has both the volume and
	// the Secrets with the broker's configuration can test guesses many thousand times faster than by the slow hash, and
	// who can write the volume and read those Secrets can log in with a password of his own: choose Volume only where
	// passwords cannot be guessed, or the two are not read by the same people. Passwords that changed, were revoked, or
	// were not used for 30 days are dropped. Memory removes the file.
	//
	// +optional
	PasswordCache *PasswordCache `json:"passwordCache,omitempty"`
}

// JWTIssuer is somebody whose tokens are accepted.
type JWTIssuer struct {
	// issuer is the value of the iss claim, compared byte by byte. "*" is none.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Issuer string `json:"issuer,omitempty"`

	// audiences are the values of the aud claim of which a token must carry one, 1 to 16.
	//
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	Audiences []string `json:"audiences,omitempty"`

	// jwks says where the issuer's public keys are.
	//
	// +required
	JWKS JWKSource `json:"jwks,omitzero"`

	// usernameClaim is the claim that holds the username. Default: sub.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	UsernameClaim *string `json:"usernameClaim,omitempty"`

	// aclClaim is the claim that holds rules. Default: none; then an MQTTUser of that username has to hold them.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	ACLClaim *string `json:"aclClaim,omitempty"`
}

// JWKSource says where public keys are.
//
// +kubebuilder:validation:XValidation:rule="(has(self.secretRef) ? 1 : 0) + (has(self.configMapRef) ? 1 : 0) + (has(self.url) ? 1 : 0) == 1",message="spec.authentication.jwt[].jwks needs exactly one of secretRef, configMapRef and url"
// +kubebuilder:validation:XValidation:rule="!has(self.caSecretRef) || has(self.url)",message="spec.authentication.jwt[].jwks.caSecretRef needs url: it says who vouches for that address"
type JWKSource struct {
	// secretRef names a Secret of this namespace that holds a JSON Web Key Set (RFC 7517) of public keys, at most 64 KiB;
	// key defaults to "jwks.json". The Secret must carry the label mqtt-operator.io/allow: "true". While it cannot be
	// used, the keys that were in force before are.
	//
	// +optional
	SecretRef *SecretKeyReference `json:"secretRef,omitempty"`

	// configMapRef names a ConfigMap of this namespace that holds a JSON Web Key Set, as secretRef does; key defaults to
	// "jwks.json". The ConfigMap must carry the label mqtt-operator.io/allow: "true": the operator sees no other.
	//
	// +optional
	ConfigMapRef *ConfigMapKeyReference `json:"configMapRef,omitempty"`

	// url is where the broker itself fetches the key set, by https only; the operator does not. It trusts the roots of
	// the broker's image, or those of caSecretRef.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="isURL(self) && self.startsWith('https://') && !self.contains('@')",message="spec.authentication.jwt[].jwks.url must be an https:// address without a username"
	URL *string `json:"url,omitempty"`

	// caSecretRef names a Secret of this namespace with the CA certificates, PEM, at most 64 KiB, that vouch for url, and
	// then they alone do; key defaults to "ca.crt". The Secret must carry the label mqtt-operator.io/allow: "true". While
	// it cannot be used, the CAs that were in force before are; without any the issuer's tokens are refused. Default: the
	// public CAs of the broker's image.
	//
	// +optional
	CASecretRef *SecretKeyReference `json:"caSecretRef,omitempty"`
}

// ServiceAccountTokens accepts tokens of this cluster's ServiceAccounts.
type ServiceAccountTokens struct {
	// audiences are the values of the aud claim of which a token must carry one, 1 to 16.
	//
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	Audiences []string `json:"audiences,omitempty"`
}

// BrokerLimits bounds what clients may use.
//
// +kubebuilder:validation:MinProperties=1
type BrokerLimits struct {
	// maxPacketSize is the largest packet that is accepted, whole bytes from 1Ki to 256Mi. Default: 1Mi. A client that
	// sends a larger one is disconnected.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).isInteger() && quantity(string(self)).compareTo(quantity('1Ki')) >= 0 && quantity(string(self)).compareTo(quantity('256Mi')) <= 0",message="spec.limits.maxPacketSize must be a whole number of bytes from 1Ki to 256Mi"
	MaxPacketSize *resource.Quantity `json:"maxPacketSize,omitempty"`

	// receiveMaximum is the most messages of QoS 1 and 2 that a client may send before it gets an acknowledgement, 1 to
	// 65535. Default: 1024.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	ReceiveMaximum *int32 `json:"receiveMaximum,omitempty"`

	// maxQueuedMessages is the most messages that wait for one session, 1 to 10000000. Default: 10000. Beyond
	// it messages for that session are dropped.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000000
	MaxQueuedMessages *int32 `json:"maxQueuedMessages,omitempty"`

	// maxQueuedBytes is the most bytes that wait for one session, whole bytes from 64Ki. Default: 64Mi. Beyond it
	// messages for that session are dropped.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).isInteger() && quantity(string(self)).compareTo(quantity('64Ki')) >= 0",message="spec.limits.maxQueuedBytes must be a whole number of bytes, at least 64Ki"
	MaxQueuedBytes *resource.Quantity `json:"maxQueuedBytes,omitempty"`

	// maxSessionExpiry is the longest that a session outlives its connection, whole seconds from 0s to 1193046h.
	// Default: 168h. A client that asks for more gets this.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('1193046h') && duration(self).getMilliseconds() % 1000 == 0",message="spec.limits.maxSessionExpiry must be whole seconds from 0s to 1193046h"
	MaxSessionExpiry *metav1.Duration `json:"maxSessionExpiry,omitempty"`

	// topicAliasMaximum is the highest topic alias that a client may use, 0 to 65535; 0 turns aliases off. Default: 32.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	TopicAliasMaximum *int32 `json:"topicAliasMaximum,omitempty"`

	// maxTopicLevels is the most levels of a topic or filter, 1 to 1024. Default: 128.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1024
	MaxTopicLevels *int32 `json:"maxTopicLevels,omitempty"`

	// maxSubscriptionsPerClient is the most subscriptions of one session, 1 to 1000000. Default: 1000.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MaxSubscriptionsPerClient *int32 `json:"maxSubscriptionsPerClient,omitempty"`

	// publishRatePerClient is the most messages per second that one connection may publish, 1 to 1000000. What comes
	// faster is read more slowly. Default: no bound.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	PublishRatePerClient *int32 `json:"publishRatePerClient,omitempty"`

	// serverKeepAlive is the keep-alive that clients of MQTT 5 are told to use in place of the one they ask for, whole
	// seconds from 1s to 65535s. A client that is silent for one and a half of it is disconnected. Default: what the client
	// asks for. Clients of MQTT 3 keep theirs.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('65535s') && duration(self).getMilliseconds() % 1000 == 0",message="spec.limits.serverKeepAlive must be whole seconds from 1s to 65535s"
	ServerKeepAlive *metav1.Duration `json:"serverKeepAlive,omitempty"`

	// maxRetainedMessages is the most retained messages that the broker holds, 1 to 100000000. Default: 1000000. Beyond it
	// messages for further topics are not retained.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000000
	MaxRetainedMessages *int32 `json:"maxRetainedMessages,omitempty"`

	// maxRetainedBytes is the most bytes that retained messages take, topics included, whole bytes from 64Ki. Default:
	// 1Gi. What is beyond it is not retained.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).isInteger() && quantity(string(self)).compareTo(quantity('64Ki')) >= 0",message="spec.limits.maxRetainedBytes must be a whole number of bytes, at least 64Ki"
	MaxRetainedBytes *resource.Quantity `json:"maxRetainedBytes,omitempty"`
}

// VolumeRetention says what becomes of a volume.
//
// +kubebuilder:validation:Enum=Retain;Delete
type VolumeRetention string

// What becomes of a volume.
const (
	RetainVolume VolumeRetention = "Retain"
	DeleteVolume VolumeRetention = "Delete"
)

// PersistenceSync says when a message is safe on disk.
//
// +kubebuilder:validation:Enum=always;interval
type PersistenceSync string

// When a message is safe on disk.
const (
	SyncAlways   PersistenceSync = "always"
	SyncInterval PersistenceSync = "interval"
)

// BrokerPersistence gives each pod a volume.
//
// +kubebuilder:validation:XValidation:rule="quantity(has(self.size) ? string(self.size) : '1Gi').compareTo(quantity(has(oldSelf.size) ? string(oldSelf.size) : '1Gi')) >= 0",message="spec.persistence.size may grow but not shrink: create another broker with a smaller volume"
// +kubebuilder:validation:XValidation:rule="has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",message="spec.persistence.storageClassName is immutable: create another broker with the other class"
type BrokerPersistence struct {
	// size is the size of each volume, at least 1Mi. Default: 1Gi. It may grow, where the storage class lets volumes
	// grow, and never shrink. Pods go on while it grows.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).isInteger() && quantity(string(self)).compareTo(quantity('1Mi')) >= 0",message="spec.persistence.size must be a whole number of bytes, at least 1Mi"
	Size *resource.Quantity `json:"size,omitempty"`

	// storageClassName names the storage class of the volumes. Default: the cluster's default class. Immutable.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	StorageClassName *string `json:"storageClassName,omitempty"`

	// retention says what becomes of the volumes that are needed no more.
	//
	// +optional
	Retention *PersistenceRetention `json:"retention,omitempty"`

	// sync says when a message counts as stored: always (the acknowledgement waits for the disk) or interval (the disk
	// follows within a second; a crash of the node loses what was acknowledged in that second). Default: always. A change
	// is taken without a restart.
	//
	// +optional
	Sync *PersistenceSync `json:"sync,omitempty"`
}

// PersistenceRetention says what becomes of the volumes that are needed no more.
//
// +kubebuilder:validation:MinProperties=1
type PersistenceRetention struct {
	// whenDeleted is Retain or Delete: what becomes of the volumes when the broker is deleted. Default: Retain.
	//
	// +optional
	WhenDeleted *VolumeRetention `json:"whenDeleted,omitempty"`

	// whenScaled is Retain or Delete: what becomes of a pod's volume when replicas falls below it, which hibernating
	// does too. Default: Retain.
	//
	// +optional
	WhenScaled *VolumeRetention `json:"whenScaled,omitempty"`
}

// BrokerUpdates says how and when clients may be disturbed.
//
// +kubebuilder:validation:MinProperties=1
type BrokerUpdates struct {
	// drain says how the clients of a pod that has to go are sent away.
	//
	// +optional
	Drain *BrokerDrain `json:"drain,omitempty"`

	// progressDeadline is how long pods may take to become ready in a new form, whole seconds, 30s to 24h. Default: 10m. Then
	// the form that they had before comes back, until the spec changes again.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('30s') && duration(self) <= duration('24h') && duration(self).getMilliseconds() % 1000 == 0",message="spec.updates.progressDeadline must be whole seconds from 30s to 24h"
	ProgressDeadline *metav1.Duration `json:"progressDeadline,omitempty"`

	// maintenanceWindows are the times in which pods may be replaced, at most 16. Default: any time. A change that replaces
	// pods waits for one, unless the annotation mqtt-operator.io/urgent is "true". What else changes does not wait.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	MaintenanceWindows []MaintenanceWindow `json:"maintenanceWindows,omitempty"`
}

// BrokerDrain says how the clients of a pod that has to go are sent away.
//
// +kubebuilder:validation:MinProperties=1
type BrokerDrain struct {
	// timeout is how long clients and the disk may take until the broker ends, whole seconds, 5s to 1h. Default: 20s. In
	// the last quarter of it, or the last 5 seconds, who is left is sent away at once. The pod's grace period is 10 seconds
	// longer, so that a change restarts the broker.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('5s') && duration(self) <= duration('1h') && duration(self).getMilliseconds() % 1000 == 0",message="spec.updates.drain.timeout must be whole seconds from 5s to 1h"
	Timeout *metav1.Duration `json:"timeout,omitempty"`

	// disconnectRate is how many clients per second a pod sends away, 1 to 1000000. Default: 1000. A change is taken without
	// a restart.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	DisconnectRate *int32 `json:"disconnectRate,omitempty"`
}

// Weekday is a day of the week.
//
// +kubebuilder:validation:Enum=Monday;Tuesday;Wednesday;Thursday;Friday;Saturday;Sunday
type Weekday string

// MaintenanceWindow is a time in which pods may be replaced.
type MaintenanceWindow struct {
	// name names the window in status and events: a DNS label.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Label().validate(self).hasValue()",message="spec.updates.maintenanceWindows[].name must be a DNS label"
	Name string `json:"name,omitempty"`

	// days are the days on which the window opens. Default: every day.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=7
	Days []Weekday `json:"days,omitempty"`

	// start is the time of day at which the window opens, as HH:MM.
	//
	// +required
	// +kubebuilder:validation:MinLength=5
	// +kubebuilder:validation:MaxLength=5
	// +kubebuilder:validation:XValidation:rule="self.matches('^([01][0-9]|2[0-3]):[0-5][0-9]$')",message="spec.updates.maintenanceWindows[].start must be a time of day as HH:MM"
	Start string `json:"start,omitempty"`

	// duration is how long the window stays open, 5m to 24h.
	//
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=20
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('5m') && duration(self) <= duration('24h')",message="spec.updates.maintenanceWindows[].duration must be between 5m and 24h"
	Duration *metav1.Duration `json:"duration,omitempty"`

	// timeZone is the name of a time zone in the IANA database such as Europe/Berlin. Default: UTC. What days and start mean
	// follows its clock.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	TimeZone *string `json:"timeZone,omitempty"`
}

// NamespacesFrom says which namespaces are meant.
//
// +kubebuilder:validation:Enum=Same;All;Selector
type NamespacesFrom string

// Which namespaces are meant.
const (
	NamespacesSame     NamespacesFrom = "Same"
	NamespacesAll      NamespacesFrom = "All"
	NamespacesSelector NamespacesFrom = "Selector"
)

// AllowedNamespaces says which namespaces may hold users of a broker. Its own always may.
//
// +kubebuilder:validation:XValidation:rule="(has(self.from) && self.from == 'Selector') == has(self.selector)",message="spec.allowedNamespaces.selector is needed with from: Selector, and must be absent otherwise"
type AllowedNamespaces struct {
	// from is Same, All or Selector. Default: Same.
	//
	// +optional
	From *NamespacesFrom `json:"from,omitempty"`

	// selector picks namespaces by label; {} picks all. Only with from: Selector.
	//
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// BrokerDisruptionBudget keeps evictions from taking more than one pod at a time.
//
// +kubebuilder:validation:MinProperties=1
type BrokerDisruptionBudget struct {
	// enabled makes the PodDisruptionBudget. Default: true where there is more than one pod, else false: it lets a single pod
	// go as if it were not there.
	//
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
}

// LogLevel is how much is logged.
//
// +kubebuilder:validation:Enum=debug;info;warn;error
type LogLevel string

// How much is logged.
const (
	LogDebug LogLevel = "debug"
	LogInfo  LogLevel = "info"
	LogWarn  LogLevel = "warn"
	LogError LogLevel = "error"
)

// LogFormat is how log lines look.
//
// +kubebuilder:validation:Enum=json;text
type LogFormat string

// How log lines look.
const (
	LogJSON LogFormat = "json"
	LogText LogFormat = "text"
)

// BrokerLogging says what a broker or bridge writes to its log.
//
// +kubebuilder:validation:MinProperties=1
type BrokerLogging struct {
	// level is the least important that is logged: debug, info, warn or error. Default: info.
	//
	// +optional
	Level *LogLevel `json:"level,omitempty"`

	// format is json or text. Default: json.
	//
	// +optional
	Format *LogFormat `json:"format,omitempty"`
}

// BrokerPod shapes pods.
//
// +kubebuilder:validation:MinProperties=1
type BrokerPod struct {
	// resources are what the container requests and may use. Default: requests of 100m cpu and 128Mi memory,
	// no limits.
	//
	// +optional
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`

	// affinity restricts the nodes. Default: none.
	//
	// +optional
	Affinity *corev1.Affinity `json:"affinity,omitempty"`

	// topologySpreadConstraints spread pods over nodes and zones, at most 16. Default: none.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`

	// tolerations let pods onto tainted nodes, at most 32. Default: none.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// nodeSelector is the labels that a node must carry, at most 32. Default: none.
	//
	// +optional
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !format.qualifiedName().validate(k).hasValue())",message="spec.pod.nodeSelector needs keys like name or example.com/name"
	NodeSelector map[string]LabelValue `json:"nodeSelector,omitempty"`

	// priorityClassName names the priority class of the pods. Default: the cluster's default.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	PriorityClassName *string `json:"priorityClassName,omitempty"`

	// labels are added to the pods, at most 32. Keys of app.kubernetes.io and mqtt-operator.io are the operator's own.
	//
	// +optional
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.contains('mqtt-operator.io/') && !k.startsWith('app.kubernetes.io/'))",message="spec.pod.labels may not hold keys of app.kubernetes.io or mqtt-operator.io: they are the operator's own"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !format.qualifiedName().validate(k).hasValue())",message="spec.pod.labels need keys like name or example.com/name"
	Labels map[string]LabelValue `json:"labels,omitempty"`

	// annotations are added to the pods, at most 32. Keys of mqtt-operator.io are the operator's own.
	//
	// +optional
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.contains('mqtt-operator.io/'))",message="spec.pod.annotations may not hold keys of mqtt-operator.io: they are the operator's own"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !format.qualifiedName().validate(k).hasValue())",message="spec.pod.annotations need keys like name or example.com/name"
	Annotations map[string]string `json:"annotations,omitempty"`
}

// BrokerOverlay patches objects that the operator makes.
//
// +kubebuilder:validation:MinProperties=1
type BrokerOverlay struct {
	// statefulSet is a strategic merge patch of the StatefulSet. Selectors, names, owners and the broker's own volumes
	// cannot be patched.
	//
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	StatefulSet *runtime.RawExtension `json:"statefulSet,omitempty"`

	// service is a strategic merge patch of every listener's Service. Selectors, names and owners cannot be patched.
	//
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Service *runtime.RawExtension `json:"service,omitempty"`
}

// MQTTBrokerStatus is what the operator knows about the broker.
type MQTTBrokerStatus struct {
	// conditions are Ready, Available, Progressing, ConfigApplied, TLSReady, AuthenticationReady, StorageReady,
	// NetworkPolicyReady, MonitoringReady, CertificateExpiring, Paused and Insecure, DisruptionBudgetReady where there is a
	// PodDisruptionBudget, and Stalled while it is true.
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

	// replicas is the number of broker pods that exist.
	//
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// selector finds the broker's pods, in the form that the scale subresource wants.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Selector string `json:"selector,omitempty"`

	// revision says which configuration is wanted and which one runs.
	//
	// +optional
	Revision *RevisionStatus `json:"revision,omitempty"`

	// pods says how each pod is doing.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Pods []BrokerPodStatus `json:"pods,omitempty"`

	// listeners says where each listener can be reached.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Listeners []ListenerStatus `json:"listeners,omitempty"`

	// users counts the users of the broker.
	//
	// +optional
	Users *UsersStatus `json:"users,omitempty"`

	// ca speaks of the CA that signs the certificates of listeners with tls.selfManaged.
	//
	// +optional
	CA *CAStatus `json:"ca,omitempty"`

	// clientCA speaks of the CA that signs the certificates of users; absent while there is none.
	//
	// +optional
	ClientCA *CAStatus `json:"clientCA,omitempty"`

	// certificates names the Certificates that the operator has asked cert-manager for.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=253
	Certificates []string `json:"certificates,omitempty"`

	// monitoring are the kinds of the objects that the operator has made for spec.monitoring.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=63
	Monitoring []string `json:"monitoring,omitempty"`

	// pendingRestart is a change that replaces pods and waits for a maintenance window; absent while there is none.
	//
	// +optional
	PendingRestart *PendingRestart `json:"pendingRestart,omitempty"`

	// lastRestart says why pods were last restarted by the operator.
	//
	// +optional
	LastRestart *RestartStatus `json:"lastRestart,omitempty"`
}

// RevisionStatus says which configuration is wanted and which one runs.
type RevisionStatus struct {
	// desired is the revision that the operator has rendered last.
	//
	// +optional
	Desired *int64 `json:"desired,omitempty"`

	// applied is the oldest revision that a ready pod runs.
	//
	// +optional
	Applied *int64 `json:"applied,omitempty"`
}

// BrokerPodStatus says how a pod is doing.
type BrokerPodStatus struct {
	// name is the name of the pod.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// ready says whether the pod serves clients.
	//
	// +optional
	Ready *bool `json:"ready,omitempty"`

	// configRevision is the revision that the pod has answered.
	//
	// +optional
	ConfigRevision *int64 `json:"configRevision,omitempty"`

	// connections is the number of clients that are connected, as of the last look.
	//
	// +optional
	Connections *int32 `json:"connections,omitempty"`

	// sessions is the number of sessions that the pod keeps, as of the last look.
	//
	// +optional
	Sessions *int32 `json:"sessions,omitempty"`

	// draining says whether the pod sends its clients away, or has, and lets nobody in: because it ends, or because of kubectl
	// mqtt drain.
	//
	// +optional
	Draining *bool `json:"draining,omitempty"`
}

// ListenerStatus says where a listener can be reached.
type ListenerStatus struct {
	// conditions are TLSReady on listeners with TLS.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// name is the name of the listener.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	Name string `json:"name,omitempty"`

	// addresses are where clients reach the listener, as host:port.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=300
	Addresses []string `json:"addresses,omitempty"`

	// certNotAfter is when the listener's certificate ends.
	//
	// +optional
	CertNotAfter *metav1.Time `json:"certNotAfter,omitempty"`
}

// UsersStatus counts the users of a broker.
type UsersStatus struct {
	// accepted is the number of users that the configuration holds.
	//
	// +optional
	Accepted *int32 `json:"accepted,omitempty"`

	// rejected is the number of users that lost their username to an older one, whose rules no broker would take or that
	// name a policy which does not exist, and of those whose namespace the broker does not allow; each says why in its own
	// status. Users that wait for a password are counted nowhere.
	//
	// +optional
	Rejected *int32 `json:"rejected,omitempty"`
}

// CAPhase says where a CA is in its life.
//
// +kubebuilder:validation:Enum=Stable;Introducing;Switching;Retiring
type CAPhase string

// Where a CA is in its life.
const (
	CAStable      CAPhase = "Stable"      // one CA is trusted and signs
	CAIntroducing CAPhase = "Introducing" // the next one is trusted too, the old one signs
	CASwitching   CAPhase = "Switching"   // both are trusted, the next one signs
	CARetiring    CAPhase = "Retiring"    // the old one is trusted no more; pods are still to answer that they know
)

// CAStatus speaks of a broker's CA.
type CAStatus struct {
	// generation counts the CAs that have signed; it grows when a new one begins to sign.
	//
	// +optional
	Generation *int64 `json:"generation,omitempty"`

	// phase says where the CA is in its life.
	//
	// +optional
	Phase CAPhase `json:"phase,omitempty"`

	// notAfter is when the certificate of the CA that signs ends.
	//
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`
}

// RestartStatus says why pods were restarted.
type RestartStatus struct {
	// reason is a word such as PodChanged or ImageChanged.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Reason ConditionReason `json:"reason,omitempty"`

	// time is when the restart began.
	//
	// +required
	Time metav1.Time `json:"time,omitzero"`
}

// PendingRestart is a change that replaces pods and waits.
type PendingRestart struct {
	// reason is a word as in lastRestart.
	//
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Reason ConditionReason `json:"reason,omitempty"`

	// since is when it began to wait.
	//
	// +required
	Since metav1.Time `json:"since,omitzero"`

	// window names the maintenance window that it waits for.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Window *string `json:"window,omitempty"`

	// opens is when that window opens.
	//
	// +optional
	Opens *metav1.Time `json:"opens,omitempty"`
}

// MQTTBroker is an MQTT broker.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:resource:path=mqttbrokers,singular=mqttbroker,shortName=mqb,categories=mqtt,scope=Namespaced
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether the broker serves what the spec says"
// +kubebuilder:printcolumn:name="Replicas",type=integer,JSONPath=`.status.replicas`,description="Pods that exist"
// +kubebuilder:printcolumn:name="Revision",type=integer,priority=1,JSONPath=`.status.revision.applied`,description="The configuration that runs"
// +kubebuilder:printcolumn:name="Connections",type=string,priority=1,JSONPath=`.status.pods[*].connections`,description="Clients per pod"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,description="Why it is so"
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name of a broker may have at most 40 characters and must be a DNS-1035 label: a-z, 0-9 and -, beginning with a letter; names of Services are made from it"
type MQTTBroker struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object's metadata; name is a DNS-1035 label of at most 40 characters.
	//
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says what is wanted.
	//
	// +required
	Spec MQTTBrokerSpec `json:"spec,omitzero"`

	// status says what is true now. Until the operator has looked at the object, observedGeneration is -1: tools that read
	// kstatus take an object without a status for one that is ready.
	//
	// +optional
	// +default={"observedGeneration":-1}
	Status MQTTBrokerStatus `json:"status,omitzero"`
}

// MQTTBrokerList is a list of MQTTBroker.
//
// +kubebuilder:object:root=true
type MQTTBrokerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []MQTTBroker `json:"items"`
}
