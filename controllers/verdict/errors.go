// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"fmt"
	"time"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// Finding is one answer that a reader should know: a reason of package v1alpha1 and a sentence with the next move.
type Finding struct {
	Reason  v1alpha1.ConditionReason
	Message string
}

// find makes a finding.
func find(reason v1alpha1.ConditionReason, format string, args ...any) *Finding {
	return &Finding{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Stalled says that the author of the object must act.
type Stalled struct{ Finding }

func (s *Stalled) Error() string { return string(s.Reason) + ": " + s.Message }

// Waiting says that something else must happen first.
type Waiting struct {
	Finding
	// For is when to look again if no event comes before.
	For time.Duration
}

func (w *Waiting) Error() string { return string(w.Reason) + ": " + w.Message }
