// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

const (
	theBroker = "mq"
	// oneChange bounds how long a user may take.
	oneChange = 2 * time.Minute
	// connectPause is between two tries of a user that is not known yet.
	connectPause = 10 * time.Millisecond
	// hush is how long the operator must ask for nothing before the next change.
	hush = 150 * time.Millisecond
)

// newUser has a generated password and two rules.
func newUser(name, broker string) *v1alpha1.MQTTUser {
	both := []v1alpha1.ACLAction{v1alpha1.ACLPublish, v1alpha1.ACLSubscribe}
	return &v1alpha1.MQTTUser{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.MQTTUserSpec{
			BrokerRef:      v1alpha1.BrokerReference{Name: broker},
			Authentication: v1alpha1.UserAuthentication{Password: &v1alpha1.UserPassword{Generate: &v1alpha1.GeneratePassword{}}},
			ACL: []v1alpha1.ACLRule{
				{Effect: v1alpha1.ACLAllow, Filter: "devices/%u/#", Actions: both},
				{Effect: v1alpha1.ACLAllow, Filter: "commands/all", Actions: both[1:]},
			},
		},
	}
}

// newBroker has one listener with a certificate by the operator.
func newBroker(name string, port int) *v1alpha1.MQTTBroker {
	return &v1alpha1.MQTTBroker{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.MQTTBrokerSpec{Listeners: []v1alpha1.BrokerListener{{
			Name: "mqtts", Protocol: v1alpha1.ProtocolTLS, Port: int32(port), TLS: &v1alpha1.ListenerTLS{SelfManaged: &v1alpha1.SelfManagedTLS{}}, //nolint:gosec // a port
		}}},
	}
}

// measureUsers makes more and more users on one broker.
func (b *bench) measureUsers(ctx context.Context) error {
	w, err := b.newWorld(ctx, "users", asProcess)
	if err != nil {
		return err
	}
	defer w.close()
	port, err := freePort()
	if err != nil {
		return err
	}
	if err := w.Create(ctx, newBroker(theBroker, port)); err != nil {
		return err
	}
	if err := w.converge(ctx, 1, 0); err != nil {
		return err
	}
	broker := w.node.of(theBroker).process
	empty := settled(ctx, broker, settleTime)
	growth := table{
		title: "One broker: how it grows with its users",
		head:  []string{"users", "load of the new ones", "one more is live: p50", "p99", "max", "requests per change", "operator CPU per change", "operator RSS", "highest", "broker RSS"},
	}
	have := 0
	for i, size := range b.users {
		s := &stage{world: w, size: size, have: have, empty: empty}
		if err := s.measure(ctx, b.samples[i]); err != nil {
			return err
		}
		have = size + b.samples[i]
		if i == len(b.users)-1 && !b.quick {
			b.sayf("waiting until both have collected their garbage")
			s.operatorRSS, s.brokerRSS, s.brokerUsers = settled(ctx, w.operator, collectTime), settled(ctx, broker, settleTime), have
			b.sayf("operator %s, broker %s", mib(s.operatorRSS), mib(s.brokerRSS))
		}
		growth.lines = append(growth.lines, s.line())
		if i == len(b.users)-1 {
			s.rows(b.report)
		}
	}
	b.report.tables = append(b.report.tables, growth)
	return nil
}

// stage is one size of a broker.
type stage struct {
	*world

	size, have int
	empty      int64 // the broker's RSS without users

	load                           time.Duration
	loadCalls                      int
	loadPeak                       int64
	live, bound, ready             []time.Duration
	all                            calls
	cpu                            time.Duration
	operatorRSS, peak, brokerRSS   int64
	brokerUsers                    int
	wrong                          []string
	reconcileUser, reconcileBroker string
}

