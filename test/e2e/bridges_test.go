// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
)

// hubName is the other broker of a story about bridges.
const hubName = "hub"

// small lets many pods onto one node.
func small(b *v1alpha1.MQTTBridge) {
	b.Spec.Pod = &v1alpha1.BrokerPod{Resources: &corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("32Mi"),
	}}}
}

// userOf makes a user of a broker and waits until it is known there.
func (s *story) userOf(broker, name string, options ...gen.UserOption) {
	s.Helper()
	user := gen.User(s.namespace, name, broker, options...)
	s.create(user)
	s.awaitReady(user)
}

// counter counts what arrives at a client.
type counter struct {
	s     *story
	c     *mqttClient
	seen  map[string]int
	order []string
	// silence is the longest time between two messages since last was set.
	silence time.Duration
	last    time.Time
}

func (s *story) counter(c *mqttClient) *counter { return &counter{s: s, c: c, seen: map[string]int{}} }

// take waits until every text of wanted has arrived, and complains about what is missing.
func (n *counter) take(wanted []string) {
	n.s.Helper()
	deadline := time.After(patience)
	for {
		missing := 0
		for _, text := range wanted {
			if n.seen[text] == 0 {
				missing++
			}
		}
		if missing == 0 {
			return
		}
		select {
		case m := <-n.c.messages:
			n.note(string(m.Payload))
		case <-n.c.closed:
			n.s.Fatalf("%d of %d messages are missing, and the connection has ended: %v", missing, len(wanted), n.c.ended())
		case <-deadline:
			n.s.Fatalf("%d of %d messages are missing", missing, len(wanted))
		}
	}
}

func (n *counter) note(text string) {
	n.seen[text]++
	n.order = append(n.order, text)
	if now := time.Now(); !n.last.IsZero() {
		n.silence, n.last = max(n.silence, now.Sub(n.last)), now
	}
}

// follow counts while other things happen, until the function that it returns is called.
func (n *counter) follow() (end func()) {
	n.silence, n.last = 0, time.Now()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case m := <-n.c.messages:
				n.note(string(m.Payload))
			case <-stop:
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-done
	}
}

// twice is how many of them have arrived more than once.
func (n *counter) twice() (count int) {
	for _, times := range n.seen {
		count += times - 1
	}
	return count
}

// texts are different ones.
func texts(what string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s %d", what, i)
	}
	return all
}

func (s *story) publishAll(c *mqttClient, topic string, all []string) {
	s.Helper()
	for _, text := range all {
		s.mustPublish(c, topic, text)
	}
}

// talk publishes different texts, one after the other, until the function that it returns is called, which tells them all.
func (s *story) talk(c *mqttClient, topic, what string) (hush func() []string) {
	var all []string
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond): // a stream that goes on, not a flood
			}
			text := fmt.Sprintf("%s %d", what, len(all))
			if err := c.publish(topic, text); err != nil {
				s.Errorf("%s cannot publish to %s: %v", c.name, topic, err)
				return
			}
			all = append(all, text)
		}
	}()
	return func() []string {
		close(stop)
		<-done
		return all
	}
}

// awaitAtWork waits until the status says that another pod than this one carries the messages, and that it has.
func (s *story) awaitAtWork(bridge *v1alpha1.MQTTBridge, gone string) {
	s.Helper()
	s.eventually(patience, "another pod carries the messages", func() error {
		if err := s.get(bridge); err != nil {
			return err
		}
		active := slices.ContainsFunc(bridge.Status.Pods, func(p v1alpha1.BridgePodStatus) bool {
			return p.Name != gone && p.Active != nil && *p.Active
		})
		route := bridge.Status.Routes[0]
		if !active || route.Forwarded == nil || *route.Forwarded == 0 || route.Connected == nil || !*route.Connected {
			return fmt.Errorf("pods %s; routes %s", said(bridge.Status.Pods), said(bridge.Status.Routes))
		}
		return nil
	})
}

