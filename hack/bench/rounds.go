// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mqtt-operator/mqtt-operator/hack/bench/peer"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/proc"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/report"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/scenario"
)

// runner goes through rounds.
type runner struct {
	kit      *peer.Kit
	options  scenario.Options
	document *report.Document
	begin    time.Time
	budget   time.Duration
	reserve  time.Duration // of it, for what comes after the rounds
	turns    turns
	done     int
	total    int
}

// bench prepares brokers, runs all rounds, and reports.
func bench(ctx context.Context, s *settings, kit *peer.Kit, out io.Writer) error {
	peers, err := peer.Find(list(s.brokers))
	if err != nil {
		return err
	}
	scenarios, err := scenario.Find(list(s.scenarios))
	if err != nil {
		return err
	}
	curves, err := scenario.FindCurves(list(s.curves))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.budget)
	defer cancel()
	document := &report.Document{
		Date: time.Now(), Machine: proc.Machine(), Load: proc.Load(), Disk: proc.Filesystem(kit.Cache),
		Results: report.NewResults(s.rounds),
	}
	options := scenario.Options{
		Version: byte(s.version), Seconds: s.seconds, Settle: 3 * time.Second, Clients: s.clients, Payload: 64, Ahead: s.ahead, //nolint:gosec // 4 or 5
	}
	if s.quick {
		options.Settle = 1500 * time.Millisecond
	}
	document.Settings = describe(s, &options)
	peers, err = prepare(ctx, kit, peers, document)
	if err != nil {
		return err
	}
	r := &runner{kit: kit, options: options, document: document, begin: time.Now(), budget: s.budget, turns: newTurns(s.turns)}
	r.reserve = time.Duration(len(curves)) * curveTime
	err = r.all(ctx, peers, scenarios, s.rounds)
	if err == nil {
		drawn := slices.DeleteFunc(slices.Clone(peers), func(p *peer.Peer) bool { return !slices.Contains(list(s.curveBrokers), p.Name) })
		err = r.curves(ctx, curves, drawn, s)
	}
	document.Console(out) // what there is, also after an interruption
	if err != nil {
		return err
	}
	if s.write {
		return save(document, kit)
	}
	return nil
}

// curveTime is what a curve takes, more or less.
const curveTime = 2 * time.Minute

// curves measures and draws how cost grows.
func (r *runner) curves(ctx context.Context, curves []*scenario.Curve, peers []*peer.Peer, s *settings) error {
	for _, c := range curves {
		if left := r.left(); left < curveTime {
			r.leftOut("the curve " + c.Name)
			continue
		}
		var drawings []scenario.Drawing
		err := r.turns.take(func() (err error) {
			drawings, err = c.Run(ctx, r.kit, peers, r.options, s.most)
			return err
		})
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			r.leftOut("the curve " + c.Name) // the time was over before the curve was: the rest stands
			continue
		}
		if err != nil {
			return err
		}
		for _, d := range drawings {
			file := d.Name + ".svg"
			r.document.Curves = append(r.document.Curves, report.Curve{
				Title: d.Chart.Title, Text: report.CurveText(&d.Chart, d.Notes), File: "benchmarks/" + file,
			})
			if !s.write {
				continue
			}
			dir := filepath.Join(r.kit.Root, "docs", "benchmarks")
			if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // documentation
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, file), d.Chart.SVG(), 0o644); err != nil { //nolint:gosec // documentation
				return err
			}
		}
	}
	return nil
}

// left is how much time there is.
func (r *runner) left() time.Duration { return r.budget - time.Since(r.begin) }

// leftOut says so where it will be read.
func (r *runner) leftOut(what string) {
	r.kit.Say("no time left for %s", what)
	r.document.Settings = append(r.document.Settings, "left out because the time was over: "+what)
}

func describe(s *settings, o *scenario.Options) []string {
	name := "3.1.1"
	if s.version == 5 {
		name = "5.0"
	}
	ahead := "1,000 (pairs), 100 (1 → 500) or 50 (100 → 2)"
	if o.Ahead > 0 {
		ahead = thousands(o.Ahead)
	}
	return []string{
		fmt.Sprintf("MQTT %s, %d bytes of payload, %d rounds, %g s measured per run after a warm-up", name, o.Payload, s.rounds, o.Seconds),
		"closed loop: a sender of QoS 0 is at most " + ahead + " messages ahead of its slowest receiver, a sender of QoS 1 and 2 has 20 in flight; so nothing needs to be dropped, and each message is counted where it arrives",
		"open loop: 20 pairs, each message at its own time; latency counts from when it was due to when the receiver read it",
		fmt.Sprintf("connect: %s clients from loopback addresses, 64 in their handshake at once; memory %s after the last one", thousands(s.clients), o.Settle),
		"memory is the resident set of the broker's processes; per connection: less what it was just started",
	}
}

