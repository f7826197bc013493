// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// foreign are the API groups that a page may show and that our API server does not know. hack/gitops holds what is shown of
// them against their own definitions.
var foreign = map[string]string{
	"argoproj.io":                 "gitops.md shows an Application",
	"cert-manager.io":             "tls.md shows how its Certificate writes a Secret that a listener can use",
	"kustomize.toolkit.fluxcd.io": "gitops.md shows how Flux applies and waits",
	"source.toolkit.fluxcd.io":    "gitops.md shows where it fetches from",
}

// leastObjects keeps the examples from vanishing unnoticed.
const leastObjects = 10

type object struct {
	*unstructured.Unstructured

	where string
	text  string
}

// objects are those of every YAML block on every page. A block holds whole objects: a fragment could not be tried.
func objects(t *testing.T) []object {
	t.Helper()

	var all []object

	separator := regexp.MustCompile(`(?m)^---\s*$`)

	for _, p := range pages(t) {
		for _, b := range p.blocks {
			if b.language != "yaml" && b.language != "yml" {
				continue
			}

			for i, text := range separator.Split(b.text, -1) {
				o := object{where: fmt.Sprintf("%s:%d: object %d", p.path, b.line, i+1), text: text, Unstructured: &unstructured.Unstructured{}}
				if err := yaml.UnmarshalStrict([]byte(text), &o.Object); err != nil {
					t.Errorf("%s: %v", o.where, err)

					continue
				}

				if o.GetKind() == "" || o.GetAPIVersion() == "" || o.GetName() == "" {
					t.Errorf("%s: a YAML block holds whole objects, with apiVersion, kind and metadata.name", o.where)

					continue
				}

				all = append(all, o)
			}
		}
	}

	return all
}

func TestExamplesDecodeStrictly(t *testing.T) {
	t.Parallel()

	ours := 0

	for _, o := range objects(t) {
		if o.GroupVersionKind().Group != v1alpha1.GroupVersion.Group {
			continue
		}

		ours++

		typed, err := newObject(o.GetKind())
		if err == nil {
			err = yaml.UnmarshalStrict([]byte(o.text), typed)
		}

		if err != nil {
			t.Errorf("%s: %v", o.where, err)
		}
	}

	if ours < leastObjects {
		t.Errorf("the pages show %d objects of ours, fewer than %d", ours, leastObjects)
	}
}

func newObject(kind string) (client.Object, error) {
	switch kind {
	case "MQTTBroker":
		return &v1alpha1.MQTTBroker{}, nil
	case "MQTTUser":
		return &v1alpha1.MQTTUser{}, nil
	case "MQTTAccessPolicy":
		return &v1alpha1.MQTTAccessPolicy{}, nil
	case "MQTTBridge":
		return &v1alpha1.MQTTBridge{}, nil
	default:
		return nil, fmt.Errorf("there is no kind %s", kind)
	}
}

// TestExamplesAreAccepted asks a real API server, without storing anything.
func TestExamplesAreAccepted(t *testing.T) {
	t.Parallel()

	server := start(t)

	for _, o := range objects(t) {
		if _, ok := foreign[o.GroupVersionKind().Group]; ok {
			continue
		}

		namespaced, err := server.IsObjectNamespaced(o.Unstructured)
		if meta.IsNoMatchError(err) {
			t.Errorf("%s: the API server knows no %s of %s", o.where, o.GetKind(), o.GetAPIVersion())

			continue
		}

		if err != nil {
			t.Fatal(err)
		}

		if namespaced {
			o.SetNamespace("default")
		}

		if err := server.Create(t.Context(), o.Unstructured, client.DryRunAll, client.FieldValidation("Strict")); err != nil {
			t.Errorf("%s: %v", o.where, err)
		}
	}
}

func start(t *testing.T) client.Client {
	t.Helper()

	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Fatal("this test needs kube-apiserver and etcd; run in the root of the repository:\n" +
			"  export KUBEBUILDER_ASSETS=$(cd hack/devcluster && go run . assets)")
	}

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
		t.Fatalf("start the API server: %v", strings.TrimSpace(err.Error()))
	}

	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}

	return c
}
