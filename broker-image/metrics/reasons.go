// SPDX-License-Identifier: Apache-2.0

package metrics

import "strconv"

// Reason says why a message was not delivered to one client that should have had it. That nobody subscribed is none.
type Reason uint8

// Why messages are dropped.
const (
	// QueueMessages: the session's queue holds as many messages as it may.
	QueueMessages Reason = iota
	// QueueBytes: the session's queue holds as many bytes as it may.
	QueueBytes
	// Expired: the message expiry interval was over before the message could be sent.
	Expired
	// TooLarge: the client said that it takes no packet of this size.
	TooLarge
	// SlowClient: a QoS 0 message for a client that does not read fast enough.
	SlowClient
	// RateLimited: the publisher sent more than it may.
	RateLimited
	// StorageFault: the message had to be stored, and the disk was full or failing.
	StorageFault
	// SessionEnded: the session was discarded while the message waited in it.
	SessionEnded
	// NotAuthorized: the client lost the permission while the message waited.
	NotAuthorized

	reasons
)

// String is the value of the label.
func (r Reason) String() string {
	return name(r, []string{
		"queue_messages", "queue_bytes", "expired", "too_large", "slow_client", "rate_limited", "storage_fault",
		"session_ended", "not_authorized",
	})
}

// Refusal says why a connection did not become a client's.
type Refusal uint8

// Why connections are refused.
const (
	// ConnectionLimit: the listener has as many connections as it may.
	ConnectionLimit Refusal = iota
	// ConnectRate: connections come faster than they may.
	ConnectRate
	// ConnectTimeout: no whole CONNECT came in time.
	ConnectTimeout
	// ClosedEarly: the peer went away before its CONNECT.
	ClosedEarly
	// ProxyHeader: the PROXY header was missing, broken or from somebody not trusted.
	ProxyHeader
	// TLSHandshake: no TLS connection came about.
	TLSHandshake
	// WebSocketHandshake: wrong path, origin or subprotocol.
	WebSocketHandshake
	// BadConnect: the first packet was no CONNECT or broke a rule.
	BadConnect
	// UnsupportedVersion: the protocol version is unknown here.
	UnsupportedVersion
	// BadClientID: the client identifier is not acceptable.
	BadClientID
	// Unauthenticated: the client could not prove who it is; AuthFailure says more.
	Unauthenticated
	// Forbidden: the client is known and must not connect here, or not with this will.
	Forbidden
	// Busy: too much is going on at the moment.
	Busy
	// Unavailable: the broker starts, stops, or cannot store the session.
	Unavailable
	// ClientCertificate: the client showed no certificate where it must, or one that is not good.
	ClientCertificate
	// CertificateRevoked: the client showed a certificate that its authority has revoked.
	CertificateRevoked
	// UserQuota: the user has as many connections as it may.
	UserQuota

	refusals
)

// String is the value of the label.
func (r Refusal) String() string {
	return name(r, []string{
		"connection_limit", "connect_rate", "connect_timeout", "closed_early", "proxy_header", "tls_handshake",
		"websocket_handshake", "bad_connect", "unsupported_version", "bad_client_id", "unauthenticated", "forbidden",
		"busy", "unavailable", "client_certificate", "certificate_revoked", "user_quota",
	})
}

// Disconnection says why a client's connection ended.
type Disconnection uint8

// Why connections end.
const (
	// ByClient: the client said goodbye.
	ByClient Disconnection = iota
	// ByClientWithWill: the client said goodbye and asked for its will to be published.
	ByClientWithWill
	// ConnectionLost: the connection ended without a DISCONNECT.
	ConnectionLost
	// KeepAliveTimeout: nothing came for one and a half times the keep-alive.
	KeepAliveTimeout
	// TakenOver: another connection came with the same client identifier.
	TakenOver
	// ProtocolError: a packet was malformed or broke a rule.
	ProtocolError
	// PacketTooLarge: a packet was larger than the broker takes.
	PacketTooLarge
	// NotReading: the client did not take what it was sent.
	NotReading
	// QuotaExceeded: the client used more than it may.
	QuotaExceeded
	// RateExceeded: the client sent faster than it may.
	RateExceeded
	// Revoked: the client may no longer be here, or no longer do what it did.
	Revoked
	// Administrative: somebody asked for it.
	Administrative
	// Stopping: the broker or its listener shuts down.
	Stopping
	// ServerError: the broker is at fault.
	ServerError

	disconnections
)

// String is the value of the label.
func (d Disconnection) String() string {
	return name(d, []string{
		"by_client", "by_client_with_will", "connection_lost", "keep_alive_timeout", "taken_over", "protocol_error",
		"packet_too_large", "not_reading", "quota_exceeded", "rate_exceeded", "revoked", "administrative", "stopping",
		"server_error",
	})
}

// AuthFailure says why a client could not prove who it is.
type AuthFailure uint8

// Why authentication fails.
const (
	// NoCredentials: the listener asks for a user, and the client named none.
	NoCredentials AuthFailure = iota
	// UnknownUser: no user has this name.
	UnknownUser
	// WrongPassword: the password is not the user's.
	WrongPassword
	// BadCertificate: the client's certificate names nobody known.
	BadCertificate
	// BadToken: the token is not valid, not valid yet, for another audience or another user.
	BadToken
	// WrongClientID: the user must not use this client identifier.
	WrongClientID
	// WrongListener: the user must not come in by this listener.
	WrongListener
	// BadMethod: the authentication method is unknown here, or what came is none of its messages.
	BadMethod
	// TooManyAttempts: failures came too fast to look at another.
	TooManyAttempts
	// VerifierBusy: so many passwords were being checked that this one had no turn.
	VerifierBusy
	// RevokedCertificate: the certificate was revoked, or its authority is not trusted any more, since TLS came about.
	RevokedCertificate
	// Suspended: the user is suspended.
	Suspended
	// ExpiredToken: the token was good once.
	ExpiredToken
	// UnknownIssuer: the token is of somebody who is not trusted here.
	UnknownIssuer
	// NoKeys: the issuer's keys could not be had so far.
	NoKeys

	authFailures
)

// String is the value of the label.
func (a AuthFailure) String() string {
	return name(a, []string{
		"no_credentials", "unknown_user", "wrong_password", "bad_certificate", "bad_token", "wrong_client_id",
		"wrong_listener", "bad_method", "too_many_attempts", "verifier_busy",
		"revoked_certificate", "suspended", "expired_token", "unknown_issuer", "no_keys",
	})
}

// Action is what access rules are asked about.
type Action uint8

// What may be denied.
const (
	Publish Action = iota
	Subscribe
	// Will: to leave a will on a topic.
	Will

	actions
)

// String is the value of the label.
func (a Action) String() string { return name(a, []string{"publish", "subscribe", "will"}) }

func name[E ~uint8](e E, names []string) string {
	if int(e) < len(names) {
		return names[e]
	}

	return "reason_" + strconv.Itoa(int(e))
}
