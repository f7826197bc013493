// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"github.com/mqtt-operator/mqtt-operator/hack/bench/wire"
)

// perAddress is how many connections come from one address, well below the number of its ports.
const perAddress = 20_000

// When a closed loop gives messages up: nothing at all has come for a while, or nothing for one flow for long, though
// others got theirs. A slow broker is not a broker that drops. An open loop gives nothing up: its latency is what is
// measured.
const (
	patience     = int64(3 * time.Second)
	flowPatience = int64(8 * time.Second)
)

var lastRun atomic.Uint32

// Bench is a set of clients and flows against one server, or more where clients say so. It belongs to the goroutine that made it, which stays on its
// thread.
type Bench struct {
	Version   byte
	Payload   int
	Delivered uint64 // messages that receivers got, each once
	Lost      uint64 // numbers that a receiver missed
	Again     uint64 // messages that came twice or out of order
	Foreign   uint64 // messages that are not of this run
	Granted   byte   // the lowest QoS that was granted below what was asked
	// Latency, when set, gets the time from when a message was due to when it was read; with Between, by the one in slot 1.
	Latency *hdrhistogram.Histogram
	// Between, when set, gets the time from when the receiver in slot 0 had a message to when the one in slot 1 had it.
	Between *hdrhistogram.Histogram
	// Late, when set, gets the time by which the sender was late itself.
	Late *hdrhistogram.Histogram

	loop    *Loop
	server  netip.AddrPort
	id      uint32
	clients []*Client
	flows   []*Flow
	due     []*Flow
	ready   int
	stopped bool
	err     error
	looked  int64 // when stalls were looked for

	progress   uint64 // Delivered when it last grew, as far as we looked
	progressed int64  // when that was
}

// NewBench makes a bench against a server on a loopback address.
func NewBench(server netip.AddrPort, version byte, payload int) (*Bench, error) {
	loop, err := NewLoop()
	if err != nil {
		return nil, err
	}
	runtime.LockOSThread()
	// Schedules are in microseconds; the kernel would round them to 50.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	return &Bench{Version: version, Payload: payload, loop: loop, server: server, id: lastRun.Add(1), Granted: 2}, nil
}

// Close ends all connections.
func (b *Bench) Close() {
	b.loop.Close()
	runtime.UnlockOSThread()
}

// Now is the clock that due times are told in.
func (b *Bench) Now() int64 { return b.loop.Now() }

func (b *Bench) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *Bench) latency(due, now int64) {
	_ = b.Latency.RecordValue(max(1, min(now-due, b.Latency.HighestTrackableValue())))
}

// Connect brings clients up, at most parallel at once in their handshakes, and waits until all are ready.
func (b *Bench) Connect(ctx context.Context, clients []*Client, parallel int) error {
	done := 0
	dial := func(c *Client) error {
		n := len(b.clients)
		b.clients = append(b.clients, c)
		from := netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + n/perAddress)}) //nolint:gosec // few addresses
		c.bench = b
		then := c.Ready
		c.Ready = func() {
			done++
			c.Ready = then
			if then != nil {
				then()
			}
		}
		to := b.server
		if c.Server.IsValid() {
			to = c.Server
		}
		var err error
		c.conn, err = b.loop.Dial(from, to, c)
		return err
	}
	begun := 0
	for done < len(clients) {
		for begun < len(clients) && begun-done < parallel {
			if err := dial(clients[begun]); err != nil {
				return err
			}
			begun++
		}
		if err := b.turn(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("%d of %d clients are ready: %w", done, len(clients), err)
		}
	}
	return nil
}

// Settled waits until every client has all its subscriptions.
func (b *Bench) Settled(ctx context.Context, d time.Duration) error {
	if err := b.Until(ctx, d, func() bool { return b.ready == len(b.clients) }); err != nil {
		return err
	}
	if b.ready < len(b.clients) {
		return fmt.Errorf("after %s %d of %d clients have their subscriptions", d, b.ready, len(b.clients))
	}
	return nil
}

// Flow adds a flow that sender publishes.
func (b *Bench) Flow(sender *Client, o FlowOptions) *Flow {
	f := &Flow{FlowOptions: o, bench: b, index: uint32(len(b.flows)), sender: sender} //nolint:gosec // few
	f.init(b.id, b.Version, b.Payload)
	sender.flow = f
	b.flows = append(b.flows, f)
	return f
}

// Start lets all flows send as fast as they may.
func (b *Bench) Start() {
	b.stopped = false
	for _, f := range b.flows {
		f.wake()
	}
}

// Stop ends sending; what is on its way still comes.
func (b *Bench) Stop() { b.stopped = true }

// For turns for a time.
func (b *Bench) For(ctx context.Context, d time.Duration) error {
	return b.Until(ctx, d, func() bool { return false })
}

