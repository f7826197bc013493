// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// treasure is every secret value that the namespace has ever held, with the Secret that it came from.
type treasure struct {
	mu     sync.Mutex
	values map[string]string
}

// shortest is the length from which a value is worth a search: shorter ones stand in logs by chance.
const shortest = 8

// collectSecrets follows the Secrets of the namespace until the story ends.
func (s *story) collectSecrets() *treasure {
	s.Helper()
	t := &treasure{values: map[string]string{}}
	watcher, err := kube.Watch(s.ctx, &corev1.SecretList{}, client.InNamespace(s.namespace))
	if err != nil {
		s.Fatalf("watch Secrets: %v", err)
	}
	s.Cleanup(watcher.Stop)
	go func() {
		for event := range watcher.ResultChan() {
			if secret, ok := event.Object.(*corev1.Secret); ok {
				t.add(secret)
			}
		}
	}()
	return t
}

// keep adds a value that stands in no Secret.
func (t *treasure) keep(from, value string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.values[value] = from
}

// public names the keys that are meant to be read.
var public = map[string]bool{
	v1alpha1.BindingType: true, v1alpha1.BindingProvider: true, v1alpha1.BindingHost: true, v1alpha1.BindingPort: true,
	v1alpha1.BindingURI: true, v1alpha1.BindingUsername: true,
	v1alpha1.BindingCA: true, v1alpha1.BindingCert: true, "client.crt": true,
	// Where a CA is in its life, and how users are recognised who have no password.
	pki.NextCertKey: true, pki.OldCertKey: true, pki.GenerationKey: true, pki.PhaseKey: true, pki.SinceKey: true, pki.RotateKey: true,
	verdict.PinKey: true, verdict.CertificateKey: true, verdict.IssuerKey: true, verdict.ServiceAccountKey: true,
}

func (t *treasure) add(secret *corev1.Secret) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, value := range secret.Data {
		from, text := "Secret "+secret.Name+"/"+key, string(value)
		switch {
		case public[key]:
		case secret.Type == v1alpha1.SecretTypeConfig:
			// A configuration is mostly names; what is secret in it came from the other Secrets, but for the keys.
			t.addKeys(from, text)
		case strings.Contains(text, "PRIVATE KEY"):
			t.addKeys(from, text)
		case len(text) >= shortest:
			t.values[text] = from
		}
	}
}

// addKeys adds one line of each private key: a log would break the whole of it into lines or escapes.
func (t *treasure) addKeys(from, text string) {
	text = strings.ReplaceAll(text, `\n`, "\n")
	for rest := text; ; {
		_, after, found := strings.Cut(rest, "PRIVATE KEY-----\n")
		if !found {
			return
		}
		line, _, _ := strings.Cut(after, "\n")
		if len(line) > 20 && !strings.HasPrefix(line, "-") {
			// The beginning of a key says only of which kind it is.
			t.values[line[len(line)-20:]] = from
		}
		rest = after
	}
}

// searchForSecrets fails the story for every value that stands where it may not.
func (s *story) searchForSecrets() {
	s.Helper()
	for _, leak := range s.leaks() {
		s.Error(leak + ": it may stand in no log, event or status")
	}
}

// leaks looks for every value in all that people and log collectors see.
func (s *story) leaks() []string {
	s.Helper()
	places := map[string]string{}
	for _, log := range append(s.kept, s.logs()...) {
		places["the log of "+log.where] += log.text
	}
	for kind, list := range map[string]client.ObjectList{
		"MQTTBroker": &v1alpha1.MQTTBrokerList{}, "MQTTUser": &v1alpha1.MQTTUserList{}, "StatefulSet": &appsv1.StatefulSetList{},
		"MQTTBridge": &v1alpha1.MQTTBridgeList{}, "Deployment": &appsv1.DeploymentList{}, "ReplicaSet": &appsv1.ReplicaSetList{},
		"Pod": &corev1.PodList{}, "Service": &corev1.ServiceList{}, "ServiceAccount": &corev1.ServiceAccountList{},
		"ConfigMap": &corev1.ConfigMapList{}, "ControllerRevision": &appsv1.ControllerRevisionList{},
	} {
		if err := kube.List(s.ctx, list, client.InNamespace(s.namespace)); err != nil {
			s.Errorf("%s: %v", kind, err)
		}
		places["an object of kind "+kind] = s.asText(list)
	}
	places["an event"] = s.asText(s.events())

	s.secrets.mu.Lock()
	defer s.secrets.mu.Unlock()
	var found []string
	for value, from := range s.secrets.values {
		for place, text := range places {
			if strings.Contains(text, value) {
				found = append(found, "the value of "+from+" stands in "+place)
			}
		}
	}
	s.Logf("%d secret values were looked for in %d places", len(s.secrets.values), len(places))
	return found
}

// TestSearchFinds: a search that finds nothing anywhere would be worth nothing.
func TestSearchFinds(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.broker()
	s.user("anna")
	b := mustBinding(s, "anna")
	ca, err := s.secret(v1alpha1.CASecretName(brokerName))
	if err != nil {
		t.Fatal(err)
	}
	leaky := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "leaky"},
		Data:       map[string]string{"password": "it is " + b.password, "key": string(ca.Data["ca.key"])},
	}
	s.create(leaky)
	for _, from := range []string{"anna-mqtt/password", v1alpha1.CASecretName(brokerName) + "/ca.key"} {
		if found := strings.Join(s.leaks(), "; "); !strings.Contains(found, from) {
			t.Errorf("%s stands in a ConfigMap, and the search found: %s", from, found)
		}
	}
	s.remove(leaky)
}

func (s *story) asText(value any) string {
	s.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		s.Fatal(err)
	}
	// JSON escapes these three, and a password may hold them.
	return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(string(text))
}
