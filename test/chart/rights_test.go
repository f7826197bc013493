// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

func TestRightsAreThoseOfConfig(t *testing.T) {
	written := files(t, "config/rbac/role.yaml")
	if len(written) != 1 || written[0].Kind != "ClusterRole" {
		t.Fatalf("config/rbac/role.yaml has %v; the chart knows what to do with one ClusterRole", written)
	}
	want := as[rbacv1.ClusterRole](t, written[0]).Rules

	cases := map[string]struct {
		values     []string
		namespaces []string // empty: all
	}{
		"the whole cluster": {nil, nil},
		"some namespaces":   {[]string{`scope={"mode":"Namespaces","namespaces":["a","b"]}`}, []string{"a", "b"}},
		"its own namespace": {[]string{`scope.mode="OwnNamespace"`}, []string{"home"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rendered := render(t, c.values...)
			account := rbacv1.Subject{Kind: "ServiceAccount", Name: "mo-mqtt-operator", Namespace: "home"}
			same := cmpopts.EquateEmpty()
			watch := ""
			for _, argument := range one[appsv1.Deployment](t, rendered, "Deployment", "").Spec.Template.Spec.Containers[0].Args {
				if list, ok := strings.CutPrefix(argument, "--watch-namespaces="); ok {
					watch = list
				}
			}
			if watch != strings.Join(c.namespaces, ",") {
				t.Errorf("the operator watches %q, want %q", watch, c.namespaces)
			}

			const role = "mo-mqtt-operator:home"
			if len(c.namespaces) == 0 {
				if diff := cmp.Diff(want, one[rbacv1.ClusterRole](t, rendered, "ClusterRole", role).Rules, same); diff != "" {
					t.Errorf("rules (-config +chart):\n%s", diff)
				}
				discovery := one[rbacv1.ClusterRoleBinding](t, rendered, "ClusterRoleBinding", role+":issuer-discovery")
				if discovery.RoleRef.Name != "system:service-account-issuer-discovery" || !slices.Equal(discovery.Subjects, []rbacv1.Subject{account}) {
					t.Errorf("got %+v", discovery)
				}
				binding := one[rbacv1.ClusterRoleBinding](t, rendered, "ClusterRoleBinding", role)
				if binding.RoleRef.Kind != "ClusterRole" || binding.RoleRef.Name != role || !slices.Equal(binding.Subjects, []rbacv1.Subject{account}) {
					t.Errorf("got %+v", binding)
				}
			} else if wide := append(rendered.named("ClusterRole", role), rendered.named("ClusterRoleBinding", ":issuer-discovery")...); len(wide) != 0 {
				t.Errorf("%v gives rights over the whole cluster", wide)
			}

			var found []string
			for _, o := range rendered.named("Role", role) {
				found = append(found, o.Metadata.Namespace)
				if diff := cmp.Diff(want, as[rbacv1.Role](t, o).Rules, same); diff != "" {
					t.Errorf("rules in %s (-config +chart):\n%s", o.Metadata.Namespace, diff)
				}
			}
			var bound []string
			for _, o := range rendered.named("RoleBinding", role) {
				binding := as[rbacv1.RoleBinding](t, o)
				bound = append(bound, o.Metadata.Namespace)
				if binding.RoleRef.Kind != "Role" || binding.RoleRef.Name != role || !slices.Equal(binding.Subjects, []rbacv1.Subject{account}) {
					t.Errorf("got %+v", binding)
				}
			}
			if !slices.Equal(found, c.namespaces) || !slices.Equal(bound, c.namespaces) {
				t.Errorf("Roles in %q, bound in %q, want %q", found, bound, c.namespaces)
			}

			leader := one[rbacv1.Role](t, rendered, "Role", "-leader-election")
			if leader.Namespace != "home" || leader.Rules[0].Resources[0] != "leases" {
				t.Errorf("got %+v", leader)
			}
		})
	}
}

