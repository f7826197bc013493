// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"

	paho "github.com/eclipse/paho.golang/packets"
	mochi "github.com/mochi-mqtt/server/v2/packets"
)

// seen is what one decoder finds in a packet, without what is zero: not every decoder can tell that from absent.
type seen map[string]any

func (s seen) put(key string, value any) {
	if b, ok := value.([]byte); ok {
		value = string(b)
	}
	v := reflect.ValueOf(value)
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
		value = v.Interface()
	}
	if !v.IsZero() {
		s[key] = value
	}
}

// keep takes out what our structs do not hold.
func (s seen) keep(typ byte) seen {
	delete(s, "reason")
	if typ != TypePublish {
		delete(s, "user")
	}
	return s
}

// ours is what our own parsers find.
func ours(packet []byte, v Version) (seen, error) {
	got, err := parse(packet, v)
	if err != nil {
		return nil, err
	}
	s := seen{}
	switch got := got.(type) {
	case *Connect:
		oursConnect(s, got)
	case *Publish:
		s.put("dup", got.Dup)
		s.put("retain", got.Retain)
		s.put("qos", got.QoS)
		s.put("id", got.PacketID)
		s.put("topic", got.Topic)
		s.put("payload", got.Payload)
		s.put("alias", got.Alias)
		s.put("expiry", got.Expiry)
		oursForwarded(s, "", got.Properties)
	case *Ack:
		s.put("id", got.PacketID)
		s.put("code", got.Code)
	case *Subscribe:
		s.put("id", got.PacketID)
		s.put("identifiers", fmt.Sprint(identifiers(int(got.Identifier))))
		s.put("filters", fmt.Sprintf("%+v", got.Filters))
	case *Unsubscribe:
		s.put("id", got.PacketID)
		s.put("filters", fmt.Sprintf("%q", got.Filters))
	case *Disconnect:
		s.put("code", got.Code)
		s.put("sessionExpiry", got.SessionExpiry)
	case *Auth:
		s.put("code", got.Code)
		s.put("method", got.Method)
		s.put("data", got.Data)
	}
	return s, nil
}

func oursConnect(s seen, c *Connect) {
	s.put("version", byte(c.Version))
	s.put("clean", c.CleanStart)
	s.put("keepAlive", c.KeepAlive)
	s.put("clientID", c.ClientID)
	s.put("hasUsername", c.HasUsername)
	s.put("username", c.Username)
	s.put("hasPassword", c.HasPassword)
	s.put("password", c.Password)
	s.put("sessionExpiry", c.SessionExpiry)
	if c.ReceiveMaximum != 65535 {
		s.put("receiveMaximum", c.ReceiveMaximum)
	}
	s.put("maximumPacketSize", c.MaximumPacketSize)
	s.put("aliasMaximum", c.TopicAliasMaximum)
	s.put("responseInfo", c.RequestResponseInformation)
	s.put("noProblemInfo", !c.RequestProblemInformation)
	s.put("method", c.AuthMethod)
	s.put("data", c.AuthData)
	if w := c.Will; w != nil {
		s.put("will", true)
		s.put("will.qos", w.QoS)
		s.put("will.retain", w.Retain)
		s.put("will.topic", w.Topic)
		s.put("will.payload", w.Payload)
		s.put("will.delay", w.DelayInterval)
		s.put("will.expiry", w.Expiry)
		oursForwarded(s, "will.", w.Properties)
	}
}

// oursForwarded reads the wire form of what is forwarded, in the plainest way.
func oursForwarded(s seen, prefix string, b []byte) {
	var users []string
	word := func() string {
		n := int(b[0])<<8 | int(b[1])
		w := string(b[2 : 2+n])
		b = b[2+n:]
		return w
	}
	for len(b) > 0 {
		id := b[0]
		b = b[1:]
		switch id {
		case 0x01:
			s.put(prefix+"format", b[0])
			b = b[1:]
		case 0x03:
			s.put(prefix+"contentType", word())
		case 0x08:
			s.put(prefix+"responseTopic", word())
		case 0x09:
			s.put(prefix+"correlation", word())
		case 0x26:
			users = append(users, word(), word())
		default:
			panic(fmt.Sprintf("property %#x is forwarded", id))
		}
	}
	s.put(prefix+"user", strings.Join(users, "\x00"))
}

