// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

// release is a chart with the images that belong to it.
type release struct{ chart, tag string }

// releases are those between which hack/upgrade.sh upgrades; it says in the environment where they are.
func releases(t *testing.T) (before, now release) {
	t.Helper()
	read := func(what string) release {
		r := release{chart: os.Getenv(what + "_CHART"), tag: os.Getenv(what + "_TAG")}
		if r.chart == "" || r.tag == "" {
			t.Fatalf("%s_CHART and %s_TAG are not set: start this story with hack/upgrade.sh", what, what)
		}
		return r
	}
	return read("BEFORE"), read("NOW")
}

func (r release) image(name string) string {
	registry := os.Getenv("IMAGE_REGISTRY")
	if registry == "" {
		registry = "ghcr.io/mqtt-operator"
	}
	return registry + "/" + name + ":" + r.tag
}

// install installs a release with Helm or upgrades to it, and waits until it leads.
func (s *story) install(r release) {
	s.Helper()
	began := time.Now()
	repository := func(name string) string { return strings.TrimSuffix(r.image(name), ":"+r.tag) }
	text, err := exec.CommandContext(s.ctx, os.Getenv("HELM"), "upgrade", "--install", operatorName, r.chart,
		"--namespace", operatorNamespace, "--wait", "--timeout", "3m", "--rollback-on-failure=false",
		"--set", "image.repository="+repository("mqtt-operator"), "--set", "image.tag="+r.tag,
		"--set", "brokerImage.repository="+repository("mqtt-broker"), "--set", "brokerImage.tag="+r.tag).CombinedOutput()
	if err != nil {
		s.Fatalf("helm: %v: %s", err, text)
	}
	s.eventually(patience, "a pod of that release leads", func() error {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: s.leader()}}
		if err := s.get(pod); err != nil {
			return err
		}
		if image := pod.Spec.Containers[0].Image; image != r.image("mqtt-operator") {
			return fmt.Errorf("the leader is %s with %s", pod.Name, image)
		}
		return nil
	})
	s.sayf("release %s leads after %.1fs", r.tag, time.Since(began).Seconds())
}

// TestUpgrade from the release of before to this one, with clients at work. hack/upgrade.sh brings both releases; it is not
// among the stories of hack/e2e.sh.
func TestUpgrade(t *testing.T) {
	before, now := releases(t)
	s := begin(t)
	s.sayf("the release of before is %s, that of now %s", before.tag, now.tag)
	s.install(before)
	s.pair()
	images := map[string]string{brokerName: before.image("mqtt-broker"), "next": now.image("mqtt-broker")}
	next := gen.Broker(s.namespace, "next", withVolume)
	next.Spec.Image = new(now.image("mqtt-broker"))
	ahead := gen.Bridge(s.namespace, "ahead", brokerName, small, gen.ToBroker(v1alpha1.BrokerReference{Name: "next"}),
		gen.WithRoutes(gen.Between(gen.Route("up", v1alpha1.RouteOut, "up/#"), "", "from/")))
	ahead.Spec.Image = new(now.image("mqtt-broker"))
	s.create(next, ahead)
	s.awaitReady(next)
	s.awaitReady(ahead)
	work := s.atWork(4, 30)
	forms := s.forms()

	s.sayf("the operator of before, with its own brokers and with one of now")
	for broker, image := range images {
		s.obeys(broker, image, "first")
	}
	work.undisturbed("before the upgrade")

	s.sayf("the upgrade")
	s.install(now)
	s.sayf("the operator of now, with brokers of before and with one of now")
	for broker, image := range images {
		s.obeys(broker, image, "second")
	}
	s.bridges("link", "hub", "load/extra", "plant/load/extra")
	s.bridges("ahead", "next", "up/extra", "from/up/extra")
	work.undisturbed("after the upgrade")
	if again := s.forms(); !maps.Equal(forms, again) {
		t.Errorf("the upgrade changed the form of pods: %v became %v", forms, again)
	}
	for _, broker := range []string{brokerName, hubName, "next"} {
		b := gen.Broker(s.namespace, broker)
		s.awaitReady(b)
		if b.Status.LastRestart != nil {
			t.Errorf("broker %s says that it was restarted: %+v", broker, b.Status.LastRestart)
		}
	}

	s.sayf("a broker of before, made by the operator of now; and one that takes what the release brings")
	late := gen.Broker(s.namespace, "late", withVolume)
	late.Spec.Image = new(before.image("mqtt-broker"))
	s.create(late, gen.Broker(s.namespace, "born"))
	for broker, image := range map[string]string{"late": before.image("mqtt-broker"), "born": now.image("mqtt-broker")} {
		s.awaitReady(gen.Broker(s.namespace, broker))
		s.obeys(broker, image, "third")
	}
	work.include()

	s.absence(work)
	s.takeover(work)

	s.sayf("back to the release of before")
	s.install(before)
	for broker, image := range images {
		s.obeys(broker, image, "fourth")
	}
	work.undisturbed("after the way back")
	s.install(now)
	s.obeys(brokerName, before.image("mqtt-broker"), "fifth")

	drops, restarts := work.undisturbed("in the end")
	published, silence := work.end()
	s.sayf("%d messages were acknowledged and have arrived on both sides; the bridge was silent for %.2fs at most", published, silence.Seconds())
	s.sayf("%d pods were restarted and %d of %d connections dropped", restarts, drops, len(work.clients))
}

