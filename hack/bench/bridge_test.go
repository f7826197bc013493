// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-operator/mqtt-operator/hack/bench/bridging"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/peer"
)

func TestBridgeFlags(t *testing.T) {
	for name, args := range map[string][]string{
		"a word": {"fast"}, "no such version": {"-version", "3"}, "no round": {"-rounds", "0"}, "no room for a number": {"-payload", "8"},
	} {
		var errs bytes.Buffer
		if _, err := parseBridge(args, &errs); !errors.Is(err, errUsage) || errs.Len() == 0 {
			t.Errorf("%s: got %v, said %q", name, err, errs.String())
		}
	}
	if s, err := parseBridge(nil, &bytes.Buffer{}); err != nil || s.Version != 5 || s.rounds != 7 {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestBridgeTableComparesWithinARound(t *testing.T) {
	peers, err := peer.Find([]string{"ours", "mosquitto"})
	if err != nil {
		t.Fatal(err)
	}
	paths := bridgePaths()
	results := map[bridging.Path][]bridging.Numbers{
		paths[0]: {{PerSecond: 3000, P99: 100, Added99: 10, Memory: 12}, {PerSecond: 6000, P99: 100, Added99: 10, Memory: 12}},
		paths[1]: {{PerSecond: 1000, P99: 200, Added99: 5}, {PerSecond: 2000, P99: 200, Added99: 5, Notes: []string{"latency: 2 messages lost"}}},
	}
	s := &bridgeFlags{rounds: 2}
	text := bridgeTable(s, peers, results)
	for _, want := range []string{"| ours | Mosquitto's, on the same path | 3.00× (3.00 to 3.00) | 0.50× (0.50 to 0.50) | 2.00× (2.00 to 2.00) |", "12.0 MiB", "part of the broker", "round 2, latency: 2 messages lost"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestBridgeTableGoesBetweenTheMarks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(path, []byte("before\n"+bridgeBegin+"old\n"+bridgeEnd+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := intoPage(path, "new\n"); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "before\n"+bridgeBegin+"\nnew\n\n"+bridgeEnd+"after\n" {
		t.Errorf("%v: %s", err, text)
	}
	if err := os.WriteFile(path, []byte("no marks"), 0o600); err != nil {
		t.Fatal(err)
	}
	if intoPage(path, "new\n") == nil {
		t.Error("a page without marks is an error")
	}
}
