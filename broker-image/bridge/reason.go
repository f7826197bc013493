// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"unicode"
)

// Reasons why an end is not connected, as they stand in [admin.EndStatus]. They are words for machines and stay as they
// are.
const (
	ReasonConnecting       = "Connecting"
	ReasonStandBy          = "StandBy"
	ReasonSuspended        = "Suspended"
	ReasonWaitingForLocal  = "WaitingForLocal"
	ReasonHostNotFound     = "HostNotFound"
	ReasonHostUnreachable  = "HostUnreachable"
	ReasonRefused          = "ConnectionRefused"
	ReasonLost             = "ConnectionLost"
	ReasonClosed           = "ConnectionClosed"
	ReasonUntrusted        = "CertificateUntrusted"
	ReasonNameMismatch     = "CertificateNameMismatch"
	ReasonExpired          = "CertificateExpired"
	ReasonOursRefused      = "ClientCertificateRefused"
	ReasonNotAuthorized    = "NotAuthorized"
	ReasonClientIDRejected = "ClientIDRejected"
	ReasonVersionRejected  = "ProtocolVersionRejected"
	ReasonProtocolError    = "ProtocolError"
	ReasonNoAnswer         = "NoAnswer"
	ReasonUnavailable      = "ServerUnavailable"
	ReasonMoved            = "ServerMoved"
	ReasonTakenOver        = "SessionTakenOver"
	ReasonWebSocketRefused = "WebSocketRefused"
	ReasonSubscription     = "SubscriptionRefused"
)

// Reasons why a message went no further, as they stand in [admin.RouteStatus].
const (
	DropTooLarge       = "TooLarge"
	DropTopicTooLong   = "TopicTooLong"
	DropTopicEmpty     = "TopicEmpty"
	DropTopicInvalid   = "TopicInvalid"
	DropNotAuthorized  = "NotAuthorized"
	DropPayloadInvalid = "PayloadInvalid"
	DropRefused        = "Refused"
	DropClosed         = "ConnectionClosed"
	DropLoop           = "Loop"
	DropExpired        = "Expired"
	DropNoRoute        = "NoRoute"
	DropNotConnected   = "NotConnected"
	DropSlow           = "Slow"
)

// fault is why a connection is not there. Its text is for people and holds no secret.
type fault struct {
	reason string
	text   string
	// code is the reason code of MQTT 5 that said so, 0 if none did.
	code byte
}

func (f *fault) Error() string { return f.text }

// mayBeOverAMessage tells whether a server may have ended the connection because of what was published by it.
func (f *fault) mayBeOverAMessage() bool {
	switch f.reason {
	case ReasonLost, ReasonClosed, ReasonProtocolError, ReasonNotAuthorized:
		return true
	default:
		return false
	}
}

func faultf(reason, format string, args ...any) *fault {
	return &fault{reason: reason, text: fmt.Sprintf(format, args...)}
}

// asFault puts an error of the network into words. where is the endpoint.
func asFault(where string, err error) *fault {
	var (
		known    *fault
		dns      *net.DNSError
		name     x509.HostnameError
		unknown  x509.UnknownAuthorityError
		invalid  x509.CertificateInvalidError
		alert    tls.AlertError
		noTLS    tls.RecordHeaderError
		network  *net.OpError
		timeout  interface{ Timeout() bool }
		isAlert  = errors.As(err, &alert) || (errors.As(err, &network) && network.Op == "remote error")
		timedOut = errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || (errors.As(err, &timeout) && timeout.Timeout())
	)

	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &dns):
		return faultf(ReasonHostNotFound, "%s: no address is known for the host %q; check how it is written and whether DNS knows it", where, dns.Name)
	case errors.As(err, &name):
		return faultf(ReasonNameMismatch, "%s: the certificate is not for the name %q; use a name that it holds, or set the server name", where, name.Host)
	case errors.As(err, &unknown):
		return faultf(ReasonUntrusted, "%s: the certificate is signed by no authority that is trusted here; give the CA of this broker", where)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return faultf(ReasonExpired, "%s: the certificate has expired or is not valid yet; have it renewed, and check the clocks", where)
	case errors.As(err, &invalid):
		return faultf(ReasonUntrusted, "%s: the certificate is not acceptable: %v", where, invalid)
	case isAlert && network != nil:
		return faultf(ReasonOursRefused, "%s: the broker refuses our end of TLS (%v); check the client certificate", where, network.Err)
	case isAlert:
		return faultf(ReasonOursRefused, "%s: the broker refuses our end of TLS (%v); check the client certificate", where, alert)
	case errors.As(err, &noTLS):
		return faultf(ReasonProtocolError, "%s: what answers there speaks no TLS; check the port, or use mqtt:// or ws://", where)
	case errors.Is(err, errNotMQTT):
		return faultf(ReasonProtocolError, "%s: what answers there speaks no MQTT (%v); check the port and the protocol", where, err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return faultf(ReasonRefused, "%s: nobody listens there; check host and port, and whether the broker runs", where)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return faultf(ReasonHostUnreachable, "%s: no way leads there; check routes and network policies", where)
	case timedOut:
		return faultf(ReasonNoAnswer, "%s: no answer in time; check host and port, network policies, and whether the broker is overloaded", where)
	case isEnd(err), isReset(err):
		return faultf(ReasonLost, "%s: the connection was lost", where)
	default:
		return faultf(ReasonLost, "%s: %s", where, printable(err.Error()))
	}
}

