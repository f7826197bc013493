// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

// TestLifeOfABridge: created before its broker, ready, told more, told less, suspended, hibernated, deleted.
func TestLifeOfABridge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bridge := gen.Bridge(w.namespace, "cloud", "mq")
	w.create(bridge)
	c := w.is(bridge, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonBrokerNotFound)
	if !strings.Contains(c.Message, "MQTTUser cloud-bridge, by which the bridge connects") {
		t.Errorf("the message must say whose reason it is: %s", c.Message)
	}
	w.create(gen.Broker(w.namespace, "mq"))
	w.ready(bridge)
	for _, kind := range []v1alpha1.ConditionType{v1alpha1.ConditionLocalConnected, v1alpha1.ConditionRemoteConnected} {
		w.is(bridge, kind, metav1.ConditionTrue, v1alpha1.ReasonConnected)
	}
	w.is(bridge, v1alpha1.ConditionApplied, metav1.ConditionTrue, v1alpha1.ReasonConfigApplied)
	if stalled := meta.FindStatusCondition(bridge.Status.Conditions, string(v1alpha1.ConditionStalled)); stalled != nil {
		t.Errorf("nothing is stalled: %+v", stalled)
	}
	if s := bridge.Status; len(s.Pods) != 1 || !*s.Pods[0].Ready || !*s.Pods[0].Active || *s.Revision.Desired != *s.Revision.Applied || s.Remote.Endpoint != "mqtts://mqtt.example.com" {
		t.Errorf("status %+v", s)
	}

	// The way in is the user's own binding, by the listener that has TLS.
	pod, user := w.bridge("cloud", 0), w.user("cloud-bridge")
	binding := w.secret(v1alpha1.BindingSecretName("cloud-bridge"))
	local := pod.runs().Local
	if local.Endpoints[0] != "mqtts://mq-mqtts."+w.namespace+".svc:8883" || local.Username != w.namespace+".cloud.bridge" ||
		local.Password != string(binding.Data[v1alpha1.BindingPassword]) || local.CAs != string(binding.Data[v1alpha1.BindingCA]) {
		t.Errorf("local end %s %s", local.Endpoints, local.Username)
	}
	if *user.Spec.ClientIDs.Prefix != local.ClientIDPrefix {
		t.Errorf("the client identifiers of the user begin with %s", *user.Spec.ClientIDs.Prefix)
	}

	// A second route is told to the same pod, once the broker knows the rule.
	uid := pod.pod.UID
	change(w, bridge, func(b *v1alpha1.MQTTBridge) {
		b.Spec.Routes = append(b.Spec.Routes, gen.Between(gen.Route("commands", v1alpha1.RouteIn, "set"), "commands/", "plant/7/"))
	})
	w.told(pod, "a second route", func(cfg *contract.Bridge) bool { return len(cfg.Routes) == 2 })
	w.ready(bridge)
	if !mayPublish(w.user("cloud-bridge"), "commands/set") {
		t.Error("the user must be allowed what the route brings")
	}
	// And taken away, with its rule.
	change(w, bridge, func(b *v1alpha1.MQTTBridge) { b.Spec.Routes = b.Spec.Routes[:1] })
	w.told(pod, "one route", func(cfg *contract.Bridge) bool { return len(cfg.Routes) == 1 })
	w.eventually("the rule goes, too", func() error {
		if mayPublish(w.user("cloud-bridge"), "commands/set") {
			return errors.New("it is still there")
		}
		return nil
	})
	w.ready(bridge)

	// More than the broker keeps for anybody is asked for, and said.
	change(w, bridge, func(b *v1alpha1.MQTTBridge) { b.Spec.MaxQueuedMessages = new(v1alpha1.DefaultMaxQueuedMessages + 1) })
	w.eventually("the end says that its queue is shorter", func() error {
		if err := k8s.Get(w.t.Context(), client.ObjectKeyFromObject(bridge), bridge); err != nil {
			return err
		}
		if local := bridge.Status.Local; local == nil || !strings.Contains(local.Notice, "keeps at most 10000 messages of a route, 10001 were asked for") {
			return fmt.Errorf("local %+v", local)
		}
		return nil
	})
	if quota := w.user("cloud-bridge").Spec.Quota; quota == nil || *quota.QueuedMessages != v1alpha1.DefaultMaxQueuedMessages+1 {
		t.Errorf("the quota of the user is %+v", quota)
	}
	change(w, bridge, func(b *v1alpha1.MQTTBridge) { b.Spec.MaxQueuedMessages = new(v1alpha1.DefaultMaxQueuedMessages) })
	w.eventually("the end has nothing to say", func() error {
		if err := k8s.Get(w.t.Context(), client.ObjectKeyFromObject(bridge), bridge); err != nil {
			return err
		}
		if local := bridge.Status.Local; local == nil || local.Notice != "" {
			return fmt.Errorf("local %+v", local)
		}
		return nil
	})

	change(w, bridge, func(b *v1alpha1.MQTTBridge) { b.Spec.Suspend = new(true) })
	w.is(bridge, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonSuspended)
	w.is(bridge, v1alpha1.ConditionRemoteConnected, metav1.ConditionFalse, v1alpha1.ReasonSuspended)
	w.told(pod, "its rest", func(cfg *contract.Bridge) bool { return cfg.Suspended })
	change(w, bridge, func(b *v1alpha1.MQTTBridge) { b.Spec.Suspend = nil })
	w.ready(bridge)
	for i, cfg := range pod.history()[1:] {
		if cfg.Revision <= pod.history()[i].Revision {
			t.Errorf("revision %d after %d", cfg.Revision, pod.history()[i].Revision)
		}
	}
	if w.bridge("cloud", 0).pod.UID != uid {
		t.Error("a change of the configuration replaced the pod")
	}

	change(w, bridge, func(b *v1alpha1.MQTTBridge) { b.Spec.Replicas = new(int32(0)) })
	w.is(bridge, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonHibernated)
	change(w, bridge, func(b *v1alpha1.MQTTBridge) { b.Spec.Replicas = nil })
	w.ready(bridge)

	// No API server of a test collects garbage; that each child has its owner is what can be seen.
	for _, child := range []client.Object{
		user, w.secret(v1alpha1.BridgeConfigSecretName("cloud")), w.secret(v1alpha1.BridgeAdminSecretName("cloud")), w.deployment("cloud"),
	} {
		if !metav1.IsControlledBy(child, bridge) {
			t.Errorf("%T %s outlives the bridge", child, child.GetName())
		}
	}
	must(t, k8s.Delete(t.Context(), bridge))
	w.gone(bridge)
}

