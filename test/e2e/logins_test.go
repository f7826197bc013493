// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/test/scram"
)

// tokenMethod is the method of enhanced authentication by which a token comes.
const tokenMethod = "OAUTH2-JWT"

// A password, and what mosquitto_passwd 2.0.11 makes of it.
const (
	importedPassword = "hunter2-hunter2"
	importedPBKDF2   = "$7$101$25Ot3ucMcS92Sfxi$AIm2VeanRdh279SrakQRTEMett8nEK7JOYzyimNp0ZMUNFOUTUTJh+iOU17gRZHCyv72Tl1dLjaM51KMtRDG/w=="
	importedSHA512   = "$6$rADe2xzpaiRpeCjN$LaCTS4pcyIH3x8S3RWcRKoXlGYXqGNGthKeeNoKmAM/NcVoep33TGoLdkqU93R8wz+ZwcTfZKjI26B5MivKrww=="
)

// askForCertificates has the broker's first listener ask clients for certificates.
func askForCertificates(b *v1alpha1.MQTTBroker) {
	b.Spec.Listeners[0].TLS.ClientAuth = new(v1alpha1.ClientAuthOptional)
}

func byCertificate(u *v1alpha1.MQTTUser) {
	u.Spec.Authentication = v1alpha1.UserAuthentication{Certificate: &v1alpha1.UserCertificate{}}
}

func byToken(u *v1alpha1.MQTTUser) {
	u.Spec.Authentication = v1alpha1.UserAuthentication{JWT: &v1alpha1.UserJWT{}}
}

func byServiceAccount(name string) gen.UserOption {
	return func(u *v1alpha1.MQTTUser) {
		u.Spec.Authentication = v1alpha1.UserAuthentication{ServiceAccount: &v1alpha1.UserServiceAccount{Name: name}}
	}
}

// TestCertificateLogin: the operator issues a client certificate, real clients use it, and what ends it ends it at once.
func TestCertificateLogin(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.broker(askForCertificates)
	pod := s.pod()
	s.user("steady", allow("steady"))
	others := s.pulse("steady", "steady")
	press := s.user("press", byCertificate, allow("hall/#"))
	b := mustBinding(s, "press")
	if b.password != "" || len(b.certificate) == 0 || len(b.key) == 0 {
		t.Fatalf("the binding of a user with a certificate holds a password, or no certificate")
	}

	c := s.connect("press")
	s.mustSubscribe(c, "hall/#")
	dir := t.TempDir()
	files := map[string][]byte{"ca.crt": b.ca, "tls.crt": b.certificate, "tls.key": b.key}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	if _, err := output(exec.CommandContext(ctx, "mosquitto_pub", "-h", b.host, "-p", b.port, "--cafile", filepath.Join(dir, "ca.crt"),
		"--cert", filepath.Join(dir, "tls.crt"), "--key", filepath.Join(dir, "tls.key"), "-q", "1", "-t", "hall/mosquitto", "-m", "hello")); err != nil {
		t.Errorf("mosquitto_pub by certificate: %v", err)
	} else {
		s.hears(c, "hall/mosquitto", "hello")
	}
	python := exec.CommandContext(ctx, "/usr/bin/python3", filepath.Join("testdata", "client.py"), "5", "say", "hall/python", "hello")
	python.Env = append(os.Environ(), "MQTT_HOST="+b.host, "MQTT_PORT="+b.port, "MQTT_CA="+filepath.Join(dir, "ca.crt"),
		"MQTT_CERT="+filepath.Join(dir, "tls.crt"), "MQTT_KEY="+filepath.Join(dir, "tls.key"))
	if _, err := output(python); err != nil {
		t.Errorf("Python's paho by certificate: %v", err)
	} else {
		s.hears(c, "hall/python", "hello")
	}
	if err := refusedWith(c.publish("elsewhere", "x"), notAuthorized); err != nil {
		t.Errorf("a message without a grant: %v", err)
	}

	s.sayf("the user is suspended while it is connected")
	changed := time.Now()
	s.update(press, func() { press.Spec.Suspend = new(true) })
	out := s.awaitEnd(c).Sub(changed)
	s.sayf("its connection ended %.2fs after the change was sent: %v", out.Seconds(), c.ended()) // beside other stories
	if _, err := connectWith(b, session{}); err == nil {
		t.Error("a suspended user was let in")
	}
	s.update(press, func() { press.Spec.Suspend = nil })
	s.awaitReady(press)
	c = s.connect("press")

	s.sayf("the user is deleted and made again: the certificate of before must not open")
	s.remove(press)
	s.awaitEnd(c)
	s.eventually(patience, "the binding is gone", func() error {
		return s.isGone(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: v1alpha1.BindingSecretName("press")}})
	})
	s.user("press", byCertificate, allow("hall/#"))
	if _, err := connectWith(b, session{}); err == nil {
		t.Error("the certificate of a deleted user opens the one of the same name")
	}
	s.connect("press")
	s.beat(others)
	s.samePod(pod)
}

