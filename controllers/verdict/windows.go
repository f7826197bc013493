// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"slices"
	"time"
	_ "time/tzdata" // The operator's image has no time zones of its own.

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// Opening is one time that a maintenance window is open.
type Opening struct {
	Window      string
	From, Until time.Time
}

// IsOpen reports whether it is open at that time.
func (o Opening) IsOpen(now time.Time) bool { return !now.Before(o.From) && now.Before(o.Until) }

// WaitsFor is the opening that a change which replaces pods has to wait for; false where it need not. Where no pod runs, or
// none is to run, nobody is disturbed and nothing waits. An opening without a window never comes.
func WaitsFor(f *Facts) (Opening, bool) {
	set := f.StatefulSet
	if len(f.Spec.Windows) == 0 || f.Broker.Urgent() || set == nil || set.Spec.Replicas == nil || *set.Spec.Replicas == 0 {
		return Opening{}, false
	}
	opening := NextOpening(f.Spec.Windows, f.Now)
	return opening, !opening.IsOpen(f.Now)
}

// NextOpening is the opening of now, or the next one; the zero value where no window ever opens.
func NextOpening(windows []v1alpha1.ResolvedWindow, now time.Time) Opening {
	var next Opening
	for i := range windows {
		if o, found := nextOpening(&windows[i], now); found && (next.Window == "" || o.From.Before(next.From)) {
			next = o
		}
	}
	return next
}

func nextOpening(w *v1alpha1.ResolvedWindow, now time.Time) (Opening, bool) {
	zone, err := time.LoadLocation(w.TimeZone)
	if err != nil {
		return Opening{}, false
	}
	today := now.In(zone)
	// A window that opened the day before yesterday may be open still, where clocks were turned.
	for day := -2; day <= 8; day++ {
		from := time.Date(today.Year(), today.Month(), today.Day()+day, w.Hour, w.Minute, 0, 0, zone)
		if until := from.Add(w.Duration); until.After(now) && (len(w.Days) == 0 || slices.Contains(w.Days, from.Weekday())) {
			return Opening{Window: w.Name, From: from, Until: until}, true
		}
	}
	return Opening{}, false
}

// WindowFault says which maintenance window cannot be understood; nil where all can.
func WindowFault(windows []v1alpha1.ResolvedWindow) *Finding {
	for i := range windows {
		if _, err := time.LoadLocation(windows[i].TimeZone); err != nil {
			return find(v1alpha1.ReasonMaintenanceWindowInvalid,
				"The maintenance window %s never opens: spec.updates.maintenanceWindows[].timeZone is no name in the IANA time zone database, such as Europe/Berlin.", windows[i].Name)
		}
	}
	return nil
}
