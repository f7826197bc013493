// SPDX-License-Identifier: Apache-2.0

package mqttuser

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/condition"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// conclude writes the status, where it differs, and an event for each condition that flipped.
func (r *Reconciler) conclude(ctx context.Context, p *pass, walked error) error {
	if apierrors.IsConflict(walked) || apierrors.HasStatusCause(walked, corev1.NamespaceTerminatingCause) {
		return nil // An old look at the world, or a world that ends: neither says anything about the user.
	}
	set := &condition.Set{List: p.before.DeepCopy().Conditions, Generation: p.user.Generation, Now: p.now}
	compute(set, p, walked)
	status := &p.user.Status
	status.Conditions = set.List
	status.ObservedGeneration = p.user.Generation
	status.Username = p.spec.Username
	status.Authentication = p.spec.Authentication
	switch {
	case p.isWritten:
		status.Binding = &v1alpha1.BindingStatus{Name: v1alpha1.BindingSecretName(p.user.Name)}
		status.Password, status.Certificate = passwordStatus(p), p.certificate
	case p.hasLost:
		// Who gets the name back must not inherit what the broker knows by it: that is of somebody else.
		status.Binding = nil
	}
	if equality.Semantic.DeepEqual(p.before, *status) {
		return r.Writer.Seen(p.user)
	}
	if err := r.Writer.Status(ctx, p.user); err != nil {
		return err
	}
	condition.Tell(r.Events, p.user, p.before.Conditions, status.Conditions, v1alpha1.ReasonConfigPending)
	return nil
}

// passwordStatus says where a drawn password is in its life.
func passwordStatus(p *pass) *v1alpha1.PasswordStatus {
	if !p.spec.Password.Generate {
		return nil
	}
	status := &v1alpha1.PasswordStatus{RotatedAt: timeOrNil(p.credentials.RotatedAt), OldValidUntil: timeOrNil(p.credentials.OldUntil)}
	if after := p.spec.Password.RotateAfter; after > 0 {
		status.NextRotation = timeOrNil(p.credentials.RotatedAt.Add(after))
	}
	return status
}

// compute is pure: the outcome of the walk gives the conditions.
func compute(set *condition.Set, p *pass, walked error) {
	var (
		stalled *verdict.Stalled
		waiting *verdict.Waiting
	)
	set.Drop(v1alpha1.ConditionStalled)
	if p.isWritten {
		set.True(v1alpha1.ConditionCredentialsReady, v1alpha1.ReasonCredentialsReady, "Secret "+v1alpha1.BindingSecretName(p.user.Name)+" holds what a client needs.")
	}
	switch {
	case errors.As(walked, &stalled):
		fail(set, p, stalled.Finding)
		set.True(v1alpha1.ConditionStalled, stalled.Reason, stalled.Message)
	case errors.As(walked, &waiting):
		fail(set, p, waiting.Finding)
		if waiting.Reason == v1alpha1.ReasonObjectConflict {
			set.True(v1alpha1.ConditionStalled, waiting.Reason, waiting.Message)
		}
	case walked != nil:
		unknown := verdict.Finding{Reason: v1alpha1.ReasonObserveFailed, Message: "A request to the API server failed; the operator's log has the details, and it tries again."}
		set.Unknown(v1alpha1.ConditionCredentialsReady, unknown)
		set.Unknown(v1alpha1.ConditionApplied, unknown)
		set.Unknown(v1alpha1.ConditionReady, unknown)
	default:
		setApplied(set, p)
	}
}

// fail says what is wrong. What the broker knew before, it still knows; Applied speaks of this spec.
func fail(set *condition.Set, p *pass, finding verdict.Finding) {
	if !p.isWritten {
		set.False(v1alpha1.ConditionCredentialsReady, finding)
	}
	set.False(v1alpha1.ConditionApplied, finding)
	set.False(v1alpha1.ConditionReady, finding)
}

func setApplied(set *condition.Set, p *pass) {
	switch {
	case p.broker.Resolved().Hibernated():
		hibernated := verdict.Finding{Reason: v1alpha1.ReasonHibernated, Message: "Broker " + p.broker.Name + " hibernates (spec.replicas is 0): set spec.replicas to 1 to let clients in."}
		set.Unknown(v1alpha1.ConditionApplied, hibernated)
		set.Unknown(v1alpha1.ConditionReady, hibernated)
	case p.isKnown():
		set.True(v1alpha1.ConditionApplied, v1alpha1.ReasonAccepted, "Every pod of broker "+p.broker.Name+" knows the user in this form.")
		if p.spec.Suspended {
			set.True(v1alpha1.ConditionReady, v1alpha1.ReasonSuspended, "The user is locked out, as spec.suspend says.")
			return
		}
		set.True(v1alpha1.ConditionReady, v1alpha1.ReasonReady, "The user can connect.")
	default:
		pending := verdict.Finding{Reason: v1alpha1.ReasonConfigPending, Message: "Broker " + p.broker.Name + " has not answered yet that it knows the user in this form."}
		set.False(v1alpha1.ConditionApplied, pending)
		set.False(v1alpha1.ConditionReady, pending)
	}
}

// isSettled reports whether nothing about the user waits for its broker.
func isSettled(user *v1alpha1.MQTTUser) bool {
	for _, c := range user.Status.Conditions {
		if c.Type == string(v1alpha1.ConditionReady) {
			return c.Status == metav1.ConditionTrue && c.ObservedGeneration == user.Generation
		}
	}
	return false
}
