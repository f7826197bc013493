// SPDX-License-Identifier: Apache-2.0

package traces

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
)

// TestWithoutAnEndpointNothingIsDone: what comes in goes out as it is.
func TestWithoutAnEndpointNothingIsDone(t *testing.T) {
	none, err := Start(t.Context(), Options{Ratio: 1})
	if err != nil || none != nil {
		t.Fatal(none, err)
	}
	inner := reconcile.Func(func(context.Context, reconcile.Request) (reconcile.Result, error) { return reconcile.Result{}, nil })
	if _, isInner := none.Reconciler("MQTTBroker", inner).(reconcile.Func); !isInner {
		t.Error("the reconciler was wrapped")
	}
	config := &rest.Config{}
	none.Wrap(config)
	if config.WrapTransport != nil {
		t.Error("the connection was wrapped")
	}
	if err := none.End(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestARatioIsAPart(t *testing.T) {
	for _, ratio := range []float64{-0.1, 1.1} {
		if _, err := Start(t.Context(), Options{Endpoint: "localhost:1", Ratio: ratio}); err == nil {
			t.Errorf("%v was taken", ratio)
		}
	}
}

func TestPathsOfTheAPI(t *testing.T) {
	for path, want := range map[string]asked{
		"/api/v1/namespaces/factory/secrets/mq-config":                             {"factory", "secrets", "mq-config"},
		"/api/v1/namespaces/factory/secrets":                                       {"factory", "secrets", ""},
		"/api/v1/namespaces/factory":                                               {"", "namespaces", "factory"},
		"/apis/apps/v1/namespaces/factory/statefulsets/mq-broker":                  {"factory", "statefulsets", "mq-broker"},
		"/apis/mqtt-operator.io/v1alpha1/namespaces/factory/mqttbrokers/mq/status": {"factory", "mqttbrokers/status", "mq"},
		"/apis/mqtt-operator.io/v1alpha1/mqttbrokers":                              {"", "mqttbrokers", ""},
		"/openid/v1/jwks": {"", "/openid", ""},
		"/":               {"", "/", ""},
	} {
		if got := parse(path); got != want {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
}

// taker takes spans by OTLP over TLS, and keeps the headers that came along.
type taker struct {
	collector.UnimplementedTraceServiceServer

	headers chan metadata.MD
}

// Export takes spans.
func (r *taker) Export(ctx context.Context, _ *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	headers, _ := metadata.FromIncomingContext(ctx)
	r.headers <- headers
	return &collector.ExportTraceServiceResponse{}, nil
}

// TestACollectorWithACAOfItsOwn gets what is sent, with the headers that it wants, and one whose certificate is of somebody else gets
// nothing.
func TestACollectorWithACAOfItsOwn(t *testing.T) {
	ca, err := pki.NewCA("collector", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := pki.Issue(ca, pki.Request{CommonName: "collector", DNSNames: []string{"localhost"}, Server: true}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(leaf.Certificate, leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &taker{headers: make(chan metadata.MD, 16)}
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&pair)))
	collector.RegisterTraceServiceServer(server, r)
	go func() { _ = server.Serve(listener) }() // ends with Stop
	t.Cleanup(server.Stop)
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, ca.Certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	inner := reconcile.Func(func(context.Context, reconcile.Request) (reconcile.Result, error) {
		return reconcile.Result{}, errors.New("what hunter2 complains about")
	})
	send := func() error {
		tracing, err := Start(t.Context(), Options{Endpoint: net.JoinHostPort("localhost", port), Ratio: 1})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = tracing.Reconciler("MQTTBroker", inner).Reconcile(t.Context(), reconcile.Request{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return tracing.End(ctx)
	}
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc")
	if err := send(); err == nil {
		t.Error("a certificate that nobody vouches for was taken")
	}
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", file)
	if err := send(); err != nil {
		t.Fatal(err)
	}
	if headers := <-r.headers; !slices.Equal(headers.Get("authorization"), []string{"Bearer abc"}) {
		t.Errorf("what came along is %v", headers)
	}
}
