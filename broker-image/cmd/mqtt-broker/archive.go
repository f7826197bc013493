// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/engine"
)

// archive has the engine's backups speak the admin endpoint's words.
type archive struct {
	broker *engine.Engine
	log    *slog.Logger
	// restored is what is to be begun anew with; see runBroker.
	restored chan *restoration
}

// restoration waits for the broker's end.
type restoration struct {
	*engine.Restoration

	done chan error // has room
}

func newArchive(broker *engine.Engine, log *slog.Logger) *archive {
	return &archive{broker: broker, log: log, restored: make(chan *restoration)}
}

// settle makes what was restored that with which the broker begins anew. fault is what went wrong when it was shut down.
func (r *restoration) settle(fault error) {
	if fault != nil {
		r.Discard()
		r.done <- fmt.Errorf("the broker did not come to a good end, and goes on with what it had: %w", fault)

		return
	}

	r.done <- r.Commit()
}

// Backup is of admin.Snapshots.
func (a *archive) Backup(ctx context.Context, to io.Writer) error {
	began := time.Now()
	totals, err := a.broker.Backup(ctx, to)

	if err != nil {
		a.log.Warn("backup failed", "reason", err)

		return asAdmin(err)
	}

	a.log.Info("backup was taken", "sessions", totals.Sessions, "queued", totals.Queued, "retained", totals.Retained,
		"took", time.Since(began))

	return nil
}

// Restore is of admin.Snapshots.
func (a *archive) Restore(ctx context.Context, from io.Reader, o admin.RestoreOptions) (admin.Restored, error) {
	found, err := a.broker.Restore(ctx, from, engine.RestoreOptions(o))
	if err != nil {
		a.log.Warn("restore failed; the broker has what it had", "reason", err)

		return admin.Restored{}, asAdmin(err)
	}

	r := &restoration{Restoration: found, done: make(chan error, 1)}

	select {
	case a.restored <- r:
	case <-ctx.Done(): // the caller has gone, or the broker comes to its end
		found.Discard()

		return admin.Restored{}, ctx.Err()
	}

	// From here on it is not the caller who decides.
	if err := <-r.done; err != nil {
		a.log.Warn("restore failed; the broker has what it had", "reason", err)

		return admin.Restored{}, asAdmin(err)
	}

	a.log.Info("restored", "from", found.Header.Broker, "taken", found.Header.Taken, "sessions", found.Totals.Sessions,
		"queued", found.Totals.Queued, "retained", found.Totals.Retained)

	return admin.Restored{Header: found.Header, Totals: found.Totals}, nil
}

// asAdmin gives an error the sense that the endpoint knows.
func asAdmin(err error) error {
	if held, is := errors.AsType[*engine.StateError](err); is {
		return fmt.Errorf("%w: sessions: %d, retained messages: %d", admin.ErrHasState, held.Sessions, held.Retained)
	}

	if errors.Is(err, engine.ErrSnapshotBusy) {
		return admin.ErrSnapshotBusy
	}

	return err
}
