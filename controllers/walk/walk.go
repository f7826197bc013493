// SPDX-License-Identifier: Apache-2.0

// Package walk runs the named steps of a reconciler in order and turns the error of the one that ended the walk into
// what controller-runtime should do next.
package walk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// Step is one named part of a pass over an object.
type Step[P any] struct {
	Name string
	Do   func(ctx context.Context, pass P) error
}

// Steps run in order until one returns an error.
type Steps[P any] []Step[P]

// Run wraps the error of the step that ended the walk with the step's name. Where the walk is traced, each step is.
func (s Steps[P]) Run(ctx context.Context, pass P) error {
	around := trace.SpanFromContext(ctx)
	for _, step := range s {
		do := step.Do
		if around.IsRecording() {
			do = step.traced(around.TracerProvider().Tracer("github.com/mqtt-operator/mqtt-operator"))
		}
		if err := do(ctx, pass); err != nil {
			return fmt.Errorf("%s: %w", step.Name, err)
		}
	}
	return nil
}

// traced is the step within a span, which says under which reason it ended the walk.
func (s Step[P]) traced(tracer trace.Tracer) func(context.Context, P) error {
	return func(ctx context.Context, pass P) error {
		ctx, span := tracer.Start(ctx, s.Name)
		defer span.End()
		err := s.Do(ctx, pass)
		var (
			stalled *verdict.Stalled
			waiting *verdict.Waiting
		)
		switch {
		case errors.As(err, &stalled):
			span.SetAttributes(attribute.String("mqtt_operator.reason", string(stalled.Reason)))
		case errors.As(err, &waiting):
			span.SetAttributes(attribute.String("mqtt_operator.reason", string(waiting.Reason)))
		case err != nil:
			span.SetStatus(codes.Error, "") // not the text: it may quote what it complains about
		}
		return err
	}
}

// conflictDelay lets the cache catch up with what was written.
const conflictDelay = 20 * time.Millisecond

// Result is what to do after a walk that ended with err: a stalled object is left alone, a waiting one looked at
// again in time, a conflict of versions repeated soon and in silence, an object in a namespace that ends left to end, all
// else repeated with back-off. again is when to look at an object on which all went well; 0 means when something changes.
func Result(err error, again time.Duration) (ctrl.Result, error) {
	var (
		stalled *verdict.Stalled
		waiting *verdict.Waiting
	)
	switch {
	case err == nil:
		return ctrl.Result{RequeueAfter: again}, nil
	case errors.As(err, &waiting):
		return ctrl.Result{RequeueAfter: waiting.For}, nil
	case errors.As(err, &stalled):
		return ctrl.Result{RequeueAfter: again}, nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return ctrl.Result{}, nil
	case apierrors.IsConflict(err):
		return ctrl.Result{RequeueAfter: conflictDelay}, nil
	default:
		return ctrl.Result{}, err
	}
}
