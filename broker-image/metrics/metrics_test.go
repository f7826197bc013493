// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"compress/gzip"
	"context"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
)

var started = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// busy is a set in which everything has happened at least once.
func busy() *metrics.Set {
	s := metrics.New(metrics.Options{
		Version: "1.2.3", Revision: "abc", Started: started,
		State: func() metrics.State {
			return metrics.State{
				SessionsOnline: 2, SessionsOffline: 3, Subscriptions: 7, SharedSubscriptions: 1,
				RetainedMessages: 4, RetainedBytes: 40, QueuedMessages: 5, QueuedBytes: 50, Inflight: 2,
				StoredMessages: 6, StoredBytes: 60, StorageFault: true, ConfigRevision: 9, ConfigTime: started, ConfigFault: true,
				KeySets:   []metrics.KeySetState{{Issuer: "https://issuer.example", Keys: 2, Fetched: started, Failures: 4}},
				Listeners: []metrics.ListenerState{{Name: "plain", Fault: true, Refused: map[metrics.Refusal]int64{metrics.ConnectRate: 11}, Panics: 1}},
			}
		},
	})

	l := s.Listener("plain")
	for _, version := range []byte{3, 4, 5} {
		l.Accepted()
		l.Connected(version)
	}

	l.Disconnected(3, metrics.KeepAliveTimeout)
	l.Refused(metrics.BadConnect)
	l.Refused(metrics.ConnectRate)

	for range 2 {
		c := s.NewCounters()
		c.Received.Packets(1, 1)
		c.Received.Packets(8, 2)
		c.Received.Bytes.Add(1000)
		c.Received.Publish(0, 1, 10)
		c.Received.Publish(1, 2, 20)
		c.Sent.Publish(2, 3, 30)
		c.Sent.Packets(2, 1)
		c.Sent.Bytes.Add(2000)
		c.Drop(metrics.QueueMessages, 2, 20)
		c.Deny(metrics.Subscribe)
		c.AuthFail(metrics.WrongPassword)
		c.SessionsExpired.Add(1)
		c.Panics.Add(1)
		c.Delivery.Observe(300*time.Microsecond, 10)
	}

	s.Shared.Drop(metrics.Expired, 1, 1)
	s.Sync.Observe(2*time.Millisecond, 1)

	return s
}

// names is what dashboards and alerts are built on: a change here breaks those of users, and belongs into release notes.
var names = []string{
	"mqtt_broker_acl_denials_total",
	"mqtt_broker_audit_lines_dropped_total",
	"mqtt_broker_auth_failures_total",
	"mqtt_broker_build_info",
	"mqtt_broker_config_applied_timestamp_seconds",
	"mqtt_broker_config_fault",
	"mqtt_broker_config_revision",
	"mqtt_broker_connections",
	"mqtt_broker_connections_opened_total",
	"mqtt_broker_connections_refused_total",
	"mqtt_broker_delivery_duration_seconds",
	"mqtt_broker_disconnections_total",
	"mqtt_broker_fsync_duration_seconds",
	"mqtt_broker_inflight_messages",
	"mqtt_broker_jwks_fetch_failures_total",
	"mqtt_broker_jwks_fetched_timestamp_seconds",
	"mqtt_broker_jwks_keys",
	"mqtt_broker_listener_up",
	"mqtt_broker_messages_dropped_bytes_total",
	"mqtt_broker_messages_dropped_total",
	"mqtt_broker_messages_received_bytes_total",
	"mqtt_broker_messages_received_total",
	"mqtt_broker_messages_sent_bytes_total",
	"mqtt_broker_messages_sent_total",
	"mqtt_broker_packets_received_total",
	"mqtt_broker_packets_sent_total",
	"mqtt_broker_panics_total",
	"mqtt_broker_password_checks_waiting",
	"mqtt_broker_queue_bytes",
	"mqtt_broker_queue_messages",
	"mqtt_broker_received_bytes_total",
	"mqtt_broker_retained_bytes",
	"mqtt_broker_retained_messages",
	"mqtt_broker_sent_bytes_total",
	"mqtt_broker_sessions",
	"mqtt_broker_sessions_expired_total",
	"mqtt_broker_shared_subscriptions",
	"mqtt_broker_sockets_accepted_total",
	"mqtt_broker_storage_fault",
	"mqtt_broker_stored_bytes",
	"mqtt_broker_stored_messages",
	"mqtt_broker_subscriptions",
}

