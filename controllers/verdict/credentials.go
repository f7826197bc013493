// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// Keys of a verifier Secret.
const (
	// VerifierKey holds the hash of the password.
	VerifierKey = "verifier"
	// SCRAMKey holds the verifier of the same password for SCRAM-SHA-256.
	SCRAMKey = "scram"
	// PinKey holds the SHA-256 sum of the client certificate that was issued, in hexadecimal.
	PinKey = "pin"
	// OldPrefix begins the keys of what works beside the three above until [OldUntilAnnotation].
	OldPrefix = "old-"
	// CertificateKey, with the value [AnyCertificate], lets any trusted certificate in that carries the username.
	CertificateKey = "certificate"
	AnyCertificate = "any"
	// IssuerKey holds the issuer whose tokens may carry the username, or [contract.AnyIssuer].
	IssuerKey = "issuer"
	// ServiceAccountKey holds namespace/name of the ServiceAccount whose tokens are the user's.
	ServiceAccountKey = "serviceAccount"
)

// Annotations of a verifier Secret: where the credentials are in their life. Times are RFC 3339.
const (
	// SourceAnnotation names the version of the password's Secret that the hash was made from, so that an unchanged
	// password is not hashed again.
	SourceAnnotation = "mqtt-operator.io/source"
	// RotatedAtAnnotation is when the password was drawn or the certificate issued.
	RotatedAtAnnotation = "mqtt-operator.io/rotated-at"
	// OldUntilAnnotation is when what came before stops working.
	OldUntilAnnotation = "mqtt-operator.io/old-valid-until"
	// RotateAnnotation repeats the value of the user's [v1alpha1.AnnotationRotate] that was acted on.
	RotateAnnotation = v1alpha1.AnnotationRotate
)

// Proof is what a client is held against. It holds hashes and sums, neither a password nor a key.
type Proof struct{ Password, SCRAM, Pin string }

// Credentials are the content of a user's verifier Secret, the only word of how a user is recognised: what a spec says
// counts once its reconciler has written it there.
type Credentials struct {
	Proof
	// Old works beside Proof until OldUntil.
	Old      Proof
	OldUntil time.Time
	// AnyCertificate lets in any trusted certificate that carries the username.
	AnyCertificate bool
	// Issuer of tokens that carry the username; [contract.AnyIssuer] for any.
	Issuer string
	// ServiceAccount is namespace/name.
	ServiceAccount string

	// RotatedAt is when Proof was made; zero where nobody knows.
	RotatedAt time.Time
	// Rotate is the value of the user's annotation that was acted on.
	Rotate string
	// Source is the version of the Secret that the password came from.
	Source string
}

// String hides what it holds.
func (Credentials) String() string { return "verdict.Credentials{hidden}" }

// GoString hides it from %#v.
func (c Credentials) GoString() string { return c.String() }

// CredentialsIn reads a verifier Secret, which may be nil.
func CredentialsIn(secret *corev1.Secret) Credentials {
	if secret == nil {
		return Credentials{}
	}
	text := func(key string) string { return string(secret.Data[key]) }
	return Credentials{
		Proof:          Proof{Password: text(VerifierKey), SCRAM: text(SCRAMKey), Pin: text(PinKey)},
		Old:            Proof{Password: text(OldPrefix + VerifierKey), SCRAM: text(OldPrefix + SCRAMKey), Pin: text(OldPrefix + PinKey)},
		OldUntil:       timeOf(secret.Annotations[OldUntilAnnotation]),
		AnyCertificate: text(CertificateKey) == AnyCertificate,
		Issuer:         text(IssuerKey),
		ServiceAccount: text(ServiceAccountKey),
		RotatedAt:      timeOf(secret.Annotations[RotatedAtAnnotation]),
		Rotate:         secret.Annotations[RotateAnnotation],
		Source:         secret.Annotations[SourceAnnotation],
	}
}

// timeOf is zero for a text that is no time: what is not known to last has ended.
func timeOf(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

// Data is what [CredentialsIn] reads.
func (c Credentials) Data() (data map[string][]byte, annotations map[string]string) {
	data, annotations = map[string][]byte{}, map[string]string{}
	for key, value := range map[string]string{
		VerifierKey: c.Password, SCRAMKey: c.SCRAM, PinKey: c.Pin,
		OldPrefix + VerifierKey: c.Old.Password, OldPrefix + SCRAMKey: c.Old.SCRAM, OldPrefix + PinKey: c.Old.Pin,
		IssuerKey: c.Issuer, ServiceAccountKey: c.ServiceAccount,
	} {
		if value != "" {
			data[key] = []byte(value)
		}
	}
	if c.AnyCertificate {
		data[CertificateKey] = []byte(AnyCertificate)
	}
	for key, value := range map[string]string{SourceAnnotation: c.Source, RotateAnnotation: c.Rotate} {
		if value != "" {
			annotations[key] = value
		}
	}
	for key, value := range map[string]time.Time{RotatedAtAnnotation: c.RotatedAt, OldUntilAnnotation: c.OldUntil} {
		if !value.IsZero() {
			annotations[key] = value.UTC().Format(time.RFC3339)
		}
	}
	return data, annotations
}

// At is c without what has stopped working.
func (c Credentials) At(now time.Time) Credentials {
	if c.Old == (Proof{}) || !now.Before(c.OldUntil) {
		c.Old, c.OldUntil = Proof{}, time.Time{}
	}
	return c
}

// Replaced is c at now with room for another proof. What was current works on for overlap; what was old before it ends.
func (c Credentials) Replaced(overlap time.Duration, now time.Time) Credentials {
	c.Old, c.OldUntil = Proof{}, time.Time{}
	if overlap > 0 && c.Proof != (Proof{}) {
		c.Old, c.OldUntil = c.Proof, now.Add(overlap)
	}
	c.Proof, c.RotatedAt = Proof{}, now
	return c
}

// admit writes into entry how the user is recognised at now.
func (c Credentials) admit(entry *contract.User, now time.Time) {
	c = c.At(now)
	for _, verifier := range []string{c.Password, c.SCRAM, c.Old.Password, c.Old.SCRAM} {
		if verifier != "" {
			entry.Verifiers = append(entry.Verifiers, verifier)
		}
	}
	// Without a pin any certificate of the name would open, which only AnyCertificate may say.
	for _, pin := range []string{c.Pin, c.Old.Pin} {
		if pin != "" {
			if entry.Certificate == nil {
				entry.Certificate = &contract.CertificateLogin{}
			}
			entry.Certificate.Pins = append(entry.Certificate.Pins, pin)
		}
	}
	if c.AnyCertificate {
		entry.Certificate = &contract.CertificateLogin{}
	}
	entry.JWT, entry.ServiceAccount = c.Issuer, c.ServiceAccount
}

// opens reports whether there is any way in.
func opens(entry *contract.User) bool {
	return len(entry.Verifiers) > 0 || entry.Certificate != nil || entry.JWT != "" || entry.ServiceAccount != ""
}
