// SPDX-License-Identifier: Apache-2.0

// Package wire is as much of MQTT 3.1.1 and 5.0 as a load generator needs: a client's packets out, a server's packets in,
// and the other way round for the relay. It trusts its peer: what it cannot read is an error, and nothing is validated
// beyond that. Nothing allocates but growing buffers. It imports nothing of ours, and the broker must not import it: a
// yardstick shares no code with what it measures.
package wire
