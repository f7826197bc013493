// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// The keys. Numbers are big endian, so that bytes sort as numbers do. All that belongs to a session lies in one range,
// in the order in which it is read when the broker starts.
const (
	keyBody     = 'B' // B body: a message that several sessions wait for
	keyGroup    = 'G' // the number of the last group commit
	keyHighest  = 'H' // the highest session id and body id given so far
	keyLarge    = 'L' // L session seq: a large message that one session waits for
	keyMeta     = 'M' // M name
	keyRetained = 'R' // R topic
	keySession  = 'S' // S session part …

	partSession      = 0
	partSubscription = 'f'
	partInbound      = 'i'
	partQueue        = 'q'

	idLen  = 8
	seqLen = 8
)

// How the body of a queued message is stored.
const (
	bodyNone   = 0 // released
	bodyInline = 1
	bodyShared = 2
	bodyLarge  = 3
)

// inlineMax is the largest message that lies in the queue itself. Larger ones lie apart, so that a start does not read
// them.
const inlineMax = 4 << 10

const (
	flagRetain   = 1 << 2
	flagReleased = 1 << 3
	bodyShift    = 4
)

// sessionWill is the flag of a session's record that says that a will stands in it.
const sessionWill = 2

var errRecord = errors.New("a record does not parse")

func appendSessionKey(dst []byte, id SessionID, part byte) []byte {
	dst = append(dst, keySession)
	dst = binary.BigEndian.AppendUint64(dst, uint64(id))
	return append(dst, part)
}

// sessionEnd is the first key behind all of a session.
func sessionEnd(id SessionID) []byte {
	dst := append(make([]byte, 0, 1+idLen+1), keySession)
	dst = binary.BigEndian.AppendUint64(dst, uint64(id))
	return append(dst, math.MaxUint8)
}

func appendQueueKey(dst []byte, id SessionID, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(appendSessionKey(dst, id, partQueue), seq)
}

func appendLargeKey(dst []byte, id SessionID, seq uint64) []byte {
	dst = append(dst, keyLarge)
	dst = binary.BigEndian.AppendUint64(dst, uint64(id))
	return binary.BigEndian.AppendUint64(dst, seq)
}

func appendBodyKey(dst []byte, body uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, keyBody), body)
}

// splitSessionKey takes a key apart that begins with keySession.
func splitSessionKey(key []byte) (id SessionID, part byte, rest []byte, err error) {
	if len(key) < 1+idLen+1 || key[0] != keySession {
		return 0, 0, nil, fmt.Errorf("key of %d bytes: %w", len(key), errRecord)
	}
	return SessionID(binary.BigEndian.Uint64(key[1:])), key[1+idLen], key[1+idLen+1:], nil
}

func appendText[T ~string | ~[]byte](dst []byte, v T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(v)))
	return append(dst, v...)
}

func appendMessage(dst []byte, m *Message) []byte {
	flags := m.QoS & 3
	if m.Retain {
		flags |= flagRetain
	}
	dst = append(dst, flags)
	dst = binary.AppendVarint(dst, m.Created)
	dst = binary.AppendVarint(dst, m.ExpiresAt)
	dst = appendText(dst, m.Topic)
	dst = appendText(dst, m.Publisher)
	dst = appendText(dst, m.Properties)
	return append(dst, m.Payload...)
}

// parser reads a record from its begin. The first thing that does not fit makes bad true, and all that follows zero.
type parser struct {
	rest []byte
	bad  bool
}

func (p *parser) byte() byte {
	if len(p.rest) == 0 {
		p.bad = true
		return 0
	}
	b := p.rest[0]
	p.rest = p.rest[1:]
	return b
}

func (p *parser) uvarint() uint64 {
	v, n := binary.Uvarint(p.rest)
	if n <= 0 {
		p.bad, p.rest = true, nil
		return 0
	}
	p.rest = p.rest[n:]
	return v
}

func (p *parser) uint32() uint32 {
	v := p.uvarint()
	if v > math.MaxUint32 {
		p.bad = true
		return 0
	}
	return uint32(v)
}

func (p *parser) varint() int64 {
	v, n := binary.Varint(p.rest)
	if n <= 0 {
		p.bad, p.rest = true, nil
		return 0
	}
	p.rest = p.rest[n:]
	return v
}

func (p *parser) text() []byte {
	n := p.uvarint()
	if n > uint64(len(p.rest)) {
		p.bad, p.rest = true, nil
		return nil
	}
	v := p.rest[:n:n]
	p.rest = p.rest[n:]
	return v
}

func (p *parser) err(what string) error {
	if p.bad {
		return fmt.Errorf("%s: %w: %w", what, errRecord, ErrDamaged)
	}
	return nil
}

// decodeMessage reads a message whose slices are views into v.
func decodeMessage(v []byte, m *Message) error {
	p := parser{rest: v}
	flags := p.byte()
	m.QoS, m.Retain = flags&3, flags&flagRetain != 0
	m.Created = p.varint()
	m.ExpiresAt = p.varint()
	m.Topic = string(p.text())
	m.Publisher = string(p.text())
	m.Properties = p.text()
	m.Payload = p.rest
	return p.err("message")
}

