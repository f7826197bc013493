// SPDX-License-Identifier: Apache-2.0

package report

// Row is one line of the table.
type Row struct {
	Name, Title, Unit string
	Scenario          string
	// Low is set where less is better.
	Low bool
	// Absolute is set where floor and goal are values, not multiples of Mosquitto's.
	Absolute bool
	// Floor and Goal; 0 means that there is none.
	Floor, Goal float64
	// Best is what the best peer was seen to reach.
	Best string
	// Digits behind the point.
	Digits int
}

// Rows of the table, in order.
func Rows() []Row {
	return []Row{
		{Name: "pairs-q0", Scenario: "pairs-q0", Title: "50 pairs, QoS 0", Unit: "msg/s", Floor: 2.5, Goal: 4, Best: "NATS 3.6×, FlashMQ 3.3×"},
		{Name: "pairs-q1", Scenario: "pairs-q1", Title: "50 pairs, QoS 1 (window 20)", Unit: "msg/s", Floor: 2.5, Goal: 6, Best: "FlashMQ 5.9×"},
		{Name: "pairs-q2", Scenario: "pairs-q2", Title: "50 pairs, QoS 2 (window 20)", Unit: "msg/s", Floor: 2.5, Goal: 6, Best: "FlashMQ 5.0×"},
		{Name: "fanout-q0", Scenario: "fanout-q0", Title: "1 → 500, QoS 0", Unit: "deliveries/s", Floor: 3, Goal: 6.5, Best: "NATS 6.4×"},
		{Name: "fanout-q1", Scenario: "fanout-q1", Title: "1 → 500, QoS 1", Unit: "deliveries/s", Floor: 3, Goal: 5.5, Best: "FlashMQ 5.2×"},
		{Name: "fanin-q0", Scenario: "fanin-q0", Title: "100 → 2 wildcard, QoS 0", Unit: "deliveries/s", Floor: 2.5, Goal: 6, Best: "FlashMQ 5.8×"},
		{Name: "fanin-q1", Scenario: "fanin-q1", Title: "100 → 2 wildcard, QoS 1", Unit: "deliveries/s", Floor: 2, Goal: 5, Best: "–"},
		{Name: "open-p50", Scenario: "open", Title: "2,000 msg/s QoS 1, open loop: p50", Unit: "µs", Low: true},
		{Name: "open-p99", Scenario: "open", Title: "2,000 msg/s QoS 1, open loop: p99", Unit: "µs", Low: true, Floor: 1, Goal: 0.8, Best: "Mosquitto"},
		{Name: "open-p999", Scenario: "open", Title: "2,000 msg/s QoS 1, open loop: p99.9", Unit: "µs", Low: true},
		{Name: "open-cpu", Scenario: "open", Title: "2,000 msg/s QoS 1, open loop: broker CPU", Unit: "% of a core", Low: true, Floor: 1.5, Goal: 1, Best: "Mosquitto", Digits: 1},
		{Name: "connect", Scenario: "connect", Title: "connect and subscribe", Unit: "clients/s", Floor: 0.8, Goal: 1.2, Best: "Mosquitto"},
		{Name: "idle-memory", Scenario: "connect", Title: "memory per idle connection with one subscription", Unit: "KiB", Low: true, Absolute: true, Floor: 10, Goal: 6, Best: "FlashMQ 4.9 KiB", Digits: 1},
		{Name: "durable", Scenario: "durable", Title: "QoS 1 to an offline session, synced before PUBACK, 50 publishers", Unit: "msg/s", Floor: 1, Goal: 1.5, Best: "–"},
		{Name: "start-rss", Scenario: "start", Title: "RSS just started", Unit: "MiB", Low: true, Absolute: true, Floor: 20, Goal: 12, Best: "–", Digits: 1},
	}
}

// Extras are numbers beside the table, which say how the runs went.
var Extras = []Row{
	{Name: "broker-cpu", Unit: "% of a core", Title: "broker CPU"},
	{Name: "broker-ns", Unit: "ns", Title: "broker CPU per message"},
	{Name: "generator-cpu", Unit: "% of a core", Title: "generator CPU"},
}
