// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mqtt-operator/mqtt-operator/hack/bench/plot"
)

// Ours and Base are the brokers that floors and goals are about.
const (
	Ours = "ours"
	Base = "mosquitto"
)

// Broker is a column.
type Broker struct {
	Name, Title, Version, Settings string
}

// Document is all that is written down.
type Document struct {
	Date     time.Time
	Machine  []string
	Load     string
	Disk     string
	Settings []string
	Brokers  []Broker
	Results  *Results
	Curves   []Curve
}

// Curve is a drawing with its words.
type Curve struct {
	Title, Text, File string
}

// rows that somebody has a value or a note for.
func (d *Document) rows() []Row {
	var rows []Row
	for _, row := range Rows() {
		for _, b := range d.Brokers {
			if d.Results.Value(b.Name, row.Name).Count > 0 || len(d.Results.Notes[b.Name][row.Scenario]) > 0 {
				rows = append(rows, row)
				break
			}
		}
	}
	return rows
}

// against is what the floor and the goal are compared with.
func (d *Document) against(row *Row) Spread {
	if row.Absolute {
		return d.Results.Value(Ours, row.Name)
	}
	return d.Results.Ratio(Ours, Base, row.Name)
}

func (d *Document) cell(row *Row, broker string) string {
	s := d.Results.Value(broker, row.Name)
	if s.Count == 0 {
		return "–"
	}
	text := number(s.Median, row.Digits)
	if broker != Base {
		if ratio := times(d.Results.Ratio(broker, Base, row.Name)); ratio != "" {
			text += " · " + ratio
		}
	}
	return text
}

// goals is the table of floors and goals.
func (d *Document) goals() [][]string {
	table := [][]string{{"scenario", "Mosquitto", "ours", "ours ÷ Mosquitto", "floor", "goal", "best peer seen", "reached"}}
	for _, row := range d.rows() {
		ours, base := d.Results.Value(Ours, row.Name), d.Results.Value(Base, row.Name)
		line := []string{row.Title + ", " + row.Unit, "–", "–", times(d.Results.Ratio(Ours, Base, row.Name)), row.bound(row.Floor), row.bound(row.Goal), row.Best, ""}
		if base.Count > 0 {
			line[1] = number(base.Median, row.Digits)
		}
		if ours.Count > 0 {
			line[2] = number(ours.Median, row.Digits)
		}
		if s := d.against(&row); s.Count > 0 {
			line[7] = row.Verdict(s.Median)
		}
		table = append(table, line)
	}
	return table
}

// peers is the table of all brokers.
func (d *Document) peers() [][]string {
	head := []string{"scenario"}
	for _, b := range d.Brokers {
		head = append(head, b.Title)
	}
	table := [][]string{head}
	for _, row := range d.rows() {
		line := []string{row.Title + ", " + row.Unit}
		for _, b := range d.Brokers {
			line = append(line, d.cell(&row, b.Name))
		}
		table = append(table, line)
	}
	return table
}

// notes in the order of the table.
func (d *Document) notes() []string {
	var lines []string
	for _, b := range d.Brokers {
		seen := map[string]bool{}
		for _, row := range Rows() {
			if seen[row.Scenario] {
				continue
			}
			seen[row.Scenario] = true
			for _, note := range d.Results.Notes[b.Name][row.Scenario] {
				lines = append(lines, fmt.Sprintf("%s, %s: %s", b.Title, row.Scenario, note))
			}
		}
	}
	return lines
}

// Console prints both tables.
func (d *Document) Console(w io.Writer) {
	_, _ = fmt.Fprintln(w)
	if d.has(Ours) || d.has(Base) {
		columns(w, d.goals())
		_, _ = fmt.Fprintln(w)
	}
	if len(d.Brokers) > 2 || !d.has(Ours) {
		columns(w, d.peers())
		_, _ = fmt.Fprintln(w)
	}
	for _, note := range d.notes() {
		_, _ = fmt.Fprintln(w, "-", note)
	}
	for _, c := range d.Curves {
		_, _ = fmt.Fprintf(w, "\n%s (%s)\n%s\n", c.Title, c.File, c.Text)
	}
}

