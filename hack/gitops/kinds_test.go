// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	runtimeschema "k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// definition is where the definition of somebody else's kind is: a file of a Go module, of which no code is used.
type definition struct{ module, sum, file string }

var definitions = map[runtimeschema.GroupVersionKind]definition{
	{Group: "argoproj.io", Version: "v1alpha1", Kind: "Application"}: {
		"github.com/argoproj/argo-cd/v3@v3.4.0", "h1:yZwfaOIzE/aQTA52mOfeZQbribmyxKYvMgirQja4eX0=", "manifests/crds/application-crd.yaml",
	},
	{Group: "source.toolkit.fluxcd.io", Version: "v1", Kind: "GitRepository"}: {
		"github.com/fluxcd/source-controller@v1.8.0", "h1:h549HUCBEG4jGs3uFYfb2+/XhJjcz+pvB8VG4mdSYDw=", "config/crd/bases/source.toolkit.fluxcd.io_gitrepositories.yaml",
	},
	{Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Kind: "Kustomization"}: {
		"github.com/fluxcd/kustomize-controller@v1.7.3", "h1:SzNnGn/4ObAPEHHleM5U7y/AKxKXph3Vj6ZhteeXw8M=", "config/crd/bases/kustomize.toolkit.fluxcd.io_kustomizations.yaml",
	},
	{Group: "cert-manager.io", Version: "v1", Kind: "Certificate"}: {
		"github.com/cert-manager/cert-manager@v1.20.2", "h1:CimnY00nLqB2lmxhoSuEC4GDMFDK7JCXqyjwMM9ndIQ=", "deploy/crds/cert-manager.io_certificates.yaml",
	},
}

// TestKindsOfOthers holds what the pages show of them against their definitions: no field that is unknown, none of a wrong form.
func TestKindsOfOthers(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[runtimeschema.GroupVersionKind]int{}
	for _, name := range pages {
		name, err := filepath.Rel(root, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range shown(t, name) {
			kind := object.GroupVersionKind()
			if _, known := definitions[kind]; !known {
				continue // of Kubernetes, or ours: test/docs asks an API server
			}
			seen[kind]++
			for _, fault := range faults(t, kind, object) {
				t.Errorf("%s: %s %s: %s", name, kind.Kind, object.GetName(), fault)
			}
		}
	}
	for kind := range definitions {
		if seen[kind] == 0 {
			t.Errorf("no page shows a %s", kind.Kind)
		}
	}

	// The measure itself.
	wrong := parse(t, "wrong", []byte(`{"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": {"name": "x"},
		"spec": {"interval": "often", "prune": true, "sourceRef": {"kind": "GitRepository", "name": "x"}, "hurry": true}}`))
	if found := faults(t, wrong.GroupVersionKind(), wrong); len(found) != 2 {
		t.Errorf("a Kustomization with two faults has %d: %v", len(found), found)
	}
}

func faults(t *testing.T, kind runtimeschema.GroupVersionKind, object *unstructured.Unstructured) []string {
	t.Helper()
	validator, structural := load(t, kind)
	var found []string
	for _, err := range validation.ValidateCustomResource(nil, object.Object, validator) {
		found = append(found, err.Error())
	}
	for _, field := range pruning.PruneWithOptions(object.DeepCopy().Object, structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		found = append(found, "there is no field "+field)
	}
	return found
}

func load(t *testing.T, kind runtimeschema.GroupVersionKind) (validation.SchemaValidator, *schema.Structural) {
	t.Helper()
	where := definitions[kind]
	text, err := os.ReadFile(filepath.Join(fetch(t, where), where.file))
	if err != nil {
		t.Fatal(err)
	}
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal(text, crd); err != nil {
		t.Fatal(err)
	}
	for _, version := range crd.Spec.Versions {
		if version.Name != kind.Version {
			continue
		}
		internal := &apiextensions.JSONSchemaProps{}
		if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(version.Schema.OpenAPIV3Schema, internal, nil); err != nil {
			t.Fatal(err)
		}
		validator, _, err := validation.NewSchemaValidator(internal)
		if err != nil {
			t.Fatal(err)
		}
		structural, err := schema.NewStructural(internal)
		if err != nil {
			t.Fatal(err)
		}
		return validator, structural
	}
	t.Fatalf("%s has no version %s", where.file, kind.Version)
	return nil, nil
}

// fetch is the folder of a module, which go fetches if it is not there, in exactly this form.
func fetch(t *testing.T, where definition) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", where.module)
	command.Dir = t.TempDir() // outside of this module, whose go.mod does not know it
	text, err := command.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", where.module, err, text)
	}
	var answer struct{ Dir, Sum string }
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatal(err)
	}
	if answer.Sum != where.sum {
		t.Fatalf("%s has the sum %s, not %s", where.module, answer.Sum, where.sum)
	}
	return answer.Dir
}
