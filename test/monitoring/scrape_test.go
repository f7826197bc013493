// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/bridge"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/engine"
	"github.com/mqtt-operator/mqtt-operator/test/promql"
)

const patience = time.Minute

// startBroker runs a broker on loopback that lets everybody do what filters allow.
func startBroker(t *testing.T, filters ...string) (*engine.Engine, string) {
	t.Helper()
	rules := []acl.Rule{}
	for _, filter := range append(filters, "$mqtt-bridge/#") {
		rules = append(rules, acl.Rule{Effect: acl.Allow, Actions: []acl.Action{acl.Publish, acl.Subscribe}, Filter: filter})
	}
	e, err := engine.New(engine.Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	config := contract.Config{Broker: contract.Broker{
		Format: contract.Format, Name: "factory/plant", Revision: 1,
		Listeners: []contract.Listener{{Name: "mqtt", Protocol: contract.TCP, Address: "127.0.0.1:0", Anonymous: &contract.Anonymous{ACL: rules}}},
		Limits:    contract.DefaultLimits(), Logging: contract.DefaultLogging(), Persistence: contract.Persistence{Sync: contract.SyncInterval},
	}}
	if err := e.Apply(&config); err != nil {
		t.Fatal(err)
	}
	return e, e.Status().Listeners[0].Address
}

// scraped is what stands at /metrics.
func scraped(t *testing.T, handler http.Handler) promql.Scrape {
	t.Helper()
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, contract.MetricsPath, nil))
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(recorder.Body)
	if err != nil || recorder.Code != http.StatusOK {
		t.Fatalf("status %d: %v", recorder.Code, err)
	}
	list := make([]*dto.MetricFamily, 0, len(families))
	for _, family := range families {
		list = append(list, family)
	}
	return promql.NewScrape(list...)
}

// compare holds every alert and every panel against a scrape, except those that ask the operator.
func compare(t *testing.T, scrape promql.Scrape, objects []client.Object) {
	t.Helper()
	problems, compared := scrape.Compare(promql.Alerts(ruleSpec(t, objects)), queries(t, board(t, objects)), func(expr string) bool {
		return !strings.Contains(expr, "mqtt_operator_")
	})
	for _, problem := range problems {
		t.Error(problem)
	}
	if compared < 10 {
		t.Errorf("only %d expressions were compared", compared)
	}
}

func TestBrokerHasWhatIsAskedFor(t *testing.T) {
	e, _ := startBroker(t, "#")
	compare(t, scraped(t, e.Metrics().Handler()), brokerObjects())
}

// TestBridgeHasWhatIsAskedFor: a bridge that has carried one message and given one up.
func TestBridgeHasWhatIsAskedFor(t *testing.T) {
	_, local := startBroker(t, "#")
	_, remote := startBroker(t, "welcome/#")
	end := func(address, prefix string) contract.BridgeEnd {
		return contract.BridgeEnd{
			Endpoints: []string{"mqtt://" + address}, Version: 5, ClientIDPrefix: prefix, KeepAliveSeconds: 30, SessionExpirySeconds: 3600,
		}
	}
	b := bridge.New(bridge.Options{MinBackoff: 20 * time.Millisecond})
	t.Cleanup(b.Close)
	route := contract.BridgeRoute{Name: "telemetry", Direction: contract.Out, Filter: "#", MaxQoS: 1}
	if err := b.Apply(&contract.Bridge{
		Format: contract.BridgeFormat, Name: "factory/cloud", Revision: 1, Local: end(local, "cloud"), Remote: end(remote, "cloud"),
		Routes: []contract.BridgeRoute{route}, Inflight: 10, Logging: contract.DefaultLogging(),
	}); err != nil {
		t.Fatal(err)
	}
	await(t, "the route is connected", func() bool { return b.Status().Routes[0].Connected })
	press := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + local).SetClientID("press"))
	if token := press.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatal(token.Error())
	}
	t.Cleanup(func() { press.Disconnect(0) })
	for _, topic := range []string{"welcome/1", "forbidden/1"} {
		if token := press.Publish(topic, 1, false, "x"); !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	await(t, "one message is passed on and one given up", func() bool {
		status := b.Status().Routes[0]
		return status.Forwarded == 1 && len(status.Dropped) == 1
	})
	compare(t, scraped(t, b.Handler()), bridgeObjects())
}

// await asks until it is so.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("it does not come: %s", what)
		case <-tick.C:
		}
	}
}
