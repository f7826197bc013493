// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/binary"
	"math"
)

// Connect is a CONNECT packet. It owns its memory.
type Connect struct {
	// Version is the level offered. 0 if the packet ended before it, or if the protocol is not MQTT at all.
	Version     Version
	CleanStart  bool
	KeepAlive   uint16
	ClientID    string
	HasUsername bool
	Username    string
	HasPassword bool
	Password    []byte
	Will        *Will // nil: none

	// The properties of MQTT 5, or what their absence means.
	SessionExpiry              uint32
	HasSessionExpiry           bool
	ReceiveMaximum             uint16 // 65535 when absent
	MaximumPacketSize          uint32 // 0: no limit
	TopicAliasMaximum          uint16
	RequestResponseInformation bool
	RequestProblemInformation  bool // true when absent
	AuthMethod                 string
	HasAuthMethod              bool
	AuthData                   []byte
}

// Will is the message that a CONNECT leaves with the server.
type Will struct {
	QoS           byte
	Retain        bool
	Topic         string
	Payload       []byte
	DelayInterval uint32
	Expiry        uint32
	HasExpiry     bool
	// Properties are those that are forwarded unaltered, in the form of Publish.Properties.
	Properties []byte
}

// ParseConnect checks a whole CONNECT packet. The Connect is never nil: beside an error it holds the version offered,
// if that was reached, which decides in what form a CONNACK can tell of the error.
//
// An error of code UnsupportedProtocolVersion comes with the level that was asked for, or with Version 0 if the
// protocol's name is not that of MQTT; then there is nobody to answer. The client identifier may be empty; what that
// means is for the caller to decide.
func ParseConnect(packet []byte) (*Connect, error) {
	c := &Connect{ReceiveMaximum: math.MaxUint16, RequestProblemInformation: true}
	b, err := body(packet, TypeConnect, 0)
	if err != nil {
		return c, err
	}
	if b, err = c.protocol(b); err != nil {
		return c, err
	}
	err = c.rest(b)
	return c, err
}

// protocol reads name and level.
func (c *Connect) protocol(b []byte) ([]byte, error) {
	name, b, ok := binaryData(b)
	if !ok {
		return nil, errShort
	}
	if n := string(name); n != "MQTT" && n != "MQIsdp" {
		return nil, &Error{Code: UnsupportedProtocolVersion, Reason: "the protocol is not MQTT [MQTT-3.1.2-1]"}
	}
	if len(b) == 0 {
		return nil, errShort
	}
	c.Version = Version(b[0])
	if c.Version != V5 && c.Version != V311 && c.Version != V31 || (c.Version == V31) != (string(name) == "MQIsdp") {
		return nil, &Error{Code: UnsupportedProtocolVersion, Reason: "the protocol version is not 3.1, 3.1.1 or 5 [MQTT-3.1.2-2]"}
	}
	return b[1:], nil
}

// The connect flags.
const (
	flagReserved   = 0x01
	flagCleanStart = 0x02
	flagWill       = 0x04
	flagWillQoS    = 0x18
	flagWillRetain = 0x20
	flagPassword   = 0x40
	flagUsername   = 0x80
)

func (c *Connect) checkFlags(flags byte) error {
	if c.Version != V31 { // which says nothing of these
		if flags&flagReserved != 0 {
			return malformed("the reserved flag of CONNECT is set [MQTT-3.1.2-3]")
		}
		if flags&flagWill == 0 && flags&(flagWillQoS|flagWillRetain) != 0 {
			return malformed("CONNECT has a will QoS or will retain, but no will [MQTT-3.1.2-7], [MQTT-3.1.2-8]")
		}
	}
	if flags&flagWill != 0 && flags&flagWillQoS == flagWillQoS {
		return malformed("the will QoS is 3 [MQTT 5 section 3.1.2.6]")
	}
	if c.Version != V5 && flags&flagPassword != 0 && flags&flagUsername == 0 {
		return malformed("CONNECT has a password, but no user name [MQTT 3.1.1, MQTT-3.1.2-22]")
	}
	return nil
}

// rest reads what follows the level, in the order of [MQTT-3.1.3-1].
func (c *Connect) rest(b []byte) error {
	if len(b) < 3 {
		return errShort
	}
	flags := b[0]
	if err := c.checkFlags(flags); err != nil {
		return err
	}
	c.CleanStart = flags&flagCleanStart != 0
	c.KeepAlive = binary.BigEndian.Uint16(b[1:])
	b = b[3:]
	var err error
	if c.Version == V5 {
		if b, err = c.properties(b); err != nil {
			return err
		}
	}
	id, b, err := text(b)
	if err != nil {
		return err
	}
	c.ClientID = string(id)
	if flags&flagWill != 0 {
		c.Will = &Will{QoS: flags & flagWillQoS >> 3, Retain: flags&flagWillRetain != 0}
		if b, err = c.Will.read(b, c.Version); err != nil {
			return err
		}
	}
	if b, err = c.credentials(b, flags); err != nil {
		return err
	}
	if len(b) > 0 {
		return errLong
	}
	return nil
}

// credentials reads user name and password. In MQTT 3.1 the remaining length takes precedence over the flags: it allows
// for clients of the version before it, which set them and send nothing.
func (c *Connect) credentials(b []byte, flags byte) ([]byte, error) {
	missing := func() bool { return c.Version == V31 && len(b) == 0 }
	if flags&flagUsername != 0 && !missing() {
		name, rest, err := text(b)
		if err != nil {
			return nil, err
		}
		c.HasUsername, c.Username, b = true, string(name), rest
	}
	if flags&flagPassword != 0 && !missing() {
		password, rest, ok := binaryData(b)
		if !ok {
			return nil, errShort
		}
		c.HasPassword, c.Password, b = true, bytes.Clone(password), rest
	}
	return b, nil
}

