// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"time"
)

// waiting is a transaction that was handed over.
type waiting struct {
	tx   *Tx
	lazy bool
	done func(error)
	err  error // it was refused, and waits only for its turn
}

const (
	// syncEvery bounds how long something that nobody waits for stays in memory.
	syncEvery = time.Second
	// healEvery is how often a store that failed is tried again.
	healEvery = time.Second
	// jamPatience is how long a group may wait for memory after a flush has failed.
	jamPatience = 3 * time.Second
	// startFirst is the size from which on a group starts before the dones of the one before it run.
	startFirst = 64 << 10
	// See linger.
	lingerFrom  = 4
	lingerBelow = 16 << 10
	lingerTime  = 500 * time.Microsecond
	// gatherTurns bounds how often others are let run between two groups.
	gatherTurns = 8
)

// committer is the store's goroutine. One group commit is under way at a time; what arrives meanwhile is encoded into
// the next one.
type committer struct {
	s *Store

	now  *group // under way, or nil
	next *group
	idle *group // the third of two, to be used again

	queue  []waiting // taken from the store, and not yet in a group
	ledger *ledger
	number uint64 // of the last group that was opened
	synced uint64 // the last group known to be on disk

	// safeLog and safeSize are where the log ends that holds all acknowledged groups.
	safeLog  string
	safeSize int64
	// loose: something was acknowledged in interval mode since the last sync.
	loose bool

	dirty     bool // something was applied that is not synced
	dirtyTime *time.Timer
	healTime  *time.Timer
	jamTime   *time.Timer
	jamSeen   bool
	usual     int64 // size of a group, of late
	closing   bool
	failure   error // of encoding; looked at when the dones have run
}

func (c *committer) run() {
	defer close(c.s.ended)
	c.dirtyTime, c.healTime, c.jamTime = stopped(), stopped(), stopped()
	defer c.jamTime.Stop()
	defer c.dirtyTime.Stop()
	defer c.healTime.Stop()
	for !c.ended() {
		d := c.s.database()
		var done <-chan result
		var dead <-chan struct{}
		if d != nil {
			done, dead = d.done, d.fs.dead
		}
		select {
		case <-c.s.wake:
			c.take()
		case r := <-done:
			c.result(r)
		case <-dead:
			c.broken(d.fs.why())
		case <-c.dirtyTime.C:
			c.flush()
		case <-c.healTime.C:
			c.heal()
		case <-c.s.jammed:
			if !c.jamSeen { // it comes again with each flush that fails
				c.jamSeen = true
				c.jamTime.Reset(jamPatience)
			}
		case <-c.jamTime.C:
			c.jammed()
		}
		if err := c.failure; err != nil {
			c.failure = nil
			c.broken(err)
		}
	}
}

// ended tells whether the store was closed and all is done.
func (c *committer) ended() bool {
	return c.closing && c.now == nil && len(c.queue) == 0 && len(c.next.waiting) == 0
}

func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// take fetches what was handed over since the last time, and starts it if nothing is under way.
func (c *committer) take() {
	c.s.mu.Lock()
	if len(c.queue) == 0 {
		c.queue, c.s.handed = c.s.handed, c.queue[:0]
	} else {
		c.queue = append(c.queue, c.s.handed...)
		clear(c.s.handed)
		c.s.handed = c.s.handed[:0]
	}
	c.closing = c.s.closing
	if c.s.ready != nil {
		c.ledger, c.s.ready = c.s.ready, nil
	}
	c.s.mu.Unlock()
	c.proceed()
}

// proceed encodes what waits, and starts the next group if the disk is free.
func (c *committer) proceed() {
	if c.s.database() == nil {
		c.refuseAll(c.s.faultError())
		return
	}
	if c.now != nil && !c.now.applied {
		return // what the group under way has changed cannot be read yet
	}
	if c.failure != nil {
		return
	}
	if c.failure = c.encode(); c.failure != nil {
		return
	}
	if c.now == nil && len(c.next.waiting) > 0 {
		c.start()
	}
}

// encode moves transactions from the queue into the next group, up to its bound.
func (c *committer) encode() error {
	taken := 0
	defer func() {
		rest := copy(c.queue, c.queue[taken:])
		clear(c.queue[rest:])
		c.queue = c.queue[:rest]
	}()
	for _, w := range c.queue {
		g := c.next
		if g.bytes >= groupBytes {
			return nil
		}
		taken++
		if w.err = c.admit(w.tx); w.err != nil {
			g.waiting = append(g.waiting, w) // its done runs in its turn
			continue
		}
		if g.number == 0 {
			c.number++
			g.open(c.s.database(), c.number, c.synced)
		}
		// It is in the group before it is encoded, so that it fails with the group.
		g.waiting = append(g.waiting, w)
		g.bytes += w.tx.cost()
		g.sync = g.sync || !w.lazy && !c.s.interval.Load()
		b := builder{group: g, l: c.ledger, db: c.s.database()}
		if err := b.add(w.tx); err != nil {
			return err
		}
	}
	return nil
}