// said is part of a status for people.
func said(part any) string {
	text, err := json.Marshal(part)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// bridgePods are the pods of a bridge that are not ending.
func (s *story) bridgePods(bridge string) ([]corev1.Pod, error) {
	list := &corev1.PodList{}
	if err := kube.List(s.ctx, list, client.InNamespace(s.namespace), client.MatchingLabels(v1alpha1.BridgeSelector(bridge))); err != nil {
		return nil, err
	}
	var pods []corev1.Pod
	for _, pod := range list.Items {
		if pod.DeletionTimestamp == nil {
			pods = append(pods, pod)
		}
	}
	return pods, nil
}

// TestBridgeBetweenTwoBrokers of a cluster: messages are counted while routes come and go, and a pod is killed.
func TestBridgeBetweenTwoBrokers(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.broker()
	hub := gen.Broker(s.namespace, hubName)
	s.create(hub)
	s.awaitReady(hub)
	s.user("machine", allow("#"))
	s.userOf(hubName, "office", allow("#"))
	bridge := gen.Bridge(s.namespace, "link", brokerName, small, gen.ToBroker(v1alpha1.BrokerReference{Name: hubName}),
		gen.WithRoutes(gen.Between(gen.Route("telemetry", v1alpha1.RouteOut, "telemetry/#"), "", "plant/")))
	s.create(bridge)
	s.sayf("the bridge is ready after %.1fs", s.awaitReady(bridge).Seconds())
	pods, err := s.bridgePods(bridge.Name)
	if err != nil || len(pods) != 1 {
		t.Fatalf("%d pods: %v", len(pods), err)
	}
	first := pods[0].UID

	machine, office := s.connect("machine"), s.connect("office")
	s.mustSubscribe(office, "plant/#")
	heard := s.counter(office)
	all := texts("state", 500)
	start := time.Now()
	s.publishAll(machine, "telemetry/press", all)
	heard.take(all)
	s.sayf("500 messages have crossed after %.2fs, %d of them twice", time.Since(start).Seconds(), heard.twice())
	if heard.twice() > 0 {
		t.Error("nothing in this story is a reason for a message to come twice")
	}
	for i, text := range heard.order {
		if text != all[i] {
			t.Fatalf("message %d is %q, want %q: order is lost", i, text, all[i])
		}
	}

	s.sayf("the bridge is suspended; what is said meanwhile waits")
	s.update(bridge, func() { bridge.Spec.Suspend = new(true) })
	s.await(bridge, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonSuspended)
	waiting := texts("waiting", 100)
	s.publishAll(machine, "telemetry/press", waiting)
	if n := len(office.messages); n > 0 {
		t.Errorf("%d messages crossed a bridge that is suspended", n)
	}
	s.update(bridge, func() { bridge.Spec.Suspend = nil })
	heard.take(waiting)
	s.awaitReady(bridge)

	s.sayf("a route for the way back is added while messages go out")
	s.mustSubscribe(machine, "commands/#")
	orders := s.counter(machine)
	during := texts("during", 200)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, text := range during {
			if err := machine.publish("telemetry/press", text); err != nil {
				t.Errorf("publish: %v", err)
				return
			}
		}
	}()
	s.update(bridge, func() {
		bridge.Spec.Routes = append(bridge.Spec.Routes, gen.Between(gen.Route("commands", v1alpha1.RouteIn, "set/#"), "commands/", "plant/"))
	})
	s.awaitReady(bridge)
	<-done
	heard.take(during)
	set := texts("set", 50)
	s.publishAll(office, "plant/set/speed", set)
	orders.take(set)
	if pods, err = s.bridgePods(bridge.Name); err != nil || len(pods) != 1 || pods[0].UID != first {
		t.Errorf("a new route replaced the pod: %v", err)
	}

	s.sayf("the bridge's pod is killed while messages go out")
	hush, end := s.talk(machine, "telemetry/press", "killed"), heard.follow()
	gone := pods[0].Name
	if err := kube.Delete(s.ctx, &pods[0], client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	s.awaitAtWork(bridge, gone)
	killed := hush()
	end()
	heard.take(killed)
	s.sayf("of %d messages none is lost, and %d came twice; the longest silence was %.1fs", len(killed), heard.twice(), heard.silence.Seconds())
	if most := int(v1alpha1.DefaultBridgeInflight); heard.twice() > most {
		t.Errorf("%d messages came twice, more than the %d that may be on their way", heard.twice(), most)
	}
	s.awaitReady(bridge)
	s.remove(bridge)
	s.eventually(patience, "the bridge's user and pods are gone", func() error {
		pods, err := s.bridgePods(bridge.Name)
		if err == nil && len(pods) > 0 {
			err = errors.New("there is a pod")
		}
		return errors.Join(err, s.isGone(&v1alpha1.MQTTUser{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1alpha1.BridgeUserName(bridge.Name)}}))
	})
}