// tokensOf has the broker believe an issuer, whose keys stand in a ConfigMap.
func tokensOf(i *issuer, keys string) gen.BrokerOption {
	return func(b *v1alpha1.MQTTBroker) {
		b.Spec.Authentication = &v1alpha1.BrokerAuthentication{JWT: []v1alpha1.JWTIssuer{{
			Issuer: i.url, Audiences: []string{audience},
			JWKS: v1alpha1.JWKSource{ConfigMapRef: &v1alpha1.ConfigMapKeyReference{Name: keys}},
		}}}
	}
}

// TestTokenLogin: a real OpenID provider gives tokens, and a token ends when it says so.
func TestTokenLogin(t *testing.T) {
	t.Parallel()
	s := begin(t)
	i := s.issuer(
		issuerClient{ID: "press", Secret: random(24), Seconds: 3600},
		issuerClient{ID: "brief", Secret: random(24), Seconds: 6},
		issuerClient{ID: "stranger", Secret: random(24), Seconds: 3600},
		issuerClient{ID: "machine", Secret: random(24), Seconds: 3600},
	)
	keys := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "issuer-keys", Labels: map[string]string{v1alpha1.LabelAllow: v1alpha1.AllowReference}},
		Data:       map[string]string{"jwks.json": i.keys(s)},
	}
	s.create(keys)
	s.broker(tokensOf(i, keys.Name))
	pod := s.pod()
	for _, name := range []string{"press", "brief"} {
		s.user(name, byToken, allow("hall/#"))
	}
	s.user("machine", allow("#")) // by password, so that no token opens it
	at := func(token string) binding {
		b := mustBinding(s, "press")
		b.username, b.password = "", token
		return b
	}

	var c *mqttClient
	s.eventually(patience, "the way to the broker is open", func() (err error) {
		c, err = connectWith(at(i.token(s, "press")), session{clientID: "press-1"})
		return err
	})
	s.sayf("press is in by its token")
	s.mustSubscribe(c, "hall/#")
	s.mustPublish(c, "hall/1", "hello")
	s.hears(c, "hall/1", "hello")
	for _, name := range []string{"stranger", "machine"} {
		if _, err := connectWith(at(i.token(s, name)), session{}); err == nil {
			t.Errorf("%s was let in by a token, and no MQTTUser says that it may", name)
		}
	}
	broken := i.token(s, "press")
	broken = broken[:len(broken)-8] + "AAAAAAAA"
	if _, err := connectWith(at(broken), session{}); err == nil {
		t.Error("a token with another signature was believed")
	}

	s.sayf("brief has a token for a few seconds, and does not renew it")
	quick, err := connectWith(at(i.token(s, "brief")), session{})
	if err != nil {
		t.Fatal(err)
	}
	s.awaitEnd(quick)
	if quick.reason != notAuthorized {
		t.Errorf("an expired token ends its connection with %#x: %v", quick.reason, quick.ended())
	}

	s.sayf("brief comes again by enhanced authentication, and renews its token in time")
	b := at("")
	renewing, err := connectWith(b, session{clientID: "brief-1", method: tokenMethod, proof: []byte(i.token(s, "brief"))})
	if err != nil {
		t.Fatal(err)
	}
	firstEnds := time.Now().Add(6 * time.Second)
	s.eventually(patience, "three tokens have been used up", func() error {
		answer, err := renewing.paho.Authenticate(s.ctx, &paho.Auth{ReasonCode: 0x19, Properties: &paho.AuthProperties{AuthMethod: tokenMethod, AuthData: []byte(i.token(s, "brief"))}})
		switch {
		case err != nil:
			t.Fatalf("re-authentication: %v", err)
		case !answer.Success:
			t.Fatalf("re-authentication was refused: %#x", answer.ReasonCode)
		case renewing.ended() != nil:
			t.Fatalf("a client that renews its token lost its connection: %v", renewing.ended())
		case time.Now().Before(firstEnds.Add(2 * time.Second)):
			return errors.New("the first one may still be valid")
		}
		return nil
	})

	s.sayf("the issuer is out: tokens of before open all the same")
	spare := i.token(s, "press")
	i.stop()
	if _, err := connectWith(at(spare), session{}); err != nil {
		t.Errorf("a good token while the issuer is out: %v", err)
	}
	s.sayf("the issuer is back with another key")
	i.start(s)
	if _, err := connectWith(at(i.token(s, "press")), session{}); err == nil {
		t.Error("a token of a key that nobody has told the broker was believed")
	}
	s.update(keys, func() { keys.Data["jwks.json"] = i.keys(s) })
	s.eventually(patience, "the broker has learnt of the new key", func() (err error) {
		_, err = connectWith(at(i.token(s, "press")), session{})
		return err
	})
	if err := c.ended(); err != nil {
		t.Errorf("press lost its connection: %v", err)
	}
	s.samePod(pod)
}

