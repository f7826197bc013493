// SPDX-License-Identifier: Apache-2.0

package mqttbroker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/condition"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestACertificateIsComplainedAboutInTime(t *testing.T) {
	ca, err := pki.NewCA("ca", now)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := pki.Issue(ca, pki.Request{CommonName: "x", Server: true}, now)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := pki.Leaf(pair.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	l := verdict.Listener{Spec: v1alpha1.ResolvedListener{Name: "mqtts"}, Leaf: leaf}
	lists := verdict.Listener{Spec: v1alpha1.ResolvedListener{Name: "mqtts"}, ListsEnd: leaf.NotAfter}
	for name, tc := range map[string]struct {
		reason   string
		listener verdict.Listener
		at       time.Time
		want     metav1.ConditionStatus
		says     string
	}{
		"fifteen days ahead":       {reason: "there is time", listener: l, at: leaf.NotAfter.Add(-15 * 24 * time.Hour), want: metav1.ConditionFalse, says: "No certificate"},
		"fourteen days ahead":      {reason: "somebody has to act", listener: l, at: leaf.NotAfter.Add(-14 * 24 * time.Hour), want: metav1.ConditionTrue, says: "listener mqtts ends at " + leaf.NotAfter.Format(time.RFC3339)},
		"too late":                 {reason: "it is worse now, not better", listener: l, at: leaf.NotAfter.Add(time.Hour), want: metav1.ConditionTrue, says: "listener mqtts"},
		"a revocation list":        {reason: "it has an end, too", listener: lists, at: leaf.NotAfter, want: metav1.ConditionTrue, says: "a revocation list of listener mqtts"},
		"a listener in plain text": {reason: "it has nothing that could end", listener: verdict.Listener{}, at: now, want: metav1.ConditionFalse},
	} {
		t.Run(name, func(t *testing.T) {
			set := &condition.Set{Now: tc.at}
			setExpiring(set, &pass{facts: &verdict.Facts{Now: tc.at}, judged: &verdict.Judgement{Listeners: []verdict.Listener{tc.listener}}})
			c := set.Get(v1alpha1.ConditionCertificateExpiring)
			if c.Status != tc.want || !strings.Contains(c.Message, tc.says) {
				t.Errorf("got %s %q: %s", c.Status, c.Message, tc.reason)
			}
		})
	}
}

func TestStorageIsPartOfReady(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		pods   []verdict.PodFacts
		want   metav1.ConditionStatus
	}{
		"no answer":     {reason: "nobody knows", pods: []verdict.PodFacts{{}}, want: metav1.ConditionUnknown},
		"all is well":   {reason: "it can write", pods: []verdict.PodFacts{{Answer: &verdict.Answer{}}}, want: metav1.ConditionTrue},
		"the disk fell": {reason: "what must be kept is refused", pods: []verdict.PodFacts{{Answer: &verdict.Answer{Storage: "no space left at 0x1234"}}}, want: metav1.ConditionFalse},
	} {
		t.Run(name, func(t *testing.T) {
			set := &condition.Set{Now: now}
			setStorageReady(set, &verdict.Facts{Broker: gen.Broker("factory", "mq"), Spec: v1alpha1.ResolvedBroker{Replicas: 1}, Pods: tc.pods})
			c := set.Get(v1alpha1.ConditionStorageReady)
			if c.Status != tc.want || strings.Contains(c.Message, "0x") {
				t.Errorf("got %s %q: %s", c.Status, c.Message, tc.reason)
			}
		})
	}
}

