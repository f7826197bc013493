// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/mqtt-operator/mqtt-operator/hack/bench/load"
	"github.com/mqtt-operator/mqtt-operator/hack/bench/wire"
)

// serve runs a relay until the test ends.
func serve(t *testing.T) netip.AddrPort {
	t.Helper()
	server, address, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return address
}

// bench connects senders and receivers; all receivers get what each sender sends.
func bench(t *testing.T, version, qos byte, senders, receivers int, o load.FlowOptions) (*load.Bench, []*load.Flow) {
	t.Helper()
	b, err := load.NewBench(serve(t), version, 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	var clients []*load.Client
	for i := range receivers {
		clients = append(clients, &load.Client{ID: fmt.Sprint("r", i), Filters: []string{"t/+"}, QoS: qos, Slot: i})
	}
	var flows []*load.Flow
	for i := range senders {
		c := &load.Client{ID: fmt.Sprint("s", i)}
		clients = append(clients, c)
		o := o
		o.QoS, o.Receivers, o.Topics = qos, receivers, []string{fmt.Sprint("t/", i)}
		flows = append(flows, b.Flow(c, o))
	}
	if err := b.Connect(t.Context(), clients, 8); err != nil {
		t.Fatal(err)
	}
	return b, flows
}

func TestEveryMessageIsCountedOnce(t *testing.T) {
	for _, version := range []byte{wire.V311, wire.V5} {
		for qos := range byte(3) {
			for _, c := range []struct{ senders, receivers int }{{1, 1}, {1, 7}, {5, 2}} {
				t.Run(fmt.Sprintf("version %d, QoS %d, %d to %d", version, qos, c.senders, c.receivers), func(t *testing.T) {
					const each = 2500
					b, flows := bench(t, version, qos, c.senders, c.receivers, load.FlowOptions{Ahead: 50, Window: 20, Limit: each})
					b.Start()
					want := uint64(each * c.senders * c.receivers)
					if err := b.Until(t.Context(), 20*time.Second, func() bool { return b.Delivered == want }); err != nil {
						t.Fatal(err)
					}
					if err := b.Drain(t.Context(), 10*time.Second); err != nil {
						t.Fatal(err)
					}
					if b.Delivered != want || b.Lost+b.Again+b.Foreign != 0 {
						t.Errorf("delivered %d of %d, lost %d, again %d, foreign %d", b.Delivered, want, b.Lost, b.Again, b.Foreign)
					}
					for _, f := range flows {
						if f.Sent != each || (qos > 0 && f.Acked != each) {
							t.Errorf("sent %d, acknowledged %d of %d", f.Sent, f.Acked, each)
						}
					}
				})
			}
		}
	}
}

func TestOpenLoopSendsAllAndTimesThem(t *testing.T) {
	b, flows := bench(t, wire.V311, 1, 4, 1, load.FlowOptions{Window: 20})
	b.Latency, b.Late = hdrhistogram.New(1, int64(time.Minute), 3), hdrhistogram.New(1, int64(time.Minute), 3)
	if err := b.OpenLoop(t.Context(), 1000, 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := b.Drain(t.Context(), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if b.Delivered != 200 || b.Latency.TotalCount() != 200 || b.Late.TotalCount() != 200 {
		t.Errorf("delivered %d, timed %d, scheduled %d of 200", b.Delivered, b.Latency.TotalCount(), b.Late.TotalCount())
	}
	if b.Latency.Min() <= 0 {
		t.Error("a message came before it was due")
	}
	for i, f := range flows {
		if f.Sent != 50 {
			t.Errorf("flow %d sent %d of 50: they take turns", i, f.Sent)
		}
	}
}

func TestLossIsSeen(t *testing.T) {
	b, _ := bench(t, wire.V311, 0, 1, 2, load.FlowOptions{Ahead: 50, Limit: 10})
	// A third receiver is expected and is not there.
	c := &load.Client{ID: "lonely"}
	f := b.Flow(c, load.FlowOptions{Topics: []string{"nobody"}, Receivers: 2, Ahead: 5})
	if err := b.Connect(t.Context(), []*load.Client{c}, 1); err != nil {
		t.Fatal(err)
	}
	b.Start()
	if err := b.Until(t.Context(), 10*time.Second, func() bool { return b.Delivered == 20 && f.Sent >= 5 }); err != nil {
		t.Fatal(err)
	}
	if err := b.Drain(t.Context(), 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if b.Delivered != 20 || b.Lost != 10 {
		t.Errorf("delivered %d, lost %d; 5 messages for 2 receivers went nowhere", b.Delivered, b.Lost)
	}
}

func TestARefusedConnectionIsAnError(t *testing.T) {
	b, err := load.NewBench(netip.MustParseAddrPort("127.0.0.1:1"), wire.V311, 64)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Connect(t.Context(), []*load.Client{{ID: "x"}}, 1); err == nil {
		t.Error("nobody listens there")
	}
}
