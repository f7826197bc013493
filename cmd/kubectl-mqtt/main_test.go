// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
)

var (
	publish   = []acl.Action{acl.Publish}
	subscribe = []acl.Action{acl.Subscribe}
)

func allow(actions []acl.Action, filter string) acl.Rule {
	return acl.Rule{Effect: acl.Allow, Actions: actions, Filter: filter}
}

func deny(actions []acl.Action, filter string) acl.Rule {
	return acl.Rule{Effect: acl.Deny, Actions: actions, Filter: filter}
}

// noon is when everything in these tests happens.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// marker stands where hashes do. It may be seen nowhere.
const marker = "MARKER-of-a-secret"

// factory is the configuration that most tests ask.
func factory() *contract.Config {
	low := allow(publish, "low/x")
	low.MaxQoS, low.Retain = new(byte(1)), new(false)
	capped := allow(subscribe, "capped/#")
	capped.MaxQoS = new(byte(0))
	hash := []string{marker}
	return &contract.Config{
		Broker: contract.Broker{
			Format: contract.Format, Name: "factory/mq", Revision: 12, Limits: contract.DefaultLimits(), Logging: contract.DefaultLogging(),
			Listeners: []contract.Listener{
				{Name: "mqtt", Protocol: contract.TCP, Address: ":1883", Anonymous: &contract.Anonymous{ACL: []acl.Rule{allow(subscribe, "public/#")}}},
				{Name: "inner", Protocol: contract.TCP, Address: ":1884"},
			},
		},
		Policies: map[string][]acl.Rule{"factory/readers": {deny(subscribe, "factory/secret"), allow(subscribe, "factory/#")}},
		Users: []contract.User{
			{Username: "alice", Verifiers: hash, ACL: []acl.Rule{
				deny(publish, "factory/alice/locked"), low, allow(publish, "factory/%u/#"), capped, allow(publish, "id/%c/#"),
			}, Policies: []string{"factory/readers"}},
			{Username: "Bob Smith", Verifiers: hash, ACL: []acl.Rule{allow(publish, "factory/bob/#")}, ClientIDs: &contract.ClientIDs{Prefix: "bob-"}},
			{Username: "carol", Verifiers: hash, Suspended: true, ACL: []acl.Rule{allow(subscribe, "factory/#")}},
			{Username: "dave", Verifiers: hash, ACL: []acl.Rule{allow(subscribe, "factory/%c/#")}},
			{Username: "erin", Verifiers: hash, ACL: []acl.Rule{}},
		},
	}
}

// world is a cluster that holds a broker with a configuration, and some of its users' objects.
func world(t *testing.T, cfg *contract.Config, change ...func(*fake.ClientBuilder)) opener {
	t.Helper()
	bundle, err := contract.Render(cfg, 2)
	if err != nil {
		t.Fatal(err)
	}
	broker := gen.Broker("factory", "mq", gen.WithListener(gen.Plain("mqtt", 1883)))
	broker.Status.Pods = []v1alpha1.BrokerPodStatus{{Name: "mq-broker-0", ConfigRevision: new(int64(12))}}
	waiting := gen.User("factory", "waiting", "mq")
	waiting.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: metav1.ConditionFalse, Message: "Secret x does not exist: create it."}}
	objects := []client.Object{broker, waiting, gen.User("factory", "alice", "mq"), gen.User("factory", "bob", "mq", gen.WithUsername("Bob Smith"))}
	head := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "factory", Name: "mq-config"}, Data: map[string][]byte{}}
	for name, content := range bundle {
		if strings.HasPrefix(name, "users-") {
			objects = append(objects, &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: "factory", Name: "mq-" + strings.TrimSuffix(name, ".json")}, Data: map[string][]byte{name: content},
			})
			continue
		}
		head.Data[name] = content
	}
	scheme, err := controllers.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithObjects(append(objects, head)...)
	for _, f := range change {
		f(builder)
	}
	built := builder.Build()
	return func(f connection) (*site, string, error) {
		if f.namespace == "" {
			f.namespace = "factory"
		}
		return &site{Client: built, now: func() time.Time { return noon }}, f.namespace, nil
	}
}

