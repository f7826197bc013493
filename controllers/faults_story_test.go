// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

const (
	// faultsVariable says which calls fail: all of them, those of the sample, or one in each life of those whose line holds a
	// text.
	faultsVariable = "FAULTS"
	// apart is how many calls go well after one that fails.
	apart = 40
	// sampled is how many lives the sample has.
	sampled = 8
	// sideBySide is how many lives there are at the same time. Most of a life is waiting.
	sideBySide = 8
	// calm is the time between two looks for a fact, so that most of what the API server has to do is the operator's.
	calm = 100 * time.Millisecond
)

// TestEveryCallFails plays one life again and again: once to write down the operator's calls, and then so often that each
// call has failed in each way that it can, every fortieth in one life. Whatever failed, and when, the same objects stand in the
// end, with the same status; pods have been replaced as often as somebody wished, credentials open the broker, and another
// pass writes nothing.
//
// By itself it takes a sample of these lives; with FAULTS=all, as "make api-faults" does, all of them. To find out which fault
// it was, FAULTS='conflicted PATCH /api/v1/namespaces/NS/secrets/mq-config' lets nothing else fail, and with "lives " before
// it all that fails in the same lives, where it takes more than one fault.
func TestEveryCallFails(t *testing.T) {
	var (
		untouched   = &line{}
		want, again map[string]string
	)
	isGood := t.Run("nothing", func(t *testing.T) { want = play(t, untouched) }) && t.Run("nothing again", func(t *testing.T) { again = play(t, &line{}) })
	if diff := cmp.Diff(want, again); !isGood || diff != "" {
		t.Fatalf("two lives in which nothing fails are not the same, so that nothing can be told from others (-first +second):\n%s", diff)
	}
	lives, planned := livesOf(untouched.calls)
	t.Logf("a life has %d calls, which can fail in %d ways: that takes %d lives", len(untouched.calls), planned, len(lives))
	switch wish := os.Getenv(faultsVariable); wish {
	case "all":
	case "":
		lives, planned = sampleOf(lives)
	default:
		if text, whole := strings.CutPrefix(wish, "lives "); whole {
			lives, planned = with(lives, text)
		} else {
			lives = only(lives, wish)
			planned = len(lives)
		}
	}
	if planned == 0 {
		t.Fatal("nothing is to fail")
	}
	var (
		all  sync.WaitGroup
		todo = make(chan *line)
		mu   sync.Mutex
		took []time.Duration
		met  int
	)
	for range sideBySide {
		all.Go(func() {
			for l := range todo {
				t.Run(l.String(), func(t *testing.T) {
					began := time.Now()
					t.Cleanup(func() { // when the operator has ended
						if t.Failed() {
							t.Logf("what failed, in this order:\n%s", strings.Join(l.met, "\n"))
						}
						mu.Lock()
						defer mu.Unlock()
						took, met = append(took, time.Since(began)), met+len(l.met)
					})
					if diff := cmp.Diff(want, play(t, l)); diff != "" {
						t.Errorf("the world is another one than without the faults (-want +got):\n%s", diff)
					}
				})
			}
		})
	}
	for _, l := range lives {
		todo <- l
	}
	close(todo)
	all.Wait()
	slices.Sort(took)
	t.Logf("%d of %d calls failed as planned; a life took %v to %v, at the median %v", met, planned, took[0], took[len(took)-1], took[len(took)/2])
	// Which of two passes reads an object, or how many events come in one piece, differs from life to life.
	if met < planned*3/4 {
		t.Errorf("only %d of %d calls came at all", met, planned)
	}
}

// livesOf are lives in which together each call fails in each way that it can, and how many faults these are.
func livesOf(calls []call) (lives []*line, planned int) {
	for way := range 3 {
		for first := range apart {
			l := &line{faults: map[call]fault{}}
			for i := first; i < len(calls); i += apart {
				if ways := faultsOf(calls[i].verb); way < len(ways) {
					l.faults[calls[i]] = ways[way]
				}
			}
			if len(l.faults) > 0 {
				lives = append(lives, l)
				planned += len(l.faults)
			}
		}
	}
	return lives, planned
}

