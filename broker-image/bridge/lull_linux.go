// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"cmp"
	"syscall"
	"time"
)

const (
	// lullTime is the longest time for which acknowledgements are left to gather.
	lullTime = 5 * time.Millisecond
	// lullOwed is how many a peer has to owe before they are: below it each is taken as it comes.
	lullOwed = 64
	// lullFirst is how many are waited for at first: then twice as many each time that they came, and as many as came where
	// they did not. It is never more than lullMost, nor than a quarter of what is owed, so that the peer does not run out of
	// messages.
	lullFirst = 64
	lullMost  = 256
	// lullLeast is what it is worth to wait for, and lullSkip how many reads go by after not even that came in time.
	lullLeast = 32
	lullSkip  = 16
	// ackSize is the size of an acknowledgement with nothing but its identifier, in bytes.
	ackSize = 4
)

// lull leaves acknowledgements to gather at a connection that owes many. There are servers that write each by itself, and
// whoever waits for the next byte is then woken for each of them, in the middle of what the server does: to be woken costs
// both sides more than the rest of the message's way. SO_RCVLOWAT has the kernel wake nobody before there is enough.
//
// The zero value gathers nothing. It is for the goroutine that reads alone.
type lull struct {
	raw    syscall.RawConn
	lowest int
	skip   int
	// next is how many are waited for the next time; 0 stands for lullFirst.
	next int
	// most is the longest time; 0 stands for lullTime.
	most time.Duration
}

func newLull(d *direct) lull {
	if d == nil {
		return lull{}
	}

	return lull{raw: d.raw}
}

// wait returns when the acknowledgements have come for which it is worth to wait, or the time is over. It leaves no read
// deadline behind, and a read after it finds something, or is woken by the first byte.
func (l *lull) wait(owed int, deadline func(time.Time) error) {
	switch {
	case l.raw == nil || owed < lullOwed:
		l.wakeAt(1)

		return
	case l.skip > 0:
		l.skip--

		return
	}

	next := cmp.Or(l.next, lullFirst)
	want, there := min(owed/4, next)*ackSize, 0
	l.wakeAt(want)

	if err := deadline(time.Now().Add(cmp.Or(l.most, lullTime))); err != nil {
		return // the read will say why
	}

	_ = l.raw.Read(func(fd uintptr) bool {
		n, errno := unread(fd)
		there = n

		return errno != 0 || n >= want
	})
	_ = deadline(time.Time{})

	switch {
	case there >= want:
		l.next = min(2*next, lullMost)

		return
	case there >= lullLeast*ackSize:
		l.next = there / ackSize
	default:
		l.next, l.skip = 0, lullSkip
	}

	l.wakeAt(1)
}

// wakeAt has the reader woken when so many bytes are there.
func (l *lull) wakeAt(bytes int) {
	if l.raw == nil || max(l.lowest, 1) == bytes {
		return
	}

	l.lowest = bytes
	_ = l.raw.Control(func(fd uintptr) { _ = setLowWater(fd, bytes) })
}
