// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What a spec means where it says nothing. These are the only defaults of the API: the schema writes none.
const (
	DefaultReplicas            int32 = 1
	DefaultMaxPacketSize       int64 = 1 << 20
	DefaultReceiveMaximum      int32 = 1024
	DefaultMaxSessionExpiry          = 7 * 24 * time.Hour
	DefaultTopicAliasMaximum   int32 = 32
	DefaultMaxQueuedMessages   int32 = 10_000
	DefaultMaxQueuedBytes      int64 = 64 << 20
	DefaultMaxTopicLevels      int32 = 128
	DefaultMaxSubscriptions    int32 = 1000
	DefaultMaxRetainedMessages int32 = 1_000_000
	DefaultMaxRetainedBytes    int64 = 1 << 30
	DefaultMinTLSVersion             = TLSVersion13
	DefaultClientAuth                = ClientAuthNone
	DefaultUsernameFrom              = UsernameFromCN
	DefaultClientGrace               = 24 * time.Hour
	DefaultIssuerKind                = "Issuer"
	DefaultIssuerGroup               = "cert-manager.io"
	DefaultUsernameClaim             = "sub"
	DefaultPasswordCache             = PasswordCacheMemory
	DefaultWebSocketPath             = "/mqtt"
	DefaultProxyProtocolMode         = ProxyProtocolRequired
	DefaultVolumeSize                = "1Gi"
	DefaultVolumeRetention           = RetainVolume
	DefaultPersistenceSync           = SyncAlways
	DefaultDrainTimeout              = 20 * time.Second
	DefaultDisconnectRate      int32 = 1000
	DefaultTimeZone                  = "UTC"
	DefaultProgressDeadline          = 10 * time.Minute
	DefaultLogLevel                  = LogInfo
	DefaultLogFormat                 = LogJSON
	DefaultNetworkPolicy             = true
	DefaultIPFamilyPolicy            = corev1.IPFamilyPolicyPreferDualStack
	DefaultPodCPU                    = "100m"
	DefaultPodMemory                 = "128Mi"
	DefaultRuleMaxQoS          int32 = 2
	DefaultRuleRetain                = true

	DefaultOverlap             = 24 * time.Hour
	DefaultCertificateValidity = 90 * 24 * time.Hour

	DefaultBridgeInflight  int32 = 1000
	DefaultBridgeKeepAlive       = 30 * time.Second
	DefaultBridgeProtocol        = MQTTv5
	DefaultBridgeExpiry          = 7 * 24 * time.Hour
	DefaultRouteMaxQoS     int32 = 1
	DefaultRouteRetain           = true
)

// ResolvedBroker is the spec of an MQTTBroker with every default filled in, as far as the fields are alive. It shares
// no memory with the object that it came from.
//
// +kubebuilder:object:generate=false
type ResolvedBroker struct {
	Image       string // empty: the image that belongs to the operator
	Replicas    int32
	Listeners   []ResolvedListener // in the order of the spec
	Tokens      ResolvedTokens
	Passwords   PasswordCache // where it is remembered which were right
	ClientGrace time.Duration // how long clients get for each stage of a CA's replacement
	Limits      ResolvedLimits
	Persistence *ResolvedPersistence // nil: no volume
	Drain       ResolvedDrain
	// ProgressDeadline is how long pods may take to become ready in a new form.
	ProgressDeadline time.Duration
	Windows          []ResolvedWindow // none: pods may be replaced at any time
	Logging          ResolvedLogging
	Pod              ResolvedPod
	Network          ResolvedNetworkPolicy
	Monitoring       ResolvedMonitoring
	DisruptionBudget bool
}

// ResolvedListener is a listener with every default filled in.
//
// +kubebuilder:object:generate=false
type ResolvedListener struct {
	Name           string
	Protocol       ListenerProtocol
	Port           int32
	Service        ResolvedService
	TLS            *ResolvedTLS // nil: plain text
	Anonymous      ResolvedAnonymous
	WebSocket      *ResolvedWebSocket               // nil: not with this protocol
	MaxConnections int32                            // 0: no bound
	ConnectRate    *ResolvedRate                    // nil: no bound
	ProxyProtocol  *ResolvedProxy                   // nil: the peer is the client
	Methods        []ListenerAuthentication         // none: all
	From           []networkingv1.NetworkPolicyPeer // none: everybody
}