func (s *stage) measure(ctx context.Context, samples int) error {
	broker := s.node.of(theBroker).process
	if err := s.world.operator.forgetPeak(); err != nil {
		return err
	}
	s.sayf("%d users", s.size)
	if _, err := s.audit.take(); err != nil {
		return err
	}
	start := time.Now()
	err := each(ctx, s.size-s.have, func(ctx context.Context, i int) error {
		return s.Create(ctx, newUser(fmt.Sprintf("user-%05d", s.have+i), theBroker))
	})
	if err != nil {
		return err
	}
	s.sayf("created within %s", secondsOf(time.Since(start)))
	if err := s.converge(ctx, 1, s.size); err != nil {
		return err
	}
	s.load = time.Since(start)
	made, err := s.rest(ctx)
	if err != nil {
		return err
	}
	s.loadCalls = len(made)
	_, s.loadPeak = s.world.operator.memory()
	s.sayf("known within %s, %d requests, operator up to %s", secondsOf(s.load), s.loadCalls, mib(s.loadPeak))
	s.operatorRSS, s.brokerRSS, s.brokerUsers = settled(ctx, s.world.operator, settleTime), settled(ctx, broker, settleTime), s.size
	s.sayf("operator %s, broker %s", mib(s.operatorRSS), mib(s.brokerRSS))
	before, err := s.metrics(ctx)
	if err != nil {
		return err
	}
	if err := s.profile(ctx, fmt.Sprintf("heap.%d", s.size), "heap"); err != nil {
		return err
	}
	profiled := make(chan error, 1)
	go func() { profiled <- s.profile(ctx, fmt.Sprintf("cpu.%d", s.size), "profile?seconds=20") }()
	used := s.world.operator.cpu()
	for i := range samples {
		if err := s.change(ctx, fmt.Sprintf("late-%05d-%03d", s.size, i)); err != nil {
			return err
		}
	}
	s.cpu = (s.world.operator.cpu() - used) / time.Duration(samples)
	if err := <-profiled; err != nil {
		return err
	}
	_, s.peak = s.world.operator.memory()
	after, err := s.metrics(ctx)
	if err != nil {
		return err
	}
	s.reconcileUser, s.reconcileBroker = reconcile(after, before, "mqttuser"), reconcile(after, before, "mqttbroker")
	s.sayf("%d changes: %v", samples, spreadOf(s.live))
	return nil
}

// reconcile tells how long reconciles took between two looks at the metrics.
func reconcile(after, before map[string]float64, controller string) string {
	count, p99 := within(histogram(after, before, "controller_runtime_reconcile_time_seconds", `controller="`+controller+`"`), 0.99)
	return fmt.Sprintf("%s (%.0f times)", seconds(p99), count)
}

// change makes one user and measures until it is let in.
func (s *stage) change(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, oneChange, errors.New("the user is never let in"))
	defer cancel()
	binding, err := s.one(ctx, &corev1.SecretList{}, v1alpha1.BindingSecretName(name))
	if err != nil {
		return err
	}
	defer binding.Stop()
	user, err := s.one(ctx, &v1alpha1.MQTTUserList{}, name)
	if err != nil {
		return err
	}
	defer user.Stop()
	if _, err := s.audit.take(); err != nil {
		return err
	}
	if err := s.Create(ctx, newUser(name, theBroker)); err != nil {
		return err
	}
	start := time.Now()
	var data map[string][]byte
	if err := follow(ctx, binding, func(o client.Object) bool {
		if secret, ok := o.(*corev1.Secret); ok {
			data = secret.Data
		}
		return len(data[v1alpha1.BindingPassword]) > 0
	}); err != nil {
		return err
	}
	s.bound = append(s.bound, time.Since(start))
	if err := s.enter(ctx, data); err != nil {
		return err
	}
	s.live = append(s.live, time.Since(start))
	if err := follow(ctx, user, isReadyUser); err != nil {
		return err
	}
	s.ready = append(s.ready, time.Since(start))
	made, err := s.audit.settle(ctx, hush)
	if err != nil {
		return err
	}
	s.all = append(s.all, made...)
	if wrong := wrongSecrets(made.secrets(), name); wrong != "" {
		s.wrong = append(s.wrong, wrong)
	}
	return nil
}

// enter tries to connect with what a binding says until it is let in.
func (s *stage) enter(ctx context.Context, binding map[string][]byte) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(binding[v1alpha1.BindingCA])
	trust := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: string(binding[v1alpha1.BindingHost])}
	username := string(binding[v1alpha1.BindingUsername])
	packet := connectPacket(username, username, binding[v1alpha1.BindingPassword])
	try := 0
	return until(ctx, connectPause, func() error {
		try++
		conn, err := connect(ctx, source(try), net.JoinHostPort("127.0.0.1", string(binding[v1alpha1.BindingPort])), trust, packet)
		if err != nil {
			return notYet{fmt.Errorf("%s: %w", username, err)}
		}
		return conn.Close()
	})
}

