// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"strings"
)

// OperatorRules are the alerts about the operator itself, as the spec of a PrometheusRule: what the chart ships. pods is a
// pattern of the names of its pods.
func OperatorRules(namespace, pods string) map[string]any {
	return map[string]any{"groups": []any{map[string]any{
		"name": "mqtt-operator", "rules": rules(OperatorAlerts, operatorQueries(namespace, pods), nil),
	}}}
}

// OperatorDashboard is the dashboard of the operator and all that it looks after, as Grafana reads it.
func OperatorDashboard(namespace, pods string) string {
	board := newDashboard("MQTT operator "+namespace, "operator/"+namespace, operatorPanels, operatorQueries(namespace, pods))
	return board.text("  ")
}

// operatorQueries puts the labels of the operator's pods into expressions. What it says of a broker or bridge is told apart by
// their names, so that no other labels are needed there.
func operatorQueries(namespace, pods string) *strings.Replacer {
	return queries(`namespace="`+namespace+`",pod=~"`+pods+`"`, "")
}
