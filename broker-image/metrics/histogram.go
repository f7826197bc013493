// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// bounds are the upper ends of the buckets: from what a loopback takes to what somebody waits for in vain.
var bounds = [...]time.Duration{
	10 * time.Microsecond, 25 * time.Microsecond, 50 * time.Microsecond,
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	1 * time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	1 * time.Second, 2500 * time.Millisecond, 5 * time.Second,
	10 * time.Second,
}

// nearest is by the number of bits of a duration the first bucket that it may fall into. Hardly more than one bound lies
// between a power of two and the next, so that the bucket is found after one or two comparisons.
var nearest = func() (table [64]uint8) {
	for length := range table {
		least := time.Duration(0)
		if length > 0 {
			least = 1 << (length - 1)
		}

		for int(table[length]) < len(bounds) && least > bounds[table[length]] {
			table[length]++
		}
	}

	return table
}()

// Histogram counts durations in fixed buckets. Its zero value is ready.
type Histogram struct {
	buckets [len(bounds) + 1]atomic.Int64
	// sum is in nanoseconds: enough for 292 years of waiting.
	sum atomic.Int64
}

// Observe counts n messages that each took d.
func (h *Histogram) Observe(d time.Duration, n int) {
	// A clock that was set back.
	d = max(d, 0)

	at := int(nearest[bits.Len64(uint64(d))&63])
	for at < len(bounds) && d > bounds[at] {
		at++
	}

	h.buckets[at].Add(int64(n))
	h.sum.Add(int64(d) * int64(n))
}

// distribution is a sum of histograms as Prometheus wants it.
type distribution struct {
	count   uint64
	sum     float64
	buckets map[float64]uint64
}

func distributionOf(all ...*Histogram) distribution {
	d := distribution{buckets: make(map[float64]uint64, len(bounds))}

	for at := range len(bounds) + 1 {
		for _, h := range all {
			d.count += uint64(max(0, h.buckets[at].Load()))
		}

		if at < len(bounds) {
			d.buckets[bounds[at].Seconds()] = d.count
		}
	}

	for _, h := range all {
		d.sum += time.Duration(h.sum.Load()).Seconds()
	}

	return d
}