func TestNames(t *testing.T) {
	s := busy()

	// Pedantic: what is collected must be what was described.
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s)

	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}

	got := make([]string, 0, len(families))
	for _, f := range families {
		got = append(got, f.GetName())

		if !strings.HasSuffix(f.GetHelp(), ".") {
			t.Errorf("%s: the help is no sentence: %q", f.GetName(), f.GetHelp())
		}
	}

	if diff := cmp.Diff(names, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}

	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}

	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestValues(t *testing.T) {
	cases := map[string]struct {
		reason string
		names  []string
		want   string
	}{
		"connections by listener and protocol": {
			reason: "a gauge falls with the client, a counter does not",
			names:  []string{"mqtt_broker_connections", "mqtt_broker_connections_opened_total", "mqtt_broker_sockets_accepted_total", "mqtt_broker_listener_up"},
			want: `
mqtt_broker_connections{listener="plain",protocol="3.1"} 0
mqtt_broker_connections{listener="plain",protocol="3.1.1"} 1
mqtt_broker_connections{listener="plain",protocol="5"} 1
mqtt_broker_connections_opened_total{listener="plain",protocol="3.1"} 1
mqtt_broker_connections_opened_total{listener="plain",protocol="3.1.1"} 1
mqtt_broker_connections_opened_total{listener="plain",protocol="5"} 1
mqtt_broker_listener_up{listener="plain"} 0
mqtt_broker_sockets_accepted_total{listener="plain"} 3
`,
		},
		"messages of all workers": {
			reason: "each worker counts for itself, and a scrape sees the sum",
			names:  []string{"mqtt_broker_messages_received_total", "mqtt_broker_messages_sent_bytes_total", "mqtt_broker_received_bytes_total"},
			want: `
mqtt_broker_messages_received_total{qos="0"} 2
mqtt_broker_messages_received_total{qos="1"} 4
mqtt_broker_messages_received_total{qos="2"} 0
mqtt_broker_messages_sent_bytes_total{qos="0"} 0
mqtt_broker_messages_sent_bytes_total{qos="1"} 0
mqtt_broker_messages_sent_bytes_total{qos="2"} 60
mqtt_broker_received_bytes_total 2000
`,
		},
		"packets by type": {
			reason: "a PUBLISH is counted once, by its QoS, and shows among the packets all the same",
			names:  []string{"mqtt_broker_packets_received_total"},
			want: `
mqtt_broker_packets_received_total{type="auth"} 0
mqtt_broker_packets_received_total{type="connect"} 2
mqtt_broker_packets_received_total{type="disconnect"} 0
mqtt_broker_packets_received_total{type="pingreq"} 0
mqtt_broker_packets_received_total{type="puback"} 0
mqtt_broker_packets_received_total{type="pubcomp"} 0
mqtt_broker_packets_received_total{type="publish"} 6
mqtt_broker_packets_received_total{type="pubrec"} 0
mqtt_broker_packets_received_total{type="pubrel"} 0
mqtt_broker_packets_received_total{type="subscribe"} 4
mqtt_broker_packets_received_total{type="unsubscribe"} 0
`,
		},
		"drops, by worker and beside": {
			reason: "every reason is there from the first scrape, so that a rate sees the first drop",
			names:  []string{"mqtt_broker_messages_dropped_total"},
			want: `
mqtt_broker_messages_dropped_total{reason="expired"} 1
mqtt_broker_messages_dropped_total{reason="not_authorized"} 0
mqtt_broker_messages_dropped_total{reason="queue_bytes"} 0
mqtt_broker_messages_dropped_total{reason="queue_messages"} 4
mqtt_broker_messages_dropped_total{reason="rate_limited"} 0
mqtt_broker_messages_dropped_total{reason="session_ended"} 0
mqtt_broker_messages_dropped_total{reason="slow_client"} 0
mqtt_broker_messages_dropped_total{reason="storage_fault"} 0
mqtt_broker_messages_dropped_total{reason="too_large"} 0
`,
		},
		"what is looked up": {
			reason: "the state is asked when somebody scrapes",
			names: []string{
				"mqtt_broker_sessions", "mqtt_broker_queue_bytes", "mqtt_broker_storage_fault", "mqtt_broker_config_applied_timestamp_seconds",
				"mqtt_broker_panics_total",
			},
			want: `
mqtt_broker_config_applied_timestamp_seconds 1.7954352e+09
mqtt_broker_panics_total 3
mqtt_broker_queue_bytes 50
mqtt_broker_sessions{state="offline"} 3
mqtt_broker_sessions{state="online"} 2
mqtt_broker_storage_fault 1
`,
		},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(strings.TrimLeft(c.want, "\n"), series(t, busy(), c.names...)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestRefusedIsTheSumOfBoth(t *testing.T) {
	text := scrape(t, busy())
	for _, line := range []string{
		`mqtt_broker_connections_refused_total{listener="plain",reason="connect_rate"} 12`,
		`mqtt_broker_connections_refused_total{listener="plain",reason="bad_connect"} 1`,
		`mqtt_broker_disconnections_total{reason="keep_alive_timeout"} 1`,
		`mqtt_broker_auth_failures_total{reason="wrong_password"} 2`,
		`mqtt_broker_acl_denials_total{action="subscribe"} 2`,
		`mqtt_broker_delivery_duration_seconds_bucket{le="0.0005"} 20`,
		`mqtt_broker_delivery_duration_seconds_bucket{le="0.00025"} 0`,
		`mqtt_broker_delivery_duration_seconds_sum 0.006`,
		`mqtt_broker_fsync_duration_seconds_count 1`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("not shown: %s", line)
		}
	}
}

func TestAForgottenListenerStaysAsLongAsItsClients(t *testing.T) {
	s := metrics.New(metrics.Options{Started: started})
	l := s.Listener("old")
	l.Connected(5)
	s.Forget("old")

	const line = `mqtt_broker_connections{listener="old",protocol="5"}`

	if !strings.Contains(scrape(t, s), line) {
		t.Error("a listener that still has a client is not shown")
	}

	l.Disconnected(5, metrics.ByClient)

	if strings.Contains(scrape(t, s), line) {
		t.Error("a listener that was removed and has no client is still shown")
	}

	s.Forget("never was")

	if strings.Contains(scrape(t, s), "never was") {
		t.Error("a listener came into being by being forgotten")
	}
}

func TestHandler(t *testing.T) {
	recorder := httptest.NewRecorder()
	request := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/metrics", http.NoBody)
	request.Header.Set("Accept-Encoding", "gzip")
	busy().Handler().ServeHTTP(recorder, request)

	if got := recorder.Header().Get("Content-Encoding"); got != "gzip" {
		t.Fatalf("the answer is encoded as %q, want gzip", got)
	}

	plain, err := gzip.NewReader(recorder.Body)
	if err != nil {
		t.Fatal(err)
	}

	text, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}

	for _, want := range []string{`mqtt_broker_build_info{`, "go_goroutines ", "process_open_fds "} {
		if !strings.Contains(string(text), "\n"+want) {
			t.Errorf("%s is missing", want)
		}
	}
}

// broken is a collector that fails.
type broken struct{ desc *prometheus.Desc }

func (b broken) Describe(out chan<- *prometheus.Desc) { out <- b.desc }

func (b broken) Collect(out chan<- prometheus.Metric) {
	out <- prometheus.NewInvalidMetric(b.desc, io.ErrUnexpectedEOF)
}

func TestWhatFailsIsLeftOut(t *testing.T) {
	s := busy()
	if err := s.Register(broken{prometheus.NewDesc("broken", "Never shown.", nil, nil)}); err != nil {
		t.Fatal(err)
	}

	if text := scrape(t, s); !strings.Contains(text, "mqtt_broker_panics_total 3") {
		t.Error("one collector that fails takes the others with it")
	}

	if text := scrape(t, s); !strings.Contains(text, `promhttp_metric_handler_errors_total{cause="gathering"} 1`) {
		t.Error("that something was left out is not counted")
	}
}

func TestEveryReasonHasAName(t *testing.T) {
	for family, want := range map[string]int{
		"mqtt_broker_messages_dropped_total": 9, "mqtt_broker_connections_refused_total": 17,
		"mqtt_broker_disconnections_total": 14, "mqtt_broker_auth_failures_total": 15, "mqtt_broker_acl_denials_total": 3,
	} {
		if got := strings.Count(series(t, busy(), family), "\n"); got != want {
			t.Errorf("%s has %d series, want %d: a reason was added without a name, or the other way round", family, got, want)
		}
	}

	if strings.Contains(scrape(t, busy()), `"reason_`) {
		t.Error("a reason has no name")
	}

	// What nobody knows is not counted, and harms nobody.
	c := metrics.New(metrics.Options{}).NewCounters()
	c.Drop(200, 1, 1)
	c.Deny(200)
	c.AuthFail(200)
	c.Sent.Publish(3, 1, 1)
	c.Sent.Packets(200, 1)
}

func TestHistogramBuckets(t *testing.T) {
	cases := map[string]struct {
		reason string
		took   time.Duration
		want   string
	}{
		"nothing":                {"no time at all is in the first bucket", 0, "1e-05"},
		"a clock set back":       {"a negative time is none", -time.Second, "1e-05"},
		"exactly a bound":        {"le means less or equal", 25 * time.Microsecond, "2.5e-05"},
		"just above a bound":     {"the next one then", 25*time.Microsecond + 1, "5e-05"},
		"between powers of two":  {"the table must not start too far up", 3 * time.Millisecond, "0.005"},
		"the last bound":         {"it is still in", 10 * time.Second, "10"},
		"longer than the last":   {"it counts all the same", 11 * time.Second, "+Inf"},
		"longer than one thinks": {"the table has an end", math.MaxInt64, "+Inf"},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := metrics.New(metrics.Options{})
			s.Sync.Observe(c.took, 2)

			first := ""

			for line := range strings.Lines(scrape(t, s)) {
				rest, ok := strings.CutPrefix(line, `mqtt_broker_fsync_duration_seconds_bucket{le="`)
				if ok && strings.HasSuffix(rest, "} 2\n") {
					first, _, _ = strings.Cut(rest, `"`)

					break
				}
			}

			if first != c.want {
				t.Errorf("%s: %v is first in bucket %q, want %q", c.reason, c.took, first, c.want)
			}
		})
	}
}

