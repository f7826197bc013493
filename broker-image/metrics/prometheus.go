// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// prefix of every name that is ours.
	prefix = "mqtt_broker_"
	// scrapes at once; more are answered with 503, so that a careless scraper does not cost the clients.
	scrapes = 4
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prefix+name, help, labels, nil)
}

// Everything that is shown. A label has few values, and all of them are there from the beginning, so that a rate can be taken of the first event.
var (
	buildInfo = describe("build_info", "Always 1; the labels say what runs.", "version", "revision", "goversion")

	connections = describe("connections", "Clients connected now.", "listener", "protocol")
	opened      = describe("connections_opened_total", "Clients that connected with success.", "listener", "protocol")
	refused     = describe("connections_refused_total", "Connections that ended before they were a client's.", "listener", "reason")
	accepted    = describe("sockets_accepted_total", "Sockets accepted, whatever became of them.", "listener")
	up          = describe("listener_up", "Whether the listener accepts connections.", "listener")
	departures  = describe("disconnections_total", "Clients whose connection ended.", "reason")

	sessions            = describe("sessions", "Sessions kept, by whether their client is connected.", "state")
	sessionsExpired     = describe("sessions_expired_total", "Sessions discarded because nobody came back in time.")
	subscriptions       = describe("subscriptions", "Subscriptions of all sessions, shared ones included.")
	sharedSubscriptions = describe("shared_subscriptions", "Shared subscriptions of all sessions.")

	packetsReceived  = describe("packets_received_total", "Control packets received.", "type")
	packetsSent      = describe("packets_sent_total", "Control packets sent.", "type")
	bytesReceived    = describe("received_bytes_total", "Bytes of MQTT received, without what TLS and WebSocket add.")
	bytesSent        = describe("sent_bytes_total", "Bytes of MQTT sent, without what TLS and WebSocket add.")
	messagesReceived = describe("messages_received_total", "PUBLISH packets received.", "qos")
	messagesSent     = describe("messages_sent_total", "PUBLISH packets sent.", "qos")
	payloadReceived  = describe("messages_received_bytes_total", "Bytes of the payloads of PUBLISH packets received.", "qos")
	payloadSent      = describe("messages_sent_bytes_total", "Bytes of the payloads of PUBLISH packets sent.", "qos")
	droppedMessages  = describe("messages_dropped_total", "Messages that a subscriber should have got and did not; each subscriber counts.", "reason")
	droppedBytes     = describe("messages_dropped_bytes_total", "Bytes of the payloads of dropped messages.", "reason")
	delivery         = describe("delivery_duration_seconds", "Time from a PUBLISH being read to its message being written to a subscriber; waiting in a queue or for the disk is not in it.")

	queuedMessages   = describe("queue_messages", "Messages that wait in sessions to be sent.")
	queuedBytes      = describe("queue_bytes", "Bytes of messages that wait in sessions: topic, properties and payload.")
	inflight         = describe("inflight_messages", "Messages of QoS 1 and 2 sent to clients that are connected, and not acknowledged.")
	retainedMessages = describe("retained_messages", "Retained messages.")
	retainedBytes    = describe("retained_bytes", "Bytes of retained messages: topic and payload.")
	storedMessages   = describe("stored_messages", "Messages held: retained ones, and those that wait, once for each session.")
	storedBytes      = describe("stored_bytes", "Bytes of messages held.")
	storageFault     = describe("storage_fault", "1 while what must be kept cannot be written.")
	syncTime         = describe("fsync_duration_seconds", "Time the disk took to confirm a group of commits.")

	authFailed = describe("auth_failures_total", "Clients that could not prove who they are.", "reason")
	checks     = describe("password_checks_waiting", "Passwords that wait to be checked.")
	leftOut    = describe("audit_lines_dropped_total", "Lines of the log about clients that were left out because there were too many of their kind.")
	denied     = describe("acl_denials_total", "What the access rules refused.", "action")

	keySetKeys     = describe("jwks_keys", "Keys of an issuer of tokens that can be used, where they are fetched.", "issuer")
	keySetFetched  = describe("jwks_fetched_timestamp_seconds", "When the keys of an issuer of tokens were fetched last; 0 is never.", "issuer")
	keySetFailures = describe("jwks_fetch_failures_total", "Fetches of an issuer's keys that brought nothing.", "issuer")

	panics         = describe("panics_total", "Connections closed because their handling panicked.")
	configRevision = describe("config_revision", "Revision of the configuration in force.")
	configTime     = describe("config_applied_timestamp_seconds", "When the configuration in force was applied.")
	configFault    = describe("config_fault", "1 while a newer configuration cannot be put into force.")
)

