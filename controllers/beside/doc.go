// SPDX-License-Identifier: Apache-2.0

// Package beside writes what stands beside the pods of a broker or bridge: their NetworkPolicy and PodDisruptionBudget,
// and the objects by which Prometheus and Grafana watch them. What goes wrong there is
// said in a condition of its own and keeps no configuration from its way, so that a revoked user is gone whatever somebody
// else has put under the name of a NetworkPolicy.
//
// Imported by the reconcilers of brokers and bridges.
package beside
