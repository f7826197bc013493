// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"strings"
)

// raw is bytes that stand in a packet as they are.
type raw []byte

// packet writes a whole packet: a number is one byte, a uint16 two, a uint32 four, a string has its length in front.
func packet(first byte, parts ...any) []byte {
	b := bodyOf(parts...)
	return append(appendVarint([]byte{first}, u32(len(b))), b...)
}

// props writes properties with their length in front.
func props(parts ...any) raw {
	b := bodyOf(parts...)
	return append(appendVarint(nil, u32(len(b))), b...)
}

func bodyOf(parts ...any) []byte {
	var b []byte
	for _, part := range parts {
		switch part := part.(type) {
		case int:
			b = append(b, byte(part))
		case byte:
			b = append(b, part)
		case uint16:
			b = binary.BigEndian.AppendUint16(b, part)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, part)
		case string:
			b = appendText(b, part)
		case raw:
			b = append(b, part...)
		default:
			panic("a part of no known type")
		}
	}
	return b
}

const (
	id        = uint16(0x0102)
	keepAlive = uint16(60)
)

var (
	surrogate = string([]byte{0xed, 0xa0, 0x80})
	overlong  = string([]byte{0xc0, 0xaf})
	long      = strings.Repeat("level/", 40) + "end"
	user      = raw(bodyOf(propUser, "name", "värde"))
)

// connect writes a CONNECT of the version's own name, flags and what follows the keep alive.
func connect(v Version, flags int, parts ...any) []byte {
	name := "MQTT"
	if v == V31 {
		name = "MQIsdp"
	}
	return packet(0x10, append([]any{name, byte(v), flags, keepAlive}, parts...)...)
}

