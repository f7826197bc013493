// SPDX-License-Identifier: Apache-2.0

// Package bridging measures two brokers with a bridge between them: ours beside the one that Mosquitto has inside, on the
// way to the same destination. Publishers are at the source, receivers at the destination; the bridge is told the same.
package bridging
