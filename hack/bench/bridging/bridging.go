// SPDX-License-Identifier: Apache-2.0

package bridging

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/mqtt-operator/mqtt-operator/hack/bench/load"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/peer"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/proc"
)

// Options are the same for all runs.
type Options struct {
	Version  byte // of MQTT, everywhere
	Seconds  float64
	Payload  int
	Inflight int // what a bridge has on its way, at most
	Rate     int // messages a second while latency is measured
}

// Numbers are what one run gives.
type Numbers struct {
	PerSecond  float64 // messages of QoS 1 that arrived
	P50, P99   float64 // microseconds from when a message was due until the receiver had it
	Added99    float64 // microseconds from when a subscriber of the source had it until the receiver had it
	Memory     float64 // of the bridge's process, MiB; 0 where that is the source
	Busy       float64 // share of the time in which the destination's process had a processor, while messages came as fast as they could; Mosquitto has one thread
	BridgeCost float64 // processor time of all that is no generator, nanoseconds for each message
	Notes      []string
}

// Kind is what stands between the publishers and the destination.
type Kind int

const (
	// Ours is our broker, and our bridge from it.
	Ours Kind = iota
	// Mosquittos is our broker, and a Mosquitto whose bridge fetches there and hands on: the same path by another bridge.
	Mosquittos
	// Inside is a Mosquitto as the source, which hands on by the bridge inside it.
	Inside
)

// Path is a way that is measured.
type Path struct {
	Destination string // a peer's name
	Kind        Kind
}

// Title of a path.
func (p Path) Title() string {
	switch p.Kind {
	case Mosquittos:
		return "ours → Mosquitto's bridge → " + p.Destination
	case Inside:
		return "Mosquitto with the bridge inside → " + p.Destination
	default:
		return "ours → our bridge → " + p.Destination
	}
}

const (
	flows  = 10
	window = 20
	ahead  = 1000 // of each flow: enough that a bridge has always something to do
)

// limit bounds a run, whatever the brokers do.
const limit = 2 * time.Minute

// Run measures one path.
func Run(ctx context.Context, k *peer.Kit, p Path, o Options) (n Numbers, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// Below the cache, not in a temporary directory that may be in memory: what is stored must meet a disk.
	dir, err := os.MkdirTemp(k.Cache, "run-")
	if err != nil {
		return n, err
	}
	defer os.RemoveAll(dir)
	r := &run{Options: o, ctx: ctx, kit: k, dir: dir, numbers: &n}
	defer r.stop()
	if err := r.start(p); err != nil {
		return n, err
	}
	for _, measure := range []func() error{r.throughput, r.latency} {
		if err := measure(); err != nil {
			return n, r.explain(err)
		}
	}
	// A bridge that had something to say had something else to do.
	if r.bridge != nil {
		if tail := r.bridge.Tail(); strings.Contains(tail, "level=WARN") || strings.Contains(tail, "level=ERROR") {
			n.Notes = append(n.Notes, "the bridge said: "+strings.ReplaceAll(tail, "\n", " / "))
		}
	}
	return n, nil
}

// run is one path that runs.
type run struct {
	Options

	ctx                         context.Context //nolint:containedctx // a run is one call; each of its steps would take the same
	kit                         *peer.Kit
	dir                         string
	source, bridge, destination *peer.Process
	numbers                     *Numbers
}

func (r *run) start(p Path) error {
	place := func(name string) (string, error) {
		dir := filepath.Join(r.dir, name)
		return dir, os.Mkdir(dir, 0o700)
	}
	task := peer.Task{Version: r.Version, QoS: 1}
	found, err := peer.Find([]string{p.Destination, "ours"})
	if err != nil {
		return err
	}
	dir, err := place("destination")
	if err != nil {
		return err
	}
	if r.destination, err = found[0].Start(r.ctx, r.kit, dir, task); err != nil {
		return err
	}
	told := peer.Bridging{To: r.destination.Address, Version: r.Version, Inflight: r.Inflight}
	from := found[1]
	if p.Kind == Inside {
		from = peer.BridgingMosquitto(told)
	}
	if dir, err = place("source"); err != nil {
		return err
	}
	if r.source, err = from.Start(r.ctx, r.kit, dir, task); err != nil {
		return err
	}
	if p.Kind != Inside {
		if dir, err = place("bridge"); err != nil {
			return err
		}
		if p.Kind == Mosquittos {
			told.From = r.source.Address
			r.bridge, err = peer.BridgingMosquitto(told).Start(r.ctx, r.kit, dir, task)
		} else {
			r.bridge, err = r.kit.StartBridge(dir, r.source.Address, told)
		}
		if err != nil {
			return err
		}
	}
	if err := passes(r.ctx, r.source.Address, r.destination.Address, r.Version); err != nil {
		return r.explain(err)
	}
	return nil
}

// all are the processes that run.
func (r *run) all() []*peer.Process {
	var all []*peer.Process
	for _, p := range []*peer.Process{r.source, r.bridge, r.destination} {
		if p != nil {
			all = append(all, p)
		}
	}
	return all
}

func (r *run) stop() {
	for _, p := range r.all() {
		p.Stop(3 * time.Second)
	}
}

