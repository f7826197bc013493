// SPDX-License-Identifier: Apache-2.0

package store

import (
	"testing"
	"time"
)

func TestWhoLingers(t *testing.T) {
	for name, tc := range map[string]struct {
		transactions int
		usual        int64
		took, want   time.Duration
	}{
		"who commits alone":               {transactions: 1, usual: 100, took: time.Millisecond},
		"a few":                           {transactions: lingerFrom - 1, usual: 100, took: time.Millisecond},
		"several that bring little":       {transactions: lingerFrom, usual: 100, took: 300 * time.Microsecond, want: 300 * time.Microsecond},
		"several, and a slow disk":        {transactions: 100, usual: lingerBelow - 1, took: time.Second, want: lingerTime},
		"several that bring much already": {transactions: 100, usual: lingerBelow, took: time.Millisecond},
		"a disk that takes no time":       {transactions: 100, usual: 100},
	} {
		if got := linger(tc.transactions, tc.usual, tc.took); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
