// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
	"github.com/mqtt-operator/mqtt-operator/test/promql"
)

const (
	operatorNamespace = "mqtt-operator-system"
	operatorPods      = "mqtt-operator-[0-9a-z]+-[0-9a-z]+"
)

var everything = &v1alpha1.Monitoring{
	PodMonitor: &v1alpha1.MonitoringObject{Enabled: new(true)}, PrometheusRule: &v1alpha1.MonitoringObject{Enabled: new(true)},
	Dashboard: &v1alpha1.MonitoringObject{Enabled: new(true)},
}

// brokerObjects are those by which the broker factory/plant is watched, bridgeObjects those of the bridge factory/cloud.
func brokerObjects(change ...gen.BrokerOption) []client.Object {
	b := gen.Broker("factory", "plant", change...)
	b.Spec.Monitoring = everything
	return desired.Monitoring(&verdict.Facts{Broker: b, Spec: b.Resolved()})
}

func bridgeObjects(change ...gen.BridgeOption) []client.Object {
	b := gen.Bridge("factory", "cloud", "plant", change...)
	b.Spec.Monitoring = everything
	return desired.BridgeMonitoring(&verdict.BridgeFacts{Bridge: b, Spec: b.Resolved()})
}

// ruleSpec is the spec of the PrometheusRule among objects.
func ruleSpec(t *testing.T, objects []client.Object) map[string]any {
	t.Helper()
	for _, object := range objects {
		if rule, ok := object.(*unstructured.Unstructured); ok && rule.GetKind() == "PrometheusRule" {
			spec, _, _ := unstructured.NestedMap(rule.Object, "spec")
			return spec
		}
	}
	t.Fatal("no PrometheusRule")
	return nil
}

// board is the dashboard among objects.
func board(t *testing.T, objects []client.Object) string {
	t.Helper()
	for _, object := range objects {
		if configMap, ok := object.(*corev1.ConfigMap); ok {
			for _, text := range configMap.Data {
				return text
			}
		}
	}
	t.Fatal("no dashboard")
	return ""
}

// queries are the expressions of a dashboard.
func queries(t *testing.T, text string) []promql.Query {
	t.Helper()
	list, err := promql.Queries(text)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func promtool(t *testing.T, arguments ...string) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Fatal("promtool is missing: it is in what Debian calls prometheus; hack/test.sh packages installs it")
	}
	if out, err := exec.CommandContext(t.Context(), "promtool", arguments...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(arguments[:2], " "), err, out)
	}
}

