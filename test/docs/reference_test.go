// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// TestReferenceHasEveryField: what hack/reference writes holds each field of a kind once, and nothing else.
func TestReferenceHasEveryField(t *testing.T) {
	t.Parallel()

	for kind, schema := range schemas(t) {
		name := "docs/reference/" + strings.ToLower(kind) + ".md"

		wanted := map[string]bool{}

		walk(schema, "", func(field string, s *apiextensionsv1.JSONSchemaProps) bool {
			if strings.Contains(field, ".") && !strings.HasSuffix(field, "[]") && !strings.HasPrefix(field, "metadata") {
				wanted[field] = true
			}

			// What is refused whole, and what Kubernetes describes, is one row.
			return (!isRefusedWhole(s) || field == "") && !isOfKubernetes(field)
		})

		for field, times := range referenceFields(t, name) {
			if !wanted[field] {
				t.Errorf("%s: %s has no field %s", name, kind, field)
			}

			if times > 1 {
				t.Errorf("%s: %s stands there %d times", name, field, times)
			}

			delete(wanted, field)
		}

		for _, field := range slices.Sorted(maps.Keys(wanted)) {
			t.Errorf("%s does not have %s", name, field)
		}
	}
}

// isOfKubernetes tells of the fields whose inside is a type of Kubernetes.
func isOfKubernetes(field string) bool {
	name := strings.TrimSuffix(field[strings.LastIndexByte(field, '.')+1:], "[]")

	return slices.Contains([]string{
		"affinity", "tolerations", "topologySpreadConstraints", "resources", "conditions", "selector", "userSelector", "from", "metricsFrom",
	}, name)
}

// referenceFields counts the rows of a page: the heading above says where a field is.
func referenceFields(t *testing.T, name string) map[string]int {
	t.Helper()

	content, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}

	found, section := map[string]int{}, ""

	for line := range strings.Lines(string(content)) {
		switch {
		case strings.HasPrefix(line, "##"):
			section = strings.Trim(strings.TrimLeft(line, "#"), " `\n") + "."
		case strings.HasPrefix(line, "| `") && section != "":
			field, _, _ := strings.Cut(line[len("| `"):], "`")
			found[section+field]++
		}
	}

	return found
}
