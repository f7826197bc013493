// SPDX-License-Identifier: Apache-2.0

package install_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"
)

const (
	root      = "../.."
	chart     = root + "/charts/mqtt-operator"
	release   = "mqtt-operator"
	namespace = "mqtt-operator-system"
	// patience is generous because the tests share their machine; nothing waits for it unless it fails.
	patience = 3 * time.Minute
)

// server is an API server without the kinds, and the Helm that is to bring them.
type server struct {
	client.Client

	t          *testing.T
	helmPath   string
	kubeconfig string
}

func start(t *testing.T) *server {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Fatal("this test needs kube-apiserver and etcd; run in the root of the repository:\n" +
			"  export KUBEBUILDER_ASSETS=$(cd hack/devcluster && go run . assets)")
	}
	path, err := exec.Command("go", "-C", root+"/hack/tools/helm", "tool", "-n", "helm").Output()
	if err != nil {
		t.Fatalf("helm cannot be built: %v", err)
	}
	env := &envtest.Environment{ControlPlaneStartTimeout: 5 * time.Minute, ControlPlaneStopTimeout: time.Minute}
	config, err := env.Start()
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Errorf("stop the API server: %v", err)
		}
	})
	if err != nil {
		t.Fatalf("start the API server: %v", strings.TrimSpace(err.Error()))
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	admin, err := env.AddUser(envtest.User{Name: "admin", Groups: []string{"system:masters"}}, config)
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := admin.KubeConfig()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Client: c, t: t, helmPath: strings.TrimSpace(string(path)), kubeconfig: filepath.Join(t.TempDir(), "kubeconfig")}
	if err := os.WriteFile(s.kubeconfig, kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// helm runs the pinned Helm against the API server.
func (s *server) helm(args ...string) (string, error) {
	command := exec.CommandContext(s.t.Context(), s.helmPath, append(args, "--kubeconfig", s.kubeconfig, "--namespace", namespace)...)
	out, err := command.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("helm %s: %w: %s", args[0], err, out)
	}
	return string(out), err
}

func (s *server) mustHelm(args ...string) {
	s.t.Helper()
	if _, err := s.helm(args...); err != nil {
		s.t.Fatal(err)
	}
}

// eventually waits for what the API server does by itself.
func (s *server) eventually(what string, try func(context.Context) error) {
	s.t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = try(s.t.Context()); err == nil {
			return
		}
	}
	s.t.Fatalf("not so after %v: %s: %v", patience, what, err)
}

func object(kind, name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "mqtt-operator.io/v1alpha1", "kind": kind,
		"metadata": map[string]any{"name": name, "namespace": "default"}, "spec": spec,
	}}
}

func user(name string) *unstructured.Unstructured {
	return object("MQTTUser", name, map[string]any{
		"brokerRef": map[string]any{"name": "plant"}, "authentication": map[string]any{"password": map[string]any{"generate": map[string]any{}}},
		"suspend": true,
	})
}

// older is the chart with a kind that lacks a field, spec.suspend of MQTTUser, as a release before this one would.
func older(t *testing.T) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "mqtt-operator")
	if err := os.CopyFS(folder, os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "files", "crd", "mqtt-operator.io_mqttusers.yaml")
	var crd apiextensionsv1.CustomResourceDefinition
	text, err := os.ReadFile(path)
	if err == nil {
		err = yaml.UnmarshalStrict(text, &crd)
	}
	if err != nil {
		t.Fatal(err)
	}
	spec := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Properties
	if _, ok := spec["suspend"]; !ok {
		t.Fatal("MQTTUser has no spec.suspend: take another field for this test")
	}
	delete(spec, "suspend")
	if text, err = yaml.Marshal(crd); err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

