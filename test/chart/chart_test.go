// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

func TestHelmFindsNoFault(t *testing.T) {
	if _, err := helm(t.Context(), "lint", "--strict", chart); err != nil {
		t.Fatal(err)
	}
}

func TestWrongValuesAreRefused(t *testing.T) {
	cases := map[string]struct{ reason, value, want string }{
		"an unknown value":             {"a typing error must not be ignored in silence", `replica=3`, "additional properties 'replica' not allowed"},
		"an unknown value further in":  {"as above", `image={"name":"x"}`, "additional properties 'name' not allowed"},
		"an unknown scope":             {"rights depend on it", `scope.mode="Everything"`, "'/scope/mode': value must be one of"},
		"Namespaces without any":       {"the operator would look after all, without the rights to", `scope={"mode":"Namespaces"}`, "'/scope/namespaces': minItems: got 0, want 1"},
		"Cluster with namespaces":      {"somebody believes that the list bounds it", `scope.namespaces=["a"]`, "'/scope/namespaces': maxItems: got 1, want 0"},
		"OwnNamespace with namespaces": {"as above", `scope={"mode":"OwnNamespace","namespaces":["a"]}`, "'/scope/namespaces': maxItems: got 1, want 0"},
		"a namespace twice":            {"the Role would be rendered twice", `scope={"mode":"Namespaces","namespaces":["a","a"]}`, "'/scope/namespaces': items at 0 and 1 are equal"},
		"an impossible namespace":      {"it would be a flag's value", `scope={"mode":"Namespaces","namespaces":["a,b"]}`, "'/scope/namespaces/0': 'a,b' does not match pattern"},
		"no replica":                   {"a release that does nothing", `replicas=0`, "'/replicas': minimum: got 0, want 1"},
		"replicas as text":             {"a type", `replicas="2"`, "'/replicas': got string, want integer"},
		"the tag latest":               {"nobody knows what runs", `image.tag="latest"`, "the tag latest of ghcr.io/mqtt-operator/mqtt-operator says nothing about what runs"},
		"the broker's tag latest":      {"nobody knows what runs", `brokerImage.tag="latest"`, "the tag latest of ghcr.io/mqtt-operator/mqtt-broker says nothing about what runs"},
		"a digest that is none":        {"the pull would fail later", `image.digest="abc"`, "'/image/digest': 'abc' does not match pattern"},
		"a pull policy of one's own":   {"the API server would refuse it later", `image.pullPolicy="Sometimes"`, "'/image/pullPolicy': value must be one of"},
		"an unknown log level":         {"the operator would not start", `log.level="loud"`, "'/log/level': value must be one of"},
		"the health port for metrics":  {"two servers on one port", `metrics.port=8081`, "metrics.port: 8081 is where the probes are"},
		"a port below 1024":            {"the pod may not bind it", `metrics.port=443`, "'/metrics/port': minimum: got 443, want 1,024"},
		"no ServiceAccount at all":     {"the pods would run as default", `serviceAccount.create=false`, "'/serviceAccount/name': minLength: got 0, want 1"},
		"alerts without metrics":       {"they would never fire", `metrics={"enabled":false,"prometheusRule":{"enabled":true}}`, "metrics.enabled: false leaves nothing for"},
		"a label of a ServiceMonitor":  {"the chart's own are not to be replaced", `metrics.serviceMonitor.labels={"app.kubernetes.io/name":"x"}`, "invalid propertyName 'app.kubernetes.io/name'"},
		"a repository with a tag":      {"two tags would be one too many", `image.repository="example.com/operator:1"`, "'/image/repository': 'example.com/operator:1' does not match pattern"},
		"no repository":                {"no image has this name", `brokerImage.repository=""`, "'/brokerImage/repository': '' does not match pattern"},
		"a quantity that is none":      {"the API server would refuse it later", `resources={"limits":{"memory":"256MB"}}`, "'/resources/limits/memory': '256MB' does not match pattern"},
		"a kind of resources too many": {"a typing error must not be ignored in silence", `resources={"request":{}}`, "additional properties 'request' not allowed"},
		"a toleration with a typo":     {"the API server would refuse it later", `tolerations=[{"effect":"NoShedule"}]`, "'/tolerations/0/effect': value must be one of"},
		"a spread without a skew":      {"as above", `topologySpreadConstraints=[{"topologyKey":"zone","whenUnsatisfiable":"DoNotSchedule"}]`, "missing property 'maxSkew'"},
		"an affinity nobody knows":     {"as above", `affinity={"podAntiAfinity":{}}`, "additional properties 'podAntiAfinity' not allowed"},
		"a priority class of no name":  {"as above", `priorityClassName="High Priority"`, "'/priorityClassName': 'High Priority' does not match pattern"},
		"a pull secret without a name": {"as above", `imagePullSecrets=[{}]`, "missing property 'name'"},
		"a node label that is no text": {"as above", `nodeSelector={"ssd":true}`, "'/nodeSelector/ssd': got boolean, want string"},
		"a label of the chart's own":   {"the Deployment would not find its pods", `podLabels={"app.kubernetes.io/name":"x"}`, "invalid propertyName 'app.kubernetes.io/name'"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := helm(t.Context(), "template", "mo", chart, "--set-json", c.value)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v\nwant a refusal that says %q: %s", err, c.want, c.reason)
			}
		})
	}
}

