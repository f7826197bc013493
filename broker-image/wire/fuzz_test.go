// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"fmt"
	"testing"
	"unicode/utf8"

	paho "github.com/eclipse/paho.golang/packets"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func seeds(f *testing.F) {
	f.Helper()
	for _, tc := range good {
		f.Add(tc.packet, byte(tc.v))
	}
	for _, tc := range bad {
		f.Add(tc.packet, byte(tc.v))
	}
}

// version makes one of the three versions of any byte.
func version(b byte) Version {
	return V31 + Version(b%3)
}

// whole gives what was made of a packet a remaining length that fits it; else few of them would be looked into.
func whole(in []byte) []byte {
	if len(in) == 0 {
		return in
	}
	_, n, err := varint(in[1:])
	if err != nil {
		n = 0
	}
	return packet(in[0], raw(in[1+n:]))
}

// FuzzNext proves that a stream that arrives byte by byte is cut as one that arrives at once.
func FuzzNext(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, buf []byte, limit byte) {
		size, err := Next(buf, uint32(limit))
		if size < 0 || size > len(buf) || size > 0 && (err != nil || limit > 0 && size > int(limit)) {
			t.Fatalf("Next answers %d, %v of %d bytes, limit %d", size, err, len(buf), limit)
		}
		if size > 0 && Need(buf) != size {
			t.Fatalf("Need answers %d, Next %d", Need(buf), size)
		}
		for n := range min(len(buf), 64) {
			early, earlyErr := Next(buf[:n], uint32(limit))
			if earlyErr != nil && (err == nil || earlyErr.Error() != err.Error()) {
				t.Fatalf("refused after %d bytes (%v), but not in the end (%v)", n, earlyErr, err)
			}
			if early != 0 && early != size {
				t.Fatalf("Next answers %d after %d bytes, %d in the end", early, n, size)
			}
			if need := Need(buf[:n]); need != 0 && need != Need(buf) {
				t.Fatalf("Need answers %d after %d bytes, %d in the end", need, n, Need(buf))
			}
		}
	})
}

// FuzzParse proves that no packet panics, that a refusal has a code that can be sent, and that what is written again is
// read as it was.
func FuzzParse(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, packet []byte, vb byte) {
		v := version(vb)
		if vb < 0x80 {
			packet = whole(packet)
		}
		before := bytes.Clone(packet)
		got, err := parse(packet, v)
		if valid := Validate(packet, v); (valid == nil) != (err == nil) {
			t.Fatalf("parsing answers %v, Validate %v", err, valid)
		}
		if !bytes.Equal(before, packet) {
			t.Fatal("parsing wrote into the packet")
		}
		if err != nil {
			if code := CodeOf(err); code < 0x81 || CodeName(code) == "unknown reason code" {
				t.Fatalf("refused with code %#x", code)
			}
			return
		}
		if size, err := Next(packet, 0); size != len(packet) || err != nil {
			t.Fatalf("a good packet is cut at %d of %d: %v", size, len(packet), err)
		}
		switch got := got.(type) {
		case *Publish:
			h := &PublishHeader{Dup: got.Dup, Retain: got.Retain, QoS: got.QoS, PacketID: got.PacketID, Alias: got.Alias, Expiry: got.Expiry, HasExpiry: got.HasExpiry}
			again, _ := AppendPublish(nil, v, h, got.Topic, got.Properties, got.Payload)
			var p Publish
			if err := ParsePublish(again, v, &p); err != nil {
				t.Fatalf("what is written is refused: %v", err)
			}
			if diff := cmp.Diff(*got, p, cmpopts.IgnoreUnexported(Publish{}), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("written and read (-was +is):\n%s", diff)
			}
			if len(again) != len(packet) || v != V5 && !bytes.Equal(again, packet) {
				t.Fatalf("written as %x, was %x", again, packet)
			}
		case *Ack:
			again := AppendAck(nil, v, got.Type, got.PacketID, got.Code, "")
			var a Ack
			if err := ParseAck(again, v, &a); err != nil || a != *got {
				t.Fatalf("written and read: %+v, was %+v: %v", a, *got, err)
			}
		case *Auth:
			if got.Method == "" {
				return // may be there, but empty
			}
			again, err := ParseAuth(AppendAuth(nil, got.Code, got.Method, got.Data))
			if diff := cmp.Diff(got, again, cmpopts.EquateEmpty()); diff != "" || err != nil {
				t.Fatalf("written and read: %v\n%s", err, diff)
			}
		}
	})
}

