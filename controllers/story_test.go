// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
)

type runtimeObject = runtime.Object

// TestLifeOfABroker: created, ready, used by a user, changed without a restart, healed, hibernated, deleted.
func TestLifeOfABroker(t *testing.T) {
	w := newWorld(t)
	broker := gen.Broker(w.namespace, "mq")
	alice := gen.User(w.namespace, "alice", "mq", gen.Allow("a/#", v1alpha1.ACLPublish, v1alpha1.ACLSubscribe))
	w.create(broker, alice)
	w.ready(broker, alice)

	binding := w.secret(v1alpha1.BindingSecretName("alice"))
	w.kubelet.mustConnect("mq", string(binding.Data[v1alpha1.BindingUsername]), string(binding.Data[v1alpha1.BindingPassword]))
	if uri := string(binding.Data[v1alpha1.BindingURI]); uri != "mqtts://mq-mqtts."+w.namespace+".svc:8883" {
		t.Errorf("uri %s", uri)
	}
	if !bytes.Equal(binding.Data[v1alpha1.BindingCA], w.secret(v1alpha1.CASecretName("mq")).Data["ca.crt"]) {
		t.Error("the binding must hold the CA that clients have to trust")
	}

	// A second user reaches the running broker; nothing restarts.
	before := w.kubelet.pod("mq").UID
	bob := gen.User(w.namespace, "bob", "mq")
	w.create(bob)
	w.ready(bob)
	binding = w.secret(v1alpha1.BindingSecretName("bob"))
	w.kubelet.mustConnect("mq", "bob", string(binding.Data[v1alpha1.BindingPassword]))
	if w.kubelet.pod("mq").UID != before {
		t.Error("a new user restarted the broker")
	}

	// Deleted, he is nobody.
	must(t, k8s.Delete(t.Context(), bob))
	w.kubelet.mustBeRefused("mq", "bob", string(binding.Data[v1alpha1.BindingPassword]))

	// A second listener gets its Service, and goes with it.
	change(w, broker, func(b *v1alpha1.MQTTBroker) { gen.WithListener(gen.Plain("mqtt", 1883))(b) })
	w.is(broker, v1alpha1.ConditionInsecure, metav1.ConditionTrue, v1alpha1.ReasonPlaintextListener)
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "mq-mqtt"}}
	w.exists(service)
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Listeners = b.Spec.Listeners[:1] })
	w.gone(service)
	w.ready(broker)

	// Asleep and awake.
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Replicas = new(int32(0)) })
	w.is(broker, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonHibernated)
	w.is(alice, v1alpha1.ConditionReady, metav1.ConditionUnknown, v1alpha1.ReasonHibernated)
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Replicas = nil })
	w.ready(broker)
}

func (w *world) exists(object client.Object) {
	w.t.Helper()
	w.eventually(object.GetName()+" exists", func() error { return k8s.Get(w.t.Context(), client.ObjectKeyFromObject(object), object) })
}

func (w *world) gone(object client.Object) {
	w.t.Helper()
	w.eventually(object.GetName()+" is gone", func() error {
		if err := k8s.Get(w.t.Context(), client.ObjectKeyFromObject(object), object); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there: %w", errors.Join(err, errors.New("no sign that it goes")))
		}
		return nil
	})
}

