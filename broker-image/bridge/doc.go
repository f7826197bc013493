// SPDX-License-Identifier: Apache-2.0

// Package bridge moves messages between two MQTT brokers and keeps nothing of its own: see doc below.
package bridge
