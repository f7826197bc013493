// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	mqttbroker "github.com/mqtt-operator/mqtt-operator/controllers/broker"
)

// TestOperatorMetricsTable compares the table of the operator's own metrics with what it registers, labels included.
func TestOperatorMetricsTable(t *testing.T) {
	t.Parallel()

	descriptions := make(chan *prometheus.Desc)

	go func() {
		defer close(descriptions)

		mqttbroker.Metrics().Describe(descriptions)
	}()

	want, got := map[string]string{}, map[string]string{}

	for d := range descriptions {
		m := described.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("what is this description: %s", d)
		}

		want[m[1]] = strings.ReplaceAll(m[2], ",", ", ")
	}

	for _, table := range onePage(t, operations).tablesOf("operator metric") {
		for _, r := range table.rows {
			got[bare(r.cells[0])] = bare(r.cells[1])
		}
	}

	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: metrics and their labels (-registered +described):\n%s", operations, diff)
	}
}
