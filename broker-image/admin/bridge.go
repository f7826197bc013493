// SPDX-License-Identifier: Apache-2.0

package admin

import "time"

// BridgeStatus is what a bridge says about itself, the answer to GET /v1/status of its admin endpoint.
type BridgeStatus struct {
	// Revision that runs, 0 before the first configuration, and the digest of its file.
	Revision int64  `json:"revision"`
	Digest   string `json:"digest"`
	// Active is false in a stand-by, where another process holds the client identifiers, and in one that was active and
	// cannot tell any more whether it is: the local broker is away, or does not answer in time.
	Active bool `json:"active"`
	// Local and Remote are the two ends.
	Local  EndStatus `json:"local"`
	Remote EndStatus `json:"remote"`
	// Routes, in the order of the configuration.
	Routes []RouteStatus `json:"routes"`
	// Started is when the process began.
	Started time.Time `json:"started"`
	// Refused is the last configuration that was not taken, nil since one was.
	Refused *Refusal `json:"refused,omitempty"`
	// Version of the bridge.
	Version string `json:"version"`
}

// EndStatus is one end of a bridge.
type EndStatus struct {
	// Connected says whether every connection that the routes need is up.
	Connected bool `json:"connected"`
	// Endpoint that answered last.
	Endpoint string `json:"endpoint,omitempty"`
	// Reason is a word for machines, Error the sentence for people; both empty while connected. Neither holds a secret.
	Reason string `json:"reason,omitempty"`
	Error  string `json:"error,omitempty"`
	// Notice is what the end would not give as asked: a shorter session, a smaller packet, no retained messages.
	Notice string `json:"notice,omitempty"`
	// Since is when this last changed.
	Since time.Time `json:"since"`
}

// RouteStatus is one route of a bridge, both directions together.
type RouteStatus struct {
	Name string `json:"name"`
	// Connected says whether messages of every direction can flow now.
	Connected bool `json:"connected"`
	// Forwarded messages that the destination has taken, Dropped ones that were given up (too large, refused, a loop), by
	// their reason, since the process began.
	Forwarded int64            `json:"forwarded"`
	Dropped   map[string]int64 `json:"dropped,omitempty"`
	// Queued messages are taken from the source and not acknowledged by the destination yet.
	Queued int64 `json:"queued"`
	// LagSeconds is the age of the oldest of them.
	LagSeconds float64 `json:"lagSeconds"`
	// LastError is why it last failed, with the time.
	LastError     string    `json:"lastError,omitempty"`
	LastErrorTime time.Time `json:"lastErrorTime,omitzero"`
}