// Encrypted says whether what passes the listener is encrypted.
func (l ResolvedListener) Encrypted() bool { return l.TLS != nil }

// ResolvedWebSocket is the HTTP side of a listener with every default filled in.
//
// +kubebuilder:object:generate=false
type ResolvedWebSocket struct {
	Path           string
	AllowedOrigins []string // none: the host itself, and who sends no origin
}

// ResolvedRate is how fast connections are accepted with every default filled in.
//
// +kubebuilder:object:generate=false
type ResolvedRate struct {
	PerSecond int32
	Burst     int32
}

// ResolvedProxy says whose PROXY headers are believed with every default filled in.
//
// +kubebuilder:object:generate=false
type ResolvedProxy struct {
	Mode         ProxyProtocolMode
	TrustedCIDRs []string
}

// ResolvedService is the Service of a listener with every default filled in.
//
// +kubebuilder:object:generate=false
type ResolvedService struct {
	Type                  corev1.ServiceType
	Annotations           map[string]string
	NodePort              int32                               // 0: the cluster picks one
	LoadBalancerClass     string                              // empty: the cluster's own
	ExternalTrafficPolicy corev1.ServiceExternalTrafficPolicy // empty with type ClusterIP, which has none
	IPFamilyPolicy        corev1.IPFamilyPolicy
	IPFamilies            []corev1.IPFamily // none: the order of the cluster
}

// ResolvedTLS says where a certificate comes from: from SecretName, or from the operator where it is empty.
//
// +kubebuilder:object:generate=false
type ResolvedTLS struct {
	SecretName   string          // with Issuer it is the one that cert-manager writes
	Issuer       *ResolvedIssuer // nil: cert-manager is not asked
	MinVersion   TLSVersion
	ClientAuth   ClientAuth
	UsernameFrom CertificateUsername
	ClientCA     ResolvedKey // no name: none but the broker's own
	CRL          ResolvedKey // no name: none
}

// SelfManaged says whether the operator signs the certificate.
func (t ResolvedTLS) SelfManaged() bool { return t.SecretName == "" }

// AsksClients says whether clients are asked for a certificate.
func (t ResolvedTLS) AsksClients() bool { return t.ClientAuth != ClientAuthNone }

// ResolvedIssuer names an issuer of cert-manager.
//
// +kubebuilder:object:generate=false
type ResolvedIssuer struct{ Name, Kind, Group string }

// ResolvedKey names a key of a Secret or ConfigMap.
//
// +kubebuilder:object:generate=false
type ResolvedKey struct{ Name, Key string }

// ResolvedTokens says whose tokens are believed.
//
// +kubebuilder:object:generate=false
type ResolvedTokens struct {
	Issuers         []ResolvedJWTIssuer // in the order of the spec
	ServiceAccounts []string            // audiences; none: such tokens open nothing
}

// ResolvedJWTIssuer is somebody whose tokens are believed. Exactly one of Secret, ConfigMap and URL says where the keys
// are.
//
// +kubebuilder:object:generate=false
type ResolvedJWTIssuer struct {
	Issuer        string
	Audiences     []string
	Secret        ResolvedKey
	ConfigMap     ResolvedKey
	URL           string
	CA            ResolvedKey // vouches for URL; no name: the public CAs do
	UsernameClaim string
	ACLClaim      string // empty: no rules in the token
}

// ResolvedAnonymous says what clients without a name may do.
//
// +kubebuilder:object:generate=false
type ResolvedAnonymous struct {
	Enabled bool
	Rules   []ResolvedRule
}

// ResolvedLimits are the limits of a broker.
//
// +kubebuilder:object:generate=false
type ResolvedLimits struct {
	MaxPacketSize       int64 // bytes
	ReceiveMaximum      int32
	MaxSessionExpiry    time.Duration
	TopicAliasMaximum   int32
	MaxQueuedMessages   int32
	MaxQueuedBytes      int64
	MaxTopicLevels      int32
	MaxSubscriptions    int32         // of one client
	PublishRate         int32         // of one client, per second; 0: no bound
	ServerKeepAlive     time.Duration // 0: what the client asks for
	MaxRetainedMessages int32
	MaxRetainedBytes    int64
}

