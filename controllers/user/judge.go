// SPDX-License-Identifier: Apache-2.0

package mqttuser

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

const (
	// maxPasswordBytes is what one field of a CONNECT can carry [MQTT-1.5.6].
	maxPasswordBytes = 65535
	// clientCARecheck is when a CA that is not there yet is looked for again; its coming wakes the user earlier.
	clientCARecheck = 30 * time.Second
)

// judge is pure. Its first answer ends the walk; what was written before stays.
func judge(_ context.Context, p *pass) error {
	if p.broker == nil {
		return p.noBroker()
	}
	if winner := verdict.Winners(p.namesakes)[p.spec.Username]; winner != nil && winner.UID != p.user.UID {
		p.hasLost = true
		return stalled(v1alpha1.ReasonUsernameConflict, "The username %q belongs to %s: delete one of the two, or create this one again with another spec.username.", p.spec.Username, p.nameOf(winner))
	}
	if problem := verdict.EntryProblem(verdict.Entry(p.user, verdict.Credentials{}, nil, p.now)); problem != nil {
		return &verdict.Stalled{Finding: *problem}
	}
	if err := p.judgeMethod(); err != nil {
		return err
	}
	listener, found := p.user.Listener(p.broker)
	if !found {
		return stalled(v1alpha1.ReasonListenerUnknown, "Broker %s has no listener %q: name one of its listeners in spec.binding.listener, or remove the field.", p.spec.Broker, p.spec.BindingListener)
	}
	if p.spec.Authentication == v1alpha1.AuthenticationCertificate && !p.broker.AsksForCertificates(listener.Name) {
		return stalled(v1alpha1.ReasonClientAuthMissing, "Listener %s of broker %s asks clients for no certificate: set its tls.clientAuth to optional or required, or name another listener in spec.binding.listener.", listener.Name, p.spec.Broker)
	}
	p.listener = listener
	return nil
}

// noBroker says the same of a broker that does not exist and of one that does not allow the user's namespace, so that
// nobody learns by writing users which brokers other namespaces have.
func (p *pass) noBroker() error {
	switch {
	case p.spec.BrokerNamespace == p.user.Namespace:
		return stalled(v1alpha1.ReasonBrokerNotFound, "There is no MQTTBroker %s in namespace %s: create it, or delete this user and name another one.", p.spec.Broker, p.user.Namespace)
	case p.isOutside:
		p.hasLost = true
		return stalled(v1alpha1.ReasonBrokerNotFound, "This operator does not look after namespace %s, so it sees no broker there: widen its scope, or delete this user and name a broker of another namespace.", p.spec.BrokerNamespace)
	default:
		p.hasLost = true
		return stalled(v1alpha1.ReasonBrokerNotFound, "There is no MQTTBroker %s in namespace %s that takes users of namespace %s: its owner has to create it and to allow this namespace in spec.allowedNamespaces; "+
			"or delete this user and name another one.", p.spec.Broker, p.spec.BrokerNamespace, p.user.Namespace)
	}
}

// nameOf tells no more of another namespace than that it has the name.
func (p *pass) nameOf(winner *v1alpha1.MQTTUser) string {
	if winner.Namespace == p.user.Namespace {
		return "the older MQTTUser " + winner.Name
	}
	return "an older MQTTUser of another namespace"
}

// judgeMethod asks what the way of proving the identity needs.
func (p *pass) judgeMethod() error {
	switch p.spec.Authentication {
	case v1alpha1.AuthenticationPassword:
		if problem := p.passwordProblem(); problem != nil {
			return &verdict.Stalled{Finding: *problem}
		}
	case v1alpha1.AuthenticationCertificate:
		return p.judgeCertificate()
	case v1alpha1.AuthenticationJWT:
		if !p.broker.TakesIssuer(p.spec.Issuer) {
			return stalled(v1alpha1.ReasonIssuerUnknown, "Broker %s takes no tokens%s: add the issuer to its spec.authentication.jwt, or name another in spec.authentication.jwt.issuer.", p.spec.Broker, of(p.spec.Issuer))
		}
	case v1alpha1.AuthenticationServiceAccount:
		if !p.broker.TakesServiceAccounts() {
			return stalled(v1alpha1.ReasonServiceAccountsNotTaken, "Broker %s takes no tokens of ServiceAccounts: set its spec.authentication.serviceAccounts.", p.spec.Broker)
		}
	}
	return nil
}

func of(issuer string) string {
	if issuer == "" {
		return ""
	}
	return " of issuer " + issuer
}

