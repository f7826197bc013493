// SPDX-License-Identifier: Apache-2.0

// Package scenario says what is measured: each scenario starts one broker, puts load on it for a bounded time, and
// returns numbers by the names of the table's rows. It uses load, proc and peer.
package scenario
