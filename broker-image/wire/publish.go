// SPDX-License-Identifier: Apache-2.0

package wire

// Publish is a PUBLISH packet. Its slices are views into the packet and live as long as that does; Properties may be a
// view into memory of the Publish itself, which the next ParsePublish writes over. To be used again and again.
type Publish struct {
	Dup, Retain bool
	QoS         byte
	PacketID    uint16
	// Topic is empty only if Alias stands for it.
	Topic, Payload []byte
	// Alias is 0 if there is none.
	Alias     uint16
	Expiry    uint32
	HasExpiry bool
	// Properties are those that a server forwards unaltered, in wire form and in their order: payload format, content
	// type, response topic, correlation data and user properties. Without a length in front.
	Properties []byte

	scratch []byte
}

// ParsePublish checks a whole PUBLISH packet that a client sent and looks into it. It allocates nothing, unless
// properties must be copied for the first time because one that is not forwarded stands between those that are.
//
// It does not look whether the payload is UTF-8 when the payload format says so: a server may, and need not.
func ParsePublish(packet []byte, v Version, p *Publish) error {
	return errStub
}

// PublishHeader is what differs between copies of one message, which share topic, properties and payload.
type PublishHeader struct {
	Dup, Retain bool
	QoS         byte
	PacketID    uint16
	// Alias is 0 for none. Alias, Expiry and Identifiers exist in MQTT 5 only and are left out for other versions.
	Alias       uint16
	Expiry      uint32
	HasExpiry   bool
	Identifiers []uint32
}

// PublishSize is the size of the whole packet that AppendPublish would write. A message whose size is above
// MaxRemaining must not be written, nor one above the receiver's maximum [MQTT-3.1.2-24].
func PublishSize(v Version, h *PublishHeader, topicLen, propertiesLen, payloadLen int) int {
	return 0
}

// AppendPublish writes a PUBLISH packet. pid is where its packet identifier lies, counted from the first byte written; 0
// for QoS 0, which has none. Whoever copies the packet for another receiver patches the two bytes there.
func AppendPublish[T string | []byte](dst []byte, v Version, h *PublishHeader, topic T, properties, payload []byte) (out []byte, pid int) {
	dst, pid = AppendPublishHead(dst, v, h, topic, properties, len(payload))
	return append(dst, payload...), pid
}

// AppendPublishHead writes a PUBLISH packet up to its payload, of which it only needs the length, so that many receivers
// can share a large one.
func AppendPublishHead[T string | []byte](dst []byte, v Version, h *PublishHeader, topic T, properties []byte, payloadLen int) (out []byte, pid int) {
	return dst, 0
}
