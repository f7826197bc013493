// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// TestBridges builds what each testdata/bridges/*.txtar describes: bridge.yaml and then every object wanted. A diff in the
// pod template there means that every bridge is replaced when the operator is upgraded.
func TestBridges(t *testing.T) {
	files, err := filepath.Glob("testdata/bridges/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			bridge := &v1alpha1.MQTTBridge{}
			mustUnmarshal(t, archive.Files[0].Data, bridge)
			f := bridgeFacts(bridge)
			built := mustBuildBridge(t, f)
			if _, err := contract.ParseBridge(built.Text); err != nil {
				t.Errorf("a bridge would refuse the configuration: %v", err)
			}
			got := &txtar.Archive{Comment: archive.Comment, Files: archive.Files[:1]}
			objects := built.Objects
			if policy := BridgeNetworkPolicy(f); policy != nil {
				objects = append(objects, policy)
			}
			for _, object := range append(objects, BridgeMonitoring(f)...) {
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

// bridgeFacts are those of a bridge whose users are in force.
func bridgeFacts(bridge *v1alpha1.MQTTBridge) *verdict.BridgeFacts {
	f := &verdict.BridgeFacts{
		Bridge: bridge, Spec: bridge.Resolved(), Now: now, DefaultImage: "example.com/mqtt-broker:1", Operator: operator, Referenced: map[string]*corev1.Secret{}, IsSettled: true,
	}
	if name := f.Spec.CredentialsSecret; name != "" {
		f.Referenced[name] = &corev1.Secret{Data: map[string][]byte{verdict.RemoteUsernameKey: []byte("plant-7"), verdict.RemotePasswordKey: []byte("remote-password")}}
	}
	know(f, &f.Local, f.Spec.Broker, v1alpha1.BridgeUserName(bridge.Name))
	if ref := f.Spec.RemoteBroker; ref != nil {
		know(f, &f.Remote, *ref, v1alpha1.BridgeRemoteUserName(bridge.Name))
	}
	return f
}

// know lets the broker know the user in the form that the bridge needs.
func know(f *verdict.BridgeFacts, u *verdict.BridgeUser, broker v1alpha1.BrokerReference, name string) {
	namespace := f.Bridge.Namespace
	if broker.Namespace != nil {
		namespace = *broker.Namespace
	}
	u.User = gen.User(f.Bridge.Namespace, name, broker.Name)
	u.User.Status.Conditions = []metav1.Condition{{Type: string(v1alpha1.ConditionReady), Status: metav1.ConditionTrue}}
	u.Binding = &corev1.Secret{Data: map[string][]byte{
		v1alpha1.BindingURI:      []byte("mqtts://" + broker.Name + "-mqtts." + namespace + ".svc:8883"),
		v1alpha1.BindingUsername: []byte(name), v1alpha1.BindingPassword: []byte("password-of-" + name),
	}}
	if j, err := verdict.JudgeBridge(f); err == nil && u == &f.Local {
		u.User.Spec.ACL = j.LocalRules
	} else if err == nil {
		u.User.Spec.ACL = j.RemoteRules
	}
}

func bridgeMaterial(t *testing.T, f *verdict.BridgeFacts) *BridgeMaterial {
	t.Helper()
	ca, err := pki.NewCA("test", now)
	if err != nil {
		t.Fatal(err)
	}
	m := &BridgeMaterial{CA: pki.NewStable(ca, 1, now)}
	for pair, request := range map[*pki.Pair]pki.Request{&m.Client: AdminClientRequest(), &m.Server: BridgeServerRequest(f.Bridge)} {
		if *pair, err = pki.Issue(ca, request, now); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func mustBuildBridge(t *testing.T, f *verdict.BridgeFacts) *Bridge {
	t.Helper()
	j, err := verdict.JudgeBridge(f)
	if err != nil {
		t.Fatal(err)
	}
	built, err := BuildBridge(f, bridgeMaterial(t, f), j)
	if err != nil {
		t.Fatal(err)
	}
	return built
}

func bridgeTemplateOf(t *testing.T, f *verdict.BridgeFacts) string {
	t.Helper()
	text, err := yaml.Marshal(BridgeDeployment(f).Spec.Template)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestWhatReplacesABridgesPods(t *testing.T) {
	for name, tc := range map[string]struct {
		reason   string
		change   func(*v1alpha1.MQTTBridge)
		replaces bool
	}{
		"a route":        {reason: "routes travel in the configuration", change: gen.WithRoutes(gen.Route("a", v1alpha1.RouteIn, "#"))},
		"another remote": {reason: "endpoints travel in the configuration", change: gen.To("mqtt://other.example.com")},
		"suspending":     {reason: "that travels in the configuration", change: func(b *v1alpha1.MQTTBridge) { b.Spec.Suspend = new(true) }},
		"a stand-by":     {reason: "the template is that of each pod", change: func(b *v1alpha1.MQTTBridge) { b.Spec.Replicas = new(int32(2)) }},
		"logging":        {reason: "logging travels in the configuration", change: func(b *v1alpha1.MQTTBridge) { b.Spec.Logging = &v1alpha1.BrokerLogging{Level: new(v1alpha1.LogDebug)} }},
		"another image":  {reason: "it is another program", change: func(b *v1alpha1.MQTTBridge) { b.Spec.Image = new("example.com/mqtt-broker:2") }, replaces: true},
		"a pod's label": {reason: "a pod's labels are in the template", change: func(b *v1alpha1.MQTTBridge) {
			b.Spec.Pod = &v1alpha1.BrokerPod{Labels: map[string]v1alpha1.LabelValue{"a": "b"}}
		}, replaces: true},
	} {
		t.Run(name, func(t *testing.T) {
			bridge := gen.Bridge("plant", "cloud", "mq")
			tc.change(bridge)
			before, after := bridgeFacts(gen.Bridge("plant", "cloud", "mq")), bridgeFacts(bridge)
			if got := bridgeTemplateOf(t, before) != bridgeTemplateOf(t, after); got != tc.replaces {
				t.Errorf("replaces: %v, want %v: %s", got, tc.replaces, tc.reason)
			}
		})
	}
}

func TestAnUpgradedOperatorKeepsABridgesImage(t *testing.T) {
	before, after := bridgeFacts(gen.Bridge("plant", "cloud", "mq")), bridgeFacts(gen.Bridge("plant", "cloud", "mq"))
	after.Deployment, after.DefaultImage = BridgeDeployment(before), "example.com/mqtt-broker:2"
	if bridgeTemplateOf(t, before) != bridgeTemplateOf(t, after) {
		t.Error("a new release of the operator would replace the pods of every bridge")
	}
}

// TestAConfigurationOfABridgeIsWrittenOnce: the same wishes are the same revision, and what is held back changes nothing.
func TestAConfigurationOfABridgeIsWrittenOnce(t *testing.T) {
	f := bridgeFacts(gen.Bridge("plant", "cloud", "mq"))
	first := mustBuildBridge(t, f)
	if first.Revision != 1 {
		t.Errorf("the first revision is %d", first.Revision)
	}
	stand := func(b *Bridge) { f.Config = bridgeConfig(f, b) }
	stand(first)
	if again := mustBuildBridge(t, f); again.Revision != 1 || !bytes.Equal(again.Text, first.Text) {
		t.Errorf("revision %d: nothing changed", again.Revision)
	}
	f.Spec.Inflight = 7
	second := mustBuildBridge(t, f)
	if second.Revision != 2 {
		t.Errorf("revision %d after 1", second.Revision)
	}
	f.Floor = 9
	if third := mustBuildBridge(t, f); third.Revision != 10 {
		t.Errorf("revision %d, though 9 is in use", third.Revision)
	}
	stand(second)
	f.Floor = 0
	f.Spec.Routes = append(f.Spec.Routes, v1alpha1.ResolvedRoute{Name: "b", Direction: v1alpha1.RouteIn, Filter: "b", MaxQoS: 1})
	held := mustBuildBridge(t, f)
	if held.Revision != 2 || !bytes.Equal(held.Text, second.Text) {
		t.Errorf("revision %d: a configuration that is held back is not written", held.Revision)
	}
	user, _ := held.Objects[0].(*v1alpha1.MQTTUser)
	if !slices.ContainsFunc(user.Spec.ACL, func(r v1alpha1.ACLRule) bool { return r.Filter == "b" }) {
		t.Error("the user must get the rule first")
	}
}

// TestABridgeThatIsNotKnownHasNoPods: pods without a configuration would only fail.
func TestABridgeThatIsNotKnownHasNoPods(t *testing.T) {
	f := bridgeFacts(gen.Bridge("plant", "cloud", "mq"))
	f.Local = verdict.BridgeUser{}
	built := mustBuildBridge(t, f)
	if len(built.Objects) != 2 || built.Text != nil {
		t.Errorf("%d objects: want the user and the admin Secret", len(built.Objects))
	}
}

func TestABridgesPodIsRestrictedAndHasNoKeyOfTheCA(t *testing.T) {
	spec := BridgeDeployment(bridgeFacts(gen.Bridge("plant", "cloud", "mq"))).Spec.Template.Spec
	c := spec.Containers[0].SecurityContext
	switch {
	case !*spec.SecurityContext.RunAsNonRoot, *spec.AutomountServiceAccountToken, *c.AllowPrivilegeEscalation, !*c.ReadOnlyRootFilesystem:
		t.Error("the pod may do more than it needs")
	case len(c.Capabilities.Drop) != 1 || c.Capabilities.Drop[0] != "ALL" || spec.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault:
		t.Error("capabilities or seccomp are open")
	}
	for _, volume := range spec.Volumes {
		if volume.Secret.SecretName != v1alpha1.BridgeAdminSecretName("cloud") {
			continue
		}
		for _, item := range volume.Secret.Items {
			if item.Key == CAKeyKey || item.Key == ClientKeyKey {
				t.Errorf("the pod mounts %s", item.Key)
			}
		}
		if len(volume.Secret.Items) == 0 {
			t.Error("the pod mounts the whole Secret")
		}
	}
}
