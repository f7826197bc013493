// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// patience is generous because the tests share their machine; nothing waits for it unless it fails.
const patience = 30 * time.Second

func bundle(t testing.TB, revision int64, users ...string) contract.Bundle {
	t.Helper()

	c := &contract.Config{Broker: contract.Broker{
		Format: contract.Format, Name: "test/test", Revision: revision,
		Limits: contract.DefaultLimits(), Logging: contract.DefaultLogging(),
	}}

	for _, name := range users {
		c.Users = append(c.Users, contract.User{Username: name})
	}

	b, err := contract.Render(c, 2)
	if err != nil {
		t.Fatal(err)
	}

	return b
}

func TestKeeper(t *testing.T) {
	invalid := bundle(t, 9)
	invalid[contract.BrokerFile] = []byte(strings.Replace(string(invalid[contract.BrokerFile]), `"info"`, `"loud"`, 1))

	torn := bundle(t, 9, "anna")
	torn[contract.UsersFile(0)] = bundle(t, 9)[contract.UsersFile(0)]
	torn[contract.UsersFile(1)] = bundle(t, 9)[contract.UsersFile(1)]

	cases := map[string]struct {
		reason  string
		offer   contract.Bundle
		fails   bool // apply does
		is      error
		wrong   bool // any other error
		runs    int64
		refused bool
	}{
		"a newer one runs":            {"the plain case", bundle(t, 6), false, nil, false, 6, false},
		"the same one runs already":   {"no error, nothing to do", bundle(t, 5, "anna"), true, nil, false, 5, false},
		"an older one does not win":   {"a lagging file must not bring a revoked user back", bundle(t, 4), false, ErrOlder, true, 5, false},
		"another one of the same age": {"which of two is meant cannot be known", bundle(t, 5, "otto"), false, ErrOlder, true, 5, false},
		"half of one has to wait":     {"the kubelet is on its way", torn, false, contract.ErrInconsistent, true, 5, false},
		"an invalid one is refused":   {"what ran goes on", invalid, false, nil, true, 5, true},
		"one that cannot be applied":  {"what ran goes on", bundle(t, 6), true, nil, true, 5, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			fails := false
			k := NewKeeper(func(*contract.Config) error {
				if fails {
					return errors.New("address taken")
				}

				return nil
			})

			if err := k.Offer(bundle(t, 5, "anna")); err != nil {
				t.Fatal(err)
			}

			fails = c.fails
			err := k.Offer(c.offer)

			if c.is != nil && !errors.Is(err, c.is) || (err != nil) != c.wrong {
				t.Errorf("%s\ngot %v", c.reason, err)
			}

			if runs := k.Running(); runs.Revision != c.runs || (runs.Refused != nil) != c.refused {
				t.Errorf("%s\nrevision %d runs, refused %+v", c.reason, runs.Revision, runs.Refused)
			}
		})
	}
}

// TestManyUsersAreKeptSmall, and are whole again where they are asked for.
func TestManyUsersAreKeptSmall(t *testing.T) {
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprintf("device-%04d", i))
	}

	before, next := bundle(t, 1, names...), bundle(t, 2, append(names, "new")...)
	k := NewKeeper(func(*contract.Config) error { return nil })

	if err := k.Offer(before); err != nil {
		t.Fatal(err)
	}

	for name, part := range k.parts {
		if full := len(before[name]); full > worthPacking && len(part.bytes) > full/2 {
			t.Errorf("%s takes %d bytes of %d", name, len(part.bytes), full)
		}
	}

	changed := contract.UsersFile(contract.Shard("new", 2))
	whole, missing, err := k.Complete(contract.Bundle{contract.BrokerFile: next[contract.BrokerFile], changed: next[changed]})

	if err != nil || len(missing) > 0 || !whole.Equal(next) {
		t.Errorf("missing %v, %v; or it is another one", missing, err)
	}

	if err := k.Offer(whole); err != nil {
		t.Error(err)
	}
}

