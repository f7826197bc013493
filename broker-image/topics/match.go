// SPDX-License-Identifier: Apache-2.0

package topics

import "strings"

// Match finds who subscribed to a topic. What into held is overwritten and its memory used again.
func (x *Index[S]) Match(topic string, into *Result[S]) {
	m := matcher[S]{x: x, topic: topic}
	m.walk(&x.root, 0)

	usedBuffer, usedGroups := len(into.buffer), len(into.Groups)

	into.buffer = into.buffer[:0]
	into.Groups = into.Groups[:0]
	into.Entries = nil

	spots := m.few[:min(m.count, len(m.few))]
	if m.count > len(m.few) {
		spots = append(m.more, spots...)
	}

	plain := spots[:0]

	for _, p := range spots {
		for _, sh := range p.shares() {
			// A share that has just lost its last member may still stand here.
			if members := sh.members.take(); len(members) > 0 {
				into.Groups = append(into.Groups, Shared[S]{Name: sh.name, Members: members, Next: &sh.next})
			}
		}

		if len(p.list) > 0 || p.crowd() != nil {
			plain = append(plain, p)
		}
	}

	switch {
	case len(plain) == 0:
	case len(plain) > 1:
		x.merge(plain, into)
	case plain[0].crowd() != nil:
		into.Entries = plain[0].crowd().take()
	default:
		for i := range plain[0].list {
			into.buffer = append(into.buffer, plain[0].list[i].entry())
		}

		into.Entries = into.buffer
	}

	forget(into.buffer, usedBuffer)
	forget(into.Groups, usedGroups)
}

// forget wipes what the last use left behind the end of a list, so that it keeps nobody alive who has gone.
func forget[T any](list []T, used int) {
	if len(list) < used && used <= cap(list) {
		clear(list[len(list):used])
	}
}

// matcher is one walk through the tree.
type matcher[S comparable] struct {
	x     *Index[S]
	topic string
	count int // of spots found
	few   [16]*spot[S]
	more  []*spot[S] // those that few does not hold
}

// walk goes on from a node, to which the topic has led up to the level that starts at pos. Behind the last level pos is
// behind the topic's end.
func (m *matcher[S]) walk(n *node[S], pos int) {
	for {
		ended := pos > len(m.topic)
		next := pos

		if !ended {
			if i := strings.IndexByte(m.topic[pos:], '/'); i >= 0 {
				next += i
			} else {
				next = len(m.topic)
			}
		}

		// [MQTT-4.7.2-1]: wildcards in the first level leave alone what begins with $.
		if w := n.wild.Load(); w != nil && (pos > 0 || m.topic == "" || m.topic[0] != '$') {
			m.add(w.below.Load()) // matches the parent too, so also if the topic has ended

			if plus := w.plus.Load(); plus != nil && !ended {
				m.walk(plus, next+1)
			}
		}

		if ended {
			m.add(n.here.Load())

			return
		}

		if n = m.x.child(n, m.topic[pos:next]); n == nil {
			return
		}

		pos = next + 1
	}
}

func (m *matcher[S]) add(p *spot[S]) {
	switch {
	case p == nil:
		return
	case m.count < len(m.few):
		m.few[m.count] = p
	default:
		m.more = append(m.more, p)
	}

	m.count++
}

// merge makes one entry of all that a subscriber has.
func (x *Index[S]) merge(spots []*spot[S], into *Result[S]) {
	var memory [8][]Entry[S]

	g := gathering[S]{x: x, entries: into.buffer}
	crowds := memory[:0]
	biggest := 0

	for _, p := range spots {
		c := p.crowd()
		if c == nil {
			continue
		}

		entries := c.take()
		crowds = append(crowds, entries)

		if g.base == nil || len(entries) > len(crowds[biggest]) {
			g.base, biggest = c, len(crowds)-1
		}
	}

	// The biggest crowd is taken as it is, and its own map tells who is in it. No other lock is taken under its lock.
	if g.base != nil {
		g.base.mu.Lock()
		defer g.base.mu.Unlock()

		g.entries = append(g.entries, g.base.entries...)
		g.from = len(g.entries)
	}

	for _, p := range spots {
		for i := range p.list {
			g.add(p.list[i].entry())
		}
	}

	for i, entries := range crowds {
		if i == biggest {
			continue
		}

		for _, e := range entries {
			g.add(e)
		}
	}

	g.done()

	into.buffer = g.entries
	into.Entries = g.entries
}

// gathering is a list of entries that is being put together.
type gathering[S comparable] struct {
	x       *Index[S]
	entries []Entry[S]
	base    *crowd[S] // who is in entries up to from
	from    int
	seen    map[S]int // where the others are, once they are many
}

func (g *gathering[S]) add(e Entry[S]) {
	if i := g.index(e.Subscriber); i >= 0 {
		g.entries[i].join(&e)

		return
	}

	g.entries = append(g.entries, e)

	switch {
	case g.seen != nil:
		g.seen[e.Subscriber] = len(g.entries) - 1
	case len(g.entries)-g.from > crowdFrom:
		g.seen = g.x.borrow()
		for i := g.from; i < len(g.entries); i++ {
			g.seen[g.entries[i].Subscriber] = i
		}
	}
}

func (g *gathering[S]) index(s S) int {
	if g.base != nil {
		if i := g.base.index(s); i >= 0 {
			return i
		}
	}

	if g.seen != nil {
		if i, ok := g.seen[s]; ok {
			return i
		}

		return -1
	}

	for i := g.from; i < len(g.entries); i++ {
		if g.entries[i].Subscriber == s {
			return i
		}
	}

	return -1
}

func (g *gathering[S]) done() {
	if g.seen != nil && len(g.seen) <= maxLent {
		g.x.lent.Put(g.seen)
	}
}

// maxLent is how many subscribers a map may have had that is kept for the next merge.
const maxLent = 1 << 16

func (x *Index[S]) borrow() map[S]int {
	if seen, ok := x.lent.Get().(map[S]int); ok {
		clear(seen)

		return seen
	}

	return make(map[S]int, 4*crowdFrom)
}

// join adds another subscription of the same subscriber: the highest QoS [MQTT-3.3.4-2], all identifiers
// [MQTT-3.3.4-4], and apart from those what the subscriber's own messages look like.
func (e *Entry[S]) join(o *Entry[S]) {
	mine, back := e.ForPublisher()
	theirs, alsoBack := o.ForPublisher()

	switch {
	case e.Own == o.Own && e.Own != OwnMixed:
	case back && alsoBack:
		mixed := mine.join(theirs)
		e.Own, e.Mixed = OwnMixed, &mixed
	case back:
		e.Own, e.Mixed = OwnMixed, &mine
	default:
		e.Own, e.Mixed = OwnMixed, &theirs
	}

	v := e.ForOthers().join(o.ForOthers())
	e.Identifiers, e.QoS, e.RetainAsPublished = v.Identifiers, v.QoS, v.RetainAsPublished
}

func (v View) join(o View) View {
	switch {
	case len(v.Identifiers) == 0:
		v.Identifiers = o.Identifiers
	case len(o.Identifiers) > 0:
		all := make([]uint32, 0, len(v.Identifiers)+len(o.Identifiers))
		v.Identifiers = append(append(all, v.Identifiers...), o.Identifiers...)
	}

	v.QoS = max(v.QoS, o.QoS)
	v.RetainAsPublished = v.RetainAsPublished || o.RetainAsPublished

	return v
}
