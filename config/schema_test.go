// SPDX-License-Identifier: Apache-2.0

// Package config_test holds the schema of the four kinds against a real API server: what testdata/good says is
// accepted, what testdata/bad and testdata/rules say is refused in the words that stand there, and no rule of any
// CustomResourceDefinition goes without a case.
package config_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/discovery"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

const (
	notAlive = " is not alive in this version"
	later    = "# later:"
	wants    = "# wants:"
	kib      = 1024
)

func TestCRDsFitClientSideApply(t *testing.T) {
	t.Parallel()

	const most = 256 * kib // kubectl apply keeps the whole object in an annotation of at most this size

	for _, path := range files(t, "crd/bases/*.yaml") {
		if size := len(read(t, path)); size >= most {
			t.Errorf("%s has %d bytes: %d or more cannot be applied by a client", path, size, most)
		}
	}
}

// A field that nobody has declared alive and that no rule refuses would be ignored in silence.
func TestEveryFieldIsAliveOrRefused(t *testing.T) {
	t.Parallel()

	alive := map[string]bool{} // field -> seen in the schema

	for line := range strings.Lines(string(read(t, "testdata/alive.txt"))) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			alive[line] = false
		}
	}

	for _, crd := range crds(t) {
		walk(schemaOf(crd), "", func(path string, schema *apiextensionsv1.JSONSchemaProps) bool {
			field := crd.Spec.Names.Kind + " " + path
			inSpec := strings.HasPrefix(path, "spec")

			if _, ok := alive[field]; ok {
				alive[field] = true

				if refused(schema) {
					t.Errorf("%s is said to be alive, and a rule refuses it", field)
				}

				return false
			}

			if refused(schema) || !inSpec && path != "" {
				return false
			}

			if leaf := len(schema.Properties) == 0 && (schema.Items == nil || len(schema.Items.Schema.Properties) == 0); leaf {
				t.Errorf("%s is neither in testdata/alive.txt nor refused by a rule", field)
			}

			return true
		})
	}

	for field, seen := range alive {
		if !seen {
			t.Errorf("%s is said to be alive and is not in the schema", field)
		}
	}
}

func TestEveryKindHasRoles(t *testing.T) {
	t.Parallel()

	kustomization := string(read(t, "rbac/kustomization.yaml"))

	for _, crd := range crds(t) {
		for _, role := range []string{"admin", "editor", "viewer"} {
			name := crd.Spec.Names.Singular + "_" + role + "_role.yaml"
			if !strings.Contains(string(read(t, "rbac/"+name)), "["+crd.Spec.Names.Plural+"]") {
				t.Errorf("%s does not speak of %s", name, crd.Spec.Names.Plural)
			}

			if !strings.Contains(kustomization, "- "+name) {
				t.Errorf("kustomization.yaml does not list %s", name)
			}
		}
	}
}

// change is one small change of a valid object and what the API server is to say about it.
type change struct {
	Base   string         `json:"base"`
	Set    map[string]any `json:"set"`
	Remove []string       `json:"remove"`
	Wants  string         `json:"wants"` // empty: accepted
}

type rules struct {
	Base   string   `json:"base"`
	Create []change `json:"create"`
	Update []change `json:"update"`
}

func (r rules) base(c change) string {
	if c.Base != "" {
		return c.Base
	}

	return r.Base
}

