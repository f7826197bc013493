// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

const (
	// shortestPause is how long a drain sleeps at least: at high rates it sends several clients away at once.
	shortestPause = time.Millisecond
	// owedPause is how much of lost time a drain makes up for. A process that stood still for longer would otherwise let
	// clients go in one burst.
	owedPause = 50 * time.Millisecond
	// leavePatience is how much of the time for the end is kept for clients that take long to go.
	leavePatience = 5 * time.Second
)

// drainClock tells the time while clients are sent away.
type drainClock struct {
	now func() time.Time
	// pause sleeps, and is false if the context ends first.
	pause func(context.Context, time.Duration) bool
}

func systemClock() drainClock {
	return drainClock{now: time.Now, pause: func(ctx context.Context, d time.Duration) bool {
		timer := time.NewTimer(d)
		defer timer.Stop()

		select {
		case <-timer.C:
			return true
		case <-ctx.Done():
			return false
		}
	}}
}

// pace says how many may go, so many per second from the first one on.
type pace struct {
	rate  int
	began time.Time
	sent  int
}

// due is when the next may go.
func (p *pace) due() time.Time {
	return p.began.Add(time.Duration(float64(p.sent) / float64(p.rate) * float64(time.Second)))
}

// allowed is how many may go now.
func (p *pace) allowed(now time.Time) int {
	late := now.Sub(p.due())
	if late < 0 {
		return 0
	}

	if late > owedPause {
		p.began = p.began.Add(late - owedPause)
		late = owedPause
	}

	return 1 + int(late.Seconds()*float64(p.rate))
}

// wait is how long until the next may go.
func (p *pace) wait(now time.Time) time.Duration { return max(p.due().Sub(now), shortestPause) }

// drain sends clients away, one after another at the rate of the configuration, until the context ends. Those who are
// left keep their connection until then, and everything else goes on for them. Who has not been let in yet is closed at
// once without a word, and so is the broker's own probe.
func (e *Engine) drain(ctx context.Context) {
	now := e.state.Load()
	if now == nil {
		return
	}

	left := slices.DeleteFunc(e.allMembers(), func(c *conn) bool {
		who := c.member.Load()
		if stays := who != nil && !who.probe; stays {
			return false
		}

		c.sever()

		return true
	})
	p := pace{rate: now.disconnectRate, began: e.drainClock.now()}
	e.log.Info("clients are sent away", "clients", len(left), "perSecond", p.rate)

	for {
		left = e.sendSomeAway(left, &p)

		if len(left) == 0 || !e.drainClock.pause(ctx, p.wait(e.drainClock.now())) {
			return
		}
	}
}

// sendSomeAway sends as many away as may go now, and returns the others. Who has gone by himself takes nobody's place.
func (e *Engine) sendSomeAway(left []*conn, p *pace) []*conn {
	r := e.borrow()
	defer e.giveBack(r)

	allowed := p.allowed(e.drainClock.now())

	for i, c := range left {
		if allowed == 0 {
			return left[i:]
		}

		if e.sendAway(r, c) {
			p.sent++
			allowed--
		}
	}

	return nil
}

// sendAway tells a client that the broker shuts down, or where to go instead. It is false if the client is on its way
// already.
func (e *Engine) sendAway(r *round, c *conn) bool {
	reference := ""
	code := wire.ServerShuttingDown

	if to := e.redirect.Load(); to != nil {
		reference, code = to.Reference, wire.UseAnotherServer
		if to.Permanent {
			code = wire.ServerMoved
		}
	}

	why := "the broker is shutting down"
	if !e.stopping.Load() {
		why = drainWords
	}

	return c.disconnectTo(r, code, why, reference, metrics.Stopping)
}

// drainWords are what a client is told that is sent away while the broker goes on.
const drainWords = "the broker sends its clients away"

// DrainOptions say how a broker that goes on sends its clients away.
type DrainOptions struct {
	// Rate is how many go per second, 1 to 1,000,000; 0: that of the configuration.
	Rate int
	// Deadline is when those go at once who are left; 0: never.
	Deadline time.Duration
	// Redirect says where they are to go instead; nil: nowhere.
	Redirect *Redirect
}

// DrainStatus says how far a drain is.
type DrainStatus struct {
	// Draining is true from Drain to EndDrain: nobody is let in. Done is true when there is nobody left to send away.
	Draining, Done bool
	// Rate is the one that holds, Reference where clients are sent.
	Rate      int
	Reference string
	Began     time.Time
	// Sent have been sent away; Left are connected still, or on their way out.
	Sent, Left int
}

// drainage is a drain of a broker that goes on.
type drainage struct {
	DrainOptions

	began  time.Time
	sent   atomic.Int64
	cancel context.CancelFunc
	over   chan struct{}
}

const (
	mostRate      = 1_000_000
	longestRefers = 1000
)

