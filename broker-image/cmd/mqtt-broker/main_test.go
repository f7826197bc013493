// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	v3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// patience is generous because the tests share their machine; nothing waits for it unless it fails.
const patience = 30 * time.Second

// screen collects what a command prints.
type screen struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.buf.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.buf.String()
}

func eventually(t *testing.T, reason func() string, fact func() bool) {
	t.Helper()

	for deadline := time.Now().Add(patience); !fact(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(reason())
		}
	}
}

// start runs a command until the test ends, or the function that it returns is called, which returns the exit code. It
// returns what the command prints, too.
func start(t *testing.T, args ...string) (*screen, *screen, func() int) {
	t.Helper()

	ctx, cancel := context.WithCancel(context.Background())
	out, errs := &screen{}, &screen{}
	code := make(chan int, 1)

	go func() { code <- run(ctx, args, out, errs) }()

	var once sync.Once

	last := -1
	stop := func() int {
		once.Do(func() {
			cancel()

			select {
			case last = <-code:
			case <-time.After(patience):
				t.Error("the command does not end")
			}
		})

		return last
	}

	t.Cleanup(func() { stop() })

	return out, errs, stop
}

func freePort(t *testing.T) string {
	t.Helper()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	return l.Addr().String()
}

// client5 is a client of MQTT 5.
func client5(t *testing.T, address, id, user string, got chan<- string, disconnected chan<- byte) *paho.Client {
	t.Helper()

	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}

	c := paho.NewClient(paho.ClientConfig{
		Conn: conn,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			got <- p.Packet.Topic + " " + string(p.Packet.Payload)

			return true, nil
		}},
		OnServerDisconnect: func(d *paho.Disconnect) { disconnected <- d.ReasonCode },
	})

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	cp := &paho.Connect{ClientID: id, CleanStart: true, KeepAlive: 30}
	if user != "" {
		cp.Username, cp.UsernameFlag, cp.Password, cp.PasswordFlag = user, true, []byte(user), true
	}

	if ack, err := c.Connect(ctx, cp); err != nil {
		t.Fatalf("CONNECT: %v %+v", err, ack)
	}

	return c
}

func client3(t *testing.T, address, id, user string) v3.Client {
	t.Helper()

	o := v3.NewClientOptions().AddBroker("tcp://" + address).SetClientID(id).SetProtocolVersion(4).
		SetAutoReconnect(false).SetConnectTimeout(patience)
	if user != "" {
		o.SetUsername(user).SetPassword(user)
	}

	c := v3.NewClient(o)
	if token := c.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("CONNECT: %v", token.Error())
	}

	t.Cleanup(func() { c.Disconnect(0) })

	return c
}

func receive(t *testing.T, got <-chan string) string {
	t.Helper()

	select {
	case s := <-got:
		return s
	case <-time.After(patience):
		t.Fatal("nothing came")

		return ""
	}
}

func TestDev(t *testing.T) {
	out, errs, stop := start(t, "dev", "--listen", "127.0.0.1:0")
	words := regexp.MustCompile(`mosquitto_pub -h (\S+) -p (\d+)`)

	eventually(t, func() string { return out.String() + errs.String() }, func() bool { return words.MatchString(out.String()) })

	found := words.FindStringSubmatch(out.String())
	address := net.JoinHostPort(found[1], found[2])

	got, gone := make(chan string, 10), make(chan byte, 1)
	five := client5(t, address, "five", "", got, gone)
	three := client3(t, address, "three", "")

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	if _, err := five.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "hello/#", QoS: 2}}}); err != nil {
		t.Fatal(err)
	}

	if token := three.Subscribe("hello/#", 2, func(_ v3.Client, m v3.Message) { got <- "3: " + string(m.Payload()) }); !token.WaitTimeout(patience) {
		t.Fatal("SUBSCRIBE")
	}

	for qos := range byte(3) {
		if token := three.Publish("hello/world", qos, false, "from 3"); !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatal(token.Error())
		}

		if _, err := five.Publish(ctx, &paho.Publish{Topic: "hello/world", QoS: qos, Payload: []byte("from 5")}); err != nil {
			t.Fatal(err)
		}
	}

	count := map[string]int{}
	for range 12 {
		count[receive(t, got)]++
	}

	for _, want := range []string{"hello/world from 3", "hello/world from 5", "3: from 3", "3: from 5"} {
		if count[want] != 3 {
			t.Errorf("%q came %d times, want 3", want, count[want])
		}
	}

	if path, err := exec.LookPath("mosquitto_pub"); err == nil {
		command := exec.Command(path, "-h", found[1], "-p", found[2], "-t", "hello/world", "-m", "it works", "-q", "1")
		if text, err := command.CombinedOutput(); err != nil {
			t.Errorf("the line that dev prints: %v %s", err, text)
		}

		if s := receive(t, got); !strings.HasSuffix(s, "it works") {
			t.Errorf("got %q", s)
		}
	}

	if code := stop(); code != 0 {
		t.Errorf("exit code %d: %s", code, errs)
	}

	if code := <-gone; code != 0x8B {
		t.Errorf("DISCONNECT %#x, want 0x8B", code)
	}
}

