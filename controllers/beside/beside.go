// SPDX-License-Identifier: Apache-2.0

package beside

import (
	"context"
	"errors"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/apply"
	"github.com/mqtt-operator/mqtt-operator/controllers/condition"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// Outcome is what one pass did. The zero value is a pass that ended before.
type Outcome struct {
	// network is what keeps the NetworkPolicy from being as wanted; isOff says that none is.
	network       *verdict.Finding
	isDone, isOff bool
	monitoring    monitoring
}

// NetworkPolicy makes the cluster hold wanted, or where that is nil nothing of owner's under the name. What a person must mend
// is kept in the outcome; an error is worth another try.
func (o *Outcome) NetworkPolicy(ctx context.Context, w *apply.Writer, owner client.Object, name string, wanted *networkingv1.NetworkPolicy) error {
	var err error
	if wanted == nil {
		there := &networkingv1.NetworkPolicy{}
		there.Namespace, there.Name = owner.GetNamespace(), name
		err = w.TakeBack(ctx, owner, there)
	} else {
		_, err = w.All(ctx, owner, []client.Object{wanted})
	}
	var (
		stalled *verdict.Stalled
		waiting *verdict.Waiting
	)
	switch err = apply.Verdict(err); {
	case errors.As(err, &stalled):
		o.network = &stalled.Finding
	case errors.As(err, &waiting):
		o.network = &waiting.Finding
	case err != nil:
		return err
	}
	o.isDone, o.isOff = true, wanted == nil
	return nil
}

// Again is when to look again at the latest.
func (o *Outcome) Again(otherwise time.Duration) time.Duration {
	for _, finding := range []*verdict.Finding{o.network, o.monitoring.finding} {
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
	o.monitoring.set(set, walked)
}

func (o *Outcome) setNetworkPolicy(set *condition.Set, walked error) {
	kind := v1alpha1.ConditionNetworkPolicyReady
	switch {
	case !o.isDone:
		set.Unknown(kind, before(walked))
	case o.network != nil:
		set.False(kind, *o.network)
	case o.isOff:
		set.True(kind, v1alpha1.ReasonNetworkPolicyOff, "There is none, as spec.networkPolicy.enabled says.")
	default:
		set.True(kind, v1alpha1.ReasonNetworkPolicyReady, "The NetworkPolicy stands as the spec says.")
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
