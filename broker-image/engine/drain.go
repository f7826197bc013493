// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"slices"
	"time"

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

	return c.disconnectTo(r, code, "the broker is shutting down", reference, metrics.Stopping)
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
