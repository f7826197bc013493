// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// IsStatefulSetEnding reports whether the StatefulSet has been deleted and is not gone yet.
func (f *Facts) IsStatefulSetEnding() bool {
	return f.StatefulSet != nil && f.StatefulSet.DeletionTimestamp != nil
}

// TemplateSize is the size of the volumes that the StatefulSet makes, if there is one that makes any.
func (f *Facts) TemplateSize() (resource.Quantity, bool) {
	if f.StatefulSet == nil || len(f.StatefulSet.Spec.VolumeClaimTemplates) == 0 {
		return resource.Quantity{}, false
	}
	size, found := f.StatefulSet.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests[corev1.ResourceStorage]
	return size, found
}

// IsOutgrown reports whether the StatefulSet makes smaller volumes than the spec says. What it makes them from cannot
// change, so that another one has to take its place.
func (f *Facts) IsOutgrown() bool {
	size, found := f.TemplateSize()
	return found && f.Spec.Persistence != nil && size.Cmp(f.Spec.Persistence.Size) < 0
}

// SmallClaims are the claims that ask for less than the spec says.
func (f *Facts) SmallClaims() []corev1.PersistentVolumeClaim {
	var small []corev1.PersistentVolumeClaim
	for i := range f.Claims {
		if size := f.Claims[i].Spec.Resources.Requests[corev1.ResourceStorage]; f.Spec.Persistence != nil && size.Cmp(f.Spec.Persistence.Size) < 0 {
			small = append(small, f.Claims[i])
		}
	}
	return small
}

// Growth says what is still to happen until every volume has the size that the spec says; nil where nothing is.
func Growth(f *Facts) *Finding {
	volume := f.Spec.Persistence
	if volume == nil {
		return nil
	}
	size := volume.Size.String()
	if f.IsOutgrown() {
		for _, claim := range f.SmallClaims() {
			if claim.Status.Phase != corev1.ClaimBound {
				return find(v1alpha1.ReasonVolumeExpanding, "PersistentVolumeClaim %s has no volume yet; it grows to %s once it has; kubectl -n %s describe pvc %s tells more.",
					claim.Name, size, claim.Namespace, claim.Name)
			}
		}
	}
	if f.IsOutgrown() || f.AreOrphans() {
		return find(v1alpha1.ReasonVolumeExpanding, "The StatefulSet is made anew, for volumes of %s; its pods go on.", size)
	}
	for i := range f.Claims {
		claim := &f.Claims[i]
		capacity, known := claim.Status.Capacity[corev1.ResourceStorage]
		if !known || claim.DeletionTimestamp != nil || capacity.Cmp(volume.Size) >= 0 {
			continue
		}
		if isForTheNextPod(claim) {
			return find(v1alpha1.ReasonVolumeExpanding, "Volume %s has grown to %s, and its file system grows when the pod is replaced: "+
				"set the annotation %s, at a time that suits its clients.", claim.Name, size, v1alpha1.AnnotationRestartAt)
		}
		return find(v1alpha1.ReasonVolumeExpanding, "Volume %s has %s and is to have %s; kubectl -n %s describe pvc %s tells more.",
			claim.Name, capacity.String(), size, claim.Namespace, claim.Name)
	}
	return nil
}

// isForTheNextPod reports whether the driver of the volume cannot let the file system grow while a pod uses it.
func isForTheNextPod(claim *corev1.PersistentVolumeClaim) bool {
	for _, c := range claim.Status.Conditions {
		if c.Type == corev1.PersistentVolumeClaimFileSystemResizePending && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}

// AreOrphans reports whether no pod belongs to a StatefulSet: the one that they had was made away with, and the next has
// not taken them over yet.
func (f *Facts) AreOrphans() bool {
	for i := range f.Pods {
		if metav1.GetControllerOf(&f.Pods[i].Pod) != nil {
			return false
		}
	}
	return len(f.Pods) > 0
}
