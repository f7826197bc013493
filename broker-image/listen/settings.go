// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"
)

const (
	// DefaultPath is where WebSocket is served if nobody says otherwise.
	DefaultPath = "/mqtt"
	// DefaultReadLimit bounds a WebSocket message if nobody says otherwise.
	DefaultReadLimit = 1 << 20
)

// Settings are what may change while the listener is open. A connection keeps those it was accepted under. Nothing that
// they point to may be changed after they were handed over.
type Settings struct {
	// Name is the listener's name, for the handler and the log.
	Name string
	// TLS is nil for a plain listener.
	TLS *tls.Config
	// Trust is what TLS demands of client certificates; nil where it asks for none.
	Trust *Trust
	// WebSocket is nil for MQTT straight on the connection.
	WebSocket *WebSocket
	// Proxy is nil where no PROXY header is read.
	Proxy *Proxy
	// MaxConnections at the same time; 0 means no bound.
	MaxConnections int
	// ConnectRate bounds how fast connections are accepted; nil means no bound.
	ConnectRate *Rate
}

// WebSocket shapes the HTTP side.
type WebSocket struct {
	// Path of the endpoint; empty means [DefaultPath].
	Path string
	// AllowedOrigins are the values of the Origin header that are let in; empty means the host itself alone.
	AllowedOrigins []string
	// ReadLimit in bytes of one message, which may hold several packets or a part of one; 0 means [DefaultReadLimit].
	// A message is never held in memory as a whole.
	ReadLimit int64
}

// Proxy says whose PROXY headers are believed.
type Proxy struct {
	// Required closes connections from trusted networks that come without a header.
	Required bool
	// Trusted networks.
	Trusted []netip.Prefix
}

// Rate is a token bucket; both numbers are at least 1.
type Rate struct {
	PerSecond int
	Burst     int
}

// Handler takes one connection. It, or whoever it gives the connection to, must end it with Close, or with Release after
// Raw. It must not block for a plain connection, because it runs on the goroutine that accepts; for TLS, WebSocket and
// after a PROXY header it has a goroutine of its own ([Conn.Owned] tells).
type Handler func(c *Conn)

// What a turn answers instead of the time after which it is to be called again.
const (
	// Readable: when the descriptor has become readable again.
	Readable time.Duration = -1
	// Gone: never, the listener is closed.
	Gone time.Duration = -2
)

// Watch calls turn whenever the descriptor has become readable, when the time is over that turn asked for, and after
// each call of poke; always on one goroutine, which is not waited for.
type Watch func(fd int, turn func() (again time.Duration)) (poke func(), err error)

// Options are what stays for the listener's life.
type Options struct {
	// Log must not be nil.
	Log *slog.Logger
	// Handler must not be nil.
	Handler Handler
	// Watch lets who has an event loop accept on it: a goroutine that only accepts would have to be woken for each
	// connection, and wake the loop. Nil accepts on a goroutine of its own.
	Watch Watch
	// Patience is how long a connection has from being accepted until the handler lifts the deadline; 0 means for ever.
	Patience time.Duration
	// Refused, if it is not nil, is told of each client that was turned away because of its certificate. It must be quick.
	Refused func(c *Conn, why *CertificateError)
}

// Reason says why a connection was not handed over.
type Reason int

// Reasons.
const (
	// Full: MaxConnections were open.
	Full Reason = iota
	// BadProxyHeader: a trusted peer sent no header where it must, or a broken one.
	BadProxyHeader
	// BadTLSHandshake: among them clients that do not trust the certificate.
	BadTLSHandshake
	// BadCertificate: the client showed no certificate where it must, or one that is not good.
	BadCertificate
	// RevokedCertificate: the client showed one that its authority has revoked.
	RevokedCertificate
	// BadUpgrade: the request for a WebSocket was refused.
	BadUpgrade
	// Broken: the connection ended by itself, or the system had no means for it.
	Broken
	reasons int = iota
)

// Reasons are all of them, in order.
func Reasons() []Reason {
	return []Reason{Full, BadProxyHeader, BadTLSHandshake, BadCertificate, RevokedCertificate, BadUpgrade, Broken}
}

// String is fit for a label of a metric.
func (r Reason) String() string {
	switch r {
	case Full:
		return "max_connections"
	case BadProxyHeader:
		return "proxy_header"
	case BadTLSHandshake:
		return "tls_handshake"
	case BadCertificate:
		return "client_certificate"
	case RevokedCertificate:
		return "revoked_certificate"
	case BadUpgrade:
		return "websocket_upgrade"
	case Broken:
		return "broken"
	default:
		return "unknown"
	}
}

// TLSConfig makes the settings of a TLS listener. The least version is 1.2 or 1.3; 1.3 is always offered. With 1.2 there
// are only suites that authenticate what they encrypt, and whose keys are gone when the connection is. Sessions of TLS 1.3 are
// resumed by whoever has the same private key, after a restart as well.
func TLSConfig(certificate *tls.Certificate, leastVersion string) (*tls.Config, error) {
	config := &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS13}

	switch leastVersion {
	case "1.3":
	case "1.2":
		config.MinVersion = tls.VersionTLS12
		config.CipherSuites = []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		}
	default:
		return nil, fmt.Errorf("minVersion: %q is neither 1.2 nor 1.3", leastVersion)
	}

	if len(certificate.Certificate) == 0 {
		return nil, errors.New("certificate: is empty")
	}

	return config, resume(config, certificate.PrivateKey, time.Now)
}
