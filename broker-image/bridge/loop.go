// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"bytes"
	"hash/maphash"
	"sync"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// hopProperty is the user property by which bridges write down that a message came by them.
const hopProperty = "mqtt-bridge-hop"

// maxHops is the longest way over bridges that a message may go, whoever made them.
const maxHops = 32

// hopOf is the property with which a bridge writes itself down, in wire form.
func hopOf(identity string) []byte {
	hop, _ := wire.AppendForwarded(nil, &wire.Forwarded{User: [][2]string{{hopProperty, identity}}}) // an identity is short

	return hop
}

// seenBefore tells whether a message carries the identity already, or has gone too far. Its properties are in wire form.
func seenBefore(props []byte, identity string) bool {
	if !bytes.Contains(props, []byte(hopProperty)) {
		return false
	}

	said, err := wire.ParseForwarded(props)
	if err != nil {
		return false // a user property that looks like one
	}

	hops := 0

	for _, property := range said.User {
		if property[0] != hopProperty {
			continue
		}

		hops++
		if hops >= maxHops || property[1] == identity {
			return true
		}
	}

	return false
}

const (
	echoAge  = 10 * time.Second
	maxEchos = 1 << 16
)

var seed = maphash.MakeSeed()

// digest is short for a topic and a payload, good within this process.
func digest(topic string, payload []byte) uint64 {
	var h maphash.Hash

	h.SetSeed(seed)
	_, _ = h.WriteString(topic)
	_ = h.WriteByte(0)
	_, _ = h.Write(payload)

	return h.Sum64()
}

// echoes remembers what was published at an end that speaks 3.1.1 and sends it to the bridge again, where it subscribes
// to the same topics: there is neither no-local nor a user property to know it by. Each publication stands for one
// message that comes back.
type echoes struct {
	mu sync.Mutex
	// known are the numbers of the publications that have not come back, by digest, oldest first.
	known map[uint64][]uint64
	// order are all of them from first, oldest first, whether they came back or not; next is the number of the one to come.
	order []echo
	first int
	next  uint64
}

type echo struct {
	digest uint64
	when   time.Time
}

// remember says that a message is about to be published.
func (e *echoes) remember(d uint64, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()

	if e.known == nil {
		e.known = map[uint64][]uint64{}
	}

	e.forget(now)

	e.known[d] = append(e.known[d], e.next)
	e.order = append(e.order, echo{d, now})
	e.next++
}

// isEcho tells whether a message that came is one that was published, and takes that as read.
func (e *echoes) isEcho(d uint64, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()

	e.forget(now)

	if len(e.known[d]) == 0 {
		return false
	}

	e.drop(d)

	return true
}

func (e *echoes) drop(d uint64) {
	if rest := e.known[d][1:]; len(rest) > 0 {
		e.known[d] = rest
	} else {
		delete(e.known, d)
	}
}

func (e *echoes) forget(now time.Time) {
	for e.first < len(e.order) && (len(e.order)-e.first >= maxEchos || now.Sub(e.order[e.first].when) > echoAge) {
		number := e.next - uint64(len(e.order)-e.first) //nolint:gosec // lengths are not negative
		if d := e.order[e.first].digest; len(e.known[d]) > 0 && e.known[d][0] == number {
			e.drop(d)
		}

		e.first++
	}

	// Moving the rest to the front costs as much as it frees, so it is done seldom.
	if e.first > len(e.order)/2 {
		e.order = append(e.order[:0], e.order[e.first:]...)
		e.first = 0
	}
}
