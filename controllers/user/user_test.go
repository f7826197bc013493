// SPDX-License-Identifier: Apache-2.0

package mqttuser

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/apply"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
	"github.com/mqtt-operator/mqtt-operator/controllers/scope"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
	"github.com/mqtt-operator/mqtt-operator/controllers/waiting"
)

const ns = "factory"

var (
	start    = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	errWrite = errors.New("the write fails")
)

// bench is a user and what it needs, in memory, with a clock that a test turns. Every pass is that of an operator that
// has just been started.
type bench struct {
	t      *testing.T
	c      client.WithWatch
	now    time.Time
	events *events.FakeRecorder
	// fails counts down to the write that fails; 0: none does.
	fails int
}

func newBench(t *testing.T, objects ...client.Object) *bench {
	t.Helper()
	scheme := runtime.NewScheme()
	must(t, clientgoscheme.AddToScheme(scheme))
	must(t, v1alpha1.AddToScheme(scheme))
	b := &bench{t: t, now: start, events: events.NewFakeRecorder(100)}
	for i, object := range objects {
		object.SetUID(types.UID(fmt.Sprintf("uid-%d", i)))
		object.SetCreationTimestamp(metav1.NewTime(start.Add(-time.Hour)))
		if secret, ok := object.(*corev1.Secret); ok && secret.StringData != nil {
			secret.Data = map[string][]byte{}
			for key, value := range secret.StringData {
				secret.Data[key] = []byte(value)
			}
			secret.StringData = nil
		}
	}
	b.c = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.MQTTUser{}, &v1alpha1.MQTTBroker{}).
		WithIndex(&v1alpha1.MQTTUser{}, IndexUsername, func(o client.Object) []string { return []string{UsernameKey(o.(*v1alpha1.MQTTUser))} }).
		WithIndex(&corev1.Secret{}, IndexConfig, func(client.Object) []string { return nil }).
		WithInterceptorFuncs(interceptor.Funcs{Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, options ...client.ApplyOption) error {
			b.fails--
			if b.fails == 0 {
				return errWrite
			}
			return c.Apply(ctx, o, options...)
		}}).Build()
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pass walks the user once, and says in what time it wants to be walked again.
func (b *bench) pass() (time.Duration, error) {
	b.t.Helper()
	r := &Reconciler{
		Client: b.c, Live: b.c, Writer: apply.NewWriter(b.c, b.c), Events: b.events,
		Clock: clocktesting.NewFakePassiveClock(b.now), Scope: &scope.Scope{Reader: b.c}, Waiting: &waiting.List{},
	}
	result, err := r.Reconcile(b.t.Context(), b.user())
	return result.RequeueAfter, err
}

func (b *bench) mustPass() time.Duration {
	b.t.Helper()
	again, err := b.pass()
	must(b.t, err)
	return again
}

func (b *bench) user() *v1alpha1.MQTTUser {
	b.t.Helper()
	user := &v1alpha1.MQTTUser{}
	must(b.t, b.c.Get(b.t.Context(), client.ObjectKey{Namespace: ns, Name: "alice"}, user))
	return user
}

func (b *bench) change(edit func(*v1alpha1.MQTTUser)) {
	b.t.Helper()
	user := b.user()
	edit(user)
	must(b.t, b.c.Update(b.t.Context(), user))
}

func (b *bench) secret(name string) *corev1.Secret {
	b.t.Helper()
	secret := &corev1.Secret{}
	if err := b.c.Get(b.t.Context(), client.ObjectKey{Namespace: ns, Name: name}, secret); client.IgnoreNotFound(err) != nil {
		b.t.Fatal(err)
	}
	return secret
}

func (b *bench) binding() map[string][]byte {
	return b.secret(v1alpha1.BindingSecretName("alice")).Data
}

func (b *bench) pair() pki.Pair {
	data := b.binding()
	return pki.Pair{Certificate: data[v1alpha1.BindingCert], Key: data[v1alpha1.BindingKey]}
}

// entry is what the broker would know of the user.
func (b *bench) entry() *contract.User {
	b.t.Helper()
	return verdict.Entry(b.user(), verdict.CredentialsIn(b.secret(v1alpha1.VerifierSecretName("alice"))), nil, b.now)
}

// opens reports whether a password opens the broker.
func (b *bench) opens(password string) bool {
	b.t.Helper()
	for _, text := range b.entry().Verifiers {
		if held, err := auth.Parse(text); err == nil && held.Verify([]byte(password)) {
			return true
		}
	}
	return false
}