func (w *world) user(name string) *v1alpha1.MQTTUser {
	w.t.Helper()
	user := &v1alpha1.MQTTUser{}
	must(w.t, k8s.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: name}, user))
	return user
}

func (w *world) deployment(bridge string) *appsv1.Deployment {
	w.t.Helper()
	d := &appsv1.Deployment{}
	must(w.t, k8s.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: v1alpha1.BridgeDeploymentName(bridge)}, d))
	return d
}

func mayPublish(user *v1alpha1.MQTTUser, filter string) bool {
	return slices.ContainsFunc(user.Spec.ACL, func(r v1alpha1.ACLRule) bool {
		return string(r.Filter) == filter && slices.Contains(r.Actions, v1alpha1.ACLPublish)
	})
}

// TestASecondPassOverABridgeWritesNothing, nor one of a new operator, nor one while only numbers move.
func TestASecondPassOverABridgeWritesNothing(t *testing.T) {
	w := newWorld(t)
	bridge := gen.Bridge(w.namespace, "cloud", "mq", gen.ToBroker(v1alpha1.BrokerReference{Name: "hub"}))
	w.create(gen.Broker(w.namespace, "mq"), gen.Broker(w.namespace, "hub"), bridge)
	w.ready(bridge)
	w.settle()
	pod := w.bridge("cloud", 0)
	for round, restart := range []bool{false, true} {
		if restart {
			w.startOperator()
			w.settle()
		}
		before := w.versions()
		var (
			writes  atomic.Int64
			carried atomic.Int64
		)
		pod.saying(func(s *admin.BridgeStatus) {
			n := carried.Add(17)
			s.Routes[0].Forwarded, s.Routes[0].Queued, s.Routes[0].LagSeconds = n, n%5, float64(n%3)
			s.Routes[0].LastError, s.Routes[0].LastErrorTime = fmt.Sprint("the port was ", n), time.Now()
		})
		bridges := w.bridges(&writes)
		for range 3 {
			must(t, k8s.Get(t.Context(), client.ObjectKeyFromObject(bridge), bridge))
			// What was counted last is of now: of what moves all the time nothing is due.
			bridge.Status.CountedAt = new(metav1.Now())
			_, err := bridges.Reconcile(t.Context(), bridge)
			must(t, err)
		}
		pod.saying(nil)
		if n := writes.Load(); n > 0 {
			t.Errorf("round %d: %d requests to write, although nothing changed but numbers", round, n)
		}
		after := w.versions()
		for _, m := range []map[string]string{before, after} {
			maps.DeleteFunc(m, func(name, _ string) bool { return strings.Contains(name, "MQTTBridge") }) // the operator counts, too
		}
		if !maps.Equal(before, after) {
			t.Errorf("round %d: something was written although nothing changed:\n%v\n%v", round, before, after)
		}
	}
}

