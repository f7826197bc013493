// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// TestKilled kills the broker at random moments under load.
func TestKilled(t *testing.T) {
	kills := 8
	if long {
		kills = 100
	}

	if err := besiege(t, executable, kills, true); err != nil {
		t.Fatal(err)
	}
}

// tooEarly are the changes that make a broker send one type of answer before anything is written: a wrong broker, to see
// that it is caught. The type comes by the environment, so that it takes one build for all.
var tooEarly = struct {
	file    string
	changes []string // old and new by turns
}{
	file: "../../broker-image/engine/conn.go",
	changes: []string{
		"import (\n",
		"import (\n\tearlyos \"os\"\n\tearlyconv \"strconv\"\n",
		"func (c *conn) owe(r *round, a answer, wait bool) {\n",
		"var tooEarly, _ = earlyconv.Atoi(earlyos.Getenv(\"TOO_EARLY\"))\n\n" +
			"func (c *conn) owe(r *round, a answer, wait bool) {\n\twait = wait && int(a.typ) != tooEarly\n",
	},
}

// TestKilledTooEarly shows that TestKilled would notice a broker that answers before what it answers is safe.
func TestKilledTooEarly(t *testing.T) {
	const most = 200

	early := filepath.Join(t.TempDir(), "mqtt-broker")
	if err := buildChanged(t, early, tooEarly.file, tooEarly.changes); err != nil {
		t.Fatal(err)
	}

	for name, tc := range map[string]struct {
		reason string
		typ    byte
		want   string
	}{
		"PUBACK":  {"a message of QoS 1 is lost", wire.TypePuback, "is lost"},
		"PUBREC":  {"a message of QoS 2 is lost", wire.TypePubrec, "is lost"},
		"PUBREL":  {"the broker sends a message again of which the client has let go", wire.TypePubrel, "came again"},
		"PUBCOMP": {"the next message with the packet id is taken for the last one", wire.TypePubcomp, "is lost"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TOO_EARLY", strconv.Itoa(int(tc.typ)))

			err := besiege(t, early, most, false)
			if err == nil {
				t.Fatalf("too early a %s survived %d kills: the check does not see that %s", name, most, tc.reason)
			}

			if !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("caught, but for another reason: %v", err)
			}

			t.Logf("caught: %v", err)
		})
	}
}

// buildChanged builds a broker with one file changed, without touching it.
func buildChanged(t *testing.T, to, file string, changes []string) error {
	t.Helper()

	source, err := os.ReadFile(file)
	if err != nil {
		return err
	}

	for i := 0; i < len(changes); i += 2 {
		if bytes.Count(source, []byte(changes[i])) != 1 {
			return fmt.Errorf("%s has changed: tell this test where answers wait for the disk", file)
		}

		source = bytes.Replace(source, []byte(changes[i]), []byte(changes[i+1]), 1)
	}

	original, err := filepath.Abs(file)
	if err != nil {
		return err
	}

	dir := t.TempDir()
	changed, overlay := filepath.Join(dir, filepath.Base(file)), filepath.Join(dir, "overlay.json")

	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{original: changed}})
	if err != nil {
		return err
	}

	if err := errors.Join(os.WriteFile(changed, source, 0o600), os.WriteFile(overlay, replace, 0o600)); err != nil {
		return err
	}

	return build(to, "-overlay", overlay)
}

// besiege loads a broker, kills it again and again, and tells which promise it broke.
func besiege(t *testing.T, program string, kills int, witnessed bool) error {
	t.Helper()

	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)

	s := setup{binary: program, data: t.TempDir(), config: plain(t, nil)}
	b := start(t, s)

	g := &siege{}
	g.ctx, g.cancel = context.WithCancelCause(t.Context())
	address := b.at["tcp"]
	g.at.Store(&address)

	defer g.running.Wait()
	defer g.cancel(nil)

	if err := g.assemble(seed); err != nil {
		return err
	}

	w := &witness{who: who{id: "witness", keep: true}, retained: map[string]string{}}

	for k := range kills {
		if witnessed {
			if err := w.before(address, k); err != nil {
				return err
			}
		}

		if err := g.wait(int64(random.IntN(1200))); err != nil {
			return err
		}

		pause := time.NewTimer(time.Duration(random.IntN(3000)) * time.Microsecond)
		<-pause.C
		b.kill()

		began := time.Now()

		var err error
		if b, err = begin(s); err != nil {
			return fmt.Errorf("after %d kills: %w", k+1, err)
		}

		t.Cleanup(b.kill)

		address = b.at["tcp"]
		at := address
		g.at.Store(&at)

		if witnessed {
			if err := w.after(address); err != nil {
				return fmt.Errorf("after %d kills: %w", k+1, err)
			}
		}

		if (k+1)%10 == 0 {
			t.Logf("%d kills, %d messages acknowledged; the last start took %s", k+1, g.acked.Load(), time.Since(began).Round(time.Millisecond))
		}
	}

	if err := g.settle(); err != nil {
		return err
	}

	t.Logf("%d kills, %d messages acknowledged", kills, g.acked.Load())

	return w.last(address, kills)
}