// admit refuses a transaction while there is no room, on the disk or in memory.
func (c *committer) admit(tx *Tx) error {
	if jam := c.s.jam.Load(); jam != nil {
		if errors.Is(*jam, syscall.ENOSPC) {
			return fmt.Errorf("store: %w: %w", ErrFull, *jam)
		}
		return fmt.Errorf("store: what is in memory cannot be written out: %w", *jam)
	}
	return c.s.disk.admit(tx)
}

// jammed gives the database up if the group under way waits for memory that is not written out.
func (c *committer) jammed() {
	c.jamSeen = false
	jam := c.s.jam.Load()
	if jam != nil && c.now != nil && !c.now.applied {
		c.broken(*jam)
	}
}

// start hands the next group to the disk.
func (c *committer) start() {
	g := c.next
	c.next, c.idle = c.idle, nil
	if c.next == nil {
		c.next = &group{}
	}
	if g.number == 0 {
		c.conclude(g, 0)
		return
	}
	c.now = g
	g.shut(c.ledger)
	c.s.shared.Store(int64(len(c.ledger.pointers)))
	c.s.disk.spent(int64(g.batch.Len()))
	d := c.s.database()
	d.jobs <- job{batch: g.batch, sync: g.sync, done: d.done}
}

func (c *committer) result(r result) {
	switch {
	case r.err != nil:
		c.broken(r.err)
	case r.final:
		c.finish(r.took)
	default:
		c.now.applied = true
		c.proceed()
	}
}

// finish ends the group that was under way: first the disk gets the next one, then the dones run.
func (c *committer) finish(took time.Duration) {
	g := c.now
	g.applied = true
	if g.sync {
		c.synced = g.number
		c.dirty = false
		c.dirtyTime.Stop()
		c.mark()
	} else if !c.dirty {
		c.dirty = true
		c.dirtyTime.Reset(syncEvery)
	}
	c.loose = !g.sync && (c.loose || c.s.interval.Load())
	c.now = nil
	c.s.visible.Store(g.number)
	if c.next.number != 0 && c.next.bytes >= startFirst {
		c.start()
	}
	c.s.count(g)
	c.usual += (g.bytes - c.usual) / 8
	var pause time.Duration
	if g.sync {
		pause = linger(len(g.waiting), c.usual, took)
	}
	c.conclude(g, took)
	if pause > 0 && c.now == nil {
		time.Sleep(pause)
	} else {
		c.gather()
	}
	c.take()
}

// linger is how long the disk is left alone after a group of so many transactions, where groups of late had usual bytes and the
// disk took so long. Where several commit at once and each brings little, a fast disk would have the next group begin with
// the first of those who were just answered, and a group costs a machine more than what is in it: with half the groups it
// does an eighth more. Nobody waits for longer than he did for the disk, nor for more than lingerTime; who commits alone
// does not wait.
func linger(transactions int, usual int64, took time.Duration) time.Duration {
	if transactions < lingerFrom || usual >= lingerBelow {
		return 0
	}
	return min(took, lingerTime)
}

// gather lets those run who were just answered: what they commit now shares the next sync. Without it the committers
// fall into two halves, each of which waits for the sync of the other.
func (c *committer) gather() {
	for range gatherTurns {
		before := c.s.pending.Load()
		runtime.Gosched()
		if c.s.pending.Load() == before {
			return
		}
	}
}

// conclude runs the dones of a group.
func (c *committer) conclude(g *group, took time.Duration) {
	for _, w := range g.waiting {
		c.answer(w)
	}
	if len(g.waiting) > 0 && c.s.o.Observe != nil {
		c.s.o.Observe(took, len(g.waiting))
	}
	if len(g.waiting) > 0 && c.s.o.AfterGroup != nil {
		c.s.o.AfterGroup()
	}
	g.reset()
	if c.idle == nil {
		c.idle = g
	}
}

// answer runs the done of a transaction and takes it back.
func (c *committer) answer(w waiting) {
	if w.err != nil {
		c.s.stats.refused.Add(1)
	}
	c.s.pending.Add(-w.tx.cost())
	w.tx.Discard()
	if w.done != nil {
		w.done(w.err)
	}
}

func (c *committer) refuse(w waiting, err error) {
	if w.err == nil {
		w.err = err
	}
	c.answer(w)
}

