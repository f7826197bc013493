// SPDX-License-Identifier: Apache-2.0

package contract_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

func bridgeOf(routes ...contract.BridgeRoute) *contract.Bridge {
	end := contract.BridgeEnd{
		Endpoints: []string{"mqtts://broker.example:8883"}, Version: 5, ClientIDPrefix: "ns.b-", Username: "u", Password: "p",
		KeepAliveSeconds: 60, SessionExpirySeconds: 3600,
	}

	return &contract.Bridge{
		Format: contract.BridgeFormat, Name: "ns/b", Revision: 1, Local: end, Remote: end, Routes: routes, Inflight: 100,
		Logging: contract.DefaultLogging(),
	}
}

func routeOf(name string, d contract.Direction, local, remote, filter string) contract.BridgeRoute {
	return contract.BridgeRoute{Name: name, Direction: d, Filter: filter, LocalPrefix: local, RemotePrefix: remote, MaxQoS: 1}
}

func TestABridgesConfigurationComesBackAsItWas(t *testing.T) {
	b := bridgeOf(routeOf("up", contract.Out, "up/", "site/", "#"))

	text, err := contract.RenderBridge(b)
	if err != nil {
		t.Fatal(err)
	}

	again, err := contract.ParseBridge(text)
	if err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff(b, again); diff != "" {
		t.Error(diff)
	}
}