// ResolvedPersistence is the volume of each pod.
//
// +kubebuilder:object:generate=false
type ResolvedPersistence struct {
	Size             resource.Quantity
	StorageClassName string // empty: the cluster's default class
	WhenDeleted      VolumeRetention
	WhenScaled       VolumeRetention
	Sync             PersistenceSync
}

// ResolvedNetworkPolicy says whom the network lets reach the pods.
//
// +kubebuilder:object:generate=false
type ResolvedNetworkPolicy struct {
	Enabled     bool
	MetricsFrom []networkingv1.NetworkPolicyPeer // none: everybody
}

// ResolvedMonitoring says by which objects others watch the pods.
//
// +kubebuilder:object:generate=false
type ResolvedMonitoring struct{ PodMonitor, PrometheusRule, Dashboard ResolvedMonitoringObject }

// ResolvedMonitoringObject says whether an object is made and how it is found.
//
// +kubebuilder:object:generate=false
type ResolvedMonitoringObject struct {
	Enabled bool
	Labels  map[string]string
}

// ResolvedDrain is how the clients of a pod that has to go are sent away.
//
// +kubebuilder:object:generate=false
type ResolvedDrain struct {
	Timeout        time.Duration
	DisconnectRate int32 // per second
}

// ResolvedWindow is a time in which pods may be replaced.
//
// +kubebuilder:object:generate=false
type ResolvedWindow struct {
	Name         string
	Days         []time.Weekday // none: every day
	Hour, Minute int
	Duration     time.Duration
	TimeZone     string
}

// ResolvedLogging is what a broker logs.
//
// +kubebuilder:object:generate=false
type ResolvedLogging struct {
	Level  LogLevel
	Format LogFormat
}

// ResolvedPod is the shape of a broker's pods.
//
// +kubebuilder:object:generate=false
type ResolvedPod struct {
	Resources                 corev1.ResourceRequirements
	Affinity                  *corev1.Affinity
	TopologySpreadConstraints []corev1.TopologySpreadConstraint
	Tolerations               []corev1.Toleration
	NodeSelector              map[string]string
	PriorityClassName         string // empty: the cluster's default
	Labels                    map[string]string
	Annotations               map[string]string
}

// ResolvedRule is a rule with every default filled in.
//
// +kubebuilder:object:generate=false
type ResolvedRule struct {
	Effect    ACLEffect
	Publish   bool
	Subscribe bool
	Filter    string
	MaxQoS    int32 // always 2 in a deny rule
	Retain    bool  // always true in a deny rule
}

// Resolved returns the spec with every default filled in.
func (b *MQTTBroker) Resolved() ResolvedBroker {
	spec := b.Spec.DeepCopy()
	resolved := ResolvedBroker{
		Image:       or(spec.Image, ""),
		Replicas:    or(spec.Replicas, DefaultReplicas),
		Limits:      spec.Limits.resolved(),
		Persistence: spec.Persistence.resolved(),
		Drain:       or(spec.Updates, BrokerUpdates{}).Drain.resolved(),
		Windows:     spec.Updates.windows(),

		ProgressDeadline: or(or(spec.Updates, BrokerUpdates{}).ProgressDeadline, metav1.Duration{Duration: DefaultProgressDeadline}).Duration,
		Pod:              spec.Pod.resolved(),
		Network:          spec.NetworkPolicy.resolved(),
		Monitoring:       spec.Monitoring.resolved(),
	}

	for i := range spec.Listeners {
		l := spec.Listeners[i].resolved()
		if l.Encrypted() && l.TLS.Issuer != nil {
			l.TLS.SecretName = IssuedName(b.Name, l.Name)
		}

		resolved.Listeners = append(resolved.Listeners, l)
	}

	resolved.DisruptionBudget = or(or(spec.PodDisruptionBudget, BrokerDisruptionBudget{}).Enabled, resolved.Replicas > 1)
	resolved.Tokens = spec.Authentication.resolved()
	resolved.Passwords = or(or(spec.Authentication, BrokerAuthentication{}).PasswordCache, DefaultPasswordCache)
	resolved.ClientGrace = or(or(spec.CA, BrokerCA{}).ClientGrace, metav1.Duration{Duration: DefaultClientGrace}).Duration

	logging := or(spec.Logging, BrokerLogging{})
	resolved.Logging = ResolvedLogging{Level: or(logging.Level, DefaultLogLevel), Format: or(logging.Format, DefaultLogFormat)}

	return resolved
}

