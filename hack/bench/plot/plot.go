// SPDX-License-Identifier: Apache-2.0

// Package plot draws line charts as SVG: light, readable without colours, and the same bytes for the same numbers. It
// imports nothing of ours.
package plot

import (
	"encoding/xml"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Point of a line.
type Point struct{ X, Y float64 }

// Series is one line.
type Series struct {
	Name   string
	Points []Point
	// Color numbers the broker, Dashed tells two lines of one broker apart.
	Color  int
	Dashed bool
}

// Chart is one drawing. Logarithmic axes leave out what is not positive.
type Chart struct {
	Title, X, Y string
	LogX, LogY  bool
	Series      []Series
}

const (
	width, height            = 760, 420
	left, right, top, bottom = 84, 210, 46, 58
)

// colors can be told apart by people who see few of them.
var colors = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"}

// SVG is the drawing.
func (c *Chart) SVG() []byte {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13" fill="#222">`, width, height)
	p(`<title>%s</title>`, escape(c.Title))
	p(`<rect width="%d" height="%d" fill="#fff"/>`, width, height)
	p(`<text x="%d" y="26" font-size="16" font-weight="bold">%s</text>`, left, escape(c.Title))
	x, y := c.axes()
	for _, t := range x.ticks() {
		at := x.place(t)
		p(`<path d="M%.1f %dV%d" stroke="#e2e2e2"/>`, at, top, height-bottom)
		p(`<text x="%.1f" y="%d" text-anchor="middle">%s</text>`, at, height-bottom+20, Short(t))
	}
	for _, t := range y.ticks() {
		at := y.place(t)
		p(`<path d="M%d %.1fH%d" stroke="#e2e2e2"/>`, left, at, width-right)
		p(`<text x="%d" y="%.1f" text-anchor="end">%s</text>`, left-8, at+4, Short(t))
	}
	p(`<path d="M%d %dV%dH%d" fill="none" stroke="#666"/>`, left, top, height-bottom, width-right)
	p(`<text x="%d" y="%d" text-anchor="middle">%s</text>`, (left+width-right)/2, height-14, escape(c.X))
	p(`<text x="18" y="%d" text-anchor="middle" transform="rotate(-90 18 %d)">%s</text>`, (top+height-bottom)/2, (top+height-bottom)/2, escape(c.Y))
	for i, s := range c.Series {
		c.line(p, &s, x, y)
		at := top + 12 + 24*i
		p(`<path d="M%d %dh28" stroke="%s" stroke-width="2"%s/>`, width-right+16, at, color(s.Color), dashes(s.Dashed))
		p(`%s`, mark(float64(width-right+30), float64(at), s.Color))
		p(`<text x="%d" y="%d">%s</text>`, width-right+52, at+4, escape(s.Name))
	}
	p(`</svg>`)
	return []byte(b.String())
}

func (c *Chart) line(p func(string, ...any), s *Series, x, y axis) {
	var path, marks strings.Builder
	verb := "M"
	for _, point := range s.Points {
		if !x.shows(point.X) || !y.shows(point.Y) {
			continue
		}
		px, py := x.place(point.X), y.place(point.Y)
		fmt.Fprintf(&path, "%s%.1f %.1f", verb, px, py)
		marks.WriteString(mark(px, py, s.Color))
		verb = "L"
	}
	if path.Len() > 0 {
		p(`<path d="%s" fill="none" stroke="%s" stroke-width="2"%s/>%s`, path.String(), color(s.Color), dashes(s.Dashed), marks.String())
	}
}

func color(i int) string { return colors[i%len(colors)] }

func dashes(dashed bool) string {
	if dashed {
		return ` stroke-dasharray="6 4"`
	}
	return ""
}

// mark is a circle, a square or a diamond, so that a print without colours can be read.
func mark(x, y float64, i int) string {
	switch i % 3 {
	case 0:
		return fmt.Sprintf(`<circle cx="%.1f" cy="%.1f" r="4" fill=%q/>`, x, y, color(i))
	case 1:
		return fmt.Sprintf(`<rect x="%.1f" y="%.1f" width="8" height="8" fill=%q/>`, x-4, y-4, color(i))
	default:
		return fmt.Sprintf(`<path d="M%.1f %.1fl5 5l-5 5l-5 -5z" fill=%q/>`, x, y-5, color(i))
	}
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}

// axis maps values to places.
type axis struct {
	low, high float64
	log       bool
	from, to  float64
}

func (c *Chart) axes() (x, y axis) {
	x = axis{low: math.Inf(1), high: math.Inf(-1), log: c.LogX, from: left, to: width - right}
	y = axis{low: math.Inf(1), high: math.Inf(-1), log: c.LogY, from: height - bottom, to: top}
	for _, s := range c.Series {
		for _, p := range s.Points {
			if x.shows(p.X) && y.shows(p.Y) {
				x.low, x.high = min(x.low, p.X), max(x.high, p.X)
				y.low, y.high = min(y.low, p.Y), max(y.high, p.Y)
			}
		}
	}
	x.round()
	y.round()
	return x, y
}

func (a *axis) shows(v float64) bool {
	return !math.IsNaN(v) && !math.IsInf(v, 0) && (v > 0 || !a.log)
}

// steps of an axis with less than two decades.
var steps = []float64{1, 2, 5, 10}

// round widens an axis to round numbers; a linear one begins at zero.
func (a *axis) round() {
	if a.low > a.high { // nothing to show
		a.low, a.high = 1, 10
	}
	if !a.log {
		a.low = min(0, a.low)
		step := a.step()
		a.high = max(step, math.Ceil(a.high/step-1e-9)*step)
		return
	}
	base := math.Pow(10, math.Floor(math.Log10(a.low)+1e-9))
	for _, step := range slices.Backward(steps) {
		if step*base <= a.low*(1+1e-9) {
			a.low = step * base
			break
		}
	}
	base = math.Pow(10, math.Floor(math.Log10(a.high)+1e-9))
	for _, step := range steps {
		if step*base >= a.high*(1-1e-9) {
			a.high = step * base
			break
		}
	}
	if a.low == a.high {
		a.high *= 10
	}
}

// step gives a linear axis about five ticks.
func (a *axis) step() float64 {
	rough := (a.high - a.low) / 5
	if rough <= 0 {
		return 1
	}
	base := math.Pow(10, math.Floor(math.Log10(rough)))
	for _, step := range steps {
		if step*base >= rough*(1-1e-9) {
			return step * base
		}
	}
	return 10 * base
}

func (a *axis) ticks() []float64 {
	var ticks []float64
	if !a.log {
		step := a.step()
		for i := 0; a.low+float64(i)*step <= a.high*(1+1e-9); i++ {
			ticks = append(ticks, a.low+float64(i)*step)
		}
		return ticks
	}
	within := steps[:1]
	if a.high/a.low <= 1000 {
		within = steps[:3]
	}
	for base := math.Pow(10, math.Floor(math.Log10(a.low)+1e-9)); base <= a.high*(1+1e-9); base *= 10 {
		for _, step := range within {
			if v := step * base; v >= a.low*(1-1e-9) && v <= a.high*(1+1e-9) {
				ticks = append(ticks, v)
			}
		}
	}
	return ticks
}

func (a *axis) place(v float64) float64 {
	share := (v - a.low) / (a.high - a.low)
	if a.log {
		share = math.Log(v/a.low) / math.Log(a.high/a.low)
	}
	return a.from + share*(a.to-a.from)
}

// Short writes 1500000 as 1.5M.
func Short(v float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if math.Abs(v) >= unit.size*(1-1e-9) {
			return fmt.Sprintf("%.3g%s", v/unit.size, unit.name)
		}
	}
	return fmt.Sprintf("%.3g", v)
}
