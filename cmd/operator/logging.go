// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log/slog"
	"os"
)

func newLogger(o options) (*slog.Logger, error) {
	h := &slog.HandlerOptions{}
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return nil, fmt.Errorf("--log-level %q is none of debug, info, warn, error", o.logLevel)
	}
	h.Level = level
	switch o.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, h)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, h)), nil
	default:
		return nil, fmt.Errorf("--log-format %q is neither text nor json", o.logFormat)
	}
}
