// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"net/netip"
	"strconv"
	"testing"
	"time"
)

func source(address string) Source { return SourceOf(netip.MustParseAddr(address)) }

func TestSources(t *testing.T) {
	for name, tc := range map[string]struct {
		a, b string
		same bool
	}{
		"two addresses of IPv4":      {"192.0.2.1", "192.0.2.2", false},
		"one of IPv4, written as v6": {"192.0.2.1", "::ffff:192.0.2.1", true},
		"one network of IPv6":        {"2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true},
		"two networks of IPv6":       {"2001:db8:0:1::1", "2001:db8:0:2::1", false},
		"one link":                   {"fe80::1%eth0", "fe80::2%eth1", true},
	} {
		if got := source(tc.a) == source(tc.b); got != tc.same {
			t.Errorf("%s: the same is %t", name, got)
		}
	}

	if got := SourceOf(netip.Addr{}); got != (Source{}) || got.String() != "local" {
		t.Errorf("a socket without addresses is %v", got)
	}
}

func TestGuard(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	g := NewGuard(100)
	here, there := source("192.0.2.1"), source("192.0.2.2")

	fail := func(n int) {
		for range n {
			g.Wrong("anna", here, false, now)
		}
	}
	locked := func(name string, from Source) bool { return g.Ask(name, from, now).Locked }

	fail(freeFailures - 1)

	if locked("anna", here) {
		t.Fatal("some failures are free: people mistype")
	}

	fail(1)

	if !locked("anna", here) {
		t.Fatal("now there must be a delay")
	}

	if locked("anna", there) || locked("otto", here) {
		t.Error("neither the same name elsewhere nor another name here is concerned")
	}

	for i, wait := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second} {
		now = now.Add(wait - time.Millisecond)

		if !locked("anna", here) {
			t.Errorf("delay %d is shorter than %v", i, wait)
		}

		now = now.Add(time.Millisecond)

		if locked("anna", here) {
			t.Errorf("delay %d is longer than %v", i, wait)
		}

		fail(1)
	}

	fail(1000)

	now = now.Add(maxDelay)

	if locked("anna", here) {
		t.Error("no delay is longer than the longest")
	}

	g.Right("anna", here, false)
	fail(freeFailures - 1)

	if locked("anna", here) {
		t.Error("a right password makes all well again")
	}

	now = now.Add(forgiveness)

	fail(1)

	if locked("anna", here) {
		t.Error("time forgives")
	}

	now = now.Add(20 * forgiveness)

	if locked("anna", here) {
		t.Error("forgiving must not lock again")
	}
}

func TestGuardKnowsWhoIsUnderWay(t *testing.T) {
	now := time.Now()
	g := NewGuard(100)
	here := source("192.0.2.1")

	for name, end := range map[string]func(){
		"right": func() { g.Right("anna", here, true) }, "wrong": func() { g.Wrong("anna", here, true, now) },
		"none": func() { g.Drop("anna", here) },
	} {
		g.Start("anna", here)
		g.Start("anna", here)
		end()

		if g.Ask("anna", here, now).Clear {
			t.Errorf("%s: one is still under way", name)
		}

		end()

		if !g.Ask("anna", here, now).Clear {
			t.Errorf("%s: none is under way any more", name)
		}
	}
}

func TestRanks(t *testing.T) {
	now := time.Now()
	g := NewGuard(100)
	here := source("192.0.2.1")
	rank := func(name string) Rank { return g.Ask(name, here, now).Rank }

	if rank("anna") != Stranger {
		t.Error("at first everybody is a stranger")
	}

	g.Right("anna", here, false)
	g.Wrong("otto", here, false, now)

	if rank("anna") != Known || rank("otto") != Suspect || rank("emil") != Suspect {
		t.Error("a source that fails is suspect, but for those who are known there")
	}

	for range freeFailures {
		g.Wrong("anna", here, false, now)
	}

	if rank("anna") != Suspect {
		t.Error("who guesses is not known any more")
	}

	if now = now.Add(suspicion); rank("emil") != Stranger {
		t.Error("suspicion ends")
	}
}

// TestGuardIsBounded: whoever has many addresses and names cannot fill the memory, nor have those forgotten who are
// known.
func TestGuardIsBounded(t *testing.T) {
	now := time.Now()
	g := NewGuard(10)
	g.Right("anna", source("192.0.2.1"), false)

	for i := range 1000 {
		from := source("198.51.100." + strconv.Itoa(i%250))
		g.Start(strconv.Itoa(i), from)
		g.Wrong(strconv.Itoa(i), from, true, now)
	}

	if a, s, k := len(g.attempts.index), len(g.sources.index), len(g.known.index); a != 10 || s != 10 || k != 1 {
		t.Errorf("%d attempts, %d sources, %d known", a, s, k)
	}

	if g.attempts.order.Len() != 10 || g.Ask("anna", source("192.0.2.1"), now).Rank != Known {
		t.Error("anna must still be known")
	}
}

func BenchmarkGuard(b *testing.B) {
	g := NewGuard(1 << 16)
	here, now := source("192.0.2.1"), time.Now()

	b.ReportAllocs()

	for b.Loop() {
		g.Ask("anna", here, now)
		g.Right("anna", here, false)
	}
}