func (b *bench) is(reason v1alpha1.ConditionReason) *metav1.Condition {
	b.t.Helper()
	c := meta.FindStatusCondition(b.user().Status.Conditions, string(v1alpha1.ConditionReady))
	if c == nil || c.Reason != string(reason) {
		b.t.Fatalf("Ready is %+v, want %s", c, reason)
	}
	return c
}

func scrams(entry *contract.User) (n int) {
	for _, text := range entry.Verifiers {
		if strings.HasPrefix(text, scramPrefix) {
			n++
		}
	}
	return n
}

func saltOf(verifier string) string { return strings.Split(verifier, "$")[3] }

func drawn(generate *v1alpha1.GeneratePassword) *v1alpha1.MQTTUser {
	return gen.User(ns, "alice", "mq", gen.WithAuthentication(v1alpha1.UserAuthentication{Password: &v1alpha1.UserPassword{Generate: generate, SCRAM: new(true)}}))
}

func hours(n int) *metav1.Duration { return &metav1.Duration{Duration: time.Duration(n) * time.Hour} }

// TestAPasswordIsDrawnAnew at its age, and both work until the overlap ends.
func TestAPasswordIsDrawnAnew(t *testing.T) {
	b := newBench(t, gen.Broker(ns, "mq"), drawn(&v1alpha1.GeneratePassword{RotateAfter: hours(720), Overlap: hours(48)}))
	if again := b.mustPass(); again != 720*time.Hour {
		t.Errorf("the next pass is due in %v, want the age", again)
	}
	first := string(b.binding()[v1alpha1.BindingPassword])
	if status := b.user().Status.Password; !status.RotatedAt.Time.Equal(start) || !status.NextRotation.Time.Equal(start.Add(720*time.Hour)) || status.OldValidUntil != nil {
		t.Errorf("status %+v", status)
	}
	b.now = start.Add(720*time.Hour - time.Second)
	b.mustPass()
	if string(b.binding()[v1alpha1.BindingPassword]) != first {
		t.Fatal("it was drawn too early")
	}
	b.now = start.Add(720 * time.Hour)
	if again := b.mustPass(); again != 48*time.Hour {
		t.Errorf("the next pass is due in %v, want the end of the overlap", again)
	}
	second := string(b.binding()[v1alpha1.BindingPassword])
	if second == first || !b.opens(first) || !b.opens(second) || scrams(b.entry()) != 2 {
		t.Fatal("both must work, by SCRAM too")
	}
	if held := verdict.CredentialsIn(b.secret(v1alpha1.VerifierSecretName("alice"))); saltOf(held.SCRAM) != saltOf(held.Old.SCRAM) || held.SCRAM == held.Old.SCRAM {
		t.Error("a client is told one salt, so both passwords need the same")
	}
	if until := b.user().Status.Password.OldValidUntil; !until.Time.Equal(b.now.Add(48 * time.Hour)) {
		t.Errorf("the old one is said to work until %s", until)
	}
	b.now = b.now.Add(47 * time.Hour)
	b.mustPass()
	if !b.opens(first) || string(b.binding()[v1alpha1.BindingPassword]) != second {
		t.Fatal("another pass changed something")
	}
	b.now = b.now.Add(time.Hour)
	if b.opens(first) {
		t.Error("the overlap has ended, whether or not anybody has written so")
	}
	b.mustPass()
	if b.opens(first) || !b.opens(second) || len(b.entry().Verifiers) != 2 || b.user().Status.Password.OldValidUntil != nil {
		t.Error("the old one must be gone, and it alone")
	}
	for key := range b.secret(v1alpha1.VerifierSecretName("alice")).Data {
		if strings.HasPrefix(key, verdict.OldPrefix) {
			t.Errorf("%s is left over", key)
		}
	}
}