// Urgent says whether pods may be replaced outside of maintenance windows.
func (b *MQTTBroker) Urgent() bool { return b.Annotations[AnnotationUrgent] == "true" }

// Paused says whether the operator is asked to leave the broker alone.
func (b *MQTTBroker) Paused() bool { return b.Annotations[AnnotationPaused] == "true" }

// Hibernated says whether no pod is meant to run.
func (b ResolvedBroker) Hibernated() bool { return b.Replicas == 0 }

// TLSEnabled says whether any listener is encrypted.
func (b ResolvedBroker) TLSEnabled() bool {
	for _, l := range b.Listeners {
		if l.Encrypted() {
			return true
		}
	}

	return false
}

// SelfManagedTLS says whether the operator signs the certificate of any listener.
func (b ResolvedBroker) SelfManagedTLS() bool {
	for _, l := range b.Listeners {
		if l.Encrypted() && l.TLS.SelfManaged() {
			return true
		}
	}

	return false
}

// ClientCertificates says whether any listener asks clients for a certificate.
func (b ResolvedBroker) ClientCertificates() bool {
	for _, l := range b.Listeners {
		if l.Encrypted() && l.TLS.AsksClients() {
			return true
		}
	}

	return false
}

// TLSSecrets names the Secrets with certificates of listeners, in the order of the spec.
func (b ResolvedBroker) TLSSecrets() []string {
	var names []string

	for _, l := range b.Listeners {
		if l.Encrypted() && !l.TLS.SelfManaged() {
			names = append(names, l.TLS.SecretName)
		}
	}

	return names
}

// ReferencedSecrets names every Secret that the spec names or that cert-manager writes for it, each once.
func (b ResolvedBroker) ReferencedSecrets() []string {
	names := b.TLSSecrets()

	for _, l := range b.Listeners {
		if l.Encrypted() {
			names = append(names, l.TLS.ClientCA.Name, l.TLS.CRL.Name)
		}
	}

	for _, issuer := range b.Tokens.Issuers {
		names = append(names, issuer.Secret.Name, issuer.CA.Name)
	}

	return once(names)
}

// ReferencedConfigMaps names every ConfigMap that the spec names, each once.
func (b ResolvedBroker) ReferencedConfigMaps() []string {
	var names []string

	for _, issuer := range b.Tokens.Issuers {
		names = append(names, issuer.ConfigMap.Name)
	}

	return once(names)
}

// once is names in order, without empty ones, each once.
func once(names []string) []string {
	slices.Sort(names)
	names = slices.Compact(names)

	if len(names) > 0 && names[0] == "" {
		names = names[1:]
	}

	return names
}

// PlaintextListeners names the listeners that are not encrypted, in the order of the spec.
func (b ResolvedBroker) PlaintextListeners() []string {
	var names []string

	for _, l := range b.Listeners {
		if !l.Encrypted() {
			names = append(names, l.Name)
		}
	}

	return names
}

// AnonymousListeners names the listeners that let clients in without a name, in the order of the spec.
func (b ResolvedBroker) AnonymousListeners() []string {
	var names []string

	for _, l := range b.Listeners {
		if l.Anonymous.Enabled {
			names = append(names, l.Name)
		}
	}

	return names
}

// Listener finds a listener by name.
func (b ResolvedBroker) Listener(name string) (ResolvedListener, bool) {
	for _, l := range b.Listeners {
		if l.Name == name {
			return l, true
		}
	}

	return ResolvedListener{}, false
}

