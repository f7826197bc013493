// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/mqtt-operator/mqtt-operator/hack/bench/load"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/peer"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/plot"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/proc"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/wire"
)

// curveLimit bounds one broker's part of a curve.
const curveLimit = 5 * time.Minute

// Drawing is a chart with the words below it.
type Drawing struct {
	Name  string // of the file
	Chart plot.Chart
	Notes []string
}

// Curve measures how a cost grows.
type Curve struct {
	Name     string
	drawings []Drawing
	// kinds of runs; each makes its own lines. An empty one is the only one.
	kinds []string
	task  peer.Task
	only  string // the one broker that takes part
	run   func(e *env, c *trace) error
}

// trace is one run of a curve.
type trace struct {
	kind string
	most int
	step func(text string)
	// point adds to a line of a drawing; label tells a run's lines apart, and the second one is dashed.
	point func(drawing int, label string, dashed bool, x, y float64)
}

// steps are the sizes of a curve, up to the most that was asked for.
func (c *trace) steps(all ...int) []int {
	return slices.DeleteFunc(all, func(n int) bool { return n > c.most })
}

// Curves in the order of the report.
func Curves() []*Curve {
	return []*Curve{
		{
			Name: "subscriptions", kinds: []string{"distinct", "wildcards"}, run: subscriptions,
			drawings: []Drawing{
				{Name: "subscriptions", Chart: plot.Chart{Title: "Throughput of one pair beside subscriptions of others", X: "subscriptions", Y: "msg/s, QoS 0", LogX: true, LogY: true}, Notes: []string{
					"One publisher takes turns through 1,000 topics, one subscriber gets all. Distinct filters are like `site/17/temp`, wildcards like `+/w17/#`, held by up to 1,000 clients.",
				}},
				{Name: "subscriptions-memory", Chart: plot.Chart{Title: "Memory beside subscriptions", X: "subscriptions", Y: "RSS, MiB", LogX: true, LogY: true}},
			},
		},
		{
			Name: "connections", run: connections,
			drawings: []Drawing{
				{Name: "connections-memory", Chart: plot.Chart{Title: "Memory beside idle connections", X: "connections", Y: "RSS, MiB"}, Notes: []string{
					"Each connection has one subscription of its own.",
				}},
				{Name: "connections-latency", Chart: plot.Chart{Title: "p99 at 2,000 msg/s beside idle connections", X: "connections", Y: "p99, µs", LogY: true}, Notes: []string{
					"QoS 1, 20 pairs, open loop.",
				}},
			},
		},
		{
			Name: "retained", task: peer.Task{QoS: 1, Durable: true}, run: retained,
			drawings: []Drawing{
				{Name: "retained", Chart: plot.Chart{Title: "Subscribing beside retained messages", X: "retained messages", Y: "ms until the last has come", LogX: true, LogY: true}, Notes: []string{
					"Median of 20 subscriptions to one topic each, and of 5 to a filter like `r/0017/+` with 1,000 messages.",
				}},
			},
		},
		{
			Name: "restart", task: peer.Task{QoS: 1, Durable: true}, only: "ours", run: restart,
			drawings: []Drawing{
				{Name: "restart", Chart: plot.Chart{Title: "Restart with messages stored for an offline session", X: "stored messages", Y: "ms until a client is welcome", LogX: true, LogY: true}, Notes: []string{
					"From the start of the process to the CONNACK of a first client, after SIGTERM and after kill -9.",
				}},
			},
		},
	}
}

// CurveNames are all names.
func CurveNames() []string {
	var names []string
	for _, c := range Curves() {
		names = append(names, c.Name)
	}
	return names
}

// FindCurves picks curves by name.
func FindCurves(names []string) ([]*Curve, error) {
	var picked []*Curve
	for _, name := range names {
		all := Curves()
		at := slices.IndexFunc(all, func(c *Curve) bool { return c.Name == name })
		if at < 0 {
			return nil, fmt.Errorf("there is no curve %q; there are %s", name, strings.Join(CurveNames(), ", "))
		}
		picked = append(picked, all[at])
	}
	return picked, nil
}

