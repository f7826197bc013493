// SPDX-License-Identifier: Apache-2.0

package wire

import "encoding/binary"

// Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP.
type Ack struct {
	Type     byte
	PacketID uint16
	// Code is Success where the packet has none.
	Code byte
}

// ParseAck checks a whole PUBACK, PUBREC, PUBREL or PUBCOMP packet. It allocates nothing. A reason string and user
// properties are checked and dropped.
func ParseAck(packet []byte, v Version, a *Ack) error {
	if len(packet) == 0 {
		return errShort
	}
	typ := packet[0] >> 4
	if typ < TypePuback || typ > TypePubcomp {
		return protocol("the packet is no acknowledgement")
	}
	b, err := body(packet, typ, v)
	if err != nil {
		return err
	}
	pid, b, err := packetID(b)
	if err != nil {
		return err
	}
	a.Type, a.PacketID, a.Code = typ, pid, Success
	if len(b) == 0 {
		return nil
	}
	if !v.five() {
		return errLong
	}
	if !ackCode(typ, b[0]) {
		return protocol("the acknowledgement has a reason code that its type does not know [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1]")
	}
	a.Code = b[0]
	if len(b) == 1 {
		return nil
	}
	w, rest, err := walk(b[1:], inAck)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return errLong
	}
	return w.only()
}

var errLong = malformed("bytes follow the end of what the packet says")

// ackCode says whether an acknowledgement of this type may have this code.
func ackCode(typ, code byte) bool {
	switch code {
	case Success:
		return true
	case NoMatchingSubscribers, UnspecifiedError, ImplementationSpecificError, NotAuthorized, TopicNameInvalid,
		PacketIdentifierInUse, QuotaExceeded, PayloadFormatInvalid:
		return typ == TypePuback || typ == TypePubrec
	case PacketIdentifierNotFound:
		return typ == TypePubrel || typ == TypePubcomp
	default:
		return false
	}
}

// AppendAck writes a PUBACK, PUBREC, PUBREL or PUBCOMP in its shortest form. Code and reason exist in MQTT 5 only. A
// reason must not be given to a client that wants no problem information [MQTT-3.1.2-29].
func AppendAck(dst []byte, v Version, typ byte, pid uint16, code byte, reason string) []byte {
	first := typ << 4
	if typ == TypePubrel {
		first |= 0x02 // [MQTT-3.6.1-1]
	}
	if !v.five() || (code == Success && reason == "") {
		return binary.BigEndian.AppendUint16(append(dst, first, 2), pid)
	}
	if reason == "" {
		return append(binary.BigEndian.AppendUint16(append(dst, first, 3), pid), code)
	}
	properties := stringSize(len(reason))
	dst = appendVarint(append(dst, first), u32(3+varintSize(u32(properties))+properties))
	dst = append(binary.BigEndian.AppendUint16(dst, pid), code)
	return appendString(appendVarint(dst, u32(properties)), propReason, reason)
}
