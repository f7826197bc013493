// SPDX-License-Identifier: Apache-2.0

package topics

import (
	"hash/maphash"
	"math/bits"
	"strings"
	"sync/atomic"
)

// node is one level of a filter that is neither # nor the end of a share group. What never changes is plain; the rest is
// stored by whoever holds Index.mu and loaded by anybody.
type node[S comparable] struct {
	parent *node[S]
	text   string
	hash   uint64 // of the whole path: the text's, mixed with the parent's
	// only is the one child there is. If there are more, it is nil and they stand in Index.edges; they stay there when
	// they become one again, because the table cannot be asked for the children of a node.
	only atomic.Pointer[node[S]]
	wild atomic.Pointer[wild[S]]
	here atomic.Pointer[spot[S]]
	// children counts those that are not +. At 0 nobody needs to hash a level and ask the table.
	children atomic.Int32
}

// wild is what of a node only few nodes have.
type wild[S comparable] struct {
	plus  atomic.Pointer[node[S]]
	below atomic.Pointer[spot[S]] // who subscribed with a # in the next level
}

// place finds where a filter's subscribers are kept, and makes the way there.
func (x *Index[S]) place(filter string) *atomic.Pointer[spot[S]] {
	n := &x.root

	for rest, more := filter, true; more; {
		var level string

		level, rest, more = strings.Cut(rest, "/")

		switch level {
		case "#":
			return &n.wildly().below
		case "+":
			w := n.wildly()
			if w.plus.Load() == nil {
				w.plus.Store(x.sprout(n, level))
			}

			n = w.plus.Load()
		default:
			next := x.child(n, level)
			if next == nil {
				next = x.sprout(n, level)
				x.adopt(n, next)
			}

			n = next
		}
	}

	return &n.here
}

// find is place without making anything: the place is nil if there is none. The node is the one to trim from.
func (x *Index[S]) find(filter string) (*node[S], *atomic.Pointer[spot[S]]) {
	n := &x.root

	for rest, more := filter, true; more; {
		var level string

		level, rest, more = strings.Cut(rest, "/")
		w := n.wild.Load()

		switch {
		case level == "#" && w != nil:
			return n, &w.below
		case level == "+" && w != nil:
			n = w.plus.Load()
		case level == "#" || level == "+":
			return nil, nil
		default:
			n = x.child(n, level)
		}

		if n == nil {
			return nil, nil
		}
	}

	return n, &n.here
}

// child finds the child with a text that is no wildcard.
func (x *Index[S]) child(n *node[S], text string) *node[S] {
	if c := n.only.Load(); c != nil {
		if c.text == text {
			return c
		}

		return nil
	}

	if n.children.Load() == 0 {
		return nil
	}

	return x.edges.get(n, text, x.hash(n, text))
}

func (x *Index[S]) hash(parent *node[S], text string) uint64 {
	// A client that could foresee these would choose levels that fall into one place.
	const a, b = 0x9e3779b97f4a7c15, 0xd1b54a32d192ed03

	high, low := bits.Mul64(parent.hash^a, maphash.String(x.seed, text)^b)

	return high ^ low
}

// sprout makes a node, which nobody can reach yet.
func (x *Index[S]) sprout(parent *node[S], text string) *node[S] {
	if text == "+" {
		text = "+" // a constant: no memory
	} else {
		text = strings.Clone(text)
	}

	return &node[S]{parent: parent, text: text, hash: x.hash(parent, text)}
}

// adopt gives a node one more child. The child is in its new place before the old place stops to answer.
func (x *Index[S]) adopt(n, c *node[S]) {
	count := n.children.Load()
	if count == 0 {
		n.only.Store(c)
		n.children.Store(1)

		return
	}

	first := n.only.Load()
	if first != nil {
		x.edges.put(first)
	}

	x.edges.put(c)
	n.children.Store(count + 1)

	if first != nil {
		n.only.Store(nil)
	}
}

