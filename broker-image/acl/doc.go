// SPDX-License-Identifier: Apache-2.0

// Package acl is the one topic matcher and rule engine of the project: the broker asks it on every publish, subscribe
// and delivery, the plugin asks it to answer "may this user?", and the contract uses its validators.
//
// In comes an ordered list of Rules; out of Compile comes an immutable Policy that answers three questions about a
// Subject. Anyone may import it; it imports the standard library only.
//
// # How rules decide
//
// Rules are asked in order. The first that matches decides. If none matches, the answer is no.
//
//	publish    a rule matches if its filter matches the topic; an allow rule with maxQoS or retain: false does not
//	           match a publish that is above it, and the next rule is asked
//	subscribe  an allow rule matches if every topic of the requested filter is inside the rule's filter (subset);
//	           a deny rule matches if any topic is in both (overlap)
//	deliver    a rule for subscribe matches if its filter matches the one topic that is about to be delivered
//
// Mind the overlap: with "deny a/secret, allow a/#" a SUBSCRIBE to a/# is refused as a whole, because it would carry
// a/secret. A user who may read all of a/ but that must subscribe to the parts that are allowed. The order counts:
// "allow a/#, deny a/secret" grants everything, since the first rule already decides.
//
// A subscription above an allow rule's maxQoS is granted with its QoS capped.
//
// # Wildcards and tokens
//
// A filter is one of MQTT: + is one level, # at the end is any number of levels, the parent included, so a/# matches a.
// Neither matches a first level that begins with $: to grant $SYS/# a rule must say $SYS. The levels %u, %c and %cn
// stand for the username, the client id and the common name of the client's certificate. A token is always a whole
// level. One whose value is empty, holds a /, + or #, or would name a $ tree as the first level, matches nothing, be
// the rule allow or deny.
//
// A rule never says $share: the group of a shared subscription is taken off before the question is asked.
package acl