// TestASecondPassWritesNothing walks both reconcilers again over a settled world, and once more with a new operator
// whose memory is empty.
func TestASecondPassWritesNothing(t *testing.T) {
	w := newWorld(t)
	broker := gen.Broker(w.namespace, "mq", gen.WithListener(gen.Plain("mqtt", 1883)))
	alice := gen.User(w.namespace, "alice", "mq")
	bob := gen.User(w.namespace, "bob", "mq", gen.WithPasswordFrom("bobs"), gen.WithPolicies("shared"))
	policy := gen.Policy(w.namespace, "shared", gen.Rule(v1alpha1.ACLAllow, "a/#", v1alpha1.ACLSubscribe))
	w.create(broker, alice, gen.Secret(w.namespace, "bobs", map[string]string{"password": "hunter2"}), bob, policy)
	w.ready(broker, alice, bob, policy)
	w.settle()

	for round, restart := range []bool{false, true} {
		if restart {
			w.startOperator()
		}
		before := w.versions()
		var writes atomic.Int64
		brokers, users, policies := w.reconcilers(&writes)
		for range 3 {
			for _, object := range []*v1alpha1.MQTTBroker{broker} {
				must(t, k8s.Get(t.Context(), client.ObjectKeyFromObject(object), object))
				_, err := brokers.Reconcile(t.Context(), object)
				must(t, err)
			}
			for _, object := range []*v1alpha1.MQTTUser{alice, bob} {
				must(t, k8s.Get(t.Context(), client.ObjectKeyFromObject(object), object))
				_, err := users.Reconcile(t.Context(), object)
				must(t, err)
			}
			must(t, k8s.Get(t.Context(), client.ObjectKeyFromObject(policy), policy))
			_, err := policies.Reconcile(t.Context(), policy)
			must(t, err)
		}
		if after := w.versions(); !maps.Equal(before, after) {
			t.Errorf("round %d: something was written although nothing changed:\n%v\n%v", round, before, after)
		}
		if n := writes.Load(); n > 0 {
			t.Errorf("round %d: %d requests to write, although nothing changed", round, n)
		}
	}
}

// settle waits until two looks in a row see the same world.
func (w *world) settle() {
	w.t.Helper()
	last := w.versions()
	same, moved := 0, ""
	w.eventually("the world comes to rest", func() error {
		now := w.versions()
		for object, version := range now {
			if last[object] != version {
				moved = object
			}
		}
		if !maps.Equal(now, last) {
			last, same = now, 0
		}
		same++
		if same < 25 {
			return fmt.Errorf("it still moves, lately %s", moved)
		}
		return nil
	})
}

// TestConfigAppliedNeedsEveryAnswer: a pod that refuses, or does not answer, keeps the condition from being true.
func TestConfigAppliedNeedsEveryAnswer(t *testing.T) {
	w := newWorld(t)
	broker := gen.Broker(w.namespace, "mq")
	w.create(broker)
	w.ready(broker)

	w.kubelet.mute("mq", true)
	alice := gen.User(w.namespace, "alice", "mq")
	w.create(alice)
	c := w.is(broker, v1alpha1.ConditionConfigApplied, metav1.ConditionFalse, v1alpha1.ReasonConfigPending)
	if !strings.Contains(c.Message, "mq-broker-0") {
		t.Errorf("the message must name the pod: %s", c.Message)
	}
	w.is(alice, v1alpha1.ConditionApplied, metav1.ConditionFalse, v1alpha1.ReasonConfigPending)
	w.is(broker, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonConfigPending)

	w.kubelet.mute("mq", false)
	w.ready(broker, alice)
	if desired, applied := *broker.Status.Revision.Desired, *broker.Status.Revision.Applied; desired != applied || applied != *broker.Status.Pods[0].ConfigRevision {
		t.Errorf("desired %d, applied %d, pod %d", desired, applied, *broker.Status.Pods[0].ConfigRevision)
	}
}

// TestTheRevisionNeverGoesBack, not even when the Secrets with the configuration are deleted by hand.
func TestTheRevisionNeverGoesBack(t *testing.T) {
	w := newWorld(t)
	broker, alice := gen.Broker(w.namespace, "mq"), gen.User(w.namespace, "alice", "mq")
	w.create(broker, alice)
	w.ready(broker, alice)
	before := *broker.Status.Revision.Desired
	w.stop()
	for _, name := range []string{v1alpha1.ConfigSecretName("mq"), v1alpha1.UsersSecretName("mq", 0)} {
		must(t, k8s.Delete(t.Context(), w.secret(name)))
	}
	w.startOperator()
	w.eventually("the configuration is there again, and newer", func() error {
		if err := k8s.Get(t.Context(), client.ObjectKeyFromObject(broker), broker); err != nil {
			return err
		}
		if r := broker.Status.Revision; *r.Desired <= before || r.Applied == nil || *r.Applied != *r.Desired {
			return fmt.Errorf("desired %d after %d, applied %v", *r.Desired, before, r.Applied)
		}
		return nil
	})
	w.ready(broker, alice)
}

