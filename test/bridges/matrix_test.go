// SPDX-License-Identifier: Apache-2.0

package bridges

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// form is a number of the short form or of the full one.
func form(little, much int) int { return pick(full, little, much) }

func pick(more bool, little, much int) int {
	if more {
		return much
	}

	return little
}

// result is a row of the page.
type result struct {
	peer    string
	version int
	story   string
	way     string // "out" or "in"
	qos     byte
	counts  counts
	// arrives is the QoS with which messages arrived, if that is less than what they were published with.
	arrives byte
	// peak is the most memory that the bridge had, in KiB.
	peak int64
}

var results struct {
	sync.Mutex
	list []result
}

func (r result) note(t *testing.T) {
	t.Helper()
	t.Logf("%s %s QoS %d: %s", r.story, r.way, r.qos, r.counts)

	results.Lock()
	defer results.Unlock()

	results.list = append(results.list, r)
}

func versionName(version int) string {
	if version == 5 {
		return "5"
	}

	return "3.1.1"
}

func TestPeers(t *testing.T) {
	for _, p := range peers {
		for _, version := range p.mqtt {
			// One version of each is enough for the short form; Mosquitto speaks for the other.
			if !full && (!p.quick || (version != p.mqtt[0] && p != mosquitto)) {
				continue
			}

			t.Run(fmt.Sprintf("%s/%s", p.name, versionName(version)), func(t *testing.T) {
				t.Parallel()

				r := p.run(t, false)
				c := &cell{peer: p, version: version, remote: r}
				c.keepEarly(t)
				c.site = newSite(t, r.end(version), p.qos)
				t.Run("passes", c.passes)
				t.Run("retained", c.retained)
				t.Run("cut", c.cut)
				t.Run("restart", c.restart)
				t.Run("away", c.away)
				t.Run("tls", c.tls)
			})
		}
	}
}

// cell is a peer with which stories are told.
type cell struct {
	peer    *peer
	version int
	remote  *remote
	site    *site
}

// both are the loads of one story in the two directions.
type both struct {
	out, in *stream
}

func (b both) each(do func(way string, s *stream)) {
	if b.out != nil {
		do("out", b.out)
	}

	if b.in != nil {
		do("in", b.in)
	}
}

// progress waits until so many more messages have arrived, in both directions.
func (b both) progress(t *testing.T, more int64) {
	t.Helper()
	b.each(func(way string, s *stream) {
		before := s.received.Load()

		eventually(t, fmt.Sprintf("%d more messages arrive %s", more, way), func() bool { return s.received.Load() >= before+more })
	})
}

// end counts what there was, and says what must not be.
func (c *cell) end(t *testing.T, story string, b both, forgiven bool) {
	t.Helper()
	b.each(func(way string, s *stream) {
		sum := s.finish(t)
		row := result{
			peer: c.peer.name, version: c.version, story: story, way: way, qos: s.qos, counts: sum, arrives: s.lowest,
			peak: c.site.bridge.memory("VmHWM"),
		}
		row.note(t)

		if sum.Sent == 0 {
			t.Errorf("%s: nothing was sent", way)
		}

		if sum.Lost > 0 && !forgiven {
			t.Errorf("%s: %d messages are lost: %s", way, sum.Lost, sum)
		}

		if sum.Disordered > 0 && !c.peer.unordered && (way == "out" || !c.peer.mixes) {
			t.Errorf("%s: %d messages overtook others of their topic: %s", way, sum.Disordered, sum)
		}
	})
}

// lives ends a story that cannot begin.
func (c *cell) lives(t *testing.T) {
	t.Helper()

	if c.site.bridge.ended() {
		t.Fatal("the bridge has ended by itself in an earlier story")
	}
}

// passes: nothing happens, and everything arrives once.
func (c *cell) passes(t *testing.T) {
	c.lives(t)

	for qos := range byte(3) {
		l := load{qos: qos, limit: int64(form(50, 500)), ahead: 100}
		b := both{out: c.site.out(t, l)}
		before := c.site.connects()

		if qos <= c.peer.qos { // a bridge takes less than was published, a client cannot
			b.in = c.site.in(t, l)
		}

		b.each(func(_ string, s *stream) { s.start() })
		b.each(func(_ string, s *stream) { s.working.Wait() })
		// QoS 0 is not kept while the bridge connects anew.
		c.end(t, "passes", b, qos == 0 && c.site.connects() > before)
		b.each(func(way string, s *stream) {
			// On a machine that stands still for seconds, a bridge gives its turn to the one that stands by, which is itself.
			again := c.site.connects() - before
			if sum := s.count(); sum.Twice > again*inflight {
				t.Errorf("%s: %d messages of QoS %d came twice, and the bridge has connected %d times meanwhile", way, sum.Twice, qos, again)
			}

			if want := min(qos, c.peer.qos); s.lowest < want {
				t.Errorf("%s: messages of QoS %d arrive with QoS %d", way, qos, s.lowest)
			}
		})
	}
}

// early is retained at the peer before a bridge comes.
const early = "kept/early"

func (c *cell) keepEarly(t *testing.T) {
	t.Helper()
	put(t, c.remote.end(c.version), inRemote+early, "early")
}

