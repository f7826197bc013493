// SPDX-License-Identifier: Apache-2.0

package verdict_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func issued(t *testing.T, at time.Time) pki.Pair {
	t.Helper()
	ca, err := pki.NewCA("ca", at)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := pki.Issue(ca, pki.Request{CommonName: "x", Server: true}, at)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func tlsSecret(certificate, key []byte) *corev1.Secret {
	secret := gen.Secret("factory", "certs", nil)
	secret.Data = map[string][]byte{}
	if certificate != nil {
		secret.Data[corev1.TLSCertKey] = certificate
	}
	if key != nil {
		secret.Data[corev1.TLSPrivateKeyKey] = key
	}
	return secret
}

func TestEachFaultOfACertificateHasItsReasonAndKeepsTheOldOne(t *testing.T) {
	good, other, old := issued(t, now), issued(t, now), issued(t, now.Add(-pki.LeafValidity-time.Hour))
	before, future := issued(t, now), issued(t, now.Add(time.Hour))
	for name, tc := range map[string]struct {
		secret *corev1.Secret
		want   v1alpha1.ConditionReason
		says   string
	}{
		"a good pair":      {secret: tlsSecret(good.Certificate, good.Key)},
		"no such Secret":   {want: v1alpha1.ReasonTLSSecretNotUsable, says: "kubectl -n factory label secret certs mqtt-operator.io/allow=true"},
		"no key":           {secret: tlsSecret(good.Certificate, nil), want: v1alpha1.ReasonSecretKeyMissing, says: "no key tls.key: add it"},
		"another's key":    {secret: tlsSecret(good.Certificate, other.Key), want: v1alpha1.ReasonKeyPairMismatch, says: "put the two that belong together"},
		"no certificate":   {secret: tlsSecret([]byte("x"), good.Key), want: v1alpha1.ReasonCertificateInvalid, says: "put a PEM certificate into tls.crt"},
		"one to come":      {secret: tlsSecret(future.Certificate, future.Key), want: v1alpha1.ReasonCertificateExpired, says: "wait until then"},
		"one that expired": {secret: tlsSecret(old.Certificate, old.Key), want: v1alpha1.ReasonCertificateExpired, says: "renew it"},
	} {
		t.Run(name, func(t *testing.T) {
			broker := gen.Broker("factory", "mq")
			broker.Spec.Listeners = []v1alpha1.BrokerListener{gen.FromSecret("mqtts", 8883, "certs")}
			f := &verdict.Facts{Broker: broker, Spec: broker.Resolved(), Now: now, Referenced: map[string]*corev1.Secret{}}
			if tc.secret != nil {
				f.Referenced["certs"] = tc.secret
			}
			l := verdict.Judge(f, &verdict.Material{}).Listeners[0]
			if tc.want == "" {
				if l.Fault != nil || l.Pair == nil || l.Pair.Certificate != string(good.Certificate) {
					t.Fatalf("a good pair must be served, got %+v", l.Fault)
				}
				return
			}
			if l.Fault == nil || l.Fault.Reason != tc.want || !strings.Contains(l.Fault.Message, tc.says) {
				t.Fatalf("got %+v, want %s saying %q", l.Fault, tc.want, tc.says)
			}
			if l.CanServe() || !strings.Contains(l.Fault.Message, "the listener is closed") {
				t.Error("with nothing to serve the listener must stay closed, and say so")
			}

			f.ConfigSecrets = served(t, broker, before)
			l = verdict.Judge(f, &verdict.Material{}).Listeners[0]
			if l.Pair == nil || l.Pair.Certificate != string(before.Certificate) || !strings.Contains(l.Fault.Message, "goes on with the certificate it had") {
				t.Error("what ran before must go on running")
			}
			if strings.Contains(l.Fault.Message, "BEGIN") {
				t.Error("the message shows content of the Secret")
			}
		})
	}
}

// served is the configuration of a broker that serves pair.
func served(t *testing.T, broker *v1alpha1.MQTTBroker, pair pki.Pair) []corev1.Secret {
	t.Helper()
	cfg := &contract.Config{
		Broker: contract.Broker{
			Format: contract.Format, Name: "factory/mq", Revision: 1, Limits: contract.DefaultLimits(), Logging: contract.DefaultLogging(),
			Listeners: []contract.Listener{{Name: broker.Spec.Listeners[0].Name, Protocol: contract.TLS, Address: ":8883", TLS: &contract.ListenerTLS{Pair: "mqtts", MinVersion: "1.2"}}},
		},
		Pairs: map[string]contract.KeyPair{"mqtts": {Certificate: string(pair.Certificate), PrivateKey: string(pair.Key)}},
	}
	bundle, err := contract.Render(cfg, 1)
	if err != nil {
		t.Fatal(err)
	}
	return []corev1.Secret{{Data: bundle}}
}

func user(name string, age time.Duration, options ...gen.UserOption) *v1alpha1.MQTTUser {
	u := gen.User("factory", name, "mq", options...)
	u.CreationTimestamp = metav1.NewTime(now.Add(-age))
	u.UID = types.UID(name)
	return u
}

func TestTheOldestOfANameWins(t *testing.T) {
	old, young := user("old", time.Hour, gen.WithUsername("alice")), user("young", time.Minute, gen.WithUsername("alice"))
	twin := user("a-twin", time.Hour, gen.WithUsername("alice"))
	for name, tc := range map[string]struct {
		users  []*v1alpha1.MQTTUser
		want   string
		reason string
	}{
		"age decides":             {users: []*v1alpha1.MQTTUser{young, old}, want: "old", reason: "who came later cannot take a name over"},
		"whatever the order":      {users: []*v1alpha1.MQTTUser{old, young}, want: "old", reason: "a list has no order"},
		"among equals the name":   {users: []*v1alpha1.MQTTUser{old, twin}, want: "a-twin", reason: "two of one second must not alternate"},
		"alone there is no fight": {users: []*v1alpha1.MQTTUser{young}, want: "young", reason: "when the winner goes, the other gets the name"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := verdict.Winners(tc.users)["alice"].Name; got != tc.want {
				t.Errorf("got %s, want %s: %s", got, tc.want, tc.reason)
			}
		})
	}
}

