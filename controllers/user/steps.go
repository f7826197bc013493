// SPDX-License-Identifier: Apache-2.0

package mqttuser

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"maps"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

const (
	// generatedBytes is the entropy of a generated password: at 256 bits a salted SHA-256 is as good as argon2id.
	generatedBytes = 32
	// drawnIterations are the least that RFC 7677 allows: they protect a drawn password no less than many.
	drawnIterations = 4096
	// chosenIterations are what a verifier of a password that a person chose costs to make, and a guess at it to check.
	chosenIterations = 100_000

	scramPrefix  = "$scram-sha-256$"
	drawnPrefix  = "$sha256$"
	chosenPrefix = "$argon2id$"

	// certificateOverlap is how long the certificate before this one opens the broker; never longer than it is valid.
	certificateOverlap = 24 * time.Hour
)

// issue keeps the credentials that are current and draws what is missing or due.
func issue(_ context.Context, p *pass) error {
	content := desired.BindingContent{CA: p.ca}
	var err error
	switch p.spec.Authentication {
	case v1alpha1.AuthenticationCertificate:
		if !p.spec.Certificate.Issue {
			p.credentials = verdict.Credentials{AnyCertificate: true}
			break
		}
		content.Pair, err = p.issuedPair()
	case v1alpha1.AuthenticationJWT:
		p.credentials = verdict.Credentials{Issuer: issuerOf(p.spec.Issuer)}
	case v1alpha1.AuthenticationServiceAccount:
		p.credentials = verdict.Credentials{ServiceAccount: p.spec.ServiceAccount}
	case v1alpha1.AuthenticationPassword:
		switch {
		case p.spec.Password.Generate:
			content.Password, err = p.drawnPassword()
		case p.spec.Password.HashSecret != "":
			p.credentials = verdict.Credentials{Proof: verdict.Proof{Password: string(p.referenced.Data[p.spec.Password.HashKey])}}
		default:
			content.Password = p.referenced.Data[p.spec.Password.Key]
			err = p.hashChosen(content.Password)
		}
	}
	if err != nil {
		return err
	}
	p.objects = []client.Object{
		// In this order: a password or certificate that an application finds must open the broker, and where the second
		// write fails what stands in the binding is still the one before.
		desired.Verifier(p.user, p.credentials),
		desired.Binding(p.user, p.listener, content),
	}
	return nil
}

// drawnPassword is the password that was drawn for the user, or a fresh one where there is none, or it is due.
func (p *pass) drawnPassword() ([]byte, error) {
	var held []byte
	if p.binding != nil {
		held = p.binding.Data[v1alpha1.BindingPassword]
	}
	c, wish := p.held(), p.user.Annotations[v1alpha1.AnnotationRotate]
	password := held
	switch {
	case fits(c.Password, held):
		if c.RotatedAt.IsZero() {
			c.RotatedAt = p.binding.CreationTimestamp.Time
		}
		if age := p.now.Sub(c.RotatedAt); (p.spec.Password.RotateAfter > 0 && age >= p.spec.Password.RotateAfter) || (wish != "" && wish != c.Rotate) {
			password = draw()
			c = c.Replaced(p.spec.Password.Overlap, p.second())
		}
	case fits(c.Old.Password, held):
		// The binding was not written: the password of c.Proof reached nobody, and the one before it is in use.
		password = draw()
		c.Proof = c.Old
		c = c.Replaced(p.spec.Password.Overlap, p.second())
	default:
		// Either Secret is missing, was edited, or holds what a person chose.
		password = draw()
		c = verdict.Credentials{RotatedAt: p.second()}
	}
	c.Rotate, c.Pin, c.Old.Pin = wish, "", ""
	c = onlyProofs(c)
	var err error
	if !fits(c.Password, password) {
		if c.Password, err = auth.NewSHA256(password, nil); err != nil {
			return nil, err
		}
	}
	if c.SCRAM, err = p.scram(c, password, drawnIterations); err != nil {
		return nil, err
	}
	if !p.spec.Password.SCRAM {
		c.Old.SCRAM = ""
	}
	p.credentials = c
	return password, nil
}

// onlyProofs is c without the other ways in.
func onlyProofs(c verdict.Credentials) verdict.Credentials {
	c.AnyCertificate, c.Issuer, c.ServiceAccount, c.Source = false, "", "", ""
	return c
}

