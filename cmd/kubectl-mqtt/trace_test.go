// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
)

func TestEventsAreReadable(t *testing.T) {
	var out bytes.Buffer
	for i, e := range []admin.TraceEvent{
		{Event: "begun"},
		{Event: "connected", Client: "press-7", User: "Bob Smith", Listener: "mqtts", Remote: "192.0.2.7:40007", Version: 5},
		{Event: "refused", Client: "press-8", User: "\x1b[31m", Listener: "mqtt", Remote: "192.0.2.8:40008", Version: 4, Code: 0x86, Reason: "unknown user or wrong password"},
		{Event: "subscribed", Client: "press-7", Filter: "factory/#", QoS: 1, Code: 1},
		{Event: "unsubscribed", Client: "press-7", Filter: "factory/#"},
		{Event: "published", Client: "press-7", Topic: "factory/a", QoS: 1, Retain: true, Size: 120, Count: 3},
		{Event: "published", Topic: "$SYS/broker/uptime", Size: 2, Count: 1},
		{Event: "denied", Client: "press-7", Topic: "office/a", QoS: 1, Size: 120, PacketID: 7, Code: 0x87},
		{Event: "queued", Client: "press-9", User: "bob", Topic: "factory/a", QoS: 1, Size: 120},
		{Event: "sent", Client: "press-7", Topic: "factory/a", QoS: 1, Dup: true, Size: 120, PacketID: 9},
		{Event: "dropped", Client: "press-9", User: "bob", Topic: "factory/a", QoS: 1, Size: 120, Reason: "queue_messages", Count: 1},
		{Event: "dropped", Client: "press-9", User: "bob", Reason: "session_ended", Count: 12},
		{Event: "ack-received", Client: "press-7", Packet: "PUBACK", PacketID: 9},
		{Event: "ack-sent", Client: "press-7", Packet: "PUBACK", PacketID: 7, Code: 0x87},
		{Event: "fault", Client: "press-7", Code: 0x82, Reason: "a second CONNECT [MQTT-3.1.0-2]"},
		{Event: "disconnected", Client: "press-7", Reason: "protocol_error"},
		{Event: "lost", Count: 17},
		{Event: "something-new", Client: "press-7", Count: 2},
	} {
		e.Time = noon.Add(time.Duration(i) * 1500 * time.Millisecond)
		if err := printEvent(streams{out: &out}, &e, ""); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "trace", out.String())
}

func TestWhatIsTraced(t *testing.T) {
	for args, want := range map[string]struct {
		filter admin.TraceFilter
		errs   string
	}{
		"press-7":                          {admin.TraceFilter{Client: "press-7"}, ""},
		"factory/a":                        {admin.TraceFilter{Topic: "factory/a"}, ""},
		"#":                                {admin.TraceFilter{Topic: "#"}, ""},
		"+":                                {admin.TraceFilter{Topic: "+"}, ""},
		"$SYS":                             {admin.TraceFilter{Topic: "$SYS"}, ""},
		"--client a/b":                     {admin.TraceFilter{Client: "a/b"}, ""},
		"--topic a":                        {admin.TraceFilter{Topic: "a"}, ""},
		"--client a/b c":                   {admin.TraceFilter{Client: "a/b", Topic: "c"}, ""},
		"--topic a/b c/d":                  {admin.TraceFilter{Client: "c/d", Topic: "a/b"}, ""},
		"":                                 {admin.TraceFilter{}, "say what to watch"},
		"a/#/b":                            {admin.TraceFilter{}, "a/#/b: "},
		"--client a --topic b c":           {admin.TraceFilter{}, "leave nothing for c to say"},
		"press-7 --for 16m":                {admin.TraceFilter{}, "--for 16m0s is not between 0 and 15m0s"},
		"press-7 --for 0s":                 {admin.TraceFilter{}, "--for 0s is not between"},
		"one two":                          {admin.TraceFilter{}, "accepts at most 1 arg"},
		"press-7 -o wide":                  {admin.TraceFilter{}, "-o wide is neither json nor yaml"},
		"--client a --topic b --for 1m -x": {admin.TraceFilter{}, "unknown shorthand flag"},
	} {
		if want.errs != "" {
			if code, out, errs := call(t, town(t, nil).opens, append([]string{"trace"}, strings.Fields(args)...)...); code != exitUsage || out != "" || !strings.Contains(errs, want.errs) {
				t.Errorf("%q: %d %s%s", args, code, out, errs)
			}
			continue
		}
		filter, rest := admin.TraceFilter{}, []string(nil)
		words := strings.Fields(args)
		for i := 0; i < len(words); i++ {
			switch words[i] {
			case "--client":
				i++
				filter.Client = words[i]
			case "--topic":
				i++
				filter.Topic = words[i]
			default:
				rest = append(rest, words[i])
			}
		}
		if err := completeFilter(&filter, rest); err != nil || filter != want.filter {
			t.Errorf("%q: %+v, %v", args, filter, err)
		}
	}
}