// CurveText is a chart's notes, and its numbers as a table.
func CurveText(c *plot.Chart, notes []string) string {
	var b strings.Builder
	if len(notes) > 0 {
		b.WriteString(strings.Join(notes, " ") + "\n\n")
	}
	table := [][]string{{c.X}}
	var xs []float64
	for _, s := range c.Series {
		table[0] = append(table[0], s.Name)
		for _, p := range s.Points {
			if !slices.Contains(xs, p.X) {
				xs = append(xs, p.X)
			}
		}
	}
	slices.Sort(xs)
	for _, x := range xs {
		line := []string{number(x, 0)}
		for _, s := range c.Series {
			cell := "–"
			for _, p := range s.Points {
				if p.X == x {
					cell = plot.Short(p.Y)
				}
			}
			line = append(line, cell)
		}
		table = append(table, line)
	}
	markdown(&b, table)
	return b.String()
}

func (d *Document) has(name string) bool {
	for _, b := range d.Brokers {
		if b.Name == name {
			return true
		}
	}
	return false
}

// columns prints a table for people who read it on a screen.
func columns(w io.Writer, table [][]string) {
	widths := make([]int, len(table[0]))
	for _, line := range table {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, line := range table {
		var b strings.Builder
		for i, cell := range line {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString(cell + pad)
			} else {
				b.WriteString("  " + pad + cell)
			}
		}
		_, _ = fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

func markdown(w io.Writer, table [][]string) {
	for i, line := range table {
		_, _ = fmt.Fprintf(w, "| %s |\n", strings.Join(line, " | "))
		if i == 0 {
			_, _ = fmt.Fprintf(w, "|---%s\n", strings.Repeat("|--:", len(line)-1)+"|")
		}
	}
}

// Markdown writes docs/benchmarks.md.
func (d *Document) Markdown(w io.Writer) {
	list := func(lines []string) {
		for _, line := range lines {
			_, _ = fmt.Fprintf(w, "- %s\n", line)
		}
		_, _ = fmt.Fprintln(w)
	}
	_, _ = fmt.Fprintf(w, `# Benchmarks

Written by `+"`make bench`"+` on %s; do not edit. How it measures: [hack/bench](../hack/bench/README.md).

Load generator and broker share one machine, so the numbers are low; what counts is the ratio to Mosquitto in the same
round. A ratio is the median of the rounds' ratios, with the smallest and the largest in brackets.

`, d.Date.Format("2 January 2006"))
	machine := append([]string{}, d.Machine...)
	machine = append(machine, "stored messages on "+d.Disk, "load average when it began: "+d.Load)
	list(append(machine, d.Settings...))
	_, _ = fmt.Fprintf(w, "## Against floor and goal\n\n")
	markdown(w, d.goals())
	_, _ = fmt.Fprintf(w, "\n## All brokers\n\n")
	markdown(w, d.peers())
	_, _ = fmt.Fprintf(w, "\nWhat a run did not do, or did differently:\n\n")
	list(d.notes())
	_, _ = fmt.Fprintf(w, "## How the runs went\n\nProcessor time of broker and generator while it was measured, of a core; "+
		"where the generator needs a whole one, the broker may be faster than it shows.\n\n")
	markdown(w, d.effort())
	if len(d.Curves) > 0 {
		_, _ = fmt.Fprintf(w, "\n## How cost grows\n")
		for _, c := range d.Curves {
			_, _ = fmt.Fprintf(w, "\n### %s\n\n![%s](%s)\n\n%s", c.Title, c.Title, c.File, c.Text)
		}
	}
	_, _ = fmt.Fprintf(w, "\n## Brokers and their settings\n\n")
	for _, b := range d.Brokers {
		_, _ = fmt.Fprintf(w, "- **%s** %s: %s.\n", b.Title, b.Version, b.Settings)
	}
}

// effort says who needed how much of the machine.
func (d *Document) effort() [][]string {
	head := []string{"scenario"}
	for _, b := range d.Brokers {
		head = append(head, b.Title)
	}
	table := [][]string{head}
	seen := map[string]bool{}
	for _, row := range d.rows() {
		if seen[row.Scenario] {
			continue
		}
		seen[row.Scenario] = true
		line, some := []string{row.Scenario}, false
		for _, b := range d.Brokers {
			broker := d.Results.Value(b.Name, row.Scenario+"/broker-cpu")
			generator := d.Results.Value(b.Name, row.Scenario+"/generator-cpu")
			cell := "–"
			if broker.Count > 0 {
				some = true
				cell = fmt.Sprintf("%.0f %% + %.0f %%", broker.Median, generator.Median)
				if each := d.Results.Value(b.Name, row.Scenario+"/broker-ns"); each.Count > 0 {
					cell += fmt.Sprintf(", %s ns each", number(each.Median, 0))
				}
			}
			line = append(line, cell)
		}
		if some {
			table = append(table, line)
		}
	}
	return table
}
