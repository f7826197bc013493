// SPDX-License-Identifier: Apache-2.0

package mqttuser

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// Names of indexes.
const (
	// IndexUsername finds the users of one name on one broker: [UsernameKey].
	IndexUsername = "spec.username"
	// IndexConfig finds the Secrets with the configuration of a broker: namespace/name.
	IndexConfig = "config.broker"
)

// UsernameKey is the value of [IndexUsername].
func UsernameKey(user *v1alpha1.MQTTUser) string { return user.BrokerKey() + "/" + user.Username() }

// +kubebuilder:rbac:groups=mqtt-operator.io,resources=mqttaccesspolicies,verbs=get;list;watch

// observe reads everything and decides nothing.
func (r *Reconciler) observe(ctx context.Context, p *pass) error {
	// A user from before our own last word about it would look like one that never had a password.
	if err := r.Writer.Seen(p.user); err != nil {
		return err
	}
	for _, read := range []func(context.Context, *pass) error{
		r.observeBroker, r.observeOwn, r.observeReferenced, r.observeNamesakes, r.observePolicies,
	} {
		if err := read(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reconciler) observeBroker(ctx context.Context, p *pass) error {
	if p.isOutside = !r.Scope.Includes(p.spec.BrokerNamespace); p.isOutside {
		return nil
	}
	broker := &v1alpha1.MQTTBroker{}
	key := client.ObjectKey{Namespace: p.spec.BrokerNamespace, Name: p.spec.Broker}
	if err := r.Client.Get(ctx, key, broker); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("broker %s: %w", p.spec.Broker, err)
	}
	if broker.Name == "" || broker.DeletionTimestamp != nil { // there is none
		return nil
	}
	allowed, err := r.Scope.Allows(ctx, broker, p.user.Namespace)
	if err != nil || !allowed {
		return err
	}
	p.broker = broker
	if err := r.observeCAs(ctx, p); err != nil {
		return err
	}
	return r.observeShards(ctx, p)
}

func (r *Reconciler) observeCAs(ctx context.Context, p *pass) error {
	if l, found := p.user.Listener(p.broker); found && l.Encrypted() {
		name := l.TLS.SecretName
		if l.TLS.SelfManaged() {
			name = v1alpha1.CASecretName(p.broker.Name)
		}
		secret, err := r.secret(ctx, p.broker.Namespace, name)
		if err != nil {
			return err
		}
		if secret != nil && (metav1.IsControlledBy(secret, p.broker) || secret.Labels[v1alpha1.LabelAllow] == v1alpha1.AllowReference) {
			p.ca = secret.Data[desired.CACertKey]
		}
	}
	if !p.spec.Certificate.Issue {
		return nil
	}
	secret, err := r.secret(ctx, p.broker.Namespace, v1alpha1.ClientCASecretName(p.broker.Name))
	if err == nil && secret != nil && metav1.IsControlledBy(secret, p.broker) {
		p.clientCA = secret
	}
	return err
}

// observeShards looks at the Secrets with the broker's users as the cache holds them: of ten thousand users they have
// some ten megabytes, which nobody wants to copy for one of them.
func (r *Reconciler) observeShards(ctx context.Context, p *pass) error {
	list := &corev1.SecretList{}
	match := client.MatchingFields{IndexConfig: p.broker.Namespace + "/" + p.broker.Name}
	if err := r.Client.List(ctx, list, match, client.InNamespace(p.broker.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("configuration of %s: %w", p.broker.Name, err)
	}
	found := map[string]*corev1.Secret{}
	for i := range list.Items {
		if metav1.IsControlledBy(&list.Items[i], p.broker) {
			found[list.Items[i].Name] = &list.Items[i]
		}
	}
	for n := range contract.MaxShards {
		shard := found[v1alpha1.UsersSecretName(p.broker.Name, n)]
		if shard == nil {
			break
		}
		p.shards = append(p.shards, shard)
	}
	return nil
}

// observeReferenced reads the Secret that the user names. The cache holds labelled ones only, and of those a reference
// opens only what people labelled for it: never the operator's own.
func (r *Reconciler) observeReferenced(ctx context.Context, p *pass) error {
	name := p.spec.Password.Secret + p.spec.Password.HashSecret // the schema lets only one be there
	if name == "" {
		return nil
	}
	secret, err := r.secret(ctx, p.user.Namespace, name)
	if err == nil && secret != nil && secret.Labels[v1alpha1.LabelAllow] == v1alpha1.AllowReference {
		p.referenced = secret
	}
	return err
}

func (r *Reconciler) observeNamesakes(ctx context.Context, p *pass) error {
	if p.broker == nil {
		return nil
	}
	list := &v1alpha1.MQTTUserList{}
	if err := r.Client.List(ctx, list, client.MatchingFields{IndexUsername: UsernameKey(p.user)}); err != nil {
		return fmt.Errorf("users: %w", err)
	}
	for i := range list.Items {
		other := &list.Items[i]
		if other.UID == p.user.UID {
			p.namesakes = append(p.namesakes, p.user)
			continue
		}
		allowed, err := r.Scope.Allows(ctx, p.broker, other.Namespace)
		if err != nil {
			return err
		}
		if allowed && other.DeletionTimestamp == nil {
			p.namesakes = append(p.namesakes, other)
		}
	}
	return nil
}

func (r *Reconciler) observePolicies(ctx context.Context, p *pass) error {
	list := &v1alpha1.MQTTAccessPolicyList{}
	if err := r.Client.List(ctx, list, client.InNamespace(p.user.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("policies: %w", err)
	}
	var relevant []*v1alpha1.MQTTAccessPolicy
	for i := range list.Items {
		// One with a bad selector may be meant for this user.
		if policy := &list.Items[i]; verdict.Binds(policy, p.user) || verdict.PolicyProblem(policy) != nil {
			relevant = append(relevant, policy)
		}
	}
	p.policies = verdict.NewPolicies(relevant)
	return nil
}

// secret is a Secret that the cache may hold, or nil.
func (r *Reconciler) secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, secret)
	switch {
	case client.IgnoreNotFound(err) != nil:
		return nil, fmt.Errorf("secret %s: %w", name, err)
	case err == nil:
		return secret, nil
	default:
		return nil, nil
	}
}

// observeOwn reads the user's own two Secrets. The cache learns of them one after the other, and of one whose label is
// gone not at all: where they do not belong together the cluster itself is asked, before another password is drawn and
// every connection of the user ends.
func (r *Reconciler) observeOwn(ctx context.Context, p *pass) error {
	if err := r.readOwn(ctx, r.Client, p); err != nil {
		return err
	}
	isNew := p.binding == nil && p.verifier == nil && p.user.Status.Binding == nil
	if isNew || p.isWhole() {
		return nil
	}
	return r.readOwn(ctx, r.Live, p)
}

// isWhole reports whether both Secrets are there, and what is drawn or issued is the same in both.
func (p *pass) isWhole() bool {
	if p.binding == nil || p.verifier == nil {
		return false
	}
	held := verdict.CredentialsIn(p.verifier)
	switch {
	case p.spec.Password.Generate:
		return fits(held.Password, p.binding.Data[v1alpha1.BindingPassword])
	case p.spec.Certificate.Issue:
		return held.Pin != "" && held.Pin == pki.Pin(p.pair())
	default:
		return true
	}
}

func (r *Reconciler) readOwn(ctx context.Context, from client.Reader, p *pass) error {
	for name, place := range map[string]**corev1.Secret{
		v1alpha1.BindingSecretName(p.user.Name):  &p.binding,
		v1alpha1.VerifierSecretName(p.user.Name): &p.verifier,
	} {
		*place = nil
		secret := &corev1.Secret{}
		err := from.Get(ctx, client.ObjectKey{Namespace: p.user.Namespace, Name: name}, secret)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("secret %s: %w", name, err)
		}
		if err == nil && metav1.IsControlledBy(secret, p.user) {
			*place = secret
		}
	}
	return nil
}