func write(t *testing.T, folder, name string, content any) string {
	t.Helper()
	text, err := yaml.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// fired is an alert that is expected: its labels beside those of every alert, and its summary.
type fired struct {
	labels  map[string]string
	summary string
}

// trial is one alert under one set of series.
type trial struct {
	reason string
	alert  string
	series map[string]string
	at     string
	fires  []fired
}

// subject is whose alerts are tried.
type subject struct {
	alerts []desired.Alert
	spec   func(*testing.T) map[string]any
	// labels are those of every alert.
	labels map[string]string
	trials []trial
}

var subjects = map[string]subject{
	"broker": {
		alerts: desired.BrokerAlerts,
		spec:   func(t *testing.T) map[string]any { t.Helper(); return ruleSpec(t, brokerObjects()) },
		labels: map[string]string{"namespace": "factory", "broker": "plant"},
		trials: brokerTrials,
	},
	"bridge": {
		alerts: desired.BridgeAlerts,
		spec:   func(t *testing.T) map[string]any { t.Helper(); return ruleSpec(t, bridgeObjects()) },
		labels: map[string]string{"namespace": "factory", "bridge": "cloud"},
		trials: bridgeTrials,
	},
	"operator": {
		alerts: desired.OperatorAlerts,
		spec:   func(*testing.T) map[string]any { return desired.OperatorRules(operatorNamespace, operatorPods) },
		trials: operatorTrials,
	},
}

const plant = `namespace="factory",pod="plant-broker-0"`

var inPlant = map[string]string{"pod": "plant-broker-0"}

var brokerTrials = []trial{
	{"the pod of another broker is not this one's", "MQTTBrokerDown", map[string]string{`mqtt_broker_build_info{namespace="factory",pod="plant-b-broker-0"}`: "1x10"}, "6m", []fired{{summary: "No pod of the broker answers Prometheus."}}},
	{"it may take some minutes", "MQTTBrokerDown", map[string]string{`mqtt_broker_build_info{` + plant + `}`: "1 _x10"}, "8m", nil},
	{"it answers", "MQTTBrokerDown", map[string]string{`mqtt_broker_build_info{` + plant + `}`: "1x10"}, "6m", nil},
	{"Unknown is not True", "MQTTBrokerNotReady", map[string]string{`mqtt_operator_broker_condition{namespace="factory",broker="plant",condition="Ready",pod="a"}`: "-1x20"}, "11m", []fired{{summary: "What the broker's spec says is not in force."}}},
	{"another condition", "MQTTBrokerNotReady", map[string]string{`mqtt_operator_broker_condition{namespace="factory",broker="plant",condition="Insecure",pod="a"}`: "0x20"}, "11m", nil},
	{"a replica whose cache is behind", "MQTTBrokerNotReady", map[string]string{
		`mqtt_operator_broker_condition{namespace="factory",broker="plant",condition="Ready",pod="a"}`: "0x20",
		`mqtt_operator_broker_condition{namespace="factory",broker="plant",condition="Ready",pod="b"}`: "1x20",
	}, "11m", nil},
	{"one of two listeners", "MQTTBrokerListenerDown", map[string]string{
		`mqtt_broker_listener_up{` + plant + `,listener="mqtts"}`: "0x10", `mqtt_broker_listener_up{` + plant + `,listener="web"}`: "1x10",
	}, "6m", []fired{{with(inPlant, "listener", "mqtts"), "Listener mqtts of pod plant-broker-0 accepts no connections."}}},
	{"all are up", "MQTTBrokerListenerDown", map[string]string{`mqtt_broker_listener_up{` + plant + `,listener="mqtts"}`: "1x10"}, "6m", nil},
	{
		"one message a second", "MQTTBrokerDroppingMessages",
		map[string]string{`mqtt_broker_messages_dropped_total{` + plant + `,reason="queue_messages"}`: "0+60x30"},
		"20m",
		[]fired{{with(inPlant, "reason", "queue_messages"), "Pod plant-broker-0 drops 1 messages a second: queue_messages."}},
	},
	{"what expires was meant to", "MQTTBrokerDroppingMessages", map[string]string{`mqtt_broker_messages_dropped_total{` + plant + `,reason="expired"}`: "0+60x30"}, "20m", nil},
	{"long ago", "MQTTBrokerDroppingMessages", map[string]string{`mqtt_broker_messages_dropped_total{` + plant + `,reason="queue_messages"}`: "700x30"}, "20m", nil},
	{
		"a hundred more each minute", "MQTTBrokerQueueGrowing",
		map[string]string{`mqtt_broker_queue_messages{` + plant + `}`: "0+100x240"},
		"200m",
		[]fired{{inPlant, "20k messages wait in pod plant-broker-0, and they get more."}},
	},
	{"many, and no more", "MQTTBrokerQueueGrowing", map[string]string{`mqtt_broker_queue_messages{` + plant + `}`: "20000x240"}, "200m", nil},
	{"few", "MQTTBrokerQueueGrowing", map[string]string{`mqtt_broker_queue_messages{` + plant + `}`: "0+1x240"}, "200m", nil},
	{"the disk is full", "MQTTBrokerStorageDegraded", map[string]string{`mqtt_broker_storage_fault{` + plant + `}`: "1x5"}, "2m", []fired{{inPlant, "Pod plant-broker-0 cannot write to its disk."}}},
	{"it is not", "MQTTBrokerStorageDegraded", map[string]string{`mqtt_broker_storage_fault{` + plant + `}`: "0x5"}, "2m", nil},
	{"it stays so", "MQTTBrokerConfigNotApplied", map[string]string{`mqtt_broker_config_fault{` + plant + `}`: "1x20"}, "11m", []fired{{inPlant, "Pod plant-broker-0 cannot put its newest configuration into force."}}},
	{"a moment", "MQTTBrokerConfigNotApplied", map[string]string{`mqtt_broker_config_fault{` + plant + `}`: "1x5 0x15"}, "11m", nil},
	{
		"ten days", "MQTTBrokerCertificateExpiring",
		map[string]string{`mqtt_operator_certificate_not_after_seconds{namespace="factory",broker="plant",listener="mqtts",pod="a"}`: "864000x70"},
		"61m",
		[]fired{{map[string]string{"listener": "mqtts"}, "The certificate of listener mqtts ends in 9d 22h 59m 0s."}},
	},
	{"a month", "MQTTBrokerCertificateExpiring", map[string]string{`mqtt_operator_certificate_not_after_seconds{namespace="factory",broker="plant",listener="mqtts",pod="a"}`: "2592000x70"}, "61m", nil},
	{"once", "MQTTBrokerPanics", map[string]string{`mqtt_broker_panics_total{` + plant + `}`: "0x5 1x60"}, "10m", []fired{{inPlant, "Pod plant-broker-0 closed connections because their handling panicked."}}},
	{"long ago", "MQTTBrokerPanics", map[string]string{`mqtt_broker_panics_total{` + plant + `}`: "3x60"}, "10m", nil},
}

const (
	cloud   = `namespace="factory",pod="cloud-bridge-7d9f-abcde"`
	standBy = `namespace="factory",pod="cloud-bridge-7d9f-fghij"`
)

var bridgeTrials = []trial{
	{
		"the pod of the bridge cloud-bridge-x is not this one's", "MQTTBridgeDown",
		map[string]string{`mqtt_bridge_build_info{namespace="factory",pod="cloud-bridge-x-bridge-7d9f-abcde"}`: "1x10"},
		"6m",
		[]fired{{summary: "No pod of the bridge answers Prometheus."}},
	},
	{"it answers", "MQTTBridgeDown", map[string]string{`mqtt_bridge_build_info{` + cloud + `}`: "1x10"}, "6m", nil},
	{"False", "MQTTBridgeNotReady", map[string]string{`mqtt_operator_bridge_condition{namespace="factory",bridge="cloud",condition="Ready",pod="a"}`: "0x20"}, "11m", []fired{{summary: "What the bridge's spec says is not in force."}}},
	{"True", "MQTTBridgeNotReady", map[string]string{`mqtt_operator_bridge_condition{namespace="factory",bridge="cloud",condition="Ready",pod="a"}`: "1x20"}, "11m", nil},
	{"another condition", "MQTTBridgeLooping", map[string]string{`mqtt_operator_bridge_condition{namespace="factory",bridge="cloud",condition="Ready",pod="a"}`: "1x20"}, "11m", nil},
	{"in a circle", "MQTTBridgeLooping", map[string]string{
		`mqtt_operator_bridge_condition{namespace="factory",bridge="cloud",condition="Looping",pod="a"}`: "1x20",
	}, "6m", []fired{{summary: "Messages go round through the bridge and others without end."}}},
	{"neither pod is connected", "MQTTBridgeNotConnected", map[string]string{
		`mqtt_bridge_end_connected{` + cloud + `,end="remote"}`: "0x10", `mqtt_bridge_end_connected{` + standBy + `,end="remote"}`: "0x10",
	}, "6m", []fired{{map[string]string{"end": "remote"}, "The remote end is not connected."}}},
	{"who stands by is not meant to be", "MQTTBridgeNotConnected", map[string]string{
		`mqtt_bridge_end_connected{` + cloud + `,end="remote"}`: "1x10", `mqtt_bridge_end_connected{` + standBy + `,end="remote"}`: "0x10",
	}, "6m", nil},
	{"one of two routes", "MQTTBridgeRouteNotConnected", map[string]string{
		`mqtt_bridge_connected{` + cloud + `,route="alarms"}`: "0x20", `mqtt_bridge_connected{` + cloud + `,route="telemetry"}`: "1x20",
	}, "11m", []fired{{map[string]string{"route": "alarms"}, "Messages of route alarms cannot flow."}}},
	{"all flow", "MQTTBridgeRouteNotConnected", map[string]string{`mqtt_bridge_connected{` + cloud + `,route="alarms"}`: "1x20"}, "11m", nil},
	{
		"half a minute more each minute", "MQTTBridgeLagGrowing",
		map[string]string{`mqtt_bridge_lag_seconds{` + cloud + `,route="alarms",direction="out"}`: "0+30x40"},
		"20m",
		[]fired{{map[string]string{"pod": "cloud-bridge-7d9f-abcde", "route": "alarms", "direction": "out"}, "Route alarms (out) is 10m 0s behind, and falls back further."}},
	},
	{"behind, and not further", "MQTTBridgeLagGrowing", map[string]string{`mqtt_bridge_lag_seconds{` + cloud + `,route="alarms",direction="out"}`: "600x40"}, "20m", nil},
	{
		"the very first", "MQTTBridgeDroppingMessages",
		map[string]string{`mqtt_bridge_dropped_messages_total{` + cloud + `,route="alarms",direction="out",reason="TooLarge"}`: "_x20 1x20"},
		"25m",
		[]fired{{map[string]string{"route": "alarms", "direction": "out", "reason": "TooLarge"}, "Route alarms (out) gave 1 messages up: TooLarge."}},
	},
	{
		"one more after long", "MQTTBridgeDroppingMessages",
		map[string]string{`mqtt_bridge_dropped_messages_total{` + cloud + `,route="alarms",direction="out",reason="TooLarge"}`: "0+1x60"},
		"60m",
		[]fired{{map[string]string{"route": "alarms", "direction": "out", "reason": "TooLarge"}, "Route alarms (out) gave 15 messages up: TooLarge."}},
	},
	{"long ago", "MQTTBridgeDroppingMessages", map[string]string{`mqtt_bridge_dropped_messages_total{` + cloud + `,route="alarms",direction="out",reason="TooLarge"}`: "5x60"}, "30m", nil},
}

const (
	leader = `namespace="mqtt-operator-system",pod="mqtt-operator-7d9f-abcde"`
	waiter = `namespace="mqtt-operator-system",pod="mqtt-operator-7d9f-fghij"`
)

var operatorTrials = []trial{
	{"nobody won", "MQTTOperatorNoLeader", map[string]string{
		`leader_election_master_status{` + leader + `,name="mqtt-operator"}`: "0x10", `leader_election_master_status{` + waiter + `,name="mqtt-operator"}`: "0x10",
	}, "6m", []fired{{summary: "No pod of the operator leads."}}},
	{
		"nobody is there", "MQTTOperatorNoLeader",
		map[string]string{`leader_election_master_status{namespace="other",pod="mqtt-operator-7d9f-abcde",name="mqtt-operator"}`: "1x10"},
		"6m",
		[]fired{{map[string]string{"namespace": operatorNamespace}, "No pod of the operator leads."}},
	},
	{"one of two leads", "MQTTOperatorNoLeader", map[string]string{
		`leader_election_master_status{` + leader + `,name="mqtt-operator"}`: "1x10", `leader_election_master_status{` + waiter + `,name="mqtt-operator"}`: "0x10",
	}, "6m", nil},
	{
		"one in ten seconds", "MQTTOperatorReconcileErrors",
		map[string]string{`controller_runtime_reconcile_errors_total{` + leader + `,controller="mqttbroker"}`: "0+6x60"},
		"40m",
		[]fired{{map[string]string{"controller": "mqttbroker"}, "The controller mqttbroker fails again and again."}},
	},
	{"a few, once", "MQTTOperatorReconcileErrors", map[string]string{`controller_runtime_reconcile_errors_total{` + leader + `,controller="mqttbroker"}`: "0x20 7x40"}, "40m", nil},
	{"never empty; who waits has an empty one", "MQTTOperatorQueueStuck", map[string]string{
		`workqueue_depth{` + leader + `,controller="mqttbroker",name="mqttbroker"}`: "3x90", `workqueue_depth{` + waiter + `,controller="mqttbroker",name="mqttbroker"}`: "0x90",
	}, "60m", []fired{{map[string]string{"controller": "mqttbroker"}, "The queue of the controller mqttbroker never gets empty."}}},
	{"empty now and then", "MQTTOperatorQueueStuck", map[string]string{`workqueue_depth{` + leader + `,controller="mqttbroker",name="mqttbroker"}`: "3x5 0 3x5 0 3x5 0 3x5 0 3x5 0 3x5 0 3x5 0 3x5 0 3x5 0 3x5 0"}, "60m", nil},
}

func with(labels map[string]string, key, value string) map[string]string {
	all := maps.Clone(labels)
	all[key] = value
	return all
}

// TestAlertsFire has promtool try each alert: that it fires with the labels and in the words that are meant, and that it is
// silent where nothing is wrong.
func TestAlertsFire(t *testing.T) {
	for name, s := range subjects {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			rules := write(t, folder, "rules.yaml", s.spec(t))
			promtool(t, "check", "rules", rules)
			var tests []any
			for _, c := range s.trials {
				tests = append(tests, c.test(t, &s))
			}
			promtool(t, "test", "rules", write(t, folder, "tests.yaml", map[string]any{
				"rule_files": []string{"rules.yaml"}, "evaluation_interval": "1m", "tests": tests,
			}))
		})
	}
}

