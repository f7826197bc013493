// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

// policies are those of the broker's configuration.
func (w *world) policies(broker string) map[string][]acl.Rule {
	w.t.Helper()
	parsed, err := contract.ParsePolicies(w.secret(v1alpha1.ConfigSecretName(broker)).Data[contract.PoliciesFile])
	must(w.t, err)
	return parsed
}

// known is the entry of a user, nil where the broker has none.
func (w *world) known(broker, username string) *contract.User {
	w.t.Helper()
	users, err := contract.ParseUsers(contract.UsersFile(0), w.secret(v1alpha1.UsersSecretName(broker, 0)).Data[contract.UsersFile(0)])
	must(w.t, err)
	for i := range users {
		if users[i].Username == username {
			return &users[i]
		}
	}
	return nil
}

// TestAPolicyStandsOnceAndIsChangedAlone: bound by name and by label; its rules move, and no user with them.
func TestAPolicyStandsOnceAndIsChangedAlone(t *testing.T) {
	w := newWorld(t)
	sensor := map[string]string{"role": "sensor"}
	broker := gen.Broker(w.namespace, "mq")
	named := gen.Policy(w.namespace, "named", gen.Rule(v1alpha1.ACLDeny, "secret/#", v1alpha1.ACLSubscribe))
	labelled := gen.Selecting(gen.Policy(w.namespace, "labelled", gen.Rule(v1alpha1.ACLAllow, "a/#", v1alpha1.ACLPublish)), sensor)
	alice := gen.User(w.namespace, "alice", "mq", gen.WithPolicies("named"), gen.WithLabels(sensor))
	bob := gen.User(w.namespace, "bob", "mq", gen.WithLabels(sensor))
	w.create(broker, named, labelled, alice, bob)
	w.ready(broker, alice, bob, named, labelled)
	if got := strings.Join(w.known("mq", "alice").Policies, " "); got != w.namespace+"/named "+w.namespace+"/labelled" {
		t.Errorf("alice has %s", got)
	}
	if *labelled.Status.BoundUsers != 2 || *named.Status.BoundUsers != 1 {
		t.Errorf("bound: %d and %d, want 2 and 1", *labelled.Status.BoundUsers, *named.Status.BoundUsers)
	}

	w.settle()
	before := w.secret(v1alpha1.UsersSecretName("mq", 0))
	change(w, labelled, func(p *v1alpha1.MQTTAccessPolicy) { p.Spec.Rules[0].Filter = "b/#" })
	w.ready(labelled)
	if rules := w.policies("mq")[w.namespace+"/labelled"]; len(rules) != 1 || rules[0].Filter != "b/#" {
		t.Errorf("ready, and the broker has %v", rules)
	}
	if after := w.secret(before.Name); after.ResourceVersion != before.ResourceVersion {
		t.Error("a policy's rules were written into the users")
	}

	change(w, bob, func(u *v1alpha1.MQTTUser) { u.Labels = nil })
	w.eventually("bob is bound no more", func() error {
		if u := w.known("mq", "bob"); u == nil || len(u.Policies) > 0 {
			return fmt.Errorf("he has %v", u)
		}
		return nil
	})
	change(w, alice, func(u *v1alpha1.MQTTUser) { u.Labels, u.Spec.PolicyRefs = nil, nil })
	w.is(named, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonNoUsers)
	w.eventually("policies that bind nobody leave the configuration", func() error {
		if left := w.policies("mq"); len(left) > 0 {
			return fmt.Errorf("%d are left", len(left))
		}
		return nil
	})
}

// TestAMissingPolicyOpensNothing: who never had it stays out, who had it keeps it.
func TestAMissingPolicyOpensNothing(t *testing.T) {
	w := newWorld(t)
	broker := gen.Broker(w.namespace, "mq")
	policy := gen.Policy(w.namespace, "p", gen.Rule(v1alpha1.ACLDeny, "secret/#", v1alpha1.ACLSubscribe))
	alice := gen.User(w.namespace, "alice", "mq", gen.WithPolicies("p"), gen.Allow("#", v1alpha1.ACLSubscribe))
	w.create(broker, alice)
	c := w.is(alice, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPolicyNotFound)
	if !strings.Contains(c.Message, "MQTTAccessPolicy p") || !strings.Contains(c.Message, "create it") {
		t.Errorf("the message must say the next move: %s", c.Message)
	}
	w.is(alice, v1alpha1.ConditionCredentialsReady, metav1.ConditionTrue, v1alpha1.ReasonCredentialsReady)
	w.eventually("the broker counts her", func() error {
		w.exists(broker)
		if users := broker.Status.Users; users == nil || *users.Rejected != 1 {
			return errors.New("it does not")
		}
		return nil
	})
	if w.known("mq", "alice") != nil {
		t.Fatal("a user whose policy is missing was let in without it")
	}
	w.create(policy)
	w.ready(alice, policy)
	must(t, k8s.Delete(t.Context(), policy))
	w.is(alice, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPolicyNotFound)
	w.settle()
	if rules := w.policies("mq")[w.namespace+"/p"]; len(rules) != 1 || rules[0].Effect != acl.Deny {
		t.Errorf("the rule that denied her went with its policy: %v", rules)
	}
	binding := w.secret(v1alpha1.BindingSecretName("alice"))
	w.kubelet.mustConnect("mq", "alice", string(binding.Data[v1alpha1.BindingPassword]))
	change(w, alice, func(u *v1alpha1.MQTTUser) { u.Spec.PolicyRefs = nil })
	w.ready(alice)
}

