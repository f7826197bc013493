// SPDX-License-Identifier: Apache-2.0

// Package listen keeps the broker's doors: it accepts connections, does TLS, and hands each connection to a handler.
//
// In comes an address and settings that may change at any time; out come connections whose TLS handshake is done and
// whose deadline for saying something sensible is already running. What it guarantees:
//
//   - no error of Accept ends a listener; it waits a little, says so once and goes on
//   - a panic in a handler closes that connection only, and is counted
//   - a connection that does not finish its handshake in time is closed
//   - a new certificate serves from the next connection on, without touching those that are open
//
// It knows nothing of MQTT and imports nothing of ours.
package listen
