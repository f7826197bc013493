// SPDX-License-Identifier: Apache-2.0

package mqttbroker

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// hold is pure: it decides whether the pods get the form that the spec says. They do not where they have failed in it, and
// outside of the maintenance windows. All else that is wished of the StatefulSet is done. Where pods are replaced, the StatefulSet
// says why.
func hold(_ context.Context, p *pass) error {
	p.held = true
	set, stood := p.desired.StatefulSet, p.facts.StatefulSet
	if set == nil || stood == nil {
		return nil
	}
	wished := set.Annotations[verdict.TemplateAnnotation]
	switch {
	case stood.Annotations[verdict.FailedAnnotation] == wished:
		p.stuck = failed(p.facts, stood.Annotations[verdict.BecauseAnnotation])
		desired.Hold(set, stood)
	case p.facts.Previous != nil && stood.Annotations[verdict.TemplateAnnotation] == wished:
		because := whyNotReady(p.facts)
		p.stuck = failed(p.facts, because)
		desired.Return(set, p.facts.Previous, because)
	default:
		wait(p)
	}
	if reason := restartReason(p.facts, set); reason != "" {
		if p.stuck != nil {
			reason = p.stuck.Reason
		}
		desired.Restart(set, reason, p.facts.Now)
	}
	return nil
}

func failed(f *verdict.Facts, because string) *verdict.Finding {
	return &verdict.Finding{
		Reason: v1alpha1.ReasonRolloutStuck,
		Message: fmt.Sprintf("In the form that the spec says, the pods did not become ready within %s (spec.updates.progressDeadline), so they have the one of before until the spec changes. It said then: %s",
			f.Spec.ProgressDeadline, because),
	}
}

// wait leaves the pods as they are outside of the maintenance windows.
func wait(p *pass) {
	f, set := p.facts, p.desired.StatefulSet
	reason := restartReason(f, set)
	opening, waits := verdict.WaitsFor(f)
	if reason == "" || !waits {
		return
	}
	p.pending = &v1alpha1.PendingRestart{Reason: reason, Since: metav1.NewTime(f.Now.Truncate(time.Second))}
	if before := p.before.PendingRestart; before != nil {
		p.pending.Since = before.Since
	}
	if opening.Window != "" {
		p.pending.Window, p.pending.Opens = &opening.Window, new(metav1.NewTime(opening.From.UTC()))
	}
	desired.Hold(set, f.StatefulSet)
}

// waits says what waits, since when and until when.
func waits(pending *v1alpha1.PendingRestart) string {
	text := fmt.Sprintf("A change that replaces pods (%s) waits since %s", pending.Reason, pending.Since.UTC().Format(time.RFC3339))
	if pending.Window != nil && pending.Opens != nil {
		text += fmt.Sprintf(" for the maintenance window %s, which opens at %s", *pending.Window, pending.Opens.UTC().Format(time.RFC3339))
	}
	return text + "; the annotation " + v1alpha1.AnnotationUrgent + ": \"true\" lets it pass at once."
}