func sampleOf(lives []*line) (some []*line, planned int) {
	for i := range sampled {
		l := lives[i*len(lives)/sampled]
		some = append(some, l)
		planned += len(l.faults)
	}
	return some, planned
}

// with are the lives in which a fault has a line that holds a text.
func with(lives []*line, text string) (some []*line, planned int) {
	for _, l := range lives {
		if len(only([]*line{l}, text)) > 0 {
			some = append(some, l)
			planned += len(l.faults)
		}
	}
	return some, planned
}

// only are lives with one fault each, whose line holds a text.
func only(lives []*line, text string) (some []*line) {
	for _, l := range lives {
		for c, f := range l.faults {
			if strings.Contains(fmt.Sprintf("%s %s", f, c), text) {
				some = append(some, &line{faults: map[call]fault{c: f}})
			}
		}
	}
	return some
}

// play plays a life whose operator reaches the API server over the line, and returns what stands after the changes, and what
// after the farewells.
func play(t *testing.T, l *line) map[string]string {
	t.Helper()
	w := &world{t: t, log: &logBuffer{}, stop: func() {}, image: "example.com/broker:1", elects: true, tick: calm, patience: 3 * patience, lease: patience}
	w.namespace = w.newNamespace(nil)
	l.namespace = w.namespace
	w.kubelet = newKubeletOf(t, w.namespace, calm)
	operator := w.keepOperator(l)

	class := w.storageClass(true)
	broker := gen.Broker(w.namespace, "mq", gen.WithVolume("1Gi", class.Name), gen.WithListener(gen.Plain("mqtt", 1883)), func(b *v1alpha1.MQTTBroker) {
		b.Spec.Listeners[0].TLS.ClientAuth = new(v1alpha1.ClientAuthOptional)
	})
	policy := gen.Policy(w.namespace, "shared", gen.Rule(v1alpha1.ACLAllow, "a/#", v1alpha1.ACLSubscribe))
	alice := gen.User(w.namespace, "alice", "mq", gen.Allow("a/#", v1alpha1.ACLPublish))
	bob := gen.User(w.namespace, "bob", "mq", gen.WithPasswordFrom("bobs"), gen.WithPolicies("shared"))
	carol := gen.User(w.namespace, "carol", "mq", gen.WithAuthentication(v1alpha1.UserAuthentication{
		Certificate: &v1alpha1.UserCertificate{Issue: new(true)},
	}))
	bridge := gen.Bridge(w.namespace, "cloud", "mq")
	w.create(broker, policy, gen.Secret(w.namespace, "bobs", map[string]string{"password": "first"}), alice, bob, carol, bridge)
	w.ready(broker, policy, alice, bob, carol, bridge)
	binding := w.secret(v1alpha1.BindingSecretName("alice"))
	w.kubelet.mustConnect("mq", "alice", string(binding.Data[v1alpha1.BindingPassword]))

	// Changes: the volume, what replaces pods, what does not, every kind of object.
	w.grow(broker, "2Gi")
	w.eventually("the volume has grown", func() error {
		if sizes := w.sizes(); sizes != "2Gi 2Gi 2Gi" {
			return errors.New(sizes)
		}
		return nil
	})
	change(w, broker, func(b *v1alpha1.MQTTBroker) {
		b.Spec.Pod = &v1alpha1.BrokerPod{Labels: map[string]v1alpha1.LabelValue{"team": "press"}}
		b.Spec.Listeners[1] = gen.Plain("other", 1884)
	})
	change(w, alice, func(u *v1alpha1.MQTTUser) { gen.Allow("b/#", v1alpha1.ACLPublish)(u) })
	change(w, policy, func(p *v1alpha1.MQTTAccessPolicy) {
		p.Spec.Rules = append(p.Spec.Rules, gen.Rule(v1alpha1.ACLAllow, "c/#", v1alpha1.ACLSubscribe))
	})
	change(w, w.secret("bobs"), func(s *corev1.Secret) { s.Data["password"] = []byte("second") })
	change(w, bridge, func(b *v1alpha1.MQTTBridge) {
		b.Spec.Routes = append(b.Spec.Routes, gen.Between(gen.Route("commands", v1alpha1.RouteIn, "set"), "commands/", ""))
	})
	w.ready(broker, policy, alice, bob, carol, bridge)
	w.kubelet.mustConnect("mq", "bob", "second")
	if now := w.secret(binding.Name); !bytes.Equal(now.Data[v1alpha1.BindingPassword], binding.Data[v1alpha1.BindingPassword]) {
		t.Error("an application has read a password, and it was drawn again")
	}
	w.settle()
	w.ready(broker, policy, alice, bob, carol, bridge)
	result := map[string]string{}
	maps.Copy(result, w.picked("changed"))
	w.operator = operator()
	w.writesNothing(broker, policy, alice, bob, carol, bridge)

	// Farewells.
	for _, object := range []client.Object{bridge, bob, policy} {
		must(t, k8s.Delete(t.Context(), object))
	}
	w.kubelet.mustBeRefused("mq", "bob", "second")
	w.eventually("nothing is left of them", w.collectGarbage)
	w.ready(broker, alice, carol)
	w.settle()
	w.ready(broker, alice, carol)
	w.kubelet.mustConnect("mq", "alice", string(binding.Data[v1alpha1.BindingPassword]))
	maps.Copy(result, w.picked("left"))
	result["pods of mq"] = strconv.Itoa(w.kubelet.begun("mq"))

	w.operator = operator()
	w.writesNothing(broker, alice, carol)
	return result
}