// TestWhatABridgeSaysIsInItsStatus, in the operator's words and as the bridge counts.
func TestWhatABridgeSaysIsInItsStatus(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bridge := gen.Bridge(w.namespace, "cloud", "mq")
	w.create(gen.Broker(w.namespace, "mq"), bridge)
	w.ready(bridge)
	pod := w.bridge("cloud", 0)
	pod.saying(func(s *admin.BridgeStatus) {
		s.Remote.Connected, s.Remote.Reason, s.Remote.Error = false, "NotAuthorized", "mqtts://mqtt.example.com: the broker refuses username or password; correct the credentials"
		s.Routes[0].Connected, s.Routes[0].Forwarded, s.Routes[0].Queued, s.Routes[0].LagSeconds = false, 12, 3, 4.2
		s.Routes[0].Dropped = map[string]int64{"TooLarge": 2, "Loop": 1}
		s.Routes[0].LastError, s.Routes[0].LastErrorTime = "the destination takes no message of this size", time.Now()
	})
	c := w.is(bridge, v1alpha1.ConditionRemoteConnected, metav1.ConditionFalse, v1alpha1.ReasonNotAuthorized)
	if c.Message != "mqtts://mqtt.example.com: the broker refuses username or password; correct the credentials." {
		t.Errorf("message %q", c.Message)
	}
	w.is(bridge, v1alpha1.ConditionLocalConnected, metav1.ConditionTrue, v1alpha1.ReasonConnected)
	w.is(bridge, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNotAuthorized)
	r := bridge.Status.Routes[0]
	if *r.Connected || *r.Forwarded != 12 || *r.Queued != 3 || *r.LagSeconds != 5 || *r.Dropped != 3 || !strings.Contains(r.LastError, "no message of this size") || r.LastErrorTime == nil {
		t.Errorf("%+v", r)
	}
	if len(r.DropReasons) != 2 || r.DropReasons[0].Reason != "Loop" || *r.DropReasons[1].Count != 2 {
		t.Errorf("%+v", r.DropReasons)
	}

	pod.saying(func(s *admin.BridgeStatus) { s.Routes[0].Connected = false })
	w.is(bridge, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonRouteDegraded)

	pod.saying(func(s *admin.BridgeStatus) { s.Remote.Notice = "sessions last 1h there" })
	w.ready(bridge)
	if c := w.is(bridge, v1alpha1.ConditionRemoteConnected, metav1.ConditionTrue, v1alpha1.ReasonConnected); !strings.Contains(c.Message, "Connected to") {
		t.Errorf("message %q", c.Message)
	}
	pod.saying(func(s *admin.BridgeStatus) { s.Remote.Connected, s.Remote.Reason = false, "AWordOfTomorrow" })
	w.is(bridge, v1alpha1.ConditionRemoteConnected, metav1.ConditionFalse, v1alpha1.ReasonNotConnected)

	pod.saying(nil)
	pod.muted.Store(true)
	w.is(bridge, v1alpha1.ConditionRemoteConnected, metav1.ConditionUnknown, v1alpha1.ReasonBridgePodsNotReady)
	w.is(bridge, v1alpha1.ConditionApplied, metav1.ConditionFalse, v1alpha1.ReasonConfigPending)
	pod.muted.Store(false)
	w.ready(bridge)

	pod.refusing("it is not to my taste")
	change(w, bridge, func(b *v1alpha1.MQTTBridge) { b.Spec.Inflight = new(int32(9)) })
	if c := w.is(bridge, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonConfigRefused); !strings.Contains(c.Message, "not to my taste") {
		t.Errorf("message %q", c.Message)
	}
	pod.refusing("")
	w.ready(bridge)
}

