// SPDX-License-Identifier: Apache-2.0

package wire

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
	return errStub
}

// AppendAck writes a PUBACK, PUBREC, PUBREL or PUBCOMP in its shortest form. Code and reason exist in MQTT 5 only. A
// reason must not be given to a client that wants no problem information [MQTT-3.1.2-29].
func AppendAck(dst []byte, v Version, typ byte, pid uint16, code byte, reason string) []byte {
	return dst
}