// TestADrainedBrokerIsNotAvailable: a person who forgets to end a drain is told, and so is who looks for his clients.
func TestADrainedBrokerIsNotAvailable(t *testing.T) {
	pod := func(name string, ready, drained bool) verdict.PodFacts {
		p := verdict.PodFacts{Answer: &verdict.Answer{Draining: drained}}
		p.Pod.Name = name
		if ready {
			p.Pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}
		return p
	}
	for name, tc := range map[string]struct {
		pods   []verdict.PodFacts
		want   metav1.ConditionStatus
		reason v1alpha1.ConditionReason
		says   string
	}{
		"nobody asked for one": {pods: []verdict.PodFacts{pod("mq-broker-0", true, false)}, want: metav1.ConditionTrue, reason: v1alpha1.ReasonPodsReady},
		"a drain": {
			pods: []verdict.PodFacts{pod("mq-broker-0", true, true)}, want: metav1.ConditionFalse, reason: v1alpha1.ReasonDrained,
			says: "(mq-broker-0). kubectl mqtt drain mq -n factory --end",
		},
		"another pod lets clients in": {pods: []verdict.PodFacts{pod("mq-broker-0", true, true), pod("mq-broker-1", true, false)}, want: metav1.ConditionTrue, reason: v1alpha1.ReasonPodsReady},
		"the other one is not ready":  {pods: []verdict.PodFacts{pod("mq-broker-0", true, true), pod("mq-broker-1", false, false)}, want: metav1.ConditionFalse, reason: v1alpha1.ReasonDrained},
		"one that does not even run":  {pods: []verdict.PodFacts{pod("mq-broker-0", false, true)}, want: metav1.ConditionFalse, reason: v1alpha1.ReasonPodsNotReady},
		"one that has not answered":   {pods: []verdict.PodFacts{{Pod: pod("mq-broker-0", true, false).Pod}}, want: metav1.ConditionTrue, reason: v1alpha1.ReasonPodsReady},
	} {
		t.Run(name, func(t *testing.T) {
			set, f := &condition.Set{Now: now}, &verdict.Facts{Broker: gen.Broker("factory", "mq"), Spec: v1alpha1.ResolvedBroker{Replicas: 1}, Pods: tc.pods}
			setAvailable(set, f)
			if c := set.Get(v1alpha1.ConditionAvailable); c.Status != tc.want || c.Reason != string(tc.reason) || !strings.Contains(c.Message, tc.says) {
				t.Errorf("got %s %s %q", c.Status, c.Reason, c.Message)
			}
			for i, p := range podStatus(f) {
				if *p.Draining != tc.pods[i].IsDrained() {
					t.Errorf("status.pods of %s says draining: %t", p.Name, *p.Draining)
				}
			}
		})
	}
}

// TestWhenARolloutIsComplete: the controller of StatefulSets may say that it has seen a later generation than there is, of the
// StatefulSet that stood there before.
func TestWhenARolloutIsComplete(t *testing.T) {
	for name, tc := range map[string]struct {
		generation, observed int64
		replicas, updated    int32
		want                 v1alpha1.ConditionReason
	}{
		"all is as it should be":             {generation: 3, observed: 3, replicas: 1, updated: 1, want: v1alpha1.ReasonRolloutComplete},
		"it was not looked at yet":           {generation: 3, observed: 2, replicas: 1, updated: 1, want: v1alpha1.ReasonRolloutInProgress},
		"the status is of the one of before": {generation: 1, observed: 2, replicas: 1, updated: 1, want: v1alpha1.ReasonRolloutComplete},
		"a pod has the form of before":       {generation: 1, observed: 2, replicas: 1, want: v1alpha1.ReasonRolloutInProgress},
		"no pod is there":                    {generation: 1, observed: 1, want: v1alpha1.ReasonRolloutInProgress},
	} {
		t.Run(name, func(t *testing.T) {
			f := &verdict.Facts{Broker: gen.Broker("factory", "mq"), Spec: v1alpha1.ResolvedBroker{Replicas: 1}, StatefulSet: &appsv1.StatefulSet{
				ObjectMeta: metav1.ObjectMeta{Generation: tc.generation},
				Spec:       appsv1.StatefulSetSpec{Replicas: new(int32(1))},
				Status: appsv1.StatefulSetStatus{
					ObservedGeneration: tc.observed, Replicas: tc.replicas, ReadyReplicas: tc.replicas, UpdatedReplicas: tc.updated,
				},
			}}
			set := &condition.Set{Now: now}
			setProgressing(set, &pass{facts: f})
			if c := set.Get(v1alpha1.ConditionProgressing); c.Reason != string(tc.want) {
				t.Errorf("got %s %s %q", c.Status, c.Reason, c.Message)
			}
		})
	}
}

