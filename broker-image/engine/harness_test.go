// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

func allow(filter string) acl.Rule {
	return acl.Rule{Effect: acl.Allow, Actions: []acl.Action{acl.Publish, acl.Subscribe}, Filter: filter}
}

func deny(filter string) acl.Rule {
	return acl.Rule{Effect: acl.Deny, Actions: []acl.Action{acl.Publish, acl.Subscribe}, Filter: filter}
}

func only(action acl.Action, filter string) acl.Rule {
	return acl.Rule{Effect: acl.Allow, Actions: []acl.Action{action}, Filter: filter}
}

// person is a user whose password is its name.
func person(t testing.TB, name string, rules ...acl.Rule) contract.User {
	t.Helper()

	verifier, err := auth.NewSHA256([]byte(name), []byte("somesalt"))
	if err != nil {
		t.Fatal(err)
	}

	return contract.User{Username: name, Verifiers: []string{verifier}, ACL: rules}
}

func baseConfig(users ...contract.User) *contract.Config {
	return &contract.Config{
		Broker: contract.Broker{
			Format: contract.Format, Name: "test/test", Revision: 1,
			Listeners: []contract.Listener{{Name: "tcp", Protocol: contract.TCP, Address: "127.0.0.1:0"}},
			Limits:    contract.DefaultLimits(), Logging: contract.DefaultLogging(),
		},
		Users: users,
	}
}

// house is an engine under test.
type house struct {
	*Engine

	t      testing.TB
	config *contract.Config
}

func open(t testing.TB, options Options, config *contract.Config) *house {
	t.Helper()

	if options.ConnectPatience == 0 {
		options.ConnectPatience = patience
	}

	e, err := New(options)
	if err != nil {
		t.Fatal(err)
	}

	h := &house{t: t, Engine: e, config: config}

	t.Cleanup(h.close)

	if err := e.Apply(config); err != nil {
		t.Fatal(err)
	}

	return h
}

func (h *house) close() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	if err := h.Shutdown(ctx); err != nil && err != ErrStopped { //nolint:errorlint // exact on purpose
		h.t.Errorf("shutdown: %v", err)
	}
}

// apply changes a copy of the configuration and applies it.
func (h *house) apply(mutate func(c *contract.Config)) error {
	next := *h.config
	next.Listeners = append([]contract.Listener(nil), h.config.Listeners...)
	next.Users = append([]contract.User(nil), h.config.Users...)
	next.Pairs = map[string]contract.KeyPair{}

	maps.Copy(next.Pairs, h.config.Pairs)

	next.Revision++
	mutate(&next)

	err := h.Apply(&next)
	if err == nil {
		h.config = &next
	}

	return err
}

func (h *house) mustApply(mutate func(c *contract.Config)) {
	h.t.Helper()

	if err := h.apply(mutate); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) address(listener string) string {
	h.t.Helper()

	for _, l := range h.Status().Listeners {
		if l.Name == listener {
			return l.Address
		}
	}

	h.t.Fatalf("no listener %q", listener)

	return ""
}

func (h *house) dial(listener string) net.Conn {
	h.t.Helper()

	conn, err := net.Dial("tcp", h.address(listener))
	if err != nil {
		h.t.Fatal(err)
	}

	h.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))

	return conn
}

func newPeer(t testing.TB, conn net.Conn, version byte) *peer {
	t.Helper()

	return &peer{t: t, Conn: conn, in: bufio.NewReader(conn), version: version}
}

// knock connects and returns the CONNACK.
func (h *house) knock(l login) (*peer, packet) {
	h.t.Helper()

	if l.version == 0 {
		l.version = 5
	}

	p := newPeer(h.t, h.dial("tcp"), l.version)
	p.send(l.packet())

	ack := p.expect(tConnack)

	return p, ack
}

// enter connects a user with its password.
func (h *house) login(l login) *peer {
	h.t.Helper()

	if l.user != "" && l.password == "" {
		l.password = l.user
	}

	p, ack := h.knock(l)
	if ack.body[1] != 0 {
		h.t.Fatalf("CONNACK %#x for %+v", ack.body[1], l)
	}

	return p
}

func (h *house) user(name string) *peer {
	h.t.Helper()

	return h.login(login{version: 5, id: "client-" + name, user: name})
}

func (h *house) user3(name string) *peer {
	h.t.Helper()

	return h.login(login{version: 4, id: "client3-" + name, user: name})
}

// eventually waits for a fact.
func eventually(t testing.TB, reason string, fact func() bool) {
	t.Helper()

	for deadline := time.Now().Add(patience); !fact(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(reason)
		}
	}
}

func keyPair(t testing.TB, serial int64) contract.KeyPair {
	t.Helper()

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}

	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
	}

	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}

	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}

	return contract.KeyPair{
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		PrivateKey:  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})),
	}
}

func (h *house) secure(listener string) *tls.Conn {
	h.t.Helper()

	conn := tls.Client(h.dial(listener), &tls.Config{InsecureSkipVerify: true})
	if err := conn.Handshake(); err != nil {
		h.t.Fatal(err)
	}

	return conn
}

// logbook collects what is logged, at every level.
type logbook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.buf.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.buf.String()
}

func (l *logbook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// copyStore takes what is on disk at this moment, as it would be found after a crash.
func copyStore(t testing.TB, h *house) string {
	t.Helper()

	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(h.options.DataDir)); err != nil {
		t.Fatal(err)
	}

	return to
}

// counted is what the metrics say of one series.
func (h *house) counted(series string) int {
	h.t.Helper()

	w := httptest.NewRecorder()
	h.Metrics().Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody))

	for line := range strings.Lines(w.Body.String()) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(rest))
			if err != nil {
				h.t.Fatal(err)
			}

			return n
		}
	}

	h.t.Fatalf("%s is not counted", series)

	return 0
}

func (h *house) session(id string) *session {
	h.t.Helper()

	sh := h.sessions.shard(id)

	sh.mu.Lock()
	defer sh.mu.Unlock()

	return sh.byID[id]
}