func identifiers(ids ...int) []int {
	if len(ids) == 1 && ids[0] == 0 {
		return nil
	}
	return ids
}

// theirsMochi is what the codec of mochi finds.
func theirsMochi(packet []byte, v Version) (seen, error) {
	pk := mochi.Packet{ProtocolVersion: byte(v)}
	if err := pk.FixedHeader.Decode(packet[0]); err != nil {
		return nil, err
	}
	remaining, n, err := mochi.DecodeLength(bytes.NewReader(packet[1:]))
	if err != nil {
		return nil, err
	}
	pk.FixedHeader.Remaining = remaining
	b := bytes.Clone(packet[1+n:])
	decode := map[byte]func([]byte) error{
		TypeConnect: pk.ConnectDecode, TypeConnack: pk.ConnackDecode, TypePublish: pk.PublishDecode,
		TypePuback: pk.PubackDecode, TypePubrec: pk.PubrecDecode, TypePubrel: pk.PubrelDecode, TypePubcomp: pk.PubcompDecode,
		TypeSubscribe: pk.SubscribeDecode, TypeSuback: pk.SubackDecode, TypeUnsubscribe: pk.UnsubscribeDecode,
		TypeUnsuback: pk.UnsubackDecode, TypePingreq: pk.PingreqDecode, TypePingresp: pk.PingrespDecode,
		TypeDisconnect: pk.DisconnectDecode, TypeAuth: pk.AuthDecode,
	}[pk.FixedHeader.Type]
	if err := decode(b); err != nil {
		return nil, err
	}
	var refusal mochi.Code
	switch pk.FixedHeader.Type {
	case TypeConnect:
		refusal = pk.ConnectValidate()
	case TypePublish:
		if len(pk.Properties.SubscriptionIdentifier) == 0 { // it is asked about what a server sends, too
			refusal = pk.PublishValidate(65535)
		}
	case TypeSubscribe:
		refusal = pk.SubscribeValidate()
	case TypeUnsubscribe:
		refusal = pk.UnsubscribeValidate()
	case TypeAuth:
		refusal = pk.AuthValidate()
	}
	if refusal.Code != 0 {
		return nil, refusal
	}
	s := seen{}
	switch pk.FixedHeader.Type {
	case TypeConnect:
		mochiConnect(s, &pk)
	case TypePublish:
		s.put("dup", pk.FixedHeader.Dup)
		s.put("retain", pk.FixedHeader.Retain)
		s.put("qos", pk.FixedHeader.Qos)
		s.put("topic", pk.TopicName)
		s.put("payload", pk.Payload)
	case TypeSubscribe:
		var filters []Filter
		for _, f := range pk.Filters {
			filters = append(filters, Filter{Filter: f.Filter, QoS: f.Qos, NoLocal: f.NoLocal, RetainAsPublished: f.RetainAsPublished, RetainHandling: f.RetainHandling})
		}
		s.put("filters", fmt.Sprintf("%+v", filters))
	case TypeUnsubscribe:
		var filters []string
		for _, f := range pk.Filters {
			filters = append(filters, f.Filter)
		}
		s.put("filters", fmt.Sprintf("%q", filters))
	}
	s.put("id", pk.PacketID)
	s.put("code", pk.ReasonCode)
	s.put("codes", pk.ReasonCodes)
	s.put("present", pk.SessionPresent)
	mochiProperties(s, "", &pk.Properties)
	if t := pk.FixedHeader.Type; t == TypePublish || t == TypeSubscribe {
		s.put("identifiers", fmt.Sprint(pk.Properties.SubscriptionIdentifier))
		if t == TypePublish && len(pk.Properties.SubscriptionIdentifier) == 0 {
			delete(s, "identifiers")
		}
	}
	return s, nil
}

