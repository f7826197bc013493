// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// bench is a queue of one place that a test holds until it lets go.
type bench struct {
	*Queue

	t       *testing.T
	release chan struct{}
	mu      sync.Mutex
	ran     []string
	refused []string
	done    sync.WaitGroup
}

func newBench(t *testing.T, size int) *bench {
	t.Helper()

	b := &bench{Queue: NewQueue(1, size), t: t, release: make(chan struct{})}
	began := make(chan struct{})

	b.done.Add(1)
	b.Queue.Add(Job{Source: source("203.0.113.1"), Rank: func() Rank { return Known }, Run: func() {
		defer b.done.Done()

		close(began)
		<-b.release
	}})
	<-began

	return b
}

func (b *bench) put(from, what string, rank func() Rank) bool {
	b.done.Add(1)

	note := func(list *[]string) func() {
		return func() {
			defer b.done.Done()

			b.mu.Lock()
			defer b.mu.Unlock()

			*list = append(*list, what)
		}
	}

	ok := b.Add(Job{Source: source(from), Rank: rank, Run: note(&b.ran), Refuse: note(&b.refused)})
	if !ok {
		b.done.Done()
	}

	return ok
}

func (b *bench) run() string {
	close(b.release)
	b.done.Wait()

	return strings.Join(b.ran, " ")
}

func as(r Rank) func() Rank { return func() Rank { return r } }

func TestSourcesTakeTurns(t *testing.T) {
	b := newBench(t, 100)
	for i := range 3 {
		b.put("192.0.2.1", fmt.Sprint("a", i), as(Stranger))
	}

	b.put("192.0.2.2", "b0", as(Stranger))
	b.put("192.0.2.3", "c0", as(Stranger))

	if got := b.run(); got != "a0 b0 c0 a1 a2" {
		t.Errorf("%s: who wants much must not hold up who wants little", got)
	}
}

func TestRanksInOrder(t *testing.T) {
	b := newBench(t, 100)

	for i := range 10 {
		b.put("192.0.2.1", fmt.Sprint("suspect", i), as(Suspect))
	}

	b.put("192.0.2.2", "stranger", as(Stranger))
	b.put("192.0.2.1", "known", as(Known))

	if got := b.run(); !strings.HasPrefix(got, "known stranger suspect0") {
		t.Error(got)
	}
}

func TestTheLastAreNotForgotten(t *testing.T) {
	b := newBench(t, 1000)
	b.put("192.0.2.1", "suspect", as(Suspect))

	for i := range 100 {
		b.put(fmt.Sprintf("198.51.100.%d", i), "known", as(Known))
	}

	b.run()

	if at := slices.Index(b.ran, "suspect"); at >= favour {
		t.Errorf("the suspect came after %d others", at)
	}
}

func TestWhoFailsMeanwhileIsPutBehind(t *testing.T) {
	b := newBench(t, 100)

	var rank atomic.Int64

	rank.Store(int64(Stranger))

	for i := range 3 {
		b.put("192.0.2.1", fmt.Sprint("a", i), func() Rank { return Rank(rank.Load()) })
	}

	b.put("192.0.2.2", "b", as(Stranger))
	rank.Store(int64(Suspect))

	if got := b.run(); got != "b a0 a1 a2" {
		t.Error(got)
	}
}

func TestQueueIsBounded(t *testing.T) {
	b := newBench(t, 8)

	for i := range 3 {
		if ok := b.put("192.0.2.1", "a", as(Suspect)); ok != (i < 2) {
			t.Errorf("job %d of one source: %t; it may fill a quarter", i, ok)
		}
	}

	for i := range 6 {
		b.put(fmt.Sprintf("192.0.2.1%d", i), strconv.Itoa(i), as(Suspect))
	}

	if b.put("192.0.2.99", "late", as(Suspect)) || b.Len() != 8 {
		t.Errorf("%d wait, want 8", b.Len())
	}

	if !b.put("192.0.2.77", "stranger", as(Stranger)) || b.Len() != 8 {
		t.Error("a stranger takes the place of a suspect")
	}

	if got := b.run(); !strings.HasPrefix(got, "stranger") {
		t.Error(got)
	}

	if diff := cmp.Diff([]string{"5"}, b.refused); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}

	if len(b.lines) != 0 || b.Len() != 0 {
		t.Errorf("%d lines are left", len(b.lines))
	}
}

// TestSuspectsNeverTakeAllPlaces: while all suspects are being served, a place is free for others.
func TestSuspectsNeverTakeAllPlaces(t *testing.T) {
	q := NewQueue(4, 100)

	var running, most, done atomic.Int64

	hold, all := make(chan struct{}), make(chan struct{})

	for i := range 20 {
		q.Add(Job{Source: source(fmt.Sprintf("192.0.2.%d", i)), Rank: as(Suspect), Run: func() {
			if n := running.Add(1); n > most.Load() {
				most.Store(n)
			}

			<-hold
			running.Add(-1)

			if done.Add(1) == 20 {
				close(all)
			}
		}})
	}

	served := make(chan struct{})

	q.Add(Job{Source: source("198.51.100.1"), Rank: as(Stranger), Run: func() { close(served) }})
	<-served
	close(hold)
	<-all

	if most.Load() > 2 {
		t.Errorf("%d suspects at once", most.Load())
	}
}
