// SPDX-License-Identifier: Apache-2.0

package conformance

import "strings"

// mistake is something that no client may send. After each of them the connection must end.
type mistake struct {
	five, three string
	old         bool // 3.1 too
	bytes       func(s *scene) []byte
	codes       []byte // those that MQTT 5 has for it
}

func (m mistake) also() []byte {
	if m.old {
		return []byte{v31}
	}

	return nil
}

// Codes of MQTT 5 for what is wrong.
const (
	malformed     byte = 0x81
	protocolError byte = 0x82
	topicInvalid  byte = 0x90
	aliasInvalid  byte = 0x94
)

func raw(b ...byte) func(*scene) []byte { return func(*scene) []byte { return b } }

// publishing makes a PUBLISH of QoS 0 to a good topic with these properties.
func publishing(p ...prop) func(*scene) []byte {
	return func(s *scene) []byte {
		m := message{topic: s.topic("x"), payload: "1", props: p}

		return m.bytes(s.v)
	}
}

// to makes a PUBLISH to a topic.
func to(topic string) func(*scene) []byte {
	return func(s *scene) []byte {
		m := message{topic: topic, payload: "1"}

		return m.bytes(s.v)
	}
}

// typed makes a packet whose head after the identifier has an empty set of properties where the version has properties.
func typed(typ, flags byte, id int, rest ...byte) func(*scene) []byte {
	return func(s *scene) []byte {
		body := u16(id)
		if s.v == v5 {
			body = append(body, 0)
		}

		return frame(typ, flags, body, rest)
	}
}

// Strings that are none.
const (
	surrogate = "\xED\xA0\x80"
	overlong  = "\xC0\xAF"
	cutOff    = "a\xE2\x82"
)

