// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// bounds of the histogram of latency, in seconds.
var bounds = [...]float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60}

// counts are what a route has done in one direction since the process began. They outlive its flow.
type counts struct {
	forwarded, bytes, reconnects atomic.Int64

	buckets [len(bounds) + 1]atomic.Int64
	nanos   atomic.Int64

	mu      sync.Mutex
	dropped map[string]int64
}

func (c *counts) forward(took time.Duration) {
	c.forwarded.Add(1)
	c.nanos.Add(int64(took))

	at := 0
	for seconds := took.Seconds(); at < len(bounds) && seconds > bounds[at]; {
		at++
	}

	c.buckets[at].Add(1)
}

func (c *counts) drop(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.dropped == nil {
		c.dropped = map[string]int64{}
	}

	c.dropped[reason]++
}

func (c *counts) drops() map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()

	return maps.Clone(c.dropped)
}