// trim cuts a node off if it stands for nothing, and then those above it.
func (x *Index[S]) trim(n *node[S]) {
	for {
		w := n.wild.Load()
		if w != nil && w.plus.Load() == nil && w.below.Load() == nil {
			n.wild.Store(nil)

			w = nil
		}

		p := n.parent
		if p == nil || w != nil || n.here.Load() != nil || n.children.Load() != 0 {
			return
		}

		switch w := p.wild.Load(); {
		case w != nil && w.plus.Load() == n:
			w.plus.Store(nil)
		case p.only.Load() == n:
			p.only.Store(nil)
			p.children.Store(0)
		default:
			x.edges.remove(n)
			p.children.Add(-1)
		}

		n = p
	}
}

func (n *node[S]) wildly() *wild[S] {
	if n.wild.Load() == nil {
		n.wild.Store(&wild[S]{})
	}

	return n.wild.Load()
}

// edges is one hash table for the children of all nodes that have several, so that no node has a table of its own. It
// is split, so that growing copies a small part at a time.
type edges[S comparable] struct {
	parts [256]atomic.Pointer[table[S]]
}

// table is open addressing with linear probing. An entry never moves within a table; a table that has grown is another
// table, and the old one stays as it was for those who are looking at it.
type table[S comparable] struct {
	slots []slot[S] // a power of two, at most three quarters used
	live  int       // slots with a node
	used  int       // those, and graves
}

type slot[S comparable] struct {
	tag  atomic.Uint32 // free, a grave, or a part of the hash
	node atomic.Pointer[node[S]]
}

const (
	free     = 0 // ends a search
	grave    = 1 // does not
	minSlots = 8
)

// spread takes a hash apart: in which part, and which tag.
func spread(hash uint64) (part int, tag uint32) {
	return int(hash >> 56), max(uint32(hash), grave+1) //nolint:gosec // the lower half is what is wanted
}

func (e *edges[S]) get(parent *node[S], text string, hash uint64) *node[S] {
	part, tag := spread(hash)

	t := e.parts[part].Load()
	if t == nil {
		return nil
	}

	for i := int(tag); ; i++ {
		s := &t.slots[i&(len(t.slots)-1)]

		switch s.tag.Load() {
		case free:
			return nil
		case tag:
			// The slot may have been given away since: the node itself says what it is.
			if n := s.node.Load(); n != nil && n.parent == parent && n.text == text {
				return n
			}
		}
	}
}

func (e *edges[S]) put(n *node[S]) {
	part, tag := spread(n.hash)

	t := e.parts[part].Load()
	if t == nil {
		t = &table[S]{slots: make([]slot[S], minSlots)}
		e.parts[part].Store(t)
	}

	if (t.used+1)*4 > len(t.slots)*3 {
		t = t.resized()
		e.parts[part].Store(t)
	}

	t.put(n, tag)
}

func (e *edges[S]) remove(n *node[S]) {
	part, tag := spread(n.hash)

	t := e.parts[part].Load()

	for i := int(tag); ; i++ {
		s := &t.slots[i&(len(t.slots)-1)]
		if s.node.Load() != n {
			continue
		}

		s.tag.Store(grave)
		s.node.Store(nil)

		t.live--

		break
	}

	switch {
	case t.live == 0:
		e.parts[part].Store(nil)
	case len(t.slots) > minSlots && t.live*8 < len(t.slots):
		e.parts[part].Store(t.resized())
	}
}

// resized copies the table into one that is between a quarter and half full.
func (t *table[S]) resized() *table[S] {
	size := minSlots
	for size < t.live*2+1 {
		size *= 2
	}

	next := &table[S]{slots: make([]slot[S], size)}

	for i := range t.slots {
		if n := t.slots[i].node.Load(); n != nil {
			next.put(n, t.slots[i].tag.Load())
		}
	}

	return next
}

func (t *table[S]) put(n *node[S], tag uint32) {
	for i := int(tag); ; i++ {
		s := &t.slots[i&(len(t.slots)-1)]

		was := s.tag.Load()
		if was != free && was != grave {
			continue
		}

		if was == free {
			t.used++
		}

		t.live++

		s.node.Store(n) // before the tag, by which it is found
		s.tag.Store(tag)

		return
	}
}
