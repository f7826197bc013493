// SPDX-License-Identifier: Apache-2.0

package clients

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	imported "github.com/mqtt-operator/mqtt-operator/cmd/kubectl-mqtt/mosquitto"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// aclFixture has one of each thing that can be carried over completely.
const aclFixture = `# everybody else has patterns alone
topic read anonymous/#

user admin
topic readwrite #

user alice
topic readwrite factory/#
topic deny factory/secret
topic read news/+
topic deny pattern/own/denied
topic write allowed/in/spite

user Bob Smith
topic write a b/c
topic read /lead
topic /lead/#

user alice
topic deny factory/+/off

pattern read end
pattern write sensor/%u/data
pattern readwrite client/%c/#
pattern read dev-%u/#
pattern deny +/hidden
pattern deny dev-%u/off
pattern deny allowed/#
pattern read pattern/#
`

var aclTopics = []string{
	"factory", "factory/a", "factory/a/b", "factory/secret", "factory/secret/x", "factory/a/off", "factory/a/off/x", "Factory/a",
	"news", "news/a", "news/a/b", "a b/c", "a b", "/lead", "lead", "/lead/x", "/", "//", "sensor/alice/data", "sensor/bob/data",
	"sensor/Bob Smith/data", "sensor/%u/data", "client/c1", "client/c1/x", "client/c2/x", "dev-alice", "dev-alice/x", "dev-alice/hidden",
	"dev-alice/off", "dev-bob/x", "dev-Bob Smith/x", "x/hidden", "factory/hidden", "allowed/in/spite", "allowed/x", "pattern/x",
	"pattern/own/denied", "anonymous/x", "nobody/named/it",
}

// TestMosquittoAndItsImportAgree asks a real Mosquitto, with real clients, who may publish and read what, and compares
// with the rules that the import makes of the same files.
func TestMosquittoAndItsImportAgree(t *testing.T) {
	need(t, "mosquitto", "mosquitto")
	need(t, "mosquitto_passwd", "mosquitto")

	users := []string{"admin", "alice", "Bob Smith", "carol"}
	port, passwd := mosquittoWith(t, users)
	rules := importedRules(t, passwd)
	admin := authorized(t, port, "admin", "admin")

	for _, user := range users[1:] {
		client, in := reader(t, port, user)
		subject := acl.Subject{Username: user, ClientID: "c1"}

		for _, topic := range aclTopics {
			if got, want := rules[user].Publish(subject, topic, 1, false).Allowed, publishes(t, client, topic); got != want {
				t.Errorf("%s publishes to %q: ours says %t, Mosquitto %t", user, topic, got, want)
			}
		}

		// What the client has published itself and may read, it got. A retained end would come again: it is none.
		drain(t, admin, in, "end", "first "+user)

		for _, topic := range aclTopics {
			if !publishes(t, admin, topic) {
				t.Fatalf("the administrator may not publish to %q", topic)
			}
		}

		seen := drain(t, admin, in, "end", "second "+user)

		for _, topic := range aclTopics {
			if got := rules[user].Deliver(subject, topic).Allowed; got != seen[topic] {
				t.Errorf("%s reads %q: ours says %t, Mosquitto %t", user, topic, got, seen[topic])
			}
		}
	}
}

// mosquittoWith starts a Mosquitto with the fixture and gives its port and the password file. A user's password is the
// username.
func mosquittoWith(t *testing.T, users []string) (port, passwd string) {
	t.Helper()

	dir := t.TempDir()
	passwd = filepath.Join(dir, "passwd")

	for i, user := range users {
		args := []string{"-b", passwd, user, user}
		if i == 0 {
			args = append([]string{"-c"}, args...)
		}

		call(t, "", "mosquitto_passwd", args...)
	}

	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	_, port, _ = net.SplitHostPort(free.Addr().String())
	_ = free.Close()

	config := fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous false\npassword_file %s\nacl_file %s\npersistence false\n"+
		"log_dest stdout\nlog_timestamp false\nlog_type all\nuser root\n", port, passwd, filepath.Join(dir, "acl"))
	for name, text := range map[string]string{"acl": aclFixture, "mosquitto.conf": config} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	process := beside(t, "stdbuf", "-oL", "mosquitto", "-c", filepath.Join(dir, "mosquitto.conf"))
	for !strings.HasSuffix(process.line("mosquitto version "), " running") {
		continue // it says first that it starts
	}

	return port, passwd
}