func TestJudgeAcceptsWhoHasAVerifierAndTheName(t *testing.T) {
	broker := gen.Broker("factory", "mq")
	verifier := &corev1.Secret{Data: map[string][]byte{verdict.VerifierKey: []byte("$sha256$x")}}
	hostile := user("hostile", time.Hour, gen.WithUsername("a/#")) // the schema refuses it; an older schema may not have
	f := &verdict.Facts{
		Broker: broker, Spec: broker.Resolved(), Now: now,
		Users: []verdict.UserFacts{
			{User: user("old", time.Hour, gen.WithUsername("alice")), Verifier: verifier},
			{User: user("young", time.Minute, gen.WithUsername("alice")), Verifier: verifier},
			{User: user("unready", time.Hour)},
			{User: hostile, Verifier: verifier},
			{User: user("bob", time.Hour), Verifier: verifier},
		},
	}
	server := issued(t, now)
	j := verdict.Judge(f, &verdict.Material{Server: server})
	if len(j.Accepted) != 2 || j.Accepted[0].Username != "alice" || j.Accepted[1].Username != "bob" || j.Rejected != 2 {
		t.Errorf("accepted %v, rejected %d", j.Accepted, j.Rejected)
	}
}

func TestTheFloorOfTheRevision(t *testing.T) {
	bundle := func(revision int64) []corev1.Secret {
		cfg := &contract.Config{Broker: contract.Broker{Format: contract.Format, Name: "factory/mq", Revision: revision, Limits: contract.DefaultLimits(), Logging: contract.DefaultLogging()}}
		rendered, err := contract.Render(cfg, 1)
		if err != nil {
			t.Fatal(err)
		}
		return []corev1.Secret{{Data: rendered}}
	}
	digest := func(revision int64) string {
		return (&verdict.Facts{ConfigSecrets: bundle(revision)}).Bundle().Digest()
	}
	for name, tc := range map[string]struct {
		reason  string
		secrets []corev1.Secret
		status  *int64
		answers []verdict.Answer
		want    int64
	}{
		"nothing is known":            {reason: "a new broker begins at one", want: 0},
		"status remembers":            {reason: "Secrets deleted by hand must not send the revision back", status: new(int64(7)), want: 7},
		"a pod remembers":             {reason: "a broker restored without status still runs what it runs", answers: []verdict.Answer{{Revision: 9}}, status: new(int64(7)), want: 9},
		"the pod runs it":             {reason: "one number for one configuration is as it should be", secrets: bundle(5), answers: []verdict.Answer{{Revision: 5, Digest: digest(5)}}, want: 5},
		"one number, two meanings":    {reason: "Secrets from a backup meet a pod that went another way; neither may win by its number", secrets: bundle(5), answers: []verdict.Answer{{Revision: 5, Digest: "sha256:other"}}, want: 6},
		"a pod that is a step behind": {reason: "it will be given the newer one", secrets: bundle(5), answers: []verdict.Answer{{Revision: 4, Digest: digest(4)}}, want: 4},
	} {
		t.Run(name, func(t *testing.T) {
			f := &verdict.Facts{Broker: gen.Broker("factory", "mq"), ConfigSecrets: tc.secrets}
			if tc.status != nil {
				f.Broker.Status.Revision = &v1alpha1.RevisionStatus{Desired: tc.status}
			}
			for i := range tc.answers {
				f.Pods = append(f.Pods, verdict.PodFacts{Answer: &tc.answers[i]})
			}
			if got := f.RevisionFloor(); got != tc.want {
				t.Errorf("got %d, want %d: %s", got, tc.want, tc.reason)
			}
		})
	}
}