// noSecrets is a cluster in which the caller may not read Secrets.
func noSecrets(b *fake.ClientBuilder) {
	b.WithInterceptorFuncs(interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
		if _, secret := o.(*corev1.Secret); secret {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, key.Name, errors.New("no"))
		}
		return c.Get(ctx, key, o, opts...)
	}})
}

func call(t *testing.T, open opener, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, streams{out: &o, err: &e}, open)
	if strings.Contains(o.String()+e.String(), marker) {
		t.Errorf("%q shows a hash", args)
	}
	return code, o.String(), e.String()
}

func TestCanI(t *testing.T) {
	open := world(t, factory())
	for name, tc := range map[string]struct {
		args, out, errs string
		code            int
	}{
		"an own rule":                     {"publish factory/alice/x --as alice", "yes: rule 3 of MQTTUser alice (spec.acl[2]: allow publish factory/%u/#)", "note: revision 12 of broker factory/mq, which all of its pods run", 0},
		"an own rule that denies":         {"publish factory/alice/locked --as alice", "no: rule 1 of MQTTUser alice (spec.acl[0]: deny publish factory/alice/locked)", "", 1},
		"no rule":                         {"publish other --as alice", "no: no rule of alice allows it", "", 1},
		"a rule that is too narrow":       {"publish low/x --qos 2 --retain --as alice", "no: no rule of alice allows it; closest: rule 2 of MQTTUser alice (spec.acl[1]: allow publish low/x, at most QoS 1, not retained)", "", 1},
		"a rule of a policy":              {"subscribe factory/a --as alice", "yes: rule 2 of MQTTAccessPolicy readers (spec.rules[1]: allow subscribe factory/#)", "", 0},
		"a rule of a policy that denies":  {"subscribe factory/# --as alice", "no: rule 1 of MQTTAccessPolicy readers (spec.rules[0]: deny subscribe factory/secret)", "", 1},
		"a part of a filter":              {"subscribe # --as dave --client-id 7", "no: no rule of dave allows it; closest, for a part of it: rule 1 of MQTTUser dave (spec.acl[0]: allow subscribe factory/%c/#)", "", 1},
		"a shared subscription":           {"subscribe $share/g/factory/a --as alice", "yes: rule 2 of MQTTAccessPolicy readers (spec.rules[1]: allow subscribe factory/#)", "", 0},
		"a QoS that is capped":            {"subscribe capped/a --qos 2 --as alice", "yes: rule 4 of MQTTUser alice (spec.acl[3]: allow subscribe capped/#, at most QoS 0); at QoS 0, not 2", "", 0},
		"a client id that is not given":   {"publish id/7/x --as alice", "no: no rule of alice allows it", "note: with some client id the answer is another; say which with --client-id", 1},
		"a client id that is given":       {"publish id/7/x --as alice --client-id 7", "yes: rule 5 of MQTTUser alice (spec.acl[4]: allow publish id/%c/#)", "", 0},
		"the name of the object":          {"publish factory/bob/x --as bob", "yes: rule 1 of MQTTUser bob (spec.acl[0]: allow publish factory/bob/#)", "", 0},
		"a username with a space":         {"publish factory/bob/x --as Bob_Smith", "yes: rule 1 of MQTTUser bob (spec.acl[0]: allow publish factory/bob/#)", "", 0},
		"a client id that is not allowed": {"publish factory/bob/x --as bob --client-id x", "no: user Bob Smith may not connect with the client id x (spec.clientIDs); else it would be yes: rule 1 of MQTTUser bob (spec.acl[0]: allow publish factory/bob/#)", "", 1},
		"suspended":                       {"subscribe factory/a --as carol", "no: user carol is suspended and cannot connect; else it would be yes: rule 1 of MQTTUser carol (spec.acl[0]: allow subscribe factory/#)", "", 1},
		"unknown":                         {"publish a --as mallory", "no: broker factory/mq knows no user mallory", "", 1},
		"not let in yet":                  {"publish a --as waiting", "no: broker factory/mq does not know user waiting of MQTTUser waiting: Secret x does not exist: create it.", "", 1},
		"anonymous":                       {"subscribe public/a --anonymous --listener mqtt", "yes: rule 1 of MQTTBroker mq (spec.listeners[1].anonymous.acl[0]: allow subscribe public/#)", "", 0},
		"anonymous, no rule":              {"publish public/a --anonymous --listener mqtt", "no: no rule of listener mqtt allows it", "", 1},
		"no anonymous here":               {"publish a --anonymous --listener inner", "no: listener inner lets nobody in without a name (spec.listeners[].anonymous)", "", 1},
		"the broker's own":                {"publish $SYS/a --as alice", "no: topics below $SYS are the broker's own, and no rule opens them", "", 1},
		"too many levels":                 {"publish " + strings.Repeat("a/", 128) + "a --as alice", "no: it has 129 levels, and the broker takes 128 (spec.limits.maxTopicLevels)", "", 1},
		"a wildcard to publish to":        {"publish a/# --as alice", "", "error: a/#: a topic name must not hold the wildcard '#'", 2},
		"a bad filter":                    {"subscribe a/#/b --as alice", "", "error: a/#/b: ", 2},
		"a bad action":                    {"read a --as alice", "", "error: read is neither publish nor subscribe", 2},
		"a bad QoS":                       {"publish a --as alice --qos 3", "", "error: --qos 3 is not 0, 1 or 2", 2},
		"retain to subscribe":             {"subscribe a --as alice --retain", "", "error: --retain is about publishing", 2},
		"nobody":                          {"publish a", "", "error: say --as USER, or --anonymous --listener NAME", 2},
		"no listener":                     {"publish a --anonymous", "", "error: --anonymous needs --listener", 2},
		"an unknown listener":             {"publish a --anonymous --listener x", "", "error: broker factory/mq has no open listener x; there are: mqtt, inner", 2},
		"no broker":                       {"publish a --as alice -n empty", "", "error: namespace empty holds no MQTTBroker", 2},
		"an unknown broker":               {"publish a --as alice --broker x", "", "error: mqttbrokers.mqtt-operator.io \"x\" not found", 4},
		"a bad output":                    {"publish a --as alice -o table", "", "error: -o table is neither json nor yaml", 2},
		"an unknown flag":                 {"publish a --as alice --force", "", "error: unknown flag: --force; see kubectl mqtt --help", 2},
	} {
		t.Run(name, func(t *testing.T) {
			args := strings.Fields(tc.args)
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "Bob_Smith", "Bob Smith")
			}
			code, out, errs := call(t, open, append([]string{"can-i"}, args...)...)
			if code != tc.code || strings.TrimSuffix(out, "\n") != tc.out || !strings.Contains(errs, tc.errs) {
				t.Errorf("got %d\n%s%s\nwant %d\n%s\n…%s", code, out, errs, tc.code, tc.out, tc.errs)
			}
		})
	}
}

