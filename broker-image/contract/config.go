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
	// Persistence; its zero value means [SyncAlways].
	Persistence Persistence `json:"persistence"`
	Logging     Logging     `json:"logging"`
}

// Protocol is what a listener speaks.
type Protocol string

// Protocols of this format.
const (
	TCP Protocol = "tcp"
	TLS Protocol = "tls"
	// WS and WSS carry MQTT in binary WebSocket messages, subprotocol "mqtt" [MQTT-6.0.0-3].
	WS  Protocol = "ws"
	WSS Protocol = "wss"
	// Unix is a socket in the file system; the address is its absolute path.
	Unix Protocol = "unix"
)

// Listener is one door for clients.
type Listener struct {
	// Name is a DNS label of at most 15 characters.
	Name     string   `json:"name"`
	Protocol Protocol `json:"protocol"`
	// Address is host:port; an empty host means every address, both families.
	Address string `json:"address"`
	// TLS is present exactly when Protocol is tls or wss.
	TLS *ListenerTLS `json:"tls,omitempty"`
	// WebSocket may be present when Protocol is ws or wss; absent means its zero value.
	WebSocket *WebSocket `json:"websocket,omitempty"`
	// ProxyProtocol, when present, reads the client's address from a PROXY header, version 1 or 2.
	ProxyProtocol *ProxyProtocol `json:"proxyProtocol,omitempty"`
	// MaxConnections at the same time; 0 means no bound.
	MaxConnections int `json:"maxConnections,omitempty"`
	// ConnectRate bounds how fast connections are accepted; absent means no bound.
	ConnectRate *Rate `json:"connectRate,omitempty"`
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

// WebSocket shapes the HTTP side of a listener.
type WebSocket struct {
	// Path of the endpoint; empty means /mqtt.
	Path string `json:"path,omitempty"`
	// AllowedOrigins are the values of the Origin header that are let in; empty lets in only the host itself and clients
	// that send none.
	AllowedOrigins []string `json:"allowedOrigins,omitempty"`
}

// ProxyProtocol says whose PROXY headers are believed.
type ProxyProtocol struct {
	// Mode is "required" (a connection from a trusted network without a header is closed) or "optional".
	Mode string `json:"mode"`
	// TrustedCIDRs are the networks whose headers are believed, at least one.
	TrustedCIDRs []string `json:"trustedCIDRs"`
}

// Rate is a token bucket.
type Rate struct {
	// PerSecond is what is filled in per second, at least 1.
	PerSecond int `json:"perSecond"`
	// Burst is the bucket's size, at least 1.
	Burst int `json:"burst"`
}

// Persistence says how sessions and messages are kept.
type Persistence struct {
	// Sync is [SyncAlways] (an acknowledgement waits for the disk) or [SyncInterval] (the disk follows within a second).
	Sync string `json:"sync"`
}

// When a message is safe on disk.
const (
	SyncAlways   = "always"
	SyncInterval = "interval"
)

// Limits bound what one client may cost. Zero is never "unlimited" unless the field says so.
type Limits struct {
	// MaxPacketSize in bytes, 256 to 268435460 [MQTT-3.1.2-24].
	MaxPacketSize uint32 `json:"maxPacketSize"`
	// ReceiveMaximum is the number of QoS 1 and 2 messages in flight towards the broker, 1 to 65535.
	ReceiveMaximum uint16 `json:"receiveMaximum"`
	// TopicAliasMaximum is the number of aliases a client may set, 0 to 65535.
	TopicAliasMaximum uint16 `json:"topicAliasMaximum"`
	// MaxSessionExpiry in seconds caps what a client asks for; 4294967295 means that sessions may stay for ever.
	MaxSessionExpiry uint32 `json:"maxSessionExpiry"`
	// MaxQueuedMessages that wait for one session, 1 to 10,000,000.
	MaxQueuedMessages int `json:"maxQueuedMessages"`
	// MaxQueuedBytes that wait for one session, at least 65,536.
	MaxQueuedBytes int64 `json:"maxQueuedBytes"`
	// MaxTopicLevels of a topic or filter, 1 to 1024.
	MaxTopicLevels int `json:"maxTopicLevels"`
	// MaxSubscriptions of one session, 1 to 1,000,000.
	MaxSubscriptions int `json:"maxSubscriptions"`
	// PublishRate is the most messages per second of one connection, 0 to 1,000,000; what comes faster is read more
	// slowly. 0 means no bound.
	PublishRate int `json:"publishRate,omitempty"`
	// ServerKeepAlive in seconds replaces what a client of MQTT 5 asks for [MQTT-3.2.2-21]; 0 leaves it to the client.
	ServerKeepAlive uint16 `json:"serverKeepAlive,omitempty"`
	// MaxRetainedMessages and MaxRetainedBytes bound the retained store; at least 1 and 65,536.
	MaxRetainedMessages int   `json:"maxRetainedMessages"`
	MaxRetainedBytes    int64 `json:"maxRetainedBytes"`
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
	return Limits{
		MaxPacketSize: 1 << 20, ReceiveMaximum: 1024, TopicAliasMaximum: 32, MaxSessionExpiry: 7 * 24 * 3600,
		MaxQueuedMessages: 10_000, MaxQueuedBytes: 64 << 20, MaxTopicLevels: 128, MaxSubscriptions: 1000,
		MaxRetainedMessages: 1_000_000, MaxRetainedBytes: 1 << 30,
	}
}

// DefaultLogging is info as text.
func DefaultLogging() Logging { return Logging{Level: "info", Format: "text"} }
