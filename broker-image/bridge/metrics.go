// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("mqtt_bridge_"+name, help, labels, nil)
}

var (
	metricInfo       = desc("build_info", "Always 1; the labels say what runs.", "version", "go_version")
	metricRevision   = desc("config_revision", "Revision of the configuration that runs.")
	metricApplied    = desc("config_applied_timestamp_seconds", "When the configuration that runs was applied.")
	metricActive     = desc("active", "1 while this process is the active one of its bridge.")
	metricEnd        = desc("end_connected", "1 while every connection to the end is up.", "end")
	metricConnected  = desc("connected", "1 while messages of the route can flow.", "route")
	metricForwarded  = desc("forwarded_messages_total", "Messages that the destination has taken.", "route", "direction")
	metricBytes      = desc("received_payload_bytes_total", "Bytes of payload that came from the source.", "route", "direction")
	metricDropped    = desc("dropped_messages_total", "Messages that were given up.", "route", "direction", "reason")
	metricQueued     = desc("queued_messages", "Messages that wait for the destination.", "route", "direction")
	metricLag        = desc("lag_seconds", "Age of the oldest message that waits for the destination.", "route", "direction")
	metricReconnects = desc("reconnects_total", "Connections that were lost.", "route", "direction")
	metricLatency    = desc("latency_seconds", "Time from the arrival of a message to the answer of the destination.", "route", "direction")
)

// metrics are looked up when somebody asks.
func (b *Bridge) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{b}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		Registry: registry, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4, ErrorLog: scrapeLog{b.log},
	})
}

type scrapeLog struct{ log *slog.Logger }

func (l scrapeLog) Println(v ...any) {
	l.log.Error("metrics are incomplete", "error", fmt.Sprint(v...))
}

type collector struct{ bridge *Bridge }

// Describe is of prometheus.Collector.
func (collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		metricInfo, metricRevision, metricApplied, metricActive, metricEnd, metricConnected, metricForwarded, metricBytes,
		metricDropped, metricQueued, metricLag, metricReconnects, metricLatency,
	} {
		out <- d
	}
}

// Collect is of prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	show := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		if m, err := prometheus.NewConstMetric(d, kind, value, labels...); err == nil {
			out <- m
		}
	}

	s, cfg := c.bridge.Status(), c.bridge.configuration()
	show(metricInfo, prometheus.GaugeValue, 1, s.Version, runtime.Version())
	show(metricActive, prometheus.GaugeValue, flag(s.Active))

	if cfg == nil {
		return
	}

	c.bridge.mu.Lock()
	applied := c.bridge.applied
	c.bridge.mu.Unlock()

	show(metricRevision, prometheus.GaugeValue, float64(cfg.Revision))
	show(metricApplied, prometheus.GaugeValue, float64(applied.UnixMilli())/1000)
	show(metricEnd, prometheus.GaugeValue, flag(s.Local.Connected), "local")
	show(metricEnd, prometheus.GaugeValue, flag(s.Remote.Connected), "remote")

	for _, r := range s.Routes {
		show(metricConnected, prometheus.GaugeValue, flag(r.Connected), r.Name)
	}

	states := map[string]state{}

	for _, r := range c.bridge.current() {
		for _, f := range r.flows {
			states[r.name+string(f.direction)] = f.state(time.Now())
		}
	}

	for i := range cfg.Routes {
		for _, d := range []contract.Direction{contract.In, contract.Out} {
			if !cfg.Routes[i].Goes(d) {
				continue
			}

			name, way := cfg.Routes[i].Name, string(d)
			counts, state := c.bridge.countsOf(name, d), states[name+way]

			show(metricForwarded, prometheus.CounterValue, float64(counts.forwarded.Load()), name, way)
			show(metricBytes, prometheus.CounterValue, float64(counts.bytes.Load()), name, way)
			show(metricReconnects, prometheus.CounterValue, float64(counts.reconnects.Load()), name, way)
			show(metricQueued, prometheus.GaugeValue, float64(state.queued), name, way)
			show(metricLag, prometheus.GaugeValue, state.lag.Seconds(), name, way)

			drops := counts.drops()
			for _, reason := range slices.Sorted(maps.Keys(drops)) {
				show(metricDropped, prometheus.CounterValue, float64(drops[reason]), name, way, reason)
			}

			if m, err := counts.histogram(name, way); err == nil {
				out <- m
			}
		}
	}
}

func (c *counts) histogram(labels ...string) (prometheus.Metric, error) {
	buckets := make(map[float64]uint64, len(bounds))

	var count uint64

	for i := range c.buckets {
		count += uint64(c.buckets[i].Load()) //nolint:gosec // it only grows
		if i < len(bounds) {
			buckets[bounds[i]] = count
		}
	}

	return prometheus.NewConstHistogram(metricLatency, count, time.Duration(c.nanos.Load()).Seconds(), buckets, labels...)
}

func flag(on bool) float64 {
	if on {
		return 1
	}

	return 0
}
