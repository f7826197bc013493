// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

// shows are the metrics of a broker, as far as top reads them.
func shows(in, out, dropped int) []byte {
	return fmt.Appendf(nil, `# HELP mqtt_broker_connections Clients connected now.
# TYPE mqtt_broker_connections gauge
mqtt_broker_connections{listener="mqtts",protocol="3.1.1"} 12
mqtt_broker_connections{listener="mqtts",protocol="5"} 30
mqtt_broker_connections_opened_total{listener="mqtts",protocol="5"} %[1]d
mqtt_broker_disconnections_total{reason="by_client"} %[2]d
mqtt_broker_sessions{state="online"} 42
mqtt_broker_sessions{state="offline"} 15
mqtt_broker_subscriptions 80
mqtt_broker_queue_messages 7
mqtt_broker_queue_bytes 7168
mqtt_broker_inflight_messages 3
mqtt_broker_retained_messages 9
mqtt_broker_messages_received_total{qos="0"} %[1]d
mqtt_broker_messages_received_total{qos="1"} %[1]d
mqtt_broker_messages_sent_total{qos="0"} %[2]d
mqtt_broker_received_bytes_total %[1]d00
mqtt_broker_sent_bytes_total %[2]d0000
mqtt_broker_messages_dropped_total{reason="queue_messages"} %[3]d
mqtt_broker_messages_dropped_total{reason="expired"} 5
mqtt_broker_delivery_duration_seconds_bucket{le="+Inf"} 5
mqtt_broker_strange{issuer="https://a b.example.com/{x}=\"y\""} NaN
nonsense
`, in, out, dropped)
}

func TestTop(t *testing.T) {
	first := read(shows(1000, 2000, 3), noon)
	for name, tc := range map[string]struct {
		second []byte
		more   bool
	}{
		"calm":      {shows(1003, 2000, 3), false},
		"busy":      {shows(3500, 14_000, 25), false},
		"wide":      {shows(3500, 14_000, 25), true},
		"restarted": {shows(10, 20, 0), false},
	} {
		t.Run(name, func(t *testing.T) {
			r := ratesOf(first, read(tc.second, noon.Add(2*time.Second)))
			r.Pod = "mq-broker-0"
			var out bytes.Buffer
			printRates(streams{out: &out}, []*rates{r}, tc.more)
			golden(t, "top-"+name, out.String())
		})
	}
}

func TestSizesAndRatesAreReadable(t *testing.T) {
	for size, want := range map[float64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 5 << 30: "5.0 GiB", 3 << 50: "3072.0 TiB"} {
		if got := inBytes(size); got != want {
			t.Errorf("%g: %s, want %s", size, got, want)
		}
	}
	for rate, want := range map[float64]string{0: "0/s", 0.04: "0.0/s", 0.5: "0.5/s", 9.9: "9.9/s", 10: "10/s", 123456.7: "123457/s"} {
		if got := perSecond(rate); got != want {
			t.Errorf("%g: %s, want %s", rate, got, want)
		}
	}
}