// BindingListener is the listener that a binding Secret points to: the one that is named, or, where the name is empty,
// the first with protocol tls, else the first with wss, else the first of all: a password that nobody chose a way for
// goes by one that is encrypted, if there is any. It is false where there is none.
func (b ResolvedBroker) BindingListener(name string) (ResolvedListener, bool) {
	if name != "" {
		return b.Listener(name)
	}

	for _, protocol := range []ListenerProtocol{ProtocolTLS, ProtocolWSS} {
		for _, l := range b.Listeners {
			if l.Protocol == protocol {
				return l, true
			}
		}
	}

	if len(b.Listeners) == 0 {
		return ResolvedListener{}, false
	}

	return b.Listeners[0], true
}

func (l *BrokerListener) resolved() ResolvedListener {
	resolved := ResolvedListener{
		Name: l.Name, Protocol: l.Protocol, Port: l.Port, Service: l.Service.resolved(), MaxConnections: or(l.MaxConnections, 0),
		Methods: l.Authentication, From: l.From,
	}

	if l.Protocol == ProtocolWS || l.Protocol == ProtocolWSS {
		webSocket := or(l.WebSocket, ListenerWebSocket{})
		resolved.WebSocket = &ResolvedWebSocket{
			Path:           or(webSocket.Path, DefaultWebSocketPath),
			AllowedOrigins: webSocket.AllowedOrigins,
		}
	}

	if rate := l.ConnectRate; rate != nil {
		resolved.ConnectRate = &ResolvedRate{PerSecond: rate.PerSecond, Burst: or(rate.Burst, rate.PerSecond)}
	}

	if proxy := l.ProxyProtocol; proxy != nil {
		resolved.ProxyProtocol = &ResolvedProxy{Mode: or(proxy.Mode, DefaultProxyProtocolMode), TrustedCIDRs: proxy.TrustedCIDRs}
	}

	if l.TLS != nil {
		resolved.TLS = l.TLS.resolved()
	}

	if l.Anonymous != nil && or(l.Anonymous.Enabled, false) {
		resolved.Anonymous = ResolvedAnonymous{Enabled: true, Rules: resolvedRules(l.Anonymous.ACL)}
	}

	return resolved
}

func (t *ListenerTLS) resolved() *ResolvedTLS {
	resolved := &ResolvedTLS{
		SecretName:   or(t.SecretRef, SecretReference{}).Name,
		MinVersion:   or(t.MinVersion, DefaultMinTLSVersion),
		ClientAuth:   or(t.ClientAuth, DefaultClientAuth),
		UsernameFrom: or(t.UsernameFrom, DefaultUsernameFrom),
		ClientCA:     t.ClientCASecretRef.resolved(DefaultCAKey),
		CRL:          t.CRLSecretRef.resolved(DefaultCRLKey),
	}

	if ref := t.IssuerRef; ref != nil {
		resolved.Issuer = &ResolvedIssuer{Name: ref.Name, Kind: or(ref.Kind, DefaultIssuerKind), Group: or(ref.Group, DefaultIssuerGroup)}
	}

	return resolved
}

func (r *SecretKeyReference) resolved(key string) ResolvedKey {
	if r == nil {
		return ResolvedKey{}
	}

	return ResolvedKey{Name: r.Name, Key: or(r.Key, key)}
}

func (r *ConfigMapKeyReference) resolved(key string) ResolvedKey {
	if r == nil {
		return ResolvedKey{}
	}

	return ResolvedKey{Name: r.Name, Key: or(r.Key, key)}
}

func (a *BrokerAuthentication) resolved() ResolvedTokens {
	authentication := or(a, BrokerAuthentication{})
	resolved := ResolvedTokens{ServiceAccounts: or(authentication.ServiceAccounts, ServiceAccountTokens{}).Audiences}

	for i := range authentication.JWT {
		issuer := &authentication.JWT[i]
		resolved.Issuers = append(resolved.Issuers, ResolvedJWTIssuer{
			Issuer:        issuer.Issuer,
			Audiences:     issuer.Audiences,
			Secret:        issuer.JWKS.SecretRef.resolved(DefaultJWKSKey),
			ConfigMap:     issuer.JWKS.ConfigMapRef.resolved(DefaultJWKSKey),
			URL:           or(issuer.JWKS.URL, ""),
			CA:            issuer.JWKS.CASecretRef.resolved(DefaultCAKey),
			UsernameClaim: or(issuer.UsernameClaim, DefaultUsernameClaim),
			ACLClaim:      or(issuer.ACLClaim, ""),
		})
	}

	return resolved
}

