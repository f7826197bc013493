// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8slabels "k8s.io/apimachinery/pkg/labels"
)

// ResolvedUser is the spec of an MQTTUser with every default filled in. It shares no memory with the object that it
// came from.
//
// +kubebuilder:object:generate=false
type ResolvedUser struct {
	Broker          string
	BrokerNamespace string
	Username        string
	Authentication  AuthenticationMethod
	Password        ResolvedPassword    // of method password
	Certificate     ResolvedCertificate // of method certificate
	Issuer          string              // of method jwt; empty: any of the broker's
	ServiceAccount  string              // of method serviceAccount: namespace/name
	ClientIDs       ResolvedClientIDs
	Rules           []ResolvedRule
	Policies        []string // names in the user's namespace, in order
	Quota           ResolvedQuota
	Suspended       bool
	BindingListener string // empty: see [MQTTUser.Listener]
}

// ResolvedPassword says where a password comes from: it is drawn, or it or its hash is in a Secret.
//
// +kubebuilder:object:generate=false
type ResolvedPassword struct {
	Generate    bool
	RotateAfter time.Duration // 0: never
	Overlap     time.Duration
	Secret, Key string // of the password
	HashSecret  string
	HashKey     string
	SCRAM       bool
}

// ResolvedCertificate says how a client certificate is made or recognised.
//
// +kubebuilder:object:generate=false
type ResolvedCertificate struct {
	Issue                 bool
	Validity, RenewBefore time.Duration
}

// ResolvedClientIDs restricts client identifiers; empty, it does not.
//
// +kubebuilder:object:generate=false
type ResolvedClientIDs struct {
	Exact  []string
	Prefix string
}

// ResolvedQuota bounds what one user may use; 0 is no bound of its own.
//
// +kubebuilder:object:generate=false
type ResolvedQuota struct {
	Connections    int32
	PublishRate    int32
	BytesRate      int64
	QueuedMessages int32
	SessionExpiry  *time.Duration // nil: no bound of its own
}

// Resolved returns the spec with every default filled in.
func (u *MQTTUser) Resolved() ResolvedUser {
	spec := &u.Spec
	resolved := ResolvedUser{
		Broker:          spec.BrokerRef.Name,
		BrokerNamespace: u.BrokerNamespace(),
		Username:        u.Username(),
		Authentication:  spec.Authentication.method(),
		Password:        spec.Authentication.Password.resolved(),
		Certificate:     spec.Authentication.Certificate.resolved(),
		Issuer:          or(or(spec.Authentication.JWT, UserJWT{}).Issuer, ""),
		Rules:           resolvedRules(spec.ACL),
		Quota:           spec.Quota.resolved(),
		Suspended:       or(spec.Suspend, false),
		BindingListener: or(or(spec.Binding, UserBinding{}).Listener, ""),
	}

	if account := spec.Authentication.ServiceAccount; account != nil {
		resolved.ServiceAccount = u.Namespace + "/" + account.Name
	}

	if ids := spec.ClientIDs; ids != nil {
		resolved.ClientIDs = ResolvedClientIDs{Exact: append([]string(nil), ids.Exact...), Prefix: or(ids.Prefix, "")}
	}

	for _, ref := range spec.PolicyRefs {
		resolved.Policies = append(resolved.Policies, ref.Name)
	}

	return resolved
}

func (p *UserPassword) resolved() ResolvedPassword {
	password := or(p, UserPassword{})
	resolved := ResolvedPassword{Generate: password.Generate != nil, SCRAM: or(password.SCRAM, false)}

	if generate := password.Generate; generate != nil {
		resolved.RotateAfter = or(generate.RotateAfter, metav1.Duration{}).Duration
		resolved.Overlap = DefaultOverlap

		if half := resolved.RotateAfter / 2; half > 0 {
			resolved.Overlap = min(resolved.Overlap, half)
		}

		resolved.Overlap = or(generate.Overlap, metav1.Duration{Duration: resolved.Overlap}).Duration
	}

	if ref := password.SecretRef; ref != nil {
		resolved.Secret, resolved.Key = ref.Name, or(ref.Key, DefaultPasswordKey)
	}

	if ref := password.HashSecretRef; ref != nil {
		resolved.HashSecret, resolved.HashKey = ref.Name, or(ref.Key, DefaultPasswordHashKey)
	}

	return resolved
}