// TestBridgeStandBy: of two pods one is at work, and when it goes the other takes over and nothing is lost.
func TestBridgeStandBy(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.broker()
	hub := gen.Broker(s.namespace, hubName)
	s.create(hub)
	s.awaitReady(hub)
	s.user("machine", allow("#"))
	s.userOf(hubName, "office", allow("#"))
	bridge := gen.Bridge(s.namespace, "link", brokerName, small, gen.ToBroker(v1alpha1.BrokerReference{Name: hubName}))
	bridge.Spec.Replicas = new(int32(2))
	s.create(bridge)
	s.awaitReady(bridge)
	active := ""
	s.eventually(patience, "two pods are ready, and one of them is at work", func() error {
		if err := s.get(bridge); err != nil {
			return err
		}
		ready := 0
		active = ""
		for _, pod := range bridge.Status.Pods {
			if pod.Ready != nil && *pod.Ready {
				ready++
			}
			if pod.Active != nil && *pod.Active {
				if active != "" {
					return fmt.Errorf("%s and %s are at work", active, pod.Name)
				}
				active = pod.Name
			}
		}
		if ready != 2 || active == "" {
			return fmt.Errorf("%+v", bridge.Status.Pods)
		}
		return nil
	})
	machine, office := s.connect("machine"), s.connect("office")
	s.mustSubscribe(office, "telemetry/#")
	heard := s.counter(office)
	before := texts("before", 50)
	s.publishAll(machine, "telemetry/press", before)
	heard.take(before)
	s.sayf("%s is at work, and is killed", active)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: active}}
	hush, end := s.talk(machine, "telemetry/press", "after"), heard.follow()
	if err := kube.Delete(s.ctx, pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	s.awaitAtWork(bridge, active)
	after := hush()
	end()
	heard.take(after)
	s.sayf("of %d messages none is lost, and the longest silence was %.1fs", len(after), heard.silence.Seconds())
	if most := 5 * time.Second; heard.silence > most {
		t.Errorf("the switch-over took %s, more than %s", heard.silence, most)
	}
}

// TestBridgeToMosquitto: a broker of somebody else's, with a CA and a password of its own, out and in.
func TestBridgeToMosquitto(t *testing.T) {
	t.Parallel()
	s := begin(t)
	remote := s.mosquitto("plant-7", random(16))
	s.broker()
	s.user("machine", allow("#"))
	login := gen.Secret(s.namespace, "login", map[string]string{"username": remote.username, "password": random(16)})
	trust := gen.Secret(s.namespace, "trust", map[string]string{"ca.crt": string(remote.ca)})
	s.create(login)
	s.create(trust)
	bridge := gen.Bridge(s.namespace, "cloud", brokerName, small, gen.To("mqtts://"+net.JoinHostPort(remote.host, remote.port)),
		gen.WithCredentials("login"), gen.WithTrust("trust", ""), gen.WithRoutes(
			gen.Between(gen.Route("telemetry", v1alpha1.RouteOut, "telemetry/#"), "", "plant/7/"),
			gen.Between(gen.Route("commands", v1alpha1.RouteIn, "set/#"), "commands/", "plant/7/"),
		))
	s.create(bridge)
	s.await(bridge, v1alpha1.ConditionRemoteConnected, metav1.ConditionFalse, v1alpha1.ReasonNotAuthorized)
	s.sayf("with a wrong password it says so")
	s.update(login, func() { login.Data["password"] = []byte(remote.password) })
	s.sayf("with the right one it is ready after %.1fs", s.awaitReady(bridge).Seconds())

	office, err := connectWith(remote.binding, session{clientID: "office", expiry: 3600})
	if err != nil {
		t.Fatal(err)
	}
	defer office.leave()
	machine := s.connect("machine")
	s.mustSubscribe(office, "plant/7/telemetry/#")
	s.mustSubscribe(machine, "commands/#")
	out, in := s.counter(office), s.counter(machine)
	states, orders := texts("state", 200), texts("set", 200)
	s.publishAll(machine, "telemetry/press", states)
	s.publishAll(office, "plant/7/set/speed", orders)
	out.take(states)
	in.take(orders)

	s.sayf("the remote broker goes away; what is said meanwhile waits here")
	remote.stop()
	s.await(bridge, v1alpha1.ConditionRemoteConnected, metav1.ConditionFalse, "")
	away := texts("away", 200)
	s.publishAll(machine, "telemetry/press", away)
	remote.start(s)
	// The bridge may be back before the office: its session there waits for it.
	again, err := connectWith(remote.binding, session{clientID: "office", expiry: 3600, resume: true})
	if err != nil {
		t.Fatal(err)
	}
	defer again.leave()
	if !again.present {
		t.Fatal("the remote broker has forgotten the session of its client")
	}
	s.counter(again).take(away)
	s.awaitReady(bridge)
}

