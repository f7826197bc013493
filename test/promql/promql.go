// SPDX-License-Identifier: Apache-2.0

// Package promql compares what PromQL of ours asks for with what a scrape shows. It is no parser: it knows as much of the
// language as our alerts and dashboards use, in which every metric has braces. Whether they are PromQL at all, promtool says.
package promql

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// Scrape is what was scraped: of each series' name the labels of its series, with all values that each has.
type Scrape map[string]map[string]map[string]bool

// target are the labels that Prometheus itself adds to what it scrapes.
var target = []string{"namespace", "pod"}

// NewScrape takes metrics as a registry or a parser gives them. A histogram has the series that Prometheus makes of it.
func NewScrape(families ...*dto.MetricFamily) Scrape {
	s := Scrape{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			names := []string{family.GetName()}
			if family.GetType() == dto.MetricType_HISTOGRAM {
				names = []string{family.GetName() + "_bucket", family.GetName() + "_sum", family.GetName() + "_count"}
			}
			for _, name := range names {
				s.add(name, metric.GetLabel())
			}
		}
	}
	return s
}

func (s Scrape) add(name string, labels []*dto.LabelPair) {
	if s[name] == nil {
		s[name] = map[string]map[string]bool{}
	}
	for _, label := range labels {
		if s[name][label.GetName()] == nil {
			s[name][label.GetName()] = map[string]bool{}
		}
		s[name][label.GetName()][label.GetValue()] = true
	}
	if strings.HasSuffix(name, "_bucket") {
		s[name]["le"] = nil
	}
}

var (
	selector = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}`)
	matcher  = regexp.MustCompile(`([a-zA-Z_]+)(=~|!~|!=|=)"([^"]*)"`)
	grouping = regexp.MustCompile(`\b(?:by|on|without|ignoring) \(([^)]*)\)`)
	bare     = regexp.MustCompile(`\b(?:mqtt|process|controller_runtime|workqueue|leader|rest_client)_[a-zA-Z0-9_:]*`)
)

// Problems says what an expression asks for that the scrape does not have, and that it asks for nothing where it does.
func (s Scrape) Problems(expr string) []string {
	var problems []string
	known := map[string]bool{}
	for _, label := range target {
		known[label] = true
	}
	found := selector.FindAllStringSubmatch(expr, -1)
	if len(found) == 0 || len(found) != len(bare.FindAllString(expr, -1)) {
		problems = append(problems, "a metric without braces, or none at all")
	}
	for _, m := range found {
		labels, exists := s[m[1]]
		if !exists {
			problems = append(problems, "there is no metric "+m[1])
			continue
		}
		for label := range labels {
			known[label] = true
		}
		for _, condition := range matcher.FindAllStringSubmatch(m[2], -1) {
			problems = append(problems, s.unmet(m[1], condition[1], condition[2], condition[3])...)
		}
	}
	for _, group := range grouping.FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(group[1], ", ") {
			if !known[label] {
				problems = append(problems, fmt.Sprintf("nothing here has the label %q", label))
			}
		}
	}
	return problems
}

// unmet says whether a matcher can never be met, or not be missed.
func (s Scrape) unmet(metric, label, operator, value string) []string {
	values, exists := s[metric][label]
	switch {
	case !exists && slices.Contains(target, label):
		return nil
	case !exists:
		return []string{fmt.Sprintf("%s has no label %q", metric, label)}
	}
	for wanted := range strings.SplitSeq(value, "|") {
		if (operator == "=" || operator == "!=" || strings.Contains(value, "|")) && !values[wanted] {
			return []string{fmt.Sprintf("the label %s of %s never has the value %q; it has %q", label, metric, wanted, slices.Sorted(maps.Keys(values)))}
		}
	}
	return nil
}

// Legend says which labels a legend of Grafana names that no metric of the expression has.
func (s Scrape) Legend(expr, legend string) []string {
	var problems []string
	for _, m := range regexp.MustCompile(`\{\{([a-z_]+)\}\}`).FindAllStringSubmatch(legend, -1) {
		known := slices.Contains(target, m[1])
		for _, metric := range selector.FindAllStringSubmatch(expr, -1) {
			_, has := s[metric[1]][m[1]]
			known = known || has
		}
		if !known {
			problems = append(problems, fmt.Sprintf("the legend names %q, which nothing here has", m[1]))
		}
	}
	return problems
}
