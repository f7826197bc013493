// SPDX-License-Identifier: Apache-2.0

package mqttbroker

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/scope"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// memory answers as the operator's cache does when it is asked not to copy.
type memory struct {
	client.Client
	users   []v1alpha1.MQTTUser
	secrets map[types.NamespacedName]*corev1.Secret
	policy  v1alpha1.MQTTAccessPolicy
}

func (m *memory) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	switch list := list.(type) {
	case *v1alpha1.MQTTUserList:
		list.Items = append(list.Items, m.users...)
	case *v1alpha1.MQTTAccessPolicyList:
		list.Items = append(list.Items, m.policy)
	}
	return nil
}

func (m *memory) Get(_ context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	secret, isSecret := object.(*corev1.Secret)
	if found := m.secrets[key]; isSecret && found != nil {
		*secret = *found
		return nil
	}
	return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
}

// BenchmarkPass is what one pass over a broker costs before anything is written, when one of its users has changed.
func BenchmarkPass(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) { benchmarkPass(b, n) })
	}
}

func benchmarkPass(b *testing.B, n int) {
	b.Helper()
	m := &memory{secrets: map[types.NamespacedName]*corev1.Secret{}, policy: *gen.Selecting(
		gen.Policy("factory", "shared", gen.Rule(v1alpha1.ACLAllow, "a/%u/#", v1alpha1.ACLPublish)), map[string]string{"role": "sensor"})}
	for i := range n {
		user := gen.User("factory", fmt.Sprintf("user-%05d", i), "mq", gen.WithLabels(map[string]string{"role": "sensor"}),
			gen.Allow("factory/%u/#", v1alpha1.ACLPublish), gen.Allow("orders/%u", v1alpha1.ACLSubscribe))
		user.UID = types.UID(user.Name)
		verifier := desired.Verifier(user, verdict.Credentials{Proof: verdict.Proof{
			Password: "$sha256$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY",
			SCRAM:    "$scram-sha-256$i=4096$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY",
		}})
		verifier.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(user, v1alpha1.GroupVersion.WithKind("MQTTUser"))}
		m.users, m.secrets[client.ObjectKeyFromObject(verifier)] = append(m.users, *user), verifier
	}
	broker := gen.Broker("factory", "mq")
	r := &Reconciler{Client: m, Scope: &scope.Scope{Reader: m}}
	look := func() *pass {
		p := &pass{facts: &verdict.Facts{Broker: broker, Spec: broker.Resolved(), Now: time.Now()}}
		for _, read := range []func(context.Context, *verdict.Facts) error{r.observeUsers, r.observePolicies} {
			if err := read(b.Context(), p.facts); err != nil {
				b.Fatal(err)
			}
		}
		return p
	}
	first := look()
	if err := issue(b.Context(), first); err != nil {
		b.Fatal(err)
	}
	material := first.material
	before, err := desired.Build(first.facts, material, verdict.Judge(first.facts, material))
	if err != nil {
		b.Fatal(err)
	}
	var config []corev1.Secret
	for _, object := range before.Objects {
		if secret, ok := object.(*corev1.Secret); ok && secret.Type == v1alpha1.SecretTypeConfig {
			config = append(config, *secret)
		}
	}
	filter := v1alpha1.TopicFilter("x")
	changed := m.users[n/2].Spec.ACL[0].Filter
	b.ReportAllocs()
	for b.Loop() {
		m.users[n/2].Spec.ACL[0].Filter, filter = filter, changed
		p := look()
		p.facts.ConfigSecrets = config
		if _, err := desired.Build(p.facts, material, verdict.Judge(p.facts, material)); err != nil {
			b.Fatal(err)
		}
	}
}
