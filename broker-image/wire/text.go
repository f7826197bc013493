// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// Eight bytes at once: most strings are plain ASCII, and the checks below are asked for every message.
const (
	lowBits  = 0x7f7f7f7f7f7f7f7f
	highBits = 0x8080808080808080
	// + is 0x2b and # is 0x23: with bit 3 set they are the same byte.
	bitThree = 0x0808080808080808
	wildcard = 0x2b2b2b2b2b2b2b2b
)

// plain says that all eight bytes are between U+0001 and U+007F.
func plain(x uint64) bool {
	// Adding 0x7f sets the high bit of each byte that is not zero; none carries into the next one.
	return x&highBits == 0 && (x+lowBits)&highBits == highBits
}

// validString says whether b may stand in a UTF-8 string of MQTT: well-formed, without surrogates [MQTT-1.5.4-1],
// without U+0000 [MQTT-1.5.4-2].
func validString(b []byte) bool {
	for len(b) >= 8 {
		if !plain(binary.LittleEndian.Uint64(b)) {
			return validSlowly(b)
		}
		b = b[8:]
	}
	for _, c := range b {
		if c-1 >= 0x7f { // zero wraps around
			return validSlowly(b)
		}
	}
	return true
}

func validSlowly(b []byte) bool {
	return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0
}

// checkTopic says whether b, which is not empty, is the name of a topic.
func checkTopic(b []byte) error {
	if len(b) < 8 {
		for _, c := range b {
			if c-1 >= 0x7f || c|0x08 == '+' {
				return checkTopicSlowly(b)
			}
		}
		return nil
	}
	for i := 0; ; i += 8 {
		// The last word overlaps the one before it, so that no byte is left over.
		i = min(i, len(b)-8)
		x := binary.LittleEndian.Uint64(b[i:])
		if !plain(x) || (((x|bitThree)^wildcard)+lowBits)&highBits != highBits {
			return checkTopicSlowly(b)
		}
		if i == len(b)-8 {
			return nil
		}
	}
}

func checkTopicSlowly(b []byte) error {
	if !validSlowly(b) {
		return malformed("the topic is not a UTF-8 string [MQTT-1.5.4-1], [MQTT-1.5.4-2]")
	}
	if bytes.IndexByte(b, '+') >= 0 || bytes.IndexByte(b, '#') >= 0 {
		return &Error{Code: TopicNameInvalid, Reason: "the topic has a wildcard [MQTT-3.3.2-2]"}
	}
	return nil
}

// binaryData takes binary data, or the bytes of a string unchecked, from the front of b.
func binaryData(b []byte) (data, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b)) + 2
	if len(b) < n {
		return nil, nil, false
	}
	return b[2:n:n], b[n:], true
}

// text takes a string from the front of b.
func text(b []byte) (data, rest []byte, err error) {
	data, rest, ok := binaryData(b)
	if !ok {
		return nil, nil, errShort
	}
	if !validString(data) {
		return nil, nil, errText
	}
	return data, rest, nil
}

var (
	errShort = malformed("the packet ends too early")
	errText  = malformed("a string is not UTF-8, or holds U+0000 [MQTT-1.5.4-1], [MQTT-1.5.4-2]")
)

func appendText[T string | []byte](dst []byte, s T) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s))) // #nosec G115 -- what the callers write fits, or was read in this form
	return append(dst, s...)
}
