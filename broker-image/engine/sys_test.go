// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

// TestSys subscribes to the tree as users of Mosquitto do, and looks at what it says while things happen.
func TestSys(t *testing.T) {
	h := open(t, Options{Version: "1.2.3", SysInterval: 5 * time.Millisecond, DataDir: t.TempDir()}, baseConfig(
		person(t, "watch", only(acl.Subscribe, "$SYS/#")), person(t, "anna", allow("#"))))

	w := h.user("watch")
	w.subscribe(0, "$SYS/#")

	said := map[string]string{}
	until := func(reason string, want map[string]string) {
		t.Helper()

		fits := func() bool {
			for topic, pattern := range want {
				if !regexp.MustCompile("^(?:" + pattern + ")$").MatchString(said["$SYS/broker/"+topic]) {
					return false
				}
			}

			return true
		}

		for deadline := time.Now().Add(patience); !fits(); {
			if time.Now().After(deadline) {
				t.Fatalf("%s: want %v, got %v", reason, want, said)
			}

			m := w.message()
			said[m.topic] = m.payload
		}
	}

	until("at first", map[string]string{
		"version": "mqtt-broker version 1\\.2\\.3", "uptime": "[0-9]+ seconds", "clients/connected": "1", "clients/total": "1",
		"clients/maximum": "1", "clients/disconnected": "0", "subscriptions/count": "1", "shared_subscriptions/count": "0",
		"retained messages/count": "[1-9][0-9]*", "messages/inflight": "0", "heap/current": "[1-9][0-9]*",
		"load/messages/received/1min": "[0-9]+\\.[0-9]{2}", "load/sockets/5min": "[0-9]+\\.[0-9]{2}",
	})

	first := w.message()
	if !strings.HasPrefix(first.topic, "$SYS/") || first.retain {
		t.Errorf("what changes comes as any message: %+v", first)
	}

	keep := login{version: 5, id: "keep", user: "anna", resume: true, props: u32prop(pExpiry, 3600)}
	p := h.login(keep)
	p.subscribe(1, "a", "$share/g/b")
	h.user("anna").published("a", "12345", false)
	p.expect(tPublish)
	until("with a message under way", map[string]string{
		"clients/connected": "3", "clients/maximum": "3", "subscriptions/count": "3", "shared_subscriptions/count": "1",
		"messages/inflight": "1", "publish/messages/received": "1", "publish/bytes/received": "5", "publish/messages/sent": "[1-9][0-9]*",
	})

	p.bye()
	until("when a session is away", map[string]string{"clients/connected": "2", "clients/disconnected": "1", "clients/total": "3"})

	topics := make([]string, 0, len(said))
	for topic := range said {
		topics = append(topics, topic)
	}

	if stray := slices.DeleteFunc(topics, func(s string) bool { return strings.HasPrefix(s, "$SYS/broker/") }); len(stray) > 0 {
		t.Errorf("besides came %v", stray)
	}

	if got := h.user("anna").subscribe(0, "$SYS/broker/uptime"); got[0] != 0x87 {
		t.Errorf("# grants no $SYS, got %#x", got[0])
	}

	late := h.login(login{version: 4, id: "late", user: "watch"})
	late.subscribe(0, "$SYS/broker/version")

	if m := late.message(); !m.retain || m.payload != "mqtt-broker version 1.2.3" {
		t.Errorf("what does not change is there for who comes later: %+v", m)
	}
}
