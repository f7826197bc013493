// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// small mounts a file system that is soon full.
func small(t *testing.T, size string) string {
	t.Helper()

	if os.Geteuid() != 0 {
		t.Skip("LEFT OUT: only root can mount a small file system, and you are not root")
	}

	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}

	if err := syscall.Mount("faults", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("LEFT OUT: a small file system cannot be mounted here: %v", err)
	}

	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})

	return dir
}

// fillUp takes all but some bytes of the space that is free.
func fillUp(t *testing.T, dir string, but int64) (giveBack func()) {
	t.Helper()

	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}

	name := filepath.Join(dir, "somebody-else")

	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	if err := syscall.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-but); err != nil {
		t.Fatal(err)
	}

	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDiskFull fills the disk and makes room again.
func TestDiskFull(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		left   int64
	}{
		"somebody else took nearly everything": {"writes must stop before the database meets a full disk", 16 << 20},
		"not one byte is left":                 {"the database itself meets the full disk", 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := small(t, "192m")
			data := filepath.Join(dir, "data")
			s := setup{data: data, config: plain(t, nil), metrics: true}
			b := start(t, s)
			at := b.at["tcp"]

			keeper := join(t, at, who{id: "keeper", keep: true})
			if err := keeper.subscribe("kept/#", 2); err != nil {
				t.Fatal(err)
			}

			keeper.close()

			d := &diskFull{at: at, want: map[string]bool{}}
			if err := d.until(success); err != nil {
				t.Fatalf("%s: before: %v", tc.reason, err)
			}

			changer := join(t, at, who{id: "changer", keep: true})
			if err := changer.subscribe("mine", 1); err != nil {
				t.Fatal(err)
			}

			var giveBack func()

			for healed := true; healed; {
				giveBack = fillUp(t, dir, tc.left)

				if err := d.until(refused); err != nil {
					t.Fatalf("%s: full: %v", tc.reason, err)
				}

				eventually(t, "the metrics say it", func() (bool, string) {
					return b.value(t, "storage_fault") == 1, "storage_fault is not 1"
				})
				d.older(t)
				liveOn(t, at)

				if healed = noChange(t, at, changer, func() bool { return b.value(t, "storage_fault") == 0 }); healed {
					t.Log("the database has given room back by itself: the disk is filled once more")
					giveBack()
				}
			}

			giveBack()

			if err := d.until(success); err != nil {
				t.Fatalf("%s: healed: %v", tc.reason, err)
			}

			eventually(t, "the metrics say it", func() (bool, string) {
				return b.value(t, "storage_fault") == 0, "storage_fault is not 0"
			})

			d.arrived(t, at)
			b.end()

			// What was refused must not keep its packet id over a restart either.
			b = start(t, s)
			d.at = b.at["tcp"]

			if err := d.until(success); err != nil {
				t.Fatalf("%s: after a restart: %v", tc.reason, err)
			}

			d.arrived(t, d.at)
			b.end()
		})
	}
}

type outcome string

const (
	success outcome = "acknowledged"
	refused outcome = "refused"
)

// diskFull publishes what must be kept, and remembers what was acknowledged.
type diskFull struct {
	at   string
	n    int
	want map[string]bool // by payload: true if it was acknowledged, false if nobody can tell
}

// until publishes with QoS 1 and 2 until both come to this end.
func (d *diskFull) until(o outcome) error {
	for _, qos := range []byte{1, 2} {
		for deadline := time.Now().Add(patience); ; {
			got, err := d.try(qos)
			if err != nil {
				return fmt.Errorf("QoS %d: %w", qos, err)
			}

			if got == o {
				break
			}

			if time.Now().After(deadline) {
				return fmt.Errorf("QoS %d: is still %s, not %s", qos, got, o)
			}
		}
	}

	return nil
}

