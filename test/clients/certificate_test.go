// SPDX-License-Identifier: Apache-2.0

package clients

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/listen/listentest"
)

// mutual is a broker that asks for client certificates, with its configuration in files as the kubelet mounts them.
type mutual struct {
	*broker

	t      *testing.T
	ca     *listentest.Authority
	config contract.Config
	dir    string
}

// newMutual has the users anna, who logs in by certificate, and otto, who has the password "otto".
func newMutual(t *testing.T, clientAuth string) *mutual {
	t.Helper()

	read := func(name string) string {
		content, err := os.ReadFile(filepath.Join(room, name))
		if err != nil {
			t.Fatal(err)
		}

		return string(content)
	}

	verifier, err := auth.NewSHA256([]byte("otto"), []byte("somesalt"))
	if err != nil {
		t.Fatal(err)
	}

	everything := []acl.Rule{{Effect: acl.Allow, Actions: []acl.Action{acl.Publish, acl.Subscribe}, Filter: "#"}}
	address := free(t)
	m := &mutual{t: t, ca: listentest.NewAuthority(t, "clients"), dir: t.TempDir()}
	m.config = contract.Config{
		Broker: contract.Broker{
			Format: contract.Format, Name: "test/clients", Limits: contract.DefaultLimits(), Logging: contract.DefaultLogging(),
			Listeners: []contract.Listener{{
				Name: "mtls", Protocol: contract.TLS, Address: address,
				TLS: &contract.ListenerTLS{Pair: "server", MinVersion: "1.3", ClientAuth: clientAuth, Trust: "clients"},
			}},
		},
		Pairs: map[string]contract.KeyPair{"server": {Certificate: read("tls.crt"), PrivateKey: read("tls.key")}},
		Users: []contract.User{
			{Username: "anna", Certificate: &contract.CertificateLogin{}, ACL: everything},
			{Username: "otto", Verifiers: []string{verifier}, ACL: everything},
		},
	}
	m.trust("")

	var log safeBuffer

	command := exec.CommandContext(context.Background(), binary, "serve", "--config-dir", m.dir, "--data", "", "--admin-listen", "", "--health-listen", "")
	command.Stderr = &log

	if err := command.Start(); err != nil {
		t.Fatal(err)
	}

	gone := make(chan struct{})

	go func() {
		defer close(gone)

		_ = command.Wait()
	}()

	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)

		select {
		case <-gone:
		case <-time.After(patience):
			_ = command.Process.Kill()
			<-gone
		}

		if t.Failed() {
			t.Log(log.String())
		}
	})

	m.broker = &broker{tcp: address}

	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()

			return m
		}

		if time.Now().After(deadline) {
			t.Fatalf("the broker does not listen:\n%s", log.String())
		}
	}
}

// free is an address that nobody listened on a moment ago.
func free(t *testing.T) string {
	t.Helper()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	defer l.Close()

	return l.Addr().String()
}

// trust has the broker believe the authority, but for what the list revokes.
func (m *mutual) trust(list string) {
	m.t.Helper()

	m.config.Trust = map[string]contract.Trust{"clients": {Authorities: m.ca.PEM(), RevocationLists: list}}
	m.write()
}