// TestTheClusterIsAskedOnceInAWhile, and what it said last outlives an outage.
func TestTheClusterIsAskedOnceInAWhile(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(now)
	asked, failure := 0, error(nil)
	k := &ClusterKeys{clock: clock, get: func(_ context.Context, path string) ([]byte, error) {
		asked++
		if failure != nil {
			return nil, failure
		}
		return map[string][]byte{discoveryPath: []byte(`{"issuer":"https://cluster"}`), keySetPath: []byte(fmt.Sprintf(`{"keys":[%d]}`, asked))}[path], nil
	}}
	first := k.Keys(t.Context())
	if first.Issuer != "https://cluster" || first.JWKS != `{"keys":[2]}` || first.Problem != nil {
		t.Fatalf("got %+v", first)
	}
	clock.SetTime(now.Add(keysRefresh - time.Second))
	_ = k.Keys(t.Context())
	if asked != 2 {
		t.Errorf("asked %d times: many brokers look at it each minute", asked)
	}
	for after, tc := range map[time.Duration]struct {
		err  error
		says string
	}{
		keysRefresh:               {errors.New("dial tcp 127.0.0.1:54321: refused"), "does not say who signs"},
		2 * keysRefresh:           {apierrors.NewForbidden(schema.GroupResource{}, "", nil), "system:service-account-issuer-discovery"},
		2*keysRefresh + keysRetry: {apierrors.NewUnauthorized(""), "system:service-account-issuer-discovery"},
	} {
		clock.SetTime(now.Add(after + 10*keysRefresh))
		k.due = time.Time{}
		failure = tc.err
		got := k.Keys(t.Context())
		if got.JWKS != first.JWKS || got.Problem == nil || !strings.Contains(got.Problem.Message, tc.says) || strings.Contains(got.Problem.Message, "54321") {
			t.Errorf("%v: got %+v %+v", tc.err, got, got.Problem)
		}
	}
	failure = nil
	clock.SetTime(clock.Now().Add(keysRetry))
	if again := k.Keys(t.Context()); again.Problem != nil || again.JWKS == first.JWKS {
		t.Errorf("got %+v after the outage", again)
	}
}

func TestStatusShowsWhatStandsAndNotWhatWasDecided(t *testing.T) {
	stood, err := (pki.CA{}).Step("ca", pki.Seen{}, now)
	if err != nil {
		t.Fatal(err)
	}
	decided, err := stood.Step("ca", pki.Seen{Wish: "1"}, now)
	if err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{Data: stood.Data()}
	if got := caStatus(&decided, secret, false, nil, now); got.Phase != v1alpha1.CAStable {
		t.Errorf("a write that failed, or a pause, shows %s", got.Phase)
	}
	if got := caStatus(&decided, secret, true, nil, now); got.Phase != v1alpha1.CAIntroducing {
		t.Errorf("what was written shows %s", got.Phase)
	}
	if got := caStatus(nil, nil, true, nil, now); got != nil {
		t.Errorf("a CA that is not there shows %+v", got)
	}
}