// TestASuspendedUserIsAsSomebodyWished: known to the broker, and Ready.
func TestASuspendedUserIsAsSomebodyWished(t *testing.T) {
	w := newWorld(t)
	broker, alice := gen.Broker(w.namespace, "mq"), gen.User(w.namespace, "alice", "mq")
	w.create(broker, alice)
	w.ready(broker, alice)
	change(w, alice, func(u *v1alpha1.MQTTUser) { u.Spec.Suspend = new(true) })
	w.is(alice, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonSuspended)
	if u := w.known("mq", "alice"); u == nil || !u.Suspended || len(u.Verifiers) == 0 {
		t.Error("the broker must know her as suspended")
	}
	change(w, alice, func(u *v1alpha1.MQTTUser) { u.Spec.Suspend = nil })
	w.ready(alice)
}

// TestUsersOfOtherNamespaces are strangers until the broker says otherwise, and again when it takes that back.
func TestUsersOfOtherNamespaces(t *testing.T) {
	w := newWorld(t, map[string]string{"mqtt": "yes"}, nil)
	friend, stranger := w.others[0], w.others[1]
	broker := gen.Broker(w.namespace, "mq")
	w.create(broker)
	w.ready(broker)
	guest := gen.User(friend, "guest", "mq", gen.OfNamespace(w.namespace))
	lost := gen.User(friend, "lost", "none", gen.OfNamespace(w.namespace))
	other := gen.User(stranger, "other", "mq", gen.OfNamespace(w.namespace))
	w.create(guest, lost, other)
	refused := w.is(guest, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonBrokerNotFound)
	missing := w.is(lost, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonBrokerNotFound)
	if strings.ReplaceAll(missing.Message, "none", "mq") != refused.Message {
		t.Errorf("a broker that refuses and one that is not there must give one answer:\n%s\n%s", refused.Message, missing.Message)
	}
	w.eventually("the broker counts them", func() error {
		w.exists(broker)
		if users := broker.Status.Users; *users.Rejected != 2 || *users.Accepted != 0 {
			return fmt.Errorf("accepted %d, rejected %d", *users.Accepted, *users.Rejected)
		}
		return nil
	})

	change(w, broker, func(b *v1alpha1.MQTTBroker) {
		b.Spec.AllowedNamespaces = &v1alpha1.AllowedNamespaces{From: new(v1alpha1.NamespacesSelector), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"mqtt": "yes"}}}
	})
	w.ready(guest)
	binding := &corev1.Secret{}
	must(t, k8s.Get(t.Context(), client.ObjectKey{Namespace: friend, Name: v1alpha1.BindingSecretName("guest")}, binding))
	if host := string(binding.Data[v1alpha1.BindingHost]); host != "mq-mqtts."+w.namespace+".svc" || len(binding.Data[v1alpha1.BindingCA]) == 0 {
		t.Errorf("host %s: the binding must lead to the broker, with its CA", host)
	}
	password := string(binding.Data[v1alpha1.BindingPassword])
	w.kubelet.mustConnect("mq", "guest", password)
	w.is(other, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonBrokerNotFound)

	// The name is taken, by whom is nobody's business in another namespace.
	twin := gen.User(w.namespace, "twin", "mq", gen.WithUsername("guest"))
	w.eventually("a second begins", func() error { // creationTimestamp counts whole seconds
		if time.Now().Unix() == guest.CreationTimestamp.Unix() {
			return errors.New("not yet")
		}
		return nil
	})
	w.create(twin)
	if c := w.is(twin, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonUsernameConflict); strings.Contains(c.Message, friend) || strings.Contains(c.Message, "MQTTUser guest") {
		t.Errorf("the message tells of another namespace: %s", c.Message)
	}
	must(t, k8s.Delete(t.Context(), twin))

	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.AllowedNamespaces = nil })
	w.is(guest, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonBrokerNotFound)
	w.kubelet.mustBeRefused("mq", "guest", password)
}

// TestANamespaceOutsideTheScopeIsSaidToBe: the user learns of the scope, and nothing of brokers.
func TestANamespaceOutsideTheScopeIsSaidToBe(t *testing.T) {
	w := newWorld(t)
	alice := gen.User(w.namespace, "alice", "mq", gen.OfNamespace("default"))
	w.create(alice)
	if c := w.is(alice, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonBrokerNotFound); !strings.Contains(c.Message, "does not look after namespace default") {
		t.Errorf("%s", c.Message)
	}
}

