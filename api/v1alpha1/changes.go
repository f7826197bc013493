// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "strings"

// Change says what becomes of a broker's pods when a field of its spec changes.
type Change string

// What becomes of pods.
const (
	ChangeLive    Change = "live"    // running pods take it, or it concerns objects beside them
	ChangeRestart Change = "restart" // pods are replaced
	ChangeScale   Change = "scale"   // pods are added or ended, and the others stay
	ChangeRefused Change = "refused" // the API server takes no change
)

// brokerChanges is the one place that says which field of MQTTBroker restarts. A field that does not stand here is as the
// one that it belongs to. A test changes each field that is alive and looks at the pod template; another compares the
// tables of docs/mqttbroker.md.
var brokerChanges = map[string]Change{
	"spec.image":                        ChangeRestart,
	"spec.replicas":                     ChangeScale,
	"spec.listeners":                    ChangeLive,
	"spec.authentication":               ChangeLive,
	"spec.ca":                           ChangeLive,
	"spec.limits":                       ChangeLive,
	"spec.persistence":                  ChangeRefused,
	"spec.persistence.size":             ChangeLive,
	"spec.persistence.storageClassName": ChangeRefused,
	"spec.persistence.retention":        ChangeLive,
	"spec.persistence.sync":             ChangeLive,
	"spec.updates":                      ChangeLive,
	"spec.updates.drain.timeout":        ChangeRestart, // it is in the grace period
	"spec.allowedNamespaces":            ChangeLive,
	"spec.networkPolicy":                ChangeLive,
	"spec.podDisruptionBudget":          ChangeLive,
	"spec.monitoring":                   ChangeLive,
	"spec.logging":                      ChangeLive,
	"spec.pod":                          ChangeRestart,
}

// BrokerChange is what a change of a field of MQTTBroker does, such as spec.listeners[].port. It is empty for a field that
// is not alive.
func BrokerChange(field string) Change { return changeIn(brokerChanges, field) }

// bridgeChanges says the same of the pods of a bridge.
var bridgeChanges = map[string]Change{
	"spec":           ChangeLive,
	"spec.brokerRef": ChangeRefused,
	"spec.replicas":  ChangeScale,
	"spec.image":     ChangeRestart,
	"spec.pod":       ChangeRestart,
}

// BridgeChange is what a change of a field of MQTTBridge does, such as spec.routes[].filter.
func BridgeChange(field string) Change { return changeIn(bridgeChanges, field) }

func changeIn(table map[string]Change, field string) Change {
	for field != "" {
		if change, found := table[strings.TrimSuffix(field, "[]")]; found {
			return change
		}

		field = field[:max(0, strings.LastIndexByte(field, '.'))]
	}

	return ""
}