func mochiConnect(s seen, pk *mochi.Packet) {
	c := &pk.Connect
	s.put("version", pk.ProtocolVersion)
	s.put("clean", c.Clean)
	s.put("keepAlive", c.Keepalive)
	s.put("clientID", c.ClientIdentifier)
	s.put("hasUsername", c.UsernameFlag)
	s.put("username", c.Username)
	s.put("hasPassword", c.PasswordFlag)
	s.put("password", c.Password)
	if c.WillFlag {
		s.put("will", true)
		s.put("will.qos", c.WillQos)
		s.put("will.retain", c.WillRetain)
		s.put("will.topic", c.WillTopic)
		s.put("will.payload", c.WillPayload)
		mochiProperties(s, "will.", &c.WillProperties)
	}
}

func mochiProperties(s seen, prefix string, p *mochi.Properties) {
	var users []string
	for _, u := range p.User {
		users = append(users, u.Key, u.Val)
	}
	s.put(prefix+"user", strings.Join(users, "\x00"))
	s.put(prefix+"format", p.PayloadFormat)
	s.put(prefix+"expiry", p.MessageExpiryInterval)
	s.put(prefix+"contentType", p.ContentType)
	s.put(prefix+"responseTopic", p.ResponseTopic)
	s.put(prefix+"correlation", p.CorrelationData)
	s.put(prefix+"delay", p.WillDelayInterval)
	s.put(prefix+"alias", p.TopicAlias)
	s.put(prefix+"sessionExpiry", p.SessionExpiryInterval)
	if p.ReceiveMaximum != 65535 {
		s.put(prefix+"receiveMaximum", p.ReceiveMaximum)
	}
	s.put(prefix+"maximumPacketSize", p.MaximumPacketSize)
	s.put(prefix+"aliasMaximum", p.TopicAliasMaximum)
	s.put(prefix+"responseInfo", p.RequestResponseInfo == 1)
	s.put(prefix+"noProblemInfo", p.RequestProblemInfoFlag && p.RequestProblemInfo == 0)
	s.put(prefix+"method", p.AuthenticationMethod)
	s.put(prefix+"data", p.AuthenticationData)
	s.put(prefix+"reason", p.ReasonString)
	s.put(prefix+"assigned", p.AssignedClientID)
	s.put(prefix+"serverKeepAlive", p.ServerKeepAlive)
	s.put(prefix+"response", p.ResponseInfo)
	s.put(prefix+"reference", p.ServerReference)
}

var errOtherVersion = errors.New("paho speaks version 5 alone")

// theirsPaho is what the codec of paho finds in a packet of MQTT 5.
func theirsPaho(packet []byte, v Version) (seen, error) {
	if v != V5 {
		return nil, errOtherVersion
	}
	cp, err := paho.ReadPacket(bytes.NewReader(packet))
	if err != nil {
		return nil, err
	}
	s := seen{}
	var p *paho.Properties
	switch c := cp.Content.(type) {
	case *paho.Connect:
		p = c.Properties
		pahoConnect(s, c)
	case *paho.Connack:
		p = c.Properties
		s.put("code", c.ReasonCode)
		s.put("present", c.SessionPresent)
	case *paho.Publish:
		p = c.Properties
		s.put("dup", c.Duplicate)
		s.put("retain", c.Retain)
		s.put("qos", c.QoS)
		s.put("topic", c.Topic)
		s.put("payload", c.Payload)
	case *paho.Puback:
		p = c.Properties
		s.put("code", c.ReasonCode)
	case *paho.Pubrec:
		p = c.Properties
		s.put("code", c.ReasonCode)
	case *paho.Pubrel:
		p = c.Properties
		s.put("code", c.ReasonCode)
	case *paho.Pubcomp:
		p = c.Properties
		s.put("code", c.ReasonCode)
	case *paho.Subscribe:
		p = c.Properties
		var filters []Filter
		for _, f := range c.Subscriptions {
			filters = append(filters, Filter{Filter: f.Topic, QoS: f.QoS, NoLocal: f.NoLocal, RetainAsPublished: f.RetainAsPublished, RetainHandling: f.RetainHandling})
		}
		s.put("filters", fmt.Sprintf("%+v", filters))
		s.put("identifiers", fmt.Sprint([]int(nil)))
	case *paho.Unsubscribe:
		p = c.Properties
		s.put("filters", fmt.Sprintf("%q", c.Topics))
	case *paho.Suback:
		p = c.Properties
		s.put("codes", c.Reasons)
	case *paho.Unsuback:
		p = c.Properties
		s.put("codes", c.Reasons)
	case *paho.Disconnect:
		p = c.Properties
		s.put("code", c.ReasonCode)
	case *paho.Auth:
		p = c.Properties
		s.put("code", c.ReasonCode)
	}
	s.put("id", cp.PacketID())
	if p != nil {
		pahoProperties(s, "", p)
	}
	return s, nil
}

