// SPDX-License-Identifier: Apache-2.0

// Command terminal draws what a program printed as a terminal would show it, as SVG.
//
// In: the command line as it was typed, and a file with the program's output, colours and all. Out: a picture of a terminal of so many
// columns, in which longer lines go on in the next row, as they do there. It draws what stands in the file and adds nothing.
//
// hack/generate.sh draws the output that the golden tests of the plugin hold, so a picture is never older than what is printed.
package main

import (
	"encoding/xml"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"
)

const (
	columns   = 112
	cell, row = 8.4, 19.0 // of a font of 14 pixels
	margin    = 18.0
	bar       = 30.0
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: terminal COMMAND IN OUT")
		os.Exit(2)
	}
	text, err := os.ReadFile(os.Args[2]) //nolint:gosec // A path from the command line is this tool's work.
	if err == nil {
		var picture string
		if picture, err = draw(os.Args[1], string(text)); err == nil {
			err = os.WriteFile(os.Args[3], []byte(picture), 0o644) //nolint:gosec // A picture is for everybody.
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "terminal:", err)
		os.Exit(1)
	}
}

// piece is text of one colour.
type piece struct{ text, colour string }

// colours are those that the plugin uses.
var colours = map[string]string{"": "#dbe2ea", "0": "#dbe2ea", "31": "#ff8f8f", "32": "#8fe0a4", "33": "#f2cf6b", "1": "#ffffff"}

// draw is pure: the same bytes for the same text.
func draw(command, text string) (string, error) {
	lines, err := rows("$ " + command + "\n" + text)
	if err != nil {
		return "", err
	}
	width, height := columns*cell+2*margin, float64(len(lines))*row+bar+2*margin-6
	var b strings.Builder
	p := func(format string, arguments ...any) { fmt.Fprintf(&b, format+"\n", arguments...) }
	p(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="14">`, width, height)
	p(`<title>%s</title>`, escape(command))
	p(`<rect width="%.0f" height="%.0f" rx="10" fill="#12171f"/><path d="M0 %.0fH%.0f" stroke="#2b3442"/>`, width, height, bar, width)
	for i, colour := range []string{"#ff8f8f", "#f2cf6b", "#8fe0a4"} {
		p(`<circle cx="%d" cy="%.0f" r="5.5" fill="%s"/>`, 22+18*i, bar/2, colour)
	}
	for i, line := range lines {
		at := 0
		for _, piece := range line {
			length := utf8.RuneCountInString(piece.text)
			if strings.TrimSpace(piece.text) != "" { // the length keeps columns where they are, whatever font there is
				p(`<text xml:space="preserve" x="%.1f" y="%.1f" textLength="%.1f" fill="%s">%s</text>`,
					margin+float64(at)*cell, bar+margin+float64(i)*row+9, float64(length)*cell, colours[piece.colour], escape(piece.text))
			}
			at += length
		}
	}
	p(`</svg>`)
	return b.String(), nil
}

// rows cuts text into rows of a terminal.
func rows(text string) ([][]piece, error) {
	var (
		all    [][]piece
		line   []piece
		now    strings.Builder
		colour string
		at     int
	)
	put := func() {
		if now.Len() > 0 {
			line = append(line, piece{now.String(), colour})
			now.Reset()
		}
	}
	next := func() {
		put()
		all, line, at = append(all, line), nil, 0
	}
	for rest := strings.TrimSuffix(text, "\n"); rest != ""; {
		if code, after, is := strings.Cut(rest, "m"); is && strings.HasPrefix(code, "\x1b[") {
			put()
			colour = code[len("\x1b["):]
			if _, known := colours[colour]; !known {
				return nil, fmt.Errorf("a colour that is not known: %q", colour)
			}
			rest = after
			continue
		}
		c, size := utf8.DecodeRuneInString(rest)
		rest = rest[size:]
		switch {
		case c == '\n':
			next()
			continue
		case c < ' ':
			return nil, fmt.Errorf("a control character that is not known: %q", c)
		case at == columns:
			next()
		}
		now.WriteRune(c)
		at++
	}
	next()
	return all, nil
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}