// TestNothingIsAdopted: an object of a name that is needed stays as it is, whoever made it.
func TestNothingIsAdopted(t *testing.T) {
	for name, object := range map[string]func(namespace string) client.Object{
		"a Secret that the cache does not hold": func(ns string) client.Object {
			return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "mq-config"}, StringData: map[string]string{"mine": "yes"}}
		},
		"a Secret with our label": func(ns string) client.Object {
			return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "mq-ca", Labels: map[string]string{v1alpha1.LabelAllow: v1alpha1.AllowOwned}}}
		},
		"a Service": func(ns string) client.Object {
			return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "mq-mqtts"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 1}}}}
		},
		"a StatefulSet": func(ns string) client.Object {
			labels := map[string]string{"theirs": "yes"}
			return &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "mq-broker"}, Spec: appsv1.StatefulSetSpec{
				Replicas: new(int32(0)), Selector: &metav1.LabelSelector{MatchLabels: labels},
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}},
			}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			theirs := object(w.namespace)
			w.create(theirs)
			broker := gen.Broker(w.namespace, "mq")
			w.create(broker)
			c := w.is(broker, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonObjectConflict)
			if !strings.Contains(c.Message, theirs.GetName()) || !strings.Contains(c.Message, "delete or rename") {
				t.Errorf("the message must name the object and the next move: %s", c.Message)
			}
			version := theirs.GetResourceVersion()
			w.exists(theirs)
			if theirs.GetResourceVersion() != version {
				t.Errorf("somebody else's %s was written to", theirs.GetName())
			}
			must(t, k8s.Delete(t.Context(), theirs))
			w.ready(broker)
		})
	}
}

// TestAConflictWritesNothing: a user whose binding cannot be made gets no verifier either, and the broker is left alone.
func TestAConflictWritesNothing(t *testing.T) {
	w := newWorld(t)
	broker := gen.Broker(w.namespace, "mq")
	theirs := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: v1alpha1.BindingSecretName("alice")}}
	w.create(theirs, broker)
	w.ready(broker)
	alice := gen.User(w.namespace, "alice", "mq")
	w.create(alice)
	w.is(alice, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonObjectConflict)
	w.settle()
	w.gone(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: v1alpha1.VerifierSecretName("alice")}})
	must(t, k8s.Delete(t.Context(), theirs))
	w.ready(alice)
}

// TestChildrenComeBack after they were edited or deleted by hand.
func TestChildrenComeBack(t *testing.T) {
	w := newWorld(t)
	broker, alice := gen.Broker(w.namespace, "mq"), gen.User(w.namespace, "alice", "mq")
	w.create(broker, alice)
	w.ready(broker, alice)

	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "mq-mqtts"}}
	change(w, service, func(s *corev1.Service) { s.Spec.Ports[0].TargetPort.IntVal = 4 })
	w.eventually("the port is as wanted", func() error {
		w.exists(service)
		if got := service.Spec.Ports[0].TargetPort.IntVal; got != 8883 {
			return fmt.Errorf("it is %d", got)
		}
		return nil
	})
	for _, child := range []client.Object{
		service,
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "mq-broker"}},
		&appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "mq-broker"}},
		w.secret(v1alpha1.TLSSecretName("mq")), w.secret(v1alpha1.UsersSecretName("mq", 0)),
		w.secret(v1alpha1.VerifierSecretName("alice")), w.secret(v1alpha1.BindingSecretName("alice")),
	} {
		w.exists(child)
		uid := child.GetUID()
		must(t, k8s.Delete(t.Context(), child))
		w.eventually(child.GetName()+" comes back", func() error {
			if err := k8s.Get(t.Context(), client.ObjectKeyFromObject(child), child); err != nil {
				return err
			}
			if child.GetUID() == uid {
				return errors.New("it is still the old one")
			}
			return nil
		})
	}
	w.ready(broker, alice)
	binding := w.secret(v1alpha1.BindingSecretName("alice"))
	w.kubelet.mustConnect("mq", "alice", string(binding.Data[v1alpha1.BindingPassword]))
}

