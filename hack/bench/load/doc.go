// SPDX-License-Identifier: Apache-2.0

// Package load makes load: one thread, one epoll set, raw sockets. It shares the machine with the broker that it measures,
// so a message costs it as little as can be: packets are copied from a template, everything that is ready is read before
// anything is written, and what one turn of the loop has to say to a connection leaves in one write. Nothing is locked.
//
// A [Loop] moves bytes. A [Client] is one MQTT client on it. A [Flow] is a publisher with all who should get what it
// sends; each message carries its flow, its number and the time at which it was due, so that loss, duplicates, disorder
// and latency are seen at the receiver. Scenarios use it, and the relay uses the loop. Only for Linux.
package load
