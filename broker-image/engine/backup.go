// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/snapshot"
	"github.com/mqtt-operator/mqtt-operator/broker-image/store"
)

// snapshotStep is how much of a snapshot is in memory at once: more only where a single message is larger.
const snapshotStep = 256 << 10

var (
	// ErrNothingKept says that the broker keeps nothing on disk, so that there is nothing to save and nowhere to restore to.
	ErrNothingKept = errors.New("the broker keeps nothing on disk")
	// ErrSnapshotBusy says that another backup or restore is under way.
	ErrSnapshotBusy = errors.New("another backup or restore is under way")
)

// StateError says what would be lost by a restore.
type StateError struct{ Sessions, Retained int64 }

func (e *StateError) Error() string {
	return fmt.Sprintf("the broker has %d sessions and %d retained messages of its own", e.Sessions, e.Retained)
}

// Backup writes all that outlives the process as it is at one moment: sessions with their subscriptions, queues, packet ids
// and wills, and retained messages. What was acknowledged to a client before is in it. Clients notice nothing. It may be as
// slow as whoever takes it, but meanwhile the disk keeps what was removed; when that is full it is given up.
func (e *Engine) Backup(ctx context.Context, to io.Writer) (snapshot.Totals, error) {
	if err := e.beginSnapshot(); err != nil {
		return snapshot.Totals{}, err
	}
	defer e.endSnapshot()

	taken := time.UnixMilli(e.milliseconds(e.clock())).UTC()

	at, err := e.store.Snapshot()
	if err != nil {
		return snapshot.Totals{}, err
	}
	defer at.Close()

	w, err := snapshot.NewWriter(to, snapshot.Header{
		Broker: e.state.Load().name, Version: e.options.Version, Store: store.Form, Taken: taken,
	})
	if err != nil {
		return snapshot.Totals{}, err
	}

	for {
		next := at.Next(snapshotStep, w.Record)
		if next != nil && !errors.Is(next, io.EOF) {
			return snapshot.Totals{}, next
		}

		if err := w.Flush(); err != nil {
			return snapshot.Totals{}, err
		}

		if err := ctx.Err(); err != nil {
			return snapshot.Totals{}, err
		}

		if next != nil {
			break
		}
	}

	totals := totalsOf(at.Holding())

	return totals, w.Close(totals)
}

// beginSnapshot lets one at a time do something with all that is on disk.
func (e *Engine) beginSnapshot() error {
	e.applying.Lock()
	running := e.running
	e.applying.Unlock()

	switch {
	case e.store == nil:
		return ErrNothingKept
	case !running:
		return ErrNotServing
	case !e.snapshotting.CompareAndSwap(false, true):
		return ErrSnapshotBusy
	}

	return nil
}

func (e *Engine) endSnapshot() { e.snapshotting.Store(false) }

func totalsOf(h store.Holding) snapshot.Totals {
	return snapshot.Totals{
		Sessions: h.Sessions, Subscriptions: h.Subscriptions, Queued: h.Queued, Received: h.Inbound, Wills: h.Wills,
		Retained: h.Retained,
	}
}

// RestoreOptions say how to restore.
type RestoreOptions struct {
	// Replace what the broker has. Otherwise a broker that has something takes nothing.
	Replace bool
	// StopClocks has nothing expire by the time between backup and restore.
	StopClocks bool
}

// Restoration is a snapshot that has been read to its end and lies beside the store. Commit or Discard it.
type Restoration struct {
	// Header and Totals of the snapshot.
	Header snapshot.Header
	Totals snapshot.Totals

	e      *Engine
	intake *store.Intake
	o      RestoreOptions
}

// Restore reads a snapshot to its end and puts it beside what the broker has, which goes on as it is. The error is a
// [StateError], or wraps [snapshot.ErrDamaged] or [snapshot.ErrOther] where the stream is at fault.
func (e *Engine) Restore(ctx context.Context, from io.Reader, o RestoreOptions) (*Restoration, error) {
	if err := e.beginSnapshot(); err != nil {
		return nil, err
	}

	r := &Restoration{e: e, o: o}
	if err := r.read(ctx, from); err != nil {
		r.Discard()

		return nil, err
	}

	return r, nil
}

func (r *Restoration) read(ctx context.Context, from io.Reader) error {
	if !r.o.Replace {
		held, err := r.e.store.Holding()
		if err != nil {
			return err
		}

		if err := refuseState(held); err != nil {
			return err
		}
	}

	in, err := snapshot.NewReader(from)
	if err != nil {
		return err
	}

	r.Header = in.Header
	if in.Header.Store != store.Form {
		return fmt.Errorf("%w: its records have form %d, and this release knows form %d", snapshot.ErrOther, in.Header.Store, store.Form)
	}

	var shift int64
	if now := r.e.milliseconds(r.e.clock()); r.o.StopClocks {
		shift = max(0, now-in.Header.Taken.UnixMilli())
	}

	if r.intake, err = store.NewIntake(r.e.options.DataDir, shift, store.Options{}); err != nil {
		return err
	}

	for ctx.Err() == nil {
		key, value, err := in.Next()
		if errors.Is(err, io.EOF) {
			r.Totals = in.Footer().Totals

			return r.finish()
		}

		if err == nil {
			err = r.intake.Add(key, value)
		}

		if err != nil {
			return asDamage(err)
		}
	}

	return ctx.Err()
}

// finish compares what has come with what was said.
func (r *Restoration) finish() error {
	if err := r.intake.Finish(); err != nil {
		return asDamage(err)
	}

	if got := totalsOf(r.intake.Holding()); got != r.Totals {
		return fmt.Errorf("%w: it holds %+v and says %+v", snapshot.ErrDamaged, got, r.Totals)
	}

	return nil
}

// asDamage says of a record that does not parse that the snapshot is at fault, not the disk.
func asDamage(err error) error {
	if errors.Is(err, store.ErrDamaged) {
		return fmt.Errorf("%w: %s", snapshot.ErrDamaged, err.Error())
	}

	return err
}

func refuseState(h store.Holding) error {
	if h.Empty() {
		return nil
	}

	return &StateError{Sessions: h.Sessions, Retained: h.Retained}
}

// Commit has the next engine on the same directory begin with what was restored. This one must have been shut down: what it
// had is looked at once more. After an error everything is as it was.
func (r *Restoration) Commit() error {
	if !r.e.stopping.Load() {
		return errors.New("the broker has not been shut down")
	}

	if !r.o.Replace {
		held, err := store.Look(r.e.options.DataDir, store.Options{Log: r.e.log})
		if err == nil {
			err = refuseState(held)
		}

		if err != nil {
			r.Discard()

			return err
		}
	}

	if err := r.intake.Adopt(); err != nil {
		r.Discard()

		return err
	}

	r.e.endSnapshot()

	return nil
}

// Discard forgets it.
func (r *Restoration) Discard() {
	if r.intake != nil {
		r.intake.Discard()
	}

	r.e.endSnapshot()
}
