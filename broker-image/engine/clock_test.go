// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"testing"
	"time"
	"unsafe"
)

// jumped is the time as Go's runtime gives it when the machine's clock was set while the process ran: another time of
// day, and the same reading of the clock that only goes on.
func jumped(t *testing.T, now time.Time, by time.Duration) time.Time {
	t.Helper()

	// The time of day stands in the upper part of the first word, in seconds since 1885; see package time.
	later := now
	*(*uint64)(unsafe.Pointer(&later)) += uint64(int64(by/time.Second)) << 30

	if later.Unix()-now.Unix() != int64(by/time.Second) || later.Sub(now) != 0 {
		t.Skip("package time keeps its times in another way than this test knows")
	}

	return later
}

// TestTheClockJumps: keep-alive, message expiry, session expiry and delayed wills are all reckoned with the milliseconds of
// a round, which do not move when the clock is set.
func TestTheClockJumps(t *testing.T) {
	h := open(t, Options{}, anybody(t))
	now := time.Now()
	want := h.milliseconds(now)

	for name, by := range map[string]time.Duration{
		"a year ahead": 365 * 24 * time.Hour, "a second ahead": time.Second, "an hour back": -time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			if got := h.milliseconds(jumped(t, now, by)); got != want {
				t.Errorf("the engine's clock moved by %d ms", got-want)
			}

			m := message{expiresAt: want + 5000}
			if left, alive := m.expiry(h.milliseconds(jumped(t, now, by))); !alive || left != 5 {
				t.Errorf("a message that has 5 s left has %d, alive: %v", left, alive)
			}

			s := &session{away: want, expiry: 10}
			s.timer.fire = s.alarm
			s.e = h.Engine
			s.schedule(h.milliseconds(jumped(t, now, by)))

			if s.dueAt != want+10_000 {
				t.Errorf("a session of 10 s is due after %d ms", s.dueAt-want)
			}

			h.wheel.stop(&s.timer)

			b := newBucket(10, now)
			b.tokens = 0

			if b.take(jumped(t, now, by)) {
				t.Error("a clock that was set is no leave to publish more")
			}
		})
	}
}
