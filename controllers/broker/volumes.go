// SPDX-License-Identifier: Apache-2.0

package mqttbroker

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/apply"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// grow lets the volumes become as large as the spec says: first the claims, then the StatefulSet, which makes those of
// pods to come. That cannot be changed in it, so it is deleted without its pods, and a later pass makes it anew. The
// StatefulSet goes last, for it is by its size that a pass knows what is left to do: an operator that ends after any
// step goes on from there.
//
// Nobody is asked beforehand whether the storage class lets volumes grow. The API server knows, and says it of the very
// claim; a right to read storage classes would be one over the whole cluster.
func (r *Reconciler) grow(ctx context.Context, p *pass) error {
	f := p.facts
	if !f.IsOutgrown() || f.IsStatefulSetEnding() || p.renewed { // what was looked at is not what stands: the next pass knows better
		return nil
	}
	small := f.SmallClaims()
	for i := range small {
		if small[i].Status.Phase != corev1.ClaimBound {
			return nil // Only a claim with a volume can ask for more; the status says so.
		}
	}
	for _, dry := range []bool{true, false} { // all or none
		for i := range small {
			err := r.Writer.Grow(ctx, &small[i], f.Spec.Persistence.Size, dry)
			if refusal, refused := errors.AsType[*apply.RefusedError](err); refused {
				p.refused = refusedGrowth(&small[i], refusal)
				return nil
			}
			if err != nil {
				return err
			}
		}
	}
	if p.pending != nil || p.stuck != nil {
		return nil // The next StatefulSet would have the template that waits, or failed. The volumes themselves have grown.
	}
	if !desired.OutlivesStatefulSet(f.ServiceAccount, f.StatefulSet) {
		return nil // What this very pass has written there must outlive the StatefulSet. The cache will say that it stands.
	}
	return r.Writer.Orphan(ctx, f.Broker, f.StatefulSet)
}

func refusedGrowth(claim *corev1.PersistentVolumeClaim, refusal *apply.RefusedError) *verdict.Finding {
	class := "without a storage class"
	if claim.Spec.StorageClassName != nil && *claim.Spec.StorageClassName != "" {
		class = "of storage class " + *claim.Spec.StorageClassName
	}
	size := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	return &verdict.Finding{
		Reason: v1alpha1.ReasonVolumeExpansionRefused,
		Message: fmt.Sprintf("The volume %s, %s, stays at %s, and nothing was changed: %v. A storage class lets volumes grow that has allowVolumeExpansion: true; "+
			"spec.persistence.size is tried again each minute.", claim.Name, class, size.String(), refusal.Unwrap()),
	}
}
