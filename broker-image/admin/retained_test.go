// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// memory retains in a slice.
type memory struct {
	all    []*RetainedMessage
	asked  string
	refuse string
}

func (m *memory) Retained(filter string, each func(*RetainedMessage) error) error {
	m.asked = filter

	for _, one := range m.all {
		if one.Topic == m.refuse {
			return errors.New("it does not parse")
		}

		if err := each(one); err != nil {
			return err
		}
	}

	return nil
}

func (m *memory) Retain(_ context.Context, filter string, next func() (*RetainedMessage, error)) (int, error) {
	m.asked = filter

	for n := 0; ; n++ {
		one, err := next()
		if errors.Is(err, io.EOF) {
			return n, nil
		}

		if err == nil && one.Topic == m.refuse {
			err = fmt.Errorf("topic %q: no", one.Topic)
		}

		if err != nil {
			return n, err
		}

		m.all = append(m.all, one)
	}
}

func several() []*RetainedMessage {
	binary := &RetainedMessage{Topic: "b"}
	binary.SetPayload([]byte{0xFF, 0})

	return []*RetainedMessage{
		{Topic: "a/<ü>", QoS: 2, Payload: "x\x00\n", Expires: new(uint32(7))},
		binary,
		{Topic: "c", Payload: "{}", Properties: &RetainedProperties{
			PayloadFormat: new(byte(0)), ContentType: "t", ResponseTopic: "r", CorrelationDataBase64: []byte{1}, User: [][2]string{{"k", "v"}, {"k", ""}},
		}},
	}
}

func TestAFileOfRetainedMessages(t *testing.T) {
	var text []byte

	for _, m := range several() {
		var err error
		if text, err = AppendRetained(text, m); err != nil {
			t.Fatal(err)
		}
	}

	const want = `{"topic":"a/<ü>","qos":2,"expires":7,"payload":"x\u0000\n"}
{"topic":"b","qos":0,"payloadBase64":"/wA="}
{"topic":"c","qos":0,"payload":"{}","properties":{"payloadFormat":0,"contentType":"t","responseTopic":"r","correlationDataBase64":"AQ==","user":[["k","v"],["k",""]]}}
`
	if d := cmp.Diff(want, string(text)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}

	in := NewRetainedReader(bytes.NewReader(text))

	for _, m := range several() {
		got, err := in.Next()
		if d := cmp.Diff(m, got); d != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, d)
		}
	}

	if _, err := in.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}

	for name, c := range map[string][2]string{
		"no JSON":                   {"a", "message 2: invalid character"},
		"half a line":               {`{"topic":"a"`, "message 2: unexpected EOF"},
		"an unknown field":          {`{"topic":"a","ttl":7}`, `message 2: json: unknown field "ttl"`},
		"no topic":                  {`{"payload":"x"}`, "message 2: it has no topic"},
		"two payloads":              {`{"topic":"a","payload":"x","payloadBase64":"eA=="}`, `message 2: topic "a": payload and payloadBase64 exclude one another`},
		"no base64":                 {`{"topic":"a","payloadBase64":"?"}`, "message 2: illegal base64"},
		"a QoS that is no number":   {`{"topic":"a","qos":-1}`, "message 2: json: cannot unmarshal"},
		"a payload format of two":   {`{"topic":"a","payload":"x","properties":{"payloadFormat":2}}`, "payloadFormat 2 is neither 0 nor 1"},
		"an expiry that is too far": {`{"topic":"a","expires":4294967296}`, "message 2: json: cannot unmarshal"},
	} {
		in := NewRetainedReader(strings.NewReader(`{"topic":"first","payload":"x"}` + "\n" + c[0]))
		if _, err := in.Next(); err != nil {
			t.Errorf("%s: %v", name, err)
		}

		if _, err := in.Next(); err == nil || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRetainedMessagesOverTheEndpoint(t *testing.T) {
	ca := newAuthority(t)
	from, to := &memory{all: several()}, &memory{refuse: "no"}
	source, target := attended(t, ca, WithRetained(from)), attended(t, ca, WithRetained(to))

	for filter, asked := range map[string]string{"": "#", "a/+/ü#": "a/+/ü#"} {
		to.all = nil

		body, err := source.Retained(inTime(t), filter)
		if err != nil {
			t.Fatal(err)
		}

		n, err := target.Retain(inTime(t), filter, body)
		if d := cmp.Diff(several(), to.all); d != "" || n != 3 || err != nil || from.asked != asked || to.asked != asked {
			t.Errorf("%d, %v, asked for %q and %q (-want +got):\n%s", n, err, from.asked, to.asked, d)
		}

		_ = body.Close()
	}

	for name, c := range map[string]struct {
		text, says string
	}{
		"refused":  {`{"topic":"a","payload":"x"}{"topic":"no","payload":"x"}`, `1 are retained, then the broker refused: topic "no": no`},
		"no list":  {`{"topic":"a","payload":"x"}{"topic":`, "1 are retained, then the broker refused: message 2: unexpected EOF"},
		"too long": {`{"topic":"no"}` + strings.Repeat(" ", 20<<20), "0 are retained"},
	} {
		if _, err := target.Retain(inTime(t), "#", strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}

	// A list that breaks off does not look like an end; one that does not begin says why.
	from.refuse = "b"
	for range 10 {
		from.all = append([]*RetainedMessage{{Topic: "a", Payload: strings.Repeat("x", retainedBuffer)}}, from.all...)
	}

	body, err := source.Retained(inTime(t), "#")
	if err != nil {
		t.Fatal(err)
	}

	if _, err := io.Copy(io.Discard, body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}

	_ = body.Close()

	from.refuse = "a"
	if _, err := source.Retained(inTime(t), "#"); !errors.Is(err, ErrRetainedFilter) {
		t.Errorf("got %v", err)
	}

	older := attended(t, ca)
	if _, err := older.Retained(inTime(t), "#"); !errors.Is(err, ErrNoRetained) {
		t.Errorf("an older broker: %v", err)
	}

	if _, err := older.Retain(inTime(t), "#", unread{t}); !errors.Is(err, ErrNoRetained) {
		t.Errorf("an older broker: %v", err)
	}
}
