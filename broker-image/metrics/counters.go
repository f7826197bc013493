// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"sync/atomic"
)

// cacheLine is two lines of 64 bytes: processors fetch them in pairs.
const cacheLine = 128

// The packet types that are counted by another way than by their number.
const (
	typeConnect = 1
	typePublish = 3
)

// Counters are what one worker counts. Anybody may write them at any time; it is cheap as long as mostly one does.
// Make them with Set.NewCounters.
type Counters struct {
	_ [cacheLine]byte

	Received, Sent Traffic

	// Delivery is how long messages took from their PUBLISH coming in to going out.
	Delivery Histogram

	dropped      [reasons]lost
	denials      [actions]atomic.Int64
	authFailures [authFailures]atomic.Int64

	// SessionsExpired counts sessions that ended because nobody came back in time.
	SessionsExpired atomic.Int64
	// Panics counts connections that were closed because their handling panicked.
	Panics atomic.Int64

	_ [cacheLine]byte
}

// lost is what one reason cost.
type lost struct{ messages, bytes atomic.Int64 }

// Drop counts messages that a client did not get, with the bytes of their payload.
func (c *Counters) Drop(r Reason, messages, bytes int) {
	if r >= reasons || messages == 0 {
		return
	}

	c.dropped[r].messages.Add(int64(messages))
	c.dropped[r].bytes.Add(int64(bytes))
}

// Deny counts what the access rules refused.
func (c *Counters) Deny(a Action) {
	if a < actions {
		c.denials[a].Add(1)
	}
}

// AuthFail counts clients that could not prove who they are.
func (c *Counters) AuthFail(a AuthFailure) {
	if a < authFailures {
		c.authFailures[a].Add(1)
	}
}

// Traffic is what went one way.
type Traffic struct {
	// Bytes on the wire; one addition for each read or write is enough. What TLS and WebSocket add does not count.
	Bytes atomic.Int64

	packets  [16]atomic.Int64
	messages [3]atomic.Int64
	payload  [3]atomic.Int64
}

// Packets counts packets of a type other than PUBLISH.
func (t *Traffic) Packets(kind byte, n int) { t.packets[kind&15].Add(int64(n)) }

// Publish counts n PUBLISH packets of one QoS, with the bytes of all their payloads together. Nothing else has to be
// counted for them.
func (t *Traffic) Publish(qos byte, n, bytes int) {
	if qos > 2 {
		return
	}

	t.messages[qos].Add(int64(n))
	t.payload[qos].Add(int64(bytes))
}
