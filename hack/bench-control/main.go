// SPDX-License-Identifier: Apache-2.0

// Command bench-control measures what it takes to keep brokers and users as their objects say: how soon a new user can
// connect, what is written for it, what the operator and the broker hold in memory, how a crowd of clients gets in again,
// and that nothing is written where nothing has changed.
//
// Everything is real but the node: kube-apiserver and etcd, the operator and the brokers as processes of their own, built
// from this tree. In the place of a StatefulSet controller and a kubelet stands node.go. It gives each broker a loopback
// address of its own, where the operator finds the admin endpoint at its usual port.
//
//	users  one broker, up to 10,000 users
//	storm  2,000 clients at once; no operator
//	fleet  up to 200 brokers with 25 users each; their pods are admin endpoints inside this program
//	scale  the same with up to 1,000 brokers of 10 users each
//	acl    the Go benchmark of an access check
//
// It ends by itself, and with it every process that it started. KUBEBUILDER_ASSETS says where kube-apiserver and etcd are.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

const usage = `bench-control measures the control plane on a real API server, on this machine, on loopback.

  bench-control -quick            a small form of everything: two minutes
  bench-control -part users       one part: users, storm, fleet, scale or acl, with commas
  bench-control -write            everything, into docs/benchmarks-control.md: half an hour
  bench-control -write -part acl  one part; the others keep the section that they have there

`

// settings are the flags, and what follows from them.
type settings struct {
	parts []string
	// profile is where profiles of the operator go, empty for nowhere.
	profile      string
	quick, write bool
	budget       time.Duration

	// users are the sizes at which one broker is measured, samples how many users are added at each.
	users, samples []int
	clients        int
	// fleet and scale are two forms of many brokers.
	fleet, scale shape
}

// shape is how many brokers, each with how many users.
type shape struct {
	// sizes are the numbers of brokers at which is measured; the changes are made at the last.
	sizes              []int
	perBroker, changes int
	// memory is the most that the operator is to hold, in bytes; 0 where nothing is asked.
	memory int64
}

func allParts() []string { return []string{"acl", "storm", "users", "fleet", "scale"} }

// errUsage says that the message is out already.
var errUsage = errors.New("wrong use")

func main() {
	log.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "bench-control:", err)
		os.Exit(1)
	}
}

func parse(args []string, errs io.Writer) (*settings, error) {
	s, parts := &settings{}, ""
	flags := flag.NewFlagSet("bench-control", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.StringVar(&parts, "part", "", "parts, with commas (default all): "+strings.Join(allParts(), ","))
	flags.BoolVar(&s.quick, "quick", false, "a small form: it shows that all works, its numbers are no measure")
	flags.BoolVar(&s.write, "write", false, "write each part into docs/benchmarks-control.md when it has ended")
	flags.DurationVar(&s.budget, "budget", 45*time.Minute, "after this time it gives up")
	flags.StringVar(&s.profile, "profile", "", "directory for profiles of the operator (go tool pprof) at each size of part users: heap.SIZE, and cpu.SIZE while single users come")
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
		_, _ = fmt.Fprintf(errs, "bench-control: "+format+"\n", args...)
		return nil, errUsage
	}
	s.parts = allParts()
	if parts != "" {
		s.parts = strings.Split(parts, ",")
	}
	for _, part := range s.parts {
		if !slices.Contains(allParts(), part) {
			return complain("-part %q is none of %s", part, strings.Join(allParts(), ", "))
		}
	}
	switch {
	case flags.NArg() > 0:
		return complain("%q is too much; see bench-control -help", flags.Arg(0))
	case s.budget < time.Minute:
		return complain("-budget is at least 1m")
	case s.write && s.quick:
		return complain("-write wants all of it: leave out -quick")
	}
	s.size()
	return s, nil
}

// size fills in how much of everything.
func (s *settings) size() {
	s.users, s.samples = []int{100, 1000, 10_000}, []int{30, 30, 200}
	s.clients = 2000
	s.fleet = shape{sizes: []int{10, 50, 200}, perBroker: 25, changes: 100}
	s.scale = shape{sizes: []int{10, 100, 1000}, perBroker: 10, changes: 50, memory: 300 << 20}
	if s.quick {
		s.users, s.samples = []int{50, 300}, []int{10, 20}
		s.clients = 200
		s.fleet = shape{sizes: []int{5, 20}, perBroker: 5, changes: 20}
		s.scale = shape{sizes: []int{5, 30}, perBroker: 2, changes: 5, memory: 300 << 20}
	}
}

func run(ctx context.Context, args []string, out, errs io.Writer) error {
	s, err := parse(args, errs)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.budget, errors.New("the time of -budget is over"))
	defer cancel()
	b, err := newBench(ctx, s, errs)
	if err != nil {
		return err
	}
	defer b.close()
	parts := map[string]func(context.Context) error{
		"users": b.measureUsers, "storm": b.measureStorm, "acl": b.measureACL,
		"fleet": func(ctx context.Context) error { return b.measureFleet(ctx, "fleet", s.fleet) },
		"scale": func(ctx context.Context) error { return b.measureFleet(ctx, "scale", s.scale) },
	}
	for _, name := range s.parts {
		b.sayf("%s", name)
		b.report = newReport(name, time.Now())
		if err := parts[name](ctx); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = fmt.Errorf("%w (%w)", err, cause)
			}
			return fmt.Errorf("%s: %w", name, err)
		}
		b.report.Text(out)
		if !s.write {
			continue
		}
		if err := b.writePage(); err != nil {
			return err
		}
	}
	return nil
}
