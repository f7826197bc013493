// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

func TestResolvedBroker(t *testing.T) {
	t.Parallel()

	requests := corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi"),
	}}

	peer := networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}}

	cases := map[string]struct {
		reason string
		spec   v1alpha1.MQTTBrokerSpec
		want   v1alpha1.ResolvedBroker
	}{
		"an empty spec has every default": {
			reason: "defaults live in Resolved alone",
			want: v1alpha1.ResolvedBroker{
				Replicas:    1,
				Passwords:   "Memory",
				ClientGrace: 24 * time.Hour,
				Limits: v1alpha1.ResolvedLimits{
					MaxPacketSize: 1 << 20, ReceiveMaximum: 1024, MaxSessionExpiry: 168 * time.Hour, TopicAliasMaximum: 32,
					MaxQueuedMessages: 10_000, MaxQueuedBytes: 64 << 20, MaxTopicLevels: 128, MaxSubscriptions: 1000,
					MaxRetainedMessages: 1_000_000, MaxRetainedBytes: 1 << 30,
				},
				Drain: v1alpha1.ResolvedDrain{Timeout: 20 * time.Second, DisconnectRate: 1000},

				ProgressDeadline: 10 * time.Minute,
				Logging:          v1alpha1.ResolvedLogging{Level: "info", Format: "json"},
				Pod:              v1alpha1.ResolvedPod{Resources: requests},
				Network:          v1alpha1.ResolvedNetworkPolicy{Enabled: true},
			},
		},
		"what is said counts, zero too": {
			reason: "a pointer to zero is not an absent field",
			spec: v1alpha1.MQTTBrokerSpec{
				Image:    new("broker:1"),
				Replicas: new(int32(0)),
				Listeners: []v1alpha1.BrokerListener{
					{
						Name: "plain", Protocol: "tcp", Port: 1883, From: []networkingv1.NetworkPolicyPeer{peer},
						Service:   &v1alpha1.ListenerService{Type: new(corev1.ServiceTypeNodePort), NodePort: new(int32(30000)), IPFamilyPolicy: new(corev1.IPFamilyPolicySingleStack), IPFamilies: []corev1.IPFamily{"IPv6"}},
						Anonymous: &v1alpha1.ListenerAnonymous{Enabled: new(true), ACL: []v1alpha1.ACLRule{{Effect: "allow", Actions: []v1alpha1.ACLAction{"subscribe"}, Filter: "a/#", MaxQoS: new(int32(0)), Retain: new(false)}}},
					},
					{
						Name: "sealed", Protocol: "tls", Port: 8883,
						TLS: &v1alpha1.ListenerTLS{
							SecretRef: &v1alpha1.SecretReference{Name: "pair"}, MinVersion: new(v1alpha1.TLSVersion13),
							ClientAuth: new(v1alpha1.ClientAuthRequired), UsernameFrom: new(v1alpha1.UsernameFromSAN),
							ClientCASecretRef: &v1alpha1.SecretKeyReference{Name: "cas"}, CRLSecretRef: &v1alpha1.SecretKeyReference{Name: "lists", Key: new("crl")},
						},
						Authentication: []v1alpha1.ListenerAuthentication{"certificate", "jwt"},
						Anonymous:      &v1alpha1.ListenerAnonymous{Enabled: new(false)},
					},
					{
						Name: "own", Protocol: "tls", Port: 8884, TLS: &v1alpha1.ListenerTLS{SelfManaged: &v1alpha1.SelfManagedTLS{}},
						MaxConnections: new(int32(5)), ConnectRate: &v1alpha1.ConnectRate{PerSecond: 10},
						ProxyProtocol: &v1alpha1.ProxyProtocol{TrustedCIDRs: []string{"10.0.0.0/8"}},
					},
					{
						Name: "web", Protocol: "wss", Port: 8443, TLS: &v1alpha1.ListenerTLS{SelfManaged: &v1alpha1.SelfManagedTLS{}},
						WebSocket:     &v1alpha1.ListenerWebSocket{Path: new("/"), AllowedOrigins: []string{"https://example.com"}},
						ConnectRate:   &v1alpha1.ConnectRate{PerSecond: 10, Burst: new(int32(1))},
						ProxyProtocol: &v1alpha1.ProxyProtocol{Mode: new(v1alpha1.ProxyProtocolOptional)},
					},
					{Name: "open", Protocol: "ws", Port: 8080},
					{Name: "asked", Protocol: "tls", Port: 8885, TLS: &v1alpha1.ListenerTLS{IssuerRef: &v1alpha1.IssuerReference{Name: "ca"}}},
				},
				Authentication: &v1alpha1.BrokerAuthentication{
					JWT: []v1alpha1.JWTIssuer{
						{Issuer: "a", Audiences: []string{"x"}, JWKS: v1alpha1.JWKSource{SecretRef: &v1alpha1.SecretKeyReference{Name: "keys"}}},
						{Issuer: "b", Audiences: []string{"x"}, JWKS: v1alpha1.JWKSource{ConfigMapRef: &v1alpha1.ConfigMapKeyReference{Name: "keys", Key: new("b")}}},
						{Issuer: "c", Audiences: []string{"x"}, JWKS: v1alpha1.JWKSource{URL: new("https://c/"), CASecretRef: &v1alpha1.SecretKeyReference{Name: "issuer-ca"}}, UsernameClaim: new("email"), ACLClaim: new("acl")},
					},
					ServiceAccounts: &v1alpha1.ServiceAccountTokens{Audiences: []string{"y"}},
					PasswordCache:   new(v1alpha1.PasswordCacheVolume),
				},
				CA: &v1alpha1.BrokerCA{ClientGrace: &metav1.Duration{}},
				Limits: &v1alpha1.BrokerLimits{
					MaxPacketSize: new(resource.MustParse("2Ki")), ReceiveMaximum: new(int32(7)),
					MaxSessionExpiry: &metav1.Duration{}, TopicAliasMaximum: new(int32(0)),
					MaxQueuedMessages: new(int32(1)), MaxQueuedBytes: new(resource.MustParse("64Ki")), MaxTopicLevels: new(int32(2)),
					MaxSubscriptionsPerClient: new(int32(3)), PublishRatePerClient: new(int32(4)),
					ServerKeepAlive: &metav1.Duration{Duration: time.Minute}, MaxRetainedMessages: new(int32(5)),
					MaxRetainedBytes: new(resource.MustParse("128Ki")),
				},
				Persistence: &v1alpha1.BrokerPersistence{Sync: new(v1alpha1.SyncInterval)},
				Updates: &v1alpha1.BrokerUpdates{
					ProgressDeadline: &metav1.Duration{Duration: time.Hour},
					Drain:            &v1alpha1.BrokerDrain{Timeout: &metav1.Duration{Duration: time.Minute}, DisconnectRate: new(int32(7))},
					MaintenanceWindows: []v1alpha1.MaintenanceWindow{
						{Name: "night", Days: []v1alpha1.Weekday{"Saturday", "Sunday"}, Start: "23:30", Duration: &metav1.Duration{Duration: time.Hour}},
						{Name: "noon", Start: "12:00", Duration: &metav1.Duration{Duration: time.Hour}, TimeZone: new("Europe/Berlin")},
					},
				},
				Logging:       &v1alpha1.BrokerLogging{Level: new(v1alpha1.LogDebug)},
				Pod:           &v1alpha1.BrokerPod{Resources: &corev1.ResourceRequirements{}, Labels: map[string]v1alpha1.LabelValue{"a": "b"}},
				NetworkPolicy: &v1alpha1.PodNetworkPolicy{Enabled: new(false), MetricsFrom: []networkingv1.NetworkPolicyPeer{peer}},
				Monitoring: &v1alpha1.Monitoring{
					PodMonitor: &v1alpha1.MonitoringObject{Enabled: new(true), Labels: map[string]v1alpha1.LabelValue{"a": "b"}},
					Dashboard:  &v1alpha1.MonitoringObject{Enabled: new(false)},
				},
			},
			want: v1alpha1.ResolvedBroker{
				Image: "broker:1",
				Listeners: []v1alpha1.ResolvedListener{
					{
						Name: "plain", Protocol: "tcp", Port: 1883, From: []networkingv1.NetworkPolicyPeer{peer},
						Service:   v1alpha1.ResolvedService{Type: "NodePort", NodePort: 30000, ExternalTrafficPolicy: "Cluster", IPFamilyPolicy: "SingleStack", IPFamilies: []corev1.IPFamily{"IPv6"}},
						Anonymous: v1alpha1.ResolvedAnonymous{Enabled: true, Rules: []v1alpha1.ResolvedRule{{Effect: "allow", Subscribe: true, Filter: "a/#"}}},
					},
					{
						Name: "sealed", Protocol: "tls", Port: 8883,
						Service: v1alpha1.ResolvedService{Type: "ClusterIP", IPFamilyPolicy: "PreferDualStack"},
						TLS: &v1alpha1.ResolvedTLS{
							SecretName: "pair", MinVersion: "TLSv1.3", ClientAuth: "required", UsernameFrom: "san",
							ClientCA: v1alpha1.ResolvedKey{Name: "cas", Key: "ca.crt"}, CRL: v1alpha1.ResolvedKey{Name: "lists", Key: "crl"},
						},
						Methods: []v1alpha1.ListenerAuthentication{"certificate", "jwt"},
					},
					{
						Name: "own", Protocol: "tls", Port: 8884,
						Service: v1alpha1.ResolvedService{Type: "ClusterIP", IPFamilyPolicy: "PreferDualStack"},
						TLS:     &v1alpha1.ResolvedTLS{MinVersion: "TLSv1.3", ClientAuth: "none", UsernameFrom: "cn"}, MaxConnections: 5,
						ConnectRate:   &v1alpha1.ResolvedRate{PerSecond: 10, Burst: 10},
						ProxyProtocol: &v1alpha1.ResolvedProxy{Mode: "required", TrustedCIDRs: []string{"10.0.0.0/8"}},
					},
					{
						Name: "web", Protocol: "wss", Port: 8443,
						Service:       v1alpha1.ResolvedService{Type: "ClusterIP", IPFamilyPolicy: "PreferDualStack"},
						TLS:           &v1alpha1.ResolvedTLS{MinVersion: "TLSv1.3", ClientAuth: "none", UsernameFrom: "cn"},
						WebSocket:     &v1alpha1.ResolvedWebSocket{Path: "/", AllowedOrigins: []string{"https://example.com"}},
						ConnectRate:   &v1alpha1.ResolvedRate{PerSecond: 10, Burst: 1},
						ProxyProtocol: &v1alpha1.ResolvedProxy{Mode: "optional"},
					},
					{
						Name: "open", Protocol: "ws", Port: 8080,
						Service:   v1alpha1.ResolvedService{Type: "ClusterIP", IPFamilyPolicy: "PreferDualStack"},
						WebSocket: &v1alpha1.ResolvedWebSocket{Path: "/mqtt"},
					},
					{
						Name: "asked", Protocol: "tls", Port: 8885,
						Service: v1alpha1.ResolvedService{Type: "ClusterIP", IPFamilyPolicy: "PreferDualStack"},
						TLS: &v1alpha1.ResolvedTLS{
							SecretName: "mq-asked-issued", Issuer: &v1alpha1.ResolvedIssuer{Name: "ca", Kind: "Issuer", Group: "cert-manager.io"},
							MinVersion: "TLSv1.3", ClientAuth: "none", UsernameFrom: "cn",
						},
					},
				},
				Tokens: v1alpha1.ResolvedTokens{
					Issuers: []v1alpha1.ResolvedJWTIssuer{
						{Issuer: "a", Audiences: []string{"x"}, Secret: v1alpha1.ResolvedKey{Name: "keys", Key: "jwks.json"}, UsernameClaim: "sub"},
						{Issuer: "b", Audiences: []string{"x"}, ConfigMap: v1alpha1.ResolvedKey{Name: "keys", Key: "b"}, UsernameClaim: "sub"},
						{Issuer: "c", Audiences: []string{"x"}, URL: "https://c/", CA: v1alpha1.ResolvedKey{Name: "issuer-ca", Key: "ca.crt"}, UsernameClaim: "email", ACLClaim: "acl"},
					},
					ServiceAccounts: []string{"y"},
				},
				Passwords: "Volume",
				Limits: v1alpha1.ResolvedLimits{
					MaxPacketSize: 2048, ReceiveMaximum: 7, MaxQueuedMessages: 1, MaxQueuedBytes: 64 << 10, MaxTopicLevels: 2, MaxSubscriptions: 3,
					PublishRate: 4, ServerKeepAlive: time.Minute, MaxRetainedMessages: 5, MaxRetainedBytes: 128 << 10,
				},
				Persistence: &v1alpha1.ResolvedPersistence{Size: resource.MustParse("1Gi"), WhenDeleted: "Retain", WhenScaled: "Retain", Sync: "interval"},
				Drain:       v1alpha1.ResolvedDrain{Timeout: time.Minute, DisconnectRate: 7},

				ProgressDeadline: time.Hour,
				Windows: []v1alpha1.ResolvedWindow{
					{Name: "night", Days: []time.Weekday{time.Saturday, time.Sunday}, Hour: 23, Minute: 30, Duration: time.Hour, TimeZone: "UTC"},
					{Name: "noon", Hour: 12, Duration: time.Hour, TimeZone: "Europe/Berlin"},
				},
				Logging:    v1alpha1.ResolvedLogging{Level: "debug", Format: "json"},
				Pod:        v1alpha1.ResolvedPod{Labels: map[string]string{"a": "b"}},
				Network:    v1alpha1.ResolvedNetworkPolicy{MetricsFrom: []networkingv1.NetworkPolicyPeer{peer}},
				Monitoring: v1alpha1.ResolvedMonitoring{PodMonitor: v1alpha1.ResolvedMonitoringObject{Enabled: true, Labels: map[string]string{"a": "b"}}},
			},
		},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			broker := &v1alpha1.MQTTBroker{ObjectMeta: metav1.ObjectMeta{Name: "mq"}, Spec: c.spec}
			before := broker.DeepCopy()

			if got := broker.Resolved(); !equality.Semantic.DeepEqual(got, c.want) {
				t.Errorf("%s:\n got %+v\nwant %+v", c.reason, got, c.want)
			}

			if !reflect.DeepEqual(broker, before) {
				t.Error("Resolved has changed the object")
			}
		})
	}
}

