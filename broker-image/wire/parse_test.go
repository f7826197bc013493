// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// parse asks the function that knows the packet's type. Nil stands for a packet that holds nothing.
func parse(packet []byte, v Version) (any, error) {
	var typ byte
	if len(packet) > 0 {
		typ = Type(packet[0])
	}
	switch typ {
	case TypeConnect:
		c, err := ParseConnect(packet)
		return c, err
	case TypePublish:
		p := &Publish{}
		return p, ParsePublish(packet, v, p)
	case TypePuback, TypePubrec, TypePubrel, TypePubcomp:
		a := &Ack{}
		return a, ParseAck(packet, v, a)
	case TypeSubscribe:
		s, err := ParseSubscribe(packet, v)
		return s, err
	case TypeUnsubscribe:
		u, err := ParseUnsubscribe(packet, v)
		return u, err
	case TypeDisconnect:
		d, err := ParseDisconnect(packet, v)
		return d, err
	case TypeAuth:
		if v == V5 {
			a, err := ParseAuth(packet)
			return a, err
		}
	}
	return nil, Validate(packet, v)
}

// before5 fills in what the absence of properties means, so that a case need not say it where there are none.
func before5(want any) {
	if c, ok := want.(*Connect); ok && c.Version != V5 {
		c.ReceiveMaximum, c.RequestProblemInformation = 65535, true
	}
}

func TestGood(t *testing.T) {
	t.Parallel()
	for name, tc := range good {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before5(tc.want)
			packet := slices.Clone(tc.packet)
			size, err := Next(packet, 0)
			if size != len(packet) || err != nil {
				t.Fatalf("%s: Next answers %d, %v; the packet has %d bytes", tc.reason, size, err, len(packet))
			}
			got, err := parse(packet, tc.v)
			if err != nil {
				t.Fatalf("%s: refused: %v", tc.reason, err)
			}
			if err := Validate(packet, tc.v); err != nil {
				t.Errorf("%s: parsed, but not valid: %v", tc.reason, err)
			}
			if _, views := got.(*Publish); !views {
				for i := range packet {
					packet[i] = 0xaa // nothing may look into the read buffer from now on
				}
			}
			if diff := cmp.Diff(tc.want, got, cmpopts.IgnoreUnexported(Publish{})); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestBad(t *testing.T) {
	t.Parallel()
	for name, tc := range bad {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parse(tc.packet, tc.v)
			refusal, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("%s: not refused: %v", tc.reason, err)
			}
			if refusal.Code != tc.code || refusal.Reason == "" || CodeOf(err) != tc.code {
				t.Errorf("%s: refused with %#x (%v), want %#x", tc.reason, refusal.Code, err, tc.code)
			}
			if Validate(tc.packet, tc.v) == nil {
				t.Errorf("%s: parsing refuses what Validate accepts", tc.reason)
			}
			if CodeName(refusal.Code) == "unknown reason code" {
				t.Errorf("code %#x has no name", refusal.Code)
			}
		})
	}
}

// TestEveryCut proves that no prefix of a packet is read past its end, whatever its length says.
func TestEveryCut(t *testing.T) {
	t.Parallel()
	for name, tc := range good {
		for n := range len(tc.packet) {
			cut := slices.Clip(tc.packet[:n])
			if _, err := parse(cut, tc.v); err == nil {
				t.Errorf("%s: accepted after %d of %d bytes", name, n, len(tc.packet))
			}
			if size, err := Next(cut, 0); size != 0 || err != nil {
				t.Errorf("%s: Next answers %d, %v after %d of %d bytes", name, size, err, n, len(tc.packet))
			}
			if need := Need(cut); need != 0 && need != len(tc.packet) || n > 5 && need == 0 {
				t.Errorf("%s: Need answers %d after %d bytes, want %d", name, need, n, len(tc.packet))
			}
			if n < 2 {
				continue
			}
			// The same bytes with a remaining length that fits them.
			_, head, err := varint(tc.packet[1:])
			if err != nil || n < 1+head {
				continue
			}
			parse(packet(tc.packet[0], raw(tc.packet[1+head:n])), tc.v)
		}
	}
}

func TestConnectTellsItsVersion(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		reason string
		packet []byte
		want   Version
	}{
		"another protocol":    {"nobody is there to answer", packet(0x10, "HTTP", 4), 0},
		"no level":            {"the packet ends before it", packet(0x10, "MQTT"), 0},
		"a level of tomorrow": {"CONNACK 0x84 is in the newest form", packet(0x10, "MQTT", 6), 6},
		"a broken body":       {"CONNACK 0x81 can be told", packet(0x10, "MQTT", 5, 1), V5},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := ParseConnect(tc.packet)
			if err == nil || c == nil || c.Version != tc.want {
				t.Errorf("%s: %+v, %v; want version %d", tc.reason, c, err, tc.want)
			}
		})
	}
}

