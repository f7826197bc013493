// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// spy collects what a trace says.
type spy struct {
	t    testing.TB
	end  context.CancelFunc
	done chan error

	mu     sync.Mutex
	events []TraceEvent
}

// spyOn begins a trace that ends with the test.
func (h *house) spyOn(filter TraceFilter) *spy {
	h.t.Helper()

	ctx, cancel := context.WithCancel(context.Background())
	s := &spy{t: h.t, end: cancel, done: make(chan error, 1)}

	go func() {
		s.done <- h.Trace(ctx, filter, func(e TraceEvent) error {
			s.mu.Lock()
			defer s.mu.Unlock()

			s.events = append(s.events, e)

			return nil
		})
	}()

	h.t.Cleanup(cancel)
	eventually(h.t, "the trace must begin", func() bool { return len(s.lines()) > 0 })

	return s
}

// lines are the events in short, without times and addresses.
func (s *spy) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()

	var lines []string

	for _, e := range s.events {
		words := []string{string(e.Kind), e.Client, e.Topic, e.Filter, e.Packet, e.Reason}

		if e.Code != 0 {
			words = append(words, fmt.Sprintf("%#x", e.Code))
		}

		if e.Size > 0 {
			words = append(words, fmt.Sprintf("q%d %dB", e.QoS, e.Size))
		}

		words = slices.DeleteFunc(words, func(s string) bool { return s == "" })
		lines = append(lines, strings.Join(words, " "))
	}

	return lines
}

// saw waits until the trace has said exactly this.
func (s *spy) saw(want ...string) {
	s.t.Helper()

	want = append([]string{"begun"}, want...)

	for deadline := time.Now().Add(patience); len(s.lines()) < len(want) && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}

	if diff := cmp.Diff(want, s.lines()); diff != "" {
		s.t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestTraceOfAClient(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("a/#")), person(t, "otto", allow("#"))))
	s := h.spyOn(TraceFilter{ClientID: "client-anna"})

	if _, ack := h.knock(login{id: "client-anna", user: "anna", password: "wrong"}); ack.body[1] != 0x86 {
		t.Fatal("must be refused")
	}

	anna, otto := h.user("anna"), h.user("otto")
	anna.subscribe(1, "a/in", "no")
	otto.subscribe(0, "a/out")
	otto.published("a/in", "12345", false)

	m := anna.expect(tPublish)
	anna.send(packet{kind: tPuback, body: m.body[len(text("a/in")):][:2]})
	anna.published("a/out", "123", false)
	anna.published("b", "1234", false)
	anna.send(packet{kind: tUnsubscribe, flags: 2, body: append([]byte{0, 99, 0}, text("a/in")...)})
	anna.expect(tUnsuback)
	anna.bye()

	s.saw(
		"refused client-anna unknown user or wrong password 0x86",
		"connected client-anna",
		"subscribed client-anna a/in 0x1",
		"subscribed client-anna no 0x87",
		"ack-sent client-anna SUBACK",
		"sent client-anna a/in q1 5B",
		"ack-received client-anna PUBACK",
		"published client-anna a/out q1 3B",
		"ack-sent client-anna PUBACK",
		"denied client-anna b 0x87 q1 4B",
		"ack-sent client-anna PUBACK 0x87",
		"unsubscribed client-anna a/in",
		"ack-sent client-anna UNSUBACK",
		"disconnected client-anna by_client",
	)
}

func TestTraceOfATopic(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#")), person(t, "otto", allow("#"))))
	keep := login{version: 5, id: "away", user: "anna", resume: true, props: u32prop(pExpiry, 3600)}

	away := h.login(keep)
	s := h.spyOn(TraceFilter{TopicFilter: "a/+"})
	away.subscribe(1, "a/#", "b")
	away.bye()
	eventually(t, "must be gone", func() bool { return h.Status().Connections == 0 })
	h.mustApply(func(c *contract.Config) { c.Limits.MaxQueuedMessages = 1 })

	otto := h.login(login{version: 5, id: "otto", user: "otto", willTopic: "a/will", willText: "gone"})
	otto.published("a/x", "1", false)
	otto.published("a/x", "12", false)
	otto.published("b", "123", false)
	otto.sendRaw([]byte{0xF0}) // half an AUTH, and the end
	_ = otto.Close()

	s.saw(
		"subscribed away a/# 0x1",
		"published otto a/x q1 1B",
		"queued away a/x q1 1B",
		"published otto a/x q1 2B",
		"dropped away a/x queue_messages q1 2B",
		"published otto a/will q0 4B",
	)
}

