// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"bytes"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestIsSameSecret(t *testing.T) {
	kind := corev1.SchemeGroupVersion.WithKind("Secret")
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "mq", UID: "1", Controller: new(true), BlockOwnerDeletion: new(true)}
	wish := func() *corev1.Secret {
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "factory", Name: "mq-users-0", Labels: map[string]string{"a": "b"}},
			Type:       "x/y", Data: map[string][]byte{"users-0.json": []byte("[]"), "empty": {}},
		}
	}
	applied, err := asWanted(wish(), kind)
	if err != nil {
		t.Fatal(err)
	}
	stands := func(change func(*corev1.Secret)) *corev1.Secret {
		secret := wish()
		secret.ResourceVersion, secret.UID = "7", "2"
		secret.Annotations = applied.GetAnnotations()
		secret.OwnerReferences = []metav1.OwnerReference{owner}
		change(secret)
		return secret
	}
	cases := map[string]struct {
		reason string
		change func(*corev1.Secret)
		want   bool
	}{
		"nothing":           {"it stands as it was applied", func(*corev1.Secret) {}, true},
		"a foreign label":   {"what others add is theirs", func(s *corev1.Secret) { s.Labels["c"] = "d" }, true},
		"another value":     {"it must be written again", func(s *corev1.Secret) { s.Data["users-0.json"] = []byte("[1]") }, false},
		"a key more":        {"a key that is not wanted must go", func(s *corev1.Secret) { s.Data["more"] = nil }, false},
		"a key less":        {"it must come back", func(s *corev1.Secret) { delete(s.Data, "empty") }, false},
		"a lost label":      {"it must come back", func(s *corev1.Secret) { delete(s.Labels, "a") }, false},
		"no digest":         {"what was applied is not known", func(s *corev1.Secret) { s.Annotations = nil }, false},
		"somebody else's":   {"the long way says that the name is taken", func(s *corev1.Secret) { s.OwnerReferences = nil }, false},
		"of another object": {"as above", func(s *corev1.Secret) { s.OwnerReferences[0].UID = "3" }, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			current := stands(c.change)
			before := current.DeepCopy()
			got, err := isSameSecret(owner, wish(), current, kind)
			if err != nil || got != c.want {
				t.Errorf("got %v, %v, want %v: %s", got, err, c.want, c.reason)
			}
			if len(current.Data) != len(before.Data) || !bytes.Equal(current.Data["users-0.json"], before.Data["users-0.json"]) {
				t.Error("what the cache holds was changed")
			}
		})
	}
	if got, err := isSameSecret(owner, wish(), nil, kind); got || err != nil {
		t.Errorf("got %v, %v for a Secret that is not there", got, err)
	}
}
