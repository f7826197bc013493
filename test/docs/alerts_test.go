// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
)

// TestAlertsTable compares the table of alerts with what is made: names, severity and for how long.
func TestAlertsTable(t *testing.T) {
	t.Parallel()

	const name = "docs/monitoring.md"

	var want, got []string

	for _, a := range slices.Concat(desired.BrokerAlerts, desired.BridgeAlerts, desired.OperatorAlerts) {
		want = append(want, strings.Join([]string{a.Name, a.Severity, a.For}, " "))
	}

	for _, table := range onePage(t, name).tablesOf("alert") {
		for _, r := range table.rows {
			got = append(got, strings.Join([]string{bare(r.cells[0]), r.cells[1], r.cells[2]}, " "))
		}
	}

	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: alerts (-made +described):\n%s", name, diff)
	}
}
