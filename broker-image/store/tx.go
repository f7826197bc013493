// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/binary"
	"sync"
)

type opKind byte

const (
	opSet opKind = iota
	opDelete
	opDeleteSession
	opEnqueue
	opDequeue
	opDropQueue
	opRelease
)

// op is one change. What it needs of bytes lies in the buffer of its transaction.
type op struct {
	kind   opKind
	qos    byte
	retain bool
	ref    MessageRef
	id     SessionID
	seq    uint64
	at     int // where the key, or for opEnqueue the identifiers, begin
	key    int // their length
	value  int // the length of the value, which follows the key
}

// body is a message within a transaction.
type body struct {
	at, size int
	pointers uint32
	id       uint64 // given when the group is built, to one with several pointers
}

// Tx is a transaction: all of it is stored, or nothing. It is built in memory by one goroutine at a time.
type Tx struct {
	ops    []op
	bodies []body
	buf    []byte
	// grows says that more will lie on disk than before. What only removes is let in longer when the disk is full.
	grows   bool
	highest SessionID
}

// MessageRef names a message within the transaction that it was put into.
type MessageRef int

// opCost is what one change counts for in Pending, on top of its bytes.
const opCost = 48

// txRetain is the largest buffer that goes back to the pool.
const txRetain = 64 << 10

var txPool = sync.Pool{New: func() any { return new(Tx) }}

func (tx *Tx) reset() {
	if cap(tx.buf) > txRetain || cap(tx.ops)*opCost > txRetain {
		*tx = Tx{}
		return
	}
	*tx = Tx{ops: tx.ops[:0], bodies: tx.bodies[:0], buf: tx.buf[:0]}
}

func (tx *Tx) cost() int64 { return int64(len(tx.buf) + len(tx.ops)*opCost) }

// Len is how many changes the transaction holds.
func (tx *Tx) Len() int { return len(tx.ops) }

// Discard gives up a transaction that was not committed.
func (tx *Tx) Discard() {
	tx.reset()
	txPool.Put(tx)
}

// closeOp appends an op whose key was appended between begin and middle, and its value behind.
func (tx *Tx) closeOp(kind opKind, begin, middle int) {
	tx.ops = append(tx.ops, op{kind: kind, at: begin, key: middle - begin, value: len(tx.buf) - middle})
}

// PutSession stores a session, new or changed.
func (tx *Tx) PutSession(v *Session) {
	begin := len(tx.buf)
	tx.buf = appendSessionKey(tx.buf, v.ID, partSession)
	middle := len(tx.buf)
	tx.buf = appendSession(tx.buf, v)
	tx.closeOp(opSet, begin, middle)
	tx.grows = true
	tx.highest = max(tx.highest, v.ID)
}

// DeleteSession removes a session with its subscriptions, its queue and its inbound ids.
func (tx *Tx) DeleteSession(id SessionID) { tx.ops = append(tx.ops, op{kind: opDeleteSession, id: id}) }

// PutSubscription stores a subscription, new or changed.
func (tx *Tx) PutSubscription(id SessionID, filter string, o SubscriptionOptions) {
	begin := len(tx.buf)
	tx.buf = append(appendSessionKey(tx.buf, id, partSubscription), filter...)
	middle := len(tx.buf)
	tx.buf = appendOptions(tx.buf, o)
	tx.closeOp(opSet, begin, middle)
	tx.grows = true
}

// DeleteSubscription removes a subscription.
func (tx *Tx) DeleteSubscription(id SessionID, filter string) {
	begin := len(tx.buf)
	tx.buf = append(appendSessionKey(tx.buf, id, partSubscription), filter...)
	tx.closeOp(opDelete, begin, len(tx.buf))
}

// PutMessage takes a message for the queues that are named with Enqueue. It is encoded at once: m and what it points at
// may be used again. A message that is never enqueued is not stored.
func (tx *Tx) PutMessage(m *Message) MessageRef {
	begin := len(tx.buf)
	tx.buf = appendMessage(tx.buf, m)
	tx.bodies = append(tx.bodies, body{at: begin, size: len(tx.buf) - begin})
	tx.grows = true
	return MessageRef(len(tx.bodies) - 1)
}

// Enqueue puts a message into the queue of a session. Seq must be above all that the session was given before.
func (tx *Tx) Enqueue(id SessionID, seq uint64, ref MessageRef, qos byte, retain bool, identifiers []uint32) {
	begin := len(tx.buf)
	for _, v := range identifiers {
		tx.buf = binary.AppendUvarint(tx.buf, uint64(v))
	}
	tx.bodies[ref].pointers++
	tx.ops = append(tx.ops, op{
		kind: opEnqueue, id: id, seq: seq, ref: ref, qos: qos, retain: retain, at: begin, key: len(tx.buf) - begin,
	})
}

// Dequeue removes an entry of a queue, be it a message or a mark left by Release.
func (tx *Tx) Dequeue(id SessionID, seq uint64) {
	tx.ops = append(tx.ops, op{kind: opDequeue, id: id, seq: seq})
}

// DropQueue removes all that a session has queued.
func (tx *Tx) DropQueue(id SessionID) { tx.ops = append(tx.ops, op{kind: opDropQueue, id: id}) }

// Release puts a mark in the place of a message: PUBREC was received, PUBREL is owed.
func (tx *Tx) Release(id SessionID, seq uint64) {
	tx.ops = append(tx.ops, op{kind: opRelease, id: id, seq: seq})
}

// PutInbound stores the packet id of a QoS 2 message that was received.
func (tx *Tx) PutInbound(id SessionID, pid uint16) {
	begin := len(tx.buf)
	tx.buf = binary.BigEndian.AppendUint16(appendSessionKey(tx.buf, id, partInbound), pid)
	tx.closeOp(opSet, begin, len(tx.buf))
	tx.grows = true
}

// DeleteInbound removes a packet id.
func (tx *Tx) DeleteInbound(id SessionID, pid uint16) {
	begin := len(tx.buf)
	tx.buf = binary.BigEndian.AppendUint16(appendSessionKey(tx.buf, id, partInbound), pid)
	tx.closeOp(opDelete, begin, len(tx.buf))
}

// PutRetained stores the retained message of its topic.
func (tx *Tx) PutRetained(m *Message) {
	begin := len(tx.buf)
	tx.buf = append(append(tx.buf, keyRetained), m.Topic...)
	middle := len(tx.buf)
	tx.buf = appendMessage(tx.buf, m)
	tx.closeOp(opSet, begin, middle)
	tx.grows = true
}

// DeleteRetained removes the retained message of a topic.
func (tx *Tx) DeleteRetained(topic string) {
	begin := len(tx.buf)
	tx.buf = append(append(tx.buf, keyRetained), topic...)
	tx.closeOp(opDelete, begin, len(tx.buf))
}

// PutMeta stores a value under a name.
func (tx *Tx) PutMeta(key string, value []byte) {
	begin := len(tx.buf)
	tx.buf = append(append(tx.buf, keyMeta), key...)
	middle := len(tx.buf)
	tx.buf = append(tx.buf, value...)
	tx.closeOp(opSet, begin, middle)
	tx.grows = true
}
