// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

// What the operator holds is small beside what one look at a broker with ten thousand users leaves behind, and it has time:
// so beside what is in use it may have an eighth of that and a little more, where Go's default is as much again. A fixed
// limit would not do, because what is in use grows with the cluster, and a collector at its limit never rests.
const (
	gcPercent = 50
	// leastMemory is what the operator may have in any case, headroom in bytes and in parts what it may have beside what
	// is in use.
	leastMemory   = 64 << 20
	headroom      = 12 << 20
	headroomParts = 8
	// memoryEvery is how often the limit follows what is in use.
	memoryEvery = time.Second
)

// memory keeps the limit near what is in use until the context ends.
type memory struct{ limit int64 }

// saveMemory begins it, unless the environment says otherwise.
func saveMemory(ctx context.Context) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	go func() {
		m, ticker := &memory{}, time.NewTicker(memoryEvery)
		defer ticker.Stop()
		for {
			m.follow()
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}()
}

// follow sets the limit by what the last collection left.
func (m *memory) follow() {
	sample := []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}}
	runtimemetrics.Read(sample)
	if sample[0].Value.Kind() != runtimemetrics.KindUint64 {
		return // a runtime that does not know it
	}
	if limit := limitFor(int64(sample[0].Value.Uint64())); limit != m.limit { //nolint:gosec // less than the machine has
		m.limit = limit
		debug.SetMemoryLimit(limit)
	}
}

// limitFor is the limit for what is in use, in bytes.
func limitFor(live int64) int64 { return max(leastMemory, live+live/headroomParts+headroom) }
