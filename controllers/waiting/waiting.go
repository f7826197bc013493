// SPDX-License-Identifier: Apache-2.0

// Package waiting remembers which objects wait for a broker, so that what happens to the broker wakes these alone: with
// ten thousand users, one new one must not wake the others.
//
// What an object's own status says is no such memory. While a pass is about to write that the object waits, the cache
// still holds the status before, and what the pass waits for may happen just then: nobody would wake the object again. A
// pass therefore enters itself before it looks at the world. What happened before, it sees; what happens after, wakes it.
package waiting

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// List is who waits for which broker. Its zero value is empty and ready; it may be used by many at the same time.
type List struct {
	mu sync.Mutex
	on map[types.NamespacedName]types.NamespacedName
}

// Add says that who waits for broker, and for no other that it waited for before.
func (l *List) Add(who, broker types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.on == nil {
		l.on = map[types.NamespacedName]types.NamespacedName{}
	}
	l.on[who] = broker
}

// Remove says that who waits no more.
func (l *List) Remove(who types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.on, who)
}

// Take empties the list of those who wait for broker and returns them. They are to be looked at again, and whoever is not
// content then enters itself once more; so nothing stays of objects that are gone.
func (l *List) Take(broker types.NamespacedName) []reconcile.Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	var requests []reconcile.Request
	for who, on := range l.on {
		if on == broker {
			requests = append(requests, reconcile.Request{NamespacedName: who})
			delete(l.on, who)
		}
	}
	return requests
}
