// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
)

// marker stands in everything that no output may repeat.
const marker = "m4rk3r"

// config is the configuration that stands in the Secrets of a broker, as a broker would read it.
func (w *world) config(broker string) *contract.Config {
	w.t.Helper()
	bundle := contract.Bundle{}
	for _, name := range []string{v1alpha1.ConfigSecretName(broker), v1alpha1.UsersSecretName(broker, 0)} {
		maps.Copy(bundle, w.secret(name).Data)
	}
	cfg, err := contract.Parse(bundle)
	must(w.t, err)
	return cfg
}

// finds waits until the configuration is as wanted.
func (w *world) finds(what, broker string, is func(*contract.Config) bool) {
	w.t.Helper()
	w.eventually(what, func() error {
		if !is(w.config(broker)) {
			return errors.New("the configuration is another one")
		}
		return nil
	})
}

// authority is a customer's CA with an empty revocation list, both PEM.
func authority(t *testing.T, name string) (pki.Pair, string) {
	t.Helper()
	ca, err := pki.NewCA(name, time.Now())
	must(t, err)
	pair, err := tls.X509KeyPair(ca.Certificate, ca.Key)
	must(t, err)
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		t.Fatal("no key")
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(30 * 24 * time.Hour)}, pair.Leaf, key)
	must(t, err)
	return ca, string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

// TestClientCertificates: whom a listener trusts, and what becomes of it when the Secrets are wrong.
func TestClientCertificates(t *testing.T) {
	w := newWorld(t)
	ca, crl := authority(t, "plant")
	_, foreignCRL := authority(t, "other")
	broker := gen.Broker(w.namespace, "mq")
	l := &broker.Spec.Listeners[0]
	l.TLS.ClientAuth, l.TLS.UsernameFrom = new(v1alpha1.ClientAuthRequired), new(v1alpha1.UsernameFromSAN)
	l.Authentication = []v1alpha1.ListenerAuthentication{"certificate"}
	w.create(broker)
	w.ready(broker)

	own := w.secret(v1alpha1.ClientCASecretName("mq"))
	if own.Type != v1alpha1.SecretTypeCA || own.Labels[v1alpha1.LabelAllow] != v1alpha1.AllowOwned || !metav1.IsControlledBy(own, broker) {
		t.Errorf("the client CA is kept as %s %v", own.Type, own.Labels)
	}
	cfg := w.config("mq")
	if got := cfg.Listeners[0]; got.TLS.ClientAuth != "required" || got.TLS.UsernameFrom != "san" || len(got.Methods) != 1 || got.Methods[0] != contract.MethodCertificate {
		t.Errorf("the listener is %+v %+v", got, got.TLS)
	}
	if cfg.Trust["mqtts"].Authorities != string(own.Data["ca.crt"]) {
		t.Error("without clientCASecretRef the broker's own CA alone is trusted")
	}
	if broker.Status.ClientCA == nil || broker.Status.ClientCA.Phase != v1alpha1.CAStable {
		t.Errorf("status.clientCA is %+v", broker.Status.ClientCA)
	}

	// A reference that opens nothing lets nobody in who was not let in before.
	change(w, broker, func(b *v1alpha1.MQTTBroker) {
		b.Spec.Listeners[0].TLS.ClientCASecretRef = &v1alpha1.SecretKeyReference{Name: "plant-ca"}
		b.Spec.Listeners[0].TLS.CRLSecretRef = &v1alpha1.SecretKeyReference{Name: "revoked"}
	})
	c := w.is(broker, v1alpha1.ConditionTLSReady, metav1.ConditionFalse, v1alpha1.ReasonClientCANotUsable)
	if !strings.Contains(c.Message, "only client certificates that the operator has issued") {
		t.Errorf("the message does not say what holds meanwhile: %s", c.Message)
	}
	cas := gen.Secret(w.namespace, "plant-ca", map[string]string{"ca.crt": string(ca.Certificate)})
	w.create(cas)
	w.is(broker, v1alpha1.ConditionTLSReady, metav1.ConditionFalse, v1alpha1.ReasonCRLNotUsable)
	if w.config("mq").Trust["mqtts"].Authorities != string(own.Data["ca.crt"]) {
		t.Error("a CA whose revocation list cannot be read is not to be trusted")
	}
	lists := gen.Secret(w.namespace, "revoked", map[string]string{"ca.crl": crl})
	w.create(lists)
	w.ready(broker)
	good := w.config("mq").Trust["mqtts"]
	if good.RevocationLists != crl || !strings.Contains(good.Authorities, string(ca.Certificate)) || !strings.HasPrefix(good.Authorities, string(own.Data["ca.crt"])) {
		t.Error("both CAs and the list belong into the trust")
	}

	for name, tc := range map[string]struct {
		secret *corev1.Secret
		key    string
		data   string
		reason v1alpha1.ConditionReason
	}{
		"no CA":               {cas, "ca.crt", "", v1alpha1.ReasonClientCAInvalid},
		"garbage for a CA":    {cas, "ca.crt", marker, v1alpha1.ReasonClientCAInvalid},
		"a key for a CA":      {cas, "ca.crt", string(ca.Key), v1alpha1.ReasonClientCAInvalid},
		"a huge CA":           {cas, "ca.crt", strings.Repeat(marker, 30_000), v1alpha1.ReasonClientCAInvalid},
		"no list":             {lists, "ca.crl", "\n", v1alpha1.ReasonCRLInvalid},
		"garbage for a list":  {lists, "ca.crl", marker, v1alpha1.ReasonCRLInvalid},
		"a huge list":         {lists, "ca.crl", strings.Repeat(marker, 60_000), v1alpha1.ReasonCRLInvalid},
		"a list of another":   {lists, "ca.crl", foreignCRL, v1alpha1.ReasonCRLInvalid},
		"a Secret of one key": {lists, "other", crl, v1alpha1.ReasonSecretKeyMissing},
	} {
		before := maps.Clone(tc.secret.Data)
		change(w, tc.secret, func(s *corev1.Secret) { s.Data = map[string][]byte{tc.key: []byte(tc.data)} })
		c := w.is(broker, v1alpha1.ConditionTLSReady, metav1.ConditionFalse, tc.reason)
		if strings.Contains(c.Message, marker) || strings.Contains(c.Message, "PRIVATE KEY-----") || !strings.Contains(c.Message, "goes on with the CAs and revocation lists it had") {
			t.Errorf("%s: %.300s", name, c.Message)
		}
		if got := w.config("mq").Trust["mqtts"]; got != good {
			t.Errorf("%s: what was trusted before must go on", name)
		}
		change(w, tc.secret, func(s *corev1.Secret) { s.Data = before })
		w.ready(broker)
	}

	// Who does not ask any more keeps the CA: users' certificates hang on it.
	change(w, broker, func(b *v1alpha1.MQTTBroker) {
		b.Spec.Listeners[0].Authentication = nil
		b.Spec.Listeners[0].TLS.ClientAuth, b.Spec.Listeners[0].TLS.UsernameFrom = nil, nil
		b.Spec.Listeners[0].TLS.ClientCASecretRef, b.Spec.Listeners[0].TLS.CRLSecretRef = nil, nil
	})
	w.finds("nobody is asked", "mq", func(cfg *contract.Config) bool { return len(cfg.Trust) == 0 })
	if !bytes.Equal(w.secret(own.Name).Data["ca.key"], own.Data["ca.key"]) {
		t.Error("the client CA is another one")
	}
}