// obeys changes what a running broker has to know, and looks whether it does: a user who comes, is narrowed and goes, and a
// listener.
func (s *story) obeys(name, image, when string) {
	s.Helper()
	broker, user := gen.Broker(s.namespace, name), gen.User(s.namespace, when+"-at-"+name, name, allow("hall/#"), allow("garden/#"))
	s.create(user)
	s.awaitReady(user)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1alpha1.PodName(name, 0)}}
	if err := s.get(pod); err != nil {
		s.Fatal(err)
	}
	if got := pod.Spec.Containers[0].Image; got != image {
		s.Errorf("broker %s runs %s, want %s", name, got, image)
	}
	in := s.connect(user.Name)
	s.mustSubscribe(in, "hall/#")
	s.mustPublish(in, "hall/1", when)
	s.hears(in, "hall/1", when)

	s.update(user, func() { user.Spec.ACL = user.Spec.ACL[1:] })
	s.awaitReady(user)
	if err := refusedWith(in.publish("hall/1", "no more"), notAuthorized); err != nil {
		s.Errorf("%s after its grant was narrowed: %v", user.Name, err)
	}

	port := int32(1883 + len(when)%7)
	s.update(broker, func() { broker.Spec.Listeners = append(broker.Spec.Listeners[:1], gen.Plain(when, port)) })
	s.awaitReady(broker)
	door := mustBinding(s, user.Name)
	door.host, door.port, door.ca = v1alpha1.ListenerServiceName(name, when)+"."+s.namespace+".svc", strconv.Itoa(int(port)), nil
	s.eventually(patience, "the new listener of "+name+" serves", func() error {
		c, err := connectWith(door, session{})
		if err == nil {
			c.leave()
		}
		return err
	})

	s.remove(user)
	s.awaitEnd(in)
	s.sayf("broker %s takes what it is told", name)
}

// bridges adds a route to a bridge and sends a message over it.
func (s *story) bridges(name, far, topic, arrives string) {
	s.Helper()
	bridge := gen.Bridge(s.namespace, name, brokerName)
	prefix := strings.TrimSuffix(arrives, topic)
	s.update(bridge, func() {
		bridge.Spec.Routes = append(bridge.Spec.Routes, gen.Between(gen.Route("back", v1alpha1.RouteIn, "back/#"), prefix, ""))
	})
	s.awaitReady(bridge)
	s.userOf(far, "at-"+far, allow("#"))
	s.userOf(brokerName, "near-"+far, allow("#"))
	here, there := s.connect("near-"+far), s.connect("at-"+far)
	s.mustSubscribe(there, arrives)
	s.mustSubscribe(here, prefix+"back/#")
	s.mustPublish(here, topic, "out")
	s.hears(there, arrives, "out")
	s.mustPublish(there, "back/1", "home")
	s.hears(here, prefix+"back/1", "home")
	here.leave()
	there.leave()
}

