// SPDX-License-Identifier: Apache-2.0

// Command mqtt-bridge moves messages between a broker and any other MQTT broker, and keeps nothing itself: what is not
// delivered yet waits in its session at the broker that it comes from.
//
// It reads one file, bridge.json of package contract, watches it, and takes a newer one from its admin endpoint (mutual
// TLS) as well; a configuration that is not good is refused whole, and the one before goes on. It knows nothing of
// Kubernetes: with a file and no more flags it is a bridge on a laptop.
package main