// TestABridgesSecrets: labels open them, each fault has its reason, a bridge that runs goes on, and no value is seen.
func TestABridgesSecrets(t *testing.T) {
	t.Parallel()
	const marker = "MARKER-of-a-secret"
	w := newWorld(t)
	login := gen.Secret(w.namespace, "login", map[string]string{"username": "plant-7", "password": marker})
	login.Labels = nil
	bridge := gen.Bridge(w.namespace, "cloud", "mq", gen.WithCredentials("login"))
	w.create(gen.Broker(w.namespace, "mq"), bridge)
	missing := w.is(bridge, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotUsable)
	w.create(login)
	w.settle()
	if unlabelled := w.is(bridge, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotUsable); unlabelled.Message != missing.Message {
		t.Errorf("missing and unlabelled must not be told apart:\n%s\n%s", missing.Message, unlabelled.Message)
	}
	w.is(bridge, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonSecretNotUsable)
	w.gone(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "cloud-bridge"}})
	change(w, login, func(s *corev1.Secret) { s.Labels = map[string]string{v1alpha1.LabelAllow: v1alpha1.AllowReference} })
	w.ready(bridge)
	pod := w.bridge("cloud", 0)
	if r := pod.runs().Remote; r.Username != "plant-7" || r.Password != marker {
		t.Errorf("it logs in as %s", r.Username)
	}

	// Another password is told at once; a bad one is not, and what else changes is.
	change(w, login, func(s *corev1.Secret) { s.Data["password"] = []byte(marker + "2") })
	w.told(pod, "the new password", func(cfg *contract.Bridge) bool { return cfg.Remote.Password == marker+"2" })
	change(w, login, func(s *corev1.Secret) { s.Data["password"] = []byte(marker + "3\n") })
	w.is(bridge, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPasswordInvalid)
	change(w, bridge, func(b *v1alpha1.MQTTBridge) { b.Spec.Suspend = new(true) })
	w.told(pod, "its rest", func(cfg *contract.Bridge) bool { return cfg.Suspended && cfg.Remote.Password == marker+"2" })
	must(t, k8s.Delete(t.Context(), login))
	w.is(bridge, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotUsable)

	// The operator's own Secrets open to nobody.
	for _, own := range []string{v1alpha1.BindingSecretName("cloud-bridge"), v1alpha1.BridgeConfigSecretName("cloud"), v1alpha1.AdminCASecretName("mq")} {
		change(w, bridge, func(b *v1alpha1.MQTTBridge) { b.Spec.Remote.CredentialsSecretRef.Name = own })
		w.is(bridge, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotUsable)
	}
	w.seesNo(marker)
}

func speaking311(b *v1alpha1.MQTTBridge) { b.Spec.Remote.ProtocolVersion = new(v1alpha1.MQTTv311) }

