// SPDX-License-Identifier: Apache-2.0

package wire

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
	return nil, errStub
}

// Unsubscribe is an UNSUBSCRIBE packet. It owns its memory.
type Unsubscribe struct {
	PacketID uint16
	Filters  []string
}

// ParseUnsubscribe checks a whole UNSUBSCRIBE packet, except for the placement of wildcards.
func ParseUnsubscribe(packet []byte, v Version) (*Unsubscribe, error) {
	return nil, errStub
}

// AppendSuback writes a SUBACK with one code per filter [MQTT-3.9.3-1]. Codes are those of MQTT 5; earlier versions know
// one failure only.
func AppendSuback(dst []byte, v Version, pid uint16, codes []byte, reason string) []byte {
	return dst
}

// AppendUnsuback writes an UNSUBACK with one code per filter [MQTT-3.11.3-1]; in earlier versions it has none.
func AppendUnsuback(dst []byte, v Version, pid uint16, codes []byte, reason string) []byte {
	return dst
}