func TestMetricsAreThoseOfTheStatus(t *testing.T) {
	b := gen.Broker("factory", "mq")
	b.Status.Listeners = []v1alpha1.ListenerStatus{{Name: "mqtts", CertNotAfter: &metav1.Time{Time: now}}, {Name: "mqtt"}}
	b.Status.CA = &v1alpha1.CAStatus{NotAfter: &metav1.Time{Time: now}}
	b.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: metav1.ConditionFalse}, {Type: "TLSReady", Status: metav1.ConditionUnknown}}
	bridge := gen.Bridge("factory", "cloud", "mq")
	bridge.Status.Conditions = b.Status.Conditions[:1]
	samples := make(chan prometheus.Metric, 16)
	collect(samples, b)
	collectConditions(samples, bridgeCondition, bridge.Namespace, bridge.Name, bridge.Status.Conditions)
	close(samples)
	got := map[string]float64{}
	for sample := range samples {
		written := &dto.Metric{}
		if err := sample.Write(written); err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(sample.Desc().String(), `Desc{fqName: "`), `"`)
		words := []string{name}
		for _, label := range written.GetLabel() {
			words = append(words, label.GetValue())
		}
		got[strings.Join(words, " ")] = written.GetGauge().GetValue()
	}
	want := map[string]float64{
		"mqtt_operator_certificate_not_after_seconds mq mqtts factory": float64(now.Unix()),
		"mqtt_operator_ca_not_after_seconds mq server factory":         float64(now.Unix()),
		"mqtt_operator_broker_condition mq Ready factory":              0,
		"mqtt_operator_broker_condition mq TLSReady factory":           -1,
		"mqtt_operator_bridge_condition cloud Ready factory":           0,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestTheLastRestartIsNotForgotten(t *testing.T) {
	set := func(restarted string) *appsv1.StatefulSet {
		return &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{verdict.RestartedAnnotation: restarted}}}
	}
	status := func(reason v1alpha1.ConditionReason, at time.Time) *v1alpha1.RestartStatus {
		return &v1alpha1.RestartStatus{Reason: reason, Time: metav1.NewTime(at)}
	}
	earlier := now.Add(-time.Hour)
	for name, tc := range map[string]struct {
		reason  string
		stood   *appsv1.StatefulSet
		written *appsv1.StatefulSet
		before  *v1alpha1.RestartStatus
		want    *v1alpha1.RestartStatus
	}{
		"none": {reason: "a StatefulSet of an older release says nothing", stood: &appsv1.StatefulSet{}},
		"this pass replaces pods": {
			reason: "the cache does not know it yet", stood: set(""), written: set("ImageChanged 2026-11-23T12:00:00Z"),
			before: status(v1alpha1.ReasonPodChanged, earlier), want: status(v1alpha1.ReasonImageChanged, now),
		},
		"an earlier pass did, and its status was lost": {
			reason: "the StatefulSet remembers", stood: set("ImageChanged 2026-11-23T12:00:00Z"), want: status(v1alpha1.ReasonImageChanged, now),
		},
		"the StatefulSet was made anew": {
			reason: "the status remembers", written: &appsv1.StatefulSet{}, before: status(v1alpha1.ReasonPodChanged, earlier), want: status(v1alpha1.ReasonPodChanged, earlier),
		},
		"an older StatefulSet came back": {
			reason: "what was later stays", stood: set("ImageChanged 2026-11-23T11:00:00Z"), before: status(v1alpha1.ReasonPodChanged, now), want: status(v1alpha1.ReasonPodChanged, now),
		},
		"somebody wrote nonsense": {
			reason: "it says nothing", stood: set("yesterday"), before: status(v1alpha1.ReasonPodChanged, now), want: status(v1alpha1.ReasonPodChanged, now),
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := &pass{facts: &verdict.Facts{StatefulSet: tc.stood}, desired: &desired.Broker{StatefulSet: tc.written}, renewed: tc.written != nil}
			p.before.LastRestart = tc.before
			if got := lastRestart(p); !equality.Semantic.DeepEqual(got, tc.want) {
				t.Errorf("got %+v, want %+v: %s", got, tc.want, tc.reason)
			}
		})
	}
}
