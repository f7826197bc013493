// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: sitecheck DIR")
		os.Exit(2)
	}
	s, err := read(os.DirFS(os.Args[1]))
	if err == nil {
		err = errors.Join(s.problems()...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("%s: %d pages and %d other files in %d KiB; every link leads somewhere, nothing is loaded from elsewhere\n",
		filepath.Clean(os.Args[1]), len(s.pages), len(s.files)-len(s.pages), s.size/1024)
}

// first is the page that everybody sees first; notes are linked from a page of their own and not at the side.
const (
	first = "index.html"
	notes = "design/"
)

// site is all files of a folder, with the pages taken apart.
type site struct {
	files map[string]bool
	pages map[string]*page
	texts map[string]string // styles, scripts and pictures
	size  int64
}

// page is what matters of one.
type page struct {
	ids    map[string]bool
	links  []string // where somebody may go
	loads  []string // what a browser fetches by itself
	aside  []string // the links at the side
	inline []string // scripts and styles within
}

func read(folder fs.FS) (*site, error) {
	s := &site{files: map[string]bool{}, pages: map[string]*page{}, texts: map[string]string{}}
	err := fs.WalkDir(folder, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(folder, name)
		if err != nil {
			return err
		}
		s.files[name] = true
		s.size += int64(len(text))
		switch path.Ext(name) {
		case ".html":
			root, err := html.Parse(strings.NewReader(string(text)))
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			p := &page{ids: map[string]bool{}}
			p.walk(root, false)
			s.pages[name] = p
		case ".css", ".js", ".svg":
			if name != "search-index.js" { // words of the pages, which may name hosts
				s.texts[name] = string(text)
			}
		}
		return nil
	})
	return s, err
}

func (p *page) walk(n *html.Node, aside bool) {
	if n.Type == html.ElementNode {
		if id := attribute(n, "id"); id != "" {
			p.ids[id] = true
		}
		aside = aside || n.Data == "nav"
		switch href := attribute(n, "href"); n.Data {
		case "a":
			p.links = append(p.links, href)
			if aside {
				p.aside = append(p.aside, href)
			}
		case "link":
			p.loads = append(p.loads, href)
		case "script", "style":
			if n.FirstChild != nil {
				p.inline = append(p.inline, n.FirstChild.Data)
			}
		}
		for _, name := range []string{"src", "srcset", "poster", "data"} {
			if value := attribute(n, name); value != "" {
				p.loads = append(p.loads, value)
			}
		}
		if style := attribute(n, "style"); style != "" {
			p.inline = append(p.inline, style)
		}
	}
	for child := n.FirstChild; child != nil; child = child.NextSibling {
		p.walk(child, aside)
	}
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// host finds an address of another host in a style or a script; fetched finds what a picture fetches, whose text may name hosts.
var (
	host    = regexp.MustCompile(`(?:https?:)?//[a-zA-Z0-9.-]+\.[a-z]{2,}[^\s"')]*`)
	fetched = regexp.MustCompile(`(?:href\s*=\s*["']|src\s*=\s*["']|url\(\s*["']?|@import\s+["'])((?:https?:)?//[^\s"')]+)`)
)

// problems is pure: everything that is wrong, in the order of names.
func (s *site) problems() []error {
	var found []error
	tell := func(format string, arguments ...any) { found = append(found, fmt.Errorf(format, arguments...)) }
	if s.pages[first] == nil {
		tell("there is no %s", first)
		return found
	}
	for _, name := range slices.Sorted(maps.Keys(s.pages)) {
		p := s.pages[name]
		for _, link := range p.links {
			if isElsewhere(link) {
				continue
			}
			if err := s.follow(name, link); err != nil {
				tell("%s: link %s: %w", name, link, err)
			}
		}
		for _, load := range p.loads {
			if isElsewhere(load) {
				tell("%s loads %s from another host", name, load)
			} else if err := s.follow(name, load); err != nil {
				tell("%s loads %s: %w", name, load, err)
			}
		}
		for _, text := range p.inline {
			for _, address := range host.FindAllString(text, -1) {
				tell("%s has a script or style that names %s", name, address)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.texts)) {
		addresses := host.FindAllString(s.texts[name], -1)
		if path.Ext(name) == ".svg" {
			addresses = nil
			for _, found := range fetched.FindAllStringSubmatch(s.texts[name], -1) {
				addresses = append(addresses, found[1])
			}
		}
		for _, address := range addresses {
			tell("%s names %s", name, address)
		}
	}
	return append(found, s.lost()...)
}

func isElsewhere(link string) bool {
	return strings.HasPrefix(link, "//") || strings.Contains(link, "://") || strings.HasPrefix(link, "mailto:") || strings.HasPrefix(link, "data:")
}

// follow says why a link does not lead somewhere.
func (s *site) follow(from, link string) error {
	file, anchor, _ := strings.Cut(link, "#")
	file, _, _ = strings.Cut(file, "?")
	if strings.HasPrefix(file, "/") {
		return errors.New("works at the root of a host alone")
	}
	target := from
	if file != "" {
		target = path.Join(path.Dir(from), file)
		if strings.HasSuffix(file, "/") || file == "." {
			target = path.Join(target, first)
		}
	}
	if !s.files[target] {
		return fmt.Errorf("%s is not there", target)
	}
	if anchor == "" {
		return nil
	}
	if p := s.pages[target]; p == nil || !p.ids[anchor] {
		return fmt.Errorf("%s has no #%s", target, anchor)
	}
	return nil
}

// lost names pages that nobody finds.
func (s *site) lost() []error {
	reached, queue := map[string]bool{first: true}, []string{first}
	for len(queue) > 0 {
		from := queue[0]
		queue = queue[1:]
		for _, link := range s.pages[from].links {
			file, _, _ := strings.Cut(link, "#")
			to := path.Join(path.Dir(from), file)
			if s.pages[to] != nil && !reached[to] {
				reached[to] = true
				queue = append(queue, to)
			}
		}
	}
	aside := map[string]bool{}
	for _, link := range s.pages[first].aside {
		aside[path.Clean(link)] = true
	}
	var found []error
	for _, name := range slices.Sorted(maps.Keys(s.pages)) {
		if !reached[name] {
			found = append(found, fmt.Errorf("no link leads to %s", name))
		}
		if !aside[name] && !strings.HasPrefix(name, notes) {
			found = append(found, fmt.Errorf("%s is not at the side: name it in hack/site/hugo.yaml", name))
		}
	}
	return found
}