// TestRotationByHand follows the annotation: each new value once.
func TestRotationByHand(t *testing.T) {
	b := newBench(t, gen.Broker(ns, "mq"), drawn(&v1alpha1.GeneratePassword{}))
	b.change(func(u *v1alpha1.MQTTUser) { u.Annotations = map[string]string{v1alpha1.AnnotationRotate: "0"} })
	b.mustPass()
	password := func() string { return string(b.binding()[v1alpha1.BindingPassword]) }
	first := password()
	b.mustPass()
	if password() != first {
		t.Fatal("a value that was there from the beginning asks for nothing")
	}
	b.change(func(u *v1alpha1.MQTTUser) { u.Annotations[v1alpha1.AnnotationRotate] = "2026-11-24" })
	b.mustPass()
	second := password()
	b.mustPass()
	if second == first || password() != second || !b.opens(first) || !b.opens(second) {
		t.Fatal("a new value draws one password, and the old one works beside it")
	}
	b.change(func(u *v1alpha1.MQTTUser) { delete(u.Annotations, v1alpha1.AnnotationRotate) })
	b.mustPass()
	if password() != second {
		t.Error("removing the annotation asks for nothing")
	}
	b.change(func(u *v1alpha1.MQTTUser) { u.Annotations = map[string]string{v1alpha1.AnnotationRotate: "again"} })
	b.mustPass()
	if b.opens(first) || !b.opens(second) || !b.opens(password()) {
		t.Error("a second rotation ends the overlap of the one before")
	}
}

// TestAWriteThatFailsLosesNothing: whichever it is, what the binding holds opens the broker, and the next pass heals.
func TestAWriteThatFailsLosesNothing(t *testing.T) {
	certificate := gen.User(ns, "alice", "mq", gen.WithAuthentication(v1alpha1.UserAuthentication{Certificate: &v1alpha1.UserCertificate{Validity: hours(240)}}))
	for name, tc := range map[string]struct {
		user  *v1alpha1.MQTTUser
		what  func(*bench) string
		opens func(*bench, string) bool
	}{
		"password": {
			user:  drawn(&v1alpha1.GeneratePassword{RotateAfter: hours(720)}),
			what:  func(b *bench) string { return string(b.binding()[v1alpha1.BindingPassword]) },
			opens: (*bench).opens,
		},
		"certificate": {
			user: certificate,
			what: func(b *bench) string { return pki.Pin(b.pair()) },
			opens: func(b *bench, pin string) bool {
				login := b.entry().Certificate
				return login != nil && slices.Contains(login.Pins, pin)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for failing := 1; ; failing++ {
				b := newBench(t, append(certificateBroker(t), tc.user.DeepCopy())...)
				b.mustPass()
				before := tc.what(b)
				b.now = start.Add(719 * time.Hour)
				if name == "certificate" {
					b.now = start.Add(200 * time.Hour)
				}
				b.change(func(u *v1alpha1.MQTTUser) { u.Annotations = map[string]string{v1alpha1.AnnotationRotate: "now"} })
				b.fails = failing
				_, err := b.pass()
				if b.fails > 0 {
					if failing < 3 {
						t.Errorf("only %d writes could fail", failing-1)
					}
					return // there are no more writes than that
				}
				if !errors.Is(err, errWrite) {
					t.Fatalf("write %d: %v", failing, err)
				}
				if !tc.opens(b, tc.what(b)) {
					t.Fatalf("write %d: what the binding holds does not open", failing)
				}
				b.mustPass()
				if !tc.opens(b, tc.what(b)) || tc.what(b) == before {
					t.Fatalf("write %d: not healed", failing)
				}
				after := tc.what(b)
				b.mustPass()
				if tc.what(b) != after {
					t.Fatalf("write %d: it was healed twice", failing)
				}
				if !tc.opens(b, before) {
					t.Fatalf("write %d: the one before it ended early", failing)
				}
			}
		})
	}
}

// certificateBroker is a broker that asks for certificates, with its CA.
func certificateBroker(t *testing.T) []client.Object {
	t.Helper()
	broker := gen.Broker(ns, "mq")
	broker.Spec.Listeners[0].TLS.ClientAuth = new(v1alpha1.ClientAuthOptional)
	broker.UID = "uid-0"
	return []client.Object{broker, clientCA(t, broker)}
}

func clientCA(t *testing.T, broker *v1alpha1.MQTTBroker) *corev1.Secret {
	t.Helper()
	ca, err := pki.NewCA("clients", start)
	must(t, err)
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: ns, Name: v1alpha1.ClientCASecretName("mq"),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(broker, v1alpha1.GroupVersion.WithKind("MQTTBroker"))},
		},
		Type: v1alpha1.SecretTypeCA, Data: map[string][]byte{"ca.crt": ca.Certificate, "ca.key": ca.Key},
	}
}

