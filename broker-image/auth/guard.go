// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"container/list"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// How failures slow down who guesses.
const (
	// freeFailures may happen without any delay: people mistype, and devices come with yesterday's password.
	freeFailures = 5
	// firstDelay follows the first failure beyond these; each further one doubles it, up to maxDelay.
	firstDelay = time.Second
	maxDelay   = 5 * time.Minute
	// forgiveness is how long it takes until one failure is forgotten.
	forgiveness = 10 * time.Minute
	// suspicion is how long a source is served behind others after it failed, whatever the name.
	suspicion = time.Minute
)

// Source is where an attempt comes from: an address of IPv4, or the /64 of one of IPv6. The zero Source is a socket
// without addresses.
type Source struct{ prefix netip.Prefix }

// SourceOf gives the Source of an address. An invalid one gives the zero Source.
func SourceOf(address netip.Addr) Source {
	address = address.Unmap().WithZone("")
	bits := 64

	if address.Is4() {
		bits = 32
	}

	prefix, err := address.Prefix(bits)
	if err != nil {
		return Source{}
	}

	return Source{prefix}
}

// String is the network, such as 192.0.2.1/32.
func (s Source) String() string {
	if !s.prefix.IsValid() {
		return "local"
	}

	return s.prefix.String()
}

// Rank says who is served first while there are more passwords to check than there is time for.
type Rank int

// The ranks, the first before the others.
const (
	// Known has given the right password for this name from this source before.
	Known Rank = iota
	// Stranger has not, and its source has not failed lately.
	Stranger
	// Suspect comes from a source that has failed lately.
	Suspect

	ranks
)

// Standing is what is known of a name at a source.
type Standing struct {
	// Locked: another attempt must not even be looked at.
	Locked bool
	// Clear: no attempt is under way whose end is not known yet.
	Clear bool
	Rank  Rank
}

// Guard counts failures per name and source, so that who guesses a password has to wait longer each time, and nobody
// else does: a name at another source is not concerned. It makes no difference between names that exist and others. Its
// memory is bounded; who was seen longest ago is forgotten first.
//
// A Guard is safe for concurrent use.
type Guard struct {
	seed maphash.Seed

	mu       sync.Mutex
	attempts lru[failures]
	sources  lru[time.Time]
	known    lru[struct{}]
}

// key stands for a name at a source. Nobody outside can find two that collide.
type key [2]uint64

// failures of a name at a source.
type failures struct {
	count   int
	last    time.Time // when the last failed, or the last was forgiven
	until   time.Time // nothing is looked at before
	pending int
}

// NewGuard makes a Guard that remembers at most size of each: who failed, where from, and who succeeded.
func NewGuard(size int) *Guard {
	return &Guard{
		seed:     maphash.MakeSeed(),
		attempts: newLRU[failures](size), sources: newLRU[time.Time](size), known: newLRU[struct{}](size),
	}
}

func (g *Guard) key(name string, source Source) key {
	var h maphash.Hash

	h.SetSeed(g.seed)
	maphash.WriteComparable(&h, source)
	_, _ = h.WriteString(name)
	first := h.Sum64()
	_ = h.WriteByte(0)

	return key{first, h.Sum64()}
}

// Ask tells how a name stands at a source.
func (g *Guard) Ask(name string, source Source, now time.Time) Standing {
	k, whole := g.key(name, source), g.key("", source)

	g.mu.Lock()
	defer g.mu.Unlock()

	f := g.attempts.get(k)
	standing := Standing{Clear: true, Rank: Stranger}

	if f != nil {
		f.forgive(now)
		standing.Locked = now.Before(f.until)
		standing.Clear = f.pending == 0
	}

	switch last := g.sources.get(whole); {
	case g.known.get(k) != nil:
		standing.Rank = Known
	case last != nil && now.Before(last.Add(suspicion)):
		standing.Rank = Suspect
	}

	return standing
}

// Start says that an attempt is under way. One of Right, Wrong and Drop must follow.
func (g *Guard) Start(name string, source Source) {
	g.change(name, source, func(f *failures) { f.pending++ })
}

// Drop says that an attempt that was started has come to no answer.
func (g *Guard) Drop(name string, source Source) {
	g.change(name, source, func(f *failures) { f.pending = max(0, f.pending-1) })
}

func (g *Guard) change(name string, source Source, edit func(*failures)) {
	k := g.key(name, source)

	g.mu.Lock()
	defer g.mu.Unlock()

	edit(g.attempts.make(k))
}

// Right says that the password was right, of an attempt that was started or not. What failed before is forgiven.
func (g *Guard) Right(name string, source Source, started bool) {
	k := g.key(name, source)

	g.mu.Lock()
	defer g.mu.Unlock()

	if f := g.attempts.get(k); f != nil {
		f.count, f.until = 0, time.Time{}

		if started {
			f.pending = max(0, f.pending-1)
		}

		if f.pending == 0 {
			g.attempts.remove(k)
		}
	}

	g.known.make(k)
}

// Wrong says that the password was wrong, of an attempt that was started or not.
func (g *Guard) Wrong(name string, source Source, started bool, now time.Time) {
	k, whole := g.key(name, source), g.key("", source)

	g.mu.Lock()
	defer g.mu.Unlock()

	f := g.attempts.make(k)
	f.forgive(now)
	f.count++
	f.last = now
	f.until = now.Add(f.delay())

	if started {
		f.pending = max(0, f.pending-1)
	}

	if f.count >= freeFailures {
		g.known.remove(k)
	}

	*g.sources.make(whole) = now
}

// delay is how long after the last failure nothing is looked at.
func (f *failures) delay() time.Duration {
	if f.count < freeFailures {
		return 0
	}

	// Shifts beyond what maxDelay allows would run over.
	return min(maxDelay, firstDelay<<min(f.count-freeFailures, 20))
}

// forgive forgets a failure for each while that nothing failed.
func (f *failures) forgive(now time.Time) {
	if n := int(now.Sub(f.last) / forgiveness); n > 0 && f.count > 0 {
		f.count = max(0, f.count-n)
		f.last = f.last.Add(time.Duration(n) * forgiveness)
	}
}

// lru is a map that forgets what was used longest ago.
type lru[V any] struct {
	size  int
	order *list.List // of *entry[V], the last used in front
	index map[key]*list.Element
}

type entry[V any] struct {
	key   key
	value V
}

func newLRU[V any](size int) lru[V] {
	return lru[V]{size: size, order: list.New(), index: map[key]*list.Element{}}
}

// get gives nil for what is not there.
func (l *lru[V]) get(k key) *V {
	element := l.index[k]
	if element == nil {
		return nil
	}

	l.order.MoveToFront(element)
	e, _ := element.Value.(*entry[V])

	return &e.value
}

func (l *lru[V]) make(k key) *V {
	if v := l.get(k); v != nil {
		return v
	}

	for len(l.index) >= max(1, l.size) {
		if e, ok := l.order.Remove(l.order.Back()).(*entry[V]); ok {
			delete(l.index, e.key)
		}
	}

	e := &entry[V]{key: k}
	l.index[k] = l.order.PushFront(e)

	return &e.value
}

func (l *lru[V]) remove(k key) {
	if element := l.index[k]; element != nil {
		l.order.Remove(element)
		delete(l.index, k)
	}
}
