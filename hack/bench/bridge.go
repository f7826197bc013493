// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mqtt-operator/mqtt-operator/hack/bench/bridging"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/peer"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/proc"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/report"
)

const bridgeUsage = `bench bridge measures bridges side by side, on this machine, on loopback: ours between our broker and a destination, Mosquitto's
between the same two, and a Mosquitto as the source that hands on by the bridge inside it. In each round every path is
measured once, throughput first.

  bench bridge -rounds 1                   half a minute
  bench bridge -write                      the table in docs/bridges.md

`

// bridgeFlags are the flags of "bench bridge".
type bridgeFlags struct {
	bridging.Options

	rounds                int
	write, anyway         bool
	binary, bridge, turns string
}

func parseBridge(args []string, errs io.Writer) (*bridgeFlags, error) {
	s := &bridgeFlags{}
	flags := flag.NewFlagSet("bench bridge", flag.ContinueOnError)
	flags.SetOutput(errs)
	version := flags.Int("version", 5, "level of MQTT, everywhere: 4 (3.1.1) or 5")
	flags.IntVar(&s.rounds, "rounds", 7, "how many rounds")
	flags.Float64Var(&s.Seconds, "seconds", 3, "how long a run is measured; latency takes twice as long")
	flags.IntVar(&s.Payload, "payload", 64, "bytes")
	flags.IntVar(&s.Inflight, "inflight", 1000, "messages that a bridge has on their way at most, for both bridges")
	flags.IntVar(&s.Rate, "rate", 1000, "messages a second while latency is measured")
	flags.BoolVar(&s.write, "write", false, "write the table in docs/bridges.md")
	flags.BoolVar(&s.anyway, "anyway", false, "run although another bench runs")
	flags.StringVar(&s.binary, "binary", "", "our broker, built already; empty builds it from this repository")
	flags.StringVar(&s.bridge, "bridge", "", "our bridge, built already; empty builds it from this repository")
	flags.StringVar(&s.turns, "turns", "", "as in bench -help")
	flags.Usage = func() {
		_, _ = fmt.Fprint(errs, bridgeUsage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil, err
	} else if err != nil {
		return nil, errUsage
	}
	s.Version = byte(*version) //nolint:gosec // asked below
	if flags.NArg() > 0 || (*version != 4 && *version != 5) || s.rounds < 1 || s.Seconds < 0.1 || s.Payload < 24 || s.Inflight < 1 || s.Rate < 10 {
		_, _ = fmt.Fprintln(errs, "bench bridge: see bench bridge -help")
		return nil, errUsage
	}
	return s, nil
}

// bridgeKinds are compared, the first with the others.
var bridgeKinds = []bridging.Kind{bridging.Ours, bridging.Mosquittos, bridging.Inside}

func bridgePaths() (all []bridging.Path) {
	for _, destination := range []string{"ours", "mosquitto"} {
		for _, kind := range bridgeKinds {
			all = append(all, bridging.Path{Destination: destination, Kind: kind})
		}
	}
	return all
}

func runBridge(ctx context.Context, args []string, out, errs io.Writer) error {
	s, err := parseBridge(args, errs)
	if err != nil {
		return err
	}
	if err := moreFiles(); err != nil {
		return err
	}
	kit, err := peer.NewKit(errs)
	if err != nil {
		return err
	}
	kit.Binary, kit.Bridge = s.binary, s.bridge
	if !s.anyway {
		if err := kit.Lock(); err != nil {
			return err
		}
		defer kit.Unlock()
	}
	peers, err := peer.Find([]string{"ours", "mosquitto"})
	if err != nil {
		return err
	}
	for _, p := range peers {
		if err := p.Prepare(ctx, kit); err != nil {
			return err
		}
	}
	if err := kit.PrepareBridge(ctx); err != nil {
		return err
	}
	results := map[bridging.Path][]bridging.Numbers{}
	turns := newTurns(s.turns)
	for round := range s.rounds {
		for _, p := range bridgePaths() {
			kit.Say("round %d of %d: %s", round+1, s.rounds, p.Title())
			err := turns.take(func() error {
				n, err := bridging.Run(ctx, kit, p, s.Options)
				results[p] = append(results[p], n)
				return err
			})
			if err != nil {
				return fmt.Errorf("%s: %w", p.Title(), err)
			}
		}
	}
	text := bridgeTable(s, peers, results)
	_, _ = fmt.Fprint(out, text)
	if s.write {
		return intoPage(filepath.Join(kit.Root, "docs", "bridges.md"), text)
	}
	return nil
}

// beside is what ours is compared with, in words.
var beside = map[bridging.Kind]string{
	bridging.Mosquittos: "Mosquitto's, on the same path",
	bridging.Inside:     "a Mosquitto as the source, which stores nothing and needs one hop less",
}

// bridgeTable writes medians, and the ratios of the same round.
func bridgeTable(s *bridgeFlags, peers []*peer.Peer, results map[bridging.Path][]bridging.Numbers) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, on %s. %d rounds, medians; a ratio is of the same round. MQTT %s, QoS 1, %d bytes of payload, ten publishers at the source and ten receivers at the destination, %d in flight for both bridges. For throughput the receivers take QoS 0, and publishers and receivers wait for a processor in place of stopping who has it (SCHED_BATCH). Mosquitto's bridge fetches by 3.1.1, where it keeps its session. Our broker stores with `sync: always`, Mosquitto (%s) in memory.\n\n",
		time.Now().Format(time.DateOnly), strings.Join(proc.Machine(), ", "), s.rounds, map[byte]string{4: "3.1.1", 5: "5"}[s.Version], s.Payload, s.Inflight, peers[1].Version())
	fmt.Fprintf(&b, "| path | messages a second | p50 | p99 at %d/s | added, p99 | processor time a message, brokers included | a processor's time that the destination takes | bridge's memory |\n|---|---|---|---|---|---|---|---|\n", s.Rate)
	of := func(p bridging.Path, pick func(n bridging.Numbers) float64) report.Spread {
		var values []float64
		for _, n := range results[p] {
			values = append(values, pick(n))
		}
		return report.SpreadOf(values)
	}
	for _, p := range bridgePaths() {
		median := func(pick func(n bridging.Numbers) float64) float64 { return of(p, pick).Median }
		memory := "part of the broker"
		if m := median(func(n bridging.Numbers) float64 { return n.Memory }); m > 0 {
			memory = fmt.Sprintf("%.1f MiB", m)
		}
		fmt.Fprintf(&b, "| %s | %s | %.2f ms | %.2f ms | %.2f ms | %.0f µs | %.0f %% | %s |\n", p.Title(),
			thousands(int(median(func(n bridging.Numbers) float64 { return n.PerSecond }))),
			median(func(n bridging.Numbers) float64 { return n.P50 })/1000, median(func(n bridging.Numbers) float64 { return n.P99 })/1000,
			median(func(n bridging.Numbers) float64 { return n.Added99 })/1000, median(func(n bridging.Numbers) float64 { return n.BridgeCost })/1000,
			100*median(func(n bridging.Numbers) float64 { return n.Busy }), memory)
	}
	fmt.Fprintf(&b, "\n| to | our bridge beside | throughput, more is better | p99, less is better | added p99, less is better |\n|---|---|---|---|---|\n")
	paths := bridgePaths()
	for _, other := range paths {
		if other.Kind == bridging.Ours {
			continue
		}
		ours := bridging.Path{Destination: other.Destination}
		ratio := func(pick func(n bridging.Numbers) float64) string {
			var values []float64
			for round := range min(len(results[ours]), len(results[other])) {
				values = append(values, pick(results[ours][round])/pick(results[other][round]))
			}
			spread := report.SpreadOf(values)
			return fmt.Sprintf("%.2f× (%.2f to %.2f)", spread.Median, spread.Min, spread.Max)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", other.Destination, beside[other.Kind], ratio(func(n bridging.Numbers) float64 { return n.PerSecond }),
			ratio(func(n bridging.Numbers) float64 { return n.P99 }), ratio(func(n bridging.Numbers) float64 { return n.Added99 }))
	}
	for _, p := range paths {
		for round, n := range results[p] {
			for _, note := range n.Notes {
				fmt.Fprintf(&b, "\n* %s, round %d, %s", p.Title(), round+1, note)
			}
		}
	}
	return b.String()
}

// Marks in the page, between which the table stands.
const (
	bridgeBegin = "<!-- Written by make bench-bridge: from here. -->\n"
	bridgeEnd   = "<!-- Written by make bench-bridge: to here. -->\n"
)

func intoPage(path, table string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, found1 := strings.Cut(string(text), bridgeBegin)
	_, after, found2 := strings.Cut(rest, bridgeEnd)
	if !found1 || !found2 {
		return fmt.Errorf("%s: the marks are gone between which the table stands", path)
	}
	return os.WriteFile(path, []byte(before+bridgeBegin+"\n"+table+"\n"+bridgeEnd+after), 0o644) //nolint:gosec // documentation
}
