// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/test/mint"
)

// promised is how long after the pod's new revision a connection may stand that the revision does not allow.
const promised = time.Second

// answers are the revisions that the broker's pod has answered, each with the moment of the first answer. It is asked by
// its admin endpoint, as the operator asks it, since status shows the answer only a moment later.
type answers struct {
	mu     sync.Mutex
	latest int64
	first  map[int64]time.Time
	fault  error
}

func (s *story) answers() *answers {
	s.Helper()
	ca, err := s.secret(v1alpha1.AdminCASecretName(brokerName))
	if err != nil {
		s.Fatal(err)
	}
	pair, err := tls.X509KeyPair(ca.Data[desired.ClientCertKey], ca.Data[desired.ClientKeyKey])
	if err != nil {
		s.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Data[desired.CACertKey])
	client := admin.NewClient(net.JoinHostPort(s.pod().Status.PodIP, strconv.Itoa(contract.AdminPort)), &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{pair}, ServerName: desired.AdminServerName(s.namespace, brokerName),
	})
	a := &answers{first: map[int64]time.Time{}}
	ctx, cancel := context.WithCancel(s.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			a.ask(ctx, client)
			select {
			case <-ctx.Done():
			case <-time.After(between):
			}
		}
	}()
	s.Cleanup(func() { cancel(); <-done })
	s.eventually(patience, "the pod answers", func() error {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.latest == 0 {
			return errors.Join(errors.New("it has not yet"), a.fault)
		}
		return nil
	})
	return a
}

func (a *answers) ask(ctx context.Context, client *admin.Client) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	status, err := client.Status(ctx)
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fault = err; err == nil && status.Revision > a.latest {
		a.latest = status.Revision
		a.first[status.Revision] = now
	}
}

func (a *answers) now() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.latest
}

