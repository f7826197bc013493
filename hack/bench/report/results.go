// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Results are the numbers of all rounds.
type Results struct {
	Rounds int
	// Values by broker, row and round; NaN where there is none.
	Values map[string]map[string][]float64
	// Notes by broker and scenario, each once, in the order in which they came.
	Notes map[string]map[string][]string
}

// NewResults are empty.
func NewResults(rounds int) *Results {
	return &Results{Rounds: rounds, Values: map[string]map[string][]float64{}, Notes: map[string]map[string][]string{}}
}

// Set keeps a value.
func (r *Results) Set(broker, row string, round int, value float64) {
	if r.Values[broker] == nil {
		r.Values[broker] = map[string][]float64{}
	}
	rounds := r.Values[broker][row]
	if rounds == nil {
		rounds = slices.Repeat([]float64{math.NaN()}, r.Rounds)
		r.Values[broker][row] = rounds
	}
	rounds[round] = value
}

// Note keeps a note.
func (r *Results) Note(broker, scenario, note string) {
	if r.Notes[broker] == nil {
		r.Notes[broker] = map[string][]string{}
	}
	if !slices.Contains(r.Notes[broker][scenario], note) {
		r.Notes[broker][scenario] = append(r.Notes[broker][scenario], note)
	}
}

// Spread is a median with its bounds.
type Spread struct {
	Median, Min, Max float64
	Count            int
}

// SpreadOf leaves out what is not a number.
func SpreadOf(values []float64) Spread {
	sorted := slices.DeleteFunc(slices.Clone(values), func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
	slices.Sort(sorted)
	n := len(sorted)
	if n == 0 {
		return Spread{}
	}
	return Spread{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Min: sorted[0], Max: sorted[n-1], Count: n}
}

// Value is a broker's spread in a row.
func (r *Results) Value(broker, row string) Spread { return SpreadOf(r.Values[broker][row]) }

// Ratio is the spread of a broker's multiples of the base, round by round.
func (r *Results) Ratio(broker, base, row string) Spread {
	mine, theirs := r.Values[broker][row], r.Values[base][row]
	var ratios []float64
	for i := range min(len(mine), len(theirs)) {
		if theirs[i] > 0 {
			ratios = append(ratios, mine[i]/theirs[i])
		}
	}
	return SpreadOf(ratios)
}

// Verdict compares with floor and goal.
func (row *Row) Verdict(value float64) string {
	if row.Floor == 0 {
		return ""
	}
	reaches := func(bound float64) bool {
		if row.Low {
			return value <= bound
		}
		return value >= bound
	}
	switch {
	case reaches(row.Goal):
		return "goal"
	case reaches(row.Floor):
		return "floor"
	default:
		return "**below**"
	}
}

// bound writes a floor or a goal.
func (row *Row) bound(value float64) string {
	if value == 0 {
		return ""
	}
	sign := ""
	if row.Low {
		sign = "≤ "
	}
	if row.Absolute {
		return fmt.Sprintf("%s%g %s", sign, value, row.Unit)
	}
	return fmt.Sprintf("%s%g×", sign, value)
}

// number writes a value with thousands apart.
func number(value float64, digits int) string {
	text := fmt.Sprintf("%.*f", digits, math.Abs(value))
	whole, fraction, point := strings.Cut(text, ".")
	for at := len(whole) - 3; at > 0; at -= 3 {
		whole = whole[:at] + "," + whole[at:]
	}
	if point {
		whole += "." + fraction
	}
	if value < 0 {
		whole = "-" + whole
	}
	return whole
}

// times writes a ratio with its spread.
func times(s Spread) string {
	if s.Count == 0 {
		return ""
	}
	if s.Count == 1 {
		return fmt.Sprintf("%.2f×", s.Median)
	}
	return fmt.Sprintf("%.2f× (%.2f..%.2f)", s.Median, s.Min, s.Max)
}
