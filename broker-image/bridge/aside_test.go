// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"bytes"
	"cmp"
	"errors"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// TestPacketsStandAside sends packets of all sizes in pieces of all sizes: those of the exchange are handed over whole and
// in order, the library reads the others, and nothing else.
func TestPacketsStandAside(t *testing.T) {
	t.Parallel()

	sizes := []int{0, 1, 100, readBuffer - 20, readBuffer, readBuffer + 1, 3*readBuffer + 7, 200 << 10}

	for _, piece := range []int{1, 7, 1000, readBuffer, 1 << 20} {
		near, far := net.Pipe()
		s := newStream(near, 5, time.Minute)
		s.guard.started = true

		var asides, library []byte

		idle := 0
		s.idle = func() { idle++ }
		s.isAside, s.aside = isExchange, func(packet []byte) error {
			asides = append(asides, packet...)

			return nil
		}

		var all, wantAside, wantLibrary []byte

		for i, size := range sizes {
			if piece == 1 && size > 4*readBuffer {
				continue // it would take long
			}

			message, _ := wire.AppendPublish(nil, wire.V5, &wire.PublishHeader{QoS: 1, PacketID: uint16(i + 1)}, "a/b", nil, bytes.Repeat([]byte{byte(i)}, size))
			ack := appendAck(nil, 0x40, uint16(i+1))
			other := []byte{0x90, 4, 0, byte(i + 1), 0, 1} // SUBACK
			all = append(append(append(append(all, message...), ack...), other...), 0xd0, 0)
			wantAside = append(append(wantAside, message...), ack...)
			wantLibrary = append(append(wantLibrary, other...), 0xd0, 0)
		}

		go func() {
			for rest := all; len(rest) > 0; {
				n := min(piece, len(rest))
				if _, err := far.Write(rest[:n]); err != nil {
					return
				}

				rest = rest[n:]
			}

			_ = far.Close()
		}()

		for buf := make([]byte, 4096); ; {
			n, err := s.Read(buf)
			library = append(library, buf[:n]...)

			if err != nil {
				if !isEnd(err) {
					t.Errorf("in pieces of %d bytes: %v", piece, err)
				}

				break
			}
		}

		if !bytes.Equal(asides, wantAside) || !bytes.Equal(library, wantLibrary) {
			t.Errorf("in pieces of %d bytes: %d bytes stood aside, want %d; the library got %d, want %d", piece, len(asides), len(wantAside), len(library), len(wantLibrary))
		}

		if idle == 0 {
			t.Error("nobody was told of a pause")
		}
	}
}

// What claims to be large gets memory as it comes. The test is not parallel: it looks at the memory of the process.
func TestALargeClaimGetsNoMemory(t *testing.T) {
	near, far := net.Pipe()
	s := newStream(near, 5, time.Minute)
	s.guard.started = true
	s.isAside, s.aside = isExchange, func([]byte) error { return nil }

	go func() {
		_, _ = far.Write([]byte{0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, 'a', 0})
		_ = far.Close()
	}()

	var before, after runtime.MemStats

	runtime.ReadMemStats(&before)

	_, err := s.Read(make([]byte, 1))

	runtime.ReadMemStats(&after)

	if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
		t.Errorf("nine bytes of a packet took %d bytes of memory", took)
	}

	if !isEnd(err) {
		t.Errorf("it ended with %v", err)
	}
}

