// SPDX-License-Identifier: Apache-2.0

package mqttaccesspolicy

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"
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

// Reconciler says of policies whether they are in force.
type Reconciler struct {
	// Client reads from the cache.
	Client client.Client
	// Writer is the only way to the cluster.
	Writer *apply.Writer
	// Events tells the story of a policy.
	Events events.EventRecorder
	Clock  clock.PassiveClock
	// Scope is what the operator looks after.
	Scope *scope.Scope
	// Waiting is where policies stand that wait for a broker: for [AnyBroker], since a policy may be bound at many.
	Waiting *waiting.List
}

// AnyBroker is what a policy waits for.
var AnyBroker types.NamespacedName

// pass is one walk over one policy.
type pass struct {
	policy *v1alpha1.MQTTAccessPolicy
	now    time.Time
	// bound are the users that the policy binds. They are the cache's own: not to be changed.
	bound []*v1alpha1.MQTTUser
	// brokers of those that have credentials, by namespace/name.
	brokers []brokerFacts
	// isObserved says that the two are known.
	isObserved bool
	before     v1alpha1.MQTTAccessPolicyStatus
}

// Reconcile walks one policy through the steps drawn in doc.go.
func (r *Reconciler) Reconcile(ctx context.Context, policy *v1alpha1.MQTTAccessPolicy) (ctrl.Result, error) {
	if policy.DeletionTimestamp != nil {
		return ctrl.Result{}, nil // Brokers and users are woken by the same event.
	}
	key := client.ObjectKeyFromObject(policy)
	r.Waiting.Add(key, AnyBroker)
	p := &pass{policy: policy, now: r.Clock.Now(), before: *policy.Status.DeepCopy()}
	err := walk.Steps[*pass]{
		{Name: "observe", Do: r.observe},
		{Name: "judge", Do: judge},
	}.Run(ctx, p)
	if failed := r.conclude(ctx, p, err); failed != nil {
		return walk.Result(failed, 0)
	}
	if isSettled(policy) {
		r.Waiting.Remove(key)
	}
	return walk.Result(err, 0)
}

// judge is pure.
func judge(_ context.Context, p *pass) error {
	if problem := verdict.PolicyProblem(p.policy); problem != nil {
		return &verdict.Stalled{Finding: *problem}
	}
	return nil
}
