// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

var update = flag.Bool("update", false, "write hack/gitops/testdata anew")

// statuses is where hack/gitops finds objects to judge by the rules of Argo CD and Flux.
const statuses = "../hack/gitops/testdata"

// TestStatusesThatToolsJudge takes objects off the API server in the states that a tool of GitOps has to tell apart, and
// compares them with what hack/gitops tries its rules on. So those rules are tried on what the operator really writes.
func TestStatusesThatToolsJudge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	broker, user := gen.Broker(w.namespace, "plant"), gen.User(w.namespace, "press", "plant")
	policy := gen.Policy(w.namespace, "shared", gen.Rule(v1alpha1.ACLAllow, "a/#", v1alpha1.ACLSubscribe))
	bridge := gen.Bridge(w.namespace, "cloud", "plant")

	// Nobody looks: what the API server itself says of a new object.
	w.stop()
	w.create(broker, user, policy, bridge)
	for name, object := range map[string]client.Object{"broker-new": broker, "user-new": user, "policy-new": policy, "bridge-new": bridge} {
		w.keeps(name, object)
	}
	w.startOperator()
	w.ready(broker, user, bridge)
	w.keeps("broker-ready", broker)
	w.keeps("user-ready", user)
	w.keeps("bridge-ready", bridge)
	w.is(policy, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonNoUsers)
	w.keeps("policy-without-users", policy)

	w.bridge("cloud", 0).saying(func(s *admin.BridgeStatus) {
		s.Remote.Connected, s.Remote.Reason, s.Remote.Error = false, "NotAuthorized", "mqtts://mqtt.example.com: the broker refuses username or password; correct the credentials"
		s.Routes[0].Connected = false
	})
	w.is(bridge, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNotAuthorized)
	w.keeps("bridge-remote-away", bridge)
	w.bridge("cloud", 0).saying(nil)
	change(w, bridge, func(b *v1alpha1.MQTTBridge) { b.Spec.Suspend = new(true) })
	w.is(bridge, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonSuspended)
	w.keeps("bridge-suspended", bridge)
	change(w, bridge, func(b *v1alpha1.MQTTBridge) {
		b.Spec.Suspend, b.Spec.Routes = nil, append(b.Spec.Routes, gen.Route("back", v1alpha1.RouteIn, "telemetry/+"))
	})
	w.is(bridge, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonRouteLoop)
	w.keeps("bridge-loop", bridge)
	must(t, k8s.Delete(t.Context(), bridge))

	lost := gen.User(w.namespace, "lost", "elsewhere")
	w.create(lost)
	w.is(lost, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonBrokerNotFound)
	w.keeps("user-without-broker", lost)
	second := gen.User(w.namespace, "second", "plant", gen.WithUsername("press"))
	w.create(second)
	w.is(second, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonUsernameConflict)
	w.keeps("user-conflict", second)
	change(w, user, func(u *v1alpha1.MQTTUser) { u.Spec.Suspend = new(true) })
	w.is(user, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonSuspended)
	w.keeps("user-suspended", user)

	// The pod does not answer that it has the newest.
	w.kubelet.mute("plant", true)
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Limits = &v1alpha1.BrokerLimits{ReceiveMaximum: new(int32(10))} })
	w.is(broker, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonConfigPending)
	w.keeps("broker-unanswered", broker)
	w.kubelet.mute("plant", false)
	w.ready(broker)
	change(w, broker, func(b *v1alpha1.MQTTBroker) { gen.WithListener(gen.FromSecret("other", 8884, "missing"))(b) })
	w.is(broker, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonTLSSecretNotUsable)
	w.keeps("broker-stalled", broker)
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Listeners = b.Spec.Listeners[:1] })
	w.ready(broker)
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Annotations = map[string]string{v1alpha1.AnnotationPaused: "true"} })
	w.is(broker, v1alpha1.ConditionPaused, metav1.ConditionTrue, v1alpha1.ReasonPaused)
	w.keeps("broker-paused", broker)
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Annotations, b.Spec.Replicas = nil, new(int32(0)) })
	w.is(broker, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonHibernated)
	w.keeps("broker-hibernated", broker)
	change(w, user, func(u *v1alpha1.MQTTUser) { u.Spec.Suspend = nil })
	w.is(user, v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonHibernated)
	w.keeps("user-of-a-hibernated-broker", user)

	// A change that nobody has looked at yet: its status speaks of the one before.
	w.stop()
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Replicas = nil })
	w.keeps("broker-changed", broker)
}

// keeps compares an object with its file, in all that a tool could judge by.
func (w *world) keeps(name string, object client.Object) {
	w.t.Helper()
	w.settle()
	kind := strings.TrimPrefix(fmt.Sprintf("%T", object), "*v1alpha1.")
	found := &unstructured.Unstructured{}
	found.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	must(w.t, k8s.Get(w.t.Context(), client.ObjectKeyFromObject(object), found))
	status, _, _ := unstructured.NestedMap(found.Object, "status")
	for field := range status {
		if field != "observedGeneration" && field != "conditions" {
			delete(status, field)
		}
	}
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": found.GetAPIVersion(), "kind": kind, "status": status,
		"metadata": map[string]any{"name": object.GetName(), "namespace": w.namespace, "generation": found.GetGeneration()},
	})
	must(w.t, err)
	got := strings.ReplaceAll(string(text), w.namespace, "factory")
	got = regexp.MustCompile(`lastTransitionTime: .*`).ReplaceAllString(got, `lastTransitionTime: "2026-11-28T12:00:00Z"`)
	file := filepath.Join(statuses, name+".yaml")
	if *update {
		must(w.t, os.WriteFile(file, []byte(got), 0o600))
		return
	}
	want, err := os.ReadFile(file)
	must(w.t, err)
	if diff := cmp.Diff(string(want), got); diff != "" {
		w.t.Errorf("%s (go test ./controllers -run TestStatusesThatToolsJudge -update writes it anew):\n%s", file, diff)
	}
}
