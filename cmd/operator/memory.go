// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"runtime/debug"
)

// gcPercent is how much garbage there may be beside what is in use. What the operator holds is small beside what one look
// at a broker with ten thousand users leaves behind, and it has time: half of Go's default keeps it smaller.
const gcPercent = 50

// saveMemory sets gcPercent, unless the environment says otherwise.
func saveMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