// TestAVerifierDeletedByHandIsTheSameAgain: another hash would end every connection of the user.
func TestAVerifierDeletedByHandIsTheSameAgain(t *testing.T) {
	w := newWorld(t)
	broker, alice := gen.Broker(w.namespace, "mq"), gen.User(w.namespace, "alice", "mq")
	bob := gen.User(w.namespace, "bob", "mq", gen.WithPasswordFrom("bobs"))
	w.create(broker, alice, gen.Secret(w.namespace, "bobs", map[string]string{"password": "first"}), bob)
	w.ready(broker, alice, bob)
	w.exists(broker) // as it is with both
	revision := *broker.Status.Revision.Desired
	for _, name := range []string{"alice", "bob"} {
		verifier := w.secret(v1alpha1.VerifierSecretName(name))
		must(t, k8s.Delete(t.Context(), verifier))
		w.eventually("the verifier of "+name+" is there again", func() error {
			again := &corev1.Secret{}
			if err := k8s.Get(t.Context(), client.ObjectKeyFromObject(verifier), again); err != nil {
				return err
			}
			if !bytes.Equal(again.Data["verifier"], verifier.Data["verifier"]) {
				t.Errorf("%s has another hash now", name)
			}
			return nil
		})
	}
	w.settle()
	w.exists(broker)
	if now := *broker.Status.Revision.Desired; now != revision {
		t.Errorf("revision %d after %d: the broker had nothing to learn", now, revision)
	}
}

// TestPasswords: where they come from, what is wrong with them, and that a fault takes nothing away.
func TestPasswords(t *testing.T) {
	w := newWorld(t)
	broker, bob := gen.Broker(w.namespace, "mq"), gen.User(w.namespace, "bob", "mq", gen.WithPasswordFrom("bobs"))
	w.create(broker, bob)
	c := w.is(bob, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotUsable)
	if !strings.Contains(c.Message, "kubectl -n "+w.namespace+" label secret bobs mqtt-operator.io/allow=true") {
		t.Errorf("the message must say the next move: %s", c.Message)
	}

	secret := gen.Secret(w.namespace, "bobs", map[string]string{"password": "first"})
	secret.Labels = nil
	w.create(secret)
	w.settle()
	if again := w.is(bob, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotUsable); again.Message != c.Message {
		t.Errorf("missing and unlabelled must not be told apart:\n%s\n%s", c.Message, again.Message)
	}
	change(w, secret, func(s *corev1.Secret) { s.Labels = map[string]string{v1alpha1.LabelAllow: v1alpha1.AllowReference} })
	w.ready(bob)
	w.kubelet.mustConnect("mq", "bob", "first")

	for _, fault := range []struct {
		data   map[string][]byte
		reason v1alpha1.ConditionReason
	}{
		{map[string][]byte{"password": []byte("second\n")}, v1alpha1.ReasonPasswordInvalid},
		{map[string][]byte{"password": {}}, v1alpha1.ReasonPasswordInvalid},
		{map[string][]byte{"passwort": []byte("second")}, v1alpha1.ReasonSecretKeyMissing},
	} {
		change(w, secret, func(s *corev1.Secret) { s.Data = fault.data })
		if c := w.is(bob, v1alpha1.ConditionReady, metav1.ConditionFalse, fault.reason); strings.Contains(c.Message, "second") {
			t.Errorf("the message repeats the password: %s", c.Message)
		}
		w.kubelet.mustConnect("mq", "bob", "first")
	}
	change(w, secret, func(s *corev1.Secret) { s.Data = map[string][]byte{"password": []byte("second")} })
	w.ready(bob)
	w.kubelet.mustConnect("mq", "bob", "second")
	w.kubelet.mustBeRefused("mq", "bob", "first")
	if verifier := string(w.secret(v1alpha1.VerifierSecretName("bob")).Data["verifier"]); !strings.HasPrefix(verifier, "$argon2id$") {
		t.Error("a password that a person chose must be hashed slowly")
	}
}

