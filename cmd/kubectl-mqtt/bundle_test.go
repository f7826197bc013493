// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
)

// secretValues are values that must be in no bundle, by where they are.
type secretValues map[string]string

// bundleTown is a namespace in which secrets stand wherever they can: in Secrets, and in what repeats them.
func bundleTown(t *testing.T) (*site, secretValues) {
	t.Helper()
	ca := must(pki.NewCA("mq CA", noon))(t)
	leaf := must(pki.Issue(ca, pki.Request{CommonName: "mq", DNSNames: []string{"mq"}, Server: true}, noon))(t)
	const multi = "line one of it: <it's>\nline two of it\t\"quoted\""
	values := secretValues{
		"password": "pass-word-of-alice", "verifier": "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo", "ca key": string(ca.Key), "leaf key": string(leaf.Key),
		"opaque": multi, "remote password": "pass-word-of-the-cloud", "token": "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl", "environment": "value-of-a-variable",
		"symmetric": `{"keys":[{"kty":"oct","k":"c3ltbWV0cmljLWtleS1vZi1hbi1pc3N1ZXI"}]}`,
	}
	config := factory()
	config.Name = "factory/mq"
	config.Users[0].Verifiers = []string{values["verifier"]}
	config.Pairs = map[string]contract.KeyPair{"p": {Certificate: string(leaf.Certificate), PrivateKey: string(leaf.Key)}}
	config.Authentication.JWT = []contract.TokenIssuer{{Issuer: "https://id.example.com", Audiences: []string{"mqtt"}, JWKS: values["symmetric"]}}
	rendered := must(contract.Render(config, 1))(t)
	head, users := map[string][]byte{}, map[string][]byte{}
	for name, content := range rendered {
		if strings.HasPrefix(name, "users-") {
			users[name] = content
		} else {
			head[name] = content
		}
	}
	secret := func(name string, kind corev1.SecretType, data map[string][]byte) *corev1.Secret {
		manifest := must(json.Marshal(map[string]any{"kind": "Secret", "data": data}))(t)
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "factory", Name: name, Annotations: map[string]string{corev1.LastAppliedConfigAnnotation: string(manifest)}},
			Type:       kind, Data: data,
		}
	}
	var all []string // but for what is in no Secret, and nobody can know
	for _, what := range slices.Sorted(maps.Keys(values)) {
		if what != "environment" {
			all = append(all, values[what])
		}
	}
	everything := strings.Join(all, " | ")
	broker := wellBroker("factory", "mq")
	broker.Annotations = map[string]string{corev1.LastAppliedConfigAnnotation: everything, "note": "the password is " + values["password"]}
	broker.Status.CA = &v1alpha1.CAStatus{Phase: v1alpha1.CAStable}
	p := podOf(broker, 1)
	p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "TOKEN", Value: values["environment"]}}
	bridge := gen.Bridge("factory", "cloud", "mq")
	bridge.Status.Conditions = []metav1.Condition{says(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNotAuthorized, "refused: "+values["remote password"])}
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "factory", Name: "mq-broker", Labels: v1alpha1.BrokerLabels("mq")}}
	set.Spec.Template.Spec.InitContainers = []corev1.Container{{Name: "i", Env: []corev1.EnvVar{{Name: "TOKEN", Value: values["environment"]}}}}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "factory", Name: "cloud-bridge", Labels: v1alpha1.BridgeLabels("cloud", "mq")}}
	deployment.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c", Env: []corev1.EnvVar{{Name: "TOKEN", Value: values["environment"]}}}}
	stranger := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "factory", Name: "not-ours"}}
	operator := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: "mqtt-operator-x", Labels: map[string]string{v1alpha1.LabelName: v1alpha1.PartOfValue}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "operator"}}},
	}
	bridgeConfig := must(json.Marshal(&contract.Bridge{Remote: contract.BridgeEnd{Username: "plant", Password: values["remote password"]}}))(t)
	at := town(t, []client.Object{
		broker, p, bridge, set, deployment, stranger, operator, gen.User("factory", "alice", "mq"), gen.Policy("factory", "readers"),
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "factory", Name: "mq-mqtts", Labels: v1alpha1.BrokerLabels("mq")}},
		&corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "factory", Name: "mq.1"}, Reason: "PodChanged", Message: everything},
		secret("mq-config", v1alpha1.SecretTypeConfig, head), secret("mq-users-0", v1alpha1.SecretTypeConfig, users),
		secret("mq-ca", v1alpha1.SecretTypeCA, pki.NewStable(ca, 1, noon).Data()),
		secret("mq-tls", corev1.SecretTypeTLS, map[string][]byte{"tls.crt": leaf.Certificate, "tls.key": leaf.Key}),
		secret("alice-mqtt", v1alpha1.SecretTypeBinding, map[string][]byte{"host": []byte("mq-mqtts.factory.svc"), "username": []byte("alice"), "password": []byte(values["password"])}),
		secret("alice-mqtt-verifier", v1alpha1.SecretTypeVerifier, map[string][]byte{"verifiers": []byte(values["verifier"])}),
		secret("cloud-bridge-config", v1alpha1.SecretTypeConfig, map[string][]byte{contract.BridgeFile: bridgeConfig}),
		secret("somebody-else", corev1.SecretTypeOpaque, map[string][]byte{"token": []byte(values["token"]), "text": []byte(multi + "\n"), "keys": []byte(values["symmetric"])}),
	})
	at.dial = (&pod{ports: map[int]string{}}).dials
	at.logs = func(_ context.Context, key client.ObjectKey, container string, previous bool) ([]byte, error) {
		inJSON := must(json.Marshal(everything))(t)
		return fmt.Appendf(nil, "%s/%s previous=%t\n%s\n%s\n  %s\n", key.Name, container, previous, everything, inJSON, strings.ReplaceAll(values["leaf key"], "\n", "\n    ")), nil
	}
	return at, values
}

