// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
)

// withVolume keeps what clients left behind over the end of a pod; the volume goes with the broker.
func withVolume(b *v1alpha1.MQTTBroker) {
	b.Spec.Persistence = &v1alpha1.BrokerPersistence{Retention: &v1alpha1.PersistenceRetention{WhenDeleted: new(v1alpha1.DeleteVolume)}}
}

// TestListenersChangeLive: doors open and close while others are in use.
func TestListenersChangeLive(t *testing.T) {
	t.Parallel()
	s := begin(t)
	broker := s.broker()
	pod := s.pod()
	s.user("anna", allow("#"))
	steady := s.pulse("anna", "steady")

	s.sayf("a second listener, with TLS")
	s.update(broker, func() {
		broker.Spec.Listeners = append(broker.Spec.Listeners, v1alpha1.BrokerListener{
			Name: "second", Protocol: v1alpha1.ProtocolTLS, Port: 8884, TLS: &v1alpha1.ListenerTLS{SelfManaged: &v1alpha1.SelfManagedTLS{}},
		})
	})
	s.awaitReady(broker)
	second := mustBinding(s, "anna")
	second.host, second.port = v1alpha1.ListenerServiceName(brokerName, "second")+"."+s.namespace+".svc", "8884"
	var in *mqttClient
	s.eventually(patience, "the new listener serves under its own name", func() (err error) {
		in, err = connectWith(second, session{})
		return err
	})
	defer in.leave()
	s.mustSubscribe(in, "across")
	s.mustPublish(steady.from, "across", "from one door to the other")
	s.hears(in, "across", "from one door to the other")

	s.sayf("it moves to another port")
	s.update(broker, func() { broker.Spec.Listeners[1].Port = 8885 })
	s.awaitEnd(in)
	s.awaitReady(broker)
	second.port = "8885"
	s.eventually(patience, "it serves at its new port", func() (err error) {
		in, err = connectWith(second, session{})
		return err
	})

	s.sayf("it is removed")
	s.update(broker, func() { broker.Spec.Listeners = broker.Spec.Listeners[:1] })
	s.awaitEnd(in)
	s.eventually(patience, "its Service is gone", func() error {
		return s.isGone(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1alpha1.ListenerServiceName(brokerName, "second")}})
	})
	s.awaitReady(broker)
	s.beat(steady)
	s.samePod(pod)
}

// TestCertificateFromASecret: a pair that does not fit never takes the place of one that does.
func TestCertificateFromASecret(t *testing.T) {
	t.Parallel()
	s := begin(t)
	first, second := s.newPair("first"), s.newPair("second")
	secret := gen.Secret(s.namespace, "certificate", nil)
	secret.Data = first.data()
	s.create(secret)
	broker := gen.Broker(s.namespace, brokerName)
	broker.Spec.Listeners = []v1alpha1.BrokerListener{gen.FromSecret("mqtts", 8883, secret.Name)}
	s.create(broker)
	s.awaitReady(broker)
	s.user("anna", allow("#"))
	pod, steady := s.pod(), s.pulse("anna", "steady")
	s.serves(first, first)

	s.sayf("the certificate of one pair with the key of another")
	s.update(secret, func() { secret.Data = pairOf(second.Certificate, first.Key, second.ca) })
	message := s.await(broker, v1alpha1.ConditionTLSReady, metav1.ConditionFalse, v1alpha1.ReasonKeyPairMismatch)
	s.sayf("%s", message)
	if !strings.Contains(message, "certificate") {
		t.Error("the message does not name the Secret")
	}
	s.await(broker, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonKeyPairMismatch)
	s.await(broker, v1alpha1.ConditionAvailable, metav1.ConditionTrue, "")
	s.serves(first, first)

	s.sayf("no certificate at all")
	s.update(secret, func() { secret.Data = pairOf([]byte("not PEM"), second.Key, second.ca) })
	s.sayf("%s", s.await(broker, v1alpha1.ConditionTLSReady, metav1.ConditionFalse, v1alpha1.ReasonCertificateInvalid))
	s.serves(first, first)

	s.sayf("the Secret is gone")
	s.remove(secret)
	s.sayf("%s", s.await(broker, v1alpha1.ConditionTLSReady, metav1.ConditionFalse, v1alpha1.ReasonTLSSecretNotUsable))
	s.serves(first, first)

	s.sayf("a pair that belongs together")
	secret = gen.Secret(s.namespace, "certificate", nil)
	secret.Data = second.data()
	s.create(secret)
	s.await(broker, v1alpha1.ConditionTLSReady, metav1.ConditionTrue, v1alpha1.ReasonTLSReady)
	s.awaitReady(broker)
	s.serves(second, second)
	s.eventually(patience, "the binding vouches for the new certificate", func() error {
		_, err := s.tryConnect("anna", session{})
		return err
	})
	s.beat(steady)
	s.samePod(pod)
}

