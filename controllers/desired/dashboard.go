// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
)

// panel is one picture of a dashboard. Its expressions may hold $pods and $object, as those of alerts do.
type panel struct {
	title string
	// unit is one of Grafana's.
	unit string
	// isNumber shows the last value alone, four to a row instead of two.
	isNumber bool
	lines    []line
}

// line is one expression with what its series are called.
type line struct{ expr, legend string }

const (
	unitCount    = "short"
	unitRate     = "ops"
	unitBytes    = "bytes"
	unitByteRate = "Bps"
	unitSeconds  = "s"
	unitYesNo    = "bool_yes_no"
	unitShare    = "percentunit"
)

var brokerPanels = []panel{
	{"Ready", unitYesNo, true, []line{{`max(mqtt_operator_broker_condition{$object,condition="Ready"}) == bool 1`, "ready"}}},
	{"Clients connected", unitCount, true, []line{{`sum(mqtt_broker_connections{$pods})`, "clients"}}},
	{"Listeners closed", unitCount, true, []line{{`sum(1 - mqtt_broker_listener_up{$pods})`, "closed"}}},
	{"Disk does not take what must be kept", unitYesNo, true, []line{{`max(mqtt_broker_storage_fault{$pods})`, "fault"}}},
	{"Clients", unitCount, false, []line{
		{`sum by (listener, protocol) (mqtt_broker_connections{$pods})`, "{{listener}} {{protocol}}"},
	}},
	{"Sessions", unitCount, false, []line{
		{`sum by (state) (mqtt_broker_sessions{$pods})`, "{{state}}"},
		{`sum(mqtt_broker_subscriptions{$pods})`, "subscriptions"},
	}},
	{"Messages received", unitRate, false, []line{{`sum by (qos) (rate(mqtt_broker_messages_received_total{$pods}[$__rate_interval]))`, "QoS {{qos}}"}}},
	{"Messages sent", unitRate, false, []line{{`sum by (qos) (rate(mqtt_broker_messages_sent_total{$pods}[$__rate_interval]))`, "QoS {{qos}}"}}},
	{"Messages dropped", unitRate, false, []line{{`sum by (reason) (rate(mqtt_broker_messages_dropped_total{$pods}[$__rate_interval])) > 0`, "{{reason}}"}}},
	{"Messages that wait", unitCount, false, []line{
		{`mqtt_broker_queue_messages{$pods}`, "{{pod}} queued"},
		{`mqtt_broker_inflight_messages{$pods}`, "{{pod}} sent, not acknowledged"},
		{`mqtt_broker_retained_messages{$pods}`, "{{pod}} retained"},
	}},
	{"Bytes that wait", unitBytes, false, []line{
		{`mqtt_broker_queue_bytes{$pods}`, "{{pod}} queued"},
		{`mqtt_broker_retained_bytes{$pods}`, "{{pod}} retained"},
	}},
	{"Traffic", unitByteRate, false, []line{
		{`sum(rate(mqtt_broker_received_bytes_total{$pods}[$__rate_interval]))`, "received"},
		{`sum(rate(mqtt_broker_sent_bytes_total{$pods}[$__rate_interval]))`, "sent"},
	}},
	{"Delivery", unitSeconds, false, []line{
		{`histogram_quantile(0.5, sum by (le) (rate(mqtt_broker_delivery_duration_seconds_bucket{$pods}[$__rate_interval])))`, "half"},
		{`histogram_quantile(0.99, sum by (le) (rate(mqtt_broker_delivery_duration_seconds_bucket{$pods}[$__rate_interval])))`, "99 %"},
	}},
	{"Disk", unitSeconds, false, []line{
		{`histogram_quantile(0.5, sum by (le) (rate(mqtt_broker_fsync_duration_seconds_bucket{$pods}[$__rate_interval])))`, "half"},
		{`histogram_quantile(0.99, sum by (le) (rate(mqtt_broker_fsync_duration_seconds_bucket{$pods}[$__rate_interval])))`, "99 %"},
	}},
	{"Connections", unitRate, false, []line{
		{`sum(rate(mqtt_broker_connections_opened_total{$pods}[$__rate_interval]))`, "opened"},
		{`sum by (reason) (rate(mqtt_broker_connections_refused_total{$pods}[$__rate_interval])) > 0`, "refused: {{reason}}"},
	}},
	{"Disconnections", unitRate, false, []line{{`sum by (reason) (rate(mqtt_broker_disconnections_total{$pods}[$__rate_interval])) > 0`, "{{reason}}"}}},
	{"Logins refused", unitRate, false, []line{{`sum by (reason) (rate(mqtt_broker_auth_failures_total{$pods}[$__rate_interval])) > 0`, "{{reason}}"}}},
	{"Refused by access rules", unitRate, false, []line{{`sum by (action) (rate(mqtt_broker_acl_denials_total{$pods}[$__rate_interval])) > 0`, "{{action}}"}}},
	{"Memory", unitBytes, false, []line{{`process_resident_memory_bytes{$pods}`, "{{pod}}"}}},
	{"CPU", unitShare, false, []line{{`rate(process_cpu_seconds_total{$pods}[$__rate_interval])`, "{{pod}}"}}},
	{"Configuration", unitCount, false, []line{{`mqtt_broker_config_revision{$pods}`, "{{pod}}"}}},
	{"Certificates end in", unitSeconds, false, []line{{`max by (listener) (mqtt_operator_certificate_not_after_seconds{$object}) - time()`, "{{listener}}"}}},
}

