// SPDX-License-Identifier: Apache-2.0

package plot

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestSVGIsWellFormedAndStaysInside(t *testing.T) {
	cases := map[string]struct {
		reason string
		chart  Chart
		marks  int // of data; the legend has one more per line
	}{
		"logarithmic":         {"zero has no place on a logarithmic axis", Chart{Title: "a <b> & c", LogX: true, LogY: true, Series: []Series{{Name: "x", Points: []Point{{1e3, 20}, {1e6, 3e5}, {1e4, 0}}}}}, 2},
		"linear":              {"it begins at zero", Chart{Series: []Series{{Name: "x", Points: []Point{{1000, 7.3}, {15000, 8.1}}}}}, 2},
		"nothing":             {"a broker that failed leaves an empty chart, not a crash", Chart{LogY: true, Series: []Series{{Name: "x"}}}, 0},
		"one point":           {"an axis has two ends", Chart{LogX: true, LogY: true, Series: []Series{{Name: "x", Points: []Point{{1000, 1000}}}}}, 1},
		"what is no number":   {"a failed step", Chart{Series: []Series{{Name: "x", Points: []Point{{1, math.NaN()}, {2, 3}}}}}, 1},
		"all the same height": {"a flat line", Chart{LogY: true, Series: []Series{{Name: "x", Points: []Point{{1, 5}, {2, 5}}}}}, 2},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			text := string(c.chart.SVG())
			marks := 0
			for decoder := xml.NewDecoder(strings.NewReader(text)); ; {
				token, err := decoder.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("%s: %v\n%s", c.reason, err, text)
				}
				start, ok := token.(xml.StartElement)
				if !ok || start.Name.Local != "circle" {
					continue
				}
				marks++
				for _, a := range start.Attr {
					var v float64
					_, _ = fmt.Sscan(a.Value, &v)
					if (a.Name.Local == "cx" && (v < left || v > width)) || (a.Name.Local == "cy" && (v < top || v > height-bottom)) {
						t.Errorf("%s: a mark is outside, at %s=%s", c.reason, a.Name.Local, a.Value)
					}
				}
			}
			if marks != c.marks+1 || strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
				t.Errorf("%s: %d marks, want %d and the legend's:\n%s", c.reason, marks, c.marks, text)
			}
		})
	}
}

func TestTicksAreRound(t *testing.T) {
	cases := map[string]struct {
		axis axis
		want []float64
	}{
		"decades":          {axis{low: 1000, high: 1e6, log: true}, []float64{1000, 2000, 5000, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6}},
		"many decades":     {axis{low: 1, high: 8e5, log: true}, []float64{1, 10, 100, 1000, 1e4, 1e5, 1e6}},
		"less than one":    {axis{low: 210, high: 430, log: true}, []float64{200, 500}},
		"linear from zero": {axis{low: 3, high: 470}, []float64{0, 100, 200, 300, 400, 500}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			c.axis.round()
			got := c.axis.ticks()
			if !slices.EqualFunc(got, c.want, func(a, b float64) bool { return math.Abs(a-b) < 1e-6*b+1e-9 }) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestShort(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.5: "0.5", 999: "999", 1000: "1k", 15000: "15k", 2.5e6: "2.5M", 1e9: "1G"} {
		if got := Short(v); got != want {
			t.Errorf("Short(%g): got %s, want %s", v, got, want)
		}
	}
}
