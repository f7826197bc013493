// SPDX-License-Identifier: Apache-2.0

package topics

import (
	"slices"
	"strings"
	"sync"
)

const (
	// chunkFull is how many topics a chunk holds at most: what is moved when one is put in.
	chunkFull = 256
	// chunkLow is when a chunk looks for a neighbour to be one with.
	chunkLow = chunkFull / 4
	// scanStep is how many topics a Match looks at before it lets go of the lock.
	scanStep = 256
)

// Retained holds one message per topic. It is safe for concurrent use.
type Retained[M any] struct {
	mu     sync.RWMutex
	count  int
	chunks []*chunk[M] // in order of their topics, none empty
}

// chunk is a part of the sorted list of topics.
type chunk[M any] struct {
	topics   []string
	messages []M
}

// NewRetained makes an empty Retained.
func NewRetained[M any]() *Retained[M] {
	return &Retained[M]{}
}

// Set keeps a message under a topic and returns the one that was there. The topic is kept as it is: it must not be a
// view into memory that changes, and should not be one into memory that is large.
func (r *Retained[M]) Set(topic string, m M) (old M, had bool) {
	r.mu.Lock()
	defer r.mu.Unlock()

	at, i, had := r.find(topic)
	if had {
		c := r.chunks[at]
		old = c.messages[i]
		c.topics[i], c.messages[i] = topic, m // the topic too: the old one may be part of the old message's memory

		return old, true
	}

	r.count++

	switch {
	case len(r.chunks) == 0:
		r.chunks = append(r.chunks, &chunk[M]{})
	case len(r.chunks[at].topics) < chunkFull:
	case i == chunkFull && at == len(r.chunks)-1:
		// Topics that come in order fill their chunks.
		r.chunks = append(r.chunks, &chunk[M]{})
		at, i = at+1, 0
	default:
		r.chunks = slices.Insert(r.chunks, at+1, r.chunks[at].split())

		if i > chunkFull/2 {
			at, i = at+1, i-chunkFull/2
		}
	}

	c := r.chunks[at]
	c.topics = slices.Insert(c.topics, i, topic)
	c.messages = slices.Insert(c.messages, i, m)

	return old, false
}

// Delete forgets the message of a topic and returns it.
func (r *Retained[M]) Delete(topic string) (old M, had bool) {
	r.mu.Lock()
	defer r.mu.Unlock()

	at, i, had := r.find(topic)
	if !had {
		return old, false
	}

	r.count--

	c := r.chunks[at]
	old = c.messages[i]
	c.topics = slices.Delete(c.topics, i, i+1)
	c.messages = slices.Delete(c.messages, i, i+1)

	switch n := len(c.topics); {
	case n >= chunkLow:
	case n == 0:
		r.chunks = slices.Delete(r.chunks, at, at+1)
	case at+1 < len(r.chunks) && n+len(r.chunks[at+1].topics) <= chunkFull/2:
		r.unite(at)
	case at > 0 && n+len(r.chunks[at-1].topics) <= chunkFull/2:
		r.unite(at - 1)
	}

	return old, true
}

// Get is the message of a topic.
func (r *Retained[M]) Get(topic string) (m M, had bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()

	at, i, had := r.find(topic)
	if had {
		m = r.chunks[at].messages[i]
	}

	return m, had
}

// Len is the number of topics.
func (r *Retained[M]) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()

	return r.count
}

// Match yields the messages of all topics that a valid filter without share group matches, until yield returns false.
// What is set or deleted meanwhile may or may not be among them; no topic is yielded twice. No lock is held while yield
// runs: it may call Set and Delete, and take its time.
func (r *Retained[M]) Match(filter string, yield func(topic string, m M) bool) {
	if !strings.ContainsAny(filter, "+#") {
		if m, had := r.Get(filter); had {
			yield(filter, m)
		}

		return
	}

	s := newScan(filter)

	var found chunk[M]

	for !s.done {
		found.topics = found.topics[:0]
		found.messages = found.messages[:0]

		r.step(s, &found)

		for i, topic := range found.topics {
			if !yield(topic, found.messages[i]) {
				return
			}
		}
	}
}

// step looks at a bounded number of topics, from where the scan stands.
func (r *Retained[M]) step(s *scan, found *chunk[M]) {
	r.mu.RLock()
	defer r.mu.RUnlock()

	at, i := r.seek(s.from)

	for range scanStep {
		if at < len(r.chunks) && i == len(r.chunks[at].topics) {
			at, i = at+1, 0
		}

		if at == len(r.chunks) {
			s.done = true

			return
		}

		c := r.chunks[at]

		switch s.judge(c.topics[i]) {
		case matches:
			found.topics = append(found.topics, c.topics[i])
			found.messages = append(found.messages, c.messages[i])

			fallthrough
		case next:
			s.from = position{c.topics[i], "\x00"} // nothing is between a topic and the same with this behind it
			i++
		case leap:
			at, i = r.leap(at, i, s.from)
		case over:
			s.done = true

			return
		}
	}
}

// leap is seek with the knowledge that the target lies behind a place, and mostly not far.
func (r *Retained[M]) leap(at, i int, to position) (chunkAt, index int) {
	const near = 4

	list := r.chunks[at].topics

	for range near {
		i++

		if i == len(list) || !to.above(list[i]) {
			return at, i
		}
	}

	if !to.above(list[len(list)-1]) {
		return at, i + to.search(list[i:])
	}

	return r.seek(to)
}

// find is the place of a topic, or the one where it would have to be put in.
func (r *Retained[M]) find(topic string) (at, i int, had bool) {
	at, i = r.seek(position{head: topic})
	if at == len(r.chunks) {
		return at, i, false
	}

	list := r.chunks[at].topics

	return at, i, i < len(list) && list[i] == topic
}

// seek is the place of the first topic that is not before a position: a chunk, and an index in it that may be its end.
func (r *Retained[M]) seek(to position) (at, i int) {
	// The last chunk whose first topic is not above the position.
	low, high := 0, len(r.chunks)

	for low < high {
		if mid := int(uint(low+high) >> 1); to.above(r.chunks[mid].topics[0]) {
			low = mid + 1
		} else {
			high = mid
		}
	}

	// low is the first chunk that begins at or behind the position.
	if low < len(r.chunks) && r.chunks[low].topics[0] == to.head && to.tail == "" {
		return low, 0
	}

	if low == 0 {
		return 0, 0
	}

	return low - 1, to.search(r.chunks[low-1].topics)
}

// split takes the upper half away and returns it.
func (c *chunk[M]) split() *chunk[M] {
	const half = chunkFull / 2

	upper := &chunk[M]{
		topics:   append(make([]string, 0, chunkFull), c.topics[half:]...),
		messages: append(make([]M, 0, chunkFull), c.messages[half:]...),
	}

	c.topics = slices.Delete(c.topics, half, len(c.topics))
	c.messages = slices.Delete(c.messages, half, len(c.messages))

	return upper
}

// unite makes one chunk of one and the next.
func (r *Retained[M]) unite(at int) {
	lower, upper := r.chunks[at], r.chunks[at+1]
	lower.topics = append(lower.topics, upper.topics...)
	lower.messages = append(lower.messages, upper.messages...)
	r.chunks = slices.Delete(r.chunks, at+1, at+2)
}
