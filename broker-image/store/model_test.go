// SPDX-License-Identifier: Apache-2.0

package store

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAgainstAModel does what an engine does, at random and many transactions to a group, and compares with maps.
func TestAgainstAModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 9))
			dir := filepath.Join(t.TempDir(), "data")
			s := fresh1(t, dir, Options{})
			model := map[SessionID]map[uint64]*Message{}
			next := map[SessionID]uint64{}
			ids := []SessionID{1, 2, 3, 4, 5}
			for range 30 {
				var wg sync.WaitGroup
				for range 40 {
					tx := s.Begin()
					for range 1 + random.IntN(3) {
						change(random, tx, ids, model, next)
					}
					wg.Add(1)
					s.Commit(tx, random.IntN(4) == 0, func(err error) {
						if err != nil {
							t.Error(err)
						}
						wg.Done()
					})
				}
				wg.Wait()
				compare(t, s, ids, model)
				if random.IntN(5) == 0 {
					if err := s.database().Flush(); err != nil {
						t.Fatal(err)
					}
				}
				if random.IntN(5) == 0 {
					shut(t, s)
					s = fresh1(t, dir, Options{})
				}
			}
			commit(t, s, func(tx *Tx) {
				for _, id := range ids {
					tx.DeleteSession(id)
				}
			})
			n := 0
			for _, kind := range []byte{keyBody, keyLarge, keySession} {
				if err := s.database().walk([]byte{kind}, []byte{kind + 1}, func([]byte, []byte) error { n++; return nil }); err != nil {
					t.Fatal(err)
				}
			}
			if n != 0 || s.Stats().Shared != 0 || len(s.c.ledger.sessions) != 0 {
				t.Errorf("%d records, %d shared, %d sessions are left of what was deleted", n, s.Stats().Shared, len(s.c.ledger.sessions))
			}
			shut(t, s)
		})
	}
}

func change(random *rand.Rand, tx *Tx, ids []SessionID, model map[SessionID]map[uint64]*Message, next map[SessionID]uint64) {
	id := ids[random.IntN(len(ids))]
	pick := func() (uint64, bool) {
		have := make([]uint64, 0, len(model[id]))
		for seq := range model[id] {
			have = append(have, seq)
		}
		slices.Sort(have)
		if len(have) == 0 {
			return 0, false
		}
		return have[random.IntN(min(len(have), 5))], true
	}
	switch random.IntN(20) {
	case 0:
		tx.DeleteSession(id)
		delete(model, id)
	case 1:
		tx.DropQueue(id)
		clear(model[id])
	case 2, 3:
		if seq, ok := pick(); ok {
			tx.Release(id, seq)
			model[id][seq] = nil
		}
	case 4, 5, 6, 7, 8, 9, 10:
		if seq, ok := pick(); ok {
			tx.Dequeue(id, seq)
			delete(model[id], seq)
			if random.IntN(10) == 0 {
				tx.Dequeue(id, seq) // once more does no harm
			}
		}
	default:
		m := message("topic", []int{10, 200, inlineMax, 3 * inlineMax}[random.IntN(4)])
		ref := tx.PutMessage(m)
		for _, id := range ids[random.IntN(len(ids)):] {
			if model[id] == nil {
				tx.PutSession(&Session{ID: id})
				model[id] = map[uint64]*Message{}
			}
			next[id]++
			tx.Enqueue(id, next[id], ref, 1, false, nil)
			model[id][next[id]] = m
			if random.IntN(3) == 0 {
				break
			}
		}
	}
}

func compare(t *testing.T, s *Store, ids []SessionID, model map[SessionID]map[uint64]*Message) {
	t.Helper()
	for _, id := range ids {
		got := map[uint64]*Message{}
		for _, q := range queue(t, s, id) {
			got[q.Seq] = q.Message
		}
		want := model[id]
		if want == nil {
			want = map[uint64]*Message{}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("session %d (-want +got):\n%.2000s", id, d)
		}
	}
}
