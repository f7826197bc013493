// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"crypto/x509"
	"encoding/pem"
	"strings"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// ClientCAName is the common name of a broker's client CAs; those of later generations have a number behind it.
func ClientCAName(namespace, broker string) string { return namespace + "/" + broker + " users" }

// priorTrust is what the configuration of now checks client certificates against.
func priorTrust(f *Facts) map[string]contract.Trust {
	trust, err := contract.ParseTrust(f.Bundle()[contract.TLSFile])
	if err != nil {
		return nil
	}
	return trust
}

// judgeTrust finds out what the client certificates of a listener are checked against. Where the spec asks for what
// cannot be had, the customer's part of before goes on, and where there was none, only certificates that the operator
// has issued open: whatever is wrong, nobody gets in who would not have before.
func judgeTrust(f *Facts, m *Material, prior map[string]contract.Trust, l *Listener) {
	if !l.Spec.Encrypted() || !l.Spec.TLS.AsksClients() || m.ClientCA == nil {
		return
	}
	own := string(m.ClientCA.Trusted())
	wanted := contract.Trust{Authorities: own}
	if l.TrustFault = addReferences(f, l.Spec.TLS, &wanted); l.TrustFault == nil {
		l.Trust = &wanted
	} else if before, found := prior[l.Spec.Name]; found {
		theirs := foreign(before.Authorities, ClientCAName(f.Broker.Namespace, f.Broker.Name))
		before.Authorities = own + theirs
		if theirs != "" || before.RevocationLists != "" {
			l.Trust = &before
		}
	}
	end := " Until then the listener goes on with the CAs and revocation lists it had."
	if !l.hasUsableTrust() {
		l.Trust = &contract.Trust{Authorities: own}
		end = " Until then it trusts only client certificates that the operator has issued."
	}
	if l.TrustFault != nil {
		l.TrustFault.Message += end
	}
}

// hasUsableTrust reports whether a broker would take Trust, and notes when its revocation lists end.
func (l *Listener) hasUsableTrust() bool {
	if l.Trust == nil {
		return false
	}
	_, lists, err := l.Trust.Parse()
	if err != nil {
		return false
	}
	for _, list := range lists {
		if l.ListsEnd.IsZero() || (!list.NextUpdate.IsZero() && list.NextUpdate.Before(l.ListsEnd)) {
			l.ListsEnd = list.NextUpdate
		}
	}
	return true
}

// addReferences adds the customer's CAs and revocation lists to t.
func addReferences(f *Facts, spec *v1alpha1.ResolvedTLS, t *contract.Trust) *Finding {
	if spec.ClientCA.Name != "" {
		text, fault := referencedText(f, spec.ClientCA, v1alpha1.ReasonClientCANotUsable)
		if fault != nil {
			return fault
		}
		const hint = "put CA certificates there, PEM, at most 128 KiB, and no keys."
		if len(text) > contract.MaxTrustBytes/2 {
			return find(v1alpha1.ReasonClientCAInvalid, "Secret %s: %s has %d bytes: %s", spec.ClientCA.Name, spec.ClientCA.Key, len(text), hint)
		}
		if _, _, err := (&contract.Trust{Authorities: text}).Parse(); err != nil {
			return find(v1alpha1.ReasonClientCAInvalid, "Secret %s: %s cannot be used (%v): %s", spec.ClientCA.Name, spec.ClientCA.Key, err, hint)
		}
		t.Authorities += strings.TrimSpace(text) + "\n"
	}
	if spec.CRL.Name == "" {
		return nil
	}
	text, fault := referencedText(f, spec.CRL, v1alpha1.ReasonCRLNotUsable)
	if fault != nil {
		return fault
	}
	const hint = "put revocation lists of the CAs in clientCASecretRef there, PEM (openssl crl -inform der makes it of DER), at most 256 KiB."
	switch {
	case len(text) > contract.MaxTrustBytes:
		return find(v1alpha1.ReasonCRLInvalid, "Secret %s: %s has %d bytes: %s", spec.CRL.Name, spec.CRL.Key, len(text), hint)
	case strings.TrimSpace(text) == "":
		return find(v1alpha1.ReasonCRLInvalid, "Secret %s: %s holds no list: %s", spec.CRL.Name, spec.CRL.Key, hint)
	}
	t.RevocationLists = text
	if _, _, err := t.Parse(); err != nil {
		return find(v1alpha1.ReasonCRLInvalid, "Secret %s: %s cannot be used (%v): %s", spec.CRL.Name, spec.CRL.Key, err, hint)
	}
	return nil
}

// referencedText is what stands under a key of a Secret that the spec names.
func referencedText(f *Facts, ref v1alpha1.ResolvedKey, reason v1alpha1.ConditionReason) (string, *Finding) {
	secret := f.Referenced[ref.Name]
	if secret == nil {
		return "", NotUsable(reason, f.Broker.Namespace, ref.Name)
	}
	text, found := secret.Data[ref.Key]
	if !found {
		return "", find(v1alpha1.ReasonSecretKeyMissing, "Secret %s has no key %s: add it.", ref.Name, ref.Key)
	}
	return string(text), nil
}

// foreign is authorities less those of our own client CA, whose subjects begin with own.
func foreign(authorities, own string) string {
	var kept strings.Builder
	for block, rest := pem.Decode([]byte(authorities)); block != nil; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && !strings.HasPrefix(c.Subject.CommonName, own) {
			kept.Write(pem.EncodeToMemory(block))
		}
	}
	return kept.String()
}