func TestNext(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		reason string
		buf    []byte
		limit  uint32
		size   int
		need   int
		code   byte
	}{
		"nothing":                        {"more bytes are needed", nil, 0, 0, 0, 0},
		"a type":                         {"more bytes are needed", []byte{0x30}, 0, 0, 0, 0},
		"half a length":                  {"more bytes are needed", []byte{0x30, 0x80}, 0, 0, 0, 0},
		"half a packet":                  {"it is known how many", []byte{0x30, 0x80, 1}, 0, 0, 131, 0},
		"a packet":                       {"it is whole", []byte{0xc0, 0}, 2, 2, 2, 0},
		"a packet and more":              {"only the first one counts", []byte{0xc0, 0, 0, 0, 0}, 2, 2, 2, 0},
		"a packet above the limit":       {"refused before it is read", []byte{0x30, 0x7f}, 128, 0, 129, 0x95},
		"a packet at the limit":          {"allowed", []byte{0x30, 0x7f}, 129, 0, 129, 0},
		"the largest packet":             {"allowed without limit", []byte{0x30, 0xff, 0xff, 0xff, 0x7f}, 0, 0, 268_435_460, 0},
		"five bytes of length":           {"[MQTT-1.5.5-1]", []byte{0x30, 0xff, 0xff, 0xff, 0xff}, 0, 0, 0, 0x81},
		"a length longer than needed":    {"[MQTT-1.5.5-1]", []byte{0x30, 0x80, 0x00}, 0, 0, 0, 0x81},
		"a type that is none":            {"refused at once", []byte{0x00}, 0, 0, 0, 0x81},
		"flags that are wrong":           {"refused at once", []byte{0x83}, 0, 0, 0, 0x81},
		"QoS 3":                          {"refused at once", []byte{0x36}, 0, 0, 0, 0x81},
		"DUP on a SUBSCRIBE":             {"3.1 has it; the parser knows the version", []byte{0x8a}, 0, 0, 0, 0},
		"DUP on a SUBSCRIBE without QoS": {"no version has it", []byte{0x88}, 0, 0, 0, 0x81},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			size, err := Next(tc.buf, tc.limit)
			if size != tc.size || CodeOf(err) != tc.code {
				t.Errorf("%s: Next answers %d, %v; want %d and code %#x", tc.reason, size, err, tc.size, tc.code)
			}
			if need := Need(tc.buf); need != tc.need {
				t.Errorf("%s: Need answers %d, want %d", tc.reason, need, tc.need)
			}
		})
	}
}

// TestText holds the fast checks of strings against the plain way to say them.
func TestText(t *testing.T) {
	t.Parallel()
	special := []string{"", "\x00", "+", "#", "ü", "\x7f", "\x01", "\x80", "\xff", surrogate, overlong, "\U0010ffff", "\xf4\x90\x80\x80", "*", "$", "\"", ","}
	for n := range 20 {
		for at := range n + 1 {
			for _, s := range special {
				b := []byte(strings.Repeat("x", at) + s + strings.Repeat("y", n-at))
				valid := validSlowly(b)
				if validString(b) != valid {
					t.Errorf("validString(%q) is %v", b, !valid)
				}
				name := valid && !bytes.ContainsAny(b, "+#")
				if (checkTopic(b) == nil) != name {
					t.Errorf("checkTopic(%q) is not %v", b, name)
				}
			}
		}
	}
}

// TestScratch proves that a Publish that is used again forgets what it held.
func TestScratch(t *testing.T) {
	t.Parallel()
	var p Publish
	for range 2 {
		for name, tc := range good {
			want, ok := tc.want.(*Publish)
			if !ok {
				continue
			}
			if err := ParsePublish(tc.packet, tc.v, &p); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(*want, p, cmpopts.IgnoreUnexported(Publish{})); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
			for _, view := range [][]byte{p.Topic, p.Payload} {
				if len(view) != cap(view) {
					t.Errorf("%s: to append to a view would write into the packet", name)
				}
			}
		}
	}
}

// TestOtherType proves that a parser looks at the type, too.
func TestOtherType(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func([]byte) error{
		"ParseConnect":     func(b []byte) error { _, err := ParseConnect(b); return err },
		"ParsePublish":     func(b []byte) error { return ParsePublish(b, V5, &Publish{}) },
		"ParseAck":         func(b []byte) error { return ParseAck(b, V5, &Ack{}) },
		"ParseSubscribe":   func(b []byte) error { _, err := ParseSubscribe(b, V5); return err },
		"ParseUnsubscribe": func(b []byte) error { _, err := ParseUnsubscribe(b, V5); return err },
		"ParseDisconnect":  func(b []byte) error { _, err := ParseDisconnect(b, V5); return err },
		"ParseAuth":        func(b []byte) error { _, err := ParseAuth(b); return err },
	} {
		if CodeOf(f(packet(0xc0))) != ProtocolError || f(nil) == nil {
			t.Errorf("%s accepts PINGREQ, or nothing", name)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	if got := []string{TypeName(0), TypeName(1), TypeName(15), TypeName(16), CodeName(0x95), CodeName(0x7f), V31.String(), V311.String(), V5.String(), Version(9).String()}; !slices.Equal(got, []string{
		"reserved", "CONNECT", "AUTH", "reserved", "packet too large", "unknown reason code", "3.1", "3.1.1", "5.0", "unknown",
	}) {
		t.Errorf("names are %q", got)
	}
	if CodeOf(nil) != Success || CodeOf(errors.New("x")) != UnspecifiedError {
		t.Error("CodeOf knows codes that nobody gave")
	}
}
