// SPDX-License-Identifier: Apache-2.0

package program

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

const (
	lookEvery = time.Second
	// readEvery is how often the file is read even if nothing about it seems to have changed.
	readEvery = 30 * time.Second
)

// watcher offers what stands in a file to the keeper, as often as it changes.
type watcher struct {
	path   string
	keeper *admin.BridgeKeeper
	log    *slog.Logger

	stamp string    // what the file looked like when it was last read
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
	stamp := ""
	if info, err := os.Stat(configFile(w.path)); err == nil {
		stamp = fmt.Sprintf("%d %d", info.ModTime().UnixNano(), info.Size())
	}

	if stamp != "" && stamp == w.stamp && now.Sub(w.read) < readEvery {
		return
	}

	text, err := os.ReadFile(configFile(w.path))
	if err != nil {
		w.complain("waiting for a configuration", err)

		return // the next look reads again
	}

	switch err := w.keeper.Offer(text); {
	case err == nil:
		w.said = ""
	case errors.Is(err, admin.ErrOlder):
		// The file lags behind what the admin endpoint was given; it will catch up.
		w.log.Debug("the file is older than what runs", "path", w.path, "detail", err)
	default:
		w.complain("configuration refused; what ran before goes on", err)
	}

	w.stamp, w.read = stamp, now
}

func (w *watcher) complain(message string, err error) {
	if said := w.said; said != err.Error() {
		w.said = err.Error()
		w.log.Warn(message, "path", w.path, "reason", err) //nolint:sloglint // one of two constants
	}
}

// configFile is the file that a path means: itself, or the one of the usual name in a directory.
func configFile(path string) string {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return filepath.Join(path, contract.BridgeFile)
	}

	return path
}