func (s *ListenerService) resolved() ResolvedService {
	service := or(s, ListenerService{})
	resolved := ResolvedService{
		Type:              or(service.Type, corev1.ServiceTypeClusterIP),
		Annotations:       service.Annotations,
		NodePort:          or(service.NodePort, 0),
		LoadBalancerClass: or(service.LoadBalancerClass, ""),
		IPFamilyPolicy:    or(service.IPFamilyPolicy, DefaultIPFamilyPolicy),
		IPFamilies:        service.IPFamilies,
	}

	if resolved.Type != corev1.ServiceTypeClusterIP {
		resolved.ExternalTrafficPolicy = or(service.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}

	return resolved
}

func (l *BrokerLimits) resolved() ResolvedLimits {
	limits := or(l, BrokerLimits{})

	return ResolvedLimits{
		MaxPacketSize:       bytesOr(limits.MaxPacketSize, DefaultMaxPacketSize),
		ReceiveMaximum:      or(limits.ReceiveMaximum, DefaultReceiveMaximum),
		MaxSessionExpiry:    or(limits.MaxSessionExpiry, metav1.Duration{Duration: DefaultMaxSessionExpiry}).Duration,
		TopicAliasMaximum:   or(limits.TopicAliasMaximum, DefaultTopicAliasMaximum),
		MaxQueuedMessages:   or(limits.MaxQueuedMessages, DefaultMaxQueuedMessages),
		MaxQueuedBytes:      bytesOr(limits.MaxQueuedBytes, DefaultMaxQueuedBytes),
		MaxTopicLevels:      or(limits.MaxTopicLevels, DefaultMaxTopicLevels),
		MaxSubscriptions:    or(limits.MaxSubscriptionsPerClient, DefaultMaxSubscriptions),
		PublishRate:         or(limits.PublishRatePerClient, 0),
		ServerKeepAlive:     or(limits.ServerKeepAlive, metav1.Duration{}).Duration,
		MaxRetainedMessages: or(limits.MaxRetainedMessages, DefaultMaxRetainedMessages),
		MaxRetainedBytes:    bytesOr(limits.MaxRetainedBytes, DefaultMaxRetainedBytes),
	}
}

func (p *BrokerPersistence) resolved() *ResolvedPersistence {
	if p == nil {
		return nil
	}

	retention := or(p.Retention, PersistenceRetention{})

	return &ResolvedPersistence{
		Size:             or(p.Size, resource.MustParse(DefaultVolumeSize)),
		StorageClassName: or(p.StorageClassName, ""),
		WhenDeleted:      or(retention.WhenDeleted, DefaultVolumeRetention),
		WhenScaled:       or(retention.WhenScaled, DefaultVolumeRetention),
		Sync:             or(p.Sync, DefaultPersistenceSync),
	}
}

func (p *PodNetworkPolicy) resolved() ResolvedNetworkPolicy {
	policy := or(p, PodNetworkPolicy{})

	return ResolvedNetworkPolicy{Enabled: or(policy.Enabled, DefaultNetworkPolicy), MetricsFrom: policy.MetricsFrom}
}

func (m *Monitoring) resolved() ResolvedMonitoring {
	monitoring := or(m, Monitoring{})

	return ResolvedMonitoring{
		PodMonitor:     monitoring.PodMonitor.resolved(),
		PrometheusRule: monitoring.PrometheusRule.resolved(),
		Dashboard:      monitoring.Dashboard.resolved(),
	}
}

func (o *MonitoringObject) resolved() ResolvedMonitoringObject {
	object := or(o, MonitoringObject{})

	return ResolvedMonitoringObject{Enabled: or(object.Enabled, false), Labels: plain(object.Labels)}
}

func (d *BrokerDrain) resolved() ResolvedDrain {
	drain := or(d, BrokerDrain{})

	return ResolvedDrain{
		Timeout:        or(drain.Timeout, metav1.Duration{Duration: DefaultDrainTimeout}).Duration,
		DisconnectRate: or(drain.DisconnectRate, DefaultDisconnectRate),
	}
}

var weekdays = map[Weekday]time.Weekday{
	"Monday": time.Monday, "Tuesday": time.Tuesday, "Wednesday": time.Wednesday, "Thursday": time.Thursday, "Friday": time.Friday,
	"Saturday": time.Saturday, "Sunday": time.Sunday,
}

func (u *BrokerUpdates) windows() []ResolvedWindow {
	var windows []ResolvedWindow

	wished := or(u, BrokerUpdates{}).MaintenanceWindows
	for i := range wished {
		w := &wished[i]
		start, _ := time.Parse("15:04", w.Start) // the schema sees to it
		resolved := ResolvedWindow{
			Name: w.Name, Hour: start.Hour(), Minute: start.Minute(), Duration: or(w.Duration, metav1.Duration{}).Duration,
			TimeZone: or(w.TimeZone, DefaultTimeZone),
		}

		for _, day := range w.Days {
			resolved.Days = append(resolved.Days, weekdays[day])
		}

		windows = append(windows, resolved)
	}

	return windows
}

func (p *BrokerPod) resolved() ResolvedPod {
	pod := or(p, BrokerPod{})

	return ResolvedPod{
		Resources: or(pod.Resources, corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse(DefaultPodCPU),
			corev1.ResourceMemory: resource.MustParse(DefaultPodMemory),
		}}),
		Affinity:                  pod.Affinity,
		TopologySpreadConstraints: pod.TopologySpreadConstraints,
		Tolerations:               pod.Tolerations,
		NodeSelector:              plain(pod.NodeSelector),
		PriorityClassName:         or(pod.PriorityClassName, ""),
		Labels:                    plain(pod.Labels),
		Annotations:               pod.Annotations,
	}
}

