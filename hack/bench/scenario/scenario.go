// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mqtt-operator/mqtt-operator/hack/bench/load"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/peer"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/proc"
)

// Options are the same for all runs.
type Options struct {
	Version byte
	Seconds float64 // measured, per run
	Settle  time.Duration
	Clients int // of the scenario connect
	Payload int
	// Ahead, if not 0, replaces how far a sender of QoS 0 may be ahead of its slowest receiver.
	Ahead int
}

// Outcome is what one run tells.
type Outcome struct {
	Values map[string]float64 // by the names of rows and of Extras
	Notes  []string
}

// Scenario is one kind of run.
type Scenario struct {
	Name, Title string
	Task        peer.Task
	run         func(e *env) error
}

// env is one run.
type env struct {
	Options

	ctx     context.Context //nolint:containedctx // a run is one call; each of its steps would take the same
	peer    *peer.Peer
	kit     *peer.Kit
	task    peer.Task
	dir     string
	process *peer.Process
	bench   *load.Bench
	out     Outcome
}

func (e *env) set(name string, value float64) { e.out.Values[name] = value }

func (e *env) notef(format string, args ...any) {
	e.out.Notes = append(e.out.Notes, fmt.Sprintf(format, args...))
}

func (e *env) seconds() time.Duration { return time.Duration(e.Seconds * float64(time.Second)) }

// warm is how long load runs before it is measured.
func (e *env) warm() time.Duration { return min(time.Second, e.seconds()/3) }

// limit bounds a run, whatever the broker does.
const limit = 3 * time.Minute

// Run starts the broker, measures, and ends it.
func (s *Scenario) Run(ctx context.Context, k *peer.Kit, p *peer.Peer, o Options) (Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return start(ctx, k, p, o, s.Task, s.run)
}

func start(ctx context.Context, k *peer.Kit, p *peer.Peer, o Options, task peer.Task, measure func(e *env) error) (Outcome, error) {
	task.Version = o.Version
	e := &env{Options: o, ctx: ctx, peer: p, kit: k, task: task, out: Outcome{Values: map[string]float64{}}}
	// Below the cache, not in a temporary directory that may be in memory: what is stored must meet a disk.
	dir, err := os.MkdirTemp(k.Cache, "run-")
	if err != nil {
		return e.out, err
	}
	defer os.RemoveAll(dir)
	e.dir = dir
	if err := e.launch(); err != nil {
		return e.out, err
	}
	defer func() { e.process.Stop(3 * time.Second) }() // not the first one: a restart makes another
	if err := measure(e); err != nil {
		return e.out, e.explain(err)
	}
	if note := p.Note(task); note != "" {
		e.notef("%s", note)
	}
	return e.out, nil
}

// explain says what the broker said before it failed.
func (e *env) explain(err error) error {
	if dead := e.process.Alive(); dead != nil {
		err = dead
	} else if tail := e.process.Tail(); tail != "" {
		err = fmt.Errorf("%w\nthe broker's log ends with:\n%s", err, tail)
	}
	if e.ctx.Err() == nil {
		if kept := e.process.KeepLog(filepath.Join(e.kit.Cache, "failed-"+e.peer.Name+".log")); kept != "" {
			err = fmt.Errorf("%w\nall of it: %s", err, kept)
		}
	}
	return err
}

func (e *env) launch() error {
	process, err := e.peer.Start(e.ctx, e.kit, e.dir, e.task)
	if err == nil {
		e.process = process
	}
	return err
}

// connect makes the bench for this run; the caller closes it.
func (e *env) open() (err error) {
	e.bench, err = load.NewBench(e.process.Address, e.Version, e.Payload)
	return err
}

// window runs the load for the measured time and sets what it cost; it returns the time and the processor time of the
// broker.
func (e *env) window(measured func() error) (elapsed, cpu time.Duration, err error) {
	before, err := proc.CPU(e.process.Pid)
	if err != nil {
		return 0, 0, err
	}
	own, begin := proc.Own(), time.Now()
	if err := measured(); err != nil {
		return 0, 0, err
	}
	elapsed = time.Since(begin)
	after, err := proc.CPU(e.process.Pid)
	e.set("generator-cpu", 100*float64(proc.Own()-own)/float64(elapsed))
	e.set("broker-cpu", 100*float64(after-before)/float64(elapsed))
	return elapsed, after - before, err
}

// account says what went wrong with messages.
func (e *env) account() {
	b := e.bench
	for _, fault := range []struct {
		count uint64
		what  string
	}{{b.Lost, "lost"}, {b.Again, "twice or out of order"}, {b.Foreign, "not of this run"}} {
		if fault.count > 0 {
			e.notef("%d messages %s", fault.count, fault.what)
		}
	}
	if e.task.QoS > 0 && b.Granted < e.task.QoS {
		e.notef("QoS %d was granted instead of %d", b.Granted, e.task.QoS)
	}
}

// All are the scenarios in the order of the table.
func All() []*Scenario {
	var all []*Scenario
	for qos := range byte(3) {
		all = append(all, throughput(fmt.Sprintf("pairs-q%d", qos), fmt.Sprintf("50 pairs, QoS %d", qos), pairs(50, qos)))
	}
	for qos := range byte(2) {
		all = append(all, throughput(fmt.Sprintf("fanout-q%d", qos), fmt.Sprintf("1 → 500, QoS %d", qos), fanOut(500, qos)))
	}
	for qos := range byte(2) {
		all = append(all, throughput(fmt.Sprintf("fanin-q%d", qos), fmt.Sprintf("100 → 2 wildcard, QoS %d", qos), fanIn(100, 2, qos)))
	}
	return append(all,
		&Scenario{Name: "open", Title: "2,000 msg/s QoS 1, open loop", Task: peer.Task{QoS: 1}, run: openLoop},
		&Scenario{Name: "connect", Title: "connect and subscribe", Task: peer.Task{QoS: 1}, run: connect},
		&Scenario{Name: "durable", Title: "QoS 1 to an offline session", Task: peer.Task{QoS: 1, Durable: true}, run: durable},
		&Scenario{Name: "start", Title: "just started", run: justStarted},
	)
}

// Find picks scenarios by name; a name may be the beginning of several.
func Find(names []string) ([]*Scenario, error) {
	var picked []*Scenario
	for _, name := range names {
		found := false
		for _, s := range All() {
			if strings.HasPrefix(s.Name, name) {
				found = true
				if !slices.ContainsFunc(picked, func(p *Scenario) bool { return p.Name == s.Name }) {
					picked = append(picked, s)
				}
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no scenario %q; there are %s", name, strings.Join(Names(), ", "))
		}
	}
	return picked, nil
}

// Names are all names.
func Names() []string {
	var names []string
	for _, s := range All() {
		names = append(names, s.Name)
	}
	return names
}
