// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"strings"
	"testing"
)

func TestPublishComesBack(t *testing.T) {
	cases := map[string]struct {
		reason  string
		options PublishOptions
		payload int
	}{
		"a short one without identifier": {"the fast path of one length byte", PublishOptions{Version: V311}, 8},
		"one with an identifier":         {"QoS 1 has two bytes more", PublishOptions{Version: V311, QoS: 1, PacketID: 77}, 64},
		"one of MQTT 5":                  {"properties come before the payload", PublishOptions{Version: V5, QoS: 2, PacketID: 0xfffe}, 64},
		"a retained one":                 {"the lowest flag", PublishOptions{Version: V5, Retain: true}, 0},
		"a long one":                     {"lengths of two and more bytes", PublishOptions{Version: V311, QoS: 1, PacketID: 1}, 20_000},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			payload := []byte(strings.Repeat("x", c.payload))
			raw, idAt, payloadAt := AppendPublish([]byte("before"), c.options, "a/b", payload)
			packet, n, err := Split(raw[6:])
			if err != nil || n != len(raw)-6 {
				t.Fatalf("%s: Split: %d of %d bytes, %v", c.reason, n, len(raw)-6, err)
			}
			m, err := ParsePublish(packet, c.options.Version)
			if err != nil {
				t.Fatalf("%s: %v", c.reason, err)
			}
			if string(m.Topic) != "a/b" || !bytes.Equal(m.Payload, payload) || m.QoS != c.options.QoS ||
				m.Retain != c.options.Retain || m.PacketID != c.options.PacketID {
				t.Errorf("%s: got topic %q, %d bytes, QoS %d, retain %v, id %d", c.reason, m.Topic, len(m.Payload), m.QoS, m.Retain, m.PacketID)
			}
			if !bytes.Equal(raw[payloadAt:], payload) {
				t.Errorf("%s: the payload is not at %d", c.reason, payloadAt)
			}
			if c.options.QoS > 0 && (raw[idAt] != byte(c.options.PacketID>>8) || raw[idAt+1] != byte(c.options.PacketID)) {
				t.Errorf("%s: the identifier is not at %d", c.reason, idAt)
			}
		})
	}
}

func TestSplitWaitsForTheWholePacket(t *testing.T) {
	raw, _, _ := AppendPublish(nil, PublishOptions{Version: V311, QoS: 1, PacketID: 1}, "topic", make([]byte, 300))
	for i := range raw {
		if _, n, err := Split(raw[:i]); n != 0 || err != nil {
			t.Fatalf("%d of %d bytes: got a packet of %d, %v", i, len(raw), n, err)
		}
	}
	if _, _, err := Split([]byte{0x30, 0xff, 0xff, 0xff, 0xff, 0x01}); err == nil {
		t.Error("a length of five bytes is none")
	}
}

func TestHandshakes(t *testing.T) {
	for _, version := range []byte{V311, V5} {
		raw := AppendConnect(nil, ConnectOptions{Version: version, ClientID: "me", KeepAlive: 60, Keep: true})
		packet, n, err := Split(raw)
		if err != nil || n != len(raw) {
			t.Fatalf("version %d: CONNECT has a wrong length: %d of %d, %v", version, n, len(raw), err)
		}
		if got, err := ConnectVersion(packet); got != version || err != nil {
			t.Errorf("version %d: read as %d, %v", version, got, err)
		}
		if !bytes.HasSuffix(raw, []byte("\x00\x02me")) {
			t.Errorf("version %d: the client id is not last: % x", version, raw)
		}
		packet, _, _ = Split(AppendConnack(nil, version))
		if _, err := CheckConnack(packet); err != nil {
			t.Errorf("version %d: %v", version, err)
		}
		raw = AppendSubscribe(nil, version, 9, []string{"a/+", "b/#"}, 1)
		packet, n, err = Split(raw)
		if err != nil || n != len(raw) {
			t.Fatalf("version %d: SUBSCRIBE has a wrong length: %d of %d, %v", version, n, len(raw), err)
		}
		id, filters, qos, err := ParseSubscribe(packet, version)
		if err != nil || id != 9 || qos != 1 || strings.Join(filters, " ") != "a/+ b/#" {
			t.Errorf("version %d: got id %d, %q, QoS %d, %v", version, id, filters, qos, err)
		}
		packet, _, _ = Split(AppendSuback(nil, version, 9, 2, 1))
		if lowest, err := CheckSuback(packet, version); lowest != 1 || err != nil {
			t.Errorf("version %d: granted %d, %v", version, lowest, err)
		}
		packet, _, _ = Split(AppendSuback(nil, version, 9, 1, 0x80))
		if _, err := CheckSuback(packet, version); err == nil {
			t.Errorf("version %d: a refused subscription is an error", version)
		}
	}
	if _, err := CheckConnack(Packet{Type: Connack, Body: []byte{0, 5}}); err == nil {
		t.Error("a refused connection is an error")
	}
}

func TestShortPacketsAreErrors(t *testing.T) {
	for name, p := range map[string]Packet{
		"no topic":                {Type: Publish, Body: []byte{0}},
		"topic ends early":        {Type: Publish, Body: []byte{0, 5, 'a'}},
		"no identifier":           {Type: Publish, Flags: 2, Body: []byte{0, 1, 'a', 0}},
		"properties end too late": {Type: Publish, Body: []byte{0, 1, 'a', 9, 0}},
	} {
		if _, err := ParsePublish(p, V5); err == nil {
			t.Errorf("%s: not seen", name)
		}
	}
}
