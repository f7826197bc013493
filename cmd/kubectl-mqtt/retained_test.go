// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/engine"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// Retained is of admin.Retainer.
func (p *pod) Retained(filter string, each func(*admin.RetainedMessage) error) error {
	return p.engine.Retained(filter, func(m *engine.RetainedMessage) error {
		out := &admin.RetainedMessage{Topic: m.Topic, QoS: m.QoS}
		out.SetPayload(m.Payload)
		if m.HasExpiry {
			out.Expires = &m.Expiry
		}
		if m.Properties.ContentType != "" {
			out.Properties = &admin.RetainedProperties{ContentType: m.Properties.ContentType}
		}
		return each(out)
	})
}

// Retain is of admin.Retainer.
func (p *pod) Retain(ctx context.Context, filter string, next func() (*admin.RetainedMessage, error)) (int, error) {
	return p.engine.Retain(ctx, filter, func() (*engine.RetainedMessage, error) {
		m, err := next()
		if err != nil {
			return nil, err
		}
		in := &engine.RetainedMessage{Topic: m.Topic, QoS: m.QoS, Payload: m.Content()}
		if m.Properties != nil {
			in.Properties = wire.Forwarded{ContentType: m.Properties.ContentType}
		}
		return in, nil
	})
}

func TestRetainedExportAndImport(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p := runs(t, time.Now())
	device, _ := p.device(7, "press-7", "alice")
	for topic, payload := range map[string]string{"factory/a": `{"n":1}`, "factory/b/c": "\xff\x00", "factory/b/d": "<ü>\n"} {
		if _, err := device.Publish(ctx, &paho.Publish{
			Topic: topic, QoS: 1, Retain: true, Payload: []byte(payload), Properties: &paho.PublishProperties{ContentType: "text/plain"},
		}); err != nil {
			t.Fatal(err)
		}
	}
	code, out, errs := call(t, p.opens, "retained", "export", "mq")
	if code != exitYes || errs != "note: 3 retained messages\n" {
		t.Errorf("%d %s", code, errs)
	}
	golden(t, "retained-export", out)
	dir := t.TempDir()
	file := filepath.Join(dir, "x.jsonl")
	if code, out, errs := call(t, p.opens, "retained", "export", "--filter", "factory/b/+", "-o", file); code != exitYes || out != "" || errs != "note: 2 retained messages\n" {
		t.Errorf("%d %s%s", code, out, errs)
	}
	if code, _, errs := call(t, p.opens, "retained", "export", "-o", file); code != exitNo || !strings.Contains(errs, "is there already") {
		t.Errorf("%d %s", code, errs)
	}

	other := runs(t, time.Now())
	code, out, errs = call(t, other.opens, "retained", "import", file, "--broker", "mq")
	if code != exitYes || errs != "" {
		t.Errorf("%d %s", code, errs)
	}
	golden(t, "retained-import", out)
	_, whole, _ := call(t, p.opens, "retained", "export", "--filter", "factory/b/#")
	if _, got, _ := call(t, other.opens, "retained", "export"); got != whole {
		t.Errorf("imported:\n%s\nexported:\n%s", got, whole)
	}
	if code, out, errs := call(t, other.opens, "retained", "import", file, "--filter", "factory/b/c"); code != exitYes || out != "broker factory/mq has retained 1 message\n" {
		t.Errorf("%d %s%s", code, out, errs)
	}
	for text, want := range map[string]string{
		`{"topic":"factory/new","payload":"x"}{"topic":"`: "message 2: unexpected EOF", `{"topic":"a","ttl":1}`: `message 1: json: unknown field "ttl"`,
		`{"topic":"factory/new2","payload":"x"}{"topic":"a/#","payload":"x"}`: `pod mq-broker-0: 1 are retained, then the broker refused: topic "a/#": topic name invalid: the topic has a wildcard`,
	} {
		bad := filepath.Join(dir, "bad")
		if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out, errs := call(t, other.opens, "retained", "import", bad); code != exitNo || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%s: %d %s%s", text, code, out, errs)
		}
	}
	if _, got, _ := call(t, other.opens, "retained", "export", "--filter", "factory/new"); got != "" {
		t.Errorf("half a file was sent: %s", got)
	}
	for args, want := range map[string]struct {
		code int
		errs string
	}{
		"retained export --filter a/#/b":        {exitUsage, "--filter a/#/b: "},
		"retained export --filter $share/g/a":   {exitUsage, "give it without its share group"},
		"retained import x --filter ":           {exitUsage, "--filter"},
		"retained import " + dir + "/none":      {exitNo, "no such file"},
		"retained export -o " + dir + "/none/x": {exitUnknown, "no such file"},
		"retained export other":                 {exitUnknown, "not found"},
	} {
		if code, out, errs := call(t, p.opens, strings.Split(args, " ")...); code != want.code || out != "" || !strings.Contains(errs, want.errs) {
			t.Errorf("%s: %d %s%s", args, code, out, errs)
		}
	}
	if _, out, _ := call(t, p.opens, "retained"); !strings.Contains(out, "import") {
		t.Error(out)
	}
}
