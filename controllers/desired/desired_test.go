// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

var update = flag.Bool("update", false, "write what is built into testdata")

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// operator is where the operator of the scenarios runs.
var operator = verdict.Operator{Namespace: "mqtt-operator-system", Labels: map[string]string{"app.kubernetes.io/name": "mqtt-operator", "app.kubernetes.io/component": "operator"}}

// TestScenarios builds what each testdata/*.txtar describes: broker.yaml, users.yaml and then every object wanted. A
// diff in the pod template there is another edition of pods: see TestAnEditionStaysAsItIs.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			f, m := scenario(t, archive)
			built, err := Build(f, m, verdict.Judge(f, m))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := contract.Parse(built.Bundle); err != nil {
				t.Errorf("a broker would refuse the configuration: %v", err)
			}
			got := &txtar.Archive{Comment: archive.Comment}
			for _, input := range archive.Files {
				if strings.HasSuffix(input.Name, ".yaml") && !strings.Contains(input.Name, "/") {
					got.Files = append(got.Files, input)
				}
			}
			objects := built.Objects
			if policy := NetworkPolicy(f); policy != nil {
				objects = append(objects, policy)
			}
			if budget := DisruptionBudget(f); budget != nil {
				objects = append(objects, budget)
			}
			for _, object := range append(objects, Monitoring(f)...) {
				got.Files = append(got.Files, txtar.File{Name: nameOf(object), Data: render(t, object)})
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(txtar.Format(archive)), string(txtar.Format(got))); diff != "" {
				t.Errorf("not what the scenario wants (go test ./controllers/desired -update writes it anew):\n%s", diff)
			}
		})
	}
}

func scenario(t *testing.T, archive *txtar.Archive) (*verdict.Facts, *verdict.Material) {
	t.Helper()
	f := &verdict.Facts{Now: now, DefaultImage: "example.com/mqtt-broker:1", Operator: operator}
	for _, file := range archive.Files {
		switch file.Name {
		case "broker.yaml":
			f.Broker = &v1alpha1.MQTTBroker{}
			mustUnmarshal(t, file.Data, f.Broker)
		case "users.yaml":
			for document := range bytes.SplitSeq(file.Data, []byte("---\n")) {
				user := &v1alpha1.MQTTUser{}
				mustUnmarshal(t, document, user)
				f.Users = append(f.Users, verdict.UserFacts{User: user, Verifier: Verifier(user, verdict.Credentials{Proof: verdict.Proof{Password: "$sha256$of-" + user.Name}})})
			}
		}
	}
	f.Spec = f.Broker.Resolved()
	return f, material(t, f)
}

// nameOf is the kind and the name of an object.
func nameOf(object client.Object) string {
	kind := object.GetObjectKind().GroupVersionKind().Kind
	if kind == "" {
		kind = fmt.Sprintf("%T", object)
		kind = kind[strings.IndexByte(kind, '.')+1:]
	}
	return kind + "/" + object.GetName()
}

func mustUnmarshal(t *testing.T, text []byte, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict(text, into); err != nil {
		t.Fatal(err)
	}
}

