// SPDX-License-Identifier: Apache-2.0

package wire

import "bytes"

// Disconnect is a DISCONNECT packet that a client sent.
type Disconnect struct {
	Code             byte
	SessionExpiry    uint32
	HasSessionExpiry bool
}

// ParseDisconnect checks a whole DISCONNECT packet.
func ParseDisconnect(packet []byte, v Version) (*Disconnect, error) {
	b, err := body(packet, TypeDisconnect, v)
	if err != nil {
		return nil, err
	}
	d := &Disconnect{}
	if len(b) == 0 {
		return d, nil
	}
	if !v.five() {
		return nil, errLong
	}
	if !disconnectCode(b[0]) {
		return nil, protocol("DISCONNECT has a reason code that a client must not send [MQTT-3.14.2-1]")
	}
	d.Code = b[0]
	if len(b) == 1 {
		return d, nil
	}
	w, rest, err := walk(b[1:], inDisconnect)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, errLong
	}
	for {
		more, err := w.next()
		if err != nil {
			return nil, err
		}
		if !more {
			return d, nil
		}
		switch w.id {
		case propSessionExpiry:
			d.SessionExpiry, d.HasSessionExpiry = w.number, true
		case propServerReference:
			return nil, protocol("a client sent a server reference [MQTT 5 section 3.14.2.2.5]")
		}
	}
}

// disconnectCode says whether a client may send a DISCONNECT with this code.
func disconnectCode(code byte) bool {
	switch code {
	case NormalDisconnection, DisconnectWithWill, UnspecifiedError, MalformedPacket, ProtocolError,
		ImplementationSpecificError, TopicNameInvalid, ReceiveMaximumExceeded, TopicAliasInvalid, PacketTooLarge,
		MessageRateTooHigh, QuotaExceeded, AdministrativeAction, PayloadFormatInvalid:
		return true
	default:
		return false
	}
}

// Auth is an AUTH packet. It owns its memory. Method is empty only in the short form, which has a code of Success.
type Auth struct {
	Code   byte
	Method string
	Data   []byte
}

// ParseAuth checks a whole AUTH packet, which only MQTT 5 has.
func ParseAuth(packet []byte) (*Auth, error) {
	b, err := body(packet, TypeAuth, V5)
	if err != nil {
		return nil, err
	}
	a := &Auth{}
	if len(b) == 0 {
		return a, nil
	}
	if b[0] != Success && b[0] != ContinueAuthentication && b[0] != ReAuthenticate {
		return nil, protocol("AUTH has a reason code that it does not know [MQTT-3.15.2-1]")
	}
	a.Code = b[0]
	w, rest, err := walk(b[1:], inAuth)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, errLong
	}
	for {
		more, err := w.next()
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		switch w.id {
		case propAuthMethod:
			a.Method = string(w.data)
		case propAuthData:
			a.Data = bytes.Clone(w.data)
		}
	}
	if w.seen&(1<<propAuthMethod) == 0 {
		return nil, protocol("AUTH has no authentication method [MQTT 5 section 3.15.2.2.2]")
	}
	return a, nil
}

// Validate checks a whole packet of any type and drops what it holds. It is the way to check PINGREQ, which holds
// nothing. A type that only a server may send is a protocol error.
func Validate(packet []byte, v Version) error {
	if len(packet) == 0 {
		return errShort
	}
	var err error
	switch packet[0] >> 4 {
	case TypeConnect:
		_, err = ParseConnect(packet)
	case TypePublish:
		err = ParsePublish(packet, v, &Publish{})
	case TypePuback, TypePubrec, TypePubrel, TypePubcomp:
		err = ParseAck(packet, v, &Ack{})
	case TypeSubscribe:
		_, err = ParseSubscribe(packet, v)
	case TypeUnsubscribe:
		_, err = ParseUnsubscribe(packet, v)
	case TypePingreq:
		var b []byte
		if b, err = body(packet, TypePingreq, v); err == nil && len(b) > 0 {
			err = errLong
		}
	case TypeDisconnect:
		_, err = ParseDisconnect(packet, v)
	case TypeAuth:
		if !v.five() {
			return malformed("packet type 15 is reserved before MQTT 5")
		}
		_, err = ParseAuth(packet)
	case TypeConnack, TypeSuback, TypeUnsuback, TypePingresp:
		return protocol("a client sent a packet that only a server sends [MQTT 5 section 2.1.2]")
	default:
		return malformed("packet type 0 is reserved")
	}
	return err
}

// AppendPingresp writes a PINGRESP.
func AppendPingresp(dst []byte) []byte {
	return append(dst, TypePingresp<<4, 0)
}

// AppendDisconnect writes a DISCONNECT, which a server may send to a client of MQTT 5 only.
func AppendDisconnect(dst []byte, code byte, reason, serverReference string) []byte {
	properties := stringSize(len(reason)) + stringSize(len(serverReference))
	if properties == 0 {
		if code == NormalDisconnection {
			return append(dst, TypeDisconnect<<4, 0)
		}
		return append(dst, TypeDisconnect<<4, 1, code)
	}
	dst = appendVarint(append(dst, TypeDisconnect<<4), u32(1+varintSize(u32(properties))+properties))
	dst = appendVarint(append(dst, code), u32(properties))
	dst = appendString(dst, propReason, reason)
	return appendString(dst, propServerReference, serverReference)
}

// AppendAuth writes an AUTH.
func AppendAuth(dst []byte, code byte, method string, data []byte) []byte {
	properties := stringSize(len(method)) + stringSize(len(data))
	if properties == 0 && code == Success {
		return append(dst, TypeAuth<<4, 0)
	}
	dst = appendVarint(append(dst, TypeAuth<<4), u32(1+varintSize(u32(properties))+properties))
	dst = appendVarint(append(dst, code), u32(properties))
	dst = appendString(dst, propAuthMethod, method)
	return appendString(dst, propAuthData, data)
}