func (p *pass) judgeCertificate() error {
	asks, bySAN := false, true
	for i := range p.broker.Spec.Listeners {
		l := &p.broker.Spec.Listeners[i]
		if p.broker.AsksForCertificates(l.Name) {
			asks = true
			bySAN = bySAN && l.TLS.UsernameFrom != nil && *l.TLS.UsernameFrom == v1alpha1.UsernameFromSAN
		}
	}
	switch {
	case !asks:
		return stalled(v1alpha1.ReasonClientAuthMissing, "No listener of broker %s asks clients for a certificate: set spec.listeners[].tls.clientAuth to optional or required on one that has TLS.", p.spec.Broker)
	case p.spec.Certificate.Issue && bySAN && !pki.FitsSAN(p.spec.Username):
		return stalled(v1alpha1.ReasonSpecInvalid, "The username %q cannot stand in a certificate as a DNS name, and broker %s looks nowhere else: set usernameFrom to cn on one of its listeners, or create the user with another spec.username.", p.spec.Username, p.spec.Broker)
	case p.spec.Certificate.Issue && p.clientCA == nil:
		return &verdict.Waiting{
			Finding: verdict.Finding{Reason: v1alpha1.ReasonClientCAPending, Message: fmt.Sprintf("Broker %s has no CA for client certificates yet; it is made when the broker is looked after next.", p.spec.Broker)},
			For:     clientCARecheck,
		}
	}
	return nil
}

// passwordProblem says what is wrong with the password or hash that a person wrote, without repeating any of it.
func (p *pass) passwordProblem() *verdict.Finding {
	spec := p.spec.Password
	if spec.Generate {
		return nil
	}
	field, name, key := "secretRef", spec.Secret, spec.Key
	if spec.HashSecret != "" {
		field, name, key = "hashSecretRef", spec.HashSecret, spec.HashKey
	}
	if p.referenced == nil {
		return verdict.NotUsable(v1alpha1.ReasonSecretNotUsable, p.user.Namespace, name)
	}
	content, found := p.referenced.Data[key]
	if !found {
		return &verdict.Finding{Reason: v1alpha1.ReasonSecretKeyMissing, Message: fmt.Sprintf("Secret %s has no key %q: add it, or name another one in spec.authentication.password.%s.key.", name, key, field)}
	}
	reason, problem := v1alpha1.ReasonPasswordInvalid, plainProblem(content)
	if spec.HashSecret != "" {
		reason, problem = v1alpha1.ReasonPasswordHashInvalid, hashProblem(content, p.asksForSCRAM())
	}
	if problem == "" {
		return nil
	}
	return &verdict.Finding{Reason: reason, Message: fmt.Sprintf("The key %q of Secret %s %s.", key, name, problem)}
}

// asksForSCRAM reports whether the spec says so itself.
func (p *pass) asksForSCRAM() bool {
	password := p.user.Spec.Authentication.Password
	return password != nil && password.SCRAM != nil && *password.SCRAM
}

func plainProblem(password []byte) string {
	switch {
	case len(password) == 0:
		return "is empty: write a password into it"
	case len(password) > maxPasswordBytes:
		return "holds more than 65535 bytes, which no MQTT client can send: write a shorter one"
	case bytes.HasSuffix(password, []byte("\n")):
		return "ends with a line break, which no client would send: write it again without one, for instance with kubectl create secret --from-literal"
	}
	return ""
}

func hashProblem(hash []byte, wantsSCRAM bool) string {
	text := string(hash)
	_, err := auth.Parse(text)
	switch {
	case len(hash) == 0:
		return "is empty: write a hash into it"
	case strings.HasSuffix(text, "\n"):
		return "ends with a line break, which is no part of a hash: write it again without one, for instance with kubectl create secret --from-literal"
	case wantsSCRAM && !strings.HasPrefix(text, scramPrefix):
		return "holds no SCRAM-SHA-256 verifier, and none can be made from another hash: put one there, or remove spec.authentication.password.scram"
	case strings.HasPrefix(text, drawnPrefix):
		return "holds a fast hash, which only suits passwords that the operator draws: hash it as argon2id or bcrypt"
	case err != nil:
		return "holds no hash that a broker can check (" + err.Error() + "): see the forms in the field's description"
	}
	return ""
}

// bind is the last question: policies that are not there must not keep credentials from being renewed.
func bind(_ context.Context, p *pass) error {
	names, problem := p.policies.Of(p.user)
	if problem != nil {
		return &verdict.Stalled{Finding: *problem}
	}
	p.bound = names
	return nil
}

func stalled(reason v1alpha1.ConditionReason, format string, args ...any) error {
	return &verdict.Stalled{Finding: verdict.Finding{Reason: reason, Message: fmt.Sprintf(format, args...)}}
}

// issuerOf is what the broker's configuration calls the issuer.
func issuerOf(issuer string) string {
	if issuer == "" {
		return contract.AnyIssuer
	}
	return issuer
}
