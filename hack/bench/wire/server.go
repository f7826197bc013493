// SPDX-License-Identifier: Apache-2.0

package wire

import "encoding/binary"

// AppendConnack appends the CONNACK that says welcome to a new session.
func AppendConnack(dst []byte, version byte) []byte {
	if version == V5 {
		return append(dst, Connack<<4, 3, 0, 0, 0)
	}
	return append(dst, Connack<<4, 2, 0, 0)
}

// AppendSuback appends a SUBACK that grants qos for each of count filters.
func AppendSuback(dst []byte, version byte, id uint16, count int, qos byte) []byte {
	length := 2 + count
	if version == V5 {
		length++
	}
	dst = binary.BigEndian.AppendUint16(appendVarint(append(dst, Suback<<4), length), id)
	if version == V5 {
		dst = append(dst, 0)
	}
	for range count {
		dst = append(dst, qos)
	}
	return dst
}

// ConnectVersion is the protocol level that a CONNECT asks for.
func ConnectVersion(p Packet) (byte, error) {
	if len(p.Body) < 7 {
		return 0, errShort
	}
	return p.Body[6], nil
}

// ParseSubscribe tells the filters of a SUBSCRIBE and the QoS of the last one.
func ParseSubscribe(p Packet, version byte) (id uint16, filters []string, qos byte, err error) {
	if len(p.Body) < 3 {
		return 0, nil, 0, errShort
	}
	id = binary.BigEndian.Uint16(p.Body)
	b := p.Body[2:]
	if version == V5 {
		size, n, err := varint(b)
		if err != nil || n == 0 || len(b) < n+size {
			return 0, nil, 0, errShort
		}
		b = b[n+size:]
	}
	for len(b) > 0 {
		if len(b) < 3 {
			return 0, nil, 0, errShort
		}
		length := int(binary.BigEndian.Uint16(b))
		if len(b) < 2+length+1 {
			return 0, nil, 0, errShort
		}
		filters = append(filters, string(b[2:2+length]))
		qos = b[2+length] & 3
		b = b[2+length+1:]
	}
	return id, filters, qos, nil
}
