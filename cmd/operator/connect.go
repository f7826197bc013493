// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"go.opentelemetry.io/otel"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/mqtt-operator/mqtt-operator/controllers/traces"
)

// lastSpans is how long the end of the operator waits for who takes its spans.
const lastSpans = 2 * time.Second

func traceFlags(o *traces.Options) {
	flag.StringVar(&o.Endpoint, "otlp-endpoint", "", "who takes OpenTelemetry traces of reconciles by OTLP over gRPC, as host:port; empty: nobody")
	flag.BoolVar(&o.Insecure, "otlp-insecure", false, "send traces in plain text")
	flag.Float64Var(&o.Ratio, "otlp-ratio", 1, "which part of all reconciles is traced, 0 to 1")
}

// connect is the connection to the cluster. What reconciles ask by it is traced, if somebody takes the spans.
func connect(ctx context.Context, o traces.Options) (*rest.Config, *traces.Tracing, error) {
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, nil, fmt.Errorf("connection to the cluster: %w", err)
	}
	// The API server shares itself out among its clients (API Priority and Fairness), and what the operator asks at the
	// same time is bounded by its workers. A bound here would only make ten thousand new users wait in a queue.
	config.QPS = -1
	o.Version = version
	tracing, err := traces.Start(ctx, o)
	if err != nil {
		return nil, nil, fmt.Errorf("--otlp-endpoint, --otlp-ratio: %w", err)
	}
	if tracing != nil {
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
			ctrl.Log.WithName("traces").Info("spans were not taken", "error", err.Error())
		}))
	}
	tracing.Wrap(config)
	return config, tracing, nil
}

// endTracing sends what is still held.
func endTracing(tracing *traces.Tracing) {
	ctx, cancel := context.WithTimeout(context.Background(), lastSpans)
	defer cancel()
	if err := tracing.End(ctx); err != nil {
		ctrl.Log.WithName("traces").Info("the last spans were not taken", "error", err.Error())
	}
}