// Run measures a curve on brokers, one after another, up to most things, and returns its drawings.
func (c *Curve) Run(ctx context.Context, k *peer.Kit, peers []*peer.Peer, o Options, most int) ([]Drawing, error) {
	drawings := slices.Clone(c.drawings)
	kinds := c.kinds
	if kinds == nil {
		kinds = []string{""}
	}
	begin := time.Now()
	for number, p := range peers {
		if c.only != "" && p.Name != c.only {
			continue
		}
		task := c.task
		task.Version = o.Version
		if why := p.Unable(task); why != "" {
			drawings[0].Notes = append(drawings[0].Notes, fmt.Sprintf("%s: %s.", p.Title, why))
			continue
		}
		for at, kind := range kinds {
			line := trace{kind: kind, most: most}
			line.step = func(text string) {
				k.Say("%4.0fs  curve %-14s %-12s %-10s %s", time.Since(begin).Seconds(), c.Name, p.Name, kind, text)
			}
			line.point = func(drawing int, label string, dashed bool, x, y float64) {
				words := slices.DeleteFunc([]string{p.Name, kind, label}, func(word string) bool { return word == "" })
				drawings[drawing].add(strings.Join(words, ", "), number, dashed || at > 0, plot.Point{X: x, Y: y})
			}
			limited, cancel := context.WithTimeout(ctx, curveLimit)
			_, err := start(limited, k, p, o, task, func(e *env) error { return c.run(e, &line) })
			cancel()
			if ctx.Err() != nil {
				return drawings, ctx.Err()
			}
			if err != nil {
				text, _, _ := strings.Cut(err.Error(), "\n")
				line.step("failed: " + err.Error())
				drawings[0].Notes = append(drawings[0].Notes, strings.TrimSpace(p.Name+" "+kind)+" ended early: "+text+".")
			}
		}
	}
	return drawings, nil
}

