// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"errors"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

// TestACacheThatIsBehind does not decide about what it should have held: what is wished of a Secret or of what runs pods follows
// from how it stands. What somebody else holds is a conflict, whatever the cache knows.
func TestACacheThatIsBehind(t *testing.T) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	owner := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "factory", Name: "owner", UID: "1"}}
	other := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "factory", Name: "other", UID: "2"}}
	named := metav1.ObjectMeta{Namespace: "factory", Name: "mq-broker"}
	set, deployment, service, secret := &appsv1.StatefulSet{ObjectMeta: named}, &appsv1.Deployment{ObjectMeta: named}, &corev1.Service{ObjectMeta: named}, &corev1.Secret{ObjectMeta: named}
	for name, tc := range map[string]struct {
		object client.Object
		by     *corev1.ConfigMap // nil: there is none
		looked types.UID         // at which one
		late   bool              // the cache holds it by now
		behind bool
	}{
		"a StatefulSet of ours that was not there":         {object: set, by: owner, behind: true},
		"a Deployment of ours that was not there":          {object: deployment, by: owner, behind: true},
		"one that came into the cache after it was wanted": {object: set, by: owner, late: true, behind: true},
		"another one than was looked at":                   {object: set, by: owner, looked: "before", late: true, behind: true},
		"the one that was looked at":                       {object: set, by: owner, looked: "now", late: true},
		"one that is gone by now":                          {object: set, looked: "now", behind: true},
		"a Secret that is gone by now":                     {object: secret, looked: "now", behind: true},
		"a Secret that never was":                          {object: secret},
		"a Service of ours, whatever was looked at":        {object: service, by: owner},
		"somebody's": {object: set, by: other},
	} {
		t.Run(name, func(t *testing.T) {
			kind, err := fake.NewClientBuilder().WithScheme(scheme).Build().GroupVersionKindFor(owner)
			if err != nil {
				t.Fatal(err)
			}
			there, ok := tc.object.DeepCopyObject().(client.Object)
			if !ok {
				t.Fatalf("%T", tc.object)
			}
			there.SetUID("now")
			live := fake.NewClientBuilder().WithScheme(scheme).Build()
			if tc.by != nil {
				there.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(tc.by, kind)})
				live = fake.NewClientBuilder().WithScheme(scheme).WithObjects(there).Build()
			}
			cached := fake.NewClientBuilder().WithScheme(scheme).Build()
			if tc.late {
				cached = live
			}
			wanted, ok := tc.object.DeepCopyObject().(client.Object)
			if !ok {
				t.Fatalf("%T", tc.object)
			}
			wanted.SetUID(tc.looked)
			_, err = NewWriter(cached, live).compare(t.Context(), owner, kind, wanted)
			if got := apierrors.IsConflict(err); got != tc.behind {
				t.Errorf("behind: %t (%v), want %t", got, err, tc.behind)
			}
			if _, taken := errors.AsType[*ConflictError](err); taken != (tc.by == other) {
				t.Errorf("taken by somebody else: %v", err)
			}
		})
	}
}

// TestTheUIDIsNoWish: an object that was made a moment ago is not written again because it has one now.
func TestTheUIDIsNoWish(t *testing.T) {
	kind := appsv1.SchemeGroupVersion.WithKind("StatefulSet")
	before, err := asWanted(&appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "mq"}}, kind)
	if err != nil {
		t.Fatal(err)
	}
	after, err := asWanted(&appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "mq", UID: "1"}}, kind)
	if err != nil {
		t.Fatal(err)
	}
	if !isAsWanted(after, before) || !isAsWanted(before, after) {
		t.Errorf("%v is not %v", after.Object, before.Object)
	}
}