// refusal5 is what a reason code of CONNACK or DISCONNECT of MQTT 5 means.
func refusal5(where string, code byte, said string) *fault {
	f := &fault{code: code}

	switch code {
	case 0x00, 0x04:
		f.reason, f.text = ReasonClosed, "the broker closed the connection"
	case 0x81, 0x82, 0x93, 0x94, 0x95:
		f.reason, f.text = ReasonProtocolError, "the broker found fault with a packet"
	case 0x84:
		f.reason, f.text = ReasonVersionRejected, "the broker does not speak MQTT 5; set the protocol version 3.1.1"
	case 0x85:
		f.reason, f.text = ReasonClientIDRejected, "the broker refuses the client identifier; choose another prefix"
	case 0x86:
		f.reason, f.text = ReasonNotAuthorized, "the broker refuses username or password; correct the credentials"
	case 0x87, 0x8c:
		f.reason, f.text = ReasonNotAuthorized, "the broker lets this user not connect so; check its rights there"
	case 0x8a:
		f.reason, f.text = ReasonNotAuthorized, "the broker has banned this client; ask who runs it"
	case 0x88, 0x89, 0x8b, 0x97, 0x9f:
		f.reason, f.text = ReasonUnavailable, "the broker takes no connection at the moment"
	case 0x9c, 0x9d:
		f.reason, f.text = ReasonMoved, "the broker asks to use another server; correct the endpoints"
	case 0x8e:
		f.reason, f.text = ReasonTakenOver, "another connection has the same client identifier; look for a second bridge with this prefix"
	case 0x8d:
		f.reason, f.text = ReasonNoAnswer, "the broker heard nothing from here for too long"
	default:
		f.reason, f.text = ReasonClosed, "the broker ended the connection"
	}

	f.text = fmt.Sprintf("%s: %s (reason code 0x%02x%s)", where, f.text, code, quoted(said))

	return f
}

// refusal3 is what a return code of CONNACK of MQTT 3.1.1 means.
func refusal3(where string, code byte) *fault {
	reason, text := ReasonClosed, "the broker refuses the connection"

	switch code {
	case 1:
		reason, text = ReasonVersionRejected, "the broker does not speak this version of MQTT"
	case 2:
		reason, text = ReasonClientIDRejected, "the broker refuses the client identifier; choose another prefix"
	case 3:
		reason, text = ReasonUnavailable, "the broker takes no connection at the moment"
	case 4:
		reason, text = ReasonNotAuthorized, "the broker refuses username or password; correct the credentials"
	case 5:
		reason, text = ReasonNotAuthorized, "the broker lets this user not connect; check the credentials and its rights there"
	}

	return faultf(reason, "%s: %s (return code %d)", where, text, code)
}

func quoted(said string) string {
	if said == "" {
		return ""
	}

	return ", it says: " + printable(said)
}

const maxSaid = 200

// printable shortens what a peer said and takes out what would break a line.
func printable(said string) string {
	said = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}

		return r
	}, said)
	if len(said) > maxSaid {
		said = strings.ToValidUTF8(said[:maxSaid], "") + "…"
	}

	return said
}

// dropOf is the reason for a message that the destination refuses for good. The second result is what to tell people.
func dropOf(code byte) (reason, text string) {
	switch code {
	case 0x87:
		return DropNotAuthorized, "the destination lets this user not publish there; grant it the topics of the route"
	case 0x90:
		return DropTopicInvalid, "the destination takes no such topic"
	case 0x99:
		return DropPayloadInvalid, "the destination finds that the payload is not of the format that it claims"
	case 0x95:
		return DropTooLarge, "the destination takes no message of this size"
	default:
		return DropRefused, fmt.Sprintf("the destination refuses the message (reason code 0x%02x)", code)
	}
}
