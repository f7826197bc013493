// SPDX-License-Identifier: Apache-2.0

// Package conformance holds a broker against the letter of MQTT 5.0, 3.1.1 and 3.1, statement by statement.
//
// What comes in: an address. Without one, the tests build and start our own broker on free loopback ports;
// MQTT_TARGET=mosquitto starts Debian's Mosquitto with equal settings, and MQTT_TARGET=host:port takes any other broker
// (MQTT_TARGET_WS, _GUARDED, _RULED and _LIMITED name its further doors, see broker_test.go; cases whose door is not
// there are left out). What goes out: bytes over real sockets, written and read by a codec of this package's own, which
// shares no code with the broker on purpose and can build packets that nobody may send.
//
// Each case names the statements that it shows. mqtt5.tsv and mqtt311.tsv list every normative statement with a few words
// of ours and the cases that show it. The last column and docs/conformance.md are written by
//
//	go test ./test/conformance -run TestTables -update
//
// and compared by every run. results.tsv, which that page is made from, comes from test/conformance/compare.sh.
//
// Nobody imports this package.
package conformance
