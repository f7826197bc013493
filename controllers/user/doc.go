// SPDX-License-Identifier: Apache-2.0

// Package mqttuser reconciles MQTTUser: it turns a password, or another way to prove an identity, into a verifier Secret
// for the broker's reconciler and a binding Secret for applications, and says when the broker knows the user.
//
//	observe  the user, others of its name, its broker, policies, the Secrets
//	judge    pure: is there a broker that takes the user, is the name ours, does the broker know the way to log in, may
//	         the password's Secret be read, does the listener exist
//	issue    keep the password, hash or certificate that is current, draw what is missing or due
//	apply    the two Secrets: the verifier first
//	bind     pure: are the policies there
//	conclude conditions, status, events
//
// A password or certificate that is replaced goes through three states. They stand in the verifier Secret, so that an
// operator that is started anew goes on where another one ended:
//
//	current              the binding holds what the verifier Secret knows
//	current, old         both open; the binding holds the current one      until old-valid-until
//	(unknown), old       the binding could not be written: it holds the old one, and the current one is drawn again
//
// A fault never takes away what the broker already knows: the verifier stays as it was last written, and the user goes
// on connecting with it. What ends that is deleting the user, losing the name to an older one, or an entry that no
// broker would take.
//
// Imported by package controllers alone.
package mqttuser