func (c *Connect) properties(b []byte) ([]byte, error) {
	w, rest, err := walk(b, inConnect)
	if err != nil {
		return nil, err
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
		case propSessionExpiry:
			c.SessionExpiry, c.HasSessionExpiry = w.number, true
		case propReceiveMaximum:
			c.ReceiveMaximum = uint16(w.number) // #nosec G115 -- read from two bytes
		case propMaximumPacketSize:
			c.MaximumPacketSize = w.number
		case propTopicAliasMaximum:
			c.TopicAliasMaximum = uint16(w.number) // #nosec G115 -- read from two bytes
		case propRequestResponseInfo:
			c.RequestResponseInformation = w.number == 1
		case propRequestProblemInfo:
			c.RequestProblemInformation = w.number == 1
		case propAuthMethod:
			c.AuthMethod, c.HasAuthMethod = string(w.data), true
		case propAuthData:
			c.AuthData = bytes.Clone(w.data)
		}
	}
	if c.AuthData != nil && !c.HasAuthMethod {
		return nil, protocol("CONNECT has authentication data, but no method [MQTT 5 section 3.1.2.11.10]")
	}
	return rest, nil
}

// read reads the will's properties, topic and payload.
func (m *Will) read(b []byte, v Version) ([]byte, error) {
	if v == V5 {
		w, rest, err := walk(b, inWill)
		if err != nil {
			return nil, err
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
			case propWillDelay:
				m.DelayInterval = w.number
			case propMessageExpiry:
				m.Expiry, m.HasExpiry = w.number, true
			default:
				m.Properties = append(m.Properties, w.all[w.start:w.end]...)
			}
		}
		b = rest
	}
	topic, b, ok := binaryData(b)
	if !ok {
		return nil, errShort
	}
	if len(topic) == 0 {
		return nil, &Error{Code: TopicNameInvalid, Reason: "the will topic is empty [MQTT-4.7.3-1]"}
	}
	if err := checkTopic(topic); err != nil {
		return nil, err
	}
	payload, b, ok := binaryData(b)
	if !ok {
		return nil, errShort
	}
	m.Topic, m.Payload = string(topic), bytes.Clone(payload)
	return b, nil
}

// Connack is the answer to CONNECT. Code is one of MQTT 5, whatever the version is. Zero and nil fields are left out.
type Connack struct {
	SessionPresent      bool
	Code                byte
	SessionExpiry       *uint32
	ReceiveMaximum      uint16
	MaximumPacketSize   uint32
	AssignedClientID    string
	TopicAliasMaximum   uint16
	Reason              string
	ServerKeepAlive     *uint16
	ResponseInformation string
	ServerReference     string
	AuthMethod          string
	AuthData            []byte
}

// AppendConnack writes a CONNACK. In versions before 5 the code becomes the return code nearest to it, and everything
// else but SessionPresent is left out. A server of those versions closes without an answer where the packet was broken;
// if it answers all the same, that is "not authorized".
func AppendConnack(dst []byte, v Version, c *Connack) []byte {
	var present byte
	if c.SessionPresent && c.Code == Success && v != V31 { // [MQTT-3.2.2-6]
		present = 1
	}
	if !v.five() {
		return append(dst, TypeConnack<<4, 2, present, returnCode(c.Code))
	}
	var room [256]byte // on the stack, and enough for most
	properties := c.properties(room[:0])
	size := u32(len(properties))
	dst = appendVarint(append(dst, TypeConnack<<4), 2+u32(varintSize(size))+size)
	dst = appendVarint(append(dst, present, c.Code), size)
	return append(dst, properties...)
}

func (c *Connack) properties(dst []byte) []byte {
	if c.SessionExpiry != nil {
		dst = appendNumber(dst, propSessionExpiry, *c.SessionExpiry)
	}
	if c.ReceiveMaximum != 0 {
		dst = appendShort(dst, propReceiveMaximum, c.ReceiveMaximum)
	}
	if c.MaximumPacketSize != 0 {
		dst = appendNumber(dst, propMaximumPacketSize, c.MaximumPacketSize)
	}
	if c.TopicAliasMaximum != 0 {
		dst = appendShort(dst, propTopicAliasMaximum, c.TopicAliasMaximum)
	}
	if c.ServerKeepAlive != nil {
		dst = appendShort(dst, propServerKeepAlive, *c.ServerKeepAlive)
	}
	dst = appendString(dst, propAssignedClientID, c.AssignedClientID)
	dst = appendString(dst, propReason, c.Reason)
	dst = appendString(dst, propResponseInformation, c.ResponseInformation)
	dst = appendString(dst, propServerReference, c.ServerReference)
	dst = appendString(dst, propAuthMethod, c.AuthMethod)
	return appendString(dst, propAuthData, c.AuthData)
}

// returnCode is the CONNACK return code of MQTT 3 that says most of what a reason code says.
func returnCode(code byte) byte {
	switch code {
	case Success:
		return 0
	case UnsupportedProtocolVersion:
		return 1
	case ClientIdentifierNotValid:
		return 2
	case UnspecifiedError, ImplementationSpecificError, ServerUnavailable, ServerBusy, ServerShuttingDown,
		MessageRateTooHigh, QuotaExceeded, UseAnotherServer, ServerMoved, ConnectionRateExceeded:
		return 3
	case BadUserNameOrPassword:
		return 4
	default:
		return 5
	}
}
