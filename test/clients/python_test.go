// SPDX-License-Identifier: Apache-2.0

package clients

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
)

// Debian's Python has Debian's modules, whatever else is called python3 here.
const python = "/usr/bin/python3"

// story is called with where the broker is.
type story struct {
	name     string
	versions []string
}

var (
	all   = []string{"3.1", "3.1.1", "5"}
	only5 = []string{"5"}
)

// pythonStories are told in python/story.py, which says what happens in each.
var pythonStories = []story{
	{"exchange", all},
	{"many", all},
	{"large", all},
	{"retained", all},
	{"will", all},
	{"offline", all},
	{"takeover", all},
	{"helpers", all},
	{"forwarded", only5},
	{"alias", only5},
	{"expiry", only5},
	{"assigned", only5},
	{"sharing", only5},
	{"options", only5},
	{"codes", only5},
}

func TestPython(t *testing.T) {
	needPython(t)

	for _, s := range pythonStories {
		for _, version := range s.versions {
			t.Run(fmt.Sprintf("%s/%s", s.name, version), func(t *testing.T) {
				t.Parallel()
				pythonTells(t, s.name, version, plain(t).tcp)
			})
		}
	}
}

// TestPythonOverWebSocketAndTLS tells a few stories again by the other ways to a broker.
func TestPythonOverWebSocketAndTLS(t *testing.T) {
	needPython(t)

	for _, name := range []string{"exchange", "many", "large", "helpers"} {
		for _, version := range all {
			t.Run(fmt.Sprintf("ws/%s/%s", name, version), func(t *testing.T) {
				t.Parallel()
				pythonTells(t, name, version, webSocket(t).ws, "", "websockets")
			})
			t.Run(fmt.Sprintf("tls/%s/%s", name, version), func(t *testing.T) {
				t.Parallel()
				pythonTells(t, name, version, secure(t).tcp, ca())
			})
			t.Run(fmt.Sprintf("wss/%s/%s", name, version), func(t *testing.T) {
				t.Parallel()
				pythonTells(t, name, version, secure(t).ws, ca(), "websockets")
			})
		}
	}
}

func needPython(t *testing.T) {
	t.Helper()
	need(t, python, "python3")

	if err := exec.CommandContext(t.Context(), python, "-c", "import paho.mqtt.client").Run(); err != nil {
		t.Fatal("Python has no paho.mqtt: please install what Debian calls python3-paho-mqtt")
	}
}

func pythonTells(t *testing.T, name, version, address string, more ...string) {
	t.Helper()

	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}

	call(t, "", python, append([]string{filepath.Join("python", "story.py"), name, version, host, port, own()}, more...)...)
}
