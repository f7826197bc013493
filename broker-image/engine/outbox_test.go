// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPacketID(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		seq    uint64
		want   uint16
	}{
		"the first":                      {"0 is no packet id [MQTT-2.2.1-3]", 1, 1},
		"the last":                       {"all of them are used", 65535, 65535},
		"the first once more":            {"0 is left out when they come round", 65536, 1},
		"the last once more":             {"the circle is 65,535 long", 2 * 65535, 65535},
		"far behind what 32 bits number": {"sequence numbers never end", 65535*(1<<40) + 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			if got := packetID(c.seq); got != c.want {
				t.Errorf("%s: got %d, want %d", c.reason, got, c.want)
			}
		})
	}
}

// TestOutboxAgainstAModel pushes, sends and acknowledges at random, far beyond the last packet id.
func TestOutboxAgainstAModel(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	o := outbox{first: 65000, next: 65000}
	sent, waiting := []uint64{}, []uint64{}

	for step := range 20_000 {
		switch n := random.IntN(10); {
		case n < 4:
			o.push(entry{qos: 1, m: &message{}})
			waiting = append(waiting, o.next)
			o.next++
		case n < 7 && len(waiting) > 0:
			o.sent++
			o.inflight++
			sent, waiting = append(sent, waiting[0]), waiting[1:]
		case len(sent) > 0:
			// Most acknowledge in order, some do not.
			i := random.IntN(min(len(sent), 1+random.IntN(8)))

			e, seq := o.find(packetID(sent[i]))
			if e == nil || seq != sent[i] {
				t.Fatalf("step %d: message %d is not found, or as %d", step, sent[i], seq)
			}

			o.finish(e)

			if e, _ := o.find(packetID(sent[i])); e != nil && len(sent) > 1 {
				t.Fatalf("step %d: message %d is done, and found", step, sent[i])
			}

			sent = append(sent[:i], sent[i+1:]...)
		}

		if o.inflight != len(sent) || o.spilled() != 0 {
			t.Fatalf("step %d: %d in flight, %d spilled; want %d and 0", step, o.inflight, o.spilled(), len(sent))
		}

		if len(waiting) > 0 {
			if e, _ := o.find(packetID(waiting[0])); e != nil {
				t.Fatalf("step %d: message %d was not sent, and is found", step, waiting[0])
			}
		}
	}

	if o.first < 66_000 {
		t.Errorf("the test ended at %d, before packet ids came round", o.first)
	}
}

func TestOutboxHoldsUpPacketIDs(t *testing.T) {
	o := outbox{first: 1, next: 1}

	for range maxPacketID {
		if !o.roomForID() {
			t.Fatalf("no room for message %d", o.next)
		}

		o.push(entry{qos: 1})
		o.next++
		o.sent++
		o.inflight++
	}

	if o.roomForID() {
		t.Error("the id of the first message is still in flight")
	}

	second, _ := o.find(2)
	o.finish(second)

	if o.roomForID() {
		t.Error("the next id is 1, and 1 is in flight")
	}

	first, _ := o.find(1)
	o.finish(first)

	if !o.roomForID() || o.first != 3 {
		t.Errorf("1 and 2 are free; the outbox begins at %d", o.first)
	}
}

func TestOutboxForgetsWhatWaits(t *testing.T) {
	o := outbox{first: 1, next: 1}
	for range 5 {
		o.push(entry{qos: 1, m: &message{}})
		o.next++
	}

	o.sent, o.inflight = 2, 2
	o.forget()

	if got := []uint64{uint64(o.len), o.spilled()}; !cmp.Equal(got, []uint64{2, 3}) {
		t.Errorf("in memory and on disk: %v", got)
	}

	if e, _ := o.find(1); e == nil || e.m != nil {
		t.Errorf("what was sent stays, without its message: %+v", e)
	}
}

func TestPacketSet(t *testing.T) {
	var s packetSet

	have := map[uint16]bool{}
	random := rand.New(rand.NewPCG(3, 4))

	for _, spread := range []int{8, 30, 500, 65535, 30} {
		for range 3000 {
			id := uint16(1 + random.IntN(spread))
			if random.IntN(2) == 0 {
				if s.add(id) == have[id] {
					t.Fatalf("add %d", id)
				}

				have[id] = true
			} else {
				if s.remove(id) != have[id] {
					t.Fatalf("remove %d", id)
				}

				delete(have, id)
			}

			if s.has(id) != have[id] || s.n != len(have) {
				t.Fatalf("%d: has %v, want %v; %d, want %d", id, s.has(id), have[id], s.n, len(have))
			}
		}
	}

	for id := range have {
		s.remove(id)
	}

	if s.many != nil || s.n != 0 {
		t.Error("an empty set must be small")
	}
}

