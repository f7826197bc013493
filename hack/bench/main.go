// SPDX-License-Identifier: Apache-2.0

// Command bench measures MQTT brokers side by side.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mqtt-operator/mqtt-operator/hack/bench/peer"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/proc"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/relay"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/report"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/scenario"
)

const usage = `bench measures MQTT brokers side by side, on this machine, on loopback.

It builds or installs the brokers, starts each in turn for the same scenario, puts load on it, ends it, and goes on to the
next. After several rounds it prints the numbers, and for each broker the ratio to Mosquitto of the same round.

  bench -quick                             ours and Mosquitto, one round: under two minutes
  bench -broker ours -scenario pairs       while tuning: all scenarios whose name begins so
  bench -write                             everything, with curves, into docs/benchmarks.md: up to 40 minutes

`

// settings are the flags.
type settings struct {
	brokers, scenarios, curves string
	curveBrokers               string
	rounds, clients, version   int
	most                       int
	seconds                    float64
	budget                     time.Duration
	quick, write               bool
	binary                     string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// errUsage says that the message is out already.
var errUsage = errors.New("wrong use")

func run(ctx context.Context, args []string, out, errs io.Writer) error {
	if len(args) > 0 && args[0] == "relay" {
		return serveRelay(ctx, args[1:], errs)
	}
	s, err := parse(args, errs)
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
	kit.Binary = s.binary
	return bench(ctx, s, kit, out)
}

func parse(args []string, errs io.Writer) (*settings, error) {
	s := &settings{}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.StringVar(&s.brokers, "broker", "", "brokers, with commas (default all): "+strings.Join(peer.Names(), ","))
	flags.StringVar(&s.scenarios, "scenario", "", "scenarios or their beginnings, with commas (default all; none for curves alone): "+strings.Join(scenario.Names(), ","))
	flags.IntVar(&s.rounds, "rounds", 0, "how many rounds (default 3, with -quick 1)")
	flags.Float64Var(&s.seconds, "seconds", 0, "how long a run is measured (default 3, with -quick 2); the open loop takes twice as long")
	flags.IntVar(&s.clients, "clients", 8000, "how many clients the scenario connect has, 1 to 100000")
	flags.IntVar(&s.version, "version", 4, "level of MQTT: 4 (3.1.1) or 5")
	flags.StringVar(&s.curves, "curves", "", "curves, with commas, or none (default all with -write, else none), of ours and Mosquitto unless -broker says otherwise: "+strings.Join(scenario.CurveNames(), ","))
	flags.IntVar(&s.most, "most", 1_000_000, "where curves end, at least 1000")
	flags.DurationVar(&s.budget, "budget", 40*time.Minute, "time for all of it; a round or a curve for which there is none left is left out, and said so")
	flags.BoolVar(&s.quick, "quick", false, "ours and Mosquitto, one short round, no curves")
	flags.BoolVar(&s.write, "write", false, "write docs/benchmarks.md and the curves beside it")
	flags.StringVar(&s.binary, "binary", "", "our broker, built already; empty builds it from this repository")
	flags.Usage = func() {
		_, _ = fmt.Fprint(errs, usage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil, err
	} else if err != nil {
		return nil, errUsage
	}
	complain := func(format string, args ...any) (*settings, error) {
		_, _ = fmt.Fprintf(errs, "bench: "+format+"\n", args...)
		return nil, errUsage
	}
	s.defaults()
	switch {
	case flags.NArg() > 0:
		return complain("%q is too much; see bench -help", flags.Arg(0))
	case s.version != 4 && s.version != 5:
		return complain("-version is 4 or 5")
	case s.rounds < 1 || s.rounds > 100:
		return complain("-rounds is 1 to 100")
	case s.seconds < 0.1 || s.seconds > 60:
		return complain("-seconds is 0.1 to 60")
	case s.most < 1000:
		return complain("-most is at least 1000")
	case s.clients < 1 || s.clients > 100_000:
		return complain("-clients is 1 to 100000")
	}
	return s, nil
}

func (s *settings) defaults() {
	rounds, seconds := 3, 3.0
	if s.quick {
		rounds, seconds = 1, 2
		if s.brokers == "" {
			s.brokers = "ours,mosquitto"
		}
	}
	if s.rounds == 0 {
		s.rounds = rounds
	}
	if s.seconds == 0 {
		s.seconds = seconds
	}
	if s.curves == "" {
		s.curves = "none"
		if s.write && !s.quick {
			s.curves = strings.Join(scenario.CurveNames(), ",")
		}
	}
	s.curveBrokers = s.brokers
	if s.brokers == "" {
		s.brokers, s.curveBrokers = strings.Join(peer.Names(), ","), "ours,mosquitto"
	}
	if s.scenarios == "" {
		s.scenarios = strings.Join(scenario.Names(), ",")
	}
}

// list splits a flag; "none" is an empty list.
func list(text string) []string {
	if text == "none" {
		return nil
	}
	return strings.Split(text, ",")
}

// moreFiles raises the limit on open files, for us and for the brokers, which inherit it.
func moreFiles() error {
	const wanted = 200_000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if limit.Cur >= wanted {
		return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) // children get what was asked for by name
	}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: wanted, Max: max(wanted, limit.Max)}) == nil {
		return nil
	}
	// Not root: as much as there is.
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: min(wanted, limit.Max), Max: limit.Max})
}