func TestCanIForPrograms(t *testing.T) {
	for _, output := range []string{"json", "yaml"} {
		code, out, _ := call(t, world(t, factory()), "can-i", "publish", "low/x", "--as", "alice", "-o", output)
		if code != 0 || !strings.Contains(out, "low/x") {
			t.Fatalf("%d %s", code, out)
		}
		if output == "yaml" {
			continue
		}
		got := answer{}
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatal(err)
		}
		if !got.Allowed || got.User != "alice" || *got.MaxQoS != 1 || got.DecidedBy.Kind != "MQTTUser" || got.DecidedBy.Field != "spec.acl[1]" || got.Config.Revision != 12 || !got.Config.Applied {
			t.Errorf("%+v", got)
		}
	}
}

func TestWhatTheAnswerRestsOnIsSaid(t *testing.T) {
	behind := func(b *fake.ClientBuilder) {
		broker := gen.Broker("factory", "late")
		broker.Status.Pods = []v1alpha1.BrokerPodStatus{{Name: "late-broker-0", ConfigRevision: new(int64(11))}, {Name: "late-broker-1"}}
		b.WithObjects(broker)
		cfg := factory()
		bundle, err := contract.Render(cfg, 1)
		if err != nil {
			t.Fatal(err)
		}
		users := contract.UsersFile(0)
		b.WithObjects(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "factory", Name: "late-users-0"}, Data: map[string][]byte{users: bundle[users]}})
		delete(bundle, users)
		b.WithObjects(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "factory", Name: "late-config"}, Data: bundle})
	}
	open := world(t, factory(), behind)
	_, _, errs := call(t, open, "can-i", "publish", "a", "--as", "alice", "--broker", "late")
	if want := "which not every pod is known to run: late-broker-0 answered 11 last, late-broker-1 has not answered yet"; !strings.Contains(errs, want) {
		t.Errorf("got %s, want %s", errs, want)
	}
	if code, _, errs := call(t, open, "can-i", "publish", "a", "--as", "alice"); code != exitUsage || !strings.Contains(errs, "say --broker and one of late, mq") {
		t.Errorf("two brokers and no --broker: %d %s", code, errs)
	}
}