// good are packets that a server accepts, each with what is in it.
var good = map[string]struct {
	reason string
	v      Version
	packet []byte
	want   any
}{
	"CONNECT of 3.1": {
		reason: "the oldest form that is served",
		v:      V31,
		packet: connect(V31, 0x02, "id"),
		want:   &Connect{Version: V31, CleanStart: true, KeepAlive: 60, ClientID: "id"},
	},
	"CONNECT of 3.1 with a user name flag, but no user name": {
		reason: "the remaining length takes precedence over the flags",
		v:      V31,
		packet: connect(V31, 0xc2, "id"),
		want:   &Connect{Version: V31, CleanStart: true, KeepAlive: 60, ClientID: "id"},
	},
	"CONNECT of 3.1 with a user name, and a password flag without password": {
		reason: "the remaining length takes precedence over the flags",
		v:      V31,
		packet: connect(V31, 0xc2, "id", "ann"),
		want:   &Connect{Version: V31, CleanStart: true, KeepAlive: 60, ClientID: "id", HasUsername: true, Username: "ann"},
	},
	"CONNECT of 3.1 with flags that mean nothing": {
		reason: "3.1 does not use bit 0, nor the will's bits if there is no will",
		v:      V31,
		packet: connect(V31, 0x3b, "id"),
		want:   &Connect{Version: V31, CleanStart: true, KeepAlive: 60, ClientID: "id"},
	},
	"CONNECT of 3.1 with a long client id": {
		reason: "23 characters are a rule that no client keeps",
		v:      V31,
		packet: connect(V31, 0x00, strings.Repeat("x", 64)),
		want:   &Connect{Version: V31, KeepAlive: 60, ClientID: strings.Repeat("x", 64)},
	},
	"CONNECT of 3.1.1 with everything": {
		reason: "the order is client id, will topic, will payload, user name, password",
		v:      V311,
		packet: connect(V311, 0xf6, "id", "will/topic", "gone", "ann", "secret"),
		want: &Connect{
			Version: V311, CleanStart: true, KeepAlive: 60, ClientID: "id", HasUsername: true, Username: "ann",
			HasPassword: true, Password: []byte("secret"),
			Will: &Will{QoS: 2, Retain: true, Topic: "will/topic", Payload: []byte("gone")},
		},
	},
	"CONNECT of 3.1.1 with an empty client id, will payload and password": {
		reason: "each may be empty",
		v:      V311,
		packet: connect(V311, 0xc6, "", "t", "", "", ""),
		want: &Connect{
			Version: V311, CleanStart: true, KeepAlive: 60, HasUsername: true, HasPassword: true, Password: []byte{},
			Will: &Will{Topic: "t", Payload: []byte{}},
		},
	},
	"CONNECT of 5 without properties": {
		reason: "what is absent has a meaning",
		v:      V5,
		packet: connect(V5, 0x00, props(), "id"),
		want:   &Connect{Version: V5, KeepAlive: 60, ClientID: "id", ReceiveMaximum: 65535, RequestProblemInformation: true},
	},
	"CONNECT of 5 with every property": {
		reason: "each has its place in the struct, except user properties",
		v:      V5,
		packet: connect(V5, 0xee, props(
			propSessionExpiry, uint32(7), propReceiveMaximum, uint16(8), propMaximumPacketSize, uint32(9),
			propTopicAliasMaximum, uint16(10), propRequestResponseInfo, 1, propRequestProblemInfo, 0, user,
			propAuthMethod, "m", propAuthData, "d", user), "id",
			props(propUser, "a", "b", propWillDelay, uint32(11), propPayloadFormat, 1, propMessageExpiry, uint32(12),
				propContentType, "text", propResponseTopic, "re", propCorrelationData, "c", user),
			"will", "gone", "ann", "secret"),
		want: &Connect{
			Version: V5, CleanStart: true, KeepAlive: 60, ClientID: "id", HasUsername: true, Username: "ann",
			HasPassword: true, Password: []byte("secret"),
			SessionExpiry: 7, HasSessionExpiry: true, ReceiveMaximum: 8, MaximumPacketSize: 9, TopicAliasMaximum: 10,
			RequestResponseInformation: true, AuthMethod: "m", HasAuthMethod: true, AuthData: []byte("d"),
			Will: &Will{
				QoS: 1, Retain: true, Topic: "will", Payload: []byte("gone"), DelayInterval: 11, Expiry: 12, HasExpiry: true,
				Properties: bodyOf(propUser, "a", "b", propPayloadFormat, 1, propContentType, "text",
					propResponseTopic, "re", propCorrelationData, "c", user),
			},
		},
	},
	"CONNECT of 5 with a password, but no user name": {
		reason: "5 allows it, for tokens",
		v:      V5,
		packet: connect(V5, 0x42, props(), "id", "token"),
		want: &Connect{
			Version: V5, CleanStart: true, KeepAlive: 60, ClientID: "id", HasPassword: true, Password: []byte("token"),
			ReceiveMaximum: 65535, RequestProblemInformation: true,
		},
	},
	"PUBLISH of QoS 0": {
		reason: "no packet identifier",
		v:      V311,
		packet: packet(0x30, "a/b", raw("hello")),
		want:   &Publish{Topic: []byte("a/b"), Payload: []byte("hello")},
	},
	"PUBLISH with all flags": {
		reason: "flags are in the first byte",
		v:      V311,
		packet: packet(0x3d, long, id, raw("hello")),
		want:   &Publish{Dup: true, Retain: true, QoS: 2, PacketID: id, Topic: []byte(long), Payload: []byte("hello")},
	},
	"PUBLISH without payload": {
		reason: "a payload may be empty",
		v:      V311,
		packet: packet(0x33, "ü", id),
		want:   &Publish{Retain: true, QoS: 1, PacketID: id, Topic: []byte("ü"), Payload: []byte{}},
	},
	"PUBLISH of 3.1 with DUP and QoS 0": {
		reason: "3.1 says when DUP is set, but not that it must not be",
		v:      V31,
		packet: packet(0x38, "t"),
		want:   &Publish{Dup: true, Topic: []byte("t"), Payload: []byte{}},
	},
	"PUBLISH of 5 without properties": {
		reason: "a length of zero stands for none",
		v:      V5,
		packet: packet(0x32, "a/b", id, props(), raw("hello")),
		want:   &Publish{QoS: 1, PacketID: id, Topic: []byte("a/b"), Payload: []byte("hello")},
	},
	"PUBLISH of 5 with an alias for its topic": {
		reason: "then the topic is empty",
		v:      V5,
		packet: packet(0x30, "", props(propTopicAlias, uint16(9))),
		want:   &Publish{Alias: 9, Topic: []byte{}, Payload: []byte{}, Properties: []byte{}},
	},
	"PUBLISH of 5 whose forwarded properties stand together": {
		reason: "alias and expiry are for the server, the rest goes on as it is",
		v:      V5,
		packet: packet(0x30, "t", props(propTopicAlias, uint16(9), propPayloadFormat, 1, propContentType, "text", user,
			propMessageExpiry, uint32(0)), raw("x")),
		want: &Publish{
			Topic: []byte("t"), Payload: []byte("x"), Alias: 9, HasExpiry: true,
			Properties: bodyOf(propPayloadFormat, 1, propContentType, "text", user),
		},
	},
	"PUBLISH of 5 whose forwarded properties stand apart": {
		reason: "the order stays",
		v:      V5,
		packet: packet(0x30, "t", props(propResponseTopic, "re/ply", propTopicAlias, uint16(9), user, user,
			propMessageExpiry, uint32(5), propCorrelationData, string([]byte{0, 0xff}), user), raw("x")),
		want: &Publish{
			Topic: []byte("t"), Payload: []byte("x"), Alias: 9, Expiry: 5, HasExpiry: true,
			Properties: bodyOf(propResponseTopic, "re/ply", user, user, propCorrelationData, string([]byte{0, 0xff}), user),
		},
	},
	"PUBACK of 3.1.1":             {reason: "two bytes", v: V311, packet: packet(0x40, id), want: &Ack{Type: TypePuback, PacketID: id}},
	"PUBREC of 5 in short":        {reason: "no code means success", v: V5, packet: packet(0x50, id), want: &Ack{Type: TypePubrec, PacketID: id}},
	"PUBREL of 5 with a code":     {reason: "no properties below 4 bytes", v: V5, packet: packet(0x62, id, 0x92), want: &Ack{Type: TypePubrel, PacketID: id, Code: 0x92}},
	"PUBREL of 3.1 with DUP":      {reason: "3.1 has a DUP bit here", v: V31, packet: packet(0x6a, id), want: &Ack{Type: TypePubrel, PacketID: id}},
	"PUBCOMP of 5 with a length":  {reason: "properties may be given as none", v: V5, packet: packet(0x70, id, 0, props()), want: &Ack{Type: TypePubcomp, PacketID: id}},
	"PUBACK of 5 with properties": {reason: "they are checked and dropped", v: V5, packet: packet(0x40, id, 0x87, props(propReason, "no", user, user)), want: &Ack{Type: TypePuback, PacketID: id, Code: 0x87}},
	"SUBSCRIBE of 3.1.1": {
		reason: "the last byte of each is its QoS",
		v:      V311,
		packet: packet(0x82, id, "a/#", 2, "+/b", 0),
		want:   &Subscribe{PacketID: id, Filters: []Filter{{Filter: "a/#", QoS: 2}, {Filter: "+/b"}}},
	},
	"SUBSCRIBE of 3.1 with DUP and reserved bits": {
		reason: "3.1 has a DUP bit here, and does not use six bits of the QoS",
		v:      V31,
		packet: packet(0x8a, id, "a", 0xfd),
		want:   &Subscribe{PacketID: id, Filters: []Filter{{Filter: "a", QoS: 1}}},
	},
	"SUBSCRIBE of 5 with all options": {
		reason: "options are one byte",
		v:      V5,
		packet: packet(0x82, id, props(propSubscriptionIdentifier, raw{0xff, 0xff, 0xff, 0x7f}, user), "a", 0x2e, "$share/g/a", 0x19),
		want: &Subscribe{PacketID: id, Identifier: 268_435_455, Filters: []Filter{
			{Filter: "a", QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 2},
			{Filter: "$share/g/a", QoS: 1, RetainAsPublished: true, RetainHandling: 1},
		}},
	},
	"SUBSCRIBE with filters that cannot be": {
		reason: "each is refused by its own code in SUBACK, not by closing",
		v:      V5,
		packet: packet(0x82, id, props(), "a/#/b", 0, "", 0),
		want:   &Subscribe{PacketID: id, Filters: []Filter{{Filter: "a/#/b"}, {}}},
	},
	"UNSUBSCRIBE of 3.1.1":        {reason: "filters alone", v: V311, packet: packet(0xa2, id, "a", "b/#"), want: &Unsubscribe{PacketID: id, Filters: []string{"a", "b/#"}}},
	"UNSUBSCRIBE of 3.1 with DUP": {reason: "3.1 has a DUP bit here", v: V31, packet: packet(0xaa, id, "a"), want: &Unsubscribe{PacketID: id, Filters: []string{"a"}}},
	"UNSUBSCRIBE of 5":            {reason: "user properties are allowed", v: V5, packet: packet(0xa2, id, props(user), "a"), want: &Unsubscribe{PacketID: id, Filters: []string{"a"}}},
	"PINGREQ":                     {reason: "nothing in it", v: V311, packet: packet(0xc0)},
	"DISCONNECT of 3.1.1":         {reason: "nothing in it", v: V311, packet: packet(0xe0), want: &Disconnect{}},
	"DISCONNECT of 5 in short":    {reason: "no code means normal", v: V5, packet: packet(0xe0), want: &Disconnect{}},
	"DISCONNECT of 5 with a code": {reason: "no properties below 2 bytes", v: V5, packet: packet(0xe0, 4), want: &Disconnect{Code: 4}},
	"DISCONNECT of 5 with everything": {
		reason: "all that a client may send",
		v:      V5,
		packet: packet(0xe0, 0, props(user, propReason, "bye", propSessionExpiry, uint32(0))),
		want:   &Disconnect{HasSessionExpiry: true},
	},
	"AUTH in short":                  {reason: "no code means success", v: V5, packet: packet(0xf0), want: &Auth{}},
	"AUTH with everything":           {reason: "all that a client may send", v: V5, packet: packet(0xf0, 0x18, props(propAuthMethod, "m", propReason, "r", user, propAuthData, "d")), want: &Auth{Code: 0x18, Method: "m", Data: []byte("d")}},
	"PUBLISH whose topic holds FEFF": {reason: "it is a character like others [MQTT-1.5.4-3]", v: V5, packet: packet(0x30, "\ufeffa", props()), want: &Publish{Topic: []byte("\ufeffa"), Payload: []byte{}}},
}

