// SPDX-License-Identifier: Apache-2.0

package board

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Board is a dashboard with what was answered.
type Board struct {
	Title  string
	Panels []Panel
}

// Panel is one picture of it, in units of Grafana's grid, which has 24 columns.
type Panel struct {
	Title, Unit string
	// IsNumber shows the last value alone.
	IsNumber            bool
	X, Y, Width, Height int
	Series              []Series
}

// Series is one line.
type Series struct {
	Name   string
	Points []Point
}

// Point is a value at a time, in seconds since 1970.
type Point struct{ At, Value float64 }

// Answer is a series as Prometheus names it.
type Answer struct {
	Labels map[string]string
	Points []Point
}

// Read takes a dashboard and has each of its queries answered. rate is what stands in for Grafana's own variable.
func Read(dashboard, rate string, ask func(expr string) ([]Answer, error)) (*Board, error) {
	var decoded struct {
		Title  string `json:"title"`
		Panels []struct {
			Title    string `json:"title"`
			Type     string `json:"type"`
			Position struct {
				X      int `json:"x"`
				Y      int `json:"y"`
				Width  int `json:"w"`
				Height int `json:"h"`
			} `json:"gridPos"`
			Config struct {
				Defaults struct {
					Unit string `json:"unit"`
				} `json:"defaults"`
			} `json:"fieldConfig"`
			Targets []struct {
				Expr   string `json:"expr"`
				Legend string `json:"legendFormat"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal([]byte(dashboard), &decoded); err != nil {
		return nil, err
	}
	if len(decoded.Panels) == 0 {
		return nil, fmt.Errorf("dashboard %q has no panels", decoded.Title)
	}
	b := &Board{Title: decoded.Title}
	for _, p := range decoded.Panels {
		at := p.Position
		panel := Panel{Title: p.Title, Unit: p.Config.Defaults.Unit, IsNumber: p.Type == "stat", X: at.X, Y: at.Y, Width: at.Width, Height: at.Height}
		for _, target := range p.Targets {
			answers, err := ask(strings.ReplaceAll(target.Expr, "$__rate_interval", rate))
			if err != nil {
				return nil, fmt.Errorf("panel %s: %w", p.Title, err)
			}
			for _, answer := range answers {
				panel.Series = append(panel.Series, Series{Name: legend(target.Legend, answer.Labels), Points: answer.Points})
			}
		}
		slices.SortStableFunc(panel.Series, func(a, b Series) int { return strings.Compare(a.Name, b.Name) })
		b.Panels = append(b.Panels, panel)
	}
	return b, nil
}

var variable = regexp.MustCompile(`\{\{\s*([a-zA-Z_]+)\s*\}\}`)

// legend fills labels into what a series is to be called.
func legend(format string, labels map[string]string) string {
	return variable.ReplaceAllStringFunc(format, func(name string) string { return labels[variable.FindStringSubmatch(name)[1]] })
}
