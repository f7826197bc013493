// SPDX-License-Identifier: Apache-2.0

package promql

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Query is one expression of a dashboard.
type Query struct{ Panel, Expr, Legend string }

// Queries are the expressions of a Grafana dashboard. Grafana's own variable gets a value.
func Queries(dashboard string) ([]Query, error) {
	var decoded struct {
		Panels []struct {
			Title   string `json:"title"`
			Targets []struct {
				Expr   string `json:"expr"`
				Legend string `json:"legendFormat"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal([]byte(dashboard), &decoded); err != nil {
		return nil, err
	}
	var list []Query
	for _, panel := range decoded.Panels {
		if len(panel.Targets) == 0 {
			return nil, fmt.Errorf("panel %s shows nothing", panel.Title)
		}
		for _, target := range panel.Targets {
			list = append(list, Query{panel.Title, strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"), target.Legend})
		}
	}
	return list, nil
}

// Alerts are the expressions in the spec of a PrometheusRule, by alert.
func Alerts(spec map[string]any) map[string]string {
	found := map[string]string{}
	groups, _ := spec["groups"].([]any)
	for _, group := range groups {
		fields, _ := group.(map[string]any)
		rules, _ := fields["rules"].([]any)
		for _, rule := range rules {
			fields, _ := rule.(map[string]any)
			name, _ := fields["alert"].(string)
			found[name], _ = fields["expr"].(string)
		}
	}
	return found
}

// Compare says what alerts and panels ask for that the scrape does not have, and how many expressions were looked at: those
// that concerns lets through.
func (s Scrape) Compare(alerts map[string]string, panels []Query, concerns func(expr string) bool) (problems []string, compared int) {
	for name, expr := range alerts {
		if !concerns(expr) {
			continue
		}
		compared++
		for _, problem := range s.Problems(expr) {
			problems = append(problems, fmt.Sprintf("alert %s: %s\n%s", name, problem, expr))
		}
	}
	for _, q := range panels {
		if !concerns(q.Expr) {
			continue
		}
		compared++
		for _, problem := range append(s.Problems(q.Expr), s.Legend(q.Expr, q.Legend)...) {
			problems = append(problems, fmt.Sprintf("panel %s: %s\n%s", q.Panel, problem, q.Expr))
		}
	}
	return problems, compared
}
