// SPDX-License-Identifier: Apache-2.0

package clients

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/eclipse/paho.golang/paho"
	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/test/scram"
)

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

func scramConnect(t *testing.T, b *broker, s *scram.Client) (*paho.Client, *paho.Connack, error) {
	t.Helper()

	conn, err := net.Dial("tcp", b.tcp)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = conn.Close() })

	c := paho.NewClient(paho.ClientConfig{Conn: conn, AuthHandler: s})
	ack, err := c.Connect(patient(t), &paho.Connect{
		ClientID: own(), CleanStart: true, KeepAlive: 30,
		Properties: &paho.ConnectProperties{AuthMethod: scram.Method, AuthData: s.Begin()},
	})

	return c, ack, err
}

func TestPahoGolangSCRAM(t *testing.T) {
	b := secretive(t, "anna", "korrekt pferd batterie")
	s := scram.New("anna", "korrekt pferd batterie", own())

	c, ack, err := scramConnect(t, b, s)
	if err != nil {
		t.Fatal(err)
	}

	if got := string(ack.Properties.AuthData); got != s.Signature || got == "" {
		t.Errorf("the broker signed %q, want %q", got, s.Signature)
	}

	granted, err := c.Subscribe(patient(t), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "anna/#", QoS: 1}}})
	if err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff([]byte{1}, granted.Reasons); diff != "" {
		t.Errorf("the user's rules must hold (-want +got):\n%s", diff)
	}

	for name, password := range map[string]string{"anna": "wrong", "otto": "korrekt pferd batterie"} {
		if _, ack, err := scramConnect(t, b, scram.New(name, password, own())); err == nil || ack == nil || ack.ReasonCode != 0x87 {
			t.Errorf("%s with %q: %+v, %v", name, password, ack, err)
		}
	}
}
