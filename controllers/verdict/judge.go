// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"crypto/x509"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
)

// Judgement is what the facts amount to.
type Judgement struct {
	// Listeners, one for each of the spec, in its order.
	Listeners []Listener
	// Accepted are the users that the broker shall know, by name.
	Accepted []contract.User
	// Tokens says whose tokens the broker shall believe.
	Tokens Tokens
	// Policies are the rules that these share, by the names that they give.
	Policies map[string][]acl.Rule
	// Rejected counts users that lost their name to an older one, whose entry no broker would take, that name a policy
	// which does not exist, or whose namespace the broker does not allow.
	Rejected int
}

// Listener is what became of one listener.
type Listener struct {
	Spec v1alpha1.ResolvedListener
	// Pair is what it shall serve with, nil for a listener without TLS or one that has nothing to serve with.
	Pair *contract.KeyPair
	// Leaf of Pair.
	Leaf *x509.Certificate
	// Fault says why Pair is not the one that the spec asks for.
	Fault *Finding
	// Trust is what client certificates are checked against, nil where none are asked for.
	Trust *contract.Trust
	// TrustFault says why Trust is not what the spec asks for.
	TrustFault *Finding
	// ListsEnd is when the first of the revocation lists in Trust is out of date; zero where there is none.
	ListsEnd time.Time
}

// Problem is what to tell about the listener, nil where all is well.
func (l *Listener) Problem() *Finding {
	if l.Fault != nil {
		return l.Fault
	}
	return l.TrustFault
}

// CanServe reports whether the listener can be opened.
func (l *Listener) CanServe() bool { return !l.Spec.Encrypted() || l.Pair != nil }

// Judge asks every question about a broker.
func Judge(f *Facts, m *Material) *Judgement {
	j := &Judgement{Tokens: judgeTokens(f)}
	prior, priorTrust := priorPairs(f), priorTrust(f)
	for _, spec := range f.Spec.Listeners {
		l := judgeListener(f, m, prior, spec)
		judgeTrust(f, m, priorTrust, &l)
		j.Listeners = append(j.Listeners, l)
	}
	j.judgeUsers(f)
	return j
}

// Rules are the rules of the API in the words of package acl.
func Rules(rules []v1alpha1.ResolvedRule) []acl.Rule {
	result := make([]acl.Rule, 0, len(rules))
	for _, wish := range rules {
		rule := acl.Rule{Effect: acl.Effect(wish.Effect), Filter: wish.Filter}
		if wish.Publish {
			rule.Actions = append(rule.Actions, acl.Publish)
		}
		if wish.Subscribe {
			rule.Actions = append(rule.Actions, acl.Subscribe)
		}
		if wish.MaxQoS != v1alpha1.DefaultRuleMaxQoS {
			rule.MaxQoS = new(byte(wish.MaxQoS)) //nolint:gosec // The schema keeps it within 0 to 2.
		}
		if wish.Retain != v1alpha1.DefaultRuleRetain {
			rule.Retain = new(wish.Retain)
		}
		result = append(result, rule)
	}
	return result
}

// priorPairs are the key pairs that the configuration of now holds.
func priorPairs(f *Facts) map[string]contract.KeyPair {
	pairs, err := contract.ParsePairs(f.Bundle()[contract.TLSFile])
	if err != nil {
		return nil
	}
	return pairs
}

func judgeListener(f *Facts, m *Material, prior map[string]contract.KeyPair, spec v1alpha1.ResolvedListener) Listener {
	l := Listener{Spec: spec}
	if !spec.Encrypted() {
		return l
	}
	pair := m.Server
	if !spec.TLS.SelfManaged() {
		pair, l.Fault = referencedPair(f, spec)
	}
	if l.Fault == nil {
		l.Leaf, l.Fault = checkPair(f, spec, pair)
	}
	if l.Fault == nil {
		l.Pair = &contract.KeyPair{Certificate: string(pair.Certificate), PrivateKey: string(pair.Key)}
		if spec.TLS.Issuer != nil && f.NoCertManager {
			l.Fault = certManagerMissing()
			l.Fault.Message += " Until then nobody renews the certificate that is there."
		}
		return l
	}
	if before, found := prior[spec.Name]; found {
		l.Pair = &before
		l.Leaf, _ = pki.Check(pki.Pair{Certificate: []byte(before.Certificate), Key: []byte(before.PrivateKey)}, f.Now)
		l.Fault.Message += " Until then the listener goes on with the certificate it had."
	} else {
		l.Fault.Message += " Until then the listener is closed."
	}
	return l
}

func referencedPair(f *Facts, spec v1alpha1.ResolvedListener) (pki.Pair, *Finding) {
	name := spec.TLS.SecretName
	secret := f.Referenced[name]
	switch {
	case secret != nil:
	case spec.TLS.Issuer == nil:
		return pki.Pair{}, NotUsable(v1alpha1.ReasonTLSSecretNotUsable, f.Broker.Namespace, name)
	case f.NoCertManager:
		return pki.Pair{}, certManagerMissing()
	default:
		return pki.Pair{}, find(v1alpha1.ReasonCertificatePending, "cert-manager has not delivered the certificate yet; kubectl -n %s describe certificate %s tells what it waits for.",
			f.Broker.Namespace, name)
	}
	for _, key := range []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey} {
		if len(secret.Data[key]) == 0 {
			return pki.Pair{}, find(v1alpha1.ReasonSecretKeyMissing, "Secret %s has no key %s: add it.", name, key)
		}
	}
	return pki.Pair{Certificate: secret.Data[corev1.TLSCertKey], Key: secret.Data[corev1.TLSPrivateKeyKey]}, nil
}

func certManagerMissing() *Finding {
	return find(v1alpha1.ReasonCertManagerMissing, "The cluster has no cert-manager (no kind Certificate of cert-manager.io/v1): install it, or use selfManaged or secretRef in place of issuerRef.")
}

// NotUsable is the one answer for a Secret that is not there and for one that is not labelled, so that nobody learns
// which Secrets exist by writing references to them.
func NotUsable(reason v1alpha1.ConditionReason, namespace, name string) *Finding {
	return find(reason, "Secret %s does not exist, or lacks the label that lets the operator read it: create it, or label it "+
		"(kubectl -n %s label secret %s %s=%s).", name, namespace, name, v1alpha1.LabelAllow, v1alpha1.AllowReference)
}

func checkPair(f *Facts, spec v1alpha1.ResolvedListener, pair pki.Pair) (*x509.Certificate, *Finding) {
	leaf, err := pki.Check(pair, f.Now)
	where := "The certificate of listener " + spec.Name
	if !spec.TLS.SelfManaged() {
		where = "Secret " + spec.TLS.SecretName
	}
	switch {
	case err == nil:
		return leaf, nil
	case errors.Is(err, pki.ErrMismatch):
		return nil, find(v1alpha1.ReasonKeyPairMismatch, "%s: %v: put the two that belong together into %s and %s.", where, err, corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
	case errors.Is(err, pki.ErrExpired):
		return leaf, find(v1alpha1.ReasonCertificateExpired, "%s: %v: renew it.", where, err)
	case errors.Is(err, pki.ErrNotYetValid):
		return leaf, find(v1alpha1.ReasonCertificateExpired, "%s: %v: wait until then, or use another one.", where, err)
	default:
		return nil, find(v1alpha1.ReasonCertificateInvalid, "%s: %v: put a PEM certificate into %s and its PEM key into %s.", where, err, corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
	}
}
