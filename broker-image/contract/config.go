// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

// Format names the layout of a bundle. A broker refuses a bundle of a format that it does not know.
const Format = "mqtt-operator.io/broker-config/v1"

// Ports of the broker's own, which no listener may take.
const (
	// AdminPort serves the admin endpoint (mutual TLS).
	AdminPort = 9443
	// HealthPort serves /livez, /readyz and /metrics (plain HTTP, no secret).
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
	MetricsPath = "/metrics"
)

// Config is the whole configuration of one broker.
type Config struct {
	Broker
	Pairs map[string]KeyPair
	// Trust is what client certificates are checked against, by the name that a listener gives.
	Trust map[string]Trust
	// Policies are lists of rules that users share, by the name that users give.
	Policies map[string][]acl.Rule
	Users    []User
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
	Persistence Persistence `json:"persistence,omitzero"`
	// Drain; its zero value means [DefaultDisconnectRate].
	Drain Drain `json:"drain,omitzero"`
	// Authentication says whose tokens are believed, and how passwords are remembered.
	Authentication Authentication `json:"authentication,omitzero"`
	Logging        Logging        `json:"logging"`
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
	// Unix is a socket in the file system; the address is its absolute path. The operator never asks for it: it is for
	// brokers outside Kubernetes.
	Unix Protocol = "unix"
)

// HasTLS says whether what a listener of this protocol carries is encrypted.
func (p Protocol) HasTLS() bool { return p == TLS || p == WSS }

// IsWebSocket says whether a listener of this protocol begins with HTTP.
func (p Protocol) IsWebSocket() bool { return p == WS || p == WSS }

// DefaultWebSocketPath is the path of a WebSocket listener that names none.
const DefaultWebSocketPath = "/mqtt"

// Listener is one door for clients.
type Listener struct {
	// Name is a DNS label of at most 15 characters.
	Name     string   `json:"name"`
	Protocol Protocol `json:"protocol"`
	// Address is host:port, where an empty host means every address, both families; with unix it is a path.
	Address string `json:"address"`
	// TLS is present exactly when Protocol is tls or wss.
	TLS *ListenerTLS `json:"tls,omitempty"`
	// WebSocket may be present when Protocol is ws or wss; absent means its zero value. Read it by [Listener.Endpoint].
	WebSocket *WebSocket `json:"websocket,omitempty"`
	// ProxyProtocol, when present, reads the client's address from a PROXY header, version 1 or 2.
	ProxyProtocol *ProxyProtocol `json:"proxyProtocol,omitempty"`
	// MaxConnections at the same time, at most 10,000,000; 0 means no bound.
	MaxConnections int `json:"maxConnections,omitempty"`
	// ConnectRate bounds how fast connections are accepted: the others wait. Absent means no bound.
	ConnectRate *Rate `json:"connectRate,omitempty"`
	// Anonymous, when present, lets clients without credentials in under its rules.
	Anonymous *Anonymous `json:"anonymous,omitempty"`
	// Methods are the ways to prove an identity that the listener takes; empty means all that the broker knows.
	Methods []Method `json:"methods,omitempty"`
}

// Method is a way to prove an identity.
type Method string

// The methods of this format.
const (
	// MethodPassword is a username with its password, plain in CONNECT or by SCRAM-SHA-256 (RFC 7677) in AUTH.
	MethodPassword Method = "password"
	// MethodCertificate is a client certificate that the listener's trust has signed.
	MethodCertificate Method = "certificate"
	// MethodJWT is a JSON Web Token of one of [Authentication.JWT].
	MethodJWT Method = "jwt"
	// MethodServiceAccount is a token of a Kubernetes ServiceAccount, [Authentication.ServiceAccounts].
	MethodServiceAccount Method = "serviceAccount"
)

// Methods are all methods, in the order in which people read them.
func Methods() []Method {
	return []Method{MethodPassword, MethodCertificate, MethodJWT, MethodServiceAccount}
}

// Takes says whether a client may prove itself in this way on the listener.
func (l *Listener) Takes(m Method) bool { return len(l.Methods) == 0 || slices.Contains(l.Methods, m) }

// Endpoint is the HTTP side of a listener with its defaults filled in.
func (l *Listener) Endpoint() WebSocket {
	endpoint := WebSocket{}
	if l.WebSocket != nil {
		endpoint = *l.WebSocket
	}
	fill(&endpoint.Path, DefaultWebSocketPath)
	return endpoint
}