var connected = map[string]mistake{
	// The frame.
	"a length of five bytes":                {five: "2.1.3-1 4.13.1-1", three: "4.8.0-1", old: true, bytes: raw(0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01), codes: []byte{malformed, 0x95}},
	"a length that is longer than it must":  {five: "1.5.5-1", bytes: raw(0xC0, 0x80, 0x00), codes: []byte{malformed}},
	"a packet of type 0":                    {five: "2.1.3-1", three: "4.8.0-1", old: true, bytes: raw(0x00, 0x00), codes: []byte{malformed, protocolError}},
	"AUTH in a version that has none":       {three: "2.2.2-2 4.8.0-1", old: true, bytes: raw(0xF0, 0x00)},
	"CONNACK from a client":                 {five: "4.13.1-1", three: "4.8.0-1", old: true, bytes: raw(0x20, 2, 0, 0), codes: []byte{protocolError, malformed}},
	"SUBACK from a client":                  {five: "4.13.1-1", three: "4.8.0-1", old: true, bytes: typed(typeSuback, 0, 1, 0), codes: []byte{protocolError, malformed}},
	"UNSUBACK from a client":                {five: "4.13.1-1", three: "4.8.0-1", old: true, bytes: typed(typeUnsuback, 0, 1), codes: []byte{protocolError, malformed}},
	"PINGRESP from a client":                {five: "4.13.1-1", three: "4.8.0-1", bytes: raw(0xD0, 0), codes: []byte{protocolError, malformed}},
	"PINGREQ with flags":                    {five: "2.1.3-1", three: "2.2.2-1 2.2.2-2", bytes: raw(0xC1, 0), codes: []byte{malformed}},
	"PINGREQ with a body":                   {five: "4.13.1-1", three: "4.8.0-1", bytes: raw(0xC0, 1, 0), codes: []byte{malformed, protocolError}},
	"PUBACK with flags":                     {five: "2.1.3-1", three: "2.2.2-1 2.2.2-2", bytes: raw(0x41, 2, 0, 1), codes: []byte{malformed}},
	"PUBREC with flags":                     {five: "2.1.3-1", three: "2.2.2-1 2.2.2-2", bytes: raw(0x52, 2, 0, 1), codes: []byte{malformed}},
	"PUBREL without its flag":               {five: "3.6.1-1 2.1.3-1", three: "3.6.1-1 2.2.2-2", bytes: raw(0x60, 2, 0, 1), codes: []byte{malformed}},
	"PUBCOMP with flags":                    {five: "2.1.3-1", three: "2.2.2-1 2.2.2-2", bytes: raw(0x72, 2, 0, 1), codes: []byte{malformed}},
	"SUBSCRIBE without its flag":            {five: "3.8.1-1 2.1.3-1", three: "3.8.1-1 2.2.2-2", bytes: typed(typeSubscribe, 0, 1, 0, 1, 'x', 0), codes: []byte{malformed}},
	"UNSUBSCRIBE without its flag":          {five: "3.10.1-1 2.1.3-1", three: "3.10.1-1 2.2.2-2", bytes: typed(typeUnsubscribe, 0, 1, 0, 1, 'x'), codes: []byte{malformed}},
	"DISCONNECT with flags":                 {five: "3.14.1-1 2.1.3-1", three: "3.14.1-1 2.2.2-2", bytes: raw(0xE1, 0), codes: []byte{malformed}},
	"DISCONNECT with a body in MQTT 3":      {three: "4.8.0-1", bytes: raw(0xE0, 1, 0)},
	"an acknowledgement without identifier": {five: "4.13.1-1", three: "4.8.0-1", old: true, bytes: raw(0x40, 0), codes: []byte{malformed}},
	"an acknowledgement of one byte":        {five: "4.13.1-1", three: "4.8.0-1", bytes: raw(0x40, 1, 0), codes: []byte{malformed}},
	"an acknowledgement of identifier 0":    {five: "2.2.1-5", three: "2.3.1-6", bytes: raw(0x40, 2, 0, 0), codes: []byte{malformed, protocolError}},

	// PUBLISH.
	"PUBLISH of QoS 3":                          {five: "3.3.1-4", three: "3.3.1-4", old: true, bytes: func(s *scene) []byte { return (&message{topic: s.topic("x"), qos: 3, id: 1}).bytes(s.v) }, codes: []byte{malformed}},
	"PUBLISH of QoS 0 with DUP":                 {five: "3.3.1-2", three: "3.3.1-2", bytes: func(s *scene) []byte { return (&message{topic: s.topic("x"), dup: true}).bytes(s.v) }, codes: []byte{malformed, protocolError}},
	"PUBLISH with identifier 0":                 {five: "2.2.1-3", three: "2.3.1-1", bytes: func(s *scene) []byte { return (&message{topic: s.topic("x"), qos: 1}).bytes(s.v) }, codes: []byte{malformed, protocolError}},
	"PUBLISH of QoS 2 with identifier 0":        {five: "2.2.1-3", three: "2.3.1-1", bytes: func(s *scene) []byte { return (&message{topic: s.topic("x"), qos: 2}).bytes(s.v) }, codes: []byte{malformed, protocolError}},
	"PUBLISH to a topic with +":                 {five: "3.3.2-2 4.7.0-1", three: "3.3.2-2 4.7.1-1", old: true, bytes: to("a/+/b"), codes: []byte{topicInvalid, malformed, protocolError}},
	"PUBLISH to a topic with #":                 {five: "3.3.2-2 4.7.0-1", three: "3.3.2-2 4.7.1-1", old: true, bytes: to("a/#"), codes: []byte{topicInvalid, malformed, protocolError}},
	"PUBLISH to no topic":                       {five: "4.7.3-1 3.3.2-1", three: "4.7.3-1 3.3.2-1", old: true, bytes: to(""), codes: []byte{protocolError, topicInvalid, malformed}},
	"PUBLISH to a topic with a surrogate":       {five: "1.5.4-1 3.3.2-1", three: "1.5.3-1 3.3.2-1", bytes: to("a" + surrogate), codes: []byte{malformed, topicInvalid}},
	"PUBLISH to a topic in overlong UTF-8":      {five: "1.5.4-1 3.3.2-1", three: "1.5.3-1 3.3.2-1", bytes: to("a" + overlong), codes: []byte{malformed, topicInvalid}},
	"PUBLISH to a topic that is cut off":        {five: "1.5.4-1 3.3.2-1", three: "1.5.3-1 3.3.2-1", bytes: to(cutOff), codes: []byte{malformed, topicInvalid}},
	"PUBLISH to a topic with U+0000":            {five: "1.5.4-2 4.7.3-2", three: "1.5.3-2 4.7.3-2", bytes: to("a\x00b"), codes: []byte{malformed, topicInvalid}},
	"PUBLISH with a topic that ends too late":   {five: "3.3.2-1", three: "3.3.2-1", old: true, bytes: raw(0x30, 3, 0, 9, 'x'), codes: []byte{malformed}},
	"PUBLISH of nothing":                        {five: "3.3.2-1", three: "3.3.2-1", old: true, bytes: raw(0x30, 0), codes: []byte{malformed}},
	"PUBLISH of QoS 1 without identifier":       {five: "2.2.1-3", three: "2.3.1-1", bytes: raw(0x32, 3, 0, 1, 'x'), codes: []byte{malformed}},
	"PUBLISH whose properties end too late":     {five: "2.2.2-1", bytes: raw(0x30, 4, 0, 1, 'x', 9), codes: []byte{malformed}},
	"PUBLISH without a length of properties":    {five: "2.2.2-1", bytes: raw(0x30, 3, 0, 1, 'x'), codes: []byte{malformed}},
	"properties whose length is too long":       {five: "1.5.5-1 2.2.2-1", bytes: raw(0x30, 5, 0, 1, 'x', 0x80, 0x00), codes: []byte{malformed}},
	"a property that does not exist":            {five: "2.2.2-1", bytes: publishing(prop{0x7E, octets{0}}), codes: []byte{malformed, protocolError}},
	"a property of another packet":              {five: "2.2.2-1", bytes: publishing(prop{sessionExpiry, uint32(5)}), codes: []byte{malformed, protocolError}},
	"a property that is cut off":                {five: "2.2.2-1", bytes: publishing(prop{messageExpiry, octets{0, 0}}), codes: []byte{malformed}},
	"a property that comes twice":               {five: "4.13.1-1", bytes: publishing(prop{messageExpiry, uint32(5)}, prop{messageExpiry, uint32(5)}), codes: []byte{protocolError}},
	"a payload format of 2":                     {five: "4.13.1-1", bytes: publishing(prop{payloadFormat, byte(2)}), codes: []byte{protocolError, malformed, 0x99}},
	"a subscription identifier from a client":   {five: "3.3.4-6", bytes: publishing(prop{subscriptionID, number(1)}), codes: []byte{protocolError, malformed}},
	"an alias of 0":                             {five: "3.3.2-8 3.3.2-7", bytes: publishing(prop{topicAlias, uint16(0)}), codes: []byte{aliasInvalid}},
	"an alias above what CONNACK allows":        {five: "3.3.2-9 3.2.2-17", bytes: publishing(prop{topicAlias, uint16(65535)}), codes: []byte{aliasInvalid}},
	"an alias that was never set":               {five: "3.3.2-10 3.3.2-7", bytes: func(s *scene) []byte { return (&message{props: props{{topicAlias, uint16(1)}}}).bytes(s.v) }, codes: []byte{protocolError}},
	"a response topic with a wildcard":          {five: "3.3.2-14", bytes: publishing(prop{responseTopic, "a/+"}), codes: []byte{protocolError, topicInvalid, malformed}},
	"a response topic that is no UTF-8":         {five: "3.3.2-13 1.5.4-1", bytes: publishing(prop{responseTopic, surrogate}), codes: []byte{malformed, topicInvalid}},
	"a content type that is no UTF-8":           {five: "3.3.2-19 1.5.4-1", bytes: publishing(prop{contentType, overlong}), codes: []byte{malformed}},
	"a user property whose name is no UTF-8":    {five: "1.5.7-1", bytes: publishing(prop{userProperty, pair{surrogate, "v"}}), codes: []byte{malformed}},
	"a user property whose value is no UTF-8":   {five: "1.5.7-1", bytes: publishing(prop{userProperty, pair{"n", "\x00"}}), codes: []byte{malformed}},
	"a user property without a value":           {five: "1.5.7-1", bytes: publishing(prop{userProperty, octets{0, 1, 'n'}}), codes: []byte{malformed}},
	"PUBREL with a code that does not exist":    {five: "3.6.2-1", bytes: raw(0x62, 3, 0, 1, 0x10), codes: []byte{malformed, protocolError}},
	"PUBACK with a code that does not exist":    {five: "3.4.2-1", bytes: raw(0x40, 3, 0, 1, 0x7F), codes: []byte{malformed, protocolError}},
	"PUBREC with a code that does not exist":    {five: "3.5.2-1", bytes: raw(0x50, 3, 0, 1, 0x7F), codes: []byte{malformed, protocolError}},
	"PUBCOMP with a code that does not exist":   {five: "3.7.2-1", bytes: raw(0x70, 3, 0, 1, 0x7F), codes: []byte{malformed, protocolError}},
	"PUBACK with two explanations":              {five: "3.4.2-2", bytes: func(*scene) []byte { return acking(typePuback, prop{reasonString, "a"}, prop{reasonString, "b"}) }, codes: []byte{protocolError}},
	"PUBREC with two explanations":              {five: "3.5.2-2", bytes: func(*scene) []byte { return acking(typePubrec, prop{reasonString, "a"}, prop{reasonString, "b"}) }, codes: []byte{protocolError}},
	"PUBREL with two explanations":              {five: "3.6.2-2", bytes: func(*scene) []byte { return acking(typePubrel, prop{reasonString, "a"}, prop{reasonString, "b"}) }, codes: []byte{protocolError}},
	"PUBCOMP with two explanations":             {five: "3.7.2-2", bytes: func(*scene) []byte { return acking(typePubcomp, prop{reasonString, "a"}, prop{reasonString, "b"}) }, codes: []byte{protocolError}},
	"an acknowledgement with a wrong property":  {five: "2.2.2-1", bytes: func(*scene) []byte { return acking(typePuback, prop{topicAlias, uint16(1)}) }, codes: []byte{malformed, protocolError}},
	"an acknowledgement with something behind":  {five: "4.13.1-1", bytes: raw(0x40, 5, 0, 1, 0, 0, 0), codes: []byte{malformed}},
	"an acknowledgement with a body in MQTT 3":  {three: "4.8.0-1", bytes: raw(0x40, 3, 0, 1, 0)},
	"PUBREL of MQTT 3 with something behind it": {three: "4.8.0-1", bytes: raw(0x62, 4, 0, 1, 0, 0)},

	// SUBSCRIBE and UNSUBSCRIBE.
	"SUBSCRIBE to nothing":                    {five: "3.8.3-2 3.8.3-3", three: "3.8.3-3", bytes: typed(typeSubscribe, 2, 1), codes: []byte{protocolError, malformed}},
	"SUBSCRIBE with identifier 0":             {five: "2.2.1-3", three: "2.3.1-1", bytes: typed(typeSubscribe, 2, 0, 0, 1, 'x', 0), codes: []byte{protocolError, malformed}},
	"SUBSCRIBE without options":               {five: "3.8.3-3", three: "3.8.3-3", old: true, bytes: typed(typeSubscribe, 2, 1, 0, 1, 'x'), codes: []byte{malformed, protocolError}},
	"SUBSCRIBE of QoS 3":                      {five: "3.8.3-5", three: "3.8.3-4", old: true, bytes: typed(typeSubscribe, 2, 1, 0, 1, 'x', 3), codes: []byte{protocolError, malformed}},
	"SUBSCRIBE with the highest reserved bit": {five: "3.8.3-5", three: "3.8.3-4", bytes: typed(typeSubscribe, 2, 1, 0, 1, 'x', 0x80), codes: []byte{malformed}},
	"SUBSCRIBE with the other reserved bit":   {five: "3.8.3-5", three: "3.8.3-4", bytes: typed(typeSubscribe, 2, 1, 0, 1, 'x', 0x40), codes: []byte{malformed}},
	"SUBSCRIBE of MQTT 3 with options of 5":   {three: "3.8.3-4", bytes: typed(typeSubscribe, 2, 1, 0, 1, 'x', 0x04)},
	"retain handling 3":                       {five: "3.8.3-5", bytes: typed(typeSubscribe, 2, 1, 0, 1, 'x', 0x30), codes: []byte{protocolError, malformed}},
	"no local on a share":                     {five: "3.8.3-4", bytes: func(*scene) []byte { return subscribe(v5, 1, nil, filter{"$share/g/x", noLocal}) }, codes: []byte{protocolError}},
	"a subscription identifier of 0":          {five: "4.13.1-1", bytes: func(*scene) []byte { return subscribe(v5, 1, props{{subscriptionID, number(0)}}, filter{"x", 0}) }, codes: []byte{protocolError}},
	"two subscription identifiers": {five: "4.13.1-1", bytes: func(*scene) []byte {
		return subscribe(v5, 1, props{{subscriptionID, number(1)}, {subscriptionID, number(2)}}, filter{"x", 0})
	}, codes: []byte{protocolError}},
	"a subscription identifier that is overlong": {five: "1.5.5-1", bytes: func(*scene) []byte {
		return subscribe(v5, 1, props{{subscriptionID, octets{0x81, 0x80, 0x00}}}, filter{"x", 0})
	}, codes: []byte{malformed, protocolError}},
	"a filter with a surrogate":                    {five: "3.8.3-1 1.5.4-1", three: "3.8.3-1 1.5.3-1", bytes: func(s *scene) []byte { return subscribe(s.v, 1, nil, filter{surrogate, 0}) }, codes: []byte{malformed, 0x8F}},
	"a filter with U+0000":                         {five: "4.7.3-2 1.5.4-2", three: "4.7.3-2 1.5.3-2", bytes: func(s *scene) []byte { return subscribe(s.v, 1, nil, filter{"a\x00", 0}) }, codes: []byte{malformed, 0x8F}},
	"a filter that ends too late":                  {five: "3.8.3-1", three: "3.8.3-1", old: true, bytes: typed(typeSubscribe, 2, 1, 0, 9, 'x', 0), codes: []byte{malformed}},
	"UNSUBSCRIBE from nothing":                     {five: "3.10.3-2", three: "3.10.3-2", bytes: typed(typeUnsubscribe, 2, 1), codes: []byte{protocolError, malformed}},
	"UNSUBSCRIBE with identifier 0":                {five: "2.2.1-3", three: "2.3.1-1", bytes: typed(typeUnsubscribe, 2, 0, 0, 1, 'x'), codes: []byte{protocolError, malformed}},
	"UNSUBSCRIBE from a filter with a surrogate":   {five: "3.10.3-1", three: "3.10.3-1", bytes: func(s *scene) []byte { return unsubscribe(s.v, 1, nil, surrogate) }, codes: []byte{malformed, 0x8F}},
	"UNSUBSCRIBE from a filter that ends too late": {five: "3.10.3-1", three: "3.10.3-1", old: true, bytes: typed(typeUnsubscribe, 2, 1, 0, 9, 'x'), codes: []byte{malformed}},

	// DISCONNECT and AUTH.
	"DISCONNECT with a code that does not exist": {five: "3.14.2-1", bytes: raw(0xE0, 1, 0x7F), codes: []byte{malformed, protocolError}},
	"DISCONNECT with a code of servers":          {five: "3.14.2-1", bytes: raw(0xE0, 1, 0x8E), codes: []byte{malformed, protocolError}},
	"DISCONNECT with two explanations":           {five: "3.14.2-3", bytes: func(*scene) []byte { return disconnect(v5, 0, props{{reasonString, "a"}, {reasonString, "b"}}) }, codes: []byte{protocolError}},
	"AUTH from a client that named no method":    {five: "4.12.0-6 4.12.0-7", bytes: func(*scene) []byte { return auth(0x18, nil) }, codes: []byte{protocolError, malformed, 0x8C}},
	"authentication again without a first one":   {five: "4.12.1-2 4.12.1-1", bytes: func(*scene) []byte { return auth(0x19, props{{authMethod, "x"}}) }, codes: []byte{protocolError, malformed, 0x8C}},
	"AUTH with flags":                            {five: "3.15.1-1", bytes: raw(0xF1, 0), codes: []byte{malformed}},
	"AUTH with two explanations": {five: "3.15.2-2", bytes: func(*scene) []byte {
		return auth(0x18, props{{authMethod, "x"}, {reasonString, "a"}, {reasonString, "b"}})
	}, codes: []byte{protocolError, malformed}},
	"AUTH with a code that does not exist": {five: "3.15.2-1", bytes: func(*scene) []byte { return auth(0x01, props{{authMethod, "x"}}) }, codes: []byte{malformed, protocolError}},
}

