// SPDX-License-Identifier: Apache-2.0

package mqttbroker

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// plant is a cluster in memory: the Secrets of one broker, one pod, one client of the listener and one that shows a
// certificate. Writes can fail.
type plant struct {
	t       *testing.T
	broker  *v1alpha1.MQTTBroker
	secrets map[string]*corev1.Secret
	now     time.Time
	// pod is what the pod runs; deaf pods take nothing.
	pod  contract.Bundle
	deaf bool
	// mounted is what the kubelet has brought into the pod.
	mounted *corev1.Secret
	// writes counts; the write of number failing does not happen, and ends the pass.
	writes, failing int
	// trusts is what the client of the listener has fetched, shows what the other has.
	trusts []byte
	shows  pki.Pair
	phases []string
}

func newPlant(t *testing.T) *plant {
	t.Helper()
	broker := gen.Broker("factory", "mq")
	broker.Spec.Listeners[0].TLS.ClientAuth = new(v1alpha1.ClientAuthOptional)
	p := &plant{t: t, broker: broker, secrets: map[string]*corev1.Secret{}, now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), failing: -1}
	p.pass()
	p.clients()
	p.pass()
	return p
}

var errWrite = errors.New("the write failed")

// pass is one walk, without the API server.
func (p *plant) pass() {
	p.t.Helper()
	f := &verdict.Facts{
		Broker: p.broker, Spec: p.broker.Resolved(), Now: p.now, DefaultImage: "i",
		CA: p.secrets["mq-ca"], ClientCA: p.secrets["mq-client-ca"], AdminCA: p.secrets["mq-admin-ca"], TLS: p.secrets["mq-tls"], AdminTLS: p.secrets["mq-admin-tls"],
	}
	for _, name := range slices.Sorted(maps.Keys(p.secrets)) {
		if secret := p.secrets[name]; secret.Type == v1alpha1.SecretTypeConfig {
			f.ConfigSecrets = append(f.ConfigSecrets, *secret)
		}
	}
	if f.ClientCA != nil {
		if ca := pki.ReadCA(f.ClientCA.Data); ca.Phase == v1alpha1.CASwitching && pki.IsIssuedBy(p.shows.Certificate, ca.Old) {
			f.Outdated = 1
		}
	}
	f.Pods = []verdict.PodFacts{{}}
	if p.pod != nil && !p.deaf && p.adminWorks(f) {
		revision, err := contract.Revision(p.pod)
		p.must(err)
		f.Pods[0].Answer = &verdict.Answer{Revision: revision, Digest: p.pod.Digest()}
	}
	walk := &pass{facts: f}
	p.must(issue(context.Background(), walk))
	p.must(judge(context.Background(), walk))
	p.must(build(context.Background(), walk))
	if p.apply(walk.desired) == nil && !p.deaf {
		p.pod = walk.desired.Bundle
	}
	p.check()
	if ca := pki.ReadCA(p.secrets["mq-ca"].Data); len(p.phases) == 0 || p.phases[len(p.phases)-1] != string(ca.Phase) {
		p.phases = append(p.phases, string(ca.Phase))
	}
}

// apply writes like apply.Writer: what differs, in order, up to the first failure.
func (p *plant) apply(built *desired.Broker) error {
	for _, object := range built.Objects {
		secret, ok := object.(*corev1.Secret)
		if !ok {
			continue
		}
		if before := p.secrets[secret.Name]; before != nil && maps.EqualFunc(before.Data, secret.Data, slices.Equal) {
			continue
		}
		p.writes++
		if p.writes-1 == p.failing {
			return errWrite
		}
		p.secrets[secret.Name] = secret
	}
	return nil
}

// clients fetch what stands in the Secrets, as the user's reconciler and the kubelet bring it.
func (p *plant) clients() {
	p.t.Helper()
	p.trusts = p.secrets["mq-ca"].Data["ca.crt"]
	p.mounted = p.secrets["mq-admin-tls"]
	ca := pki.Pair{Certificate: p.secrets["mq-client-ca"].Data["ca.crt"], Key: p.secrets["mq-client-ca"].Data["ca.key"]}
	if r := (pki.Request{CommonName: "alice", Client: true}); !pki.IsCurrent(p.shows, ca, r, p.now) {
		var err error
		p.shows, err = pki.Issue(ca, r, p.now)
		p.must(err)
	}
}