// try publishes one message on a persistent session of its own, with the same packet id each time.
func (d *diskFull) try(qos byte) (outcome, error) {
	c, err := dial(d.at, who{id: fmt.Sprintf("full%d", qos), keep: true})
	if err != nil {
		return "", err
	}
	defer c.close()

	d.n++
	body := strconv.Itoa(d.n) + strings.Repeat(".", 2000)
	code, err := c.publish("kept/"+strconv.Itoa(int(qos)), body, wire.PublishHeader{QoS: qos, PacketID: 3})

	switch {
	case err != nil:
		return "", err
	case code == wire.QuotaExceeded:
		return refused, nil
	case code >= 0x80:
		return "", fmt.Errorf("the answer is %#x", code)
	}

	d.want[body] = true

	return success, nil
}

// older: a client of MQTT 3.1.1 cannot be told, so it must not be acknowledged.
func (d *diskFull) older(t *testing.T) {
	t.Helper()

	for _, qos := range []byte{1, 2} {
		w := who{id: fmt.Sprintf("older%d", qos), version: wire.V311, keep: true}
		c := join(t, d.at, w)

		if code, err := c.publish("kept/older", "older", wire.PublishHeader{QoS: qos, PacketID: 4}); err == nil {
			t.Errorf("QoS %d to a full disk was acknowledged in MQTT 3.1.1 with %#x", qos, code)
		}

		c.close()

		// Not even when it comes again.
		c = join(t, d.at, w)

		if code, err := c.publish("kept/older", "older", wire.PublishHeader{QoS: qos, PacketID: 4, Dup: true}); err == nil {
			t.Errorf("QoS %d to a full disk was acknowledged in MQTT 3.1.1 with %#x when it came again", qos, code)
		}

		c.close()
	}
}

// liveOn: what need not be kept goes on.
func liveOn(t *testing.T, at string) {
	t.Helper()

	sub, pub := join(t, at, who{id: "live-sub", clean: true}), join(t, at, who{id: "live-pub", clean: true})
	if err := sub.subscribe("live", 1); err != nil {
		t.Fatal(err)
	}

	for qos := range byte(2) {
		if code, err := pub.publish("live", "x", wire.PublishHeader{QoS: qos, PacketID: 5}); err != nil || code != 0 {
			t.Fatalf("QoS %d to who is there: %#x, %v", qos, code, err)
		}

		p, err := sub.await(wire.TypePublish)
		if err != nil {
			t.Fatal(err)
		}

		if err := sub.obey(p); err != nil {
			t.Fatal(err)
		}
	}
}

// noChange: a SUBSCRIBE or UNSUBSCRIBE that was refused has changed nothing. It is true where the broker takes them because
// there is room again; then c is as before.
func noChange(t *testing.T, at string, c *client, isHealed func() bool) (healed bool) {
	t.Helper()

	err := c.subscribe("refused", 1)
	if err == nil && isHealed() {
		if code, err := c.unsubscribe("refused"); err != nil || code != wire.Success {
			t.Fatalf("UNSUBSCRIBE when there is room: %#x, %v", code, err)
		}

		return true
	}

	if err == nil || !strings.HasSuffix(err.Error(), "0x97") {
		t.Errorf("SUBSCRIBE of what must be kept: %v", err)
	}

	code, err := c.unsubscribe("mine")
	if err == nil && code == wire.Success && isHealed() {
		if err := c.subscribe("mine", 1); err != nil {
			t.Fatalf("SUBSCRIBE when there is room: %v", err)
		}

		return true
	}

	if err != nil || code != wire.ImplementationSpecificError {
		t.Errorf("UNSUBSCRIBE of what is kept: %#x, %v", code, err)
	}

	pub := join(t, at, who{id: "no-change", clean: true})
	for _, topic := range []string{"refused", "mine"} {
		if _, err := pub.publish(topic, "x", wire.PublishHeader{}); err != nil {
			t.Fatal(err)
		}
	}

	p, err := c.await(wire.TypePublish)
	if err != nil {
		t.Fatal(err)
	}

	var m wire.Publish
	if err := wire.ParsePublish(p, c.v(), &m); err != nil || string(m.Topic) != "mine" {
		t.Errorf("what comes first is for %q, %v", m.Topic, err)
	}

	return false
}