// TestSchema asks one API server twice: first with the definitions as they are shipped, then with the rules lifted that
// refuse what is not alive, so that the rest of the schema of such fields is held to its promises too.
//
//nolint:paralleltest // there is one API server, and its definitions change between the two rounds
func TestSchema(t *testing.T) {
	ctx := t.Context()
	server := start(t)

	t.Run("as shipped", func(t *testing.T) {
		for _, path := range files(t, "testdata/good/*.yaml") {
			want := ""
			if strings.HasPrefix(string(read(t, path)), later) {
				want = notAlive
			}

			server.expect(t, path, want, server.create(ctx, object(t, path)))
		}

		for _, path := range files(t, "testdata/bad/*.yaml") {
			first, _, _ := strings.Cut(string(read(t, path)), "\n")

			want, ok := strings.CutPrefix(first, wants)
			if !ok {
				t.Fatalf("%s does not begin with %q", path, wants)
			}

			server.expect(t, path, strings.TrimSpace(want), server.create(ctx, object(t, path)))
		}

		server.rules(ctx, t, false)
	})

	t.Run("samples", func(t *testing.T) {
		for _, path := range files(t, "samples/*.yaml") {
			for i, document := range bytes.Split(read(t, path), []byte("\n---\n")) {
				o := parse(t, path, document)
				if o.GroupVersionKind().GroupVersion() == v1alpha1.GroupVersion {
					server.expect(t, fmt.Sprintf("%s: document %d", path, i+1), "", server.create(ctx, o))
				}
			}
		}
	})

	t.Run("scaling over one is refused", func(t *testing.T) {
		broker := object(t, "testdata/good/broker-minimal.yaml")
		server.hold(ctx, t, broker)

		scale := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: 2}}
		err := server.client.SubResource("scale").Update(ctx, broker, client.WithSubResourceBody(scale))
		server.expect(t, "scale to 2", "spec.replicas above 1"+notAlive, err)

		scale = &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: 0}}
		err = server.client.SubResource("scale").Update(ctx, broker, client.WithSubResourceBody(scale))
		server.expect(t, "scale to 0", "", err)
	})

	t.Run("users are found by broker", func(t *testing.T) {
		user := object(t, "testdata/good/user-generated.yaml")
		server.hold(ctx, t, user)

		for broker, want := range map[string]int{"mq": 1, "other": 0} {
			var found v1alpha1.MQTTUserList
			if err := server.client.List(ctx, &found, client.MatchingFields{"spec.brokerRef.name": broker}); err != nil {
				t.Fatal(err)
			}

			if len(found.Items) != want {
				t.Errorf("%d users of the broker %s, want %d", len(found.Items), broker, want)
			}
		}
	})

	t.Run("kubectl get shows what matters", func(t *testing.T) {
		server.columns(ctx, t, "testdata/good/broker-minimal.yaml", "mqttbrokers", map[string]any{
			"replicas": 1, "revision": map[string]any{"applied": 7}, "conditions": []any{ready()},
			"pods": []any{map[string]any{"name": "mq-broker-0", "connections": 42}},
		}, "Name=mq Ready=True Replicas=1 Revision=7 Connections=42 Age Message=all is well")
		server.columns(ctx, t, "testdata/good/user-generated.yaml", "mqttusers", map[string]any{
			"username": "sensor.7", "authentication": "password", "conditions": []any{ready()},
		}, "Name=sensor.7 Broker=mq Username=sensor.7 Auth=password Ready=True Age Message=all is well")

		connected := ready()
		connected["type"], connected["status"] = "RemoteConnected", "False"

		server.columns(ctx, t, "testdata/good/bridge.yaml", "mqttbridges", map[string]any{
			"conditions": []any{ready(), connected}, "remote": map[string]any{"endpoint": "mqtts://mqtt.example.com:8883"},
		}, "Name=cloud Broker=mq Remote=mqtts://mqtt.example.com:8883 Connected=False Ready=True Age Message=all is well")
	})

	t.Run("what is to come", func(t *testing.T) {
		server.lift(ctx, t)

		for _, path := range files(t, "testdata/good/*.yaml") {
			server.expect(t, path, "", server.create(ctx, object(t, path)))
		}

		server.rules(ctx, t, true)

		server.columns(ctx, t, "testdata/good/policy.yaml", "mqttaccesspolicies", map[string]any{
			"boundUsers": 3, "conditions": []any{ready()},
		}, "Name=telemetry Users=3 Ready=True Age Message=all is well")
	})

	for _, crd := range crds(t) {
		for _, message := range messages(crd) {
			if !server.seen[crd.Spec.Names.Kind+message] {
				t.Errorf("%s: no case meets this refusal: %s", crd.Spec.Names.Kind, message)
			}
		}
	}
}

// server is an API server that knows the four kinds.
type server struct {
	client client.Client
	rest   rest.Interface
	defs   []*apiextensionsv1.CustomResourceDefinition
	seen   map[string]bool // kind and message of each refusal that a case has asked for
}

func start(t *testing.T) *server {
	t.Helper()

	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Fatal("this test needs kube-apiserver and etcd; run in the root of the repository:\n" +
			"  export KUBEBUILDER_ASSETS=$(cd hack/devcluster && go run . assets)")
	}

	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(apiextensionsv1.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))

	env := &envtest.Environment{
		CRDs:                     crds(t),
		ControlPlaneStartTimeout: 5 * time.Minute,
		ControlPlaneStopTimeout:  time.Minute,
	}

	config, err := env.Start()
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Errorf("stop the API server: %v", err)
		}
	})

	if err != nil {
		t.Fatalf("start the API server: %v", err)
	}

	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}

	discovered, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}

	return &server{client: c, rest: discovered.RESTClient(), defs: crds(t), seen: map[string]bool{}}
}

// create asks whether an object would be accepted.
func (s *server) create(ctx context.Context, o *unstructured.Unstructured) error {
	return s.client.Create(ctx, o, client.DryRunAll, client.FieldValidation("Strict"))
}