// Drain sends all clients away, one after another, and lets nobody in until EndDrain. It does not wait. A drain that is under
// way goes on with the new options.
func (e *Engine) Drain(o DrainOptions) error {
	now := e.state.Load()

	switch {
	case now == nil:
		return ErrNotServing
	case o.Rate < 0 || o.Rate > mostRate:
		return fmt.Errorf("a rate of %d is not between 1 and %d", o.Rate, mostRate)
	case o.Deadline < 0:
		return fmt.Errorf("a deadline of %s is over", o.Deadline)
	case o.Redirect != nil && (o.Redirect.Reference == "" || len(o.Redirect.Reference) > longestRefers || !utf8.ValidString(o.Redirect.Reference) || strings.ContainsRune(o.Redirect.Reference, 0)):
		return errors.New("the server reference is no text of at most 1000 bytes")
	case o.Rate == 0:
		o.Rate = now.disconnectRate
	}

	e.drainMu.Lock()
	defer e.drainMu.Unlock()

	e.haltDrain()

	ctx, cancel := context.WithCancel(context.Background())
	d := &drainage{DrainOptions: o, began: e.drainClock.now(), cancel: cancel, over: make(chan struct{})}

	// Who joins from now on sees it, and all who have joined before are on the list of those who are sent away.
	e.mu.Lock()
	stopping := e.stopping.Load()

	if !stopping {
		e.drained.Store(d)
		e.Redirect(o.Redirect)
	}
	e.mu.Unlock()

	if stopping {
		cancel()

		return ErrStopped
	}

	go e.runDrain(ctx, d)

	return nil
}

// runDrain sends those away who are there.
func (e *Engine) runDrain(ctx context.Context, d *drainage) {
	defer close(d.over)
	defer d.cancel()

	left := slices.DeleteFunc(e.allMembers(), func(c *conn) bool {
		who := c.member.Load()

		return who == nil || who.probe
	})
	p := pace{rate: d.Rate, began: d.began}
	e.log.Info("clients are sent away, and nobody is let in", "clients", len(left), "perSecond", p.rate)

	for {
		left = e.sendSomeAway(left, &p)
		d.sent.Store(int64(p.sent))

		now := e.drainClock.now()
		if d.Deadline > 0 && now.Sub(d.began) >= d.Deadline {
			d.sent.Add(int64(e.sendAllAway(left)))

			return
		}

		if len(left) == 0 || !e.drainClock.pause(ctx, p.wait(now)) {
			return
		}
	}
}

// sendAllAway sends those away who are left, and says how many that were.
func (e *Engine) sendAllAway(left []*conn) (n int) {
	r := e.borrow()
	defer e.giveBack(r)

	for _, c := range left {
		if e.sendAway(r, c) {
			n++
		}
	}

	return n
}

// haltDrain ends what a drain does, not that nobody is let in. drainMu is held.
func (e *Engine) haltDrain() {
	if d := e.drained.Load(); d != nil {
		d.cancel()
		<-d.over
	}
}

// EndDrain lets clients in again. It is false if they were not sent away.
func (e *Engine) EndDrain() bool {
	e.drainMu.Lock()
	defer e.drainMu.Unlock()

	e.haltDrain()

	if e.drained.Load() == nil {
		return false
	}

	e.Redirect(nil)
	e.drained.Store(nil)
	e.log.Info("clients are let in again")

	return true
}

// DrainStatus says how far it is.
func (e *Engine) DrainStatus() DrainStatus {
	s := DrainStatus{Left: int(e.connections.Load())}

	d := e.drained.Load()
	if d == nil {
		return s
	}

	s.Draining, s.Rate, s.Began, s.Sent = true, d.Rate, d.began, int(d.sent.Load())
	if d.Redirect != nil {
		s.Reference = d.Redirect.Reference
	}

	select {
	case <-d.over:
		s.Done = s.Left == 0
	default:
	}

	return s
}

// closedByDrain is why a client is not let in while the others are sent away; nil if it may come in.
func (e *Engine) closedByDrain(who *identity) *refusal {
	if e.drained.Load() == nil || who.probe {
		return nil
	}

	return &refusal{wire.ServerUnavailable, drainWords, metrics.Unavailable}
}

// dismiss sends everybody away who is left.
func (e *Engine) dismiss() {
	r := e.borrow()
	defer e.giveBack(r)

	for _, c := range e.allMembers() {
		if c.member.Load() == nil {
			c.sever()
		} else {
			e.sendAway(r, c)
		}
	}
}

// drainTime is the part of the time for the end in which clients are sent away at their rate.
func drainTime(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, found := ctx.Deadline()
	if !found {
		return context.WithCancel(ctx)
	}

	return context.WithDeadline(ctx, deadline.Add(-min(leavePatience, time.Until(deadline)/4)))
}
