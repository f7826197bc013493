// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// TestThePaceIsWhatWasAsked: within 10 % in every second, on a clock that wakes late, and without a burst after one that
// stood still.
func TestThePaceIsWhatWasAsked(t *testing.T) {
	for _, rate := range []int{1, 7, 50, 999, 1000, 33_333, 1_000_000} {
		t.Run(strconv.Itoa(rate), func(t *testing.T) {
			const seconds = 5

			began := time.Unix(1_800_000_000, 0)
			random := rand.New(rand.NewPCG(1, uint64(rate)))
			p, now := pace{rate: rate, began: began}, began
			bySecond := [seconds + 2]int{}

			for now.Before(began.Add((seconds + 1) * time.Second)) {
				n := p.allowed(now)
				p.sent += n
				bySecond[int(now.Sub(began).Seconds())] += n
				now = now.Add(p.wait(now)).Add(time.Duration(random.IntN(int(4 * time.Millisecond))))
			}

			for second, n := range bySecond[:seconds] {
				if math.Abs(float64(n-rate)) > math.Max(1, float64(rate)/10) {
					t.Errorf("%d in second %d, want %d within 10 %%", n, second, rate)
				}
			}

			burst := p.allowed(now.Add(time.Minute))
			if most := 1 + rate/10; burst > most {
				t.Errorf("%d at once after a minute of standing still, want %d at most", burst, most)
			}
		})
	}
}

// slowMotion is a clock that moves only while a drain sleeps, and calls somebody then.
func slowMotion(h *house, pause func(elapsed time.Duration) bool) {
	now := time.Unix(1_800_000_000, 0)
	began := now
	h.drainClock = drainClock{
		now: func() time.Time { return now },
		pause: func(_ context.Context, d time.Duration) bool {
			if !pause(now.Sub(began)) {
				return false
			}

			now = now.Add(d)

			return true
		},
	}
}

// TestADrainSendsClientsAwayAtItsRate: each is told why, those who are left go on meanwhile, and nobody new gets in.
func TestADrainSendsClientsAwayAtItsRate(t *testing.T) {
	const clients, rate = 60, 20

	config := baseConfig(person(t, "anna", allow("#")))
	config.Drain.DisconnectRate = rate
	h := open(t, Options{}, config)
	modern := make([]*peer, 0, clients/2)
	old := make([]*peer, 0, clients/2)

	for i := range clients / 2 {
		modern = append(modern, h.login(login{version: 5, id: fmt.Sprintf("v5-%d", i), user: "anna"}))
		old = append(old, h.login(login{version: 4, id: fmt.Sprintf("v3-%d", i), user: "anna"}))
	}

	stranger := h.dial("tcp")
	eventually(t, "the stranger must be known", func() bool { return len(h.allMembers()) == clients+1 })

	address, pauses := h.address("tcp"), 0
	slowMotion(h, func(elapsed time.Duration) bool {
		pauses++

		sent := h.counted(`mqtt_broker_packets_sent_total{type="disconnect"}`)
		gone := clients - h.staying()

		if want := elapsed.Seconds()*rate + 1; math.Abs(float64(gone)-want) > math.Max(1, want/10) {
			t.Errorf("%d clients after %v, want %.0f within 10 %%", gone, elapsed, want)
		}

		if sent > gone {
			t.Errorf("%d were told to go, and %d are going", sent, gone)
		}

		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()

			t.Error("somebody new got in")
		}

		return true
	})
	h.close()

	if pauses < clients-1 {
		t.Errorf("%d clients went in %d pauses: the rate was not kept", clients, pauses)
	}

	for _, p := range modern {
		if got := p.expectClosed(); got != int(wire.ServerShuttingDown) {
			t.Errorf("DISCONNECT %#x, want %#x", got, wire.ServerShuttingDown)
		}
	}

	for _, p := range old {
		p.expectClosed()
	}

	if _, err := stranger.Read(make([]byte, 1)); err == nil {
		t.Error("who was not let in must not be kept")
	}
}

// staying counts those who have not been told to go.
func (h *house) staying() (n int) {
	for _, c := range h.allMembers() {
		c.mu.Lock()
		if !c.closing && c.member.Load() != nil {
			n++
		}
		c.mu.Unlock()
	}

	return n
}