// ListenerTLS says how a listener does TLS.
type ListenerTLS struct {
	// Pair names the key pair in tls.json.
	Pair string `json:"pair"`
	// MinVersion is "1.2" or "1.3".
	MinVersion string `json:"minVersion"`
	// ClientAuth is [ClientAuthOptional] or [ClientAuthRequired]; empty asks for no client certificate.
	ClientAuth string `json:"clientAuth,omitempty"`
	// Trust names the entry of tls.json that client certificates are checked against; present exactly with ClientAuth.
	Trust string `json:"trust,omitempty"`
	// UsernameFrom is [UsernameFromCN] or [UsernameFromSAN]; empty means UsernameFromCN. Absent without ClientAuth.
	UsernameFrom string `json:"usernameFrom,omitempty"`
}

// Whether a listener asks for client certificates.
const (
	ClientAuthOptional = "optional"
	ClientAuthRequired = "required"
)

// The part of a client certificate that is the username.
const (
	// UsernameFromCN is the common name of the subject.
	UsernameFromCN = "cn"
	// UsernameFromSAN is the first subject alternative name among DNS names, e-mail addresses and URIs, in this order.
	UsernameFromSAN = "san"
)

// Trust is what client certificates are checked against.
type Trust struct {
	// Authorities are CA certificates, PEM; at least one.
	Authorities string `json:"authorities"`
	// RevocationLists are CRLs, PEM (RFC 5280, section 5), each signed by one of Authorities; empty means none.
	RevocationLists string `json:"revocationLists,omitempty"`
}

// Authentication says whose tokens are believed, and how passwords are remembered.
type Authentication struct {
	// JWT are the issuers whose tokens are taken, at most [MaxIssuers], each Issuer once.
	JWT []TokenIssuer `json:"jwt,omitempty"`
	// ServiceAccounts, when present, is the cluster itself. Its usernames are those of the users whose ServiceAccount
	// the token names; UsernameClaim and ACLClaim are absent.
	ServiceAccounts *TokenIssuer `json:"serviceAccounts,omitempty"`
	// PasswordCache is [PasswordCacheVolume], or empty: which passwords were right is known as long as the process lives.
	PasswordCache string `json:"passwordCache,omitempty"`
}

// PasswordCacheVolume in [Authentication.PasswordCache] keeps in the data directory, over a restart, which passwords of
// slow hashes were right. Who has that directory and the hashes can test guesses without the slow hash.
const PasswordCacheVolume = "volume"

// Bounds of what verifies tokens and certificates.
const (
	// MaxIssuers bounds [Authentication.JWT].
	MaxIssuers = 8
	// MaxJWKSBytes bounds a key set.
	MaxJWKSBytes = 64 << 10
	// MaxAuthoritiesBytes bounds [TokenIssuer.Authorities].
	MaxAuthoritiesBytes = 64 << 10
	// MaxTrustBytes bounds the authorities and the revocation lists of one [Trust], each.
	MaxTrustBytes = 256 << 10
	// MaxTokenBytes bounds a token that is looked at.
	MaxTokenBytes = 16 << 10
)

// DefaultUsernameClaim is the claim that holds the username where none is named.
const DefaultUsernameClaim = "sub"

// TokenIssuer is somebody whose JSON Web Tokens (RFC 7519) are believed.
type TokenIssuer struct {
	// Issuer is the value of iss, compared byte by byte.
	Issuer string `json:"issuer"`
	// Audiences are values of aud, of which a token must carry one; at least one.
	Audiences []string `json:"audiences"`
	// JWKS is a JSON Web Key Set (RFC 7517) as text; absent with JWKSURL. Only public keys for signatures are used.
	JWKS string `json:"jwks,omitempty"`
	// JWKSURL is an https address from where the broker fetches the set; absent with JWKS.
	JWKSURL string `json:"jwksURL,omitempty"`
	// Authorities are the CA certificates, PEM, that alone vouch for the server of JWKSURL; empty means the public ones.
	Authorities string `json:"authorities,omitempty"`
	// UsernameClaim holds the username; empty means [DefaultUsernameClaim].
	UsernameClaim string `json:"usernameClaim,omitempty"`
	// ACLClaim holds rules in the form of [acl.Rule] as JSON; empty means that a user of that name has to hold them.
	ACLClaim string `json:"aclClaim,omitempty"`
}

// Anonymous lets clients without credentials in.
type Anonymous struct {
	ACL []acl.Rule `json:"acl"`
}

// WebSocket shapes the HTTP side of a listener.
type WebSocket struct {
	// Path of the endpoint, of the characters that need no escape in a URL; empty means [DefaultWebSocketPath].
	Path string `json:"path,omitempty"`
	// AllowedOrigins are the values of the Origin header that are let in, each scheme://host or scheme://host:port and no
	// pattern, at most 32; empty lets in only the host itself and clients that send none.
	AllowedOrigins []string `json:"allowedOrigins,omitempty"`
}