func (c *committer) refuseAll(err error) {
	all := c.queue
	c.queue = nil
	for _, w := range all {
		c.refuse(w, err)
	}
	if len(all) > 0 && c.s.o.AfterGroup != nil {
		c.s.o.AfterGroup()
	}
}

// mark notes what is on disk now.
func (c *committer) mark() {
	fs := c.s.database().fs
	if l := fs.log.Load(); l != nil {
		c.safeLog, c.safeSize = l.name, l.synced.Load()
	}
	c.s.seal(fs, c.synced, false)
}

// flush syncs what nobody waits for.
func (c *committer) flush() {
	if c.now != nil || len(c.next.waiting) > 0 || c.s.database() == nil {
		// A group is under way. If it is not synced it will leave the timer running again.
		c.dirtyTime.Reset(syncEvery)
		return
	}
	c.number++
	c.next.open(c.s.database(), c.number, c.synced)
	c.next.sync = true
	c.start()
}

// broken gives the database up: all that waits fails, and what the disk holds of it is cut off.
func (c *committer) broken(err error) {
	c.s.setFault(err)
	c.s.dropDatabase()
	if cut := c.cut(); cut != nil { // it is tried again before the database is opened
		c.s.o.Log.Error("store: cannot take back what was refused", "error", cut)
	}
	err = c.s.faultError()
	c.dirtyTime.Stop()
	c.dirty = false
	groups := []*group{c.now, c.next}
	c.now, c.next, c.idle = nil, &group{}, nil
	for _, g := range groups {
		if g == nil {
			continue
		}
		for _, w := range g.waiting {
			c.refuse(w, err)
		}
	}
	c.refuseAll(err)
	if c.s.o.AfterGroup != nil {
		c.s.o.AfterGroup()
	}
	c.healTime.Reset(healEvery)
}

// heal opens the database again, if the disk lets it.
func (c *committer) heal() {
	if c.closing {
		return
	}
	if err := c.reopen(); err != nil {
		c.s.setFault(err)
		c.healTime.Reset(healEvery)
		return
	}
	c.s.clearFault()
	c.s.stats.reopened.Add(1)
	c.take()
}

func (c *committer) reopen() error {
	if err := c.s.disk.room(); err != nil {
		return err
	}
	if err := c.cut(); err != nil {
		return err
	}
	d, err := c.s.open()
	if err != nil {
		return err
	}
	l, err := d.read(Visitor{}, false)
	if err == nil {
		err = c.try(d)
	}
	if err != nil {
		d.giveUp()
		return err
	}
	l.highest, l.next = max(l.highest, c.ledger.highest), max(l.next, c.ledger.next)
	c.ledger = l
	c.adopt(d)
	return nil
}

// cut takes what failed from the log. In interval mode what is in the log was acknowledged, and what failed was not
// written to it.
func (c *committer) cut() error {
	if c.loose || c.s.interval.Load() {
		return nil
	}
	return cutLog(c.s.inner(), c.safeLog, c.safeSize)
}

// try commits an empty group: what the disk does not take now it would not take from others either.
func (c *committer) try(d *database) error {
	c.number++
	g := group{}
	g.open(d, c.number, c.synced)
	defer func() { _ = g.batch.Close() }()
	if err := d.run(g.batch, true); err != nil {
		return err
	}
	c.synced = c.number
	return nil
}

// adopt makes d the database that is written to.
func (c *committer) adopt(d *database) {
	if l := d.fs.log.Load(); l != nil {
		c.safeLog, c.safeSize = l.name, l.synced.Load()
	}
	c.s.useDatabase(d)
}

// Commit hands tx over, which the caller must not touch again. It never waits. Done runs on the store's goroutine when
// tx is as safe as asked for, in the order of the commits; it must not wait for anything. A lazy transaction needs no
// sync: it is safe within about a second. Done may be nil.
func (s *Store) Commit(tx *Tx, lazy bool, done func(error)) {
	s.mu.Lock()
	if !s.restored || s.closing {
		err := ErrClosed
		if !s.restored {
			err = errors.New("the store was not restored")
		}
		s.mu.Unlock()
		tx.Discard()
		if done != nil {
			done(err)
		}
		return
	}
	s.pending.Add(tx.cost())
	s.handed = append(s.handed, waiting{tx: tx, lazy: lazy, done: done})
	first := len(s.handed) == 1
	s.mu.Unlock()
	if first {
		s.poke()
	}
}

// poke wakes the committing goroutine.
func (s *Store) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// faultError is what a transaction fails with while the store is out of order.
func (s *Store) faultError() error {
	if e := s.fault.Load(); e != nil {
		if errors.Is(*e, syscall.ENOSPC) {
			return fmt.Errorf("store: %w: %w", ErrFull, *e)
		}
		return fmt.Errorf("store: %w", *e)
	}
	return errors.New("store: out of order")
}
