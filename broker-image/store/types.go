// SPDX-License-Identifier: Apache-2.0

package store

import "math"

// SessionID names a session. The engine gives it, and never gives it again.
type SessionID uint64

// NeverExpires is the expiry of a session that stays until it is deleted.
const NeverExpires = math.MaxUint32

// Session is what is stored of one session, beside its subscriptions and its queue.
type Session struct {
	ID       SessionID
	ClientID string
	Username string
	// CommonName is that of the client's certificate; empty if none had a part in its login.
	CommonName string
	Listener   string // where an anonymous client came in
	Version    byte
	Expiry     uint32 // seconds; NeverExpires
	Connected  bool
	Since      int64  // unix milliseconds of the last connect or disconnect
	NextSeq    uint64 // a lower bound of QueueInfo.Next; 0 if the queue alone shall tell
	Will       *Will
}

// Will is the will message of a session.
type Will struct {
	Message  Message
	DueDelay uint32 // seconds after the connection ended
}

// Message is a message as it was published.
type Message struct {
	Topic      string
	Payload    []byte
	Properties []byte
	QoS        byte
	Retain     bool
	ExpiresAt  int64 // unix milliseconds; 0: never
	Created    int64 // unix milliseconds
	Publisher  string
}

// Queued is a message in the queue of a session.
type Queued struct {
	Seq         uint64
	QoS         byte
	Retain      bool
	Identifiers []uint32
	// Released says that PUBREC was received: only PUBREL is owed, and Message is nil.
	Released bool
	Message  *Message
}

// SubscriptionOptions are the options of a subscription as granted.
type SubscriptionOptions struct {
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte
	Identifier        uint32
}

// Subscription is a filter with its options.
type Subscription struct {
	SubscriptionOptions

	Filter string
}

// QueueInfo says how much a session has queued.
type QueueInfo struct {
	Count int
	Bytes int64  // of the messages; what several sessions share counts for each
	First uint64 // the lowest sequence number, 0 if the queue is empty
	Next  uint64 // the first sequence number that is free; 1 in a new session
}

// Restored is a session with all that belongs to it.
type Restored struct {
	Session       Session
	Subscriptions []Subscription
	Inbound       []uint16 // packet ids of QoS 2 messages received and not yet released
	Queue         QueueInfo
}

// Visitor is told what is stored. A nil function is not called; an error ends the visit. What is handed over belongs to
// the visitor.
type Visitor struct {
	Meta     func(key string, value []byte) error
	Session  func(*Restored) error
	Retained func(*Message) error
}

// Stats are counters since Open, and sizes.
type Stats struct {
	Groups       uint64 // group commits
	Transactions uint64
	Syncs        uint64
	Refused      uint64 // transactions that failed
	Pending      int64  // bytes that wait for the disk
	Shared       int    // message bodies that several sessions wait for
	DiskBytes    int64  // what the store takes on disk
	FreeBytes    int64  // what the disk had free when it was last asked
	Reopened     uint64 // how often the database was opened again after a fault
}
