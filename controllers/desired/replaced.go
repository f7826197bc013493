// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// WhyReplaced says in one word why pods that have one template get the other, which differs. What somebody sees before he
// applies a change and what the status says afterwards come from here.
func WhyReplaced(want, have *corev1.PodTemplateSpec) v1alpha1.ConditionReason {
	switch {
	case imageOf(want) != imageOf(have):
		return v1alpha1.ReasonImageChanged
	case isPodChanged(want, have):
		return v1alpha1.ReasonPodChanged
	case want.Annotations[v1alpha1.AnnotationRestartAt] != have.Annotations[v1alpha1.AnnotationRestartAt]:
		return v1alpha1.ReasonRestartRequested
	default:
		return v1alpha1.ReasonTemplateChanged
	}
}

func imageOf(template *corev1.PodTemplateSpec) string {
	for i := range template.Spec.Containers {
		if template.Spec.Containers[i].Name == ContainerName {
			return template.Spec.Containers[i].Image
		}
	}
	return ""
}

// isPodChanged reports whether what spec.pod shapes differs.
func isPodChanged(want, have *corev1.PodTemplateSpec) bool {
	same := equality.Semantic.DeepEqual
	return len(have.Spec.Containers) == 0 ||
		!same(want.Spec.Containers[0].Resources, have.Spec.Containers[0].Resources) ||
		!same(want.Spec.Affinity, have.Spec.Affinity) ||
		!same(want.Spec.TopologySpreadConstraints, have.Spec.TopologySpreadConstraints) ||
		!same(want.Spec.Tolerations, have.Spec.Tolerations) ||
		!same(want.Spec.NodeSelector, have.Spec.NodeSelector) ||
		want.Spec.PriorityClassName != have.Spec.PriorityClassName ||
		!same(want.Labels, have.Labels) || !same(wishedAnnotations(want), wishedAnnotations(have))
}

// wishedAnnotations are those of spec.pod.
func wishedAnnotations(template *corev1.PodTemplateSpec) map[string]string {
	annotations := maps.Clone(template.Annotations)
	delete(annotations, v1alpha1.AnnotationRestartAt)
	delete(annotations, EditionAnnotation)
	return annotations
}
