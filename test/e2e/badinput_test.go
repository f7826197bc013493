// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

// TestBadInput: each is refused at the door, or said in a condition with the next move; and a client that was there
// before stays connected through all of them.
func TestBadInput(t *testing.T) {
	t.Parallel()
	s := begin(t)
	broker := s.broker()
	s.user("anna", allow("#"))
	pod, steady := s.pod(), s.pulse("anna", "steady")
	s.create(gen.Secret(s.namespace, "wrong-key", map[string]string{"something": "else-" + random(8)}))
	unlabelled := gen.Secret(s.namespace, "unlabelled", map[string]string{"password": "hidden-" + random(8)})
	unlabelled.Labels = nil
	s.create(unlabelled)
	first, second := s.newPair("first"), s.newPair("second")
	mismatch := gen.Secret(s.namespace, "mismatch", nil)
	mismatch.Data = pairOf(first.Certificate, second.Key, first.ca)
	s.create(mismatch)

	user := func(options ...gen.UserOption) client.Object {
		return gen.User(s.namespace, "bad", brokerName, options...)
	}
	other := func(listeners ...v1alpha1.BrokerListener) client.Object {
		b := gen.Broker(s.namespace, "other")
		b.Spec.Listeners = listeners
		return b
	}
	for problem, c := range map[string]struct {
		object client.Object
		// refusal is what the API server must say; empty where a condition speaks.
		refusal string
		reason  v1alpha1.ConditionReason
		kind    v1alpha1.ConditionType
		// advice must stand in the condition's message.
		advice string
	}{
		"a port twice": {
			object: other(gen.Plain("one", 1883), gen.Plain("two", 1883)), refusal: "port",
		},
		"a listener's name twice": {
			object: other(gen.Plain("one", 1883), gen.Plain("one", 1884)), refusal: "one",
		},
		"a port of the broker's own": {
			object: other(gen.Plain("one", 9443)), refusal: "port",
		},
		"a filter that is no filter": {
			object: user(allow("a/#/b")), refusal: "not an MQTT topic filter",
		},
		"a wildcard inside a level": {
			object: user(allow("a/b+")), refusal: "not an MQTT topic filter",
		},
		"a username with a control character": {
			object: user(gen.WithUsername("bell\a")), refusal: "control characters",
		},
		"a username with a NUL": {
			object: user(gen.WithUsername("a\x00b")), refusal: "control characters",
		},
		"a wildcard as username":         {object: user(gen.WithUsername("#")), refusal: "spec.username"},
		"another wildcard as username":   {object: user(gen.WithUsername("+")), refusal: "spec.username"},
		"a username of two topic levels": {object: user(gen.WithUsername("a/b")), refusal: "spec.username"},
		"a username like a system topic": {object: user(gen.WithUsername("$SYS")), refusal: "spec.username"},
		"an empty username":              {object: user(gen.WithUsername("")), refusal: "spec.username"},
		"10,000 rules": {
			object: user(func(u *v1alpha1.MQTTUser) {
				for i := range 10_000 {
					allow(fmt.Sprintf("plant/%d/#", i))(u)
				}
			}), refusal: "256",
		},
		"a field that is not alive": {
			object: gen.Broker(s.namespace, "later", func(b *v1alpha1.MQTTBroker) { b.Spec.Replicas = new(int32(3)) }), refusal: "not alive in this version",
		},
		"two ways to a password": {
			object: user(gen.WithPasswordFrom("x"), func(u *v1alpha1.MQTTUser) {
				u.Spec.Authentication.Password.Generate = &v1alpha1.GeneratePassword{}
			}), refusal: "exactly one",
		},
		"a broker that does not exist": {
			object: gen.User(s.namespace, "bad", "nowhere"), reason: v1alpha1.ReasonBrokerNotFound, advice: "create it",
		},
		"a binding to a listener that does not exist": {
			object: user(func(u *v1alpha1.MQTTUser) { u.Spec.Binding = &v1alpha1.UserBinding{Listener: new("nowhere")} }),
			reason: v1alpha1.ReasonListenerUnknown, advice: "spec.binding.listener",
		},
		"a Secret that does not exist": {
			object: user(gen.WithPasswordFrom("missing")), reason: v1alpha1.ReasonSecretNotUsable, advice: "kubectl",
		},
		"a Secret without the label": {
			object: user(gen.WithPasswordFrom(unlabelled.Name)), reason: v1alpha1.ReasonSecretNotUsable, advice: "kubectl",
		},
		"a Secret with another key": {
			object: user(gen.WithPasswordFrom("wrong-key")), reason: v1alpha1.ReasonSecretKeyMissing, advice: "add it",
		},
		"a certificate with another's key": {
			object: other(gen.FromSecret("mqtts", 8883, mismatch.Name)), kind: v1alpha1.ConditionTLSReady,
			reason: v1alpha1.ReasonKeyPairMismatch, advice: "belong together",
		},
		"a certificate's Secret that does not exist": {
			object: other(gen.FromSecret("mqtts", 8883, "missing")), kind: v1alpha1.ConditionTLSReady,
			reason: v1alpha1.ReasonTLSSecretNotUsable, advice: "kubectl",
		},
	} {
		began := time.Now()
		err := kube.Create(s.ctx, c.object)
		if c.refusal != "" {
			switch {
			case err == nil:
				t.Errorf("%s: the API server took it", problem)
				s.remove(c.object)
			case !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), c.refusal):
				t.Errorf("%s: refused, but without %q: %s", problem, c.refusal, firstBytes(err.Error()))
			default:
				s.sayf("%s: refused at the door", problem)
			}
			s.beat(steady)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", problem, err)
			continue
		}
		if c.kind == "" {
			c.kind = v1alpha1.ConditionReady
		}
		message := s.await(c.object, c.kind, metav1.ConditionFalse, c.reason)
		s.sayf("%s: %s after %.2fs: %s", problem, c.reason, time.Since(began).Seconds(), message)
		if !strings.Contains(message, c.advice) {
			t.Errorf("%s: the message does not tell the next move (%q)", problem, c.advice)
		}
		s.beat(steady)
		s.remove(c.object)
		s.eventually(patience, "the bad object is gone", func() error { return s.isGone(c.object) })
	}

	s.sayf("the broker that serves is given bad input too")
	for problem, change := range map[string]func(){
		"a port twice":           func() { broker.Spec.Listeners = append(broker.Spec.Listeners, gen.Plain("plain", 8883)) },
		"two replicas":           func() { broker.Spec.Replicas = new(int32(2)) },
		"no listener":            func() { broker.Spec.Listeners = nil },
		"a protocol without TLS": func() { broker.Spec.Listeners[0].TLS = nil },
	} {
		if err := s.tryUpdate(broker, change); !apierrors.IsInvalid(err) {
			t.Errorf("%s: %v", problem, err)
		}
		s.beat(steady)
	}
	s.update(broker, func() {
		broker.Spec.Listeners = append(broker.Spec.Listeners, gen.FromSecret("second", 8884, mismatch.Name))
	})
	s.await(broker, v1alpha1.ConditionTLSReady, metav1.ConditionFalse, v1alpha1.ReasonKeyPairMismatch)
	s.sayf("a user that comes while one listener is at fault")
	s.user("ben", allow("#"))
	s.connect("ben")
	s.update(broker, func() { broker.Spec.Listeners = broker.Spec.Listeners[:1] })
	s.awaitReady(broker)
	s.beat(steady)
	s.samePod(pod)
	if status := broker.Status.Users; status == nil || *status.Accepted != 2 || *status.Rejected != 0 {
		t.Errorf("the status counts users: %+v, want 2 accepted and 0 rejected", status)
	}
}

func firstBytes(text string) string { return text[:min(len(text), 300)] }