// unpack reads a bundle.
func unpack(t *testing.T, packed []byte) map[string]string {
	t.Helper()
	archive := tar.NewReader(must(gzip.NewReader(bytes.NewReader(packed)))(t))
	files := map[string]string{}
	for {
		head, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(head.Name, "mqtt-support-factory/")] = string(must(io.ReadAll(archive))(t))
		if head.Mode != 0o600 || !head.ModTime.Equal(noon) {
			t.Errorf("%s: mode %o, time %s", head.Name, head.Mode, head.ModTime)
		}
	}
}

// TestNoSecretIsInASupportBundle looks for every secret of the namespace, in every form that it may have.
func TestNoSecretIsInASupportBundle(t *testing.T) {
	at, values := bundleTown(t)
	var packed, errs bytes.Buffer
	if code := run(t.Context(), []string{"support-bundle", "-f", "-"}, streams{out: &packed, err: &errs}, at.opens); code != exitIncomplete { // the pod has no metrics
		t.Fatalf("%d %s", code, errs.String())
	}
	files := unpack(t, packed.Bytes())
	for what, value := range values {
		needles := []string{value, base64.StdEncoding.EncodeToString([]byte(value)), base64.URLEncoding.EncodeToString([]byte(value))}
		needles = append(needles, strings.Trim(string(must(json.Marshal(value))(t)), `"`))
		for line := range strings.Lines(value) {
			if !strings.HasPrefix(line, "-----") {
				line = strings.TrimSpace(line)
				needles = append(needles, line, strings.Trim(string(must(json.Marshal(line))(t)), `"`), strings.ReplaceAll(line, "'", "''"))
			}
		}
		for name, content := range files {
			for _, needle := range needles {
				if strings.Contains(content, needle) || strings.Contains(name, needle) {
					t.Errorf("%s holds the %s, as %.20q…", name, what, needle)
				}
			}
		}
	}
	var list strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintln(&list, name)
	}
	golden(t, "bundle-files", list.String())
	golden(t, "bundle-secret", files["objects/secrets/alice-mqtt.yaml"])
	golden(t, "bundle-status", files["status.txt"])
	for name, words := range map[string][]string{
		"objects/mqttbrokers/mq.yaml":                {"kind: MQTTBroker", "the password is (removed)", "phase: Stable"},
		"objects/pods/mq-broker-0.yaml":              {"name: TOKEN", "(removed)", "nodeName: node-1"},
		"configuration/mq.json":                      {`"username": "alice"`, `"(removed)"`, "BEGIN CERTIFICATE", `"revision": 12`, "https://id.example.com", "factory/%u/#"},
		"logs/mq-broker-0-broker-previous.txt":       {"previous=true"},
		"operator/logs/mqtt-operator-x-operator.txt": {"mqtt-operator-x/operator"},
		"objects/events/mq.1.yaml":                   {"reason: PodChanged"},
		"INDEX":                                      {"metrics of pod mq-broker-0: ", "status.txt"},
	} {
		for _, word := range words {
			if !strings.Contains(files[name], word) {
				t.Errorf("%s lacks %q:\n%s", name, word, files[name])
			}
		}
	}
}