// hold creates an object for the time of a test.
func (s *server) hold(ctx context.Context, t *testing.T, o *unstructured.Unstructured) {
	t.Helper()

	if err := s.client.Create(ctx, o, client.FieldValidation("Strict")); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := s.client.Delete(context.WithoutCancel(ctx), o); err != nil {
			t.Error(err)
		}
	})
}

// columns writes a status and compares the row of the table that "kubectl get -o wide" would print.
func (s *server) columns(ctx context.Context, t *testing.T, path, resource string, status map[string]any, want string) {
	t.Helper()

	o := object(t, path)
	s.hold(ctx, t, o)

	o.Object["status"] = status
	if err := s.client.Status().Update(ctx, o); err != nil {
		t.Fatal(err)
	}

	answer, err := s.rest.Get().AbsPath("/apis", v1alpha1.GroupVersion.String(), "namespaces", o.GetNamespace(), resource, o.GetName()).
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(ctx)
	if err != nil {
		t.Fatal(err)
	}

	var table metav1.Table
	if err := json.Unmarshal(answer, &table); err != nil {
		t.Fatal(err)
	}

	var got []string

	for i, column := range table.ColumnDefinitions {
		cell := fmt.Sprintf("%s=%v", column.Name, table.Rows[0].Cells[i])
		if column.Name == "Age" {
			cell = column.Name
		}

		got = append(got, cell)
	}

	if row := strings.Join(got, " "); row != want {
		t.Errorf("%s:\n got %s\nwant %s", path, row, want)
	}
}

func ready() map[string]any {
	return map[string]any{
		"type": "Ready", "status": "True", "reason": "Ready", "message": "all is well",
		"lastTransitionTime": "2026-01-01T00:00:00Z",
	}
}

// expect compares what the server says with what a case wants: an empty want stands for acceptance.
func (s *server) expect(t *testing.T, name, want string, err error) {
	t.Helper()

	switch {
	case want == "" && err != nil:
		t.Errorf("%s: want acceptance, got %v", name, err)
	case want != "" && err == nil:
		t.Errorf("%s: accepted, want %q", name, want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("%s: want %q, got %v", name, want, err)
	case want != "":
		for _, crd := range s.defs {
			for _, message := range messages(crd) {
				if strings.Contains(err.Error(), crd.Spec.Names.Kind+".") && strings.Contains(message, want) &&
					strings.Contains(err.Error(), message) {
					s.seen[crd.Spec.Names.Kind+message] = true
				}
			}
		}
	}
}

// rules tries the changes of testdata/rules: each creation that has still something to meet, and the updates of those
// bases that this round is the one for.
func (s *server) rules(ctx context.Context, t *testing.T, lifted bool) {
	t.Helper()

	for _, path := range files(t, "testdata/rules/*.yaml") {
		var r rules
		if err := yaml.UnmarshalStrict(read(t, path), &r); err != nil {
			t.Fatalf("%s: %v", path, err)
		}

		for i, c := range r.Create {
			if lifted && strings.Contains(c.Wants, notAlive) {
				continue
			}

			changed := object(t, "testdata/"+r.base(c))
			c.apply(t, changed)
			s.expect(t, fmt.Sprintf("%s: create %d", path, i+1), c.Wants, s.create(ctx, changed))
		}

		for i, c := range r.Update {
			base := "testdata/" + r.base(c)
			if isLater(t, base) != lifted {
				continue
			}

			t.Run(fmt.Sprintf("%s update %d", strings.TrimSuffix(filepath.Base(path), ".yaml"), i+1), func(t *testing.T) {
				held := object(t, base)
				s.hold(ctx, t, held)

				changed := held.DeepCopy()
				c.apply(t, changed)
				s.expect(t, fmt.Sprintf("%s: update %d", path, i+1), c.Wants, s.client.Update(ctx, changed, client.DryRunAll))
			})
		}
	}
}

// lift replaces the definitions by ones without the rules that refuse what is not alive, and waits until they count.
func (s *server) lift(ctx context.Context, t *testing.T) {
	t.Helper()

	for _, crd := range s.defs {
		walk(schemaOf(crd), "", func(_ string, schema *apiextensionsv1.JSONSchemaProps) bool {
			schema.XValidations = slices.DeleteFunc(schema.XValidations, func(rule apiextensionsv1.ValidationRule) bool {
				return strings.Contains(rule.Message, notAlive)
			})

			return true
		})

		var current apiextensionsv1.CustomResourceDefinition
		if err := s.client.Get(ctx, client.ObjectKeyFromObject(crd), &current); err != nil {
			t.Fatal(err)
		}

		current.Spec = *crd.Spec.DeepCopy()
		if err := s.client.Update(ctx, &current); err != nil {
			t.Fatal(err)
		}
	}

	for _, path := range files(t, "testdata/good/later-*.yaml") {
		deadline := time.Now().Add(time.Minute)

		for {
			err := s.create(ctx, object(t, path))
			if err == nil || !strings.Contains(err.Error(), notAlive) {
				break
			}

			if time.Now().After(deadline) {
				t.Fatalf("%s: the definitions without the rules do not take effect: %v", path, err)
			}

			time.Sleep(100 * time.Millisecond)
		}
	}
}

// apply changes an object.
func (c change) apply(t *testing.T, o *unstructured.Unstructured) {
	t.Helper()

	for path, value := range c.Set {
		o.Object = edit(t, o.Object, steps(path), value, false).(map[string]any) //nolint:forcetypeassert // an object stays one
	}

	for _, path := range c.Remove {
		o.Object = edit(t, o.Object, steps(path), nil, true).(map[string]any) //nolint:forcetypeassert // an object stays one
	}
}

// steps splits spec.listeners[0].port into spec, listeners, 0 and port.
func steps(path string) []string {
	return strings.Split(strings.NewReplacer("[", ".", "]", "").Replace(path), ".")
}

func edit(t *testing.T, node any, path []string, value any, remove bool) any {
	t.Helper()

	if len(path) == 0 {
		return value
	}

	if list, ok := node.([]any); ok {
		i, err := strconv.Atoi(path[0])
		if err != nil || i > len(list) {
			t.Fatalf("no item %s in a list of %d", path[0], len(list))
		}

		if i == len(list) {
			list = append(list, nil)
		}

		list[i] = edit(t, list[i], path[1:], value, remove)

		return list
	}

	fields, ok := node.(map[string]any)
	if !ok {
		fields = map[string]any{}
	}

	if remove && len(path) == 1 {
		delete(fields, path[0])
	} else {
		fields[path[0]] = edit(t, fields[path[0]], path[1:], value, remove)
	}

	return fields
}

func files(t *testing.T, pattern string) []string {
	t.Helper()

	found, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}

	if len(found) == 0 {
		t.Fatalf("no files %s", pattern)
	}

	return found
}

