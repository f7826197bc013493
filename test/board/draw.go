// SPDX-License-Identifier: Apache-2.0

package board

import (
	"encoding/xml"
	"fmt"
	"math"
	"strings"
	"time"
)

const (
	unitX, unitY = 40, 24 // of Grafana's grid, in pixels
	gap          = 8
	head         = 52
	lineHeight   = 16
	mostNames    = 4 // of a legend; the others are counted
)

// colours can be told apart by people who see few of them.
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#b8860b", "#6a3fa0", "#666666"}

// canvas is the picture under way.
type canvas struct {
	strings.Builder

	from, to float64
}

func (c *canvas) putf(format string, arguments ...any) {
	_, _ = fmt.Fprintf(c, format+"\n", arguments...)
}

// SVG is the picture: the same bytes for the same answers. caption says where they come from.
func (b *Board) SVG(caption string) []byte {
	c := &canvas{from: math.Inf(1), to: math.Inf(-1)}
	bottom := 0
	for i := range b.Panels {
		p := &b.Panels[i]
		bottom = max(bottom, p.Y+p.Height)
		for _, s := range p.Series {
			for _, point := range s.Points {
				c.from, c.to = min(c.from, point.At), max(c.to, point.At)
			}
		}
	}
	width, height := 24*unitX+gap, bottom*unitY+head+gap
	c.putf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="11" fill="#333">`, width, height)
	c.putf(`<title>%s</title>`, escape(b.Title))
	c.putf(`<rect width="%d" height="%d" rx="8" fill="#eef1f5"/>`, width, height)
	c.putf(`<text x="%d" y="24" font-size="17" font-weight="600">%s</text>`, gap+4, escape(b.Title))
	c.putf(`<text x="%d" y="42" fill="#5a6675">%s</text>`, gap+4, escape(caption))
	for i := range b.Panels {
		c.panel(&b.Panels[i])
	}
	c.putf(`</svg>`)
	return []byte(c.String())
}

func (c *canvas) panel(p *Panel) {
	x, y, width, height := p.X*unitX+gap, p.Y*unitY+head, p.Width*unitX-gap, p.Height*unitY-gap
	c.putf(`<rect x="%d" y="%d" width="%d" height="%d" rx="5" fill="#fff" stroke="#d8dee6"/>`, x, y, width, height)
	size := min(12, 1.75*float64(width-20)/float64(max(1, len(p.Title)))) // a letter is some 0.57 of its size wide
	c.putf(`<text x="%d" y="%d" font-size="%.3g" font-weight="600">%s</text>`, x+10, y+18, size, escape(p.Title))
	switch {
	case len(p.Series) == 0:
		c.putf(`<text x="%d" y="%d" text-anchor="middle" fill="#8a94a0">nothing</text>`, x+width/2, y+height/2+8)
	case p.IsNumber:
		points := p.Series[0].Points
		c.putf(`<text x="%d" y="%d" text-anchor="middle" font-size="30" font-weight="600" fill="#0072b2">%s</text>`,
			x+width/2, y+height/2+20, escape(Value(points[len(points)-1].Value, p.Unit)))
	default:
		c.lines(p, x, y, width, height)
	}
}

func (c *canvas) lines(p *Panel, x, y, width, height int) {
	low, high := span(p.Series)
	names := min(len(p.Series), mostNames+1)
	left, right, top, bottom := x+52, x+width-12, y+30, y+height-22-(names+1)/2*lineHeight
	unit := divisor(high, p.Unit)
	low, high, step := scale(low/unit, high/unit)
	low, high, step = low*unit, high*unit, step*unit
	placeY := func(v float64) float64 { return float64(bottom) - (v-low)/(high-low)*float64(bottom-top) }
	placeX := func(at float64) float64 { return float64(left) + (at-c.from)/max(1, c.to-c.from)*float64(right-left) }
	for v := low; v <= high+step/1e6; v += step {
		c.putf(`<path d="M%d %.1fH%d" stroke="#e8ecf1"/><text x="%d" y="%.1f" text-anchor="end" fill="#5a6675">%s</text>`,
			left, placeY(v), right, left-6, placeY(v)+4, escape(Value(v, p.Unit)))
	}
	for at := c.from; at <= c.to; at += tick(c.to - c.from) {
		c.putf(`<text x="%.1f" y="%d" text-anchor="middle" fill="#5a6675">%s</text>`, placeX(at), bottom+14, clock(at-c.from))
	}
	for i, s := range p.Series {
		colour := colours[i%len(colours)]
		if path := c.path(s.Points, placeX, placeY); path != "" {
			c.putf(`<path d="%s" fill="none" stroke="%s" stroke-width="1.6" stroke-linejoin="round" stroke-linecap="round"/>`, path, colour)
		}
		if i > mostNames || i == mostNames && len(p.Series) > mostNames+1 {
			continue
		}
		c.name(x, bottom+32, width, i, colour, s.Name)
	}
	if more := len(p.Series) - mostNames; more > 1 {
		c.name(x, bottom+32, width, mostNames, "none", fmt.Sprintf("and %d more", more))
	}
}

// name is one entry of a legend, which has two columns.
func (c *canvas) name(x, y, width, i int, colour, text string) {
	atX, atY := x+12+i%2*(width/2-6), y+i/2*lineHeight
	c.putf(`<rect x="%d" y="%d" width="10" height="4" rx="2" fill="%s"/><text x="%d" y="%d">%s</text>`, atX, atY-6, colour, atX+15, atY, escape(shorten(text)))
}

// shorten keeps a name within its column.
func shorten(text string) string {
	const most = 36
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}

// path draws points, and leaves a hole where a scrape or two have nothing.
func (c *canvas) path(points []Point, placeX, placeY func(float64) float64) string {
	var path strings.Builder
	step := math.Inf(1)
	for i := 1; i < len(points); i++ {
		step = min(step, points[i].At-points[i-1].At)
	}
	for i, p := range points {
		if math.IsNaN(p.Value) || math.IsInf(p.Value, 0) {
			continue
		}
		verb := "L"
		if path.Len() == 0 || i > 0 && (p.At-points[i-1].At > 1.5*step || math.IsNaN(points[i-1].Value)) {
			verb = "M"
		}
		fmt.Fprintf(&path, "%s%.1f %.1f", verb, placeX(p.At), placeY(p.Value))
	}
	return path.String()
}

// span is from the lowest value to the highest. What is never negative begins at zero.
func span(series []Series) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, s := range series {
		for _, p := range s.Points {
			if !math.IsNaN(p.Value) && !math.IsInf(p.Value, 0) {
				low, high = min(low, p.Value), max(high, p.Value)
			}
		}
	}
	if low > high {
		return 0, 1
	}
	return min(0, low), high
}

// scale widens a span to round numbers, with some four steps.
func scale(low, high float64) (from, to, step float64) {
	if high <= low {
		high = low + 1
	}
	rough := (high - low) / 4
	step = math.Pow(10, math.Floor(math.Log10(rough)))
	for _, factor := range []float64{1, 2, 5, 10} {
		if factor*step >= rough*(1-1e-9) {
			step *= factor
			break
		}
	}
	return math.Floor(low/step+1e-9) * step, math.Ceil(high/step-1e-9) * step, step
}

// divisor is what one of the unit is in which the highest value is written, so that its axis has round numbers.
func divisor(high float64, unit string) float64 {
	switch {
	case unit == "bytes" && high >= 1024:
		return math.Pow(1024, math.Floor(math.Log2(high)/10))
	case unit == "s" && high >= 48*time.Hour.Seconds():
		return 24 * time.Hour.Seconds()
	case unit == "s" && high >= 2*time.Hour.Seconds():
		return time.Hour.Seconds()
	case unit == "s" && high >= 120:
		return 60
	default:
		return 1
	}
}

// tick is the time between two marks below a graph.
func tick(seconds float64) float64 {
	for _, step := range []float64{5, 10, 15, 30, 60, 120, 300, 600, 1800} {
		if seconds/step <= 6 {
			return step
		}
	}
	return 3600
}

func clock(seconds float64) string {
	return fmt.Sprintf("%d:%02d", int(seconds)/60, int(seconds)%60)
}

// Value writes a number in one of the units that our dashboards use.
func Value(v float64, unit string) string {
	switch unit {
	case "bool_yes_no":
		if v != 0 {
			return "yes"
		}
		return "no"
	case "bytes":
		return prefixed(v, 1024, " B", " KiB", " MiB", " GiB")
	case "Bps":
		return prefixed(v, 1000, " B/s", " kB/s", " MB/s", " GB/s")
	case "ops":
		return prefixed(v, 1000, "/s", "k/s", "M/s", "G/s")
	case "percentunit":
		return number(100*v) + " %"
	case "s":
		return duration(v)
	default:
		return prefixed(v, 1000, "", "k", "M", "G")
	}
}

func prefixed(v, base float64, names ...string) string {
	i := 0
	for i < len(names)-1 && math.Abs(v) >= base {
		v /= base
		i++
	}
	return number(v) + names[i]
}

// duration writes seconds in the unit that suits them.
func duration(v float64) string {
	switch a := math.Abs(v); {
	case v == 0:
		return "0"
	case a < 1e-3:
		return number(v*1e6) + " µs"
	case a < 1:
		return number(v*1e3) + " ms"
	case a < 120:
		return number(v) + " s"
	case a < 2*time.Hour.Seconds():
		return number(v/60) + " min"
	case a < 48*time.Hour.Seconds():
		return number(v/time.Hour.Seconds()) + " h"
	default:
		return number(v/(24*time.Hour.Seconds())) + " days"
	}
}

func number(v float64) string {
	if math.Abs(v) >= 100 || v == math.Trunc(v) {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2g", v)
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}