// Until turns until a fact is true or the time is over.
func (b *Bench) Until(ctx context.Context, d time.Duration, fact func() bool) error {
	for end := b.loop.Now() + int64(d); !fact(); {
		left := end - b.loop.Now()
		if left <= 0 {
			return nil
		}
		if err := b.turn(ctx, min(time.Duration(left), 50*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// Drain waits until all has come that was sent, and counts the rest as lost.
func (b *Bench) Drain(ctx context.Context, d time.Duration) error {
	b.Stop()
	err := b.Until(ctx, d, b.quiet)
	for _, f := range b.flows {
		f.giveUp()
	}
	return err
}

func (b *Bench) quiet() bool {
	for _, f := range b.flows {
		if (f.Receivers > 0 && f.min < f.Sent) || (f.QoS > 0 && f.Acked < f.Sent) {
			return false
		}
	}
	return true
}

func (b *Bench) turn(ctx context.Context, timeout time.Duration) error {
	// What was said between two turns leaves before anybody waits.
	if len(b.due) > 0 {
		timeout = 0
	}
	b.loop.Flush()
	if err := b.loop.Turn(timeout, b.top); err != nil {
		return err
	}
	if b.err != nil {
		return b.err
	}
	return ctx.Err()
}

// top lets flows send that may send more than before.
func (b *Bench) top() {
	now := b.loop.Now()
	if !b.stopped && now-b.looked > int64(500*time.Millisecond) {
		b.looked = now
		b.giveUp(now)
	}
	due := b.due
	b.due = nil
	for _, f := range due {
		f.top(now)
	}
	if b.due == nil {
		b.due = due[:0]
	}
}

// giveUp looks for flows that do not move.
func (b *Bench) giveUp(now int64) {
	if b.Delivered != b.progress {
		b.progress, b.progressed = b.Delivered, now
	}
	for _, f := range b.flows {
		if f.min != f.least || f.min == f.Sent {
			f.least, f.since = f.min, now
		}
		if f.Receivers > 0 && (now-f.since > flowPatience || min(now-f.since, now-b.progressed) > patience) {
			f.giveUp()
			f.least, f.since = f.min, now
		}
	}
}

// Fill turns until all flows have as much on their way as they may, at most for d.
func (b *Bench) Fill(ctx context.Context, d time.Duration) error {
	return b.Until(ctx, d, func() bool {
		for _, f := range b.flows {
			if !f.full() {
				return false
			}
		}
		return true
	})
}

// OpenLoop sends perSecond messages for a time, each at its own moment, in turn from all flows, whether or not the server
// keeps up. A message that cannot leave in time (no packet identifier is free) is sent as soon as it can, and its latency
// counts from when it was due.
func (b *Bench) OpenLoop(ctx context.Context, perSecond int, d time.Duration) error {
	b.Stop() // no flow sends by itself
	begin := b.loop.Now() + int64(time.Millisecond)
	gap := int64(time.Second) / int64(perSecond)
	total := int64(d) / gap
	waiting := make([][]int64, len(b.flows)) // due times of what could not be sent yet
	blocked := 0
	for k := int64(0); k < total || blocked > 0; {
		now := b.loop.Now()
		if now > begin+int64(d)+int64(10*time.Second) {
			return fmt.Errorf("%d messages could not be sent within 10 s after their time: %w", blocked, errOverload)
		}
		for ; k < total && begin+k*gap <= now; k++ {
			i := int(k % int64(len(b.flows)))
			waiting[i] = append(waiting[i], begin+k*gap)
			blocked++
		}
		if blocked > 0 {
			for i, f := range b.flows {
				n := f.scheduled(waiting[i], now)
				waiting[i] = waiting[i][n:]
				blocked -= n
			}
			b.loop.Flush()
		}
		wait := 50 * time.Millisecond
		if k < total {
			wait = time.Duration(begin + k*gap - b.loop.Now())
		}
		if err := b.turn(ctx, wait); err != nil {
			return err
		}
	}
	return nil
}

var errOverload = errors.New("the server does not keep up")

// scheduled sends the due messages that can be sent, and tells how many.
func (f *Flow) scheduled(due []int64, now int64) int {
	n := len(due)
	if f.QoS > 0 {
		n = min(n, len(f.free))
	}
	if n == 0 {
		return 0
	}
	out := f.sender.conn.Out()
	for _, at := range due[:n] {
		if f.bench.Late != nil {
			_ = f.bench.Late.RecordValue(max(1, now-at))
		}
		out = f.append(out, at)
	}
	f.sender.conn.Send(out)
	return n
}

func encode(version, qos byte, retain bool, topic string, body []byte) ([]byte, int, int) {
	return wire.AppendPublish(nil, wire.PublishOptions{Version: version, QoS: qos, Retain: retain}, topic, body)
}
