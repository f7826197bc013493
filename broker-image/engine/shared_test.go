// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"strconv"
	"testing"
)

// slow is a client that takes one message at a time.
func slow(l login) login {
	l.props = append(l.props, u16prop(pReceiveMax, 1)...)

	return l
}

func (h *house) member(l login, filters ...string) *peer {
	h.t.Helper()

	p := h.login(l)
	p.subscribe(1, filters...)

	return p
}

// take reads and acknowledges messages, and tells what they said.
func (p *peer) take(n int) map[string]int {
	p.t.Helper()

	got := map[string]int{}

	for range n {
		m := p.message()
		got[m.payload]++

		p.send(packet{kind: tPuback, body: []byte{byte(m.id >> 8), byte(m.id)}})
	}

	return got
}

// TestAFullMemberIsPassedOver: as long as any member of a group has room, nothing may be dropped.
func TestAFullMemberIsPassedOver(t *testing.T) {
	const room = 4

	full := login{version: 5, id: "full", user: "anna"}
	free := login{version: 5, id: "free", user: "anna"}
	away := kept("away")

	for name, c := range map[string]struct {
		options    Options
		full, free login
		leaves     bool
	}{
		"in memory":                              {Options{}, full, free, false},
		"on disk":                                {Options{DataDir: t.TempDir()}, kept("full"), kept("free"), false},
		"the one with room is on disk, and away": {Options{DataDir: t.TempDir()}, full, away, true},
	} {
		t.Run(name, func(t *testing.T) {
			config := anybody(t)
			config.Limits.MaxQueuedMessages = room
			h := open(t, c.options, config)

			h.member(slow(c.full), "own", "$share/g/a")
			other := h.member(slow(c.free), "$share/g/a")
			w := h.user("writer")

			for range room {
				w.published("own", "x", false)
			}

			if c.leaves {
				other.bye()
			}

			for i := range room {
				w.published("a", strconv.Itoa(i), false)
			}

			w.published("a", "too much", false)

			if c.leaves {
				other = h.login(c.free)
			}

			if got := other.take(room); len(got) != room || got["too much"] > 0 {
				t.Errorf("the member with room must get all four: %v", got)
			}

			if n := h.counted(`mqtt_broker_messages_dropped_total{reason="queue_messages"}`); n != 1 {
				t.Errorf("%d messages were dropped; only the last found no room, and counts once", n)
			}
		})
	}
}