var descriptions = []*prometheus.Desc{
	buildInfo, connections, opened, refused, accepted, up, departures, sessions, sessionsExpired, subscriptions,
	sharedSubscriptions, packetsReceived, packetsSent, bytesReceived, bytesSent, messagesReceived, messagesSent,
	payloadReceived, payloadSent, droppedMessages, droppedBytes, delivery, queuedMessages, queuedBytes, inflight,
	retainedMessages, retainedBytes, storedMessages, storedBytes, storageFault, syncTime, authFailed, checks, leftOut, denied, panics,
	configRevision, configTime, configFault, keySetKeys, keySetFetched, keySetFailures,
}

// packetTypes by their number; a server receives some and sends others.
var packetTypes = [16]string{
	"", "connect", "connack", "publish", "puback", "pubrec", "pubrel", "pubcomp", "subscribe", "suback", "unsubscribe",
	"unsuback", "pingreq", "pingresp", "disconnect", "auth",
}

var (
	receivedTypes = []byte{1, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15}
	sentTypes     = []byte{2, 3, 4, 5, 6, 7, 9, 11, 13, 14, 15}
)

// Handler serves /metrics. What cannot be gathered is left out, counted and logged; the rest is still shown.
func (s *Set) Handler() http.Handler {
	options := promhttp.HandlerOpts{
		Registry:            s.registry,
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: scrapes,
	}

	if s.options.Log != nil {
		options.ErrorLog = scrapeLog{s.options.Log}
	}

	return promhttp.HandlerFor(s.registry, options)
}

// Register adds metrics of somebody else, such as those of the storage engine, to what Handler shows.
func (s *Set) Register(c prometheus.Collector) error { return s.registry.Register(c) }

type scrapeLog struct{ log *slog.Logger }

func (l scrapeLog) Println(v ...any) {
	l.log.Error("metrics are incomplete", "error", fmt.Sprint(v...))
}

// Describe is of prometheus.Collector.
func (s *Set) Describe(out chan<- *prometheus.Desc) {
	for _, d := range descriptions {
		out <- d
	}
}

// Collect is of prometheus.Collector.
func (s *Set) Collect(out chan<- prometheus.Metric) {
	counters, listeners := s.all()
	state := s.state()
	show := shower{out}

	show.gauge(buildInfo, 1, s.options.Version, s.options.Revision, runtime.Version())

	s.collectConnections(show, state, listeners)
	collectTraffic(show, counters)
	collectState(show, state)

	for r := range reasons {
		show.counter(droppedMessages, sum(counters, func(c *Counters) int64 { return c.dropped[r].messages.Load() }), r.String())
		show.counter(droppedBytes, sum(counters, func(c *Counters) int64 { return c.dropped[r].bytes.Load() }), r.String())
	}

	for a := range authFailures {
		show.counter(authFailed, sum(counters, func(c *Counters) int64 { return c.authFailures[a].Load() }), a.String())
	}

	for a := range actions {
		show.counter(denied, sum(counters, func(c *Counters) int64 { return c.denials[a].Load() }), a.String())
	}

	caught := sum(counters, func(c *Counters) int64 { return c.Panics.Load() })
	for _, l := range state.Listeners {
		caught += l.Panics
	}

	show.counter(panics, caught)
	show.counter(sessionsExpired, sum(counters, func(c *Counters) int64 { return c.SessionsExpired.Load() }))

	deliveries := make([]*Histogram, 0, len(counters))
	for _, c := range counters {
		deliveries = append(deliveries, &c.Delivery)
	}

	show.histogram(delivery, distributionOf(deliveries...))
	show.histogram(syncTime, distributionOf(&s.Sync))
}

func (s *Set) collectConnections(show shower, state State, listeners []*Listener) {
	known := make(map[string]ListenerState, len(state.Listeners))
	for _, l := range state.Listeners {
		known[l.Name] = l
		show.gauge(up, flag(!l.Fault), l.Name)
	}

	for _, l := range listeners {
		show.counter(accepted, l.accepted.Load()+known[l.name].Accepted, l.name)

		for i, p := range protocols {
			show.gauge(connections, float64(l.now[i].Load()), l.name, p)
			show.counter(opened, l.ever[i].Load(), l.name, p)
		}

		for r := range refusals {
			show.counter(refused, l.refused[r].Load()+known[l.name].Refused[r], l.name, r.String())
		}
	}

	for d := range disconnections {
		show.counter(departures, s.disconnections[d].Load(), d.String())
	}
}

