// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package bridge

import (
	"syscall"
	"time"
)

// lull gathers nothing here: what it needs is Linux's.
type lull struct{ raw syscall.RawConn }

func (*lull) wait(int, func(time.Time) error) {}
