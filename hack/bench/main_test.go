// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/mqtt-operator/mqtt-operator/hack/bench/peer"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/report"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/scenario"
)

func TestFlags(t *testing.T) {
	cases := map[string]struct {
		reason string
		args   []string
		wrong  bool
		want   func(s *settings) bool
	}{
		"nothing": {"all brokers and scenarios, no curves", nil, false, func(s *settings) bool {
			return s.rounds == 3 && s.curves == "none" && strings.Contains(s.brokers, "rabbitmq")
		}},
		"quick": {"ours and Mosquitto, once", []string{"-quick"}, false, func(s *settings) bool { return s.brokers == "ours,mosquitto" && s.rounds == 1 && s.curves == "none" }},
		"write": {"with curves, of two brokers", []string{"-write"}, false, func(s *settings) bool {
			return strings.Contains(s.curves, "restart") && s.curveBrokers == "ours,mosquitto"
		}},
		"quick and write":    {"without curves", []string{"-quick", "-write"}, false, func(s *settings) bool { return s.curves == "none" }},
		"one's own choice":   {"it stands", []string{"-quick", "-rounds", "4", "-seconds", "1.5", "-broker", "nats"}, false, func(s *settings) bool { return s.rounds == 4 && s.seconds == 1.5 && s.brokers == "nats" }},
		"no such version":    {"3.1 is not measured", []string{"-version", "3"}, true, nil},
		"too many rounds":    {"load is bounded", []string{"-rounds", "1000"}, true, nil},
		"too long":           {"load is bounded", []string{"-seconds", "100"}, true, nil},
		"a word that is not": {"arguments are a mistake", []string{"pairs"}, true, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var errs bytes.Buffer
			s, err := parse(c.args, &errs)
			if c.wrong {
				if !errors.Is(err, errUsage) || errs.Len() == 0 {
					t.Errorf("%s: got %v, said %q", c.reason, err, errs.String())
				}
				return
			}
			if err != nil || !c.want(s) {
				t.Errorf("%s: got %+v, %v", c.reason, s, err)
			}
		})
	}
}

func TestHelpNamesEverything(t *testing.T) {
	var errs bytes.Buffer
	if err := run(context.Background(), []string{"-help"}, &errs, &errs); !errors.Is(err, flag.ErrHelp) {
		t.Fatal(err)
	}
	for _, name := range append(append(peer.Names(), scenario.Names()...), scenario.CurveNames()...) {
		if !strings.Contains(errs.String(), name) {
			t.Errorf("the help does not name %s", name)
		}
	}
}

func TestEveryRowHasItsScenario(t *testing.T) {
	for _, row := range report.Rows() {
		found, err := scenario.Find([]string{row.Scenario})
		if err != nil || len(found) == 0 || found[0].Name != row.Scenario {
			t.Errorf("row %s: %v", row.Name, err)
		}
	}
	if _, err := scenario.Find([]string{"nothing"}); err == nil {
		t.Error("an unknown scenario is an error")
	}
	if _, err := scenario.FindCurves([]string{"nothing"}); err == nil {
		t.Error("an unknown curve is an error")
	}
}

func TestTheRelayStaysOnLoopback(t *testing.T) {
	var errs bytes.Buffer
	if err := run(context.Background(), []string{"relay", "-listen", "0.0.0.0:0"}, &errs, &errs); err == nil {
		t.Error("it asks nobody for a password")
	}
}

// TestMain lets the test program be the relay, as the real one can.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "relay" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestScenariosRunOnTheRelay(t *testing.T) {
	t.Setenv("MQTT_OPERATOR_CACHE", t.TempDir())
	for _, version := range []string{"4", "5"} {
		var out, errs bytes.Buffer
		args := []string{"-broker", "relay", "-scenario", "pairs-q2,fanout-q1,fanin-q0,open,durable", "-rounds", "1", "-seconds", "0.1", "-version", version}
		if err := run(t.Context(), args, &out, &errs); err != nil {
			t.Fatalf("%v\n%s", err, errs.String())
		}
		if strings.Contains(errs.String(), "failed") || strings.Contains(out.String(), "messages") {
			t.Errorf("version %s: something went wrong:\n%s\n%s", version, errs.String(), out.String())
		}
		for _, want := range []string{"50 pairs, QoS 2", "1 → 500, QoS 1", "100 → 2 wildcard, QoS 0", "open loop: p99.9", "stores nothing"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("version %s: %q is missing in\n%s", version, want, out.String())
			}
		}
	}
}
