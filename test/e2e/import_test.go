// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// What Mosquitto was told.
const (
	mosquittoPasswords = "alice:" + importedPBKDF2 + "\nPress 7:" + importedSHA512 + "\n"
	mosquittoRules     = `user alice
topic readwrite factory/#
topic deny factory/secret

user Press 7
topic write hall/press

pattern readwrite own/%u/#
`
)

// mosquittoDynsec is the file of the dynamic security plugin, with the password of importedPBKDF2.
func mosquittoDynsec() string {
	parts := strings.Split(importedPBKDF2, "$")
	return fmt.Sprintf(`{
	"defaultACLAccess": {"publishClientSend": false, "publishClientReceive": true, "subscribe": false, "unsubscribe": true},
	"clients": [
		{"username": "clara", "clientid": "clara-1", "salt": %q, "password": %q, "iterations": %s, "roles": [{"rolename": "hall"}]},
		{"username": "dora", "disabled": true, "salt": %[1]q, "password": %[2]q, "iterations": %[3]s, "roles": [{"rolename": "hall"}]}
	],
	"roles": [{"rolename": "hall", "acls": [
		{"acltype": "publishClientSend", "topic": "hall/#", "allow": true},
		{"acltype": "subscribePattern", "topic": "hall/#", "allow": true}
	]}]
}
`, parts[3], parts[4], parts[2])
}

// TestImportFromMosquitto: the files of a Mosquitto become YAML that the API server takes without a word, and whoever is in
// them comes in with the password that he has.
func TestImportFromMosquitto(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.broker()
	dir := t.TempDir()
	for name, text := range map[string]string{"passwd": mosquittoPasswords, "acl": mosquittoRules, "dynsec.json": mosquittoDynsec()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.imports("mosquitto", filepath.Join(dir, "passwd"), filepath.Join(dir, "acl"))
	s.imports("mosquitto-dynsec", filepath.Join(dir, "dynsec.json"))

	users := &v1alpha1.MQTTUserList{}
	if err := kube.List(s.ctx, users, client.InNamespace(s.namespace)); err != nil {
		t.Fatal(err)
	}
	byName := map[string]*v1alpha1.MQTTUser{}
	for i := range users.Items {
		user := &users.Items[i]
		name := user.Name
		if user.Spec.Username != nil {
			name = *user.Spec.Username
		}
		byName[name] = user
	}
	with := func(name, password string) binding {
		user := byName[name]
		if user == nil {
			t.Fatalf("there is no user %s", name)
		}
		b := mustBinding(s, user.Name)
		if b.username != name || b.password != "" {
			t.Fatalf("the binding of %s is of %q, or holds a password that nobody knows", name, b.username)
		}
		b.password = password
		return b
	}
	clients := map[string]*mqttClient{}
	for _, user := range byName {
		s.awaitReady(user) // who is suspended as well: he is as somebody wished
	}
	for name, want := range map[string]session{"alice": {}, "Press 7": {}, "clara": {clientID: "clara-1"}} {
		s.eventually(patience, name+" comes in with the old password", func() (err error) {
			clients[name], err = connectWith(with(name, importedPassword), want)
			return err
		})
		if _, err := connectWith(with(name, importedPassword+"x"), want); refusedWith(err, badUserNameOrPassword) != nil {
			t.Errorf("%s with another password: %v", name, refusedWith(err, badUserNameOrPassword))
		}
	}
	if _, err := connectWith(with("dora", importedPassword), session{}); refusedWith(err, badUserNameOrPassword) != nil {
		t.Errorf("a client that was disabled: %v", refusedWith(err, badUserNameOrPassword))
	}
	if _, err := connectWith(with("clara", importedPassword), session{clientID: "clara-2"}); err == nil {
		t.Error("clara came with another client identifier than the one that Mosquitto let her have")
	}

	s.sayf("their rules are those that Mosquitto had")
	s.mustSubscribe(clients["alice"], "factory/1/#", "own/alice/#")
	s.mustSubscribe(clients["clara"], "hall/#")
	for _, c := range []struct {
		who, topic string
		may        bool
	}{
		{"alice", "factory/1/temp", true},
		{"alice", "factory/secret", false},
		{"alice", "own/alice/x", true},
		{"alice", "own/Press 7/x", false},
		{"alice", "hall/x", false},
		{"Press 7", "hall/press", true},
		{"Press 7", "hall/x", false},
		{"Press 7", "own/Press 7/x", true},
		{"clara", "hall/x", true},
		{"clara", "own/clara/x", false}, // the patterns are of the other file
	} {
		err := clients[c.who].publish(c.topic, "by "+c.who)
		if c.may && err != nil {
			t.Errorf("%s may not publish to %s: %v", c.who, c.topic, err)
		}
		if complaint := refusedWith(err, notAuthorized); !c.may && complaint != nil {
			t.Errorf("%s publishes to %s: %v", c.who, c.topic, complaint)
		}
	}
	s.hears(clients["alice"], "factory/1/temp", "by alice")
	s.hears(clients["clara"], "hall/press", "by Press 7")
	if err := refusedWith(clients["alice"].subscribe("factory/#", 1), notAuthorized); err != nil {
		t.Errorf("alice hears what is denied to her: %v", err)
	}
}

// imports has the plugin write YAML, and applies it: as kubectl alone judges it, as the API server does, and in earnest.
func (s *story) imports(args ...string) {
	s.Helper()
	plugin := os.Getenv("PLUGIN")
	if plugin == "" {
		s.Fatal("PLUGIN names the program kubectl-mqtt: start these tests with hack/e2e.sh")
	}
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	run := func(input []byte, name string, args ...string) []byte {
		var out, complaints bytes.Buffer
		command := exec.CommandContext(ctx, name, args...)
		command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(input), &out, &complaints
		if err := command.Run(); err != nil || complaints.Len() > 0 {
			s.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, complaints.String())
		}
		return out.Bytes()
	}
	yaml := run(nil, plugin, append(append([]string{"import"}, args...), "--broker", brokerName, "--namespace", s.namespace)...)
	for _, how := range [][]string{{"--dry-run=server"}, {"--dry-run=server", "--server-side"}, {}} {
		said := run(yaml, "kubectl", append([]string{"apply", "--warnings-as-errors", "--filename", "-"}, how...)...)
		s.sayf("kubectl apply %s: %d objects, no warning", strings.Join(how, " "), bytes.Count(said, []byte("\n")))
	}
	s.secrets.keep("the imported password", importedPassword)
}
