// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
	"github.com/mqtt-operator/mqtt-operator/test/promql"
)

// monitoringKinds are as much of the Prometheus operator as ours knows.
func monitoringKinds() []*apiextensionsv1.CustomResourceDefinition {
	var list []*apiextensionsv1.CustomResourceDefinition
	for _, kind := range []schema.GroupVersionKind{desired.PodMonitorKind(), desired.PrometheusRuleKind()} {
		singular := strings.ToLower(kind.Kind)
		list = append(list, &apiextensionsv1.CustomResourceDefinition{
			ObjectMeta: metav1.ObjectMeta{Name: singular + "s." + kind.Group},
			Spec: apiextensionsv1.CustomResourceDefinitionSpec{
				Group: kind.Group, Scope: apiextensionsv1.NamespaceScoped,
				Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: singular + "s", Singular: singular, Kind: kind.Kind, ListKind: kind.Kind + "List"},
				Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
					Name: kind.Version, Served: true, Storage: true,
					Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
						Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{"spec": {Type: "object", XPreserveUnknownFields: new(true)}},
					}},
				}},
			},
		})
	}
	return list
}

func wished(enabled bool) *v1alpha1.Monitoring {
	object := func(labels map[string]v1alpha1.LabelValue) *v1alpha1.MonitoringObject {
		return &v1alpha1.MonitoringObject{Enabled: &enabled, Labels: labels}
	}
	release := map[string]v1alpha1.LabelValue{"release": "prometheus"}
	return &v1alpha1.Monitoring{PodMonitor: object(release), PrometheusRule: object(release), Dashboard: object(nil)}
}

func (w *world) untyped(kind schema.GroupVersionKind, name string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{Object: map[string]any{}}
	object.SetGroupVersionKind(kind)
	object.SetNamespace(w.namespace)
	object.SetName(name)
	return object
}

// TestMonitoring: the kinds are absent, then there, then the objects are not wanted any more, then the kinds go away.
func TestMonitoring(t *testing.T) {
	w := newWorld(t)
	broker, bridge := gen.Broker(w.namespace, "mq"), gen.Bridge(w.namespace, "cloud", "mq")
	broker.Spec.Monitoring, bridge.Spec.Monitoring = wished(true), wished(true)
	w.create(broker, bridge)

	// Absent, they are said to be, and nothing else suffers.
	w.ready(broker, bridge)
	for _, object := range []client.Object{broker, bridge} {
		c := w.is(object, v1alpha1.ConditionMonitoringReady, metav1.ConditionFalse, v1alpha1.ReasonMonitoringKindMissing)
		if !strings.Contains(c.Message, "no kind PodMonitor and no PrometheusRule of monitoring.coreos.com/v1") {
			t.Errorf("the message does not say what is missing: %s", c.Message)
		}
	}
	board := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "mq-dashboard"}}
	w.exists(board)
	if board.Labels["grafana_dashboard"] != "1" || !metav1.IsControlledBy(board, broker) || board.Labels[v1alpha1.LabelAllow] != v1alpha1.AllowOwned {
		t.Errorf("the dashboard has the labels %v", board.Labels)
	}
	if !slices.Equal(broker.Status.Monitoring, []string{"ConfigMap"}) {
		t.Errorf("status.monitoring is %v", broker.Status.Monitoring)
	}
	must(t, k8s.Delete(t.Context(), board))
	w.exists(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "mq-dashboard"}})

	// They are noticed when they come.
	_, err := envtest.InstallCRDs(apiServer, envtest.CRDInstallOptions{CRDs: monitoringKinds()})
	must(t, err)
	installed := true
	uninstall := func() {
		if installed {
			must(t, envtest.UninstallCRDs(apiServer, envtest.CRDInstallOptions{CRDs: monitoringKinds()}))
		}
		installed = false
	}
	t.Cleanup(uninstall)
	all := []string{"ConfigMap", "PodMonitor", "PrometheusRule"}
	w.is(broker, v1alpha1.ConditionMonitoringReady, metav1.ConditionTrue, v1alpha1.ReasonMonitoringReady)
	w.is(bridge, v1alpha1.ConditionMonitoringReady, metav1.ConditionTrue, v1alpha1.ReasonMonitoringReady)
	if !slices.Equal(broker.Status.Monitoring, all) || !slices.Equal(bridge.Status.Monitoring, all) {
		t.Errorf("status.monitoring is %v and %v", broker.Status.Monitoring, bridge.Status.Monitoring)
	}
	monitor, rule := w.untyped(desired.PodMonitorKind(), "mq-broker"), w.untyped(desired.PrometheusRuleKind(), "mq-broker")
	bridgeRule := w.untyped(desired.PrometheusRuleKind(), "cloud-bridge")
	for _, object := range []*unstructured.Unstructured{monitor, rule, bridgeRule, w.untyped(desired.PodMonitorKind(), "cloud-bridge")} {
		w.exists(object)
		if object.GetLabels()["release"] != "prometheus" || object.GetLabels()[v1alpha1.LabelManagedBy] != v1alpha1.ManagedByValue {
			t.Errorf("%s %s has the labels %v", object.GetKind(), object.GetName(), object.GetLabels())
		}
	}
	if !metav1.IsControlledBy(monitor, broker) || !metav1.IsControlledBy(bridgeRule, bridge) {
		t.Error("they must go with their broker and bridge")
	}
	selector, _, _ := unstructured.NestedStringMap(monitor.Object, "spec", "selector", "matchLabels")
	pod := &corev1.Pod{}
	must(t, k8s.Get(t.Context(), client.ObjectKey{Namespace: w.namespace, Name: "mq-broker-0"}, pod))
	for key, value := range selector {
		if pod.Labels[key] != value {
			t.Errorf("the PodMonitor looks for %s=%s, and the pod has %v", key, value, pod.Labels)
		}
	}
	endpoints, _, _ := unstructured.NestedSlice(monitor.Object, "spec", "podMetricsEndpoints")
	endpoint, _ := endpoints[0].(map[string]any)
	if !slices.ContainsFunc(pod.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.Name == endpoint["port"] && p.ContainerPort == 9440 }) {
		t.Errorf("the PodMonitor looks for port %v, and the pod has %v", endpoint["port"], pod.Spec.Containers[0].Ports)
	}

	// A broker that hibernates is not down.
	alerts := func() error {
		if err := k8s.Get(t.Context(), client.ObjectKeyFromObject(rule), rule); err != nil {
			return err
		}
		spec, _, _ := unstructured.NestedMap(rule.Object, "spec")
		if _, there := promql.Alerts(spec)["MQTTBrokerDown"]; there {
			return errors.New("the alert is there")
		}
		return nil
	}
	if alerts() == nil {
		t.Error("without MQTTBrokerDown nobody learns of it")
	}
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Replicas = new(int32(0)) })
	w.eventually("MQTTBrokerDown goes", alerts)
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Replicas = nil })

	// Somebody else's is left alone, and Ready does not depend on it.
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Monitoring = wished(false) })
	w.gone(monitor)
	w.gone(rule)
	w.gone(board)
	w.is(broker, v1alpha1.ConditionMonitoringReady, metav1.ConditionTrue, v1alpha1.ReasonNoMonitoring)
	if len(broker.Status.Monitoring) != 0 {
		t.Errorf("status.monitoring is %v", broker.Status.Monitoring)
	}
	foreign := w.untyped(desired.PodMonitorKind(), "mq-broker")
	w.create(foreign)
	version := foreign.GetResourceVersion()
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Monitoring = wished(true) })
	w.is(broker, v1alpha1.ConditionMonitoringReady, metav1.ConditionFalse, v1alpha1.ReasonObjectConflict)
	w.ready(broker)
	must(t, k8s.Get(t.Context(), client.ObjectKeyFromObject(foreign), foreign))
	if foreign.GetResourceVersion() != version {
		t.Error("somebody else's PodMonitor was written")
	}
	must(t, k8s.Delete(t.Context(), foreign))
	w.is(broker, v1alpha1.ConditionMonitoringReady, metav1.ConditionTrue, v1alpha1.ReasonMonitoringReady)

	// When the kinds go away under our hands, that is no error. A bridge is looked at every few seconds.
	uninstall()
	w.is(bridge, v1alpha1.ConditionMonitoringReady, metav1.ConditionFalse, v1alpha1.ReasonMonitoringKindMissing)
	w.ready(bridge)
	if !slices.Equal(bridge.Status.Monitoring, []string{"ConfigMap"}) {
		t.Errorf("status.monitoring is %v", bridge.Status.Monitoring)
	}
	if text := w.log.String(); strings.Contains(text, "Reconciler error") {
		t.Errorf("the operator's log has errors:\n%s", text)
	}
}

