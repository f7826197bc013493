// SPDX-License-Identifier: Apache-2.0

package topics

import (
	"math/rand/v2"
	"testing"
)

// games are random inputs for those who do not fuzz, the same each time.
func games(n, size int) [][]byte {
	random := rand.New(rand.NewPCG(1, 2))
	all := make([][]byte, n)

	for i := range all {
		all[i] = make([]byte, size)
		for j := range all[i] {
			all[i][j] = byte(random.Uint32())
		}
	}

	return all
}

func TestIndexAgainstTheModel(t *testing.T) {
	for _, data := range games(30, 1200) {
		playIndex(t, data)
	}
}

func TestRetainedAgainstTheModel(t *testing.T) {
	for _, data := range games(30, 600) {
		playRetained(t, data)
	}
}

func FuzzIndex(f *testing.F) {
	for _, data := range games(8, 300) {
		f.Add(data)
	}

	f.Fuzz(playIndex)
}

func FuzzRetained(f *testing.F) {
	for _, data := range games(8, 300) {
		f.Add(data)
	}

	f.Fuzz(playRetained)
}