func draw() []byte {
	random := make([]byte, generatedBytes)
	_, _ = rand.Read(random) // never fails
	return []byte(base64.RawURLEncoding.EncodeToString(random))
}

// second is now without what a time in an annotation does not say.
func (p *pass) second() time.Time { return p.now.Truncate(time.Second) }

// fits reports whether verifier is the hash of that drawn password.
func fits(verifier string, password []byte) bool {
	held, err := auth.Parse(verifier)
	return err == nil && len(password) > 0 && strings.HasPrefix(verifier, drawnPrefix) && held.Verify(password)
}

// hashChosen is the hash of a password that a person chose. Hashing costs some 20 ms and 19 MiB, so it is done only when
// the Secret is another one than last time, and then the salt is kept if the password is still the same.
func (p *pass) hashChosen(password []byte) (err error) {
	before, source := p.held(), string(p.referenced.UID)+"/"+p.referenced.ResourceVersion+"/"+p.spec.Password.Key
	c := verdict.Credentials{Source: source}
	if held, err := auth.Parse(before.Password); err == nil && strings.HasPrefix(before.Password, chosenPrefix) && (before.Source == source || held.Verify(password)) {
		c.Proof = before.Proof
	}
	c.Pin = ""
	if c.Password == "" {
		if c.Password, err = auth.NewArgon2id(password, nil); err != nil {
			return err
		}
	}
	if c.SCRAM, err = p.scram(c, password, chosenIterations); err != nil {
		return stalled(v1alpha1.ReasonPasswordInvalid, "The key %q of Secret %s cannot be used with SCRAM-SHA-256: %v.", p.spec.Password.Key, p.spec.Password.Secret, err)
	}
	p.credentials = c
	return nil
}

// scram is the verifier for SCRAM-SHA-256 of the same password: the one that is held, else a new one, or nothing where
// none is wanted. A client is told one salt before anybody knows which of two passwords it has, so the new one has the
// salt of the old one (RFC 5802, section 5).
func (p *pass) scram(c verdict.Credentials, password []byte, iterations int) (string, error) {
	if !p.spec.Password.SCRAM {
		return "", nil
	}
	if _, isUsable := scramSalt(c.SCRAM, iterations); isUsable {
		return c.SCRAM, nil
	}
	salt, _ := scramSalt(c.Old.SCRAM, iterations) // nil: a random one
	return auth.NewSCRAM(password, salt, iterations)
}

// scramSalt is the salt of a verifier for SCRAM with that many iterations; false for any other text.
func scramSalt(verifier string, iterations int) ([]byte, bool) {
	rest, found := strings.CutPrefix(verifier, scramPrefix+"i="+strconv.Itoa(iterations)+"$")
	text, _, _ := strings.Cut(rest, "$")
	salt, err := base64.RawStdEncoding.DecodeString(text)
	if !found || err != nil {
		return nil, false
	}
	return salt, true
}

// pair is what stands in the binding.
func (p *pass) pair() pki.Pair {
	if p.binding == nil {
		return pki.Pair{}
	}
	return pki.Pair{Certificate: p.binding.Data[v1alpha1.BindingCert], Key: p.binding.Data[v1alpha1.BindingKey]}
}