// after is when the first revision after this one was answered; zero: not yet.
func (a *answers) after(revision int64) (first time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for r, at := range a.first {
		if r > revision && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}

// revocations is the story of one broker with somebody for every way to lose a right.
type revocations struct {
	*story

	answers *answers
	host    *mqttClient
	table   []string
}

// rules of everybody here: first they may both, then only what is open.
var (
	openAndSecret = []string{"open/#", "secret/#"}
	openAlone     = openAndSecret[:1]
)

func grants(filters []string) (rules []v1alpha1.ACLRule) {
	for _, filter := range filters {
		rules = append(rules, gen.Rule(v1alpha1.ACLAllow, filter, v1alpha1.ACLSubscribe))
	}
	return rules
}

func mayHear(filters []string) gen.UserOption {
	return func(u *v1alpha1.MQTTUser) { u.Spec.ACL = grants(filters) }
}

// note writes down when something ended that a revision, or a token's end, does not allow. The pod is asked every 25 ms:
// less than zero means that it was over before its answer was seen.
func (r *revocations) note(what string, over time.Time, since string, start time.Time, more string) {
	r.Helper()
	gap := over.Sub(start)
	line := fmt.Sprintf("%s: over %+.3fs after %s%s", what, gap.Seconds(), since, more)
	r.table = append(r.table, line)
	r.sayf("%s", line)
	if gap > promised {
		r.Errorf("%s: it may take %v", line, promised)
	}
}

// noteChange is note for a change that was sent, and answered by the revision after that of before.
func (r *revocations) noteChange(what string, over, sent time.Time, before int64) {
	r.Helper()
	r.note(what, over, "the pod's answer", r.answered(before), fmt.Sprintf(", %.3fs after the change was sent", over.Sub(sent).Seconds()))
}

// cut makes a change that ends a connection, and measures from the pod's answer to the end.
func (r *revocations) cut(what string, c *mqttClient, reason byte, change func()) {
	r.Helper()
	before, sent := r.answers.now(), time.Now()
	change()
	ended := r.awaitEnd(c)
	if c.reason != reason {
		r.Errorf("%s: the connection ended with %#x, not %#x: %v", what, c.reason, reason, c.ended())
	}
	r.noteChange(what, ended, sent, before)
}

func (r *revocations) answered(before int64) (at time.Time) {
	r.Helper()
	r.eventually(patience, "the pod answers another revision", func() error {
		if at = r.answers.after(before); at.IsZero() {
			return errors.New("it has not yet")
		}
		return nil
	})
	return at
}

// leavesMail has a session with subscriptions to all wait for its client, with one secret message and an open one.
func (r *revocations) leavesMail(c *mqttClient) {
	r.Helper()
	r.mustSubscribe(c, openAndSecret...)
	c.leave()
	r.mustPublish(r.host, "secret/waiting", "x")
	r.mustPublish(r.host, "open/waiting", "x")
}

// findsOnlyOpenMail looks into a session that has been taken up again, whose rights are openAlone now.
func (r *revocations) findsOnlyOpenMail(what string, c *mqttClient) {
	r.Helper()
	if !c.present {
		r.Errorf("%s: the session is gone", what)
		return
	}
	heard := r.hears(c, "open/waiting", "x")
	r.mustPublish(r.host, "secret/late", "x")
	r.mustPublish(r.host, "open/late", "x")
	heard = append(heard, r.hears(c, "open/late", "x")...)
	for _, message := range heard {
		if strings.HasPrefix(message, "secret/") {
			r.Errorf("%s: what waited does not obey the new rules: %s", what, message)
		}
	}
	c.leave()
}

// TestRevocationIsLive: what a pod has answered holds within a second, for who is connected and for what waits. It is
// told alone, before those that are told beside each other, so that the times are its own.
func TestRevocationIsLive(t *testing.T) {
	s := begin(t)
	r := &revocations{story: s}
	key := mint.NewKey(t, "k1", "ES256")
	ca, err := pki.NewCA("plant", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	keys := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "issuer-keys", Labels: map[string]string{v1alpha1.LabelAllow: v1alpha1.AllowReference}},
		Data:       map[string]string{"jwks.json": mint.Set(key)},
	}
	lists := gen.Secret(s.namespace, "revoked", map[string]string{"ca.crl": revoking(s, ca, 1)})
	s.create(keys)
	s.create(gen.Secret(s.namespace, "plant-ca", map[string]string{"ca.crt": string(ca.Certificate)}))
	s.create(lists)
	s.broker(askForCertificates, func(b *v1alpha1.MQTTBroker) {
		l := b.Spec.Listeners[0].TLS
		l.ClientCASecretRef = &v1alpha1.SecretKeyReference{Name: "plant-ca"}
		l.CRLSecretRef = &v1alpha1.SecretKeyReference{Name: lists.Name}
		b.Spec.Authentication = &v1alpha1.BrokerAuthentication{JWT: []v1alpha1.JWTIssuer{{
			Issuer: "https://issuer.example", Audiences: []string{audience}, ACLClaim: new("acl"),
			JWKS: v1alpha1.JWKSource{ConfigMapRef: &v1alpha1.ConfigMapKeyReference{Name: keys.Name}},
		}}}
	})
	pod := s.pod()
	s.user("host", allow("#"))
	r.host = s.connect("host")
	steady := s.pulse("host", "steady")
	r.answers = s.answers()
	away := func(user string) session { return session{clientID: user + "-away", expiry: 3600, resume: true} }

	narrowed := s.user("narrowed", mayHear(openAndSecret))
	r.leavesMail(s.connectAs("narrowed", away("narrowed")))
	r.narrows(narrowed)
	r.findsOnlyOpenMail("narrowed rules", s.connectAs("narrowed", away("narrowed")))

	suspended := s.user("suspended", mayHear(openAndSecret))
	r.leavesMail(s.connectAs("suspended", away("suspended")))
	r.cut("suspended user", s.connect("suspended"), administrativeAction, func() {
		s.update(suspended, func() { suspended.Spec.Suspend, suspended.Spec.ACL = new(true), grants(openAlone) })
	})
	s.update(suspended, func() { suspended.Spec.Suspend = nil })
	s.awaitReady(suspended)
	r.findsOnlyOpenMail("suspended user", s.reconnect("suspended", away("suspended")))

	deleted := s.user("deleted", mayHear(openAndSecret))
	r.leavesMail(s.connectAs("deleted", away("deleted")))
	r.cut("deleted user", s.connect("deleted"), notAuthorized, func() { s.remove(deleted) })
	s.eventually(patience, "the user is gone", func() error { return s.isGone(deleted) })
	s.user("deleted", mayHear(openAlone))
	r.findsOnlyOpenMail("deleted user", s.reconnect("deleted", away("deleted")))

	r.revokes(ca, lists, away("revoked"))
	r.expires(key, away("nomad"))
	s.beat(steady)
	s.samePod(pod)
	s.Logf("how long it took\n%s", strings.Join(r.table, "\n"))
}

// stream is messages that flow from one client to another without a pause.
type stream struct {
	came, last atomic.Int64 // how many, and when the last one did, in nanoseconds
	end        func()
}

func (r *revocations) streams(to *mqttClient, topic string) *stream {
	r.Helper()
	f, ended := &stream{}, make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-ended:
				return
			default:
			}
			if err := r.host.publish(topic, "x"); err != nil {
				r.Errorf("the stream: %v", err)
				return
			}
		}
	})
	running.Go(func() {
		for {
			select {
			case <-ended:
				return
			case <-to.messages:
				f.last.Store(time.Now().UnixNano())
				f.came.Add(1)
			}
		}
	})
	f.end = sync.OnceFunc(func() { close(ended); running.Wait() })
	r.Cleanup(f.end)
	return f
}

