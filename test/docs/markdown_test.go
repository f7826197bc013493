// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// root is the repository, seen from this package.
const root = "../.."

// page is a Markdown file, as far as the tests look at it.
type page struct {
	path    string // from the root of the repository
	anchors map[string]bool
	links   []link
	blocks  []block
	tables  []table
	spans   []span // code in running text, tables included
}

type link struct {
	line   int
	target string
}

type block struct {
	line     int
	language string
	text     string
}

type span struct {
	line int
	text string
}

type table struct {
	header []string
	rows   []row
}

type row struct {
	line  int
	cells []string
}

// column is the cells under a heading of the table.
func (t table) column(name string) int {
	for i, cell := range t.header {
		if strings.EqualFold(cell, name) {
			return i
		}
	}

	return -1
}

// tablesOf are the tables whose first column has that heading.
func (p *page) tablesOf(first string) []table {
	var found []table

	for _, t := range p.tables {
		if t.column(first) == 0 {
			found = append(found, t)
		}
	}

	return found
}

var (
	codeSpan      = regexp.MustCompile("`([^`]+)`")
	inlineLink    = regexp.MustCompile(`\[[^\]]*\]\(([^)\s]+)(?:\s+"[^"]*")?\)`)
	referenceLink = regexp.MustCompile(`^\[[^\]]+\]:\s+(\S+)`)
	headingLine   = regexp.MustCompile(`^#{1,6}\s+(.*?)\s*#*$`)
	ruler         = regexp.MustCompile(`^\|[\s|:-]+\|$`)
)

// parse reads a page line by line.
func parse(path, text string) *page {
	p := &page{path: path, anchors: map[string]bool{}}

	var (
		open  *block
		fence string
		rows  *table
	)

	for i, line := range strings.Split(text, "\n") {
		number, trimmed := i+1, strings.TrimSpace(line)

		if open != nil {
			if trimmed == fence {
				p.blocks = append(p.blocks, *open)
				open = nil
			} else {
				open.text += line + "\n"
			}

			continue
		}

		if ticks := len(trimmed) - len(strings.TrimLeft(trimmed, "`")); ticks >= 3 {
			fence = trimmed[:ticks]
			open = &block{line: number, language: strings.TrimSpace(trimmed[ticks:])}

			continue
		}

		if rows = p.tableLine(rows, number, trimmed); rows == nil {
			if heading := headingLine.FindStringSubmatch(line); heading != nil {
				p.addAnchor(heading[1])
			}
		}

		p.addText(number, line)
	}

	if open != nil { // a fence that is never closed hides what follows
		p.links = append(p.links, link{line: open.line, target: "a code block that is never closed"})
	}

	return p
}

// tableLine takes a line of a table, and returns the table while it goes on.
func (p *page) tableLine(open *table, number int, line string) *table {
	if !strings.HasPrefix(line, "|") {
		return nil
	}

	if ruler.MatchString(line) {
		return open
	}

	if open == nil {
		p.tables = append(p.tables, table{header: cells(line)})

		return &p.tables[len(p.tables)-1]
	}

	open.rows = append(open.rows, row{line: number, cells: cells(line)})

	return open
}

// cells splits a line of a table; a bar in code or behind a backslash is text.
func cells(line string) []string {
	var (
		found []string
		cell  strings.Builder
		code  bool
	)

	for i, c := range strings.Trim(line, " ") {
		switch {
		case c == '`':
			code = !code

			cell.WriteRune(c)
		case c == '|' && !code && i > 0 && line[i-1] != '\\':
			found = append(found, strings.TrimSpace(cell.String()))
			cell.Reset()
		case c == '|' && i == 0:
		default:
			cell.WriteRune(c)
		}
	}

	return found
}

func (p *page) addText(number int, line string) {
	for _, found := range codeSpan.FindAllStringSubmatch(line, -1) {
		p.spans = append(p.spans, span{line: number, text: found[1]})
	}

	line = codeSpan.ReplaceAllString(line, "code")
	for _, found := range inlineLink.FindAllStringSubmatch(line, -1) {
		p.links = append(p.links, link{line: number, target: found[1]})
	}

	if found := referenceLink.FindStringSubmatch(line); found != nil {
		p.links = append(p.links, link{line: number, target: found[1]})
	}
}

// addAnchor makes the name by which GitHub links to a heading.
func (p *page) addAnchor(heading string) {
	heading = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(heading, "$1")

	var b strings.Builder

	for _, c := range strings.ToLower(heading) {
		switch {
		case unicode.IsLetter(c), unicode.IsDigit(c), c == '-', c == '_':
			b.WriteRune(c)
		case c == ' ':
			b.WriteByte('-')
		}
	}

	name := b.String()
	for n := 1; p.anchors[name]; n++ {
		name = b.String() + "-" + strconv.Itoa(n)
	}

	p.anchors[name] = true
}

// pages are all Markdown files of the repository.
func pages(t *testing.T) []*page {
	t.Helper()

	var all []*page

	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}

		name := entry.Name()
		if entry.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "bin" || name == "dist") {
			return filepath.SkipDir
		}

		if !entry.IsDir() && strings.HasSuffix(name, ".md") {
			all = append(all, onePage(t, relative(t, path)))
		}

		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	return all
}

// onePage reads the page at a path from the root of the repository.
func onePage(t *testing.T, path string) *page {
	t.Helper()

	content, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}

	return parse(path, string(content))
}

func relative(t *testing.T, path string) string {
	t.Helper()

	name, err := filepath.Rel(root, path)
	if err != nil {
		t.Fatal(err)
	}

	return filepath.ToSlash(name)
}