func TestCountingFromManySides(t *testing.T) {
	s := metrics.New(metrics.Options{Started: started})
	l := s.Listener("l")

	var all sync.WaitGroup

	for range 4 {
		all.Go(func() {
			c := s.NewCounters()

			for range 1000 {
				c.Received.Publish(1, 1, 10)
				c.Delivery.Observe(time.Millisecond, 1)
				s.Shared.Drop(metrics.Expired, 1, 1)
				l.Connected(5)
				l.Disconnected(5, metrics.ByClient)
			}
		})
	}

	all.Go(func() {
		for range 20 {
			_ = scrape(t, s)
			_ = s.SysTopics(started)
		}
	})
	all.Wait()

	text := scrape(t, s)
	for _, line := range []string{
		`mqtt_broker_messages_received_total{qos="1"} 4000`,
		`mqtt_broker_messages_dropped_total{reason="expired"} 4000`,
		`mqtt_broker_connections{listener="l",protocol="5"} 0`,
		`mqtt_broker_delivery_duration_seconds_count 4000`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("not shown: %s", line)
		}
	}
}

func TestCountingAllocatesNothing(t *testing.T) {
	s := metrics.New(metrics.Options{Started: started})
	c := s.NewCounters()
	l := s.Listener("l")

	if got := testing.AllocsPerRun(100, func() {
		c.Received.Publish(1, 1, 64)
		c.Sent.Packets(4, 1)
		c.Drop(metrics.SlowClient, 1, 64)
		c.Delivery.Observe(time.Millisecond, 3)
		l.Accepted()
		l.Connected(4)
		l.Disconnected(4, metrics.ByClient)
	}); got != 0 {
		t.Errorf("counting allocates %v times", got)
	}

	// What one worker writes must not lie on a line with what another writes.
	if got := unsafe.Offsetof(c.Received); got < 128 {
		t.Errorf("the first counter is %d bytes from the beginning, want 128", got)
	}

	if got := unsafe.Sizeof(*c) - unsafe.Offsetof(c.Panics); got < 128 {
		t.Errorf("the last counter is %d bytes from the end, want 128", got)
	}
}