func TestWhoMayReadNoSecretsGetsAnAnswerFromTheObjects(t *testing.T) {
	rules := gen.Allow("factory/%u/#", v1alpha1.ACLPublish)
	user := gen.User("factory", "zoe", "mq", rules)
	open := world(t, factory(), noSecrets, func(b *fake.ClientBuilder) { b.WithObjects(user) })
	code, out, errs := call(t, open, "can-i", "publish", "factory/zoe/x", "--as", "zoe")
	if code != 0 || out != "yes: rule 1 of MQTTUser zoe (spec.acl[0]: allow publish factory/%u/#)\n" ||
		!strings.Contains(errs, "from the objects, not from what broker factory/mq runs: you may not read Secret mq-config") {
		t.Errorf("%d %s%s", code, out, errs)
	}
	code, out, _ = call(t, open, "who-can", "publish", "factory/zoe/x")
	if code != 0 || !strings.Contains(out, "zoe") {
		t.Errorf("%d %s", code, out)
	}
	policy := &v1alpha1.MQTTAccessPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "factory", Name: "p"},
		Spec: v1alpha1.MQTTAccessPolicySpec{
			UserSelector: &metav1.LabelSelector{},
			Rules:        []v1alpha1.ACLRule{{Effect: v1alpha1.ACLAllow, Actions: []v1alpha1.ACLAction{v1alpha1.ACLSubscribe}, Filter: "news/#"}},
		},
	}
	open = world(t, factory(), noSecrets, func(b *fake.ClientBuilder) { b.WithObjects(user, policy) })
	if code, out, _ = call(t, open, "can-i", "subscribe", "news/x", "--as", "zoe"); code != 0 || !strings.Contains(out, "MQTTAccessPolicy p") {
		t.Errorf("a policy binds by its selector: %d %s", code, out)
	}
	lost := user.DeepCopy()
	lost.Spec.PolicyRefs = []v1alpha1.PolicyReference{{Name: "gone"}}
	open = world(t, factory(), noSecrets, func(b *fake.ClientBuilder) { b.WithObjects(lost) })
	if code, out, errs = call(t, open, "can-i", "publish", "factory/zoe/x", "--as", "zoe"); code != exitUnknown || out != "" || !strings.Contains(errs, "ask somebody who may read Secret mq-config") {
		t.Errorf("half of the rules are known: no answer is better than a wrong one, got %d %s%s", code, out, errs)
	}
}

func TestAChangeUnderWayIsNoAnswer(t *testing.T) {
	old := factory()
	old.Users = old.Users[:1]
	open := world(t, factory(), func(b *fake.ClientBuilder) {
		bundle, err := contract.Render(old, 2)
		if err != nil {
			t.Fatal(err)
		}
		b.WithInterceptorFuncs(interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			err := c.Get(ctx, key, o, opts...)
			if secret, ok := o.(*corev1.Secret); ok && strings.HasPrefix(key.Name, "mq-users-") {
				secret.Data = map[string][]byte{contract.UsersFile(0): bundle[contract.UsersFile(0)], contract.UsersFile(1): bundle[contract.UsersFile(1)]}
			}
			return err
		}})
	})
	if code, out, errs := call(t, open, "can-i", "publish", "a", "--as", "alice"); code != exitUnknown || out != "" || !strings.Contains(errs, "is being changed: ask again") {
		t.Errorf("%d %s%s", code, out, errs)
	}
}