func collectTraffic(show shower, counters []*Counters) {
	ways := []struct {
		of                                func(*Counters) *Traffic
		types                             []byte
		packets, messages, payload, bytes *prometheus.Desc
	}{
		{func(c *Counters) *Traffic { return &c.Received }, receivedTypes, packetsReceived, messagesReceived, payloadReceived, bytesReceived},
		{func(c *Counters) *Traffic { return &c.Sent }, sentTypes, packetsSent, messagesSent, payloadSent, bytesSent},
	}

	for _, way := range ways {
		total := addUp(counters, way.of)

		for _, t := range way.types {
			show.counter(way.packets, total.packets[t], packetTypes[t])
		}

		for qos := range total.messages {
			show.counter(way.messages, total.messages[qos], strconv.Itoa(qos))
			show.counter(way.payload, total.payload[qos], strconv.Itoa(qos))
		}

		show.counter(way.bytes, total.bytes)
	}
}

func collectState(show shower, state State) {
	for _, g := range []struct {
		desc  *prometheus.Desc
		value int64
	}{
		{subscriptions, state.Subscriptions},
		{sharedSubscriptions, state.SharedSubscriptions},
		{queuedMessages, state.QueuedMessages},
		{queuedBytes, state.QueuedBytes},
		{inflight, state.Inflight},
		{retainedMessages, state.RetainedMessages},
		{retainedBytes, state.RetainedBytes},
		{storedMessages, state.StoredMessages},
		{storedBytes, state.StoredBytes},
		{configRevision, state.ConfigRevision},
		{checks, state.PasswordChecks},
	} {
		show.gauge(g.desc, float64(g.value))
	}

	show.gauge(sessions, float64(state.SessionsOnline), "online")
	show.gauge(sessions, float64(state.SessionsOffline), "offline")
	show.gauge(storageFault, flag(state.StorageFault))
	show.counter(leftOut, state.AuditLinesDropped)
	show.gauge(configFault, flag(state.ConfigFault))

	show.gauge(configTime, timestamp(state.ConfigTime))

	for _, k := range state.KeySets {
		show.gauge(keySetKeys, float64(k.Keys), k.Issuer)
		show.gauge(keySetFetched, timestamp(k.Fetched), k.Issuer)
		show.counter(keySetFailures, k.Failures, k.Issuer)
	}
}

// timestamp is in seconds. A time that never was is 1970 for a dashboard, and not the year 1.
func timestamp(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}

	return float64(t.UnixMilli()) / 1000
}

// traffic is Traffic added up.
type traffic struct {
	packets           [16]int64
	messages, payload [3]int64
	bytes             int64
}

func (t *traffic) allMessages() int64 { return t.messages[0] + t.messages[1] + t.messages[2] }
func (t *traffic) allPayload() int64  { return t.payload[0] + t.payload[1] + t.payload[2] }

func (t *traffic) allPackets() (n int64) {
	for _, p := range t.packets {
		n += p
	}

	return n
}

func addUp(counters []*Counters, of func(*Counters) *Traffic) (total traffic) {
	for _, c := range counters {
		t := of(c)
		total.bytes += t.Bytes.Load()

		for kind := range t.packets {
			total.packets[kind] += t.packets[kind].Load()
		}

		for qos := range t.messages {
			total.messages[qos] += t.messages[qos].Load()
			total.payload[qos] += t.payload[qos].Load()
		}
	}

	total.packets[typePublish] += total.allMessages()

	return total
}

func sum(counters []*Counters, of func(*Counters) int64) (total int64) {
	for _, c := range counters {
		total += of(c)
	}

	return total
}

func flag(on bool) float64 {
	if on {
		return 1
	}

	return 0
}

// shower hands over metrics whose labels are known to fit.
type shower struct{ out chan<- prometheus.Metric }

func (s shower) gauge(d *prometheus.Desc, value float64, labels ...string) {
	s.show(prometheus.NewConstMetric(d, prometheus.GaugeValue, value, labels...))
}

func (s shower) counter(d *prometheus.Desc, value int64, labels ...string) {
	s.show(prometheus.NewConstMetric(d, prometheus.CounterValue, float64(value), labels...))
}

func (s shower) histogram(d *prometheus.Desc, v distribution) {
	s.show(prometheus.NewConstHistogram(d, v.count, v.sum, v.buckets))
}

// show leaves out what Prometheus cannot carry: the name of a listener that is no UTF-8 never passes the contract.
func (s shower) show(m prometheus.Metric, err error) {
	if err == nil {
		s.out <- m
	}
}
