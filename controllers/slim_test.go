// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"reflect"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

func mustSlim[T any](t *testing.T, in T) T {
	t.Helper()
	out, err := slim(in)
	if err != nil {
		t.Fatal(err)
	}
	result, ok := out.(T)
	if !ok {
		t.Fatalf("got a %T", out)
	}
	return result
}

func TestSlimKeepsWhatIsRead(t *testing.T) {
	user := gen.User("factory", "anna", "mq", gen.Allow("devices/%u/#", v1alpha1.ACLPublish))
	user.Labels = map[string]string{"team": "a"}
	user.Annotations = map[string]string{"note": "kept"}
	user.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "x", UID: "1"}}
	user.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "True", Reason: "Ready", Message: "The user can connect."}}
	want := user.DeepCopy()
	user.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	user.Annotations[corev1.LastAppliedConfigAnnotation] = "{}"
	if diff := cmp.Diff(want, mustSlim(t, user)); diff != "" {
		t.Error("only managed fields and kubectl's memory may go: " + diff)
	}
	secret := gen.Secret("factory", "anna-mqtt", nil)
	secret.Data, secret.Type = map[string][]byte{"password": []byte("x"), "empty": {}}, v1alpha1.SecretTypeBinding
	if diff := cmp.Diff(secret.DeepCopy(), mustSlim(t, secret)); diff != "" {
		t.Error("a Secret stays what it is: " + diff)
	}
	if gone := (toolscache.DeletedFinalStateUnknown{Key: "factory/anna"}); mustSlim(t, gone) != gone {
		t.Error("a tombstone stays what it is")
	}
}

func TestSlimHoldsWordsOnce(t *testing.T) {
	word := func() string { return string([]byte("factory-of-many-words")) }
	a, b := gen.User(word(), "anna", "mq"), gen.User(word(), "bert", "mq")
	if unsafe.StringData(a.Namespace) == unsafe.StringData(b.Namespace) {
		t.Fatal("the two are one already: this shows nothing")
	}
	if a, b = mustSlim(t, a), mustSlim(t, b); unsafe.StringData(a.Namespace) != unsafe.StringData(b.Namespace) {
		t.Error("equal words of two objects must be held once")
	}
}

func TestSlimHoldsWhatBindingsShareOnce(t *testing.T) {
	binding := func() *corev1.Secret {
		secret := gen.Secret("factory", "anna-mqtt", nil)
		secret.Labels = map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedByValue, v1alpha1.LabelAllow: v1alpha1.AllowOwned}
		secret.Data = map[string][]byte{v1alpha1.BindingCA: []byte("a certificate"), v1alpha1.BindingPassword: []byte("a certificate")}
		return secret
	}
	a, b, want := mustSlim(t, binding()), mustSlim(t, binding()), binding()
	if diff := cmp.Diff(want, a); diff != "" {
		t.Error("it stays what it is: " + diff)
	}
	if &a.Data[v1alpha1.BindingCA][0] != &b.Data[v1alpha1.BindingCA][0] {
		t.Error("the CA of two bindings must be held once")
	}
	if &a.Data[v1alpha1.BindingPassword][0] == &b.Data[v1alpha1.BindingPassword][0] {
		t.Error("a password belongs to its own")
	}
	if reflect.ValueOf(a.Labels).Pointer() != reflect.ValueOf(b.Labels).Pointer() {
		t.Error("equal labels must be held once")
	}
	other := binding()
	other.Labels["team"] = "a"
	if c := mustSlim(t, other); len(c.Labels) != 3 || len(a.Labels) != 2 {
		t.Errorf("other labels are others: %v, %v", c.Labels, a.Labels)
	}
}
