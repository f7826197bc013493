// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

// What is promised about the time that a change of a user takes.
const (
	letInWithin     = 2 * time.Second
	lockedOutWithin = time.Second
)

// TestTwoTeamsShareNothing: a broker per namespace, and neither knows the other's users.
func TestTwoTeamsShareNothing(t *testing.T) {
	t.Parallel()
	ours, theirs := begin(t), begin(t)
	for _, s := range []*story{ours, theirs} {
		s.broker()
	}
	ours.user("anna", allow("#"))
	theirs.user("ben", allow("#"))
	anna, ben := ours.connect("anna"), theirs.connect("ben")

	ours.sayf("anna listens to everything at home; ben says something in his own house")
	ours.mustSubscribe(anna, "#")
	theirs.mustSubscribe(ben, "#")
	theirs.mustPublish(ben, "door", "ben is here")
	theirs.hears(ben, "door", "ben is here")
	ours.mustPublish(anna, "door", "anna is here")
	if others := ours.hears(anna, "door", "anna is here"); len(others) > 0 {
		t.Errorf("anna heard %s: a message crossed from one broker to another", strings.Join(others, "; "))
	}

	ours.sayf("anna goes to the other broker with her own credentials")
	at, err := ours.binding("anna")
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := theirs.binding("ben")
	if err != nil {
		t.Fatal(err)
	}
	stranger := foreign
	stranger.username, stranger.password = at.username, at.password
	_, err = connectWith(stranger, session{})
	if complaint := refusedWith(err, badUserNameOrPassword); complaint != nil {
		t.Errorf("anna at ben's broker: %v", complaint)
	}
	trusting := foreign
	trusting.ca = at.ca
	if _, err = connectWith(trusting, session{}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("the CA of one broker vouches for another: %v", err)
	}
}

// TestUserComesAndGoes is not parallel: it measures.
func TestUserComesAndGoes(t *testing.T) {
	s := begin(t)
	s.broker()
	pod := s.pod()
	steady := s.user("steady", allow("steady"))
	others := s.pulse(steady.Name, "steady")

	visitor := gen.User(s.namespace, "visitor", brokerName, allow("hall/#"), allow("garden/#"))
	s.create(visitor)
	var in *mqttClient
	took := s.eventually(patience, "the new user can connect", func() (err error) {
		in, err = s.tryConnect(visitor.Name, session{})
		return err
	})
	s.sayf("a new user was let in %.2fs after it was written", took.Seconds())
	if took > letInWithin {
		t.Errorf("that is more than %s", letInWithin)
	}

	s.mustSubscribe(in, "hall/#", "garden/#")
	if err := refusedWith(in.subscribe("#", 0), notAuthorized); err != nil {
		t.Errorf("a subscription to # under a grant of hall/# and garden/#: %v", err)
	}
	if err := refusedWith(in.publish("cellar", "x"), notAuthorized); err != nil {
		t.Errorf("a message to a topic without a grant: %v", err)
	}
	s.mustPublish(in, "hall/1", "hello")
	s.hears(in, "hall/1", "hello")

	s.sayf("its grant is narrowed to garden/#, while it is connected and subscribed to both")
	s.awaitReady(visitor)
	owner := s.user("owner", allow("#"))
	speaker := s.connect(owner.Name)
	changed := time.Now()
	s.update(visitor, func() { visitor.Spec.ACL = visitor.Spec.ACL[1:] })
	s.eventually(patience, "nothing of hall/# is delivered any more", func() error {
		s.mustPublish(speaker, "hall/1", "not for visitors")
		s.mustPublish(speaker, "garden/1", "end of round")
		if heard := s.hears(in, "garden/1", "end of round"); len(heard) > 0 {
			return errors.New("it heard " + strings.Join(heard, "; "))
		}
		return nil
	})
	deaf := time.Since(changed)
	s.sayf("delivery stopped within %.2fs after the change was sent", deaf.Seconds())
	if deaf > lockedOutWithin {
		t.Errorf("that is more than %s", lockedOutWithin)
	}
	if err := refusedWith(in.publish("hall/1", "x"), notAuthorized); err != nil {
		t.Errorf("a message under the rule that is gone: %v", err)
	}

	s.sayf("it is deleted, while it is connected")
	gone := time.Now()
	s.remove(visitor)
	out := s.awaitEnd(in).Sub(gone)
	s.sayf("its connection ended %.2fs after the delete was sent: %v", out.Seconds(), in.ended())
	if out > lockedOutWithin {
		t.Errorf("that is more than %s", lockedOutWithin)
	}
	if in.reason < 0x80 {
		t.Errorf("the DISCONNECT says %#x: the client should learn that it is not wanted", in.reason)
	}
	b := binding{host: others.host(s), port: "8883", username: "visitor", password: "whatever"}
	b.ca = mustBinding(s, "steady").ca
	if _, err := connectWith(b, session{}); refusedWith(err, badUserNameOrPassword) != nil {
		t.Errorf("a user that is gone: %v", refusedWith(err, badUserNameOrPassword))
	}
	s.eventually(patience, "its Secrets are gone too", func() error {
		for _, name := range []string{v1alpha1.BindingSecretName("visitor"), v1alpha1.VerifierSecretName("visitor")} {
			if err := s.isGone(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}}); err != nil {
				return err
			}
		}
		return nil
	})
	s.beat(others)
	s.samePod(pod)
}