func TestWhoCan(t *testing.T) {
	open := world(t, factory())
	for name, tc := range map[string]struct {
		args, out, errs string
		code            int
	}{
		"subscribe": {"subscribe factory/a", "USER    DECIDED BY                                                                      MAX QOS\n" +
			"alice   rule 2 of MQTTAccessPolicy readers (spec.rules[1]: allow subscribe factory/#)   2", "1 more would be allowed, but are suspended: carol", 0},
		"it depends":            {"subscribe factory/a/b", "", "for 1 more it depends on the client id or the common name: dave", 0},
		"all of it":             {"subscribe factory/#", "nobody", "suspended: carol", 0},
		"publish a filter":      {"publish factory/alice/+", "nobody", "", 0},
		"publish":               {"publish low/x", "at most QoS 1, not retained)   1", "", 0},
		"publish retained":      {"publish low/x --retain", "nobody", "", 0},
		"publish, QoS":          {"publish low/x --qos 2", "nobody", "", 0},
		"subscribe, QoS":        {"subscribe capped/x --qos 1", "nobody", "", 0},
		"anonymous":             {"subscribe public/x", "(anyone on listener mqtt)   rule 1 of MQTTBroker mq (spec.listeners[1].anonymous.acl[0]: allow subscribe public/#)   2", "", 0},
		"the broker's own":      {"publish $SYS/x", "nobody", "note: topics below $SYS are the broker's own", 0},
		"a bad filter":          {"publish a/#/b", "", "error: a/#/b", 2},
		"a bad action":          {"read a", "", "error: read is neither publish nor subscribe", 2},
		"publish in a level":    {"publish factory/bob/#", "Bob Smith   rule 1 of MQTTUser bob (spec.acl[0]: allow publish factory/bob/#)   2", "", 0},
		"a filter that is open": {"publish #", "nobody", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := call(t, open, append([]string{"who-can"}, strings.Fields(tc.args)...)...)
			if code != tc.code || !strings.Contains(out, tc.out) || !strings.Contains(errs, tc.errs) {
				t.Errorf("got %d\n%s%s\nwant %d\n%s\n%s", code, out, errs, tc.code, tc.out, tc.errs)
			}
		})
	}
	_, out, _ := call(t, open, "who-can", "subscribe", "factory/a", "-o", "json")
	got := whoCanList{}
	if err := json.Unmarshal([]byte(out), &got); err != nil || len(got.Users) != 1 || got.Users[0].User != "alice" || got.Users[0].DecidedBy.Name != "readers" || got.Suspended[0] != "carol" {
		t.Errorf("%v %+v", err, got)
	}
}

func TestWhoCanOfTenThousandUsers(t *testing.T) {
	b := &book{&live{config: many(10_000), broker: gen.Broker("factory", "mq")}}
	begin := time.Now()
	if list := b.whoCan(question{action: acl.Publish, topic: "site/9999/x", qos: 1}); len(list.Users) != 1 {
		t.Fatalf("%d users", len(list.Users))
	}
	took := time.Since(begin)
	t.Logf("10,000 users of 20 rules: %v", took)
	if took > 10*time.Second { // 2 s are promised; a busy machine gets more
		t.Errorf("took %v", took)
	}
}

func many(n int) *contract.Config {
	cfg := factory()
	cfg.Users = nil
	for i := range n {
		u := contract.User{Username: fmt.Sprintf("u%05d", i), Policies: []string{"factory/readers"}}
		for j := range 19 {
			u.ACL = append(u.ACL, allow(subscribe, fmt.Sprintf("site/%d/%d/#", i, j)))
		}
		u.ACL = append(u.ACL, allow(publish, fmt.Sprintf("site/%d/#", i)))
		cfg.Users = append(cfg.Users, u)
	}
	return cfg
}

