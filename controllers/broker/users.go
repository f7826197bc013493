// SPDX-License-Identifier: Apache-2.0

package mqttbroker

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// IndexUserBroker finds the users of a broker, whatever their namespace: namespace/name of the broker.
const IndexUserBroker = "spec.brokerRef"

// observeUsers reads every user that names the broker, with what its own reconciler wrote. Users are the cache's own
// objects, ten thousand of which nobody wants to copy: they are not to be changed.
func (r *Reconciler) observeUsers(ctx context.Context, f *verdict.Facts) error {
	list := &v1alpha1.MQTTUserList{}
	match := client.MatchingFields{IndexUserBroker: f.Broker.Namespace + "/" + f.Broker.Name}
	if err := r.Client.List(ctx, list, match, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("users: %w", err)
	}
	f.Users, f.NamespaceLabels = make([]verdict.UserFacts, 0, len(list.Items)), map[string]map[string]string{}
	for i := range list.Items {
		user := &list.Items[i]
		if user.DeletionTimestamp != nil {
			continue
		}
		verifier, err := r.verifier(ctx, user)
		if err != nil {
			return err
		}
		f.Users = append(f.Users, verdict.UserFacts{User: user, Verifier: verifier})
		if _, found := f.NamespaceLabels[user.Namespace]; !found {
			if f.NamespaceLabels[user.Namespace], err = r.Scope.Labels(ctx, f.Broker, user.Namespace); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Reconciler) verifier(ctx context.Context, user *v1alpha1.MQTTUser) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	key := client.ObjectKey{Namespace: user.Namespace, Name: v1alpha1.VerifierSecretName(user.Name)}
	switch err := r.Client.Get(ctx, key, secret, client.UnsafeDisableDeepCopy); {
	case client.IgnoreNotFound(err) != nil:
		return nil, fmt.Errorf("secret %s: %w", key.Name, err)
	case err == nil && secret.Type == v1alpha1.SecretTypeVerifier && metav1.IsControlledBy(secret, user):
		return secret, nil
	default:
		return nil, nil
	}
}

// observePolicies reads the policies of the namespaces that the users are in.
func (r *Reconciler) observePolicies(ctx context.Context, f *verdict.Facts) error {
	for namespace := range f.NamespaceLabels {
		list := &v1alpha1.MQTTAccessPolicyList{}
		if err := r.Client.List(ctx, list, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
			return fmt.Errorf("policies: %w", err)
		}
		for i := range list.Items {
			f.Policies = append(f.Policies, &list.Items[i])
		}
	}
	return nil
}