// TestHelmsLife is one life of a release: an older one is installed, upgraded, removed and comes back, and what people made
// stays all the while.
func TestHelmsLife(t *testing.T) {
	s := start(t)
	s.mustHelm("install", release, older(t), "--create-namespace")

	broker := object("MQTTBroker", "plant", map[string]any{"listeners": []any{
		map[string]any{"name": "mqtts", "protocol": "tls", "port": int64(8883), "tls": map[string]any{"selfManaged": map[string]any{}}},
	}})
	s.eventually("the API server serves the kinds", func(ctx context.Context) error { return s.Create(ctx, broker.DeepCopy()) })
	err := s.Create(t.Context(), user("early"), client.FieldValidation(metav1.FieldValidationStrict))
	if err == nil || !strings.Contains(err.Error(), `unknown field "spec.suspend"`) {
		t.Fatalf("the older kind should not know spec.suspend: %v", err)
	}
	before := s.uid("MQTTBroker", "plant")

	s.mustHelm("upgrade", release, chart)
	s.eventually("the upgrade brought the field", func(ctx context.Context) error {
		return s.Create(ctx, user("late"), client.FieldValidation(metav1.FieldValidationStrict))
	})

	// A second release in another scope does without the kinds; with them, it would take them from the first.
	if out, err := s.helm("install", "second", chart); err == nil || !strings.Contains(err.Error(), "ownership") {
		t.Errorf("a second release should not get the kinds of the first: %v %s", err, out)
	}
	s.mustHelm("install", "second", chart, "--set", "crds.install=false", "--set", "scope.mode=OwnNamespace")
	s.mustHelm("uninstall", "second")

	s.mustHelm("uninstall", release)
	if after := s.uid("MQTTBroker", "plant"); after != before {
		t.Errorf("the broker is another one after the release was removed: %s, before %s", after, before)
	}
	deployment := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apps/v1", "kind": "Deployment"}}
	s.eventually("the operator is gone", func(ctx context.Context) error {
		if err := s.Get(ctx, client.ObjectKey{Namespace: namespace, Name: release}, deployment); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the Deployment is there: %w", err)
		}
		return nil
	})

	s.mustHelm("install", release, chart)
	if after := s.uid("MQTTUser", "late"); after == "" {
		t.Error("the user is gone")
	}

	// What a person reads to remove everything is what removes everything.
	s.mustHelm("uninstall", release)
	for _, crd := range kinds(t) {
		if err := s.Delete(t.Context(), &crd); err != nil {
			t.Error(err)
		}
	}
	s.eventually("kinds and objects are gone", func(ctx context.Context) error {
		list := &apiextensionsv1.CustomResourceDefinitionList{}
		if err := s.List(ctx, list); err != nil {
			return err
		}
		for i := range list.Items {
			// On a busy machine the API server fails to remove the objects of a kind a few times, and waits longer each time
			// until it tries again. A change wakes it.
			wake := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{"test/seen":%q}}}`, time.Now().Truncate(5*time.Second).Format(time.RFC3339)))
			if err := s.Patch(ctx, &list.Items[i], wake); client.IgnoreNotFound(err) != nil {
				return err
			}
		}
		if len(list.Items) > 0 {
			return fmt.Errorf("%s is left: %+v", list.Items[0].Name, list.Items[0].Status.Conditions)
		}
		return nil
	})

	t.Run("kustomize", s.kustomizeIsAccepted)
	t.Run("bundle", s.bundleIsAccepted)
	t.Run("discovery", s.discoveryIsKubernetesOwn)
}

func (s *server) uid(kind, name string) string {
	s.t.Helper()
	o := object(kind, name, nil)
	if err := s.Get(s.t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
		s.t.Fatal(err)
	}
	return string(o.GetUID())
}

func kinds(t *testing.T) []apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	var all []apiextensionsv1.CustomResourceDefinition
	for _, o := range files(t, "config/crd/bases/*.yaml") {
		all = append(all, apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: o.GetName()}})
	}
	return all
}

var separator = regexp.MustCompile(`(?m)^---\s*$`)

func parse(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	var all []*unstructured.Unstructured
	for _, document := range separator.Split(text, -1) {
		o := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict([]byte(document), &o.Object); err != nil {
			t.Fatal(err)
		}
		if o.Object != nil {
			all = append(all, o)
		}
	}
	return all
}

// files reads every manifest that the pattern names, relative to the root of the repository.
func files(t *testing.T, pattern string) []*unstructured.Unstructured {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: %v, found %d files", pattern, err, len(paths))
	}
	var all []*unstructured.Unstructured
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, parse(t, string(text))...)
	}
	return all
}

// kustomizeIsAccepted does what kubectl apply --server-side -k config/default does, twice.
func (s *server) kustomizeIsAccepted(t *testing.T) {
	path, err := exec.Command("go", "-C", root+"/hack/tools/kustomize", "tool", "-n", "kustomize").Output()
	if err != nil {
		t.Fatalf("kustomize cannot be built: %v", err)
	}
	text, err := exec.CommandContext(t.Context(), strings.TrimSpace(string(path)), "build", root+"/config/default").Output()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, o := range parse(t, string(text)) {
			s.apply(t, o)
		}
	}
}

// apply is a server-side apply that refuses unknown fields.
func (s *server) apply(t *testing.T, o *unstructured.Unstructured, more ...client.ApplyOption) {
	t.Helper()
	options := append([]client.ApplyOption{client.FieldOwner("test"), client.ForceOwnership}, more...)
	if err := s.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(o.DeepCopy()), options...); err != nil {
		t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
	}
}

// bundleIsAccepted applies what OLM applies beside the Deployment; the ClusterServiceVersion is its own kind, and
// hack/olm asks its authors about it.
func (s *server) bundleIsAccepted(t *testing.T) {
	for _, o := range files(t, "bundle/manifests/*.yaml") {
		switch o.GetKind() {
		case "ClusterServiceVersion":
			continue
		case "Service", "PodDisruptionBudget":
			o.SetNamespace("default")
		}
		s.apply(t, o, client.DryRunAll)
	}
}

// discoveryIsKubernetesOwn compares the rules that the bundle has to repeat with those of the role that the chart binds.
func (s *server) discoveryIsKubernetesOwn(t *testing.T) {
	role := &rbacv1.ClusterRole{}
	s.eventually("the API server has made its own roles", func(ctx context.Context) error {
		return s.Get(ctx, client.ObjectKey{Name: "system:service-account-issuer-discovery"}, role)
	})
	for _, o := range files(t, "bundle/manifests/mqtt-operator.clusterserviceversion.yaml") {
		granted, _, err := unstructured.NestedSlice(o.Object, "spec", "install", "spec", "clusterPermissions")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range granted {
			var permission struct {
				Rules []rbacv1.PolicyRule `json:"rules"`
			}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(p.(map[string]any), &permission); err != nil {
				t.Fatal(err)
			}
			if len(permission.Rules) == 1 && len(permission.Rules[0].NonResourceURLs) > 0 {
				if diff := cmp.Diff(role.Rules, permission.Rules); diff != "" {
					t.Errorf("rules (-Kubernetes +bundle):\n%s", diff)
				}
				return
			}
		}
	}
	t.Error("the bundle gives no right to read who signs tokens")
}
