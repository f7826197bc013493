// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/binary"
)

// Subscribe is a SUBSCRIBE packet. It owns its memory.
type Subscribe struct {
	PacketID   uint16
	Identifier uint32 // 0: none
	Filters    []Filter
}

// Filter is one filter of a SUBSCRIBE and how it is wanted.
type Filter struct {
	// Filter is well-formed UTF-8. It may be empty, or have its wildcards where they must not be.
	Filter            string
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte
}

// ParseSubscribe checks a whole SUBSCRIBE packet, except for the placement of wildcards.
func ParseSubscribe(packet []byte, v Version) (*Subscribe, error) {
	b, err := body(packet, TypeSubscribe, v)
	if err != nil {
		return nil, err
	}
	s := &Subscribe{}
	if s.PacketID, b, err = packetID(b); err != nil {
		return nil, err
	}
	if v.five() {
		w, rest, err := walk(b, inSubscribe)
		if err != nil {
			return nil, err
		}
		for {
			more, err := w.next()
			if err != nil {
				return nil, err
			}
			if !more {
				break
			}
			if w.id == propSubscriptionIdentifier {
				s.Identifier = w.number
			}
		}
		b = rest
	}
	if len(b) == 0 {
		return nil, protocol("SUBSCRIBE has no filter [MQTT-3.8.3-2]")
	}
	for len(b) > 0 {
		filter, rest, err := text(b)
		if err != nil {
			return nil, err
		}
		if len(rest) == 0 {
			return nil, errShort
		}
		f, err := options(rest[0], filter, v)
		if err != nil {
			return nil, err
		}
		s.Filters = append(s.Filters, f)
		b = rest[1:]
	}
	return s, nil
}

// options reads the byte that follows a filter.
func options(o byte, filter []byte, v Version) (Filter, error) {
	f := Filter{QoS: o & 0x03}
	switch {
	case f.QoS == 3 && v.five():
		return f, protocol("the maximum QoS of a subscription is 3 [MQTT 5 section 3.8.3.1]")
	case f.QoS == 3:
		return f, malformed("the requested QoS is 3 [MQTT 3.1.1, MQTT-3-8.3-4]")
	case v == V31: // does not use the other bits, nor says what they must be
	case !v.five() && o > 2:
		return f, malformed("reserved bits of the requested QoS are set [MQTT 3.1.1, MQTT-3-8.3-4]")
	case o&0xc0 != 0:
		return f, malformed("reserved bits of the subscription options are set [MQTT-3.8.3-5]")
	default:
		f.NoLocal, f.RetainAsPublished, f.RetainHandling = o&0x04 != 0, o&0x08 != 0, o>>4&0x03
	}
	if f.RetainHandling == 3 {
		return f, protocol("the retain handling of a subscription is 3 [MQTT 5 section 3.8.3.1]")
	}
	if f.NoLocal && bytes.HasPrefix(filter, []byte("$share/")) {
		return f, protocol("a shared subscription asks for no local [MQTT-3.8.3-4]")
	}
	f.Filter = string(filter) // each of its own, so that one that stays does not keep all the others
	return f, nil
}

// Unsubscribe is an UNSUBSCRIBE packet. It owns its memory.
type Unsubscribe struct {
	PacketID uint16
	Filters  []string
}

// ParseUnsubscribe checks a whole UNSUBSCRIBE packet, except for the placement of wildcards.
func ParseUnsubscribe(packet []byte, v Version) (*Unsubscribe, error) {
	b, err := body(packet, TypeUnsubscribe, v)
	if err != nil {
		return nil, err
	}
	u := &Unsubscribe{}
	if u.PacketID, b, err = packetID(b); err != nil {
		return nil, err
	}
	if v.five() {
		w, rest, err := walk(b, inUnsubscribe)
		if err != nil {
			return nil, err
		}
		if err := w.only(); err != nil {
			return nil, err
		}
		b = rest
	}
	if len(b) == 0 {
		return nil, protocol("UNSUBSCRIBE has no filter [MQTT-3.10.3-2]")
	}
	for len(b) > 0 {
		filter, rest, err := text(b)
		if err != nil {
			return nil, err
		}
		u.Filters = append(u.Filters, string(filter))
		b = rest
	}
	return u, nil
}

// AppendSuback writes a SUBACK with one code per filter [MQTT-3.9.3-1]. Codes are those of MQTT 5; earlier versions know
// one failure only.
func AppendSuback(dst []byte, v Version, pid uint16, codes []byte, reason string) []byte {
	if v.five() {
		return appendCodes(dst, TypeSuback, pid, codes, reason)
	}
	dst = appendVarint(append(dst, TypeSuback<<4), u32(2+len(codes)))
	dst = binary.BigEndian.AppendUint16(dst, pid)
	for _, code := range codes {
		dst = append(dst, min(code, 0x80))
	}
	return dst
}

// AppendUnsuback writes an UNSUBACK with one code per filter [MQTT-3.11.3-1]; in earlier versions it has none.
func AppendUnsuback(dst []byte, v Version, pid uint16, codes []byte, reason string) []byte {
	if v.five() {
		return appendCodes(dst, TypeUnsuback, pid, codes, reason)
	}
	return binary.BigEndian.AppendUint16(append(dst, TypeUnsuback<<4, 2), pid)
}

func appendCodes(dst []byte, typ byte, pid uint16, codes []byte, reason string) []byte {
	properties := stringSize(len(reason))
	dst = appendVarint(append(dst, typ<<4), u32(2+varintSize(u32(properties))+properties+len(codes)))
	dst = binary.BigEndian.AppendUint16(dst, pid)
	dst = appendString(appendVarint(dst, u32(properties)), propReason, reason)
	return append(dst, codes...)
}