// TestNoReferenceTellsWhatASecretHolds: who may write users and not read Secrets tries every reference on every Secret.
// The answer is that for one which does not exist, and no value turns up anywhere.
func TestNoReferenceTellsWhatASecretHolds(t *testing.T) {
	w := newWorld(t)
	const marker = "marker-5f0c1d-value"
	broker, alice := gen.Broker(w.namespace, "mq"), gen.User(w.namespace, "alice", "mq")
	bob := gen.User(w.namespace, "bob", "mq", gen.WithPasswordFrom("bobs"))
	unlabelled := gen.Secret(w.namespace, "unlabelled", map[string]string{"password": marker, "hash": marker})
	unlabelled.Labels = nil
	labelled := gen.Secret(w.namespace, "labelled", map[string]string{"hash": marker})
	w.create(broker, alice, unlabelled, labelled, gen.Secret(w.namespace, "bobs", map[string]string{"password": marker}), bob)
	w.ready(broker, alice, bob)

	targets := []string{
		"missing", "unlabelled", v1alpha1.BindingSecretName("alice"), v1alpha1.VerifierSecretName("alice"), v1alpha1.VerifierSecretName("bob"),
		v1alpha1.CASecretName("mq"), v1alpha1.TLSSecretName("mq"), v1alpha1.AdminCASecretName("mq"), v1alpha1.AdminTLSSecretName("mq"),
		v1alpha1.ConfigSecretName("mq"), v1alpha1.UsersSecretName("mq", 0),
	}
	for field, reference := range map[string]func(*v1alpha1.SecretKeyReference) *v1alpha1.UserPassword{
		"secretref": func(ref *v1alpha1.SecretKeyReference) *v1alpha1.UserPassword {
			return &v1alpha1.UserPassword{SecretRef: ref}
		},
		"hashsecretref": func(ref *v1alpha1.SecretKeyReference) *v1alpha1.UserPassword {
			return &v1alpha1.UserPassword{HashSecretRef: ref}
		},
	} {
		var answer string
		for i, target := range targets {
			thief := gen.User(w.namespace, fmt.Sprintf("thief-%s-%d", field, i), "mq", gen.WithAuthentication(v1alpha1.UserAuthentication{
				Password: reference(&v1alpha1.SecretKeyReference{Name: target, Key: new("password")}),
			}))
			w.create(thief)
			c := w.is(thief, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSecretNotUsable)
			got := strings.ReplaceAll(c.Message, target, "X")
			if answer == "" {
				answer = got
			}
			if got != answer {
				t.Errorf("%s of %s gives another answer than a missing one:\n%s\n%s", field, target, got, answer)
			}
			if w.known("mq", thief.Name) != nil || thief.Status.Binding != nil {
				t.Errorf("%s of %s reached the broker", field, target)
			}
		}
	}
	bad := gen.User(w.namespace, "bad-hash", "mq", gen.WithAuthentication(v1alpha1.UserAuthentication{
		Password: &v1alpha1.UserPassword{HashSecretRef: &v1alpha1.SecretKeyReference{Name: "labelled"}},
	}))
	w.create(bad)
	w.is(bad, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonPasswordHashInvalid)

	values := map[string]string{"the marker": marker}
	secrets := &corev1.SecretList{}
	must(t, k8s.List(t.Context(), secrets, client.InNamespace(w.namespace)))
	for i := range secrets.Items {
		for _, key := range []string{"password", "verifier", "scram", "ca.key", "tls.key", "client.key"} {
			if value := strings.TrimSpace(string(secrets.Items[i].Data[key])); value != "" {
				lines := strings.Split(value, "\n")
				values[secrets.Items[i].Name+" "+key] = lines[len(lines)/2]
			}
		}
	}
	for place, text := range w.outputs() {
		for name, value := range values {
			if strings.Contains(text, value) {
				t.Errorf("%s holds %s", place, name)
			}
		}
	}
	for _, name := range []string{v1alpha1.ConfigSecretName("mq"), v1alpha1.UsersSecretName("mq", 0)} {
		for key, content := range w.secret(name).Data {
			if strings.Contains(string(content), marker) {
				t.Errorf("%s of %s holds the marker", key, name)
			}
		}
	}
}

// outputs is everything that people without a right to Secrets may read.
func (w *world) outputs() map[string]string {
	w.t.Helper()
	texts := map[string]string{"the log": w.log.String()}
	if texts["the log"] == "" {
		w.t.Error("nothing was logged: the test looks at the wrong place")
	}
	for name, list := range map[string]client.ObjectList{
		"a user": &v1alpha1.MQTTUserList{}, "a broker": &v1alpha1.MQTTBrokerList{}, "a policy": &v1alpha1.MQTTAccessPolicyList{}, "an event": &eventsv1.EventList{},
	} {
		must(w.t, k8s.List(w.t.Context(), list, client.InNamespace(w.namespace)))
		text, err := json.Marshal(list)
		must(w.t, err)
		texts[name] = string(text)
	}
	families, err := metrics.Registry.Gather()
	must(w.t, err)
	texts["the metrics"] = fmt.Sprint(families)
	return texts
}