// TestBridgesInACircleAreTold, all of them, and nobody is stopped.
func TestBridgesInACircleAreTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	there := gen.Bridge(w.namespace, "there", "mq", speaking311, gen.WithRoutes(gen.Route("up", v1alpha1.RouteOut, "a/#")))
	back := gen.Bridge(w.namespace, "back", "mq", speaking311, gen.WithRoutes(gen.Route("down", v1alpha1.RouteIn, "a/+")))
	w.create(gen.Broker(w.namespace, "mq"), there, back)
	for _, bridge := range []*v1alpha1.MQTTBridge{there, back} {
		w.ready(bridge)
		c := w.is(bridge, v1alpha1.ConditionLooping, metav1.ConditionTrue, v1alpha1.ReasonBridgesInCircle)
		if !strings.Contains(c.Message, "route up of there") || !strings.Contains(c.Message, "route down of back") {
			t.Errorf("the message must name both routes: %s", c.Message)
		}
	}
	change(w, back, func(b *v1alpha1.MQTTBridge) { b.Spec.Routes[0].LocalPrefix = new("seen/") })
	for _, bridge := range []*v1alpha1.MQTTBridge{there, back} {
		w.eventually("nothing is said of a circle any more", func() error {
			if err := k8s.Get(t.Context(), client.ObjectKeyFromObject(bridge), bridge); err != nil {
				return err
			}
			if c := meta.FindStatusCondition(bridge.Status.Conditions, string(v1alpha1.ConditionLooping)); c != nil {
				return errors.New(c.Message)
			}
			return nil
		})
		w.ready(bridge)
	}
}

// seesNo looks for a text where people look: in every status, event and log line, and in what pods carry.
func (w *world) seesNo(marker string) {
	w.t.Helper()
	if strings.Contains(w.log.String(), marker) {
		w.t.Error("the operator's log shows a secret")
	}
	for _, list := range []client.ObjectList{&v1alpha1.MQTTBridgeList{}, &v1alpha1.MQTTUserList{}, &appsv1.DeploymentList{}, &corev1.PodList{}, &corev1.EventList{}} {
		must(w.t, k8s.List(w.t.Context(), list, client.InNamespace(w.namespace)))
		if text := fmt.Sprintf("%+v", list); strings.Contains(text, marker) {
			w.t.Errorf("%T shows a secret", list)
		}
	}
}

// TestRoutesThatLoopAreRefused with their names, and what ran goes on.
func TestRoutesThatLoopAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bridge := gen.Bridge(w.namespace, "cloud", "mq")
	w.create(gen.Broker(w.namespace, "mq"), bridge)
	w.ready(bridge)
	pod := w.bridge("cloud", 0)
	before := pod.runs().Revision
	change(w, bridge, func(b *v1alpha1.MQTTBridge) {
		b.Spec.Routes = append(b.Spec.Routes, gen.Route("back", v1alpha1.RouteIn, "telemetry/+"))
	})
	c := w.is(bridge, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonRouteLoop)
	if !strings.Contains(c.Message, "telemetry") || !strings.Contains(c.Message, "back") {
		t.Errorf("the message must name both routes: %s", c.Message)
	}
	w.is(bridge, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonRouteLoop)
	w.is(bridge, v1alpha1.ConditionRemoteConnected, metav1.ConditionTrue, v1alpha1.ReasonConnected)
	w.settle()
	if pod.runs().Revision != before {
		t.Error("the pod was told of a loop")
	}
	change(w, bridge, func(b *v1alpha1.MQTTBridge) { b.Spec.Routes[1].LocalPrefix = new("seen/") })
	w.ready(bridge)
}

