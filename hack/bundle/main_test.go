// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const root = "../.."

func inputs(t *testing.T) (install, kinds, samples []object) {
	t.Helper()
	var all [3][]object
	for i, pattern := range []string{"config/default/operator.yaml", "config/crd/bases/*.yaml", "config/samples/*.yaml"} {
		var err error
		if all[i], err = read(filepath.Join(root, pattern)); err != nil {
			t.Fatal(err)
		}
	}
	return all[0], all[1], all[2]
}

// What lies in bundle/ is compared with what is written by hack/verify.sh; here, that nothing hangs on chance.
func TestEqualInputGivesEqualBytes(t *testing.T) {
	first, err := bundle(inputs(t))
	if err != nil {
		t.Fatal(err)
	}
	second, err := bundle(inputs(t))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Error(diff)
	}
	for name, text := range first {
		if !strings.HasPrefix(string(text), license) {
			t.Errorf("%s does not begin with the licence", name)
		}
	}
}

func TestWrongInputIsRefused(t *testing.T) {
	only := func(kind string) func([]object) []object {
		return func(all []object) []object {
			return slices.DeleteFunc(all, func(o object) bool { return o.Kind != kind })
		}
	}
	without := func(kind string) func([]object) []object {
		return func(all []object) []object {
			return slices.DeleteFunc(all, func(o object) bool { return o.Kind == kind })
		}
	}
	cases := map[string]struct {
		reason string
		change func([]object) []object
		want   string
	}{
		"no Deployment":         {"OLM would install nothing", without("Deployment"), "found 0 Deployments"},
		"two Deployments":       {"nobody would have looked at the second", func(all []object) []object { return append(all, all...) }, "found 2 Deployments"},
		"a binding of no role":  {"the operator would lack the right", without("Role"), "want a role that is here"},
		"nothing but bindings":  {"as above", only("ClusterRoleBinding"), "found 0 Deployments"},
		"a field nobody knows":  {"it would be lost on the way", unknownField, "unknown field"},
		"no image of brokers":   {"a cluster without a way out would not mirror it", noBrokerImage, "has no --broker-image="},
		"a person who is bound": {"OLM binds ServiceAccounts alone", boundPerson, "bound to one ServiceAccount"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			install, kinds, samples := inputs(t)
			if _, err := bundle(c.change(install), kinds, samples); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a refusal with %q: %s", err, c.want, c.reason)
			}
		})
	}
}

// first is the first object of a kind.
func first(all []object, kind string) map[string]any {
	return all[slices.IndexFunc(all, func(o object) bool { return o.Kind == kind })].all
}

func unknownField(all []object) []object {
	first(all, "Deployment")["spec"].(map[string]any)["replica"] = 3
	return all
}

func noBrokerImage(all []object) []object {
	template := first(all, "Deployment")["spec"].(map[string]any)["template"].(map[string]any)
	template["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)["args"] = []any{"--leader-elect"}
	return all
}

func boundPerson(all []object) []object {
	first(all, "RoleBinding")["subjects"] = []any{map[string]any{"kind": "User", "name": "anna"}}
	return all
}

// The image has no other way to say what it is.
func TestLabelsAreTheAnnotations(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "bundle", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range annotations {
		if !strings.Contains(string(text), "\nLABEL "+key+"=\""+value+"\"\n") {
			t.Errorf("bundle/Dockerfile has no label %s=%s", key, value)
		}
	}
	for _, folder := range []string{"manifests", "metadata"} {
		if _, err := os.Stat(filepath.Join(root, "bundle", folder)); err != nil || !strings.Contains(string(text), "\nCOPY "+folder+" /"+folder+"/\n") {
			t.Errorf("bundle/Dockerfile does not copy %s: %v", folder, err)
		}
	}
}
