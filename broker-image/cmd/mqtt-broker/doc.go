// SPDX-License-Identifier: Apache-2.0

// Command mqtt-broker is an MQTT broker.
//
//	mqtt-broker serve         run under the configuration in a directory, which may change at any time
//	mqtt-broker dev           run for trying things out: anonymous, on loopback, with no file at all
//	mqtt-broker check-config  say whether a configuration is good, and if not, where
//	mqtt-broker ping          send a message through a broker and wait for it to come back
//	mqtt-broker version       say which version this is
//
// It decides nothing itself: package admin keeps which configuration runs, package engine serves it, package health says
// whether clients get through.
package main
