// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/mqtt-operator/mqtt-operator/hack/bench/load"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/proc"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/wire"
)

// Rate of the open loop, and how many pairs share it.
const (
	openRate  = 2000
	openPairs = 20
)

func histogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, int64(time.Minute), 3) }

func micros(h *hdrhistogram.Histogram, quantile float64) float64 {
	return float64(h.ValueAtQuantile(quantile)) / 1000
}

// openLoop measures latency under a load that does not wait for the broker.
func openLoop(e *env) error {
	if err := e.open(); err != nil {
		return err
	}
	defer e.bench.Close()
	if err := e.build(pairs(openPairs, 1)); err != nil {
		return err
	}
	return e.latency(openRate, 2*e.seconds(), "open")
}

// latency runs the open loop on the flows that are there.
func (e *env) latency(rate int, d time.Duration, name string) error {
	b := e.bench
	if err := b.OpenLoop(e.ctx, rate, e.warm()); err != nil {
		return err
	}
	if err := b.Drain(e.ctx, 3*time.Second); err != nil {
		return err
	}
	b.Latency, b.Late = histogram(), histogram()
	defer func() { b.Latency, b.Late = nil, nil }()
	_, _, err := e.window(func() error { return b.OpenLoop(e.ctx, rate, d) })
	if err != nil {
		return err
	}
	if err := b.Drain(e.ctx, 10*time.Second); err != nil {
		return err
	}
	e.account()
	e.set(name+"-p50", micros(b.Latency, 50))
	e.set(name+"-p99", micros(b.Latency, 99))
	e.set(name+"-p999", micros(b.Latency, 99.9))
	e.set(name+"-cpu", e.out.Values["broker-cpu"])
	e.set(name+"-late-p99", micros(b.Late, 99))
	return nil
}

// idle are clients with one subscription each.
func idle(from, to int) []*load.Client {
	var clients []*load.Client
	for i := from; i < to; i++ {
		clients = append(clients, &load.Client{ID: fmt.Sprintf("idle-%06d", i), Filters: []string{fmt.Sprintf("site/%d/device/%06d", i%100, i)}, QoS: 1})
	}
	return clients
}

// settled is the broker's memory once it has had time to calm down.
func (e *env) settled() (proc.Memory, error) {
	if e.bench != nil {
		if err := e.bench.For(e.ctx, e.Settle); err != nil {
			return proc.Memory{}, err
		}
	} else {
		select {
		case <-e.ctx.Done():
			return proc.Memory{}, e.ctx.Err()
		case <-time.After(e.Settle):
		}
	}
	return proc.Mem(e.process.Pid)
}

// connect measures how fast clients come, and what each costs while it does nothing.
func connect(e *env) error {
	before, err := e.settled()
	if err != nil {
		return err
	}
	if err := e.open(); err != nil {
		return err
	}
	defer e.bench.Close()
	clients := idle(0, e.Clients)
	elapsed, _, err := e.window(func() error { return e.bench.Connect(e.ctx, clients, handshakes) })
	if err != nil {
		return err
	}
	e.set("connect", float64(e.Clients)/elapsed.Seconds())
	after, err := e.settled()
	e.set("idle-memory", float64(after.RSS-before.RSS)/float64(e.Clients)/1024)
	e.set("idle-memory-pss", float64(after.PSS-before.PSS)/float64(e.Clients)/1024)
	return err
}

// durable measures acknowledgements of messages that an offline session must keep, and then looks whether it has them.
func durable(e *env) error {
	stored, err := e.store(0, true)
	if err != nil {
		return err
	}
	e.set("durable", stored.rate)
	got, missing, err := e.collect(stored)
	if err != nil {
		return err
	}
	e.set("durable-drain", got)
	if missing > 0 {
		e.notef("%d of %d acknowledged messages had not come when the session was back for %s", missing, stored.acked, collectTime)
	}
	return nil
}

const (
	durablePublishers = 50
	keeper            = "keeper"
	collectTime       = 10 * time.Second
)

// storedMessages are what a session should find.
type storedMessages struct {
	acked uint64
	rate  float64
}

// store publishes to a session that nobody uses: count messages, or for the measured time. A fresh one is made before.
func (e *env) store(count uint64, fresh bool) (storedMessages, error) {
	if err := e.open(); err != nil {
		return storedMessages{}, err
	}
	defer e.bench.Close()
	b := e.bench
	if fresh {
		absent := &load.Client{ID: keeper, Keep: true, Filters: []string{"bench/keep/#"}, QoS: 1}
		if err := b.Connect(e.ctx, []*load.Client{absent}, 1); err != nil {
			return storedMessages{}, err
		}
		absent.Hang()
	}
	var flows []*load.Flow
	var senders []*load.Client
	for i := range durablePublishers {
		senders = append(senders, &load.Client{ID: fmt.Sprintf("sender-%d", i)})
	}
	if err := b.Connect(e.ctx, senders, handshakes); err != nil {
		return storedMessages{}, err
	}
	for i, sender := range senders {
		flows = append(flows, b.Flow(sender, load.FlowOptions{
			QoS: 1, Topics: []string{fmt.Sprintf("bench/keep/%02d", i)}, Window: window20, Limit: count / durablePublishers,
		}))
	}
	acked := func() (sum uint64) {
		for _, f := range flows {
			sum += f.Acked
		}
		return sum
	}
	b.Start()
	if count > 0 {
		begin := time.Now()
		err := b.Until(e.ctx, limit, func() bool { return acked() >= count/durablePublishers*durablePublishers })
		return storedMessages{acked: acked(), rate: float64(acked()) / time.Since(begin).Seconds()}, err
	}
	if err := b.For(e.ctx, e.warm()); err != nil {
		return storedMessages{}, err
	}
	before := acked()
	elapsed, cpu, err := e.window(func() error { return b.For(e.ctx, e.seconds()) })
	if err != nil {
		return storedMessages{}, err
	}
	measured := acked() - before
	if measured > 0 {
		e.set("broker-ns", float64(cpu)/float64(measured))
	}
	if err := b.Drain(e.ctx, 5*time.Second); err != nil {
		return storedMessages{}, err
	}
	return storedMessages{acked: acked(), rate: float64(measured) / elapsed.Seconds()}, nil
}

// collect brings the session back and reads what it has; a server that sends nothing for a second is done.
func (e *env) collect(stored storedMessages) (perSecond float64, missing uint64, err error) {
	if err := e.open(); err != nil {
		return 0, 0, err
	}
	defer e.bench.Close()
	b := e.bench
	var count uint64
	last := b.Now()
	back := &load.Client{ID: keeper, Keep: true, Message: func(wire.Message) {
		count++
		last = b.Now()
	}}
	begin := b.Now()
	if err := b.Connect(e.ctx, []*load.Client{back}, 1); err != nil {
		return 0, 0, err
	}
	if !back.Present {
		e.notef("the session was gone")
	}
	err = b.Until(e.ctx, collectTime, func() bool { return count >= stored.acked || b.Now()-last > int64(3*time.Second) })
	if count < stored.acked {
		missing = stored.acked - count
	}
	if last > begin {
		perSecond = float64(count) / (float64(last-begin) / 1e9)
	}
	return perSecond, missing, err
}

// justStarted measures what a broker weighs that has nothing to do.
func justStarted(e *env) error {
	memory, err := e.settled()
	e.set("start-rss", float64(memory.RSS)/(1<<20))
	e.set("start-pss", float64(memory.PSS)/(1<<20))
	return err
}