// ProxyProtocol says whose PROXY headers are believed.
type ProxyProtocol struct {
	// Mode is "required" (a connection from a trusted network without a header is closed) or "optional".
	Mode string `json:"mode"`
	// TrustedCIDRs are the networks whose headers are believed, 1 to 32; none with unix, where every peer is trusted.
	TrustedCIDRs []string `json:"trustedCIDRs,omitempty"`
}

// ProxyRequired and ProxyOptional are the modes of [ProxyProtocol].
const (
	ProxyRequired = "required"
	ProxyOptional = "optional"
)

// Rate is a token bucket.
type Rate struct {
	// PerSecond is what is filled in per second, 1 to 1,000,000.
	PerSecond int `json:"perSecond"`
	// Burst is the bucket's size, 1 to 1,000,000.
	Burst int `json:"burst"`
}

// Persistence says how sessions and messages are kept.
type Persistence struct {
	// Sync is [SyncAlways] (an acknowledgement waits for the disk) or [SyncInterval] (the disk follows within a second);
	// empty means SyncAlways.
	Sync string `json:"sync,omitempty"`
}

// When a message is safe on disk.
const (
	SyncAlways   = "always"
	SyncInterval = "interval"
)

// Resolved fills in what is not said.
func (p Persistence) Resolved() Persistence {
	fill(&p.Sync, SyncAlways)
	return p
}

// sparse is p without what Resolved would fill in.
func (p Persistence) sparse() Persistence {
	drop(&p.Sync, SyncAlways)
	return p
}

// Drain says how clients are sent away when the broker ends.
type Drain struct {
	// DisconnectRate is how many clients per second are sent away, 1 to 1,000,000; 0 means [DefaultDisconnectRate].
	DisconnectRate int `json:"disconnectRate,omitempty"`
}

// DefaultDisconnectRate is how many clients per second are sent away where nobody says it.
const DefaultDisconnectRate = 1000

// Resolved fills in what is not said.
func (d Drain) Resolved() Drain {
	fill(&d.DisconnectRate, DefaultDisconnectRate)
	return d
}

// sparse is d without what Resolved would fill in.
func (d Drain) sparse() Drain {
	drop(&d.DisconnectRate, DefaultDisconnectRate)
	return d
}

// Limits bound what one client may cost. Zero is never "unlimited" unless the field says so.
//
// The fields with omitempty came after the first release. Where they are zero they mean [DefaultLimits], so that a
// bundle of an older operator is a good one; and [Render] leaves out what equals its default, so that an older broker
// takes the bundle of a newer operator for as long as nobody asks for what it does not know.
type Limits struct {
	// MaxPacketSize in bytes, 256 to 268435460 [MQTT-3.1.2-24].
	MaxPacketSize uint32 `json:"maxPacketSize"`
	// ReceiveMaximum is the number of QoS 1 and 2 messages in flight towards the broker, 1 to 65535.
	ReceiveMaximum uint16 `json:"receiveMaximum"`
	// TopicAliasMaximum is the number of aliases a client may set, 0 to 65535.
	TopicAliasMaximum uint16 `json:"topicAliasMaximum"`
	// MaxSessionExpiry in seconds caps what a client asks for; 4294967295 means that sessions may stay for ever.
	MaxSessionExpiry uint32 `json:"maxSessionExpiry"`
	// MaxQueuedMessages that wait for one session, 1 to 10,000,000; 0 means the default.
	MaxQueuedMessages int `json:"maxQueuedMessages,omitempty"`
	// MaxQueuedBytes that wait for one session, at least 65,536; 0 means the default.
	MaxQueuedBytes int64 `json:"maxQueuedBytes,omitempty"`
	// MaxTopicLevels of a topic or filter, 1 to 1024; 0 means the default.
	MaxTopicLevels int `json:"maxTopicLevels,omitempty"`
	// MaxSubscriptions of one session, 1 to 1,000,000; 0 means the default.
	MaxSubscriptions int `json:"maxSubscriptions,omitempty"`
	// PublishRate is the most messages per second of one connection, 0 to 1,000,000; what comes faster is read more
	// slowly. 0 means no bound.
	PublishRate int `json:"publishRate,omitempty"`
	// ServerKeepAlive in seconds replaces what a client of MQTT 5 asks for [MQTT-3.2.2-21]; 0 leaves it to the client.
	ServerKeepAlive uint16 `json:"serverKeepAlive,omitempty"`
	// MaxRetainedMessages and MaxRetainedBytes bound the retained store; at least 1 and 65,536; 0 means the default.
	MaxRetainedMessages int   `json:"maxRetainedMessages,omitempty"`
	MaxRetainedBytes    int64 `json:"maxRetainedBytes,omitempty"`
}

