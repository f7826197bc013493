// SPDX-License-Identifier: Apache-2.0

// Package board draws a Grafana dashboard of ours as SVG, with the answers that a Prometheus gave to its queries.
//
// In: the dashboard as Grafana reads it, and a function that asks. Out: a picture with the same panels in the same places, with their
// titles, units and legends. It knows as much of Grafana as our dashboards use, and no more: it is no Grafana.
//
//	board.go  the dashboard: panels, queries, legends
//	draw.go   the picture
package board