// TestAGeneratedPasswordOutlivesTheOperator, and is drawn again when its Secret is edited.
func TestAGeneratedPasswordOutlivesTheOperator(t *testing.T) {
	w := newWorld(t)
	broker, alice := gen.Broker(w.namespace, "mq"), gen.User(w.namespace, "alice", "mq")
	w.create(broker, alice)
	w.ready(broker, alice)
	before := w.secret(v1alpha1.BindingSecretName("alice"))
	for range 3 {
		w.startOperator()
		w.settle()
	}
	if after := w.secret(before.Name); after.ResourceVersion != before.ResourceVersion {
		t.Error("a restarted operator wrote the password again")
	}
	if len(before.Data[v1alpha1.BindingPassword]) < 43 {
		t.Error("a generated password needs 256 bits")
	}
	change(w, before, func(s *corev1.Secret) { s.Data[v1alpha1.BindingPassword] = []byte("easy") })
	w.eventually("the password is drawn again", func() error {
		if password := w.secret(before.Name).Data[v1alpha1.BindingPassword]; len(password) < 43 {
			return fmt.Errorf("it has %d bytes", len(password))
		}
		return nil
	})
	w.ready(alice)
	w.kubelet.mustConnect("mq", "alice", string(w.secret(before.Name).Data[v1alpha1.BindingPassword]))
}

// TestNoReferenceOpensTheOperatorsOwnSecrets: who may write an MQTTUser may not read what they could not read before.
func TestNoReferenceOpensTheOperatorsOwnSecrets(t *testing.T) {
	w := newWorld(t)
	broker, alice := gen.Broker(w.namespace, "mq"), gen.User(w.namespace, "alice", "mq")
	w.create(broker, alice)
	w.ready(broker, alice)
	for i, own := range []string{v1alpha1.BindingSecretName("alice"), v1alpha1.AdminCASecretName("mq"), v1alpha1.ConfigSecretName("mq")} {
		thief := gen.User(w.namespace, fmt.Sprintf("thief-%d", i), "mq", gen.WithPasswordFrom(own))
		thief.Spec.Authentication.Password.SecretRef.Key = new("password")
		w.create(thief)
		w.is(thief, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotUsable)
	}
	change(w, broker, func(b *v1alpha1.MQTTBroker) {
		gen.WithListener(gen.FromSecret("stolen", 8884, v1alpha1.AdminTLSSecretName("mq")))(b)
	})
	w.is(broker, v1alpha1.ConditionTLSReady, metav1.ConditionFalse, v1alpha1.ReasonTLSSecretNotUsable)
}

