// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"fmt"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

// Format names the layout of a bundle. A broker refuses a bundle of a format that it does not know.
const Format = "mqtt-operator.io/broker-config/v1"

// Ports of the broker's own, which no listener may take.
const (
	// AdminPort serves the admin endpoint (mutual TLS).
	AdminPort = 9443
	// HealthPort serves /livez and /readyz (plain HTTP, no secret).
	HealthPort = 9440
	// FirstReservedPort and LastReservedPort bound the range kept for the broker.
	FirstReservedPort = 9440
	LastReservedPort  = 9449
)

// Paths inside the broker's container.
const (
	ConfigDir   = "/etc/mqtt-broker/config"
	AdminTLSDir = "/etc/mqtt-broker/admin"
	DataDir     = "/var/lib/mqtt-broker"
	LivePath    = "/livez"
	ReadyPath   = "/readyz"
)

// Config is the whole configuration of one broker.
type Config struct {
	Broker
	Pairs map[string]KeyPair
	Users []User
}

// Broker is the content of broker.json.
type Broker struct {
	// Format must be [Format].
	Format string `json:"format"`
	// Name says whose configuration this is, for people who read it: namespace/name.
	Name string `json:"name"`
	// Revision orders configurations; at least 1. A broker never goes back to a smaller one.
	Revision int64 `json:"revision"`
	// Parts names every other file of the bundle with its digest.
	Parts map[string]string `json:"parts"`
	// Listeners are the doors for clients; names and addresses are unique.
	Listeners []Listener `json:"listeners"`
	Limits    Limits     `json:"limits"`
	Logging   Logging    `json:"logging"`
}

// Protocol is what a listener speaks.
type Protocol string

// Protocols of this format.
const (
	TCP Protocol = "tcp"
	TLS Protocol = "tls"
)

// Listener is one door for clients.
type Listener struct {
	// Name is a DNS label of at most 15 characters.
	Name     string   `json:"name"`
	Protocol Protocol `json:"protocol"`
	// Address is host:port; an empty host means every address, both families.
	Address string `json:"address"`
	// TLS is present exactly when Protocol is tls.
	TLS *ListenerTLS `json:"tls,omitempty"`
	// Anonymous, when present, lets clients without credentials in under its rules.
	Anonymous *Anonymous `json:"anonymous,omitempty"`
}

// ListenerTLS says how a listener does TLS.
type ListenerTLS struct {
	// Pair names the key pair in tls.json.
	Pair string `json:"pair"`
	// MinVersion is "1.2" or "1.3".
	MinVersion string `json:"minVersion"`
}

// Anonymous lets clients without credentials in.
type Anonymous struct {
	ACL []acl.Rule `json:"acl"`
}

// Limits bound what one client may cost. Zero is never "unlimited": every field is set.
type Limits struct {
	// MaxPacketSize in bytes, 256 to 268435460 [MQTT-3.1.2-24].
	MaxPacketSize uint32 `json:"maxPacketSize"`
	// ReceiveMaximum is the number of QoS 1 and 2 messages in flight towards the broker, 1 to 65535.
	ReceiveMaximum uint16 `json:"receiveMaximum"`
	// TopicAliasMaximum is the number of aliases a client may set, 0 to 65535.
	TopicAliasMaximum uint16 `json:"topicAliasMaximum"`
	// MaxSessionExpiry in seconds caps what a client asks for; 4294967295 means that sessions may stay for ever.
	MaxSessionExpiry uint32 `json:"maxSessionExpiry"`
}

// Logging says how much is logged and how.
type Logging struct {
	// Level is debug, info, warn or error.
	Level string `json:"level"`
	// Format is text or json.
	Format string `json:"format"`
}

// KeyPair is a certificate chain with its key, both PEM.
type KeyPair struct {
	Certificate string `json:"certificate"`
	PrivateKey  string `json:"privateKey"`
}

// String hides the key, so that a pair that is printed by mistake shows no secret.
func (KeyPair) String() string { return "contract.KeyPair{hidden}" }

// GoString hides the key from %#v.
func (k KeyPair) GoString() string { return k.String() }

// User is one identity that may connect with a password.
type User struct {
	// Username is 1 to 128 bytes of UTF-8 without control characters and without the characters + # /.
	Username string `json:"username"`
	// Verifiers are password hashes (package auth); a password that fits one of them is right.
	Verifiers []string `json:"verifiers"`
	// ACL is the ordered list of rules; no match denies.
	ACL []acl.Rule `json:"acl"`
}

// String hides the verifiers.
func (u User) String() string { return fmt.Sprintf("contract.User{%q}", u.Username) }

// GoString hides the verifiers from %#v.
func (u User) GoString() string { return u.String() }

// DefaultLimits are the limits where nobody says otherwise: enough for telemetry, little enough that one client cannot
// hurt the others.
func DefaultLimits() Limits {
	return Limits{MaxPacketSize: 1 << 20, ReceiveMaximum: 100, TopicAliasMaximum: 16, MaxSessionExpiry: 7 * 24 * 3600}
}

// DefaultLogging is info as text.
func DefaultLogging() Logging { return Logging{Level: "info", Format: "text"} }
