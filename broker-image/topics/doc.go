// SPDX-License-Identifier: Apache-2.0

// Package topics knows who subscribed to what, and which messages are retained under which topic.
//
// In come filters and topics that have been validated (package acl does that), and values of the caller's own types:
// a subscriber S, a retained message M. Out come the subscribers of a topic, each once, and the retained messages of a
// filter. Only package engine imports it; it imports the standard library only.
//
// # The index
//
// Index is a tree with one node per level of a filter. It is read without a lock: changes are made by one goroutine at a
// time and become visible by the store of one pointer. What a Match finds is what held at some moment while it ran, for
// each filter by itself; a Match that begins after Subscribe or Unsubscribe returned sees the change.
//
//	node    a level of text, its one child in place, or several children in a hash table that all nodes share
//	spot    the subscribers of one filter: a short list that never changes, or one of:
//	crowd   many subscribers of one filter: a list that is handed out as it is, and a map that finds a place in it
//
// A node is visited at most once in a Match, whatever the filters: the work is bounded by the number of nodes, and by
// two to the power of the topic's levels. The caller bounds how many levels a filter may have.
//
// # Retained messages
//
// Retained is a sorted list of topics in chunks. A wildcard becomes a range, or a walk that leaps over what cannot
// match. A Match looks at a bounded number of topics at a time and holds no lock while it hands them on.
package topics
