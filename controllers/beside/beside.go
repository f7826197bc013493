// SPDX-License-Identifier: Apache-2.0

package beside

import (
	"context"
	"errors"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/apply"
	"github.com/mqtt-operator/mqtt-operator/controllers/condition"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// Outcome is what one pass did. The zero value is a pass that ended before.
type Outcome struct {
	network, budget standing
	monitoring      monitoring
}

// standing is what became of one object: finding keeps it from being as wanted, and isOff says that none is wanted.
type standing struct {
	finding       *verdict.Finding
	isDone, isOff bool
}

// NetworkPolicy makes the cluster hold wanted, or where that is nil nothing of owner's under the name. What a person must mend
// is kept in the outcome; an error is worth another try.
func (o *Outcome) NetworkPolicy(ctx context.Context, w *apply.Writer, owner client.Object, name string, wanted *networkingv1.NetworkPolicy) error {
	if wanted == nil {
		return o.network.takeBack(ctx, w, owner, &networkingv1.NetworkPolicy{ObjectMeta: named(owner, name)})
	}
	return o.network.write(ctx, w, owner, wanted)
}

// DisruptionBudget is the same for a PodDisruptionBudget.
func (o *Outcome) DisruptionBudget(ctx context.Context, w *apply.Writer, owner client.Object, name string, wanted *policyv1.PodDisruptionBudget) error {
	if wanted == nil {
		return o.budget.takeBack(ctx, w, owner, &policyv1.PodDisruptionBudget{ObjectMeta: named(owner, name)})
	}
	return o.budget.write(ctx, w, owner, wanted)
}

func named(owner client.Object, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: owner.GetNamespace(), Name: name}
}

func (s *standing) write(ctx context.Context, w *apply.Writer, owner, wanted client.Object) error {
	_, err := w.All(ctx, owner, []client.Object{wanted})
	return s.note(err, false)
}

func (s *standing) takeBack(ctx context.Context, w *apply.Writer, owner, there client.Object) error {
	return s.note(w.TakeBack(ctx, owner, there), true)
}

func (s *standing) note(err error, isOff bool) error {
	var (
		stalled *verdict.Stalled
		waiting *verdict.Waiting
	)
	switch err = apply.Verdict(err); {
	case errors.As(err, &stalled):
		s.finding = &stalled.Finding
	case errors.As(err, &waiting):
		s.finding = &waiting.Finding
	case err != nil:
		return err
	}
	s.isDone, s.isOff = true, isOff
	return nil
}

// Again is when to look again at the latest.
func (o *Outcome) Again(otherwise time.Duration) time.Duration {
	for _, finding := range []*verdict.Finding{o.network.finding, o.budget.finding, o.monitoring.finding} {
		switch {
		case finding == nil:
		case finding.Reason == v1alpha1.ReasonObjectConflict:
			otherwise = min(otherwise, apply.ConflictRecheck)
		case finding == o.monitoring.finding:
			otherwise = min(otherwise, monitoringRecheck)
		}
	}
	return otherwise
}

// Set says in conditions what became of it. walked is how the pass ended.
func (o *Outcome) Set(set *condition.Set, walked error) {
	o.setNetworkPolicy(set, walked)
	o.setDisruptionBudget(set, walked)
	o.monitoring.set(set, walked)
}

func (o *Outcome) setNetworkPolicy(set *condition.Set, walked error) {
	kind := v1alpha1.ConditionNetworkPolicyReady
	switch {
	case !o.network.isDone:
		set.Unknown(kind, before(walked))
	case o.network.finding != nil:
		set.False(kind, *o.network.finding)
	case o.network.isOff:
		set.True(kind, v1alpha1.ReasonNetworkPolicyOff, "There is none, as spec.networkPolicy.enabled says.")
	default:
		set.True(kind, v1alpha1.ReasonNetworkPolicyReady, "The NetworkPolicy stands as the spec says.")
	}
}

// setDisruptionBudget says nothing where there is none and none is wanted: a bridge never has any.
func (o *Outcome) setDisruptionBudget(set *condition.Set, walked error) {
	kind := v1alpha1.ConditionDisruptionBudgetReady
	switch {
	case !o.budget.isDone && set.Get(kind) == nil:
	case !o.budget.isDone:
		set.Unknown(kind, before(walked))
	case o.budget.finding != nil:
		set.False(kind, *o.budget.finding)
	case o.budget.isOff:
		set.Drop(kind)
	default:
		set.True(kind, v1alpha1.ReasonDisruptionBudgetReady, "The PodDisruptionBudget stands.")
	}
}

// before says why the pass ended before anything was written.
func before(walked error) verdict.Finding {
	var (
		stalled *verdict.Stalled
		waiting *verdict.Waiting
	)
	switch {
	case errors.As(walked, &stalled):
		return stalled.Finding
	case errors.As(walked, &waiting):
		return waiting.Finding
	default:
		return verdict.Finding{
			Reason:  v1alpha1.ReasonObserveFailed,
			Message: "A request to the API server failed; the operator's log has the details, and it tries again.",
		}
	}
}