// Resolved is what holds: l with the default of each field that may be absent. [Parse] returns no other; who makes a
// Config by hand may leave the fields out and ask this.
func (l Limits) Resolved() Limits {
	each(&l, fill[int], fill[int64])
	return l
}

// sparse is l without what Resolved would fill in.
func (l Limits) sparse() Limits {
	each(&l, drop[int], drop[int64])
	return l
}

// each visits the fields that may be absent, with their defaults.
func each(l *Limits, visit func(*int, int), visit64 func(*int64, int64)) {
	d := DefaultLimits()
	visit(&l.MaxQueuedMessages, d.MaxQueuedMessages)
	visit64(&l.MaxQueuedBytes, d.MaxQueuedBytes)
	visit(&l.MaxTopicLevels, d.MaxTopicLevels)
	visit(&l.MaxSubscriptions, d.MaxSubscriptions)
	visit(&l.MaxRetainedMessages, d.MaxRetainedMessages)
	visit64(&l.MaxRetainedBytes, d.MaxRetainedBytes)
}

func fill[T comparable](field *T, fallback T) {
	if *field == *new(T) {
		*field = fallback
	}
}

func drop[T comparable](field *T, fallback T) {
	if *field == fallback {
		*field = *new(T)
	}
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

// User is one identity that may connect.
type User struct {
	// Username is 1 to 128 bytes of UTF-8 without control characters and without the characters + # /.
	Username string `json:"username"`
	// Verifiers are password hashes (package auth); a password that fits one of them is right. None means that no
	// password opens.
	Verifiers []string `json:"verifiers"`
	// Certificate, when present, lets the user in with a client certificate that carries the username.
	Certificate *CertificateLogin `json:"certificate,omitempty"`
	// JWT names the issuer, one of [Authentication.JWT], whose tokens may carry the username; "*" means any of them;
	// empty means none.
	JWT string `json:"jwt,omitempty"`
	// ServiceAccount is namespace/name of the Kubernetes ServiceAccount whose tokens are this user's.
	ServiceAccount string `json:"serviceAccount,omitempty"`
	// Suspended keeps the user out, whatever it shows. Its sessions stay until they expire.
	Suspended bool `json:"suspended,omitempty"`
	// ClientIDs, when present, bounds the client identifiers that the user may connect with.
	ClientIDs *ClientIDs `json:"clientIDs,omitempty"`
	// Quota, when present, bounds what the user may use, all of its connections together.
	Quota *Quota `json:"quota,omitempty"`
	// ACL is the ordered list of the user's own rules; no match denies.
	ACL []acl.Rule `json:"acl"`
	// Policies name entries of [Config.Policies] whose rules are asked behind ACL, in this order.
	Policies []string `json:"policies,omitempty"`
}

// AnyIssuer in [User.JWT] stands for every issuer of the broker.
const AnyIssuer = "*"

// CertificateLogin says which certificates open.
type CertificateLogin struct {
	// Pins are SHA-256 sums of the certificates (their DER form), in hexadecimal, of which one must be shown. None
	// means that any certificate will do that the listener trusts and that carries the username.
	Pins []string `json:"pins,omitempty"`
}

// ClientIDs bounds client identifiers; exactly one of its fields is present.
type ClientIDs struct {
	// Exact lists those that are allowed, at most 64.
	Exact []string `json:"exact,omitempty"`
	// Prefix is what each must begin with.
	Prefix string `json:"prefix,omitempty"`
}

// Allow says whether a client identifier is within the bounds; a nil ClientIDs allows all.
func (c *ClientIDs) Allow(clientID string) bool {
	switch {
	case c == nil:
		return true
	case c.Prefix != "":
		return strings.HasPrefix(clientID, c.Prefix)
	default:
		return slices.Contains(c.Exact, clientID)
	}
}

// Quota bounds what one user may use; zero means no bound of its own.
type Quota struct {
	// Connections at the same time, at most 1,000,000.
	Connections int `json:"connections,omitempty"`
	// PublishRate in messages per second, at most 1,000,000; what comes faster is read more slowly.
	PublishRate int `json:"publishRate,omitempty"`
	// BytesRate in bytes per second that the user sends, at least 1,024; what comes faster is read more slowly.
	BytesRate int64 `json:"bytesRate,omitempty"`
	// QueuedMessages that wait for one session, at most 10,000,000; never more than [Limits.MaxQueuedMessages].
	QueuedMessages int `json:"queuedMessages,omitempty"`
	// SessionExpiry in seconds caps [Limits.MaxSessionExpiry] for the user; nil means that there is no cap of its own.
	SessionExpiry *uint32 `json:"sessionExpiry,omitempty"`
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