// keepOperator starts an operator over the line, and another when one ends, as a kubelet does. It returns the way to the
// manager of now.
func (w *world) keepOperator(l *line) func() manager.Manager {
	ctx, cancel := context.WithCancel(context.Background())
	at := rest.CopyConfig(apiServer)
	at.Wrap(l.carry)
	var (
		current atomic.Pointer[manager.Manager]
		ended   = make(chan struct{})
	)
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			mgr, err := w.newOperator(ctx, at)
			if err == nil {
				current.Store(&mgr)
				err = mgr.Start(ctx)
			}
			if err != nil && ctx.Err() == nil {
				w.t.Logf("the operator ended, and is started again: %v", err)
			}
		}
	}()
	w.t.Cleanup(func() {
		cancel()
		<-ended
	})
	return func() manager.Manager { return *current.Load() }
}

// writesNothing walks every reconciler by hand over objects on which all is well.
func (w *world) writesNothing(objects ...client.Object) {
	w.t.Helper()
	before := w.versions()
	var writes atomic.Int64
	brokers, users, policies := w.reconcilers(&writes)
	bridges := w.bridges(&writes)
	for _, object := range objects {
		w.exists(object)
		var err error
		switch object := object.(type) {
		case *v1alpha1.MQTTBroker:
			_, err = brokers.Reconcile(w.t.Context(), object)
		case *v1alpha1.MQTTUser:
			_, err = users.Reconcile(w.t.Context(), object)
		case *v1alpha1.MQTTAccessPolicy:
			_, err = policies.Reconcile(w.t.Context(), object)
		case *v1alpha1.MQTTBridge:
			object.Status.CountedAt = new(metav1.Now()) // of what moves all the time nothing is due
			_, err = bridges.Reconcile(w.t.Context(), object)
		}
		must(w.t, err)
	}
	if n := writes.Load(); n > 0 {
		w.t.Errorf("%d requests to write, although nothing changed", n)
	}
	after := w.versions()
	for _, m := range []map[string]string{before, after} {
		maps.DeleteFunc(m, func(name, _ string) bool { return strings.Contains(name, "MQTTBridge") }) // the operator counts, too
	}
	if !maps.Equal(before, after) {
		w.t.Errorf("something was written although nothing changed (-before +after):\n%s", cmp.Diff(before, after))
	}
}

