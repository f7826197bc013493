// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	auditBurst = 100
	auditRate  = 20 // lines per second in the long run
	// auditKinds bounds how many kinds are told apart; the others share one bucket.
	auditKinds = 64
)

// auditor writes one line for what clients do and what is refused to them, and of each kind never more than a reader can
// bear: a flood of one does not hide another. What happened and the reason make the kind.
type auditor struct {
	log *slog.Logger
	// left counts the lines that were left out.
	left atomic.Int64

	mu    sync.Mutex
	kinds map[string]*auditKind
}

// auditKind is a bucket of tokens.
type auditKind struct {
	tokens  float64
	last    time.Time
	skipped int
}

func newAuditor(log *slog.Logger) *auditor {
	return &auditor{log: log, kinds: map[string]*auditKind{}}
}

// line writes a line, or counts it. Among attrs, pairs of a name and a value, "reason" is a part of the kind.
func (a *auditor) line(message string, attrs ...any) {
	var reason string

	for i := 0; i+1 < len(attrs); i += 2 {
		if attrs[i] == "reason" {
			reason = fmt.Sprint(attrs[i+1])
		}
	}

	skipped, ok := a.take(message+": "+reason, time.Now())
	if !ok {
		a.left.Add(1)

		return
	}

	if skipped > 0 {
		a.log.Info("lines about clients were left out, there were too many of this kind", "lines", skipped, "kind", message)
	}

	a.log.Info(message, attrs...) //nolint:sloglint // every caller gives a constant
}

// take asks for room for one line; it tells how many of the kind were left out before it.
func (a *auditor) take(kind string, now time.Time) (int, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()

	k := a.kinds[kind]

	if k == nil && len(a.kinds) >= auditKinds {
		a.forget(now)
	}

	if k == nil && len(a.kinds) >= auditKinds {
		kind = ""
		k = a.kinds[kind]
	}

	if k == nil {
		k = &auditKind{tokens: auditBurst, last: now}
		a.kinds[kind] = k
	}

	k.tokens = min(auditBurst, k.tokens+auditRate*now.Sub(k.last).Seconds())
	k.last = now

	if k.tokens < 1 {
		k.skipped++

		return 0, false
	}

	k.tokens--
	skipped := k.skipped
	k.skipped = 0

	return skipped, true
}

// panicked notes a panic of something that no connection is to blame for.
func (e *Engine) panicked(r *round, fault any) {
	r.count.Panics.Add(1)
	e.log.Error("something that was due could not be done; please report this", "fault", fault, "stack", string(debug.Stack()))
}

// forget lets go what has been quiet for so long that it makes no difference.
func (a *auditor) forget(now time.Time) {
	maps.DeleteFunc(a.kinds, func(_ string, k *auditKind) bool {
		return k.skipped == 0 && k.tokens+auditRate*now.Sub(k.last).Seconds() >= auditBurst
	})
}
