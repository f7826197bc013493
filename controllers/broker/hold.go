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

// hold is pure: outside of the maintenance windows the StatefulSet keeps the template that it has. All else that is
// wished of it is done. Where no pod runs, or none is to run, nobody is disturbed and nothing waits.
func hold(_ context.Context, p *pass) error {
	p.held = true
	f, set := p.facts, p.desired.StatefulSet
	if set == nil || f.StatefulSet == nil || len(f.Spec.Windows) == 0 || f.Broker.Urgent() || f.StatefulSet.Spec.Replicas == nil || *f.StatefulSet.Spec.Replicas == 0 {
		return nil
	}
	reason := restartReason(f, set)
	opening := verdict.NextOpening(f.Spec.Windows, f.Now)
	if reason == "" || opening.IsOpen(f.Now) {
		return nil
	}
	p.pending = &v1alpha1.PendingRestart{Reason: reason, Since: metav1.NewTime(f.Now.Truncate(time.Second)), Window: opening.Window}
	if before := p.before.PendingRestart; before != nil {
		p.pending.Since = before.Since
	}
	if opening.Window != "" {
		p.pending.Opens = new(metav1.NewTime(opening.From.UTC()))
	}
	desired.Hold(set, f.StatefulSet)
	return nil
}

// waits says what waits, since when and until when.
func waits(pending *v1alpha1.PendingRestart) string {
	text := fmt.Sprintf("A change that replaces pods (%s) waits since %s", pending.Reason, pending.Since.UTC().Format(time.RFC3339))
	if pending.Opens != nil {
		text += fmt.Sprintf(" for the maintenance window %s, which opens at %s", pending.Window, pending.Opens.UTC().Format(time.RFC3339))
	}
	return text + "; the annotation " + v1alpha1.AnnotationUrgent + ": \"true\" lets it pass at once."
}
