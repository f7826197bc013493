// SPDX-License-Identifier: Apache-2.0

package bridges

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestKills kills bridge, source and destination in turn, as a power cut does, while messages of QoS 1 go through.
func TestKills(t *testing.T) {
	if standIn {
		t.Skip("Mosquitto keeps on disk what it had when it ended, not when it was killed")
	}

	t.Parallel()

	destination := ours.run(t, false)
	s := newSite(t, destination.end(5), 2)
	b := both{out: s.out(t, load{qos: 1, rate: 1000})}
	b.out.start()

	kills := pick(long, 6, 50)
	victims := []*program{s.bridge, s.broker, destination.program}

	var peak, slowest int64

	for k := range kills {
		b.progress(t, int64(100+rand.IntN(300)))

		victim := victims[k%len(victims)]
		if victim == s.bridge {
			peak = max(peak, victim.memory("VmHWM"))
		}

		victim.kill()

		begin := time.Now()

		if err := victim.start(); err != nil {
			t.Fatal(err)
		}

		b.progress(t, 1)

		slowest = max(slowest, time.Since(begin).Milliseconds())
	}

	b.progress(t, 100)

	sum := b.out.finish(t)
	result{peer: "ours", version: 5, story: "kills", way: "out", qos: 1, counts: sum, peak: max(peak, s.bridge.memory("VmHWM"))}.note(t)
	t.Logf("%d kills; the longest time until messages went on: %d ms", kills, slowest)

	if sum.Lost > 0 || sum.Disordered > 0 {
		t.Errorf("after %d kills: %s", kills, sum)
	}

	// Each kill leaves at most what is in flight unsure; what the publisher sent again is its own doing.
	if most := int64(kills)*inflight + sum.Again; sum.Twice > most {
		t.Errorf("after %d kills with %d in flight %d messages came twice; at most %d are right: %s", kills, inflight, sum.Twice, most, sum)
	}
}

// memoryLimit is what a bridge may have at most, in KiB.
const memoryLimit = 30 << 10

// TestBacklog publishes while the remote is away: what waits, waits at the source, not in the bridge.
func TestBacklog(t *testing.T) {
	if standIn {
		t.Skip("Mosquitto is its own bridge: there is no memory to tell apart")
	}

	t.Parallel()

	destination := ours.run(t, false)
	s := newSite(t, destination.end(5), 2)
	b := both{out: s.out(t, load{qos: 1, limit: int64(pick(long, 5_000, 100_000)) / tracks})}
	quiet := s.bridge.memory("VmRSS")

	destination.stop()
	b.out.start()
	b.out.working.Wait()

	waiting := s.bridge.memory("VmRSS")

	if err := destination.start(); err != nil {
		t.Fatal(err)
	}

	begin := time.Now()
	sum := b.out.finish(t)
	took := time.Since(begin)
	peak := s.bridge.memory("VmHWM")
	result{peer: "ours", version: 5, story: "backlog", way: "out", qos: 1, counts: sum, peak: peak}.note(t)
	t.Logf("%s after the remote is back; memory of the bridge: %d KiB before, %d KiB while all waits, %d KiB at most", took.Round(time.Millisecond), quiet, waiting, peak)

	if sum.Lost > 0 || sum.Disordered > 0 || sum.Sent != b.out.limit*tracks {
		t.Errorf("after the remote was away: %s", sum)
	}

	if sum.Twice > inflight {
		t.Errorf("%d messages came twice; more than %d were never on their way", sum.Twice, inflight)
	}

	if peak > memoryLimit {
		t.Errorf("the bridge had %d KiB, more than %d", peak, memoryLimit)
	}
}
