// SPDX-License-Identifier: Apache-2.0

package topics

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	// crowdFrom is how many subscribers make a crowd: more than one looks through, or copies, at every change.
	crowdFrom = 32
	// crowdUntil is when a crowd is a list again. It is lower, so that one who comes and goes does not turn it each time.
	crowdUntil = crowdFrom / 2
)

const (
	flagNoLocal = 1 << (2 + iota) // above the QoS
	flagRetainAsPublished
)

// member is a subscription in little memory.
type member[S comparable] struct {
	s     S
	id    [1]uint32 // an array, so that an entry can point to it
	flags byte
}

func newMember[S comparable](s S, o Options) member[S] {
	m := member[S]{s: s, id: [1]uint32{o.Identifier}, flags: o.QoS & 3}

	if o.NoLocal {
		m.flags |= flagNoLocal
	}

	if o.RetainAsPublished {
		m.flags |= flagRetainAsPublished
	}

	return m
}

// entry shows the member, whose memory must not change from now on.
func (m *member[S]) entry() Entry[S] {
	e := m.bare()

	if m.id[0] != 0 {
		e.Identifiers = m.id[:]
	}

	return e
}

// bare is entry without the identifier.
func (m *member[S]) bare() Entry[S] {
	e := Entry[S]{Subscriber: m.s, QoS: m.flags & 3, RetainAsPublished: m.flags&flagRetainAsPublished != 0}

	if m.flags&flagNoLocal != 0 {
		e.Own = OwnNone
	}

	return e
}

// spot is the subscribers of one filter. Nil is none. It never changes, but what it points to in extra may.
type spot[S comparable] struct {
	// list is those who subscribed, if they are few. Later spots may go on behind its end, in the same memory.
	list  []member[S]
	extra *extra[S]
}

// extra is what of a spot only few spots have.
type extra[S comparable] struct {
	crowd  *crowd[S] // instead of list
	shares []*share[S]
}

// share is a shared subscription.
type share[S comparable] struct {
	name    string
	next    atomic.Uint32
	members crowd[S]
}

// alone is the spot that most filters have, in one piece of memory.
func alone[S comparable](m member[S]) *spot[S] {
	both := &struct {
		spot spot[S]
		one  [1]member[S]
	}{one: [1]member[S]{m}}
	both.spot.list = both.one[:]

	return &both.spot
}

func (p *spot[S]) crowd() *crowd[S] {
	if p == nil || p.extra == nil {
		return nil
	}

	return p.extra.crowd
}

func (p *spot[S]) shares() []*share[S] {
	if p == nil || p.extra == nil {
		return nil
	}

	return p.extra.shares
}

// newSpot is nil if there is nobody.
func newSpot[S comparable](list []member[S], c *crowd[S], shares []*share[S]) *spot[S] {
	p := &spot[S]{list: list}

	if c != nil || len(shares) > 0 {
		p.extra = &extra[S]{crowd: c, shares: shares}
	} else if len(list) == 0 {
		return nil
	}

	return p
}

// with is the spot with a member more, or with another in the place of the same subscriber's. It is p itself if nothing
// but p's crowd had to change.
func (p *spot[S]) with(m member[S]) (next *spot[S], existed bool) {
	if p == nil {
		return alone(m), false
	}

	if c := p.crowd(); c != nil {
		return p, c.put(m)
	}

	if i := p.index(m.s); i >= 0 {
		list := slices.Clone(p.list)
		list[i] = m

		return newSpot(list, nil, p.shares()), true
	}

	if len(p.list) < crowdFrom {
		// Nobody looks behind the end of p.list, and no other spot than the newest is ever appended to.
		return newSpot(append(p.list, m), nil, p.shares()), false
	}

	c := &crowd[S]{}
	for i := range p.list {
		c.put(p.list[i])
	}

	c.put(m)

	return newSpot(nil, c, p.shares()), false
}

// without is the spot without a subscriber. It is p itself if nothing but p's crowd had to change.
func (p *spot[S]) without(s S) (next *spot[S], found bool) {
	if p == nil {
		return nil, false
	}

	if c := p.crowd(); c != nil {
		if !c.remove(s) {
			return p, false
		}

		if list := c.few(); list != nil {
			return newSpot(list, nil, p.shares()), true
		}

		return p, true
	}

	i := p.index(s)
	if i < 0 {
		return p, false
	}

	list := make([]member[S], 0, len(p.list)-1)
	list = append(append(list, p.list[:i]...), p.list[i+1:]...)

	return newSpot(list, nil, p.shares()), true
}

func (p *spot[S]) index(s S) int {
	for i := range p.list {
		if p.list[i].s == s {
			return i
		}
	}

	return -1
}

// join enters a member under a share.
func (x *Index[S]) join(place *atomic.Pointer[spot[S]], old *spot[S], name string, m member[S]) (existed bool) {
	if sh := x.shares[name]; sh != nil {
		return sh.members.put(m)
	}

	sh := &share[S]{name: strings.Clone(name)}
	sh.members.put(m)
	x.shares[sh.name] = sh

	var list []member[S]
	if old != nil {
		list = old.list
	}

	// As in with: nobody looks behind the end.
	place.Store(newSpot(list, old.crowd(), append(old.shares(), sh)))

	return false
}