// arrived looks whether everything that was acknowledged comes, and nothing twice.
func (d *diskFull) arrived(t *testing.T, at string) {
	t.Helper()

	c := join(t, at, who{id: "keeper", keep: true})
	if !c.resumed {
		t.Fatal("the session is lost")
	}

	missing := 0
	for range d.want {
		missing++
	}

	for missing > 0 {
		p, err := c.await(wire.TypePublish)
		if err != nil {
			t.Fatalf("%d acknowledged messages are missing: %v", missing, err)
		}

		var m wire.Publish
		if err := wire.ParsePublish(p, wire.V5, &m); err != nil {
			t.Fatal(err)
		}

		if d.want[string(m.Payload)] {
			d.want[string(m.Payload)] = false
			missing--
		}

		if err := c.obey(p); err != nil {
			t.Fatal(err)
		}
	}

	// Acknowledgements are with the broker before the next asks.
	if err := c.send([]byte{wire.TypePingreq << 4, 0}); err != nil {
		t.Fatal(err)
	}

	if _, err := c.await(wire.TypePingresp); err != nil {
		t.Fatal(err)
	}

	c.close()

	d.want = map[string]bool{}
}

// TestDamagedStore changes files of the store between two runs. The broker must refuse to start and say why, or serve
// everything that was acknowledged.
func TestDamagedStore(t *testing.T) {
	const messages = 400

	rounds := 24
	if long {
		rounds = 400
	}

	config := plain(t, nil)
	original := filepath.Join(t.TempDir(), "data")
	b := start(t, setup{data: original, config: config})

	c := join(t, b.at["tcp"], who{id: "keeper", keep: true})
	if err := c.subscribe("kept", 1); err != nil {
		t.Fatal(err)
	}

	c.close()

	pub := join(t, b.at["tcp"], who{id: "pub", clean: true})
	for i := range messages {
		if code, err := pub.publish("kept", payload(i), wire.PublishHeader{QoS: 1, PacketID: 1}); err != nil || code != 0 {
			t.Fatalf("code %#x, %v", code, err)
		}

		if i == messages/2 {
			// So that tables lie on disk beside the log.
			b.end()
			b = start(t, setup{data: original, config: config})
			pub = join(t, b.at["tcp"], who{id: "pub", clean: true})
		}
	}

	b.kill()

	files := filesBelow(t, original)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 2))
	t.Logf("seed %d, %d files", seed, len(files))

	refusals, served := 0, 0

	for range rounds {
		data := filepath.Join(t.TempDir(), "data")
		if err := os.CopyFS(data, os.DirFS(original)); err != nil {
			t.Fatal(err)
		}

		what := damage(t, data, files[random.IntN(len(files))], random)

		b, err := begin(setup{data: data, config: config})

		var ended *endedError

		switch {
		case errors.As(err, &ended):
			refusals++

			if strings.Contains(ended.log, "panic") || strings.Contains(ended.log, "goroutine ") {
				t.Fatalf("%s: the broker crashed:\n%s", what, ended.log)
			}

			if !strings.Contains(ended.log, data) {
				t.Fatalf("%s: the refusal does not say where to look:\n%s", what, ended.log)
			}
		case err != nil:
			t.Fatalf("%s: %v", what, err)
		default:
			// What only a reader meets, the broker has to say then; but it never serves anything else.
			why, wrong := serves(b.at["tcp"], messages)
			if wrong || why != "" && !strings.Contains(b.log.String(), "damaged") {
				t.Fatalf("%s: it starts, but %s\n%s", what, why, b.log.String())
			}

			served++

			b.kill()
		}

		if err := os.RemoveAll(data); err != nil {
			t.Fatal(err)
		}
	}

	t.Logf("%d of %d were refused, %d served everything", refusals, rounds, served)
}

func filesBelow(t *testing.T, dir string) (files []string) {
	t.Helper()

	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}

		info, err := e.Info()
		if err == nil && info.Size() > 0 {
			name, _ := filepath.Rel(dir, path)
			files = append(files, name)
		}

		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	return files
}