func appendSession(dst []byte, v *Session) []byte {
	var flags byte
	if v.Connected {
		flags |= 1
	}
	if v.Will != nil {
		flags |= sessionWill
	}
	if v.CommonName != "" {
		flags |= 4
	}
	dst = append(dst, flags, v.Version)
	dst = binary.AppendUvarint(dst, uint64(v.Expiry))
	dst = binary.AppendVarint(dst, v.Since)
	dst = binary.AppendUvarint(dst, v.NextSeq)
	dst = appendText(dst, v.ClientID)
	dst = appendText(dst, v.Username)
	dst = appendText(dst, v.Listener)
	if v.CommonName != "" {
		dst = appendText(dst, v.CommonName)
	}
	if v.Will != nil {
		dst = binary.AppendUvarint(dst, uint64(v.Will.DueDelay))
		dst = appendMessage(dst, &v.Will.Message)
	}
	return dst
}

// decodeSession reads all of a session but its id. Slices are views into v.
func decodeSession(v []byte, s *Session) error {
	p := parser{rest: v}
	flags := p.byte()
	s.Connected = flags&1 != 0
	s.Version = p.byte()
	s.Expiry = p.uint32()
	s.Since = p.varint()
	s.NextSeq = p.uvarint()
	s.ClientID, s.Username, s.Listener = string(p.text()), string(p.text()), string(p.text())
	s.CommonName = ""
	if flags&4 != 0 {
		s.CommonName = string(p.text())
	}
	s.Will = nil
	if flags&sessionWill != 0 && !p.bad {
		s.Will = &Will{DueDelay: p.uint32()}
		if err := decodeMessage(p.rest, &s.Will.Message); err != nil {
			return fmt.Errorf("session: will %w", err)
		}
		p.rest = nil
	}
	if len(p.rest) != 0 {
		p.bad = true
	}
	return p.err("session")
}

func appendOptions(dst []byte, o SubscriptionOptions) []byte {
	flags := o.QoS&3 | o.RetainHandling&3<<4
	if o.NoLocal {
		flags |= 1 << 2
	}
	if o.RetainAsPublished {
		flags |= 1 << 3
	}
	return binary.AppendUvarint(append(dst, flags), uint64(o.Identifier))
}

func decodeOptions(v []byte) (SubscriptionOptions, error) {
	p := parser{rest: v}
	flags := p.byte()
	o := SubscriptionOptions{
		QoS: flags & 3, NoLocal: flags&(1<<2) != 0, RetainAsPublished: flags&(1<<3) != 0,
		RetainHandling: flags >> 4 & 3, Identifier: p.uint32(),
	}
	if len(p.rest) != 0 {
		p.bad = true
	}
	return o, p.err("subscription")
}

// entry is a record of a queue.
type entry struct {
	qos         byte
	retain      bool
	released    bool
	kind        byte
	group       uint64 // the group commit it came with
	identifiers []byte // uvarints
	inline      []byte // the message, for bodyInline
	body        uint64 // for bodyShared
	size        uint64 // of the message
}

// appendEntryHead appends all of an entry up to its body.
func appendEntryHead(dst []byte, e *entry) []byte {
	flags := e.qos&3 | e.kind<<bodyShift
	if e.retain {
		flags |= flagRetain
	}
	if e.released {
		flags |= flagReleased
	}
	dst = binary.AppendUvarint(append(dst, flags), e.group)
	dst = appendText(dst, e.identifiers)
	switch e.kind {
	case bodyShared:
		dst = binary.AppendUvarint(dst, e.body)
		dst = binary.AppendUvarint(dst, e.size)
	case bodyLarge:
		dst = binary.AppendUvarint(dst, e.size)
	default:
	}
	return dst
}

// decodeEntry reads a record of a queue. Slices are views into v.
func decodeEntry(v []byte, e *entry) error {
	p := parser{rest: v}
	flags := p.byte()
	*e = entry{qos: flags & 3, retain: flags&flagRetain != 0, released: flags&flagReleased != 0, kind: flags >> bodyShift}
	e.group = p.uvarint()
	e.identifiers = p.text()
	switch e.kind {
	case bodyInline:
		e.inline, e.size = p.rest, uint64(len(p.rest))
		p.rest = nil
	case bodyShared:
		e.body = p.uvarint()
		e.size = p.uvarint()
	case bodyLarge:
		e.size = p.uvarint()
	case bodyNone:
		p.bad = p.bad || !e.released
	default:
		p.bad = true
	}
	if len(p.rest) != 0 {
		p.bad = true
	}
	return p.err("queue")
}

func decodeIdentifiers(v []byte) ([]uint32, error) {
	if len(v) == 0 {
		return nil, nil
	}
	p := parser{rest: v}
	ids := make([]uint32, 0, 1)
	for len(p.rest) > 0 && !p.bad {
		ids = append(ids, p.uint32())
	}
	return ids, p.err("subscription identifiers")
}
