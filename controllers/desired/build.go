// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"bytes"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// Broker is what a broker should consist of.
type Broker struct {
	// Objects in the order in which they are to be written: what a pod mounts before the pods.
	Objects []client.Object
	// StatefulSet is the one among them, nil where none can be written.
	StatefulSet *appsv1.StatefulSet
	// Bundle is the configuration, with its revision.
	Bundle   contract.Bundle
	Revision int64
}

// Build is everything that a broker should consist of. It fails only where the configuration cannot be rendered:
// [contract.ErrTooLarge], or what [contract.Config.Validate] says.
func Build(f *verdict.Facts, m *verdict.Material, j *verdict.Judgement) (*Broker, error) {
	bundle, revision, err := Bundle(f, j)
	if err != nil {
		return nil, err
	}
	objects := []client.Object{ServiceAccount(f)}
	objects = append(objects, PKI(f, m)...)
	objects = append(objects, ConfigSecrets(f, bundle, revision)...)
	objects = append(objects, Services(f)...)
	built := &Broker{Objects: objects, Bundle: bundle, Revision: revision}
	if !f.IsStatefulSetEnding() { // nothing can be written to it any more
		built.StatefulSet = StatefulSet(f)
		built.Objects = append(built.Objects, built.StatefulSet)
	}
	return built, nil
}

// meta is the metadata that every child of a broker shares.
func meta(f *verdict.Facts, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: f.Broker.Namespace, Labels: v1alpha1.BrokerLabels(f.Broker.Name)}
}

// secret is a Secret of the operator's own: its label lets the cache hold it and opens it to no reference.
func secret(m metav1.ObjectMeta, kind corev1.SecretType, data map[string][]byte) *corev1.Secret {
	m.Labels = maps.Clone(m.Labels)
	m.Labels[v1alpha1.LabelAllow] = v1alpha1.AllowOwned
	return &corev1.Secret{ObjectMeta: m, Type: kind, Data: data}
}

// ServiceAccount is the identity of the broker's pods. It has no token and no rights: the broker knows nothing of
// Kubernetes.
func ServiceAccount(f *verdict.Facts) *corev1.ServiceAccount {
	account := &corev1.ServiceAccount{
		ObjectMeta:                   meta(f, v1alpha1.ServiceAccountName(f.Broker.Name)),
		AutomountServiceAccountToken: new(false),
	}
	account.Annotations = map[string]string{DefaultImageAnnotation: defaultImage(f), EditionAnnotation: strconv.Itoa(editionOf(f))}
	return account
}

// RevisionAnnotation on a Secret with a part of the configuration is the revision in which that part last changed.
const RevisionAnnotation = "mqtt-operator.io/revision"

// PoliciesRevisionAnnotation on the Secret with policies.json is the revision in which that file last changed.
const PoliciesRevisionAnnotation = "mqtt-operator.io/policies-revision"

// ConfigSecrets carry a bundle: broker.json, tls.json and policies.json in one, each shard of users in one of its own.
func ConfigSecrets(f *verdict.Facts, bundle contract.Bundle, revision int64) []client.Object {
	objects := []client.Object{}
	for n := range contract.MaxShards {
		if name := contract.UsersFile(n); bundle[name] != nil {
			objects = append(objects, configSecret(f, v1alpha1.UsersSecretName(f.Broker.Name, n), bundle, revision, name))
		}
	}
	// Last, because it names the digests of the others.
	files := []string{contract.TLSFile, contract.BrokerFile}
	if bundle[contract.PoliciesFile] == nil {
		return append(objects, configSecret(f, v1alpha1.ConfigSecretName(f.Broker.Name), bundle, revision, files...))
	}
	object := configSecret(f, v1alpha1.ConfigSecretName(f.Broker.Name), bundle, revision, append(files, contract.PoliciesFile)...)
	object.Annotations[PoliciesRevisionAnnotation] = policiesRevision(f, bundle, revision)
	return append(objects, object)
}

func policiesRevision(f *verdict.Facts, bundle contract.Bundle, revision int64) string {
	for i := range f.ConfigSecrets {
		before := &f.ConfigSecrets[i]
		if since := before.Annotations[PoliciesRevisionAnnotation]; since != "" && bytes.Equal(before.Data[contract.PoliciesFile], bundle[contract.PoliciesFile]) {
			return since
		}
	}
	return strconv.FormatInt(revision, 10)
}

func configSecret(f *verdict.Facts, name string, bundle contract.Bundle, revision int64, files ...string) *corev1.Secret {
	data := map[string][]byte{}
	for _, file := range files {
		data[file] = bundle[file]
	}
	m := meta(f, name)
	m.Annotations = map[string]string{RevisionAnnotation: strconv.FormatInt(revision, 10)}
	for i := range f.ConfigSecrets {
		before := &f.ConfigSecrets[i]
		if before.Name == name && before.Annotations[RevisionAnnotation] != "" && maps.EqualFunc(before.Data, data, bytes.Equal) {
			m.Annotations[RevisionAnnotation] = before.Annotations[RevisionAnnotation]
		}
	}
	return secret(m, v1alpha1.SecretTypeConfig, data)
}