// damage cuts a file or turns one bit of it.
func damage(t *testing.T, dir, name string, random *rand.Rand) string {
	t.Helper()

	path := filepath.Join(dir, name)

	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	at := random.IntN(len(content))
	what := fmt.Sprintf("%s of %d bytes", name, len(content))

	if random.IntN(2) == 0 {
		content = content[:at]
		what += fmt.Sprintf(", cut at %d", at)
	} else {
		bit := random.IntN(8)
		content[at] ^= 1 << bit
		what += fmt.Sprintf(", bit %d of byte %d turned", bit, at)
	}

	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}

	return what
}

// serves says what is missing, and whether something else came in its place.
func serves(at string, messages int) (why string, wrong bool) {
	c, err := dial(at, who{id: "keeper", keep: true})
	if err != nil {
		return err.Error(), false
	}
	defer c.close()

	if !c.resumed {
		return "the session is lost", true
	}

	for i := range messages {
		p, err := c.await(wire.TypePublish)
		if err != nil {
			return fmt.Sprintf("message %d is missing: %v", i, err), false
		}

		var m wire.Publish
		if err := wire.ParsePublish(p, wire.V5, &m); err != nil {
			return err.Error(), false
		}

		if string(m.Payload) != payload(i) {
			return fmt.Sprintf("in place of message %d comes another one", i), true
		}

		if err := c.obey(p); err != nil {
			return err.Error(), false
		}
	}

	return "", false
}

// TestReleaseOnFullDisk ends a QoS 2 message while the disk is full. What the broker cannot note down it must not
// forget: the next message with the same packet id is another one.
func TestReleaseOnFullDisk(t *testing.T) {
	dir := small(t, "192m")
	s := setup{data: filepath.Join(dir, "data"), config: plain(t, nil)}
	b := start(t, s)

	keeper, pub := who{id: "keeper", keep: true}, who{id: "pub", keep: true}

	sub := join(t, b.at["tcp"], keeper)
	if err := sub.subscribe("kept/#", 2); err != nil {
		t.Fatal(err)
	}

	c := join(t, b.at["tcp"], pub)
	if err := c.send(c.publishPacket("kept/a", "first", wire.PublishHeader{QoS: 2, PacketID: 9})); err != nil {
		t.Fatal(err)
	}

	if p, err := c.await(wire.TypePubrec); err != nil || reason(p) != 0 {
		t.Fatalf("% x, %v", p, err)
	}

	giveBack := fillUp(t, dir, 0)

	full := &diskFull{at: b.at["tcp"], want: map[string]bool{}}
	if err := full.until(refused); err != nil {
		t.Fatal(err)
	}

	// As a client does: PUBREL again on each new connection, until PUBCOMP comes.
	completed := false

	for range 5 {
		if c.ack(wire.TypePubrel, 9) == nil {
			if _, err := c.await(wire.TypePubcomp); err == nil {
				completed = true

				break
			}
		}

		c.close()
		c = join(t, b.at["tcp"], pub)
	}

	giveBack()

	if !completed {
		within(t, patience, "PUBCOMP when there is room", func() (bool, string) {
			c.close()
			c = join(t, b.at["tcp"], pub)

			if err := c.ack(wire.TypePubrel, 9); err != nil {
				return false, err.Error()
			}

			_, err := c.await(wire.TypePubcomp)

			return err == nil, fmt.Sprint(err)
		})
	}

	b.kill()
	b = start(t, s)
	c = join(t, b.at["tcp"], pub)

	if code, err := c.publish("kept/a", "second", wire.PublishHeader{QoS: 2, PacketID: 9}); err != nil || code != 0 {
		t.Fatalf("%#x, %v", code, err)
	}

	sub = join(t, b.at["tcp"], keeper)

	for _, want := range []string{"first", "second"} {
		for got := ""; got != want; {
			p, err := sub.await(wire.TypePublish)
			if err != nil {
				t.Fatalf("%s has not come: %v", want, err)
			}

			var m wire.Publish
			if err := wire.ParsePublish(p, wire.V5, &m); err != nil {
				t.Fatal(err)
			}

			if string(m.Topic) == "kept/a" && string(m.Payload) != want {
				t.Fatalf("%s in place of %s", m.Payload, want)
			}

			if err := sub.obey(p); err != nil {
				t.Fatal(err)
			}

			got = string(m.Payload)
		}
	}

	sub.close()
	c.close()
	b.end()
}