// keyPair is a certificate for the story's listener with the CA that signed it.
type keyPair struct {
	pki.Pair

	ca []byte
}

func (s *story) newPair(name string) keyPair {
	s.Helper()
	ca, err := pki.NewCA(name, time.Now())
	if err != nil {
		s.Fatal(err)
	}
	pair, err := pki.Issue(ca, pki.Request{
		CommonName: name, Server: true,
		DNSNames: []string{v1alpha1.ListenerServiceName(brokerName, "mqtts") + "." + s.namespace + ".svc"},
	}, time.Now())
	if err != nil {
		s.Fatal(err)
	}
	return keyPair{Pair: pair, ca: ca.Certificate}
}

func (p keyPair) data() map[string][]byte { return pairOf(p.Certificate, p.Key, p.ca) }

func pairOf(certificate, key, ca []byte) map[string][]byte {
	return map[string][]byte{corev1.TLSCertKey: certificate, corev1.TLSPrivateKeyKey: key, v1alpha1.BindingCA: ca}
}

// serves complains unless the listener shows this certificate, as seen by who trusts that CA.
func (s *story) serves(want, trust keyPair) {
	s.Helper()
	b := binding{host: v1alpha1.ListenerServiceName(brokerName, "mqtts") + "." + s.namespace + ".svc", port: "8883", ca: trust.ca}
	s.eventually(patience, "the listener serves the certificate that it should", func() error {
		shown, err := b.served()
		if err != nil {
			return err
		}
		leaf, err := pki.Check(want.Pair, time.Now())
		if err != nil {
			return err
		}
		if !bytes.Equal(shown, leaf.Raw) {
			return errors.New("it shows another one")
		}
		return nil
	})
}