func (c *UserCertificate) resolved() ResolvedCertificate {
	if c == nil {
		return ResolvedCertificate{}
	}

	resolved := ResolvedCertificate{
		Issue:    or(c.Issue, true),
		Validity: or(c.Validity, metav1.Duration{Duration: DefaultCertificateValidity}).Duration,
	}
	resolved.RenewBefore = or(c.RenewBefore, metav1.Duration{Duration: resolved.Validity / 3}).Duration

	return resolved
}

func (q *UserQuota) resolved() ResolvedQuota {
	quota := or(q, UserQuota{})
	resolved := ResolvedQuota{
		Connections:    or(quota.Connections, 0),
		PublishRate:    or(quota.PublishRate, 0),
		BytesRate:      bytesOr(quota.BytesRate, 0),
		QueuedMessages: or(quota.QueuedMessages, 0),
	}

	if quota.SessionExpiry != nil {
		resolved.SessionExpiry = new(quota.SessionExpiry.Duration)
	}

	return resolved
}

// Username is the name in CONNECT.
func (u *MQTTUser) Username() string { return or(u.Spec.Username, u.Name) }

// BrokerNamespace is the namespace of the user's broker.
func (u *MQTTUser) BrokerNamespace() string { return or(u.Spec.BrokerRef.Namespace, u.Namespace) }

// BrokerKey is namespace/name of the user's broker.
func (u *MQTTUser) BrokerKey() string { return u.BrokerNamespace() + "/" + u.Spec.BrokerRef.Name }

func (a *UserAuthentication) method() AuthenticationMethod {
	switch {
	case a.Certificate != nil:
		return AuthenticationCertificate
	case a.JWT != nil:
		return AuthenticationJWT
	case a.ServiceAccount != nil:
		return AuthenticationServiceAccount
	default:
		return AuthenticationPassword
	}
}

// Listener is the one that the user's binding points to: the one that is named; for a user with a certificate else the
// first that asks for one; else that of [ResolvedBroker.BindingListener]. It is false where there is none.
func (u *MQTTUser) Listener(b *MQTTBroker) (ResolvedListener, bool) {
	name := or(or(u.Spec.Binding, UserBinding{}).Listener, "")

	if name == "" && u.Spec.Authentication.method() == AuthenticationCertificate {
		for i := range b.Spec.Listeners {
			if l := &b.Spec.Listeners[i]; b.AsksForCertificates(l.Name) {
				return b.Resolved().Listener(l.Name)
			}
		}
	}

	return b.Resolved().BindingListener(name)
}

// AsksForCertificates says whether a listener asks clients for a certificate.
func (b *MQTTBroker) AsksForCertificates(listener string) bool {
	for i := range b.Spec.Listeners {
		if l := &b.Spec.Listeners[i]; l.Name == listener {
			return or(or(l.TLS, ListenerTLS{}).ClientAuth, ClientAuthNone) != ClientAuthNone
		}
	}

	return false
}

// TakesServiceAccounts says whether tokens of ServiceAccounts open the broker.
func (b *MQTTBroker) TakesServiceAccounts() bool {
	return or(b.Spec.Authentication, BrokerAuthentication{}).ServiceAccounts != nil
}

// TakesIssuer says whether tokens of an issuer open the broker; an empty one stands for any.
func (b *MQTTBroker) TakesIssuer(issuer string) bool {
	for i := range or(b.Spec.Authentication, BrokerAuthentication{}).JWT {
		if issuer == "" || b.Spec.Authentication.JWT[i].Issuer == issuer {
			return true
		}
	}

	return false
}

// SelectsNamespaces says whether the broker tells namespaces apart by their labels.
func (b *MQTTBroker) SelectsNamespaces() bool { return b.namespacesFrom() == NamespacesSelector }

// Allows says whether users of a namespace may belong to the broker. It asks for labels only where the broker
// [MQTTBroker.SelectsNamespaces]. A selector that is none allows nobody.
func (b *MQTTBroker) Allows(namespace string, namespaceLabels map[string]string) bool {
	switch from := b.namespacesFrom(); {
	case namespace == b.Namespace || from == NamespacesAll:
		return true
	case from == NamespacesSelector:
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.AllowedNamespaces.Selector)

		return err == nil && selector.Matches(k8slabels.Set(namespaceLabels))
	default:
		return false
	}
}

func (b *MQTTBroker) namespacesFrom() NamespacesFrom {
	return or(or(b.Spec.AllowedNamespaces, AllowedNamespaces{}).From, NamespacesSame)
}
