// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/traces"
)

// receiver takes spans by OTLP over gRPC.
type receiver struct {
	collector.UnimplementedTraceServiceServer

	mu    sync.Mutex
	spans []*tracev1.Span
}

// Export takes spans.
func (r *receiver) Export(_ context.Context, request *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, of := range request.GetResourceSpans() {
		for _, scope := range of.GetScopeSpans() {
			r.spans = append(r.spans, scope.GetSpans()...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func newReceiver(t *testing.T) (r *receiver, address string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	r = &receiver{}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, r)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	return r, listener.Addr().String()
}

// attributes of a span, as texts.
func attributes(span *tracev1.Span) map[string]string {
	all := map[string]string{}
	for _, a := range span.GetAttributes() {
		if all[a.GetKey()] = a.GetValue().GetStringValue(); all[a.GetKey()] == "" {
			all[a.GetKey()] = strconv.FormatInt(a.GetValue().GetIntValue(), 10)
		}
	}
	return all
}

// find is a span with that name and those attributes.
func (r *receiver) find(name string, wanted map[string]string) (*tracev1.Span, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, span := range r.spans {
		has := attributes(span)
		fits := span.GetName() == name
		for key, value := range wanted {
			fits = fits && has[key] == value
		}
		if fits {
			return span, nil
		}
	}
	return nil, fmt.Errorf("none of %d spans is a %s with %v", len(r.spans), name, wanted)
}

// TestWhereTheTimeOfAReconcileGoes: each reconcile is a span, its steps are below it, and below these is what the API server was asked.
// No secret is in them.
func TestWhereTheTimeOfAReconcileGoes(t *testing.T) {
	taker, address := newReceiver(t)
	tracing, err := traces.Start(t.Context(), traces.Options{Endpoint: address, Insecure: true, Ratio: 1, Version: "story"})
	must(t, err)
	t.Cleanup(func() { must(t, tracing.End(context.Background())) })
	w := newWorldFrom(t, &world{tracing: tracing})
	broker, alice := gen.Broker(w.namespace, "mq"), gen.User(w.namespace, "alice", "mq", gen.WithPasswordFrom("chosen"))
	w.create(gen.Secret(w.namespace, "chosen", map[string]string{"password": "hunter2-and-more"}), broker, alice)
	w.ready(broker, alice)

	var reconcile, applied, write *tracev1.Span
	w.eventually("the spans arrive", func() error {
		var err error
		if reconcile, err = taker.find("reconcile MQTTUser", map[string]string{
			"mqtt_operator.kind": "MQTTUser", "mqtt_operator.name": "alice", "k8s.namespace.name": w.namespace,
		}); err != nil {
			return err
		}
		if _, err = taker.find("reconcile MQTTBroker", map[string]string{"mqtt_operator.name": "mq"}); err != nil {
			return err
		}
		if write, err = taker.find("PATCH statefulsets", map[string]string{"mqtt_operator.name": "mq-broker", "http.response.status_code": "201"}); err != nil {
			return err
		}
		if applied = taker.above(write); applied == nil { // it ends later
			return errors.New("what the StatefulSet was written within has not arrived")
		}
		if taker.above(applied) == nil {
			return errors.New("the reconcile has not arrived")
		}
		return nil
	})
	if name, within := applied.GetName(), taker.above(applied).GetName(); name != "apply" || within != "reconcile MQTTBroker" {
		t.Errorf("the StatefulSet was written within %q of %q", name, within)
	}
	if len(reconcile.GetParentSpanId()) != 0 {
		t.Error("a reconcile stands below something")
	}

	secrets := &corev1.SecretList{}
	must(t, k8s.List(t.Context(), secrets, client.InNamespace(w.namespace)))
	said := fmt.Sprint(taker.all())
	for i := range secrets.Items {
		for key, value := range secrets.Items[i].Data {
			public := []string{v1alpha1.BindingHost, v1alpha1.BindingPort, v1alpha1.BindingType, v1alpha1.BindingProvider, v1alpha1.BindingUsername}
			if len(value) > 0 && !slices.Contains(public, key) && len(value) > 5 && strings.Contains(said, string(value)) {
				t.Errorf("a span holds the value of %s in Secret %s", key, secrets.Items[i].Name)
			}
		}
	}
}

// above is the span that another one is a part of, nil where it has not come.
func (r *receiver) above(part *tracev1.Span) *tracev1.Span {
	for _, span := range r.all() {
		if slices.Equal(span.GetSpanId(), part.GetParentSpanId()) {
			return span
		}
	}
	return nil
}

func (r *receiver) all() []*tracev1.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.spans)
}
