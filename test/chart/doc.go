// SPDX-License-Identifier: Apache-2.0

// Package chart holds tests of charts/mqtt-operator: they render it with the Helm that hack/tools/helm pins and compare
// the result with config/ and with what is promised of it.
package chart