func TestCommands(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, config(t, 7, "127.0.0.1:0"))

	bad := t.TempDir()
	broken := config(t, 1, "127.0.0.1:0")
	broken.Listeners[0].Protocol = "telnet"
	broken.Users[0].ACL[0].Filter = "a/#/b"
	write(t, bad, broken)

	worse := t.TempDir()
	verifier := config(t, 1, "127.0.0.1:0")
	verifier.Users[0].Verifiers = []string{"hunter2"}
	write(t, worse, verifier)

	cases := map[string]struct {
		args []string
		code int
		says []string
	}{
		"nothing":                     {nil, 2, []string{"mqtt-broker serve"}},
		"help":                        {[]string{"--help"}, 0, []string{"mqtt-broker dev"}},
		"a command that is unknown":   {[]string{"run"}, 2, []string{`no command "run"`}},
		"a flag that is unknown":      {[]string{"dev", "--port", "1"}, 2, []string{"-port"}},
		"the version":                 {[]string{"version"}, 0, []string{"mqtt-broker "}},
		"a good directory":            {[]string{"check-config", dir}, 0, []string{"revision 7", "digest sha256:"}},
		"a good file, as a flag":      {[]string{"--check-config", filepath.Join(dir, "broker.json")}, 0, []string{"revision 7"}},
		"a file that is something":    {[]string{"check-config", filepath.Join(dir, "tls.json")}, 1, []string{"is no broker.json"}},
		"no directory":                {[]string{"check-config", filepath.Join(dir, "none")}, 1, []string{"none"}},
		"a bad directory":             {[]string{"check-config", bad}, 1, []string{"broker.json:", "listeners[0].protocol", "users-0.json:", "users[0].acl[0]"}},
		"a verifier that is none":     {[]string{"check-config", worse}, 1, []string{`user "anna": verifiers[0]`}},
		"dev for everybody":           {[]string{"dev", "--listen", "0.0.0.0:1883"}, 1, []string{"can be reached from outside"}},
		"dev for everybody, in short": {[]string{"dev", "--listen", ":1883"}, 1, []string{"can be reached from outside"}},
		"dev with two minds":          {[]string{"dev", "--listen", "127.0.0.1:1", "--config", dir}, 1, []string{"exclude one another"}},
		"pprof for everybody":         {[]string{"dev", "--pprof-listen", ":6060"}, 1, []string{"--pprof-listen :6060 can be reached from outside"}},
		"pprof of a server":           {[]string{"serve", "--pprof-listen", "0.0.0.0:6060"}, 1, []string{"can be reached from outside", "--pprof-insecure"}},
		"serve without certificates":  {[]string{"serve", "--data", "", "--health-listen", "", "--admin-listen", "127.0.0.1:0", "--admin-tls", dir}, 1, []string{"certificate of the admin endpoint"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			out := &screen{}
			if code := run(context.Background(), c.args, out, out); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}

			for _, s := range c.says {
				if !strings.Contains(out.String(), s) {
					t.Errorf("it should say %q:\n%s", s, out)
				}
			}

			if strings.Contains(out.String(), "hunter2") {
				t.Error("it must hold no secret")
			}
		})
	}
}

func config(t *testing.T, revision int64, address string, more ...string) *contract.Config {
	t.Helper()

	c := &contract.Config{Broker: contract.Broker{
		Format: contract.Format, Name: "test/test", Revision: revision,
		Listeners: []contract.Listener{{Name: "tcp", Protocol: contract.TCP, Address: address}},
		Limits:    contract.DefaultLimits(), Logging: contract.DefaultLogging(),
	}}

	for _, name := range append([]string{"anna"}, more...) {
		verifier, err := auth.NewSHA256([]byte(name), []byte("somesalt"))
		if err != nil {
			t.Fatal(err)
		}

		c.Users = append(c.Users, contract.User{Username: name, Verifiers: []string{verifier}, ACL: []acl.Rule{
			{Effect: acl.Allow, Actions: []acl.Action{acl.Publish, acl.Subscribe}, Filter: "#"},
		}})
	}

	return c
}

func render(t *testing.T, c *contract.Config) contract.Bundle {
	t.Helper()

	bundle, err := contract.Render(c, 1)
	if err != nil {
		t.Fatal(err)
	}

	return bundle
}

func write(t *testing.T, dir string, c *contract.Config) {
	t.Helper()

	for name, content := range render(t, c) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// authority makes certificates for the admin endpoint.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}

	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "admin CA"}, NotAfter: time.Now().Add(time.Hour),
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

func (a *authority) issue(name string, usage x509.ExtKeyUsage) (certPEM, keyPEM []byte) {
	a.t.Helper()

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}

	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name},
		ExtKeyUsage: []x509.ExtKeyUsage{usage}, KeyUsage: x509.KeyUsageDigitalSignature,
	}

	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}

	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}

	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func (a *authority) write(dir string) {
	a.t.Helper()

	cert, key := a.issue("admin.test", x509.ExtKeyUsageServerAuth)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})

	for name, content := range map[string][]byte{"tls.crt": cert, "tls.key": key, "ca.crt": ca} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
}

