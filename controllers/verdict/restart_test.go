// SPDX-License-Identifier: Apache-2.0

package verdict_test

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

func TestRestartAt(t *testing.T) {
	const early, late = "2026-11-28T18:00:00Z", "2026-11-28T19:00:00Z"
	meta := metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.AnnotationRestartAt: early}}
	set := &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Template: corev1.PodTemplateSpec{ObjectMeta: meta}}}
	for name, tc := range map[string]struct {
		reason  string
		wish    string // empty: there is none
		set     *appsv1.StatefulSet
		pods    []verdict.PodFacts
		want    string
		invalid bool
	}{
		"nobody asks":                  {reason: "most never do"},
		"somebody asks":                {reason: "it is a wish", wish: late, set: set, want: late},
		"a new broker":                 {reason: "its first pod is made for it", wish: late, want: late},
		"another zone's clock":         {reason: "it is the same time, and restarts nobody", wish: "2026-11-28T19:00:00+01:00", set: set, want: early},
		"a part of a second":           {reason: "two wishes of one second are two", wish: "2026-11-28T18:00:00.25Z", set: set, want: "2026-11-28T18:00:00.25Z"},
		"the wish is taken back":       {reason: "another template would restart", set: set, want: early},
		"no time":                      {reason: "nothing comes of it", wish: "now", set: set, want: early, invalid: true},
		"no time, and nobody asked":    {reason: "nothing comes of it", wish: "2026-11-28", invalid: true},
		"a StatefulSet is made anew":   {reason: "its pods go on", pods: []verdict.PodFacts{{Pod: corev1.Pod{ObjectMeta: meta}}}, want: early},
		"a wish while it is made anew": {reason: "it is fulfilled as soon as it stands", wish: late, pods: []verdict.PodFacts{{Pod: corev1.Pod{ObjectMeta: meta}}}, want: late},
	} {
		t.Run(name, func(t *testing.T) {
			broker := gen.Broker("factory", "mq")
			if tc.wish != "" {
				broker.Annotations = map[string]string{v1alpha1.AnnotationRestartAt: tc.wish}
			}
			got, fault := verdict.RestartAt(&verdict.Facts{Broker: broker, StatefulSet: tc.set, Pods: tc.pods})
			if got != tc.want || (fault != nil) != tc.invalid {
				t.Errorf("got %q %+v, want %q: %s", got, fault, tc.want, tc.reason)
			}
		})
	}
}