// add a point to the line of that name.
func (d *Drawing) add(name string, color int, dashed bool, p plot.Point) {
	series := &d.Chart.Series
	at := slices.IndexFunc(*series, func(s plot.Series) bool { return s.Name == name })
	if at < 0 {
		at = len(*series)
		*series = append(*series, plot.Series{Name: name, Color: color, Dashed: dashed})
	}
	(*series)[at].Points = append((*series)[at].Points, p)
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// subscriptions measures one pair while others have more and more subscriptions.
func subscriptions(e *env, c *trace) error {
	if err := e.open(); err != nil {
		return err
	}
	defer e.bench.Close()
	b := e.bench
	filter := func(i int) string { return fmt.Sprintf("site/%d/temp", i) }
	if c.kind == "wildcards" {
		filter = func(i int) string { return fmt.Sprintf("+/w%d/#", i) }
	}
	var topics []string
	for i := range 1000 {
		topics = append(topics, fmt.Sprintf("pair/%03d/v", i))
	}
	sender := &load.Client{ID: "sender"}
	pair := []*load.Client{{ID: "receiver", Filters: []string{"pair/+/v"}}, sender}
	if err := b.Connect(e.ctx, pair, 2); err != nil {
		return err
	}
	b.Flow(sender, load.FlowOptions{Topics: topics, Receivers: 1, Ahead: pairAhead})
	holders := make([]*load.Client, min(1000, c.most))
	for i := range holders {
		holders[i] = &load.Client{ID: fmt.Sprintf("holder-%d", i)}
	}
	if err := b.Connect(e.ctx, holders, handshakes); err != nil {
		return err
	}
	have := 0
	for _, n := range c.steps(1_000, 10_000, 100_000, 1_000_000) {
		begin := time.Now()
		more := make([][]string, len(holders))
		for ; have < n; have++ {
			more[have%len(holders)] = append(more[have%len(holders)], filter(have))
		}
		// Not all at once: what waits for SUBACK is no part of the question.
		for i := 0; i < len(holders); i += handshakes {
			for j := i; j < min(len(holders), i+handshakes); j++ {
				if len(more[j]) > 0 {
					holders[j].Subscribe(more[j])
				}
			}
			if err := b.Settled(e.ctx, time.Minute); err != nil {
				return err
			}
		}
		took := time.Since(begin)
		rate, err := e.measure()
		if err != nil {
			return err
		}
		memory, err := e.settled()
		if err != nil {
			return err
		}
		c.point(0, "", false, float64(n), rate)
		c.point(1, "", false, float64(n), mib(memory.RSS))
		c.step(fmt.Sprintf("%d subscriptions (%.1f s): %.0f msg/s, RSS %.0f MiB", n, took.Seconds(), rate, mib(memory.RSS)))
	}
	return nil
}

// connections measures memory and latency while more and more clients do nothing.
func connections(e *env, c *trace) error {
	if err := e.open(); err != nil {
		return err
	}
	defer e.bench.Close()
	if err := e.build(pairs(openPairs, 1)); err != nil {
		return err
	}
	have := 0
	for _, n := range c.steps(1000, 2000, 5000, 10_000, 15_000) {
		if err := e.bench.Connect(e.ctx, idle(have, n), handshakes); err != nil {
			return err
		}
		have = n
		memory, err := e.settled()
		if err != nil {
			return err
		}
		if err := e.latency(openRate, e.seconds(), "open"); err != nil {
			return err
		}
		c.point(0, "", false, float64(n), mib(memory.RSS))
		c.point(1, "", false, float64(n), e.out.Values["open-p99"])
		c.step(fmt.Sprintf("%d connections: RSS %.1f MiB, p50 %.0f µs, p99 %.0f µs", n, mib(memory.RSS), e.out.Values["open-p50"], e.out.Values["open-p99"]))
	}
	return nil
}

// Topics of retained messages: r/0000/000 and so on.
const (
	retainedTopic      = "r/0000/000"
	retainedPublishers = 10
)

func digits(text []byte, n uint64) {
	for i := len(text) - 1; i >= 0; i-- {
		text[i] = byte('0' + n%10)
		n /= 10
	}
}

func patchRetained(topic []byte, n uint64) {
	digits(topic[2:6], n/1000)
	digits(topic[7:10], n%1000)
}

// retained measures how long a subscriber waits for retained messages among more and more of them.
func retained(e *env, c *trace) error {
	if err := e.open(); err != nil {
		return err
	}
	defer e.bench.Close()
	b := e.bench
	count, last := 0, int64(0)
	reader := &load.Client{ID: "reader", Message: func(wire.Message) { count, last = count+1, b.Now() }}
	clients := []*load.Client{reader}
	for i := range retainedPublishers {
		clients = append(clients, &load.Client{ID: fmt.Sprintf("sender-%d", i)})
	}
	if err := b.Connect(e.ctx, clients, handshakes); err != nil {
		return err
	}
	var flows []*load.Flow
	for i, sender := range clients[1:] {
		flows = append(flows, b.Flow(sender, load.FlowOptions{
			QoS: 1, Retain: true, Topics: []string{retainedTopic}, Window: 500,
			Patch: func(topic []byte, n uint64) { patchRetained(topic, n*retainedPublishers+uint64(i)) }, //nolint:gosec // few
		}))
	}
	// wait subscribes, and tells the milliseconds until so many messages have come.
	wait := func(filter string, messages int) (float64, error) {
		count = 0
		begin := b.Now()
		reader.Subscribe([]string{filter})
		err := b.Until(e.ctx, 20*time.Second, func() bool { return count >= messages })
		if err == nil && count < messages {
			err = fmt.Errorf("%d of %d retained messages came", count, messages)
		}
		took := float64(last-begin) / 1e6
		if err == nil {
			err = b.Settled(e.ctx, 20*time.Second)
		}
		return took, err
	}
	for step, n := range c.steps(10_000, 100_000, 1_000_000) {
		begin := time.Now()
		for _, f := range flows {
			f.Limit = uint64(n) / retainedPublishers //nolint:gosec // positive
		}
		b.Start()
		done := func() bool {
			return !slices.ContainsFunc(flows, func(f *load.Flow) bool { return f.Acked < f.Limit })
		}
		if err := b.Until(e.ctx, 2*time.Minute, done); err != nil {
			return err
		}
		if !done() {
			return fmt.Errorf("%d messages were not stored within two minutes", n)
		}
		took := time.Since(begin)
		one, many, err := subscribeTimes(wait, n, step)
		if err != nil {
			return err
		}
		c.point(0, "1 topic", false, float64(n), one)
		c.point(0, "1,000 by +", true, float64(n), many)
		c.step(fmt.Sprintf("%d retained (%.1f s): %.2f ms for one, %.2f ms for 1,000", n, took.Seconds(), one, many))
	}
	return nil
}

// subscribeTimes are the medians for one topic among n, and for filters with 1,000. Each filter is used once: some brokers
// send nothing for one that is there.
func subscribeTimes(wait func(filter string, messages int) (float64, error), n, step int) (one, many float64, err error) {
	var ones, manies []float64
	for range 20 {
		topic := []byte(retainedTopic)
		patchRetained(topic, rand.Uint64N(uint64(n))) //nolint:gosec // no secret
		ms, err := wait(string(topic), 1)
		if err != nil {
			return 0, 0, err
		}
		ones = append(ones, ms)
	}
	for i := range 5 {
		ms, err := wait(fmt.Sprintf("r/%04d/+", 10*step+i), 1000)
		if err != nil {
			return 0, 0, err
		}
		manies = append(manies, ms)
	}
	return median(ones), median(manies), nil
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// restart measures how long a broker takes to come back with what it has stored.
func restart(e *env, c *trace) error {
	have := uint64(0)
	for _, n := range c.steps(10_000, 100_000, 1_000_000) {
		stored, err := e.store(uint64(n)-have, have == 0) //nolint:gosec // steps grow
		if err != nil {
			return err
		}
		have += stored.acked
		var took [2]time.Duration
		for i, end := range []func(){func() { e.process.Stop(time.Minute) }, func() { e.process.Kill() }} {
			end()
			begin := time.Now()
			if err := e.launch(); err != nil {
				return err
			}
			took[i] = time.Since(begin)
			c.point(0, []string{"stopped", "killed"}[i], i > 0, float64(n), float64(took[i])/1e6)
		}
		memory, err := proc.Mem(e.process.Pid)
		if err != nil {
			return err
		}
		c.step(fmt.Sprintf("%d stored (%.0f msg/s): %.0f ms after a stop, %.0f ms after kill -9, RSS %.0f MiB", have, stored.rate, float64(took[0])/1e6, float64(took[1])/1e6, mib(memory.RSS)))
	}
	return nil
}
