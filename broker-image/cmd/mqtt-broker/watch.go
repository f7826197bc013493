// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

const (
	lookEvery = time.Second
	// readEvery is how often the files are read even if nothing about them seems to have changed.
	readEvery = 30 * time.Second
)

// watcher offers what lies in a directory to the keeper, as often as it changes.
type watcher struct {
	dir    string
	keeper *admin.Keeper
	log    *slog.Logger

	stamp string    // what the files looked like when they were last read to the end
	read  time.Time // when that was
	said  string    // the last complaint, so that it is made once
}

// run looks until the context ends.
func (w *watcher) run(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()

	for {
		w.look(time.Now())

		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (w *watcher) look(now time.Time) {
	stamp := w.stampOf()
	if stamp != "" && stamp == w.stamp && now.Sub(w.read) < readEvery {
		return
	}

	bundle, err := contract.ReadDir(w.dir)
	if err == nil {
		err = w.keeper.Offer(bundle)
	}

	switch {
	case err == nil:
		w.said = ""
	case errors.Is(err, admin.ErrOlder):
		// The files lag behind what the admin endpoint was given; they will catch up.
		w.log.Debug("the files in the directory are older than what runs", "dir", w.dir, "detail", err)
	case w.waiting(err):
		if w.isNew(err) {
			w.log.Warn("waiting for a whole configuration", "dir", w.dir, "reason", err)
		}

		return // the next look reads again
	default:
		if w.isNew(err) {
			w.log.Warn("configuration refused; what ran before goes on", "dir", w.dir, "reason", err)
		}
	}

	w.stamp, w.read = stamp, now
}

// waiting tells whether time alone may heal the error.
func (w *watcher) waiting(err error) bool {
	var fault *contract.Error

	return errors.Is(err, contract.ErrInconsistent) || (!errors.As(err, &fault) && errors.Is(err, os.ErrNotExist)) ||
		strings.HasPrefix(err.Error(), "config directory")
}

// isNew tells whether the error has not been complained about yet.
func (w *watcher) isNew(err error) bool {
	said := w.said
	w.said = err.Error()

	return said != w.said
}

// stampOf changes when a file does: its time, its size, or the file that a link leads to.
func (w *watcher) stampOf() string {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return ""
	}

	var b strings.Builder

	for _, entry := range entries {
		if !contract.IsFile(entry.Name()) {
			continue
		}

		info, err := os.Stat(filepath.Join(w.dir, entry.Name()))
		if err != nil {
			return ""
		}

		_, _ = fmt.Fprintf(&b, "%s %d %d\n", entry.Name(), info.ModTime().UnixNano(), info.Size())
	}

	return b.String()
}