// compare holds what we find in a packet against what another codec finds.
func compare(t *testing.T, who string, v Version, packet []byte, we, they seen, err error) {
	t.Helper()
	if err == nil && cmp.Equal(we, they) || disputed(who, v, packet, we) != "" {
		return
	}
	t.Fatalf("%s, %v, %x: %v (-ours +theirs)\n%s", who, v, packet, err, cmp.Diff(we, they))
}

// FuzzMochi proves that whatever we accept, mochi reads alike, but for the disputes.
func FuzzMochi(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, packet []byte, vb byte) {
		v := version(vb)
		packet = whole(packet)
		we, err := ours(packet, v)
		if err != nil {
			return
		}
		they, err := theirsMochi(packet, v)
		compare(t, "mochi", v, packet, we, they.keep(Type(packet[0])), err)
	})
}

// FuzzPaho proves the same of paho, and that what it writes of what it read, we read alike again.
func FuzzPaho(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, packet []byte, _ byte) {
		packet = whole(packet)
		we, err := ours(packet, V5)
		if err != nil {
			return
		}
		they, err := theirsPaho(packet, V5)
		compare(t, "paho", V5, packet, we, they.keep(Type(packet[0])), err)
		if err != nil || disputed("paho", V5, packet, we) != "" {
			return
		}
		cp, err := paho.ReadPacket(bytes.NewReader(packet))
		if err != nil {
			t.Fatal(err)
		}
		switch cp.Type {
		case TypePublish:
			// paho cannot read the flags that it writes, and leaves out what is empty; FuzzParse writes these.
			return
		case TypeAuth:
			if we["method"] == nil {
				return // paho leaves out an empty method, which must be there
			}
		case TypeConnect:
			if we["data"] != nil && we["method"] == nil {
				return // as above
			}
			for _, key := range []string{"format", "expiry", "contentType", "responseTopic", "correlation"} {
				delete(we, "will."+key) // paho does not write these
			}
		}
		var b bytes.Buffer
		if _, err := cp.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		again, err := ours(b.Bytes(), V5)
		if diff := cmp.Diff(we, again); err != nil || diff != "" {
			t.Fatalf("what paho writes of %x is %x: %v\n%s", packet, b.Bytes(), err, diff)
		}
	})
}