// Each value has a type, and each refuses another; what has none would take anything.
func TestEveryValueRefusesAnotherType(t *testing.T) {
	t.Parallel()
	var schema property
	if err := json.Unmarshal([]byte(read(t, chart+"/values.schema.json")), &schema); err != nil {
		t.Fatal(err)
	}
	wrong := map[string]string{"string": "7", "integer": `"x"`, "number": `"x"`, "boolean": `"x"`, "array": `"x"`, "object": `"x"`}
	tried := 0
	schema.walk("", func(path string, p property) {
		if path == "" || path == "global" {
			return
		}
		tried++
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			_, err := helm(t.Context(), "template", "mo", chart, "--set-json", path+"="+wrong[p.Type])
			want := "'/" + strings.ReplaceAll(path, ".", "/") + "': got "
			if wrong[p.Type] == "" || err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "want "+p.Type) {
				t.Errorf("type %q, got %v, want a refusal that says %q", p.Type, err, want)
			}
		})
	})
	if tried < 30 {
		t.Errorf("found %d values", tried)
	}
}

// property is what a JSON schema says of one value, as far as it is asked here.
type property struct {
	Type       string              `json:"type"`
	Additional any                 `json:"additionalProperties"`
	Properties map[string]property `json:"properties"`
}

// walk visits a value and, where a mapping knows its keys, those below.
func (p property) walk(path string, visit func(string, property)) {
	visit(path, p)
	if p.Additional != false {
		return
	}
	for name, inner := range p.Properties {
		inner.walk(strings.TrimPrefix(path+"."+name, "."), visit)
	}
}

func TestKindsAreThoseOfConfig(t *testing.T) {
	t.Parallel()
	rendered := render(t).named("CustomResourceDefinition", "")
	wanted := files(t, "config/crd/bases/*.yaml")
	if len(rendered) != len(wanted) {
		t.Fatalf("the chart has %d kinds, config/crd has %d", len(rendered), len(wanted))
	}
	for _, want := range wanted {
		got := one[apiextensionsv1.CustomResourceDefinition](t, rendered, want.Kind, want.Metadata.Name)
		if diff := cmp.Diff(as[apiextensionsv1.CustomResourceDefinition](t, want).Spec, got.Spec); diff != "" {
			t.Errorf("%s (-config +chart):\n%s", want.Metadata.Name, diff)
		}
		if got.Annotations["helm.sh/resource-policy"] != "keep" {
			t.Errorf("%s: uninstalling the release would delete every broker", want.Metadata.Name)
		}
	}
	if left := render(t, `crds.install=false`).named("CustomResourceDefinition", ""); len(left) != 0 {
		t.Errorf("crds.install=false leaves %v", left)
	}
}

func TestPodsAreRestricted(t *testing.T) {
	t.Parallel()
	pod := one[appsv1.Deployment](t, render(t), "Deployment", "").Spec.Template.Spec

	restricted(t, &pod)
	if len(pod.Volumes) != 0 {
		t.Errorf("the pod has volumes: %v", pod.Volumes)
	}
	c := pod.Containers[0]
	if c.StartupProbe == nil || c.LivenessProbe == nil || c.ReadinessProbe == nil {
		t.Error("a probe is missing")
	}
}

// restricted looks at what the Pod Security Standard of that name asks for, and a little more.
func restricted(t *testing.T, pod *corev1.PodSpec) {
	t.Helper()
	s := pod.SecurityContext
	if !*s.RunAsNonRoot || *s.RunAsUser == 0 || *s.RunAsGroup == 0 || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("the pod's security context is %+v", s)
	}
	if pod.HostNetwork || pod.HostPID || pod.HostIPC || len(pod.InitContainers) != 0 || len(pod.Containers) != 1 {
		t.Errorf("the pod has more than one container: %+v", pod)
	}
	c := pod.Containers[0]
	if s := c.SecurityContext; *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || s.Privileged != nil ||
		!slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) != 0 {
		t.Errorf("the container's security context is %+v", s)
	}
	if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
		t.Errorf("the resources are %+v", c.Resources)
	}
}

