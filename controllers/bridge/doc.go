// SPDX-License-Identifier: Apache-2.0

// Package mqttbridge reconciles MQTTBridge: it turns routes into a Deployment of mqtt-bridge with its configuration, and
// into a user at each end that is a broker of this cluster, and says how each route is doing.
//
//	observe  the Secrets that the spec names, our own objects, the users with their bindings, what each pod says, other bridges
//	judge    pure: do the routes loop, may the Secrets be read, how are the two ends reached, what must be allowed there
//	issue    keep the key material of the admin connection that is current, draw what is missing
//	build    pure: users, admin Secret, configuration, Deployment
//	apply    write what differs; delete the remote user that is wanted no more
//	deliver  hand the configuration to each pod that runs another one
//	conclude conditions, status, events
//
// A configuration travels in this order, so that no message of a route meets a broker that refuses it:
//
//	the users get the rules of the routes to come, beside those of before
//	their brokers answer that they know them        until then the pods keep what they have
//	the pods get the configuration, and answer it
//	the users lose the rules that nobody needs any more
//
// The users are ordinary ones: whether a broker takes them, and what their name may be, their own reconciler decides.
//
// Imported by package controllers alone.
package mqttbridge
