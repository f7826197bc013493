// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"fmt"
	"net/netip"
)

// Bridging is what a bridge is told, ours or another, for a comparison: everything below bench/ goes from one broker to
// another with QoS 1.
type Bridging struct {
	// From is where a Mosquitto fetches; without it, it hands on what is published to itself.
	From     netip.AddrPort
	To       netip.AddrPort
	Version  byte
	Inflight int
}

// BridgingMosquitto is Mosquitto with its own bridge to another broker.
func BridgingMosquitto(b Bridging) *Peer {
	p := mosquitto()
	p.Settings += fmt.Sprintf("; its bridge with `max_inflight_messages %d`, `cleansession false`, `try_private false`", b.Inflight)
	p.command = func(_ *Kit, dir string, port int, _ Task) ([]string, []string, error) {
		protocol := "mqttv311"
		if b.Version == 5 {
			protocol = "mqttv50"
		}
		settings := fmt.Sprintf("persistence false\nmax_inflight_messages %d\n", b.Inflight)
		connect := func(name string, to netip.AddrPort, protocol, way string) {
			settings += fmt.Sprintf(`connection bench-%[1]s
address %[2]s
remote_clientid bench-%[1]s
bridge_protocol_version %[3]s
cleansession false
try_private false
notifications false
restart_timeout 1
topic bench/# %[4]s 1
`, name, to, protocol, way)
		}
		connect("bridge", b.To, protocol, "out")
		if b.From.IsValid() {
			// With 5 it asks for no session expiry, whatever cleansession says: what waits for it would be gone with the
			// connection, and a broker that keeps nothing for it has less to do.
			connect("source", b.From, "mqttv311", "in")
		}
		path, err := write(dir, "mosquitto.conf", mosquittoConfig(port, settings))
		return []string{mosquittoPath, "-c", path}, nil, err
	}
	return p
}

// bridgeConfig is the content of bridge.json.
const bridgeConfig = `{
 "format": "mqtt-operator.io/bridge-config/v1", "name": "bench/bridge", "revision": 1, "inflight": %[1]d,
 "local": {
  "endpoints": ["mqtt://%[2]s"], "version": 5, "clientIDPrefix": "bench-bridge-", "keepAliveSeconds": 60,
  "sessionExpirySeconds": 3600
 },
 "remote": {
  "endpoints": ["mqtt://%[3]s"], "version": %[4]d, "clientIDPrefix": "bench-bridge-", "keepAliveSeconds": 60,
  "sessionExpirySeconds": 3600
 },
 "routes": [{"name": "bench", "direction": "out", "filter": "bench/#", "maxQoS": 1}],
 "logging": {"level": "warn", "format": "text"}
}
`

// PrepareBridge builds our bridge, unless there is one.
func (k *Kit) PrepareBridge(ctx context.Context) error {
	if k.Bridge != "" {
		return nil
	}
	path, err := k.build(ctx, "mqtt-bridge", ".", "./broker-image/cmd/mqtt-bridge")
	k.Bridge = path
	return err
}

// StartBridge runs our bridge, with its files in dir. It does not wait until messages pass.
func (k *Kit) StartBridge(dir string, from netip.AddrPort, b Bridging) (*Process, error) {
	path, err := write(dir, "bridge.json", fmt.Sprintf(bridgeConfig, b.Inflight, from, b.To, b.Version))
	if err != nil {
		return nil, err
	}
	return startProcess(dir, []string{k.Bridge, "--config", path, "--health-listen", ""}, nil)
}
