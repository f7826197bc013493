// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
)

// What Mosquitto 2.0.11 publishes below $SYS/broker, as a client that subscribed to it saw.
var mosquitto = strings.Split(`bytes/received
bytes/sent
clients/active
clients/connected
clients/disconnected
clients/expired
clients/inactive
clients/maximum
clients/total
heap/current
heap/maximum
load/bytes/received/15min
load/bytes/received/1min
load/bytes/received/5min
load/bytes/sent/15min
load/bytes/sent/1min
load/bytes/sent/5min
load/connections/15min
load/connections/1min
load/connections/5min
load/messages/received/15min
load/messages/received/1min
load/messages/received/5min
load/messages/sent/15min
load/messages/sent/1min
load/messages/sent/5min
load/publish/dropped/15min
load/publish/dropped/1min
load/publish/dropped/5min
load/publish/received/15min
load/publish/received/1min
load/publish/received/5min
load/publish/sent/15min
load/publish/sent/1min
load/publish/sent/5min
load/sockets/15min
load/sockets/1min
load/sockets/5min
messages/received
messages/sent
messages/stored
publish/bytes/received
publish/bytes/sent
publish/messages/dropped
publish/messages/received
publish/messages/sent
retained messages/count
shared_subscriptions/count
store/messages/bytes
store/messages/count
subscriptions/count
uptime
version`, "\n")

func TestSysTopicsAreThoseOfMosquitto(t *testing.T) {
	var got []string
	for _, s := range busy().SysTopics(started) {
		got = append(got, strings.TrimPrefix(s.Topic, "$SYS/broker/"))
	}

	slices.Sort(got)

	// Its manual names this one too, which it does not publish.
	want := slices.Sorted(slices.Values(append(slices.Clone(mosquitto), "messages/inflight")))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("topics (-want +got):\n%s", diff)
	}
}

func TestSysTopicsSay(t *testing.T) {
	all := busy().SysTopics(started.Add(90*time.Second + 700*time.Millisecond))

	for name, want := range map[string]string{
		"version":                    "mqtt-broker version 1.2.3",
		"uptime":                     "90 seconds",
		"clients/connected":          "2",
		"clients/active":             "2",
		"clients/disconnected":       "3",
		"clients/inactive":           "3",
		"clients/total":              "5",
		"clients/maximum":            "3",
		"clients/expired":            "2",
		"messages/received":          "12", // 2 CONNECT, 4 SUBSCRIBE, 6 PUBLISH
		"messages/sent":              "8",  // 2 CONNACK, 6 PUBLISH
		"messages/inflight":          "2",
		"messages/stored":            "6",
		"store/messages/count":       "6",
		"store/messages/bytes":       "60",
		"publish/messages/received":  "6",
		"publish/messages/sent":      "6",
		"publish/messages/dropped":   "5",
		"publish/bytes/received":     "60",
		"publish/bytes/sent":         "60",
		"bytes/received":             "2000",
		"bytes/sent":                 "4000",
		"subscriptions/count":        "7",
		"shared_subscriptions/count": "1",
		"retained messages/count":    "4",
	} {
		if got := topic(t, all, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}

	for _, name := range []string{"heap/current", "heap/maximum"} {
		if n, err := strconv.Atoi(topic(t, all, name)); err != nil || n == 0 {
			t.Errorf("%s is %q, want a number of bytes", name, topic(t, all, name))
		}
	}
}

func TestLoadIsAMovingAveragePerMinute(t *testing.T) {
	s := metrics.New(metrics.Options{Started: started})
	c := s.NewCounters()
	now := started

	// Ten bytes a second, for a long time.
	all := s.SysTopics(now)

	if got := topic(t, all, "load/bytes/received/1min"); got != "0.00" {
		t.Errorf("before anything happened, the load is %s", got)
	}

	c.Received.Bytes.Add(100)

	now = now.Add(metrics.SysInterval)
	all = s.SysTopics(now)

	// 600 a minute, of which 1 - e^(-10/60) counts, 1 - e^(-10/300), 1 - e^(-10/900).
	for window, want := range map[string]string{"1min": "92.11", "5min": "19.67", "15min": "6.63"} {
		if got := topic(t, all, "load/bytes/received/"+window); got != want {
			t.Errorf("after one interval, the load over %s is %s, want %s", window, got, want)
		}
	}

	if got := topic(t, s.SysTopics(now), "load/bytes/received/1min"); got != "92.11" {
		t.Errorf("asked twice at one time, the load is %s, want 92.11", got)
	}

	for range 600 {
		c.Received.Bytes.Add(100)

		now = now.Add(metrics.SysInterval)
		all = s.SysTopics(now)
	}

	if got := topic(t, all, "load/bytes/received/1min"); got != "600.00" {
		t.Errorf("after a long time, the load over 1min is %s, want 600.00", got)
	}

	// Nothing more comes: after its time each window has forgotten all but 1/e.
	if got := topic(t, s.SysTopics(now.Add(time.Minute)), "load/bytes/received/1min"); got != "220.73" {
		t.Errorf("a minute after the end, the load over 1min is %s, want 220.73", got)
	}
}

func TestLoadDoesNotDependOnHowOftenOneAsks(t *testing.T) {
	end := started.Add(time.Minute)
	load := func(step time.Duration) string {
		s := metrics.New(metrics.Options{Started: started})

		for now := started; now.Before(end); {
			now = now.Add(step)

			s.Shared.Received.Bytes.Add(int64(step / time.Second))
			s.SysTopics(now)
		}

		return topic(t, s.SysTopics(end), "load/bytes/received/5min")
	}

	if often, rarely := load(time.Second), load(time.Minute); often != rarely {
		t.Errorf("asked each second the load is %s, asked once %s", often, rarely)
	}
}

func TestAClockSetBackHarmsNoAverage(t *testing.T) {
	s := metrics.New(metrics.Options{Started: started})
	s.Shared.Received.Bytes.Add(100)
	s.SysTopics(started.Add(-time.Hour))

	if got := topic(t, s.SysTopics(started.Add(-time.Hour)), "load/bytes/received/1min"); got != "0.00" {
		t.Errorf("the load is %s, want 0.00", got)
	}

	if got := topic(t, s.SysTopics(started.Add(-time.Hour)), "uptime"); got != "0 seconds" {
		t.Errorf("the uptime is %q", got)
	}

	if got := topic(t, s.SysTopics(started.Add(metrics.SysInterval-time.Hour)), "load/bytes/received/1min"); got != "92.11" {
		t.Errorf("the load an interval later is %s, want 92.11", got)
	}
}

func TestChanged(t *testing.T) {
	a, b := metrics.SysTopic{Topic: "a", Payload: "1"}, metrics.SysTopic{Topic: "b", Payload: "1"}

	cases := map[string]struct {
		reason              string
		before, after, want []metrics.SysTopic
	}{
		"the first time": {
			reason: "nothing was ever said, so all is new",
			after:  []metrics.SysTopic{a, b}, want: []metrics.SysTopic{a, b},
		},
		"nothing changed": {
			reason: "a value that stays need not be said again",
			before: []metrics.SysTopic{a, b}, after: []metrics.SysTopic{a, b},
		},
		"one value changed": {
			reason: "only that one is said",
			before: []metrics.SysTopic{a, b}, after: []metrics.SysTopic{a, {Topic: "b", Payload: "2"}},
			want: []metrics.SysTopic{{Topic: "b", Payload: "2"}},
		},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, metrics.Changed(c.before, c.after)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}
