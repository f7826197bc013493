// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// leaves reads until the end, and gives the body of a DISCONNECT that came before it.
func (p *peer) leaves() []byte {
	p.t.Helper()

	var said []byte

	for {
		pk, err := p.receive()
		if err != nil {
			return said
		}

		if pk.kind == tDisconnect {
			said = pk.body
		}
	}
}

// TestADrainOfABrokerThatGoesOn: clients go at the rate, are told why, and nobody gets in until it ends.
func TestADrainOfABrokerThatGoesOn(t *testing.T) {
	const clients, rate = 60, 20

	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#"))))

	var modern, old []*peer
	for i := range clients / 2 {
		modern = append(modern, h.login(login{version: 5, id: fmt.Sprintf("v5-%d", i), user: "anna"}))
		old = append(old, h.login(login{version: 4, id: fmt.Sprintf("v3-%d", i), user: "anna"}))
	}

	if s := h.DrainStatus(); s != (DrainStatus{Left: clients}) {
		t.Errorf("before: %+v", s)
	}

	slowMotion(h, func(elapsed time.Duration) bool {
		gone := clients - h.staying()
		if want := elapsed.Seconds()*rate + 1; math.Abs(float64(gone)-want) > math.Max(1, want/10) {
			t.Errorf("%d clients after %v, want %.0f within 10 %%", gone, elapsed, want)
		}

		return true
	})

	if err := h.Drain(DrainOptions{Rate: rate}); err != nil {
		t.Fatal(err)
	}

	for _, p := range modern {
		if said := p.leaves(); len(said) == 0 || said[0] != wire.ServerShuttingDown || !bytes.Contains(said, []byte(drainWords)) {
			t.Errorf("DISCONNECT % x, want %#x", said, wire.ServerShuttingDown)
		}
	}

	for _, p := range old {
		p.expectClosed()
	}

	eventually(t, "it does not come to its end", func() bool { return h.DrainStatus().Done })

	if s := h.DrainStatus(); !s.Draining || s.Rate != rate || s.Sent != clients || s.Left != 0 || s.Reference != "" || s.Began.IsZero() {
		t.Errorf("after: %+v", s)
	}

	for version, want := range map[byte]byte{5: wire.ServerUnavailable, 4: 3} {
		if _, ack := h.knock(login{version: version, id: "new", user: "anna", password: "anna"}); ack.body[1] != want {
			t.Errorf("MQTT %d: CONNACK %#x, want %#x", version, ack.body[1], want)
		}
	}

	if targets, err := h.Targets(); err != nil || len(targets) != 1 {
		t.Errorf("the broker goes on: %v", err)
	}

	probe := h.login(login{version: 5, id: "probe", user: h.probe.Username, password: h.probe.Password})
	probe.alive()

	if !h.EndDrain() || h.EndDrain() {
		t.Error("it ends once")
	}

	h.user("anna").alive()

	if s := h.DrainStatus(); s != (DrainStatus{Left: 1}) {
		t.Errorf("in the end: %+v", s)
	}
}

func TestADrainSendsClientsElsewhere(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#"))))

	for permanent, code := range map[bool]byte{false: wire.UseAnotherServer, true: wire.ServerMoved} {
		const there = "other.example:8883"

		anna := h.user("anna")
		reference := append([]byte{0x1C}, text(there)...)

		if err := h.Drain(DrainOptions{Redirect: &Redirect{Reference: there, Permanent: permanent}}); err != nil {
			t.Fatal(err)
		}

		if said := anna.leaves(); len(said) == 0 || said[0] != code || !bytes.Contains(said, reference) {
			t.Errorf("DISCONNECT % x, want %#x", said, code)
		}

		if _, ack := h.knock(login{id: "new", user: "anna", password: "anna"}); ack.body[1] != code || !bytes.Contains(ack.body, reference) {
			t.Errorf("CONNACK % x, want %#x", ack.body, code)
		}

		eventually(t, "it does not come to its end", func() bool { return h.DrainStatus().Done })

		if s := h.DrainStatus(); s.Reference != there || s.Rate != contract.DefaultDisconnectRate {
			t.Errorf("%+v", s)
		}

		h.EndDrain()
	}
}

