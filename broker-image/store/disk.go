// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	defaultReserve = 32 << 20
	ballastName    = "ballast"
	ballastMax     = 8 << 20
	// askEvery and askBytes say how old the answer about free space may be.
	askEvery = 250 * time.Millisecond
	askBytes = 4 << 20
)

// disk watches the free space. The database must never meet a full disk: it could neither write its log nor make room
// by compacting. So writes are refused while there is still a reserve, and for the case that another one fills the disk
// meanwhile there is a file that can be given up at once.
type disk struct {
	dir     string
	reserve int64

	free   atomic.Int64
	asked  time.Time
	bytes  int64       // written since then
	stale  atomic.Bool // the disk was met full: what was asked before is wrong
	full   atomic.Bool
	held   atomic.Bool // the ballast lies on disk
	onFull func(full bool, free int64)
}

func newDisk(dir string, reserve int64, onFull func(bool, int64)) *disk {
	if reserve <= 0 {
		reserve = defaultReserve
	}
	return &disk{dir: dir, reserve: reserve, onFull: onFull}
}

// ask finds out how much is free, if the last answer is too old.
func (d *disk) ask() int64 {
	if now := time.Now(); d.stale.Swap(false) || d.asked.IsZero() || d.bytes >= askBytes || now.Sub(d.asked) >= askEvery {
		d.asked, d.bytes = now, 0
		var st unix.Statfs_t
		if err := unix.Statfs(d.dir, &st); err == nil {
			d.free.Store(int64(st.Bavail) * st.Bsize) //nolint:gosec // a disk is smaller than 8 EiB
		}
	}
	return d.free.Load() - d.bytes
}

func (d *disk) spent(n int64) { d.bytes += n }

// admit refuses a transaction for which there is no room. What only removes is let in longer: it makes room.
func (d *disk) admit(tx *Tx) error {
	free, limit := d.ask(), d.reserve
	if d.full.Load() {
		limit += d.reserve / 8 // so that it does not change its mind with every message
	}
	full := free < limit
	if full != d.full.Load() {
		d.full.Store(full)
		d.onFull(full, free)
		if !full {
			d.fill()
		}
	}
	if !full || !tx.grows && free >= d.reserve/4 {
		return nil
	}
	return fmt.Errorf("store: %w: %d bytes are free, %d are kept in reserve", ErrFull, free, d.reserve)
}

// room says whether a database can be opened.
func (d *disk) room() error {
	d.asked = time.Time{}
	if free := d.ask(); free < d.reserve/4 {
		return fmt.Errorf("%w: %d bytes are free, %d are kept in reserve", ErrFull, free, d.reserve)
	}
	return nil
}

func (d *disk) ballast() string { return filepath.Join(d.dir, ballastName) }

// fill puts the ballast on disk, if there is room for it.
func (d *disk) fill() {
	size := min(d.reserve/4, ballastMax)
	if d.held.Load() || d.ask() < d.reserve+2*size {
		return
	}
	f, err := os.OpenFile(d.ballast(), os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the directory is the operator's choice
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	if unix.Fallocate(int(f.Fd()), 0, 0, size) == nil {
		d.held.Store(true)
	} else {
		_ = os.Remove(d.ballast()) //nolint:gosec // as above
	}
}

// spare gives the ballast up. False: there was none.
func (d *disk) spare() bool {
	d.stale.Store(true)
	return d.held.CompareAndSwap(true, false) && os.Remove(d.ballast()) == nil
}