// The user that a pod must run as stands in the chart and in the image; a difference would only show on a node.
func TestUserIsTheImagesUser(t *testing.T) {
	t.Parallel()
	s := one[appsv1.Deployment](t, render(t), "Deployment", "").Spec.Template.Spec.SecurityContext
	user := "\nUSER " + strconv.FormatInt(*s.RunAsUser, 10) + ":" + strconv.FormatInt(*s.RunAsGroup, 10) + "\n"
	if !strings.Contains(read(t, root+"/Dockerfile"), user) {
		t.Errorf("Dockerfile has no line %q", strings.TrimSpace(user))
	}
}

// What the operator is told about itself stands in NetworkPolicies: a difference would shut it out of its own brokers.
func TestOperatorKnowsItsOwnPods(t *testing.T) {
	t.Parallel()
	for _, values := range [][]string{nil, {`fullnameOverride="other"`}} {
		deployment := one[appsv1.Deployment](t, render(t, values...), "Deployment", "")
		told := map[string]string{}
		for _, argument := range deployment.Spec.Template.Spec.Containers[0].Args {
			if name, value, ok := strings.Cut(argument, "="); ok {
				told[name] = value
			}
		}
		own, err := labels.ConvertSelectorToLabelsMap(told["--own-labels"])
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(deployment.Spec.Selector.MatchLabels, map[string]string(own)); diff != "" {
			t.Errorf("labels (-selector +told):\n%s", diff)
		}
		if told["--own-namespace"] != deployment.Namespace {
			t.Errorf("the operator is told that it is in %q, and is in %q", told["--own-namespace"], deployment.Namespace)
		}
	}
}

func TestImages(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	cases := map[string]struct {
		values           []string
		operator, broker string
	}{
		"by the chart's version": {nil, "ghcr.io/mqtt-operator/mqtt-operator:0.1.0-dev", "ghcr.io/mqtt-operator/mqtt-broker:0.1.0-dev"},
		"by tag": {
			[]string{`image.tag="dev"`, `brokerImage.tag="dev"`},
			"ghcr.io/mqtt-operator/mqtt-operator:dev", "ghcr.io/mqtt-operator/mqtt-broker:dev",
		},
		"by digest": {
			[]string{`image.tag="dev"`, `image.digest="` + digest + `"`, `brokerImage={"repository":"example.com/b","digest":"` + digest + `"}`},
			"ghcr.io/mqtt-operator/mqtt-operator@" + digest, "example.com/b@" + digest,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			container := one[appsv1.Deployment](t, render(t, c.values...), "Deployment", "").Spec.Template.Spec.Containers[0]
			if container.Image != c.operator {
				t.Errorf("the operator is %s, want %s", container.Image, c.operator)
			}
			if !slices.Contains(container.Args, "--broker-image="+c.broker) {
				t.Errorf("the arguments are %q, want the broker %s", container.Args, c.broker)
			}
		})
	}
}

func TestDisruptionBudget(t *testing.T) {
	cases := map[string]struct {
		reason string
		values []string
		want   int
	}{
		"two replicas":      {"one stays", nil, 1},
		"one replica":       {"a budget would block every drain", []string{`replicas=1`}, 0},
		"it is not wanted":  {"it can be turned off", []string{`podDisruptionBudget.enabled=false`}, 0},
		"five replicas too": {"one at a time", []string{`replicas=5`}, 1},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rendered := render(t, c.values...)
			budgets := rendered.named("PodDisruptionBudget", "")
			if len(budgets) != c.want {
				t.Fatalf("got %v, want %d: %s", budgets, c.want, c.reason)
			}
			for _, o := range budgets {
				budget := as[policyv1.PodDisruptionBudget](t, o)
				deployment := one[appsv1.Deployment](t, rendered, "Deployment", "")
				if budget.Spec.MaxUnavailable.IntValue() != 1 || budget.Spec.MinAvailable != nil {
					t.Errorf("got %+v", budget.Spec)
				}
				if diff := cmp.Diff(deployment.Spec.Selector, budget.Spec.Selector); diff != "" {
					t.Errorf("the budget counts other pods than the Deployment's:\n%s", diff)
				}
			}
		})
	}
}

func TestLongNamesFit(t *testing.T) {
	t.Parallel()
	for _, o := range renderAs(t, strings.Repeat("a", 53), strings.Repeat("n", 63)) {
		if !strings.Contains(o.Metadata.Name, ":") && o.Kind != "CustomResourceDefinition" && len(o.Metadata.Name) > 63 {
			t.Errorf("%s has %d characters", o, len(o.Metadata.Name))
		}
	}
}

func TestTwoReleasesShareNoObjectOfTheCluster(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, namespace := range []string{"team-a", "team-b"} {
		for _, o := range renderAs(t, "mqtt-operator", namespace, `scope.mode="OwnNamespace"`, `crds.install=false`) {
			if other, ok := seen[o.String()]; ok {
				t.Errorf("%s belongs to %s and %s", o, other, namespace)
			}
			seen[o.String()] = namespace
		}
	}
}

