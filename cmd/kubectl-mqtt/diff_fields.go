// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// annotationPrefix begins the annotations by which people tell the operator something.
const annotationPrefix = "mqtt-operator.io/"

// unsaid stands for the value of an annotation that is not ours: it may be anything.
const unsaid = "(not shown)"

// changedFields are those that differ, in order: labels and annotations, then the spec.
func changedFields(kind string, before, after *unstructured.Unstructured) []fieldChange {
	c := &comparison{kind: kind}
	c.texts("metadata.labels", before.GetLabels(), after.GetLabels(), func(string) bool { return true })
	c.texts("metadata.annotations", before.GetAnnotations(), after.GetAnnotations(), func(key string) bool { return strings.HasPrefix(key, annotationPrefix) })
	c.value("spec", "spec", before.Object["spec"], after.Object["spec"])
	return c.found
}

// comparison gathers what differs.
type comparison struct {
	kind  string
	found []fieldChange
}

func (c *comparison) texts(field string, before, after map[string]string, isShown func(key string) bool) {
	keys := map[string]bool{}
	for key := range before {
		keys[key] = true
	}
	for key := range after {
		keys[key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		was, had := before[key]
		is, has := after[key]
		if had == has && was == is || strings.HasPrefix(key, "kubectl.kubernetes.io/") {
			continue
		}
		change := fieldChange{Field: field + "[" + key + "]", Change: c.change(field + "." + key)}
		if had {
			change.Before = was
		}
		if has {
			change.After = is
		}
		if !isShown(key) {
			if had {
				change.Before = unsaid
			}
			if has {
				change.After = unsaid
			}
		}
		c.found = append(c.found, change)
	}
}

// change is what the table of the API says of a field.
func (c *comparison) change(field string) string {
	switch {
	case field == "metadata.annotations."+v1alpha1.AnnotationRestartAt && c.kind == "MQTTBroker":
		return string(v1alpha1.ChangeRestart)
	case c.kind == "MQTTBroker":
		return or(string(v1alpha1.BrokerChange(field)), string(v1alpha1.ChangeLive))
	case c.kind == "MQTTBridge":
		return or(string(v1alpha1.BridgeChange(field)), string(v1alpha1.ChangeLive))
	}
	return string(v1alpha1.ChangeLive)
}

// value compares two values. path is for people; field is the same without what tells entries of lists apart.
func (c *comparison) value(path, field string, before, after any) {
	if reflect.DeepEqual(before, after) {
		return
	}
	was, wasObject := before.(map[string]any)
	is, isObject := after.(map[string]any)
	if wasObject && isObject || wasObject && after == nil || before == nil && isObject {
		if keys := keysOf(was, is); len(keys) > 0 {
			for _, key := range keys {
				c.value(path+"."+key, field+"."+key, was[key], is[key])
			}
			return
		}
	}
	wasList, _ := before.([]any)
	isList, _ := after.([]any)
	switch key := keyOf(wasList, isList); {
	case key != "":
		c.keyed(path, field, key, wasList, isList)
	case areRules(wasList, isList):
		c.rules(path, field, wasList, isList)
	default:
		c.found = append(c.found, fieldChange{Field: path, Before: before, After: after, Change: c.change(field)})
	}
}

func keysOf(a, b map[string]any) []string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]any{}
	}
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

// keyOf is the field that tells the entries of a list apart, empty where there is none.
func keyOf(lists ...[]any) string {
	for _, key := range []string{"name", "issuer"} {
		found := false
		unfit := slices.ContainsFunc(slices.Concat(lists...), func(entry any) bool {
			object, _ := entry.(map[string]any)
			_, isText := object[key].(string)
			found = true
			return !isText
		})
		if found && !unfit {
			return key
		}
	}
	return ""
}

