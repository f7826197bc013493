// SPDX-License-Identifier: Apache-2.0

package load

import (
	"testing"

	"github.com/HdrHistogram/hdrhistogram-go"
)

func TestTimeBetweenTwoReceivers(t *testing.T) {
	b := &Bench{Between: hdrhistogram.New(1, 1_000_000, 3)}
	f := &Flow{bench: b, done: make([]uint16, 4)}
	for _, step := range []struct {
		slot        int
		number      uint64
		now         int64
		count, most int64 // after it
	}{
		{0, 0, 100, 0, 0},
		{1, 0, 150, 1, 50},
		{1, 1, 200, 2, 50}, // earlier than the first one has it: nothing is added
		{0, 1, 210, 2, 50},
		{0, 5, 300, 2, 50}, // takes the place of 1 in the ring
		{1, 5, 400, 3, 100},
	} {
		f.between(step.slot, step.number, step.now)
		if b.Between.TotalCount() != step.count || b.Between.Max() != step.most {
			t.Errorf("after %+v: %d values, at most %d", step, b.Between.TotalCount(), b.Between.Max())
		}
	}
}
