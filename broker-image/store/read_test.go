// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"errors"
	"testing"
)

// TestAQueueIsReadWhileItShrinks: what the walk has seen may be gone before its message is fetched. That is no damage.
func TestAQueueIsReadWhileItShrinks(t *testing.T) {
	const inline, apart = 8, 100 << 10

	for name, tc := range map[string]struct {
		size  int
		twice bool // the message is shared with another session
		now   func(*Tx)
		want  []bool // whether each entry that comes is a released one
		fault bool
	}{
		"acknowledged, body in the entry": {size: inline, now: func(tx *Tx) { tx.Dequeue(1, 1) }, want: []bool{false}},
		"acknowledged, body apart":        {size: apart, now: func(tx *Tx) { tx.Dequeue(1, 1) }},
		"acknowledged by both":            {size: apart, twice: true, now: func(tx *Tx) { tx.Dequeue(1, 1); tx.Dequeue(2, 1) }},
		"acknowledged by one of two":      {size: apart, twice: true, now: func(tx *Tx) { tx.Dequeue(1, 1) }, want: []bool{false}},
		"received (PUBREC)":               {size: apart, now: func(tx *Tx) { tx.Release(1, 1) }, want: []bool{true}},
		"damaged":                         {size: apart, fault: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := fresh1(t, t.TempDir(), Options{})
			defer shut(t, s)
			commit(t, s, func(tx *Tx) {
				tx.PutSession(&Session{ID: 1, ClientID: "a"})
				tx.PutSession(&Session{ID: 2, ClientID: "b"})
				m := tx.PutMessage(message("t", tc.size))
				tx.Enqueue(1, 1, m, 2, false, nil)
				if tc.twice {
					tx.Enqueue(2, 1, m, 2, false, nil)
				}
			})

			d := s.database()
			var key, value []byte
			if err := d.walk(appendQueueKey(nil, 1, 0), sessionEnd(1), func(k, v []byte) error {
				key, value = bytes.Clone(k), bytes.Clone(v)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if tc.now != nil {
				commit(t, s, tc.now)
			}
			if tc.fault {
				if err := d.Delete(appendLargeKey(nil, 1, 1), nil); err != nil {
					t.Fatal(err)
				}
				var e entry
				if err := decodeEntry(value, &e); err != nil || d.Delete(appendBodyKey(nil, e.body), nil) != nil {
					t.Fatal(err)
				}
			}

			r := reader{d: d, id: 1, visible: s.visible.Load(), limit: 10, bytes: 1 << 30}
			if err := r.visit(key, value); errors.Is(err, ErrDamaged) != tc.fault {
				t.Fatalf("visit: %v", err)
			}
			var got []bool
			for i := range r.out {
				got = append(got, r.out[i].Released)
			}
			if len(got) != len(tc.want) || len(got) == 1 && got[0] != tc.want[0] {
				t.Errorf("entries that came: %v instead of %v", got, tc.want)
			}
		})
	}
}