// TestTokenLoginByURL: the broker itself fetches the keys of an issuer whose certificate a private CA signed, and goes on
// believing them while the issuer is out, after a restart of its own too.
func TestTokenLoginByURL(t *testing.T) {
	t.Parallel()
	s := begin(t)
	i := s.issuer(
		issuerClient{ID: "press", Secret: random(24), Seconds: 3600},
		issuerClient{ID: "brief", Secret: random(24), Seconds: 3600},
	)
	broker := s.broker(withVolume, func(b *v1alpha1.MQTTBroker) {
		b.Spec.Authentication = &v1alpha1.BrokerAuthentication{JWT: []v1alpha1.JWTIssuer{{
			Issuer: i.url, Audiences: []string{audience}, JWKS: v1alpha1.JWKSource{URL: new(i.url + "/jwks")},
		}}}
	})
	for _, name := range []string{"press", "brief"} {
		s.user(name, byToken, allow("hall/#"))
	}
	at := func(token string) binding {
		b := mustBinding(s, "press")
		b.username, b.password = "", token
		return b
	}
	s.eventually(patience, "a token of an issuer that no public CA vouches for is refused, and not for its client's fault", func() error {
		_, err := connectWith(at(i.token(s, "press")), session{})
		return refusedWith(err, serverUnavailable)
	})

	s.sayf("the issuer's CA is named before its Secret is there")
	s.update(broker, func() {
		broker.Spec.Authentication.JWT[0].JWKS.CASecretRef = &v1alpha1.SecretKeyReference{Name: "issuer-ca"}
	})
	s.sayf("%s", s.await(broker, v1alpha1.ConditionAuthenticationReady, metav1.ConditionFalse, v1alpha1.ReasonIssuerCANotUsable))
	s.create(gen.Secret(s.namespace, "issuer-ca", map[string]string{"ca.crt": string(i.ca)}))
	s.awaitReady(broker)
	var c *mqttClient
	took := s.eventually(patience, "a token of the issuer opens", func() (err error) {
		c, err = connectWith(at(i.token(s, "press")), session{clientID: "press-1"})
		return err
	})
	s.sayf("press is in by its token %.2fs after the broker was ready", took.Seconds())
	s.mustSubscribe(c, "hall/#")
	s.mustPublish(c, "hall/1", "hello")
	s.hears(c, "hall/1", "hello")

	spare := []string{i.token(s, "press"), i.token(s, "brief")}
	i.kill(s)
	s.sayf("the issuer's process was killed: a token of before opens, of a user too who never came while it was there")
	for _, token := range spare {
		if _, err := connectWith(at(token), session{}); err != nil {
			t.Errorf("a good token while the issuer is out: %v", err)
		}
	}

	s.sayf("the broker's pod is deleted while the issuer is out")
	before := s.pod()
	s.remove(before)
	s.awaitEnd(c)
	s.eventually(patience, "another pod is ready", func() error {
		now := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: before.Name}}
		if err := s.get(now); err != nil {
			return err
		}
		if now.UID == before.UID {
			return errors.New("it is still the old one")
		}
		return nil
	})
	for _, token := range spare {
		took := s.eventually(patience, "a token of before opens the new pod", func() error {
			_, err := connectWith(at(token), session{})
			return err
		})
		s.sayf("a token of before opens %.2fs later, without the issuer", took.Seconds())
	}

	s.sayf("the issuer is back with another key")
	i.start(s)
	took = s.eventually(patience, "the broker has learnt of the new key by itself", func() (err error) {
		_, err = connectWith(at(i.token(s, "press")), session{})
		return err
	})
	s.sayf("a token of the new key opens after %.2fs; the broker asks every 30 s at most", took.Seconds())
}