func acking(typ byte, p ...prop) []byte {
	flags := byte(0)
	if typ == typePubrel {
		flags = 2
	}

	return frame(typ, flags, u16(1), []byte{0}, props(p).bytes())
}

// connecting makes a CONNECT that the change spoils.
func connecting(change func(k *connect)) func(*scene) []byte {
	return func(s *scene) []byte {
		k := connect{version: s.v, id: s.id("a"), clean: true}
		change(&k)

		return k.bytes()
	}
}

func flags(set, unset byte) func(*connect) {
	return func(k *connect) { k.tune = func(is byte) byte { return is&^unset | set } }
}

func saying(p ...prop) func(*connect) { return func(k *connect) { k.props = p } }

func behind(b ...byte) func(*connect) {
	return func(k *connect) { k.payload = func(payload []byte) []byte { return append(payload, b...) } }
}

func bequest(w will) func(*connect) { return func(k *connect) { k.will = &w } }

func user(name, password string) func(*connect) {
	return func(k *connect) { k.username, k.password = &name, &password }
}

// Where nobody can tell which version is meant, there is no code.
var greeting = map[string]mistake{
	"CONNECT with flags in its header":            {five: "3.1.2-12 3.1.4-1 2.1.3-1", three: "2.2.2-1 2.2.2-2 3.1.4-1", bytes: func(s *scene) []byte { b := connecting(saying())(s); b[0] |= 1; return b }},
	"CONNECT with its reserved flag":              {five: "3.1.2-3 3.1.4-1", three: "3.2.2-6 3.1.2-3 3.1.4-1", bytes: connecting(flags(1, 0)), codes: []byte{malformed}},
	"CONNECT of nothing":                          {five: "3.1.4-1", three: "3.1.4-1", old: true, bytes: raw(0x10, 0)},
	"CONNECT that is cut off":                     {five: "3.1.4-1", three: "3.1.4-1 3.1.3-3", old: true, bytes: func(s *scene) []byte { return frame(typeConnect, 0, connecting(saying())(s)[2:12]) }, codes: []byte{malformed}},
	"CONNECT with a name that ends too late":      {five: "3.1.4-1", three: "3.1.4-1", old: true, bytes: raw(0x10, 6, 0, 200, 'M', 'Q', 'T', 'T')},
	"an identifier that is no UTF-8":              {five: "1.5.4-1 3.1.4-1", three: "3.1.3-4 1.5.3-1", bytes: connecting(func(k *connect) { k.id = surrogate }), codes: []byte{malformed, 0x85}},
	"an identifier with U+0000":                   {five: "1.5.4-2", three: "3.1.3-4 1.5.3-2", bytes: connecting(func(k *connect) { k.id = "a\x00" }), codes: []byte{malformed, 0x85}},
	"something behind a CONNECT":                  {five: "3.1.2-16 3.1.2-18 3.1.4-1", three: "3.2.2-6 3.1.2-18 3.1.2-20 3.1.2-11 3.1.4-1", bytes: connecting(behind(0, 1, 'u')), codes: []byte{malformed}},
	"no user name where one is announced":         {five: "3.1.2-17 3.1.3-1", three: "3.1.2-19 3.1.3-1", bytes: connecting(flags(0x80, 0)), codes: []byte{malformed}},
	"no password where one is announced":          {five: "3.1.2-19 3.1.3-1", three: "3.1.2-21 3.1.3-1", bytes: connecting(func(k *connect) { user("u", "p")(k); k.password = nil; flags(0x40, 0)(k) }), codes: []byte{malformed}},
	"a user name where none is announced":         {five: "3.1.2-16", three: "3.1.2-18", bytes: connecting(func(k *connect) { user("u", "p")(k); k.password = nil; flags(0, 0x80)(k) }), codes: []byte{malformed}},
	"a password where none is announced":          {five: "3.1.2-18", three: "3.1.2-20", bytes: connecting(func(k *connect) { user("u", "p")(k); flags(0, 0x40)(k) }), codes: []byte{malformed}},
	"a password without a user name in MQTT 3":    {three: "3.1.2-22", bytes: connecting(func(k *connect) { user("u", "p")(k); k.username = nil })},
	"a user name that is no UTF-8":                {five: "3.1.3-12", three: "3.1.3-11", bytes: connecting(user(surrogate, "p")), codes: []byte{malformed, 0x86}},
	"no will where one is announced":              {five: "3.1.2-6 3.1.2-9 3.1.3-1", three: "3.1.2-9 3.1.3-1", bytes: connecting(flags(0x04, 0)), codes: []byte{malformed}},
	"a will where none is announced":              {five: "3.1.4-1 3.1.2-6", three: "3.1.2-11", bytes: connecting(func(k *connect) { bequest(will{topic: "w"})(k); flags(0, 0x04)(k) }), codes: []byte{malformed}},
	"a will QoS without a will":                   {five: "3.1.2-7", three: "3.1.2-13 3.1.2-11", bytes: connecting(flags(0x08, 0)), codes: []byte{malformed, protocolError}},
	"a retained will without a will":              {five: "3.1.2-8 3.1.2-13", three: "3.1.2-15 3.1.2-11", bytes: connecting(flags(0x20, 0)), codes: []byte{malformed, protocolError}},
	"a will QoS of 3":                             {five: "3.1.4-1", three: "3.1.2-14", old: true, bytes: connecting(func(k *connect) { bequest(will{topic: "w"})(k); flags(0x18, 0)(k) }), codes: []byte{malformed}},
	"a will topic that is no UTF-8":               {five: "3.1.3-11", three: "3.1.3-10", bytes: connecting(bequest(will{topic: surrogate})), codes: []byte{malformed, topicInvalid}},
	"a will topic with a wildcard":                {five: "3.3.2-2 4.7.0-1", three: "4.7.1-1 3.3.2-2", bytes: connecting(bequest(will{topic: "a/#"})), codes: []byte{topicInvalid, malformed, protocolError}},
	"a will to no topic":                          {five: "4.7.3-1", three: "4.7.3-1", bytes: connecting(bequest(will{})), codes: []byte{topicInvalid, malformed, protocolError}},
	"a will property of another packet":           {five: "3.1.4-1", bytes: connecting(bequest(will{topic: "w", props: props{{topicAlias, uint16(1)}}})), codes: []byte{malformed, protocolError}},
	"a will delay that comes twice":               {five: "3.1.4-1", bytes: connecting(bequest(will{topic: "w", props: props{{willDelay, uint32(1)}, {willDelay, uint32(1)}}})), codes: []byte{protocolError}},
	"a user property of a will that is no UTF-8":  {five: "1.5.7-1", bytes: connecting(bequest(will{topic: "w", props: props{{userProperty, pair{"a", overlong}}}})), codes: []byte{malformed}},
	"a receive maximum of 0":                      {five: "3.1.4-1", bytes: connecting(saying(prop{receiveMaximum, uint16(0)})), codes: []byte{protocolError}},
	"a maximum packet size of 0":                  {five: "3.1.4-1", bytes: connecting(saying(prop{maximumPacket, uint32(0)})), codes: []byte{protocolError}},
	"a wish for response information of 2":        {five: "3.1.4-1", bytes: connecting(saying(prop{requestResponse, byte(2)})), codes: []byte{protocolError, malformed}},
	"a wish for explanations of 2":                {five: "3.1.4-1", bytes: connecting(saying(prop{problemInfo, byte(2)})), codes: []byte{protocolError, malformed}},
	"a session expiry that comes twice":           {five: "3.1.4-1", bytes: connecting(saying(prop{sessionExpiry, uint32(1)}, prop{sessionExpiry, uint32(1)})), codes: []byte{protocolError}},
	"a user property of CONNECT that is no UTF-8": {five: "1.5.7-1 3.1.4-1", bytes: connecting(saying(prop{userProperty, pair{surrogate, ""}})), codes: []byte{malformed}},
	"a property of CONNECT that does not exist":   {five: "3.1.4-1", bytes: connecting(saying(prop{0x7E, octets{0}})), codes: []byte{malformed, protocolError}},
	"a property of PUBLISH in CONNECT":            {five: "3.1.4-1", bytes: connecting(saying(prop{topicAlias, uint16(1)})), codes: []byte{malformed, protocolError}},
	"data without a method in CONNECT":            {five: "3.1.4-1", bytes: connecting(saying(prop{authData, []byte{1}})), codes: []byte{protocolError}},
}

