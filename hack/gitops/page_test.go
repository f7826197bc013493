// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const (
	root = "../.."
	page = "docs/gitops.md"
)

var (
	block     = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")
	separator = regexp.MustCompile(`(?m)^---\s*$`)
)

// shown are the objects in the YAML blocks of a page. That each is whole is tested in test/docs.
func shown(t *testing.T, name string) []*unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	var list []*unstructured.Unstructured
	for _, found := range block.FindAllStringSubmatch(string(text), -1) {
		for _, document := range separator.Split(found[1], -1) {
			if strings.TrimSpace(document) == "" {
				continue
			}
			list = append(list, parse(t, name, []byte(document)))
		}
	}
	return list
}

func parse(t *testing.T, name string, text []byte) *unstructured.Unstructured {
	t.Helper()
	object := &unstructured.Unstructured{}
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err == nil {
		err = json.Unmarshal(asJSON, object) // whole numbers as a client of Kubernetes has them
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return object
}
