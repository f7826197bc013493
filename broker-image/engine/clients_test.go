// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// ids are the client ids of a page.
func (p *ClientPage) ids() []string {
	var ids []string
	for i := range p.Clients {
		ids = append(ids, p.Clients[i].ClientID)
	}

	return ids
}

func TestClients(t *testing.T) {
	config := baseConfig(person(t, "anna", allow("#")), person(t, "otto", allow("#")))
	config.Listeners = append(config.Listeners, contract.Listener{Name: "other", Protocol: contract.TCP, Address: "127.0.0.1:0"})
	h := open(t, Options{}, config)
	before := time.Now().Add(-time.Second)

	anna, otto := h.user("anna"), h.user3("otto")
	anna.subscribe(1, "a", "b/#")

	away := h.login(login{version: 5, id: "away", user: "anna", resume: true, props: u32prop(pExpiry, 3600)})
	away.bye()
	eventually(t, "the client must be gone", func() bool { return h.Status().Connections == 2 })

	probe := h.ProbeCredential()
	h.login(login{version: 5, id: "probe", user: probe.Username, password: probe.Password}).alive()

	// One message is on its way to her, and she does not acknowledge it.
	otto.published("a", "12345", false)
	anna.expect(tPublish)

	page := h.Clients(ClientFilter{Limit: 10})
	if page.Next != "" || !slices.Equal(page.ids(), []string{"client-anna", "client3-otto"}) {
		t.Fatalf("connected are two, and the probe is none of them: %+v", page)
	}

	a, o := page.Clients[0], page.Clients[1]
	if a.User != "anna" || a.Listener != "tcp" || a.Remote != anna.LocalAddr().String() || a.Version != 5 || a.Subscriptions != 2 || a.Inflight != 1 || a.Queued != 0 {
		t.Errorf("of anna: %+v", a)
	}

	if o.User != "otto" || o.Version != 4 || o.Subscriptions != 0 || o.Inflight != 0 {
		t.Errorf("of otto: %+v", o)
	}

	if a.Since.Before(before) || a.Since.After(time.Now().Add(time.Second)) {
		t.Errorf("connected since %s", a.Since)
	}

	if h.Disconnect("probe") {
		t.Error("nobody has to do with the probe")
	}

	cases := map[string]struct {
		filter ClientFilter
		want   []string
	}{
		"by user":            {ClientFilter{User: "anna", Limit: 10}, []string{"client-anna"}},
		"by a user's prefix": {ClientFilter{User: "ann", Limit: 10}, nil},
		"by prefix":          {ClientFilter{Prefix: "client3", Limit: 10}, []string{"client3-otto"}},
		"by listener":        {ClientFilter{Listener: "other", Limit: 10}, nil},
		"by all":             {ClientFilter{Listener: "tcp", User: "otto", Prefix: "c", Limit: 10}, []string{"client3-otto"}},
		"behind one":         {ClientFilter{After: "client-anna", Limit: 10}, []string{"client3-otto"}},
		"behind the last":    {ClientFilter{After: "client3-otto", Limit: 10}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if page := h.Clients(c.filter); !slices.Equal(page.ids(), c.want) || page.Next != "" {
				t.Errorf("got %+v, want %v", page, c.want)
			}
		})
	}
}

func TestClientsComeInPages(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#"))))

	var want []string

	for i := range 25 {
		id := fmt.Sprintf("c-%02d", i)
		want = append(want, id)
		h.login(login{version: 5, id: id, user: "anna"})
	}

	for _, limit := range []int{1, 7, 24, 25, 26} {
		var (
			got   []string
			after string
			pages int
		)

		for more := true; more; more = after != "" {
			page := h.Clients(ClientFilter{After: after, Limit: limit})
			if len(page.Clients) > limit {
				t.Fatalf("%d clients on a page of %d", len(page.Clients), limit)
			}

			got, after = append(got, page.ids()...), page.Next
			pages++
		}

		if !slices.Equal(got, want) || pages != (len(want)+limit-1)/limit {
			t.Errorf("pages of %d: %d of them, %v", limit, pages, got)
		}
	}
}

func TestAPageOfClientsWithLongNamesIsBounded(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#"))))
	long := strings.Repeat("x", 60_000)

	for i := range 20 {
		h.login(login{version: 5, id: fmt.Sprintf("%s%02d", long, i), user: "anna"})
	}

	page := h.Clients(ClientFilter{Limit: 100})
	if n := len(page.Clients); n != clientsText/(len(long)+2+len("anna")) || page.Next != page.Clients[n-1].ClientID {
		t.Fatalf("%d clients on a page", n)
	}

	if rest := h.Clients(ClientFilter{Limit: 100, After: page.Next}); len(page.Clients)+len(rest.Clients) != 20 || rest.Next != "" {
		t.Errorf("%d and %d clients", len(page.Clients), len(rest.Clients))
	}
}

func TestDisconnect(t *testing.T) {
	book := &logbook{}
	h := open(t, Options{Log: book.logger()}, baseConfig(person(t, "anna", allow("#")), person(t, "otto", allow("#"))))
	keep := login{version: 5, id: "keep", user: "anna", resume: true, props: u32prop(pExpiry, 3600), willTopic: "will", willText: "gone"}
	five, three := h.login(keep), h.user3("otto")

	five.subscribe(1, "a")
	three.subscribe(0, "will")

	if !h.Disconnect("keep") {
		t.Error("there is such a client")
	}

	if code := five.expectClosed(); code != 0x98 {
		t.Errorf("told %#x, want 0x98 Administrative action", code)
	}

	if m := three.message(); m.payload != "gone" {
		t.Errorf("the will: %+v", m)
	}

	if !h.Disconnect("client3-otto") {
		t.Error("there is such a client")
	}

	if code := three.expectClosed(); code != -1 {
		t.Errorf("a client of 3.1.1 is told %#x", code)
	}

	eventually(t, "both must be gone", func() bool { return h.Status().Connections == 0 })

	for _, nobody := range []string{"keep", "nobody", ""} {
		if h.Disconnect(nobody) {
			t.Errorf("%q is not connected", nobody)
		}
	}

	if !strings.Contains(book.String(), sentAway) {
		t.Error("the log does not say who was sent away")
	}

	h.user("otto").published("a", "kept", false)

	back := h.login(keep)
	if m := back.message(); m.payload != "kept" {
		t.Errorf("the session must be kept with its subscription: %+v", m)
	}
}