const keySet = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`

// TestTokens: whose tokens the broker is to believe, and what becomes of it when the keys are wrong.
func TestTokens(t *testing.T) {
	w := newWorld(t)
	broker := gen.Broker(w.namespace, "mq")
	issuer := func(name string, source v1alpha1.JWKSource) v1alpha1.JWTIssuer {
		return v1alpha1.JWTIssuer{Issuer: name, Audiences: []string{"mqtt"}, JWKS: source}
	}
	broker.Spec.Authentication = &v1alpha1.BrokerAuthentication{
		JWT: []v1alpha1.JWTIssuer{
			issuer("a", v1alpha1.JWKSource{SecretRef: &v1alpha1.SecretKeyReference{Name: "keys"}}),
			issuer("b", v1alpha1.JWKSource{ConfigMapRef: &v1alpha1.ConfigMapKeyReference{Name: "keys", Key: new("b")}}),
			issuer("c", v1alpha1.JWKSource{URL: new("https://issuer.example.com/keys")}),
		},
		ServiceAccounts: &v1alpha1.ServiceAccountTokens{Audiences: []string{"mqtt.example.com"}},
	}
	broker.Spec.Authentication.JWT[2].UsernameClaim, broker.Spec.Authentication.JWT[2].ACLClaim = new("email"), new("acl")
	w.create(broker)
	w.is(broker, v1alpha1.ConditionAuthenticationReady, metav1.ConditionFalse, v1alpha1.ReasonJWKSNotUsable)
	secret := gen.Secret(w.namespace, "keys", map[string]string{"jwks.json": keySet})
	w.create(secret)
	w.is(broker, v1alpha1.ConditionAuthenticationReady, metav1.ConditionFalse, v1alpha1.ReasonJWKSNotUsable)
	configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "keys", Labels: map[string]string{v1alpha1.LabelAllow: v1alpha1.AllowReference}}, Data: map[string]string{"b": keySet}}
	w.create(configMap)
	w.ready(broker)

	cfg := w.config("mq")
	if got := cfg.Authentication.JWT; len(got) != 3 || got[0].JWKS != keySet || got[1].JWKS != keySet || got[2].JWKSURL != "https://issuer.example.com/keys" || got[2].UsernameClaim != "email" || got[2].ACLClaim != "acl" {
		t.Errorf("issuers are %+v", got)
	}
	if got := cfg.Authentication.ServiceAccounts; got == nil || !strings.HasPrefix(got.Issuer, "https://") || !strings.Contains(got.JWKS, `"use":"sig"`) || got.Audiences[0] != "mqtt.example.com" {
		t.Errorf("the cluster is %+v", got)
	}

	for name, text := range map[string]string{
		"empty": "", "garbage": marker, "no keys": `{"keys":[]}`, "huge": `{"keys":["` + strings.Repeat(marker, 20_000) + `"]}`,
		"deep":            strings.Repeat(`{"keys":[`, 3000),
		"a secret":        `{"keys":[{"kty":"oct","k":"` + marker + `"}]}`,
		"private":         strings.Replace(keySet, `"x"`, `"d":"`+marker+`","x"`, 1),
		"for encryption":  strings.Replace(keySet, `"x"`, `"use":"enc","x"`, 1),
		"off the curve":   `{"keys":[{"kty":"EC","crv":"P-256","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE","y":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE"}]}`,
		"a short RSA key": `{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`,
	} {
		change(w, secret, func(s *corev1.Secret) { s.Data["jwks.json"] = []byte(text) })
		c := w.is(broker, v1alpha1.ConditionAuthenticationReady, metav1.ConditionFalse, v1alpha1.ReasonJWKSInvalid)
		if strings.Contains(c.Message, marker) || !strings.Contains(c.Message, "the keys that the broker had stay in force") {
			t.Errorf("%s: %.300s", name, c.Message)
		}
		if got := w.config("mq").Authentication.JWT[0].JWKS; got != keySet {
			t.Errorf("%s: the old keys must stay", name)
		}
		change(w, secret, func(s *corev1.Secret) { s.Data["jwks.json"] = []byte(keySet) })
		w.ready(broker)
	}
	change(w, configMap, func(c *corev1.ConfigMap) { c.Labels = nil })
	w.is(broker, v1alpha1.ConditionAuthenticationReady, metav1.ConditionFalse, v1alpha1.ReasonJWKSNotUsable)
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Authentication = nil })
	w.ready(broker)
	w.finds("nobody's tokens are believed", "mq", func(cfg *contract.Config) bool {
		return len(cfg.Authentication.JWT) == 0 && cfg.Authentication.ServiceAccounts == nil
	})
}

// TestIssuerCA: who vouches for the address of an issuer's keys, and that nobody else does while that Secret is wrong.
func TestIssuerCA(t *testing.T) {
	w := newWorld(t)
	ca, _ := authority(t, "issuer")
	other, _ := authority(t, "other")
	const address = "https://issuer.example.com/keys"
	broker := gen.Broker(w.namespace, "mq")
	broker.Spec.Authentication = &v1alpha1.BrokerAuthentication{JWT: []v1alpha1.JWTIssuer{{
		Issuer: "i", Audiences: []string{"mqtt"}, JWKS: v1alpha1.JWKSource{URL: new(address)},
	}}}
	w.create(broker)
	w.ready(broker)
	first := w.config("mq").Authentication.JWT
	if len(first) != 1 || first[0].JWKSURL != address || first[0].Authorities != "" {
		t.Fatalf("issuers are %+v", first)
	}

	// Who asks for a CA of his own no longer wants the word of the public ones.
	change(w, broker, func(b *v1alpha1.MQTTBroker) {
		b.Spec.Authentication.JWT[0].JWKS.CASecretRef = &v1alpha1.SecretKeyReference{Name: "issuer-ca"}
	})
	c := w.is(broker, v1alpha1.ConditionAuthenticationReady, metav1.ConditionFalse, v1alpha1.ReasonIssuerCANotUsable)
	if !strings.Contains(c.Message, "Issuer i: ") || !strings.Contains(c.Message, "its tokens are refused") {
		t.Errorf("the message does not say what holds meanwhile: %s", c.Message)
	}
	w.finds("without its CA the issuer is not believed", "mq", func(cfg *contract.Config) bool { return len(cfg.Authentication.JWT) == 0 })

	secret := gen.Secret(w.namespace, "issuer-ca", map[string]string{"ca.crt": string(ca.Certificate)})
	secret.Labels = nil
	w.create(secret)
	w.is(broker, v1alpha1.ConditionAuthenticationReady, metav1.ConditionFalse, v1alpha1.ReasonIssuerCANotUsable)
	change(w, secret, func(s *corev1.Secret) { s.Labels = map[string]string{v1alpha1.LabelAllow: v1alpha1.AllowReference} })
	w.ready(broker)
	vouching := func(pair pki.Pair) func(*contract.Config) bool {
		return func(cfg *contract.Config) bool {
			got := cfg.Authentication.JWT
			return len(got) == 1 && got[0].JWKSURL == address && got[0].Authorities == string(pair.Certificate)
		}
	}
	w.finds("the CA is in the configuration", "mq", vouching(ca))

	for name, tc := range map[string]struct {
		data   string
		reason v1alpha1.ConditionReason
	}{
		"empty":   {"", v1alpha1.ReasonIssuerCAInvalid},
		"garbage": {marker, v1alpha1.ReasonIssuerCAInvalid},
		"a key":   {string(ca.Key), v1alpha1.ReasonIssuerCAInvalid},
		"huge":    {strings.Repeat("\n", contract.MaxAuthoritiesBytes) + string(ca.Certificate), v1alpha1.ReasonIssuerCAInvalid},
	} {
		change(w, secret, func(s *corev1.Secret) { s.Data["ca.crt"] = []byte(tc.data) })
		c := w.is(broker, v1alpha1.ConditionAuthenticationReady, metav1.ConditionFalse, tc.reason)
		if strings.Contains(c.Message, marker) || !strings.Contains(c.Message, "the keys that the broker had stay in force") {
			t.Errorf("%s: %.300s", name, c.Message)
		}
		if !vouching(ca)(w.config("mq")) {
			t.Errorf("%s: the old CA must stay", name)
		}
		change(w, secret, func(s *corev1.Secret) { s.Data["ca.crt"] = ca.Certificate })
		w.ready(broker)
	}
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Authentication.JWT[0].JWKS.CASecretRef.Key = new("other") })
	w.is(broker, v1alpha1.ConditionAuthenticationReady, metav1.ConditionFalse, v1alpha1.ReasonSecretKeyMissing)
	change(w, secret, func(s *corev1.Secret) { s.Data["other"] = other.Certificate })
	w.ready(broker)
	w.finds("the other CA alone vouches", "mq", vouching(other))
	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Spec.Authentication.JWT[0].JWKS.CASecretRef = nil })
	w.ready(broker)
	w.finds("the public ones do again", "mq", vouching(pki.Pair{}))
}

