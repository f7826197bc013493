// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// exported are the retained messages that a filter matches.
func (h *house) exported(filter string) (all []*RetainedMessage) {
	h.t.Helper()

	if err := h.Retained(filter, func(m *RetainedMessage) error {
		all = append(all, m)

		return nil
	}); err != nil {
		h.t.Fatal(err)
	}

	return all
}

// oneByOne gives messages, and then an error.
func oneByOne(all []*RetainedMessage, end error) func() (*RetainedMessage, error) {
	return func() (*RetainedMessage, error) {
		if len(all) == 0 {
			return nil, end
		}

		m := all[0]
		all = all[1:]

		return m, nil
	}
}

func TestRetainedMessagesTravel(t *testing.T) {
	config := baseConfig(person(t, "anna", allow("#")))
	h := open(t, Options{DataDir: t.TempDir()}, config)
	anna := h.user("anna")

	properties := append([]byte{0x01, 1}, append([]byte{pContentType}, text("text/plain")...)...)
	properties = append(properties, append([]byte{0x26}, append(text("k"), text("v")...)...)...)
	anna.publish(posted{topic: "a/1", payload: "one", qos: 2, retain: true, props: append(u32prop(0x02, 600), properties...)})
	anna.send(packet{kind: tPubrel, flags: 2, body: anna.expect(tPubrec).body[:2]})
	anna.expect(tPubcomp)
	anna.published("a/2", "\xff", true)
	anna.published("b", "three", true)
	anna.publish(posted{topic: "a/0", payload: "zero", retain: true})
	anna.alive()

	all := h.exported("#")
	want := []*RetainedMessage{
		{Topic: "a/0", Payload: []byte("zero")},
		{
			Topic: "a/1", Payload: []byte("one"), QoS: 2, Expiry: 600, HasExpiry: true,
			Properties: wire.Forwarded{HasFormat: true, Text: true, ContentType: "text/plain", User: [][2]string{{"k", "v"}}},
		},
		{Topic: "a/2", Payload: []byte("\xff"), QoS: 1},
		{Topic: "b", Payload: []byte("three"), QoS: 1},
	}

	for _, m := range all {
		if m.HasExpiry && m.Expiry > 590 { // a second may have gone by
			m.Expiry = 600
		}
	}

	if d := cmp.Diff(want, all); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}

	if some := h.exported("a/+"); len(some) != 3 {
		t.Errorf("%d messages below a", len(some))
	}

	for _, bad := range []string{"", "a/#/b", "$share/g/a"} {
		if err := h.Retained(bad, nil); err == nil {
			t.Errorf("filter %q is taken", bad)
		}

		if _, err := h.Retain(t.Context(), bad, nil); err == nil {
			t.Errorf("filter %q is taken", bad)
		}
	}

	stop := errors.New("enough")
	if err := h.Retained("#", func(*RetainedMessage) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}

	// Into another broker, whose subscribers get them, and which has them after a restart.
	other := open(t, Options{DataDir: t.TempDir()}, config)
	reader := other.user("anna")
	reader.subscribe(2, "a/1")

	if n, err := other.Retain(t.Context(), "a/#", oneByOne(all, io.EOF)); n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}

	crashed := open(t, Options{DataDir: copyStore(t, other)}, config)
	if found := crashed.exported("#"); len(found) != 3 {
		t.Errorf("%d messages are on disk when it says so", len(found))
	}

	if m := reader.message(); m.topic != "a/1" || m.payload != "one" || m.qos != 2 {
		t.Errorf("a subscriber gets %+v", m)
	}

	_ = reader.Close()
	other.close()

	other = open(t, Options{DataDir: other.options.DataDir}, config)
	got := other.exported("#")

	for _, m := range got {
		if m.HasExpiry && m.Expiry > 580 {
			m.Expiry = 600
		}
	}

	if d := cmp.Diff(want[:3], got); d != "" {
		t.Errorf("after a restart (-want +got):\n%s", d)
	}
}

