// SPDX-License-Identifier: Apache-2.0

package wire

// MaxRemaining is the largest remaining length that a fixed header can express, MaxSize the largest packet.
const (
	MaxRemaining = 268_435_455
	MaxSize      = 5 + MaxRemaining
)

// Next tells the size of the first packet in buf, once all of it is there; 0 says that more bytes are needed. It looks
// at the fixed header alone, so it refuses what may never be read in full: a packet larger than limit in total (0: no
// limit), a type that does not exist, flags that no version allows.
func Next(buf []byte, limit uint32) (size int, err error) {
	if len(buf) == 0 {
		return 0, nil
	}
	if err := checkFlags(buf[0]); err != nil {
		return 0, err
	}
	remaining, n, err := varint(buf[1:])
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, nil
	}
	size = 1 + n + int(remaining)
	if limit != 0 && uint64(size) > uint64(limit) { // #nosec G115 -- a sum of three small positive numbers
		return 0, &Error{Code: PacketTooLarge, Reason: "the packet is larger than the maximum that the server announced [MQTT-3.2.2-15]"}
	}
	if size > len(buf) {
		return 0, nil
	}
	return size, nil
}

// Need tells how many bytes the first packet in buf has in total, be they there or not; 0 as long as its header is
// incomplete. To be asked after Next answered 0, so that the reader can make room at once.
func Need(buf []byte) int {
	if len(buf) < 2 {
		return 0
	}
	remaining, n, err := varint(buf[1:])
	if err != nil || n == 0 {
		return 0
	}
	return 1 + n + int(remaining)
}

// Type is the type of the packet that begins with this byte.
func Type(first byte) byte {
	return first >> 4
}

// checkFlags refuses a first byte that no version of the protocol allows.
func checkFlags(first byte) error {
	flags := first & 0x0f
	switch first >> 4 {
	case 0:
		return malformed("packet type 0 is reserved")
	case TypePublish:
		if flags&0x06 == 0x06 {
			return malformed("both QoS bits of PUBLISH are set [MQTT-3.3.1-4]")
		}
	case TypePubrel, TypeSubscribe, TypeUnsubscribe:
		// MQTT 3.1 has a DUP bit here. The parsers of the other versions refuse it.
		if flags&^dupBit != 0x02 {
			return malformed("reserved flags of the fixed header are wrong [MQTT-2.1.3-1]")
		}
	default:
		if flags != 0 {
			return malformed("reserved flags of the fixed header are wrong [MQTT-2.1.3-1]")
		}
	}
	return nil
}

const dupBit = 0x08

// varint reads a variable byte integer. n is its size, 0 if it is not complete.
func varint(b []byte) (value uint32, n int, err error) {
	for i, c := range b {
		value |= uint32(c&0x7f) << (7 * i)
		if c < 0x80 {
			if c == 0 && i > 0 {
				return 0, 0, malformed("a variable byte integer is longer than needed [MQTT-1.5.5-1]")
			}
			return value, i + 1, nil
		}
		if i == 3 {
			return 0, 0, malformed("a variable byte integer has more than four bytes [MQTT-1.5.5-1]")
		}
	}
	return 0, 0, nil
}

func varintSize(v uint32) int {
	switch {
	case v < 1<<7:
		return 1
	case v < 1<<14:
		return 2
	case v < 1<<21:
		return 3
	default:
		return 4
	}
}

// u32 makes a size that is written as a variable byte integer of the sum of lengths.
func u32(n int) uint32 {
	return uint32(n) // #nosec G115 -- a caller keeps packets within MaxSize
}

func appendVarint(dst []byte, v uint32) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// body checks the fixed header of a whole packet of the type wanted and gives what follows it.
func body(packet []byte, typ byte, v Version) ([]byte, error) {
	if len(packet) < 2 || packet[0]>>4 != typ {
		return nil, protocol("the packet is of another type than expected")
	}
	if err := checkFlags(packet[0]); err != nil {
		return nil, err
	}
	if typ != TypePublish && packet[0]&dupBit != 0 && v != V31 {
		return nil, malformed("reserved flags of the fixed header are wrong [MQTT-2.1.3-1]")
	}
	remaining, n, err := varint(packet[1:])
	if err != nil {
		return nil, err
	}
	if n == 0 || len(packet) != 1+n+int(remaining) {
		return nil, malformed("the remaining length is not the length of the packet")
	}
	return packet[1+n:], nil
}
