// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"container/list"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// Cache checks passwords and remembers the right ones, so that a client that comes back costs no argon2. What it keeps
// is an HMAC over user, verifier and password under a key of this process: no use outside of it. An entry is found only
// while the user still has the verifier, so it dies with it. Wrong passwords are never remembered.
//
// A Cache is safe for concurrent use.
type Cache struct {
	size  int
	key   [sha256.Size]byte
	dummy *Verifier

	mu    sync.Mutex
	order *list.List // of [sha256.Size]byte, the last used in front
	known map[[sha256.Size]byte]*list.Element
}

// NewCache makes a Cache that remembers at most size passwords.
func NewCache(size int) *Cache {
	c := &Cache{size: size, order: list.New(), known: map[[sha256.Size]byte]*list.Element{}}
	_, _ = rand.Read(c.key[:]) // never fails: the runtime ends the process instead
	c.dummy = &Verifier{
		scheme: schemeArgon2id, memory: argonMemory, time: argonTime, threads: argonThreads,
		salt: c.key[:saltBytes], hash: make([]byte, hashBytes),
	}

	return c
}

// Verify returns the verifier that the password fits, or nil. For a user that does not exist it is called without
// verifiers: the answer then takes as long as for a wrong password.
func (c *Cache) Verify(username string, verifiers []*Verifier, password []byte) *Verifier {
	slow := false

	for _, v := range verifiers {
		if !v.Slow() {
			if v.Verify(password) {
				return v
			}

			continue
		}

		entry := c.entry(username, v, password)
		if c.remembers(entry) {
			return v
		}

		slow = true

		if v.Verify(password) {
			c.remember(entry)

			return v
		}
	}

	if !slow {
		c.dummy.Verify(password)
	}

	return nil
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
