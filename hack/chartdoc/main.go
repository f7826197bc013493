// SPDX-License-Identifier: Apache-2.0

// Command chartdoc writes what a Helm chart says about its values from the comments of its values.yaml.
//
// In: values.yaml, where the comment above a value describes it and a comment line "@schema {…}" adds JSON Schema to
// it. Out: values.schema.json, which knows every value and refuses others, and the table in README.md between the lines
// <!-- values --> and <!-- /values -->. A value without a comment is refused, so nothing stays undocumented.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	begin = "<!-- values -->\n"
	end   = "<!-- /values -->\n"
)

// value is one entry of values.yaml with what stands above it.
type value struct {
	path     string // as --set takes it
	text     string
	extra    map[string]any // what @schema lines add
	node     *yaml.Node
	children []value
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: chartdoc CHART")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "chartdoc:", err)
		os.Exit(1)
	}
}

func run(chart string) error {
	folder, err := os.OpenRoot(chart)
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }()
	source, err := folder.ReadFile("values.yaml")
	if err != nil {
		return err
	}
	values, err := read(source)
	if err != nil {
		return fmt.Errorf("values.yaml: %w", err)
	}

	var schema bytes.Buffer
	encoder := json.NewEncoder(&schema)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(schemaOf(values)); err != nil {
		return err
	}
	if err := folder.WriteFile("values.schema.json", schema.Bytes(), 0o644); err != nil {
		return err
	}

	text, err := folder.ReadFile("README.md")
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(text), begin)
	_, after, foundEnd := strings.Cut(rest, end)
	if !found || !foundEnd {
		return fmt.Errorf("README.md: no lines %s and %s", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return folder.WriteFile("README.md", []byte(before+begin+"\n"+table(values)+"\n"+end+after), 0o644)
}

// read turns values.yaml into values, in its order.
func read(source []byte) ([]value, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(source, &document); err != nil {
		return nil, err
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("want one mapping")
	}
	return entries("", document.Content[0])
}

func entries(parent string, mapping *yaml.Node) ([]value, error) {
	var found []value
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, node := mapping.Content[i], mapping.Content[i+1]
		v := value{path: strings.TrimPrefix(parent+"."+key.Value, "."), node: node}
		var err error
		if v.text, v.extra, err = describe(key.HeadComment); err != nil {
			return nil, fmt.Errorf("%s: %w", v.path, err)
		}
		// A mapping whose entries have no comments is one value, such as resources.
		if node.Kind == yaml.MappingNode && documented(node) {
			if v.children, err = entries(v.path, node); err != nil {
				return nil, err
			}
		}
		if v.text == "" {
			return nil, fmt.Errorf("%s: no comment says what it does", v.path)
		}
		found = append(found, v)
	}
	return found, nil
}

func documented(mapping *yaml.Node) bool {
	for i := 0; i < len(mapping.Content); i += 2 {
		if mapping.Content[i].HeadComment != "" {
			return true
		}
	}
	return false
}

// describe parts a comment into prose and schema. Only the last paragraph counts: a file's header is none of it.
func describe(comment string) (string, map[string]any, error) {
	paragraphs := strings.Split(comment, "\n\n")
	var prose []string
	extra := map[string]any{}
	for line := range strings.Lines(paragraphs[len(paragraphs)-1]) {
		line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "#"))
		addition, isSchema := strings.CutPrefix(line, "@schema ")
		if !isSchema {
			prose = append(prose, line)
			continue
		}
		if err := json.Unmarshal([]byte(addition), &extra); err != nil {
			return "", nil, fmt.Errorf("@schema: %w", err)
		}
	}
	return strings.TrimSpace(strings.Join(prose, " ")), extra, nil
}

func schemaOf(values []value) map[string]any {
	// Helm hands these to every chart that is part of another.
	root := object(values, map[string]any{"global": map[string]any{"type": "object"}})
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	return root
}

// object knows the values and the given properties, and refuses all others.
func object(values []value, properties map[string]any) map[string]any {
	for _, v := range values {
		property := map[string]any{}
		switch v.node.Kind {
		case yaml.MappingNode:
			property["type"] = "object"
			if v.children != nil {
				property = object(v.children, map[string]any{})
			}
		case yaml.SequenceNode:
			property["type"] = "array"
		default:
			property["type"] = map[string]string{"!!str": "string", "!!int": "integer", "!!bool": "boolean", "!!float": "number"}[v.node.Tag]
		}
		property["description"] = v.text
		maps.Copy(property, v.extra)
		properties[v.path[strings.LastIndex(v.path, ".")+1:]] = property
	}
	return map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
}

func table(values []value) string {
	var b strings.Builder
	b.WriteString("| value | default | what it does |\n|---|---|---|\n")
	rows(&b, values)
	return b.String()
}

func rows(b *strings.Builder, values []value) {
	for _, v := range values {
		text := strings.ReplaceAll(v.text, "|", `\|`)
		// A name in angle brackets is no HTML.
		text = strings.NewReplacer("<", "&lt;", ">", "&gt;").Replace(text)
		if v.children != nil {
			fmt.Fprintf(b, "| **%s** | | %s |\n", v.path, text)
			rows(b, v.children)
			continue
		}
		fmt.Fprintf(b, "| `%s` | `%s` | %s |\n", v.path, literal(v.node), text)
	}
}

// literal is a default in one line.
func literal(node *yaml.Node) string {
	var plain any
	if err := node.Decode(&plain); err != nil {
		return node.Value
	}
	text, err := json.Marshal(plain)
	if err != nil {
		return node.Value
	}
	return strings.ReplaceAll(string(text), "|", `\|`)
}
