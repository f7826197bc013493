// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// quiet passes the library's log on without what clients sent: it logs whole packets, payloads and passwords included.
// Only attributes known to be harmless get through, and nothing below an error is more than a detail.
type quiet struct{ inner slog.Handler }

func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return q.inner.Enabled(ctx, demote(level))
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	clean := slog.NewRecord(r.Time, demote(r.Level), r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(harmless([]slog.Attr{a})...)

		return true
	})

	return q.inner.Handle(ctx, clean)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quiet{q.inner.WithAttrs(harmless(attrs))}
}

func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.inner.WithGroup(name)} }

func demote(level slog.Level) slog.Level {
	if level < slog.LevelError {
		return slog.LevelDebug
	}

	return slog.LevelWarn
}

func harmless(attrs []slog.Attr) []slog.Attr {
	return slices.DeleteFunc(slices.Clone(attrs), func(a slog.Attr) bool {
		switch a.Key {
		case "client", "remote", "old_remote", "new_remote", "listener", "hook", "len":
			return false
		case "error":
			_, isError := a.Value.Any().(error)

			return !isError
		default:
			return true
		}
	})
}

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