// explain says what the processes said before it failed.
func (r *run) explain(err error) error {
	for _, p := range r.all() {
		if dead := p.Alive(); dead != nil {
			err = fmt.Errorf("%w\n%s: %w", err, filepath.Base(p.Dir), dead)
		} else if tail := p.Tail(); tail != "" {
			err = fmt.Errorf("%w\nthe log of the %s ends with:\n%s", err, filepath.Base(p.Dir), tail)
		}
	}
	return err
}

func (r *run) cpu() (sum time.Duration, err error) {
	for _, p := range r.all() {
		t, err := proc.CPU(p.Pid)
		if err != nil {
			return 0, err
		}
		sum += t
	}
	return sum, nil
}

// open makes publishers at the source and receivers at the destination; with beside, there is a receiver at the source, too.
func (r *run) open(kind string, beside bool) (*load.Bench, error) {
	b, err := load.NewBench(r.destination.Address, r.Version, r.Payload)
	if err != nil {
		return nil, err
	}
	var receivers, senders []*load.Client
	topic := func(i int) string { return fmt.Sprintf("bench/%s/%02d", kind, i) }
	// Where it is about throughput, receivers take QoS 0: else it would be they on whom a destination spends its time.
	slot, qos, options := 0, byte(0), load.FlowOptions{QoS: 1, Receivers: 1, Ahead: ahead, Window: window}
	if beside {
		slot, qos, options.Receivers = 1, 1, 2
	}
	for i := range flows {
		if beside {
			receivers = append(receivers, &load.Client{ID: fmt.Sprintf("%s-beside-%d", kind, i), Filters: []string{topic(i)}, QoS: 1, Server: r.source.Address})
		}
		receivers = append(receivers, &load.Client{ID: fmt.Sprintf("%s-receiver-%d", kind, i), Filters: []string{topic(i)}, QoS: qos, Slot: slot})
		senders = append(senders, &load.Client{ID: fmt.Sprintf("%s-sender-%d", kind, i), Server: r.source.Address})
	}
	for _, clients := range [][]*load.Client{receivers, senders} {
		if err := b.Connect(r.ctx, clients, flows); err != nil {
			b.Close()
			return nil, err
		}
	}
	for i, sender := range senders {
		options.Topics = []string{topic(i)}
		b.Flow(sender, options)
	}
	return b, nil
}

func (r *run) seconds() time.Duration { return time.Duration(r.Seconds * float64(time.Second)) }

// warm is how long load runs before it is measured.
func (r *run) warm() time.Duration { return min(time.Second, r.seconds()/3) }

// throughput is a closed loop. While it runs the generator waits for its turn; latency could not be measured so.
func (r *run) throughput() (err error) {
	b, err := r.open("fast", false)
	if err != nil {
		return err
	}
	defer b.Close()
	undo, err := proc.Batch()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, undo()) }()
	b.Start()
	if err := b.For(r.ctx, r.warm()); err != nil {
		return err
	}
	if err := b.Fill(r.ctx, 10*time.Second); err != nil {
		return err
	}
	had, used, begin := b.Delivered, time.Duration(0), time.Now()
	if used, err = r.cpu(); err != nil {
		return err
	}
	busy, err := proc.CPU(r.destination.Pid)
	if err != nil {
		return err
	}
	if err := b.For(r.ctx, r.seconds()); err != nil {
		return err
	}
	elapsed, count := time.Since(begin), float64(b.Delivered-had)
	after, err := r.cpu()
	if err != nil {
		return err
	}
	at, err := proc.CPU(r.destination.Pid)
	if err != nil {
		return err
	}
	r.numbers.PerSecond, r.numbers.Busy = count/elapsed.Seconds(), (at-busy).Seconds()/elapsed.Seconds()
	r.numbers.BridgeCost = float64(after-used) / max(1, count)
	if r.bridge != nil {
		memory, err := proc.Mem(r.bridge.Pid)
		if err != nil {
			return err
		}
		r.numbers.Memory = float64(memory.RSS) / (1 << 20)
	}
	if err := b.Drain(r.ctx, 10*time.Second); err != nil {
		return err
	}
	r.account("throughput", b)
	return nil
}

// latency is an open loop.
func (r *run) latency() error {
	b, err := r.open("even", true)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := b.OpenLoop(r.ctx, r.Rate, r.warm()); err != nil {
		return err
	}
	if err := b.Drain(r.ctx, 5*time.Second); err != nil {
		return err
	}
	b.Latency, b.Between = hdrhistogram.New(1, int64(time.Minute), 3), hdrhistogram.New(1, int64(time.Minute), 3)
	if err := b.OpenLoop(r.ctx, r.Rate, 2*r.seconds()); err != nil {
		return err
	}
	if err := b.Drain(r.ctx, 10*time.Second); err != nil {
		return err
	}
	micros := func(h *hdrhistogram.Histogram, q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
	r.numbers.P50, r.numbers.P99, r.numbers.Added99 = micros(b.Latency, 50), micros(b.Latency, 99), micros(b.Between, 99)
	r.account("latency", b)
	return nil
}

// account says what went wrong with messages.
func (r *run) account(what string, b *load.Bench) {
	for _, fault := range []struct {
		count uint64
		what  string
	}{{b.Lost, "lost"}, {b.Again, "twice or out of order"}, {b.Foreign, "not of this run"}} {
		if fault.count > 0 {
			r.numbers.Notes = append(r.numbers.Notes, fmt.Sprintf("%s: %d messages %s", what, fault.count, fault.what))
		}
	}
}