// references are all fields of an MQTTBroker that name a Secret or ConfigMap, with the condition that speaks of them.
var references = map[string]struct {
	set  func(b *v1alpha1.MQTTBroker, name string)
	kind v1alpha1.ConditionType
	keys []string
}{
	"tls.secretRef": {func(b *v1alpha1.MQTTBroker, name string) {
		gen.WithListener(gen.FromSecret("other", 8884, name))(b)
	}, v1alpha1.ConditionTLSReady, []string{"tls.crt"}},
	"tls.clientCASecretRef": {func(b *v1alpha1.MQTTBroker, name string) {
		b.Spec.Listeners[0].TLS.ClientAuth = new(v1alpha1.ClientAuthOptional)
		b.Spec.Listeners[0].TLS.ClientCASecretRef = &v1alpha1.SecretKeyReference{Name: name}
	}, v1alpha1.ConditionTLSReady, []string{"ca.crt"}},
	"tls.crlSecretRef": {func(b *v1alpha1.MQTTBroker, name string) {
		b.Spec.Listeners[0].TLS.ClientAuth = new(v1alpha1.ClientAuthOptional)
		b.Spec.Listeners[0].TLS.CRLSecretRef = &v1alpha1.SecretKeyReference{Name: name, Key: new("ca.key")}
	}, v1alpha1.ConditionTLSReady, []string{"ca.key"}},
	"jwks.secretRef": {func(b *v1alpha1.MQTTBroker, name string) {
		b.Spec.Authentication = &v1alpha1.BrokerAuthentication{JWT: []v1alpha1.JWTIssuer{{
			Issuer: "i", Audiences: []string{"a"}, JWKS: v1alpha1.JWKSource{SecretRef: &v1alpha1.SecretKeyReference{Name: name, Key: new("password")}},
		}}}
	}, v1alpha1.ConditionAuthenticationReady, []string{"password"}},
	"jwks.caSecretRef": {func(b *v1alpha1.MQTTBroker, name string) {
		b.Spec.Authentication = &v1alpha1.BrokerAuthentication{JWT: []v1alpha1.JWTIssuer{{
			Issuer: "i", Audiences: []string{"a"}, JWKS: v1alpha1.JWKSource{URL: new("https://i/"), CASecretRef: &v1alpha1.SecretKeyReference{Name: name}},
		}}}
	}, v1alpha1.ConditionAuthenticationReady, []string{"ca.crt"}},
	"jwks.configMapRef": {func(b *v1alpha1.MQTTBroker, name string) {
		b.Spec.Authentication = &v1alpha1.BrokerAuthentication{JWT: []v1alpha1.JWTIssuer{{
			Issuer: "i", Audiences: []string{"a"}, JWKS: v1alpha1.JWKSource{ConfigMapRef: &v1alpha1.ConfigMapKeyReference{Name: name}},
		}}}
	}, v1alpha1.ConditionAuthenticationReady, []string{"jwks.json"}},
}

