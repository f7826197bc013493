// SPDX-License-Identifier: Apache-2.0

package clients

import (
	"fmt"
	"testing"
)

// sixth listens on IPv6 alone.
var sixth = shared("--listen", "[::1]:0")

// TestOverIPv6 tells a few stories again, of clients of each kind, to a broker that has no address of IPv4.
func TestOverIPv6(t *testing.T) {
	need(t, "mosquitto_pub", "mosquitto-clients")
	need(t, "mosquitto_sub", "mosquitto-clients")
	needPython(t)

	modules := needJS(t)

	for _, version := range []string{"mqttv31", "mqttv311", "mqttv5"} {
		t.Run("mosquitto/"+version, func(t *testing.T) {
			t.Parallel()

			b, on := sixth(t), own()
			m := mosquitto{t, version, []string{"-h", b.host(), "-p", b.port(), "-V", version}}
			p := m.sub("-t", on, "-q", "2")
			m.pub("-t", on, "-q", "2", "-m", "it works")
			m.expect(p, on+" 2 0 it works")
		})
	}

	for _, name := range []string{"exchange", "large"} {
		for _, version := range all {
			t.Run(fmt.Sprintf("python/%s/%s", name, version), func(t *testing.T) {
				t.Parallel()
				pythonTells(t, name, version, sixth(t).tcp)
			})
			t.Run(fmt.Sprintf("js/%s/%s", name, version), func(t *testing.T) {
				t.Parallel()
				jsTells(t, modules, name, version, "mqtt://"+sixth(t).tcp) // by WebSocket MQTT.js makes no URL of such an address
			})
		}
	}
}