// write changes the files. The broker looks at them every second, and takes them when they fit together.
func (m *mutual) write() {
	m.t.Helper()

	m.config.Revision++

	bundle, err := contract.Render(&m.config, 1)
	if err != nil {
		m.t.Fatal(err)
	}

	for name, content := range bundle {
		if err := os.WriteFile(filepath.Join(m.dir, name), content, 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
}

// files writes a certificate and its key where clients read them.
func files(t *testing.T, c *tls.Certificate) (cert, key string) {
	t.Helper()

	var chain strings.Builder
	for _, der := range c.Certificate {
		_ = pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}

	private, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	cert, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")

	for name, content := range map[string][]byte{
		cert: []byte(chain.String()), key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	return cert, key
}

func TestMosquittoCertificate(t *testing.T) {
	need(t, "mosquitto_pub", "mosquitto-clients")

	b := newMutual(t, contract.ClientAuthRequired)
	cert, key := files(t, b.ca.Client("anna"))
	between, betweenKey := files(t, b.ca.Under("between").Client("anna"))
	stranger, strangerKey := files(t, listentest.NewAuthority(t, "another").Client("anna"))
	nobody, nobodyKey := files(t, b.ca.Client("nobody"))
	where := func(version string) []string {
		return []string{"-h", b.host(), "-p", b.port(), "-V", version, "--cafile", ca()}
	}

	for _, version := range []string{"mqttv31", "mqttv311", "mqttv5"} {
		t.Run(version, func(t *testing.T) {
			topic := own()
			m := mosquitto{t, version, append(where(version), "--cert", cert, "--key", key)}
			p := m.sub("-t", topic, "-q", "2")
			m.pub("-t", topic, "-q", "2", "-m", "secret")
			m.expect(p, topic+" 2 0 secret")

			m.pub("-t", topic, "-q", "2", "-m", "with a name", "-u", "anna")
			m.expect(p, topic+" 2 0 with a name")

			further := mosquitto{t, version, append(where(version), "--cert", between, "--key", betweenKey)}
			further.pub("-t", topic, "-q", "2", "-m", "by an authority between")
			m.expect(p, topic+" 2 0 by an authority between")

			for reason, more := range map[string][]string{
				"no certificate":                     {},
				"no certificate, and a password":     {"-u", "otto", "-P", "otto"},
				"a certificate of another authority": {"--cert", stranger, "--key", strangerKey},
				"a certificate of nobody":            {"--cert", nobody, "--key", nobodyKey},
				"another's name":                     {"--cert", cert, "--key", key, "-u", "otto"},
				"another's password":                 {"--cert", cert, "--key", key, "-u", "otto", "-P", "otto"},
				"a password that the user has not":   {"--cert", cert, "--key", key, "-u", "anna", "-P", "anna"},
			} {
				args := append(append(where(version), more...), "-t", topic, "-q", "1", "-m", "x")
				if out, err := try(t, "", "mosquitto_pub", args...); err == nil {
					t.Errorf("%s: it sent its message: %s", reason, out)
				}
			}
		})
	}
}

func TestMosquittoCertificateOrPassword(t *testing.T) {
	need(t, "mosquitto_pub", "mosquitto-clients")

	b := newMutual(t, contract.ClientAuthOptional)
	cert, key := files(t, b.ca.Client("anna"))
	topic := own()
	where := []string{"-h", b.host(), "-p", b.port(), "-V", "mqttv5", "--cafile", ca()}
	byPassword := mosquitto{t, "mqttv5", append(where, "-u", "otto", "-P", "otto")}
	byCertificate := mosquitto{t, "mqttv5", append(slices.Clip(where), "--cert", cert, "--key", key)}

	p := byPassword.sub("-t", topic)
	byCertificate.pub("-t", topic, "-m", "by certificate")
	byPassword.expect(p, topic+" 0 0 by certificate")
	byPassword.pub("-t", topic, "-m", "by password")
	byPassword.expect(p, topic+" 0 0 by password")
}

// TestPythonCertificate: paho with certfile and keyfile; then its certificate is revoked under its connection.
func TestPythonCertificate(t *testing.T) {
	needPython(t)

	// What paho 1.6 says when the connection ends: the reason of DISCONNECT, or "the connection was lost".
	for version, ended := range map[string]int{"5": 0x87, "3.1.1": 7} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()

			b := newMutual(t, contract.ClientAuthRequired)
			revoked, other := b.ca.Client("anna"), b.ca.Client("anna")
			begin := func(c *tls.Certificate) *process {
				cert, key := "", ""
				if c != nil {
					cert, key = files(t, c)
				}

				return beside(t, python, filepath.Join("python", "certificate.py"), version, b.host(), b.port(), own(), ca(), cert, key)
			}

			first, second := begin(revoked), begin(other)
			first.line("works")
			second.line("works")

			begin(nil).line("no TLS")
			begin(b.ca.Client("nobody")).line("refused " + map[string]string{"5": strconv.Itoa(0x87), "3.1.1": "5"}[version])

			b.trust(b.ca.List(time.Now().Add(time.Hour), revoked.Leaf))

			if got := first.line("ended "); got != strconv.Itoa(ended) {
				t.Errorf("ended with %s, want %d", got, ended)
			}

			begin(revoked).line("no TLS")
			begin(other).line("works")

			b.config.Users = b.config.Users[1:]
			b.write()
			second.line("ended ")
		})
	}
}
