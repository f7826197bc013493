// SPDX-License-Identifier: Apache-2.0

package mqttbridge

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// counted is a status whose numbers were written a while ago.
func counted(ago time.Duration, forwarded int64) v1alpha1.MQTTBridgeStatus {
	return v1alpha1.MQTTBridgeStatus{
		Conditions: []metav1.Condition{{Type: string(v1alpha1.ConditionReady), Status: metav1.ConditionTrue, Message: "as before"}},
		CountedAt:  new(metav1.NewTime(now.Add(-ago))),
		Routes: []v1alpha1.RouteStatus{{
			Name: "a", Connected: new(true), Forwarded: &forwarded, ForwardedPerMinute: new(int64(0)), Queued: new(int64(0)), LagSeconds: new(int64(0)), Dropped: new(int64(0)),
		}},
	}
}

func TestWhenTheStatusIsWritten(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		ago    time.Duration
		change func(*v1alpha1.MQTTBridgeStatus)
		writes bool
	}{
		"nothing moved":               {reason: "an idle bridge costs nothing", ago: time.Hour, change: func(*v1alpha1.MQTTBridgeStatus) {}},
		"a number, soon":              {reason: "numbers move all the time", ago: 29 * time.Second, change: func(s *v1alpha1.MQTTBridgeStatus) { *s.Routes[0].Forwarded++ }},
		"a number, later":             {reason: "a person wants to see them move", ago: 30 * time.Second, change: func(s *v1alpha1.MQTTBridgeStatus) { *s.Routes[0].Forwarded++ }, writes: true},
		"an error, soon":              {reason: "each attempt of a bridge may end with another", ago: time.Second, change: func(s *v1alpha1.MQTTBridgeStatus) { s.Routes[0].LastError = "x" }},
		"an error, later":             {reason: "a person wants to read it", ago: time.Minute, change: func(s *v1alpha1.MQTTBridgeStatus) { s.Routes[0].LastError = "x" }, writes: true},
		"a sentence, soon":            {reason: "with several endpoints they take turns", ago: time.Second, change: func(s *v1alpha1.MQTTBridgeStatus) { s.Conditions[0].Message = "otherwise" }},
		"a condition":                 {reason: "what flips is told at once", ago: time.Second, change: func(s *v1alpha1.MQTTBridgeStatus) { s.Conditions[0].Status = metav1.ConditionFalse }, writes: true},
		"a reason":                    {reason: "it is another fault", ago: time.Second, change: func(s *v1alpha1.MQTTBridgeStatus) { s.Conditions[0].Reason = "x" }, writes: true},
		"a route that stands still":   {reason: "that is what a status is for", ago: time.Second, change: func(s *v1alpha1.MQTTBridgeStatus) { *s.Routes[0].Connected = false }, writes: true},
		"a new route":                 {reason: "it is told at once", ago: time.Second, change: func(s *v1alpha1.MQTTBridgeStatus) { s.Routes = append(s.Routes, v1alpha1.RouteStatus{Name: "b"}) }, writes: true},
		"a pod":                       {reason: "it is told at once", ago: time.Second, change: func(s *v1alpha1.MQTTBridgeStatus) { s.Pods = []v1alpha1.BridgePodStatus{{Name: "p"}} }, writes: true},
		"a spec that was looked at":   {reason: "tools wait for it", ago: time.Second, change: func(s *v1alpha1.MQTTBridgeStatus) { s.ObservedGeneration = 2 }, writes: true},
		"a broker that gives no more": {reason: "it is told at once", ago: time.Second, change: func(s *v1alpha1.MQTTBridgeStatus) { s.Remote = &v1alpha1.BridgeEndStatus{Notice: "less"} }, writes: true},
	} {
		t.Run(name, func(t *testing.T) {
			before := counted(tc.ago, 100)
			after := *before.DeepCopy()
			tc.change(&after)
			got := paced(before, after, now)
			if writes := got.CountedAt.Time.Equal(now); writes != tc.writes {
				t.Errorf("writes: %v, want %v: %s", writes, tc.writes, tc.reason)
			}
		})
	}
}

func TestHowFastARouteIs(t *testing.T) {
	for name, tc := range map[string]struct {
		reason        string
		ago           time.Duration
		before, after int64
		want          int64
	}{
		"half a minute":         {reason: "60 in 30 s are 120 a minute", ago: 30 * time.Second, before: 100, after: 160, want: 120},
		"after a long rest":     {reason: "the number stood still until a pass ago", ago: time.Hour, before: 100, after: 160, want: 120},
		"a pod that began anew": {reason: "it counts from 0", ago: 30 * time.Second, before: 100, after: 10, want: 20},
		"nothing more came":     {reason: "it is over", ago: time.Minute, before: 100, after: 100, want: 0},
		"one in half a minute":  {reason: "that is two a minute", ago: 30 * time.Second, before: 0, after: 1, want: 2},
		"a pass later":          {reason: "40 s have gone by", ago: 40 * time.Second, before: 0, after: 40, want: 60},
	} {
		t.Run(name, func(t *testing.T) {
			before := counted(tc.ago, tc.before)
			*before.Routes[0].ForwardedPerMinute = 7
			after := *before.DeepCopy()
			*after.Routes[0].Forwarded, after.Routes[0].ForwardedPerMinute = tc.after, nil
			if got := *paced(before, after, now).Routes[0].ForwardedPerMinute; got != tc.want {
				t.Errorf("%d a minute, want %d: %s", got, tc.want, tc.reason)
			}
		})
	}
}

// TestEveryWordOfTheBridgeIsKnown reads them where they stand, because the operator does not import the bridge.
func TestEveryWordOfTheBridgeIsKnown(t *testing.T) {
	text, err := os.ReadFile("../../broker-image/bridge/reason.go")
	if err != nil {
		t.Fatal(err)
	}
	words := regexp.MustCompile(`(?m)^\tReason\w+ += "(\w+)"`).FindAllStringSubmatch(string(text), -1)
	if len(words) == 0 {
		t.Fatal("no words")
	}
	seen := map[string]bool{"Suspended": true} // of which the operator speaks itself
	for _, word := range words {
		if _, known := reasons[word[1]]; !known && !seen[word[1]] {
			t.Errorf("the operator does not know the word %s", word[1])
		}
		seen[word[1]] = true
	}
	for word := range reasons {
		if !seen[word] {
			t.Errorf("no bridge says %s", word)
		}
	}
}

func TestTextsFitTheSchema(t *testing.T) {
	long := strings.Repeat("ü", 2000) + "\xff"
	if got := cut(long); utf8.RuneCountInString(got) != maxText || !utf8.ValidString(got) {
		t.Errorf("%d characters", utf8.RuneCountInString(got))
	}
	for text, want := range map[string]string{
		"the broker is away":                      "The broker is away.",
		"mqtts://a.example.com: it is away; look": "mqtts://a.example.com: it is away; look.",
		"Done.": "Done.",
	} {
		if got := sentence(text); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