// TestUsersThatCannotBe: each has its reason and next move, and heals.
func TestUsersThatCannotBe(t *testing.T) {
	w := newWorld(t)
	early := gen.User(w.namespace, "early", "mq")
	w.create(early)
	w.is(early, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonBrokerNotFound)
	broker := gen.Broker(w.namespace, "mq")
	w.create(broker)
	w.ready(broker, early)

	lost := gen.User(w.namespace, "lost", "mq")
	lost.Spec.Binding = &v1alpha1.UserBinding{Listener: new("mqtt")}
	w.create(lost)
	w.is(lost, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonListenerUnknown)
	change(w, broker, func(b *v1alpha1.MQTTBroker) { gen.WithListener(gen.Plain("mqtt", 1883))(b) })
	w.ready(lost)

	first := gen.User(w.namespace, "first", "mq", gen.WithUsername("twin"))
	w.create(first)
	w.ready(first)
	w.eventually("a second begins", func() error { // creationTimestamp counts whole seconds
		if time.Now().Unix() == first.CreationTimestamp.Unix() {
			return errors.New("not yet")
		}
		return nil
	})
	second := gen.User(w.namespace, "a-second", "mq", gen.WithUsername("twin"))
	w.create(second)
	if c := w.is(second, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonUsernameConflict); !strings.Contains(c.Message, "MQTTUser first") {
		t.Errorf("the message must name the other: %s", c.Message)
	}
	w.eventually("the broker counts the loser", func() error {
		w.exists(broker)
		if users := broker.Status.Users; *users.Rejected != 1 || *users.Accepted != 3 {
			return fmt.Errorf("accepted %d, rejected %d", *users.Accepted, *users.Rejected)
		}
		return nil
	})
	must(t, k8s.Delete(t.Context(), first))
	w.ready(second)
}

// TestABadCertificateKeepsTheOldOne serving, and the new pair is taken once it is whole.
func TestABadCertificateKeepsTheOldOne(t *testing.T) {
	w := newWorld(t)
	ca, err := pki.NewCA("theirs", time.Now())
	must(t, err)
	issue := func() pki.Pair {
		pair, err := pki.Issue(ca, pki.Request{CommonName: "mq", DNSNames: []string{"mq.example.com"}, Server: true}, time.Now())
		must(t, err)
		return pair
	}
	good, other := issue(), issue()
	secret := gen.Secret(w.namespace, "certs", map[string]string{"tls.crt": string(good.Certificate), "tls.key": string(good.Key)})
	broker := gen.Broker(w.namespace, "mq")
	broker.Spec.Listeners = []v1alpha1.BrokerListener{gen.FromSecret("mqtts", 8883, "certs")}
	w.create(secret, broker)
	w.ready(broker)
	change(w, secret, func(s *corev1.Secret) { s.Data["tls.key"] = other.Key })
	w.is(broker, v1alpha1.ConditionTLSReady, metav1.ConditionFalse, v1alpha1.ReasonKeyPairMismatch)
	w.is(broker, v1alpha1.ConditionAvailable, metav1.ConditionTrue, v1alpha1.ReasonPodsReady)
	bundle := contract.Bundle{}
	for _, name := range []string{v1alpha1.ConfigSecretName("mq"), v1alpha1.UsersSecretName("mq", 0)} {
		maps.Copy(bundle, w.secret(name).Data)
	}
	cfg, err := contract.Parse(bundle)
	must(t, err)
	if cfg.Pairs["mqtts"].PrivateKey != string(good.Key) {
		t.Error("the old pair must go on serving")
	}
	change(w, secret, func(s *corev1.Secret) { s.Data["tls.crt"] = other.Certificate })
	w.ready(broker)
}

// TestAPausedBrokerIsLeftAlone until the annotation goes.
func TestAPausedBrokerIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	broker := gen.Broker(w.namespace, "mq")
	w.create(broker)
	w.ready(broker)
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Annotations = map[string]string{v1alpha1.AnnotationPaused: "true"} })
	w.is(broker, v1alpha1.ConditionPaused, metav1.ConditionTrue, v1alpha1.ReasonPaused)
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "mq-mqtts"}}
	w.exists(service)
	must(t, k8s.Delete(t.Context(), service))
	w.settle()
	w.gone(service)
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Annotations = nil })
	w.exists(service)
	w.ready(broker)
}