// importedRules are the rules of each user after the import.
func importedRules(t *testing.T, passwd string) map[string]*acl.Policy {
	t.Helper()

	text, err := os.ReadFile(passwd)
	if err != nil {
		t.Fatal(err)
	}

	result, err := imported.Import(imported.File{Name: "passwd", Text: text}, &imported.File{Name: "acl", Text: []byte(aclFixture)}, imported.Options{Broker: "mq"})
	if err != nil {
		t.Fatal(err)
	}

	if !result.Complete() {
		t.Fatalf("not all was carried over: %v", result.Reports)
	}

	compile := func(rules []v1alpha1.ResolvedRule) *acl.Policy {
		policy, err := acl.Compile(verdict.Rules(rules))
		if err != nil {
			t.Fatal(err)
		}

		return policy
	}

	var shared []*acl.Policy

	rules := map[string]*acl.Policy{}

	for _, object := range result.Objects {
		switch o := object.Object.(type) {
		case *v1alpha1.MQTTUser:
			rules[o.Username()] = compile(o.Resolved().Rules)
		case *v1alpha1.MQTTAccessPolicy:
			shared = append(shared, compile(o.Resolved().Rules))
		}
	}

	for user := range rules {
		rules[user] = acl.Join(append([]*acl.Policy{rules[user]}, shared...)...)
	}

	return rules
}

// authorized is a client of MQTT 5 with a username, which tells no as no.
func authorized(t *testing.T, port, user, clientID string, receive ...func(paho.PublishReceived) (bool, error)) *paho.Client {
	t.Helper()

	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}

	client := paho.NewClient(paho.ClientConfig{Conn: conn, OnPublishReceived: receive})

	if _, err := client.Connect(patient(t), &paho.Connect{
		ClientID: clientID, CleanStart: true, KeepAlive: 60, Username: user, UsernameFlag: true, Password: []byte(user), PasswordFlag: true,
	}); err != nil {
		t.Fatalf("%s: %v", user, err)
	}

	t.Cleanup(func() { _ = client.Disconnect(&paho.Disconnect{}) })

	return client
}

// reader has subscribed to everything, which Mosquitto lets everybody do, and gets what it may read.
func reader(t *testing.T, port, user string) (*paho.Client, inbox) {
	t.Helper()

	in := newInbox()
	client := authorized(t, port, user, "c1", func(p paho.PublishReceived) (bool, error) {
		in <- mail{topic: p.Packet.Topic, payload: string(p.Packet.Payload)}

		return true, nil
	})

	if _, err := client.Subscribe(patient(t), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "#"}}}); err != nil {
		t.Fatal(err)
	}

	return client, in
}

func publishes(t *testing.T, client *paho.Client, topic string) bool {
	t.Helper()

	answer, err := client.Publish(patient(t), &paho.Publish{Topic: topic, QoS: 1, Payload: []byte("x")})

	switch {
	case answer != nil && answer.ReasonCode == 0x87:
		return false
	case err != nil:
		t.Fatalf("publish to %q: %v", topic, err)
	}

	return true
}

// drain publishes a last message and gives the topics of all that came before it.
func drain(t *testing.T, admin *paho.Client, in inbox, topic, payload string) map[string]bool {
	t.Helper()

	if _, err := admin.Publish(patient(t), &paho.Publish{Topic: topic, QoS: 1, Payload: []byte(payload)}); err != nil {
		t.Fatal(err)
	}

	seen := map[string]bool{}

	for ctx := patient(t); ; {
		select {
		case got := <-in:
			if got.topic == topic && got.payload == payload {
				return seen
			}

			seen[got.topic] = true
		case <-ctx.Done():
			t.Fatalf("%s has not come", topic)
		}
	}
}