// TestOperatorHasWhatIsAskedFor compares the operator's own alerts and dashboard, and what those of a broker and a bridge ask of
// it, with what it shows.
func TestOperatorHasWhatIsAskedFor(t *testing.T) {
	w := newWorld(t)
	w.elects = true
	w.startOperator()
	// Two bridges in a circle have every condition that there is.
	broker, bridge := gen.Broker(w.namespace, "mq"), gen.Bridge(w.namespace, "cloud", "mq", speaking311, gen.WithRoutes(gen.Route("up", v1alpha1.RouteOut, "a/#")))
	back := gen.Bridge(w.namespace, "back", "mq", speaking311, gen.WithRoutes(gen.Route("down", v1alpha1.RouteIn, "a/+")))
	broker.Spec.Monitoring, bridge.Spec.Monitoring = wished(true), wished(true)
	w.create(broker, bridge, back)
	w.ready(broker, bridge, back)

	ofBroker := desired.Monitoring(&verdict.Facts{Broker: broker, Spec: broker.Resolved()})
	ofBridge := desired.BridgeMonitoring(&verdict.BridgeFacts{Bridge: bridge, Spec: bridge.Resolved()})
	w.eventually("everything that is asked for is shown", func() error {
		families, err := metrics.Registry.Gather()
		if err != nil {
			return err
		}
		scrape := promql.NewScrape(families...)
		panels, err := promql.Queries(desired.OperatorDashboard("a", "b"))
		if err != nil {
			return err
		}
		problems, compared := scrape.Compare(promql.Alerts(desired.OperatorRules("a", "b")), panels, func(string) bool { return true })
		for _, object := range append(ofBroker, ofBridge...) {
			alerts, panels := map[string]string{}, []promql.Query(nil)
			switch object := object.(type) {
			case *corev1.ConfigMap:
				for _, text := range object.Data {
					if panels, err = promql.Queries(text); err != nil {
						return err
					}
				}
			case *unstructured.Unstructured:
				spec, _, _ := unstructured.NestedMap(object.Object, "spec")
				alerts = promql.Alerts(spec)
			}
			more, n := scrape.Compare(alerts, panels, func(expr string) bool { return strings.Contains(expr, "mqtt_operator_") })
			problems, compared = append(problems, more...), compared+n
		}
		if len(problems) > 0 || compared < 20 {
			return fmt.Errorf("%d compared:\n%s", compared, strings.Join(problems, "\n"))
		}
		return nil
	})
}