// keyed compares entries by their names; where one came or went it is shown as a whole.
func (c *comparison) keyed(path, field, key string, before, after []any) {
	was, is, others := byKey(key, before), byKey(key, after), len(c.found)
	for _, name := range keysOf(was, is) {
		entry := fmt.Sprintf("%s[%s]", path, name)
		if was[name] != nil && is[name] != nil {
			c.value(entry, field+"[]", was[name], is[name])
			continue
		}
		c.found = append(c.found, fieldChange{Field: entry, Before: was[name], After: is[name], Change: c.change(field)})
	}
	if len(c.found) == others { // the order alone is another one
		c.found = append(c.found, fieldChange{Field: path, Before: before, After: after, Change: c.change(field)})
	}
}

func byKey(key string, list []any) map[string]any {
	found := map[string]any{}
	for _, entry := range list {
		object, _ := entry.(map[string]any)
		name, _ := object[key].(string)
		found[name] = entry
	}
	return found
}

func areRules(lists ...[]any) bool {
	all := slices.Concat(lists...)
	return len(all) > 0 && !slices.ContainsFunc(all, func(entry any) bool {
		object, _ := entry.(map[string]any)
		return object["effect"] == nil || object["filter"] == nil
	})
}

// rules shows which rules came and went. Those that stay in their order are left out.
func (c *comparison) rules(path, field string, before, after []any) {
	kept := longestCommon(before, after)
	for i, j, k := 0, 0, 0; i < len(before) || j < len(after); {
		switch {
		case k < len(kept) && i == kept[k][0] && j == kept[k][1]:
			i, j, k = i+1, j+1, k+1
		case i < len(before) && (k == len(kept) || i < kept[k][0]):
			c.found = append(c.found, fieldChange{Field: fmt.Sprintf("%s[%d]", path, i), Before: ruleText(before[i]), Change: c.change(field)})
			i++
		default:
			c.found = append(c.found, fieldChange{Field: fmt.Sprintf("%s[%d]", path, j), After: ruleText(after[j]), Change: c.change(field)})
			j++
		}
	}
}

// ruleText is a rule in one line, as in can-i.
func ruleText(rule any) string {
	object, _ := rule.(map[string]any)
	actions := []string{}
	list, _ := object["actions"].([]any)
	for _, action := range list {
		actions = append(actions, fmt.Sprint(action))
	}
	text := fmt.Sprintf("%v %s %v", object["effect"], strings.Join(actions, ", "), object["filter"])
	if most, found := object["maxQoS"]; found {
		text += fmt.Sprintf(", at most QoS %v", most)
	}
	if object["retain"] == false {
		text += ", not retained"
	}
	return text
}

// longestCommon are the pairs of places of a longest common subsequence.
func longestCommon(a, b []any) [][2]int {
	var pairs [][2]int
	head := 0 // most changes are small: what both begin and end with is not looked at any more
	for ; head < len(a) && head < len(b) && reflect.DeepEqual(a[head], b[head]); head++ {
		pairs = append(pairs, [2]int{head, head})
	}
	tail := 0
	for ; tail < len(a)-head && tail < len(b)-head && reflect.DeepEqual(a[len(a)-1-tail], b[len(b)-1-tail]); tail++ { //nolint:revive // it counts
	}
	x, y := a[head:len(a)-tail], b[head:len(b)-tail]
	length := make([][]int, len(x)+1)
	for i := range length {
		length[i] = make([]int, len(y)+1)
	}
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			if reflect.DeepEqual(x[i], y[j]) {
				length[i][j] = length[i+1][j+1] + 1
			} else {
				length[i][j] = max(length[i+1][j], length[i][j+1])
			}
		}
	}
	for i, j := 0, 0; i < len(x) && j < len(y); {
		switch {
		case reflect.DeepEqual(x[i], y[j]):
			pairs = append(pairs, [2]int{head + i, head + j})
			i, j = i+1, j+1
		case length[i+1][j] >= length[i][j+1]:
			i++
		default:
			j++
		}
	}
	for n := tail; n > 0; n-- {
		pairs = append(pairs, [2]int{len(a) - n, len(b) - n})
	}
	return pairs
}