// FuzzAppend proves that both others read what a server writes as it was meant.
func FuzzAppend(f *testing.F) {
	f.Add(byte(2), uint16(1), byte(0x87), "reason", "topic", []byte("data"), uint32(7), uint16(3))
	f.Add(byte(1), uint16(65535), byte(0), "", "a/b", []byte(nil), uint32(0), uint16(0))
	f.Add(byte(0), uint16(9), byte(1), "", "ü", []byte{0}, uint32(268_435_455), uint16(1))
	f.Fuzz(func(t *testing.T, vb byte, pid uint16, code byte, reason, word string, data []byte, number uint32, short uint16) {
		v := version(vb)
		if pid == 0 || !validString([]byte(reason)) || !utf8.ValidString(word) || word == "" || checkTopic([]byte(word)) != nil ||
			len(reason) > 65535 || len(word) > 65535 || len(data) > 65535 {
			return
		}
		check := func(packet []byte, want seen) {
			t.Helper()
			if size, err := Next(packet, 0); size != len(packet) || err != nil {
				t.Fatalf("%s is cut at %d of %d: %v", TypeName(Type(packet[0])), size, len(packet), err)
			}
			they, err := theirsMochi(packet, v)
			compare(t, "mochi", v, packet, want, they, err)
			if v == V5 {
				they, err := theirsPaho(packet, v)
				compare(t, "paho", v, packet, want, they, err)
			}
		}
		what := func(parts ...any) seen {
			s := seen{}
			for i := 0; i < len(parts); i += 2 {
				s.put(parts[i].(string), parts[i+1]) //nolint:forcetypeassert // a test that says nonsense may panic
			}
			if v != V5 {
				for _, key := range []string{"reason", "alias", "expiry", "identifiers"} {
					delete(s, key)
				}
			}
			return s
		}
		h := &PublishHeader{QoS: code % 3, Retain: code&0x80 != 0, Dup: code&0x40 != 0 && code%3 > 0, Alias: short, Expiry: number, HasExpiry: number != 0}
		if h.QoS > 0 {
			h.PacketID = pid
		}
		var ids any
		if n := number % (MaxRemaining + 1); n != 0 {
			h.Identifiers, ids = []uint32{n}, fmt.Sprint([]uint32{n})
		}
		packet, _ := AppendPublish(nil, v, h, word, nil, data)
		want := what("dup", h.Dup, "retain", h.Retain, "qos", h.QoS, "id", h.PacketID, "topic", word, "payload", data, "alias", short, "expiry", number)
		if ids != nil && v == V5 {
			want.put("identifiers", ids)
		}
		check(packet, want)
		five := code
		if v != V5 {
			five = 0
		}
		for typ := TypePuback; typ <= TypePubcomp; typ++ {
			check(AppendAck(nil, v, typ, pid, code, reason), what("id", pid, "code", five, "reason", reason))
		}
		codes := []byte{0, min(code, 0x80), 2}
		check(AppendSuback(nil, v, pid, codes, reason), what("id", pid, "codes", codes, "reason", reason))
		unsuback := what("id", pid, "codes", codes, "reason", reason)
		if v != V5 {
			delete(unsuback, "codes")
		}
		check(AppendUnsuback(nil, v, pid, codes, reason), unsuback)
		check(AppendPingresp(nil), seen{})
		if v != V5 {
			check(AppendConnack(nil, v, &Connack{Code: code, Reason: reason}), what("code", returnCode(code)))
			return
		}
		c := &Connack{
			SessionPresent: true, Code: code, SessionExpiry: &number, ReceiveMaximum: short, MaximumPacketSize: number,
			AssignedClientID: word, TopicAliasMaximum: short, Reason: reason, ServerKeepAlive: &short,
			ResponseInformation: word, ServerReference: reason, AuthMethod: word, AuthData: data,
		}
		connack := what("present", code == 0, "code", code, "sessionExpiry", number, "receiveMaximum", short,
			"maximumPacketSize", number, "assigned", word, "aliasMaximum", short, "reason", reason, "serverKeepAlive", short,
			"response", word, "reference", reason, "method", word, "data", data)
		if short == 65535 {
			delete(connack, "receiveMaximum")
		}
		check(AppendConnack(nil, v, c), connack)
		check(AppendDisconnect(nil, code, reason, word), what("code", code, "reason", reason, "reference", word))
		check(AppendAuth(nil, 0x18, word, data), what("code", byte(0x18), "method", word, "data", data))
	})
}

// TestDisputes proves that each dispute is still one: when the other codec learns, its line goes.
func TestDisputes(t *testing.T) {
	t.Parallel()
	still := map[string]bool{}
	for _, tc := range good {
		we, err := ours(tc.packet, tc.v)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range disputes {
			if !d.is(tc.v, Type(tc.packet[0]), tc.packet, we) {
				continue
			}
			they, err := theirsMochi(tc.packet, tc.v)
			if d.who == "paho" {
				they, err = theirsPaho(tc.packet, V5)
			}
			if err != nil || !cmp.Equal(we, they.keep(Type(tc.packet[0]))) {
				still[d.name] = true
			}
		}
	}
	for _, d := range disputes {
		if !still[d.name] {
			t.Errorf("%s no longer disagrees on %q (%s)", d.who, d.name, d.clause)
		}
	}
}