func TestNotesShowWhatCanBeApplied(t *testing.T) {
	t.Parallel()
	text, err := helm(t.Context(), "install", "mo", chart, "--dry-run=client", "--namespace", "home",
		"--set-json", `scope={"mode":"Namespaces","namespaces":["team"]}`, "--set-json", `crds.install=false`)
	if err != nil {
		t.Fatal(err)
	}
	_, notes, ok := strings.Cut(text, "NOTES:\n")
	if !ok {
		t.Fatal("no notes")
	}
	_, example, _ := strings.Cut(notes, "<<EOF\n")
	example, _, ok = strings.Cut(example, "  EOF\n")
	if !ok || !strings.Contains(notes, "kubectl --namespace team apply") {
		t.Fatalf("no example for the namespace in:\n%s", notes)
	}
	var plain strings.Builder
	for line := range strings.Lines(example) {
		plain.WriteString(strings.TrimPrefix(line, "  "))
	}
	example = plain.String()
	objects := parse(t, example)
	broker := one[v1alpha1.MQTTBroker](t, objects, "MQTTBroker", "")
	user := one[v1alpha1.MQTTUser](t, objects, "MQTTUser", "")
	if user.Spec.BrokerRef.Name != broker.Name {
		t.Errorf("the user is of broker %q, the broker is %q", user.Spec.BrokerRef.Name, broker.Name)
	}
}

func TestSamplesAreWhatTheAPIKnows(t *testing.T) {
	t.Parallel()
	brokers := map[string]bool{}
	samples := files(t, "config/samples/*.yaml")
	for _, o := range samples.named("MQTTBroker", "") {
		broker := as[v1alpha1.MQTTBroker](t, o)
		brokers[broker.Namespace+"/"+broker.Name] = true
		if resolved := broker.Resolved(); len(resolved.PlaintextListeners())+len(resolved.AnonymousListeners()) != 0 {
			t.Errorf("%s is not encrypted or lets everybody in", o)
		}
	}
	for _, o := range samples.named("MQTTUser", "") {
		user := as[v1alpha1.MQTTUser](t, o)
		if !brokers[user.Namespace+"/"+user.Spec.BrokerRef.Name] {
			t.Errorf("%s: no sample has its broker %s", o, user.Spec.BrokerRef.Name)
		}
		if name := user.Resolved().Password.Secret; name != "" {
			secret := one[corev1.Secret](t, samples, "Secret", name)
			if secret.Labels[v1alpha1.LabelAllow] != v1alpha1.AllowReference || secret.Namespace != user.Namespace {
				t.Errorf("%s: the operator would not look at its Secret", o)
			}
		}
	}
	for _, o := range samples.named("MQTTBridge", "") {
		bridge := as[v1alpha1.MQTTBridge](t, o)
		for _, ref := range []*v1alpha1.BrokerReference{&bridge.Spec.BrokerRef, bridge.Spec.Remote.BrokerRef} {
			if ref != nil && !brokers[bridge.Namespace+"/"+ref.Name] {
				t.Errorf("%s: no sample has its broker %s", o, ref.Name)
			}
		}
		if !bridge.Resolved().Suspended && bridge.Spec.Remote.BrokerRef == nil {
			t.Errorf("%s would knock at an address that is nobody's", o)
		}
	}
	for _, o := range samples.named("Namespace", "") {
		if o.Metadata.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
			t.Errorf("%s does not enforce restricted pods", o)
		}
	}
}

func TestReadmeAndSchemaAreCurrent(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "chart")
	if err := os.CopyFS(folder, os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "go", "run", "./hack/chartdoc", folder)
	command.Dir = root
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"README.md", "values.schema.json"} {
		if diff := cmp.Diff(read(t, filepath.Join(folder, name)), read(t, filepath.Join(chart, name))); diff != "" {
			t.Errorf("%s is stale; renew it with make generate:\n%s", name, diff)
		}
	}
}

func TestNothingIsTakenForGranted(t *testing.T) {
	t.Parallel()
	banned := map[string]string{
		"cluster.local": "a cluster's domain is the cluster's own; short names work everywhere",
		":latest":       "nobody knows what runs",
	}
	for _, folder := range []string{"charts", "config", "bundle", "Dockerfile", "broker-image/Dockerfile"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, entry fs.DirEntry, err error) error {
			// What must be refused stands in testdata.
			if err == nil && entry.IsDir() && entry.Name() == "testdata" {
				return fs.SkipDir
			}
			if err != nil || entry.IsDir() {
				return err
			}
			text := read(t, path)
			for word, reason := range banned {
				if strings.Contains(text, word) {
					t.Errorf("%s has %q: %s", path, word, reason)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
