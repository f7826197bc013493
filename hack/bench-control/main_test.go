// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	cases := map[string]struct {
		args []string
		err  error
		says string
	}{
		"everything":              {nil, nil, ""},
		"some parts":              {[]string{"-part", "users,acl"}, nil, ""},
		"help":                    {[]string{"-help"}, flag.ErrHelp, "-quick"},
		"a part that is unknown":  {[]string{"-part", "user"}, errUsage, `"user" is none of`},
		"an argument":             {[]string{"users"}, errUsage, `"users" is too much`},
		"no time":                 {[]string{"-budget", "1s"}, errUsage, "at least 1m"},
		"a section of the page":   {[]string{"-write", "-part", "acl"}, nil, ""},
		"a page of a quick run":   {[]string{"-write", "-quick"}, errUsage, "-write wants all of it"},
		"a flag that is unknown":  {[]string{"-fast"}, errUsage, "-fast"},
		"a page of a measurement": {[]string{"-write"}, nil, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var errs strings.Builder
			s, err := parse(c.args, &errs)
			if !errors.Is(err, c.err) || !strings.Contains(errs.String(), c.says) {
				t.Errorf("got %v and %q, want %v and %q", err, errs.String(), c.err, c.says)
			}
			if err == nil && (len(s.users) != len(s.samples) || s.clients == 0) {
				t.Errorf("sizes %+v: each number of users has its number of samples", s)
			}
		})
	}
}

func TestQuantile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(100 - i)
	}
	cases := map[string]struct {
		reason string
		values []time.Duration
		q      float64
		want   time.Duration
	}{
		"nothing":             {"a part that was left out", nil, 0.99, 0},
		"one":                 {"it is every quantile", []time.Duration{7}, 0.01, 7},
		"99 of a hundred":     {"one is above it", hundred, 0.99, 99},
		"the greatest":        {"none is above it", hundred, 1, 100},
		"half of three":       {"two of the three are not above it", []time.Duration{3, 1, 2}, 0.5, 2},
		"99 of less than 100": {"the greatest: fewer than one in a hundred is above it", hundred[:50], 0.99, 100},
	}
	for name, c := range cases {
		if got := quantile(c.values, c.q); got != c.want {
			t.Errorf("%s: got %d, want %d: %s", name, got, c.want, c.reason)
		}
	}
}

const page = `# HELP controller_runtime_reconcile_time_seconds Length of time
controller_runtime_reconcile_time_seconds_bucket{controller="mqttuser",le="0.005"} 80
controller_runtime_reconcile_time_seconds_bucket{controller="mqttuser",le="0.1"} 99
controller_runtime_reconcile_time_seconds_bucket{controller="mqttuser",le="0.01"} 98
controller_runtime_reconcile_time_seconds_bucket{controller="mqttuser",le="+Inf"} 100
controller_runtime_reconcile_time_seconds_bucket{controller="mqttbroker",le="+Inf"} 5
controller_runtime_active_workers{controller="mqttuser"} 2
workqueue_depth{controller="mqttuser",name="mqttuser",priority="0"} 3
workqueue_depth{controller="mqttuser",name="mqttuser",priority="-100"} 1e+01
workqueue_depth{controller="mqttbroker",name="mqttbroker",priority="0"} 7
`

func TestHistogram(t *testing.T) {
	now := scrape(page)
	of := func(before map[string]float64) []bucket {
		return histogram(now, before, "controller_runtime_reconcile_time_seconds", `controller="mqttuser"`)
	}
	want := []bucket{{0.005, 80}, {0.01, 98}, {0.1, 99}, {math.Inf(1), 100}}
	if diff := cmp.Diff(want, of(nil), cmp.AllowUnexported(bucket{})); diff != "" {
		t.Error("buckets come by their bounds, and of the one controller: " + diff)
	}
	if count, bound := within(of(nil), 0.99); count != 100 || bound != 0.1 {
		t.Errorf("got %v within %v, want 100 within 0.1", count, bound)
	}
	if count, bound := within(of(now), 0.99); count != 0 || bound != 0 {
		t.Errorf("got %v within %v: nothing happened between the two looks", count, bound)
	}
	if got := queued(now, "mqttuser"); got != 15 {
		t.Errorf("got %v, want 3 and 10 that wait and 2 that are looked at", got)
	}
}

const logged = `{"verb":"get","objectRef":{"resource":"secrets","name":"anna-mqtt"},"responseStatus":{"code":404}}
{"verb":"patch","objectRef":{"resource":"secrets","name":"anna-mqtt"},"responseStatus":{"code":201}}
{"verb":"patch","objectRef":{"resource":"mqttbrokers","name":"mq","subresource":"status"},"responseStatus":{"code":409}}
{"verb":"watch","objectRef":{"resource":"pods"},"responseStatus":{"code":200}}
{"verb":"create","objectRef":{"resource":"events","name":"x"},"responseStatus":{"code":201}}
{"verb":"pat`