// TestChildrenComeBack: what people delete or edit by hand is as it was, and clients notice nothing.
func TestChildrenComeBack(t *testing.T) {
	t.Parallel()
	s := begin(t)
	broker := s.broker()
	s.user("anna", allow("#"))
	pod, steady := s.pod(), s.pulse("anna", "steady")
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: s.namespace, Name: name} }
	settled := func() {
		s.Helper()
		s.awaitReady(broker)
		s.beat(steady)
	}

	for _, child := range []client.Object{
		&corev1.Service{ObjectMeta: meta(v1alpha1.ListenerServiceName(brokerName, "mqtts"))},
		&corev1.Service{ObjectMeta: meta(v1alpha1.HeadlessServiceName(brokerName))},
		&corev1.ServiceAccount{ObjectMeta: meta(v1alpha1.ServiceAccountName(brokerName))},
		&corev1.Secret{ObjectMeta: meta(v1alpha1.ConfigSecretName(brokerName))},
		&corev1.Secret{ObjectMeta: meta(v1alpha1.UsersSecretName(brokerName, 0))},
		&corev1.Secret{ObjectMeta: meta(v1alpha1.TLSSecretName(brokerName))},
		&corev1.Secret{ObjectMeta: meta(v1alpha1.BindingSecretName("anna"))},
		&corev1.Secret{ObjectMeta: meta(v1alpha1.VerifierSecretName("anna"))},
	} {
		before := mustBinding(s, "anna")
		took := s.deleteAndAwait(child)
		s.sayf("%s was deleted and came back after %.2fs", named(child), took.Seconds())
		if child.GetName() == v1alpha1.BindingSecretName("anna") {
			// The password is kept in plain form in the binding alone: without it a new one is drawn, which ends the
			// connections of the old one. The hash is known to the broker too, so it comes back as it was.
			s.eventually(patience, "the user is let in with another password, which its binding says", func() error {
				now, err := s.binding("anna")
				if err == nil && now.password == before.password {
					err = errors.New("the binding holds the old password")
				}
				if err == nil {
					_, err = s.tryConnect("anna", session{})
				}
				return err
			})
			steady = s.pulse("anna", "steady")
		}
		settled()
	}

	s.sayf("the StatefulSet is edited, in what restarts no pod")
	set := &appsv1.StatefulSet{ObjectMeta: meta(v1alpha1.StatefulSetName(brokerName))}
	edits := map[string]func(){
		"a label":               func() { set.Labels[v1alpha1.LabelBroker] = "someone-else" },
		"the history":           func() { set.Spec.RevisionHistoryLimit = new(int32(7)) },
		"an annotation of ours": func() { delete(set.Annotations, "mqtt-operator.io/applied") },
	}
	for what, edit := range edits {
		if err := s.get(set); err != nil {
			t.Fatal(err)
		}
		want := set.DeepCopy()
		s.update(set, edit)
		took := s.eventually(patience, what+" of the StatefulSet is as it was", func() error {
			if err := s.get(set); err != nil {
				return err
			}
			if !maps.Equal(set.Labels, want.Labels) || !maps.Equal(set.Annotations, want.Annotations) || !equality.Semantic.DeepEqual(set.Spec, want.Spec) {
				return errors.New("it is as it was edited")
			}
			return nil
		})
		s.sayf("the edit of %s was undone after %.2fs", what, took.Seconds())
		settled()
	}

	s.sayf("a Service is edited: its selector points nowhere")
	service := &corev1.Service{ObjectMeta: meta(v1alpha1.ListenerServiceName(brokerName, "mqtts"))}
	s.update(service, func() { service.Spec.Selector = map[string]string{"app": "nothing"} })
	s.eventually(patience, "new clients get through the Service again", func() error {
		_, err := s.tryConnect("anna", session{})
		return err
	})

	s.sayf("the users' Secret is emptied")
	shard := &corev1.Secret{ObjectMeta: meta(v1alpha1.UsersSecretName(brokerName, 0))}
	s.update(shard, func() { shard.Data = map[string][]byte{} })
	s.eventually(patience, "it holds the users again", func() error {
		if err := s.get(shard); err != nil {
			return err
		}
		if len(shard.Data) == 0 {
			return errors.New("it is empty")
		}
		return nil
	})
	settled()

	s.sayf("the CA is deleted: there is no other copy, so a new one is made, and the binding vouches for it")
	before := mustBinding(s, "anna")
	s.deleteAndAwait(&corev1.Secret{ObjectMeta: meta(v1alpha1.CASecretName(brokerName))})
	s.eventually(patience, "a client that reads its binding anew is let in under the new CA", func() error {
		if now := mustBinding(s, "anna"); bytes.Equal(now.ca, before.ca) {
			return errors.New("the binding holds the old CA")
		}
		_, err := s.tryConnect("anna", session{})
		return err
	})
	settled()
	s.samePod(pod)

	s.sayf("the admin CA is deleted: the operator reaches the pod again once the kubelet has brought the new certificate")
	s.deleteAndAwait(&corev1.Secret{ObjectMeta: meta(v1alpha1.AdminCASecretName(brokerName))})
	s.user("ben", allow("#"))
	s.connect("ben")
	settled()
	s.samePod(pod)
}

// deleteAndAwait deletes an object and waits for the one that takes its place.
func (s *story) deleteAndAwait(child client.Object) time.Duration {
	s.Helper()
	if err := s.get(child); err != nil {
		s.Fatal(err)
	}
	before := child.GetUID()
	s.remove(child)
	return s.eventually(patience, named(child)+" comes back", func() error {
		if err := s.get(child); err != nil {
			return err
		}
		if child.GetUID() == before {
			return errors.New("the deleted one is still there")
		}
		return nil
	})
}

