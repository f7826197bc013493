// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// table is a list of the normative statements of one version.
type table struct {
	file    string
	version byte
	// rows is how many statements the version has; none may be forgotten.
	rows int
	// claims gives the statements that a case says it shows.
	claims func(scenario) string
}

var tables = []table{
	{file: "mqtt5.tsv", version: v5, rows: 251, claims: func(c scenario) string { return c.five }},
	{file: "mqtt311.tsv", version: v311, rows: 141, claims: func(c scenario) string { return c.three }},
}

const tableHead = "statement\tbinds\tin our words\twithout a case because\tcases"

type statement struct{ id, binds, words, reason, cases string }

func (s statement) row() string {
	return strings.Join([]string{s.id, s.binds, s.words, s.reason, s.cases}, "\t")
}

func (t table) read() ([]statement, error) {
	content, err := os.ReadFile(t.file)
	if err != nil {
		return nil, err
	}

	var out []statement

	for i, line := range strings.Split(strings.TrimSuffix(string(content), "\n"), "\n") {
		f := strings.Split(line, "\t")
		if len(f) != 5 {
			return nil, fmt.Errorf("%s:%d has %d columns", t.file, i+1, len(f))
		}

		if i > 0 {
			out = append(out, statement{f[0], f[1], f[2], f[3], f[4]})
		}
	}

	return out, nil
}

// shownBy gives the cases of each statement, in order.
func (t table) shownBy(all map[string]scenario) map[string][]string {
	out := map[string][]string{}

	for _, name := range slices.Sorted(maps.Keys(all)) {
		for id := range strings.FieldsSeq(t.claims(all[name])) {
			out[id] = append(out[id], name)
		}
	}

	return out
}

// faults says what is wrong with a table.
func (t table) faults(rows []statement, all map[string]scenario) []string {
	var out []string

	add := func(format string, args ...any) { out = append(out, t.file+": "+fmt.Sprintf(format, args...)) }
	shown := t.shownBy(all)
	known := map[string]bool{}

	if len(rows) != t.rows {
		add("%d statements; there are %d", len(rows), t.rows)
	}

	for _, r := range rows {
		if known[r.id] {
			add("%s stands twice", r.id)
		}

		known[r.id] = true

		switch {
		case !slices.Contains([]string{"server", "client", "both"}, r.binds):
			add("%s binds %q", r.id, r.binds)
		case r.words == "":
			add("%s has no words", r.id)
		case r.reason == "" && r.binds == "client":
			add("%s binds clients alone, and does not say why nothing of it is seen", r.id)
		case r.reason == "" && len(shown[r.id]) == 0:
			add("%s is shown by no case", r.id)
		case r.reason != "" && r.binds != "client" && len(shown[r.id]) > 0:
			add("%s has both cases and a reason for having none", r.id)
		}

		for name := range strings.SplitSeq(r.cases, "; ") {
			if _, ok := all[name]; !ok && r.cases != "" {
				add("%s names a case that does not exist: %s", r.id, name)
			}
		}
	}

	for _, id := range slices.Sorted(maps.Keys(shown)) {
		if !known[id] {
			add("there is no statement %s, which is named by: %s", id, strings.Join(shown[id], "; "))
		}
	}

	return out
}

func TestTables(t *testing.T) {
	all := cases()

	for _, table := range tables {
		rows, err := table.read()
		if err != nil {
			t.Fatal(err)
		}

		shown := table.shownBy(all)

		was := []string{tableHead}
		want := []string{tableHead}

		for i, r := range rows {
			was = append(was, r.row())
			rows[i].cases = strings.Join(shown[r.id], "; ")
			want = append(want, rows[i].row())
		}

		for _, fault := range table.faults(rows, all) {
			t.Error(fault)
		}

		compare(t, table.file, strings.Join(was, "\n")+"\n", strings.Join(want, "\n")+"\n")
	}

	page, err := page(all)
	if err != nil {
		t.Fatal(err)
	}

	was, err := os.ReadFile(pageFile)
	if err != nil && !*update {
		t.Fatal(err)
	}

	compare(t, pageFile, string(was), page)
}

// compare holds a file against what it should be, or writes it.
func compare(t *testing.T, file, was, want string) {
	t.Helper()

	if was == want {
		return
	}

	if !*update {
		t.Errorf("%s is not what the cases say; write it with -update (-was +want):\n%s", file, cmp.Diff(was, want))

		return
	}

	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFaultsOfTables(t *testing.T) {
	good := statement{"1.1-1", "server", "words", "", "a"}
	all := map[string]scenario{"a": {five: "1.1-1"}}

	for name, c := range map[string]struct {
		reason string
		rows   []statement
		cases  map[string]scenario
		want   string
	}{
		"a table that is right":             {reason: "nothing is wrong", rows: []statement{good}, cases: all},
		"a statement without a case":        {reason: "each must be shown", rows: []statement{good}, cases: map[string]scenario{"a": {}}, want: "is shown by no case"},
		"a case that does not exist":        {reason: "a name may be old", rows: []statement{{"1.1-1", "server", "words", "", "b"}}, cases: all, want: "does not exist: b"},
		"a statement that does not exist":   {reason: "a number may be wrong", rows: []statement{good}, cases: map[string]scenario{"a": {five: "1.1-1 9.9-9"}}, want: "no statement 9.9-9"},
		"a reason where there is a case":    {reason: "one of them is old", rows: []statement{{"1.1-1", "both", "words", "because", "a"}}, cases: all, want: "both cases and a reason"},
		"a client's statement, unexplained": {reason: "a reader asks why", rows: []statement{{"1.1-1", "client", "words", "", ""}}, cases: all, want: "binds clients alone"},
		"a statement that is forgotten":     {reason: "the number is known", rows: nil, cases: nil, want: "0 statements; there are 1"},
	} {
		t.Run(name, func(t *testing.T) {
			table := table{file: "x", rows: 1, claims: func(c scenario) string { return c.five }}

			got := strings.Join(table.faults(c.rows, c.cases), "\n")
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("%s\ngot %q, want %q", c.reason, got, c.want)
			}
		})
	}
}