func TestASupportBundleIsAFile(t *testing.T) {
	at, _ := bundleTown(t)
	t.Chdir(t.TempDir())
	code, out, errs := call(t, at.opens, "support-bundle")
	const name = "mqtt-support-factory-20261124T120000Z.tar.gz"
	if code != exitIncomplete || !strings.HasPrefix(out, name+" holds ") || !strings.Contains(errs, "note: 1 thing could not be read; INDEX in the bundle says which and why") {
		t.Errorf("%d %s%s", code, out, errs)
	}
	packed := must(os.ReadFile(name))(t)
	if len(unpack(t, packed)) == 0 {
		t.Error("nothing is in it")
	}
	if info := must(os.Stat(name))(t); info.Mode().Perm() != 0o600 {
		t.Errorf("others may read it: %s", info.Mode())
	}
	if code, _, errs = call(t, at.opens, "support-bundle", "-f", name); code != exitUnknown || !strings.Contains(errs, "exists") {
		t.Errorf("what is there already is not overwritten: %d %s", code, errs)
	}
	if code, _, errs = call(t, at.opens, "support-bundle", "-f", filepath.Join("none", name)); code != exitUnknown {
		t.Errorf("%d %s", code, errs)
	}
}

func TestASupportBundleWithFewRights(t *testing.T) {
	b := wellBroker("factory", "mq")
	at := town(t, []client.Object{b, gen.User("factory", "alice", "mq")}, forbidden(true, &corev1.SecretList{}, &corev1.PodList{}))
	var packed, errs bytes.Buffer
	if code := run(t.Context(), []string{"support-bundle", "-f", "-"}, streams{out: &packed, err: &errs}, at.opens); code != exitIncomplete {
		t.Fatalf("%d %s", code, errs.String())
	}
	files := unpack(t, packed.Bytes())
	for _, words := range []string{"secrets: you may not see them, so there is no configuration in this bundle", "pods of namespace factory: ", "pods of namespace mqtt-operator-system: "} {
		if !strings.Contains(files["INDEX"], words) {
			t.Errorf("INDEX lacks %q:\n%s", words, files["INDEX"])
		}
	}
	if !strings.Contains(files["status.txt"], "is healthy") || files["objects/mqttusers/alice.yaml"] == "" || files["configuration/mq.json"] != "" {
		t.Errorf("%v", files)
	}
}

func TestManySecretsAreRemovedInOneGo(t *testing.T) {
	secrets, text := []corev1.Secret(nil), strings.Builder{}
	for i := range 20_000 {
		value := fmt.Sprintf("secret-%d", i)
		secrets = append(secrets, corev1.Secret{Data: map[string][]byte{"password": []byte(value)}})
		fmt.Fprintf(&text, "line %d says %s.\n", i, value)
	}
	begin := time.Now()
	out := newCensor(secrets).remove(strings.Repeat(text.String(), 10))
	if strings.Contains(out, "secret-") || strings.Count(out, removed) != 200_000 {
		t.Error("not all of them are gone")
	}
	if took := time.Since(begin); took > 10*time.Second { // a second on a quiet machine
		t.Errorf("it took %s", took)
	}
}