// TestEveryReferenceIsTried: no field that names a Secret or ConfigMap is missing among those that attacks are tried with.
func TestEveryReferenceIsTried(t *testing.T) {
	broker, user := map[string]bool{}, map[string]bool{}
	referencesOf(reflect.TypeFor[v1alpha1.MQTTBrokerSpec](), "", broker)
	referencesOf(reflect.TypeFor[v1alpha1.MQTTUserSpec](), "", user)
	if got, want := slices.Sorted(maps.Keys(broker)), slices.Sorted(maps.Keys(references)); !slices.Equal(got, want) {
		t.Errorf("an MQTTBroker has the references %q; tried are %q", got, want)
	}
	// Those of TestNoReferenceTellsWhatASecretHolds.
	if got := slices.Sorted(maps.Keys(user)); !slices.Equal(got, []string{"password.hashSecretRef", "password.secretRef"}) {
		t.Errorf("an MQTTUser has the references %q", got)
	}
}

// referencesOf adds the fields below a type that name a Secret or ConfigMap, each with the field around it.
func referencesOf(typ reflect.Type, around string, found map[string]bool) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || typ.PkgPath() != reflect.TypeFor[v1alpha1.MQTTBrokerSpec]().PkgPath() {
		return
	}
	for field := range typ.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch field.Type {
		case reflect.TypeFor[*v1alpha1.SecretReference](), reflect.TypeFor[*v1alpha1.SecretKeyReference](), reflect.TypeFor[*v1alpha1.ConfigMapKeyReference]():
			found[around+"."+name] = true
		default:
			referencesOf(field.Type, name, found)
		}
	}
}

