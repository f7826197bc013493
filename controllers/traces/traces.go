// SPDX-License-Identifier: Apache-2.0

package traces

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/crypto/x509roots/fallback/bundle"
	"google.golang.org/grpc/credentials"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Options say who takes spans.
type Options struct {
	// Endpoint takes them by OTLP over gRPC, as host:port; empty: nobody does. Headers come from the variable
	// OTEL_EXPORTER_OTLP_HEADERS, and the CA to trust from the file that OTEL_EXPORTER_OTLP_CERTIFICATE names, else it is a public one.
	Endpoint string
	// Insecure sends them in plain text.
	Insecure bool
	// Ratio is the part of all reconciles that is traced, 0 to 1.
	Ratio float64
	// Version of the operator.
	Version string
}

// Tracing hands out spans. Nil hands out none.
type Tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

const scope = "github.com/mqtt-operator/mqtt-operator"

// Start begins to hand out spans, unless nobody takes them. An endpoint that does not answer keeps nothing from its way: what it does
// not take in time is dropped.
func Start(ctx context.Context, o Options) (*Tracing, error) {
	if o.Endpoint == "" {
		return nil, nil
	}
	if o.Ratio < 0 || o.Ratio > 1 {
		return nil, fmt.Errorf("the ratio %v is not between 0 and 1", o.Ratio)
	}
	options := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(o.Endpoint)}
	switch {
	case o.Insecure:
		options = append(options, otlptracegrpc.WithInsecure())
	case os.Getenv("OTEL_EXPORTER_OTLP_CERTIFICATE") == "":
		options = append(options, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: publicCAs()})))
	}
	exporter, err := otlptracegrpc.New(ctx, options...)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname() // in a pod it is the pod's name
	of, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "mqtt-operator"), attribute.String("service.version", o.Version), attribute.String("service.instance.id", host),
	), resource.WithFromEnv())
	if err != nil {
		return nil, err
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter), sdktrace.WithResource(of), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(o.Ratio))),
	)
	return &Tracing{provider: provider, tracer: provider.Tracer(scope)}, nil
}

// publicCAs are those that browsers trust: the operator's image has no system that would know any.
func publicCAs() *x509.CertPool {
	if pool, err := x509.SystemCertPool(); err == nil && !pool.Equal(x509.NewCertPool()) {
		return pool
	}
	pool := x509.NewCertPool()
	for root := range bundle.Roots() {
		certificate, err := x509.ParseCertificate(root.Certificate)
		switch {
		case err != nil: // one less
		case root.Constraint == nil:
			pool.AddCert(certificate)
		default:
			pool.AddCertWithConstraint(certificate, root.Constraint)
		}
	}
	return pool
}

// End sends what is still held.
func (t *Tracing) End(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// Reconciler is the inner one with a span for each reconcile of an object of that kind.
func (t *Tracing) Reconciler(kind string, inner reconcile.Reconciler) reconcile.Reconciler {
	if t == nil {
		return inner
	}
	return &reconciler{tracer: t.tracer, kind: kind, inner: inner}
}

type reconciler struct {
	tracer trace.Tracer
	kind   string
	inner  reconcile.Reconciler
}

// Reconcile does what the inner one does.
func (r *reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	ctx, span := r.tracer.Start(ctx, "reconcile "+r.kind, trace.WithAttributes(
		attribute.String("k8s.namespace.name", request.Namespace), attribute.String("mqtt_operator.kind", r.kind), attribute.String("mqtt_operator.name", request.Name),
		attribute.String("mqtt_operator.reconcile_id", string(controller.ReconcileIDFromContext(ctx))), // the one in the log
	))
	defer span.End()
	result, err := r.inner.Reconcile(ctx, request)
	switch {
	case err != nil:
		span.SetAttributes(attribute.String("mqtt_operator.result", "failed"), attribute.String("error.type", kindOf(err)))
		span.SetStatus(codes.Error, "")
	case result.RequeueAfter > 0:
		span.SetAttributes(attribute.String("mqtt_operator.result", "again"), attribute.Float64("mqtt_operator.again_after", result.RequeueAfter.Seconds()))
	default:
		span.SetAttributes(attribute.String("mqtt_operator.result", "done"))
	}
	return result, err
}

// kindOf says what sort of error it is. Its text is not told: it may quote what it complains about.
func kindOf(err error) string {
	if reason := apierrors.ReasonForError(err); reason != "" {
		return string(reason)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "timeout"
	}
	return "other"
}

// Wrap has each request to the API server that belongs to a reconcile make a span, and the API server hear of it.
func (t *Tracing) Wrap(config *rest.Config) {
	if t == nil {
		return
	}
	config.Wrap(func(inner http.RoundTripper) http.RoundTripper { return &transport{tracer: t.tracer, inner: inner} })
}

type transport struct {
	tracer trace.Tracer
	inner  http.RoundTripper
}

// RoundTrip does what the inner one does.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	if !trace.SpanFromContext(request.Context()).IsRecording() {
		return t.inner.RoundTrip(request) // a watch, or a reconcile that is not traced
	}
	asked := parse(request.URL.Path)
	ctx, span := t.tracer.Start(request.Context(), request.Method+" "+asked.resource, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("http.request.method", request.Method), attribute.String("server.address", request.URL.Hostname()),
		attribute.String("k8s.namespace.name", asked.namespace), attribute.String("mqtt_operator.resource", asked.resource), attribute.String("mqtt_operator.name", asked.name),
	))
	defer span.End()
	request = request.Clone(ctx)
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(request.Header))
	response, err := t.inner.RoundTrip(request)
	if err != nil {
		span.SetAttributes(attribute.String("error.type", kindOf(err)))
		span.SetStatus(codes.Error, "")
		return response, err
	}
	span.SetAttributes(attribute.Int("http.response.status_code", response.StatusCode))
	if response.StatusCode >= http.StatusBadRequest {
		span.SetStatus(codes.Error, "")
	}
	return response, nil
}

// WrappedRoundTripper is for client-go, which looks for what is inside.
func (t *transport) WrappedRoundTripper() http.RoundTripper { return t.inner }

// asked is what a path of the Kubernetes API is about.
type asked struct{ namespace, resource, name string }

// parse reads /api/v1/… and /apis/GROUP/VERSION/…. resource has the subresource behind it, as in pods/status.
func parse(path string) asked {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		parts = parts[3:]
	default:
		return asked{resource: "/" + parts[0]}
	}
	a := asked{}
	if parts[0] == "namespaces" && len(parts) > 2 {
		a.namespace, parts = parts[1], parts[2:]
	}
	a.resource = parts[0]
	if len(parts) > 1 {
		a.name = parts[1]
	}
	if len(parts) > 2 {
		a.resource += "/" + strings.Join(parts[2:], "/")
	}
	return a
}