func TestComplete(t *testing.T) {
	k := NewKeeper(func(*contract.Config) error { return nil })
	if err := k.Offer(bundle(t, 1, "anna", "otto")); err != nil {
		t.Fatal(err)
	}

	next := bundle(t, 2, "anna", "otto", "new")
	_, missing, err := k.Complete(contract.Bundle{contract.BrokerFile: next[contract.BrokerFile]})

	changed := contract.UsersFile(contract.Shard("new", 2))
	if err != nil || !slices.Equal(missing, []string{changed}) {
		t.Errorf("missing %v, %v; want %s alone", missing, err, changed)
	}

	whole, missing, err := k.Complete(contract.Bundle{contract.BrokerFile: next[contract.BrokerFile], changed: next[changed]})
	if err != nil || len(missing) > 0 || !whole.Equal(next) {
		t.Errorf("%v, missing %v, %v; want the whole", whole, missing, err)
	}
}

// authority makes certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}

	return key
}

func newAuthority(t *testing.T) *authority {
	t.Helper()

	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}

	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}

	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}

	return &authority{t: t, cert: cert, key: key}
}

func (a *authority) issue(usage x509.ExtKeyUsage) (cert, key []byte) {
	a.t.Helper()

	own := newKey(a.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"admin.test"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}

	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, own.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}

	pkcs8, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		a.t.Fatal(err)
	}

	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func (a *authority) pair(usage x509.ExtKeyUsage) tls.Certificate {
	a.t.Helper()

	cert, key := a.issue(usage)

	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		a.t.Fatal(err)
	}

	return pair
}

func (a *authority) write(dir string) {
	a.t.Helper()

	cert, key := a.issue(x509.ExtKeyUsageServerAuth)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})

	for name, content := range map[string][]byte{certFile: cert, keyFile: key, caFile: ca} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
}

func (a *authority) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)

	return pool
}

func (a *authority) trust() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: "admin.test", RootCAs: a.roots(),
		Certificates: []tls.Certificate{a.pair(x509.ExtKeyUsageClientAuth)},
	}
}

// endpoint serves a keeper.
func endpoint(t *testing.T, ca *authority, apply func(*contract.Config) error) (address, dir string, keeper *Keeper) {
	t.Helper()

	dir = t.TempDir()
	ca.write(dir)

	keeper = NewKeeper(apply)

	return serve(t, dir, Handler(keeper, func() Status { return Status{Connections: 3, Version: "test"} }, nil)), dir, keeper
}

// serve serves a handler with the certificate in dir.
func serve(t *testing.T, dir string, handler http.Handler) (address string) {
	t.Helper()

	server, err := NewServer(handler, dir)
	if err != nil {
		t.Fatal(err)
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	go func() { _ = server.ServeTLS(listener, "", "") }()

	t.Cleanup(func() { _ = server.Close() })

	return listener.Addr().String()
}

func inTime(t *testing.T) context.Context {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)

	return ctx
}

func TestClientAndServer(t *testing.T) {
	fault := error(nil)
	ca := newAuthority(t)
	address, _, keeper := endpoint(t, ca, func(*contract.Config) error { return fault })
	client, ctx := NewClient(address, ca.trust()), inTime(t)

	status, err := client.Status(ctx)
	if err != nil || status.Revision != 0 || status.Connections != 3 || status.Version != "test" {
		t.Fatalf("before the first configuration: %+v, %v", status, err)
	}

	first := bundle(t, 1, "anna", "otto")
	if status, err = client.Apply(ctx, first); err != nil || status.Revision != 1 || status.Digest != first.Digest() {
		t.Fatalf("%+v, %v", status, err)
	}

	if status, err = client.Apply(ctx, first); err != nil || status.Revision != 1 {
		t.Errorf("the same again is no error: %+v, %v", status, err)
	}

	third := bundle(t, 3, "anna")
	if status, err = client.Apply(ctx, third); err != nil || status.Revision != 3 {
		t.Errorf("%+v, %v", status, err)
	}

	status, err = client.Apply(ctx, bundle(t, 2))
	if !errors.Is(err, ErrOlder) || status.Revision != 3 {
		t.Errorf("an older one: %+v, %v; want ErrOlder and what runs", status, err)
	}

	fault = errors.New("listener \"a\": address taken")
	_, err = client.Apply(ctx, bundle(t, 4))

	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Reason != fault.Error() {
		t.Errorf("%v, want a refusal with the reason", err)
	}

	if status, err = client.Status(ctx); err != nil || status.Revision != 3 || status.Refused == nil || status.Refused.Revision != 4 {
		t.Errorf("the refusal must be in the status: %+v, %v", status, err)
	}

	fault = nil

	// The broker has moved on since the client asked: the parts left out are gone, and the client sends them all.
	if _, err := client.put(ctx, contract.Bundle{contract.BrokerFile: bundle(t, 5, "x")[contract.BrokerFile]}); !errors.As(err, new(*MissingError)) {
		t.Errorf("%v, want missing parts", err)
	}

	if err := keeper.Offer(bundle(t, 6, "x", "y")); err != nil {
		t.Fatal(err)
	}

	if status, err = client.Apply(ctx, bundle(t, 7, "anna")); err != nil || status.Revision != 7 {
		t.Errorf("%+v, %v", status, err)
	}
}

