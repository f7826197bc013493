// SPDX-License-Identifier: Apache-2.0

// Package wire knows the bytes of MQTT 3.1, 3.1.1 and 5 as a server sees them, and nothing else: no socket, no session,
// no clock.
//
// In come bytes that a client sent: Next finds the end of a packet, and one Parse function per type checks everything
// that the specification lets a server check by looking at that packet alone, then answers with a struct. Out go the
// bytes that a server sends: the Append functions write at the end of a slice that the caller owns.
//
// A Parse function accepts a packet or answers with an *Error, which holds the reason code to close with. It never
// panics, whatever the bytes are. Three things are left to the caller, since they need more than the packet: the bounds
// that were agreed in CONNECT and CONNACK, the state of a session, and the access rules. So is the placement of
// wildcards in a filter, because a bad one is answered in SUBACK and not by closing.
//
// PUBLISH and its four acknowledgements are parsed and written without allocation: Publish holds views into the packet.
// All other structs own their memory and never keep a read buffer alive.
//
// It imports the standard library only. Package engine imports it; so may tests and tools that speak raw MQTT.
package wire