func TestSeqSet(t *testing.T) {
	var s seqSet

	random := rand.New(rand.NewPCG(5, 6))
	have := []uint64{}
	next := uint64(10)

	for range 20_000 {
		if random.IntN(2) == 0 {
			s.add(next)
			have = append(have, next)
			next += 1 + random.Uint64N(2)
		} else if len(have) > 0 {
			i := random.IntN(min(len(have), 5))
			s.remove(have[i])
			have = append(have[:i], have[i+1:]...)
		}

		want := next - 1
		if len(have) > 0 {
			want = have[0] - 1
		}

		if got := s.safe(next); got != want {
			t.Fatalf("safe up to %d, want %d", got, want)
		}
	}

	s.remove(1 << 40) // never added
}

func TestWheel(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		set    time.Duration
		now    int64 // ticks
		want   bool
	}{
		"before it is due":            {"a timer never fires early", time.Second, 10, false},
		"when it is due":              {"a tick later at most", time.Second, 12, true},
		"at once":                     {"what is due now comes with the next tick", 0, 2, true},
		"in the past":                 {"as at once", -time.Hour, 2, true},
		"another round":               {"the slot is the same, the time is not", slots*tick + time.Second, 12, false},
		"another round, due":          {"", slots*tick + time.Second, slots + 12, true},
		"after a sleep of many turns": {"every slot is looked at once", 3 * slots * tick, 10 * slots, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWheel(nil)

			var due, stopped timer

			w.set(&due, c.set)
			w.set(&stopped, c.set)
			w.stop(&stopped)

			got := w.advance(nil, c.now)
			if (len(got) == 1) != c.want || len(got) > 1 {
				t.Errorf("%s: %d timers are due, want %v", c.reason, len(got), c.want)
			}

			if again := w.advance(nil, c.now+20*slots); len(again)+len(got) != 1 {
				t.Errorf("a timer fires once, not %d times", len(again)+len(got))
			}
		})
	}
}

// TestATimerThatPanics ends neither the process nor the clock.
func TestATimerThatPanics(t *testing.T) {
	book := &logbook{}
	h := open(t, Options{Log: book.logger()}, anybody(t))
	before := h.counted("mqtt_broker_panics_total")

	var bad, good timer

	fired := make(chan struct{})
	bad.fire = func(*round) { panic("something nobody thought of") }
	good.fire = func(*round) { close(fired) }

	h.wheel.set(&bad, 0)
	h.wheel.set(&good, 0)
	<-fired

	eventually(t, "the panic is counted", func() bool { return h.counted("mqtt_broker_panics_total") == before+1 })

	if text := book.String(); !strings.Contains(text, "something nobody thought of") || !strings.Contains(text, "outbox_test.go") {
		t.Errorf("the log must say what happened, and where:\n%s", text)
	}

	h.wheel.mu.Lock()
	at := time.Duration(bad.at-h.wheel.now) * tick
	h.wheel.mu.Unlock()

	if at < retry/2 || at > retry+2*tick {
		t.Errorf("it is tried again in %v, want %v", at, retry)
	}

	h.wheel.stop(&bad)
}

func TestBucket(t *testing.T) {
	begin := time.Unix(100, 0)

	for name, c := range map[string]struct {
		reason string
		rate   int
		at     []time.Duration
		want   []bool
		wait   time.Duration
	}{
		"a burst of one second":  {"as many at once as are allowed in a second", 2, []time.Duration{0, 0, 0}, []bool{true, true, false}, time.Second},
		"filled again":           {"with time there is room again", 2, []time.Duration{0, 0, time.Second, time.Second, time.Second}, []bool{true, true, true, true, false}, time.Second},
		"never more than filled": {"a day of silence is worth one second", 1, []time.Duration{24 * time.Hour, 24 * time.Hour}, []bool{true, false}, 2 * time.Second},
		"never a shorter wait than a tick": {
			"waking up costs too", 1000, []time.Duration{0}, []bool{true}, tick,
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBucket(c.rate, begin)

			var got []bool
			for _, at := range c.at {
				got = append(got, b.take(begin.Add(at)))
			}

			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s: %s", c.reason, diff)
			}

			if b.wait() != c.wait {
				t.Errorf("wait %v, want %v", b.wait(), c.wait)
			}
		})
	}
}