// collectGarbage deletes what belonged to objects that are gone, as the garbage collector does, and complains while there
// was any.
func (w *world) collectGarbage() error {
	owners, found := map[types.UID]bool{}, []client.Object{}
	w.each(func(object client.Object) {
		owners[object.GetUID()] = true
		found = append(found, object)
	})
	var deleted []string
	for _, object := range found {
		if owner := metav1.GetControllerOf(object); owner != nil && !owners[owner.UID] {
			deleted = append(deleted, object.GetName())
			if err := k8s.Delete(w.t.Context(), object, client.GracePeriodSeconds(0)); client.IgnoreNotFound(err) != nil {
				return err
			}
		}
	}
	if len(deleted) > 0 {
		return fmt.Errorf("there were %s", strings.Join(deleted, ", "))
	}
	return nil
}

// picked is everything that stands in the namespace, without what differs from life to life: names that are drawn, times,
// versions, keys.
func (w *world) picked(when string) map[string]string {
	w.t.Helper()
	result, uids := map[string]string{}, []string{w.namespace, "NS"}
	w.each(func(object client.Object) {
		uids = append(uids, string(object.GetUID()), "UID", "-"+string(object.GetUID())[:5], "-UID")
	})
	drawn := strings.NewReplacer(uids...)
	w.each(func(object client.Object) {
		text, err := json.Marshal(object)
		must(w.t, err)
		fields := map[string]any{}
		must(w.t, json.Unmarshal(text, &fields))
		if data, isSecret := fields["data"].(map[string]any); isSecret && fmt.Sprintf("%T", object) == "*v1.Secret" {
			for key, value := range data {
				data[key] = told(value)
			}
		}
		text, err = json.MarshalIndent(lasting(fields), "", " ")
		must(w.t, err)
		result[drawn.Replace(fmt.Sprintf("%s: %T %s", when, object, object.GetName()))] = drawn.Replace(string(text))
	})
	return result
}

// told is what a Secret says, where it says more than a key.
func told(value any) any {
	text, _ := value.(string)
	content, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "?"
	}
	var said any
	if json.Unmarshal(content, &said) != nil {
		return "drawn"
	}
	return said
}

var (
	// fleeting are fields that say when, or which time.
	fleeting = map[string]bool{
		"uid": true, "resourceVersion": true, "creationTimestamp": true, "generation": true, "observedGeneration": true, "managedFields": true,
		"lastTransitionTime": true, "clusterIP": true, "clusterIPs": true, "nodePort": true, "currentRevision": true, "updateRevision": true,
		"revision": true, "configRevision": true, "countedAt": true, "password": true,
		"mqtt-operator.io/applied": true, "mqtt-operator.io/revision": true, "mqtt-operator.io/policies-revision": true, "mqtt-operator.io/source": true,
	}
	moment = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`)
	hash   = regexp.MustCompile(`^\$(sha256|argon2id|scram-sha-256)\$.*`)
	digest = regexp.MustCompile(`^(sha256:)?[0-9a-f]{64}$`)
)

// lasting is a value without what is fleeting.
func lasting(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, field := range value {
			if fleeting[key] {
				delete(value, key)
			} else {
				value[key] = lasting(field)
			}
		}
		return value
	case []any:
		for i := range value {
			value[i] = lasting(value[i])
		}
		return value
	case string:
		switch {
		case strings.Contains(value, "-----BEGIN"):
			return "PEM"
		case digest.MatchString(value):
			return "digest"
		}
		return moment.ReplaceAllString(hash.ReplaceAllString(value, "$1 of something"), "then")
	default:
		return value
	}
}
