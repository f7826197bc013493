// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestForwardedPropertiesAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]Forwarded{
		"none":         {},
		"bytes":        {HasFormat: true},
		"text":         {HasFormat: true, Text: true, ContentType: "text/plain"},
		"everything":   {HasFormat: true, Text: true, ContentType: "a", ResponseTopic: "r/t", CorrelationData: []byte{0, 1}, User: [][2]string{{"k", "v"}, {"k", "w"}, {"", ""}}},
		"empty data":   {CorrelationData: []byte{}},
		"the longest":  {ContentType: strings.Repeat("x", 65535), User: [][2]string{{strings.Repeat("y", 65535), ""}}},
		"not in ASCII": {ContentType: "ü", User: [][2]string{{"ö", "ä"}}},
	} {
		b, err := AppendForwarded(nil, &f)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got, err := ParseForwarded(b)
		if d := cmp.Diff(f, got); d != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, d)
		}
	}
}

func TestForwardedPropertiesThatAreNone(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 65536)
	for _, f := range []Forwarded{{ContentType: long}, {ResponseTopic: long}, {CorrelationData: []byte(long)}, {User: [][2]string{{long, ""}}}, {User: [][2]string{{"", long}}}} {
		if _, err := AppendForwarded(nil, &f); err == nil {
			t.Error("a text that is too long is written")
		}
	}
	for name, b := range map[string]string{
		"an unknown one": "\x7f", "one that is not forwarded": "\x02\x00\x00\x00\x01", "half of one": "\x03\x00", "one twice": "\x01\x00\x01\x00",
		"no UTF-8": "\x03\x00\x01\xff", "half a pair": "\x26\x00\x01k", "an empty response topic": "\x08\x00\x00",
	} {
		if _, err := ParseForwarded([]byte(b)); err == nil {
			t.Errorf("%s is read", name)
		}
	}
}
