// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// The three ways to install: the chart, config/default by kustomize, and the bundle for OLM. They must give the operator
// the same rights and the same pod.

// kustomizePath is the kustomize that hack/tools/kustomize pins.
var kustomizePath = sync.OnceValues(func() (string, error) {
	path, err := exec.Command("go", "-C", root+"/hack/tools/kustomize", "tool", "-n", "kustomize").Output()
	return strings.TrimSpace(string(path)), err
})

// kustomize is what kubectl apply -k applies.
func kustomize(t *testing.T, folder string) manifests {
	t.Helper()
	path, err := kustomizePath()
	if err != nil {
		t.Fatalf("kustomize cannot be built: %v", err)
	}
	command := exec.CommandContext(t.Context(), path, "build", filepath.Join(root, folder))
	var problem strings.Builder
	command.Stderr = &problem
	text, err := command.Output()
	if err != nil {
		t.Fatalf("kustomize build %s: %v: %s", folder, err, problem.String())
	}
	return parse(t, string(text))
}

// helmsOwn are the labels by which Helm knows its objects.
var helmsOwn = []string{"helm.sh/chart", "app.kubernetes.io/managed-by"}

// plain is an object as a map, without what only Helm needs.
func plain(t *testing.T, o object) map[string]any {
	t.Helper()
	var all map[string]any
	if err := yaml.Unmarshal([]byte(o.text), &all); err != nil {
		t.Fatal(err)
	}
	withoutLabels(all)
	return all
}

func withoutLabels(at any) {
	switch v := at.(type) {
	case map[string]any:
		if labels, ok := v["labels"].(map[string]any); ok {
			for _, label := range helmsOwn {
				delete(labels, label)
			}
		}
		for _, inner := range v {
			withoutLabels(inner)
		}
	case []any:
		for _, inner := range v {
			withoutLabels(inner)
		}
	}
}

func TestKustomizeInstallsWhatTheChartInstalls(t *testing.T) {
	t.Parallel()
	byChart := map[string]map[string]any{}
	for _, o := range renderAs(t, "mqtt-operator", "mqtt-operator-system") {
		if o.Kind != "CustomResourceDefinition" {
			byChart[o.String()] = plain(t, o)
		}
	}
	byKustomize := map[string]map[string]any{}
	kinds := 0
	for _, o := range kustomize(t, "config/default") {
		switch o.Kind {
		case "CustomResourceDefinition":
			kinds++
			want := one[map[string]any](t, files(t, "config/crd/bases/*.yaml"), o.Kind, o.Metadata.Name)
			if diff := cmp.Diff(want["spec"], plain(t, o)["spec"]); diff != "" {
				t.Errorf("%s (-config +kustomize):\n%s", o, diff)
			}
		case "Namespace":
			// Helm makes it with --create-namespace, or not at all.
			if o.Metadata.Name != "mqtt-operator-system" || o.Metadata.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
				t.Errorf("got %s with labels %v", o, o.Metadata.Labels)
			}
		default:
			byKustomize[o.String()] = plain(t, o)
		}
	}
	if kinds != len(files(t, "config/crd/bases/*.yaml")) {
		t.Errorf("kustomize installs %d kinds", kinds)
	}
	if diff := cmp.Diff(byChart, byKustomize); diff != "" {
		t.Errorf("objects (-chart +kustomize):\n%s", diff)
	}
}

// csv is the part of a ClusterServiceVersion that gives rights and makes pods.
type csv struct {
	Spec struct {
		Install struct {
			Spec struct {
				Deployments []struct {
					Name string                `json:"name"`
					Spec appsv1.DeploymentSpec `json:"spec"`
				} `json:"deployments"`
				Permissions        []permission `json:"permissions"`
				ClusterPermissions []permission `json:"clusterPermissions"`
			} `json:"spec"`
		} `json:"install"`
	} `json:"spec"`
}

type permission struct {
	ServiceAccountName string              `json:"serviceAccountName"`
	Rules              []rbacv1.PolicyRule `json:"rules"`
}

func bundledCSV(t *testing.T) csv {
	t.Helper()
	var decoded csv
	if err := yaml.Unmarshal([]byte(read(t, root+"/bundle/manifests/mqtt-operator.clusterserviceversion.yaml")), &decoded); err != nil {
		t.Fatal(err)
	}
	return decoded
}

