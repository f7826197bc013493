// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// report is what one part has measured.
type report struct {
	part   string
	date   time.Time
	load   string
	rows   []row
	tables []table
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

func newReport(part string, date time.Time) *report {
	return &report{part: part, date: date, load: load()}
}

func (r *report) row(what, target, measured string, v verdict) {
	r.rows = append(r.rows, row{what, target, measured, v})
}

// sections are the rows and the tables, all as tables.
func (r *report) sections() []table {
	numbers := table{title: titles[r.part], head: []string{"number", "target", "measured", ""}}
	for _, row := range r.rows {
		numbers.lines = append(numbers.lines, []string{row.what, row.target, row.measured, string(row.verdict)})
	}
	return append([]table{numbers}, r.tables...)
}

// titles are those of the parts.
var titles = map[string]string{
	"acl":   "An access check",
	"storm": "A crowd of clients comes back",
	"users": "One broker with many users",
	"fleet": "Some brokers with many users",
	"scale": "Many brokers with some users",
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

// Markdown is the part's section of the page.
func (r *report) Markdown(out io.Writer) {
	for i, t := range r.sections() {
		if i == 0 {
			_, _ = fmt.Fprintf(out, "## %s\n\nMeasured on %s; load average when it began: %s.\n\n", t.title, r.date.Format("2 January 2006"), r.load)
		} else {
			_, _ = fmt.Fprintf(out, "\n### %s\n\n", t.title)
		}
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
}

// head is how the page begins.
func (s *settings) head(machine string) string {
	return fmt.Sprintf(`<!-- SPDX-License-Identifier: Apache-2.0 -->

# Benchmarks of the control plane

Written by %[1]smake bench-control%[1]s, part by part; do not edit. How it measures: [hack/bench-control](../hack/bench-control/main.go).

- %[2]s
- kube-apiserver and etcd (not synced to disk), the operator, the brokers and the clients share this machine
- the operator and the brokers are processes of their own; where the StatefulSet controller and the kubelet would be, a
  stand-in starts the broker and says that the pod is ready
- requests are those that the API server's audit log has of the operator, without watches; a request that was refused
  (a conflict of versions, for instance) counts, too
- each user has a generated password and two rules of its own
- reconcile times come from a histogram: what is told is the bound of the bucket
- settings: users %[3]v with %[4]v added one by one, %[5]d clients at once, brokers %[6]v with %[7]d users each and
  %[8]d changes, brokers %[9]v with %[10]d users each and %[11]d changes
`, "`", machine, s.users, s.samples, s.clients, s.fleet.sizes, s.fleet.perBroker, s.fleet.changes, s.scale.sizes, s.scale.perBroker, s.scale.changes)
}

// page is the new text of the page: the section of this part is put in the place of the one before.
func (r *report) page(head, before string) string {
	var text strings.Builder
	text.WriteString(head)
	for _, part := range allParts() {
		begin, end := fmt.Sprintf("\n<!-- %s: from here -->\n\n", part), fmt.Sprintf("\n<!-- %s: to here -->\n", part)
		section := between(before, begin, end)
		if part == r.part {
			var mine strings.Builder
			r.Markdown(&mine)
			section = mine.String()
		}
		if section != "" {
			text.WriteString(begin + section + end)
		}
	}
	return text.String()
}

// between is what stands between two texts, nothing where they do not stand there.
func between(text, begin, end string) string {
	_, after, found := strings.Cut(text, begin)
	inside, _, ends := strings.Cut(after, end)
	if !found || !ends {
		return ""
	}
	return inside
}

// writePage writes the part into docs/benchmarks-control.md, whole or not at all.
func (b *bench) writePage() error {
	path := filepath.Join(b.root, "docs", "benchmarks-control.md")
	before, err := os.ReadFile(path) //nolint:gosec // a page of the documentation, in the repository that this was started in
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text := b.report.page(b.settings.head(machine()), string(before))
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil { //nolint:gosec // likewise
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