func material(t *testing.T, f *verdict.Facts) *verdict.Material {
	t.Helper()
	ca, err := pki.NewCA("test", now)
	if err != nil {
		t.Fatal(err)
	}
	m := &verdict.Material{CA: pki.NewStable(ca, 1, now), AdminCA: pki.NewStable(ca, 1, now)}
	if f.Spec.ClientCertificates() {
		m.ClientCA = new(pki.NewStable(ca, 1, now))
	}
	for pair, request := range map[*pki.Pair]pki.Request{&m.Server: ServerRequest(f), &m.AdminServer: AdminServerRequest(f.Broker), &m.AdminClient: AdminClientRequest()} {
		if *pair, err = pki.Issue(ca, request, now); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

var varying = regexp.MustCompile(`("(?:tls|users-\d+)\.json": )"sha256:[0-9a-f]+"`)

// render shows an object; of Secrets the configuration as text and of all else only the keys.
func render(t *testing.T, object client.Object) []byte {
	t.Helper()
	object = object.DeepCopyObject().(client.Object)
	var texts strings.Builder
	if secret, ok := object.(*corev1.Secret); ok {
		for _, key := range slices.Sorted(maps.Keys(secret.Data)) {
			text := "…\n"
			if key == contract.BrokerFile || key == contract.BridgeFile || strings.HasPrefix(key, "users-") {
				text = varying.ReplaceAllString(string(secret.Data[key]), `$1"…"`)
			}
			fmt.Fprintf(&texts, "# %s\n%s", key, text)
		}
		secret.Data = nil
	}
	text, err := yaml.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return append(text, texts.String()...)
}

func facts(t *testing.T, broker *v1alpha1.MQTTBroker, users ...*v1alpha1.MQTTUser) (*verdict.Facts, *verdict.Material) {
	t.Helper()
	f := &verdict.Facts{Broker: broker, Spec: broker.Resolved(), Now: now, DefaultImage: "example.com/mqtt-broker:1"}
	for _, user := range users {
		f.Users = append(f.Users, verdict.UserFacts{User: user, Verifier: Verifier(user, verdict.Credentials{Proof: verdict.Proof{Password: "$sha256$x"}})})
	}
	return f, material(t, f)
}

func mustBuild(t *testing.T, f *verdict.Facts, m *verdict.Material) *Broker {
	t.Helper()
	built, err := Build(f, m, verdict.Judge(f, m))
	if err != nil {
		t.Fatal(err)
	}
	return built
}

// templateOf is the pod template as text.
func templateOf(t *testing.T, f *verdict.Facts) string {
	t.Helper()
	text, err := yaml.Marshal(StatefulSet(f).Spec.Template)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestWhatRestartsABroker(t *testing.T) {
	for name, tc := range map[string]struct {
		reason   string
		change   func(*v1alpha1.MQTTBroker)
		restarts bool
	}{
		"a listener": {reason: "listeners travel in the configuration", change: func(b *v1alpha1.MQTTBroker) { gen.WithListener(gen.Plain("mqtt", 1883))(b) }},
		"a port":     {reason: "Services point to numbers", change: func(b *v1alpha1.MQTTBroker) { b.Spec.Listeners[0].Port = 8884 }},
		"limits":     {reason: "limits travel in the configuration", change: func(b *v1alpha1.MQTTBroker) { b.Spec.Limits = &v1alpha1.BrokerLimits{ReceiveMaximum: new(int32(7))} }},
		"logging":    {reason: "logging travels in the configuration", change: func(b *v1alpha1.MQTTBroker) { b.Spec.Logging = &v1alpha1.BrokerLogging{Level: new(v1alpha1.LogDebug)} }},
		"every bound": {reason: "limits travel in the configuration", change: func(b *v1alpha1.MQTTBroker) {
			b.Spec.Limits = &v1alpha1.BrokerLimits{
				MaxQueuedMessages: new(int32(1)), MaxQueuedBytes: new(resource.MustParse("1Mi")), MaxTopicLevels: new(int32(1)),
				MaxSubscriptionsPerClient: new(int32(1)), PublishRatePerClient: new(int32(1)), ServerKeepAlive: &metav1.Duration{Duration: time.Second},
				MaxRetainedMessages: new(int32(1)), MaxRetainedBytes: new(resource.MustParse("1Mi")),
			}
		}},
		"a listener's bounds": {reason: "listeners travel in the configuration", change: func(b *v1alpha1.MQTTBroker) {
			l := &b.Spec.Listeners[0]
			l.MaxConnections, l.ConnectRate = new(int32(1)), &v1alpha1.ConnectRate{PerSecond: 1}
			l.ProxyProtocol = &v1alpha1.ProxyProtocol{TrustedCIDRs: []string{"10.0.0.0/8"}}
		}},
		"WebSocket": {reason: "listeners travel in the configuration", change: func(b *v1alpha1.MQTTBroker) {
			b.Spec.Listeners[0].Protocol, b.Spec.Listeners[0].WebSocket = v1alpha1.ProtocolWSS, &v1alpha1.ListenerWebSocket{Path: new("/")}
		}},
		"hibernating":   {reason: "the template is that of no pod", change: func(b *v1alpha1.MQTTBroker) { b.Spec.Replicas = new(int32(0)) }},
		"another image": {reason: "it is another program", change: func(b *v1alpha1.MQTTBroker) { b.Spec.Image = new("example.com/mqtt-broker:2") }, restarts: true},
		"a pod's label": {reason: "a pod's labels are in the template", change: func(b *v1alpha1.MQTTBroker) {
			b.Spec.Pod = &v1alpha1.BrokerPod{Labels: map[string]v1alpha1.LabelValue{"a": "b"}}
		}, restarts: true},
	} {
		t.Run(name, func(t *testing.T) {
			before, _ := facts(t, gen.Broker("factory", "mq"))
			broker := gen.Broker("factory", "mq")
			tc.change(broker)
			after, _ := facts(t, broker)
			if got := templateOf(t, before) != templateOf(t, after); got != tc.restarts {
				t.Errorf("restarts: %v, want %v: %s", got, tc.restarts, tc.reason)
			}
		})
	}
}

// Sync is apart from TestWhatRestartsABroker, because a volume that is added restarts, and cannot be.
func TestSyncRestartsNobody(t *testing.T) {
	broker := gen.Broker("factory", "mq")
	broker.Spec.Persistence = &v1alpha1.BrokerPersistence{}
	before, _ := facts(t, broker)
	broker = broker.DeepCopy()
	broker.Spec.Persistence.Sync = new(v1alpha1.SyncInterval)
	after, _ := facts(t, broker)
	if diff := cmp.Diff(StatefulSet(before), StatefulSet(after)); diff != "" {
		t.Errorf("when to wait for the disk travels in the configuration:\n%s", diff)
	}
	if got := Config(after, verdict.Judge(after, material(t, after))).Persistence.Sync; got != contract.SyncInterval {
		t.Errorf("sync is %q", got)
	}
}

// The contract leaves out what is the default. If the two sides' defaults differed, the API's would not be in force.
func TestTheDefaultsOfTheAPIAreThoseOfTheContract(t *testing.T) {
	f, m := facts(t, gen.Broker("factory", "mq"))
	cfg := Config(f, verdict.Judge(f, m))
	if diff := cmp.Diff(contract.DefaultLimits(), cfg.Limits); diff != "" {
		t.Error(diff)
	}
	if int(v1alpha1.DefaultDisconnectRate) != contract.DefaultDisconnectRate {
		t.Error("the rate of a drain differs")
	}
	if v1alpha1.DefaultWebSocketPath != contract.DefaultWebSocketPath || string(v1alpha1.DefaultPersistenceSync) != cfg.Persistence.Resolved().Sync {
		t.Error("the path of a WebSocket or sync differs")
	}
}

func TestAnUpgradedOperatorKeepsTheImage(t *testing.T) {
	before, _ := facts(t, gen.Broker("factory", "mq"))
	after, _ := facts(t, gen.Broker("factory", "mq"))
	after.StatefulSet = StatefulSet(before)
	after.DefaultImage = "example.com/mqtt-broker:2"
	if templateOf(t, before) != templateOf(t, after) {
		t.Error("a new release of the operator would restart every broker")
	}
	after.Spec.Image = "example.com/own:1"
	set := StatefulSet(after)
	after.StatefulSet, after.Spec.Image = set, ""
	if Image(after) != before.DefaultImage {
		t.Errorf("%s: a spec.image that is removed must not leave its trace", Image(after))
	}
	after.StatefulSet.Spec.Template.Spec.Containers[0].Image = "example.com/by-hand:1"
	if Image(after) != before.DefaultImage {
		t.Errorf("%s: an image set by hand must not stay", Image(after))
	}
}

// TestAStatefulSetThatIsMadeAnew has the image of the one before, and one that stands keeps the size that it makes.
func TestAStatefulSetThatIsMadeAnew(t *testing.T) {
	before, _ := facts(t, gen.Broker("factory", "mq", gen.WithVolume("1Gi", "fast")))
	after, m := facts(t, gen.Broker("factory", "mq", gen.WithVolume("2Gi", "fast")))
	after.DefaultImage = "example.com/mqtt-broker:2"
	after.StatefulSet = StatefulSet(before)
	size := func() string {
		return StatefulSet(after).Spec.VolumeClaimTemplates[0].Spec.Resources.Requests.Storage().String()
	}
	if size() != "1Gi" {
		t.Errorf("%s: the API server refuses another size", size())
	}
	after.ServiceAccount = ServiceAccount(after)
	after.StatefulSet.DeletionTimestamp = &metav1.Time{Time: now}
	for _, object := range mustBuild(t, after, m).Objects {
		if _, isSet := object.(*appsv1.StatefulSet); isSet {
			t.Error("what is ending cannot be written")
		}
	}
	after.StatefulSet = nil
	if size() != "2Gi" {
		t.Errorf("%s: that was the reason to make it anew", size())
	}
	if templateOf(t, before) != templateOf(t, after) {
		t.Error("the pods would be replaced")
	}
}

func TestAnotherPassChangesNothing(t *testing.T) {
	f, m := facts(t, gen.Broker("factory", "mq"), gen.User("factory", "alice", "mq", gen.Allow("a/#", v1alpha1.ACLPublish)))
	first := mustBuild(t, f, m)
	keep(f, first)
	second := mustBuild(t, f, m)
	if diff := cmp.Diff(first.Objects, second.Objects); diff != "" {
		t.Errorf("a second pass wants something else:\n%s", diff)
	}
	f.Users = nil
	if third := mustBuild(t, f, m); third.Revision != first.Revision+1 {
		t.Errorf("revision %d after %d: a user less is one step", third.Revision, first.Revision)
	}
}

// keep lets f find what was built.
func keep(f *verdict.Facts, built *Broker) {
	f.ConfigSecrets = nil
	for _, object := range built.Objects {
		if secret, ok := object.(*corev1.Secret); ok && secret.Type == v1alpha1.SecretTypeConfig {
			f.ConfigSecrets = append(f.ConfigSecrets, *secret)
		}
	}
}

func TestEveryPodIsRestricted(t *testing.T) {
	f, _ := facts(t, gen.Broker("factory", "mq"))
	spec := StatefulSet(f).Spec.Template.Spec
	c := spec.Containers[0].SecurityContext
	switch {
	case !*spec.SecurityContext.RunAsNonRoot, *spec.AutomountServiceAccountToken, *c.AllowPrivilegeEscalation, !*c.ReadOnlyRootFilesystem:
		t.Error("the pod may do more than it needs")
	case len(c.Capabilities.Drop) != 1 || c.Capabilities.Drop[0] != "ALL" || spec.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault:
		t.Error("capabilities or seccomp are open")
	}
}

func TestNoObjectNamesAClusterDomain(t *testing.T) {
	f, m := facts(t, gen.Broker("factory", "mq"), gen.User("factory", "alice", "mq"))
	objects := slices.Concat(mustBuild(t, f, m).Objects, []client.Object{Binding(f.Users[0].User, f.Spec.Listeners[0], BindingContent{Password: []byte("p"), CA: m.CA.Trusted()})})
	for _, object := range objects {
		if text, _ := yaml.Marshal(object); bytes.Contains(text, []byte("cluster.local")) {
			t.Errorf("%s assumes a cluster domain", object.GetName())
		}
	}
}

func TestOnlyTheAdminsServerCertificateIsMounted(t *testing.T) {
	f, _ := facts(t, gen.Broker("factory", "mq"))
	text := templateOf(t, f)
	for _, secret := range []string{v1alpha1.CASecretName("mq"), v1alpha1.AdminCASecretName("mq"), v1alpha1.TLSSecretName("mq")} {
		if strings.Contains(text, secret+"\n") {
			t.Errorf("the pod mounts %s: a broken-in broker could sign certificates", secret)
		}
	}
}

func TestBindingFollowsItsListener(t *testing.T) {
	f, m := facts(t, gen.Broker("factory", "mq",
		gen.WithListener(gen.Plain("mqtt", 1883)),
		gen.WithListener(v1alpha1.BrokerListener{Name: "ws", Protocol: v1alpha1.ProtocolWS, Port: 8080}),
		gen.WithListener(v1alpha1.BrokerListener{
			Name: "wss", Protocol: v1alpha1.ProtocolWSS, Port: 8443,
			TLS: &v1alpha1.ListenerTLS{SelfManaged: &v1alpha1.SelfManagedTLS{}}, WebSocket: &v1alpha1.ListenerWebSocket{Path: new("/iot")},
		}),
	), gen.User("factory", "alice", "mq"))
	for i, want := range []string{
		"mqtts://mq-mqtts.factory.svc:8883", "mqtt://mq-mqtt.factory.svc:1883",
		"ws://mq-ws.factory.svc:8080/mqtt", "wss://mq-wss.factory.svc:8443/iot",
	} {
		binding := Binding(f.Users[0].User, f.Spec.Listeners[i], BindingContent{Password: []byte("p"), CA: m.CA.Trusted()})
		if got := string(binding.Data[v1alpha1.BindingURI]); got != want {
			t.Errorf("uri %s, want %s", got, want)
		}
		if _, trusts := binding.Data[v1alpha1.BindingCA]; trusts != f.Spec.Listeners[i].Encrypted() {
			t.Errorf("%s: ca.crt present: %v", want, trusts)
		}
	}
	if metav1.ObjectMetaAccessor(Binding(f.Users[0].User, f.Spec.Listeners[0], BindingContent{})).GetObjectMeta().GetLabels()[v1alpha1.LabelAllow] != v1alpha1.AllowOwned {
		t.Error("a reference could read a binding")
	}
}
