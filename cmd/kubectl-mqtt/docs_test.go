// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestThePageShowsWhatIsPrinted: outputs in docs/kubectl-mqtt.md are those of the golden files.
func TestThePageShowsWhatIsPrinted(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "kubectl-mqtt.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"status-troubled", "status-table", "top-busy", "clients", "kick", "cert", "restart", "bridge-flows", "diff-window", "diff-policy"} {
		shows, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(page, shows) {
			t.Errorf("docs/kubectl-mqtt.md does not show what testdata/%s.txt holds:\n%s", name, shows)
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
