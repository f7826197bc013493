// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

func TestCompletion(t *testing.T) {
	at := town(t, []client.Object{
		gen.Broker("factory", "plant"), gen.Broker("factory", "pilot"), gen.Broker("factory", "mq"), gen.Broker("lab", "lab"),
		gen.User("factory", "alice", "mq"), gen.Bridge("factory", "cloud", "mq"),
	})
	for args, want := range map[string][]string{
		"status ":               {"mq", "pilot", "plant"},
		"status p":              {"pilot", "plant"},
		"status x":              nil,
		"status mq ":            nil,
		"status -n lab ":        {"lab"},
		"top ":                  {"mq", "pilot", "plant"},
		"clients ":              {"mq", "pilot", "plant"},
		"cert ":                 {"mq", "pilot", "plant"},
		"restart ":              {"mq", "pilot", "plant"},
		"bridge status ":        {"cloud"},
		"kick --broker ":        {"mq", "pilot", "plant"},
		"kick ":                 nil,
		"trace ":                nil,
		"can-i --broker p":      {"pilot", "plant"},
		"pub a b --as-user ":    {"alice"},
		"sub a --as-user ":      {"alice"},
		"support-bundle ":       nil,
		"status -o ":            {"json", "wide", "yaml"},
		"trace -o ":             {"json", "yaml"},
		"completion ":           {"bash", "fish", "powershell", "zsh"},
		"pub a b --as-user nob": nil,
	} {
		words := strings.Fields(args)
		if strings.HasSuffix(args, " ") {
			words = append(words, "")
		}
		code, out, _ := call(t, at.opens, append([]string{"__complete"}, words...)...)
		var got []string
		for line := range strings.Lines(out) {
			name, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			if !strings.HasPrefix(name, ":") {
				got = append(got, name)
			}
		}
		slices.Sort(got)
		if code != exitYes || !slices.Equal(got, want) || strings.Contains(out, ":0") && want == nil {
			t.Errorf("%q: %d %s", args, code, out)
		}
	}
	gone := func(connection) (*site, string, error) { return nil, "", errors.New("no cluster") }
	if code, out, errs := call(t, gone, "__complete", "status", ""); code != exitYes || strings.TrimSpace(out) != ":4" || strings.Contains(errs, "no cluster") {
		t.Errorf("without a cluster: %d %s%s", code, out, errs)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if code, out, errs := call(t, nil, "completion", shell); code != exitYes || !strings.Contains(out, "kubectl-mqtt") {
			t.Errorf("%s: %d %s", shell, code, errs)
		}
	}
}

// TestHelp: what each verb says of itself, with every flag.
func TestHelp(t *testing.T) {
	for _, name := range []string{"", "status", "top", "clients", "kick", "trace", "pub", "sub", "cert", "restart", "diff", "backup", "restore", "support-bundle"} {
		code, out, errs := call(t, nil, append(strings.Fields(name), "--help")...)
		if code != exitYes || errs != "" {
			t.Errorf("%s: %d %s", name, code, errs)
		}
		golden(t, strings.TrimSuffix("help-"+name, "-"), out)
	}
}
