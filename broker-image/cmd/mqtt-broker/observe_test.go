// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

func fetch(t *testing.T, url string) (int, string) {
	t.Helper()

	response, err := http.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()

	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}

	return response.StatusCode, string(body)
}

// TestWhatAnOperatorSees asks a broker with every kind of listener at each of its endpoints.
func TestWhatAnOperatorSees(t *testing.T) {
	dir, adminDir := t.TempDir(), t.TempDir()
	ca := newAuthority(t)
	ca.write(adminDir)

	cert, key := ca.issue("broker", x509.ExtKeyUsageServerAuth)
	mine := contract.ProxyProtocol{Mode: contract.ProxyRequired, TrustedCIDRs: []string{"127.0.0.0/8"}}
	all := contract.ProxyProtocol{Mode: contract.ProxyRequired, TrustedCIDRs: []string{"0.0.0.0/0", "::/0"}}
	secure := &contract.ListenerTLS{Pair: "p", MinVersion: "1.2"}
	mqttAddress := freePort(t)

	c := config(t, 1, mqttAddress)
	c.Pairs = map[string]contract.KeyPair{"p": {Certificate: string(cert), PrivateKey: string(key)}}
	c.Listeners = append(c.Listeners,
		contract.Listener{Name: "tls", Protocol: contract.TLS, Address: "127.0.0.1:0", TLS: secure},
		contract.Listener{Name: "ws", Protocol: contract.WS, Address: "127.0.0.1:0"},
		contract.Listener{Name: "ws-path", Protocol: contract.WS, Address: ":0", WebSocket: &contract.WebSocket{
			Path: "/a/b", AllowedOrigins: []string{"https://example.com"},
		}},
		contract.Listener{Name: "wss", Protocol: contract.WSS, Address: "127.0.0.1:0", TLS: secure},
		contract.Listener{Name: "unix", Protocol: contract.Unix, Address: filepath.Join(t.TempDir(), "s")},
		contract.Listener{Name: "proxy", Protocol: contract.TCP, Address: "127.0.0.1:0", ProxyProtocol: &mine},
		contract.Listener{Name: "proxy-all", Protocol: contract.TCP, Address: "127.0.0.1:0", ProxyProtocol: &all},
		contract.Listener{Name: "proxy-wss", Protocol: contract.WSS, Address: "127.0.0.1:0", TLS: secure, ProxyProtocol: &mine},
		contract.Listener{Name: "proxy-unix", Protocol: contract.Unix, Address: filepath.Join(t.TempDir(), "p"), ProxyProtocol: &contract.ProxyProtocol{
			Mode: contract.ProxyRequired,
		}},
		contract.Listener{Name: "full", Protocol: contract.TCP, Address: freePort(t), MaxConnections: 1, Anonymous: &contract.Anonymous{
			ACL: []acl.Rule{{Effect: acl.Allow, Actions: []acl.Action{acl.Publish}, Filter: "#"}},
		}},
	)
	write(t, dir, c)

	adminAddress, healthAddress, pprofAddress := freePort(t), freePort(t), freePort(t)
	_, errs, _ := start(t, "serve", "--config-dir", dir, "--data", t.TempDir(), "--admin-tls", adminDir,
		"--admin-listen", adminAddress, "--health-listen", healthAddress, "--pprof-listen", pprofAddress)

	eventually(t, errs.String, func() bool { code, _ := fetch(t, "http://"+healthAddress+"/readyz"); return code == http.StatusOK })

	// Who has the only place of a listener does not make the broker unready.
	got, gone := make(chan string, 10), make(chan byte, 1)
	client5(t, c.Listeners[len(c.Listeners)-1].Address, "only", "", got, gone)

	var body string

	eventually(t, func() string { return body }, func() bool {
		var code int
		code, body = fetch(t, "http://"+healthAddress+"/readyz")

		return code == http.StatusOK && strings.Contains(body, "listener full: full")
	})

	for _, l := range c.Listeners {
		if l.Name != "full" && !strings.Contains(body, "listener "+l.Name+": ok\n") {
			t.Errorf("listener %s should be well:\n%s", l.Name, body)
		}
	}

	if !strings.Contains(body, "storage: ok\n") {
		t.Errorf("the disk should be well:\n%s", body)
	}

	_, metrics := fetch(t, "http://"+healthAddress+contract.MetricsPath)
	for _, line := range []string{
		"mqtt_broker_config_revision 1\n", "mqtt_broker_storage_fault 0\n", "mqtt_broker_config_fault 0\n",
		`mqtt_broker_listener_up{listener="proxy-wss"} 1`, `mqtt_broker_connections{listener="full",protocol="5"} 1`, "go_goroutines",
	} {
		if !strings.Contains(metrics, line) {
			t.Errorf("/metrics should hold %q", line)
		}
	}

	if code, body := fetch(t, "http://"+pprofAddress+"/debug/pprof/goroutine?debug=1"); code != http.StatusOK || !strings.Contains(body, "goroutine profile") {
		t.Errorf("pprof: %d %.200s", code, body)
	}

	for _, path := range []string{"/debug/pprof/", "/v1/trace"} {
		if code, _ := fetch(t, "http://"+healthAddress+path); code != http.StatusNotFound {
			t.Errorf("%s on the health port: %d; it must not be there", path, code)
		}
	}

	traceAClient(t, admin.NewClient(adminAddress, ca.trust()), mqttAddress)
	sendAClientAway(t, admin.NewClient(adminAddress, ca.trust()), mqttAddress)

	worse := config(t, 2, mqttAddress)
	worse.Users[0].Verifiers = []string{"$sha256$"}
	write(t, dir, worse)
	eventually(t, errs.String, func() bool {
		_, metrics := fetch(t, "http://"+healthAddress+contract.MetricsPath)

		return strings.Contains(metrics, "mqtt_broker_config_fault 1\n") && strings.Contains(metrics, "mqtt_broker_config_revision 1\n")
	})
}