var bridgePanels = []panel{
	{"Ready", unitYesNo, true, []line{{`max(mqtt_operator_bridge_condition{$object,condition="Ready"}) == bool 1`, "ready"}}},
	{"Pods at work", unitCount, true, []line{{`sum(mqtt_bridge_active{$pods})`, "active"}}},
	{"Ends connected", unitCount, true, []line{{`sum(max by (end) (mqtt_bridge_end_connected{$pods}))`, "ends"}}},
	{"Routes connected", unitCount, true, []line{{`sum(max by (route) (mqtt_bridge_connected{$pods}))`, "routes"}}},
	{"Messages passed on", unitRate, false, []line{{`sum by (route, direction) (rate(mqtt_bridge_forwarded_messages_total{$pods}[$__rate_interval]))`, "{{route}} {{direction}}"}}},
	// As in the alert: the first message of a reason is no increase.
	{"Messages given up", unitCount, false, []line{{`sum by (route, direction, reason) ((mqtt_bridge_dropped_messages_total{$pods} unless mqtt_bridge_dropped_messages_total{$pods} offset $__rate_interval)` +
		` or increase(mqtt_bridge_dropped_messages_total{$pods}[$__rate_interval])) > 0`, "{{route}} {{direction}}: {{reason}}"}}},
	{"Age of what waits", unitSeconds, false, []line{{`max by (route, direction) (mqtt_bridge_lag_seconds{$pods})`, "{{route}} {{direction}}"}}},
	{"Messages that wait for the destination", unitCount, false, []line{{`sum by (route, direction) (mqtt_bridge_queued_messages{$pods})`, "{{route}} {{direction}}"}}},
	{"Answer of the destination", unitSeconds, false, []line{
		{`histogram_quantile(0.5, sum by (le) (rate(mqtt_bridge_latency_seconds_bucket{$pods}[$__rate_interval])))`, "half"},
		{`histogram_quantile(0.99, sum by (le) (rate(mqtt_bridge_latency_seconds_bucket{$pods}[$__rate_interval])))`, "99 %"},
	}},
	{"Payload", unitByteRate, false, []line{{`sum by (route, direction) (rate(mqtt_bridge_received_payload_bytes_total{$pods}[$__rate_interval]))`, "{{route}} {{direction}}"}}},
	{"Connections lost", unitRate, false, []line{{`sum by (route, direction) (rate(mqtt_bridge_reconnects_total{$pods}[$__rate_interval]))`, "{{route}} {{direction}}"}}},
	{"Configuration", unitCount, false, []line{{`mqtt_bridge_config_revision{$pods}`, "{{pod}}"}}},
	{"Memory", unitBytes, false, []line{{`process_resident_memory_bytes{$pods}`, "{{pod}}"}}},
	{"CPU", unitShare, false, []line{{`rate(process_cpu_seconds_total{$pods}[$__rate_interval])`, "{{pod}}"}}},
}