// TestServiceAccountLogin: pods show the token of their ServiceAccount, and the broker checks it without asking anybody.
func TestServiceAccountLogin(t *testing.T) {
	t.Parallel()
	s := begin(t)
	for _, name := range []string{"press", "other"} {
		s.create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name}})
	}
	s.broker(func(b *v1alpha1.MQTTBroker) {
		b.Spec.Authentication = &v1alpha1.BrokerAuthentication{ServiceAccounts: &v1alpha1.ServiceAccountTokens{Audiences: []string{audience}}}
	})
	s.user("press-1", byServiceAccount("press"), allow("hall/#"))
	token := func(account, audience string) binding {
		request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}, ExpirationSeconds: new(int64(3600))}}
		got, err := core.CoreV1().ServiceAccounts(s.namespace).CreateToken(s.ctx, account, request, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s.secrets.keep("a token of ServiceAccount "+account, got.Status.Token)
		b := mustBinding(s, "press-1")
		b.username, b.password = "", got.Status.Token
		return b
	}
	var c *mqttClient
	s.eventually(patience, "the way to the broker is open", func() (err error) {
		c, err = connectWith(token("press", audience), session{clientID: "press-1"})
		return err
	})
	s.mustSubscribe(c, "hall/#")
	s.mustPublish(c, "hall/1", "hello")
	s.hears(c, "hall/1", "hello")
	if _, err := connectWith(token("press", audience), session{method: "K8S-SAT", proof: []byte(token("press", audience).password)}); err != nil {
		t.Errorf("by enhanced authentication: %v", err)
	}
	for what, b := range map[string]binding{
		"another ServiceAccount":   token("other", audience),
		"a token for the API":      token("press", "https://kubernetes.default.svc"),
		"a token with another end": {host: mustBinding(s, "press-1").host, port: "8883", ca: mustBinding(s, "press-1").ca, password: token("press", audience).password + "x"},
	} {
		if _, err := connectWith(b, session{}); err == nil {
			t.Errorf("%s was let in", what)
		}
	}
}

// TestSCRAMLogin: a client proves that it knows its password without sending it, and learns that the broker knows it too.
func TestSCRAMLogin(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.broker()
	anna := s.user("anna", allow("hall/#"), func(u *v1alpha1.MQTTUser) { u.Spec.Authentication.Password.SCRAM = new(true) })
	s.user("plain", allow("hall/#")) // has a password, and no verifier for SCRAM
	c := s.connect("anna")           // by the password itself, so that the way to the broker is open
	s.mustSubscribe(c, "hall/#")
	by := func(name, password string) (*mqttClient, *scram.Client, error) {
		b := mustBinding(s, anna.Name)
		b.username, b.password = "", ""
		proof := scram.New(name, password, random(16))
		c, err := connectWith(b, session{clientID: "scram-" + random(4), method: scram.Method, proof: proof.Begin(), steps: proof})
		return c, proof, err
	}

	secret, proof, err := by("anna", mustBinding(s, "anna").password)
	if err != nil {
		t.Fatalf("anna by SCRAM-SHA-256: %v", err)
	}
	if proof.Signature == "" || string(secret.proof) != proof.Signature {
		t.Error("the broker did not prove that it knows the password")
	}
	s.mustPublish(secret, "hall/scram", "hello")
	s.hears(c, "hall/scram", "hello")
	if err := refusedWith(secret.publish("elsewhere", "x"), notAuthorized); err != nil {
		t.Errorf("a message without a grant: %v", err)
	}
	for what, err := range map[string]error{
		"a wrong password":        third(by("anna", "wrong")),
		"a user without verifier": third(by("plain", mustBinding(s, "plain").password)),
		"a user who is none":      third(by("nobody", "wrong")),
	} {
		if complaint := refusedWith(err, notAuthorized); complaint != nil {
			t.Errorf("%s: %v", what, complaint)
		}
	}
	for _, method := range []string{"SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "scram-sha-256", "OAUTH2-JWT", "unheard-of"} {
		b := mustBinding(s, "anna") // the right password beside it helps nobody
		if _, err := connectWith(b, session{method: method, proof: scram.New("anna", b.password, random(16)).Begin()}); refusedWith(err, badAuthMethod) != nil {
			t.Errorf("method %s: %v", method, refusedWith(err, badAuthMethod))
		}
	}

	s.sayf("the user loses SCRAM, and who came by it stays out")
	s.update(anna, func() { anna.Spec.Authentication.Password.SCRAM = nil })
	s.eventually(patience, "SCRAM opens nothing any more", func() error {
		_, _, err := by("anna", mustBinding(s, "anna").password)
		return refusedWith(err, notAuthorized)
	})
	s.connect("anna")
}

