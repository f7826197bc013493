// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"time"
	"unsafe"

	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/store"
	"github.com/mqtt-operator/mqtt-operator/broker-image/topics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

const (
	// cachedTopics bounds how many topics one round remembers the subscribers of.
	cachedTopics = 4096
	// smallPacket is up to where copying a packet is cheaper than sharing it.
	smallPacket = 8 << 10
)

// round is what one goroutine works with while it handles what has come in: connections that have got something to
// send, what has to be stored, scratch memory. Everything is sent and stored at its end, so that what many messages
// cause is done once. A round belongs to one goroutine at a time.
type round struct {
	e     *Engine
	count *metrics.Counters
	// now is when the round began, nowMS the same in Unix milliseconds.
	now   time.Time
	nowMS int64

	dirty []*conn

	tx    *store.Tx
	after *commit

	parsed wire.Publish
	ack    wire.Ack
	free   []*publication
	pages  []store.Queued
	// delivered counts what was handed to connections for the latency histogram.
	delivered int

	cache      map[string]*topics.Result[*session]
	generation uint64
}

// commit is what waits for a transaction to be on disk.
type commit struct {
	answers []waitingAnswer
	queued  []waitingEntry
	retains []retainedBefore
	subs    []subscriptionChange
	hard    bool
}

// waitingAnswer is an acknowledgement that may leave when the transaction is on disk.
type waitingAnswer struct {
	c  *conn
	at uint64
	// received: the packet id of a message of QoS 2 that is to be forgotten if the disk refuses it; or 0. released: one
	// that is to be known again then. again and undone: see answer.
	received, released uint16
	again              bool
	undone             uint32
}

// waitingEntry is a message in a queue that may be sent when the transaction is on disk.
type waitingEntry struct {
	s    *session
	seq  uint64
	size int
	// mark: not the message but the mark of its PUBREC.
	mark bool
}

// retainedBefore is what a retained message replaced; it comes back if the disk refuses the new one.
type retainedBefore struct {
	topic    string
	old, now *message
}

func (e *Engine) newRound() *round {
	return &round{e: e, count: e.metrics.NewCounters(), cache: map[string]*topics.Result[*session]{}}
}

// begin takes the time. It is asked once per round, which is precise enough for whatever happens within.
func (r *round) begin() {
	r.now = time.Now()
	r.nowMS = r.e.milliseconds(r.now)
}

// finish stores and sends what the round has brought about.
func (r *round) finish() {
	for {
		// First to the disk: what somebody does because of what is sent now must come behind it.
		r.settle()

		// By index: flushing may make more connections dirty, as it makes room.
		for i := 0; i < len(r.dirty); i++ {
			c := r.dirty[i]
			r.dirty[i] = nil
			c.flush(r)
		}

		r.dirty = r.dirty[:0]

		if r.delivered > 0 {
			r.count.Delivery.Observe(time.Since(r.now), r.delivered)
			r.delivered = 0
		}

		if r.tx == nil {
			return
		}
	}
}

// settle hands over what is to be stored so far, so that it comes to the disk before whatever others do to the same
// session later.
func (r *round) settle() {
	if r.tx != nil {
		r.commit()
	}
}

func (r *round) commit() {
	tx, after := r.tx, r.after
	r.tx, r.after = nil, nil

	if after == nil {
		r.e.store.Commit(tx, true, nil)

		return
	}

	r.e.store.Commit(tx, !after.hard, func(err error) { r.e.committed(after, err) })
}

// write is the transaction of this round. It must not be asked for when nothing is stored.
func (r *round) write() *store.Tx {
	if r.tx == nil {
		r.tx = r.e.store.Begin()
	}

	return r.tx
}

func (r *round) then() *commit {
	if r.after == nil {
		r.after = &commit{}
	}

	return r.after
}

// hard makes the round's transaction wait for the disk.
func (r *round) hard() { r.then().hard = true }

// committed runs on the store's goroutine when a transaction is on disk, or cannot be.
func (e *Engine) committed(after *commit, err error) {
	r := e.storeRound
	r.begin()

	for _, q := range after.queued {
		q.s.committed(r, q, err)
	}

	for _, a := range after.answers {
		a.c.answer(r, a, err)
	}

	for i := range after.subs {
		after.subs[i].s.subscriptionStored(&after.subs[i], err)
	}

	if err != nil {
		for _, b := range after.retains {
			e.restoreRetained(b)
		}

		e.storageFailed(err)
	}
}

// afterGroup runs on the store's goroutine when a group of transactions is done with.
func (e *Engine) afterGroup() {
	e.storeRound.begin()
	e.storeRound.finish()
	e.resumeStalled()
}

// match finds the subscribers of a topic.
func (r *round) match(topic string) *topics.Result[*session] {
	if generation := r.e.index.Generation(); generation != r.generation {
		clear(r.cache)
		r.generation = generation
	} else if found, ok := r.cache[topic]; ok {
		return found
	}

	found := new(topics.Result[*session])
	r.e.index.Match(topic, found)

	if len(r.cache) >= cachedTopics {
		clear(r.cache)
	}

	r.cache[string(append([]byte(nil), topic...))] = found

	return found
}

func (r *round) publication() *publication {
	if n := len(r.free); n > 0 {
		p := r.free[n-1]
		r.free = r.free[:n-1]

		return p
	}

	return new(publication)
}

func (r *round) release(p *publication) {
	p.reset()
	r.free = append(r.free, p)
}

// view reads bytes as a string for as long as they do not change.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) } //nolint:gosec // never outlives b

// borrow gives a round to a goroutine that has none of its own.
func (e *Engine) borrow() *round {
	e.roundsMu.Lock()

	var r *round
	if n := len(e.rounds); n > 0 {
		r = e.rounds[n-1]
		e.rounds = e.rounds[:n-1]
	}
	e.roundsMu.Unlock()

	if r == nil {
		r = e.newRound()
	}

	r.begin()

	return r
}

// giveBack finishes the round and lets others have it.
func (e *Engine) giveBack(r *round) {
	r.finish()

	e.roundsMu.Lock()
	defer e.roundsMu.Unlock()

	e.rounds = append(e.rounds, r)
}