// TestStatefulSetEdits: edits that restart pods are undone too.
func TestStatefulSetEdits(t *testing.T) {
	t.Parallel()
	s := begin(t)
	// With whenDeleted: Delete the volume would go with the StatefulSet, whoever deletes it.
	broker := s.broker(func(b *v1alpha1.MQTTBroker) { b.Spec.Persistence = &v1alpha1.BrokerPersistence{} })
	s.user("anna", allow("#"))
	in := s.connect("anna")
	if err := in.retain("kept", "over it all"); err != nil {
		t.Fatal(err)
	}
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1alpha1.StatefulSetName(brokerName)}}
	for what, edit := range map[string]func(){
		"image": func() {
			set.Spec.Template.Spec.Containers[0].Args = append(set.Spec.Template.Spec.Containers[0].Args, "--wrong")
		},
		"replicas": func() { set.Spec.Replicas = new(int32(0)) },
	} {
		if err := s.get(set); err != nil {
			t.Fatal(err)
		}
		want := set.DeepCopy()
		s.update(set, edit)
		took := s.eventually(patience, "the "+what+" of the StatefulSet is as it was", func() error {
			if err := s.get(set); err != nil {
				return err
			}
			if !equality.Semantic.DeepEqual(set.Spec, want.Spec) {
				return errors.New("it is as it was edited")
			}
			return nil
		})
		s.sayf("the edit of %s was undone after %.2fs", what, took.Seconds())
		s.awaitReady(broker)
	}
	s.sayf("the StatefulSet is deleted, with its pod")
	s.deleteAndAwait(set)
	s.awaitReady(broker)
	again := s.reconnect("anna", session{})
	s.mustSubscribe(again, "kept")
	s.hears(again, "kept", "over it all")
}

// TestPodIsKilled: the next pod has the volume of the last one.
func TestPodIsKilled(t *testing.T) {
	t.Parallel()
	s := begin(t)
	broker := s.broker(withVolume)
	s.user("anna", allow("#"))
	s.user("ben", allow("#"))
	anna := s.connect("anna")
	away := session{clientID: "ben-at-home", expiry: 3600, resume: true}
	ben := s.connectAs("ben", away)
	s.mustSubscribe(ben, "letters/#")
	ben.leave()
	if err := anna.retain("state", "on"); err != nil {
		t.Fatal(err)
	}
	s.mustPublish(anna, "letters/1", "before the pod was killed")

	for _, kill := range []struct {
		how   string
		grace int64
	}{{"without a grace", 0}, {"in order", 30}} {
		pod := s.pod()
		s.keepLogs()
		s.sayf("the broker's pod is killed %s", kill.how)
		if err := kube.Delete(s.ctx, pod, client.GracePeriodSeconds(kill.grace)); err != nil {
			t.Fatal(err)
		}
		s.awaitEnd(anna)
		s.eventually(patience, "another pod is ready", func() error {
			now := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: pod.Name}}
			if err := s.get(now); err != nil {
				return err
			}
			if now.UID == pod.UID {
				return errors.New("it is the same pod")
			}
			return s.condition(broker, v1alpha1.ConditionReady, metav1.ConditionTrue, "")
		})
		anna = s.reconnect("anna", session{})
		s.mustSubscribe(anna, "state")
		s.hears(anna, "state", "on")
		s.mustPublish(anna, "letters/2", "after it")
		ben = s.connectAs("ben", away)
		if !ben.present {
			t.Error("the broker has forgotten ben's session")
		}
		if kill.grace == 0 {
			s.hears(ben, "letters/1", "before the pod was killed")
		}
		s.hears(ben, "letters/2", "after it")
		ben.leave()
	}
	s.sayf("the broker's process is killed with no time to write anything down")
	s.mustPublish(anna, "letters/3", "before the crash")
	if before := s.pod(); s.crash(before) {
		s.awaitEnd(anna)
		anna = s.reconnect("anna", session{})
		s.mustSubscribe(anna, "state")
		s.hears(anna, "state", "on")
		ben = s.reconnect("ben", away)
		if !ben.present {
			t.Error("the broker has forgotten ben's session")
		}
		s.hears(ben, "letters/3", "before the crash")
	}
	s.eventually(patience, "the operator sees one ready pod", func() error {
		if err := s.get(broker); err != nil {
			return err
		}
		if len(broker.Status.Pods) != 1 || broker.Status.Pods[0].Ready == nil || !*broker.Status.Pods[0].Ready {
			return fmt.Errorf("its status says %+v", broker.Status.Pods)
		}
		return nil
	})
}