func thousands(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// prepare leaves out brokers that cannot be had, and says so; ours must be there if it was asked for.
func prepare(ctx context.Context, kit *peer.Kit, peers []*peer.Peer, d *report.Document) ([]*peer.Peer, error) {
	var ready []*peer.Peer
	for _, p := range peers {
		begin := time.Now()
		err := p.Prepare(ctx, kit)
		if err != nil {
			if ctx.Err() != nil || p.Name == report.Ours {
				return nil, err
			}
			kit.Say("%v", err)
			kit.Say("%s is left out", p.Name)
			continue
		}
		kit.Say("%-15s %s (%.0f s)", p.Name, p.Version(), time.Since(begin).Seconds())
		ready = append(ready, p)
		d.Brokers = append(d.Brokers, report.Broker{Name: p.Name, Title: p.Title, Version: p.Version(), Settings: p.Settings})
	}
	return ready, nil
}

func (r *runner) all(ctx context.Context, peers []*peer.Peer, scenarios []*scenario.Scenario, rounds int) error {
	for _, s := range scenarios {
		for _, p := range peers {
			if takesPart(p, s) {
				r.total += rounds
			}
		}
	}
	for round := range rounds {
		if each := time.Since(r.begin) / time.Duration(max(1, round)); round > 0 && each > r.left()-r.reserve {
			r.leftOut(fmt.Sprintf("round %d of %d and those behind it", round+1, rounds))
			return nil
		}
		for _, s := range scenarios {
			if err := r.turns.take(func() error { return r.side(ctx, peers, s, round) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// side runs one scenario of one round on all peers, side by side as near as can be.
func (r *runner) side(ctx context.Context, peers []*peer.Peer, s *scenario.Scenario, round int) error {
	// Another order in each round, so that no broker always has the machine as the same one left it.
	first := round % max(1, len(peers))
	for _, p := range slices.Concat(peers[first:], peers[:first]) {
		if !takesPart(p, s) {
			continue
		}
		if err := r.one(ctx, p, s, round); err != nil {
			return err
		}
	}
	return nil
}

func takesPart(p *peer.Peer, s *scenario.Scenario) bool { return s.Task.Durable || !p.Only }

func (r *runner) one(ctx context.Context, p *peer.Peer, s *scenario.Scenario, round int) error {
	r.done++
	task := s.Task
	task.Version = r.options.Version
	prefix := fmt.Sprintf("%4.0fs %3d/%d  round %d  %-10s %-15s", time.Since(r.begin).Seconds(), r.done, r.total, round+1, s.Name, p.Name)
	if why := p.Unable(task); why != "" {
		r.document.Results.Note(p.Name, s.Name, why)
		r.kit.Say("%s %s", prefix, why)
		return nil
	}
	outcome, err := s.Run(ctx, r.kit, p, r.options)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		r.document.Results.Note(p.Name, s.Name, "failed: "+firstLine(err))
		r.kit.Say("%s failed: %v", prefix, err)
		return nil
	}
	var line strings.Builder
	line.WriteString(prefix)
	for _, row := range report.Rows() {
		if value, found := outcome.Values[row.Name]; found {
			_, _ = fmt.Fprintf(&line, "  %s %.*f %s", row.Name, row.Digits, value, row.Unit)
		}
	}
	if cpu, found := outcome.Values["broker-cpu"]; found {
		_, _ = fmt.Fprintf(&line, "  [broker %.0f %%, generator %.0f %%]", cpu, outcome.Values["generator-cpu"])
	}
	for name, value := range outcome.Values {
		r.document.Results.Set(p.Name, name, round, value)
		r.document.Results.Set(p.Name, s.Name+"/"+name, round, value)
	}
	for _, note := range outcome.Notes {
		r.document.Results.Note(p.Name, s.Name, note)
		line.WriteString("; " + note)
	}
	r.kit.Say("%s", line.String())
	return nil
}

func firstLine(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	return text
}

// save writes the report into the repository.
func save(d *report.Document, kit *peer.Kit) error {
	file, err := os.Create(filepath.Join(kit.Root, "docs", "benchmarks.md"))
	if err != nil {
		return err
	}
	d.Markdown(file)
	return file.Close()
}