func put(t *testing.T, at end, topic, text string) {
	t.Helper()

	source, err := dial(t.Context(), at, options{id: fmt.Sprintf("puts%d", runs.Add(1))})
	if err != nil {
		t.Fatal(err)
	}

	defer source.close()

	if err := source.publish(t.Context(), topic, 1, true, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// retained: a message is kept at the other end, too, and so is its end.
func (c *cell) retained(t *testing.T) {
	c.lives(t)

	note := func(way string) {
		result{peer: c.peer.name, version: c.version, story: "retained", way: way, qos: 1, counts: counts{Sent: 3, Received: 3}}.note(t)
	}

	c.keeps(t, "out", c.site.local, c.site.far, outLocal, outRemote, !c.peer.unflagged)
	note("out")

	if c.peer.exactRetained || c.peer.unflagged {
		return
	}

	eventually(t, "what was retained before the bridge came is retained here", func() bool { return kept(t, c.site.local, inLocal+early, true) == "early" })

	// 3.1.1 shows the flag to new subscribers alone [MQTT-3.3.1-9 of 3.1.1]: a bridge cannot know.
	if c.version == 5 {
		c.keeps(t, "in", c.site.far, c.site.local, inRemote, inLocal, true)
	}

	note("in")
}

func (c *cell) keeps(t *testing.T, way string, from, to end, prefix, toPrefix string, flagged bool) {
	t.Helper()

	topic := fmt.Sprintf("kept%d/state", runs.Add(1))

	for _, text := range []string{"first", "second", ""} {
		put(t, from, prefix+topic, text)
		eventually(t, fmt.Sprintf("who subscribes %s finds %q", way, text), func() bool { return kept(t, to, toPrefix+topic, flagged) == text })
	}
}

// kept is the retained message that a new subscriber gets, or nothing. Unless flagged, it need not say that it is one.
func kept(t *testing.T, at end, topic string, flagged bool) string {
	t.Helper()

	found := make(chan string, 1)
	marker := make(chan struct{}, 1)
	id := fmt.Sprintf("looks%d", runs.Add(1))

	c, err := dial(t.Context(), at, options{id: id, receive: func(m message) {
		switch {
		case (m.retained || !flagged) && m.topic == topic:
			found <- string(m.payload)
		case m.topic == topic+"/"+id:
			marker <- struct{}{}
		}
	}})
	if err != nil {
		return err.Error()
	}

	defer c.close()

	// Some brokers give nothing that is retained to a filter with a wildcard: so two of them.
	for _, filter := range []string{topic, topic + "/" + id} {
		if _, err := c.subscribe(t.Context(), filter, 1); err != nil {
			return err.Error()
		}
	}

	if err := c.publish(t.Context(), topic+"/"+id, 1, false, []byte("here")); err != nil {
		return err.Error()
	}

	select {
	case text := <-found:
		return text
	case <-marker:
		return ""
	case <-time.After(5 * time.Second):
		return "no answer"
	}
}

// under is what runs while something happens: QoS 1, in both directions.
func (c *cell) under(t *testing.T) both {
	t.Helper()
	c.lives(t)

	l := load{qos: 1, rate: form(600, 400)}
	if c.peer.rate > 0 {
		l.rate = c.peer.rate
	}

	b := both{out: c.site.out(t, l), in: c.site.in(t, l)}
	b.each(func(_ string, s *stream) { s.start() })
	b.progress(t, c.some(100, 500))

	return b
}

// cut: the line to the peer is gone for a while; both brokers live on.
func (c *cell) cut(t *testing.T) {
	b := c.under(t)
	before := map[string]int{"out": c.site.losses("out"), "in": c.site.losses("in")}

	c.site.line.cut()
	b.waits(t, c.some(300, 1000), time.Duration(form(0, 10))*time.Second)
	c.site.line.mend()
	b.progress(t, c.some(300, 1000))
	c.end(t, "cut", b, c.peer.loses)
	b.each(func(way string, s *stream) {
		most := inflight * int64(max(1, c.site.losses(way)-before[way]))
		if sum := s.count(); sum.Twice > most && !c.peer.repeats {
			t.Errorf("%s: %d messages came twice; more than %d were never on their way", way, sum.Twice, most)
		}
	})
}

// some is how many messages are waited for: as many as come within some seconds.
func (c *cell) some(little, much int) int64 {
	if c.peer.rate > 0 {
		return int64(4 * c.peer.rate)
	}

	return int64(form(little, much))
}

// waits until so much more has been published for a time, and not forwarded.
func (b both) waits(t *testing.T, more int64, d time.Duration) {
	t.Helper()

	before, begin := b.out.published.Load(), time.Now()

	eventually(t, "messages are published meanwhile", func() bool { return b.out.published.Load() >= before+more })
	pause(t.Context(), d-time.Since(begin))
}

// restart: the peer ends as it is asked to, and starts again with what it has stored.
func (c *cell) restart(t *testing.T) {
	b := c.under(t)
	c.again(t)
	b.progress(t, c.some(300, 1000))
	c.end(t, "restart", b, !c.peer.keeps)
}

// away: the peer is away for long.
func (c *cell) away(t *testing.T) {
	b := c.under(t)
	c.remote.stop()
	b.waits(t, c.some(300, 1000), time.Duration(form(0, 60))*time.Second)
	c.again(t)
	b.progress(t, c.some(300, 1000))
	c.end(t, "away", b, !c.peer.keeps)
}

func (c *cell) again(t *testing.T) {
	t.Helper()
	c.remote.stop()

	if err := c.remote.start(); err != nil {
		t.Fatal(err)
	}
}

// tls: the same peer behind a certificate.
func (c *cell) tls(t *testing.T) {
	r := c.peer.run(t, true)
	secured := &cell{peer: c.peer, version: c.version, remote: r, site: newSite(t, r.end(c.version), c.peer.qos)}
	l := load{qos: 1, limit: int64(form(50, 500)), ahead: 100}
	b := both{out: secured.site.out(t, l), in: secured.site.in(t, l)}
	b.each(func(_ string, s *stream) { s.start() })
	secured.end(t, "tls", b, false)
}
