// SPDX-License-Identifier: Apache-2.0

package mqttaccesspolicy

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/condition"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// conclude writes the status, where it differs, and an event where Ready flipped.
func (r *Reconciler) conclude(ctx context.Context, p *pass, walked error) error {
	if apierrors.IsConflict(walked) || apierrors.HasStatusCause(walked, corev1.NamespaceTerminatingCause) {
		return nil // An old look at the world, or a world that ends: neither says anything about the policy.
	}
	set := &condition.Set{List: p.before.DeepCopy().Conditions, Generation: p.policy.Generation, Now: p.now}
	compute(set, p, walked)
	status := &p.policy.Status
	status.Conditions = set.List
	status.ObservedGeneration = p.policy.Generation
	if p.isObserved {
		status.BoundUsers = new(int32(len(p.bound))) //nolint:gosec // Bounded by memory.
	}
	if equality.Semantic.DeepEqual(p.before, *status) {
		return r.Writer.Seen(p.policy)
	}
	if err := r.Writer.Status(ctx, p.policy); err != nil {
		return err
	}
	condition.Tell(r.Events, p.policy, p.before.Conditions, status.Conditions, v1alpha1.ReasonConfigPending)
	return nil
}

// compute is pure: the outcome of the walk gives the conditions.
func compute(set *condition.Set, p *pass, walked error) {
	set.Drop(v1alpha1.ConditionStalled)
	var stalled *verdict.Stalled
	switch {
	case errors.As(walked, &stalled):
		set.False(v1alpha1.ConditionReady, stalled.Finding)
		set.True(v1alpha1.ConditionStalled, stalled.Reason, stalled.Message)
	case walked != nil:
		set.Unknown(v1alpha1.ConditionReady, verdict.Finding{
			Reason:  v1alpha1.ReasonObserveFailed,
			Message: "A request to the API server failed; the operator's log has the details, and it tries again.",
		})
	case len(p.bound) == 0:
		set.True(v1alpha1.ConditionReady, v1alpha1.ReasonNoUsers, "No user is bound to the policy: name it in the policyRefs of one, or let its userSelector match.")
	case len(p.brokers) == 0:
		set.False(v1alpha1.ConditionReady, verdict.Finding{
			Reason:  v1alpha1.ReasonConfigPending,
			Message: "No broker knows any of the users that are bound to the policy yet; their own status says why.",
		})
	default:
		setReady(set, p)
	}
}

func setReady(set *condition.Set, p *pass) {
	var asleep *v1alpha1.MQTTBroker
	for i := range p.brokers {
		b := &p.brokers[i]
		switch {
		case b.broker.Resolved().Hibernated():
			asleep = b.broker
		case !b.has(p.policy):
			set.False(v1alpha1.ConditionReady, verdict.Finding{
				Reason:  v1alpha1.ReasonConfigPending,
				Message: fmt.Sprintf("Broker %s/%s has not answered yet that it has the rules.", b.broker.Namespace, b.broker.Name),
			})
			return
		}
	}
	if asleep != nil {
		set.Unknown(v1alpha1.ConditionReady, verdict.Finding{
			Reason:  v1alpha1.ReasonHibernated,
			Message: fmt.Sprintf("Broker %s/%s hibernates (spec.replicas is 0); it gets the rules when it wakes up.", asleep.Namespace, asleep.Name),
		})
		return
	}
	set.True(v1alpha1.ConditionReady, v1alpha1.ReasonReady, "Every broker of the users that are bound to the policy has the rules.")
}

// isSettled reports whether nothing about the policy waits for a broker.
func isSettled(policy *v1alpha1.MQTTAccessPolicy) bool {
	for _, c := range policy.Status.Conditions {
		if c.Type == string(v1alpha1.ConditionReady) {
			return c.Status == metav1.ConditionTrue && c.Reason == string(v1alpha1.ReasonReady) && c.ObservedGeneration == policy.Generation
		}
	}
	return false
}
