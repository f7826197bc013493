// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEveryReasonToGiveAMessageUpIsExplained compares the table with the words that a bridge has.
func TestEveryReasonToGiveAMessageUpIsExplained(t *testing.T) {
	t.Parallel()

	text, err := os.ReadFile(filepath.Join(root, "broker-image", "bridge", "reason.go"))
	if err != nil {
		t.Fatal(err)
	}

	var want, got []string
	for _, word := range regexp.MustCompile(`(?m)^\tDrop\w+ += "(\w+)"`).FindAllStringSubmatch(string(text), -1) {
		want = append(want, word[1])
	}

	for _, table := range onePage(t, troubleshooting).tablesOf("given up as") {
		for _, r := range table.rows {
			got = append(got, bare(r.cells[0]))
		}
	}

	slices.Sort(want)
	slices.Sort(got)

	if diff := cmp.Diff(want, got); diff != "" || len(want) == 0 {
		t.Errorf("%s: reasons (-bridge +page):\n%s", troubleshooting, diff)
	}
}

// TestMetricsOfABridgeThatAreNamed: what the page speaks of must exist.
func TestMetricsOfABridgeThatAreNamed(t *testing.T) {
	t.Parallel()

	source, err := os.ReadFile(filepath.Join(root, "broker-image", "bridge", "metrics.go"))
	if err != nil {
		t.Fatal(err)
	}

	known := map[string]bool{}
	for _, name := range regexp.MustCompile(`desc\("(\w+)"`).FindAllStringSubmatch(string(source), -1) {
		known["mqtt_bridge_"+name[1]] = true
	}

	page, err := os.ReadFile(filepath.Join(root, "docs", "mqttbridge.md"))
	if err != nil {
		t.Fatal(err)
	}

	for _, name := range regexp.MustCompile(`mqtt_bridge_\w+`).FindAllString(string(page), -1) {
		if !known[name] {
			t.Errorf("docs/mqttbridge.md: there is no metric %s", name)
		}
	}
}
