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
	rules := verdict.Entry(u, verdict.Credentials{}, nil, now).ACL
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

// known is a broker that knows alice with a rule of her own and a policy.
func known(t *testing.T) *verdict.Facts {
	t.Helper()
	broker, alice := gen.Broker("factory", "mq"), user("alice", time.Hour, gen.WithPolicies("shared"), gen.Allow("own", v1alpha1.ACLPublish))
	alice.Status.Binding = &v1alpha1.BindingStatus{Name: "alice-mqtt"}
	f := &verdict.Facts{
		Broker: broker, Spec: broker.Resolved(), Now: now,
		Users:    []verdict.UserFacts{{User: alice, Verifier: &corev1.Secret{Data: map[string][]byte{verdict.VerifierKey: []byte("$sha256$x")}}}},
		Policies: []*v1alpha1.MQTTAccessPolicy{gen.Policy("factory", "shared", gen.Rule(v1alpha1.ACLDeny, "secret/#", v1alpha1.ACLSubscribe))},
	}
	j := verdict.Judge(f, &verdict.Material{Server: issued(t, now)})
	cfg := &contract.Config{
		Broker: contract.Broker{Format: contract.Format, Name: "factory/mq", Revision: 1, Limits: contract.DefaultLimits(), Logging: contract.DefaultLogging()},
		Users:  j.Accepted, Policies: j.Policies,
	}
	bundle, err := contract.Render(cfg, 2)
	if err != nil {
		t.Fatal(err)
	}
	f.ConfigSecrets = []corev1.Secret{{Data: bundle}}
	return f
}

// TestAPolicyThatIsMissingOpensNothing: the rules stay whole as they were, everything else follows the spec.
func TestAPolicyThatIsMissingOpensNothing(t *testing.T) {
	alice := func(f *verdict.Facts) *v1alpha1.MQTTUser { return f.Users[0].User }
	for name, tc := range map[string]struct {
		reason string
		change func(*verdict.Facts)
		// own and policies are what alice has after; empty own: she is not known.
		own, policies string
		denies        string
	}{
		"nothing is missing": {reason: "the policy of now counts", own: "own", policies: "factory/shared", denies: "secret/#", change: func(*verdict.Facts) {}},
		"it was deleted": {reason: "who names a policy that denies must not gain by its end", own: "own", policies: "factory/shared", denies: "secret/#", change: func(f *verdict.Facts) {
			f.Policies = nil
		}},
		"another one is named": {reason: "what it would deny is not known", own: "own", policies: "factory/shared", denies: "secret/#", change: func(f *verdict.Facts) {
			alice(f).Spec.PolicyRefs = []v1alpha1.PolicyReference{{Name: "none"}}
		}},
		"a rule moves into one": {reason: "own rules of now with policies of then would grant what neither did", own: "own", policies: "factory/shared", denies: "secret/#", change: func(f *verdict.Facts) {
			alice(f).Spec.PolicyRefs = []v1alpha1.PolicyReference{{Name: "none"}}
			alice(f).Spec.ACL = []v1alpha1.ACLRule{gen.Rule(v1alpha1.ACLAllow, "#", v1alpha1.ACLSubscribe)}
		}},
		"the one that is kept narrows": {reason: "a policy that exists counts as it is now", own: "own", policies: "factory/shared", denies: "more/#", change: func(f *verdict.Facts) {
			alice(f).Spec.PolicyRefs = []v1alpha1.PolicyReference{{Name: "none"}}
			f.Policies[0].Spec.Rules[0].Filter = "more/#"
		}},
		"its selector is none": {reason: "nobody knows whom it was to bind", own: "own", policies: "factory/shared", denies: "secret/#", change: func(f *verdict.Facts) {
			bad := gen.Policy("factory", "bad", gen.Rule(v1alpha1.ACLDeny, "#", v1alpha1.ACLSubscribe))
			bad.Spec.UserSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Bogus"}}}
			f.Policies = append(f.Policies, bad)
		}},
		"she is new": {reason: "who had no rules has none to keep", change: func(f *verdict.Facts) {
			alice(f).Spec.PolicyRefs, alice(f).Status.Binding = []v1alpha1.PolicyReference{{Name: "none"}}, nil
		}},
		"the broker forgot": {reason: "what cannot be kept is not made up", change: func(f *verdict.Facts) {
			f.Policies, f.ConfigSecrets = nil, nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := known(t)
			tc.change(f)
			j := verdict.Judge(f, &verdict.Material{Server: issued(t, now)})
			if tc.own == "" {
				if len(j.Accepted) != 0 || j.Rejected != 1 {
					t.Errorf("accepted %d, rejected %d: %s", len(j.Accepted), j.Rejected, tc.reason)
				}
				return
			}
			if len(j.Accepted) != 1 {
				t.Fatalf("she is out: %s", tc.reason)
			}
			if u := j.Accepted[0]; len(u.ACL) != 1 || u.ACL[0].Filter != tc.own || strings.Join(u.Policies, " ") != tc.policies {
				t.Errorf("acl %v, policies %v: %s", u.ACL, u.Policies, tc.reason)
			}
			if rules := j.Policies[tc.policies]; len(rules) != 1 || rules[0].Filter != tc.denies || rules[0].Effect != "deny" {
				t.Errorf("rules %v: %s", rules, tc.reason)
			}
		})
	}
}

