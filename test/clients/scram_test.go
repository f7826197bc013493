// SPDX-License-Identifier: Apache-2.0

package clients

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/paho"
	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

const scramSHA256 = "SCRAM-SHA-256"

// scram is the client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), as an application writes it beside paho.golang.
type scram struct {
	password, bare, nonce string
	signature             string // what a broker sends that knows the verifier
}

func newSCRAM(name, password string) *scram {
	nonce := own()

	return &scram{password: password, nonce: nonce, bare: "n=" + name + ",r=" + nonce}
}

func (s *scram) begin() []byte { return []byte("n,," + s.bare) }

// Authenticate answers the challenge.
func (s *scram) Authenticate(a *paho.Auth) *paho.Auth {
	challenge := string(a.Properties.AuthData)

	fields := strings.Split(challenge, ",")
	if len(fields) != 3 || !strings.HasPrefix(fields[0], "r="+s.nonce) {
		return &paho.Auth{ReasonCode: 0x18, Properties: &paho.AuthProperties{AuthMethod: scramSHA256}}
	}

	salt, _ := base64.StdEncoding.DecodeString(fields[1][2:])
	iterations, _ := strconv.Atoi(fields[2][2:])
	salted, _ := pbkdf2.Key(sha256.New, s.password, salt, iterations, sha256.Size)

	without := "c=biws," + fields[0]
	all := s.bare + "," + challenge + "," + without
	key := signed(salted, "Client Key")
	stored := sha256.Sum256(key)

	for i, b := range signed(stored[:], all) {
		key[i] ^= b
	}

	s.signature = "v=" + base64.StdEncoding.EncodeToString(signed(signed(salted, "Server Key"), all))

	return &paho.Auth{ReasonCode: 0x18, Properties: &paho.AuthProperties{
		AuthMethod: scramSHA256, AuthData: []byte(without + ",p=" + base64.StdEncoding.EncodeToString(key)),
	}}
}

// Authenticated has nothing to do: the test looks at what CONNACK holds.
func (s *scram) Authenticated() {}

func signed(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write([]byte(text))

	return mac.Sum(nil)
}

// secretive starts a broker that knows one user, with a verifier for SCRAM and none else.
func secretive(t *testing.T, name, password string) *broker {
	t.Helper()

	verifier, err := auth.NewSCRAM([]byte(password), nil, auth.MinIterations)
	if err != nil {
		t.Fatal(err)
	}

	bundle, err := contract.Render(&contract.Config{
		Broker: contract.Broker{
			Format: contract.Format, Name: "test/scram", Revision: 1,
			Listeners: []contract.Listener{{Name: "tcp", Protocol: contract.TCP, Address: "127.0.0.1:0"}},
			Limits:    contract.DefaultLimits(), Logging: contract.DefaultLogging(),
		},
		Users: []contract.User{{Username: name, Verifiers: []string{verifier}, ACL: []acl.Rule{
			{Effect: acl.Allow, Actions: []acl.Action{acl.Publish, acl.Subscribe}, Filter: "%u/#"},
		}}},
	}, 1)
	if err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	for file, content := range bundle {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	return begin(t, "--config", dir)
}

func scramConnect(t *testing.T, b *broker, s *scram) (*paho.Client, *paho.Connack, error) {
	t.Helper()

	conn, err := net.Dial("tcp", b.tcp)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = conn.Close() })

	c := paho.NewClient(paho.ClientConfig{Conn: conn, AuthHandler: s})
	ack, err := c.Connect(patient(t), &paho.Connect{
		ClientID: own(), CleanStart: true, KeepAlive: 30,
		Properties: &paho.ConnectProperties{AuthMethod: scramSHA256, AuthData: s.begin()},
	})

	return c, ack, err
}

func TestPahoGolangSCRAM(t *testing.T) {
	b := secretive(t, "anna", "korrekt pferd batterie")
	s := newSCRAM("anna", "korrekt pferd batterie")

	c, ack, err := scramConnect(t, b, s)
	if err != nil {
		t.Fatal(err)
	}

	if got := string(ack.Properties.AuthData); got != s.signature || got == "" {
		t.Errorf("the broker signed %q, want %q", got, s.signature)
	}

	granted, err := c.Subscribe(patient(t), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "anna/#", QoS: 1}}})
	if err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff([]byte{1}, granted.Reasons); diff != "" {
		t.Errorf("the user's rules must hold (-want +got):\n%s", diff)
	}

	for name, password := range map[string]string{"anna": "wrong", "otto": "korrekt pferd batterie"} {
		if _, ack, err := scramConnect(t, b, newSCRAM(name, password)); err == nil || ack == nil || ack.ReasonCode != 0x87 {
			t.Errorf("%s with %q: %+v, %v", name, password, ack, err)
		}
	}
}