func TestAudit(t *testing.T) {
	found, rest, err := parseAudit([]byte(logged))
	if err != nil || string(rest) != `{"verb":"pat` {
		t.Errorf("got %v and %q behind the last whole line", err, rest)
	}
	want := map[string]int{"get secrets (404)": 1, "patch secrets": 1, "patch mqttbrokers/status (409)": 1, "create events": 1}
	if diff := cmp.Diff(want, found.kinds()); diff != "" {
		t.Error("watches are no calls, refusals are: " + diff)
	}
	if got := found.writes(); got != 2 {
		t.Errorf("got %d writes, want 2: what was refused wrote nothing", got)
	}
	if diff := cmp.Diff(map[string]int{"anna-mqtt": 1}, found.secrets()); diff != "" {
		t.Error(diff)
	}
	if _, _, err := parseAudit([]byte("nonsense\n")); err == nil {
		t.Error("a line that is no request is an error")
	}
}

func TestWrongSecrets(t *testing.T) {
	right := map[string]int{"anna-mqtt": 1, "anna-mqtt-verifier": 1, "mq-config": 1, "mq-users-3": 1}
	with := func(name string, times int) map[string]int {
		changed := map[string]int{name: times}
		for n, v := range right {
			if n != name {
				changed[n] = v
			}
		}
		return changed
	}
	cases := map[string]struct {
		written map[string]int
		good    bool
	}{
		"the four":                   {right, true},
		"a shard twice":              {with("mq-users-3", 2), false},
		"two shards":                 {with("mq-users-4", 1), false},
		"broker.json twice":          {with("mq-config", 2), false},
		"another user's Secret":      {with("bert-mqtt", 1), false},
		"a Secret that did not come": {map[string]int{"anna-mqtt": 1, "mq-config": 1, "mq-users-3": 1}, false},
	}
	for name, c := range cases {
		if got := wrongSecrets(c.written, "anna"); (got == "") != c.good {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestBenchmarkOutput(t *testing.T) {
	text := "goos: linux\nBenchmarkPolicy/publish-2 \t 1000 \t 812.5 ns/op \t 0 B/op \t 0 allocs/op\nBenchmarkPolicy/deliver-2  5  1000 ns/op  16 B/op  1 allocs/op\nPASS\n"
	want := []benchmark{{"deliver", 1000, 1}, {"publish", 812.5, 0}}
	if got := parseBenchmark(text); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestProc(t *testing.T) {
	if got, err := parseStat("4 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 7 8 20"); err != nil || got != 2*time.Second {
		t.Errorf("got %v, %v, want 2s: 200 ticks", got, err)
	}
	if _, err := parseStat("4 (x) S 1"); err == nil {
		t.Error("a line that is cut off is an error")
	}
	if got := kib([]byte("VmPeak:\t 9 kB\nVmRSS:\t  12 kB\n"), "VmRSS:"); got != 12<<10 {
		t.Errorf("got %d", got)
	}
}

func TestConnectPacket(t *testing.T) {
	packet := connectPacket("id", "anna", bytes.Repeat([]byte("x"), 200))
	want := append([]byte{0x10, 0xDE, 0x01, 0, 4, 'M', 'Q', 'T', 'T', 4, 0xC2, 0, 0, 0, 2, 'i', 'd', 0, 4, 'a', 'n', 'n', 'a', 0, 200}, bytes.Repeat([]byte("x"), 200)...)
	if !bytes.Equal(packet, want) {
		t.Errorf("got % x", packet[:30])
	}
}

func TestPodsHaveAddressesOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for number := range 600 {
		ip := podIP(4711, number)
		if seen[ip] || !strings.HasPrefix(ip, "127.") || strings.HasPrefix(ip, "127.0.") {
			t.Fatalf("pod %d has %s", number, ip)
		}
		seen[ip] = true
	}
}

func TestReportSaysAll(t *testing.T) {
	s, err := parse(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	r := newReport("users", time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC))
	r.row("one", "≤ 1", spreadOf([]time.Duration{time.Millisecond, 2 * time.Second}).String(), judge(false))
	r.row("two", "", "2", "")
	r.tables = append(r.tables, table{title: "growth", note: "in words", head: []string{"users", "time"}, lines: [][]string{{"100", "3 s"}}})
	var text strings.Builder
	r.Text(&text)
	page := r.page(s.head("a machine"), "")
	for _, want := range []string{"2 January 2026", "a machine", "| one | ≤ 1 | p50 1 ms, p99 2000 ms, max 2000 ms | **missed** |", "### growth", "| 100 | 3 s |", "in words", "[100 1000 10000]"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is missing in\n%s", want, page)
		}
	}
	for _, want := range []string{"growth", "100    3 s", "missed"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is missing in\n%s", want, text.String())
		}
	}
}

// TestAPartOfThePageIsWrittenAnew, and the others stay.
func TestAPartOfThePageIsWrittenAnew(t *testing.T) {
	page := ""
	for _, step := range []struct{ part, measured string }{{"scale", "first"}, {"acl", "second"}, {"scale", "third"}} {
		r := newReport(step.part, time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC))
		r.row("a number", "", step.measured, "")
		page = r.page("# head\n", page)
	}
	if strings.Contains(page, "first") || strings.Count(page, "# head\n") != 1 {
		t.Errorf("the old section, or a second head, is left in\n%s", page)
	}
	acl, scale := strings.Index(page, "second"), strings.Index(page, "third")
	if acl < 0 || scale < acl {
		t.Errorf("the sections are not there in their order in\n%s", page)
	}
}