var operatorPanels = []panel{
	{"Pods that lead", unitCount, true, []line{{`sum(leader_election_master_status{$pods})`, "leaders"}}},
	{"Brokers ready", unitCount, true, []line{{`sum(max by (namespace, broker) (mqtt_operator_broker_condition{condition="Ready"}) == bool 1)`, "brokers"}}},
	{"Bridges ready", unitCount, true, []line{{`sum(max by (namespace, bridge) (mqtt_operator_bridge_condition{condition="Ready"}) == bool 1)`, "bridges"}}},
	{"The next certificate ends in", unitSeconds, true, []line{{`min(mqtt_operator_certificate_not_after_seconds{}) - time()`, "ends"}}},
	{"Brokers that are not ready", unitCount, false, []line{{`max by (namespace, broker) (mqtt_operator_broker_condition{condition="Ready"}) < 1`, "{{namespace}}/{{broker}}"}}},
	{"Bridges that are not ready", unitCount, false, []line{{`max by (namespace, bridge) (mqtt_operator_bridge_condition{condition="Ready"}) < 1`, "{{namespace}}/{{bridge}}"}}},
	{"Reconciles", unitRate, false, []line{{`sum by (controller) (rate(controller_runtime_reconcile_total{$pods}[$__rate_interval]))`, "{{controller}}"}}},
	{"Reconciles that failed", unitRate, false, []line{{`sum by (controller) (rate(controller_runtime_reconcile_errors_total{$pods}[$__rate_interval]))`, "{{controller}}"}}},
	{"Time of a reconcile, 99 %", unitSeconds, false, []line{{`histogram_quantile(0.99, sum by (le, controller) (rate(controller_runtime_reconcile_time_seconds_bucket{$pods}[$__rate_interval])))`, "{{controller}}"}}},
	{"Queue", unitCount, false, []line{{`sum by (controller) (workqueue_depth{$pods})`, "{{controller}}"}}},
	{"Requests to the API server", unitRate, false, []line{{`sum by (code, method) (rate(rest_client_requests_total{$pods}[$__rate_interval]))`, "{{method}} {{code}}"}}},
	{"Certificates end in", unitSeconds, false, []line{{`max by (namespace, broker, listener) (mqtt_operator_certificate_not_after_seconds{}) - time()`, "{{namespace}}/{{broker}} {{listener}}"}}},
	{"Memory", unitBytes, false, []line{{`process_resident_memory_bytes{$pods}`, "{{pod}}"}}},
	{"CPU", unitShare, false, []line{{`rate(process_cpu_seconds_total{$pods}[$__rate_interval])`, "{{pod}}"}}},
}

// What follows is Grafana's format, as far as it is used.

type dashboard struct {
	UID           string          `json:"uid"`
	Title         string          `json:"title"`
	Tags          []string        `json:"tags"`
	SchemaVersion int             `json:"schemaVersion"`
	Editable      bool            `json:"editable"`
	Refresh       string          `json:"refresh"`
	Time          map[string]any  `json:"time"`
	Templating    map[string]any  `json:"templating"`
	Panels        []grafanaPanel  `json:"panels"`
	Annotations   json.RawMessage `json:"annotations"`
}

type grafanaPanel struct {
	ID          int             `json:"id"`
	Type        string          `json:"type"`
	Title       string          `json:"title"`
	Position    map[string]int  `json:"gridPos"`
	Source      map[string]any  `json:"datasource"`
	FieldConfig map[string]any  `json:"fieldConfig"`
	Options     map[string]any  `json:"options,omitempty"`
	Targets     []grafanaTarget `json:"targets"`
}

type grafanaTarget struct {
	RefID  string         `json:"refId"`
	Source map[string]any `json:"datasource"`
	Expr   string         `json:"expr"`
	Legend string         `json:"legendFormat"`
}

const (
	schemaVersion = 39
	gridWidth     = 24
	numberHeight  = 4
	graphHeight   = 8
)

// newDashboard lays panels out, four numbers to a row or two graphs. The reader picks the Prometheus.
func newDashboard(title, identity string, panels []panel, with *strings.Replacer) *dashboard {
	source := map[string]any{"type": "prometheus", "uid": "${datasource}"}
	sum := sha256.Sum256([]byte(identity))
	board := &dashboard{
		UID: "mqtt-" + hex.EncodeToString(sum[:8]), Title: title, Tags: []string{"mqtt-operator"}, SchemaVersion: schemaVersion,
		Editable: true, Refresh: "30s", Time: map[string]any{"from": "now-6h", "to": "now"},
		Templating: map[string]any{"list": []any{map[string]any{
			"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus",
		}}},
		Annotations: json.RawMessage(`{"list":[]}`),
	}
	x, y := 0, 0
	for i, p := range panels {
		g := grafanaPanel{
			ID: i + 1, Type: "timeseries", Title: p.title, Source: source,
			FieldConfig: map[string]any{"defaults": map[string]any{"unit": p.unit}, "overrides": []any{}},
		}
		width, height := gridWidth/2, graphHeight
		if p.isNumber {
			g.Type, width, height = "stat", gridWidth/4, numberHeight
			g.Options = map[string]any{"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}}}
		}
		if x+width > gridWidth {
			x, y = 0, y+height
		}
		g.Position = map[string]int{"x": x, "y": y, "w": width, "h": height}
		if x += width; x == gridWidth {
			x, y = 0, y+height
		}
		for k, l := range p.lines {
			g.Targets = append(g.Targets, grafanaTarget{RefID: string(rune('A' + k)), Source: source, Expr: with.Replace(l.expr), Legend: l.legend})
		}
		board.Panels = append(board.Panels, g)
	}
	return board
}

// text is the dashboard as Grafana reads it.
func (d *dashboard) text(indent string) string {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // > stands in many expressions
	encoder.SetIndent("", indent)
	if err := encoder.Encode(d); err != nil {
		panic(err) // strings and numbers alone
	}
	return text.String()
}