func TestResolvedSharesNoMemory(t *testing.T) {
	t.Parallel()

	broker := &v1alpha1.MQTTBroker{Spec: v1alpha1.MQTTBrokerSpec{
		Listeners: []v1alpha1.BrokerListener{{Service: &v1alpha1.ListenerService{Annotations: map[string]string{"a": "b"}}}},
		Pod:       &v1alpha1.BrokerPod{Annotations: map[string]string{"a": "b"}, Tolerations: []corev1.Toleration{{Key: "a"}}},
	}}
	before := broker.DeepCopy()
	resolved := broker.Resolved()
	resolved.Listeners[0].Service.Annotations["a"] = "c"
	resolved.Pod.Annotations["a"] = "c"
	resolved.Pod.Tolerations[0].Key = "c"

	if !reflect.DeepEqual(broker, before) {
		t.Error("a change of what Resolved returned has changed the object, which may lie in a cache")
	}
}

func TestBrokerFacts(t *testing.T) {
	t.Parallel()

	plain := v1alpha1.ResolvedListener{Name: "plain", Protocol: "tcp", Anonymous: v1alpha1.ResolvedAnonymous{Enabled: true}}
	sealed := v1alpha1.ResolvedListener{Name: "sealed", Protocol: "tls", TLS: &v1alpha1.ResolvedTLS{SecretName: "pair"}}
	own := v1alpha1.ResolvedListener{Name: "own", Protocol: "tls", TLS: &v1alpha1.ResolvedTLS{}}
	open := v1alpha1.ResolvedListener{Name: "open", Protocol: "ws"}
	web := v1alpha1.ResolvedListener{Name: "web", Protocol: "wss", TLS: &v1alpha1.ResolvedTLS{}}

	cases := map[string]struct {
		reason      string
		listeners   []v1alpha1.ResolvedListener
		tls, signed bool
		plaintext   []string
		anonymous   []string
		binding     map[string]string // name asked for -> listener found, "" for none
	}{
		"a plain listener alone": {
			reason: "there is nothing better to bind to", listeners: []v1alpha1.ResolvedListener{plain},
			plaintext: []string{"plain"}, anonymous: []string{"plain"},
			binding: map[string]string{"": "plain", "plain": "plain", "sealed": ""},
		},
		"the first encrypted one is bound to": {
			reason: "a password should not travel in plain text", listeners: []v1alpha1.ResolvedListener{plain, sealed, own},
			tls: true, signed: true, plaintext: []string{"plain"}, anonymous: []string{"plain"},
			binding: map[string]string{"": "sealed", "own": "own", "other": ""},
		},
		"a certificate from a Secret is not ours": {
			reason: "no CA is needed", listeners: []v1alpha1.ResolvedListener{sealed}, tls: true,
			binding: map[string]string{"": "sealed"},
		},
		"WebSockets": {
			reason: "ws is as plain as tcp, and wss better than both", listeners: []v1alpha1.ResolvedListener{open, plain, web},
			tls: true, signed: true, plaintext: []string{"open", "plain"}, anonymous: []string{"plain"},
			binding: map[string]string{"": "web", "open": "open"},
		},
		"tls before wss": {
			reason: "fewer clients speak WebSocket", listeners: []v1alpha1.ResolvedListener{web, own}, tls: true, signed: true,
			binding: map[string]string{"": "own", "web": "web"},
		},
		"no listener": {reason: "no schema lets this through, and nothing may panic", binding: map[string]string{"": "", "a": ""}},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			b := v1alpha1.ResolvedBroker{Listeners: c.listeners}
			if b.TLSEnabled() != c.tls || b.SelfManagedTLS() != c.signed {
				t.Errorf("%s: TLSEnabled %t, SelfManagedTLS %t", c.reason, b.TLSEnabled(), b.SelfManagedTLS())
			}

			if !reflect.DeepEqual(b.PlaintextListeners(), c.plaintext) || !reflect.DeepEqual(b.AnonymousListeners(), c.anonymous) {
				t.Errorf("%s: plaintext %v, anonymous %v", c.reason, b.PlaintextListeners(), b.AnonymousListeners())
			}

			for asked, want := range c.binding {
				if found, ok := b.BindingListener(asked); found.Name != want || ok != (want != "") {
					t.Errorf("%s: BindingListener(%q) is %q, want %q", c.reason, asked, found.Name, want)
				}
			}
		})
	}
}