// errorCases makes a case of each mistake.
func errorCases() map[string]scenario {
	out := map[string]scenario{}

	for name, m := range connected {
		out["refused: "+name] = scenario{five: m.five, three: m.three, also: m.also(), run: func(s *scene) {
			other := s.join("other")
			c := s.join("a")
			c.send(m.bytes(s))
			c.closes(m.codes...)
			other.ping() // nobody else is harmed
		}}
	}

	for name, m := range greeting {
		out["refused: "+name] = scenario{five: m.five, three: m.three, also: m.also(), run: func(s *scene) {
			c := s.dial("open")
			c.send(m.bytes(s))
			c.refuses(-1, m.codes...)
		}}
	}

	return out
}

var authCases = map[string]scenario{
	"a method that the broker does not know is refused": {
		five: "4.12.0-1 4.12.0-4",
		run: func(s *scene) {
			c := s.dial("open")
			c.announce(connect{id: s.id("a"), clean: true, props: props{{authMethod, "no such method"}, {authData, []byte("x")}}})
			c.refuses(0, 0x8C, 0x87)
		},
	},
	"no method comes in CONNACK for a client that named none": {
		five: "4.12.0-6",
		run: func(s *scene) {
			c := s.dial("open")
			if p := c.connect(connect{id: s.id("a"), clean: true}); p.props.get(authMethod) != nil || p.props.get(authData) != nil {
				c.failf("the broker sent %v", p)
			}

			c.quiet()
		},
	},
	"the longest strings are taken": {
		five: "1.5.4-1", three: "1.5.3-1",
		run: func(s *scene) {
			c := s.join("a", leaving(will{topic: s.topic(strings.Repeat("w", 60000)), payload: strings.Repeat("p", 65535)}))
			c.bye()
		},
	},
}
