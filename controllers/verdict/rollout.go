// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// What a StatefulSet remembers of its pod template.
const (
	// TemplateAnnotation is the digest of the template as it was wished. The template itself also holds what the API server
	// adds, so that a field which is wished no more would not be missed in it.
	TemplateAnnotation = "mqtt-operator.io/template"
	// SinceAnnotation is when that template was wished first.
	SinceAnnotation = "mqtt-operator.io/template-since"
	// FailedAnnotation is the digest of a template in which pods did not become ready, so that they have the one of before;
	// BecauseAnnotation says how they were.
	FailedAnnotation  = "mqtt-operator.io/failed-template"
	BecauseAnnotation = "mqtt-operator.io/failed-because"
	// RestartedAnnotation is why pods were last replaced, and when: a reason and a time. It is written with the very template
	// that replaces them, so that no fault between that and the status can make it forgotten.
	RestartedAnnotation = "mqtt-operator.io/restarted"
)

// Restarted is why and when pods were last replaced, the empty reason where the StatefulSet knows of no time.
func Restarted(set *appsv1.StatefulSet) (v1alpha1.ConditionReason, time.Time) {
	if set == nil {
		return "", time.Time{}
	}
	reason, text, _ := strings.Cut(set.Annotations[RestartedAnnotation], " ")
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return "", time.Time{}
	}
	return v1alpha1.ConditionReason(reason), at
}

// IsObserved reports whether the controller of StatefulSets has seen the one that stands. The generation that it says it has seen
// may be greater than the one that there is, and stays so: where a StatefulSet was deleted without its pods and made anew, that
// controller can write what it knew of the old one into the new one's status.
func IsObserved(set *appsv1.StatefulSet) bool { return set.Status.ObservedGeneration >= set.Generation }

// RolloutUntil is when pods that are being replaced have to be ready. Pods that have been ready in their form are not
// replaced, whatever became of them afterwards: the controller of StatefulSets says so, by one revision for all.
func (f *Facts) RolloutUntil() (time.Time, bool) {
	set := f.StatefulSet
	if set == nil || f.Spec.Hibernated() || !IsObserved(set) || set.Status.CurrentRevision == set.Status.UpdateRevision {
		return time.Time{}, false
	}
	since, err := time.Parse(time.RFC3339, set.Annotations[SinceAnnotation])
	if err != nil || set.Status.ReadyReplicas >= f.Spec.Replicas && set.Status.UpdatedReplicas >= f.Spec.Replicas {
		return time.Time{}, false
	}
	return since.Add(f.Spec.ProgressDeadline), true
}

// IsOverdue reports whether pods that were replaced have not become ready in time.
func (f *Facts) IsOverdue() bool {
	until, isUnderWay := f.RolloutUntil()
	return isUnderWay && !f.Now.Before(until)
}
