// SPDX-License-Identifier: Apache-2.0

package store

// Tx is a transaction: all of it is stored, or nothing. It is built in memory by one goroutine at a time.
type Tx struct{}

// MessageRef names a message within the transaction that it was put into.
type MessageRef int

// Len is how many changes the transaction holds.
func (tx *Tx) Len() int { return 0 }

// Discard gives up a transaction that was not committed.
func (tx *Tx) Discard() {}

// PutSession stores a session, new or changed.
func (tx *Tx) PutSession(v *Session) { _ = v }

// DeleteSession removes a session with its subscriptions, its queue and its inbound ids.
func (tx *Tx) DeleteSession(id SessionID) { _ = id }

// PutSubscription stores a subscription, new or changed.
func (tx *Tx) PutSubscription(id SessionID, filter string, o SubscriptionOptions) { _, _, _ = id, filter, o }

// DeleteSubscription removes a subscription.
func (tx *Tx) DeleteSubscription(id SessionID, filter string) { _, _ = id, filter }

// PutMessage takes a message for the queues that are named with Enqueue. It is encoded at once: m and what it points at
// may be used again. A message that is never enqueued is not stored.
func (tx *Tx) PutMessage(m *Message) MessageRef { _ = m; return 0 }

// Enqueue puts a message into the queue of a session. Seq must be above all that the session was given before.
func (tx *Tx) Enqueue(id SessionID, seq uint64, ref MessageRef, qos byte, retain bool, identifiers []uint32) {
	_, _, _, _, _, _ = id, seq, ref, qos, retain, identifiers
}

// Dequeue removes an entry of a queue, be it a message or a mark left by Release.
func (tx *Tx) Dequeue(id SessionID, seq uint64) { _, _ = id, seq }

// DropQueue removes all that a session has queued.
func (tx *Tx) DropQueue(id SessionID) { _ = id }

// Release puts a mark in the place of a message: PUBREC was received, PUBREL is owed.
func (tx *Tx) Release(id SessionID, seq uint64) { _, _ = id, seq }

// PutInbound stores the packet id of a QoS 2 message that was received.
func (tx *Tx) PutInbound(id SessionID, pid uint16) { _, _ = id, pid }

// DeleteInbound removes a packet id.
func (tx *Tx) DeleteInbound(id SessionID, pid uint16) { _, _ = id, pid }

// PutRetained stores the retained message of its topic.
func (tx *Tx) PutRetained(m *Message) { _ = m }

// DeleteRetained removes the retained message of a topic.
func (tx *Tx) DeleteRetained(topic string) { _ = topic }

// PutMeta stores a value under a name.
func (tx *Tx) PutMeta(key string, value []byte) { _, _ = key, value }
