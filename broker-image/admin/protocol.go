// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"fmt"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// Paths of the endpoint.
const (
	statusPath = "/v1/status"
	configPath = "/v1/config"
	tracePath  = "/v1/trace"
)

// maxBody bounds what a request or an answer may hold: every shard of users at its largest, in base64, and the rest.
const maxBody = 2 * contract.MaxShards * contract.MaxShardBytes

// Status is what a broker says about itself.
type Status struct {
	// Revision that runs, 0 before the first configuration; Digest of its bundle; Parts by digest.
	Revision int64             `json:"revision"`
	Digest   string            `json:"digest"`
	Parts    map[string]string `json:"parts"`
	// Connections are clients that are connected, Sessions those that are kept, connected or not.
	Connections int `json:"connections"`
	Sessions    int `json:"sessions"`
	// QueuedMessages wait in sessions for their clients, RetainedMessages for subscriptions. A broker of the release before
	// says 0.
	QueuedMessages   int64 `json:"queuedMessages,omitempty"`
	RetainedMessages int64 `json:"retainedMessages,omitempty"`
	// Storage says why what must be kept cannot be written to disk; empty when it can.
	Storage string `json:"storage,omitempty"`
	// Draining: clients are or were sent away, and nobody is let in before somebody ends it. A broker of the release before
	// does not say.
	Draining bool `json:"draining,omitempty"`
	// Listeners that are open.
	Listeners []ListenerStatus `json:"listeners"`
	// Started is when the process began.
	Started time.Time `json:"started"`
	// Refused is the last configuration that was not taken, nil since one was.
	Refused *Refusal `json:"refused,omitempty"`
	// Version of the broker.
	Version string `json:"version"`
}

// ListenerStatus is one open door.
type ListenerStatus struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	// Error is why it accepts nobody at the moment, empty when it does.
	Error string `json:"error,omitempty"`
}

// offer is the body of a PUT.
type offer struct {
	Files contract.Bundle `json:"files"`
}

// answer is the body of everything that is not a [Status].
type answer struct {
	Error   string   `json:"error"`
	Missing []string `json:"missing,omitempty"`
}

// RefusedError says that the broker will not run a configuration, however often it is offered.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

// MissingError says that the broker has not got parts that were left out.
type MissingError struct{ Parts []string }

func (e *MissingError) Error() string { return fmt.Sprintf("the broker lacks %v", e.Parts) }
