// SPDX-License-Identifier: Apache-2.0

package mqttuser

import (
	"context"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/apply"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
	"github.com/mqtt-operator/mqtt-operator/controllers/walk"
)

// IndexUsername finds the users of one name on one broker: namespace/broker/username.
const IndexUsername = "spec.username"

// Reconciler makes users what their specs say.
type Reconciler struct {
	// Client reads from the cache and writes.
	Client client.Client
	// Live reads past the cache.
	Live client.Reader
	// Writer is the only way to the cluster.
	Writer *apply.Writer
	// Events tells the story of a user.
	Events events.EventRecorder
	Clock  clock.PassiveClock
}

// facts are what one look at the world found about a user.
type facts struct {
	user *v1alpha1.MQTTUser
	spec v1alpha1.ResolvedUser
	// broker is nil where there is none.
	broker *v1alpha1.MQTTBroker
	// namesakes are the users of this name on this broker, the user among them.
	namesakes []*v1alpha1.MQTTUser
	// password is the Secret that the user names, nil where none is or its label does not open it.
	password *corev1.Secret
	// binding and verifier are the user's own Secrets as they stand; nil where there are none.
	binding, verifier *corev1.Secret
	// ca is what a client needs to trust the listener of the binding; empty where nobody knows.
	ca []byte
	// shards are the Secrets with the broker's users as they stand.
	shards []*corev1.Secret
}

// pass is one walk over one user.
type pass struct {
	facts
	// listener is the one that the binding points to.
	listener v1alpha1.ResolvedListener
	// objects are to be written.
	objects []client.Object
	// verifierText is what the broker is to know.
	verifierText string
	before       v1alpha1.MQTTUserStatus
}

// Reconcile walks one user through the steps drawn in doc.go.
func (r *Reconciler) Reconcile(ctx context.Context, user *v1alpha1.MQTTUser) (ctrl.Result, error) {
	if user.DeletionTimestamp != nil {
		return ctrl.Result{}, nil // Its broker's reconciler is woken by the same event and forgets it.
	}
	p := &pass{facts: facts{user: user, spec: user.Resolved()}, before: *user.Status.DeepCopy()}
	err := walk.Steps[*pass]{
		{Name: "observe", Do: r.observe},
		{Name: "judge", Do: judge},
		{Name: "issue", Do: issue},
		{Name: "apply", Do: r.apply},
	}.Run(ctx, p)
	if failed := r.conclude(ctx, p, err); failed != nil {
		return walk.Result(failed, 0)
	}
	return walk.Result(err, 0)
}

// observe reads everything and decides nothing.
func (r *Reconciler) observe(ctx context.Context, p *pass) error {
	// A user from before our own last word about it would look like one that never had a password.
	if err := r.Writer.Seen(p.user); err != nil {
		return err
	}
	if err := r.observeOwn(ctx, p); err != nil {
		return err
	}
	var err error
	if p.spec.PasswordSecret != "" {
		if p.password, err = r.secret(ctx, p, p.spec.PasswordSecret); err != nil {
			return err
		}
		if p.password != nil && p.password.Labels[v1alpha1.LabelAllow] != v1alpha1.AllowReference {
			p.password = nil // One of the operator's own: no reference opens those.
		}
	}
	list := &v1alpha1.MQTTUserList{}
	if err := r.Client.List(ctx, list, client.MatchingFields{IndexUsername: UsernameKey(p.user)}); err != nil {
		return fmt.Errorf("users: %w", err)
	}
	for i := range list.Items {
		if list.Items[i].UID == p.user.UID {
			p.namesakes = append(p.namesakes, p.user)
		} else if list.Items[i].DeletionTimestamp == nil {
			p.namesakes = append(p.namesakes, &list.Items[i])
		}
	}
	return r.observeBroker(ctx, p)
}

func (r *Reconciler) observeBroker(ctx context.Context, p *pass) error {
	broker := &v1alpha1.MQTTBroker{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: p.user.Namespace, Name: p.spec.Broker}, broker)
	switch {
	case client.IgnoreNotFound(err) != nil:
		return fmt.Errorf("broker %s: %w", p.spec.Broker, err)
	case err == nil && broker.DeletionTimestamp == nil:
		p.broker = broker
	default:
		return nil
	}
	if l, found := broker.Resolved().BindingListener(p.spec.BindingListener); found && l.Encrypted() {
		name := l.TLS.SecretName
		if l.TLS.SelfManaged() {
			name = v1alpha1.CASecretName(broker.Name)
		}
		secret, err := r.secret(ctx, p, name)
		if err != nil {
			return err
		}
		if secret != nil && (metav1.IsControlledBy(secret, broker) || secret.Labels[v1alpha1.LabelAllow] == v1alpha1.AllowReference) {
			p.ca = secret.Data[desired.CACertKey]
		}
	}
	for n := range contract.MaxShards {
		shard, err := r.secret(ctx, p, v1alpha1.UsersSecretName(broker.Name, n))
		if err != nil {
			return err
		}
		if shard == nil || !metav1.IsControlledBy(shard, broker) {
			break
		}
		p.shards = append(p.shards, shard)
	}
	return nil
}

// secret is a Secret that the cache may hold, or nil.
func (r *Reconciler) secret(ctx context.Context, p *pass, name string) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: p.user.Namespace, Name: name}, secret)
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
	isWhole := p.binding != nil && p.verifier != nil && (!p.spec.Generate || belongTogether(p.binding, p.heldVerifier()))
	if isNew || isWhole {
		return nil
	}
	return r.readOwn(ctx, r.Live, p)
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

// apply writes the Secrets that differ.
func (r *Reconciler) apply(ctx context.Context, p *pass) error {
	if _, err := r.Writer.All(ctx, p.user, p.objects); err != nil {
		return apply.Verdict(err)
	}
	return nil
}

// UsernameKey is the value of [IndexUsername].
func UsernameKey(user *v1alpha1.MQTTUser) string {
	return user.Namespace + "/" + user.Spec.BrokerRef.Name + "/" + user.Username()
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
	entry := verdict.Entry(p.user, &corev1.Secret{Data: map[string][]byte{verdict.VerifierKey: []byte(p.verifierText)}})
	for _, content := range shard.Data {
		if contract.HoldsUser(content, entry) {
			return true
		}
	}
	return false
}