// issuedPair is the certificate that was issued to the user, or a fresh one where there is none, or it is due.
func (p *pass) issuedPair() (pki.Pair, error) {
	ca := pki.Pair{Certificate: p.clientCA.Data[desired.CACertKey], Key: p.clientCA.Data[desired.CAKeyKey]}
	pair, c, wish := p.pair(), p.held(), p.user.Annotations[v1alpha1.AnnotationRotate]
	leaf, isGood := pki.IsClientOf(pair, ca, p.spec.Username, p.now)
	pin := pki.Pin(pair)
	overlap := certificateOverlap
	if leaf != nil {
		overlap = min(overlap, leaf.NotAfter.Sub(p.now))
	}
	switch {
	case pin != "" && pin == c.Pin:
		isDue := !isGood || !p.now.Before(p.renewAt(leaf.NotBefore, leaf.NotAfter)) || leaf.NotAfter.After(p.now.Add(p.spec.Certificate.Validity)) ||
			wish != "" && wish != c.Rotate
		if !isDue {
			break
		}
		// Half of a pair that was edited opens nothing, so its pin goes at once.
		if leaf == nil {
			overlap = 0
		}
		pair = pki.Pair{}
		c = c.Replaced(overlap, p.second())
	case pin != "" && pin == c.Old.Pin:
		// The binding was not written: the certificate of c.Pin reached nobody, and the one before it is in use.
		pair, c.Proof = pki.Pair{}, c.Old
		c = c.Replaced(overlap, p.second())
	default:
		pair, c = pki.Pair{}, verdict.Credentials{RotatedAt: p.second()}
	}
	c.Rotate, c.Password, c.SCRAM, c.Old.Password, c.Old.SCRAM = wish, "", "", "", ""
	c = onlyProofs(c)
	if len(pair.Certificate) == 0 {
		var err error
		if pair, err = pki.IssueClient(ca, p.spec.Username, p.spec.Certificate.Validity, p.now); err != nil {
			return pki.Pair{}, err
		}
		c.Pin = pki.Pin(pair)
	}
	p.credentials = c
	leaf, err := pki.Check(pair, p.now)
	if err != nil {
		return pki.Pair{}, err
	}
	p.certificate = &v1alpha1.UserCertificateStatus{
		NotAfter: new(metav1.NewTime(leaf.NotAfter)), NextRenewal: new(metav1.NewTime(p.renewAt(leaf.NotBefore, leaf.NotAfter))),
		OldValidUntil: timeOrNil(c.OldUntil),
	}
	return pair, nil
}

// renewAt is renewBefore its end, but never in the first half of a certificate's life: one that ends early with its CA
// would be renewed for ever.
func (p *pass) renewAt(notBefore, notAfter time.Time) time.Time {
	return notAfter.Add(-min(p.spec.Certificate.RenewBefore, notAfter.Sub(notBefore)/2)).Truncate(time.Second)
}

func timeOrNil(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	return new(metav1.NewTime(t))
}

// held are the credentials that stand in the user's Secret, without what has ended; or, where the Secret was deleted by
// hand, those that the broker knows and that fit the binding: with others, every connection of the user would end.
func (p *pass) held() verdict.Credentials {
	if p.verifier != nil {
		return verdict.CredentialsIn(p.verifier).At(p.now)
	}
	if p.user.Status.Binding == nil {
		return verdict.Credentials{} // never had one: what the broker knows is of an earlier user of this name
	}
	files := contract.Bundle{}
	for _, shard := range p.shards {
		maps.Copy(files, shard.Data)
	}
	prior := verdict.Prior{Bundle: files}
	known := prior.User(p.spec.Username)
	if known == nil {
		return verdict.Credentials{}
	}
	c := verdict.Credentials{Rotate: p.user.Annotations[v1alpha1.AnnotationRotate]}
	if status := p.user.Status.Password; status != nil && status.RotatedAt != nil {
		c.RotatedAt = status.RotatedAt.Time
	}
	for i, verifier := range known.Verifiers {
		drawn := strings.HasPrefix(verifier, drawnPrefix) && p.binding != nil && fits(verifier, p.binding.Data[v1alpha1.BindingPassword])
		if parsed, err := auth.Parse(verifier); drawn || c.Password == "" && err == nil && parsed.Slow() {
			c.Password = verifier
			if next := i + 1; next < len(known.Verifiers) && strings.HasPrefix(known.Verifiers[next], scramPrefix) {
				c.SCRAM = known.Verifiers[next]
			}
		}
	}
	if pin := pki.Pin(p.pair()); known.Certificate != nil {
		for _, other := range known.Certificate.Pins {
			if other == pin {
				c.Pin = pin
			}
		}
	}
	return c
}

// isKnown reports whether every pod of the broker has answered a revision in which it knows the user in this form.
func (p *pass) isKnown() bool {
	if p.broker == nil || len(p.shards) == 0 || p.broker.Status.Revision == nil || p.broker.Status.Revision.Applied == nil {
		return false
	}
	shard := p.shards[contract.Shard(p.spec.Username, len(p.shards))]
	since, err := strconv.ParseInt(shard.Annotations[desired.RevisionAnnotation], 10, 64)
	if err != nil || *p.broker.Status.Revision.Applied < since {
		return false
	}
	return holds(shard, verdict.Entry(p.user, p.credentials, p.bound, p.now))
}

func holds(shard *corev1.Secret, entry *contract.User) bool {
	for _, content := range shard.Data {
		if contract.HoldsUser(content, entry) {
			return true
		}
	}
	return false
}
