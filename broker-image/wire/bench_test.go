// SPDX-License-Identifier: Apache-2.0

package wire

import "testing"

func BenchmarkParsePublish(b *testing.B) {
	for name, in := range map[string]struct {
		v      Version
		packet []byte
	}{
		"3.1.1":           {V311, packet(0x32, "plant/7/line/3/temperature", id, raw(make([]byte, 128)))},
		"5":               {V5, packet(0x32, "plant/7/line/3/temperature", id, props(), raw(make([]byte, 128)))},
		"5 with expiry":   {V5, packet(0x32, "plant/7/line/3/temperature", id, props(propMessageExpiry, uint32(60)), raw(make([]byte, 128)))},
		"5 with the lot":  {V5, packet(0x32, "plant/7/line/3/temperature", id, props(propPayloadFormat, 1, propMessageExpiry, uint32(60), propContentType, "application/json", user, user), raw(make([]byte, 128)))},
		"5 not in ASCII":  {V5, packet(0x32, "werk/7/straße/3/temperatur", id, props(), raw(make([]byte, 128)))},
		"5 with an alias": {V5, packet(0x32, "", id, props(propTopicAlias, uint16(3)), raw(make([]byte, 128)))},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var p Publish
			for b.Loop() {
				if err := ParsePublish(in.packet, in.v, &p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendPublish(b *testing.B) {
	for name, in := range map[string]struct {
		v Version
		h PublishHeader
	}{
		"3.1.1":                         {V311, PublishHeader{QoS: 1, PacketID: id}},
		"5":                             {V5, PublishHeader{QoS: 1, PacketID: id}},
		"5 with expiry and identifiers": {V5, PublishHeader{QoS: 1, PacketID: id, HasExpiry: true, Expiry: 60, Identifiers: []uint32{1, 300}}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			dst, topic, payload := make([]byte, 0, 1024), []byte("plant/7/line/3/temperature"), make([]byte, 128)
			for b.Loop() {
				AppendPublish(dst, in.v, &in.h, topic, nil, payload)
			}
		})
	}
}

func BenchmarkParseAck(b *testing.B) {
	for name, in := range map[string][]byte{"short": packet(0x40, id), "with a reason": packet(0x40, id, 0x10, props(propReason, "nobody"))} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var a Ack
			for b.Loop() {
				if err := ParseAck(in, V5, &a); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendAck(b *testing.B) {
	b.ReportAllocs()
	dst := make([]byte, 0, 64)
	for b.Loop() {
		AppendAck(dst, V5, TypePuback, id, Success, "")
	}
}

func BenchmarkNext(b *testing.B) {
	b.ReportAllocs()
	in := packet(0x32, "plant/7/line/3/temperature", id, raw(make([]byte, 128)))
	for b.Loop() {
		if _, err := Next(in, 1<<20); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseConnect(b *testing.B) {
	b.ReportAllocs()
	in := good["CONNECT of 3.1.1 with everything"].packet
	for b.Loop() {
		if _, err := ParseConnect(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseSubscribe(b *testing.B) {
	b.ReportAllocs()
	in := good["SUBSCRIBE of 3.1.1"].packet
	for b.Loop() {
		if _, err := ParseSubscribe(in, V311); err != nil {
			b.Fatal(err)
		}
	}
}