// TestEveryReferenceOpensOnlyWhatIsLabelled: whatever a person who may write an MQTTBroker points at, the answer is the
// one for what is not there, and nothing of the content shows anywhere.
func TestEveryReferenceOpensOnlyWhatIsLabelled(t *testing.T) {
	w := newWorld(t)
	theirs := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "theirs-"}}
	w.create(theirs)
	victim := gen.Broker(w.namespace, "victim")
	victim.Spec.Listeners[0].TLS.ClientAuth = new(v1alpha1.ClientAuthOptional)
	alice := gen.User(w.namespace, "alice", "victim")
	data := map[string]string{}
	for _, reference := range references {
		for _, key := range reference.keys {
			data[key] = marker
		}
	}
	unlabelled, elsewhere := gen.Secret(w.namespace, "unlabelled", data), gen.Secret(theirs.Name, "elsewhere", data)
	unlabelled.Labels = nil
	maps1 := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "unlabelled"}, Data: data}
	maps2 := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: theirs.Name, Name: "elsewhere", Labels: elsewhere.Labels}, Data: data}
	w.create(victim, alice, unlabelled, elsewhere, maps1, maps2)
	w.ready(victim, alice)
	targets := []string{
		"unlabelled", "elsewhere", v1alpha1.CASecretName("victim"), v1alpha1.ClientCASecretName("victim"), v1alpha1.AdminCASecretName("victim"),
		v1alpha1.ConfigSecretName("victim"), v1alpha1.BindingSecretName("alice"), v1alpha1.VerifierSecretName("alice"),
	}
	for field, reference := range references {
		thief := gen.Broker(w.namespace, "thief")
		reference.set(thief, "missing")
		w.create(thief)
		answer := ""
		for _, target := range append([]string{"missing"}, targets...) {
			change(w, thief, func(b *v1alpha1.MQTTBroker) {
				b.Spec = gen.Broker(w.namespace, "thief").Spec
				reference.set(b, target)
			})
			var said *metav1.Condition
			w.eventually(field+" at "+target+" is answered", func() error {
				must(t, k8s.Get(t.Context(), client.ObjectKeyFromObject(thief), thief))
				said = meta.FindStatusCondition(thief.Status.Conditions, string(reference.kind))
				if said == nil || said.ObservedGeneration != thief.Generation || said.Status != metav1.ConditionFalse || !strings.HasSuffix(said.Reason, "NotUsable") {
					return fmt.Errorf("it is %+v", said)
				}
				return nil
			})
			text := said.Reason + strings.ReplaceAll(said.Message, target, "X")
			if answer == "" {
				answer = text
			}
			if text != answer {
				t.Errorf("%s at %s is told apart from one that is not there:\n%s\n%s", field, target, text, answer)
			}
		}
		w.eventually("the thief has a configuration", func() error {
			return k8s.Get(t.Context(), client.ObjectKey{Namespace: w.namespace, Name: v1alpha1.ConfigSecretName("thief")}, &corev1.Secret{})
		})
		w.holdsNoMarker("thief")
		must(t, k8s.Delete(t.Context(), thief))
		w.wipe("thief")
	}
}

