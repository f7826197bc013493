// SPDX-License-Identifier: Apache-2.0

package topics

import "sync"

// Retained holds one message per topic. It is safe for concurrent use.
type Retained[M any] struct {
	mu sync.RWMutex
}

// NewRetained makes an empty Retained.
func NewRetained[M any]() *Retained[M] {
	return &Retained[M]{}
}

// Set keeps a message under a topic and returns the one that was there. The topic is kept as it is: it must not be a
// view into memory that changes or is large.
func (r *Retained[M]) Set(topic string, m M) (old M, had bool) {
	return old, had
}

// Delete forgets the message of a topic and returns it.
func (r *Retained[M]) Delete(topic string) (old M, had bool) {
	return old, had
}

// Get is the message of a topic.
func (r *Retained[M]) Get(topic string) (m M, had bool) {
	return m, had
}

// Match yields the messages of all topics that a valid filter without share group matches, until yield returns false.
// What is set or deleted meanwhile may or may not be among them. No lock is held while yield runs: it may call Set and
// Delete, and take its time.
func (r *Retained[M]) Match(filter string, yield func(topic string, m M) bool) {
}

// Len is the number of topics.
func (r *Retained[M]) Len() int {
	return 0
}