// TestTheLifeOfACertificate: issued, renewed before its end, both open for a while, issued anew by another CA.
func TestTheLifeOfACertificate(t *testing.T) {
	user := gen.User(ns, "alice", "mq", gen.WithAuthentication(v1alpha1.UserAuthentication{Certificate: &v1alpha1.UserCertificate{Validity: hours(240), RenewBefore: hours(80)}}))
	b := newBench(t, append(certificateBroker(t), user)...)
	if again := b.mustPass(); again != 160*time.Hour {
		t.Errorf("the next pass is due in %v, want when it is renewed", again)
	}
	first := pki.Pin(b.pair())
	if pins := b.entry().Certificate.Pins; len(pins) != 1 || pins[0] != first || len(b.entry().Verifiers) > 0 {
		t.Fatalf("pins %v, want the one that was issued and no password", pins)
	}
	if _, found := b.binding()[v1alpha1.BindingPassword]; found {
		t.Error("the binding holds a password")
	}
	for key, value := range b.secret(v1alpha1.VerifierSecretName("alice")).Data {
		if strings.Contains(string(value), "PRIVATE") {
			t.Errorf("the private key stands under %s of the verifier Secret", key)
		}
	}
	if text := fmt.Sprintf("%+v", b.user()); strings.Contains(text, "PRIVATE") {
		t.Error("the private key stands in the user")
	}
	b.now = start.Add(160 * time.Hour)
	b.mustPass()
	second := pki.Pin(b.pair())
	if pins := b.entry().Certificate.Pins; second == first || len(pins) != 2 || pins[0] != second || pins[1] != first {
		t.Fatalf("pins %v: both must open", pins)
	}
	if until := b.user().Status.Certificate.OldValidUntil; !until.Time.Equal(b.now.Add(24 * time.Hour)) {
		t.Errorf("the old one is said to open until %s", until)
	}
	b.now = b.now.Add(24 * time.Hour)
	b.mustPass()
	if pins := b.entry().Certificate.Pins; len(pins) != 1 || pins[0] != second {
		t.Fatalf("pins %v: the old one has ended", pins)
	}
	broker := &v1alpha1.MQTTBroker{}
	must(t, b.c.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "mq"}, broker))
	must(t, b.c.Update(t.Context(), clientCA(t, broker)))
	b.mustPass()
	if pins := b.entry().Certificate.Pins; len(pins) != 2 || pins[0] == second {
		t.Errorf("pins %v: another CA has to sign anew, and the broker may trust both for a while", pins)
	}
}

// TestWithoutAPinNothingOpens: "no pins" means any certificate, and that only issue: false may say.
func TestWithoutAPinNothingOpens(t *testing.T) {
	user := gen.User(ns, "alice", "mq", gen.WithAuthentication(v1alpha1.UserAuthentication{Certificate: &v1alpha1.UserCertificate{}}))
	if entry := verdict.Entry(user, verdict.Credentials{}, nil, start); entry.Certificate != nil {
		t.Error("any certificate of the name would open before one was issued")
	}
	b := newBench(t, append(certificateBroker(t), user)...)
	b.change(func(u *v1alpha1.MQTTUser) { u.Spec.Authentication.Certificate.Issue = new(false) })
	b.mustPass()
	if login := b.entry().Certificate; login == nil || len(login.Pins) > 0 || len(b.binding()[v1alpha1.BindingKey]) > 0 {
		t.Errorf("certificate %+v, and the binding must hold none", login)
	}
}