func read(t *testing.T, path string) []byte {
	t.Helper()

	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	return content
}

func isLater(t *testing.T, path string) bool {
	t.Helper()

	return bytes.HasPrefix(read(t, path), []byte(later))
}

func object(t *testing.T, path string) *unstructured.Unstructured {
	t.Helper()

	return parse(t, path, read(t, path))
}

func parse(t *testing.T, path string, document []byte) *unstructured.Unstructured {
	t.Helper()

	o := &unstructured.Unstructured{Object: map[string]any{}}
	if err := yaml.UnmarshalStrict(document, &o.Object); err != nil {
		t.Fatalf("%s: %v", path, err)
	}

	o.SetNamespace("default")

	return o
}

func crds(t *testing.T) []*apiextensionsv1.CustomResourceDefinition {
	t.Helper()

	var found []*apiextensionsv1.CustomResourceDefinition

	for _, path := range files(t, "crd/bases/*.yaml") {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(read(t, path), crd); err != nil {
			t.Fatalf("%s: %v", path, err)
		}

		found = append(found, crd)
	}

	return found
}

func schemaOf(crd *apiextensionsv1.CustomResourceDefinition) *apiextensionsv1.JSONSchemaProps {
	return crd.Spec.Versions[0].Schema.OpenAPIV3Schema
}

// walk visits a schema and everything in it; visit says whether to go on below.
func walk(schema *apiextensionsv1.JSONSchemaProps, path string, visit func(string, *apiextensionsv1.JSONSchemaProps) bool) {
	if !visit(path, schema) {
		return
	}

	for name, field := range schema.Properties {
		walk(&field, strings.TrimPrefix(path+"."+name, "."), visit)
		schema.Properties[name] = field
	}

	if values := schema.AdditionalProperties; values != nil && values.Schema != nil {
		walk(values.Schema, path+"{}", visit)
	}

	if schema.Items != nil {
		walk(schema.Items.Schema, path+"[]", visit)
	}
}

func refused(schema *apiextensionsv1.JSONSchemaProps) bool {
	return slices.ContainsFunc(schema.XValidations, func(rule apiextensionsv1.ValidationRule) bool { return rule.Rule == "false" })
}

// messages are the texts of every rule of a kind.
func messages(crd *apiextensionsv1.CustomResourceDefinition) []string {
	var all []string

	walk(schemaOf(crd), "", func(_ string, schema *apiextensionsv1.JSONSchemaProps) bool {
		for _, rule := range schema.XValidations {
			all = append(all, rule.Message)
		}

		return true
	})
	slices.Sort(all)

	return slices.Compact(all)
}
