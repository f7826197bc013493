// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

func bridgeText(t *testing.T, revision int64, mutate func(*contract.Bridge)) []byte {
	t.Helper()

	end := contract.BridgeEnd{Endpoints: []string{"mqtt://x"}, Version: 5, ClientIDPrefix: "b-", KeepAliveSeconds: 60}
	b := &contract.Bridge{
		Format: contract.BridgeFormat, Name: "ns/b", Revision: revision, Local: end, Remote: end, Inflight: 100, Logging: contract.DefaultLogging(),
	}

	if mutate != nil {
		mutate(b)
	}

	text, err := contract.RenderBridge(b)
	if err != nil {
		t.Fatal(err)
	}

	return text
}

func TestABridgeTakesOnlyWhatIsNewerAndGood(t *testing.T) {
	var running []int64

	refuse := errors.New("not now")
	keeper := NewBridgeKeeper(func(b *contract.Bridge) error {
		if b.Inflight == 13 {
			return refuse
		}

		running = append(running, b.Revision)

		return nil
	})

	for _, c := range []struct {
		text    []byte
		want    string
		refused bool
	}{
		{bridgeText(t, 2, nil), "", false},
		{bridgeText(t, 2, nil), "", false}, // the same again
		{bridgeText(t, 1, nil), ErrOlder.Error(), false},
		{bridgeText(t, 2, func(b *contract.Bridge) { b.Inflight = 5 }), ErrOlder.Error(), false},
		{bridgeText(t, 3, func(b *contract.Bridge) { b.Inflight = 0 }), "inflight", true},
		{bridgeText(t, 4, func(b *contract.Bridge) { b.Inflight = 13 }), "not now", true},
		{[]byte("{"), "bridge.json", true},
		{bridgeText(t, 5, nil), "", false},
	} {
		err := keeper.Offer(c.text)
		if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v, want %q", err, c.want)
		}

		if _, _, refused := keeper.Running(); (refused != nil) != c.refused {
			t.Errorf("refused is %v after %q", refused, c.want)
		}
	}

	if len(running) != 2 || running[1] != 5 {
		t.Errorf("%v ran", running)
	}
}

func TestTheEndpointOfABridge(t *testing.T) {
	ca := newAuthority(t)
	address, dir, _ := endpoint(t, ca, nil) // a broker's, which shows that only the handlers differ
	if _, err := NewBridgeClient(address, ca.trust()).Apply(inTime(t), bridgeText(t, 1, nil)); err == nil {
		t.Error("a broker took a bridge's configuration")
	}

	keeper := NewBridgeKeeper(func(*contract.Bridge) error { return nil })
	handler := BridgeHandler(keeper, func() BridgeStatus { return BridgeStatus{Active: true, Version: "v"} })
	client := NewBridgeClient(serve(t, dir, handler), ca.trust())

	if s, err := client.Status(inTime(t)); err != nil || s.Revision != 0 || !s.Active || s.Version != "v" {
		t.Fatalf("status %+v, %v", s, err)
	}

	text := bridgeText(t, 7, nil)

	s, err := client.Apply(inTime(t), text)
	if err != nil || s.Revision != 7 || s.Digest != contract.DigestOf(text) {
		t.Fatalf("status %+v, %v", s, err)
	}

	if s, err := client.Apply(inTime(t), bridgeText(t, 6, nil)); !errors.Is(err, ErrOlder) || s.Revision != 7 {
		t.Errorf("revision %d, %v", s.Revision, err)
	}

	_, err = client.Apply(inTime(t), bridgeText(t, 8, func(b *contract.Bridge) { b.Inflight = 0 }))
	if refused, is := errors.AsType[*RefusedError](err); !is || !strings.Contains(refused.Reason, "inflight") {
		t.Errorf("%v", err)
	}

	if s, err := client.Status(inTime(t)); err != nil || s.Refused == nil || s.Refused.Revision != 8 || s.Revision != 7 {
		t.Errorf("status %+v, %v", s, err)
	}

	for _, body := range []string{"", "{}", `{"files":{"broker.json":""}}`, `{"files":{"bridge.json":"","x":""}}`, `{"filez":{}}`} {
		request, _ := http.NewRequestWithContext(inTime(t), http.MethodPut, "https://"+address+configPath, strings.NewReader(body))
		if body == "" {
			request.Body = http.NoBody
		}

		recorder := &recording{header: http.Header{}}
		handler.ServeHTTP(recorder, request)

		if recorder.code != http.StatusBadRequest {
			t.Errorf("%q was answered with %d", body, recorder.code)
		}
	}
}

type recording struct {
	header http.Header
	code   int
}

func (r *recording) Header() http.Header         { return r.header }
func (r *recording) Write(p []byte) (int, error) { return len(p), nil }
func (r *recording) WriteHeader(code int)        { r.code = code }
