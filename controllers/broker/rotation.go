// SPDX-License-Identifier: Apache-2.0

package mqttbroker

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// adminGrace is how long the kubelet gets to bring a stage of the admin CA into the pods; it takes a minute or two.
const adminGrace = 10 * time.Minute

// issueCAs leads each CA of a broker one stage further, where it is time, and draws what is missing.
func issueCAs(f *verdict.Facts, m *verdict.Material) error {
	name, wish := f.Broker.Namespace+"/"+f.Broker.Name, f.Broker.Annotations[v1alpha1.AnnotationRotateCA]
	runs := f.EveryPodRuns()
	var err error

	ca := readCA(f.CA, f.Broker.Status.CA)
	if m.CA, err = ca.Step(name+" clients", pki.Seen{
		Answered: runs && isShown(f, ca), Reissued: true, Grace: f.Spec.ClientGrace, Wish: wish,
	}, f.Now); err != nil {
		return err
	}

	ca = readCA(f.AdminCA, nil)
	if m.AdminCA, err = ca.Step(name+" admin", pki.Seen{Answered: everyPodAnswers(f) && isMounted(f, ca), Reissued: true, Grace: adminGrace, Wish: wish}, f.Now); err != nil {
		return err
	}

	if f.ClientCA == nil && !f.Spec.ClientCertificates() {
		return nil
	}
	ca = readCA(f.ClientCA, f.Broker.Status.ClientCA)
	stepped, err := ca.Step(verdict.ClientCAName(f.Broker.Namespace, f.Broker.Name), pki.Seen{
		Answered: runs && isTrusted(f, ca), Reissued: f.Outdated == 0, Grace: f.Spec.ClientGrace, Wish: wish,
	}, f.Now)
	m.ClientCA = &stepped
	return err
}

// readCA is the CA of a Secret. Where the Secret is gone, or is of a release that did not count, the status remembers
// the number.
func readCA(secret *corev1.Secret, status *v1alpha1.CAStatus) pki.CA {
	remembered := int64(0)
	if status != nil && status.Generation != nil {
		remembered = *status.Generation
	}
	if secret == nil {
		return pki.CA{Generation: remembered + 1}
	}
	ca := pki.ReadCA(secret.Data)
	ca.Generation = max(ca.Generation, remembered)
	return ca
}

// everyPodAnswers reports whether each pod that should be there was reached by the admin endpoint, so that both ends
// trust each other.
func everyPodAnswers(f *verdict.Facts) bool {
	for i := range f.Pods {
		if f.Pods[i].Answer == nil {
			return false
		}
	}
	return len(f.Pods) >= int(f.Spec.Replicas)
}

// isMounted reports whether the Secret that pods mount trusts of ca what is to be trusted. When they have it is a matter
// of time: see [adminGrace].
func isMounted(f *verdict.Facts, ca pki.CA) bool {
	return f.AdminTLS != nil && ca.IsTrustedIn(f.AdminTLS.Data[pki.CACertKey])
}

// isShown reports whether the configuration that stands in the Secrets shows what ca has signed, on each listener that
// has its certificate from there.
func isShown(f *verdict.Facts, ca pki.CA) bool {
	pairs, err := contract.ParsePairs(f.Bundle()[contract.TLSFile])
	if err != nil {
		return false
	}
	for _, l := range f.Spec.Listeners {
		if l.Encrypted() && l.TLS.SelfManaged() && !pki.IsIssuedBy([]byte(pairs[l.Name].Certificate), ca.Signing.Certificate) {
			return false
		}
	}
	return true
}

// isTrusted reports whether that configuration trusts of ca what is to be trusted, on each listener that asks clients.
func isTrusted(f *verdict.Facts, ca pki.CA) bool {
	trust, err := contract.ParseTrust(f.Bundle()[contract.TLSFile])
	if err != nil {
		return false
	}
	for _, l := range f.Spec.Listeners {
		if l.Encrypted() && l.TLS.AsksClients() && !ca.IsTrustedIn([]byte(trust[l.Name].Authorities)) {
			return false
		}
	}
	return true
}
