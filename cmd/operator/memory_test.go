// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestTheLimitFollowsWhatIsInUse(t *testing.T) {
	for live, want := range map[int64]int64{0: 64 << 20, 20 << 20: 64 << 20, 160 << 20: 192 << 20, 400 << 20: 462 << 20} {
		if got := limitFor(live); got != want {
			t.Errorf("%d MiB in use: the limit is %d MiB, want %d MiB", live>>20, got>>20, want>>20)
		}
	}

	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	used := make([]byte, 80<<20)
	runtime.GC()
	m := &memory{}
	m.follow()
	if set := debug.SetMemoryLimit(-1); set != m.limit || set < limitFor(int64(len(used))) {
		t.Errorf("the limit is %d MiB while %d MiB are in use", set>>20, len(used)>>20)
	}
	runtime.KeepAlive(used)
}
