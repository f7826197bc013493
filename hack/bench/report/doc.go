// SPDX-License-Identifier: Apache-2.0

// Package report knows the rows of the table, with the floor and the goal that the broker is held to, and turns the
// numbers of several rounds into medians, ratios and text. Ratios are taken within a round, between runs that stood next
// to each other in time, because the machine is not the same from minute to minute. It imports nothing of ours but plot.
package report
