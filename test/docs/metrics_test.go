// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
)

const operations = "docs/operations.md"

var described = regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)

// TestMetricsTable compares the table of metrics with what the broker registers, labels included.
func TestMetricsTable(t *testing.T) {
	t.Parallel()

	set := metrics.New(metrics.Options{})
	descriptions := make(chan *prometheus.Desc)

	go func() {
		defer close(descriptions)

		set.Describe(descriptions)
	}()

	want := map[string]string{}

	for d := range descriptions {
		m := described.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("what is this description: %s", d)
		}

		want[m[1]] = strings.ReplaceAll(m[2], ",", ", ")
	}

	got := map[string]string{}

	for _, table := range onePage(t, operations).tablesOf("broker metric") {
		for _, r := range table.rows {
			got[bare(r.cells[0])] = bare(r.cells[1])
		}
	}

	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: metrics and their labels (-registered +described):\n%s", operations, diff)
	}
}

// TestMetricsThatAreNamed: what other tables speak of must exist.
func TestMetricsThatAreNamed(t *testing.T) {
	t.Parallel()

	page := onePage(t, operations)
	known := map[string]bool{}

	for _, table := range page.tablesOf("broker metric") {
		for _, r := range table.rows {
			known[bare(r.cells[0])] = true
		}
	}

	for _, s := range page.spans {
		if strings.HasPrefix(s.text, "mqtt_broker_") && !known[s.text] {
			t.Errorf("%s:%d: there is no metric %s", page.path, s.line, s.text)
		}
	}
}

// TestReasonsTable compares the values of labels with those of the code.
func TestReasonsTable(t *testing.T) {
	t.Parallel()

	want := map[string]string{
		"mqtt_broker_messages_dropped_total":    values[metrics.Reason](),
		"mqtt_broker_connections_refused_total": values[metrics.Refusal](),
		"mqtt_broker_disconnections_total":      values[metrics.Disconnection](),
		"mqtt_broker_auth_failures_total":       values[metrics.AuthFailure](),
		"mqtt_broker_acl_denials_total":         values[metrics.Action](),
	}
	got := map[string]string{}

	for _, table := range onePage(t, operations).tablesOf("of") {
		for _, r := range table.rows {
			got[bare(r.cells[0])] = bare(r.cells[2])
		}
	}

	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: values of labels (-code +page):\n%s", operations, diff)
	}
}

// values are the names of an enumeration, up to the first that has none.
func values[E interface {
	~uint8
	String() string
}]() string {
	var names []string
	for e := E(0); !strings.HasPrefix(e.String(), "reason_"); e++ {
		names = append(names, e.String())
	}

	return strings.Join(names, ", ")
}

// TestSysTable compares the table of $SYS with the topics that are published.
func TestSysTable(t *testing.T) {
	t.Parallel()

	want := map[string]bool{}

	for _, topic := range metrics.New(metrics.Options{}).SysTopics(time.Now()) {
		name := strings.TrimPrefix(topic.Topic, "$SYS/broker/")
		if strings.HasPrefix(name, "load/") {
			name = name[:strings.LastIndex(name, "/")+1] + "…" // 1min, 5min, 15min
		}

		want[name] = true
	}

	got := map[string]bool{}

	for _, table := range onePage(t, operations).tablesOf("`$SYS/broker/`") {
		for _, r := range table.rows {
			for _, m := range codeSpan.FindAllStringSubmatch(r.cells[0], -1) {
				got[m[1]] = true
			}
		}
	}

	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("%s: topics (-published +described):\n%s", operations, diff)
	}
}

// bare is a cell without the marks of code.
func bare(cell string) string { return strings.TrimSpace(strings.ReplaceAll(cell, "`", "")) }
