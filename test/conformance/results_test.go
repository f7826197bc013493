// SPDX-License-Identifier: Apache-2.0

package conformance

import "sync"

// ledger keeps outcomes for the comparison.
type ledger struct {
	mu  sync.Mutex
	all map[string]outcome
}

var results = &ledger{all: map[string]outcome{}}

func (l *ledger) note(name string, v byte, o outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.all[name+"/"+versionNames[v]] = o
}
