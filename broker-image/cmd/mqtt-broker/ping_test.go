// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// serving starts a broker under a configuration with three users: anna may do all, the others half of it.
func serving(t *testing.T, address string) {
	t.Helper()

	dir := t.TempDir()
	c := config(t, 1, address, "reader", "writer")
	c.Users[1].ACL = []acl.Rule{{Effect: acl.Allow, Actions: []acl.Action{acl.Subscribe}, Filter: "ping"}}
	c.Users[2].ACL = []acl.Rule{{Effect: acl.Allow, Actions: []acl.Action{acl.Publish}, Filter: "ping"}}
	write(t, dir, c)
	start(t, "dev", "--config", dir)
}

func put(t *testing.T, dir, name, text string) string {
	t.Helper()

	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}

	return path
}

func TestPing(t *testing.T) {
	address := freePort(t)
	serving(t, address)

	eventually(t, func() string { return "the broker does not come up" }, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}

		return err == nil
	})

	dir := t.TempDir()
	at := []string{"ping", "--url", "mqtt://" + address}
	as := func(user, password string) []string {
		return append(at, "--username", user, "--password-file", put(t, dir, user+"-"+password, password+"\n"))
	}

	cases := map[string]struct {
		reason string
		args   []string
		code   int
		says   string
	}{
		"a user who may":               {"the message comes back", as("anna", "anna"), 0, "the message came back in"},
		"a user with another password": {"it must not look as if all were well", as("anna", "otto"), 1, "refuses username or password"},
		"nobody":                       {"access is denied by default", at, 1, "mqtt://" + address + ": "},
		"who may only publish":         {"the reader is told which rule is missing", as("writer", "writer"), 1, `does not let this user subscribe on "ping"`},
		"who may only subscribe":       {"as above", as("reader", "reader"), 1, `does not let this user publish on "ping"`},
		"nobody listens":               {"the address is wrong", []string{"ping", "--url", "mqtt://" + freePort(t)}, 1, "nobody listens there"},
		"no broker":                    {"nothing to ask", []string{"ping"}, 2, "want one of --binding and --url"},
		"two brokers":                  {"which one?", append(at, "--binding", dir), 2, "want one of --binding and --url"},
		"a binding and a user":         {"which one?", []string{"ping", "--binding", dir, "--username", "anna"}, 2, "a binding has its own"},
		"a binding that is none":       {"the volume is not mounted", []string{"ping", "--binding", dir}, 1, "uri: no such file"},
		"a password that is not there": {"it would log in without", append(at, "--password-file", filepath.Join(dir, "none")), 1, "none: no such file"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			out := &screen{}
			if code := run(context.Background(), c.args, out, out); code != c.code {
				t.Errorf("exit code %d, want %d: %s", code, c.code, c.reason)
			}

			if !strings.Contains(out.String(), c.says) {
				t.Errorf("it should say %q: %s\n%s", c.says, c.reason, out)
			}
		})
	}
}

// A binding as the operator writes it: the broker is not there yet, then CA and password change; each is taken up.
func TestPingWaitsForABinding(t *testing.T) {
	ours, others, binding := newAuthority(t), newAuthority(t), t.TempDir()
	certificate, key := ours.issue("localhost", x509.ExtKeyUsageServerAuth)
	dir := t.TempDir()
	address := freePort(t)
	_, port, _ := net.SplitHostPort(address)

	c := config(t, 1, address)
	c.Listeners[0].Protocol, c.Listeners[0].TLS = contract.TLS, &contract.ListenerTLS{Pair: "pair", MinVersion: "1.2"}
	c.Pairs = map[string]contract.KeyPair{"pair": {Certificate: string(certificate), PrivateKey: string(key)}}
	write(t, dir, c)

	put(t, binding, "uri", "mqtts://localhost:"+port)
	put(t, binding, "username", "anna")
	put(t, binding, "password", "old")
	put(t, binding, "ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: others.cert.Raw})))

	out, errs, ended := start(t, "ping", "--binding", binding, "--wait", "1h")
	said := func() string { return out.String() + errs.String() }

	eventually(t, said, func() bool { return strings.Contains(errs.String(), "nobody listens there") })

	start(t, "dev", "--config", dir)
	eventually(t, said, func() bool { return strings.Contains(errs.String(), "signed by no authority that is trusted here") })

	put(t, binding, "ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ours.cert.Raw})))
	eventually(t, said, func() bool { return strings.Contains(errs.String(), "refuses username or password") })

	put(t, binding, "password", "anna")
	eventually(t, said, func() bool { return strings.Contains(out.String(), "the message came back in") })

	if code := ended(); code != 0 {
		t.Errorf("exit code %d: %s", code, said())
	}
}