// TestHashes: what a person brings, and what is refused without showing any of it.
func TestHashes(t *testing.T) {
	argon, err := auth.NewArgon2id([]byte("hunter2"), nil)
	must(t, err)
	fast, err := auth.NewSHA256([]byte("hunter2"), nil)
	must(t, err)
	for name, tc := range map[string]struct {
		hash  string
		scram *bool
		want  v1alpha1.ConditionReason
		says  string
	}{
		"argon2id":                {hash: argon, want: v1alpha1.ReasonConfigPending},
		"a fast one":              {hash: fast, want: v1alpha1.ReasonPasswordHashInvalid, says: "hash it as argon2id or bcrypt"},
		"a password":              {hash: "marker-hunter2", want: v1alpha1.ReasonPasswordHashInvalid, says: "holds no hash that a broker can check"},
		"a line":                  {hash: argon + "\n", want: v1alpha1.ReasonPasswordHashInvalid, says: "line break"},
		"nothing":                 {want: v1alpha1.ReasonPasswordHashInvalid, says: "is empty"},
		"SCRAM of something else": {hash: argon, scram: new(true), want: v1alpha1.ReasonPasswordHashInvalid, says: "none can be made from another hash"},
	} {
		t.Run(name, func(t *testing.T) {
			user := gen.User(ns, "alice", "mq", gen.WithAuthentication(v1alpha1.UserAuthentication{
				Password: &v1alpha1.UserPassword{HashSecretRef: &v1alpha1.SecretKeyReference{Name: "hash"}, SCRAM: tc.scram},
			}))
			b := newBench(t, gen.Broker(ns, "mq"), user, gen.Secret(ns, "hash", map[string]string{"hash": tc.hash}))
			b.mustPass()
			c := b.is(tc.want)
			if !strings.Contains(c.Message, tc.says) {
				t.Errorf("%s: want %q", c.Message, tc.says)
			}
			for _, part := range strings.FieldsFunc(tc.hash, func(r rune) bool { return r == '$' || r == '\n' }) {
				if len(part) > 12 && strings.Contains(c.Message, part) {
					t.Errorf("the message repeats %q", part)
				}
			}
			if tc.want == v1alpha1.ReasonConfigPending && (!b.opens("hunter2") || len(b.binding()[v1alpha1.BindingPassword]) > 0) {
				t.Error("the hash must open the broker, and nobody knows the password")
			}
		})
	}
}

// TestSCRAMBesideAChosenPassword is made when asked for, and only then, and is the same again after a loss.
func TestSCRAMBesideAChosenPassword(t *testing.T) {
	user := gen.User(ns, "alice", "mq", gen.WithPasswordFrom("hers"))
	b := newBench(t, gen.Broker(ns, "mq"), user, gen.Secret(ns, "hers", map[string]string{"password": "hunter2"}))
	b.mustPass()
	if scrams(b.entry()) != 0 {
		t.Error("a weaker hash was made of a password that a person chose, unasked")
	}
	b.change(func(u *v1alpha1.MQTTUser) { u.Spec.Authentication.Password.SCRAM = new(true) })
	b.mustPass()
	before := b.entry().Verifiers
	if scrams(b.entry()) != 1 || !strings.HasPrefix(before[1], scramPrefix+"i=100000$") {
		t.Fatalf("%d verifiers", len(before))
	}
	b.mustPass()
	if after := b.entry().Verifiers; after[0] != before[0] || after[1] != before[1] {
		t.Error("another pass made others")
	}
	b.change(func(u *v1alpha1.MQTTUser) { u.Spec.Authentication.Password.SCRAM = nil })
	b.mustPass()
	if scrams(b.entry()) != 0 {
		t.Error("it must go when it is wanted no more")
	}
}

