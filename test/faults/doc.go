// SPDX-License-Identifier: Apache-2.0

// Package faults holds the tests of what must not go wrong when something else does: the broker is killed, its disk is
// full or damaged, its descriptors are used up, a peer does not read, or there are too many of them. The broker is a
// process of its own, started with "mqtt-broker dev"; what goes in and comes out are bytes on sockets.
//
//	main_test.go      the broker as a process: build, start, kill, measure
//	client_test.go    a small client that can be as impolite as a test needs it
//	ledger_test.go    what was published and acknowledged against what arrived
//	kill_test.go      killed at random moments under load; and a broker that acknowledges too early is caught
//	disk_test.go      a disk that is full and heals; files that were cut or changed between two runs
//	overload_test.go  peers that do not read, storms, floods, sockets that never say who they are; what is left after it
//	takeover_test.go  many connections with one client identifier
//	files_test.go     descriptors used up
//
// The short form runs in "make test", the long form with FAULTS=long in "make soak". Nobody may import this package.
package faults
