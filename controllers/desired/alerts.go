// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"strings"
)

// Alert is a rule that wakes somebody.
type Alert struct {
	Name string
	// Expr is PromQL. $pods stands for the labels of the object's pods, $object for those by which the operator's metrics
	// name the object.
	Expr string
	// For is how long it must hold.
	For string
	// Severity is critical where clients are not served or messages lost, warning where that may come.
	Severity string
	Summary  string
	// Text says what to do.
	Text string
	// NeedsPods says that it makes no sense where no pod is meant to run, NeedsFlow where a bridge is suspended.
	NeedsPods, NeedsFlow bool
}

const (
	critical = "critical"
	warning  = "warning"
)

// BrokerAlerts are those of every broker with spec.monitoring.prometheusRule.
var BrokerAlerts = []Alert{
	{
		Name: "MQTTBrokerDown", For: "5m", Severity: critical, NeedsPods: true,
		Expr:    `absent(mqtt_broker_build_info{$pods})`,
		Summary: "No pod of the broker answers Prometheus.",
		Text:    "Clients are probably not served. kubectl describe mqb says what its pod waits for.",
	},
	{
		Name: "MQTTBrokerNotReady", For: "10m", Severity: warning,
		Expr:    `max by (namespace, broker) (mqtt_operator_broker_condition{$object,condition="Ready"}) < 1`,
		Summary: "What the broker's spec says is not in force.",
		Text:    "kubectl get mqb -o wide says why. The rule reads the operator's own metrics.",
	},
	{
		Name: "MQTTBrokerListenerDown", For: "5m", Severity: critical,
		Expr:    `mqtt_broker_listener_up{$pods} == 0`,
		Summary: "Listener {{ $labels.listener }} of pod {{ $labels.pod }} accepts no connections.",
		Text:    "The pod's log says why.",
	},
	{
		Name: "MQTTBrokerDroppingMessages", For: "5m", Severity: warning,
		// What expires, or ends with its session, is dropped because its own publisher or subscriber said so.
		Expr:    `sum by (namespace, pod, reason) (rate(mqtt_broker_messages_dropped_total{$pods,reason!~"expired|session_ended"}[5m])) > 0`,
		Summary: "Pod {{ $labels.pod }} drops {{ $value | humanize }} messages a second: {{ $labels.reason }}.",
		Text:    "With queue_messages and queue_bytes a subscriber is away or too slow: raise spec.limits, or find it.",
	},
	{
		Name: "MQTTBrokerQueueGrowing", For: "2h", Severity: warning,
		Expr:    `mqtt_broker_queue_messages{$pods} > 1000 and deriv(mqtt_broker_queue_messages{$pods}[1h]) > 0`,
		Summary: "{{ $value | humanize }} messages wait in pod {{ $labels.pod }}, and they get more.",
		Text:    "Subscribers with sessions do not come back. What they do not fetch fills the disk until their sessions expire.",
	},
	{
		Name: "MQTTBrokerStorageDegraded", For: "1m", Severity: critical,
		Expr:    `mqtt_broker_storage_fault{$pods} == 1`,
		Summary: "Pod {{ $labels.pod }} cannot write to its disk.",
		Text:    "What must be kept is refused. A full disk heals by itself when there is room again; the pod's log has the error.",
	},
	{
		Name: "MQTTBrokerConfigNotApplied", For: "10m", Severity: warning,
		Expr:    `mqtt_broker_config_fault{$pods} == 1`,
		Summary: "Pod {{ $labels.pod }} cannot put its newest configuration into force.",
		Text:    "It goes on with the one that it had: users that were revoked may still get in. The broker's ConfigApplied says why.",
	},
	{
		Name: "MQTTBrokerCertificateExpiring", For: "1h", Severity: warning,
		Expr:    `max by (namespace, broker, listener) (mqtt_operator_certificate_not_after_seconds{$object}) - time() < 14 * 86400`,
		Summary: "The certificate of listener {{ $labels.listener }} ends in {{ $value | humanizeDuration }}.",
		Text:    "It should have been renewed by now: see who keeps it. The rule reads the operator's own metrics.",
	},
	{
		Name: "MQTTBrokerPanics", For: "0m", Severity: warning,
		Expr:    `increase(mqtt_broker_panics_total{$pods}[1h]) > 0`,
		Summary: "Pod {{ $labels.pod }} closed connections because their handling panicked.",
		Text:    "This is a fault of the broker: please report it with its log.",
	},
}