// TestEachWayInNamesWhatItNeeds, and works when that is there.
func TestEachWayInNamesWhatItNeeds(t *testing.T) {
	for name, tc := range map[string]struct {
		authentication v1alpha1.UserAuthentication
		want           v1alpha1.ConditionReason
		says           string
		mend           func(*v1alpha1.MQTTBroker)
		check          func(*contract.User) bool
	}{
		"a certificate": {
			authentication: v1alpha1.UserAuthentication{Certificate: &v1alpha1.UserCertificate{Issue: new(false)}},
			want:           v1alpha1.ReasonClientAuthMissing, says: "spec.listeners[].tls.clientAuth",
			mend:  func(b *v1alpha1.MQTTBroker) { b.Spec.Listeners[0].TLS.ClientAuth = new(v1alpha1.ClientAuthRequired) },
			check: func(u *contract.User) bool { return u.Certificate != nil },
		},
		"a token": {
			authentication: v1alpha1.UserAuthentication{JWT: &v1alpha1.UserJWT{}},
			want:           v1alpha1.ReasonIssuerUnknown, says: "spec.authentication.jwt",
			mend: func(b *v1alpha1.MQTTBroker) {
				b.Spec.Authentication = &v1alpha1.BrokerAuthentication{JWT: []v1alpha1.JWTIssuer{{Issuer: "i"}}}
			},
			check: func(u *contract.User) bool { return u.JWT == contract.AnyIssuer },
		},
		"a token of one issuer": {
			authentication: v1alpha1.UserAuthentication{JWT: &v1alpha1.UserJWT{Issuer: new("j")}},
			want:           v1alpha1.ReasonIssuerUnknown, says: "of issuer j",
			mend: func(b *v1alpha1.MQTTBroker) {
				b.Spec.Authentication = &v1alpha1.BrokerAuthentication{JWT: []v1alpha1.JWTIssuer{{Issuer: "i"}, {Issuer: "j"}}}
			},
			check: func(u *contract.User) bool { return u.JWT == "j" },
		},
		"a ServiceAccount": {
			authentication: v1alpha1.UserAuthentication{ServiceAccount: &v1alpha1.UserServiceAccount{Name: "app"}},
			want:           v1alpha1.ReasonServiceAccountsNotTaken, says: "spec.authentication.serviceAccounts",
			mend: func(b *v1alpha1.MQTTBroker) {
				b.Spec.Authentication = &v1alpha1.BrokerAuthentication{ServiceAccounts: &v1alpha1.ServiceAccountTokens{Audiences: []string{"a"}}}
			},
			check: func(u *contract.User) bool { return u.ServiceAccount == ns+"/app" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, gen.Broker(ns, "mq"), gen.User(ns, "alice", "mq", gen.WithAuthentication(tc.authentication)))
			b.mustPass()
			if c := b.is(tc.want); !strings.Contains(c.Message, tc.says) {
				t.Errorf("%s: want %q", c.Message, tc.says)
			}
			broker := &v1alpha1.MQTTBroker{}
			must(t, b.c.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "mq"}, broker))
			tc.mend(broker)
			must(t, b.c.Update(t.Context(), broker))
			b.mustPass()
			b.is(v1alpha1.ReasonConfigPending)
			if entry := b.entry(); !tc.check(entry) || len(entry.Verifiers) > 0 {
				t.Errorf("entry %+v", *entry)
			}
			binding := b.binding()
			if len(binding[v1alpha1.BindingPassword]) > 0 || string(binding[v1alpha1.BindingUsername]) != "alice" || len(binding[v1alpha1.BindingHost]) == 0 {
				t.Error("the binding must hold the way to the broker, the name, and no password")
			}
		})
	}
}

// TestAMissingCAIsWaitedFor: nobody has to act, so the user is not stalled.
func TestAMissingCAIsWaitedFor(t *testing.T) {
	user := gen.User(ns, "alice", "mq", gen.WithAuthentication(v1alpha1.UserAuthentication{Certificate: &v1alpha1.UserCertificate{}}))
	b := newBench(t, certificateBroker(t)[0], user)
	if again := b.mustPass(); again == 0 {
		t.Error("it must be looked for again")
	}
	b.is(v1alpha1.ReasonClientCAPending)
	if meta.FindStatusCondition(b.user().Status.Conditions, string(v1alpha1.ConditionStalled)) != nil {
		t.Error("nobody has to act")
	}
}

// TestAForeignCAIsNotUsed: a Secret of the right name that the broker does not own signs nothing.
func TestAForeignCAIsNotUsed(t *testing.T) {
	user := gen.User(ns, "alice", "mq", gen.WithAuthentication(v1alpha1.UserAuthentication{Certificate: &v1alpha1.UserCertificate{}}))
	objects := certificateBroker(t)
	objects[1].SetOwnerReferences(nil)
	b := newBench(t, append(objects, user)...)
	b.mustPass()
	b.is(v1alpha1.ReasonClientCAPending)
}

// TestAMissingPolicyKeepsNothingFromBeingRenewed: it is said, and the password is drawn all the same.
func TestAMissingPolicyKeepsNothingFromBeingRenewed(t *testing.T) {
	b := newBench(t, gen.Broker(ns, "mq"), drawn(&v1alpha1.GeneratePassword{RotateAfter: hours(720)}))
	b.mustPass()
	first := string(b.binding()[v1alpha1.BindingPassword])
	b.change(func(u *v1alpha1.MQTTUser) { u.Spec.PolicyRefs = []v1alpha1.PolicyReference{{Name: "none"}} })
	b.now = start.Add(720 * time.Hour)
	if again := b.mustPass(); again == 0 {
		t.Error("the end of the overlap must not be missed")
	}
	b.is(v1alpha1.ReasonPolicyNotFound)
	if string(b.binding()[v1alpha1.BindingPassword]) == first || !b.opens(first) {
		t.Error("the password was due")
	}
	if !meta.IsStatusConditionTrue(b.user().Status.Conditions, string(v1alpha1.ConditionCredentialsReady)) {
		t.Error("the credentials are as they should be")
	}
}
