// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"sync"
	"time"
)

const (
	tick = 100 * time.Millisecond
	// slots times tick is how far the wheel looks ahead; what is later goes round more than once.
	slots = 1024
	// retry is when a timer fires again that has panicked.
	retry = time.Minute
)

// timer is one thing that is due at some time. It is part of what it belongs to, so that setting it allocates nothing.
type timer struct {
	prev, next *timer
	fire       func(*round)
	at         int64 // in ticks; 0 when it is not set
}

// wheel is the one clock for keep-alive, session expiry, delayed wills and the expiry of retained messages. Setting,
// moving and stopping a timer take the same short time however many there are.
type wheel struct {
	e     *Engine
	begin time.Time

	mu    sync.Mutex
	slots [slots]timer // heads of rings
	now   int64        // the last tick that was looked at
	quit  chan struct{}
	gone  chan struct{}
}

func newWheel(e *Engine) *wheel {
	w := &wheel{e: e, begin: time.Now(), quit: make(chan struct{}), gone: make(chan struct{})}
	for i := range w.slots {
		w.slots[i].prev, w.slots[i].next = &w.slots[i], &w.slots[i]
	}

	return w
}

// set has the timer fire after d, and not before.
func (w *wheel) set(t *timer, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.unlink(t)

	at := int64((time.Since(w.begin)+d)/tick) + 1
	w.link(t, max(at, w.now+1))
}

func (w *wheel) stop(t *timer) {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.unlink(t)
	t.at = 0
}

func (w *wheel) link(t *timer, at int64) {
	head := &w.slots[at%slots]
	t.at, t.prev, t.next = at, head.prev, head
	head.prev.next, head.prev = t, t
}

func (w *wheel) unlink(t *timer) {
	if t.next != nil {
		t.prev.next, t.next.prev = t.next, t.prev
		t.prev, t.next = nil, nil
	}
}

func (w *wheel) run() {
	defer close(w.gone)

	ticker := time.NewTicker(tick)
	defer ticker.Stop()

	var due []*timer

	for {
		select {
		case <-w.quit:
			return
		case <-ticker.C:
		}

		due = w.advance(due[:0], int64(time.Since(w.begin)/tick))
		if len(due) == 0 {
			continue
		}

		r := w.e.borrow()
		for i, t := range due {
			due[i] = nil
			w.fire(r, t)
		}

		w.e.giveBack(r)
	}
}

// fire runs what a timer is for. When that panics, the others go on, and it is tried again after a while: each looks
// anew at what is due, and whoever holds a lock on the way lets go of it.
func (w *wheel) fire(r *round, t *timer) {
	defer func() {
		if fault := recover(); fault != nil {
			w.e.panicked(r, fault)
			w.set(t, retry)
		}
	}()

	t.fire(r)
}

// advance takes out what is due.
func (w *wheel) advance(due []*timer, to int64) []*timer {
	w.mu.Lock()
	defer w.mu.Unlock()

	// After a long sleep every slot is looked at once.
	for at := max(w.now+1, to-slots+1); at <= to; at++ {
		head := &w.slots[at%slots]
		for t := head.next; t != head; {
			next := t.next
			if t.at <= to {
				w.unlink(t)
				t.at = 0
				due = append(due, t)
			}

			t = next
		}
	}

	w.now = max(w.now, to)

	return due
}

func (w *wheel) close() {
	close(w.quit)
	<-w.gone
}

// bucket bounds how fast a client publishes.
type bucket struct {
	rate   float64
	tokens float64
	last   time.Time
}

func newBucket(perSecond int, now time.Time) *bucket {
	return &bucket{rate: float64(perSecond), tokens: float64(perSecond), last: now}
}

// take spends one message. It is false when more was spent than there was: the client has to wait.
func (b *bucket) take(now time.Time) bool {
	b.tokens = min(b.rate, b.tokens+b.rate*now.Sub(b.last).Seconds())
	b.last = now
	b.tokens--

	return b.tokens >= 0
}

// wait is how long it takes until there is room for a message again.
func (b *bucket) wait() time.Duration {
	return max(tick, time.Duration((1-b.tokens)/b.rate*float64(time.Second)))
}
