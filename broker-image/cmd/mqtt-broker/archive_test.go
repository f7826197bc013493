// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
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

	b, args := prepared(t, t.TempDir())
	_, b.errs, b.stop = start(t, args...)
	b.runs(t, time.Time{})

	return b
}

// prepared is a broker that is yet to be started, with these arguments.
func prepared(t *testing.T, data string) (*brokerAt, []string) {
	t.Helper()

	dir, adminDir := t.TempDir(), t.TempDir()
	ca := newAuthority(t)
	ca.write(adminDir)

	b := &brokerAt{mqtt: freePort(t), errs: &screen{}}
	write(t, dir, config(t, 1, b.mqtt, "otto"))

	address := freePort(t)
	b.Client = admin.NewClient(address, ca.trust())

	return b, []string{
		"serve", "--config-dir", dir, "--data", data, "--admin-tls", adminDir, "--admin-listen", address, "--health-listen", "",
	}
}

// asProcess names the arguments with which the program of these tests is the broker instead.
const asProcess = "MQTT_BROKER_ARGS"

func TestMain(m *testing.M) {
	if args := os.Getenv(asProcess); args != "" {
		os.Exit(run(context.Background(), strings.Split(args, "\n"), os.Stdout, os.Stderr))
	}

	os.Exit(m.Run())
}

// spawn starts the broker as a process of its own. What it gives kills it.
func (b *brokerAt) spawn(t *testing.T, args []string) (kill func()) {
	t.Helper()

	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), asProcess+"="+strings.Join(args, "\n"))
	command.Stderr = b.errs

	if err := command.Start(); err != nil {
		t.Fatal(err)
	}

	b.runs(t, time.Time{})

	return sync.OnceFunc(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
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

// TestRetainedMessagesGoFromBrokerToBroker: with all that belongs to them.
func TestRetainedMessagesGoFromBrokerToBroker(t *testing.T) {
	from, to := served(t), served(t)

	const list = `{"topic":"a","qos":2,"expires":4000000000,"payloadBase64":"/wA=","properties":{"payloadFormat":0,"contentType":"t","responseTopic":"r","correlationDataBase64":"AQ==","user":[["k","v"]]}}
{"topic":"b","qos":0,"payload":"x","properties":{"payloadFormat":1}}
{"topic":"c","qos":1,"payload":"y"}
`
	if n, err := from.Retain(t.Context(), "#", strings.NewReader(list)); n != 3 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}

	for _, b := range []*brokerAt{from, to} {
		body, err := b.Retained(t.Context(), "#")
		if err != nil {
			t.Fatal(err)
		}

		text, err := io.ReadAll(body)
		_ = body.Close()

		if err != nil {
			t.Fatal(err)
		}

		if b == from {
			if _, err := to.Retain(t.Context(), "#", bytes.NewReader(text)); err != nil {
				t.Error(err)
			}
		}

		// What is left of the time is less by now.
		got := regexp.MustCompile(`"expires":39999\d+`).ReplaceAllString(string(text), `"expires":4000000000`)
		if got != list {
			t.Errorf("got\n%s\nwant\n%s", got, list)
		}
	}
}

// TestARestoreIsKilled: in the middle, and as soon as it is answered.
func TestARestoreIsKilled(t *testing.T) {
	got := make(chan string, 10)
	source := served(t)
	otto, _ := resume(t, source.mqtt, "otto", got)

	if err := otto.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}

	body, err := source.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	saved, err := io.ReadAll(body)
	_ = body.Close()

	if err != nil {
		t.Fatal(err)
	}

	data := t.TempDir()
	b, args := prepared(t, data)
	incoming := filepath.Join(data, "incoming")
	kill := b.spawn(t, args)
	anna, _ := resume(t, b.mqtt, "anna", got)

	// What comes before an acknowledgement of something that is kept is on disk with it.
	if _, err := anna.Publish(t.Context(), &paho.Publish{Topic: "kept", QoS: 1, Retain: true, Payload: []byte("x")}); err != nil {
		t.Fatal(err)
	}

	if err := anna.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}

	// holds says whose sessions there are.
	holds := func(want map[string]bool) {
		t.Helper()

		for name, there := range want {
			client, present := resume(t, b.mqtt, name, got)
			if present != there {
				t.Errorf("the session of %s is there: %t, want %t", name, present, there)
			}

			// A session that was not there goes again.
			if err := client.Disconnect(&paho.Disconnect{Properties: &paho.DisconnectProperties{SessionExpiryInterval: sessionEnd(there)}}); err != nil {
				t.Fatal(err)
			}
		}
	}

	half := io.MultiReader(bytes.NewReader(saved[:len(saved)-40]), reading(func() (int, error) {
		eventually(t, b.errs.String, func() bool { _, err := os.Stat(incoming); return err == nil })
		kill()

		return 0, errors.New("killed")
	}))
	if _, err := b.Restore(t.Context(), half, admin.RestoreOptions{Replace: true}); err == nil {
		t.Error("half of it is taken")
	}

	if _, err := os.Stat(incoming); err != nil {
		t.Errorf("it was killed too early or too late: %v", err)
	}

	kill = b.spawn(t, args)

	if _, err := os.Stat(incoming); err == nil {
		t.Error("what was not finished stays behind")
	}

	holds(map[string]bool{"anna": true, "otto": false})

	if _, err := b.Restore(t.Context(), bytes.NewReader(saved), admin.RestoreOptions{Replace: true}); err != nil {
		t.Fatalf("%v\n%s", err, b.errs)
	}

	kill()

	kill = b.spawn(t, args)
	defer kill()

	holds(map[string]bool{"anna": false, "otto": true})
}

// sessionEnd is how long a session is to stay.
func sessionEnd(stays bool) *uint32 {
	if stays {
		return new(uint32(3600))
	}

	return new(uint32(0))
}

// reading is a reader that does something instead.
type reading func() (int, error)

func (r reading) Read([]byte) (int, error) { return r() }