// wipe deletes what a garbage collector would, and waits for the pod to go.
func (w *world) wipe(broker string) {
	w.t.Helper()
	match := []client.DeleteAllOfOption{client.InNamespace(w.namespace), client.MatchingLabels{v1alpha1.LabelBroker: broker}}
	for _, object := range []client.Object{&corev1.Secret{}, &corev1.ServiceAccount{}} {
		must(w.t, k8s.DeleteAllOf(w.t.Context(), object, match...))
	}
	services := &corev1.ServiceList{}
	must(w.t, k8s.List(w.t.Context(), services, client.InNamespace(w.namespace), client.MatchingLabels{v1alpha1.LabelBroker: broker}))
	for i := range services.Items {
		must(w.t, client.IgnoreNotFound(k8s.Delete(w.t.Context(), &services.Items[i])))
	}
	set := &unstructured.Unstructured{}
	set.SetAPIVersion("apps/v1")
	set.SetKind("StatefulSet")
	set.SetNamespace(w.namespace)
	set.SetName(v1alpha1.StatefulSetName(broker))
	must(w.t, client.IgnoreNotFound(k8s.Delete(w.t.Context(), set)))
	w.gone(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: v1alpha1.PodName(broker, 0)}})
}

// holdsNoMarker searches everything that the operator wrote for a broker.
func (w *world) holdsNoMarker(broker string) {
	w.t.Helper()
	b := &v1alpha1.MQTTBroker{}
	must(w.t, k8s.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: broker}, b))
	texts := map[string]string{"status": fmt.Sprintf("%+v", b.Status)}
	secrets := &corev1.SecretList{}
	must(w.t, k8s.List(w.t.Context(), secrets, client.InNamespace(w.namespace), client.MatchingLabels{v1alpha1.LabelBroker: broker}))
	for i := range secrets.Items {
		for key, value := range secrets.Items[i].Data {
			texts[secrets.Items[i].Name+" "+key] = string(value)
		}
	}
	events := &unstructured.UnstructuredList{}
	events.SetAPIVersion("events.k8s.io/v1")
	events.SetKind("EventList")
	must(w.t, k8s.List(w.t.Context(), events, client.InNamespace(w.namespace)))
	for i := range events.Items {
		texts["event "+events.Items[i].GetName()] = fmt.Sprint(events.Items[i].Object)
	}
	for where, text := range texts {
		if strings.Contains(text, marker) {
			w.t.Errorf("%s repeats what nobody allowed the operator to read", where)
		}
	}
}

