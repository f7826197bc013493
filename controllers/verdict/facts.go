// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
)

// Facts are what one look at the world found about a broker.
type Facts struct {
	Broker *v1alpha1.MQTTBroker
	// Spec is Broker's, with every default filled in.
	Spec v1alpha1.ResolvedBroker
	Now  time.Time
	// DefaultImage is the broker image of this operator's release.
	DefaultImage string
	// Operator is where this operator runs.
	Operator Operator

	// Users that name this broker, in no order, allowed or not.
	Users []UserFacts
	// NamespaceLabels are the labels of their namespaces, where the broker wants to know.
	NamespaceLabels map[string]map[string]string
	// Policies of their namespaces, in no order.
	Policies []*v1alpha1.MQTTAccessPolicy
	// Referenced are the Secrets that the spec names or cert-manager writes for it, as far as their label opens them.
	Referenced map[string]*corev1.Secret
	// ConfigMaps are those that the spec names, as far as their label opens them.
	ConfigMaps map[string]*corev1.ConfigMap
	// NoCertManager says that a listener wants a certificate of cert-manager and the cluster has none.
	NoCertManager bool
	// Cluster is who signs the tokens of ServiceAccounts; read only where the spec wants it.
	Cluster ClusterKeys
	// Outdated counts users whose client certificate is one of the client CA that is to go.
	Outdated int

	// Our own objects as they stand; nil where there is none.
	CA, ClientCA, AdminCA, TLS, AdminTLS *corev1.Secret
	StatefulSet                          *appsv1.StatefulSet
	ServiceAccount                       *corev1.ServiceAccount
	Services                             []corev1.Service
	ConfigSecrets                        []corev1.Secret

	// Previous is the pod template before the one that is overdue; nil where none is, and where it is not known any more.
	Previous *corev1.PodTemplateSpec
	// Claims are the PersistentVolumeClaims of its pods, by name, also of those that do not run now.
	Claims []corev1.PersistentVolumeClaim
	// Pods of the broker, by name.
	Pods []PodFacts
}

// Operator is where the operator's own pods are found. It may be unknown: an operator need not run in the cluster.
type Operator struct {
	Namespace string
	Labels    map[string]string
}

// ClusterKeys are what the API server publishes about the tokens of ServiceAccounts.
type ClusterKeys struct {
	Issuer string
	JWKS   string
	// Problem says why they could not be read, or not again; nil when they are of now.
	Problem *Finding
}

// UserFacts are one user with the hashes that its reconciler made, nil while there are none.
type UserFacts struct {
	User     *v1alpha1.MQTTUser
	Verifier *corev1.Secret
}

// PodFacts are one pod and what it said when asked.
type PodFacts struct {
	Pod corev1.Pod
	// Answer is nil when the pod could not be asked; Problem then says why.
	Answer  *Answer
	Problem error
}

// Answer is what a pod said when asked.
type Answer struct {
	// Revision that it runs, with the digest of its bundle.
	Revision int64
	Digest   string
	// Connections and Sessions that it holds.
	Connections, Sessions int32
	// Storage says why it cannot write what it must keep; empty when it can.
	Storage string
	// Draining: it sends its clients away, or has, and lets nobody in.
	Draining bool
}

// IsDrained reports whether the pod said that it lets nobody in because somebody has asked for it.
func (p *PodFacts) IsDrained() bool { return p.Answer != nil && p.Answer.Draining }

// Runs reports whether the pod said that it runs this very configuration.
func (p *PodFacts) Runs(revision int64, digest string) bool {
	return p.Answer != nil && p.Answer.Revision == revision && p.Answer.Digest == digest
}

// EveryPodRuns reports whether each pod that should be there has answered that it runs the configuration that stands
// in the Secrets. A broker that hibernates has none, and those to come begin with it.
func (f *Facts) EveryPodRuns() bool {
	bundle := f.Bundle()
	revision, err := contract.Revision(bundle)
	if err != nil || len(f.Pods) < int(f.Spec.Replicas) {
		return false
	}
	for i := range f.Pods {
		if !f.Pods[i].Runs(revision, bundle.Digest()) {
			return false
		}
	}
	return true
}

// IsReady reports whether the pod's readiness probe passes.
func (p *PodFacts) IsReady() bool {
	for _, condition := range p.Pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue && p.Pod.DeletionTimestamp == nil
		}
	}
	return false
}

// Material is the broker's key material: what stood in the Secrets, as far as it can go on, and fresh material
// otherwise.
type Material struct {
	// CA signs Server, AdminCA the two ends of the admin connection.
	CA, AdminCA                      pki.CA
	Server, AdminClient, AdminServer pki.Pair
	// ClientCA signs the certificates of users; nil while no listener asks for any and none ever did.
	ClientCA *pki.CA
}

// Bundle is the configuration that stands in the Secrets, nil where there is none.
func (f *Facts) Bundle() contract.Bundle {
	bundle := contract.Bundle{}
	for i := range f.ConfigSecrets {
		for name, content := range f.ConfigSecrets[i].Data {
			if contract.IsFile(name) {
				bundle[name] = content
			}
		}
	}
	if len(bundle) == 0 {
		return nil
	}
	return bundle
}

// RevisionFloor is the highest revision that is known to have been used for something else than what stands in the
// Secrets, or for it.
func (f *Facts) RevisionFloor() int64 {
	var floor int64
	bundle := f.Bundle()
	if revision := f.Broker.Status.Revision; revision != nil && revision.Desired != nil {
		floor = *revision.Desired
	}
	for i := range f.Pods {
		answer := f.Pods[i].Answer
		if answer == nil {
			continue
		}
		floor = max(floor, answer.Revision)
		if prior, err := contract.Revision(bundle); err == nil && prior == answer.Revision && answer.Digest != bundle.Digest() {
			floor = answer.Revision + 1 // the Secrets came from a backup: one number, two configurations
		}
	}
	return floor
}