func pahoConnect(s seen, c *paho.Connect) {
	s.put("version", c.ProtocolVersion)
	s.put("clean", c.CleanStart)
	s.put("keepAlive", c.KeepAlive)
	s.put("clientID", c.ClientID)
	s.put("hasUsername", c.UsernameFlag)
	s.put("username", c.Username)
	s.put("hasPassword", c.PasswordFlag)
	s.put("password", c.Password)
	if c.WillFlag {
		s.put("will", true)
		s.put("will.qos", c.WillQOS)
		s.put("will.retain", c.WillRetain)
		s.put("will.topic", c.WillTopic)
		s.put("will.payload", c.WillMessage)
		pahoProperties(s, "will.", c.WillProperties)
	}
}

func pahoProperties(s seen, prefix string, p *paho.Properties) {
	var users []string
	for _, u := range p.User {
		users = append(users, u.Key, u.Value)
	}
	s.put(prefix+"user", strings.Join(users, "\x00"))
	s.put(prefix+"format", p.PayloadFormat)
	s.put(prefix+"expiry", p.MessageExpiry)
	s.put(prefix+"contentType", p.ContentType)
	s.put(prefix+"responseTopic", p.ResponseTopic)
	s.put(prefix+"correlation", p.CorrelationData)
	s.put(prefix+"delay", p.WillDelayInterval)
	s.put(prefix+"alias", p.TopicAlias)
	s.put(prefix+"sessionExpiry", p.SessionExpiryInterval)
	if p.ReceiveMaximum == nil || *p.ReceiveMaximum != 65535 {
		s.put(prefix+"receiveMaximum", p.ReceiveMaximum)
	}
	s.put(prefix+"maximumPacketSize", p.MaximumPacketSize)
	s.put(prefix+"aliasMaximum", p.TopicAliasMaximum)
	s.put(prefix+"responseInfo", p.RequestResponseInfo != nil && *p.RequestResponseInfo == 1)
	s.put(prefix+"noProblemInfo", p.RequestProblemInfo != nil && *p.RequestProblemInfo == 0)
	s.put(prefix+"method", p.AuthMethod)
	s.put(prefix+"data", p.AuthData)
	s.put(prefix+"reason", p.ReasonString)
	s.put(prefix+"assigned", p.AssignedClientID)
	s.put(prefix+"serverKeepAlive", p.ServerKeepAlive)
	s.put(prefix+"response", p.ResponseInfo)
	s.put(prefix+"reference", p.ServerReference)
	if p.SubscriptionIdentifier != nil {
		s.put(prefix+"identifiers", fmt.Sprint(identifiers(*p.SubscriptionIdentifier)))
	}
}

// dispute is a packet that we accept and another codec refuses or reads in another way, and the clause that decides.
type dispute struct {
	who, name, clause string
	is                func(v Version, typ byte, packet []byte, we seen) bool
}

func bodyLen(packet []byte) int {
	remaining, _, err := varint(packet[1:])
	if err != nil {
		return -1
	}
	return int(remaining)
}

