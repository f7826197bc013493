// SPDX-License-Identifier: Apache-2.0

// Package mqttaccesspolicy reconciles MQTTAccessPolicy: it writes nothing but its status, which says whom the policy
// binds and whether the brokers of these have its rules. The rules themselves are put into force by the brokers'
// reconciler, which a change of a policy wakes.
//
//	observe  the policy, the users of its namespace, the brokers of those that it binds, their configuration
//	judge    pure: would a broker take the rules, has each of them
//	conclude conditions, status, events
//
// Imported by package controllers alone.
package mqttaccesspolicy