// TestABridgeBetweenTwoBrokers of a cluster has a user at each, as far as both brokers allow it.
func TestABridgeBetweenTwoBrokers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"hub": "yes"})
	hub := gen.Broker(w.others[0], "hub")
	route := gen.Between(gen.Route("all", v1alpha1.RouteBoth, "#"), "hub/", "")
	bridge := gen.Bridge(w.namespace, "cloud", "mq", gen.WithRoutes(route), gen.ToBroker(v1alpha1.BrokerReference{Name: "hub", Namespace: &w.others[0]}))
	w.create(gen.Broker(w.namespace, "mq"), gen.Broker(w.namespace, "near"), hub, bridge)
	c := w.is(bridge, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonBrokerNotFound)
	if !strings.Contains(c.Message, "cloud-bridge-remote") {
		t.Errorf("the message must name the user: %s", c.Message)
	}
	// The other namespace's kubelet is nobody here: a broker near by does as well.
	change(w, bridge, func(b *v1alpha1.MQTTBridge) { b.Spec.Remote.BrokerRef = &v1alpha1.BrokerReference{Name: "near"} })
	w.collect("cloud-bridge-remote")
	w.ready(bridge)
	pod, remote := w.bridge("cloud", 0), w.user("cloud-bridge-remote")
	if cfg := pod.runs(); cfg.Remote.Endpoints[0] != "mqtts://near-mqtts."+w.namespace+".svc:8883" || cfg.Remote.Username != w.namespace+".cloud.remote" || cfg.Remote.CAs == "" {
		t.Errorf("remote end %s, %s", cfg.Remote.Endpoints, cfg.Remote.Username)
	}
	if local := w.user("cloud-bridge"); !mayPublish(local, "hub/#") || mayPublish(local, "#") || !mayPublish(remote, "#") {
		t.Errorf("local %v, remote %v", local.Spec.ACL, remote.Spec.ACL)
	}

	// An address in its place: the user goes.
	change(w, bridge, func(b *v1alpha1.MQTTBridge) {
		b.Spec.Remote.BrokerRef, b.Spec.Remote.Endpoints = nil, []string{"mqtt://mqtt.example.com"}
	})
	w.gone(remote)
	w.ready(bridge)
	w.told(pod, "the address", func(cfg *contract.Bridge) bool {
		return cfg.Remote.Endpoints[0] == "mqtt://mqtt.example.com" && cfg.Remote.Username == ""
	})

	change(w, bridge, func(b *v1alpha1.MQTTBridge) {
		b.Spec.Remote.BrokerRef, b.Spec.Remote.Endpoints = &v1alpha1.BrokerReference{Name: "mq"}, nil
	})
	w.is(bridge, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSpecInvalid)
}

// collect deletes the Secrets of a user whenever their owner is gone, as the garbage collector of a cluster does.
func (w *world) collect(user string) {
	w.t.Helper()
	w.eventually("the Secrets of the user before are gone", func() error {
		now := &v1alpha1.MQTTUser{}
		if err := k8s.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: user}, now); client.IgnoreNotFound(err) != nil {
			return err
		}
		for _, name := range []string{v1alpha1.BindingSecretName(user), v1alpha1.VerifierSecretName(user)} {
			secret := &corev1.Secret{}
			err := k8s.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: name}, secret)
			if err == nil && !metav1.IsControlledBy(secret, now) {
				return errors.Join(k8s.Delete(w.t.Context(), secret), errors.New("there was one"))
			}
		}
		return nil
	})
}

// TestABridgeAdoptsNothing: an object of a name that is needed stays as it is, whoever made it.
func TestABridgeAdoptsNothing(t *testing.T) {
	for name, object := range map[string]func(namespace string) client.Object{
		"a user": func(ns string) client.Object { return gen.User(ns, "cloud-bridge", "mq") },
		"a Secret": func(ns string) client.Object {
			return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "cloud-bridge-config"}, StringData: map[string]string{"mine": "yes"}}
		},
		"a Secret with our label": func(ns string) client.Object {
			return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "cloud-bridge-admin", Labels: map[string]string{v1alpha1.LabelAllow: v1alpha1.AllowOwned}}}
		},
		"a Deployment": func(ns string) client.Object {
			labels := map[string]string{"theirs": "yes"}
			return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "cloud-bridge"}, Spec: appsv1.DeploymentSpec{
				Replicas: new(int32(0)), Selector: &metav1.LabelSelector{MatchLabels: labels},
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}},
			}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			theirs := object(w.namespace)
			bridge := gen.Bridge(w.namespace, "cloud", "mq")
			w.create(theirs, gen.Broker(w.namespace, "mq"), bridge)
			c := w.is(bridge, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonObjectConflict)
			if !strings.Contains(c.Message, theirs.GetName()) || !strings.Contains(c.Message, "delete or rename") {
				t.Errorf("the message must name the object and the next move: %s", c.Message)
			}
			uid, generation := theirs.GetUID(), theirs.GetGeneration()
			w.exists(theirs)
			if theirs.GetUID() != uid || theirs.GetGeneration() != generation || metav1.IsControlledBy(theirs, bridge) {
				t.Errorf("somebody else's %s was written to", theirs.GetName())
			}
			must(t, k8s.Delete(t.Context(), theirs))
			if name == "a user" {
				w.collect("cloud-bridge")
			}
			w.ready(bridge)
		})
	}
}

