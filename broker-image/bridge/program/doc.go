// SPDX-License-Identifier: Apache-2.0

// Package program is the bridge as a program: flags, files, endpoints and the log. It is apart from package bridge and from
// any package main because it has two: mqtt-bridge, and "bridge" of mqtt-broker, so that the image holds one binary and
// what both need only once.
package program