func BenchmarkPublish(b *testing.B) {
	c := metrics.New(metrics.Options{}).NewCounters()

	for b.Loop() {
		c.Received.Publish(1, 1, 64)
	}
}

func BenchmarkObserve(b *testing.B) {
	c := metrics.New(metrics.Options{}).NewCounters()

	for b.Loop() {
		c.Delivery.Observe(730*time.Microsecond, 1)
	}
}

func BenchmarkScrape(b *testing.B) {
	s := busy()

	for b.Loop() {
		out := make(chan prometheus.Metric, 1000)
		s.Collect(out)
	}
}

func scrape(t *testing.T, s *metrics.Set) string {
	t.Helper()

	recorder := httptest.NewRecorder()
	s.Handler().ServeHTTP(recorder, httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/metrics", http.NoBody))

	return recorder.Body.String()
}

// series are the lines of some metrics as they are shown.
func series(t *testing.T, s *metrics.Set, families ...string) string {
	t.Helper()

	var found strings.Builder

	for line := range strings.Lines(scrape(t, s)) {
		if slices.Contains(families, line[:strings.IndexAny(line, "{ ")]) {
			found.WriteString(line)
		}
	}

	return found.String()
}

func topic(t *testing.T, all []metrics.SysTopic, name string) string {
	t.Helper()

	at := slices.IndexFunc(all, func(s metrics.SysTopic) bool { return s.Topic == "$SYS/broker/"+name })
	if at < 0 {
		t.Fatalf("there is no $SYS/broker/%s", name)
	}

	return all[at].Payload
}
