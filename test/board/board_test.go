// SPDX-License-Identifier: Apache-2.0

package board

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const dashboard = `{"title": "MQTT <x>", "panels": [
	{"title": "Ready", "type": "stat", "gridPos": {"x": 0, "y": 0, "w": 6, "h": 4}, "fieldConfig": {"defaults": {"unit": "bool_yes_no"}},
	 "targets": [{"expr": "ready", "legendFormat": "ready"}]},
	{"title": "Messages", "type": "timeseries", "gridPos": {"x": 0, "y": 4, "w": 12, "h": 8}, "fieldConfig": {"defaults": {"unit": "ops"}},
	 "targets": [{"expr": "rate(m[$__rate_interval])", "legendFormat": "QoS {{qos}}"}, {"expr": "rate(d[$__rate_interval])", "legendFormat": "dropped"}]}]}`

func answers(expr string) ([]Answer, error) {
	switch expr {
	case "ready":
		return []Answer{{Points: []Point{{At: 0, Value: 0}, {At: 60, Value: 1}}}}, nil
	case "rate(m[10s])":
		return []Answer{
			{Labels: map[string]string{"qos": "1"}, Points: []Point{{0, 10}, {10, 20}, {20, math.NaN()}, {30, 40}, {60, 80}}},
			{Labels: map[string]string{"qos": "0"}, Points: []Point{{0, 1}}},
		}, nil
	case "rate(d[10s])":
		return nil, nil
	default:
		return nil, errors.New("who asks " + expr)
	}
}

func TestRead(t *testing.T) {
	b, err := Read(dashboard, "10s", answers)
	if err != nil {
		t.Fatal(err)
	}
	if b.Title != "MQTT <x>" || len(b.Panels) != 2 {
		t.Fatalf("%+v", b)
	}
	var names []string
	for _, s := range b.Panels[1].Series {
		names = append(names, s.Name)
	}
	if diff := cmp.Diff([]string{"QoS 0", "QoS 1"}, names); diff != "" {
		t.Error(diff)
	}
	if p := b.Panels[1]; p.Unit != "ops" || p.IsNumber || p.Y != 4 || p.Width != 12 || p.Height != 8 {
		t.Errorf("%+v", p)
	}
	if _, err := Read(`{"title": "x"}`, "10s", answers); err == nil {
		t.Error("a dashboard that shows nothing is fine")
	}
	if _, err := Read(strings.Replace(dashboard, `"ready",`, `"other",`, 1), "10s", answers); err == nil || !strings.Contains(err.Error(), "panel Ready: who asks other") {
		t.Errorf("got %v", err)
	}
}

func TestSVG(t *testing.T) {
	b, err := Read(dashboard, "10s", answers)
	if err != nil {
		t.Fatal(err)
	}
	got := string(b.SVG("drawn by a test"))
	if got != string(b.SVG("drawn by a test")) {
		t.Error("two drawings of the same differ")
	}
	decoder := xml.NewDecoder(strings.NewReader(got))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{
		"MQTT &lt;x&gt;", "drawn by a test", ">yes</text>", ">QoS 1</text>",
		// What is not a number is a hole, and so is a scrape that is missing.
		`d="M60.0 279.5L128.0 265.0M264.0 236.0M468.0 178.0"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

func TestValue(t *testing.T) {
	for want, tc := range map[string]struct {
		value float64
		unit  string
	}{
		"yes": {1, "bool_yes_no"}, "no": {0, "bool_yes_no"}, "1.5 KiB": {1536, "bytes"}, "12 MiB": {12 << 20, "bytes"}, "2 kB/s": {2000, "Bps"},
		"120/s": {120, "ops"}, "1.5k/s": {1500, "ops"}, "42": {42, "short"}, "3k": {3000, "short"}, "25 %": {0.25, "percentunit"},
		"250 µs": {0.00025, "s"}, "2.5 ms": {0.0025, "s"}, "90 s": {90, "s"}, "5 min": {300, "s"}, "90 days": {90 * 86400, "s"}, "0": {0, "s"},
	} {
		if got := Value(tc.value, tc.unit); got != want {
			t.Errorf("%g %s is %q, want %q", tc.value, tc.unit, got, want)
		}
	}
}

func TestDivisor(t *testing.T) {
	for name, tc := range map[string]struct {
		high float64
		unit string
		want float64
	}{
		"bytes": {1000, "bytes", 1}, "kibibytes": {150 << 10, "bytes", 1 << 10}, "mebibytes": {38 << 20, "bytes", 1 << 20},
		"seconds": {90, "s", 1}, "minutes": {300, "s", 60}, "hours": {10000, "s", 3600}, "days": {90 * 86400, "s", 86400}, "a count": {1 << 20, "short", 1},
	} {
		if got := divisor(tc.high, tc.unit); got != tc.want {
			t.Errorf("%s: got %g, want %g", name, got, tc.want)
		}
	}
}

func TestScale(t *testing.T) {
	for name, tc := range map[string][5]float64{ // low, high, and what comes out
		"from zero":     {0, 37, 0, 40, 10},
		"below zero":    {-3, 5, -4, 6, 2},
		"nothing there": {0, 0, 0, 1, 0.5},
		"small":         {0, 0.0031, 0, 0.004, 0.001},
	} {
		from, to, step := scale(tc[0], tc[1])
		if math.Abs(from-tc[2])+math.Abs(to-tc[3])+math.Abs(step-tc[4]) > 1e-9 {
			t.Errorf("%s: got %g to %g by %g", name, from, to, step)
		}
	}
}