// plain takes labels to the type that Kubernetes' own objects have.
func plain(labels map[string]LabelValue) map[string]string {
	if labels == nil {
		return nil
	}

	values := make(map[string]string, len(labels))
	for key, value := range labels {
		values[key] = string(value)
	}

	return values
}

// ResolvedAccessPolicy is the spec of an MQTTAccessPolicy with every default filled in.
//
// +kubebuilder:object:generate=false
type ResolvedAccessPolicy struct {
	Rules        []ResolvedRule
	UserSelector *metav1.LabelSelector // nil: no user by label
}

// Resolved returns the spec with every default filled in.
func (p *MQTTAccessPolicy) Resolved() ResolvedAccessPolicy {
	return ResolvedAccessPolicy{
		Rules:        resolvedRules(p.Spec.Rules),
		UserSelector: p.Spec.UserSelector.DeepCopy(),
	}
}

// ResolvedBridge is the spec of an MQTTBridge with every default filled in. It shares no memory with the object that
// it came from.
//
// +kubebuilder:object:generate=false
type ResolvedBridge struct {
	Broker            BrokerReference  // of the local end
	RemoteBroker      *BrokerReference // nil: Endpoints
	Endpoints         []string
	Protocol          MQTTProtocolVersion
	CA                ResolvedKey // no name: the system's roots
	CertificateSecret string      // empty: no certificate
	ServerName        string      // empty: the host of the endpoint
	CredentialsSecret string      // empty: no credentials
	ClientIDPrefix    string
	KeepAlive         time.Duration
	CleanStart        bool
	SessionExpiry     time.Duration
	Routes            []ResolvedRoute
	Inflight          int32
	MaxQueuedMessages int32 // 0: as many as the broker keeps
	Replicas          int32
	Suspended         bool
	Image             string // empty: the image that belongs to the operator
	Logging           ResolvedLogging
	Pod               ResolvedPod
	Network           ResolvedNetworkPolicy
	Monitoring        ResolvedMonitoring
}

// ReferencedSecrets names every Secret that the spec names, each once.
func (b ResolvedBridge) ReferencedSecrets() []string {
	return once([]string{b.CA.Name, b.CertificateSecret, b.CredentialsSecret})
}

// IsRunning says whether any pod is meant to carry messages.
func (b ResolvedBridge) IsRunning() bool { return b.Replicas > 0 && !b.Suspended }

// ResolvedRoute is a route with every default filled in.
//
// +kubebuilder:object:generate=false
type ResolvedRoute struct {
	Name         string
	Direction    RouteDirection
	Filter       string
	LocalPrefix  string
	RemotePrefix string
	MaxQoS       int32
	Retain       bool
	Share        string // empty: every message
}

