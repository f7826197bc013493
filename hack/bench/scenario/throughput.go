// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"fmt"
	"time"

	"github.com/mqtt-operator/mqtt-operator/hack/bench/load"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/peer"
)

// window20 is how many messages of QoS 1 or 2 a publisher has in flight.
const window20 = 20

// Bounds on how far a sender of QoS 0 is ahead of its slowest receiver. All of it fits the sockets' buffers and the queue
// limits of the brokers that have one which cannot be lifted (mochi: 8,192 packets per client).
const (
	pairAhead   = 1000
	fanOutAhead = 100
	fanInAhead  = 50
)

// handshakes is how many clients are in their handshake at once.
const handshakes = 64

// shape says who sends to whom.
type shape struct {
	senders, receivers int
	qos                byte
	topic, filter      func(i int) string
	ahead              int
	each               bool // each receiver gets what one sender sends, or all of them get all
}

func pairs(n int, qos byte) shape {
	topic := func(i int) string { return fmt.Sprintf("bench/pair/%02d", i) }
	return shape{senders: n, receivers: n, qos: qos, topic: topic, filter: topic, ahead: pairAhead, each: true}
}

func fanOut(n int, qos byte) shape {
	topic := func(int) string { return "bench/fan/out" }
	return shape{senders: 1, receivers: n, qos: qos, topic: topic, filter: topic, ahead: fanOutAhead}
}

func fanIn(senders, receivers int, qos byte) shape {
	return shape{
		senders: senders, receivers: receivers, qos: qos, ahead: fanInAhead,
		topic:  func(i int) string { return fmt.Sprintf("bench/in/%03d", i) },
		filter: func(int) string { return "bench/in/+" },
	}
}

// build connects receivers, then senders, and makes the flows.
func (e *env) build(s shape) error {
	var receivers, senders []*load.Client
	for i := range s.receivers {
		c := &load.Client{ID: fmt.Sprintf("receiver-%d", i), Filters: []string{s.filter(i)}, QoS: s.qos, Slot: i}
		if s.each {
			c.Slot = 0
		}
		receivers = append(receivers, c)
	}
	for i := range s.senders {
		senders = append(senders, &load.Client{ID: fmt.Sprintf("sender-%d", i)})
	}
	if err := e.bench.Connect(e.ctx, receivers, handshakes); err != nil {
		return err
	}
	if err := e.bench.Connect(e.ctx, senders, handshakes); err != nil {
		return err
	}
	ahead := s.ahead
	if e.Ahead > 0 && s.qos == 0 {
		ahead = e.Ahead
	}
	count := s.receivers
	if s.each {
		count = 1
	}
	for i, sender := range senders {
		e.bench.Flow(sender, load.FlowOptions{
			QoS: s.qos, Topics: []string{s.topic(i)}, Receivers: count, Ahead: ahead, Window: window20,
		})
	}
	return nil
}

// throughput measures deliveries per second in a closed loop.
func throughput(name, title string, s shape) *Scenario {
	return &Scenario{Name: name, Title: title, Task: peer.Task{QoS: s.qos}, run: func(e *env) error {
		rate, err := e.closedLoop(s)
		e.set(name, rate)
		return err
	}}
}

func (e *env) closedLoop(s shape) (perSecond float64, err error) {
	if err := e.open(); err != nil {
		return 0, err
	}
	defer e.bench.Close()
	if err := e.build(s); err != nil {
		return 0, err
	}
	return e.measure()
}

// measure warms up, counts deliveries, and waits for what is on its way.
func (e *env) measure() (perSecond float64, err error) {
	b := e.bench
	b.Start()
	if err := b.For(e.ctx, e.warm()); err != nil {
		return 0, err
	}
	// A slow broker needs longer than that to get through the first messages.
	if err := b.Fill(e.ctx, 10*time.Second); err != nil {
		return 0, err
	}
	before := b.Delivered
	elapsed, cpu, err := e.window(func() error { return b.For(e.ctx, e.seconds()) })
	if err != nil {
		return 0, err
	}
	count := float64(b.Delivered - before)
	if count > 0 {
		e.set("broker-ns", float64(cpu)/count)
	}
	err = b.Drain(e.ctx, 3*time.Second)
	e.account()
	return count / elapsed.Seconds(), err
}