// TestTheDeadlineOfADrain: who is left then goes at once.
func TestTheDeadlineOfADrain(t *testing.T) {
	const clients = 20

	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#"))))

	var peers []*peer
	for i := range clients {
		peers = append(peers, h.login(login{version: 5, id: fmt.Sprintf("c-%d", i), user: "anna"}))
	}

	slowMotion(h, func(elapsed time.Duration) bool {
		if elapsed > 2*time.Second {
			t.Errorf("it goes on after %v", elapsed)
		}

		return true
	})

	if err := h.Drain(DrainOptions{Rate: 1, Deadline: 2 * time.Second}); err != nil {
		t.Fatal(err)
	}

	for _, p := range peers {
		if said := p.leaves(); len(said) == 0 || said[0] != wire.ServerShuttingDown {
			t.Errorf("DISCONNECT % x", said)
		}
	}

	eventually(t, "it does not come to its end", func() bool { return h.DrainStatus().Done })

	if s := h.DrainStatus(); s.Sent != clients {
		t.Errorf("%d were sent away", s.Sent)
	}
}

// TestNobodySlipsIntoADrain: whoever connects at the moment when it begins.
func TestNobodySlipsIntoADrain(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#"))))

	for round := range 20 {
		var wg sync.WaitGroup

		for i := range 20 {
			p := newPeer(t, h.dial("tcp"), 5)
			wg.Go(func() {
				_, _ = p.Write(login{version: 5, id: fmt.Sprintf("c-%d-%d", round, i), user: "anna", password: "anna"}.packet().encode())
				p.leaves()
			})
		}

		if err := h.Drain(DrainOptions{Rate: mostRate}); err != nil {
			t.Fatal(err)
		}

		wg.Wait() // each was turned away or sent away
		eventually(t, "it does not come to its end", func() bool { return h.DrainStatus().Done })
		h.EndDrain()
	}
}

// TestWhoIsOnTheWayInWhenADrainBegins: let in by what was before it, and on no list of those who are there.
func TestWhoIsOnTheWayInWhenADrainBegins(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#"))))

	late := newPeer(t, h.dial("tcp"), 5)
	sh := h.sessions.shard("late")
	sh.mu.Lock() // its session cannot change hands

	late.send(login{version: 5, id: "late", user: "anna", password: "anna"}.packet())
	eventually(t, "it does not come to the door", func() bool {
		all := h.allMembers()

		return len(all) == 1 && all[0].policy.Load() != nil
	})

	err := h.Drain(DrainOptions{})
	if err == nil {
		<-h.drained.Load().over
	}

	sh.mu.Unlock()

	if said := late.leaves(); err != nil || len(said) == 0 || said[0] != wire.ServerShuttingDown {
		t.Errorf("%v, DISCONNECT % x", err, said)
	}

	eventually(t, "its session stays behind", func() bool { return h.DrainStatus().Done && h.Status().Sessions == 0 })
}

func TestADrainMayBeChangedAndTheBrokerEnds(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#"))))

	for i := range 10 {
		h.login(login{version: 5, id: fmt.Sprintf("c-%d", i), user: "anna"})
	}

	for name, o := range map[string]DrainOptions{
		"too slow": {Rate: -1}, "too fast": {Rate: mostRate + 1}, "over": {Deadline: -1}, "nowhere": {Redirect: &Redirect{}},
		"a novel": {Redirect: &Redirect{Reference: strings.Repeat("x", longestRefers+1)}}, "bytes": {Redirect: &Redirect{Reference: "\xff"}},
	} {
		if err := h.Drain(o); err == nil {
			t.Errorf("%s is taken", name)
		}
	}

	if h.DrainStatus().Draining {
		t.Error("what is refused begins nothing")
	}

	// One per second, and then, without waiting for that, all of them.
	for _, rate := range []int{1, mostRate} {
		if err := h.Drain(DrainOptions{Rate: rate}); err != nil {
			t.Fatal(err)
		}
	}

	eventually(t, "it does not come to its end", func() bool { return h.DrainStatus().Done })
	h.EndDrain()

	for i := range 10 {
		h.login(login{version: 5, id: fmt.Sprintf("c-%d", i), user: "anna"})
	}

	if err := h.Drain(DrainOptions{Rate: 1}); err != nil {
		t.Fatal(err)
	}

	h.close()

	if err := h.Drain(DrainOptions{}); err == nil {
		t.Error("a broker that has ended is drained")
	}
}