// TestABridgesNameIsTaken by an older user: the bridge says so, and runs when the name is free.
func TestABridgesNameIsTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	squatter := gen.User(w.namespace, "squatter", "mq", gen.WithUsername(v1alpha1.BridgeUsername(w.namespace, "cloud")))
	w.create(gen.Broker(w.namespace, "mq"), squatter)
	w.ready(squatter)
	w.eventually("a second begins", func() error { // creationTimestamp counts whole seconds
		if time.Now().Unix() == squatter.CreationTimestamp.Unix() {
			return errors.New("not yet")
		}
		return nil
	})
	bridge := gen.Bridge(w.namespace, "cloud", "mq")
	w.create(bridge)
	if c := w.is(bridge, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonUsernameConflict); !strings.Contains(c.Message, "squatter") {
		t.Errorf("message %q", c.Message)
	}
	must(t, k8s.Delete(t.Context(), squatter))
	w.ready(bridge)
}

// TestAStandByIsSeen: two pods, one at work, both with the same configuration.
func TestAStandByIsSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bridge := gen.Bridge(w.namespace, "cloud", "mq")
	bridge.Spec.Replicas = new(int32(2))
	w.create(gen.Broker(w.namespace, "mq"), bridge)
	w.ready(bridge)
	first, second := w.bridge("cloud", 0), w.bridge("cloud", 1)
	w.eventually("both are in the status", func() error {
		w.exists(bridge)
		active := 0
		for _, pod := range bridge.Status.Pods {
			if pod.Active != nil && *pod.Active {
				active++
			}
		}
		if len(bridge.Status.Pods) != 2 || active != 1 {
			return fmt.Errorf("%+v", bridge.Status.Pods)
		}
		return nil
	})
	// They change places; what the first has carried still counts.
	first.saying(func(s *admin.BridgeStatus) { s.Active, s.Routes[0].Forwarded, s.Remote.Connected = false, 40, false })
	second.saying(func(s *admin.BridgeStatus) { s.Active, s.Routes[0].Forwarded = true, 2 })
	w.eventually("the second is at work", func() error {
		w.exists(bridge)
		if pods := bridge.Status.Pods; *pods[0].Active || !*pods[1].Active || *bridge.Status.Routes[0].Forwarded != 42 {
			return fmt.Errorf("%+v %+v", pods, bridge.Status.Routes)
		}
		return nil
	})
	w.ready(bridge)
	change(w, bridge, func(b *v1alpha1.MQTTBridge) { b.Spec.Inflight = new(int32(5)) })
	for _, pod := range []*bridgePod{first, second} {
		w.told(pod, "another number", func(cfg *contract.Bridge) bool { return cfg.Inflight == 5 })
	}
}

// TestABridgesChildrenComeBack after they were edited or deleted by hand, and the revision never goes back.
func TestABridgesChildrenComeBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bridge := gen.Bridge(w.namespace, "cloud", "mq")
	w.create(gen.Broker(w.namespace, "mq"), bridge)
	w.ready(bridge)
	before := *bridge.Status.Revision.Desired

	user := w.user("cloud-bridge")
	change(w, user, func(u *v1alpha1.MQTTUser) { gen.Allow("#", v1alpha1.ACLPublish)(u) })
	w.eventually("the user may do no more than it needs", func() error {
		if user := w.user("cloud-bridge"); mayPublish(user, "#") {
			return errors.New("it may publish everywhere")
		}
		return nil
	})
	for _, child := range []client.Object{w.secret(v1alpha1.BridgeConfigSecretName("cloud")), w.deployment("cloud")} {
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
	w.ready(bridge)
	w.eventually("the revision is a later one", func() error { // what was ready before is said to be so for a moment longer
		w.exists(bridge)
		if after := *bridge.Status.Revision.Desired; after <= before {
			return fmt.Errorf("revision %d after %d", after, before)
		}
		return nil
	})

	// Without its label the admin Secret is out of sight, and the same keys must come back.
	secret := w.secret(v1alpha1.BridgeAdminSecretName("cloud"))
	key := secret.Data["ca.key"]
	change(w, secret, func(s *corev1.Secret) { s.Labels = nil })
	w.eventually("the label comes back", func() error {
		if now := w.secret(secret.Name); now.Labels[v1alpha1.LabelAllow] != v1alpha1.AllowOwned || !bytes.Equal(now.Data["ca.key"], key) {
			return fmt.Errorf("labels %v, the same key: %v", now.Labels, bytes.Equal(now.Data["ca.key"], key))
		}
		return nil
	})
	w.ready(bridge)
}

