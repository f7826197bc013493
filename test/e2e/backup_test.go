// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// TestBackupAndRestore: a broker is drained, saved and deleted with its volume, and another one of its name gets what it had. The
// client of before finds its session, with the messages of QoS 1 and 2 that waited for it, and the retained one.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	s := begin(t)
	broker := s.broker(withVolume)
	anna := s.user("anna", allow("#"))
	press := session{clientID: "press-7", expiry: 3600, resume: true}

	away := s.connectAs("anna", press)
	if err := away.subscribe("press/#", 2); err != nil {
		t.Fatal(err)
	}
	away.leave()
	talks := s.connectAs("anna", session{clientID: "talks"})
	var waits []string
	for i := range 20 {
		text := "message " + strconv.Itoa(i)
		if err := talks.send(message("press/work", text, byte(1+i%2))); err != nil {
			t.Fatal(err)
		}
		waits = append(waits, text)
	}
	if err := talks.retain("press/state", "on"); err != nil {
		t.Fatal(err)
	}

	s.sayf("nobody is left to publish when the backup is made")
	s.says("1 client sent away from mq-broker-0 at 50 per second", "drain", brokerName, "--rate", "50")
	s.awaitEnd(talks)
	if talks.reason != serverShuttingDown {
		t.Errorf("who is sent away is told %#x", talks.reason)
	}
	if _, err := s.tryConnect("anna", press); refusedWith(err, serverUnavailable) != nil {
		t.Errorf("who comes during a drain: %v", refusedWith(err, serverUnavailable))
	}
	s.update(broker, func() { broker.Annotations = map[string]string{"example.com/looked-at": "during the drain"} }) // so that it is seen at once
	s.await(broker, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonDrained)
	dir := t.TempDir()
	file, phrase := filepath.Join(dir, "mq.backup"), filepath.Join(dir, "phrase")
	if err := os.WriteFile(phrase, []byte(random(16)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.says("1 session, 1 subscription, 21 messages queued or in flight and 1 retained message", "backup", brokerName, "-o", file, "--passphrase-file", phrase)
	kept := filepath.Join(dir, "kept.jsonl")
	s.says("", "retained", "export", brokerName, "-o", kept)
	if text, err := os.ReadFile(kept); err != nil || string(text) != `{"topic":"press/state","qos":1,"payload":"on"}`+"\n" {
		t.Errorf("%v: %s", err, text)
	}

	s.sayf("the broker is deleted, and its volume with it")
	pod := s.pod()
	s.remove(anna)
	s.remove(broker)
	s.eventually(patience, "nothing is left", func() error {
		if err := s.isGone(broker); err != nil {
			return err
		}
		return s.isGone(pod)
	})
	s.noVolumes()

	s.sayf("another one gets what it had")
	s.broker(withVolume)
	pod = s.pod()
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(dir, "cut.backup")
	if err := os.WriteFile(cut, whole[:len(whole)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if out, complaints, code := s.mqtt("restore", cut, "--broker", brokerName, "--passphrase-file", phrase); code != 1 || out != "" || !strings.Contains(complaints, "the snapshot is damaged") {
		t.Errorf("half a file: exit code %d, %s%s", code, out, complaints)
	}
	s.says("21 messages queued or in flight", "restore", file, "--broker", brokerName, "--passphrase-file", phrase)
	s.user("anna", allow("#"))
	back := s.reconnect("anna", press)
	if !back.present {
		t.Error("the session is not there")
	}
	for _, text := range waits {
		if before := s.hears(back, "press/work", text); len(before) > 0 {
			t.Errorf("before %q there came %s", text, strings.Join(before, "; "))
		}
	}
	if before := s.hears(back, "press/state", "on"); len(before) > 0 {
		t.Errorf("before the last one there came %s", strings.Join(before, "; "))
	}
	other := s.connect("anna")
	s.mustSubscribe(other, "press/state")
	s.hears(other, "press/state", "on")
	if out, complaints, code := s.mqtt("restore", file, "--broker", brokerName, "--passphrase-file", phrase); code != 1 || out != "" || !strings.Contains(complaints, "the broker has state of its own: sessions: 1, retained messages: 1") {
		t.Errorf("into a broker that has something: exit code %d, %s%s", code, out, complaints)
	}
	s.samePod(pod)
}