func (p *pulse) host(s *story) string { return mustBinding(s, "steady").host }

func mustBinding(s *story, user string) binding {
	s.Helper()
	b, err := s.binding(user)
	if err != nil {
		s.Fatal(err)
	}
	return b
}

// TestPasswordChanges: a chosen password by its Secret, a generated one by deleting its hash.
func TestPasswordChanges(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.broker()
	pod := s.pod()
	chosen := gen.Secret(s.namespace, "chosen", map[string]string{"password": "first-" + random(8)})
	s.create(chosen)
	s.user("person", gen.WithPasswordFrom(chosen.Name), allow("#"))
	s.user("machine", allow("#"))

	for _, change := range []struct {
		user string
		do   func()
	}{
		{"person", func() {
			s.sayf("the Secret gets another password")
			s.update(chosen, func() { chosen.Data["password"] = []byte("second-" + random(8)) })
		}},
		{"machine", func() {
			s.sayf("the binding with a generated password is deleted")
			s.remove(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1alpha1.BindingSecretName("machine")}})
		}},
	} {
		before := mustBinding(s, change.user)
		s.connect(change.user)
		change.do()
		s.eventually(patience, "the binding of "+change.user+" holds another password", func() error {
			now, err := s.binding(change.user)
			if err == nil && now.password == before.password {
				err = errors.New("it holds the same one")
			}
			return err
		})
		took := s.eventually(patience, "the new password is accepted", func() error {
			_, err := s.tryConnect(change.user, session{})
			return err
		})
		s.sayf("the new password of %s was accepted %.2fs after the binding had it", change.user, took.Seconds())
		if _, err := connectWith(before, session{}); refusedWith(err, badUserNameOrPassword) != nil {
			t.Errorf("the old password of %s: %v", change.user, refusedWith(err, badUserNameOrPassword))
		}
	}
	s.samePod(pod)
}

// TestSecretThatIsNotThere: the condition says what to do, and doing it heals.
func TestSecretThatIsNotThere(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.broker()
	user := gen.User(s.namespace, "late", brokerName, gen.WithPasswordFrom("late-password"), allow("#"))
	s.create(user)
	missing := s.await(user, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotUsable)
	s.sayf("without the Secret: %s", missing)
	s.await(user, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonSecretNotUsable)
	advice := fmt.Sprintf("kubectl -n %s label secret late-password %s=%s", s.namespace, v1alpha1.LabelAllow, v1alpha1.AllowReference)
	if !strings.Contains(missing, advice) {
		t.Errorf("the message does not tell the next move: want %q in it", advice)
	}

	s.sayf("the Secret comes, but without its label")
	secret := gen.Secret(s.namespace, "late-password", map[string]string{"pass": "late-" + random(8)})
	secret.Labels = nil
	s.create(secret)
	// Something that wakes the operator for sure, so that an unchanged answer is an answer.
	s.update(user, func() { user.Spec.ACL = append(user.Spec.ACL, user.Spec.ACL[0]) })
	if unlabelled := s.await(user, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotUsable); unlabelled != missing {
		t.Errorf("the messages differ, so they tell which Secrets exist:\n%s\n%s", missing, unlabelled)
	}

	s.sayf("it is labelled, but holds another key")
	s.update(secret, func() { secret.Labels = map[string]string{v1alpha1.LabelAllow: v1alpha1.AllowReference} })
	s.sayf("%s", s.await(user, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretKeyMissing))

	s.sayf("the key holds nothing")
	s.update(secret, func() { secret.Data[v1alpha1.DefaultPasswordKey] = []byte{} })
	s.sayf("%s", s.await(user, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPasswordInvalid))

	s.sayf("the key is there")
	s.update(secret, func() { secret.Data[v1alpha1.DefaultPasswordKey] = []byte("here-" + random(8)) })
	s.awaitReady(user)
	s.connect(user.Name)
	if err := s.condition(user, v1alpha1.ConditionStalled, metav1.ConditionTrue, ""); err == nil {
		t.Error("the user is ready and says Stalled all the same")
	}

	s.sayf("the label is taken away: who is in stays in, and the status says it")
	in := s.connect(user.Name)
	s.update(secret, func() { secret.Labels = nil })
	s.await(user, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotUsable)
	s.mustSubscribe(in, "still")
	s.mustPublish(in, "still", "here")
	s.hears(in, "still", "here")
}

