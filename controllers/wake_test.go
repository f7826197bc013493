// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/waiting"
)

// TestManyWakeUpsShareAPass: ten thousand users that come within ten seconds cost a pass each half second, and one that
// comes alone waits for nobody.
func TestManyWakeUpsShareAPass(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	broker, other := request("factory", "mq")[0], request("factory", "other")[0]
	passive := clocktesting.NewFakePassiveClock(now)
	p := &pacer{clock: passive, users: func(context.Context, reconcile.Request) int { return 10_000 }}
	if wait := p.wait(t.Context(), broker); wait != wakeGrace {
		t.Errorf("the first waits %v, want only for what comes with it", wait)
	}
	due := map[time.Time]bool{}
	for range 10_000 {
		now = now.Add(time.Millisecond)
		passive.SetTime(now)
		wait := p.wait(t.Context(), broker)
		if wait > time.Second {
			t.Fatalf("one waits %v", wait)
		}
		due[now.Add(wait)] = true
	}
	if len(due) > 21 {
		t.Errorf("%d passes in ten seconds, want two a second", len(due))
	}
	if wait := p.wait(t.Context(), other); wait != wakeGrace {
		t.Errorf("another broker waits %v", wait)
	}
	passive.SetTime(now.Add(time.Minute))
	if wait := p.wait(t.Context(), broker); wait != wakeGrace {
		t.Errorf("after a pause one waits %v", wait)
	}
	p.forget(broker)
	if len(p.due) != 1 {
		t.Error("a broker that is gone is remembered")
	}
}

// TestAConfigurationThatIsSeenLate: the cache had the answer of the pods before it had what they answered to.
func TestAConfigurationThatIsSeenLate(t *testing.T) {
	scheme, err := Scheme()
	if err != nil {
		t.Fatal(err)
	}
	broker := &v1alpha1.MQTTBroker{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "mq"}}
	broker.Status.Revision = &v1alpha1.RevisionStatus{Desired: new(int64(5)), Applied: new(int64(5))}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(broker).Build()
	alice := types.NamespacedName{Namespace: "ns", Name: "alice"}
	for _, tc := range []struct {
		name, revision string
		kind           corev1.SecretType
		isWoken        bool
	}{
		{"what was answered", "5", v1alpha1.SecretTypeConfig, true},
		{"what was answered long ago", "4", v1alpha1.SecretTypeConfig, true},
		{"what is to be answered yet, and will wake then", "6", v1alpha1.SecretTypeConfig, false},
		{"something else", "5", v1alpha1.SecretTypeVerifier, false},
		{"nothing that says when", "", v1alpha1.SecretTypeConfig, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			waits, q := &waiting.List{}, workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
			defer q.ShutDown()
			waits.Add(alice, client.ObjectKeyFromObject(broker))
			secret := &corev1.Secret{Type: tc.kind, ObjectMeta: metav1.ObjectMeta{
				Namespace: "ns", Name: "mq-users-0", Labels: map[string]string{v1alpha1.LabelBroker: "mq"},
				Annotations: map[string]string{desired.RevisionAnnotation: tc.revision},
			}}
			configOfBroker(c, waits.Take).Update(t.Context(), event.UpdateEvent{ObjectOld: secret, ObjectNew: secret}, q)
			if woken := q.Len() == 1; woken != tc.isWoken {
				t.Errorf("woken: %v, want %v", woken, tc.isWoken)
			}
			if waits := len(waits.Take(client.ObjectKeyFromObject(broker))) == 1; waits == tc.isWoken {
				t.Errorf("waits on: %v, want %v", waits, !tc.isWoken)
			}
		})
	}
}
