// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// authority signs certificates for tests.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()

	a := &authority{t: t}
	a.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}

	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}

	a.cert, _ = x509.ParseCertificate(der)

	return a
}

func (a *authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

func (a *authority) pair(name string, until time.Time) contract.KeyPair {
	a.t.Helper()

	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}

	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}

	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}

	keyDER, _ := x509.MarshalPKCS8PrivateKey(key)

	return contract.KeyPair{
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		PrivateKey:  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})),
	}
}

func TestEveryWayToABroker(t *testing.T) {
	ca := newAuthority(t)
	good := time.Now().Add(time.Hour)
	h := openHouse(t, func(c *contract.Config) {
		c.Pairs = map[string]contract.KeyPair{"server": ca.pair("127.0.0.1", good), "server of IPv6": ca.pair("::1", good)}
		c.Trust = map[string]contract.Trust{"clients": {Authorities: ca.pem()}}
		tls := &contract.ListenerTLS{Pair: "server", MinVersion: "1.2"}
		everybody := c.Listeners[0].Anonymous
		c.Listeners = append(c.Listeners,
			contract.Listener{Name: "tls", Protocol: contract.TLS, Address: "127.0.0.1:0", TLS: tls, Anonymous: everybody},
			contract.Listener{Name: "tcp6", Protocol: contract.TCP, Address: "[::1]:0", Anonymous: everybody},
			contract.Listener{Name: "tls6", Protocol: contract.TLS, Address: "[::1]:0", TLS: &contract.ListenerTLS{Pair: "server of IPv6", MinVersion: "1.2"}, Anonymous: everybody},
			contract.Listener{Name: "wss6", Protocol: contract.WSS, Address: "[::1]:0", TLS: &contract.ListenerTLS{Pair: "server of IPv6", MinVersion: "1.2"}, Anonymous: everybody},
			contract.Listener{Name: "ws", Protocol: contract.WS, Address: "127.0.0.1:0", Anonymous: everybody},
			contract.Listener{Name: "wss", Protocol: contract.WSS, Address: "127.0.0.1:0", TLS: tls, Anonymous: everybody},
			contract.Listener{
				Name: "mtls", Protocol: contract.TLS, Address: "127.0.0.1:0", Anonymous: everybody,
				TLS: &contract.ListenerTLS{Pair: "server", MinVersion: "1.2", ClientAuth: contract.ClientAuthRequired, Trust: "clients"},
			})
		c.Users = []contract.User{{Username: "device", Certificate: &contract.CertificateLogin{}, ACL: c.Listeners[0].Anonymous.ACL}}
	})

	schemes := map[string]string{"tcp": "mqtt", "tls": "mqtts", "ws": "ws", "wss": "wss", "mtls": "mqtts", "tcp6": "mqtt", "tls6": "mqtts", "wss6": "wss"}

	for _, l := range h.engine.Status().Listeners {
		for _, version := range []int{5, 4} {
			t.Run(l.Name, func(t *testing.T) {
				cfg := config(h.url(), schemes[l.Name]+"://"+l.Address, contract.BridgeRoute{Name: "x", Direction: contract.Out, Filter: "#", LocalPrefix: "a/", RemotePrefix: "b/", MaxQoS: 1})
				cfg.Remote.Version, cfg.Remote.CAs = version, ca.pem()

				if l.Name == "mtls" {
					cfg.Remote.Pair = ca.pair("device", good)
				}

				// The first endpoint is nowhere: the second is tried without a pause.
				cfg.Remote.Endpoints = append([]string{"mqtt://127.0.0.1:1"}, cfg.Remote.Endpoints...)
				b := startBridge(t, cfg)
				connected(t, b)

				c := newTap(t, h.url(), 5, "c", true)
				c.subscribe("b/#", 1)
				c.say("a/1", strings.Repeat("x", 100_000), 1)

				if m := c.waitFor(1)[0]; len(m.payload) != 100_000 {
					t.Errorf("%d bytes came", len(m.payload))
				}

				if got := b.Status().Remote.Endpoint; got != cfg.Remote.Endpoints[1] {
					t.Errorf("endpoint %s answered", got)
				}
			})
		}
	}
}

// answering is a peer that says fixed things and reads what comes.
func answering(t *testing.T, answer string, thenClose bool) string {
	t.Helper()

	return serving(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, answer)

		if !thenClose {
			_, _ = io.Copy(io.Discard, c)
		}
	})
}

// resetting closes connections with what came unread, so that the peer gets a reset.
func resetting(t *testing.T) string {
	t.Helper()

	return serving(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) })
}

// serving has each connection looked after, and closed then.
func serving(t testing.TB, look func(net.Conn)) string {
	t.Helper()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = l.Close() })

	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}

			go func() {
				defer c.Close()

				look(c)
			}()
		}
	}()

	return "mqtt://" + l.Addr().String()
}

