// SPDX-License-Identifier: Apache-2.0

package topics

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
)

// Options are those of one subscription, as granted.
type Options struct {
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	// RetainHandling counts when the subscription is made; the index does not keep it.
	RetainHandling byte
	// Identifier is the Subscription Identifier; 0 is none.
	Identifier uint32
}

// View is how a message reaches one subscriber.
type View struct {
	// Identifiers are those of all subscriptions that match, in any order. Nobody may change them.
	Identifiers       []uint32
	QoS               byte
	RetainAsPublished bool
}

// Own tells how an entry looks to its subscriber's own messages.
type Own byte

// What No Local does to an entry.
const (
	OwnSame  Own = iota // no matching subscription is No Local: as to anybody's
	OwnNone             // all are: the subscriber gets nothing [MQTT-3.8.3-3]
	OwnMixed            // some are: Mixed is what the others ask for
)

// Entry is one subscriber of a topic, however many of its subscriptions match. Its fields are what messages of all
// other publishers look like.
type Entry[S comparable] struct {
	Subscriber S
	// Identifiers are those of all subscriptions that match, in any order. Nobody may change them.
	Identifiers []uint32
	// Mixed is set if Own is OwnMixed.
	Mixed             *View
	QoS               byte
	RetainAsPublished bool
	// Own is what the subscriber's own messages look like.
	Own Own
}

// ForOthers is how the entry looks to messages of everybody but its subscriber.
func (e *Entry[S]) ForOthers() View {
	return View{Identifiers: e.Identifiers, QoS: e.QoS, RetainAsPublished: e.RetainAsPublished}
}

// ForPublisher is how the entry looks to messages that its subscriber has published. It is false if they do not come
// back.
func (e *Entry[S]) ForPublisher() (View, bool) {
	switch e.Own {
	case OwnNone:
		return View{}, false
	case OwnMixed:
		return *e.Mixed, true
	default:
		return e.ForOthers(), true
	}
}

// Shared is a shared subscription: a message goes to one of its members.
type Shared[S comparable] struct {
	// Name is the filter as it was subscribed to, group and all.
	Name string
	// Members are the sessions that share it. Nobody may change them.
	Members []Entry[S]
	// Next is counted up by whoever picks a member, so that they take turns. It is the same in all results.
	Next *atomic.Uint32
}

// Result is what a Match found. It may be kept for as long as it is not given to another Match.
type Result[S comparable] struct {
	// Entries are the subscribers, each once, in any order. They may be the index's own: nobody may change them.
	Entries []Entry[S]
	// Groups are the shared subscriptions that match.
	Groups []Shared[S]

	// buffer is memory of this result's own, for entries that stand nowhere else.
	buffer []Entry[S]
}

// Index knows the subscribers of every filter. It is safe for concurrent use.
type Index[S comparable] struct {
	mu         sync.Mutex // held by whoever changes something
	seed       maphash.Seed
	generation atomic.Uint64
	count      atomic.Int64
	shared     atomic.Int64
	root       node[S]
	edges      edges[S]
	shares     map[string]*share[S] // by name; under mu
	lent       sync.Pool            // of map[S]int, for merge
}

// New makes an empty Index.
func New[S comparable]() *Index[S] {
	return &Index[S]{seed: maphash.MakeSeed(), shares: map[string]*share[S]{}}
}

// Subscribe enters s under a valid filter, which may be that of a shared subscription. It tells whether s was there
// before; its options are then replaced. The index keeps no part of the filter's memory.
func (x *Index[S]) Subscribe(filter string, s S, o Options) (existed bool) {
	x.mu.Lock()
	defer x.mu.Unlock()

	inner, shared := unshare(filter)
	place := x.place(inner)
	old := place.Load()

	if shared {
		existed = x.join(place, old, filter, newMember(s, o))
	} else {
		var next *spot[S]

		next, existed = old.with(newMember(s, o))
		if next != old {
			place.Store(next)
		}
	}

	if !existed {
		x.count.Add(1)

		if shared {
			x.shared.Add(1)
		}
	}

	x.generation.Add(1) // behind the change: see Generation

	return existed
}

// Unsubscribe takes s out from under the very filter that it was entered under. It tells whether it was there.
func (x *Index[S]) Unsubscribe(filter string, s S) bool {
	x.mu.Lock()
	defer x.mu.Unlock()

	inner, shared := unshare(filter)

	n, place := x.find(inner)
	if place == nil {
		return false
	}

	old := place.Load()

	var (
		next  *spot[S]
		found bool
	)

	if shared {
		next, found = x.leave(old, filter, s)
	} else {
		next, found = old.without(s)
	}

	if !found {
		return false
	}

	if next != old {
		place.Store(next)
	}

	if next == nil {
		x.trim(n)
	}

	if shared {
		x.shared.Add(-1)
	}

	x.count.Add(-1)
	x.generation.Add(1)

	return true
}

// Generation grows with every change. If it is read before a Match, then the result holds for as long as Generation
// gives the same.
func (x *Index[S]) Generation() uint64 {
	return x.generation.Load()
}

// Len is the number of subscriptions.
func (x *Index[S]) Len() int {
	return int(x.count.Load())
}

// Shared is the number of those that are shared.
func (x *Index[S]) Shared() int {
	return int(x.shared.Load())
}

const sharePrefix = "$share/"

// unshare takes the group off a filter.
func unshare(filter string) (inner string, shared bool) {
	rest, shared := strings.CutPrefix(filter, sharePrefix)
	if !shared {
		return filter, false
	}

	_, inner, _ = strings.Cut(rest, "/")

	return inner, true
}
