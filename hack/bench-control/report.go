// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// report is what was measured, part by part.
type report struct {
	settings *settings
	date     time.Time
	machine  string
	load     string
	rows     []row
	tables   []table
}

// row is a number beside what is asked of it.
type row struct {
	what, target, measured string
	// verdict is empty where nothing is asked.
	verdict verdict
}

type verdict string

const (
	met    verdict = "met"
	missed verdict = "**missed**"
)

func judge(good bool) verdict {
	if good {
		return met
	}
	return missed
}

// table is what stands behind the rows.
type table struct {
	title string
	note  string
	head  []string
	lines [][]string
}

func newReport(s *settings, date time.Time, machine string) *report {
	return &report{settings: s, date: date, machine: machine, load: load()}
}

func (r *report) row(what, target, measured string, v verdict) {
	r.rows = append(r.rows, row{what, target, measured, v})
}

// sections are the rows and the tables, all as tables.
func (r *report) sections() []table {
	numbers := table{title: "Numbers and targets", head: []string{"number", "target", "measured", ""}}
	for _, row := range r.rows {
		numbers.lines = append(numbers.lines, []string{row.what, row.target, row.measured, string(row.verdict)})
	}
	return append([]table{numbers}, r.tables...)
}

// Text is for a screen.
func (r *report) Text(out io.Writer) {
	for _, t := range r.sections() {
		_, _ = fmt.Fprintf(out, "\n%s\n", t.title)
		lines := append([][]string{t.head}, t.lines...)
		width := make([]int, len(t.head))
		for _, line := range lines {
			for i, cell := range line {
				width[i] = max(width[i], len([]rune(cell)))
			}
		}
		for _, line := range lines {
			for i, cell := range line {
				_, _ = fmt.Fprintf(out, "  %-*s", width[i], cell)
			}
			_, _ = fmt.Fprintln(out)
		}
		if t.note != "" {
			_, _ = fmt.Fprintf(out, "  %s\n", t.note)
		}
	}
}

// Markdown is for docs.
func (r *report) Markdown(out io.Writer) {
	s := r.settings
	_, _ = fmt.Fprintf(out, `<!-- SPDX-License-Identifier: Apache-2.0 -->

# Benchmarks of the control plane

Written by %[1]smake bench-control%[1]s on %[2]s; do not edit. How it measures: [hack/bench-control](../hack/bench-control/main.go).

- %[3]s; load average when it began: %[4]s
- kube-apiserver and etcd (not synced to disk), the operator, the brokers and the clients share this machine
- the operator and the brokers are processes of their own; where the StatefulSet controller and the kubelet would be, a
  stand-in starts the broker and says that the pod is ready
- requests are those that the API server's audit log has of the operator, without watches; a request that was refused
  (a conflict of versions, for instance) counts, too
- each user has a generated password and two rules of its own
- reconcile times come from a histogram: what is told is the bound of the bucket
`, "`", r.date.Format("2 January 2006"), r.machine, r.load)
	for _, t := range r.sections() {
		_, _ = fmt.Fprintf(out, "\n## %s\n\n", t.title)
		line := func(cells []string) { _, _ = fmt.Fprintf(out, "| %s |\n", strings.Join(cells, " | ")) }
		line(t.head)
		line(slices.Repeat([]string{"---"}, len(t.head)))
		for _, cells := range t.lines {
			line(cells)
		}
		if t.note != "" {
			_, _ = fmt.Fprintf(out, "\n%s\n", t.note)
		}
	}
	_, _ = fmt.Fprintf(out, "\nSettings: users %v with %v added one by one, %d clients at once, brokers %v with %d users each and %d changes, brokers %v with %d users each and %d changes.\n",
		s.users, s.samples, s.clients, s.fleet.sizes, s.fleet.perBroker, s.fleet.changes, s.scale.sizes, s.scale.perBroker, s.scale.changes)
}

// writePage writes docs/benchmarks-control.md, whole or not at all.
func (b *bench) writePage() error {
	var text strings.Builder
	b.report.Markdown(&text)
	path := filepath.Join(b.root, "docs", "benchmarks-control.md")
	if err := os.WriteFile(path+".new", []byte(text.String()), 0o644); err != nil { //nolint:gosec // a page of the documentation, in the repository that this was started in
		return err
	}
	return os.Rename(path+".new", path) //nolint:gosec // likewise
}

func millis(d time.Duration) string {
	return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
}

func (s spread) String() string {
	return fmt.Sprintf("p50 %s, p99 %s, max %s", millis(s.p50), millis(s.p99), millis(s.most))
}

const mebibyte = 1 << 20

func mib(bytes int64) string { return fmt.Sprintf("%.0f MiB", float64(bytes)/mebibyte) }

// secondsOf writes a time that is felt in seconds.
func secondsOf(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
