// SPDX-License-Identifier: Apache-2.0

// Package peer gets brokers, starts each on loopback in a directory of its own, and ends it. What is said about a broker
// here (version, settings, what it cannot do) goes into the report as it is. It imports nothing of ours.
package peer
