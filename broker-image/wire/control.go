// SPDX-License-Identifier: Apache-2.0

package wire

import "errors"

var errStub = errors.New("wire: not written yet")

// Disconnect is a DISCONNECT packet that a client sent.
type Disconnect struct {
	Code             byte
	SessionExpiry    uint32
	HasSessionExpiry bool
}

// ParseDisconnect checks a whole DISCONNECT packet.
func ParseDisconnect(packet []byte, v Version) (*Disconnect, error) {
	return nil, errStub
}

// Auth is an AUTH packet. It owns its memory. Method is empty only in the short form, which has a code of Success.
type Auth struct {
	Code   byte
	Method string
	Data   []byte
}

// ParseAuth checks a whole AUTH packet, which only MQTT 5 has.
func ParseAuth(packet []byte) (*Auth, error) {
	return nil, errStub
}

// Validate checks a whole packet of any type and drops what it holds. It is the way to check PINGREQ, which holds
// nothing. A type that only a server may send is a protocol error.
func Validate(packet []byte, v Version) error {
	return errStub
}

// AppendPingresp writes a PINGRESP.
func AppendPingresp(dst []byte) []byte {
	return append(dst, TypePingresp<<4, 0)
}

// AppendDisconnect writes a DISCONNECT, which a server may send to a client of MQTT 5 only.
func AppendDisconnect(dst []byte, code byte, reason, serverReference string) []byte {
	return dst
}

// AppendAuth writes an AUTH.
func AppendAuth(dst []byte, code byte, method string, data []byte) []byte {
	return dst
}
