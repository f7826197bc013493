// SPDX-License-Identifier: Apache-2.0

package bridges

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// Topics at the two ends: what is published below the first two passes, and arrives below the others.
const (
	outLocal, outRemote = "out/", "arrived/out/"
	inRemote, inLocal   = "in/", "arrived/in/"
)

// inflight is what waits for a destination at most, per direction.
const inflight = 100

// site is a local broker with a bridge to a remote one.
type site struct {
	local  end
	far    end // the remote, as tests reach it: beside the line
	broker *program
	// bridge is a process of its own, or Mosquitto, which is its own bridge.
	bridge *program
	line   *line
	// health is where our bridge says how it is.
	health string
}

// newSite starts a broker and a bridge to a remote, through a line that can be cut.
func newSite(t *testing.T, far end, qos byte) *site {
	t.Helper()

	s := &site{far: far, line: newLine(t, far.address)}
	port, dir := freePort(t), directory(t)
	s.local = end{address: loopback(port), version: 5}
	s.broker = &program{name: "local", dir: dir, ready: func() error { return greet(s.local) }}

	if standIn {
		s.broker.argv = []string{mosquittoPath, "-c", file(t, dir, "mosquitto.conf", mosquittoConfig(dir, port, false)+ownBridge(s.line.address, far, qos))}
		s.bridge = s.broker.under(t)

		return s
	}

	s.broker.argv = ourBroker(t, dir, port, false)
	s.broker.under(t)

	remote := far
	remote.address = s.line.address
	s.bridge, s.health = newBridge(t, bridgeConfig(t, s.local, remote, qos))

	return s
}

// ownBridge are the lines for Mosquitto's bridge that say what ours is told.
func ownBridge(address string, far end, qos byte) string {
	text := fmt.Sprintf(`connection test
address %s
remote_clientid bridge-of-mosquitto
cleansession false
start_type automatic
restart_timeout 1
try_private false
notifications false
max_inflight_messages %d
topic # out %d %s %s
topic # in %d %s %s
`, address, inflight, qos, outLocal, outRemote, qos, inLocal, inRemote)
	if far.version == 5 {
		text += "bridge_protocol_version mqttv50\n"
	} else {
		text += "bridge_protocol_version mqttv311\n"
	}

	if far.user != "" {
		text += fmt.Sprintf("remote_username %s\nremote_password %s\n", far.user, far.password)
	}

	if far.secure {
		text += fmt.Sprintf("bridge_cafile %s\nbridge_insecure true\n", caFile())
	}

	return text
}

// bridgeConfig is one route each way.
func bridgeConfig(t *testing.T, local, remote end, qos byte) *contract.Bridge {
	t.Helper()

	return &contract.Bridge{
		Format: contract.BridgeFormat, Name: "tests/bridge", Revision: 1, Inflight: inflight, Logging: contract.DefaultLogging(),
		Local: bridgeEnd(t, local), Remote: bridgeEnd(t, remote),
		Routes: []contract.BridgeRoute{
			{Name: "out", Direction: contract.Out, Filter: "#", LocalPrefix: outLocal, RemotePrefix: outRemote, MaxQoS: qos, Retain: true},
			{Name: "in", Direction: contract.In, Filter: "#", LocalPrefix: inLocal, RemotePrefix: inRemote, MaxQoS: qos, Retain: true},
		},
	}
}

func bridgeEnd(t *testing.T, e end) contract.BridgeEnd {
	t.Helper()

	b := contract.BridgeEnd{
		Endpoints: []string{"mqtt://" + e.address}, Version: e.version, ClientIDPrefix: "bridge-", Username: e.user, Password: e.password,
		KeepAliveSeconds: 30, SessionExpirySeconds: 86400,
	}

	if e.secure {
		authority, err := os.ReadFile(caFile())
		if err != nil {
			t.Fatal(err)
		}

		b.Endpoints, b.CAs, b.ServerName = []string{"mqtts://" + e.address}, string(authority), "localhost"
	}

	return b
}

// newBridge starts our bridge, and says where its metrics are.
func newBridge(t *testing.T, config *contract.Bridge) (p *program, counts string) {
	t.Helper()

	text, err := contract.RenderBridge(config)
	if err != nil {
		t.Fatal(err)
	}

	dir := directory(t)
	file(t, dir, contract.BridgeFile, string(text))

	health := loopback(freePort(t))
	counts = "http://" + health + contract.MetricsPath
	p = &program{name: "bridge", dir: dir, argv: []string{
		bridgeBinary, "--config", filepath.Join(dir, contract.BridgeFile), "--health-listen", health,
	}}
	p.under(t)
	t.Cleanup(func() {
		if t.Failed() && !p.ended() {
			t.Logf("the bridge counts:\n%s", metrics(counts))
		}
	})

	return p, counts
}

// connects is how often the bridge has connected to something.
func (s *site) connects() int64 {
	text, _ := os.ReadFile(s.bridge.log())

	return int64(bytes.Count(text, []byte("msg=connected")))
}

// losses is how often the bridge has lost a connection of a route. A broker may end one by itself: Aedes does when a message
// is acknowledged that it is just about to note as sent.
func (s *site) losses(route string) (n int) {
	text, _ := os.ReadFile(s.bridge.log())

	for line := range bytes.Lines(text) {
		if bytes.Contains(line, []byte(`msg="connection lost"`)) && bytes.Contains(line, []byte("client=bridge-"+route)) {
			n++
		}
	}

	return n
}

// metrics are those of the bridge that are not zero.
func metrics(url string) string {
	answer, err := http.Get(url)
	if err != nil {
		return err.Error()
	}

	defer answer.Body.Close()

	var found strings.Builder

	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if line := lines.Text(); strings.HasPrefix(line, "mqtt_bridge") && !strings.HasSuffix(line, " 0") && !strings.Contains(line, "_bucket") {
			fmt.Fprintln(&found, line)
		}
	}

	return found.String()
}

// out and in are loads through the bridge; they are open when this returns.
func (s *site) out(t *testing.T, l load) *stream {
	t.Helper()

	return (&stream{load: l, from: s.local, to: s.far, prefix: outLocal, toPrefix: outRemote}).open(t)
}

func (s *site) in(t *testing.T, l load) *stream {
	t.Helper()

	return (&stream{load: l, from: s.far, to: s.local, prefix: inRemote, toPrefix: inLocal}).open(t)
}
