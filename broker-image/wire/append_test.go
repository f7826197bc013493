// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAppend(t *testing.T) {
	t.Parallel()
	never, alive := uint32(0xffffffff), uint16(30)
	many := strings.Repeat("x", 300)
	cases := map[string]struct {
		reason string
		got    func(dst []byte) []byte
		want   []byte
	}{
		"PUBACK of 3.1.1": {
			"two bytes, whatever the code is",
			func(dst []byte) []byte { return AppendAck(dst, V311, TypePuback, id, NotAuthorized, "no") },
			packet(0x40, id),
		},
		"PUBREL of 5 in short":       {"success is left out", func(dst []byte) []byte { return AppendAck(dst, V5, TypePubrel, id, Success, "") }, packet(0x62, id)},
		"PUBREC of 5 with a code":    {"no properties, no length", func(dst []byte) []byte { return AppendAck(dst, V5, TypePubrec, id, 0x97, "") }, packet(0x50, id, 0x97)},
		"PUBCOMP of 5 with a reason": {"a reason needs all", func(dst []byte) []byte { return AppendAck(dst, V5, TypePubcomp, id, 0, many) }, packet(0x70, id, 0, props(propReason, many))},
		"PINGRESP":                   {"nothing in it", AppendPingresp, packet(0xd0)},
		"CONNACK of 3.1": {
			"its first byte is reserved",
			func(dst []byte) []byte { return AppendConnack(dst, V31, &Connack{SessionPresent: true}) },
			packet(0x20, 0, 0),
		},
		"CONNACK of 3.1.1": {
			"no properties",
			func(dst []byte) []byte { return AppendConnack(dst, V311, &Connack{SessionPresent: true, Reason: "x"}) },
			packet(0x20, 1, 0),
		},
		"CONNACK of 3.1.1 with an error": {
			"no session is present then [MQTT-3.2.2-6]",
			func(dst []byte) []byte { return AppendConnack(dst, V311, &Connack{SessionPresent: true, Code: 0x86}) },
			packet(0x20, 0, 4),
		},
		"CONNACK to a bridge of Mosquitto": {
			"its level is one of 3.1.1 with a bit set",
			func(dst []byte) []byte { return AppendConnack(dst, 0x84, &Connack{Code: 0x84}) },
			packet(0x20, 0, 1),
		},
		"CONNACK to tomorrow's client": {
			"the newest form",
			func(dst []byte) []byte { return AppendConnack(dst, 6, &Connack{Code: 0x84}) },
			packet(0x20, 0, 0x84, props()),
		},
		"CONNACK of 5 with everything": {
			"each field is a property",
			func(dst []byte) []byte {
				return AppendConnack(dst, V5, &Connack{
					SessionPresent: true, SessionExpiry: &never, ReceiveMaximum: 7, MaximumPacketSize: 8, TopicAliasMaximum: 9,
					ServerKeepAlive: &alive, AssignedClientID: "a", Reason: many, ResponseInformation: "i",
					ServerReference: "s", AuthMethod: "m", AuthData: []byte("d"),
				})
			},
			packet(0x20, 1, 0, props(propSessionExpiry, never, propReceiveMaximum, uint16(7), propMaximumPacketSize, uint32(8),
				propTopicAliasMaximum, uint16(9), propServerKeepAlive, alive, propAssignedClientID, "a", propReason, many,
				propResponseInformation, "i", propServerReference, "s", propAuthMethod, "m", propAuthData, "d")),
		},
		"SUBACK of 3.1.1": {"one failure is known", func(dst []byte) []byte { return AppendSuback(dst, V311, id, []byte{0, 1, 2, 0x8f}, "x") }, packet(0x90, id, 0, 1, 2, 0x80)},
		"SUBACK of 5":     {"codes as they are", func(dst []byte) []byte { return AppendSuback(dst, V5, id, []byte{2, 0x8f}, "x") }, packet(0x90, id, props(propReason, "x"), 2, 0x8f)},
		"UNSUBACK of 3.1": {"no codes", func(dst []byte) []byte { return AppendUnsuback(dst, V31, id, []byte{0x11}, "x") }, packet(0xb0, id)},
		"UNSUBACK of 5":   {"codes as they are", func(dst []byte) []byte { return AppendUnsuback(dst, V5, id, []byte{0, 0x11}, "") }, packet(0xb0, id, props(), 0, 0x11)},
		"DISCONNECT":      {"normal is the shortest", func(dst []byte) []byte { return AppendDisconnect(dst, 0, "", "") }, packet(0xe0)},
		"DISCONNECT with a code": {
			"no properties, no length",
			func(dst []byte) []byte { return AppendDisconnect(dst, SessionTakenOver, "", "") },
			packet(0xe0, 0x8e),
		},
		"DISCONNECT with everything": {
			"reason and reference",
			func(dst []byte) []byte { return AppendDisconnect(dst, ServerMoved, "why", "where") },
			packet(0xe0, 0x9d, props(propReason, "why", propServerReference, "where")),
		},
		"AUTH in short":        {"nothing to say", func(dst []byte) []byte { return AppendAuth(dst, 0, "", nil) }, packet(0xf0)},
		"AUTH with everything": {"method and data", func(dst []byte) []byte { return AppendAuth(dst, 0x18, "m", []byte("d")) }, packet(0xf0, 0x18, props(propAuthMethod, "m", propAuthData, "d"))},
		"PUBLISH of 3.1.1": {
			"what only 5 has is left out",
			func(dst []byte) []byte {
				h := &PublishHeader{Dup: true, Retain: true, QoS: 2, PacketID: id, Alias: 1, HasExpiry: true, Identifiers: []uint32{1}}
				dst, _ = AppendPublish(dst, V311, h, long, user, []byte("hello"))
				return dst
			},
			packet(0x3d, long, id, raw("hello")),
		},
		"PUBLISH of 5": {
			"the server's properties come first",
			func(dst []byte) []byte {
				h := &PublishHeader{QoS: 1, PacketID: id, Alias: 3, Expiry: 4, HasExpiry: true, Identifiers: []uint32{1, 128, 16_384, 2_097_152}}
				dst, _ = AppendPublish(dst, V5, h, []byte("t"), user, []byte("hello"))
				return dst
			},
			packet(0x32, "t", id, props(propTopicAlias, uint16(3), propMessageExpiry, uint32(4), propSubscriptionIdentifier, 1,
				propSubscriptionIdentifier, raw{0x80, 1}, propSubscriptionIdentifier, raw{0x80, 0x80, 1},
				propSubscriptionIdentifier, raw{0x80, 0x80, 0x80, 1}, user), raw("hello")),
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := []byte("before")
			got := tc.got(slices.Clone(before))
			if !bytes.HasPrefix(got, before) {
				t.Fatalf("%s: what was there is gone", tc.reason)
			}
			if diff := cmp.Diff(tc.want, got[len(before):]); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestReturnCode(t *testing.T) {
	t.Parallel()
	want := map[byte]byte{
		Success: 0, UnsupportedProtocolVersion: 1, ClientIdentifierNotValid: 2, ServerUnavailable: 3, ServerBusy: 3,
		QuotaExceeded: 3, ConnectionRateExceeded: 3, BadUserNameOrPassword: 4, NotAuthorized: 5, Banned: 5,
		BadAuthenticationMethod: 5, TopicNameInvalid: 5, MalformedPacket: 5,
	}
	for code, expected := range want {
		if got := returnCode(code); got != expected {
			t.Errorf("%s becomes %d, want %d", CodeName(code), got, expected)
		}
	}
}

// TestPatch proves that the offset that is given is where the packet identifier lies, and the size what was written.
func TestPatch(t *testing.T) {
	t.Parallel()
	for _, v := range []Version{V31, V311, V5} {
		for qos := range byte(3) {
			for _, payload := range [][]byte{nil, []byte("x"), make([]byte, 127), make([]byte, 17_000)} {
				h := &PublishHeader{QoS: qos, PacketID: 1, HasExpiry: true, Expiry: 9, Identifiers: []uint32{5}}
				out, pid := AppendPublish([]byte("before"), v, h, "a/b", user, payload)
				out = out[len("before"):]
				if size := PublishSize(v, h, 3, len(user), len(payload)); size != len(out) {
					t.Errorf("PublishSize answers %d, %d bytes were written", size, len(out))
				}
				if qos == 0 {
					if pid != 0 {
						t.Errorf("QoS 0 has a packet identifier at %d", pid)
					}
					continue
				}
				binary.BigEndian.PutUint16(out[pid:], 0xabcd)
				h.PacketID = 0xabcd
				head, again := AppendPublishHead(nil, v, h, []byte("a/b"), user, len(payload))
				if want := slices.Concat(head, payload); again != pid || !bytes.Equal(out, want) {
					t.Errorf("patching at %d is not the same as writing (at %d)", pid, again)
				}
			}
		}
	}
}

// TestAllocations holds the promise of doc.go.
func TestAllocations(t *testing.T) {
	h := &PublishHeader{QoS: 1, PacketID: id, HasExpiry: true, Expiry: 9, Identifiers: []uint32{5}}
	dst := make([]byte, 0, 4096)
	var p Publish
	var a Ack
	for name, f := range map[string]func(){
		"ParsePublish": func() {
			for name, tc := range good {
				if _, ok := tc.want.(*Publish); ok && ParsePublish(tc.packet, tc.v, &p) != nil {
					t.Error(name)
				}
			}
		},
		"ParseAck": func() {
			for name, tc := range good {
				if _, ok := tc.want.(*Ack); ok && ParseAck(tc.packet, tc.v, &a) != nil {
					t.Error(name)
				}
			}
		},
		"Append": func() {
			b, _ := AppendPublish(dst, V5, h, "a/b", user, nil)
			b = AppendAck(b, V5, TypePuback, id, 0x10, "none")
			b = AppendSuback(b, V5, id, []byte{0}, "")
			b = AppendConnack(b, V5, &Connack{ReceiveMaximum: 7, AssignedClientID: "x"})
			AppendDisconnect(b, 0x8e, "why", "")
		},
		"Next": func() {
			if _, err := Next([]byte{0x30, 0x80}, 0); err != nil {
				t.Error(err)
			}
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}
