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
	"strings"
	"syscall"
	"time"

	"github.com/mqtt-operator/mqtt-operator/hack/bench/peer"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/relay"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/scenario"
)

const usage = `bench measures MQTT brokers side by side, on this machine, on loopback.

It builds or installs the brokers, starts each in turn for the same scenario, puts load on it, ends it, and goes on to the
next. After several rounds it prints the numbers, and for each broker the ratio to Mosquitto of the same round.

  bench -quick                             ours and Mosquitto, one round: under two minutes
  bench -broker ours -scenario pairs       while tuning: all scenarios whose name begins so
  bench -write                             everything, with curves, into docs/benchmarks.md: up to 40 minutes
  bench bridge                             our bridge beside Mosquitto's; bench bridge -help

`

// settings are the flags.
type settings struct {
	brokers, scenarios, curves string
	curveBrokers               string
	rounds, clients, version   int
	ahead                      int
	most                       int
	seconds                    float64
	budget                     time.Duration
	quick, write, anyway       bool
	binary, turns              string
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
	if len(args) > 0 && args[0] == "bridge" {
		return runBridge(ctx, args[1:], out, errs)
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
	if !s.anyway {
		if err := kit.Lock(); err != nil {
			return err
		}
		defer kit.Unlock()
	}
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
	flags.IntVar(&s.ahead, "ahead", 0, "how many messages a sender of QoS 0 may be ahead of its slowest receiver, up to 10000 (default 1000 in pairs, 100 in fanout, 50 in fanin); the fewer, the less there is to do at once")
	flags.StringVar(&s.curves, "curves", "", "curves, with commas, or none (default all with -write, else none), of ours and Mosquitto unless -broker says otherwise: "+strings.Join(scenario.CurveNames(), ","))
	flags.IntVar(&s.most, "most", 1_000_000, "where curves end, at least 1000")
	flags.DurationVar(&s.budget, "budget", 40*time.Minute, "time for all of it; a round or a curve for which there is none left is left out, and said so")
	flags.BoolVar(&s.quick, "quick", false, "ours and Mosquitto, one short round, no curves")
	flags.BoolVar(&s.anyway, "anyway", false, "run although another bench runs")
	flags.BoolVar(&s.write, "write", false, "write docs/benchmarks.md and the curves beside it")
	flags.StringVar(&s.binary, "binary", "", "our broker, built already; empty builds it from this repository")
	flags.StringVar(&s.turns, "turns", "", "lock files, with commas, that are held (flock, exclusive) while a scenario of a round or a curve is measured, so that other work that holds them otherwise takes turns with the bench")
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
	case s.ahead < 0 || s.ahead > 10_000:
		return complain("-ahead is 0 to 10000")
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