var disputes = []dispute{
	{
		"mochi", "flags of 3.1", "MQTT 3.1 sections 3.8, 3.10, 3.6: DUP may be set; section 2.1 forbids DUP with QoS 0 nowhere",
		func(v Version, _ byte, packet []byte, _ seen) bool { return v == V31 && packet[0]&dupBit != 0 },
	},
	{
		"mochi", "reserved bits of the requested QoS of 3.1", "MQTT 3.1 section 3.8: the upper bits are not used",
		func(v Version, typ byte, packet []byte, _ seen) bool {
			return v == V31 && typ == TypeSubscribe && reservedQoS(packet)
		},
	},
	{
		"mochi", "connect flags of 3.1", "MQTT 3.1 section 3.1: bit 0 is not used, nor are will QoS and retain without a will",
		func(v Version, typ byte, _ []byte, we seen) bool {
			return v == V31 && typ == TypeConnect && we["will"] == nil
		},
	},
	{
		"mochi", "reserved connect flag of 3.1", "MQTT 3.1 section 3.1: bit 0 is not used",
		func(v Version, typ byte, packet []byte, _ seen) bool {
			return v == V31 && typ == TypeConnect && connectFlags(packet)&1 != 0
		},
	},
	{
		"mochi", "user name or password absent in 3.1", "MQTT 3.1 section 3.1: the remaining length takes precedence over the flags",
		func(v Version, typ byte, packet []byte, we seen) bool {
			return v == V31 && typ == TypeConnect && (connectFlags(packet)&flagUsername != 0 && we["hasUsername"] == nil ||
				connectFlags(packet)&flagPassword != 0 && we["hasPassword"] == nil)
		},
	},
	{
		"mochi", "a will without payload", "MQTT 5 section 3.1.3.4: binary data may be empty",
		func(_ Version, typ byte, _ []byte, we seen) bool {
			return typ == TypeConnect && we["will"] != nil && we["will.payload"] == nil
		},
	},
	{
		"mochi", "a password of no bytes", "MQTT 5 section 3.1.3.6: binary data may be empty",
		func(_ Version, typ byte, _ []byte, we seen) bool {
			return typ == TypeConnect && we["hasPassword"] != nil && we["password"] == nil
		},
	},
	{
		"mochi", "DISCONNECT of one byte", "MQTT 5 section 3.14.2.1: only the property length is left out",
		func(v Version, typ byte, packet []byte, _ seen) bool {
			return v == V5 && typ == TypeDisconnect && bodyLen(packet) == 1
		},
	},
	{
		"mochi", "AUTH of no bytes", "MQTT 5 section 3.15.2.1: code and property length are left out",
		func(_ Version, typ byte, packet []byte, _ seen) bool { return typ == TypeAuth && bodyLen(packet) == 0 },
	},
	{
		"paho", "DISCONNECT of no bytes", "MQTT 5 section 3.14.2.1: the code is left out",
		func(_ Version, typ byte, packet []byte, _ seen) bool {
			return typ == TypeDisconnect && bodyLen(packet) == 0
		},
	},
	{
		"paho", "CONNECT of another version", "MQTT 3.1.1 is out of its scope",
		func(_ Version, typ byte, _ []byte, we seen) bool {
			return typ == TypeConnect && we["version"] != byte(V5)
		},
	},
}

// reservedQoS says whether a SUBSCRIBE that was accepted asks for a QoS with more bits than a QoS has.
func reservedQoS(packet []byte) bool {
	b := packet[len(packet)-bodyLen(packet)+2:]
	for len(b) > 0 {
		_, rest, ok := binaryData(b)
		if !ok || rest[0] > 2 {
			return true
		}
		b = rest[1:]
	}
	return false
}

func connectFlags(packet []byte) byte {
	b, err := body(packet, TypeConnect, 0)
	if err != nil {
		return 0
	}
	_, b, ok := binaryData(b)
	if !ok || len(b) < 2 {
		return 0
	}
	return b[1]
}

// disputed names the first dispute that explains why who reads the packet in another way; empty if none does.
func disputed(who string, v Version, packet []byte, we seen) string {
	if offered, ok := we["version"].(byte); ok {
		v = Version(offered)
	}
	for _, d := range disputes {
		if d.who == who && d.is(v, Type(packet[0]), packet, we) {
			return d.name
		}
	}
	return ""
}