// narrows takes a right from somebody to whom messages are flowing, and measures until when they flow.
func (r *revocations) narrows(user *v1alpha1.MQTTUser) {
	r.Helper()
	c := r.connect(user.Name)
	r.mustSubscribe(c, openAndSecret...)
	flow := r.streams(c, "secret/stream")
	r.eventually(patience, "messages flow", func() error {
		if flow.came.Load() < 10 {
			return errors.New("they do not yet")
		}
		return nil
	})
	before, sent, already := r.answers.now(), time.Now(), flow.came.Load()
	r.update(user, func() { user.Spec.ACL = grants(openAlone) })
	answered := r.answered(before)
	r.eventually(patience, "the rules have been narrow for a while", func() error {
		if time.Since(answered) < 2*promised {
			return errors.New("not yet")
		}
		return nil
	})
	flow.end()
	if err := c.ended(); err != nil {
		r.Errorf("narrowed rules end no connection: %v", err)
	}
	r.noteChange(fmt.Sprintf("narrowed rules (%d messages came before the change, %d behind it)", already, flow.came.Load()-already), time.Unix(0, flow.last.Load()), sent, before)
	r.mustPublish(r.host, "open/after", "x")
	if heard := r.hears(c, "open/after", "x"); len(heard) > 0 {
		r.Errorf("after that there still came %s", strings.Join(heard, "; "))
	}
	if err := refusedWith(c.subscribe("secret/#", 1), notAuthorized); err != nil {
		r.Errorf("the right that was taken: %v", err)
	}
}

// revokes puts a client's certificate on the list of its CA.
func (r *revocations) revokes(ca pki.Pair, lists *corev1.Secret, away session) {
	r.Helper()
	user := r.user("revoked", mayHear(openAndSecret), func(u *v1alpha1.MQTTUser) {
		u.Spec.Authentication = v1alpha1.UserAuthentication{Certificate: &v1alpha1.UserCertificate{Issue: new(false)}}
	})
	issued := func() (binding, *x509.Certificate) {
		pair, err := pki.IssueClient(ca, user.Name, time.Hour, time.Now())
		if err != nil {
			r.Fatal(err)
		}
		block, _ := pem.Decode(pair.Certificate)
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			r.Fatal(err)
		}
		b := mustBinding(r.story, user.Name)
		b.username, b.password, b.certificate, b.key = "", "", pair.Certificate, pair.Key
		return b, leaf
	}
	enter := func(b binding, want session) *mqttClient {
		c, err := connectWith(b, want)
		if err != nil {
			r.Fatalf("by certificate: %v", err)
		}
		return c
	}
	b, leaf := issued()
	r.leavesMail(enter(b, away))
	r.cut("revoked certificate", enter(b, session{clientID: "revoked-1"}), notAuthorized, func() {
		r.update(lists, func() { lists.Data["ca.crl"] = []byte(revoking(r.story, ca, 2, leaf)) })
	})
	if _, err := connectWith(b, session{}); err == nil {
		r.Error("the revoked certificate still opens")
	}
	before := r.answers.now()
	r.update(user, func() { user.Spec.ACL = grants(openAlone) })
	r.answered(before)
	b, _ = issued()
	r.findsOnlyOpenMail("revoked certificate", enter(b, away))
}

// revoking is the list of a CA with these certificates on it, PEM.
func revoking(s *story, ca pki.Pair, number int64, certificates ...*x509.Certificate) string {
	s.Helper()
	pair, err := tls.X509KeyPair(ca.Certificate, ca.Key)
	if err != nil {
		s.Fatal(err)
	}
	signer, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		s.Fatal("the CA has a key of another kind")
	}
	list := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(30 * 24 * time.Hour)}
	for _, c := range certificates {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, pair.Leaf, signer)
	if err != nil {
		s.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

// expires has a client come by a token that ends soon, and again by one that brings fewer rights.
func (r *revocations) expires(key *mint.Key, away session) {
	r.Helper()
	token := func(life time.Duration, filters []string) (binding, time.Time) {
		var rules []acl.Rule
		for _, filter := range filters {
			rules = append(rules, acl.Rule{Effect: acl.Allow, Actions: []acl.Action{acl.Subscribe}, Filter: filter})
		}
		claims := mint.Claims("https://issuer.example", audience, "nomad", life)
		end := time.Now().Add(life).Truncate(time.Second)
		claims["acl"], claims["exp"] = rules, end.Unix()
		b := mustBinding(r.story, "host")
		b.username, b.password = "", key.Token(claims, nil)
		r.secrets.keep("a token", b.password)
		return b, end
	}
	b, end := token(5*time.Second, openAndSecret)
	waiting, err := connectWith(b, away)
	if err != nil {
		r.Fatal(err)
	}
	r.leavesMail(waiting)
	c, err := connectWith(b, session{clientID: "nomad-1"})
	if err != nil {
		r.Fatal(err)
	}
	ended := r.awaitEnd(c)
	if c.reason != notAuthorized {
		r.Errorf("an expired token ends its connection with %#x: %v", c.reason, c.ended())
	}
	if ended.Before(end) {
		r.Errorf("the connection ended %v before its token", end.Sub(ended))
	}
	r.note("expired token", ended, "its exp", end, "")
	b, _ = token(time.Hour, openAlone)
	if waiting, err = connectWith(b, away); err != nil {
		r.Fatal(err)
	}
	r.findsOnlyOpenMail("expired token", waiting)
}
