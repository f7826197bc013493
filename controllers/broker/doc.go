// SPDX-License-Identifier: Apache-2.0

// Package mqttbroker reconciles MQTTBroker: one look at the world, one judgement, one set of objects, one word to each
// pod, one status.
//
//	observe  read the broker, its users' verifiers, its Secrets, its StatefulSet, its volumes, its pods, and ask each pod
//	         what it runs
//	issue    keep the key material that is current, draw what is missing
//	judge    pure: which listeners and users can be served, and what is wrong with the others
//	build    pure: the objects and the configuration with its revision
//	hold     pure: give the pods the form of before when they do not become ready in the new one, and leave them as they
//	         are while a change of them has to wait for a maintenance window
//	apply    server-side apply of what differs; delete what is wanted no more
//	grow     let volumes grow; a StatefulSet that makes smaller ones goes without its pods, and the next pass makes it anew
//	deliver  hand the configuration to each pod that runs another one
//	conclude conditions, status, events: the only writer of status
//
// The configuration reaches a pod twice: by the mounted Secrets, which are the truth when it starts and which the
// kubelet renews within a minute or so, and by the admin endpoint, at once. ConfigApplied is true only when every pod
// that should run has answered the revision.
//
// Imported by package controllers alone.
package mqttbroker
