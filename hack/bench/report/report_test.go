// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/hack/bench/plot"
)

func TestSpread(t *testing.T) {
	nan := math.NaN()
	cases := map[string]struct {
		reason string
		values []float64
		want   Spread
	}{
		"nothing":         {"a broker that failed in each round", []float64{nan, nan}, Spread{}},
		"one":             {"a quick run", []float64{7}, Spread{7, 7, 7, 1}},
		"odd":             {"the middle one", []float64{9, 1, 4}, Spread{4, 1, 9, 3}},
		"even":            {"between the two in the middle", []float64{1, 2, 4, 8}, Spread{3, 1, 8, 4}},
		"one round fails": {"the others count", []float64{5, nan, 3}, Spread{4, 3, 5, 2}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := SpreadOf(c.values); got != c.want {
				t.Errorf("%s: got %+v, want %+v", c.reason, got, c.want)
			}
		})
	}
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	r := NewResults(3)
	for round, v := range [][2]float64{{100, 200}, {50, 200}, {400, 400}} {
		r.Set(Base, "x", round, v[0])
		r.Set(Ours, "x", round, v[1])
	}
	if got, want := r.Ratio(Ours, Base, "x"), (Spread{2, 1, 4, 3}); got != want {
		t.Errorf("got %+v, want %+v: 2, 4 and 1", got, want)
	}
	if got := r.Ratio("nobody", Base, "x"); got.Count != 0 {
		t.Errorf("got %+v for a broker that did not run", got)
	}
	r.Set(Base, "x", 1, math.NaN())
	if got := r.Ratio(Ours, Base, "x"); got.Count != 2 {
		t.Errorf("got %+v: a round without the base has no ratio", got)
	}
}

func TestVerdict(t *testing.T) {
	cases := map[string]struct {
		row   Row
		value float64
		want  string
	}{
		"above the goal":                {Row{Floor: 2.5, Goal: 4}, 4, "goal"},
		"between":                       {Row{Floor: 2.5, Goal: 4}, 3, "floor"},
		"below the floor":               {Row{Floor: 2.5, Goal: 4}, 2.49, "**below**"},
		"less is better, goal":          {Row{Low: true, Floor: 10, Goal: 6}, 5, "goal"},
		"less is better, floor":         {Row{Low: true, Floor: 10, Goal: 6}, 10, "floor"},
		"less is better, below":         {Row{Low: true, Floor: 10, Goal: 6}, 11, "**below**"},
		"a row that nobody is held to":  {Row{}, 11, ""},
		"floor and goal are on one row": {Row{Low: true, Floor: 1, Goal: 0.8}, 0.9, "floor"},
	}
	for name, c := range cases {
		if got := c.row.Verdict(c.value); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestNumber(t *testing.T) {
	for want, got := range map[string]string{
		"0": number(0, 0), "999": number(999, 0), "1,000": number(999.6, 0), "1,234,567": number(1234567, 0), "-1,000.5": number(-1000.5, 1),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestDocumentSaysAll(t *testing.T) {
	r := NewResults(2)
	for round := range 2 {
		r.Set(Base, "pairs-q0", round, 1000)
		r.Set(Ours, "pairs-q0", round, 5000+1000*float64(round))
		r.Set(Ours, "pairs-q0/broker-cpu", round, 120)
		r.Set(Ours, "idle-memory", round, 7)
	}
	r.Note("nats", "pairs-q2", "cannot")
	chart := plot.Chart{X: "things", Series: []plot.Series{{Name: "ours", Points: []plot.Point{{X: 1000, Y: 5}}}}}
	d := &Document{
		Date: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), Machine: []string{"a machine"}, Results: r,
		Brokers: []Broker{{Ours, "ours", "v1", "set"}, {Base, "Mosquitto", "2", "so"}, {"nats", "NATS", "3", "thus"}},
		Curves:  []Curve{{Title: "growth", Text: CurveText(&chart, []string{"words"}), File: "benchmarks/x.svg"}},
	}
	var markdown, console bytes.Buffer
	d.Markdown(&markdown)
	d.Console(&console)
	for _, want := range []string{
		"2 January 2026", "a machine", "5.50× (5.00..6.00)", "2.5×", "| goal |", "≤ 10 KiB", "| floor |",
		"NATS, pairs-q2: cannot", "![growth](benchmarks/x.svg)", "| 1,000 | 5 |", "words", "**NATS** 3: thus.", "120 %",
	} {
		if !strings.Contains(markdown.String(), want) {
			t.Errorf("%q is missing in\n%s", want, markdown.String())
		}
	}
	if !strings.Contains(console.String(), "5.50× (5.00..6.00)") {
		t.Errorf("the ratio is missing in\n%s", console.String())
	}
	for line := range strings.SplitSeq(markdown.String(), "\n") {
		if strings.HasPrefix(line, "| 50 pairs, QoS 1") {
			t.Errorf("a row without values: %s", line)
		}
	}
}

func TestRowsHaveScenariosAndOrderedBounds(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range Rows() {
		if row.Name == "" || row.Scenario == "" || row.Title == "" || row.Unit == "" || seen[row.Name] {
			t.Errorf("row %+v lacks something or is there twice", row)
		}
		seen[row.Name] = true
		if row.Floor > 0 && (row.Goal < row.Floor) != row.Low {
			t.Errorf("row %s: the goal %g is easier than the floor %g", row.Name, row.Goal, row.Floor)
		}
	}
}
