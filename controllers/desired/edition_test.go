// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// TestAnEditionStaysAsItIs holds what was once given to pods against what is rendered today, by its digest. No digest here may
// ever change: all brokers that stand in that edition would restart when the operator is upgraded. What is to be said otherwise
// is another edition.
func TestAnEditionStaysAsItIs(t *testing.T) {
	whole := wholeBroker(t)
	small := whole.DeepCopy()
	small.Spec.Pod = nil
	digests := []struct{ whole, small string }{
		1: {whole: "b4905f3fe3491865", small: "403fadb55a3153d8"},
		2: {whole: "d07403580bc1cada", small: "5279dc5150d7808d"},
	}
	if len(digests) != edition+1 {
		t.Fatalf("no digest stands here for edition %d", edition)
	}
	for n := 1; n <= edition; n++ {
		for b, want := range map[*v1alpha1.MQTTBroker]string{whole: digests[n].whole, small: digests[n].small} {
			f, _ := facts(t, b)
			template := podTemplate(f, n)
			if got := digestOf(&template); got != want {
				t.Errorf("edition %d: pods have the digest %s, and had %s", n, got, want)
			}
		}
	}
}

// TestWhichEditionPodsHave says when they get a newer one: when they are made or replaced, and never for its own sake.
func TestWhichEditionPodsHave(t *testing.T) {
	account := func(annotations map[string]string) *corev1.ServiceAccount {
		return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Annotations: annotations}}
	}
	for name, tc := range map[string]struct {
		stood   int // 0: there is no StatefulSet
		account *corev1.ServiceAccount
		change  func(*v1alpha1.MQTTBroker)
		byHand  func(*appsv1.StatefulSet)
		want    int
	}{
		"a new broker":                  {want: edition},
		"an upgrade of the operator":    {stood: 1, want: 1},
		"nothing changes":               {stood: edition, want: edition},
		"a change that disturbs nobody": {stood: 1, want: 1, change: func(b *v1alpha1.MQTTBroker) { b.Spec.Replicas = new(int32(0)) }},
		"another image":                 {stood: 1, want: edition, change: func(b *v1alpha1.MQTTBroker) { b.Spec.Image = new("example.com/mqtt-broker:2") }},
		"a restart that was asked for": {stood: 1, want: edition, change: func(b *v1alpha1.MQTTBroker) {
			b.Annotations = map[string]string{v1alpha1.AnnotationRestartAt: "2026-11-23T11:00:00Z"}
		}},
		"a hand in the StatefulSet":                              {stood: 1, want: edition, byHand: func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Args = nil }},
		"one of a newer operator":                                {stood: edition, want: edition, byHand: func(s *appsv1.StatefulSet) { s.Spec.Template.Annotations[EditionAnnotation] = "99" }},
		"one that is no number":                                  {stood: edition, want: edition, byHand: func(s *appsv1.StatefulSet) { s.Spec.Template.Annotations[EditionAnnotation] = "first" }},
		"made anew for its volumes":                              {account: account(map[string]string{DefaultImageAnnotation: "example.com/mqtt-broker:1", EditionAnnotation: "1"}), want: 1},
		"made anew, and the operator of before knew no editions": {account: account(map[string]string{DefaultImageAnnotation: "example.com/mqtt-broker:1"}), want: 1},
		"made anew in the newest":                                {account: account(map[string]string{DefaultImageAnnotation: "example.com/mqtt-broker:1", EditionAnnotation: "2"}), want: 2},
	} {
		t.Run(name, func(t *testing.T) {
			b := gen.Broker("factory", "mq")
			f, _ := facts(t, b)
			f.ServiceAccount = tc.account
			var stood *appsv1.StatefulSet
			if tc.stood != 0 {
				stood = statefulSet(f, tc.stood)
				if tc.byHand != nil {
					tc.byHand(stood)
				}
				f.StatefulSet = stood
			}
			if tc.change != nil {
				tc.change(b)
				f.Spec = b.Resolved()
			}
			got := StatefulSet(f)
			if n := editionIn(got.Spec.Template.Annotations); n != tc.want {
				t.Errorf("pods get edition %d, want %d", n, tc.want)
			}
			if tc.byHand == nil && stood != nil && Replaces(got, stood) != (tc.stood != tc.want) {
				t.Error("pods are replaced for the edition, or not with it")
			}
			f.StatefulSet = got
			if again := StatefulSet(f); Replaces(again, got) {
				t.Error("the next look replaces them again")
			}
		})
	}
}

// TestTheEditionIsNoReason for a restart: what the spec says is.
func TestTheEditionIsNoReason(t *testing.T) {
	b := gen.Broker("factory", "mq")
	f, _ := facts(t, b)
	f.StatefulSet = statefulSet(f, 1)
	b.Annotations = map[string]string{v1alpha1.AnnotationRestartAt: "2026-11-23T11:00:00Z"}
	if why := WhyReplaced(&StatefulSet(f).Spec.Template, &f.StatefulSet.Spec.Template); why != v1alpha1.ReasonRestartRequested {
		t.Errorf("it is restarted for %s", why)
	}
}

// TestWhatOutlivesTheStatefulSet has to be written before that is deleted.
func TestWhatOutlivesTheStatefulSet(t *testing.T) {
	for n := 1; n <= edition; n++ {
		f, _ := facts(t, gen.Broker("factory", "mq"))
		f.StatefulSet = statefulSet(f, n)
		account := ServiceAccount(f)
		if !OutlivesStatefulSet(account, f.StatefulSet) {
			t.Errorf("edition %d: the ServiceAccount does not know what the StatefulSet knows", n)
		}
		if again := editionOf(&verdict.Facts{ServiceAccount: account}); again != n {
			t.Errorf("edition %d comes back as %d", n, again)
		}
		other := statefulSet(f, 3-n)
		if OutlivesStatefulSet(account, other) {
			t.Errorf("the ServiceAccount says %d, and pods have %d", n, 3-n)
		}
	}
	if OutlivesStatefulSet(nil, &appsv1.StatefulSet{}) {
		t.Error("there is no ServiceAccount")
	}
}