func traceAClient(t *testing.T, operator *admin.Client, address string) {
	t.Helper()

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	enough := errors.New("enough")
	seen := []string{}

	err := operator.Trace(ctx, admin.TraceFilter{Client: "watched"}, 0, func(e admin.TraceEvent) error {
		seen = append(seen, e.Event)

		switch e.Event {
		case "begun":
			client5(t, address, "watched", "anna", make(chan string, 1), make(chan byte, 1))
		case "connected":
			if e.Client != "watched" || e.User != "anna" || e.Version != 5 || e.Remote == "" || e.Time.IsZero() {
				t.Errorf("%+v", e)
			}

			return enough
		}

		return nil
	})
	if !errors.Is(err, enough) || strings.Join(seen, " ") != "begun connected" {
		t.Errorf("saw %v, then %v", seen, err)
	}

	if err := operator.Trace(ctx, admin.TraceFilter{Topic: "a/#/b"}, 0, nil); !errors.Is(err, admin.ErrTraceFilter) {
		t.Errorf("%v, want ErrTraceFilter", err)
	}
}

// sendAClientAway finds a client in the list, and disconnects it.
func sendAClientAway(t *testing.T, operator *admin.Client, address string) {
	t.Helper()

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	got, gone := make(chan string, 10), make(chan byte, 1)
	client5(t, address, "kicked", "anna", got, gone)

	page, err := operator.Clients(ctx, admin.ClientFilter{Prefix: "kick"})
	if err != nil || len(page.Clients) != 1 || page.Clients[0].Client != "kicked" || page.Clients[0].User != "anna" || page.Clients[0].Version != 5 || page.Clients[0].Since.IsZero() {
		t.Fatalf("%+v, %v", page, err)
	}

	if had, err := operator.Disconnect(ctx, "kicked"); !had || err != nil {
		t.Fatalf("%t, %v", had, err)
	}

	if code := <-gone; code != 0x98 {
		t.Errorf("told %#x, want 0x98", code)
	}

	if had, err := operator.Disconnect(ctx, "kicked too"); had || err != nil {
		t.Errorf("nobody there: %t, %v", had, err)
	}
}