// A Role can hold only what lives in a namespace: a rule for something else would work in scope Cluster and nowhere else.
func TestRightsFitIntoANamespace(t *testing.T) {
	known := []string{
		"configmaps", "events", "persistentvolumeclaims", "pods", "secrets", "serviceaccounts", "services",
		"deployments", "statefulsets", "poddisruptionbudgets", "networkpolicies", "certificates", "podmonitors", "prometheusrules",
		"mqttaccesspolicies", "mqttbridges", "mqttbrokers", "mqttusers",
		"namespaces", // A Role lets read the one that it is in; what else the rule says counts in scope Cluster alone.
	}
	for _, rule := range as[rbacv1.ClusterRole](t, files(t, "config/rbac/role.yaml")[0]).Rules {
		if len(rule.NonResourceURLs) != 0 {
			t.Errorf("%q belong to no namespace", rule.NonResourceURLs)
		}
		for _, resource := range rule.Resources {
			if whole, _, _ := strings.Cut(resource, "/"); !slices.Contains(known, whole) {
				t.Errorf("%s is not known to live in a namespace: add it to this test if it does", resource)
			}
		}
	}
}

func TestRightsOfPeopleAreThoseOfConfig(t *testing.T) {
	t.Parallel()
	rendered := render(t)
	wanted := files(t, "config/rbac/*_role.yaml")
	for _, o := range wanted {
		want := as[rbacv1.ClusterRole](t, o)
		got := one[rbacv1.ClusterRole](t, rendered, "ClusterRole", ":"+want.Name)
		if diff := cmp.Diff(want.Rules, got.Rules); diff != "" {
			t.Errorf("%s (-config +chart):\n%s", want.Name, diff)
		}
		for label, value := range want.Labels {
			if strings.HasPrefix(label, "rbac.authorization.k8s.io/") && got.Labels[label] != value {
				t.Errorf("%s lacks the label %s", want.Name, label)
			}
		}
	}
	if len(wanted) != 12 {
		t.Errorf("config/rbac has %d roles of people, want three for each of four kinds", len(wanted))
	}
}

func TestNamespacedScopesReachNoFurther(t *testing.T) {
	people := []string{":admin", "-admin", "-editor", "-viewer"}
	inCluster := func(m manifests) []string {
		var names []string
		for _, o := range m {
			switch {
			case o.Metadata.Namespace != "", o.Kind == "CustomResourceDefinition",
				slices.ContainsFunc(people, func(s string) bool { return strings.HasSuffix(o.Metadata.Name, s) }):
			default:
				names = append(names, o.Kind+" "+strings.TrimPrefix(o.Metadata.Name, "mo-mqtt-operator:home"))
			}
		}
		return names
	}
	cases := map[string]struct {
		reason string
		values []string
		want   []string
	}{
		"with metrics":                  {"two questions to the API server, and who may read", nil, []string{"ClusterRole :metrics-auth", "ClusterRole :metrics-reader", "ClusterRoleBinding :metrics-auth"}},
		"with metrics that all can see": {"nobody is asked", []string{`metrics.secure=false`}, nil},
		"without metrics":               {"there is nothing to ask for", []string{`metrics.enabled=false`}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rendered := render(t, append(c.values, `scope.mode="OwnNamespace"`)...)
			if diff := cmp.Diff(c.want, inCluster(rendered)); diff != "" {
				t.Errorf("objects of the cluster, %s:\n%s", c.reason, diff)
			}
			args := one[appsv1.Deployment](t, rendered, "Deployment", "").Spec.Template.Spec.Containers[0].Args
			off, open := slices.Contains(args, "--metrics-bind-address=0"), slices.Contains(args, "--metrics-secure=false")
			if off != strings.Contains(name, "without") || open != strings.Contains(name, "all can see") {
				t.Errorf("the arguments are %q", args)
			}
		})
	}

	t.Run("a person of one namespace can install it", func(t *testing.T) {
		t.Parallel()
		for _, o := range render(t, `scope.mode="OwnNamespace"`, `crds.install=false`, `userRoles.create=false`, `metrics.secure=false`) {
			if o.Metadata.Namespace != "home" {
				t.Errorf("%s is not in the release's namespace", o)
			}
		}
	})
}