// adminWorks reports whether operator and pod accept each other.
func (p *plant) adminWorks(f *verdict.Facts) bool {
	trust, err := adminTLS(f)
	p.must(err)
	return p.accepts(p.mounted.Data["ca.crt"], f.AdminCA.Data["client.crt"], x509.ExtKeyUsageClientAuth) &&
		p.accepts(f.AdminCA.Data["ca.crt"], p.mounted.Data["tls.crt"], x509.ExtKeyUsageServerAuth) && trust != nil
}

func (p *plant) accepts(trust, leaf []byte, usage x509.ExtKeyUsage) bool {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(trust)
	certificate, err := pki.Leaf(leaf)
	if err != nil {
		return false
	}
	_, err = certificate.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: p.now, KeyUsages: []x509.ExtKeyUsage{usage}})
	return err == nil
}

// check holds at any moment, whatever has failed: who follows gets in.
func (p *plant) check() {
	p.t.Helper()
	if p.pod == nil || p.trusts == nil {
		return
	}
	cfg, err := contract.Parse(p.pod)
	p.must(err)
	if !p.accepts(p.trusts, []byte(cfg.Pairs["mqtts"].Certificate), x509.ExtKeyUsageServerAuth) {
		p.t.Fatal("the client refuses what the listener shows")
	}
	if !p.accepts([]byte(cfg.Trust["mqtts"].Authorities), p.shows.Certificate, x509.ExtKeyUsageClientAuth) {
		p.t.Fatal("the listener refuses what the client shows")
	}
	for _, name := range []string{"mq-ca", "mq-client-ca", "mq-admin-ca"} {
		ca := pki.ReadCA(p.secrets[name].Data)
		if _, err := pki.Issue(ca.Signing, pki.Request{CommonName: "x"}, p.now); err != nil {
			p.t.Fatalf("%s has lost its key: %v", name, err)
		}
	}
}

func (p *plant) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// rotate walks until the rotation is through: every pass four hours later, clients fetch once in two.
func (p *plant) rotate() {
	p.t.Helper()
	p.broker.Annotations = map[string]string{v1alpha1.AnnotationRotateCA: "1"}
	for i := range 400 {
		p.pass()
		p.now = p.now.Add(4 * time.Hour)
		if i%2 == 1 {
			p.clients()
		}
		if p.isThrough() {
			return
		}
	}
	p.t.Fatalf("the rotation does not come to an end: %v", p.phases)
}

func (p *plant) isThrough() bool {
	for _, name := range []string{"mq-ca", "mq-client-ca", "mq-admin-ca"} {
		if ca := pki.ReadCA(p.secrets[name].Data); ca.Phase != v1alpha1.CAStable || ca.Generation != 2 {
			return false
		}
	}
	return true
}

func TestARotationLeavesNobodyBehind(t *testing.T) {
	p := newPlant(t)
	began := p.now
	p.rotate()
	if got := strings.Join(p.phases, " "); got != "Stable Introducing Switching Retiring Stable" {
		t.Errorf("phases %s", got)
	}
	if took := p.now.Sub(began); took < 2*v1alpha1.DefaultClientGrace || took > 2*v1alpha1.DefaultClientGrace+24*time.Hour {
		t.Errorf("it took %s: clients get %s twice", took, v1alpha1.DefaultClientGrace)
	}
	if n := strings.Count(string(p.secrets["mq-ca"].Data["ca.crt"]), "BEGIN"); n != 1 {
		t.Errorf("%d CAs are trusted in the end", n)
	}
	before := p.writes
	for range 3 {
		p.pass()
	}
	if p.writes != before {
		t.Error("a rotation that is through writes on")
	}
}

// TestARotationSurvivesEveryWriteThatFails, one after the other.
func TestARotationSurvivesEveryWriteThatFails(t *testing.T) {
	whole := newPlant(t)
	first := whole.writes
	whole.rotate()
	for n := first; n < whole.writes; n++ {
		t.Run(fmt.Sprintf("write %d", n-first), func(t *testing.T) {
			t.Parallel()
			p := newPlant(t)
			p.failing = n
			p.rotate()
		})
	}
}

