// SPDX-License-Identifier: Apache-2.0

package wire

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
	return &Connect{}, errStub
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
// else but SessionPresent is left out.
func AppendConnack(dst []byte, v Version, c *Connack) []byte {
	return dst
}
