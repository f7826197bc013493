// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"container/list"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"sync/atomic"
)

// Cache checks passwords and remembers the right ones, so that a client that comes back costs no argon2. What it keeps
// is an HMAC over user, verifier and password under a key of this process: no use outside of it; a [Ledger] keeps more, where
// somebody has asked for it. An entry is found only
// while the user still has the verifier, so it dies with it. Wrong passwords are never remembered.
//
// A Cache is safe for concurrent use.
type Cache struct {
	size int
	key  [sha256.Size]byte
	// doubles are lists of verifiers of users, one of which is computed for whoever has no costly one.
	doubles atomic.Pointer[[][]*Verifier]
	// ledger keeps over a restart what is remembered; nil: nothing does.
	ledger   atomic.Pointer[Ledger]
	computed atomic.Int64

	mu    sync.Mutex
	order *list.List // of [sha256.Size]byte, the last used in front
	known map[[sha256.Size]byte]*list.Element
}

// NewCache makes a Cache that remembers at most size passwords.
func NewCache(size int) *Cache {
	c := &Cache{size: size, order: list.New(), known: map[[sha256.Size]byte]*list.Element{}}
	_, _ = rand.Read(c.key[:]) // never fails: the runtime ends the process instead

	// Random bytes where the hash would be: making a real one would cost its 19 MiB at every start.
	noHash := make([]byte, saltBytes+hashBytes)
	_, _ = rand.Read(noHash)

	if v, err := Parse(argon2idText(noHash[:saltBytes], noHash[saltBytes:])); err == nil {
		c.Imitate([][]*Verifier{{v}})
	}

	return c
}

// Imitate names the verifiers of some users, each with a costly one at least. A wrong password for a name that does not
// exist, or that has only fast verifiers, then costs what it costs one of these, always the same for the same name: how
// long the answer takes tells nobody who exists. With none of them such an answer costs nothing. Before the first call
// it costs what a verifier of [NewArgon2id] does.
func (c *Cache) Imitate(users [][]*Verifier) { c.doubles.Store(&users) }

// Keep has what is remembered kept by a ledger, too, and believes what that knows; nil ends it. The caller opens the
// ledger and closes it.
func (c *Cache) Keep(l *Ledger) { c.ledger.Store(l) }

// Computed is how many costly verifiers were computed for a password, those in place of nobody's included.
func (c *Cache) Computed() int64 { return c.computed.Load() }

// Quick returns the verifier that the password fits if that is known at next to no cost: because it is remembered, or
// because the verifier is a fast one. Else it returns nil, and only [Cache.Verify] can tell.
func (c *Cache) Quick(username string, verifiers []*Verifier, password []byte) *Verifier {
	for _, v := range verifiers {
		switch {
		case v.SCRAM() && !lonely(verifiers):
		case !v.Slow():
			if v.Verify(password) {
				return v
			}
		case c.knows(username, v, password):
			return v
		}
	}

	return nil
}

// knows tells whether the password of a costly verifier is remembered, by the process or from before its start.
func (c *Cache) knows(username string, v *Verifier, password []byte) bool {
	entry, ledger := c.entry(username, v, password), c.ledger.Load()

	if !c.remembers(entry) {
		if !ledger.opens(username, v, password) {
			return false
		}

		c.remember(entry)
	}

	ledger.touch(username, v, password)

	return true
}

// Verify returns the verifier that the password fits, or nil. For a user that does not exist it is called without
// verifiers: the answer then takes as long as for a wrong password. A verifier for SCRAM is asked only where a user has
// no other kind.
func (c *Cache) Verify(username string, verifiers []*Verifier, password []byte) *Verifier {
	if v := c.Quick(username, verifiers, password); v != nil {
		return v
	}

	slow := false

	for _, v := range verifiers {
		if !v.Slow() || v.SCRAM() && !lonely(verifiers) {
			continue
		}

		slow = true

		c.computed.Add(1)

		if v.Verify(password) {
			c.remember(c.entry(username, v, password))
			c.ledger.Load().note(username, v, password)

			return v
		}
	}

	if !slow {
		for _, v := range c.double(username) {
			if v.Slow() && (!v.SCRAM() || lonely(c.double(username))) {
				c.computed.Add(1)
				v.spend(password)
			}
		}
	}

	return nil
}

// lonely tells whether there are verifiers for SCRAM only.
func lonely(verifiers []*Verifier) bool {
	for _, v := range verifiers {
		if !v.SCRAM() {
			return false
		}
	}

	return true
}

// double is what a name without costly verifiers costs.
func (c *Cache) double(username string) []*Verifier {
	doubles := *c.doubles.Load()
	if len(doubles) == 0 {
		return nil
	}

	sum := sign(c.key[:], username)

	return doubles[binary.BigEndian.Uint64(sum)%uint64(len(doubles))]
}

// Len is the number of passwords remembered.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()

	return c.order.Len()
}

func (c *Cache) entry(username string, v *Verifier, password []byte) (sum [sha256.Size]byte) {
	mac := hmac.New(sha256.New, c.key[:])

	for _, part := range [][]byte{[]byte(username), []byte(v.text), password} {
		// The lengths keep parts from flowing into one another.
		_ = binary.Write(mac, binary.BigEndian, uint64(len(part)))
		_, _ = mac.Write(part)
	}

	mac.Sum(sum[:0])

	return sum
}

func (c *Cache) remembers(entry [sha256.Size]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()

	element, ok := c.known[entry]
	if ok {
		c.order.MoveToFront(element)
	}

	return ok
}

func (c *Cache) remember(entry [sha256.Size]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if _, ok := c.known[entry]; ok || c.size <= 0 {
		return
	}

	for c.order.Len() >= c.size {
		oldest := c.order.Back()
		if sum, ok := c.order.Remove(oldest).([sha256.Size]byte); ok {
			delete(c.known, sum)
		}
	}

	c.known[entry] = c.order.PushFront(entry)
}
