// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/topics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// TestWhatTheDiskRefusesIsNotSubscribed: a client that was told no must not be served, and one whose UNSUBSCRIBE was
// refused must go on being served; after a restart it would be so anyway.
func TestWhatTheDiskRefusesIsNotSubscribed(t *testing.T) {
	full := errors.New("the disk is full")

	type step struct {
		qos int // -1: unsubscribe
		err error
	}

	for name, c := range map[string]struct {
		reason string
		before int // -1: none
		steps  []step
		want   map[string]byte
	}{
		"a new one":                    {"", -1, []step{{1, full}}, nil},
		"one that is changed":          {"the old options hold", 1, []step{{0, full}}, map[string]byte{"a": 1}},
		"one that ends":                {"it goes on", 1, []step{{-1, full}}, map[string]byte{"a": 1}},
		"the second change":            {"the first one is on disk", -1, []step{{1, nil}, {2, full}}, map[string]byte{"a": 1}},
		"the first change":             {"the second one holds", -1, []step{{1, full}, {2, nil}}, map[string]byte{"a": 2}},
		"both changes":                 {"what was there before the first", 2, []step{{1, full}, {0, full}}, map[string]byte{"a": 2}},
		"the end, and a new beginning": {"neither came to the disk", 2, []step{{-1, full}, {0, full}}, map[string]byte{"a": 2}},
		"nothing":                      {"", -1, []step{{1, nil}, {-1, nil}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, Options{DataDir: t.TempDir()}, anybody(t))
			anna := h.login(kept("anna"))

			if c.before >= 0 {
				anna.subscribe(byte(c.before), "a")
			}

			s := h.session("anna")
			conn := s.conn.Load()
			r := h.borrow()

			s.mu.Lock()

			for _, st := range c.steps {
				if st.qos < 0 {
					s.unsubscribe(r, "a")
				} else {
					s.subscribe(r, conn, conn.policy.Load(), &wire.Filter{Filter: "a", QoS: byte(st.qos)}, 0)
				}
			}

			s.mu.Unlock()

			// What the store says, in place of it.
			changes := r.after.subs
			r.tx.Discard()
			r.tx, r.after = nil, nil

			for i := range changes {
				s.subscriptionStored(&changes[i], c.steps[i].err)
			}

			h.giveBack(r)

			var got map[string]byte

			s.mu.Lock()

			for _, sub := range s.subs {
				if got == nil {
					got = map[string]byte{}
				}

				got[sub.filter] = sub.QoS
			}

			unsure := len(s.unsure)
			s.mu.Unlock()

			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("%s: %s", c.reason, d)
			}

			var found topics.Result[*session]
			h.index.Match("a", &found)

			if len(found.Entries) != len(c.want) || len(found.Entries) == 1 && found.Entries[0].ForOthers().QoS != c.want["a"] {
				t.Errorf("what is delivered must be what is said: %+v", found.Entries)
			}

			if unsure != 0 {
				t.Error("nothing is on its way any more")
			}
		})
	}
}

// TestARestoredSubscriptionObeys: the rules may have changed while the disk was asked.
func TestARestoredSubscriptionObeys(t *testing.T) {
	h := open(t, Options{DataDir: t.TempDir()}, anybody(t))
	anna := h.login(kept("anna"))
	anna.subscribe(2, "a")

	s := h.session("anna")
	r := h.borrow()

	s.mu.Lock()
	s.unsubscribe(r, "a")
	s.mu.Unlock()

	changes := r.after.subs
	r.tx.Discard()
	r.tx, r.after = nil, nil

	h.mustApply(func(c *contract.Config) { c.Users[0] = person(t, "anna", allow("b")) })
	s.subscriptionStored(&changes[0], errors.New("the disk is full"))
	h.giveBack(r)

	h.login(login{version: 5, id: "writer", user: "writer"}).published("a", "secret", false)
	anna.nothing("it may not read this any more")
}

// TestRefusedAnswers: each type of acknowledgement has its own list of reason codes.
func TestRefusedAnswers(t *testing.T) {
	c := &conn{version: wire.V5}

	for name, want := range map[string]answer{
		"SUBACK":   {typ: wire.TypeSuback, code: 2, raw: []byte{9, wire.QuotaExceeded, wire.QuotaExceeded}},
		"UNSUBACK": {typ: wire.TypeUnsuback, code: 2, raw: []byte{9, wire.ImplementationSpecificError, wire.ImplementationSpecificError}},
	} {
		a := answer{typ: want.typ, code: 2, raw: []byte{9, 0, 0}}
		if !c.refuseStored(&a) || !cmp.Equal(a.raw, want.raw) {
			t.Errorf("%s: % x, want % x", name, a.raw, want.raw)
		}
	}
}