// sorted are rules in an order of their own, so that those of several roles can be compared.
func sorted(t *testing.T, rules []rbacv1.PolicyRule) []string {
	t.Helper()
	var lines []string
	for _, rule := range rules {
		text, err := json.Marshal(rule)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(text))
	}
	slices.Sort(lines)
	return lines
}

// issuerDiscovery is the role of Kubernetes that the chart binds; test/install compares it with a real API server's.
var issuerDiscovery = rbacv1.PolicyRule{
	Verbs: []string{"get"},
	NonResourceURLs: []string{
		"/.well-known/openid-configuration", "/.well-known/openid-configuration/", "/openid/v1/jwks", "/openid/v1/jwks/",
	},
}

// granted is what the operator's ServiceAccount may do, by the roles that are bound to it.
func granted(t *testing.T, m manifests, account rbacv1.Subject) []rbacv1.PolicyRule {
	t.Helper()
	var rules []rbacv1.PolicyRule
	for _, o := range append(m.named("ClusterRoleBinding", ""), m.named("RoleBinding", "")...) {
		binding := as[rbacv1.RoleBinding](t, o)
		if !slices.Equal(binding.Subjects, []rbacv1.Subject{account}) {
			t.Errorf("%s binds %v", o, binding.Subjects)
		}
		if binding.RoleRef.Name == "system:service-account-issuer-discovery" {
			rules = append(rules, issuerDiscovery)
			continue
		}
		found := slices.DeleteFunc(m.named(binding.RoleRef.Kind, binding.RoleRef.Name), func(o object) bool {
			return o.Metadata.Name != binding.RoleRef.Name
		})
		rules = append(rules, one[rbacv1.Role](t, found, binding.RoleRef.Kind, "").Rules...)
	}
	return rules
}

func TestThreeWaysGiveTheOperatorTheSameRights(t *testing.T) {
	t.Parallel()
	account := rbacv1.Subject{Kind: "ServiceAccount", Name: "mqtt-operator", Namespace: "mqtt-operator-system"}
	byChart := sorted(t, granted(t, renderAs(t, "mqtt-operator", "mqtt-operator-system"), account))
	if diff := cmp.Diff(byChart, sorted(t, granted(t, kustomize(t, "config/default"), account))); diff != "" {
		t.Errorf("rules (-chart +kustomize):\n%s", diff)
	}

	install := bundledCSV(t).Spec.Install.Spec
	var byBundle, inNamespaces []rbacv1.PolicyRule
	for _, p := range install.Permissions {
		inNamespaces = append(inNamespaces, p.Rules...)
	}
	byBundle = append(byBundle, inNamespaces...)
	for _, p := range append(install.Permissions, install.ClusterPermissions...) {
		if p.ServiceAccountName != account.Name {
			t.Errorf("the bundle gives rights to %s", p.ServiceAccountName)
		}
	}
	for _, p := range install.ClusterPermissions {
		byBundle = append(byBundle, p.Rules...)
	}
	if diff := cmp.Diff(byChart, sorted(t, byBundle)); diff != "" {
		t.Errorf("rules (-chart +bundle):\n%s", diff)
	}

	// Bounded to a namespace, the operator may do there what a Role of the chart lets it do, and nothing in the cluster
	// but what the metrics and the issuer of tokens need.
	own := render(t, `scope.mode="OwnNamespace"`)
	var roles []rbacv1.PolicyRule
	for _, o := range own.named("Role", "") {
		roles = append(roles, as[rbacv1.Role](t, o).Rules...)
	}
	if diff := cmp.Diff(sorted(t, roles), sorted(t, inNamespaces)); diff != "" {
		t.Errorf("rules in namespaces (-chart +bundle):\n%s", diff)
	}
}

