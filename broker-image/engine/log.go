// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

const (
	auditBurst = 100
	auditRate  = 20 // lines per second in the long run
)

// auditor writes one line for what clients do and what is refused to them, and never more than a reader can bear.
type auditor struct {
	log *slog.Logger

	mu      sync.Mutex
	tokens  float64
	last    time.Time
	skipped int
}

func newAuditor(log *slog.Logger) *auditor {
	return &auditor{log: log, tokens: auditBurst, last: time.Now()}
}

func (a *auditor) line(message string, attrs ...any) {
	skipped, ok := a.take(time.Now())
	if !ok {
		return
	}

	if skipped > 0 {
		a.log.Info("lines about clients were left out, there were too many", "lines", skipped)
	}

	a.log.Info(message, attrs...) //nolint:sloglint // every caller gives a constant
}

// take asks for room for one line; it tells how many were left out before it.
func (a *auditor) take(now time.Time) (int, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()

	a.tokens = min(auditBurst, a.tokens+auditRate*now.Sub(a.last).Seconds())
	a.last = now

	if a.tokens < 1 {
		a.skipped++

		return 0, false
	}

	a.tokens--
	skipped := a.skipped
	a.skipped = 0

	return skipped, true
}

// panicked notes a panic of something that no connection is to blame for.
func (e *Engine) panicked(r *round, fault any) {
	r.count.Panics.Add(1)
	e.log.Error("something that was due could not be done; please report this", "fault", fault, "stack", string(debug.Stack()))
}
