// SPDX-License-Identifier: Apache-2.0

// Package engine is the broker: it serves MQTT 3.1, 3.1.1 and 5.0 under one live configuration.
//
// In come a contract.Config (Apply, as often as one likes) and connections from package listen; out go messages, a
// Status and an error that says why a configuration was refused. The old configuration serves on until the new one is
// complete: sockets bound, key pairs and verifiers read. Only cmd/mqtt-broker imports it.
//
//	New ──► Apply ──► serving ──► Shutdown
//	          ▲         │
//	          └─────────┘ Apply: swap, then look at every connection again
//
// # This first form
//
// The protocol is spoken by github.com/mochi-mqtt/server/v2, and no type of it leaves this package. Everything that
// decides stands around it in this package: conn.go bounds what reaches it, hook.go asks the access rules, inbound.go
// takes what clients publish, session.go keeps who owns a client id, will.go keeps wills, store.go keeps sessions. Its
// known dangers are fenced: a panic ends one connection, no packet above the limit reaches it, aliases are resolved and
// wills are checked before it sees them, packet ids of the two directions are kept apart, what it would log of packets
// is dropped, refused subscriptions are not stored, takeovers happen one after another. A PUBACK or PUBREC leaves when
// the message is in every queue, and on disk if a session that persists or the retained store has to keep it.
//
// What it does not do, because the library under it does not, until the server is replaced:
//
//   - Messages beyond a subscriber's Receive Maximum may come out of order, may be lost with the connection, and can
//     stall that subscriber; after a restart the order of a queue is not kept.
//   - A subscriber that does not read for ten seconds is disconnected; until then it can hold up those who publish to it.
//   - A queue that is full drops the newest message, QoS 1 and 2 too.
//   - Shared subscriptions pick a member at random, offline ones included.
//   - A will with an empty payload, an empty password and some legal but rare packets are refused; some malformed ones
//     are closed without a reason, and some that should be refused are not.
//   - A client of MQTT 3 that publishes with QoS 1 or 2 where it may not is disconnected: its protocol has no other
//     honest answer. With QoS 0 the message is dropped, as MQTT 5 does too.
//   - Wills of clients that are connected when the broker stops or dies are not published; delayed wills die with it.
//   - How long a session has been away is counted anew after a restart.
//
// A topic or filter of more than 128 levels is refused, as the library's index takes quadratic time over levels.
//
// Users that disappear from the configuration lose their connections at once, and nothing is delivered to their
// sessions; the sessions themselves stay until they expire, so that a user that is gone by mistake loses no queue.
package engine
