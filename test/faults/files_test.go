// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// TestDescriptorsUsedUp opens more connections than the broker has descriptors for.
func TestDescriptorsUsedUp(t *testing.T) {
	files := 256

	if long {
		files = 10_000

		// The clients are in this process, which needs as many.
		var own syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &own); err != nil {
			t.Fatal(err)
		}

		if most := int(min(own.Cur, 1<<20)) - 500; most < files {
			t.Logf("this process may have %d descriptors, so the broker gets %d, not %d", own.Cur, most, files)
			files = most
		}
	}

	b := start(t, setup{data: t.TempDir(), config: plain(t, nil), files: files})
	at := b.at["tcp"]

	sub, pub := join(t, at, who{id: "sub", keep: true}), join(t, at, who{id: "pub", keep: true})
	if err := sub.subscribe("a", 1); err != nil {
		t.Fatal(err)
	}

	talk := func(when string) {
		t.Helper()

		if code, err := pub.publish("a", when, wire.PublishHeader{QoS: 1, PacketID: 1}); err != nil || code != 0 {
			t.Fatalf("%s: %#x, %v", when, code, err)
		}

		p, err := sub.await(wire.TypePublish)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}

		if err := sub.obey(p); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}

	talk("before")

	// The kernel takes connections that the broker cannot accept: those get no answer, and wait.
	var crowd []net.Conn

	defer func() {
		for _, c := range crowd {
			c.Close()
		}
	}()

	answered := 0

	for range files + 50 {
		conn, err := net.DialTimeout("tcp", at, time.Second)
		if err != nil {
			break // the queue of the socket is full too
		}

		crowd = append(crowd, conn)

		if _, err := conn.Write((who{clean: true}).connect()); err != nil {
			break
		}
	}

	// All that can be served are; then those that exist go on.
	for _, conn := range crowd {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if answered > 0 && answered >= files-64 {
			_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		}

		if _, err := conn.Read(make([]byte, 64)); err != nil {
			break
		}

		answered++
	}

	if answered == len(crowd) {
		t.Fatalf("all %d connections were served with %d descriptors", answered, files)
	}

	t.Logf("%d of %d connections were served with %d descriptors", answered, len(crowd), files)
	talk("used up")

	for _, c := range crowd {
		c.Close()
	}

	crowd = nil

	within(t, patience, "the listener comes back", func() (bool, string) {
		c, err := dial(at, who{id: "new", clean: true})
		if err != nil {
			return false, err.Error()
		}

		c.close()

		return true, ""
	})
	talk("afterwards")
}
