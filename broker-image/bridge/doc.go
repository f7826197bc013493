// SPDX-License-Identifier: Apache-2.0

// Package bridge moves messages between two MQTT brokers, the local and the remote one, and keeps nothing itself.
//
// In comes a [contract.Bridge], out goes an [admin.BridgeStatus]. The package knows contract, admin, wire and the two clients
// of Eclipse Paho; package main of mqtt-bridge imports it and nobody else.
//
// # The way of a message
//
//	source ──PUBLISH──▶ link ──▶ flow ──▶ link ──PUBLISH──▶ destination
//	source ◀──PUBACK─── link ◀── flow ◀── link ◀──PUBACK─── destination
//
// A flow is one route in one direction. It holds the messages that came and are not acknowledged, in the order in which
// they came, at most as many as the window (inflight): at 5 the source is told so by Receive Maximum, at 3.1.1 it is not
// read from. A message is acknowledged at the source once the destination has acknowledged it, and once all before it
// are [MQTT-4.6.0-2]. So the session at the source is the queue, and a bridge that dies loses nothing.
//
// A link is one MQTT connection, made again with a pause that grows and is never twice the same. A route has its own
// links, named after it: the trouble of one route is not another's, what comes by a connection belongs to one route
// whatever else overlaps, and a session keeps its name whatever happens to other routes. At 5 one connection serves both
// directions, for the sake of No Local. At 3.1.1 each direction has its own, since not reading is how a source is slowed
// down there, and acknowledgements of a destination must be read.
//
// Some servers write each acknowledgement by itself. Where many are owed, the reader is not woken for each: they gather, for
// 5 ms at most, so that what they cause leaves in few writes, too (see lull; plain TCP, Linux). Publications and their
// acknowledgements stand aside before the library would read them, and package wire reads them where they lie: that takes
// half the processor time of the bridge. What wire finds wrong is given to the library, which is less strict.
//
// # When a connection is lost
//
// The destination's: what was sent and not answered is sent again in the same order by the next connection; the libraries
// resend nothing. At most a window of messages comes twice. A connection that only publishes begins clean, so that no
// identifier of QoS 2 is left over; one that serves both directions has all of them released by PUBREL first.
//
// The source's: what is not acknowledged stays in the flow and goes on. The source delivers it again, and it is known by
// its packet identifier, its DUP flag and its content, so that it is not sent a second time: an identifier that was not
// acknowledged cannot stand for another message [MQTT-2.2.1-4]. What was acknowledged is not remembered, because servers
// use identifiers again at once; if the acknowledgement got lost, the message is sent twice. With QoS 2 it is remembered
// until PUBREL [MQTT-4.3.3-10].
//
// The bridge itself dies: the source delivers all that it has no answer for. At most a window comes twice, with QoS 2,
// too, since nobody remembers.
//
// # What is given up
//
// A message that the destination will never take (too large, its topic too long, refused by a reason code other than
// Quota exceeded) is acknowledged at the source, counted by reason and said in the route's last error. The route goes on.
// A message of QoS 0 is dropped while the destination is away.
//
// A destination that ends the connection instead of answering is not believed at once: it may be ill. What was under way
// goes out one by one; a message over which five connections have ended waits until the destination has taken another one
// by the same connection, of another topic if there is one, and is given up if it ends that connection, too. Where more
// than one message is under way each time, fewer are, until no connection ends; see wary.
//
// # Loops
//
// Package contract refuses routes that feed each other. At run time No Local leaves out what the bridge published by the
// same connection; the user property mqtt-bridge-hop names every bridge that a message came by, and one that reads its own
// name drops it; at an end that speaks 3.1.1, digests of what was published there and will come back are remembered for
// ten seconds. What this does not see is a ring of brokers in which every bridge has only one direction and one leg speaks
// 3.1.1: the names are lost there, and who publishes the same message again cannot be told from who repeats himself.
//
// # Two processes of one bridge
//
//	          nobody says "held" for 0.5 s after "ask",
//	          or for 3 s, or somebody says "free"             not heard itself for 2.5 s
//	stand-by ─────────────────────────────────────────▶ active ──────────────────▶ in doubt
//	         ◀─────────────────────────────────────────        ◀──────────────────
//	          taken over, or hears somebody else's "held"          heard itself
//
// They use the same client identifiers, so a server fences the earlier one. That they do not fence each other in turns is
// the matter of a lock at the local broker: a connection with an identifier of its own, <prefix>_lock, whose holder says
// "held" on a topic every second, and whose Will says "free". Who holds it may use the other identifiers; who does not,
// listens. Who is in doubt goes on with the connections that it has and makes none: where another process has taken its
// place, the servers have ended them, and where none has, a slow broker is no reason to disturb anybody.
//
//   - Killed: the broker sees the connection end and publishes the Will. The stand-by takes over at once.
//   - Cut off or stopped: the holder does not hear itself and doubts. The stand-by hears nothing for 3 s and takes over,
//     connections and all; whoever comes back hears "held" first and stays a stand-by.
//   - The local broker restarts: the links to the remote go on, and those to the local one come back with the lock.
//   - The local broker is so busy that it answers late: the holder doubts, and nothing else happens.
//   - Both jump at once: the later connection takes the identifier, the other one is told (0x8E), listens and hears it.
//
// A local broker that does not grant the topic has no lock: then every process is active, and the end's notice says so.
package bridge
