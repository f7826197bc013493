// SPDX-License-Identifier: Apache-2.0

package verdict_test

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

func storage(size string) corev1.ResourceList {
	if size == "" {
		return nil
	}
	return corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
}

func TestGrowth(t *testing.T) {
	owned := []metav1.OwnerReference{{UID: "set", Controller: new(true)}}
	for name, tc := range map[string]struct {
		reason                   string
		template, asks, has      string // empty: there is none
		pending, orphan, unbound bool
		says                     string // empty: nothing is to be done
	}{
		"a broker that is being made":     {reason: "volumes are made with their size"},
		"as wished":                       {reason: "all is done", template: "2Gi", asks: "2Gi", has: "2Gi"},
		"a disk that is larger":           {reason: "drivers round up", template: "2Gi", asks: "2Gi", has: "3Gi"},
		"a volume of a larger broker":     {reason: "nothing shrinks", template: "2Gi", asks: "4Gi", has: "4Gi"},
		"a small StatefulSet":             {reason: "it comes last", template: "1Gi", asks: "2Gi", has: "2Gi", says: "made anew, for volumes of 2Gi"},
		"all is small":                    {reason: "it has begun", template: "1Gi", asks: "1Gi", has: "1Gi", says: "made anew, for volumes of 2Gi"},
		"a claim that waits for a volume": {reason: "the API server lets no such claim ask for more", template: "1Gi", asks: "1Gi", unbound: true, says: "data-mq-broker-0 has no volume yet"},
		"pods without a StatefulSet":      {reason: "it comes back", asks: "2Gi", has: "2Gi", orphan: true, says: "made anew"},
		"pods not yet taken over":         {reason: "they belong to nobody", template: "2Gi", asks: "2Gi", has: "2Gi", orphan: true, says: "made anew"},
		"a slow driver":                   {reason: "the wish is not in force yet", template: "2Gi", asks: "2Gi", has: "1Gi", says: "data-mq-broker-0 has 1Gi and is to have 2Gi"},
		"a file system that waits":        {reason: "somebody has to act", template: "2Gi", asks: "2Gi", has: "1Gi", pending: true, says: "its file system grows when the pod is replaced"},
	} {
		t.Run(name, func(t *testing.T) {
			broker := gen.Broker("factory", "mq", gen.WithVolume("2Gi", "fast"))
			f := &verdict.Facts{Broker: broker, Spec: broker.Resolved(), Pods: []verdict.PodFacts{{Pod: corev1.Pod{ObjectMeta: metav1.ObjectMeta{OwnerReferences: owned}}}}}
			if tc.orphan {
				f.Pods[0].Pod.OwnerReferences = nil
			}
			if tc.template != "" {
				f.StatefulSet = &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{VolumeClaimTemplates: []corev1.PersistentVolumeClaim{
					{Spec: corev1.PersistentVolumeClaimSpec{Resources: corev1.VolumeResourceRequirements{Requests: storage(tc.template)}}},
				}}}
			}
			if tc.asks != "" {
				claim := corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data-mq-broker-0"}}
				claim.Spec.Resources.Requests, claim.Status.Capacity, claim.Status.Phase = storage(tc.asks), storage(tc.has), corev1.ClaimBound
				if tc.unbound {
					claim.Status.Phase = corev1.ClaimPending
				}
				if tc.pending {
					claim.Status.Conditions = []corev1.PersistentVolumeClaimCondition{{Type: corev1.PersistentVolumeClaimFileSystemResizePending, Status: corev1.ConditionTrue}}
				}
				f.Claims = []corev1.PersistentVolumeClaim{claim}
			}
			growth := verdict.Growth(f)
			switch {
			case growth == nil && tc.says == "":
			case growth == nil || tc.says == "" || growth.Reason != v1alpha1.ReasonVolumeExpanding || !strings.Contains(growth.Message, tc.says):
				t.Errorf("got %+v, want %q: %s", growth, tc.says, tc.reason)
			}
		})
	}
}
