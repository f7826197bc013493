// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
)

func TestNobodyWatchesTheOperatorUnasked(t *testing.T) {
	t.Parallel()
	rendered := render(t)
	for _, kind := range []string{"ServiceMonitor", "PodMonitor", "PrometheusRule", "ConfigMap"} {
		if found := rendered.named(kind, ""); len(found) != 0 {
			t.Errorf("by default there is %v", found)
		}
	}
}

func TestTracesAreSentWhereTheyAreWanted(t *testing.T) {
	t.Parallel()
	container := func(values ...string) corev1.Container {
		return one[appsv1.Deployment](t, render(t, values...), "Deployment", "").Spec.Template.Spec.Containers[0]
	}
	if quiet := container(`tracing.headersSecret="collector"`); strings.Contains(strings.Join(quiet.Args, " "), "otlp") || len(quiet.Env) > 0 {
		t.Errorf("nobody takes traces, and the operator is told %q %v", quiet.Args, quiet.Env)
	}
	told := container(`tracing={"endpoint":"[fd00::7]:4317","ratio":0.25,"headersSecret":"collector","caSecret":"collector-ca"}`)
	args := " " + strings.Join(told.Args, " ") + " "
	for _, want := range []string{" --otlp-endpoint=[fd00::7]:4317 ", " --otlp-insecure=false ", " --otlp-ratio=0.25 "} {
		if !strings.Contains(args, want) {
			t.Errorf("the operator is not told%sbut%s", want, args)
		}
	}
	env := []corev1.EnvVar{{Name: "OTEL_EXPORTER_OTLP_HEADERS", ValueFrom: &corev1.EnvVarSource{
		SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "collector"}, Key: "headers"},
	}}, {Name: "OTEL_EXPORTER_OTLP_CERTIFICATE", Value: "/etc/mqtt-operator/otlp/ca.crt"}}
	if len(told.VolumeMounts) != 1 || told.VolumeMounts[0].MountPath != "/etc/mqtt-operator/otlp" {
		t.Errorf("the CA is not there: %+v", told.VolumeMounts)
	}
	if diff := cmp.Diff(env, told.Env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

// serviceMonitor is as much of that kind as the chart uses.
type serviceMonitor struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string            `json:"name"`
		Namespace string            `json:"namespace"`
		Labels    map[string]string `json:"labels"`
	} `json:"metadata"`
	Spec struct {
		Selector struct {
			MatchLabels map[string]string `json:"matchLabels"`
		} `json:"selector"`
		Endpoints []struct {
			Port            string `json:"port"`
			Path            string `json:"path"`
			HonorLabels     bool   `json:"honorLabels"`
			Scheme          string `json:"scheme"`
			BearerTokenFile string `json:"bearerTokenFile"`
			TLSConfig       struct {
				InsecureSkipVerify bool `json:"insecureSkipVerify"`
			} `json:"tlsConfig"`
		} `json:"endpoints"`
	} `json:"spec"`
}

func TestTheOperatorIsWatched(t *testing.T) {
	t.Parallel()
	const pods = "mo-mqtt-operator-[0-9a-z]+-[0-9a-z]+"
	rendered := render(t,
		`metrics.serviceMonitor={"enabled":true,"labels":{"release":"prometheus"}}`, `metrics.prometheusRule={"enabled":true,"labels":{"release":"prometheus"}}`,
		`metrics.dashboard.enabled=true`)

	monitor := one[serviceMonitor](t, rendered, "ServiceMonitor", "")
	service := one[corev1.Service](t, rendered, "Service", "-metrics")
	for key, value := range monitor.Spec.Selector.MatchLabels {
		if service.Labels[key] != value {
			t.Errorf("the ServiceMonitor looks for %s=%s, and the Service has %v", key, value, service.Labels)
		}
	}
	endpoint := monitor.Spec.Endpoints[0]
	if endpoint.Port != service.Spec.Ports[0].Name || !endpoint.HonorLabels || endpoint.Scheme != "https" || endpoint.BearerTokenFile == "" || !endpoint.TLSConfig.InsecureSkipVerify {
		t.Errorf("the endpoint is %+v", endpoint)
	}
	open := one[serviceMonitor](t, render(t, `metrics={"secure":false,"serviceMonitor":{"enabled":true}}`), "ServiceMonitor", "").Spec.Endpoints[0]
	if open.Scheme != "" || open.BearerTokenFile != "" || !open.HonorLabels {
		t.Errorf("without TLS the endpoint is %+v", open)
	}

	rule := rendered.named("PrometheusRule", "")
	if len(rule) != 1 || rule[0].Metadata.Namespace != "home" || rule[0].Metadata.Labels["release"] != "prometheus" {
		t.Fatalf("found %v", rule)
	}
	var got struct {
		Spec map[string]any `json:"spec"`
	}
	if err := yaml.Unmarshal([]byte(rule[0].text), &got); err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(desired.OperatorRules("home", pods))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{}
	if err := yaml.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.Spec); diff != "" {
		t.Errorf("alerts (-made +rendered):\n%s", diff)
	}

	board := one[corev1.ConfigMap](t, rendered, "ConfigMap", "-dashboard")
	shown := board.Data["mqtt-operator_home_mo-mqtt-operator.json"]
	// The identifier is that of the template: there is one operator's dashboard in a Grafana.
	wanted := strings.ReplaceAll(desired.OperatorDashboard("@namespace@", "@pods@"), "@namespace@", "home")
	wanted = strings.ReplaceAll(wanted, "@pods@", pods)
	if diff := cmp.Diff(wanted, shown); diff != "" {
		t.Errorf("dashboard (-made +rendered):\n%s", diff)
	}
	if board.Labels["grafana_dashboard"] != "1" {
		t.Errorf("its labels are %v", board.Labels)
	}
	other := one[corev1.ConfigMap](t, render(t, `metrics.dashboard={"enabled":true,"labels":{"grafana_dashboard":"mqtt"}}`), "ConfigMap", "-dashboard")
	if other.Labels["grafana_dashboard"] != "mqtt" {
		t.Errorf("its labels are %v", other.Labels)
	}
}

func TestAlertsAndDashboardAreCurrent(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	command := exec.CommandContext(t.Context(), "go", "run", "./hack/chartwatch", folder)
	command.Dir = root
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	names, err := os.ReadDir(folder)
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		if diff := cmp.Diff(read(t, filepath.Join(folder, name.Name())), read(t, filepath.Join(chart, "files", "monitoring", name.Name()))); diff != "" {
			t.Errorf("%s is stale; renew it with make generate:\n%s", name.Name(), diff)
		}
	}
}