// TestHibernate: no pod, nothing lost.
func TestHibernate(t *testing.T) {
	t.Parallel()
	s := begin(t)
	broker := s.broker(withVolume)
	user := s.user("anna", allow("#"))
	in := s.connect("anna")
	if err := in.retain("kept", "in its sleep"); err != nil {
		t.Fatal(err)
	}
	s.keepLogs()

	s.sayf("the broker is scaled to 0, through the scale subresource")
	s.scale(broker, 0)
	s.awaitEnd(in)
	s.eventually(patience, "no pod is left", func() error {
		return s.isGone(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1alpha1.PodName(brokerName, 0)}})
	})
	s.await(broker, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonHibernated)
	s.await(broker, v1alpha1.ConditionAvailable, metav1.ConditionFalse, v1alpha1.ReasonHibernated)
	s.await(user, v1alpha1.ConditionApplied, metav1.ConditionUnknown, v1alpha1.ReasonHibernated)

	s.sayf("somebody comes while it sleeps")
	newcomer := gen.User(s.namespace, "newcomer", brokerName, allow("#"))
	s.create(newcomer)
	s.await(newcomer, v1alpha1.ConditionCredentialsReady, metav1.ConditionTrue, "")

	s.sayf("it wakes")
	s.scale(broker, 1)
	s.awaitReady(broker)
	s.awaitReady(newcomer)
	s.awaitReady(user)
	again := s.reconnect("newcomer", session{})
	s.mustSubscribe(again, "kept")
	s.hears(again, "kept", "in its sleep")
}

func (s *story) scale(broker *v1alpha1.MQTTBroker, replicas int) {
	s.Helper()
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas))
	if err := kube.SubResource("scale").Patch(s.ctx, broker.DeepCopy(), patch); err != nil {
		s.Fatalf("scale: %v", err)
	}
}

// TestVolumeStays: a broker is deleted and made again, with the volume that the default keeps.
func TestVolumeStays(t *testing.T) {
	t.Parallel()
	s := begin(t)
	persistent := func(b *v1alpha1.MQTTBroker) { b.Spec.Persistence = &v1alpha1.BrokerPersistence{} }
	broker := s.broker(persistent)
	s.user("anna", allow("#"))
	in := s.connect("anna")
	if err := in.retain("kept", "in the volume"); err != nil {
		t.Fatal(err)
	}
	s.keepLogs()
	s.sayf("the broker is deleted, its user stays")
	s.remove(broker)
	s.awaitEnd(in)
	user := gen.User(s.namespace, "anna", brokerName)
	s.await(user, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonBrokerNotFound)
	s.eventually(patience, "its pod is gone", func() error {
		return s.isGone(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1alpha1.PodName(brokerName, 0)}})
	})
	s.sayf("it is made again")
	s.broker(persistent)
	s.awaitReady(user)
	again := s.reconnect("anna", session{})
	s.mustSubscribe(again, "kept")
	s.hears(again, "kept", "in the volume")
}

// TestAVolumeGrows under a pod that goes on, and the volume is the broker's still: it goes with it.
func TestAVolumeGrows(t *testing.T) {
	t.Parallel()
	s := begin(t)
	broker := s.broker(withVolume)
	s.user("anna", allow("#"))
	steady, pod := s.pulse("anna", "steady"), s.pod()
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1alpha1.StatefulSetName(brokerName)}}
	if err := s.get(set); err != nil {
		t.Fatal(err)
	}
	before, revision := set.UID, set.Status.UpdateRevision
	s.update(broker, func() { broker.Spec.Persistence.Size = new(resource.MustParse("2Gi")) })
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1alpha1.VolumeClaimName(brokerName, 0)}}
	took := s.eventually(patience, "the volume has grown", func() error {
		if err := s.get(claim); err != nil {
			return err
		}
		if has := claim.Status.Capacity.Storage(); has.Cmp(resource.MustParse("2Gi")) != 0 {
			return fmt.Errorf("it has %s", has)
		}
		return nil
	})
	s.awaitReady(broker)
	s.sayf("the volume had grown after %.1fs", took.Seconds())
	if err := s.get(set); err != nil {
		t.Fatal(err)
	}
	if set.UID == before || set.Status.UpdateRevision != revision || set.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests.Storage().String() != "2Gi" {
		t.Errorf("the StatefulSet was not made anew in the same form: %s", s.asText(set))
	}
	s.beat(steady)
	s.samePod(pod)
	if broker.Status.LastRestart != nil {
		t.Errorf("nobody was restarted: %+v", broker.Status.LastRestart)
	}

	s.sayf("the broker goes, and with it pod and volume")
	s.keepLogs()
	s.remove(broker)
	s.eventually(patience, "its pod and its claim are gone", func() error {
		return errors.Join(s.isGone(pod), s.isGone(claim))
	})
}

