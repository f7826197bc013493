// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestThePageShowsWhatIsPrinted: outputs in the docs are those of the golden files.
func TestThePageShowsWhatIsPrinted(t *testing.T) {
	for name, outputs := range map[string][]string{
		"kubectl-mqtt.md": {"status-troubled", "status-table", "top-busy", "clients", "kick", "cert", "restart", "bridge-flows", "diff-window", "diff-policy", "backup", "restore"},
		"backup.md":       {"backup", "restore", "restore-refused"},
	} {
		page, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		page = bytes.ReplaceAll(page, []byte("\n   "), []byte("\n")) // within a list
		for _, output := range outputs {
			shows, err := os.ReadFile(filepath.Join("testdata", output+".txt"))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(page, bytes.ReplaceAll(shows, []byte("\n   "), []byte("\n"))) {
				t.Errorf("docs/%s does not show what testdata/%s.txt holds:\n%s", name, output, shows)
			}
		}
	}
}

// TestEveryVerbIsOnThePage: each has its row.
func TestEveryVerbIsOnThePage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "kubectl-mqtt.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, out, _ := call(t, nil, "--help")
	_, verbs, _ := strings.Cut(out, "Available Commands:\n")
	verbs, _, _ = strings.Cut(verbs, "\n\n")
	for line := range strings.Lines(verbs) {
		verb, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if verb != "help" && !strings.Contains(string(page), "`"+verb) {
			t.Errorf("docs/kubectl-mqtt.md says nothing about %s", verb)
		}
	}
}