func serveRelay(ctx context.Context, args []string, errs io.Writer) error {
	flags := flag.NewFlagSet("relay", flag.ContinueOnError)
	flags.SetOutput(errs)
	listen := flags.String("listen", "127.0.0.1:1883", "loopback address")
	if flags.Parse(args) != nil {
		return errUsage
	}
	address, err := netip.ParseAddrPort(*listen)
	if err != nil {
		return err
	}
	if !address.Addr().IsLoopback() {
		return fmt.Errorf("%s can be reached from outside; the relay asks nobody for a password", address)
	}
	server, _, err := relay.Listen(address)
	if err != nil {
		return err
	}
	return server.Run(ctx)
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
		Version: byte(s.version), Seconds: s.seconds, Settle: 3 * time.Second, Clients: s.clients, Payload: 64, //nolint:gosec // 4 or 5
	}
	if s.quick {
		options.Settle = 1500 * time.Millisecond
	}
	document.Settings = describe(s, &options)
	peers, err = prepare(ctx, kit, peers, document)
	if err != nil {
		return err
	}
	r := &runner{kit: kit, options: options, document: document, begin: time.Now(), budget: s.budget}
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
		drawings, err := c.Run(ctx, r.kit, peers, r.options, s.most)
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
	return []string{
		fmt.Sprintf("MQTT %s, %d bytes of payload, %d rounds, %g s measured per run after a warm-up", name, o.Payload, s.rounds, o.Seconds),
		"closed loop: a sender of QoS 0 is at most 1,000 (pairs), 100 (1 → 500) or 50 (100 → 2) messages ahead of its slowest receiver, a sender of QoS 1 and 2 has 20 in flight; so nothing needs to be dropped, and each message is counted where it arrives",
		"open loop: 20 pairs, each message at its own time; latency counts from when it was due to when the receiver read it",
		fmt.Sprintf("connect: %s clients from loopback addresses, 64 in their handshake at once; memory %s after the last one", thousands(s.clients), o.Settle),
		"memory is the resident set of the broker's processes; per connection: less what it was just started",
	}
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
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

// runner goes through rounds.
type runner struct {
	kit      *peer.Kit
	options  scenario.Options
	document *report.Document
	begin    time.Time
	budget   time.Duration
	reserve  time.Duration // of it, for what comes after the rounds
	done     int
	total    int
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
	line := prefix
	for _, row := range report.Rows() {
		if value, found := outcome.Values[row.Name]; found {
			line += fmt.Sprintf("  %s %.*f %s", row.Name, row.Digits, value, row.Unit)
		}
	}
	if cpu, found := outcome.Values["broker-cpu"]; found {
		line += fmt.Sprintf("  [broker %.0f %%, generator %.0f %%]", cpu, outcome.Values["generator-cpu"])
	}
	for name, value := range outcome.Values {
		r.document.Results.Set(p.Name, name, round, value)
		r.document.Results.Set(p.Name, s.Name+"/"+name, round, value)
	}
	for _, note := range outcome.Notes {
		r.document.Results.Note(p.Name, s.Name, note)
		line += "; " + note
	}
	r.kit.Say("%s", line)
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
