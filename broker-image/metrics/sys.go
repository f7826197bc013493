// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"fmt"
	"math"
	runtimemetrics "runtime/metrics"
	"strconv"
	"sync"
	"time"
)

// root of the tree that users of Mosquitto know. Its deprecated names are there too: dashboards still ask for them.
const root = "$SYS/broker/"

// SysTopic is one topic below $SYS and what it says.
type SysTopic struct{ Topic, Payload string }

// sys is what the topics need to remember from one time to the next.
type sys struct {
	mu    sync.Mutex
	last  time.Time
	loads [len(loadNames)]load
	// heap is the most memory seen.
	heap uint64
}

// loadNames are what averages are taken of.
var loadNames = [...]string{
	"connections", "sockets",
	"bytes/received", "bytes/sent",
	"messages/received", "messages/sent",
	"publish/dropped", "publish/received", "publish/sent",
}

// windows are how far the averages look back.
var windows = [...]struct {
	name string
	over time.Duration
}{{"1min", time.Minute}, {"5min", 5 * time.Minute}, {"15min", 15 * time.Minute}}

// load is the moving average of one count, per minute.
type load struct {
	total    int64
	averages [len(windows)]float64
}

// advance moves the averages on by what was counted in the time since. As for the load of a Unix machine, the past
// counts for less the longer ago it is: after the window's time for 1/e.
func (l *load) advance(total int64, since time.Duration) {
	rate := float64(max(0, total-l.total)) / since.Minutes() // with a listener goes what it had counted
	l.total = total

	for i, w := range windows {
		l.averages[i] += (l.averages[i] - rate) * math.Expm1(-since.Seconds()/w.over.Seconds())
	}
}

// SysTopics says what the topics below $SYS are to say now, always the same topics in the same order. It may be called
// as often as one likes: averages go by the time that has passed. Publish what Changed.
func (s *Set) SysTopics(now time.Time) []SysTopic {
	s.sys.mu.Lock()
	defer s.sys.mu.Unlock()

	counters, _ := s.all()
	state := s.state()
	received := addUp(counters, func(c *Counters) *Traffic { return &c.Received })
	sent := addUp(counters, func(c *Counters) *Traffic { return &c.Sent })
	connected := s.connected.Load()

	var lost int64
	for r := range reasons {
		lost += sum(counters, func(c *Counters) int64 { return c.dropped[r].messages.Load() })
	}

	sockets := s.accepted.Load()
	for _, l := range state.Listeners {
		sockets += l.Accepted
	}

	t := tree{}
	t.say("version", "mqtt-broker version "+s.options.Version)
	t.say("uptime", fmt.Sprintf("%d seconds", max(0, int64(now.Sub(s.options.Started)/time.Second))))

	for _, n := range []struct {
		topic string
		value int64
	}{
		{"clients/connected", connected},
		{"clients/active", connected},
		{"clients/disconnected", state.SessionsOffline},
		{"clients/inactive", state.SessionsOffline},
		{"clients/total", connected + state.SessionsOffline},
		{"clients/maximum", s.most.Load()},
		{"clients/expired", sum(counters, func(c *Counters) int64 { return c.SessionsExpired.Load() })},
		{"messages/received", received.allPackets()},
		{"messages/sent", sent.allPackets()},
		{"messages/inflight", state.Inflight},
		{"messages/stored", state.StoredMessages},
		{"store/messages/count", state.StoredMessages},
		{"store/messages/bytes", state.StoredBytes},
		{"publish/messages/received", received.allMessages()},
		{"publish/messages/sent", sent.allMessages()},
		{"publish/messages/dropped", lost},
		{"publish/bytes/received", received.allPayload()},
		{"publish/bytes/sent", sent.allPayload()},
		{"bytes/received", received.bytes},
		{"bytes/sent", sent.bytes},
		{"subscriptions/count", state.Subscriptions},
		{"shared_subscriptions/count", state.SharedSubscriptions},
		{"retained messages/count", state.RetainedMessages},
	} {
		t.say(n.topic, strconv.FormatInt(n.value, 10))
	}

	heap := heapBytes()
	s.sys.heap = max(s.sys.heap, heap)
	t.say("heap/current", strconv.FormatUint(heap, 10))
	t.say("heap/maximum", strconv.FormatUint(s.sys.heap, 10))

	s.sys.advance(now, [len(loadNames)]int64{
		received.packets[typeConnect], sockets,
		received.bytes, sent.bytes,
		received.allPackets(), sent.allPackets(),
		lost, received.allMessages(), sent.allMessages(),
	})

	for i, name := range loadNames {
		for j, w := range windows {
			t.say("load/"+name+"/"+w.name, strconv.FormatFloat(s.sys.loads[i].averages[j], 'f', 2, 64))
		}
	}

	return t
}

func (s *sys) advance(now time.Time, totals [len(loadNames)]int64) {
	since := now.Sub(s.last)
	if since <= 0 {
		// A clock that was set back starts anew; what was counted meanwhile counts in the next average.
		s.last = now

		return
	}

	s.last = now

	for i := range s.loads {
		s.loads[i].advance(totals[i], since)
	}
}

// Changed are the topics of after that say something else than in before.
func Changed(before, after []SysTopic) []SysTopic {
	said := make(map[string]string, len(before))
	for _, t := range before {
		said[t.Topic] = t.Payload
	}

	var changed []SysTopic

	for _, t := range after {
		if payload, ok := said[t.Topic]; !ok || payload != t.Payload {
			changed = append(changed, t)
		}
	}

	return changed
}

type tree []SysTopic

func (t *tree) say(topic, payload string) {
	*t = append(*t, SysTopic{Topic: root + topic, Payload: payload})
}

// heapBytes is the memory in use by objects, read without stopping the world.
func heapBytes() uint64 {
	sample := []runtimemetrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	runtimemetrics.Read(sample)

	if sample[0].Value.Kind() != runtimemetrics.KindUint64 {
		return 0
	}

	return sample[0].Value.Uint64()
}