// TestOldestOfOneNameWins: two objects want one username.
func TestOldestOfOneNameWins(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.broker()
	first := s.user("first", gen.WithUsername("shared"), allow("first"))
	// Creation is told in whole seconds, and a tie goes by name: this one would win it.
	s.eventually(patience, "the next object is younger", func() error {
		if time.Since(first.CreationTimestamp.Time) < 1100*time.Millisecond {
			return errors.New("the second is not over")
		}
		return nil
	})
	second := gen.User(s.namespace, "a-second", brokerName, gen.WithUsername("shared"), allow("second"))
	s.create(second)
	message := s.await(second, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonUsernameConflict)
	s.sayf("%s", message)
	if !strings.Contains(message, "MQTTUser first") {
		t.Error("the message does not name the one that has the name")
	}
	if err := s.condition(first, v1alpha1.ConditionReady, metav1.ConditionTrue, ""); err != nil {
		t.Errorf("the older one suffers: %v", err)
	}
	in := s.connect("first")
	s.mustSubscribe(in, "first")
	if err := refusedWith(in.subscribe("second", 0), notAuthorized); err != nil {
		t.Errorf("a rule of the second object: %v", err)
	}

	s.sayf("the first is deleted")
	s.remove(first)
	s.awaitReady(second)
	s.awaitEnd(in)
	heir := s.connect("a-second")
	s.mustSubscribe(heir, "second")
	if err := refusedWith(heir.subscribe("first", 0), notAuthorized); err != nil {
		t.Errorf("a rule of the first object: %v", err)
	}
}

// TestNobodyIsDenied: who has no name stays out, unless a listener says so in words.
func TestNobodyIsDenied(t *testing.T) {
	t.Parallel()
	s := begin(t)
	broker := s.broker(gen.WithListener(gen.Plain("plain", 1883)))
	s.await(broker, v1alpha1.ConditionInsecure, metav1.ConditionTrue, v1alpha1.ReasonPlaintextListener)
	s.user("member", allow("#"))
	encrypted := mustBinding(s, "member")
	encrypted.username, encrypted.password = "", ""
	plain := binding{host: v1alpha1.ListenerServiceName(brokerName, "plain") + "." + s.namespace + ".svc", port: "1883"}
	for door, b := range map[string]binding{"tls": encrypted, "tcp": plain} {
		s.eventually(patience, "nobody is refused by the "+door+" listener", func() error { // kube-proxy may be a moment late
			_, err := connectWith(b, session{})
			return refusedWith(err, badUserNameOrPassword)
		})
	}

	s.sayf("one listener lets nobody in, for one topic")
	pod := s.pod()
	s.update(broker, func() {
		broker.Spec.Listeners[1].Anonymous = &v1alpha1.ListenerAnonymous{Enabled: new(true), ACL: []v1alpha1.ACLRule{{
			Effect: v1alpha1.ACLAllow, Actions: []v1alpha1.ACLAction{v1alpha1.ACLSubscribe}, Filter: "public/#",
		}}}
	})
	s.await(broker, v1alpha1.ConditionInsecure, metav1.ConditionTrue, v1alpha1.ReasonAnonymousAccess)
	s.awaitReady(broker)
	guest, err := connectWith(plain, session{clientID: "guest"})
	if err != nil {
		t.Fatalf("nobody is not let in: %v", err)
	}
	defer guest.leave()
	s.mustSubscribe(guest, "public/news")
	if err := refusedWith(guest.publish("public/news", "x"), notAuthorized); err != nil {
		t.Errorf("nobody publishes: %v", err)
	}
	if _, err := connectWith(encrypted, session{}); refusedWith(err, badUserNameOrPassword) != nil {
		t.Errorf("without a name through the other listener: %v", refusedWith(err, badUserNameOrPassword))
	}

	s.sayf("the listener changes its mind")
	s.update(broker, func() { broker.Spec.Listeners[1].Anonymous = nil })
	s.awaitEnd(guest)
	s.samePod(pod)
}

// TestChosenPasswordsMayHoldAnything: bytes that shells, YAML and JSON stumble over.
func TestChosenPasswordsMayHoldAnything(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.broker()
	for name, password := range map[string]string{
		"quotes":  `"'` + "`$(true)\\" + random(4),
		"unicode": "pässwörd-✓-" + random(4),
		"bytes":   string([]byte{0xff, 0xfe, 0, 1, '\t'}) + random(4),
		"long":    strings.Repeat("x", 65000) + random(4),
		"html":    "<&>" + random(4),
	} {
		secret := gen.Secret(s.namespace, name, nil)
		secret.Data = map[string][]byte{"password": []byte(password)}
		s.create(secret)
		s.user(name, gen.WithPasswordFrom(name), allow("#"))
		s.connect(name)
		if b := mustBinding(s, name); !bytes.Equal([]byte(b.password), []byte(password)) {
			t.Errorf("the binding of %s holds another password", name)
		}
	}
}