// test is the trial as promtool reads it.
func (c *trial) test(t *testing.T, s *subject) map[string]any {
	t.Helper()
	at := slices.IndexFunc(s.alerts, func(a desired.Alert) bool { return a.Name == c.alert })
	if at < 0 {
		t.Fatalf("there is no alert %s", c.alert)
	}
	a := &s.alerts[at]
	var series, expected []any
	for _, name := range slices.Sorted(maps.Keys(c.series)) {
		series = append(series, map[string]any{"series": name, "values": c.series[name]})
	}
	for _, f := range c.fires {
		labels := map[string]string{"severity": a.Severity}
		maps.Copy(labels, s.labels)
		maps.Copy(labels, f.labels)
		expected = append(expected, map[string]any{
			"exp_labels": labels, "exp_annotations": map[string]string{"summary": f.summary, "description": a.Text},
		})
	}
	return map[string]any{
		"name": c.alert + ": " + c.reason, "interval": "1m", "input_series": series,
		"alert_rule_test": []any{map[string]any{"eval_time": c.at, "alertname": c.alert, "exp_alerts": expected}},
	}
}

func TestEveryAlertIsTried(t *testing.T) {
	for name, s := range subjects {
		for _, a := range s.alerts {
			tried := func(fires bool) bool {
				return slices.ContainsFunc(s.trials, func(c trial) bool { return c.alert == a.Name && (len(c.fires) > 0) == fires })
			}
			if !tried(true) || !tried(false) {
				t.Errorf("%s of the %s needs a trial in which it fires, and one in which it does not", a.Name, name)
			}
		}
	}
}

