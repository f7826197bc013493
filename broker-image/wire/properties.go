// SPDX-License-Identifier: Apache-2.0

package wire

import "encoding/binary"

// The identifiers of properties.
const (
	propPayloadFormat          = 0x01
	propMessageExpiry          = 0x02
	propContentType            = 0x03
	propResponseTopic          = 0x08
	propCorrelationData        = 0x09
	propSubscriptionIdentifier = 0x0b
	propSessionExpiry          = 0x11
	propAssignedClientID       = 0x12
	propServerKeepAlive        = 0x13
	propAuthMethod             = 0x15
	propAuthData               = 0x16
	propRequestProblemInfo     = 0x17
	propWillDelay              = 0x18
	propRequestResponseInfo    = 0x19
	propResponseInformation    = 0x1a
	propServerReference        = 0x1c
	propReason                 = 0x1f
	propReceiveMaximum         = 0x21
	propTopicAliasMaximum      = 0x22
	propTopicAlias             = 0x23
	propUser                   = 0x26
	propMaximumPacketSize      = 0x27
)

// form is how a property's value lies on the wire.
type form byte

const (
	formNone form = iota
	formByte
	formTwo
	formFour
	formVarint
	formString
	formBinary
	formPair
)

// place is where a client may put a property.
type place byte

const (
	inConnect place = 1 << iota
	inWill
	inPublish
	inAck
	inSubscribe
	inUnsubscribe
	inDisconnect
	inAuth
)

const inAll = inConnect | inWill | inPublish | inAck | inSubscribe | inUnsubscribe | inDisconnect | inAuth

// known is the table of section 2.2.2.2, without what only a server sends. Two are there although a client must not
// send them: they belong to the packet, so they are a protocol error and not a malformed packet.
var known = [64]struct {
	form   form
	places place
}{
	propPayloadFormat:          {formByte, inPublish | inWill},
	propMessageExpiry:          {formFour, inPublish | inWill},
	propContentType:            {formString, inPublish | inWill},
	propResponseTopic:          {formString, inPublish | inWill},
	propCorrelationData:        {formBinary, inPublish | inWill},
	propSubscriptionIdentifier: {formVarint, inSubscribe | inPublish}, // in PUBLISH: for a server to send
	propSessionExpiry:          {formFour, inConnect | inDisconnect},
	propAuthMethod:             {formString, inConnect | inAuth},
	propAuthData:               {formBinary, inConnect | inAuth},
	propRequestProblemInfo:     {formByte, inConnect},
	propWillDelay:              {formFour, inWill},
	propRequestResponseInfo:    {formByte, inConnect},
	propServerReference:        {formString, inDisconnect}, // for a server to send
	propReason:                 {formString, inAck | inDisconnect | inAuth},
	propReceiveMaximum:         {formTwo, inConnect},
	propTopicAliasMaximum:      {formTwo, inConnect},
	propTopicAlias:             {formTwo, inPublish},
	propUser:                   {formPair, inAll},
	propMaximumPacketSize:      {formFour, inConnect},
}

// walker goes over the properties of one packet and checks each: allowed here, complete, once, in range.
type walker struct {
	all   []byte
	place place
	seen  uint64

	// The property that next found: all[start:end], its value as a number or as bytes.
	start, end int
	id         byte
	number     uint32
	data       []byte
}

// walk takes the length of the properties from the front of b, and gives what follows them.
func walk(b []byte, in place) (w walker, rest []byte, err error) {
	length, n, err := varint(b)
	if err != nil {
		return walker{}, nil, err
	}
	if n == 0 || int(length) > len(b)-n {
		return walker{}, nil, errShort
	}
	end := n + int(length)
	return walker{all: b[n:end:end], place: in}, b[end:], nil
}

