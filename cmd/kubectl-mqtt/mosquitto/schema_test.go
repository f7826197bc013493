// SPDX-License-Identifier: Apache-2.0

package mosquitto

import (
	"bufio"
	"bytes"
	"os"
	"strings"
	"sync"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	schemacel "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

func newReader(text []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(text)) }

// What the API server lets a CEL rule, and all rules of an object together, cost.
const (
	perCall   = 1_000_000
	perObject = 10_000_000
)

// schema is what the API server asks of a kind: types, bounds and CEL rules. Rules that refuse a field because it is not
// alive yet are left out: an import is written for the release that knows it.
type schema struct {
	types validation.SchemaValidator
	cel   *schemacel.Validator
	root  *structuralschema.Structural
}

var schemas = map[string]func() (*schema, error){
	"MQTTUser":         sync.OnceValues(func() (*schema, error) { return load("mqttusers") }),
	"MQTTAccessPolicy": sync.OnceValues(func() (*schema, error) { return load("mqttaccesspolicies") }),
}

func schemaOf(t *testing.T, kind string) *schema {
	t.Helper()
	s, err := schemas[kind]()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func load(plural string) (*schema, error) {
	text, err := os.ReadFile("../../../config/crd/bases/mqtt-operator.io_" + plural + ".yaml")
	if err != nil {
		return nil, err
	}
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict(text, crd); err != nil {
		return nil, err
	}
	root := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	alive(root)
	internal := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(root, internal, nil); err != nil {
		return nil, err
	}
	s := &schema{}
	if s.types, _, err = validation.NewSchemaValidator(internal); err != nil {
		return nil, err
	}
	if s.root, err = structuralschema.NewStructural(internal); err != nil {
		return nil, err
	}
	s.cel = schemacel.NewValidator(s.root, true, perCall)
	return s, nil
}

// alive removes the rules that refuse whatever there is.
func alive(s *apiextensionsv1.JSONSchemaProps) {
	var rules apiextensionsv1.ValidationRules
	for _, rule := range s.XValidations {
		if strings.TrimSpace(rule.Rule) != "false" {
			rules = append(rules, rule)
		}
	}
	s.XValidations = rules
	for name, child := range s.Properties {
		alive(&child)
		s.Properties[name] = child
	}
	if s.Items != nil && s.Items.Schema != nil {
		alive(s.Items.Schema)
	}
}

func (s *schema) accept(t *testing.T, document []byte) {
	t.Helper()
	object := map[string]any{}
	if err := yaml.Unmarshal(document, &object); err != nil {
		t.Fatal(err)
	}
	errs := validation.ValidateCustomResource(nil, object, s.types)
	more, _ := s.cel.Validate(t.Context(), field.NewPath(""), s.root, object, nil, perObject)
	for _, err := range append(errs, more...) {
		t.Errorf("the API server would refuse this: %v\n%s", err, document)
	}
}
