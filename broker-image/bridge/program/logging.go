// SPDX-License-Identifier: Apache-2.0

package program

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// logs is a logger whose level and format follow the configuration.
type logs struct {
	level slog.LevelVar
	json  atomic.Bool
	out   io.Writer
}

func newLogs(out io.Writer) *logs { return &logs{out: out} }

func (l *logs) set(logging contract.Logging) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(logging.Level)); err == nil {
		l.level.Set(level)
	}

	l.json.Store(logging.Format == "json")
}

func (l *logs) logger() *slog.Logger {
	options := &slog.HandlerOptions{Level: &l.level}

	return slog.New(&either{choose: &l.json, text: slog.NewTextHandler(l.out, options), json: slog.NewJSONHandler(l.out, options)})
}

// either is two handlers of which one is in use.
type either struct {
	choose     *atomic.Bool
	text, json slog.Handler
}

func (e *either) now() slog.Handler {
	if e.choose.Load() {
		return e.json
	}

	return e.text
}

// Enabled asks the handler in use.
func (e *either) Enabled(ctx context.Context, level slog.Level) bool {
	return e.now().Enabled(ctx, level)
}

// Handle hands on to the handler in use.
func (e *either) Handle(ctx context.Context, r slog.Record) error {
	return e.now().Handle(ctx, r)
}

// WithAttrs prepares both handlers.
func (e *either) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &either{choose: e.choose, text: e.text.WithAttrs(attrs), json: e.json.WithAttrs(attrs)}
}

// WithGroup prepares both handlers.
func (e *either) WithGroup(name string) slog.Handler {
	return &either{choose: e.choose, text: e.text.WithGroup(name), json: e.json.WithGroup(name)}
}