// BridgeAlerts are those of every bridge with spec.monitoring.prometheusRule.
var BridgeAlerts = []Alert{
	{
		Name: "MQTTBridgeDown", For: "5m", Severity: critical, NeedsPods: true,
		Expr:    `absent(mqtt_bridge_build_info{$pods})`,
		Summary: "No pod of the bridge answers Prometheus.",
		Text:    "What it should carry waits at the sources. kubectl describe mqbr says what its pod waits for.",
	},
	{
		Name: "MQTTBridgeNotReady", For: "10m", Severity: warning,
		Expr:    `max by (namespace, bridge) (mqtt_operator_bridge_condition{$object,condition="Ready"}) < 1`,
		Summary: "What the bridge's spec says is not in force.",
		Text:    "kubectl get mqbr -o wide says why. The rule reads the operator's own metrics.",
	},
	{
		Name: "MQTTBridgeLooping", For: "5m", Severity: warning,
		Expr:    `max by (namespace, bridge) (mqtt_operator_bridge_condition{$object,condition="Looping"}) == 1`,
		Summary: "Messages go round through the bridge and others without end.",
		Text:    "kubectl mqtt bridge status names the routes: narrow a filter or change a prefix. The rule reads the operator's own metrics.",
	},
	{
		Name: "MQTTBridgeNotConnected", For: "5m", Severity: critical, NeedsFlow: true,
		Expr:    `max by (namespace, end) (mqtt_bridge_end_connected{$pods}) == 0`,
		Summary: "The {{ $labels.end }} end is not connected.",
		Text:    "What it should carry waits at the sources, as long as their sessions last. kubectl mqtt bridge status says why.",
	},
	{
		Name: "MQTTBridgeRouteNotConnected", For: "10m", Severity: warning, NeedsFlow: true,
		Expr:    `max by (namespace, route) (mqtt_bridge_connected{$pods}) == 0`,
		Summary: "Messages of route {{ $labels.route }} cannot flow.",
		Text:    "kubectl mqtt bridge status says why.",
	},
	{
		Name: "MQTTBridgeLagGrowing", For: "10m", Severity: warning,
		Expr:    `mqtt_bridge_lag_seconds{$pods} > 60 and deriv(mqtt_bridge_lag_seconds{$pods}[10m]) > 0`,
		Summary: "Route {{ $labels.route }} ({{ $labels.direction }}) is {{ $value | humanizeDuration }} behind, and falls back further.",
		Text:    "The destination takes less than comes: raise spec.inflight, or let several bridges share the route.",
	},
	{
		Name: "MQTTBridgeDroppingMessages", For: "0m", Severity: warning,
		// A reason has no series before it is given for the first time, so that its first message is no increase.
		Expr: `sum by (namespace, route, direction, reason) ((mqtt_bridge_dropped_messages_total{$pods} unless mqtt_bridge_dropped_messages_total{$pods} offset 15m)` +
			` or increase(mqtt_bridge_dropped_messages_total{$pods}[15m])) > 0`,
		Summary: "Route {{ $labels.route }} ({{ $labels.direction }}) gave {{ $value | humanize }} messages up: {{ $labels.reason }}.",
		Text:    "They do not come again. The page on troubleshooting says of each reason what to do.",
	},
}

// OperatorAlerts are those of the operator itself, which the chart ships.
var OperatorAlerts = []Alert{
	{
		Name: "MQTTOperatorNoLeader", For: "5m", Severity: critical,
		Expr:    `absent(leader_election_master_status{$pods}) or max(leader_election_master_status{$pods}) < 1`,
		Summary: "No pod of the operator leads.",
		Text:    "Brokers go on, and nothing about them changes: no new user, no renewed certificate. See the operator's pods and their log.",
	},
	{
		Name: "MQTTOperatorReconcileErrors", For: "15m", Severity: warning,
		Expr:    `sum by (controller) (rate(controller_runtime_reconcile_errors_total{$pods}[5m])) > 0`,
		Summary: "The controller {{ $labels.controller }} fails again and again.",
		Text:    "The operator's log has the error; often it lacks a right, or the API server does not answer.",
	},
	{
		Name: "MQTTOperatorQueueStuck", For: "30m", Severity: warning,
		Expr:    `max by (controller) (min_over_time(workqueue_depth{$pods}[15m])) > 0`,
		Summary: "The queue of the controller {{ $labels.controller }} never gets empty.",
		Text:    "The operator is behind: look at its CPU, and at how long the API server takes to answer.",
	},
}

// queries puts the labels of one object into expressions.
func queries(pods, object string) *strings.Replacer {
	return strings.NewReplacer("$pods", pods, "$object", object)
}

// rules are alerts as a PrometheusRule holds them. labels are added to each.
func rules(alerts []Alert, with *strings.Replacer, labels map[string]string) []any {
	list := make([]any, 0, len(alerts))
	for i := range alerts {
		a := &alerts[i]
		all := map[string]any{"severity": a.Severity}
		for key, value := range labels {
			all[key] = value
		}
		list = append(list, map[string]any{
			"alert":       a.Name,
			"expr":        with.Replace(a.Expr),
			"for":         a.For,
			"labels":      all,
			"annotations": map[string]any{"summary": a.Summary, "description": a.Text},
		})
	}
	return list
}