// TestAServerThatIsLessStrict sends what our broker would not take from a client, and what nobody can read.
func TestAServerThatIsLessStrict(t *testing.T) {
	t.Parallel()

	identifier := 7
	topic := func(topic string, props *packets.Properties) []byte {
		var b bytes.Buffer

		_, _ = (&packets.Publish{Topic: topic, Payload: []byte("x"), QoS: 1, PacketID: 9, Properties: props}).WriteTo(&b)

		return b.Bytes()
	}
	expiry := uint32(60)

	for name, tc := range map[string]struct {
		packet  []byte
		version wire.Version // 5 if left out
		topic   string
		fails   bool
	}{
		"a subscription identifier that nobody asked for": {
			packet: topic("a", &packets.Properties{SubscriptionIdentifier: &identifier, ContentType: "c", MessageExpiry: &expiry, User: []packets.User{{Key: "k", Value: "v"}}}), topic: "a",
		},
		"a topic that is no text":                   {packet: topic("a\xff", &packets.Properties{}), topic: "a\xff"},
		"half a packet":                             {packet: []byte{0x32, 3, 0, 9, 'a'}, fails: true},
		"an acknowledgement with a code of its own": {packet: []byte{0x40, 3, 0, 1, 0xfe}},
		"an acknowledgement of nothing":             {packet: []byte{0x40, 1, 0}, fails: true},
		"a topic that is no text, 3.1.1":            {version: wire.V311, packet: []byte{0x32, 7, 0, 2, 'a', 0xff, 0, 9, 'x'}, topic: "a\xff"},
		"half a packet, 3.1.1":                      {version: wire.V311, packet: []byte{0x32, 3, 0, 9, 'a'}, fails: true},
		"PUBACK with a code, 3.1.1":                 {version: wire.V311, packet: []byte{0x40, 3, 0, 1, 0x10}},
		"PUBREC with a code, 3.1.1":                 {version: wire.V311, packet: []byte{0x50, 3, 0, 2, 0x10}},
		"PUBCOMP with a code, 3.1.1":                {version: wire.V311, packet: []byte{0x70, 3, 0, 3, 0x10}},
		"PUBREL without its flags":                  {packet: []byte{0x60, 2, 0, 1}},
		"PUBREL without its flags, 3.1.1":           {version: wire.V311, packet: []byte{0x60, 2, 0, 1}},
		"a QoS that is none":                        {packet: []byte{0x36, 7, 0, 1, 'a', 0, 9, 0, 'x'}, fails: true},
		"a QoS that is none, 3.1.1":                 {version: wire.V311, packet: []byte{0x36, 6, 0, 1, 'a', 0, 9, 'x'}, fails: true},
		"an acknowledgement of nothing, 3.1.1":      {version: wire.V311, packet: []byte{0x40, 1, 0}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			var got []*inbound

			near, far := net.Pipe()

			t.Cleanup(func() { _, _ = near.Close(), far.Close() })

			var x *exchange

			if tc.version == wire.V311 {
				p := &peer3{}
				x, p.lenient = &p.exchange, p.lenientRead
			} else {
				p := &peer5{}
				x, p.lenient = &p.exchange, p.lenientRead
			}

			x.stream, x.owner, x.limit.window = newStream(near, 5, time.Minute), ownerFunc(func(m *inbound) { got = append(got, m) }), 3
			x.version = cmp.Or(tc.version, wire.V5)
			x.begin()

			err := x.handle(tc.packet)
			if (err != nil) != tc.fails || (tc.fails && !errors.Is(err, errNotMQTT)) {
				t.Fatalf("got %v", err)
			}

			if tc.topic == "" {
				return
			}

			if len(got) != 1 || got[0].topic != tc.topic || string(got[0].payload) != "x" || got[0].id != 9 || got[0].qos != 1 {
				t.Fatalf("got %+v", got)
			}

			if tc.version == wire.V311 {
				return
			}

			if said, err := wire.ParseForwarded(got[0].props); err != nil || (tc.topic == "a") != (said.ContentType == "c" && len(said.User) == 1 && got[0].expires && got[0].expiry == 60) {
				t.Errorf("properties %+v, %v", said, err)
			}
		})
	}
}

// ownerFunc is an owner that is interested in messages alone.
type ownerFunc func(m *inbound)

func (ownerFunc) up(peer, bool)                 {}
func (f ownerFunc) received(_ peer, m *inbound) { f(m) }
func (ownerFunc) completed(peer, *entry, byte)  {}
func (ownerFunc) idle()                         {}
func (ownerFunc) lost(peer, *fault)             {}

// TestTheSizeOfAFrame, which is taken also where it is written longer than it has to be.
func TestTheSizeOfAFrame(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		head  []byte
		size  int
		fails bool
	}{
		{head: []byte{0x40}},
		{head: []byte{0x40, 0x80}},
		{head: []byte{0x40, 2}, size: 4},
		{head: []byte{0x40, 0x82, 0}, size: 5},
		{head: []byte{0x30, 0xff, 0xff, 0xff, 0x7f}, size: 5 + 268435455},
		{head: []byte{0x30, 0xff, 0xff, 0xff}},
		{head: []byte{0x30, 0xff, 0xff, 0xff, 0x80}, fails: true},
	} {
		size, err := frameSize(c.head)
		if size != c.size || (err != nil) != c.fails {
			t.Errorf("% x: %d, %v", c.head, size, err)
		}
	}
}