func TestTraceFilters(t *testing.T) {
	cases := map[string]struct {
		reason string
		filter TraceFilter
		event  TraceEvent
		want   bool
	}{
		"another client":                        {"one client is watched", TraceFilter{ClientID: "a"}, TraceEvent{Client: "b"}, false},
		"a client without a topic":              {"all that it does", TraceFilter{ClientID: "a"}, TraceEvent{Client: "a"}, true},
		"a topic, and what has none":            {"nothing to do with it", TraceFilter{TopicFilter: "#"}, TraceEvent{Client: "a"}, false},
		"both, and what has no topic":           {"the client's life belongs to the story", TraceFilter{"a", "x"}, TraceEvent{Client: "a"}, true},
		"both, and another topic":               {"the topic narrows", TraceFilter{"a", "x"}, TraceEvent{Client: "a", Topic: "y"}, false},
		"both, and the topic":                   {"both fit", TraceFilter{"a", "x/#"}, TraceEvent{Client: "a", Topic: "x"}, true},
		"# and the broker's own":                {"[MQTT-4.7.2-1]", TraceFilter{TopicFilter: "#"}, TraceEvent{Topic: "$SYS/broker/uptime"}, false},
		"$SYS":                                  {"asked for by name", TraceFilter{TopicFilter: "$SYS/#"}, TraceEvent{Topic: "$SYS/broker/uptime"}, true},
		"a longer topic":                        {"+ is one level", TraceFilter{TopicFilter: "a/+"}, TraceEvent{Topic: "a/b/c"}, false},
		"a shorter topic":                       {"+ is one level", TraceFilter{TopicFilter: "a/+"}, TraceEvent{Topic: "a"}, false},
		"a subscription that is wider":          {"it would bring the topic", TraceFilter{TopicFilter: "a/b"}, TraceEvent{Filter: "a/#"}, true},
		"a subscription that is wider by +":     {"it would bring the topic", TraceFilter{TopicFilter: "a/b"}, TraceEvent{Filter: "+/b"}, true},
		"a subscription of the parent":          {"a/b/# matches a/b", TraceFilter{TopicFilter: "a/b"}, TraceEvent{Filter: "a/b/#"}, true},
		"a shared subscription":                 {"the group does not matter", TraceFilter{TopicFilter: "a/b"}, TraceEvent{Filter: "$share/g/a/+"}, true},
		"a subscription to something else":      {"no topic fits both", TraceFilter{TopicFilter: "a/+"}, TraceEvent{Filter: "b/+"}, false},
		"a subscription that only crosses here": {"a/c/b is below both", TraceFilter{TopicFilter: "a/+/b"}, TraceEvent{Filter: "a/c/#"}, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := c.filter.wants(&c.event); got != c.want {
				t.Errorf("got %t, want %t: %s", got, c.want, c.reason)
			}
		})
	}
}

func TestTraceIsRefused(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#"))))

	for _, f := range []TraceFilter{{}, {TopicFilter: "a/#/b"}, {TopicFilter: "$share/g/a"}} {
		if err := h.Trace(t.Context(), f, nil); !errors.Is(err, ErrTraceFilter) {
			t.Errorf("%+v: %v, want ErrTraceFilter", f, err)
		}
	}

	var last *spy
	for range maxTraces {
		last = h.spyOn(TraceFilter{ClientID: "x"})
	}

	if err := h.Trace(t.Context(), TraceFilter{ClientID: "x"}, nil); !errors.Is(err, ErrTraceBusy) {
		t.Errorf("%v, want ErrTraceBusy", err)
	}

	last.end()

	if err := <-last.done; err != nil {
		t.Error(err)
	}

	h.spyOn(TraceFilter{ClientID: "y"}).end()
}

func TestNobodyTracesForFree(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#"))))
	s := h.spyOn(TraceFilter{ClientID: "x"})
	s.end()
	<-s.done

	if h.tracer.Load() != nil {
		t.Error("when the last trace is over, nothing may be left to be told")
	}
}

func TestASlowReaderLosesEvents(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#")), person(t, "slow", only(acl.Subscribe, "#"))))
	p := h.user("anna")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	begun, goOn, lost := make(chan struct{}), make(chan struct{}), make(chan int, 1)

	go func() {
		_ = h.Trace(ctx, TraceFilter{TopicFilter: "a"}, func(e TraceEvent) error {
			if e.Kind == TraceBegun {
				close(begun)
				<-goOn
			}

			if e.Kind != TraceLost {
				return nil
			}

			lost <- e.Count

			return errors.New("enough")
		})
	}()

	<-begun

	for range 2 * traceBacklog {
		p.publish(posted{topic: "a"})
	}

	p.alive() // everything is handled, and nobody has waited for the reader
	close(goOn)

	if n := <-lost; n < traceBacklog-traceRate || n > 2*traceBacklog {
		t.Errorf("%d events lost of %d", n, 2*traceBacklog)
	}
}

func TestTraceTextsAreBounded(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#"))))
	s := h.spyOn(TraceFilter{ClientID: "client-anna", TopicFilter: "#"})
	p := h.user("anna")
	p.published(strings.Repeat("ä", 30_000), "", false)
	eventually(t, "the message must be seen", func() bool { return len(s.lines()) > 2 })

	s.mu.Lock()
	defer s.mu.Unlock()

	if got := s.events[2].Topic; len(got) > traceText+len("…") || !strings.HasSuffix(got, "ä…") {
		t.Errorf("the topic has %d bytes and ends with %q", len(got), got[len(got)-5:])
	}
}
