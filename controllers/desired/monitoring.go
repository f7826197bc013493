// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// PodMonitorKind and PrometheusRuleKind are how the Prometheus operator is asked. The objects are untyped: its module is no
// dependency of ours, and a cluster need not have it.
func PodMonitorKind() schema.GroupVersionKind { return monitoringKind("PodMonitor") }

// PrometheusRuleKind see [PodMonitorKind].
func PrometheusRuleKind() schema.GroupVersionKind { return monitoringKind("PrometheusRule") }

func monitoringKind(kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "monitoring.coreos.com", Version: "v1", Kind: kind}
}

// GrafanaLabel is what Grafana's sidecar looks for on a ConfigMap.
const GrafanaLabel = "grafana_dashboard"

// watched is what a broker and a bridge are for those who watch them.
type watched struct {
	// kind is broker or bridge: the label by which the operator's metrics name it.
	kind            string
	namespace, name string
	// objects is the name of PodMonitor and PrometheusRule, dashboard that of the ConfigMap.
	objects, dashboard string
	labels, selector   map[string]string
	// pods is a pattern of the pods' names.
	pods   string
	wants  v1alpha1.ResolvedMonitoring
	alerts []Alert
	panels []panel
}

// Monitoring are the objects by which others watch the broker, as far as the spec wants them.
func Monitoring(f *verdict.Facts) []client.Object {
	return watchedBroker(f).wanted()
}

// BridgeMonitoring are the objects by which others watch the bridge, as far as the spec wants them.
func BridgeMonitoring(f *verdict.BridgeFacts) []client.Object {
	return watchedBridge(f).wanted()
}

// MonitoringOf are the objects of that kind and name with nothing in them, by kind: what may have to be taken back.
func MonitoringOf(broker *v1alpha1.MQTTBroker) map[string]client.Object {
	return emptyMonitoring(broker.Namespace, v1alpha1.MonitoringName(broker.Name), v1alpha1.DashboardName(broker.Name))
}

// BridgeMonitoringOf see [MonitoringOf].
func BridgeMonitoringOf(bridge *v1alpha1.MQTTBridge) map[string]client.Object {
	return emptyMonitoring(bridge.Namespace, v1alpha1.BridgeMonitoringName(bridge.Name), v1alpha1.BridgeDashboardName(bridge.Name))
}

func emptyMonitoring(namespace, objects, dashboard string) map[string]client.Object {
	empty := map[string]client.Object{"ConfigMap": &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: dashboard}}}
	for _, kind := range []schema.GroupVersionKind{PodMonitorKind(), PrometheusRuleKind()} {
		object := &unstructured.Unstructured{Object: map[string]any{}}
		object.SetGroupVersionKind(kind)
		object.SetNamespace(namespace)
		object.SetName(objects)
		empty[kind.Kind] = object
	}
	return empty
}

func watchedBroker(f *verdict.Facts) *watched {
	name := f.Broker.Name
	return &watched{
		kind: "broker", namespace: f.Broker.Namespace, name: name,
		objects: v1alpha1.MonitoringName(name), dashboard: v1alpha1.DashboardName(name),
		labels: v1alpha1.BrokerLabels(name), selector: v1alpha1.BrokerSelector(name),
		pods:   v1alpha1.StatefulSetName(name) + "-[0-9]+",
		wants:  f.Spec.Monitoring,
		alerts: slices.DeleteFunc(slices.Clone(BrokerAlerts), func(a Alert) bool { return a.NeedsPods && f.Spec.Hibernated() }),
		panels: brokerPanels,
	}
}

func watchedBridge(f *verdict.BridgeFacts) *watched {
	name := f.Bridge.Name
	return &watched{
		kind: "bridge", namespace: f.Bridge.Namespace, name: name,
		objects: v1alpha1.BridgeMonitoringName(name), dashboard: v1alpha1.BridgeDashboardName(name),
		labels: v1alpha1.BridgeLabels(name, f.Spec.Broker.Name), selector: v1alpha1.BridgeSelector(name),
		// What a Deployment adds to the names of its pods holds no dash, so that another bridge's pods do not fit.
		pods:  v1alpha1.BridgeDeploymentName(name) + "-[0-9a-z]+-[0-9a-z]+",
		wants: f.Spec.Monitoring,
		alerts: slices.DeleteFunc(slices.Clone(BridgeAlerts), func(a Alert) bool {
			return a.NeedsPods && f.Spec.Replicas == 0 || a.NeedsFlow && !f.Spec.IsRunning()
		}),
		panels: bridgePanels,
	}
}

func (w *watched) wanted() []client.Object {
	var objects []client.Object
	if w.wants.PodMonitor.Enabled {
		objects = append(objects, w.podMonitor())
	}
	if w.wants.PrometheusRule.Enabled {
		objects = append(objects, w.prometheusRule())
	}
	if w.wants.Dashboard.Enabled {
		objects = append(objects, w.dashboardMap())
	}
	return objects
}

// queries puts the labels of the object into expressions.
func (w *watched) queries() *strings.Replacer {
	return queries(
		`namespace="`+w.namespace+`",pod=~"`+w.pods+`"`,
		`namespace="`+w.namespace+`",`+w.kind+`="`+w.name+`"`,
	)
}

func (w *watched) untyped(kind schema.GroupVersionKind, added map[string]string, spec map[string]any) *unstructured.Unstructured {
	object := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	object.SetGroupVersionKind(kind)
	object.SetNamespace(w.namespace)
	object.SetName(w.objects)
	object.SetLabels(w.labelled(added))
	return object
}

// labelled are the labels that people want, and ours.
func (w *watched) labelled(added map[string]string) map[string]string {
	labels := map[string]string{}
	maps.Copy(labels, added)
	maps.Copy(labels, w.labels)
	return labels
}

func (w *watched) podMonitor() *unstructured.Unstructured {
	selector := map[string]any{}
	for key, value := range w.selector {
		selector[key] = value
	}
	return w.untyped(PodMonitorKind(), w.wants.PodMonitor.Labels, map[string]any{
		"selector":            map[string]any{"matchLabels": selector},
		"podMetricsEndpoints": []any{map[string]any{"port": healthPortName, "path": contract.MetricsPath}},
	})
}

func (w *watched) prometheusRule() *unstructured.Unstructured {
	labels := map[string]string{"namespace": w.namespace, w.kind: w.name}
	return w.untyped(PrometheusRuleKind(), w.wants.PrometheusRule.Labels, map[string]any{
		"groups": []any{map[string]any{"name": "mqtt-" + w.kind + "-" + w.name, "rules": rules(w.alerts, w.queries(), labels)}},
	})
}

func (w *watched) dashboardMap() *corev1.ConfigMap {
	added := map[string]string{GrafanaLabel: "1"}
	maps.Copy(added, w.wants.Dashboard.Labels)
	labels := w.labelled(added)
	labels[v1alpha1.LabelAllow] = v1alpha1.AllowOwned // lets the cache hold it, and opens it to no reference
	board := newDashboard("MQTT "+w.kind+" "+w.namespace+"/"+w.name, w.kind+"/"+w.namespace+"/"+w.name, w.panels, w.queries())
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: w.dashboard, Labels: labels},
		// Grafana's sidecar puts the files of all namespaces into one directory.
		Data: map[string]string{"mqtt-" + w.kind + "_" + w.namespace + "_" + w.name + ".json": board.text("")},
	}
}