// next finds the next property, or answers false after the last one.
func (w *walker) next() (bool, error) {
	w.start = w.end
	if w.start == len(w.all) {
		return false, nil
	}
	w.id = w.all[w.start]
	if w.id >= byte(len(known)) || known[w.id].places&w.place == 0 {
		return false, malformed("a property does not exist in this packet [MQTT 5 section 2.2.2.2]")
	}
	bit := uint64(1) << w.id
	if w.seen&bit != 0 && w.id != propUser {
		return false, protocol("a property stands twice [MQTT 5 section 2.2.2.2]")
	}
	w.seen |= bit
	n, err := w.read(w.all[w.start+1:], known[w.id].form)
	if err != nil {
		return false, err
	}
	w.end = w.start + 1 + n
	if w.id == propUser {
		return true, nil
	}
	return true, w.checkValue()
}

// read reads a value and gives its size.
func (w *walker) read(b []byte, as form) (int, error) {
	switch as {
	case formByte:
		if len(b) < 1 {
			return 0, errShort
		}
		w.number = uint32(b[0])
		return 1, nil
	case formTwo:
		if len(b) < 2 {
			return 0, errShort
		}
		w.number = uint32(binary.BigEndian.Uint16(b))
		return 2, nil
	case formFour:
		if len(b) < 4 {
			return 0, errShort
		}
		w.number = binary.BigEndian.Uint32(b)
		return 4, nil
	case formVarint:
		var n int
		var err error
		w.number, n, err = varint(b)
		if err == nil && n == 0 {
			err = errShort
		}
		return n, err
	case formString:
		data, _, err := text(b)
		w.data = data
		return 2 + len(data), err
	case formPair:
		name, rest, err := text(b)
		if err != nil {
			return 0, err
		}
		value, _, err := text(rest) // both must be strings [MQTT-1.5.7-1]
		return 4 + len(name) + len(value), err
	default:
		data, _, ok := binaryData(b)
		if !ok {
			return 0, errShort
		}
		w.data = data
		return 2 + len(data), nil
	}
}

// checkValue refuses what the form allows but the property does not.
func (w *walker) checkValue() error {
	switch w.id {
	case propPayloadFormat, propRequestProblemInfo, propRequestResponseInfo:
		if w.number > 1 {
			return protocol("a property of value 0 or 1 has another value [MQTT 5 sections 3.1.2.11, 3.3.2.3.2]")
		}
	case propReceiveMaximum, propMaximumPacketSize:
		if w.number == 0 {
			return protocol("receive maximum or maximum packet size is 0 [MQTT 5 section 3.1.2.11]")
		}
	case propSubscriptionIdentifier:
		if w.number == 0 {
			return protocol("the subscription identifier is 0 [MQTT 5 section 3.8.2.1.2]")
		}
	case propTopicAlias:
		if w.number == 0 {
			return &Error{Code: TopicAliasInvalid, Reason: "the topic alias is 0 [MQTT-3.3.2-8]"}
		}
	case propResponseTopic:
		if len(w.data) == 0 {
			return protocol("the response topic is empty [MQTT-4.7.3-1]")
		}
		if checkTopic(w.data) != nil {
			return protocol("the response topic has a wildcard [MQTT-3.3.2-14]")
		}
	}
	return nil
}

// only walks over properties of which none is of interest.
func (w *walker) only() error {
	for {
		more, err := w.next()
		if !more || err != nil {
			return err
		}
	}
}

func appendNumber(dst []byte, id byte, v uint32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, id), v)
}

func appendShort(dst []byte, id byte, v uint16) []byte {
	return binary.BigEndian.AppendUint16(append(dst, id), v)
}

// appendString writes a property, or nothing if it is empty.
func appendString[T string | []byte](dst []byte, id byte, s T) []byte {
	if len(s) == 0 {
		return dst
	}
	return appendText(append(dst, id), s)
}

// stringSize is what appendString writes.
func stringSize(n int) int {
	if n == 0 {
		return 0
	}
	return 3 + n
}
