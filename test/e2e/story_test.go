// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

const (
	// patience is how long a fact may take that promises no time of its own: the machine may be busy.
	patience = 2 * time.Minute
	// between two looks for a fact.
	between = 25 * time.Millisecond
	// brokerName is the broker of every story.
	brokerName = "mq"
)

// story is one namespace, from its creation until nothing of it is left.
type story struct {
	*testing.T

	ctx       context.Context
	namespace string
	began     time.Time
	secrets   *treasure
	kept      []keptLog
}

// begin opens a namespace that lets in nothing but restricted pods.
func begin(t *testing.T) *story {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &story{T: t, ctx: ctx, namespace: "e2e-" + name(t) + "-" + random(3), began: time.Now()}
	s.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace, Labels: map[string]string{
		"pod-security.kubernetes.io/enforce": "restricted",
	}}})
	s.secrets = s.collectSecrets()
	t.Cleanup(func() {
		defer cancel()
		s.searchForSecrets()
		if t.Failed() {
			s.show()
		}
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}
		if err := kube.Delete(ctx, namespace); client.IgnoreNotFound(err) != nil {
			t.Errorf("namespace %s cannot be deleted: %v", s.namespace, err)
		}
	})
	return s
}

// name is the test's name in the form of a namespace's.
func name(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for i, r := range strings.TrimPrefix(t.Name(), "Test") {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('-')
		}
		b.WriteString(strings.ToLower(string(r)))
	}
	return strings.Trim(b.String()[:min(b.Len(), 40)], "-")
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// sayf writes one line of the story.
func (s *story) sayf(format string, args ...any) {
	s.Helper()
	s.Logf("%5.1fs  %s", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// eventually asks until there is no complaint. It returns how long that took; if it takes longer than within, the last
// complaint ends the story.
func (s *story) eventually(within time.Duration, fact string, ask func() error) time.Duration {
	s.Helper()
	start := time.Now()
	for {
		err := ask()
		took := time.Since(start)
		if err == nil {
			return took
		}
		if took > within {
			s.Fatalf("after %.1fs it is still not so that %s: %v", took.Seconds(), fact, err)
		}
		select {
		case <-s.ctx.Done():
			s.Fatalf("the story ended while it waited until %s", fact)
		case <-time.After(between):
		}
	}
}

func (s *story) create(objects ...client.Object) {
	s.Helper()
	for _, object := range objects {
		if err := kube.Create(s.ctx, object); err != nil {
			s.Fatalf("create %s: %v", named(object), err)
		}
	}
}

func (s *story) remove(object client.Object) {
	s.Helper()
	if err := kube.Delete(s.ctx, object); err != nil {
		s.Fatalf("delete %s: %v", named(object), err)
	}
}

// get reads an object again.
func (s *story) get(object client.Object) error {
	if err := kube.Get(s.ctx, client.ObjectKeyFromObject(object), object); err != nil {
		return fmt.Errorf("%s: %w", named(object), err)
	}
	return nil
}

// update changes an object as it is now.
func (s *story) update(object client.Object, change func()) {
	s.Helper()
	if err := s.tryUpdate(object, change); err != nil {
		s.Fatalf("update %s: %v", named(object), err)
	}
}

func (s *story) tryUpdate(object client.Object, change func()) error {
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		if err := s.get(object); err != nil {
			return err
		}
		change()
		return kube.Update(s.ctx, object)
	})
}

func named(object client.Object) string {
	kind := strings.TrimPrefix(fmt.Sprintf("%T", object), "*")
	return kind[strings.Index(kind, ".")+1:] + " " + object.GetName()
}

// broker makes the broker of the story and waits until it serves.
func (s *story) broker(options ...gen.BrokerOption) *v1alpha1.MQTTBroker {
	s.Helper()
	broker := gen.Broker(s.namespace, brokerName, options...)
	s.create(broker)
	took := s.awaitReady(broker)
	s.sayf("broker %s is ready after %.1fs", broker.Name, took.Seconds())
	return broker
}