// TestARestartSendsClientsAway at the rate that was asked for, and they find their sessions when they come back.
func TestARestartSendsClientsAway(t *testing.T) {
	const clients, rate = 30, 5
	t.Parallel()
	s := begin(t)
	broker := s.broker(withVolume, func(b *v1alpha1.MQTTBroker) {
		b.Spec.Updates = &v1alpha1.BrokerUpdates{Drain: &v1alpha1.BrokerDrain{DisconnectRate: new(int32(rate))}}
	})
	s.user("anna", allow("#"))
	pod := s.pod()
	all, ends := make([]*mqttClient, clients), make(chan time.Time, clients)
	for i := range all {
		all[i] = s.connectAs("anna", session{clientID: fmt.Sprintf("client-%d", i), expiry: 3600})
		go func(c *mqttClient) {
			<-c.closed
			ends <- time.Now()
		}(all[i])
	}
	s.mustSubscribe(all[0], "kept")

	s.sayf("somebody asks for a restart")
	s.keepLogs()
	s.update(broker, func() { broker.Annotations = map[string]string{v1alpha1.AnnotationRestartAt: "2026-11-28T18:00:00Z"} })
	var first, last time.Time
	for i := range clients {
		select {
		case at := <-ends:
			if i == 0 {
				first = at
			}
			last = at
		case <-time.After(patience):
			t.Fatalf("%d of %d clients are still connected", clients-i, clients)
		}
	}
	took := last.Sub(first)
	s.sayf("%d clients were sent away within %.1fs: %.2f per second", clients, took.Seconds(), (clients-1)/took.Seconds())
	if least := time.Duration(float64(clients-1) / rate * 0.9 * float64(time.Second)); took < least {
		t.Errorf("they went within %v, want %v at least", took, least)
	}
	for _, c := range all {
		c.mu.Lock()
		if c.reason != serverShuttingDown {
			t.Errorf("%s was told %#x, want %#x: %v", c.name, c.reason, serverShuttingDown, c.why)
		}
		c.mu.Unlock()
	}
	again := s.reconnect("anna", session{clientID: "client-0", expiry: 3600, resume: true})
	if !again.present {
		t.Error("the session is lost")
	}
	s.mustPublish(again, "kept", "after the restart")
	s.hears(again, "kept", "after the restart")
	s.awaitReady(broker)
	if now := s.pod(); now.UID == pod.UID {
		t.Error("the pod is the old one")
	}
	if last := broker.Status.LastRestart; last == nil || last.Reason != v1alpha1.ReasonRestartRequested {
		t.Errorf("the status does not say why: %+v", last)
	}
}

// serverShuttingDown is the reason of a DISCONNECT.
const serverShuttingDown = 0x8B

// TestAChangeThatFails: an image that does not exist. The broker comes back with the one that it had, and what it kept.
func TestAChangeThatFails(t *testing.T) {
	t.Parallel()
	s := begin(t)
	broker := s.broker(withVolume, func(b *v1alpha1.MQTTBroker) {
		b.Spec.Updates = &v1alpha1.BrokerUpdates{ProgressDeadline: &metav1.Duration{Duration: 30 * time.Second}}
	})
	s.user("anna", allow("#"))
	in, image := s.connect("anna"), s.pod().Spec.Containers[0].Image
	if err := in.retain("kept", "in the volume"); err != nil {
		t.Fatal(err)
	}

	s.sayf("somebody mistypes the image")
	s.keepLogs()
	s.update(broker, func() { broker.Spec.Image = new("localhost/mqtt-broker:mistyped") })
	s.awaitEnd(in)
	began := time.Now()
	s.sayf("%s", s.await(broker, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonRolloutStuck))
	again := s.reconnect("anna", session{})
	s.sayf("clients are served again %.0fs after they were sent away", time.Since(began).Seconds())
	s.mustSubscribe(again, "kept")
	s.hears(again, "kept", "in the volume")
	s.await(broker, v1alpha1.ConditionAvailable, metav1.ConditionTrue, "")
	if now := s.pod().Spec.Containers[0].Image; now != image {
		t.Errorf("it came back with %s, want %s", now, image)
	}

	s.sayf("the mistake is corrected: the broker has that form already")
	pod := s.pod()
	s.update(broker, func() { broker.Spec.Image = nil })
	s.awaitReady(broker)
	s.samePod(pod)
	if err := again.ended(); err != nil {
		t.Errorf("a client was disturbed: %v", err)
	}
}