func (a *authority) trust() *tls.Config {
	a.t.Helper()

	cert, key := a.issue("operator", x509.ExtKeyUsageClientAuth)

	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		a.t.Fatal(err)
	}

	roots := x509.NewCertPool()
	roots.AddCert(a.cert)

	return &tls.Config{MinVersion: tls.VersionTLS13, ServerName: "admin.test", Certificates: []tls.Certificate{pair}, RootCAs: roots}
}

// TestServe is one life of a broker under an operator.
func TestServe(t *testing.T) {
	dir, adminDir, data := t.TempDir(), t.TempDir(), t.TempDir()
	ca := newAuthority(t)
	ca.write(adminDir)

	mqttAddress, adminAddress, healthAddress := freePort(t), freePort(t), freePort(t)
	_, errs, stop := start(t, "serve", "--config-dir", dir, "--data", data, "--admin-tls", adminDir,
		"--admin-listen", adminAddress, "--health-listen", healthAddress)

	ready := func() (int, string) {
		response, err := http.Get("http://" + healthAddress + "/readyz")
		if err != nil {
			return 0, err.Error()
		}
		defer response.Body.Close()

		body, _ := io.ReadAll(response.Body)

		return response.StatusCode, string(body)
	}
	log := func() string { return errs.String() }

	// Without a configuration it waits and says so.
	eventually(t, log, func() bool {
		code, body := ready()

		return code == http.StatusServiceUnavailable && strings.Contains(body, "no configuration")
	})
	eventually(t, log, func() bool { return strings.Contains(log(), "waiting for a whole configuration") })

	// Half a configuration is not one.
	half := render(t, config(t, 3, mqttAddress))
	if err := os.WriteFile(filepath.Join(dir, "broker.json"), half["broker.json"], 0o600); err != nil {
		t.Fatal(err)
	}

	eventually(t, log, func() bool { return strings.Contains(log(), "parts do not match") })
	write(t, dir, config(t, 3, mqttAddress))
	eventually(t, log, func() bool { code, _ := ready(); return code == http.StatusOK })

	// The operator asks and pushes.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	operator := admin.NewClient(adminAddress, ca.trust())

	status, err := operator.Status(ctx)
	if err != nil || status.Revision != 3 || status.Digest != half.Digest() || len(status.Listeners) != 1 {
		t.Fatalf("%+v, %v", status, err)
	}

	got, gone := make(chan string, 10), make(chan byte, 1)
	anna := client5(t, mqttAddress, "anna", "anna", got, gone)

	if status, err = operator.Apply(ctx, render(t, config(t, 5, mqttAddress, "otto"))); err != nil || status.Revision != 5 || status.Connections != 1 {
		t.Fatalf("%+v, %v", status, err)
	}

	otto := client3(t, mqttAddress, "otto", "otto")

	// Files that are older than what runs do not win; newer ones do.
	write(t, dir, config(t, 4, mqttAddress, "late"))

	if _, err := operator.Apply(ctx, render(t, config(t, 4, mqttAddress))); err == nil {
		t.Error("an older configuration must be refused")
	}

	// A bad one is refused in words, and what ran goes on.
	worse := config(t, 6, mqttAddress)
	worse.Users[0].Verifiers = []string{"$sha256$"}

	status, err = operator.Apply(ctx, render(t, worse))
	if refused := (*admin.RefusedError)(nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), `user "anna": verifiers[0]`) {
		t.Errorf("%+v, %v", status, err)
	}

	if status, err = operator.Status(ctx); err != nil || status.Revision != 5 || status.Refused == nil || status.Refused.Revision != 6 {
		t.Errorf("%+v, %v", status, err)
	}

	write(t, dir, config(t, 8, mqttAddress)) // without otto
	eventually(t, log, func() bool { status, err := operator.Status(ctx); return err == nil && status.Revision == 8 })
	eventually(t, log, func() bool { return !otto.IsConnectionOpen() })

	// The admin endpoint's certificate is replaced without a restart.
	other := newAuthority(t)
	other.write(adminDir)
	eventually(t, log, func() bool {
		_, err := admin.NewClient(adminAddress, other.trust()).Status(ctx)

		return err == nil
	})

	if _, err := operator.Status(ctx); err == nil {
		t.Error("a certificate of the old CA must not be good any more")
	}

	if _, err := anna.Publish(ctx, &paho.Publish{Topic: "a", QoS: 1, Payload: []byte("x")}); err != nil {
		t.Errorf("anna must not have noticed anything: %v", err)
	}

	if code := stop(); code != 0 {
		t.Errorf("exit code %d: %s", code, log())
	}

	if code := <-gone; code != 0x8B {
		t.Errorf("DISCONNECT %#x, want 0x8B", code)
	}

	if !strings.Contains(log(), "broker has stopped") {
		t.Error(log())
	}
}