func third[A, B any](_ A, _ B, err error) error { return err }

// TestImportedPasswords: the file of another broker moves in, and nobody needs another password.
func TestImportedPasswords(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.broker()
	for name, hash := range map[string]string{
		"pbkdf2": importedPBKDF2,
		"sha512": importedSHA512,
	} {
		s.create(gen.Secret(s.namespace, name+"-hash", map[string]string{"hash": hash}))
		s.user(name, allow("#"), func(u *v1alpha1.MQTTUser) {
			u.Spec.Authentication.Password = &v1alpha1.UserPassword{HashSecretRef: &v1alpha1.SecretKeyReference{Name: name + "-hash"}}
		})
		b := mustBinding(s, name)
		b.password = importedPassword
		s.eventually(patience, name+" can connect", func() error {
			_, err := connectWith(b, session{})
			return err
		})
		b.password += "x"
		if _, err := connectWith(b, session{}); refusedWith(err, badUserNameOrPassword) != nil {
			t.Errorf("%s with another password: %v", name, refusedWith(err, badUserNameOrPassword))
		}
	}
}

// TestPasswordsOverlap: after a rotation the old password and the new one both work.
func TestPasswordsOverlap(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.broker()
	machine := s.user("machine", allow("#"))
	before := mustBinding(s, "machine")
	c := s.connect("machine")
	s.update(machine, func() { machine.Annotations = map[string]string{v1alpha1.AnnotationRotate: "once"} })
	s.eventually(patience, "the binding holds another password", func() error {
		now, err := s.binding("machine")
		if err == nil && now.password == before.password {
			err = errors.New("it holds the same one")
		}
		return err
	})
	s.reconnect("machine", session{}) // by the new one
	if _, err := connectWith(before, session{}); err != nil {
		t.Errorf("the old password while both should work: %v", err)
	}
	if err := c.ended(); err != nil {
		t.Errorf("the rotation ended a connection: %v", err)
	}
	s.eventually(patience, "status says until when the old password works", func() error {
		if err := s.get(machine); err != nil {
			return err
		}
		if machine.Status.Password == nil || machine.Status.Password.OldValidUntil == nil {
			return errors.New("it does not")
		}
		return nil
	})
}

