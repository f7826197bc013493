// SPDX-License-Identifier: Apache-2.0

// Package bridges holds the tests of mqtt-bridge against brokers of other people: messages pass both ways, a peer is
// restarted or away under load, the line to it is cut; and against ours as both ends: bridge, source and destination are
// killed in turn, and a remote that was away gets what was published meanwhile. All of them are processes on loopback,
// each with a directory of its own; every message carries its topic's number, so that what is lost, comes twice or comes
// late is counted.
//
//	main_test.go     builds what is tested, gets the peers, and writes the page at the end
//	process_test.go  a program with a directory, that is stopped, killed and started again
//	peers_test.go    each peer: how it is started, and what it cannot do in words
//	client_test.go   one MQTT connection, 5 by paho.golang or 3.1.1 by paho.mqtt.golang
//	load_test.go     publishers and receivers that come back, and the ledger of what they saw
//	site_test.go     our broker with a bridge to a peer; or Mosquitto with its own bridge, to try these tests
//	line_test.go     the line to a peer, which can be cut
//	matrix_test.go   the stories that are told with each peer
//	faults_test.go   kills, and a remote that is away while much is published
//	page_test.go     the tables in docs/bridges.md
//
// The short form is "hack/test.sh bridges", a step of "make test". "make bridges" runs the long form, with all peers, and writes the tables;
// FAULTS=long alone has the kills and the backlog of that form. Nobody may import this package.
package bridges
