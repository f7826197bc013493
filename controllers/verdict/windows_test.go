// SPDX-License-Identifier: Apache-2.0

package verdict_test

import (
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

func TestMaintenanceWindows(t *testing.T) {
	night := v1alpha1.ResolvedWindow{Name: "night", Hour: 23, Minute: 30, Duration: 4 * time.Hour, TimeZone: "UTC"}
	saturday := night
	saturday.Name, saturday.Days = "saturday", []time.Weekday{time.Saturday}
	berlin := v1alpha1.ResolvedWindow{Name: "berlin", Hour: 2, Minute: 30, Duration: 30 * time.Minute, TimeZone: "Europe/Berlin"}
	day := v1alpha1.ResolvedWindow{Name: "day", Days: []time.Weekday{time.Monday}, Duration: 24 * time.Hour, TimeZone: "Asia/Kathmandu"}
	nowhere := v1alpha1.ResolvedWindow{Name: "nowhere", Duration: time.Hour, TimeZone: "Europe/Atlantis"}
	for name, tc := range map[string]struct {
		reason  string
		windows []v1alpha1.ResolvedWindow
		now     string
		window  string // empty: none ever opens
		from    string
		open    bool
	}{
		"before it":                 {reason: "it opens tonight", windows: []v1alpha1.ResolvedWindow{night}, now: "2026-11-28T12:00:00Z", window: "night", from: "2026-11-28T23:30:00Z"},
		"the moment that it opens":  {reason: "its start belongs to it", windows: []v1alpha1.ResolvedWindow{night}, now: "2026-11-28T23:30:00Z", window: "night", from: "2026-11-28T23:30:00Z", open: true},
		"after midnight":            {reason: "it opened yesterday", windows: []v1alpha1.ResolvedWindow{night}, now: "2026-11-29T03:29:59Z", window: "night", from: "2026-11-28T23:30:00Z", open: true},
		"the moment that it closes": {reason: "its end does not belong to it", windows: []v1alpha1.ResolvedWindow{night}, now: "2026-11-29T03:30:00Z", window: "night", from: "2026-11-29T23:30:00Z"},
		"on another day":            {reason: "28 November 2026 is a Saturday", windows: []v1alpha1.ResolvedWindow{saturday}, now: "2026-11-25T23:45:00Z", window: "saturday", from: "2026-11-28T23:30:00Z"},
		"on the day after its day":  {reason: "the day is that of its start", windows: []v1alpha1.ResolvedWindow{saturday}, now: "2026-11-29T01:00:00Z", window: "saturday", from: "2026-11-28T23:30:00Z", open: true},
		"a week ahead":              {reason: "it has just closed", windows: []v1alpha1.ResolvedWindow{saturday}, now: "2026-11-29T03:30:00Z", window: "saturday", from: "2026-12-05T23:30:00Z"},
		"the first of two":          {reason: "one is enough", windows: []v1alpha1.ResolvedWindow{saturday, night}, now: "2026-11-25T12:00:00Z", window: "night", from: "2026-11-25T23:30:00Z"},
		"one is open already":       {reason: "the other opens later", windows: []v1alpha1.ResolvedWindow{night, day}, now: "2026-11-30T12:00:00Z", window: "day", from: "2026-11-29T18:15:00Z", open: true},
		"another zone in winter":    {reason: "its clock is an hour ahead", windows: []v1alpha1.ResolvedWindow{berlin}, now: "2026-11-28T12:00:00Z", window: "berlin", from: "2026-11-29T01:30:00Z"},
		"another zone in summer":    {reason: "its clock is two hours ahead", windows: []v1alpha1.ResolvedWindow{berlin}, now: "2026-06-28T12:00:00Z", window: "berlin", from: "2026-06-29T00:30:00Z"},
		"a time that does not come": {reason: "on 29 March 2026 the clock of Berlin goes from 2:00 to 3:00", windows: []v1alpha1.ResolvedWindow{berlin}, now: "2026-03-28T12:00:00Z", window: "berlin", from: "2026-03-29T01:30:00Z"},
		"a zone that nobody knows":  {reason: "nobody knows when", windows: []v1alpha1.ResolvedWindow{nowhere}, now: "2026-11-28T12:00:00Z"},
		"beside one that is known":  {reason: "that one opens", windows: []v1alpha1.ResolvedWindow{nowhere, night}, now: "2026-11-28T12:00:00Z", window: "night", from: "2026-11-28T23:30:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			now, err := time.Parse(time.RFC3339, tc.now)
			if err != nil {
				t.Fatal(err)
			}
			got := verdict.NextOpening(tc.windows, now)
			from := ""
			if !got.From.IsZero() {
				from = got.From.UTC().Format(time.RFC3339)
			}
			if got.Window != tc.window || from != tc.from || got.IsOpen(now) != tc.open {
				t.Errorf("got %q from %s, open %v; want %q from %s, open %v: %s", got.Window, from, got.IsOpen(now), tc.window, tc.from, tc.open, tc.reason)
			}
			if fault := verdict.WindowFault(tc.windows); (fault != nil) != (tc.windows[0].Name == "nowhere") {
				t.Errorf("the fault is %+v", fault)
			}
		})
	}
}