func TestThreeWaysMakeTheSamePod(t *testing.T) {
	t.Parallel()
	deployment := func(m manifests) appsv1.DeploymentSpec {
		spec := one[appsv1.Deployment](t, m, "Deployment", "").Spec
		for _, label := range helmsOwn {
			delete(spec.Template.Labels, label)
		}
		return spec
	}
	byChart := deployment(renderAs(t, "mqtt-operator", "mqtt-operator-system"))
	if diff := cmp.Diff(byChart, deployment(kustomize(t, "config/default"))); diff != "" {
		t.Errorf("Deployment (-chart +kustomize):\n%s", diff)
	}

	deployments := bundledCSV(t).Spec.Install.Spec.Deployments
	if len(deployments) != 1 || deployments[0].Name != "mqtt-operator" {
		t.Fatalf("the bundle has %d Deployments", len(deployments))
	}
	byBundle := deployments[0].Spec
	container := &byBundle.Template.Spec.Containers[0]
	// The one thing that differs: OLM says which namespaces, by an annotation of the pod.
	last := len(container.Args) - 1
	env := []corev1.EnvVar{{Name: "WATCH_NAMESPACES", ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['olm.targetNamespaces']"},
	}}}
	if diff := cmp.Diff(env, container.Env); diff != "" || container.Args[last] != "--watch-namespaces=$(WATCH_NAMESPACES)" {
		t.Errorf("the arguments are %q, the environment (-want +got):\n%s", container.Args, diff)
	}
	container.Args, container.Env = container.Args[:last], nil
	if diff := cmp.Diff(byChart, byBundle, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("Deployment (-chart +bundle):\n%s", diff)
	}
	// What the comparison would not miss: that all three have lost it.
	pod := byBundle.Template.Spec
	if pod.SecurityContext == nil || container.SecurityContext == nil || container.LivenessProbe == nil ||
		container.ReadinessProbe == nil || container.StartupProbe == nil || len(container.Args) == 0 {
		t.Errorf("the pod has no security context, probe or argument: %+v", pod)
	}
}

func TestThreeWaysGivePeopleTheSameRights(t *testing.T) {
	t.Parallel()
	people := func(m manifests, prefix string) map[string]rbacv1.ClusterRole {
		roles := map[string]rbacv1.ClusterRole{}
		for _, o := range m.named("ClusterRole", "") {
			name, ok := strings.CutPrefix(o.Metadata.Name, prefix)
			if !ok || !strings.Contains(name, "-") || name == "metrics-auth" {
				continue
			}
			role := as[rbacv1.ClusterRole](t, o)
			role.Name = name
			for _, label := range helmsOwn {
				delete(role.Labels, label)
			}
			roles[name] = role
		}
		return roles
	}
	byChart := people(renderAs(t, "mqtt-operator", "mqtt-operator-system"), "mqtt-operator:mqtt-operator-system:")
	if len(byChart) != 13 {
		t.Errorf("the chart has %d roles for people, want three for each of four kinds, and who reads metrics", len(byChart))
	}
	if diff := cmp.Diff(byChart, people(kustomize(t, "config/default"), "mqtt-operator:mqtt-operator-system:")); diff != "" {
		t.Errorf("roles (-chart +kustomize):\n%s", diff)
	}
	if diff := cmp.Diff(byChart, people(files(t, "bundle/manifests/*.yaml"), "mqtt-operator:")); diff != "" {
		t.Errorf("roles (-chart +bundle):\n%s", diff)
	}
}

// What lies in the bundle beside the rights: the same kinds, and each other object of the chart that OLM does not make.
func TestBundleHasTheKindsAndTheRest(t *testing.T) {
	t.Parallel()
	bundled := files(t, "bundle/manifests/*.yaml")
	wanted := files(t, "config/crd/bases/*.yaml")
	if n := len(bundled.named("CustomResourceDefinition", "")); n != len(wanted) {
		t.Errorf("the bundle has %d kinds, config/crd has %d", n, len(wanted))
	}
	for _, o := range wanted {
		if diff := cmp.Diff(plain(t, o), one[map[string]any](t, bundled, o.Kind, o.Metadata.Name)); diff != "" {
			t.Errorf("%s (-config +bundle):\n%s", o, diff)
		}
	}
	for _, o := range renderAs(t, "mqtt-operator", "mqtt-operator-system") {
		if o.Kind != "Service" && o.Kind != "PodDisruptionBudget" {
			continue
		}
		want := plain(t, o)
		delete(want["metadata"].(map[string]any), "namespace")
		if diff := cmp.Diff(want, one[map[string]any](t, bundled, o.Kind, o.Metadata.Name)); diff != "" {
			t.Errorf("%s (-chart +bundle):\n%s", o, diff)
		}
	}
}
