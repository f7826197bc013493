// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

type schema = apiextensionsv1.JSONSchemaProps

// smallest is how many fields an object may have to stand in the section of the one that holds it.
const smallest = 3

// page is one kind on its way to Markdown.
type page struct {
	strings.Builder

	kind     string
	problems []error
}

// render is pure: a definition gives its page.
func render(definition *apiextensionsv1.CustomResourceDefinition) (string, error) {
	names, version := definition.Spec.Names, definition.Spec.Versions[0]
	root := version.Schema.OpenAPIV3Schema
	p := &page{kind: names.Kind}
	p.printf("<!-- SPDX-License-Identifier: Apache-2.0 -->\n<!-- hack/reference writes this page from the Go types; hack/generate.sh runs it. -->\n\n")
	p.printf("# Fields of %s\n\n%s\n\n", names.Kind, prose(root.Description))
	p.printf("How it is used is on the page [%s](../%s.md). This one holds every field with its rules, as `kubectl explain` does.\n\n",
		names.Kind, strings.ToLower(names.Kind))
	p.printf("| | |\n|---|---|\n| API version | `%s/%s` |\n| resource | `%s`, short `%s`, %s |\n", definition.Spec.Group, version.Name,
		names.Plural, strings.Join(names.ShortNames, "`, `"), strings.ToLower(string(definition.Spec.Scope)))
	p.printf("| `kubectl get` shows | %s |\n\n", columns(version.AdditionalPrinterColumns))
	p.rules(root, "the object")
	for _, part := range []string{"spec", "status"} {
		field, found := root.Properties[part]
		if !found {
			return "", fmt.Errorf("%s has no %s", names.Kind, part)
		}
		p.section(part, &field, 2)
	}
	return strings.TrimRight(p.String(), "\n") + "\n", errors.Join(p.problems...)
}

func (p *page) printf(format string, arguments ...any) { _, _ = fmt.Fprintf(p, format, arguments...) }

// columns names what kubectl prints; those of -o wide stand last.
func columns(list []apiextensionsv1.CustomResourceColumnDefinition) string {
	var always, wide []string
	for _, c := range list {
		if c.Priority == 0 {
			always = append(always, c.Name)
		} else {
			wide = append(wide, c.Name)
		}
	}
	text := strings.Join(always, ", ")
	if len(wide) > 0 {
		text += "; with `-o wide` also " + strings.Join(wide, ", ")
	}
	return text
}

// section writes an object's fields, and a section for each object in it.
func (p *page) section(path string, s *schema, depth int) {
	p.printf("%s `%s`\n\n", strings.Repeat("#", min(depth, 4)), path)
	if depth > 2 {
		p.printf("%s\n\n", prose(s.Description))
	}
	fields := inside(s)
	change := p.kind == v1alpha1.KindMQTTBroker && strings.HasPrefix(path, "spec")
	p.printf("| field | type | meaning |%s\n|---|---|---|%s\n", when(change, " change |"), when(change, "---|"))
	below := p.rows(path, "", fields, change)
	p.printf("\n")
	p.rules(fields, path)
	p.fieldRules(fields)
	for _, child := range below {
		p.section(child.path, child.schema, depth+1)
	}
}

// child is an object that gets a section.
type child struct {
	path   string
	schema *schema
}

// rows writes a row for each field, and for those of small objects. It returns the objects that are not small.
func (p *page) rows(path, prefix string, s *schema, change bool) []child {
	var below []child
	for _, name := range ordered(s) {
		field := s.Properties[name]
		full := path + "." + prefix + name
		if field.Description == "" {
			p.problems = append(p.problems, fmt.Errorf("%s has no description", full))
		}
		object, shape := inside(&field), typeOf(&field, full)
		required := slices.Contains(s.Required, name)
		isDead := isRefused(&field)
		switch {
		case isDead:
			shape = "*not alive in this version*"
		case object != nil && !isForeign(full) && !isSmall(object):
			shape = strings.Replace(shape, "object", "["+"object](#"+anchor(full+suffix(&field))+")", 1)
			below = append(below, child{path: full + suffix(&field), schema: &field})
		}
		p.printf("| `%s` | %s%s | %s |", prefix+name, shape, when(required, ", **required**"), cell(prose(field.Description)))
		if change {
			p.printf(" %s |", cmp.Or(string(v1alpha1.BrokerChange(full)), "refused"))
		}
		p.printf("\n")
		if object != nil && !isForeign(full) && isSmall(object) && !isDead {
			below = append(below, p.rows(path, prefix+name+suffix(&field)+".", object, change)...)
		}
	}
	return below
}

// rules lists what the API server checks of an object as a whole.
func (p *page) rules(s *schema, of string) {
	list := messages(s)
	if len(list) == 0 {
		return
	}
	p.printf("Rules of %s:\n\n", code(of))
	for _, text := range list {
		p.printf("* %s\n", prose(text))
	}
	p.printf("\n")
}

// fieldRules lists what it checks of the fields of a section. Objects that have a section say it there.
func (p *page) fieldRules(s *schema) {
	lines := linesOf("", s)
	if len(lines) > 0 {
		p.printf("Rules of fields:\n\n%s\n", strings.Join(lines, ""))
	}
}

func linesOf(prefix string, s *schema) []string {
	var lines []string
	for _, name := range ordered(s) {
		field := s.Properties[name]
		object := inside(&field)
		isRow := object == nil || isRefused(&field) || isForeign(name) || isSmall(object)
		if !isRow && field.Items == nil {
			continue
		}
		list := messages(&field)
		if field.Items != nil && isRow && object == nil {
			list = append(list, messages(field.Items.Schema)...)
		}
		for _, text := range list {
			lines = append(lines, about(prefix+name, ": "+prose(text)))
		}
		if text := pattern(&field); text != "" && object == nil {
			lines = append(lines, about(prefix+name, " matches `"+text+"`"))
		}
		if object != nil && isRow && !isRefused(&field) && !isForeign(name) {
			lines = append(lines, rulesOfSmall(prefix+name+suffix(&field), object, field.Items != nil)...)
		}
	}
	return lines
}

func about(field, text string) string { return "* `" + field + "`" + text + "\n" }

// rulesOfSmall are the rules of an object that has no section: its own, where it stands in a list, and those of its fields.
func rulesOfSmall(path string, object *schema, isItem bool) []string {
	var lines []string
	if isItem {
		for _, text := range messages(object) {
			lines = append(lines, about(path, ": "+prose(text)))
		}
	}
	return append(lines, linesOf(path+".", object)...)
}

// ordered are the names of an object's fields: what is required first, then by name.
func ordered(s *schema) []string {
	return slices.SortedFunc(maps.Keys(s.Properties), func(a, b string) int {
		if x, y := slices.Contains(s.Required, a), slices.Contains(s.Required, b); x != y {
			if x {
				return -1
			}
			return 1
		}
		return cmp.Compare(a, b)
	})
}

// inside is the object that a field holds, alone or in a list or map; nil for anything else, and for {}.
func inside(s *schema) *schema {
	switch {
	case s.Items != nil:
		return inside(s.Items.Schema)
	case s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil:
		return inside(s.AdditionalProperties.Schema)
	case len(s.Properties) > 0:
		return s
	default:
		return nil
	}
}

func isSmall(s *schema) bool {
	for _, field := range s.Properties {
		if inside(&field) != nil {
			return false
		}
	}
	return len(s.Properties) <= smallest
}

// suffix marks a list, as paths of fields do.
func suffix(s *schema) string { return when(s.Items != nil, "[]") }

func when(is bool, text string) string {
	if is {
		return text
	}
	return ""
}
