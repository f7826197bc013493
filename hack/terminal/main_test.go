// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRows(t *testing.T) {
	long := strings.Repeat("x", columns)
	for name, tc := range map[string]struct {
		text string
		want [][]piece
	}{
		"plain lines":                   {"a\n\nb\n", [][]piece{{{"a", ""}}, nil, {{"b", ""}}}},
		"a colour and its end":          {"\x1b[31mno\x1b[0m yes", [][]piece{{{"no", "31"}, {" yes", "0"}}}},
		"a line that is just so long":   {long + "\ny", [][]piece{{{long, ""}}, {{"y", ""}}}},
		"a longer one goes on below":    {long + "yz", [][]piece{{{long, ""}}, {{"yz", ""}}}},
		"in its colour":                 {"\x1b[33m" + long + "y\x1b[0m", [][]piece{{{long, "33"}}, {{"y", "33"}}}},
		"signs of more than one byte":   {"ü•", [][]piece{{{"ü•", ""}}}},
		"an m that belongs to no color": {"mm", [][]piece{{{"mm", ""}}}},
	} {
		got, err := rows(tc.text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(piece{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for _, unknown := range []string{"\x1b[35mx", "\ttab", "\x1b[2J"} {
		if got, err := rows(unknown); err == nil {
			t.Errorf("%q is drawn as %v", unknown, got)
		}
	}
}

func TestDraw(t *testing.T) {
	got, err := draw("kubectl mqtt status", "\x1b[31mA <b> & c\x1b[0m\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<title>kubectl mqtt status</title>", ">$ kubectl mqtt status</text>", `fill="#ff8f8f">A &lt;b&gt; &amp; c</text>`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}