// assemble brings everyone in: each has a session before the first shot.
func (g *siege) assemble(seed uint64) error {
	for i, v := range []wire.Version{wire.V5, wire.V311, wire.V5} {
		p := &publisher{
			who: who{id: fmt.Sprintf("p%d", i), version: v, keep: true}, g: g, rand: rand.New(rand.NewPCG(seed, uint64(10+i))),
			window: []int{20, 20, 1}[i], ids: []uint16{0xffff, 25, 2}[i], done: make(chan struct{}),
		}
		g.publishers = append(g.publishers, p)

		c, err := dial(*g.at.Load(), p.who)
		if err != nil {
			return err
		}

		c.close()
	}

	for i, s := range []*subscriber{
		{who: who{id: "online5", version: wire.V5}},
		{who: who{id: "online311", version: wire.V311}},
		{who: who{id: "flapping5", version: wire.V5, window: 10}, flaps: true},
		{who: who{id: "flapping311", version: wire.V311}, flaps: true},
		{who: who{id: "offline5", version: wire.V5, window: 50}},
		{who: who{id: "offline311", version: wire.V311}},
	} {
		s.keep, s.g, s.held, s.last = true, g, map[uint16]bool{}, map[string]int{}
		s.rand = rand.New(rand.NewPCG(seed, uint64(20+i)))
		g.subscribers = append(g.subscribers, s)

		c, err := dial(*g.at.Load(), s.who)
		if err != nil {
			return err
		}

		err = c.subscribe("load/#", 2)
		c.close()

		if err != nil {
			return err
		}
	}

	for _, p := range g.publishers {
		g.running.Go(p.run)
	}

	for _, s := range g.subscribers[:4] {
		g.running.Go(s.run)
	}

	return nil
}

// wait lets some messages be acknowledged.
func (g *siege) wait(n int64) error {
	from := g.acked.Load()
	deadline := time.Now().Add(patience)

	for g.acked.Load()-from < n {
		if err := context.Cause(g.ctx); err != nil {
			return err
		}

		if time.Now().After(deadline) {
			return fmt.Errorf("only %d of %d messages were acknowledged within %s", g.acked.Load()-from, n, patience)
		}

		pause := time.NewTimer(time.Millisecond)
		<-pause.C
	}

	return context.Cause(g.ctx)
}

// settle lets publishers come to an end and everyone get what is theirs.
func (g *siege) settle() error {
	g.calm.Store(true)

	for _, s := range g.subscribers[4:] {
		g.running.Go(s.run)
	}

	for _, p := range g.publishers {
		select {
		case <-p.done:
		case <-g.ctx.Done():
			return context.Cause(g.ctx)
		case <-time.After(patience):
			return fmt.Errorf("%s: its last messages are not acknowledged", p.id)
		}
	}

	limit := patience
	if long {
		limit *= 10
	}

	deadline := time.Now().Add(limit)

	for {
		var gaps strings.Builder
		for _, s := range g.subscribers {
			gaps.WriteString(s.missing(g.publishers))
		}

		missing := gaps.String()

		if err := context.Cause(g.ctx); err != nil || missing == "" {
			return err
		}

		if time.Now().After(deadline) {
			return errors.New(missing)
		}

		pause := time.NewTimer(5 * time.Millisecond)
		<-pause.C
	}
}

// witness is told that its subscriptions and retained messages are kept, and looks whether they are. Its QoS 2 message
// is received before the kill and released after it.
type witness struct {
	who

	retained map[string]string
	half     int // the number of the QoS 2 message whose PUBREL has not been sent
	came     int // how many of those arrived
}

const halfID = 7

