// SPDX-License-Identifier: Apache-2.0

// Package metrics holds what the broker counts, and shows it as Prometheus metrics and as the topics below $SYS.
//
// What comes in: each worker of the engine has Counters of its own, which nobody else writes, so that counting is one
// addition to a cache line that the worker owns already. What happens on no worker goes to Set.Shared. What is rare and
// belongs to a listener goes to its Listener. What need not be counted because it can be looked up comes from the
// function State, which is asked once per scrape.
//
// What goes out: Set.Handler for /metrics, and Set.SysTopics for whoever publishes below $SYS.
//
// The package imports nothing else of ours; cmd/mqtt-broker and the engine may import it. No name of a client, a user or
// a topic is ever a label: the number of series is bounded by the configuration, not by the clients.
package metrics
