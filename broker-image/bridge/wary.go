// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"fmt"
	"time"
)

const (
	// firmStrikes is how often a connection must have ended over one message, and over nothing else, before the message is
	// suspected; extremeStrikes is when a message behind it may overtake it within its topic to find out.
	firmStrikes    = 5
	extremeStrikes = 10
	// firstPeriod is how long a bound holds before more is tried; each time that this fails it holds twice as long.
	firstPeriod = 10 * time.Second
	lastPeriod  = time.Hour
	// refusedAge is how long a topic stays suspect, maxRefused how many do.
	refusedAge = 10 * time.Minute
	maxRefused = 1000
)

// wary is what a flow learns of a destination that ends the connection where it has no words for what is wrong. In 3.1.1
// that is the only way to refuse a message [MQTT-3.3.5-2 of 3.1.1]; some servers do it with 5 as well. It may be that too
// much waits for an answer, or that one message will never be taken. So what was under way is sent again one by one, and
// then twice as much each time. The fields are under the lock of the flow.
type wary struct {
	// window is how many publications may be under way; 0 while there is no doubt. It grows up to ceiling, 0 for no bound.
	window, ceiling int
	// last is how many were under way when a connection ended while window grew; 0 where none did.
	last int
	// period is how long the ceiling holds, grows when it does not any more.
	period time.Duration
	grows  time.Time
	// fit says that the destination has taken something by this connection, so it is able to.
	fit bool
	// wasFit is the same of the connection before.
	wasFit bool
	// alone says that nothing may be sent beside what is under way.
	alone bool
	// refused are the topics of messages that were given up.
	refused map[string]refusal
}

// refusal is of a message that was given up: what is as long, and on its topic, may share its fate.
type refusal struct {
	when time.Time
	size int
}

// bound is the window as far as this goes.
func (w *wary) bound(window int) int {
	if w.window > 0 {
		return min(window, w.window)
	}

	return window
}

// began is called with each new connection.
func (w *wary) began() { w.fit, w.alone = false, false }

// answered is called with each answer of the destination. window is what it would take without a doubt.
func (w *wary) answered(window int, now time.Time) {
	w.fit, w.alone = true, false

	if w.window == 0 {
		return
	}

	if w.ceiling > 0 && now.After(w.grows) {
		w.ceiling *= 2
		w.period = min(2*w.period, lastPeriod)
		w.grows = now.Add(w.period)
	}

	if w.ceiling >= window {
		w.ceiling, w.period = 0, 0
	}

	w.window++

	switch {
	case w.ceiling > 0:
		w.window = min(w.window, w.ceiling)
	case w.window >= window:
		w.window, w.last = 0, 0
	}
}

// ended is called where the destination ended a connection while so many were under way, more than none.
func (w *wary) ended(underway int, now time.Time) {
	if w.window == 0 {
		w.last = 0
	} else if underway > 1 {
		// A server with a bound ends it at the same number each time; a network that breaks does not.
		if w.last > 0 && underway <= w.last {
			w.ceiling = max(1, underway/2)
			w.period = max(w.period, firstPeriod)
			w.grows = now.Add(w.period)
		}

		w.last = underway
	}

	w.window = 1
}

// isRefused tells whether a message like this one was given up a short while ago.
func (w *wary) isRefused(e *entry, now time.Time) bool {
	before, found := w.refused[e.topic]
	if found && now.Sub(before.when) > refusedAge {
		delete(w.refused, e.topic)

		return false
	}

	return found && len(e.payload) >= before.size
}

func (w *wary) refuse(e *entry, now time.Time) {
	if len(w.refused) >= maxRefused {
		clear(w.refused)
	}

	if w.refused == nil {
		w.refused = map[string]refusal{}
	}

	w.refused[e.topic] = refusal{now, len(e.payload)}
}

// accept forgets what was refused where the destination takes its like.
func (w *wary) accept(e *entry) {
	if before, found := w.refused[e.topic]; found && len(e.payload) >= before.size {
		delete(w.refused, e.topic)
	}
}

// suspicion is how many connections ended over a message, or count as if they had: where the like of it was refused, all but
// the last one that it takes. That one has to be its own, since a network may break at any message.
func (f *flow) suspicion(e *entry, now time.Time) uint8 {
	if len(f.wary.refused) > 0 && f.wary.isRefused(e, now) {
		return max(e.strikes, firmStrikes-1)
	}

	return e.strikes
}

// choose gives the message to send where the next one in line is n: the one itself, one that shows that the destination
// is able to take any, or nil to wait. alone says that nothing may be under way beside it.
func (f *flow) choose(n uint64, now time.Time) (next *entry, alone bool) {
	e := f.at(n)

	suspicion := f.suspicion(e, now)
	if suspicion == 0 || e.outQoS == 0 {
		return e, false
	}

	if f.inFlight > 0 {
		return nil, false
	}

	if f.wary.fit || suspicion < firmStrikes {
		return e, true
	}

	for n++; n < f.tail; n++ {
		other := f.at(n)
		if other.state != waiting || other.outQoS == 0 || other.topic == e.topic && suspicion < extremeStrikes {
			continue
		}

		if f.suspicion(other, now) == 0 {
			return other, true
		}
	}

	return e, true
}

// ended learns from the end of a connection by the destination. It gives up a message that ended one which was well.
func (f *flow) ended(now time.Time) {
	underway, first := 0, (*entry)(nil)

	for n := f.head; n < f.tail; n++ {
		if e := f.at(n); e.state == sent {
			if underway == 0 {
				first = e
			}

			underway++
		}
	}

	if underway == 0 {
		return
	}

	f.wary.ended(underway, now)

	if underway > 1 {
		return
	}

	for n := f.head; f.at(n) != first; n++ {
		if f.at(n).state == waiting {
			return // first was there to show that the destination is able; it is not
		}
	}

	switch suspicion := f.suspicion(first, now); {
	case suspicion >= firmStrikes && f.wary.fit:
		f.wary.refuse(first, now)
		f.giveUp(first, DropClosed, fmt.Sprintf("the destination ends the connection over a message on %q with %d bytes, and takes others; see whether this user may publish there and how large a message may be", printable(first.topic), len(first.payload)), now)
	case suspicion < extremeStrikes:
		first.strikes = suspicion + 1

		fallthrough
	default:
		if suspicion+1 >= firmStrikes {
			f.lastError, f.lastErrorTime = fmt.Sprintf("the destination has ended the connection %d times or more over a message on %q with %d bytes; it is given up once another message shows that the destination is well", suspicion+1, printable(first.topic), len(first.payload)), now
		}
	}
}

// hadAnswers tells whether the last connection to the destination brought the flow on.
func (f *flow) hadAnswers() bool {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.wary.wasFit
}

// ceiling is how many messages at most are sent before the destination has answered, where the flow had to find out; else 0.
func (f *flow) ceiling() int {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.wary.ceiling
}
