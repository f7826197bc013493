// SPDX-License-Identifier: Apache-2.0

// Package mosquitto turns what Mosquitto knows of users and their rights into MQTTUser and MQTTAccessPolicy objects.
//
// In come the texts of a password file and an ACL file ([Import]), or of the dynamic security plugin's configuration
// ([ImportDynsec]); out goes a [Result]: objects in order, and a [Report] for everything that they do not say. It reads no
// file, asks no cluster and prints nothing. The plugin imports it, and the tests that put it beside a real Mosquitto.
//
// # What holds for every import
//
// Nobody is granted a message that Mosquitto would not have let pass. What cannot be said in rules of ours is left out
// where it allows and widened where it denies, and reported in both cases.
//
// # How an ACL file decides, and how that is said
//
// Mosquitto asks the lines of the user's own section, then the pattern lines; in each of the two a matching deny line
// decides before every other line, whatever its place. So the rules of a user are, in this order:
//
//	acl           own deny lines, own other lines,
//	              patterns that name the user inside a level: those that deny, then, behind a copy of all other denying
//	              patterns, those that allow
//	the policy    the other patterns: those that deny, then those that allow; bound to every imported user by a label
//
// read is subscribe, write is publish, deny is both. A SUBSCRIBE is never refused by an ACL file, each message is looked
// at instead; ours is refused unless the whole filter is granted.
//
// # How the dynamic security plugin decides, and how that is said
//
// It asks the roles of the client by priority, then those of its groups by theirs. A role becomes a policy, policyRefs
// keep the order, and defaultACLAccess becomes the last policy. What a client may receive is decided by two lists there,
// that for subscribing and publishClientReceive; where the second refuses anything, the client's rules are written out
// as one list, which is the product of both.
package mosquitto
