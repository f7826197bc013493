// SPDX-License-Identifier: Apache-2.0

// Package mqttuser reconciles MQTTUser: it turns a password into a verifier for the broker's reconciler and a binding
// Secret for applications, and says when the broker knows the user.
//
//	observe  the user, others of its name, its broker, the Secrets
//	judge    pure: is there a broker, is the name ours, may the password's Secret be read, does the listener exist
//	issue    keep the password and the hash that are current, draw what is missing
//	apply    the two Secrets
//	conclude conditions, status, events
//
// A fault never takes away what the broker already knows: the verifier stays as it was last written, and the user goes
// on connecting with it. What ends that is deleting the user, losing the name to an older one, or an entry that no
// broker would take.
//
// Imported by package controllers alone.
package mqttuser