func TestEachTroubleHasItsReason(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	good := time.Now().Add(time.Hour)

	secure := func(pair contract.KeyPair, clients *authority) string {
		cert, err := tls.X509KeyPair([]byte(pair.Certificate), []byte(pair.PrivateKey))
		if err != nil {
			t.Fatal(err)
		}

		settings := &tls.Config{Certificates: []tls.Certificate{cert}}
		if clients != nil {
			settings.ClientAuth, settings.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
			settings.ClientCAs.AddCert(clients.cert)
		}

		l, err := tls.Listen("tcp", "127.0.0.1:0", settings)
		if err != nil {
			t.Fatal(err)
		}

		t.Cleanup(func() { _ = l.Close() })

		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}

				go func() {
					_, _ = io.Copy(io.Discard, c)
					_ = c.Close()
				}()
			}
		}()

		return "mqtts://" + l.Addr().String()
	}

	verifier, _ := auth.NewSHA256([]byte("right"), []byte("somesalt"))
	guarded := openHouse(t, func(c *contract.Config) {
		c.Listeners[0].Anonymous = nil
		c.Users = []contract.User{{Username: "bridge", Verifiers: []string{verifier}}}
	})

	plain := "mqtt://"

	for name, c := range map[string]struct {
		reason   string
		endpoint string
		change   func(*contract.BridgeEnd)
		versions []int
	}{
		"no such host":                     {reason: ReasonHostNotFound, endpoint: "mqtt://nowhere.invalid:1883"},
		"nobody listens":                   {reason: ReasonRefused, endpoint: "mqtt://127.0.0.1:1"},
		"garbage":                          {reason: ReasonProtocolError, endpoint: answering(t, "HTTP/1.1 400 Bad Request\r\n\r\n", false)},
		"random bytes":                     {reason: ReasonProtocolError, endpoint: answering(t, "\x20\xff\xff\xff\xff\xff", false)},
		"a huge first packet":              {reason: ReasonProtocolError, endpoint: answering(t, "\x20\xff\xff\xff\x7f", false)},
		"no answer":                        {reason: ReasonNoAnswer, endpoint: answering(t, "", false)},
		"half an answer":                   {reason: ReasonNoAnswer, endpoint: answering(t, "\x20\x08\x00", false)},
		"closed at once":                   {reason: ReasonClosed, endpoint: answering(t, "", true)},
		"reset at once":                    {reason: ReasonClosed, endpoint: resetting(t)},
		"3.1.1 only":                       {reason: ReasonVersionRejected, endpoint: answering(t, "\x20\x02\x00\x01", true), versions: []int{5}},
		"refused client identifier":        {reason: ReasonClientIDRejected, endpoint: answering(t, "\x20\x03\x00\x85\x00", true), versions: []int{5}},
		"refused client identifier, 3.1.1": {reason: ReasonClientIDRejected, endpoint: answering(t, "\x20\x02\x00\x02", true), versions: []int{4}},
		"unavailable":                      {reason: ReasonUnavailable, endpoint: answering(t, "\x20\x03\x00\x88\x00", true), versions: []int{5}},
		"unavailable, 3.1.1":               {reason: ReasonUnavailable, endpoint: answering(t, "\x20\x02\x00\x03", true), versions: []int{4}},
		"not authorized, 3.1.1":            {reason: ReasonNotAuthorized, endpoint: answering(t, "\x20\x02\x00\x05", true), versions: []int{4}},
		"moved":                            {reason: ReasonMoved, endpoint: answering(t, "\x20\x03\x00\x9d\x00", true), versions: []int{5}},
		"wrong password": {reason: ReasonNotAuthorized, endpoint: guarded.url(), change: func(e *contract.BridgeEnd) {
			e.Username, e.Password = "bridge", "wrong-and-secret"
		}},
		"no WebSocket": {reason: ReasonWebSocketRefused, endpoint: "ws" + strings.TrimPrefix(answering(t, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", true), "mqtt")},
		"unknown authority": {reason: ReasonUntrusted, endpoint: secure(ca.pair("127.0.0.1", good), nil), change: func(e *contract.BridgeEnd) {
			e.CAs = other.pem()
		}},
		"wrong name": {reason: ReasonNameMismatch, endpoint: secure(ca.pair("broker.example", good), nil), change: func(e *contract.BridgeEnd) { e.CAs = ca.pem() }},
		"expired":    {reason: ReasonExpired, endpoint: secure(ca.pair("127.0.0.1", time.Now().Add(-time.Hour)), nil), change: func(e *contract.BridgeEnd) { e.CAs = ca.pem() }},
		"no client certificate": {reason: ReasonOursRefused, endpoint: secure(ca.pair("127.0.0.1", good), ca), change: func(e *contract.BridgeEnd) {
			e.CAs = ca.pem()
		}},
		"no TLS there": {reason: ReasonProtocolError, endpoint: "mqtts" + strings.TrimPrefix(answering(t, "HTTP/1.1 400 Bad Request\r\n\r\n", true), plain[:4])},
	} {
		if c.versions == nil {
			c.versions = []int{5, 4}
		}

		for _, version := range c.versions {
			t.Run(name, func(t *testing.T) {
				t.Parallel()

				e := &contract.BridgeEnd{Endpoints: []string{c.endpoint}, Version: version, ClientIDPrefix: "b-", KeepAliveSeconds: 10}
				if c.change != nil {
					c.change(e)
				}

				b := New(quick(t))
				defer b.Close()

				end := &end{name: "remote"}

				p, why := b.dial(context.Background(), end, &passage{
					end: e, clientID: "b-x", clean: true, window: 10, keepAlive: 10 * time.Second, patience: 300 * time.Millisecond, owner: newListener(),
				})
				if why == nil {
					p.part()
					t.Fatal("it is connected")
				}

				if why.reason != c.reason {
					t.Errorf("version %d: reason %s (%s), want %s", version, why.reason, why.text, c.reason)
				}

				if strings.Contains(why.text, "wrong-and-secret") {
					t.Errorf("the password stands in %q", why.text)
				}
			})
		}
	}
}
