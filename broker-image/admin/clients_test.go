// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// crowd is who is connected, and what was asked about them.
type crowd struct {
	page   ClientPage
	asked  ClientFilter
	kicked string
}

func (c *crowd) List(filter ClientFilter) ClientPage {
	c.asked = filter

	return c.page
}

func (c *crowd) Disconnect(client string) bool {
	c.kicked = client

	return client != "nobody"
}

// attended serves an endpoint with these options.
func attended(t *testing.T, ca *authority, options ...Option) *Client {
	t.Helper()

	dir := t.TempDir()
	ca.write(dir)

	handler := Handler(NewKeeper(func(*contract.Config) error { return nil }), func() Status { return Status{} }, nil, options...)

	return NewClient(serve(t, dir, handler), ca.trust())
}

func TestClients(t *testing.T) {
	who := &crowd{page: ClientPage{
		Clients: []ConnectedClient{
			{Client: "a\n\"<>/ü", User: "u", Listener: "mqtts", Remote: "192.0.2.1:5", Version: 5, Since: time.Unix(7, 0).UTC(), Subscriptions: 1, Queued: 2, QueuedBytes: 3, Inflight: 4},
			{Client: strings.Repeat("\x01", 65_535), Version: 4, Since: time.Unix(8, 0).UTC()},
		},
		Next: strings.Repeat("\x01", 65_535),
	}}
	client := attended(t, newAuthority(t), WithClients(who))

	page, err := client.Clients(inTime(t), ClientFilter{Prefix: "a", User: "u", Listener: "l", Limit: 7})
	if err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff(who.page, page); diff != "" {
		t.Errorf("the page (-want +got):\n%s", diff)
	}

	if want := (ClientFilter{Prefix: "a", User: "u", Listener: "l", Limit: 7}); who.asked != want {
		t.Errorf("asked for %+v", who.asked)
	}

	// The longest client identifier that there can be leads to the next page.
	for limit, want := range map[int]int{0: MaxClients, -1: MaxClients, MaxClients + 1: MaxClients, 1: 1} {
		if _, err := client.Clients(inTime(t), ClientFilter{After: page.Next, Limit: limit}); err != nil || who.asked.After != page.Next || who.asked.Limit != want {
			t.Errorf("a limit of %d: %v, asked for %d", limit, err, who.asked.Limit)
		}
	}
}

func TestDisconnect(t *testing.T) {
	who := &crowd{}
	client := attended(t, newAuthority(t), WithClients(who))

	for id, want := range map[string]bool{"a b/ü\x01": true, strings.Repeat("\x01", 65_535): true, "nobody": false} {
		if had, err := client.Disconnect(inTime(t), id); err != nil || had != want || who.kicked != id {
			t.Errorf("%t, %v; want %t", had, err, want)
		}
	}
}

func TestQuestionsAboutClientsThatAreNone(t *testing.T) {
	ca := newAuthority(t)
	client := attended(t, ca, WithClients(&crowd{}))

	for name, body := range map[string]string{
		"no JSON": "x", "an unknown field": `{"clients":"a"}`, "too long": `{"client":"` + strings.Repeat("x", maxQuestion) + `"}`,
	} {
		for _, path := range []string{clientsPath, disconnectPath} {
			request, err := http.NewRequestWithContext(inTime(t), http.MethodPost, client.base+path, bytes.NewReader([]byte(body)))
			if err != nil {
				t.Fatal(err)
			}

			response, err := client.http.Do(request)
			if err != nil {
				t.Fatal(err)
			}

			_ = response.Body.Close()

			if response.StatusCode != http.StatusBadRequest {
				t.Errorf("%s to %s: %d", name, path, response.StatusCode)
			}
		}
	}

	older := attended(t, ca)
	if _, err := older.Clients(inTime(t), ClientFilter{}); !errors.Is(err, ErrNoClients) {
		t.Errorf("an older broker: %v", err)
	}

	if _, err := older.Disconnect(inTime(t), "a"); !errors.Is(err, ErrNoClients) {
		t.Errorf("an older broker: %v", err)
	}
}