// leave takes a subscriber out from under a share.
func (x *Index[S]) leave(old *spot[S], name string, s S) (next *spot[S], found bool) {
	sh := x.shares[name]
	if sh == nil || !sh.members.remove(s) {
		return old, false
	}

	if !sh.members.empty() {
		return old, true
	}

	delete(x.shares, name)

	shares := make([]*share[S], 0, len(old.shares())-1)

	for _, other := range old.shares() {
		if other != sh {
			shares = append(shares, other)
		}
	}

	return newSpot(old.list, old.crowd(), shares), true
}

// crowd is many subscribers, or those of a share. A change costs the same however many they are, unless it changes what
// a Match has been given: then the list is copied, once until the next Match.
type crowd[S comparable] struct {
	mu      sync.Mutex
	entries []Entry[S]
	at      map[S]int32 // nil while they are few
	// handed says that entries has been given away: what is in it must not change, but it may grow.
	handed bool
	// view is what a Match gets, without taking mu. It is nil after a change.
	view atomic.Pointer[[]Entry[S]]
}

// put enters a member, or another in the place of the same subscriber's.
func (c *crowd[S]) put(m member[S]) (existed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	e := m.bare()
	if m.id[0] != 0 {
		e.Identifiers = c.identifiers(m.id[0])
	}

	i := c.index(m.s)
	if i >= 0 {
		c.own()
		c.entries[i] = e
	} else {
		if len(c.entries) == cap(c.entries) {
			c.handed = false // append makes other memory
		}

		c.entries = append(c.entries, e)
		c.note(m.s, len(c.entries)-1)
	}

	c.view.Store(nil)

	return i >= 0
}

// identifiers is a list of one. Most of a crowd have the same, so that of the last is taken if it will do.
func (c *crowd[S]) identifiers(id uint32) []uint32 {
	if n := len(c.entries); n > 0 {
		if last := c.entries[n-1].Identifiers; len(last) == 1 && last[0] == id {
			return last
		}
	}

	return []uint32{id}
}

func (c *crowd[S]) remove(s S) (found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	i := c.index(s)
	if i < 0 {
		return false
	}

	c.own()

	last := len(c.entries) - 1
	moved := c.entries[last]
	c.entries[i] = moved
	c.entries[last] = Entry[S]{}
	c.entries = c.entries[:last]

	if c.at != nil {
		c.at[moved.Subscriber] = int32(i) //nolint:gosec // no process has that many clients
		delete(c.at, s)
	}

	switch {
	case last <= crowdUntil:
		c.at = nil
	case cap(c.entries) > 4*crowdFrom && last < cap(c.entries)/4:
		c.entries = slices.Clone(c.entries)
	}

	c.view.Store(nil)

	return true
}

func (c *crowd[S]) empty() bool {
	c.mu.Lock()
	defer c.mu.Unlock()

	return len(c.entries) == 0
}

// few is the crowd as a list, or nil if it is too many for one.
func (c *crowd[S]) few() []member[S] {
	c.mu.Lock()
	defer c.mu.Unlock()

	if len(c.entries) > crowdUntil {
		return nil
	}

	list := make([]member[S], 0, len(c.entries))

	for i := range c.entries {
		e := &c.entries[i]
		o := Options{QoS: e.QoS, RetainAsPublished: e.RetainAsPublished, NoLocal: e.Own == OwnNone}

		if len(e.Identifiers) > 0 {
			o.Identifier = e.Identifiers[0]
		}

		list = append(list, newMember(e.Subscriber, o))
	}

	return list
}

// take is what a Match gets: all entries, which nobody will change.
func (c *crowd[S]) take() []Entry[S] {
	if v := c.view.Load(); v != nil {
		return *v
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	if c.view.Load() == nil {
		v := slices.Clip(c.entries)
		c.handed = true
		c.view.Store(&v)
	}

	return *c.view.Load()
}

// own makes entries such that they may be changed.
func (c *crowd[S]) own() {
	if c.handed {
		n := len(c.entries)
		c.entries = append(make([]Entry[S], 0, n+n/8+1), c.entries...) // so that the next to come needs no copy again
		c.handed = false
	}
}

func (c *crowd[S]) index(s S) int {
	if c.at != nil {
		if i, ok := c.at[s]; ok {
			return int(i)
		}

		return -1
	}

	for i := range c.entries {
		if c.entries[i].Subscriber == s {
			return i
		}
	}

	return -1
}

// note remembers where a new entry stands.
func (c *crowd[S]) note(s S, at int) {
	switch {
	case c.at != nil:
		c.at[s] = int32(at) //nolint:gosec // no process has that many clients
	case len(c.entries) > crowdFrom:
		c.at = make(map[S]int32, 2*len(c.entries))
		for i := range c.entries {
			c.at[c.entries[i].Subscriber] = int32(i)
		}
	}
}
