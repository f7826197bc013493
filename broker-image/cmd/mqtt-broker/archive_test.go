// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/snapshot"
)

// brokerAt is a broker under an operator.
type brokerAt struct {
	*admin.Client

	mqtt string
	errs *screen
	stop func() int
}

func served(t *testing.T) *brokerAt {
	t.Helper()

	dir, adminDir := t.TempDir(), t.TempDir()
	ca := newAuthority(t)
	ca.write(adminDir)

	b := &brokerAt{mqtt: freePort(t)}
	write(t, dir, config(t, 1, b.mqtt, "otto"))

	address := freePort(t)
	_, b.errs, b.stop = start(t, "serve", "--config-dir", dir, "--data", t.TempDir(), "--admin-tls", adminDir,
		"--admin-listen", address, "--health-listen", "")
	b.Client = admin.NewClient(address, ca.trust())
	b.runs(t, time.Time{})

	return b
}

// runs waits until the broker serves that began after a moment, and tells when it began.
func (b *brokerAt) runs(t *testing.T, after time.Time) time.Time {
	t.Helper()

	var status admin.Status

	eventually(t, b.errs.String, func() bool {
		var err error
		status, err = b.Status(t.Context())

		return err == nil && status.Revision > 0 && status.Started.After(after)
	})

	return status.Started
}

// restore tries until the broker has noticed that the one before was broken off.
func (b *brokerAt) restore(t *testing.T, from func() io.Reader, o admin.RestoreOptions) (restored admin.Restored, err error) {
	t.Helper()

	eventually(t, b.errs.String, func() bool {
		restored, err = b.Restore(t.Context(), from(), o)

		return !errors.Is(err, admin.ErrSnapshotBusy)
	})

	return restored, err
}

// resume connects with a session that outlives the connection, and says whether there was one.
func resume(t *testing.T, address, name string, got chan<- string) (*paho.Client, bool) {
	t.Helper()

	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}

	c := paho.NewClient(paho.ClientConfig{Conn: conn, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(p paho.PublishReceived) (bool, error) {
			got <- string(p.Packet.Payload)

			return true, nil
		},
	}})

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	ack, err := c.Connect(ctx, &paho.Connect{
		ClientID: name, KeepAlive: 30, Username: name, UsernameFlag: true, Password: []byte(name), PasswordFlag: true,
		Properties: &paho.ConnectProperties{SessionExpiryInterval: new(uint32(3600))},
	})
	if err != nil {
		t.Fatal(err)
	}

	return c, ack.SessionPresent
}

// TestBackupAndRestore: what one broker has goes to another that runs, which takes all of it or nothing.
func TestBackupAndRestore(t *testing.T) {
	from, to := served(t), served(t)
	got := make(chan string, 10)

	anna, _ := resume(t, from.mqtt, "anna", got)
	if _, err := anna.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "#", QoS: 2}}}); err != nil {
		t.Fatal(err)
	}

	if err := anna.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}

	otto := client5(t, from.mqtt, "otto", "otto", got, make(chan byte, 1))
	for _, payload := range []string{"one", "two"} {
		if _, err := otto.Publish(t.Context(), &paho.Publish{Topic: "a", QoS: 2, Payload: []byte(payload)}); err != nil {
			t.Fatal(err)
		}
	}

	body, err := from.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	saved, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}

	_ = body.Close()
	began := to.runs(t, time.Time{})

	// What is not whole changes nothing, and disturbs nobody.
	gone := make(chan byte, 1)
	stays := client5(t, to.mqtt, "otto", "otto", got, gone)

	broken := errors.New("the line is down")
	for name, half := range map[string]func() io.Reader{
		"cut": func() io.Reader { return bytes.NewReader(saved[:len(saved)/2]) },
		"broken": func() io.Reader {
			return io.MultiReader(bytes.NewReader(saved[:len(saved)-10]), iotest.ErrReader(broken))
		},
	} {
		if _, err := to.restore(t, half, admin.RestoreOptions{}); !errors.Is(err, snapshot.ErrDamaged) && !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
	}

	if _, err := stays.Publish(t.Context(), &paho.Publish{Topic: "a", QoS: 1}); err != nil || !to.runs(t, time.Time{}).Equal(began) {
		t.Errorf("the broker was disturbed: %v", err)
	}

	restored, err := to.restore(t, func() io.Reader { return bytes.NewReader(saved) }, admin.RestoreOptions{})
	if err != nil || restored.Header.Broker != "test/test" || restored.Totals.Queued != 2 {
		t.Fatalf("%+v, %v\n%s", restored, err, to.errs)
	}

	if code := <-gone; code != 0x8B {
		t.Errorf("who was connected is told %#x, want 0x8B", code)
	}

	to.runs(t, began)

	anna, present := resume(t, to.mqtt, "anna", got)
	if one, two := receive(t, got), receive(t, got); !present || one != "one" || two != "two" {
		t.Errorf("session present: %t, got %s and %s", present, one, two)
	}

	if err := anna.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}

	if _, err := to.Restore(t.Context(), bytes.NewReader(saved), admin.RestoreOptions{}); !errors.Is(err, admin.ErrHasState) || err.Error() != "the broker has state of its own: sessions: 1, retained messages: 0" {
		t.Errorf("it has a session: %v", err)
	}

	if code := to.stop(); code != 0 || !strings.Contains(to.errs.String(), "broker begins anew with what was restored") {
		t.Errorf("exit code %d\n%s", code, to.errs)
	}
}
