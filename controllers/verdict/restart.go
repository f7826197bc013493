// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"time"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// RestartAt is the wish for a restart that pods are to be made for, empty where nobody ever had one. A wish that is taken
// back, and one that cannot be read, which the finding tells of, leave the pods as they are.
func RestartAt(f *Facts) (string, *Finding) {
	text, found := f.Broker.Annotations[v1alpha1.AnnotationRestartAt]
	if !found {
		return fulfilled(f), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return fulfilled(f), find(v1alpha1.ReasonRestartAtInvalid,
			"The annotation %s is no time as in RFC 3339, such as 2026-11-28T18:00:00Z: no pod is replaced for it.", v1alpha1.AnnotationRestartAt)
	}
	return at.UTC().Format(time.RFC3339Nano), nil
}

// fulfilled is the wish that pods have been made for last.
func fulfilled(f *Facts) string {
	if f.StatefulSet != nil {
		return f.StatefulSet.Spec.Template.Annotations[v1alpha1.AnnotationRestartAt]
	}
	for i := range f.Pods { // their StatefulSet is being made anew
		return f.Pods[i].Pod.Annotations[v1alpha1.AnnotationRestartAt]
	}
	return ""
}
