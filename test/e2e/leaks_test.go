// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
	"github.com/mqtt-operator/mqtt-operator/test/scram"
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
	return s.leaksIn(s.places())
}

func (s *story) leaksIn(places map[string]string) []string {
	s.Helper()
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

// places are all texts that people and log collectors see, but for the operator's metrics, which need a right.
func (s *story) places() map[string]string {
	s.Helper()
	places := map[string]string{}
	for _, log := range append(s.kept, s.logs()...) {
		places["the log of "+log.where] += log.text
	}
	pods := &corev1.PodList{}
	for kind, list := range map[string]client.ObjectList{
		"MQTTBroker": &v1alpha1.MQTTBrokerList{}, "MQTTUser": &v1alpha1.MQTTUserList{}, "MQTTAccessPolicy": &v1alpha1.MQTTAccessPolicyList{},
		"MQTTBridge": &v1alpha1.MQTTBridgeList{}, "Deployment": &appsv1.DeploymentList{}, "ReplicaSet": &appsv1.ReplicaSetList{},
		"StatefulSet": &appsv1.StatefulSetList{}, "Pod": pods, "Service": &corev1.ServiceList{}, "ServiceAccount": &corev1.ServiceAccountList{},
		"ConfigMap": &corev1.ConfigMapList{}, "ControllerRevision": &appsv1.ControllerRevisionList{},
		"NetworkPolicy": &networkingv1.NetworkPolicyList{},
	} {
		if err := kube.List(s.ctx, list, client.InNamespace(s.namespace)); err != nil {
			s.Errorf("%s: %v", kind, err)
		}
		places["an object of kind "+kind] = s.asText(list)
	}
	places["an event"] = s.asText(s.events())
	for i := range pods.Items {
		// A pod that is not there any more, or no broker's, has none.
		url := "http://" + net.JoinHostPort(pods.Items[i].Status.PodIP, strconv.Itoa(contract.HealthPort)) + "/metrics"
		if status, text, err := fetch(url, ""); err == nil && status == http.StatusOK {
			places["the metrics of "+pods.Items[i].Name] = text
		}
	}
	places["what kubectl describe says"] = s.described()
	return places
}

// described is what kubectl says about everything of the namespace that it knows how to describe. It asks again where something
// has gone between the list of a kind and the question for each of it, which kubectl takes for an error.
func (s *story) described() string {
	s.Helper()
	const kinds = "mqttbrokers,mqttusers,mqttaccesspolicies,statefulsets,pods,services,serviceaccounts,secrets,configmaps,persistentvolumeclaims,networkpolicies"
	var text []byte
	s.eventually(patience, "kubectl describes what is there", func() (err error) {
		ctx, cancel := context.WithTimeout(s.ctx, patience)
		defer cancel()
		text, err = exec.CommandContext(ctx, "kubectl", "describe", "--namespace", s.namespace, kinds).CombinedOutput()
		if err != nil && !bytes.Contains(text, []byte("(NotFound)")) {
			s.Errorf("kubectl describe: %v\n%s", err, text)
			return nil
		}
		return err
	})
	return string(text)
}

// TestMarkersShowNowhere: what is secret is planted wherever somebody may write it, most of it where it is wrong and has to
// be complained about. Nothing that people see repeats any of it.
func TestMarkersShowNowhere(t *testing.T) {
	t.Parallel()
	s := begin(t)
	plant := func(where string) string {
		marker := "m4rker-" + random(8)
		s.secrets.keep("the marker "+where, marker)
		return marker
	}
	labelled := func(name string, data map[string]string) { s.create(gen.Secret(s.namespace, name, data)) }
	chosen := plant("in a chosen password")
	labelled("chosen", map[string]string{"password": chosen})
	labelled("hash", map[string]string{"hash": "$argon2id$" + plant("in a bad hash")})
	unlabelled := gen.Secret(s.namespace, "unlabelled", map[string]string{"password": plant("in a Secret without the label")})
	unlabelled.Labels = nil
	s.create(unlabelled)
	labelled("pair", map[string]string{"tls.crt": plant("in a bad certificate"), "tls.key": plant("in a bad key")})
	labelled("clients", map[string]string{"ca.crt": plant("among CAs of clients")})
	labelled("lists", map[string]string{"ca.crl": plant("in a revocation list")})
	labelled("keys", map[string]string{"jwks.json": `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","d":"` + plant("in a private key of an issuer") + `"}]}`})
	labelled("issuer-ca", map[string]string{"ca.crt": plant("among CAs of an issuer")})

	// One broker serves, the other has everything wrong that can be.
	s.broker(func(b *v1alpha1.MQTTBroker) { b.Spec.Logging = &v1alpha1.BrokerLogging{Level: new(v1alpha1.LogDebug)} })
	bad := gen.Broker(s.namespace, "bad", gen.WithListener(gen.FromSecret("other", 8884, "pair")), func(b *v1alpha1.MQTTBroker) {
		l := b.Spec.Listeners[0].TLS
		l.ClientAuth = new(v1alpha1.ClientAuthOptional)
		l.ClientCASecretRef, l.CRLSecretRef = &v1alpha1.SecretKeyReference{Name: "clients"}, &v1alpha1.SecretKeyReference{Name: "lists"}
		b.Spec.Authentication = &v1alpha1.BrokerAuthentication{JWT: []v1alpha1.JWTIssuer{
			{Issuer: "one", Audiences: []string{audience}, JWKS: v1alpha1.JWKSource{SecretRef: &v1alpha1.SecretKeyReference{Name: "keys"}}},
			{Issuer: "two", Audiences: []string{audience}, JWKS: v1alpha1.JWKSource{URL: new("https://two.invalid/"), CASecretRef: &v1alpha1.SecretKeyReference{Name: "issuer-ca"}}},
		}}
	})
	s.create(bad)
	s.await(bad, v1alpha1.ConditionTLSReady, metav1.ConditionFalse, "")
	s.await(bad, v1alpha1.ConditionAuthenticationReady, metav1.ConditionFalse, "")
	s.user("chosen", allow("hall/#"), gen.WithPasswordFrom("chosen"))
	for name, option := range map[string]gen.UserOption{
		"unlabelled": gen.WithPasswordFrom("unlabelled"),
		"hashed": func(u *v1alpha1.MQTTUser) {
			u.Spec.Authentication.Password = &v1alpha1.UserPassword{HashSecretRef: &v1alpha1.SecretKeyReference{Name: "hash"}}
		},
	} {
		user := gen.User(s.namespace, name, brokerName, option)
		s.create(user)
		s.sayf("%s: %s", name, s.await(user, v1alpha1.ConditionReady, metav1.ConditionFalse, ""))
	}

	// What clients send is secret as well, where it is right and where it is not.
	c := s.connect("chosen")
	s.mustSubscribe(c, "hall/#")
	said := plant("in a message")
	s.mustPublish(c, "hall/1", said)
	s.hears(c, "hall/1", said)
	if err := refusedWith(c.publish("elsewhere", plant("in a message without a grant")), notAuthorized); err != nil {
		t.Errorf("a message without a grant: %v", err)
	}
	b := mustBinding(s, "chosen")
	for what, password := range map[string]string{
		"in a wrong password": plant("in a wrong password"),
		"in a token":          "eyJhbGciOiJFUzI1NiJ9." + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"one","sub":"`+plant("in a token")+`"}`)) + "." + plant("in the signature of a token"),
	} {
		b.password = password
		if _, err := connectWith(b, session{}); err == nil {
			t.Errorf("%s: it opened", what)
		}
	}
	b.username, b.password = "", ""
	if _, err := connectWith(b, session{method: scram.Method, proof: []byte("n,,n=chosen,r=" + plant("in an authentication"))}); err == nil {
		t.Error("half an authentication opened")
	}

	// An event about a user, too: it has lost what it logged in with.
	at := metav1.ObjectMeta{Namespace: s.namespace, Name: "chosen"}
	s.remove(&corev1.Secret{ObjectMeta: at})
	s.await(&v1alpha1.MQTTUser{ObjectMeta: at}, v1alpha1.ConditionReady, metav1.ConditionFalse, "")
	s.eventually(patience, "an event tells of it", func() error {
		if !slices.ContainsFunc(s.events(), func(e eventsv1.Event) bool { return e.Regarding.Kind == "MQTTUser" && e.Regarding.Name == at.Name }) {
			return errors.New("none does")
		}
		return nil
	})

	places := s.places()
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: s.namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: operatorName + ":" + operatorNamespace + ":metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: s.namespace, Name: "reader"}},
	}
	reader := s.token("reader")
	s.create(binding)
	t.Cleanup(func() { _ = kube.Delete(context.Background(), binding) })
	pods, err := s.operatorPods()
	if err != nil {
		t.Fatal(err)
	}
	for i := range pods {
		s.eventually(patience, "the operator shows its metrics", func() error {
			status, text, err := fetch("https://"+net.JoinHostPort(pods[i].Status.PodIP, "8443")+"/metrics", reader)
			if err == nil && status != http.StatusOK {
				err = errors.New(text)
			}
			places["the metrics of "+pods[i].Name] = text
			return err
		})
	}
	for _, leak := range s.leaksIn(places) {
		t.Error(leak)
	}
	for place, mark := range map[string]string{
		"what kubectl describe says":                     "chosen-mqtt",
		"the metrics of " + s.pod().Name:                 "mqtt_broker_auth_failures_total",
		"the metrics of " + pods[0].Name:                 "controller_runtime",
		"an event":                                       "chosen",
		"the log of " + s.namespace + "/" + s.pod().Name: "publish refused",
	} {
		if !strings.Contains(places[place], mark) {
			t.Errorf("%s holds no %q: the search proves nothing", place, mark)
		}
	}
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