func (w *witness) before(at string, k int) error {
	c, err := dial(at, w.who)
	if err != nil {
		return err
	}
	defer c.close()

	if !c.resumed && k > 0 {
		return errors.New("the session of the witness is lost")
	}

	if err := c.subscribe(fmt.Sprintf("own/%d", k), 1); err != nil {
		return err
	}

	topic, value := fmt.Sprintf("kept/%d", k%16), strconv.Itoa(k)
	if k%16 == 15 && k > 16 {
		value = ""
	}

	if code, err := c.publish(topic, value, wire.PublishHeader{QoS: 1, PacketID: 1, Retain: true}); err != nil || code >= 0x80 {
		return fmt.Errorf("a retained message: code %#x, %w", code, err)
	}

	delete(w.retained, topic)

	if value != "" {
		w.retained[topic] = value
	}

	if k == 0 {
		if err := c.subscribe("half", 2); err != nil {
			return err
		}
	}

	w.half = k

	if err := c.send(w.frame("half", strconv.Itoa(k), wire.PublishHeader{QoS: 2, PacketID: halfID})); err != nil {
		return err
	}

	p, err := c.read(patience)

	for ; err == nil && wire.Type(p[0]) != wire.TypePubrec; p, err = c.read(patience) {
		if err := w.hear(c, p); err != nil {
			return err
		}
	}

	if err != nil || reason(p) != 0 {
		return fmt.Errorf("PUBREC says %#x: %w", reason(p), err)
	}

	return nil
}

// hear takes what was sent to the witness itself.
func (w *witness) hear(c *client, p []byte) error {
	if wire.Type(p[0]) == wire.TypePublish {
		var m wire.Publish
		if err := wire.ParsePublish(p, wire.V5, &m); err != nil {
			return err
		}

		if string(m.Topic) == "half" && string(m.Payload) == strconv.Itoa(w.came) {
			w.came++
		} else if string(m.Topic) == "half" && !m.Dup {
			return fmt.Errorf("half/%s came as number %d", m.Payload, w.came)
		}
	}

	return c.obey(p)
}

// after looks whether what was acknowledged has survived.
func (w *witness) after(at string) error {
	c, err := dial(at, w.who)
	if err != nil {
		return err
	}
	defer c.close()

	if !c.resumed {
		return errors.New("the session of the witness is lost")
	}

	// A message whose PUBREC came is the broker's: sent again it must be known [MQTT-4.3.3-10].
	if err := c.send(w.frame("half", strconv.Itoa(w.half), wire.PublishHeader{QoS: 2, PacketID: halfID, Dup: true})); err != nil {
		return err
	}

	if err := w.drain(c); err != nil {
		return err
	}

	fresh, err := dial(at, who{id: "fresh", clean: true})
	if err != nil {
		return err
	}
	defer fresh.close()

	if err := fresh.subscribe("kept/#", 0); err != nil {
		return err
	}

	return w.compare(fresh)
}

func (w *witness) drain(c *client) error {
	completed := false

	for !completed || w.came <= w.half {
		p, err := c.read(patience)
		if err != nil {
			return fmt.Errorf("the witness has got %d of %d, and PUBCOMP: %v: %w", w.came, w.half+1, completed, err)
		}

		switch wire.Type(p[0]) {
		case wire.TypePubcomp:
			completed = true
		case wire.TypePubrec:
			err = c.obey(p)
		default:
			err = w.hear(c, p)
		}

		if err != nil {
			return err
		}
	}

	return nil
}

// compare reads retained messages; a PINGRESP says that all have come.
func (w *witness) compare(c *client) error {
	if err := c.send([]byte{wire.TypePingreq << 4, 0}); err != nil {
		return err
	}

	found := map[string]string{}

	for {
		p, err := c.read(patience)
		if err != nil {
			return err
		}

		if wire.Type(p[0]) == wire.TypePingresp {
			break
		}

		var m wire.Publish
		if err := wire.ParsePublish(p, wire.V5, &m); err != nil {
			return err
		}

		found[string(m.Topic)] = string(m.Payload)
	}

	for topic, want := range w.retained {
		if found[topic] != want {
			return fmt.Errorf("retained %s is %q, acknowledged was %q", topic, found[topic], want)
		}
	}

	if len(found) != len(w.retained) {
		return fmt.Errorf("%d retained messages, %d are meant to be there", len(found), len(w.retained))
	}

	return nil
}

// last looks at all subscriptions of the witness.
func (w *witness) last(at string, kills int) error {
	c, err := dial(at, w.who)
	if err != nil {
		return err
	}
	defer c.close()

	for k := range kills {
		topic := fmt.Sprintf("own/%d", k)
		if code, err := c.publish(topic, "", wire.PublishHeader{QoS: 1, PacketID: 1}); err != nil || code != 0 {
			return fmt.Errorf("the subscription to %s is lost: code %#x, %w", topic, code, err)
		}
	}

	return nil
}