func TestABridgesFaultsAreFound(t *testing.T) {
	for name, c := range map[string]struct {
		mutate func(*contract.Bridge)
		want   string
	}{
		"unknown format":       {func(b *contract.Bridge) { b.Format = "x" }, "format: is"},
		"no name":              {func(b *contract.Bridge) { b.Name = "" }, "name:"},
		"no revision":          {func(b *contract.Bridge) { b.Revision = 0 }, "revision: must be"},
		"no endpoint":          {func(b *contract.Bridge) { b.Remote.Endpoints = nil }, "remote.endpoints: has 0"},
		"unknown scheme":       {func(b *contract.Bridge) { b.Remote.Endpoints[0] = "http://x" }, "remote.endpoints[0]"},
		"a path over TCP":      {func(b *contract.Bridge) { b.Remote.Endpoints[0] = "mqtt://x/mqtt" }, "has a path"},
		"no port 0":            {func(b *contract.Bridge) { b.Remote.Endpoints[0] = "mqtt://x:0" }, "is no port"},
		"a password in it":     {func(b *contract.Bridge) { b.Remote.Endpoints[0] = "mqtt://u:hush@x" }, "holds a username"},
		"a broken one with it": {func(b *contract.Bridge) { b.Remote.Endpoints[0] = "mqtt://u:hush@x:%" }, "is no address"},
		"version 3":            {func(b *contract.Bridge) { b.Local.Version = 3 }, "local.version: 3 is neither"},
		"prefix with a slash":  {func(b *contract.Bridge) { b.Local.ClientIDPrefix = "a/b" }, "local.clientIDPrefix"},
		"no prefix":            {func(b *contract.Bridge) { b.Local.ClientIDPrefix = "" }, "local.clientIDPrefix"},
		"password alone":       {func(b *contract.Bridge) { b.Remote.Version, b.Remote.Username = 4, "" }, "remote.username: is missing"},
		"CAs that are none":    {func(b *contract.Bridge) { b.Remote.CAs = "hello" }, "remote.cas"},
		"half a pair":          {func(b *contract.Bridge) { b.Remote.Pair.Certificate = "x" }, "remote.pair"},
		"short keep-alive":     {func(b *contract.Bridge) { b.Remote.KeepAliveSeconds = 1 }, "remote.keepAliveSeconds: 1 is not within 5"},
		"no window":            {func(b *contract.Bridge) { b.Inflight = 0 }, "inflight: 0 is not within 1"},
		"a name twice":         {func(b *contract.Bridge) { b.Routes = append(b.Routes, b.Routes[0]) }, "routes[1].name: \"up\" is taken"},
		"a bad name":           {func(b *contract.Bridge) { b.Routes[0].Name = "Up" }, "routes[0].name"},
		"no direction":         {func(b *contract.Bridge) { b.Routes[0].Direction = "" }, "routes[0].direction"},
		"QoS 3":                {func(b *contract.Bridge) { b.Routes[0].MaxQoS = 3 }, "routes[0].maxQoS"},
		"a bad filter":         {func(b *contract.Bridge) { b.Routes[0].Filter = "a#" }, "routes[0].filter"},
		"a share in it":        {func(b *contract.Bridge) { b.Routes[0].Filter = "$share/g/a" }, "write it in share"},
		"a bad share":          {func(b *contract.Bridge) { b.Routes[0].Share = "a/b" }, "routes[0].share"},
		"a prefix that joins":  {func(b *contract.Bridge) { b.Routes[0].LocalPrefix = "up" }, "end the prefix with /"},
		"a wildcard in prefix": {func(b *contract.Bridge) { b.Routes[0].LocalPrefix = "+/" }, "routes[0].localPrefix"},
		"a token":              {func(b *contract.Bridge) { b.Routes[0].Filter = "%u/x" }, "has a meaning in access rules"},
		"a log level":          {func(b *contract.Bridge) { b.Logging.Level = "loud" }, "logging.level"},
	} {
		b := bridgeOf(routeOf("up", contract.Out, "up/", "site/", "#"))
		b.Remote.Endpoints = []string{"mqtt://x"}
		c.mutate(b)

		err := b.Validate()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}

		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: a password stands in %q", name, err)
		}
	}

	for text, want := range map[string]string{
		`{"format": 1}`:           "bridge.json:1: format",
		"{\n \"fromat\": \"\"}":   "bridge.json:2: fromat: unknown field",
		`{"name":"a","name":"b"}`: "stands here twice",
		`{} x`:                    "bridge.json",
	} {
		if _, err := contract.ParseBridge([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestLoopsOfABridge(t *testing.T) {
	in, out, both := contract.In, contract.Out, contract.Both

	for name, c := range map[string]struct {
		routes []contract.BridgeRoute
		loop   bool
	}{
		"one route in both directions shares a connection": {[]contract.BridgeRoute{routeOf("a", both, "", "", "#")}, false},
		"in takes back what out brought":                   {[]contract.BridgeRoute{routeOf("a", out, "", "", "x/#"), routeOf("b", in, "", "", "x/y")}, true},
		"other topics":                                     {[]contract.BridgeRoute{routeOf("a", out, "", "", "x/#"), routeOf("b", in, "", "", "y/#")}, false},
		"prefixes that keep them apart":                    {[]contract.BridgeRoute{routeOf("a", out, "", "up/", "#"), routeOf("b", in, "down/", "", "cmd/#")}, false},
		"what comes down goes up":                          {[]contract.BridgeRoute{routeOf("a", out, "", "up/", "#"), routeOf("b", in, "down/", "", "#")}, true},
		"once round and out of the circle": {
			[]contract.BridgeRoute{routeOf("a", out, "", "", "a/#"), routeOf("b", in, "a/c/", "a/b/", "#")}, false,
		},
		"four routes in a circle": {[]contract.BridgeRoute{
			routeOf("a", out, "x/", "y/", "#"), routeOf("b", in, "z/", "y/", "#"), routeOf("c", out, "z/", "w/", "#"), routeOf("d", in, "x/", "w/", "#"),
		}, true},
		"a $ topic is not picked by #": {[]contract.BridgeRoute{routeOf("a", out, "", "", "#"), routeOf("b", in, "", "$x/", "#")}, false},
		"+ and literals":               {[]contract.BridgeRoute{routeOf("a", out, "", "", "+/b"), routeOf("b", in, "", "", "a/+")}, true},
		"+ and literals apart":         {[]contract.BridgeRoute{routeOf("a", out, "", "", "+/b"), routeOf("b", in, "", "", "a/c")}, false},
	} {
		first, second, found := bridgeOf(c.routes...).Loop()
		if found != c.loop {
			t.Errorf("%s: %t (%s, %s), want %t", name, found, first, second, c.loop)
		}

		err := bridgeOf(c.routes...).Validate()
		if c.loop && (err == nil || !strings.Contains(err.Error(), first) || !strings.Contains(err.Error(), second)) {
			t.Errorf("%s: %v does not name %s and %s", name, err, first, second)
		}
	}
}

func TestTheRevisionOfABridgeGrowsWithItsContent(t *testing.T) {
	b := bridgeOf(routeOf("up", contract.Out, "up/", "site/", "#"))
	next := func(prior []byte, floor, want int64) []byte {
		t.Helper()

		text, revision, err := contract.NextBridge(b, prior, floor)
		if err != nil || revision != want {
			t.Fatalf("revision %d (%v), want %d", revision, err, want)
		}

		if written, err := contract.BridgeRevision(text); err != nil || written != want {
			t.Fatalf("revision %d is written (%v), want %d", written, err, want)
		}

		return text
	}

	first := next(nil, 0, 1)
	if same := next(first, 0, 1); !bytes.Equal(same, first) {
		t.Error("equal content is written anew")
	}

	b.Inflight = 7
	second := next(first, 0, 2)
	next(second, 5, 6) // somebody runs 5
	next([]byte("nonsense"), 3, 4)
	next(second, 2, 2)
}

func TestTheRightsOfABridge(t *testing.T) {
	b := bridgeOf(
		routeOf("up", contract.Out, "up/", "site/", "#"),
		contract.BridgeRoute{Name: "cmd", Direction: contract.Both, Filter: "cmd/#", MaxQoS: 2},
		contract.BridgeRoute{Name: "state", Direction: contract.In, Filter: "s/+", LocalPrefix: "down/", MaxQoS: 0, Retain: true},
		contract.BridgeRoute{Name: "more", Direction: contract.In, Filter: "#", LocalPrefix: "down/s/", RemotePrefix: "other/", MaxQoS: 1})

	policy, err := acl.Compile(contract.BridgeRules(b))
	if err != nil {
		t.Fatal(err)
	}

	me := acl.Subject{Username: "b", ClientID: "ns.b-up"}

	for topic, c := range map[string]struct{ qos, retain, want bool }{
		"down/s/1":                {true, true, true}, // what either of the two routes needs
		"cmd/x":                   {true, false, true},
		"up/x":                    {false, false, false},
		"other":                   {false, false, false},
		"$mqtt-bridge/lock/ns.b-": {false, false, true},
		"$mqtt-bridge/lock/other": {false, false, false},
	} {
		qos := byte(0)
		if c.qos {
			qos = 1
		}

		if got := policy.Publish(me, topic, qos, c.retain); got.Allowed != c.want {
			t.Errorf("publishing to %s: %t, want %t", topic, got.Allowed, c.want)
		}
	}

	for filter, want := range map[string]bool{"up/#": true, "cmd/#": true, "down/#": false, "#": false, b.LockTopic(): true} {
		if got := policy.Subscribe(me, filter, 0); got.Allowed != want {
			t.Errorf("subscribing to %s: %t, want %t", filter, got.Allowed, want)
		}
	}
}
