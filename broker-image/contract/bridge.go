// SPDX-License-Identifier: Apache-2.0

package contract

import "fmt"

// BridgeFormat names the layout of a bridge's configuration. A bridge refuses one of a format that it does not know.
const BridgeFormat = "mqtt-operator.io/bridge-config/v1"

// BridgeFile is the one file of a bridge's configuration.
const BridgeFile = "bridge.json"

// Paths inside the bridge's container; its ports are [AdminPort] and [HealthPort].
const (
	BridgeConfigDir   = "/etc/mqtt-bridge/config"
	BridgeAdminTLSDir = "/etc/mqtt-bridge/admin"
)

// Bridge is the whole configuration of one bridge, the content of bridge.json.
type Bridge struct {
	// Format must be [BridgeFormat].
	Format string `json:"format"`
	// Name says whose configuration this is: namespace/name. It is the bridge's identity in hop lists, too.
	Name string `json:"name"`
	// Revision orders configurations; at least 1. A bridge never goes back to a smaller one.
	Revision int64 `json:"revision"`
	// Local and Remote are the two ends.
	Local  BridgeEnd `json:"local"`
	Remote BridgeEnd `json:"remote"`
	// Routes are the flows of messages, 0 to 64; names are unique.
	Routes []BridgeRoute `json:"routes"`
	// Inflight is the most messages of a route and direction that wait for the destination, 1 to 65535.
	Inflight int `json:"inflight"`
	// Suspended bridges hold no connection; what waits at the sources stays there.
	Suspended bool    `json:"suspended,omitempty"`
	Logging   Logging `json:"logging"`
}

// BridgeEnd is a broker that a bridge connects to.
type BridgeEnd struct {
	// Endpoints are tried in order until one answers, 1 to 8: mqtt://host:port, mqtts://, ws://host:port/path, wss://.
	Endpoints []string `json:"endpoints"`
	// Version of MQTT: 5 or 4 (3.1.1).
	Version int `json:"version"`
	// ClientIDPrefix begins each client identifier, letters, digits and -_.: up to 64; what follows is the name of a route
	// and, for what has no route, begins with _.
	ClientIDPrefix string `json:"clientIDPrefix"`
	// Username and Password; both may be empty.
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	// CAs are PEM certificates to trust; empty means the system's roots.
	CAs string `json:"cas,omitempty"`
	// Pair is shown as client certificate; its zero value means none.
	Pair KeyPair `json:"pair,omitzero"`
	// ServerName that the certificate must carry; empty means the host of the endpoint.
	ServerName string `json:"serverName,omitempty"`
	// KeepAliveSeconds, 5 to 64800.
	KeepAliveSeconds int `json:"keepAliveSeconds"`
	// CleanStart begins a new session at each connection: what came meanwhile is lost.
	CleanStart bool `json:"cleanStart,omitempty"`
	// SessionExpirySeconds that the session is asked to outlive its connection, 0 to 4294967295 (for ever).
	SessionExpirySeconds uint32 `json:"sessionExpirySeconds"`
}

// String hides the secrets.
func (e BridgeEnd) String() string { return fmt.Sprintf("contract.BridgeEnd{%q}", e.Endpoints) }

// GoString hides them from %#v.
func (e BridgeEnd) GoString() string { return e.String() }

// Direction is the way that messages go, seen from the local broker.
type Direction string

// The directions.
const (
	// In is remote to local.
	In Direction = "in"
	// Out is local to remote.
	Out Direction = "out"
	// Both is the two of them.
	Both Direction = "both"
)

// BridgeRoute is one flow of messages.
type BridgeRoute struct {
	// Name is a DNS label of at most 32 characters.
	Name      string    `json:"name"`
	Direction Direction `json:"direction"`
	// Filter picks messages by topic, behind the prefix of the side that they come from. Of site/ and #, the topic site is
	// a part, too [MQTT-4.7.1-2]: it becomes the other prefix without its last slash.
	Filter string `json:"filter"`
	// LocalPrefix and RemotePrefix stand before the topic at their end: the source's is taken away, the destination's put on.
	LocalPrefix  string `json:"localPrefix,omitempty"`
	RemotePrefix string `json:"remotePrefix,omitempty"`
	// MaxQoS with which messages are taken and passed on, 0 to 2.
	MaxQoS byte `json:"maxQoS"`
	// Retain passes the retain flag on.
	Retain bool `json:"retain,omitempty"`
	// Share names a shared subscription at the source: several bridges, or replicas, divide the messages among them and
	// keep no order between each other. Empty means that every message comes here.
	Share string `json:"share,omitempty"`
}