// TestWhoIsLeftIsServedDuringADrain: a message from one to another of those who are still there arrives.
func TestWhoIsLeftIsServedDuringADrain(t *testing.T) {
	config := baseConfig(person(t, "anna", allow("#")))
	config.Drain.DisconnectRate = 1
	h := open(t, Options{}, config)
	p := h.user("anna")
	other := h.login(login{version: 5, id: "other", user: "anna"})
	third := h.login(login{version: 5, id: "third", user: "anna"})

	for _, c := range []*peer{p, other, third} {
		c.subscribe(1, "t")
	}

	slowMotion(h, func(elapsed time.Duration) bool {
		if elapsed == 0 {
			h.hears(t, p, other, third)
		}

		return true
	})
	h.close()
}

// hears lets one of those who stay publish, and one of them hear it.
func (h *house) hears(t *testing.T, peers ...*peer) {
	t.Helper()

	staying := map[string]bool{}

	for _, c := range h.allMembers() {
		c.mu.Lock()
		staying[c.subject.ClientID] = !c.closing
		c.mu.Unlock()
	}

	ids := []string{"client-anna", "other", "third"}
	left := []*peer{}

	for i, p := range peers {
		if staying[ids[i]] {
			left = append(left, p)
		}
	}

	if len(left) != 2 {
		t.Fatalf("%d are left after the first has gone", len(left))
	}

	left[0].publish(posted{topic: "t", payload: "still here"})

	if m := left[1].message(); m.payload != "still here" {
		t.Errorf("heard %q", m.payload)
	}
}

// TestADrainEndsInTime: who is left when most of the time is over goes at once, and is told so.
func TestADrainEndsInTime(t *testing.T) {
	const clients = 20

	config := baseConfig(person(t, "anna", allow("#")))
	config.Drain.DisconnectRate = 1
	h := open(t, Options{}, config)
	peers := make([]*peer, 0, clients)

	for i := range clients {
		peers = append(peers, h.login(login{version: 5, id: strconv.Itoa(i), user: "anna"}))
	}

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()

	if err := h.Shutdown(ctx); err != nil {
		t.Fatalf("it took longer than it may: %v", err)
	}

	for _, p := range peers {
		if got := p.expectClosed(); got != int(wire.ServerShuttingDown) {
			t.Errorf("DISCONNECT %#x, want %#x", got, wire.ServerShuttingDown)
		}
	}
}

// TestAWillOutlivesADrain: who is sent away has not said goodbye, so that his will is published [MQTT-3.1.2-8], and reaches
// those who come back after the restart.
func TestAWillOutlivesADrain(t *testing.T) {
	options := Options{DataDir: t.TempDir()}
	config := baseConfig(person(t, "anna", allow("#")))
	h := open(t, options, config)
	reader := h.login(login{version: 5, id: "reader", user: "anna", props: u32prop(pExpiry, 3600)})
	reader.subscribe(1, "will")

	at := map[byte]string{4: "of 3.1.1", 5: "of 5"}
	for version, text := range at {
		h.login(login{version: version, id: text, user: "anna", willTopic: "will", willText: text, willQoS: 1})
	}

	delayed := h.login(login{
		version: 5, id: "delayed", user: "anna", willTopic: "will", willText: "delayed", willQoS: 1,
		props: u32prop(pExpiry, 3600), willProps: u32prop(pWillDelay, 3600),
	})
	delayed.alive()
	h.close()

	again := open(t, options, config)
	back := again.login(login{version: 5, id: "reader", user: "anna", resume: true, props: u32prop(pExpiry, 3600)})
	heard := map[string]bool{back.message().payload: true, back.message().payload: true}

	for _, text := range at {
		if !heard[text] {
			t.Errorf("the will %q is lost: heard %v", text, heard)
		}
	}

	back.nothing("a delayed will waits for its time, also over a restart")

	if n := again.pendingWills(); n != 1 {
		t.Errorf("%d wills wait, want 1", n)
	}
}

// TestTheRateOfADrainIsOfNow: a new configuration changes it without a restart.
func TestTheRateOfADrainIsOfNow(t *testing.T) {
	h := open(t, Options{}, baseConfig())
	if got := h.state.Load().disconnectRate; got != contract.DefaultDisconnectRate {
		t.Errorf("rate %d, want %d", got, contract.DefaultDisconnectRate)
	}

	h.mustApply(func(c *contract.Config) { c.Drain.DisconnectRate = 7 })

	if got := h.state.Load().disconnectRate; got != 7 {
		t.Errorf("rate %d, want 7", got)
	}
}