// bad are packets that a server refuses, each with the code that says why.
var bad = map[string]struct {
	reason string
	v      Version
	packet []byte
	code   byte
}{
	"type 0":                       {reason: "reserved", v: V5, packet: packet(0x00), code: 0x81},
	"AUTH before 5":                {reason: "reserved there", v: V311, packet: packet(0xf0), code: 0x81},
	"CONNACK":                      {reason: "only a server sends it", v: V5, packet: packet(0x20, 0, 0, props()), code: 0x82},
	"SUBACK":                       {reason: "only a server sends it", v: V5, packet: packet(0x90, id, props(), 0), code: 0x82},
	"UNSUBACK":                     {reason: "only a server sends it", v: V5, packet: packet(0xb0, id, props(), 0), code: 0x82},
	"PINGRESP":                     {reason: "only a server sends it", v: V5, packet: packet(0xd0), code: 0x82},
	"PINGREQ with a flag":          {reason: "MQTT-2.1.3-1", v: V5, packet: packet(0xc1), code: 0x81},
	"PINGREQ with a byte":          {reason: "it has none", v: V5, packet: packet(0xc0, 0), code: 0x81},
	"a remaining length too large": {reason: "the packet is not all there", v: V5, packet: []byte{0xc0, 1}, code: 0x81},
	"a remaining length too small": {reason: "something follows the packet", v: V5, packet: []byte{0xc0, 0, 0}, code: 0x81},
	"a remaining length overlong":  {reason: "MQTT-1.5.5-1", v: V5, packet: []byte{0xc0, 0x80, 0}, code: 0x81},
	"nothing":                      {reason: "there is no packet", v: V5, packet: nil, code: 0x81},
	"one byte":                     {reason: "there is no length", v: V5, packet: []byte{0xc0}, code: 0x82},

	"CONNECT with a flag in its header":     {reason: "MQTT-3.1.2-12", v: V311, packet: packet(0x12, "MQTT", 4, 2, keepAlive, "id"), code: 0x81},
	"CONNECT without anything":              {reason: "no name", v: V311, packet: packet(0x10), code: 0x81},
	"CONNECT of another protocol":           {reason: "MQTT-3.1.2-1", v: V311, packet: packet(0x10, "MQTP", 4, 2, keepAlive, "id"), code: 0x84},
	"CONNECT without level":                 {reason: "it ends", v: V311, packet: packet(0x10, "MQTT"), code: 0x81},
	"CONNECT of level 6":                    {reason: "MQTT-3.1.2-2", v: V5, packet: packet(0x10, "MQTT", 6, 2, keepAlive, "id"), code: 0x84},
	"CONNECT of level 3 under the new name": {reason: "level 3 is MQIsdp", v: V31, packet: packet(0x10, "MQTT", 3, 2, keepAlive, "id"), code: 0x84},
	"CONNECT of level 4 under the old name": {reason: "level 4 is MQTT", v: V311, packet: packet(0x10, "MQIsdp", 4, 2, keepAlive, "id"), code: 0x84},
	"CONNECT of a bridge of Mosquitto":      {reason: "it falls back when refused", v: V311, packet: packet(0x10, "MQTT", 0x84, 2, keepAlive, "id"), code: 0x84},
	"CONNECT without keep alive":            {reason: "it ends", v: V311, packet: packet(0x10, "MQTT", 4, 2), code: 0x81},
	"CONNECT with the reserved flag":        {reason: "MQTT-3.1.2-3", v: V311, packet: connect(V311, 0x03, "id"), code: 0x81},
	"CONNECT with will QoS, but no will":    {reason: "MQTT-3.1.2-7", v: V5, packet: connect(V5, 0x0a, props(), "id"), code: 0x81},
	"CONNECT with will retain, but no will": {reason: "MQTT-3.1.2-8", v: V311, packet: connect(V311, 0x22, "id"), code: 0x81},
	"CONNECT with will QoS 3":               {reason: "section 3.1.2.6", v: V31, packet: connect(V31, 0x1e, "id", "t", "p"), code: 0x81},
	"CONNECT of 3.1.1 with password alone":  {reason: "MQTT-3.1.2-22 of 3.1.1", v: V311, packet: connect(V311, 0x42, "id", "p"), code: 0x81},
	"CONNECT of 3.1 with password alone":    {reason: "as 3.1.1", v: V31, packet: connect(V31, 0x42, "id", "p"), code: 0x81},
	"CONNECT without client id":             {reason: "it may be empty, not absent", v: V311, packet: connect(V311, 2), code: 0x81},
	"CONNECT with a client id of U+0000":    {reason: "MQTT-1.5.4-2", v: V311, packet: connect(V311, 2, "a\x00b"), code: 0x81},
	"CONNECT with a surrogate":              {reason: "MQTT-1.5.4-1", v: V5, packet: connect(V5, 2, props(), surrogate), code: 0x81},
	"CONNECT with a will without payload":   {reason: "MQTT-3.1.2-9", v: V311, packet: connect(V311, 6, "id", "t"), code: 0x81},
	"CONNECT with a will without topic":     {reason: "MQTT-3.1.2-9", v: V311, packet: connect(V311, 6, "id"), code: 0x81},
	"CONNECT with an empty will topic":      {reason: "MQTT-4.7.3-1", v: V5, packet: connect(V5, 6, props(), "id", props(), "", "p"), code: 0x90},
	"CONNECT with a wildcard in its will":   {reason: "MQTT-3.3.2-2", v: V5, packet: connect(V5, 6, props(), "id", props(), "a/+", "p"), code: 0x90},
	"CONNECT with a will topic not UTF-8":   {reason: "MQTT-3.1.3-11", v: V5, packet: connect(V5, 6, props(), "id", props(), overlong, "p"), code: 0x81},
	"CONNECT of 3.1.1 without user name":    {reason: "MQTT-3.1.2-17", v: V311, packet: connect(V311, 0x82, "id"), code: 0x81},
	"CONNECT with a user name not UTF-8":    {reason: "MQTT-3.1.3-12", v: V311, packet: connect(V311, 0x82, "id", overlong), code: 0x81},
	"CONNECT of 3.1.1 without password":     {reason: "MQTT-3.1.2-19", v: V311, packet: connect(V311, 0xc2, "id", "u"), code: 0x81},
	"CONNECT of 3.1 with half a user name":  {reason: "absent is allowed, broken is not", v: V31, packet: connect(V31, 0x82, "id", 0), code: 0x81},
	"CONNECT with something behind":         {reason: "MQTT-3.1.2-16, MQTT-3.1.2-18", v: V311, packet: connect(V311, 2, "id", "u"), code: 0x81},
	"CONNECT of 5 without properties' size": {reason: "MQTT-2.2.2-1", v: V5, packet: connect(V5, 2), code: 0x81},
	"CONNECT with an expiry twice":          {reason: "section 3.1.2.11.2", v: V5, packet: connect(V5, 2, props(propSessionExpiry, uint32(1), propSessionExpiry, uint32(1)), "id"), code: 0x82},
	"CONNECT with receive maximum 0":        {reason: "section 3.1.2.11.3", v: V5, packet: connect(V5, 2, props(propReceiveMaximum, uint16(0)), "id"), code: 0x82},
	"CONNECT with maximum packet size 0":    {reason: "section 3.1.2.11.4", v: V5, packet: connect(V5, 2, props(propMaximumPacketSize, uint32(0)), "id"), code: 0x82},
	"CONNECT with response information 2":   {reason: "section 3.1.2.11.6", v: V5, packet: connect(V5, 2, props(propRequestResponseInfo, 2), "id"), code: 0x82},
	"CONNECT with problem information 2":    {reason: "section 3.1.2.11.7", v: V5, packet: connect(V5, 2, props(propRequestProblemInfo, 2), "id"), code: 0x82},
	"CONNECT with data without method":      {reason: "section 3.1.2.11.10", v: V5, packet: connect(V5, 2, props(propAuthData, ""), "id"), code: 0x82},
	"CONNECT with a property of a will":     {reason: "section 2.2.2.2", v: V5, packet: connect(V5, 2, props(propWillDelay, uint32(1)), "id"), code: 0x81},
	"CONNECT with a property of CONNACK":    {reason: "section 2.2.2.2", v: V5, packet: connect(V5, 2, props(propAssignedClientID, "x"), "id"), code: 0x81},
	"CONNECT with half a property":          {reason: "it ends", v: V5, packet: connect(V5, 2, props(propSessionExpiry, uint16(1)), "id"), code: 0x81},
	"CONNECT with half a short property":    {reason: "it ends", v: V5, packet: connect(V5, 2, props(propReceiveMaximum, 1), "id"), code: 0x81},
	"CONNECT with half a binary property":   {reason: "it ends", v: V5, packet: connect(V5, 2, props(propAuthMethod, "m", propAuthData, 0), "id"), code: 0x81},
	"CONNECT whose properties end too late": {reason: "their length goes past the packet", v: V5, packet: connect(V5, 2, 200), code: 0x81},
	"CONNECT with half a user property":     {reason: "MQTT-1.5.7-1", v: V5, packet: connect(V5, 2, props(propUser, "name"), "id"), code: 0x81},
	"CONNECT with a user property of NUL":   {reason: "MQTT-1.5.7-1", v: V5, packet: connect(V5, 2, props(propUser, "name", "\x00"), "id"), code: 0x81},
	"CONNECT with a will expiry twice":      {reason: "section 3.1.3.2.4", v: V5, packet: connect(V5, 6, props(), "id", props(propMessageExpiry, uint32(1), propMessageExpiry, uint32(2)), "t", "p"), code: 0x82},
	"CONNECT with a will alias":             {reason: "section 2.2.2.2", v: V5, packet: connect(V5, 6, props(), "id", props(propTopicAlias, uint16(1)), "t", "p"), code: 0x81},
	"CONNECT with will properties cut":      {reason: "they end", v: V5, packet: connect(V5, 6, props(), "id"), code: 0x81},

	"PUBLISH of QoS 3":                       {reason: "MQTT-3.3.1-4", v: V311, packet: packet(0x36, "t", id), code: 0x81},
	"PUBLISH of QoS 0 with DUP":              {reason: "MQTT-3.3.1-2", v: V311, packet: packet(0x38, "t"), code: 0x81},
	"PUBLISH with another packet behind":     {reason: "its length says where it ends", v: V311, packet: append(packet(0x30, "t"), 0xc0, 0), code: 0x81},
	"PUBLISH without topic":                  {reason: "MQTT-3.3.2-1", v: V311, packet: packet(0x30, 0), code: 0x81},
	"PUBLISH of 3.1.1 with an empty topic":   {reason: "MQTT-4.7.3-1", v: V311, packet: packet(0x30, ""), code: 0x82},
	"PUBLISH of 5 with an empty topic":       {reason: "section 3.3.2.1", v: V5, packet: packet(0x30, "", props()), code: 0x82},
	"PUBLISH with + in a short topic":        {reason: "MQTT-3.3.2-2", v: V311, packet: packet(0x30, "a/+"), code: 0x90},
	"PUBLISH with # in a short topic":        {reason: "MQTT-3.3.2-2", v: V311, packet: packet(0x30, "#"), code: 0x90},
	"PUBLISH with + in a long topic":         {reason: "MQTT-3.3.2-2", v: V311, packet: packet(0x30, "+"+long), code: 0x90},
	"PUBLISH with # at a long topic's end":   {reason: "MQTT-3.3.2-2", v: V311, packet: packet(0x30, long+"#"), code: 0x90},
	"PUBLISH with # behind other characters": {reason: "MQTT-3.3.2-2", v: V311, packet: packet(0x30, "grün/gelb/#"), code: 0x90},
	"PUBLISH with U+0000 in a short topic":   {reason: "MQTT-1.5.4-2", v: V311, packet: packet(0x30, "a\x00"), code: 0x81},
	"PUBLISH with U+0000 in a long topic":    {reason: "MQTT-1.5.4-2", v: V311, packet: packet(0x30, long+"\x00"), code: 0x81},
	"PUBLISH with a surrogate":               {reason: "MQTT-1.5.4-1", v: V311, packet: packet(0x30, long+surrogate), code: 0x81},
	"PUBLISH without packet identifier":      {reason: "it ends", v: V311, packet: packet(0x32, "t", 1), code: 0x81},
	"PUBLISH with packet identifier 0":       {reason: "MQTT-2.2.1-3", v: V311, packet: packet(0x32, "t", uint16(0)), code: 0x82},
	"PUBLISH of 5 without properties' size":  {reason: "MQTT-2.2.2-1", v: V5, packet: packet(0x30, "t"), code: 0x81},
	"PUBLISH whose properties' size is long": {reason: "MQTT-1.5.5-1", v: V5, packet: packet(0x30, "t", raw{0x80, 0}), code: 0x81},
	"PUBLISH with five bytes of size":        {reason: "MQTT-1.5.5-1", v: V5, packet: packet(0x30, "t", raw{0xff, 0xff, 0xff, 0xff, 1}), code: 0x81},
	"PUBLISH with payload format 2":          {reason: "section 3.3.2.3.2", v: V5, packet: packet(0x30, "t", props(propPayloadFormat, 2)), code: 0x82},
	"PUBLISH with payload format twice":      {reason: "section 3.3.2.3.2", v: V5, packet: packet(0x30, "t", props(propPayloadFormat, 1, propPayloadFormat, 1)), code: 0x82},
	"PUBLISH with half a payload format":     {reason: "it ends", v: V5, packet: packet(0x30, "t", props(propPayloadFormat)), code: 0x81},
	"PUBLISH with alias 0":                   {reason: "MQTT-3.3.2-8", v: V5, packet: packet(0x30, "t", props(propTopicAlias, uint16(0))), code: 0x94},
	"PUBLISH with alias twice":               {reason: "section 3.3.2.3.4", v: V5, packet: packet(0x30, "t", props(propTopicAlias, uint16(1), propTopicAlias, uint16(1))), code: 0x82},
	"PUBLISH with subscription identifier":   {reason: "MQTT-3.3.4-6", v: V5, packet: packet(0x30, "t", props(propSubscriptionIdentifier, 1)), code: 0x82},
	"PUBLISH with half an identifier":        {reason: "it ends", v: V5, packet: packet(0x30, "t", props(propSubscriptionIdentifier, 0x80)), code: 0x81},
	"PUBLISH with a wildcard to respond to":  {reason: "MQTT-3.3.2-14", v: V5, packet: packet(0x30, "t", props(propResponseTopic, "a/#")), code: 0x82},
	"PUBLISH with nothing to respond to":     {reason: "MQTT-4.7.3-1", v: V5, packet: packet(0x30, "t", props(propResponseTopic, "")), code: 0x82},
	"PUBLISH with a response not UTF-8":      {reason: "MQTT-3.3.2-13", v: V5, packet: packet(0x30, "t", props(propResponseTopic, overlong)), code: 0x81},
	"PUBLISH with a content type not UTF-8":  {reason: "MQTT-3.3.2-19", v: V5, packet: packet(0x30, "t", props(propContentType, surrogate)), code: 0x81},
	"PUBLISH with a property of CONNECT":     {reason: "section 2.2.2.2", v: V5, packet: packet(0x30, "t", props(propReceiveMaximum, uint16(1))), code: 0x81},
	"PUBLISH with a property of no kind":     {reason: "section 2.2.2.2", v: V5, packet: packet(0x30, "t", props(0xff)), code: 0x81},
	"PUBLISH with a user property not UTF-8": {reason: "MQTT-1.5.7-1", v: V5, packet: packet(0x30, "t", props(propUser, overlong, "v")), code: 0x81},

	"PUBACK without identifier":            {reason: "it ends", v: V311, packet: packet(0x40, 1), code: 0x81},
	"PUBACK with identifier 0":             {reason: "MQTT-2.2.1-3", v: V311, packet: packet(0x40, uint16(0)), code: 0x82},
	"PUBACK of 3.1.1 with a code":          {reason: "5 has codes", v: V311, packet: packet(0x40, id, 0), code: 0x81},
	"PUBACK with a flag":                   {reason: "MQTT-2.1.3-1", v: V311, packet: packet(0x42, id), code: 0x81},
	"PUBREL without flag":                  {reason: "MQTT-3.6.1-1", v: V311, packet: packet(0x60, id), code: 0x81},
	"PUBREL of 3.1.1 with DUP":             {reason: "MQTT-3.6.1-1", v: V311, packet: packet(0x6a, id), code: 0x81},
	"PUBACK with a code of PUBREL":         {reason: "MQTT-3.4.2-1", v: V5, packet: packet(0x40, id, 0x92), code: 0x82},
	"PUBREC with a code of DISCONNECT":     {reason: "MQTT-3.5.2-1", v: V5, packet: packet(0x50, id, 0x04), code: 0x82},
	"PUBREL with a code of PUBACK":         {reason: "MQTT-3.6.2-1", v: V5, packet: packet(0x62, id, 0x80), code: 0x82},
	"PUBCOMP with a code of PUBACK":        {reason: "MQTT-3.7.2-1", v: V5, packet: packet(0x70, id, 0x10), code: 0x82},
	"PUBACK with a reason twice":           {reason: "MQTT-3.4.2-2", v: V5, packet: packet(0x40, id, 0, props(propReason, "a", propReason, "b")), code: 0x82},
	"PUBACK with something behind":         {reason: "nothing follows", v: V5, packet: packet(0x40, id, 0, props(), 0), code: 0x81},
	"PUBACK whose properties end too late": {reason: "their length goes past the packet", v: V5, packet: packet(0x40, id, 0, 1), code: 0x81},

	"SUBSCRIBE without flag":                {reason: "MQTT-3.8.1-1", v: V311, packet: packet(0x80, id, "a", 0), code: 0x81},
	"SUBSCRIBE of 5 with DUP":               {reason: "MQTT-3.8.1-1", v: V5, packet: packet(0x8a, id, props(), "a", 0), code: 0x81},
	"SUBSCRIBE with identifier 0":           {reason: "MQTT-2.2.1-3", v: V311, packet: packet(0x82, uint16(0), "a", 0), code: 0x82},
	"SUBSCRIBE without filter":              {reason: "MQTT-3.8.3-2", v: V5, packet: packet(0x82, id, props()), code: 0x82},
	"SUBSCRIBE without options":             {reason: "this one packet ends other brokers", v: V5, packet: packet(0x82, id, props(), "a"), code: 0x81},
	"SUBSCRIBE with half a filter":          {reason: "it ends", v: V5, packet: packet(0x82, id, props(), "a", 0, 0), code: 0x81},
	"SUBSCRIBE with a filter not UTF-8":     {reason: "MQTT-3.8.3-1", v: V5, packet: packet(0x82, id, props(), surrogate, 0), code: 0x81},
	"SUBSCRIBE of 3.1.1 with QoS 3":         {reason: "MQTT-3-8.3-4 of 3.1.1", v: V311, packet: packet(0x82, id, "a", 3), code: 0x81},
	"SUBSCRIBE of 3.1 with QoS 3":           {reason: "there is none", v: V31, packet: packet(0x82, id, "a", 3), code: 0x81},
	"SUBSCRIBE of 5 with QoS 3":             {reason: "section 3.8.3.1", v: V5, packet: packet(0x82, id, props(), "a", 3), code: 0x82},
	"SUBSCRIBE of 3.1.1 with reserved bits": {reason: "MQTT-3-8.3-4 of 3.1.1", v: V311, packet: packet(0x82, id, "a", 4), code: 0x81},
	"SUBSCRIBE of 5 with reserved bits":     {reason: "MQTT-3.8.3-5", v: V5, packet: packet(0x82, id, props(), "a", 0x40), code: 0x81},
	"SUBSCRIBE with retain handling 3":      {reason: "section 3.8.3.1", v: V5, packet: packet(0x82, id, props(), "a", 0x30), code: 0x82},
	"SUBSCRIBE to a share with no local":    {reason: "MQTT-3.8.3-4", v: V5, packet: packet(0x82, id, props(), "$share/g/a", 4), code: 0x82},
	"SUBSCRIBE with identifier property 0":  {reason: "section 3.8.2.1.2", v: V5, packet: packet(0x82, id, props(propSubscriptionIdentifier, 0), "a", 0), code: 0x82},
	"SUBSCRIBE with two identifiers":        {reason: "section 3.8.2.1.2", v: V5, packet: packet(0x82, id, props(propSubscriptionIdentifier, 1, propSubscriptionIdentifier, 1), "a", 0), code: 0x82},
	"SUBSCRIBE with an overlong identifier": {reason: "MQTT-1.5.5-1", v: V5, packet: packet(0x82, id, props(propSubscriptionIdentifier, raw{0x81, 0}), "a", 0), code: 0x81},
	"SUBSCRIBE with a reason":               {reason: "section 2.2.2.2", v: V5, packet: packet(0x82, id, props(propReason, "x"), "a", 0), code: 0x81},
	"SUBSCRIBE cut before its properties":   {reason: "it ends", v: V5, packet: packet(0x82, id), code: 0x81},

	"UNSUBSCRIBE without flag":              {reason: "MQTT-3.10.1-1", v: V311, packet: packet(0xa0, id, "a"), code: 0x81},
	"UNSUBSCRIBE of 3.1.1 with DUP":         {reason: "MQTT-3.10.1-1", v: V311, packet: packet(0xaa, id, "a"), code: 0x81},
	"UNSUBSCRIBE with identifier 0":         {reason: "MQTT-2.2.1-3", v: V311, packet: packet(0xa2, uint16(0), "a"), code: 0x82},
	"UNSUBSCRIBE without filter":            {reason: "MQTT-3.10.3-2", v: V311, packet: packet(0xa2, id), code: 0x82},
	"UNSUBSCRIBE with half a filter":        {reason: "it ends", v: V311, packet: packet(0xa2, id, "a", 1), code: 0x81},
	"UNSUBSCRIBE with a filter of NUL":      {reason: "MQTT-3.10.3-1", v: V311, packet: packet(0xa2, id, "\x00"), code: 0x81},
	"UNSUBSCRIBE with an identifier":        {reason: "section 2.2.2.2", v: V5, packet: packet(0xa2, id, props(propSubscriptionIdentifier, 1), "a"), code: 0x81},
	"UNSUBSCRIBE cut before its properties": {reason: "it ends", v: V5, packet: packet(0xa2, id), code: 0x81},

	"DISCONNECT with a flag":              {reason: "MQTT-3.14.1-1", v: V5, packet: packet(0xe2), code: 0x81},
	"DISCONNECT of 3.1.1 with a code":     {reason: "5 has codes", v: V311, packet: packet(0xe0, 0), code: 0x81},
	"DISCONNECT with a code of a server":  {reason: "MQTT-3.14.2-1", v: V5, packet: packet(0xe0, 0x8e), code: 0x82},
	"DISCONNECT with a server reference":  {reason: "section 3.14.2.2.5", v: V5, packet: packet(0xe0, 0, props(propServerReference, "x")), code: 0x82},
	"DISCONNECT with an expiry twice":     {reason: "section 3.14.2.2.2", v: V5, packet: packet(0xe0, 0, props(propSessionExpiry, uint32(1), propSessionExpiry, uint32(1))), code: 0x82},
	"DISCONNECT with something behind":    {reason: "nothing follows", v: V5, packet: packet(0xe0, 0, props(), 0), code: 0x81},
	"DISCONNECT whose properties are cut": {reason: "they end", v: V5, packet: packet(0xe0, 0, 9), code: 0x81},
	"AUTH with a flag":                    {reason: "MQTT-3.15.1-1", v: V5, packet: packet(0xf1), code: 0x81},
	"AUTH with a code of another packet":  {reason: "MQTT-3.15.2-1", v: V5, packet: packet(0xf0, 0x80, props(propAuthMethod, "m")), code: 0x82},
	"AUTH without properties' size":       {reason: "MQTT-2.2.2-1", v: V5, packet: packet(0xf0, 0x18), code: 0x81},
	"AUTH without method":                 {reason: "section 3.15.2.2.2", v: V5, packet: packet(0xf0, 0x18, props(propAuthData, "d")), code: 0x82},
	"AUTH with a method twice":            {reason: "section 3.15.2.2.2", v: V5, packet: packet(0xf0, 0x18, props(propAuthMethod, "m", propAuthMethod, "m")), code: 0x82},
	"AUTH with something behind":          {reason: "nothing follows", v: V5, packet: packet(0xf0, 0x18, props(propAuthMethod, "m"), 0), code: 0x81},
}
