// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"
)

// good is a site without a fault.
func good() map[string]string {
	return map[string]string{
		"index.html":      `<link rel="stylesheet" href="site.css"><nav><a href="index.html">1</a><a href="a/b.html">2</a></nav><a href="https://example.com">out</a><a href="a/b.html#x">x</a><a href="design/d.html">d</a>`,
		"a/b.html":        `<script src="../site.js"></script><img src="../p.svg"><h2 id="x">X</h2><a href="#x">here</a><a href="../index.html?q=1">up</a>`,
		"design/d.html":   `<p>a note</p>`,
		"site.css":        `a { color: red }`,
		"site.js":         `// nothing`,
		"p.svg":           `<svg xmlns="http://www.w3.org/2000/svg"><text>mqtts://nowhere.example.com</text></svg>`,
		"search-index.js": `window.x = ["https://example.com/"]`,
	}
}

func TestProblems(t *testing.T) {
	for name, tc := range map[string]struct {
		file, text string // added to a file, which may be new
		want       string // nothing: no problem
	}{
		"all is well":             {},
		"a link to nowhere":       {"index.html", `<a href="c.html">c</a>`, "index.html: link c.html: c.html is not there"},
		"an anchor to nowhere":    {"index.html", `<a href="a/b.html#y">y</a>`, "a/b.html has no #y"},
		"an anchor of the page":   {"a/b.html", `<a href="#y">y</a>`, "a/b.html has no #y"},
		"a path from the root":    {"a/b.html", `<a href="/index.html">y</a>`, "works at the root of a host alone"},
		"a picture of another":    {"a/b.html", `<img src="https://example.com/x.png">`, "loads https://example.com/x.png from another host"},
		"one without a scheme":    {"a/b.html", `<img src="//example.com/x.png">`, "from another host"},
		"a script of another":     {"index.html", `<script src="https://cdn.example.com/x.js"></script>`, "from another host"},
		"a style that imports":    {"site.css", `@import url(https://fonts.example.com/x.css);`, "site.css names https://fonts.example.com/x.css"},
		"a script that fetches":   {"site.js", `fetch("https://example.com/x")`, "site.js names https://example.com/x"},
		"a style in the page":     {"index.html", `<p style="background: url(//example.com/x.png)">`, "names //example.com/x.png"},
		"a script in the page":    {"index.html", `<script>fetch("https://example.com/x")</script>`, "index.html has a script or style that names https://example.com/x"},
		"a picture that fetches":  {"p.svg", `<image href="https://example.com/x.png"/>`, "p.svg names https://example.com/x.png"},
		"one that has a style":    {"p.svg", `<style>@import "https://fonts.example.com/x.css";</style>`, "p.svg names https://fonts.example.com/x.css"},
		"a page that nobody sees": {"c.html", `<p>c</p>`, "no link leads to c.html"},
		"one not at the side":     {"design/d.html", `<a href="../e.html">e</a>`, "e.html is not there"},
		"a picture that is gone":  {"a/b.html", `<img src="q.svg">`, "a/b.html loads q.svg: a/q.svg is not there"},
	} {
		t.Run(name, func(t *testing.T) {
			files := good()
			if tc.file != "" {
				files[tc.file] += tc.text
			}
			folder := fstest.MapFS{}
			for file, text := range files {
				folder[file] = &fstest.MapFile{Data: []byte(text)}
			}
			s, err := read(folder)
			if err != nil {
				t.Fatal(err)
			}
			got := errors.Join(s.problems()...)
			if tc.want == "" && got != nil || tc.want != "" && (got == nil || !strings.Contains(got.Error(), tc.want)) {
				t.Errorf("got %v, want %q", got, tc.want)
			}
		})
	}
}

func TestAPageThatIsNotAtTheSide(t *testing.T) {
	files := good()
	files["index.html"] += `<p><a href="e.html">e</a>`
	files["e.html"] = `<p>e</p>`
	folder := fstest.MapFS{}
	for file, text := range files {
		folder[file] = &fstest.MapFile{Data: []byte(text)}
	}
	s, err := read(folder)
	if err != nil {
		t.Fatal(err)
	}
	if got := errors.Join(s.problems()...); got == nil || !strings.Contains(got.Error(), "e.html is not at the side") {
		t.Errorf("got %v", got)
	}
}