func TestWhoWasLetInStaysInWhileTheVerifierIsAway(t *testing.T) {
	broker, alice := gen.Broker("factory", "mq"), user("alice", time.Hour)
	alice.Status.Binding = &v1alpha1.BindingStatus{Name: "alice-mqtt"}
	cfg := &contract.Config{
		Broker: contract.Broker{Format: contract.Format, Name: "factory/mq", Revision: 1, Limits: contract.DefaultLimits(), Logging: contract.DefaultLogging()},
		Users:  []contract.User{{Username: "alice", Verifiers: []string{"$sha256$x"}}},
	}
	bundle, err := contract.Render(cfg, 4)
	if err != nil {
		t.Fatal(err)
	}
	f := &verdict.Facts{
		Broker: broker, Spec: broker.Resolved(), Now: now, ConfigSecrets: []corev1.Secret{{Data: bundle}},
		Users: []verdict.UserFacts{{User: alice}, {User: user("new", time.Hour)}},
	}
	j := verdict.Judge(f, &verdict.Material{Server: issued(t, now)})
	if len(j.Accepted) != 1 || j.Accepted[0].Verifiers[0] != "$sha256$x" {
		t.Errorf("accepted %v: a Secret deleted by hand must not throw a client out", j.Accepted)
	}
	alice.Status.Binding = nil // another object, made after the first was deleted
	if j = verdict.Judge(f, &verdict.Material{Server: issued(t, now)}); len(j.Accepted) != 0 {
		t.Errorf("accepted %v: a new user inherited the password of a deleted one", j.Accepted)
	}
}

func TestRulesKeepTheirMeaning(t *testing.T) {
	u := gen.User("factory", "alice", "mq")
	u.Spec.ACL = []v1alpha1.ACLRule{
		{Effect: v1alpha1.ACLDeny, Actions: []v1alpha1.ACLAction{v1alpha1.ACLSubscribe, v1alpha1.ACLPublish}, Filter: "a"},
		{Effect: v1alpha1.ACLAllow, Actions: []v1alpha1.ACLAction{v1alpha1.ACLPublish}, Filter: "b", MaxQoS: new(int32(0)), Retain: new(false)},
	}
	rules := verdict.Entry(u, nil).ACL
	if len(rules) != 2 || rules[0].Effect != "deny" || len(rules[0].Actions) != 2 || rules[0].MaxQoS != nil {
		t.Errorf("deny: %+v", rules)
	}
	if *rules[1].MaxQoS != 0 || *rules[1].Retain || rules[1].Actions[0] != "publish" {
		t.Errorf("allow: %+v", rules[1])
	}
	for i := range rules {
		if err := rules[i].Validate(); err != nil {
			t.Error(err)
		}
	}
}