// TestTheCacheHoldsOnlyWhatIsLabelled, so that the operator's memory does not grow with the cluster.
func TestTheCacheHoldsOnlyWhatIsLabelled(t *testing.T) {
	w := newWorld(t)
	const strangers = 500
	for i := range strangers {
		name := fmt.Sprintf("stranger-%d", i)
		w.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}}, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}})
	}
	w.create(gen.Secret(w.namespace, "known", nil), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "known", Labels: map[string]string{v1alpha1.LabelAllow: v1alpha1.AllowReference}}})
	for _, list := range []client.ObjectList{&corev1.SecretList{}, &corev1.ConfigMapList{}} {
		w.eventually(fmt.Sprintf("%T holds what is known", list), func() error {
			must(t, w.operator.GetCache().List(t.Context(), list))
			var names []string
			must(t, meta.EachListItem(list, func(o runtimeObject) error {
				if object, ok := o.(client.Object); ok {
					names = append(names, object.GetName())
				}
				return nil
			}))
			if !slices.Equal(names, []string{"known"}) {
				return fmt.Errorf("it holds %d: %.100v", len(names), names)
			}
			return nil
		})
	}
}

// TestRotationOfTheCAs with clients that follow at once: a connection that is open stays open, users get the new CA.
func TestRotationOfTheCAs(t *testing.T) {
	w := newWorld(t)
	broker, alice := gen.Broker(w.namespace, "mq"), gen.User(w.namespace, "alice", "mq")
	broker.Spec.CA = &v1alpha1.BrokerCA{ClientGrace: &metav1.Duration{}}
	broker.Spec.Listeners[0].TLS.ClientAuth = new(v1alpha1.ClientAuthOptional)
	w.create(broker, alice)
	w.ready(broker, alice)
	binding := w.secret(v1alpha1.BindingSecretName("alice"))
	conn, code, err := w.kubelet.open("mq", "alice", string(binding.Data["password"]))
	must(t, err)
	defer conn.Close()
	if code != 0 {
		t.Fatalf("return code %d", code)
	}
	pod := w.kubelet.pod("mq").UID

	change(w, broker, func(b *v1alpha1.MQTTBroker) { b.Annotations = map[string]string{v1alpha1.AnnotationRotateCA: "spring"} })
	w.eventually("both CAs are through", func() error {
		must(t, k8s.Get(t.Context(), client.ObjectKeyFromObject(broker), broker))
		for _, ca := range []*v1alpha1.CAStatus{broker.Status.CA, broker.Status.ClientCA} {
			if ca == nil || *ca.Generation != 2 || ca.Phase != v1alpha1.CAStable {
				return fmt.Errorf("one is %+v", ca)
			}
		}
		return nil
	})
	w.ready(broker, alice)
	if w.kubelet.pod("mq").UID != pod {
		t.Error("it restarted the broker")
	}
	if _, err := conn.Write([]byte{0xC0, 0}); err != nil {
		t.Errorf("the connection from before is gone: %v", err)
	}
	var pong [2]byte
	if _, err := io.ReadFull(conn, pong[:]); err != nil || pong[0] != 0xD0 {
		t.Errorf("the connection from before is gone: %v %v", pong, err)
	}
	w.eventually("the binding holds the new CA alone", func() error {
		if got := w.secret(binding.Name).Data["ca.crt"]; !bytes.Equal(got, w.secret("mq-ca").Data["ca.crt"]) || bytes.Equal(got, binding.Data["ca.crt"]) || bytes.Count(got, []byte("BEGIN")) != 1 {
			return errors.New("it is another one")
		}
		return nil
	})
	w.kubelet.mustConnect("mq", "alice", string(binding.Data["password"]))
}

// certificateKind is as much of cert-manager as the operator knows.
func certificateKind() *apiextensionsv1.CustomResourceDefinition {
	kind := desired.CertificateKind()
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "certificates." + kind.Group},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: kind.Group, Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "certificates", Singular: "certificate", Kind: kind.Kind, ListKind: "CertificateList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: kind.Version, Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
					Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{"spec": {Type: "object", XPreserveUnknownFields: new(true)}},
				}},
			}},
		},
	}
}