// TestSuspendingCountsWhateverElseIsWrong: a fault of the rules keeps nobody from being locked out.
func TestSuspendingCountsWhateverElseIsWrong(t *testing.T) {
	f := known(t)
	f.Policies, f.Users[0].User.Spec.Suspend = nil, new(true)
	if j := verdict.Judge(f, &verdict.Material{Server: issued(t, now)}); len(j.Accepted) != 1 || !j.Accepted[0].Suspended {
		t.Error("a missing policy kept a user from being locked out")
	}
}

func TestTheOrderOfPolicies(t *testing.T) {
	policies := []*v1alpha1.MQTTAccessPolicy{
		gen.Selecting(gen.Policy("factory", "z", gen.Rule(v1alpha1.ACLAllow, "z", v1alpha1.ACLPublish)), map[string]string{"role": "sensor"}),
		gen.Selecting(gen.Policy("factory", "m", gen.Rule(v1alpha1.ACLAllow, "m", v1alpha1.ACLPublish)), map[string]string{"role": "sensor"}),
		gen.Selecting(gen.Policy("factory", "other", gen.Rule(v1alpha1.ACLAllow, "o", v1alpha1.ACLPublish)), map[string]string{"role": "press"}),
		gen.Policy("factory", "b", gen.Rule(v1alpha1.ACLAllow, "b", v1alpha1.ACLPublish)),
		gen.Selecting(gen.Policy("lab", "a", gen.Rule(v1alpha1.ACLAllow, "#", v1alpha1.ACLPublish)), map[string]string{"role": "sensor"}),
	}
	alice := user("alice", time.Hour, gen.WithPolicies("z", "b"), gen.WithLabels(map[string]string{"role": "sensor"}))
	names, problem := verdict.NewPolicies(policies).Of(alice)
	if problem != nil || strings.Join(names, " ") != "factory/z factory/b factory/m" {
		t.Errorf("got %v, %v: those of policyRefs first, then by name, each once, none of another namespace", names, problem)
	}
}

// TestANamespaceHasToBeAllowed: its users count as rejected, and take no name from those who are allowed.
func TestANamespaceHasToBeAllowed(t *testing.T) {
	verifier := &corev1.Secret{Data: map[string][]byte{verdict.VerifierKey: []byte("$sha256$x")}}
	guest := user("guest", 2*time.Hour, gen.WithUsername("alice"))
	guest.Namespace = "lab"
	f := &verdict.Facts{Broker: gen.Broker("factory", "mq"), Now: now, Users: []verdict.UserFacts{{User: guest, Verifier: verifier}, {User: user("alice", time.Hour), Verifier: verifier}}}
	f.Spec = f.Broker.Resolved()
	m := &verdict.Material{Server: issued(t, now)}
	if j := verdict.Judge(f, m); len(j.Accepted) != 1 || j.Rejected != 1 {
		t.Fatalf("accepted %d, rejected %d", len(j.Accepted), j.Rejected)
	}
	if winner := verdict.Winners([]*v1alpha1.MQTTUser{guest, f.Users[1].User})["alice"]; winner != guest {
		t.Error("among the allowed the oldest wins, whatever its namespace")
	}
	guest.Spec.Username = new("guest")
	f.Broker.Spec.AllowedNamespaces = &v1alpha1.AllowedNamespaces{From: new(v1alpha1.NamespacesSelector), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"mqtt": "yes"}}}
	for labels, want := range map[string]int{"yes": 2, "no": 1} {
		f.NamespaceLabels = map[string]map[string]string{"lab": {"mqtt": labels}}
		if j := verdict.Judge(f, m); len(j.Accepted) != want || j.Rejected != 2-want {
			t.Errorf("mqtt=%s: accepted %d, rejected %d", labels, len(j.Accepted), j.Rejected)
		}
	}
}

func TestWhatBoundsAUserReachesTheBroker(t *testing.T) {
	u := user("alice", time.Hour)
	u.Spec.ClientIDs = &v1alpha1.UserClientIDs{Prefix: new("a-")}
	u.Spec.Quota = &v1alpha1.UserQuota{Connections: new(int32(2)), SessionExpiry: &metav1.Duration{Duration: time.Hour}}
	u.Spec.Suspend = new(true)
	entry := verdict.Entry(u, verdict.Credentials{}, []string{"factory/p"}, now)
	if !entry.Suspended || entry.ClientIDs.Prefix != "a-" || entry.Quota.Connections != 2 || *entry.Quota.SessionExpiry != 3600 || entry.Policies[0] != "factory/p" {
		t.Errorf("%+v", *entry)
	}
	if plain := verdict.Entry(user("bob", time.Hour), verdict.Credentials{}, nil, now); plain.Quota != nil || plain.ClientIDs != nil {
		t.Error("what nobody asks for must not be rendered")
	}
}
