// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// TestTopicsOfANamespace tries the admission policy that the page on namespaces shows: it must refuse and let through what
// the page says.
func TestTopicsOfANamespace(t *testing.T) {
	t.Parallel()

	const says = "rules of this namespace allow topics below lab/ only"

	server := start(t)

	for _, o := range objects(t) {
		if !strings.HasPrefix(o.where, "docs/namespaces.md:") {
			continue
		}

		if group := o.GroupVersionKind().Group; group == "admissionregistration.k8s.io" || o.GetKind() == "Namespace" {
			if err := server.Create(t.Context(), o.Unstructured); err != nil {
				t.Fatalf("%s: %v", o.where, err)
			}
		}
	}

	if err := server.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "elsewhere"}}); err != nil {
		t.Fatal(err)
	}

	rule := func(effect, filter string) []any {
		return []any{map[string]any{"effect": effect, "actions": []any{"publish"}, "filter": filter}}
	}
	user := func(namespace string, rules []any) *unstructured.Unstructured {
		spec := map[string]any{
			"brokerRef": map[string]any{"name": "shared"}, "authentication": map[string]any{"password": map[string]any{"generate": map[string]any{}}},
		}
		if rules != nil {
			spec["acl"] = rules
		}

		return ofKind("MQTTUser", namespace, spec)
	}
	policy := func(rules []any) *unstructured.Unstructured {
		return ofKind("MQTTAccessPolicy", "lab", map[string]any{"rules": rules})
	}

	await(t, "the policy is in force", func() error {
		err := server.Create(t.Context(), user("lab", rule("allow", "office/#")), client.DryRunAll)
		if err == nil || !strings.Contains(err.Error(), says) {
			return errors.Join(errors.New("a rule about another namespace's topics is let through"), err)
		}

		return nil
	})

	for name, tc := range map[string]struct {
		object  *unstructured.Unstructured
		refused bool
	}{
		"topics of its own":             {object: user("lab", rule("allow", "lab/robot/#"))},
		"no rules at all":               {object: user("lab", nil)},
		"a deny rule":                   {object: user("lab", rule("deny", "#"))},
		"a namespace without the label": {object: user("elsewhere", rule("allow", "office/#"))},
		"everything":                    {object: user("lab", rule("allow", "#")), refused: true},
		"a name that begins like it":    {object: user("lab", rule("allow", "laboratory/#")), refused: true},
		"a policy of its own topics":    {object: policy(rule("allow", "lab/+/state"))},
		"a policy of others":            {object: policy(rule("allow", "office/#")), refused: true},
	} {
		err := server.Create(t.Context(), tc.object, client.DryRunAll)
		if refused := err != nil && strings.Contains(err.Error(), says); refused != tc.refused || (err != nil && !refused) {
			t.Errorf("%s: got %v, refused should be %t", name, err, tc.refused)
		}
	}
}

func ofKind(kind, namespace string, spec map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	o.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	o.SetNamespace(namespace)
	o.SetName("robot")

	return o
}

// await asks until there is no error.
func await(t *testing.T, what string, ask func() error) {
	t.Helper()

	deadline, tick := time.After(time.Minute), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()

	for {
		err := ask()
		if err == nil {
			return
		}

		select {
		case <-deadline:
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}