// Resolved returns the spec with every default filled in.
func (b *MQTTBridge) Resolved() ResolvedBridge {
	spec := b.Spec.DeepCopy()
	remote := spec.Remote
	trust := or(remote.TLS, BridgeTLS{})
	logging := or(spec.Logging, BrokerLogging{})
	resolved := ResolvedBridge{
		Broker:            spec.BrokerRef,
		RemoteBroker:      remote.BrokerRef,
		Endpoints:         remote.Endpoints,
		Protocol:          or(remote.ProtocolVersion, DefaultBridgeProtocol),
		CA:                trust.CASecretRef.resolved(DefaultCAKey),
		CertificateSecret: or(trust.CertificateSecretRef, SecretReference{}).Name,
		ServerName:        or(trust.ServerName, ""),
		CredentialsSecret: or(remote.CredentialsSecretRef, SecretReference{}).Name,
		ClientIDPrefix:    or(remote.ClientIDPrefix, shortened(b.Namespace+"."+b.Name)),
		KeepAlive:         or(remote.KeepAlive, metav1.Duration{Duration: DefaultBridgeKeepAlive}).Duration,
		CleanStart:        or(remote.CleanStart, false),
		SessionExpiry:     or(spec.SessionExpiry, metav1.Duration{Duration: DefaultBridgeExpiry}).Duration,
		Inflight:          or(spec.Inflight, DefaultBridgeInflight),
		MaxQueuedMessages: or(spec.MaxQueuedMessages, 0),
		Replicas:          or(spec.Replicas, DefaultReplicas),
		Suspended:         or(spec.Suspend, false),
		Image:             or(spec.Image, ""),
		Logging:           ResolvedLogging{Level: or(logging.Level, DefaultLogLevel), Format: or(logging.Format, DefaultLogFormat)},
		Pod:               spec.Pod.resolved(),
		Network:           spec.NetworkPolicy.resolved(),
		Monitoring:        spec.Monitoring.resolved(),
	}

	for _, route := range spec.Routes {
		resolved.Routes = append(resolved.Routes, ResolvedRoute{
			Name:         route.Name,
			Direction:    route.Direction,
			Filter:       string(route.Filter),
			LocalPrefix:  or(route.LocalPrefix, ""),
			RemotePrefix: or(route.RemotePrefix, ""),
			MaxQoS:       or(route.MaxQoS, DefaultRouteMaxQoS),
			Retain:       or(route.Retain, DefaultRouteRetain),
			Share:        or(route.Share, ""),
		})
	}

	return resolved
}

// maxClientIDPrefix is what the schema and the contract allow.
const maxClientIDPrefix = 64

// shortened is a name that is at most as long as a prefix of client identifiers may be; longer ones are told apart by a sum.
func shortened(name string) string {
	if len(name) <= maxClientIDPrefix {
		return name
	}

	const sumBytes = 6

	sum := sha256.Sum256([]byte(name))
	tail := "." + hex.EncodeToString(sum[:sumBytes])

	return name[:maxClientIDPrefix-len(tail)] + tail
}

func resolvedRules(rules []ACLRule) []ResolvedRule {
	var resolved []ResolvedRule

	for _, rule := range rules {
		r := ResolvedRule{
			Effect: rule.Effect,
			Filter: string(rule.Filter),
			MaxQoS: or(rule.MaxQoS, DefaultRuleMaxQoS),
			Retain: or(rule.Retain, DefaultRuleRetain),
		}

		for _, action := range rule.Actions {
			r.Publish = r.Publish || action == ACLPublish
			r.Subscribe = r.Subscribe || action == ACLSubscribe
		}

		resolved = append(resolved, r)
	}

	return resolved
}

// or is what a field says, or the default where it says nothing.
func or[T any](field *T, fallback T) T {
	if field == nil {
		return fallback
	}

	return *field
}

// bytesOr is how many bytes a field says, or the default where it says nothing.
func bytesOr(field *resource.Quantity, fallback int64) int64 {
	if field == nil {
		return fallback
	}

	return field.Value()
}
