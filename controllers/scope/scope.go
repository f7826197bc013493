// SPDX-License-Identifier: Apache-2.0

// Package scope says which namespaces the operator looks after, and whether a broker takes users of one.
package scope

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// Scope is the part of the cluster that the operator looks after.
type Scope struct {
	// Namespaces that are looked after; none means all.
	Namespaces []string
	// Reader reads Namespaces: from the cache where all are looked after, else past it, because a right to one namespace
	// lets nobody watch them.
	Reader client.Reader
}

// Includes reports whether the operator sees what is in a namespace.
func (s *Scope) Includes(namespace string) bool {
	return len(s.Namespaces) == 0 || slices.Contains(s.Namespaces, namespace)
}

// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch

// Labels are the labels of a namespace as far as the broker wants to know them to decide about its users; nil where it
// does not, or they cannot be read.
func (s *Scope) Labels(ctx context.Context, broker *v1alpha1.MQTTBroker, namespace string) (map[string]string, error) {
	if namespace == broker.Namespace || !broker.SelectsNamespaces() {
		return nil, nil
	}
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	switch err := s.Reader.Get(ctx, client.ObjectKey{Name: namespace}, object); {
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("namespace %s: %w", namespace, err)
	}
	return object.Labels, nil
}

// Allows reports whether the broker takes users of a namespace.
func (s *Scope) Allows(ctx context.Context, broker *v1alpha1.MQTTBroker, namespace string) (bool, error) {
	labels, err := s.Labels(ctx, broker, namespace)
	return err == nil && broker.Allows(namespace, labels), err
}
