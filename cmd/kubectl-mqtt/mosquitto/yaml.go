// SPDX-License-Identifier: Apache-2.0

package mosquitto

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// YAML is the result as text, with what was not carried over as comments. title is its first line.
func (r *Result) YAML(title string) ([]byte, error) {
	b := &bytes.Buffer{}
	comment(b, title)
	for _, note := range r.Notes {
		comment(b, "", note)
	}
	if !r.Complete() {
		comment(b, "", "Not carried over:")
		for _, report := range r.Reports {
			comment(b, "- "+report.String())
		}
	}
	for _, hint := range r.Hints {
		comment(b, append([]string{""}, strings.Split(strings.TrimRight(hint, "\n"), "\n")...)...)
	}
	for _, o := range r.Objects {
		b.WriteString("---\n")
		comment(b, o.Comments...)
		if err := encode(b, o.Object); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// comment writes lines that hold nothing but what can be printed: the texts come from [shown].
func comment(b *bytes.Buffer, lines ...string) {
	for _, line := range lines {
		b.WriteString(strings.TrimRight("# "+line, " ") + "\n")
	}
}

// yamlText is a value as YAML.
func yamlText(value any) string {
	b := &bytes.Buffer{}
	if err := encode(b, value); err != nil {
		return shown(err.Error())
	}
	return b.String()
}

// encode writes a value as YAML with its fields in the order of the Go type, which is that in which people read them.
func encode(w io.Writer, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("object: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	node, err := nodeOf(dec)
	if err != nil {
		return fmt.Errorf("object: %w", err)
	}
	if at := slices.IndexFunc(node.Content, func(n *yaml.Node) bool { return n.Value == "apiVersion" }); at == 2 {
		node.Content[0], node.Content[1], node.Content[2], node.Content[3] = node.Content[2], node.Content[3], node.Content[0], node.Content[1]
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(node); err != nil {
		return fmt.Errorf("object: %w", err)
	}
	return enc.Close()
}

// nodeOf reads one JSON value. Lists of words stand in one line.
func nodeOf(dec *json.Decoder) (*yaml.Node, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch token := token.(type) {
	case json.Delim:
		node := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		if token == '[' {
			node.Kind, node.Tag, node.Style = yaml.SequenceNode, "!!seq", yaml.FlowStyle
		}
		for dec.More() {
			child, err := nodeOf(dec)
			if err != nil {
				return nil, err
			}
			if child.Kind != yaml.ScalarNode && node.Kind == yaml.SequenceNode {
				node.Style = 0
			}
			node.Content = append(node.Content, child)
		}
		if _, err := dec.Token(); err != nil {
			return nil, err
		}
		return node, nil
	case string:
		node := &yaml.Node{}
		node.SetString(token)
		node.Style &^= yaml.LiteralStyle
		if strings.ContainsFunc(token, func(r rune) bool { return !unicode.IsPrint(r) }) {
			node.Style = yaml.DoubleQuotedStyle // the only one that can write it in one line of letters
		}
		return node, nil
	case json.Number:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: token.String()}, nil
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(token)}, nil
	default:
		return nil, errors.New("a null has no place in an object")
	}
}
