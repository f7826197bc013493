// SPDX-License-Identifier: Apache-2.0

package mqttuser

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/apply"
	"github.com/mqtt-operator/mqtt-operator/controllers/scope"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
	"github.com/mqtt-operator/mqtt-operator/controllers/waiting"
	"github.com/mqtt-operator/mqtt-operator/controllers/walk"
)

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
	// Scope is what the operator looks after.
	Scope *scope.Scope
	// Waiting is where users stand that wait for their broker.
	Waiting *waiting.List
}

// facts are what one look at the world found about a user.
type facts struct {
	user *v1alpha1.MQTTUser
	spec v1alpha1.ResolvedUser
	now  time.Time
	// broker is nil where there is none, or none that allows the user's namespace.
	broker *v1alpha1.MQTTBroker
	// isOutside says that the broker's namespace is none that the operator looks after.
	isOutside bool
	// namesakes are the users of this name on this broker that it allows, the user among them.
	namesakes []*v1alpha1.MQTTUser
	// policies of the user's namespace.
	policies *verdict.Policies
	// referenced is the Secret that the user names, nil where none is or its label does not open it.
	referenced *corev1.Secret
	// binding and verifier are the user's own Secrets as they stand; nil where there are none.
	binding, verifier *corev1.Secret
	// ca is what a client needs to trust the listener of the binding; empty where nobody knows.
	ca []byte
	// clientCA signs client certificates; nil where there is none, or the user needs none.
	clientCA *corev1.Secret
	// shards are the Secrets with the broker's users as they stand. They are the cache's own: not to be changed.
	shards []*corev1.Secret
}

// pass is one walk over one user.
type pass struct {
	facts
	// listener is the one that the binding points to.
	listener v1alpha1.ResolvedListener
	// credentials are what the broker is to know.
	credentials verdict.Credentials
	// certificate says where an issued certificate is in its life; nil for other users.
	certificate *v1alpha1.UserCertificateStatus
	// objects are to be written; isWritten says that they are.
	objects   []client.Object
	isWritten bool
	// hasLost says that somebody else has, or may have, the user's name.
	hasLost bool
	// bound are the policies of the user.
	bound  []string
	before v1alpha1.MQTTUserStatus
}

// Reconcile walks one user through the steps drawn in doc.go.
func (r *Reconciler) Reconcile(ctx context.Context, user *v1alpha1.MQTTUser) (ctrl.Result, error) {
	if user.DeletionTimestamp != nil {
		return ctrl.Result{}, nil // Its broker's reconciler is woken by the same event and forgets it.
	}
	key := client.ObjectKeyFromObject(user)
	r.Waiting.Add(key, client.ObjectKey{Namespace: user.BrokerNamespace(), Name: user.Spec.BrokerRef.Name})
	p := &pass{facts: facts{user: user, spec: user.Resolved(), now: r.Clock.Now()}, before: *user.Status.DeepCopy()}
	err := walk.Steps[*pass]{
		{Name: "observe", Do: r.observe},
		{Name: "judge", Do: judge},
		{Name: "issue", Do: issue},
		{Name: "apply", Do: r.apply},
		{Name: "bind", Do: bind},
	}.Run(ctx, p)
	if failed := r.conclude(ctx, p, err); failed != nil {
		return walk.Result(failed, 0)
	}
	if isSettled(user) {
		r.Waiting.Remove(key)
	}
	return walk.Result(err, p.next())
}

// apply writes the Secrets that differ.
func (r *Reconciler) apply(ctx context.Context, p *pass) error {
	if _, err := r.Writer.All(ctx, p.user, p.objects); err != nil {
		return apply.Verdict(err)
	}
	p.isWritten = true
	return nil
}

// next is in what time something about the credentials changes by itself; 0 where nothing does.
func (p *pass) next() time.Duration {
	var moments []time.Time
	if p.isWritten && !p.credentials.OldUntil.IsZero() {
		moments = append(moments, p.credentials.OldUntil)
	}
	if p.isWritten && p.spec.Password.RotateAfter > 0 {
		moments = append(moments, p.credentials.RotatedAt.Add(p.spec.Password.RotateAfter))
	}
	if p.certificate != nil {
		moments = append(moments, p.certificate.NextRenewal.Time)
	}
	var next time.Duration
	for _, moment := range moments {
		if wait := max(moment.Sub(p.now), time.Second); next == 0 || wait < next {
			next = wait
		}
	}
	return next
}