func TestWhatCannotBeRetainedIsSaid(t *testing.T) {
	config := baseConfig(person(t, "anna", allow("#")))
	config.Limits.MaxPacketSize, config.Limits.MaxRetainedMessages, config.Limits.MaxTopicLevels = 1000, 500, 3
	h := open(t, Options{DataDir: t.TempDir()}, config)

	for name, c := range map[string]struct {
		m    RetainedMessage
		says string
	}{
		"no payload":             {RetainedMessage{Topic: "a"}, "its payload is empty"},
		"a wildcard":             {RetainedMessage{Topic: "a/#", Payload: []byte("x")}, "wildcard"},
		"no topic":               {RetainedMessage{Payload: []byte("x")}, "the topic is empty"},
		"a topic that is long":   {RetainedMessage{Topic: strings.Repeat("a", 65536), Payload: []byte("x")}, "longer than 65535 bytes"},
		"a QoS that is none":     {RetainedMessage{Topic: "a", Payload: []byte("x"), QoS: 3}, "QoS 3 is not 0, 1 or 2"},
		"too large":              {RetainedMessage{Topic: "a", Payload: make([]byte, 1000)}, "the broker takes 1000 (spec.limits.maxPacketSize)"},
		"too many levels":        {RetainedMessage{Topic: "a/b/c/d", Payload: []byte("x")}, "spec.limits.maxTopicLevels"},
		"the broker's own":       {RetainedMessage{Topic: "$SYS/a", Payload: []byte("x")}, ""},
		"a response to nowhere":  {RetainedMessage{Topic: "a", Payload: []byte("x"), Properties: wire.Forwarded{ResponseTopic: "a/+"}}, "response topic"},
		"a text that is no text": {RetainedMessage{Topic: "a", Payload: []byte("x"), Properties: wire.Forwarded{ContentType: "\xff"}}, "UTF-8"},
	} {
		n, err := h.Retain(t.Context(), "#", oneByOne([]*RetainedMessage{&c.m}, io.EOF))
		if c.says == "" && (n != 0 || err != nil) || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}

	stop := errors.New("the line is down")
	if n, err := h.Retain(t.Context(), "#", oneByOne([]*RetainedMessage{{Topic: "a", Payload: []byte("x")}}, stop)); n != 1 || !errors.Is(err, stop) {
		t.Errorf("%d, %v", n, err)
	}

	// What came before the one that finds no room is retained. The broker's own topics take room, too.
	var many []*RetainedMessage
	for i := range 500 {
		many = append(many, &RetainedMessage{Topic: fmt.Sprintf("b/%d", i), Payload: []byte("x")})
	}

	n, err := h.Retain(t.Context(), "#", oneByOne(many, io.EOF))
	if n < 300 || n > 499 || err == nil || !strings.Contains(err.Error(), fmt.Sprintf(`topic "b/%d": the broker retains as much as it may`, n)) || len(h.exported("b/+")) != n {
		t.Errorf("%d, %v", n, err)
	}
}

// TestManyAreRetained: more than go at once, and while a client publishes to the same topics.
func TestManyAreRetained(t *testing.T) {
	h := open(t, Options{DataDir: t.TempDir()}, baseConfig(person(t, "anna", allow("#"))))

	const count = 2000

	all := make([]*RetainedMessage, 0, count)
	for i := range count {
		all = append(all, &RetainedMessage{Topic: fmt.Sprintf("t/%04d", i), Payload: []byte("imported"), QoS: byte(i % 3)})
	}

	anna := h.user("anna")
	over := make(chan struct{})

	go func() {
		defer close(over)

		for i := 0; i < count; i += 10 {
			anna.publish(posted{topic: fmt.Sprintf("t/%04d", i), payload: "published", qos: 1, retain: true})

			if pk, err := anna.receive(); err != nil || pk.kind != tPuback {
				return
			}
		}
	}()

	if n, err := h.Retain(t.Context(), "#", oneByOne(all, io.EOF)); n != count || err != nil {
		t.Errorf("%d, %v", n, err)
	}

	<-over

	if found := h.exported("t/+"); len(found) != count {
		t.Errorf("%d are retained", len(found))
	}
}

// TestWhatIsRetainedIsOnDisk before it is said to be.
func TestWhatIsRetainedIsOnDisk(t *testing.T) {
	h := open(t, Options{DataDir: t.TempDir()}, baseConfig(person(t, "anna", allow("#"))))
	busy, goOn := make(chan struct{}), make(chan struct{})

	h.store.Commit(h.store.Begin(), false, func(error) { // the disk gets to nothing else
		close(busy)
		<-goOn
	})

	<-busy

	over := make(chan error, 1)

	go func() {
		_, err := h.Retain(t.Context(), "#", oneByOne([]*RetainedMessage{{Topic: "a", Payload: []byte("x")}}, io.EOF))
		over <- err
	}()

	for len(h.exported("a")) == 0 {
		runtime.Gosched()
	}

	select {
	case err := <-over:
		t.Errorf("it is retained, it says, and it is not on disk: %v", err)

		over <- nil
	case <-time.After(100 * time.Millisecond):
	}

	close(goOn)

	if err := <-over; err != nil {
		t.Error(err)
	}
}
