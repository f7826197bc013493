// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"unique"
	"unsafe"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// slim makes an object smaller before the cache keeps it: with ten thousand users there are twenty thousand Secrets, and
// most of their bytes are the same words. Managed fields and kubectl's memory of the last apply are dropped, since
// nobody here reads them; labels, owners, the keys of Secrets and the CA in bindings are held once for all objects that
// carry them.
func slim(in any) (any, error) {
	object, err := meta.Accessor(in)
	if err != nil {
		return in, nil //nolint:nilerr // a tombstone; the cache knows what to do with it
	}
	object.SetManagedFields(nil)
	annotations := object.GetAnnotations()
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	object.SetAnnotations(sharedKeys(annotations))
	object.SetLabels(labelSets.shared(object.GetLabels()))
	object.SetNamespace(shared(object.GetNamespace()))
	owners := object.GetOwnerReferences()
	for i := range owners {
		owners[i].APIVersion, owners[i].Kind = shared(owners[i].APIVersion), shared(owners[i].Kind)
	}
	switch object := in.(type) {
	case *corev1.Secret:
		object.Type = corev1.SecretType(shared(string(object.Type)))
		object.Data = sharedKeys(object.Data)
		// Every binding of a broker holds the same CA.
		if ca, found := object.Data[v1alpha1.BindingCA]; found {
			object.Data[v1alpha1.BindingCA] = sharedBytes(ca)
		}
	case *v1alpha1.MQTTUser:
		object.Spec.BrokerRef.Name = shared(object.Spec.BrokerRef.Name)
		shareConditions(object.Name, object.Status.Conditions)
	}
	return in, nil
}

// shared is text as it is held once.
func shared(text string) string { return unique.Make(text).Value() }

func sharedKeys[V any](before map[string]V) map[string]V {
	if len(before) == 0 {
		return nil
	}
	after := make(map[string]V, len(before))
	for key, value := range before {
		after[shared(key)] = value
	}
	return after
}

// sharedBytes is content as it is held once. Nobody may change what a cache holds, and so nobody may change these.
func sharedBytes(content []byte) []byte {
	text := shared(string(content))
	return unsafe.Slice(unsafe.StringData(text), len(text)) //nolint:gosec // as said: read, never written
}

// mostSets bounds how many sets of labels are remembered.
const mostSets = 1024

// sets holds equal sets of labels once: all Secrets of a broker's users have the same ones.
type sets struct {
	mu    sync.Mutex
	known map[string]map[string]string
}

var labelSets sets

func (s *sets) shared(labels map[string]string) map[string]string {
	if len(labels) == 0 {
		return nil
	}
	var key strings.Builder
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		key.WriteString(name + "=" + labels[name] + "\n") // neither may hold a line break
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, found := s.known[key.String()]; found {
		return known
	}
	if s.known == nil || len(s.known) >= mostSets {
		s.known = map[string]map[string]string{}
	}
	s.known[key.String()] = labels
	return labels
}

// shareConditions leaves alone the messages that name their object, since no other has them.
func shareConditions(name string, conditions []metav1.Condition) {
	for i := range conditions {
		c := &conditions[i]
		c.Type, c.Reason, c.Status = shared(c.Type), shared(c.Reason), metav1.ConditionStatus(shared(string(c.Status)))
		if !strings.Contains(c.Message, name) {
			c.Message = shared(c.Message)
		}
	}
}
