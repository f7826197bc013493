// SPDX-License-Identifier: Apache-2.0

package promql

import (
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
)

func TestProblems(t *testing.T) {
	pair := func(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }
	s := NewScrape(
		&dto.MetricFamily{Name: new("mqtt_x_total"), Metric: []*dto.Metric{{Label: []*dto.LabelPair{pair("reason", "late")}}}},
		&dto.MetricFamily{Name: new("mqtt_seconds"), Type: dto.MetricType_HISTOGRAM.Enum(), Metric: []*dto.Metric{{}}},
	)
	for expr, want := range map[string]string{
		`sum by (reason, pod) (rate(mqtt_x_total{namespace="a",pod=~"b",reason="late"}[5m])) > 0`: "",
		`histogram_quantile(0.9, sum by (le) (rate(mqtt_seconds_bucket{}[5m])))`:                  "",
		`mqtt_y_total{}`:                     "no metric mqtt_y_total",
		`mqtt_seconds{}`:                     "no metric mqtt_seconds",
		`mqtt_x_total`:                       "without braces",
		`mqtt_x_total{} / mqtt_x_total`:      "without braces",
		`1`:                                  "none at all",
		`mqtt_x_total{why="late"}`:           `no label "why"`,
		`mqtt_x_total{reason="early"}`:       `never has the value "early"`,
		`mqtt_x_total{reason!~"late|early"}`: `never has the value "early"`,
		`sum by (why) (mqtt_x_total{})`:      `the label "why"`,
		`sum by (le) (mqtt_x_total{})`:       `the label "le"`,
	} {
		if got := strings.Join(s.Problems(expr), "; "); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
	if got := s.Legend(`mqtt_x_total{}`, "{{reason}} {{pod}} {{le}}"); len(got) != 1 || !strings.Contains(got[0], `"le"`) {
		t.Errorf("legend: %q", got)
	}
}