// wrongSecrets says what is wrong with the Secrets that one new user cost, nothing if they are the user's own two, one
// shard of users and the Secret with broker.json, each once.
func wrongSecrets(written map[string]int, user string) string {
	shards, rest := 0, maps.Clone(written)
	for name, times := range written {
		if strings.HasPrefix(name, theBroker+"-users-") {
			shards += times
			delete(rest, name)
		}
	}
	own := []string{v1alpha1.BindingSecretName(user), v1alpha1.VerifierSecretName(user), v1alpha1.ConfigSecretName(theBroker)}
	good := shards == 1 && len(rest) == len(own)
	for _, name := range own {
		good = good && rest[name] == 1
	}
	if good {
		return ""
	}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(written)) {
		words = append(words, fmt.Sprintf("%s ×%d", name, written[name]))
	}
	return user + ": " + strings.Join(words, ", ")
}

// settled is the resident set when it has not fallen for a time.
func settled(ctx context.Context, p *process, silence time.Duration) int64 {
	least, _ := p.memory()
	for last := time.Now(); time.Since(last) < silence && ctx.Err() == nil; time.Sleep(settleTime / 20) {
		if now, _ := p.memory(); now < least-least/200 {
			least, last = now, time.Now()
		}
	}
	return least
}

const (
	settleTime = 5 * time.Second
	// collectTime is a little more than the two minutes after which a Go program collects its garbage come what may.
	collectTime = 130 * time.Second
)

func (s *stage) line() []string {
	live := spreadOf(s.live)
	return []string{
		strconv.Itoa(s.size), secondsOf(s.load), millis(live.p50), millis(live.p99), millis(live.most),
		fmt.Sprintf("%.1f", float64(len(s.all))/float64(len(s.live))), millis(s.cpu), mib(s.operatorRSS), mib(max(s.peak, s.loadPeak)), mib(s.brokerRSS),
	}
}

// rows are the numbers of the greatest size.
func (s *stage) rows(r *report) {
	live, perUser := spreadOf(s.live), (s.brokerRSS-s.empty)/int64(s.brokerUsers)
	r.row(fmt.Sprintf("one user more among %d: from the API server's answer to the CONNACK", s.size), "p99 < 2 s", live.String(), judge(live.p99 < 2*time.Second))
	r.row("… until the binding Secret is there", "", spreadOf(s.bound).String(), "")
	r.row("… until status says Ready", "", spreadOf(s.ready).String(), "")
	exact := "in each"
	if len(s.wrong) > 0 {
		exact = fmt.Sprintf("in all but %d, such as %s", len(s.wrong), s.wrong[0])
	}
	r.row(fmt.Sprintf("… writes one shard of users, broker.json and its own two Secrets, in %d changes", len(s.live)), "in each", exact, judge(len(s.wrong) == 0))
	n := float64(len(s.live))
	r.row("… requests, and those that write", "", fmt.Sprintf("%.1f, %.1f", float64(len(s.all))/n, float64(s.all.writes())/n), "")
	r.row(fmt.Sprintf("load of %d users", s.size-s.have), "", fmt.Sprintf("%s, %.1f requests per user", secondsOf(s.load), float64(s.loadCalls)/float64(s.size-s.have)), "")
	r.row(fmt.Sprintf("operator RSS with %d users", s.size), "≤ 200 MiB", fmt.Sprintf("%s; at most %s while single ones came", mib(s.operatorRSS), mib(s.peak)), judge(max(s.operatorRSS, s.peak) <= 200*mebibyte))
	r.row(fmt.Sprintf("… at most, while %d came at once", s.size-s.have), "≤ 200 MiB", mib(s.loadPeak), judge(s.loadPeak <= 200*mebibyte))
	r.row("broker RSS per user", "≤ 2 KiB", fmt.Sprintf("%.2f KiB (%s with none, %s with %d)", float64(perUser)/1024, mib(s.empty), mib(s.brokerRSS), s.brokerUsers), judge(perUser <= 2048))
	r.row(fmt.Sprintf("reconcile p99 with %d users", s.size), "", "user "+s.reconcileUser+", broker "+s.reconcileBroker, "")
	kinds := table{title: fmt.Sprintf("What one user more costs among %d", s.size), head: []string{"request", "per change"}}
	counts := s.all.kinds()
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		kinds.lines = append(kinds.lines, []string{kind, fmt.Sprintf("%.2f", float64(counts[kind])/n)})
	}
	r.tables = append(r.tables, kinds)
}
