// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf16"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// outputs are the values of -o; those verbs that have more to tell know wide, too.
var outputs = []string{"json", "yaml"}

const wide = "wide"

func outputFlag(c *cobra.Command, output *string, more ...string) {
	known := slices.Concat(outputs, more)
	text := strings.Join(known[:len(known)-1], ", ") + " or " + known[len(known)-1]
	c.Flags().StringVarP(output, "output", "o", "", text+"; empty: for people")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(known, cobra.ShellCompDirectiveNoFileComp)) // fails for unknown flags alone
	before := c.PreRunE
	c.PreRunE = func(c *cobra.Command, args []string) error {
		if *output != "" && !slices.Contains(known, *output) {
			return usage("-o %s is neither %s", *output, strings.ReplaceAll(strings.ReplaceAll(text, " or ", ", "), ", ", " nor "))
		}
		if before != nil {
			return before(c, args)
		}
		return nil
	}
}

// printAs writes a value for programs.
func printAs(w io.Writer, output string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("output: %w", err)
	}
	if output == "yaml" {
		if text, err = yaml.JSONToYAML(escaped(text)); err != nil {
			return fmt.Errorf("output: %w", err)
		}
	}
	_, err = fmt.Fprintln(w, strings.TrimRight(string(text), "\n"))
	return err
}

// escaped is JSON with those characters escaped that YAML does not take as they are, such as DEL and what Unicode keeps for
// programs. They stand in texts alone.
func escaped(text []byte) []byte {
	var b bytes.Buffer
	for _, r := range string(text) {
		switch {
		case r < 0x7F, unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			for _, unit := range utf16.AppendRune(nil, r) {
				fmt.Fprintf(&b, "\\u%04x", unit)
			}
		}
	}
	return b.Bytes()
}

// sayf writes one line.
func sayf(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, format+"\n", args...) // nobody is left to be told
}

// table writes rows in columns; the first row is the head.
func table(w io.Writer, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, row := range rows {
		_, _ = fmt.Fprintln(t, strings.Join(row, "\t")) // as in sayf
	}
	_ = t.Flush()
}

// shown is text of others as it can stand in a line of a terminal.
func shown(text string) string {
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

// tone is how good what a line says is. It is shown by a colour on a terminal, and by nothing elsewhere: the words alone say it all.
type tone string

// The tones, as a terminal takes them.
const (
	calm    tone = ""
	well    tone = "32" // green
	warning tone = "33" // yellow
	bad     tone = "31" // red
)

func (s streams) toned(t tone, line string) string {
	if !s.colour || t == calm || line == "" {
		return line
	}
	return "\x1b[" + string(t) + "m" + line + "\x1b[0m"
}

// tellf writes a line in a tone.
func (s streams) tellf(t tone, format string, args ...any) {
	sayf(s.out, "%s", s.toned(t, fmt.Sprintf(format, args...)))
}

// tonedTable is table with a tone for each row; colours would count as width within a cell.
func (s streams) tonedTable(rows [][]string, tones []tone) {
	var text strings.Builder
	table(&text, rows)
	for i, line := range strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n") {
		t := calm
		if i < len(tones) {
			t = tones[i]
		}
		sayf(s.out, "%s", s.toned(t, strings.TrimRight(line, " ")))
	}
}

// coloured says whether colours are wanted: on a terminal, unless NO_COLOR (no-color.org) or a terminal of no colours is in the way.
func coloured(terminal bool, getenv func(string) string) bool {
	return terminal && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}