func TestResolvedUser(t *testing.T) {
	t.Parallel()

	cases := map[string]struct {
		reason string
		user   v1alpha1.MQTTUser
		want   v1alpha1.ResolvedUser
	}{
		"a generated password": {
			reason: "the username is the name of the object where nothing else is said",
			user: v1alpha1.MQTTUser{ObjectMeta: metav1.ObjectMeta{Name: "sensor"}, Spec: v1alpha1.MQTTUserSpec{
				BrokerRef:      v1alpha1.BrokerReference{Name: "mq"},
				Authentication: v1alpha1.UserAuthentication{Password: &v1alpha1.UserPassword{Generate: &v1alpha1.GeneratePassword{}}},
			}},
			want: v1alpha1.ResolvedUser{
				Broker: "mq", Username: "sensor", Authentication: "password",
				Password: v1alpha1.ResolvedPassword{Generate: true, Overlap: 24 * time.Hour},
			},
		},
		"a password that is drawn anew": {
			reason: "the overlap is shorter than a day where passwords are",
			user: v1alpha1.MQTTUser{ObjectMeta: metav1.ObjectMeta{Namespace: "a"}, Spec: v1alpha1.MQTTUserSpec{
				BrokerRef: v1alpha1.BrokerReference{Name: "mq", Namespace: new("b")},
				Authentication: v1alpha1.UserAuthentication{Password: &v1alpha1.UserPassword{
					Generate: &v1alpha1.GeneratePassword{RotateAfter: &metav1.Duration{Duration: 2 * time.Hour}}, SCRAM: new(false),
				}},
			}},
			want: v1alpha1.ResolvedUser{
				Broker: "mq", BrokerNamespace: "b", Authentication: "password",
				Password: v1alpha1.ResolvedPassword{Generate: true, RotateAfter: 2 * time.Hour, Overlap: time.Hour},
			},
		},
		"no overlap": {
			reason: "zero is not absent",
			user: v1alpha1.MQTTUser{Spec: v1alpha1.MQTTUserSpec{Authentication: v1alpha1.UserAuthentication{Password: &v1alpha1.UserPassword{
				Generate: &v1alpha1.GeneratePassword{Overlap: &metav1.Duration{}},
			}}}},
			want: v1alpha1.ResolvedUser{Authentication: "password", Password: v1alpha1.ResolvedPassword{Generate: true}},
		},
		"a hash": {
			reason: "the key has a default",
			user: v1alpha1.MQTTUser{Spec: v1alpha1.MQTTUserSpec{Authentication: v1alpha1.UserAuthentication{Password: &v1alpha1.UserPassword{
				HashSecretRef: &v1alpha1.SecretKeyReference{Name: "h"},
			}}}},
			want: v1alpha1.ResolvedUser{Authentication: "password", Password: v1alpha1.ResolvedPassword{HashSecret: "h", HashKey: "hash"}},
		},
		"a chosen password": {
			reason: "the key has a default, and so have QoS and retain",
			user: v1alpha1.MQTTUser{ObjectMeta: metav1.ObjectMeta{Name: "sensor"}, Spec: v1alpha1.MQTTUserSpec{
				Username:       new("Sensor 7"),
				Authentication: v1alpha1.UserAuthentication{Password: &v1alpha1.UserPassword{SecretRef: &v1alpha1.SecretKeyReference{Name: "s"}}},
				ACL:            []v1alpha1.ACLRule{{Effect: "deny", Actions: []v1alpha1.ACLAction{"subscribe", "publish"}, Filter: "#"}},
				Binding:        &v1alpha1.UserBinding{Listener: new("mqtts")},
			}},
			want: v1alpha1.ResolvedUser{
				Username: "Sensor 7", Authentication: "password", Password: v1alpha1.ResolvedPassword{Secret: "s", Key: "password"}, BindingListener: "mqtts",
				Rules: []v1alpha1.ResolvedRule{{Effect: "deny", Publish: true, Subscribe: true, Filter: "#", MaxQoS: 2, Retain: true}},
			},
		},
		"a certificate": {
			reason: "the way in is said in status",
			user:   v1alpha1.MQTTUser{Spec: v1alpha1.MQTTUserSpec{Authentication: v1alpha1.UserAuthentication{Certificate: &v1alpha1.UserCertificate{}}}},
			want: v1alpha1.ResolvedUser{
				Authentication: "certificate", Certificate: v1alpha1.ResolvedCertificate{Issue: true, Validity: 2160 * time.Hour, RenewBefore: 720 * time.Hour},
			},
		},
		"a ServiceAccount": {
			reason: "it is one of the user's own namespace",
			user: v1alpha1.MQTTUser{ObjectMeta: metav1.ObjectMeta{Namespace: "a"}, Spec: v1alpha1.MQTTUserSpec{
				Authentication: v1alpha1.UserAuthentication{ServiceAccount: &v1alpha1.UserServiceAccount{Name: "app"}},
			}},
			want: v1alpha1.ResolvedUser{BrokerNamespace: "a", Authentication: "serviceAccount", ServiceAccount: "a/app"},
		},
		"a token": {
			reason: "no issuer stands for any",
			user:   v1alpha1.MQTTUser{Spec: v1alpha1.MQTTUserSpec{Authentication: v1alpha1.UserAuthentication{JWT: &v1alpha1.UserJWT{}}}},
			want:   v1alpha1.ResolvedUser{Authentication: "jwt"},
		},
		"bounds": {
			reason: "what is said reaches the broker",
			user: v1alpha1.MQTTUser{Spec: v1alpha1.MQTTUserSpec{
				Authentication: v1alpha1.UserAuthentication{JWT: &v1alpha1.UserJWT{Issuer: new("i")}},
				ClientIDs:      &v1alpha1.UserClientIDs{Exact: []string{"a"}},
				PolicyRefs:     []v1alpha1.PolicyReference{{Name: "p"}, {Name: "q"}},
				Quota: &v1alpha1.UserQuota{
					Connections: new(int32(1)), PublishRate: new(int32(2)), BytesRate: new(resource.MustParse("1Ki")),
					QueuedMessages: new(int32(3)), SessionExpiry: &metav1.Duration{},
				},
				Suspend: new(true),
			}},
			want: v1alpha1.ResolvedUser{
				Authentication: "jwt", Issuer: "i", ClientIDs: v1alpha1.ResolvedClientIDs{Exact: []string{"a"}}, Policies: []string{"p", "q"},
				Quota:     v1alpha1.ResolvedQuota{Connections: 1, PublishRate: 2, BytesRate: 1024, QueuedMessages: 3, SessionExpiry: new(time.Duration(0))},
				Suspended: true,
			},
		},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			if got := c.user.Resolved(); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s:\n got %+v\nwant %+v", c.reason, got, c.want)
			}
		})
	}
}