// TestSharedPolicy: rules that many users share change in one place.
func TestSharedPolicy(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.broker()
	policy := &v1alpha1.MQTTAccessPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "presses"},
		Spec: v1alpha1.MQTTAccessPolicySpec{
			UserSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"fleet": "presses"}},
			Rules: []v1alpha1.ACLRule{
				{Effect: v1alpha1.ACLAllow, Actions: []v1alpha1.ACLAction{v1alpha1.ACLPublish, v1alpha1.ACLSubscribe}, Filter: "fleet/%u/#"},
				{Effect: v1alpha1.ACLAllow, Actions: []v1alpha1.ACLAction{v1alpha1.ACLSubscribe}, Filter: "news/#"},
			},
		},
	}
	s.create(policy)
	inFleet := func(u *v1alpha1.MQTTUser) { u.Labels = map[string]string{"fleet": "presses"} }
	clients := map[string]*mqttClient{}
	for _, name := range []string{"one", "two"} {
		s.user(name, inFleet)
		clients[name] = s.connect(name)
		s.mustSubscribe(clients[name], "fleet/"+name+"/#", "news/#")
	}
	if err := refusedWith(clients["one"].publish("fleet/two/x", "x"), notAuthorized); err != nil {
		t.Errorf("one speaks in the place of two: %v", err)
	}
	host := s.user("host", allow("#"))
	speaker := s.connect(host.Name)
	s.mustPublish(speaker, "news/1", "for all")
	for _, c := range clients {
		s.hears(c, "news/1", "for all")
	}
	s.eventually(patience, "the policy counts its users", func() error {
		if err := s.get(policy); err != nil {
			return err
		}
		if n := policy.Status.BoundUsers; n == nil || *n != 2 {
			return errors.New("it does not say 2")
		}
		return nil
	})
	s.sayf("the policy loses its second rule")
	changed := time.Now()
	s.update(policy, func() { policy.Spec.Rules = policy.Spec.Rules[:1] })
	s.eventually(patience, "no news is delivered any more", func() error {
		s.mustPublish(speaker, "news/1", "late")
		s.mustPublish(speaker, "fleet/one/x", "end of round")
		if heard := s.hears(clients["one"], "fleet/one/x", "end of round"); len(heard) > 0 {
			return errors.New("it heard " + strings.Join(heard, "; "))
		}
		return nil
	})
	s.sayf("delivery stopped within %.2fs after the change was sent", time.Since(changed).Seconds()) // beside other stories
}

// TestOtherNamespace: a broker lets in users of namespaces that it names, and others learn nothing.
func TestOtherNamespace(t *testing.T) {
	t.Parallel()
	home, away := begin(t), begin(t)
	broker := home.broker()
	guest := gen.User(away.namespace, "guest", brokerName, allow("#"))
	guest.Spec.BrokerRef.Namespace = &home.namespace
	away.create(guest)
	message := away.await(guest, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonBrokerNotFound)
	nobody := gen.User(away.namespace, "nobody", "no-such-broker", allow("#"))
	nobody.Spec.BrokerRef.Namespace = &home.namespace
	away.create(nobody)
	other := away.await(nobody, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonBrokerNotFound)
	if strings.ReplaceAll(other, "no-such-broker", brokerName) != message {
		t.Errorf("who asks learns whether a broker exists:\n%s\n%s", message, other)
	}
	home.sayf("the broker lets users of all namespaces in")
	home.update(broker, func() { broker.Spec.AllowedNamespaces = &v1alpha1.AllowedNamespaces{From: new(v1alpha1.NamespacesAll)} })
	away.awaitReady(guest)
	c := away.connect("guest")
	home.sayf("and no longer")
	home.update(broker, func() { broker.Spec.AllowedNamespaces = nil })
	away.awaitEnd(c)
}

// TestCARotation: the broker's own CA is replaced in stages, and nobody who is connected notices.
func TestCARotation(t *testing.T) {
	t.Parallel()
	s := begin(t)
	broker := s.broker(askForCertificates)
	pod := s.pod()
	s.user("steady", allow("steady"))
	others := s.pulse("steady", "steady")
	before := mustBinding(s, "steady")
	s.update(broker, func() {
		broker.Annotations = map[string]string{v1alpha1.AnnotationRotateCA: "once"}
		broker.Spec.CA = &v1alpha1.BrokerCA{ClientGrace: &metav1.Duration{Duration: 2 * time.Second}}
	})
	s.eventually(patience, "clients trust both", func() error {
		now, err := s.binding("steady")
		if err == nil && strings.Count(string(now.ca), "BEGIN CERTIFICATE") < 2 && bytes.Equal(now.ca, before.ca) {
			err = errors.New("the binding holds the old CA alone")
		}
		return err
	})
	s.eventually(patience, "the rotation has ended", func() error {
		now, err := s.binding("steady")
		switch {
		case err != nil:
			return err
		case strings.Count(string(now.ca), "BEGIN CERTIFICATE") != 1 || bytes.Equal(now.ca, before.ca):
			return errors.New("the binding does not hold the new CA alone")
		}
		_, err = now.served()
		return err
	})
	s.awaitReady(broker)
	s.connect("steady")
	s.beat(others)
	s.samePod(pod)
}