func TestWhoGetsIn(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	address, _, _ := endpoint(t, ca, func(*contract.Config) error { return nil })

	cases := map[string]struct {
		change func(*tls.Config)
		in     bool
	}{
		"the operator":                         {func(*tls.Config) {}, true},
		"nobody in particular":                 {func(c *tls.Config) { c.Certificates = nil }, false},
		"a certificate of another CA":          {func(c *tls.Config) { c.Certificates = []tls.Certificate{stranger.pair(x509.ExtKeyUsageClientAuth)} }, false},
		"the certificate of another server":    {func(c *tls.Config) { c.Certificates = []tls.Certificate{ca.pair(x509.ExtKeyUsageServerAuth)} }, false},
		"an old version of TLS":                {func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }, false},
		"who takes it for another broker":      {func(c *tls.Config) { c.ServerName = "admin.other" }, false},
		"who trusts another CA for the server": {func(c *tls.Config) { c.RootCAs = stranger.roots() }, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			trust := ca.trust()
			c.change(trust)

			if _, err := NewClient(address, trust).Status(inTime(t)); (err == nil) != c.in {
				t.Errorf("got in: %t, want %t (%v)", err == nil, c.in, err)
			}
		})
	}
}

func TestCertificatesAreReplacedLive(t *testing.T) {
	ca, next := newAuthority(t), newAuthority(t)
	address, dir, _ := endpoint(t, ca, func(*contract.Config) error { return nil })

	if _, err := NewClient(address, ca.trust()).Status(inTime(t)); err != nil {
		t.Fatal(err)
	}

	// A file that is half written leaves the old ones in force.
	if err := os.WriteFile(filepath.Join(dir, keyFile), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}

	if _, err := NewClient(address, ca.trust()).Status(inTime(t)); err != nil {
		t.Errorf("a bad file must not lock the operator out: %v", err)
	}

	next.write(dir)

	if _, err := NewClient(address, next.trust()).Status(inTime(t)); err != nil {
		t.Errorf("the new certificates must be in force: %v", err)
	}

	if _, err := NewClient(address, ca.trust()).Status(inTime(t)); err == nil {
		t.Error("the old CA must not be good any more")
	}
}

func TestWhatIsNoOffer(t *testing.T) {
	ca := newAuthority(t)
	address, _, keeper := endpoint(t, ca, func(*contract.Config) error { return nil })
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: ca.trust()}}

	for name, c := range map[string]struct {
		method, path, body string
		code               int
	}{
		"not JSON":           {http.MethodPut, configPath, "s3cret", http.StatusBadRequest},
		"an unknown field":   {http.MethodPut, configPath, `{"s3cret":{}}`, http.StatusBadRequest},
		"no broker.json":     {http.MethodPut, configPath, `{"files":{}}`, http.StatusUnprocessableEntity},
		"another method":     {http.MethodPost, configPath, `{}`, http.StatusMethodNotAllowed},
		"another path":       {http.MethodGet, "/", "", http.StatusNotFound},
		"more than it takes": {http.MethodPut, configPath, `{"files":{"broker.json":"` + strings.Repeat("A", maxBody+100) + `"}}`, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(inTime(t), c.method, "https://"+address+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}

			response, err := client.Do(request)
			if err != nil && len(c.body) > maxBody {
				return // It hung up on who does not stop sending, which is an answer too.
			}

			if err != nil {
				t.Fatal(err)
			}

			text := make([]byte, 4096)
			n, _ := response.Body.Read(text)
			_ = response.Body.Close()

			if response.StatusCode != c.code {
				t.Errorf("%d %s, want %d", response.StatusCode, text[:n], c.code)
			}

			if strings.Contains(string(text[:n]), "s3cret") {
				t.Error("what was sent must not come back")
			}
		})
	}

	if keeper.Running().Digest != "" {
		t.Error("nothing of that may run")
	}
}
