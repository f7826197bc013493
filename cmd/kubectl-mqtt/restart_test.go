// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

func TestRestart(t *testing.T) {
	kept := wellBroker("factory", "kept", func(b *v1alpha1.MQTTBroker) {
		b.Annotations = map[string]string{"team": "presses", v1alpha1.AnnotationRestartAt: "2026-01-01T00:00:00Z"}
		b.Spec.Persistence = &v1alpha1.BrokerPersistence{}
	})
	paused := wellBroker("factory", "paused", func(b *v1alpha1.MQTTBroker) { b.Annotations = map[string]string{v1alpha1.AnnotationPaused: "true"} })
	asleep := wellBroker("factory", "asleep", func(b *v1alpha1.MQTTBroker) { b.Spec.Replicas = new(int32(0)) })
	at := town(t, []client.Object{kept, paused, asleep, wellBroker("factory", "forgetful")})
	for name, note := range map[string]string{
		"kept": "", "paused": "note: the broker is paused", "asleep": "note: the broker hibernates", "forgetful": "note: the broker keeps nothing on a volume",
	} {
		before, after := &v1alpha1.MQTTBroker{}, &v1alpha1.MQTTBroker{}
		key := client.ObjectKey{Namespace: "factory", Name: name}
		if err := at.Get(t.Context(), key, before); err != nil {
			t.Fatal(err)
		}
		code, out, errs := call(t, at.opens, "restart", name)
		if code != exitYes || (note == "") != (errs == "") || !strings.HasPrefix(errs, note) {
			t.Errorf("%s: %d %s%s", name, code, out, errs)
		}
		if name == "kept" {
			golden(t, "restart", out)
		}
		if err := at.Get(t.Context(), key, after); err != nil {
			t.Fatal(err)
		}
		if before.Annotations == nil {
			before.Annotations = map[string]string{}
		}
		before.Annotations[v1alpha1.AnnotationRestartAt] = "2026-11-24T12:00:00Z"
		if len(after.Annotations) != len(before.Annotations) || after.Annotations[v1alpha1.AnnotationRestartAt] != before.Annotations[v1alpha1.AnnotationRestartAt] || after.Annotations["team"] != before.Annotations["team"] {
			t.Errorf("%s: %v", name, after.Annotations)
		}
	}
	for args, want := range map[string]int{"": exitUsage, "nobody": exitUnknown} {
		if code, _, errs := call(t, at.opens, append([]string{"restart"}, strings.Fields(args)...)...); code != want {
			t.Errorf("%q: %d %s", args, code, errs)
		}
	}
	barred := town(t, []client.Object{gen.Broker("factory", "mq")}, func(b *fake.ClientBuilder) {
		b.WithInterceptorFuncs(interceptor.Funcs{Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "mqttbrokers"}, "mq", errors.New("no"))
		}})
	})
	if code, out, errs := call(t, barred.opens, "restart", "mq"); code != exitUnknown || out != "" || !strings.Contains(errs, "forbidden") {
		t.Errorf("%d %s%s", code, out, errs)
	}
}
