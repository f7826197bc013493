// SPDX-License-Identifier: Apache-2.0

package mqttbroker

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// The operator's own metrics. They are read off the brokers and bridges in the cache when somebody asks, so that a broker that is
// gone leaves nothing behind; names, numbers and times are all they hold.
var (
	certificateEnd = prometheus.NewDesc("mqtt_operator_certificate_not_after_seconds",
		"When the certificate that a listener serves ends, in seconds since 1970.", []string{"namespace", "broker", "listener"}, nil)
	caEnd = prometheus.NewDesc("mqtt_operator_ca_not_after_seconds",
		"When the certificate of a broker's CA that signs ends, in seconds since 1970.", []string{"namespace", "broker", "ca"}, nil)
	brokerCondition = prometheus.NewDesc("mqtt_operator_broker_condition",
		"Conditions of a broker: 1 is True, 0 is False, -1 is Unknown.", []string{"namespace", "broker", "condition"}, nil)
	bridgeCondition = prometheus.NewDesc("mqtt_operator_bridge_condition",
		"Conditions of a bridge: 1 is True, 0 is False, -1 is Unknown.", []string{"namespace", "bridge", "condition"}, nil)
)

// exporter reads what the status of brokers and bridges says. There is one registry for the process, and one exporter in it; the last
// manager that was set up is read.
type exporter struct{ reader atomic.Pointer[client.Reader] }

var exported = &exporter{}

// Metrics is what describes the operator's own metrics.
func Metrics() prometheus.Collector { return exported }

// ExportMetrics puts the metrics of the brokers and bridges that reader finds into the registry of controller-runtime.
func ExportMetrics(reader client.Reader) error {
	exported.reader.Store(&reader)
	if err := metrics.Registry.Register(exported); err != nil && !isRegistered(err) {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

func isRegistered(err error) bool {
	are, ok := err.(prometheus.AlreadyRegisteredError) //nolint:errorlint // It comes unwrapped, and is a value.
	return ok && are.ExistingCollector == prometheus.Collector(exported)
}

// Describe is part of [prometheus.Collector].
func (e *exporter) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{certificateEnd, caEnd, brokerCondition, bridgeCondition} {
		descriptions <- d
	}
}

// collectTimeout bounds how long a scrape waits for a cache that has not filled yet.
const collectTimeout = 5 * time.Second

// Collect is part of [prometheus.Collector].
func (e *exporter) Collect(samples chan<- prometheus.Metric) {
	reader := e.reader.Load()
	if reader == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
	defer cancel()
	list := &v1alpha1.MQTTBrokerList{}
	if err := (*reader).List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return
	}
	for i := range list.Items {
		collect(samples, &list.Items[i])
	}
	bridges := &v1alpha1.MQTTBridgeList{}
	if err := (*reader).List(ctx, bridges, client.UnsafeDisableDeepCopy); err != nil {
		return
	}
	for i := range bridges.Items {
		b := &bridges.Items[i]
		collectConditions(samples, bridgeCondition, b.Namespace, b.Name, b.Status.Conditions)
	}
}

func collect(samples chan<- prometheus.Metric, b *v1alpha1.MQTTBroker) {
	gauge := func(d *prometheus.Desc, value float64, label string) {
		samples <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, b.Namespace, b.Name, label)
	}
	for i := range b.Status.Listeners {
		if l := &b.Status.Listeners[i]; l.CertNotAfter != nil {
			gauge(certificateEnd, float64(l.CertNotAfter.Unix()), l.Name)
		}
	}
	for _, ca := range []struct {
		name   string
		status *v1alpha1.CAStatus
	}{{"server", b.Status.CA}, {"client", b.Status.ClientCA}} {
		if ca.status != nil && ca.status.NotAfter != nil {
			gauge(caEnd, float64(ca.status.NotAfter.Unix()), ca.name)
		}
	}
	collectConditions(samples, brokerCondition, b.Namespace, b.Name, b.Status.Conditions)
}

func collectConditions(samples chan<- prometheus.Metric, d *prometheus.Desc, namespace, name string, conditions []metav1.Condition) {
	for i := range conditions {
		c := &conditions[i]
		value := map[metav1.ConditionStatus]float64{metav1.ConditionTrue: 1, metav1.ConditionFalse: 0, metav1.ConditionUnknown: -1}[c.Status]
		samples <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, namespace, name, c.Type)
	}
}