func TestARotationWaitsForWhoIsNotThere(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		away   func(*plant)
		back   func(*plant)
	}{
		"a pod that does not answer": {
			reason: "it would go on trusting and showing what it has",
			away:   func(p *plant) { p.deaf = true }, back: func(p *plant) { p.deaf = false },
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlant(t)
			p.broker.Annotations = map[string]string{v1alpha1.AnnotationRotateCA: "1"}
			p.pass()
			tc.away(p)
			for range 10 {
				p.now = p.now.Add(v1alpha1.DefaultClientGrace)
				p.pass()
			}
			for _, ca := range []string{"mq-ca", "mq-client-ca", "mq-admin-ca"} {
				if phase := pki.ReadCA(p.secrets[ca].Data).Phase; phase != v1alpha1.CAIntroducing {
					t.Errorf("%s is %s: %s", ca, phase, tc.reason)
				}
			}
			p.clients()
			tc.back(p)
			p.rotate()
		})
	}
}

// TestTheOldClientCAStaysForAUserWhoHasNotBeenIssuedAnew, however long that takes.
func TestTheOldClientCAStaysForAUserWhoHasNotBeenIssuedAnew(t *testing.T) {
	p := newPlant(t)
	p.broker.Annotations = map[string]string{v1alpha1.AnnotationRotateCA: "1"}
	p.pass()
	for range 5 {
		p.now = p.now.Add(v1alpha1.DefaultClientGrace)
		p.trusts, p.mounted = p.secrets["mq-ca"].Data["ca.crt"], p.secrets["mq-admin-tls"]
		p.pass()
	}
	if phase := pki.ReadCA(p.secrets["mq-client-ca"].Data).Phase; phase != v1alpha1.CASwitching {
		t.Errorf("it is %s", phase)
	}
	if phase := pki.ReadCA(p.secrets["mq-ca"].Data).Phase; phase != v1alpha1.CAStable {
		t.Errorf("the other CA waits for nobody, and is %s", phase)
	}
}

// TestACAThatIsGoneIsCountedOn, so that nobody takes the next one for the same.
func TestACAThatIsGoneIsCountedOn(t *testing.T) {
	p := newPlant(t)
	p.broker.Status.CA = &v1alpha1.CAStatus{Generation: new(int64(1))}
	delete(p.secrets, "mq-ca")
	p.trusts = nil
	p.pass()
	if ca := pki.ReadCA(p.secrets["mq-ca"].Data); ca.Generation != 2 || ca.Phase != v1alpha1.CAStable {
		t.Errorf("got %v", ca)
	}
}

// TestAStageIsOverOnlyWhenItIsWritten: a stage whose CA was written and whose configuration was not is not over, however
// little time clients get.
func TestAStageIsOverOnlyWhenItIsWritten(t *testing.T) {
	p := newPlant(t)
	p.broker.Spec.CA = &v1alpha1.BrokerCA{ClientGrace: &metav1.Duration{}}
	p.broker.Annotations = map[string]string{v1alpha1.AnnotationRotateCA: "1"}
	before := maps.Clone(p.secrets)
	p.trusts = nil // Clients that get no time are not what this is about.
	p.pass()
	for _, name := range []string{"mq-config", "mq-admin-tls"} {
		p.secrets[name] = before[name]
	}
	p.pod = contract.Bundle(maps.Clone(before["mq-config"].Data))
	maps.Copy(p.pod, before["mq-users-0"].Data)
	p.now = p.now.Add(adminGrace)
	p.pass()
	for _, name := range []string{"mq-client-ca", "mq-admin-ca"} {
		if phase := pki.ReadCA(p.secrets[name].Data).Phase; phase != v1alpha1.CAIntroducing {
			t.Errorf("%s is %s", name, phase)
		}
	}
}

// TestTheKubeletGetsTime for each stage of the admin CA that pods mount.
func TestTheKubeletGetsTime(t *testing.T) {
	p := newPlant(t)
	p.broker.Annotations = map[string]string{v1alpha1.AnnotationRotateCA: "1"}
	p.pass()
	for _, stage := range []v1alpha1.CAPhase{v1alpha1.CAIntroducing, v1alpha1.CASwitching} {
		began := p.now
		for p.mounted = p.secrets["mq-admin-tls"]; p.now.Before(began.Add(adminGrace)); p.now = p.now.Add(time.Minute) {
			p.pass()
			if phase := pki.ReadCA(p.secrets["mq-admin-ca"].Data).Phase; phase != stage {
				t.Fatalf("after %s it is %s, want %s", p.now.Sub(began), phase, stage)
			}
		}
		p.pass()
	}
}