func BenchmarkWhoCan(b *testing.B) {
	cfg := many(10_000)
	for b.Loop() {
		all := &book{&live{config: cfg, broker: gen.Broker("factory", "mq")}}
		if list := all.whoCan(question{action: acl.Publish, topic: "site/9999/x"}); len(list.Users) != 1 {
			b.Fatal(list)
		}
	}
}

func TestImport(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const sum = "$6$aHVudGVyMmg=$aGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaA=="
	good := write("passwd", "alice:"+sum+"\n")
	plain := write("plain", "alice:"+sum+"\nbob:"+marker+"\n")
	broken := write("broken", marker+"\n")
	rules := write("acl", "user alice\ntopic read a/#\n")
	config := write("dynsec.json", `{"clients": []}`)
	for name, tc := range map[string]struct {
		args      []string
		out, errs string
		code      int
	}{
		"complete":          {[]string{"mosquitto", good, rules, "--broker", "mq", "-n", "lab", "--name-prefix", "p-"}, "name: p-alice", "", 0},
		"incomplete":        {[]string{"mosquitto", plain, rules, "--broker", "mq"}, "name: alice", plain + ":2: user \"bob\": the password stands there in plain text", 3},
		"broken":            {[]string{"mosquitto", broken, "--broker", "mq"}, "", broken + ":1: has no colon", 1},
		"not there":         {[]string{"mosquitto", dir + "/x", "--broker", "mq"}, "", "no such file", 1},
		"no broker":         {[]string{"mosquitto", good}, "", "--broker is needed", 2},
		"a bad prefix":      {[]string{"mosquitto", good, "--broker", "mq", "--name-prefix", "P"}, "", `"P" is no prefix`, 2},
		"no file":           {[]string{"mosquitto"}, "", "accepts between 1 and 2 arg(s)", 2},
		"dynsec incomplete": {[]string{"mosquitto-dynsec", config, "--broker", "mq"}, "# Written by kubectl mqtt import", "unsubscribe is false", 3},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := call(t, nil, append([]string{"import"}, tc.args...)...)
			if code != tc.code || !strings.Contains(out, tc.out) || !strings.Contains(errs, tc.errs) || (tc.code == 0) != (errs == "") {
				t.Errorf("got %d\n%s%s\nwant %d %s %s", code, out, errs, tc.code, tc.out, tc.errs)
			}
		})
	}
}

func TestVersionHelpAndCompletion(t *testing.T) {
	for _, tc := range [][2]string{
		{"version", "kubectl-mqtt dev"},
		{"version -o json", `"config": "` + contract.Format + `"`},
		{"--help", "kubectl mqtt [command]"},
		{"can-i --help", "kubectl mqtt can-i publish factory/press-7/temperature --as press-7 -n factory"},
		{"import --help", "mosquitto-dynsec"},
		{"completion bash", "__start_kubectl-mqtt"},
		{"__complete can-i ", "subscribe"},
	} {
		args := strings.Fields(tc[0])
		if strings.HasSuffix(tc[0], " ") {
			args = append(args, "")
		}
		if code, out, errs := call(t, nil, args...); code != 0 || !strings.Contains(out, tc[1]) {
			t.Errorf("%s: %d %s%s", tc[0], code, out, errs)
		}
	}
}

func TestFiltersThatAreApartShareNoTopic(t *testing.T) {
	words := []string{"a", "b", "+", "#", "%u", ""}
	var filters []string
	for _, x := range words {
		filters = append(filters, x)
		for _, y := range words {
			filters = append(filters, x+"/"+y, x+"/"+y+"/#")
		}
	}
	for _, rule := range filters {
		policy, err := acl.Compile([]acl.Rule{deny(subscribe, rule)})
		if err != nil {
			continue
		}
		for _, asked := range filters {
			overlap := policy.Subscribe(acl.Subject{Username: "a"}, asked, 0).Rule == 0
			if overlap && apart(rule, asked) {
				t.Errorf("%q and %q share topics", rule, asked)
			}
		}
	}
}