// TestAlertsThatMakeNoSenseAreLeftOut: nobody is to be woken because of what the spec says.
func TestAlertsThatMakeNoSenseAreLeftOut(t *testing.T) {
	asleep := promql.Alerts(ruleSpec(t, brokerObjects(func(b *v1alpha1.MQTTBroker) { b.Spec.Replicas = new(int32(0)) })))
	if _, there := asleep["MQTTBrokerDown"]; there || len(asleep) != len(desired.BrokerAlerts)-1 {
		t.Errorf("a broker that hibernates has %q", slices.Sorted(maps.Keys(asleep)))
	}
	none := promql.Alerts(ruleSpec(t, bridgeObjects(func(b *v1alpha1.MQTTBridge) { b.Spec.Replicas = new(int32(0)) })))
	suspended := promql.Alerts(ruleSpec(t, bridgeObjects(func(b *v1alpha1.MQTTBridge) { b.Spec.Suspend = new(true) })))
	for name, left := range map[string]map[string]string{"without pods": none, "suspended": suspended} {
		if _, there := left["MQTTBridgeNotConnected"]; there {
			t.Errorf("a bridge %s has %q", name, slices.Sorted(maps.Keys(left)))
		}
	}
	if _, there := suspended["MQTTBridgeDown"]; !there {
		t.Error("the pods of a suspended bridge are to answer")
	}
}

// TestDashboardsArePromQL has promtool read every expression of every dashboard.
func TestDashboardsArePromQL(t *testing.T) {
	for name, text := range map[string]string{
		"broker": board(t, brokerObjects()), "bridge": board(t, bridgeObjects()), "operator": desired.OperatorDashboard(operatorNamespace, operatorPods),
	} {
		var rules []any
		for i, q := range queries(t, text) {
			rules = append(rules, map[string]any{"record": fmt.Sprintf("panel:%s:%d", name, i), "expr": q.Expr})
		}
		promtool(t, "check", "rules", write(t, t.TempDir(), "rules.yaml", map[string]any{"groups": []any{map[string]any{"name": name, "rules": rules}}}))
	}
}