// otherBroker is a Mosquitto in a process of its own, at an address that pods reach.
type otherBroker struct {
	binding

	dir     string
	process *exec.Cmd
}

// mosquitto starts one that lets this user in, by TLS.
func (s *story) mosquitto(username, password string) *otherBroker {
	s.Helper()
	ca, err := pki.NewCA("another's own", time.Now())
	if err != nil {
		s.Fatal(err)
	}
	host := s.nodeAddress()
	pair, err := pki.Issue(ca, pki.Request{CommonName: host, IPs: []net.IP{net.ParseIP(host)}, Server: true}, time.Now())
	if err != nil {
		s.Fatal(err)
	}
	o := &otherBroker{dir: s.TempDir(), binding: binding{host: host, port: freePort(s, host), username: username, password: password, ca: ca.Certificate}}
	settings := strings.Join([]string{
		"listener " + o.port + " " + host, "certfile " + filepath.Join(o.dir, "tls.crt"), "keyfile " + filepath.Join(o.dir, "tls.key"),
		"allow_anonymous false", "password_file " + filepath.Join(o.dir, "passwords"),
		"persistence true", "persistence_location " + o.dir + "/", "max_queued_messages 10000", "",
	}, "\n")
	for name, content := range map[string][]byte{"tls.crt": pair.Certificate, "tls.key": pair.Key, "mosquitto.conf": []byte(settings)} {
		if err := os.WriteFile(filepath.Join(o.dir, name), content, 0o600); err != nil {
			s.Fatal(err)
		}
	}
	if _, err := output(exec.CommandContext(s.ctx, "mosquitto_passwd", "-b", "-c", filepath.Join(o.dir, "passwords"), username, password)); err != nil {
		s.Fatalf("mosquitto_passwd: %v", err)
	}
	o.start(s)
	s.Cleanup(o.stop)
	return o
}

// start runs the process until it answers.
func (o *otherBroker) start(s *story) {
	s.Helper()
	// As root it would become another user, who may not read the files.
	o.process = exec.Command("/usr/sbin/mosquitto", "-c", filepath.Join(o.dir, "mosquitto.conf"))
	o.process.Stderr = os.Stderr
	if err := o.grant(); err != nil {
		s.Fatal(err)
	}
	if err := o.process.Start(); err != nil {
		s.Fatalf("Mosquitto does not start (hack/e2e.sh installs it): %v", err)
	}
	s.eventually(patience, "Mosquitto answers", func() error {
		ctx, cancel := context.WithTimeout(s.ctx, answerTime)
		defer cancel()
		conn, err := o.dial(ctx)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
}

// stop ends it in order, so that it keeps its sessions.
func (o *otherBroker) stop() {
	if o.process != nil {
		_ = o.process.Process.Signal(syscall.SIGTERM)
		_ = o.process.Wait()
		o.process = nil
	}
}

// grant lets the user that Mosquitto becomes read and write its directory.
func (o *otherBroker) grant() error {
	for dir := o.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o777); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(o.dir)
	for _, entry := range entries {
		err = errors.Join(err, os.Chmod(filepath.Join(o.dir, entry.Name()), 0o666))
	}
	return err
}
