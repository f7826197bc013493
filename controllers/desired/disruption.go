// SPDX-License-Identifier: Apache-2.0

package desired

import (
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// DisruptionBudget lets evictions take one pod at a time, nil where the spec wants none. It says how many may be away, not how
// many must be there: the latter would keep a node from being drained for as long as there is one pod. A pod that is not ready
// serves nobody, and may go whatever became of the others.
func DisruptionBudget(f *verdict.Facts) *policyv1.PodDisruptionBudget {
	if !f.Spec.DisruptionBudget {
		return nil
	}
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: meta(f, v1alpha1.DisruptionBudgetName(f.Broker.Name))}
	budget.Spec = policyv1.PodDisruptionBudgetSpec{
		MaxUnavailable:             new(intstr.FromInt32(1)),
		Selector:                   &metav1.LabelSelector{MatchLabels: v1alpha1.BrokerSelector(f.Broker.Name)},
		UnhealthyPodEvictionPolicy: new(policyv1.AlwaysAllow),
	}
	return budget
}