func TestResolvedBridge(t *testing.T) {
	t.Parallel()

	bridge := v1alpha1.MQTTBridge{ObjectMeta: metav1.ObjectMeta{Namespace: "plant", Name: "cloud"}, Spec: v1alpha1.MQTTBridgeSpec{
		BrokerRef: v1alpha1.BrokerReference{Name: "mq"},
		Remote:    v1alpha1.BridgeRemote{Endpoints: []string{"mqtts://example.com"}},
		Routes:    []v1alpha1.BridgeRoute{{Name: "all", Direction: "out", Filter: "#"}},
	}}
	defaults := (&v1alpha1.MQTTBroker{}).Resolved()
	want := v1alpha1.ResolvedBridge{
		Broker: v1alpha1.BrokerReference{Name: "mq"}, Endpoints: []string{"mqtts://example.com"}, Protocol: "v5", ClientIDPrefix: "plant.cloud",
		KeepAlive: 30 * time.Second, Inflight: 1000, SessionExpiry: 168 * time.Hour, Replicas: 1, Logging: defaults.Logging, Pod: defaults.Pod,
		Network: defaults.Network,
		Routes:  []v1alpha1.ResolvedRoute{{Name: "all", Direction: "out", Filter: "#", MaxQoS: 1, Retain: true}},
	}

	if got := bridge.Resolved(); !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}

	bridge.Spec.Remote.TLS = &v1alpha1.BridgeTLS{
		CASecretRef: &v1alpha1.SecretKeyReference{Name: "trust"}, CertificateSecretRef: &v1alpha1.SecretReference{Name: "pair"},
	}
	bridge.Spec.Remote.CredentialsSecretRef = &v1alpha1.SecretReference{Name: "pair"}

	long := bridge
	long.Namespace, long.Name = strings.Repeat("n", 63), strings.Repeat("r", 51)+"a"
	other := bridge
	other.Namespace, other.Name = strings.Repeat("n", 63), strings.Repeat("r", 51)+"b"

	if a, b := long.Resolved().ClientIDPrefix, other.Resolved().ClientIDPrefix; len(a) != 64 || a == b {
		t.Errorf("two long names get the prefixes %s and %s", a, b)
	}

	if got := bridge.Resolved(); got.CA.Key != "ca.crt" || !reflect.DeepEqual(got.ReferencedSecrets(), []string{"pair", "trust"}) {
		t.Errorf("CA %+v, Secrets %v", got.CA, got.ReferencedSecrets())
	}
}