// TestCertManager: absent, then there, then not wanted any more.
func TestCertManager(t *testing.T) {
	w := newWorld(t)
	broker, alice := gen.Broker(w.namespace, "mq"), gen.User(w.namespace, "alice", "mq")
	broker.Spec.Listeners[0].TLS = &v1alpha1.ListenerTLS{IssuerRef: &v1alpha1.IssuerReference{Name: "plant"}}
	gen.WithListener(gen.Plain("mqtt", 1883))(broker)
	w.create(broker, alice)
	c := w.is(broker, v1alpha1.ConditionTLSReady, metav1.ConditionFalse, v1alpha1.ReasonCertManagerMissing)
	if !strings.Contains(c.Message, "install it, or use selfManaged") {
		t.Errorf("the message must say the next move: %s", c.Message)
	}
	w.is(broker, v1alpha1.ConditionConfigApplied, metav1.ConditionTrue, v1alpha1.ReasonConfigApplied)

	_, err := envtest.InstallCRDs(apiServer, envtest.CRDInstallOptions{CRDs: []*apiextensionsv1.CustomResourceDefinition{certificateKind()}})
	must(t, err)
	t.Cleanup(func() {
		must(t, envtest.UninstallCRDs(apiServer, envtest.CRDInstallOptions{CRDs: []*apiextensionsv1.CustomResourceDefinition{certificateKind()}}))
	})
	w.is(broker, v1alpha1.ConditionTLSReady, metav1.ConditionFalse, v1alpha1.ReasonCertificatePending)
	certificate := desired.EmptyCertificate(w.namespace, "mq-mqtts-issued")
	w.exists(certificate)
	if !metav1.IsControlledBy(certificate, broker) {
		t.Error("the Certificate must go with its broker")
	}
	issuer, _, _ := unstructured.NestedStringMap(certificate.Object, "spec", "issuerRef")
	if !maps.Equal(issuer, map[string]string{"name": "plant", "kind": "Issuer", "group": "cert-manager.io"}) {
		t.Errorf("the issuer is %v", issuer)
	}
	ca := w.sign(certificate)
	w.ready(broker, alice)
	if got := w.secret(v1alpha1.BindingSecretName("alice")).Data["ca.crt"]; !bytes.Equal(got, ca) {
		t.Error("the binding must hold the CA that the issuer named")
	}
	if w.config("mq").Pairs["mqtts"].Certificate != string(w.secret("mq-mqtts-issued").Data["tls.crt"]) {
		t.Error("the listener must show what was issued")
	}
	if broker.Status.Listeners[0].CertNotAfter == nil || !slices.Equal(broker.Status.Certificates, []string{"mq-mqtts-issued"}) {
		t.Errorf("status: %+v %v", broker.Status.Listeners[0], broker.Status.Certificates)
	}

	// What is issued is checked as any other.
	issued := w.secret("mq-mqtts-issued")
	good := issued.Data["tls.key"]
	change(w, issued, func(s *corev1.Secret) { s.Data["tls.key"] = []byte(marker) })
	w.is(broker, v1alpha1.ConditionTLSReady, metav1.ConditionFalse, v1alpha1.ReasonCertificateInvalid)
	w.holdsNoMarker("mq")
	change(w, issued, func(s *corev1.Secret) { s.Data["tls.key"] = good })
	w.ready(broker)

	change(w, broker, func(b *v1alpha1.MQTTBroker) {
		b.Spec.Listeners[0].TLS = &v1alpha1.ListenerTLS{SelfManaged: &v1alpha1.SelfManagedTLS{}}
	})
	w.gone(certificate)
	w.ready(broker)
}

// sign stands in for cert-manager: it fulfils a Certificate once and returns the CA.
func (w *world) sign(certificate *unstructured.Unstructured) []byte {
	w.t.Helper()
	names, _, _ := unstructured.NestedStringSlice(certificate.Object, "spec", "dnsNames")
	labels, _, _ := unstructured.NestedStringMap(certificate.Object, "spec", "secretTemplate", "labels")
	name, _, _ := unstructured.NestedString(certificate.Object, "spec", "secretName")
	ca, err := pki.NewCA("issuer", time.Now())
	must(w.t, err)
	pair, err := pki.Issue(ca, pki.Request{DNSNames: names, Server: true}, time.Now())
	must(w.t, err)
	w.create(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name, Labels: labels}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"tls.crt": pair.Certificate, "tls.key": pair.Key, "ca.crt": ca.Certificate},
	})
	for _, host := range []string{"mq-mqtts." + w.namespace + ".svc", "mq-broker-0.mq-headless." + w.namespace + ".svc", "localhost"} {
		leaf, err := pki.Leaf(pair.Certificate)
		must(w.t, err)
		if err := leaf.VerifyHostname(host); err != nil {
			w.t.Error(err)
		}
	}
	return ca.Certificate
}
