// SPDX-License-Identifier: Apache-2.0

// Package logs is the log of both programs of the image, whose level and format follow the configuration. The commands
// import it and nobody else; it knows contract.
package logs

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// Log is a logger whose level and format follow the configuration. It is safe for concurrent use.
type Log struct {
	level slog.LevelVar
	json  atomic.Bool
	out   io.Writer
}

// New writes to out: text from level info on, until Set says otherwise.
func New(out io.Writer) *Log { return &Log{out: out} }

// NewJSON writes JSON until Set says otherwise: what reads a pod's log wants one format.
func NewJSON(out io.Writer) *Log {
	l := New(out)
	l.json.Store(true)

	return l
}

// Set makes these the level and the format. A level that is none changes nothing.
func (l *Log) Set(logging contract.Logging) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(logging.Level)); err == nil {
		l.level.Set(level)
	}

	l.json.Store(logging.Format == "json")
}

// Logger is the logger itself; what Set says counts for it at once.
func (l *Log) Logger() *slog.Logger {
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