func TestAllowedNamespaces(t *testing.T) {
	t.Parallel()

	cases := map[string]struct {
		reason    string
		allowed   *v1alpha1.AllowedNamespaces
		namespace string
		labels    map[string]string
		want      bool
	}{
		"its own, always":          {reason: "nothing can lock a broker's own users out", namespace: "factory", want: true},
		"another, unasked":         {reason: "a broker serves strangers only where it says so", namespace: "lab"},
		"Same":                     {reason: "Same is the default", allowed: &v1alpha1.AllowedNamespaces{From: new(v1alpha1.NamespacesSame)}, namespace: "lab"},
		"All":                      {reason: "All needs no labels", allowed: &v1alpha1.AllowedNamespaces{From: new(v1alpha1.NamespacesAll)}, namespace: "lab", want: true},
		"a selector that matches":  {reason: "labels of the namespace decide", allowed: selecting("team", "a"), namespace: "lab", labels: map[string]string{"team": "a"}, want: true},
		"a selector that does not": {reason: "labels of the namespace decide", allowed: selecting("team", "a"), namespace: "lab", labels: map[string]string{"team": "b"}},
		"a selector, no labels":    {reason: "a namespace that cannot be read is not let in", allowed: selecting("team", "a"), namespace: "lab"},
		"a selector that is none": {
			reason: "what nobody understands lets nobody in", namespace: "lab",
			allowed: &v1alpha1.AllowedNamespaces{From: new(v1alpha1.NamespacesSelector), Selector: &metav1.LabelSelector{
				MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Bogus"}},
			}},
		},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			b := &v1alpha1.MQTTBroker{ObjectMeta: metav1.ObjectMeta{Namespace: "factory"}, Spec: v1alpha1.MQTTBrokerSpec{AllowedNamespaces: c.allowed}}
			if got := b.Allows(c.namespace, c.labels); got != c.want {
				t.Errorf("got %v: %s", got, c.reason)
			}
		})
	}
}

func selecting(key, value string) *v1alpha1.AllowedNamespaces {
	return &v1alpha1.AllowedNamespaces{From: new(v1alpha1.NamespacesSelector), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}}
}