// TestABridgeCarriesMessages: the real one, between two real brokers, told by the operator alone.
func TestABridgeCarriesMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.kubelet.mu.Lock()
	w.kubelet.realBridges = true
	w.kubelet.mu.Unlock()
	bridge := gen.Bridge(w.namespace, "cloud", "mq", gen.ToBroker(v1alpha1.BrokerReference{Name: "hub"}),
		gen.WithRoutes(gen.Between(gen.Route("up", v1alpha1.RouteOut, "telemetry/#"), "", "plant/")))
	all := gen.Allow("#", v1alpha1.ACLPublish, v1alpha1.ACLSubscribe)
	machine, office := gen.User(w.namespace, "machine", "mq", all), gen.User(w.namespace, "office", "hub", all)
	w.create(gen.Broker(w.namespace, "mq"), gen.Broker(w.namespace, "hub"), machine, office, bridge)
	w.ready(machine, office, bridge)

	here, there := w.client("mq", "machine"), w.client("hub", "office")
	arrived := make(chan string, 100)
	subscribe := func(c paho.Client, filter string) {
		token := c.Subscribe(filter, 1, func(_ paho.Client, m paho.Message) { arrived <- m.Topic() + " " + string(m.Payload()) })
		if !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatalf("subscribe to %s: %v", filter, token.Error())
		}
	}
	publish := func(c paho.Client, topic, text string) {
		if token := c.Publish(topic, 1, false, text); !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatalf("publish to %s: %v", topic, token.Error())
		}
	}
	hears := func(want string) {
		select {
		case got := <-arrived:
			if got != want {
				t.Fatalf("heard %q, want %q", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("%q never came\n%s", want, w.picture())
		}
	}
	subscribe(there, "plant/#")
	subscribe(here, "commands/#")
	publish(here, "telemetry/press", "on")
	hears("plant/telemetry/press on")

	change(w, bridge, func(b *v1alpha1.MQTTBridge) {
		b.Spec.Routes = append(b.Spec.Routes, gen.Between(gen.Route("down", v1alpha1.RouteIn, "set"), "commands/", "plant/"))
	})
	w.ready(bridge)
	publish(there, "plant/set", "faster")
	for range 2 { // the office hears itself, too
		if got := <-arrived; got != "plant/set faster" && got != "commands/set faster" {
			t.Errorf("heard %q", got)
		}
	}
	w.eventually("the status counts", func() error {
		w.exists(bridge)
		for _, r := range bridge.Status.Routes {
			if r.Forwarded == nil || *r.Forwarded == 0 {
				return fmt.Errorf("%+v", bridge.Status.Routes)
			}
		}
		return nil
	})
}

// client is a client of a broker, by the binding of a user.
func (w *world) client(broker, user string) paho.Client {
	w.t.Helper()
	binding := w.secret(v1alpha1.BindingSecretName(user))
	address, err := w.kubelet.reach(string(binding.Data[v1alpha1.BindingHost]))
	must(w.t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(binding.Data[v1alpha1.BindingCA])
	c := paho.NewClient(paho.NewClientOptions().AddBroker("ssl://" + address).SetClientID(user).SetUsername(user).
		SetPassword(string(binding.Data[v1alpha1.BindingPassword])).
		SetTLSConfig(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: broker + "-mqtts." + w.namespace + ".svc"}))
	if token := c.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		w.t.Fatalf("%s: %v", user, token.Error())
	}
	w.t.Cleanup(func() { c.Disconnect(0) })
	return c
}