// user makes a user and waits until the broker knows it.
func (s *story) user(name string, options ...gen.UserOption) *v1alpha1.MQTTUser {
	s.Helper()
	user := gen.User(s.namespace, name, brokerName, options...)
	s.create(user)
	took := s.awaitReady(user)
	s.sayf("user %s is ready after %.2fs", name, took.Seconds())
	return user
}

// allow is a rule for publishing and subscribing.
func allow(filter string) gen.UserOption {
	return gen.Allow(filter, v1alpha1.ACLPublish, v1alpha1.ACLSubscribe)
}

func conditionsOf(object client.Object) []metav1.Condition {
	switch object := object.(type) {
	case *v1alpha1.MQTTBroker:
		return object.Status.Conditions
	case *v1alpha1.MQTTUser:
		return object.Status.Conditions
	case *v1alpha1.MQTTBridge:
		return object.Status.Conditions
	default:
		return nil
	}
}

// condition complains unless the object says this about its newest spec. An empty reason stands for any.
func (s *story) condition(object client.Object, kind v1alpha1.ConditionType, status metav1.ConditionStatus, reason v1alpha1.ConditionReason) error {
	if err := s.get(object); err != nil {
		return err
	}
	c := meta.FindStatusCondition(conditionsOf(object), string(kind))
	switch {
	case c == nil:
		return fmt.Errorf("%s has no condition %s", named(object), kind)
	case c.Status != status, reason != "" && c.Reason != string(reason):
		return fmt.Errorf("%s says %s=%s/%s: %s", named(object), kind, c.Status, c.Reason, c.Message)
	case c.ObservedGeneration != object.GetGeneration():
		return fmt.Errorf("%s says %s=%s/%s of generation %d, but has %d", named(object), kind, c.Status, c.Reason, c.ObservedGeneration, object.GetGeneration())
	default:
		return nil
	}
}

// await waits for a condition and returns its message.
func (s *story) await(object client.Object, kind v1alpha1.ConditionType, status metav1.ConditionStatus, reason v1alpha1.ConditionReason) string {
	s.Helper()
	s.eventually(patience, fmt.Sprintf("%s has %s=%s/%s", named(object), kind, status, reason), func() error {
		return s.condition(object, kind, status, reason)
	})
	return meta.FindStatusCondition(conditionsOf(object), string(kind)).Message
}

func (s *story) awaitReady(object client.Object) time.Duration {
	s.Helper()
	return s.eventually(patience, named(object)+" is ready", func() error {
		return s.condition(object, v1alpha1.ConditionReady, metav1.ConditionTrue, "")
	})
}

// pod is the broker's pod.
func (s *story) pod() *corev1.Pod {
	s.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1alpha1.PodName(brokerName, 0)}}
	if err := s.get(pod); err != nil {
		s.Fatal(err)
	}
	return pod
}

// samePod complains when the broker's pod is another one than before, or one of its containers was restarted.
func (s *story) samePod(before *corev1.Pod) {
	s.Helper()
	now := s.pod()
	if now.UID != before.UID {
		s.Errorf("the broker's pod was replaced: nothing in this story is a reason for that")
	}
	for _, c := range now.Status.ContainerStatuses {
		if c.RestartCount > 0 {
			s.Errorf("the broker was restarted %d times: nothing in this story is a reason for that", c.RestartCount)
		}
	}
}

// secret reads a Secret of the namespace.
func (s *story) secret(name string) (*corev1.Secret, error) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}
	return secret, s.get(secret)
}

// isGone complains while an object is there.
func (s *story) isGone(object client.Object) error {
	err := s.get(object)
	if err == nil {
		return errors.New(named(object) + " is still there")
	}
	return client.IgnoreNotFound(errors.Unwrap(err))
}
