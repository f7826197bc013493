// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// notAlive marks the rules that refuse what nothing carries out yet.
const notAlive = " is not alive in this version"

// durations and quantities have a pattern each, which is better said in a word.
const duration = `^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`

// foreign are the types of Kubernetes, by the name of the field that has them.
var foreign = map[string]string{
	"affinity": "Affinity", "tolerations": "Toleration", "topologySpreadConstraints": "TopologySpreadConstraint",
	"resources": "ResourceRequirements", "conditions": "Condition", "selector": "LabelSelector", "userSelector": "LabelSelector",
	"from": "NetworkPolicyPeer", "metricsFrom": "NetworkPolicyPeer",
}

func isForeign(path string) bool { return foreignType(path) != "" }

// foreignType is the type of Kubernetes that a field has. allowedNamespaces.from is a word and has no fields.
func foreignType(path string) string { return foreign[path[strings.LastIndexByte(path, '.')+1:]] }

// typeOf says in words what a field takes.
func typeOf(s *schema, path string) string {
	switch {
	case s.Items != nil:
		return list(s) + " of " + typeOf(s.Items.Schema, path)
	case len(s.Enum) > 0:
		return "one of " + strings.Join(words(s), ", ")
	case s.XIntOrString:
		return when(strings.Contains(s.Pattern, "[KMGTPE]i"), "quantity") + when(!strings.Contains(s.Pattern, "[KMGTPE]i"), "integer or string")
	case inside(s) != nil && isForeign(path):
		return foreignType(path) + " of Kubernetes"
	case s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil:
		return "map to " + typeOf(s.AdditionalProperties.Schema, path)
	case s.Type == "integer" || s.Type == "number":
		return number(s)
	case s.Type == "string":
		return text(s)
	case s.Type == "object" && len(s.Properties) == 0:
		return "`{}`"
	default:
		return s.Type
	}
}

// list says how long a list may be, and what stands in it once.
func list(s *schema) string {
	var about []string
	if bounds := bounds(s.MinItems, s.MaxItems); bounds != "" {
		about = append(about, bounds)
	}
	if len(s.XListMapKeys) > 0 {
		about = append(about, "each `"+strings.Join(s.XListMapKeys, "` and `")+"` once")
	}
	if len(about) == 0 {
		return "list"
	}
	return "list (" + strings.Join(about, ", ") + ")"
}

func words(s *schema) []string {
	var list []string
	for _, value := range s.Enum {
		word := string(value.Raw)
		if plain, err := strconv.Unquote(word); err == nil {
			word = plain
		}
		list = append(list, "`"+word+"`")
	}
	return list
}

func number(s *schema) string {
	whole := func(f *float64) string { return strconv.FormatFloat(*f, 'f', -1, 64) }
	switch {
	case s.Minimum != nil && s.Maximum != nil:
		return fmt.Sprintf("integer, %s to %s", whole(s.Minimum), whole(s.Maximum))
	case s.Minimum != nil:
		return "integer, at least " + whole(s.Minimum)
	case s.Maximum != nil:
		return "integer, at most " + whole(s.Maximum)
	default:
		return "integer"
	}
}

func text(s *schema) string {
	switch {
	case s.Pattern == duration || s.Format == "duration":
		return "duration"
	case s.Format == "date-time":
		return "time"
	}
	if bounds := bounds(s.MinLength, s.MaxLength); bounds != "" {
		return "string, " + bounds + " characters"
	}
	return "string"
}

func bounds(low, high *int64) string {
	switch {
	case low != nil && high != nil && *low == *high:
		return strconv.FormatInt(*low, 10)
	case low != nil && high != nil:
		return fmt.Sprintf("%d to %d", *low, *high)
	case low != nil:
		return fmt.Sprintf("at least %d", *low)
	case high != nil:
		return fmt.Sprintf("at most %d", *high)
	default:
		return ""
	}
}

// pattern is what a string must match, unless a word or a rule says it better.
func pattern(s *schema) string {
	if s.Items != nil {
		s = s.Items.Schema
	}
	if s.Pattern == duration || s.XIntOrString || len(s.XValidations) > 0 {
		return ""
	}
	return s.Pattern
}

// messages are those of the rules, each once.
func messages(s *schema) []string {
	var list []string
	for _, rule := range s.XValidations {
		if !slices.Contains(list, rule.Message) {
			list = append(list, rule.Message)
		}
	}
	return list
}

// isRefused tells whether a rule refuses the field whatever stands in it.
func isRefused(s *schema) bool {
	for _, rule := range s.XValidations {
		if rule.Rule == "false" && strings.Contains(rule.Message, notAlive) {
			return true
		}
	}
	return false
}

var (
	paragraph = regexp.MustCompile(`\n\s*\n`)
	special   = regexp.MustCompile(`[<>$%*_#{}|]|[a-z]\.[a-z]|\[\]|=|^/|"|^\+`)
)

// prose is a comment as Markdown: its lines joined, and what is no word as code.
func prose(comment string) string {
	var out []string
	for _, part := range paragraph.Split(strings.TrimSpace(comment), -1) {
		list := strings.Fields(part)
		for i, word := range list {
			list[i] = code(word)
		}
		out = append(out, strings.Join(list, " "))
	}
	return strings.Join(out, "<br>")
}

// code marks a word that holds more than letters. Brackets and punctuation around it are not part of it.
func code(word string) string {
	if !special.MatchString(word) || strings.HasPrefix(word, "'") {
		return word
	}
	core := strings.TrimLeft(word, "('")
	head := word[:len(word)-len(core)]
	core = strings.TrimRight(core, ".,;:)'")
	tail := word[len(head)+len(core):]
	if strings.Count(core, "(") > strings.Count(core, ")") && strings.HasPrefix(tail, ")") { // a bracket that opens in it
		core, tail = core+")", tail[1:]
	}
	if core == "" || !special.MatchString(core) {
		return word
	}
	return head + "`" + core + "`" + tail
}

// cell is text that may stand in a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// anchor is the name by which GitHub and the site link to the heading of a path.
func anchor(path string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsLetter(c) || unicode.IsDigit(c) || c == '-' || c == '_' {
			return unicode.ToLower(c)
		}
		return -1
	}, path)
}
