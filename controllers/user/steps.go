// SPDX-License-Identifier: Apache-2.0

package mqttuser

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

const (
	// generatedBytes is the entropy of a generated password: at 256 bits a salted SHA-256 is as good as argon2id.
	generatedBytes = 32
	// maxPasswordBytes is what one field of a CONNECT can carry [MQTT-1.5.6].
	maxPasswordBytes = 65535
)

// judge is pure. Its first answer ends the walk; what was written before stays.
func judge(_ context.Context, p *pass) error {
	if p.broker == nil {
		return stalled(v1alpha1.ReasonBrokerNotFound, "There is no MQTTBroker %s in namespace %s: create it, or delete this user and name another one.", p.spec.Broker, p.user.Namespace)
	}
	if winner := verdict.Winners(p.namesakes)[p.spec.Username]; winner != nil && winner.UID != p.user.UID {
		return stalled(v1alpha1.ReasonUsernameConflict, "The username %q belongs to the older MQTTUser %s: delete one of the two, or create this one again with another spec.username.", p.spec.Username, winner.Name)
	}
	if problem := verdict.EntryProblem(verdict.Entry(p.user, nil)); problem != nil {
		return &verdict.Stalled{Finding: *problem}
	}
	if p.spec.Authentication != v1alpha1.AuthenticationPassword || (!p.spec.Generate && p.spec.PasswordSecret == "") {
		return stalled(v1alpha1.ReasonSpecInvalid, "This way of authentication is not alive in this version: use spec.authentication.password with secretRef or generate.")
	}
	if !p.spec.Generate {
		if problem := passwordProblem(p); problem != nil {
			return &verdict.Stalled{Finding: *problem}
		}
	}
	listener, found := p.broker.Resolved().BindingListener(p.spec.BindingListener)
	if !found {
		return stalled(v1alpha1.ReasonListenerUnknown, "Broker %s has no listener %q: name one of its listeners in spec.binding.listener, or remove the field.", p.spec.Broker, p.spec.BindingListener)
	}
	p.listener = listener
	return nil
}

// passwordProblem says what is wrong with the password that a person wrote, without repeating any of it.
func passwordProblem(p *pass) *verdict.Finding {
	name, key := p.spec.PasswordSecret, p.spec.PasswordKey
	if p.password == nil {
		return verdict.NotUsable(v1alpha1.ReasonSecretNotUsable, p.user.Namespace, name)
	}
	password, found := p.password.Data[key]
	var problem string
	switch {
	case !found:
		return &verdict.Finding{Reason: v1alpha1.ReasonSecretKeyMissing, Message: fmt.Sprintf("Secret %s has no key %q: add it, or name another one in spec.authentication.password.secretRef.key.", name, key)}
	case len(password) == 0:
		problem = "is empty: write a password into it"
	case len(password) > maxPasswordBytes:
		problem = "holds more than 65535 bytes, which no MQTT client can send: write a shorter one"
	case bytes.HasSuffix(password, []byte("\n")):
		problem = "ends with a line break, which no client would send: write it again without one, for instance with kubectl create secret --from-literal"
	default:
		return nil
	}
	return &verdict.Finding{Reason: v1alpha1.ReasonPasswordInvalid, Message: fmt.Sprintf("The key %q of Secret %s %s.", key, name, problem)}
}

// issue keeps the password and the hash that are current and draws what is missing.
func issue(_ context.Context, p *pass) error {
	var (
		password []byte
		source   string
		err      error
	)
	if p.spec.Generate {
		password, p.verifierText, err = generated(p)
	} else {
		password = p.password.Data[p.spec.PasswordKey]
		source = string(p.password.UID) + "/" + p.password.ResourceVersion + "/" + p.spec.PasswordKey
		p.verifierText, err = chosen(p, password, source)
	}
	if err != nil {
		return err
	}
	p.objects = []client.Object{
		desired.Verifier(p.user, p.verifierText, source),
		desired.Binding(p.user, p.listener, password, p.ca),
	}
	return nil
}

// generated is the password that was drawn for the user, with its hash.
func generated(p *pass) (password []byte, verifier string, err error) {
	if held := p.heldVerifier(); belongTogether(p.binding, held) {
		return p.binding.Data[v1alpha1.BindingPassword], held, nil
	}
	// Either Secret is missing, was edited, or holds a password that a person chose: draw another.
	random := make([]byte, generatedBytes)
	_, _ = rand.Read(random) // never fails
	password = []byte(base64.RawURLEncoding.EncodeToString(random))
	verifier, err = auth.NewSHA256(password, nil)
	return password, verifier, err
}

// belongTogether reports whether verifier is the hash of the drawn password that binding holds.
func belongTogether(binding *corev1.Secret, verifier string) bool {
	held, err := auth.Parse(verifier)
	return binding != nil && err == nil && !held.Slow() && held.Verify(binding.Data[v1alpha1.BindingPassword])
}

// chosen is the hash of a password that a person chose. Hashing costs some 20 ms and 19 MiB, so it is done only when
// the Secret is another one than last time, and then the salt is kept if the password is still the same.
func chosen(p *pass, password []byte, source string) (string, error) {
	text := p.heldVerifier()
	if held, err := auth.Parse(text); err == nil && held.Slow() {
		if p.verifier != nil && p.verifier.Annotations[desired.SourceAnnotation] == source || held.Verify(password) {
			return text, nil
		}
	}
	return auth.NewArgon2id(password, nil)
}

// heldVerifier is the hash that stands in the user's Secret, or, where that was deleted by hand, the one that the
// broker knows: with another one, every connection of the user would end.
func (p *pass) heldVerifier() string {
	if p.verifier != nil {
		return string(p.verifier.Data[verdict.VerifierKey])
	}
	if p.user.Status.Binding == nil {
		return "" // never had one: what the broker knows is of an earlier user of this name
	}
	files := contract.Bundle{}
	for _, shard := range p.shards {
		maps.Copy(files, shard.Data)
	}
	if known := contract.VerifiersIn(files, p.spec.Username); len(known) > 0 {
		return known[0]
	}
	return ""
}

func stalled(reason v1alpha1.ConditionReason, format string, args ...any) error {
	return &verdict.Stalled{Finding: verdict.Finding{Reason: reason, Message: fmt.Sprintf(format, args...)}}
}
