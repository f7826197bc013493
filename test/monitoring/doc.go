// SPDX-License-Identifier: Apache-2.0

// Package monitoring holds tests of alerts and dashboards: promtool says whether the alerts fire when they should and are
// silent when they should be, and a real broker and a real bridge whether they have the metrics that are asked for. What the
// operator itself shows is compared in package controllers, whose tests have an API server.
package monitoring
