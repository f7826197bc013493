// SPDX-License-Identifier: Apache-2.0

// Package clients lets real clients tell stories with "mqtt-broker dev", as those do who try the broker for the first
// time: mosquitto_pub and mosquitto_sub, Python's paho-mqtt in the version of Debian, mqtt.js, paho.golang and
// paho.mqtt.golang.
//
//	go test ./test/clients                     all of them
//	go test ./test/clients -run TestMosquitto  one client
//
// A story waits for facts and never for time. Where nothing must come, something else is sent behind it, and the first
// to arrive must be that.
//
// What Debian calls mosquitto-clients, python3-paho-mqtt, nodejs and npm must be installed; mqtt.js itself comes with
// "npm ci" into the user's cache directory, as js/package-lock.json pins it. Another broker can be put in the place of
// ours with MQTT_BROKER: a program that takes "dev" and its flags --listen, --ws-listen, --tls-cert, --tls-key and
// --data, and prints where it listens.
//
// Files: main_test.go has the brokers and how programs are run; each of the others is one client. python/story.py and
// js/story.js hold what is told in those languages: each is called with a story's name and where the broker is.
package clients