// forms are the pod templates of the story's brokers and bridges, by their generation.
func (s *story) forms() map[string]string {
	s.Helper()
	forms := map[string]string{}
	sets, deployments := &appsv1.StatefulSetList{}, &appsv1.DeploymentList{}
	for _, list := range []client.ObjectList{sets, deployments} {
		if err := kube.List(s.ctx, list, client.InNamespace(s.namespace)); err != nil {
			s.Fatal(err)
		}
	}
	for i := range sets.Items {
		forms[sets.Items[i].Name] = sets.Items[i].Status.UpdateRevision
	}
	for i := range deployments.Items {
		forms[deployments.Items[i].Name] = said(deployments.Items[i].Spec.Template)
	}
	return forms
}

// absence is a time without an operator, in which somebody writes YAML.
func (s *story) absence(work *load) {
	s.Helper()
	s.sayf("the operator is scaled to 0, and somebody goes on writing")
	s.settles()
	s.scaleOperator(0)
	before := s.versions()
	broker, late := gen.Broker(s.namespace, brokerName), gen.User(s.namespace, "meanwhile", brokerName, allow("hall/#"))
	s.update(broker, func() { broker.Spec.Listeners = append(broker.Spec.Listeners, gen.Plain("later", 1899)) })
	s.create(late)
	work.undisturbed("while there is no operator")
	after := s.versions()
	for name := range maps.Clone(after) {
		if name == "MQTTBroker "+brokerName || name == "MQTTUser meanwhile" {
			delete(before, name)
			delete(after, name)
		}
	}
	if !maps.Equal(before, after) {
		s.Errorf("something was written although there is no operator: %v became %v", before, after)
	}
	s.scaleOperator(operatorReplicas)
	s.awaitReady(late)
	s.awaitReady(broker)
	s.connect("meanwhile").leave()
	work.undisturbed("after the operator came back")
}

// takeover kills the leader while it is at work.
func (s *story) takeover(work *load) {
	const users = 20
	s.Helper()
	leader := s.leader()
	s.sayf("%s leads, and is killed while %d users are written", leader, users)
	s.keepLogs()
	var all []*v1alpha1.MQTTUser
	for i := range users {
		user := gen.User(s.namespace, fmt.Sprintf("many-%d", i), brokerName, allow("hall/#"))
		s.create(user)
		all = append(all, user)
		if i == users/2 {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: leader}}
			if err := s.get(pod); err != nil {
				s.Fatal(err)
			}
			if !s.crash(pod) {
				s.remove(pod)
			}
		}
	}
	began := time.Now()
	for _, user := range all {
		s.awaitReady(user)
	}
	s.sayf("all of them are known %.1fs after the last was written; %s leads", time.Since(began).Seconds(), s.leader())
	s.scaleOperator(operatorReplicas)
	work.undisturbed("after the leader was killed")
}

// versions are the resourceVersions of what the operator writes, without what others write into it.
func (s *story) versions() map[string]string {
	s.Helper()
	versions := map[string]string{}
	for _, list := range []client.ObjectList{
		&corev1.SecretList{}, &corev1.ServiceList{}, &corev1.ServiceAccountList{}, &appsv1.StatefulSetList{}, &appsv1.DeploymentList{},
		&v1alpha1.MQTTBrokerList{}, &v1alpha1.MQTTUserList{}, &v1alpha1.MQTTAccessPolicyList{}, &v1alpha1.MQTTBridgeList{},
	} {
		if err := kube.List(s.ctx, list, client.InNamespace(s.namespace)); err != nil {
			s.Fatal(err)
		}
		if err := meta.EachListItem(list, func(o runtime.Object) error {
			object, isObject := o.(client.Object)
			if !isObject {
				return fmt.Errorf("%T is no object", o)
			}
			versions[named(object)] = object.GetResourceVersion()
			return nil
		}); err != nil {
			s.Fatal(err)
		}
	}
	return versions
}

// settles waits until nothing is written for a while, by twenty looks that see the same.
func (s *story) settles() {
	s.Helper()
	last, same := s.versions(), 0
	s.eventually(patience, "the namespace comes to rest", func() error {
		now := s.versions()
		same++
		if !maps.Equal(now, last) {
			last, same = now, 0
		}
		if same < 20 {
			return errors.New("it still moves")
		}
		return nil
	})
}
