// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/engine"
	"github.com/mqtt-operator/mqtt-operator/controllers/desired"
	"github.com/mqtt-operator/mqtt-operator/controllers/gen"
	"github.com/mqtt-operator/mqtt-operator/controllers/pki"
)

// patience is generous because the tests share their machine; nothing waits for it unless it fails.
const patience = 30 * time.Second

// pod is a broker that runs here as it does in a pod: the engine with its listeners, the admin endpoint and the metrics, each
// at a port of its own. What is not here is the way through the API server; test/e2e goes it.
type pod struct {
	*site

	t      *testing.T
	engine *engine.Engine
	config *contract.Config
	data   string
	// since is when the engine began; guarded by mu, as is where a port of the pod is on this machine.
	since time.Time
	mu    sync.Mutex
	ports map[int]string
}

// Ports of the pod's listeners.
const (
	plainPort, securePort, webPort = 1883, 8883, 8884
)

// runs starts a broker whose certificates were issued at some time.
func runs(t *testing.T, issued time.Time) *pod {
	t.Helper()
	ca := must(pki.NewCA("mq CA", issued))(t)
	server := must(pki.Issue(ca, pki.Request{CommonName: "mq-broker", DNSNames: []string{"mq-mqtts.factory.svc", "mq-wss.factory.svc", "localhost"}, Server: true}, issued))(t)
	p := &pod{t: t, data: t.TempDir(), ports: map[int]string{}}
	t.Cleanup(p.stops)
	secure := &contract.ListenerTLS{Pair: "p", MinVersion: "1.2"}
	config := &contract.Config{
		Broker: contract.Broker{
			Format: contract.Format, Name: "factory/mq", Revision: 12, Limits: contract.DefaultLimits(), Logging: contract.DefaultLogging(),
			Listeners: []contract.Listener{
				{Name: "mqtt", Protocol: contract.TCP, Address: "127.0.0.1:0", ProxyProtocol: &contract.ProxyProtocol{Mode: contract.ProxyOptional, TrustedCIDRs: []string{"127.0.0.0/8"}}},
				{Name: "mqtts", Protocol: contract.TLS, Address: "127.0.0.1:0", TLS: secure},
				{Name: "wss", Protocol: contract.WSS, Address: "127.0.0.1:0", TLS: secure},
			},
		},
		Pairs: map[string]contract.KeyPair{"p": {Certificate: string(server.Certificate), PrivateKey: string(server.Key)}},
	}
	for _, name := range []string{"alice", "bob"} {
		config.Users = append(config.Users, contract.User{
			Username: name, Verifiers: []string{must(auth.NewSHA256([]byte(name+"-password"), []byte("somesalt")))(t)},
			ACL: []acl.Rule{allow([]acl.Action{acl.Publish, acl.Subscribe}, "factory/#")},
		})
	}
	p.config = config
	p.begins()
	adminCA := must(pki.NewCA("mq admin", time.Now()))(t)
	operator := must(pki.Issue(adminCA, desired.AdminClientRequest(), time.Now()))(t)
	p.serveAdmin(adminCA)
	p.serveMetrics()
	p.site = town(t, p.objects(ca, adminCA, operator))
	p.site.now = time.Now
	p.dial = p.dials
	return p
}

// begins starts the engine, with what the data directory holds.
func (p *pod) begins() {
	p.t.Helper()
	broker := must(engine.New(engine.Options{DataDir: p.data}))(p.t)
	if err := broker.Apply(p.config); err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.engine, p.since = broker, time.Now()
	for i, port := range []int{plainPort, securePort, webPort} {
		p.ports[port] = broker.Status().Listeners[i].Address
	}
}

func (p *pod) stops() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.engine.Shutdown(ctx); err != nil {
		p.t.Errorf("shutdown: %v", err)
	}
}

// status is of the admin endpoint.
func (p *pod) status() admin.Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return admin.Status{Started: p.since}
}

// Backup is of admin.Snapshots.
func (p *pod) Backup(ctx context.Context, to io.Writer) error {
	_, err := p.engine.Backup(ctx, to)
	return err
}

// Restore is of admin.Snapshots. It does what the program does: the engine ends, and another one begins.
func (p *pod) Restore(ctx context.Context, from io.Reader, o admin.RestoreOptions) (admin.Restored, error) {
	found, err := p.engine.Restore(ctx, from, engine.RestoreOptions(o))
	if held, is := errors.AsType[*engine.StateError](err); is {
		return admin.Restored{}, fmt.Errorf("%w: sessions: %d, retained messages: %d", admin.ErrHasState, held.Sessions, held.Retained)
	}
	if err != nil {
		return admin.Restored{}, err
	}
	p.stops()
	if err := found.Commit(); err != nil {
		return admin.Restored{}, err
	}
	p.begins()
	return admin.Restored{Header: found.Header, Totals: found.Totals}, nil
}

// must ends the test where there is an error.
func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// objects are those of the broker in the cluster.
func (p *pod) objects(ca, adminCA, operator pki.Pair) []client.Object {
	web := v1alpha1.BrokerListener{Name: "wss", Protocol: v1alpha1.ProtocolWSS, Port: webPort, TLS: &v1alpha1.ListenerTLS{SelfManaged: &v1alpha1.SelfManagedTLS{}}}
	b := wellBroker("factory", "mq", gen.WithListener(gen.Plain("mqtt", plainPort)), gen.WithListener(web))
	objects := []client.Object{
		b, podOf(b, 0),
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "factory", Name: v1alpha1.AdminCASecretName("mq")}, Type: v1alpha1.SecretTypeCA, Data: map[string][]byte{
			desired.CACertKey: adminCA.Certificate, desired.CAKeyKey: adminCA.Key,
			desired.ClientCertKey: operator.Certificate, desired.ClientKeyKey: operator.Key,
		}},
	}
	listeners := b.Resolved().Listeners
	for name, listener := range map[string]v1alpha1.ResolvedListener{"alice": listeners[0], "plain": listeners[1], "web": listeners[2]} {
		user := gen.User("factory", name, "mq", gen.WithUsername("alice"))
		content := desired.BindingContent{Password: []byte("alice-password"), CA: ca.Certificate}
		objects = append(objects, user, desired.Binding(user, listener, content))
	}
	wrong := gen.User("factory", "wrong", "mq", gen.WithUsername("alice"))
	stranger := must(pki.NewCA("another CA", time.Now()))(p.t)
	mistrusting := gen.User("factory", "mistrusting", "mq", gen.WithUsername("alice"))
	exact := gen.User("factory", "exact", "mq", gen.WithUsername("alice"))
	exact.Spec.ClientIDs = &v1alpha1.UserClientIDs{Exact: []string{"one", "two"}}
	prefixed := gen.User("factory", "prefixed", "mq", gen.WithUsername("alice"))
	prefixed.Spec.ClientIDs = &v1alpha1.UserClientIDs{Prefix: new("mine-")}
	return append(
		objects, wrong, desired.Binding(wrong, listeners[0], desired.BindingContent{Password: []byte("no"), CA: ca.Certificate}),
		mistrusting, desired.Binding(mistrusting, listeners[0], desired.BindingContent{Password: []byte("alice-password"), CA: stranger.Certificate}),
		exact, desired.Binding(exact, listeners[0], desired.BindingContent{Password: []byte("alice-password"), CA: ca.Certificate}),
		prefixed, desired.Binding(prefixed, listeners[0], desired.BindingContent{Password: []byte("alice-password"), CA: ca.Certificate}),
		gen.User("factory", "unbound", "mq"),
	)
}

func (p *pod) serveAdmin(ca pki.Pair) {
	p.t.Helper()
	end := must(pki.Issue(ca, pki.Request{CommonName: "broker", DNSNames: []string{desired.AdminServerName("factory", "mq")}, Server: true}, time.Now()))(p.t)
	dir := p.t.TempDir()
	for name, content := range map[string][]byte{"tls.crt": end.Certificate, "tls.key": end.Key, "ca.crt": ca.Certificate} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
	keeper := admin.NewKeeper(func(*contract.Config) error { return nil })
	if err := keeper.Offer(must(contract.Render(p.config, 1))(p.t)); err != nil {
		p.t.Fatal(err)
	}
	handler := admin.Handler(keeper, p.status, p.trace, admin.WithClients(p), admin.WithSnapshots(p))
	server := must(admin.NewServer(handler, dir))(p.t)
	p.serves(contract.AdminPort, server, func(l net.Listener) error { return server.ServeTLS(l, "", "") })
}

func (p *pod) serveMetrics() {
	mux := http.NewServeMux()
	mux.Handle("GET "+contract.MetricsPath, p.engine.Metrics().Handler())
	server := &http.Server{Handler: mux}
	p.serves(contract.HealthPort, server, server.Serve)
}

func (p *pod) serves(port int, server *http.Server, serve func(net.Listener) error) {
	p.t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))(p.t)
	p.mu.Lock()
	p.ports[port] = l.Addr().String()
	p.mu.Unlock()
	go func() { _ = serve(l) }()
	p.t.Cleanup(func() { _ = server.Close() })
}

// dials is what the API server does.
func (p *pod) dials(ctx context.Context, key client.ObjectKey, port int) (net.Conn, error) {
	if key.Namespace != "factory" || key.Name != "mq-broker-0" {
		return nil, fmt.Errorf("there is no pod %s", key)
	}
	p.mu.Lock()
	address := p.ports[port]
	p.mu.Unlock()
	if address == "" {
		return nil, errors.New("connection refused")
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", address)
}

// List is of admin.Clients.
func (p *pod) List(filter admin.ClientFilter) admin.ClientPage {
	found := p.engine.Clients(engine.ClientFilter(filter))
	page := admin.ClientPage{Next: found.Next}
	for _, c := range found.Clients {
		page.Clients = append(page.Clients, admin.ConnectedClient{
			Client: c.ClientID, User: c.User, Listener: c.Listener, Remote: c.Remote, Version: c.Version, Since: c.Since,
			Subscriptions: c.Subscriptions, Queued: c.Queued, QueuedBytes: c.QueuedBytes, Inflight: c.Inflight,
		})
	}
	return page
}

// Disconnect is of admin.Clients.
func (p *pod) Disconnect(id string) bool { return p.engine.Disconnect(id) }

func (p *pod) trace(ctx context.Context, filter admin.TraceFilter, emit func(admin.TraceEvent) error) error {
	return p.engine.Trace(ctx, engine.TraceFilter{ClientID: filter.Client, TopicFilter: filter.Topic}, func(e engine.TraceEvent) error {
		return emit(admin.TraceEvent{
			Time: e.Time, Event: string(e.Kind), Client: e.Client, User: e.User, Listener: e.Listener, Remote: e.Remote, Version: e.Version,
			Topic: e.Topic, Filter: e.Filter, QoS: e.QoS, Retain: e.Retain, Dup: e.Dup, Size: e.Size, PacketID: e.PacketID,
			Packet: e.Packet, Code: e.Code, Reason: e.Reason, Count: e.Count,
		})
	})
}

// device connects a client that the PROXY header says to come from 192.0.2.n. What it is told at the end comes by gone.
func (p *pod) device(n int, id, user string) (device *paho.Client, gone <-chan byte) {
	p.t.Helper()
	conn := must(net.Dial("tcp", p.ports[plainPort]))(p.t)
	p.t.Cleanup(func() { _ = conn.Close() })
	if _, err := fmt.Fprintf(conn, "PROXY TCP4 192.0.2.%d 192.0.2.1 4000%d 1883\r\n", n, n); err != nil {
		p.t.Fatal(err)
	}
	told := make(chan byte, 1)
	device = paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(conn), OnServerDisconnect: func(d *paho.Disconnect) { told <- d.ReasonCode },
	})
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	if _, err := device.Connect(ctx, &paho.Connect{
		ClientID: id, CleanStart: true, KeepAlive: 60, Username: user, UsernameFlag: true, Password: []byte(user + "-password"), PasswordFlag: true,
	}); err != nil {
		p.t.Fatal(err)
	}
	return device, told
}

func (p *pod) subscribes(device *paho.Client, filters ...string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	subscribe := &paho.Subscribe{}
	for _, filter := range filters {
		subscribe.Subscriptions = append(subscribe.Subscriptions, paho.SubscribeOptions{Topic: filter, QoS: 1})
	}
	if _, err := device.Subscribe(ctx, subscribe); err != nil {
		p.t.Fatal(err)
	}
}

// shouts collects what a verb prints while it runs.
type shouts struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *shouts) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *shouts) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// verb is a verb that goes on.
type verb struct {
	t         *testing.T
	out, errs shouts
	cancel    context.CancelFunc
	code      chan int
}

// starts begins a verb.
func starts(t *testing.T, open opener, args ...string) *verb {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	v := &verb{t: t, cancel: cancel, code: make(chan int, 1)}
	go func() { v.code <- run(ctx, args, streams{out: &v.out, err: &v.errs}, open) }()
	return v
}

// until waits for words in what it prints.
func (v *verb) until(words string) {
	v.t.Helper()
	for end := time.Now().Add(patience); !strings.Contains(v.out.String()+v.errs.String(), words); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			v.t.Fatalf("%q was not said:\n%s%s", words, v.out.String(), v.errs.String())
		}
	}
}

// ends waits for the end.
func (v *verb) ends() int {
	v.t.Helper()
	select {
	case code := <-v.code:
		return code
	case <-time.After(patience):
		v.t.Fatalf("it does not end:\n%s%s", v.out.String(), v.errs.String())
		return 0
	}
}

func TestClients(t *testing.T) {
	p := runs(t, time.Now())
	alice, _ := p.device(7, "press-7", "alice")
	p.device(8, "press \x7f8", "bob")
	p.subscribes(alice, "factory/a", "factory/b")
	p.site.now = func() time.Time { return time.Now().Add(10*time.Hour + 30*time.Minute) }

	code, out, errs := call(t, p.opens, "clients", "mq")
	if code != exitYes || errs != "" {
		t.Errorf("%d %s", code, errs)
	}
	golden(t, "clients", out)

	for args, want := range map[string]string{
		"--user bob": "press \\x7f8", "--prefix press-": "press-7", "--listener mqtts": "nobody", "--limit 1": "press", "--limit 0": "press-7", "-o wide": "mq-broker-0", "-o yaml": "remote: 192.0.2.7:40007",
	} {
		code, out, errs := call(t, p.opens, append([]string{"clients"}, strings.Fields(args)...)...)
		if code != exitYes || !strings.Contains(out, want) || strings.Contains(errs, "there are more") != (args == "--limit 1") {
			t.Errorf("%s: %d %s%s", args, code, out, errs)
		}
	}
	if code, _, errs := call(t, p.opens, "clients", "--limit", "-1"); code != exitUsage {
		t.Errorf("%d %s", code, errs)
	}
}

func TestClientsOfManyPages(t *testing.T) {
	list := admin.ClientPage{}
	for i := range 2*admin.MaxClients + 5 {
		list.Clients = append(list.Clients, admin.ConnectedClient{Client: fmt.Sprintf("c-%05d", i)})
	}
	p := runs(t, time.Now())
	p.serveCrowd(t, &list)
	for limit, want := range map[int]int{0: len(list.Clients), 1: 1, admin.MaxClients: admin.MaxClients, admin.MaxClients + 1: admin.MaxClients + 1, len(list.Clients): len(list.Clients), 1 << 20: len(list.Clients)} {
		r := must(reach(t.Context(), p.opens, connection{}))(t)
		got := must(r.clients(t.Context(), admin.ClientFilter{Limit: limit}))(t)
		if len(got.Clients) != want || got.More != (want < len(list.Clients)) || got.Clients[want-1].Client != list.Clients[want-1].Client {
			t.Errorf("a limit of %d: %d clients, more: %t", limit, len(got.Clients), got.More)
		}
	}
}

// crowd is a list of clients that is longer than a test can connect.
type crowd struct{ all *admin.ClientPage }

func (c crowd) List(f admin.ClientFilter) admin.ClientPage {
	page := admin.ClientPage{}
	for _, one := range c.all.Clients {
		if one.Client <= f.After {
			continue
		}
		if len(page.Clients) == f.Limit {
			page.Next = page.Clients[f.Limit-1].Client
			break
		}
		page.Clients = append(page.Clients, one)
	}
	return page
}

func (crowd) Disconnect(string) bool { return false }

// serveCrowd puts the list in the place of the engine's.
func (p *pod) serveCrowd(t *testing.T, all *admin.ClientPage) {
	t.Helper()
	secret := &corev1.Secret{}
	if err := p.Get(t.Context(), client.ObjectKey{Namespace: "factory", Name: v1alpha1.AdminCASecretName("mq")}, secret); err != nil {
		t.Fatal(err)
	}
	ca := pki.Pair{Certificate: secret.Data[desired.CACertKey], Key: secret.Data[desired.CAKeyKey]}
	end := must(pki.Issue(ca, pki.Request{CommonName: "broker", DNSNames: []string{desired.AdminServerName("factory", "mq")}, Server: true}, time.Now()))(t)
	dir := t.TempDir()
	for name, content := range map[string][]byte{"tls.crt": end.Certificate, "tls.key": end.Key, "ca.crt": ca.Certificate} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keeper := admin.NewKeeper(func(*contract.Config) error { return nil })
	server := must(admin.NewServer(admin.Handler(keeper, func() admin.Status { return admin.Status{} }, nil, admin.WithClients(crowd{all})), dir))(t)
	p.serves(contract.AdminPort, server, func(l net.Listener) error { return server.ServeTLS(l, "", "") })
}

func TestKick(t *testing.T) {
	p := runs(t, time.Now())
	_, gone := p.device(7, "press-7", "alice")
	code, out, errs := call(t, p.opens, "kick", "press-7")
	if code != exitYes || errs != "" {
		t.Errorf("%d %s", code, errs)
	}
	golden(t, "kick", out)
	if told := <-gone; told != 0x98 {
		t.Errorf("told %#x, want 0x98 Administrative action", told)
	}
	if code, out, errs := call(t, p.opens, "kick", "nobody"); code != exitNo || out != "no client nobody is connected to broker factory/mq\n" {
		t.Errorf("%d %s%s", code, out, errs)
	}
}

func TestWhatOpensTheAdminEndpointIsAskedFor(t *testing.T) {
	p := runs(t, time.Now())
	if err := p.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "factory", Name: "mq-admin-ca"}}); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := call(t, p.opens, "clients"); code != exitUnknown || out != "" || !strings.Contains(errs, "mq-admin-ca") {
		t.Errorf("%d %s%s", code, out, errs)
	}
	b := wellBroker("factory", "mq")
	open := town(t, []client.Object{b, podOf(b, 0)}, noSecrets).opens
	if code, _, errs := call(t, open, "clients"); code != exitUnknown || !strings.Contains(errs, "you may not read Secret mq-admin-ca") {
		t.Errorf("%d %s", code, errs)
	}
	open = town(t, []client.Object{b}).opens
	if code, _, errs := call(t, open, "clients"); code != exitUnknown || !strings.Contains(errs, "no pod of broker factory/mq runs: see kubectl mqtt status mq -n factory") {
		t.Errorf("%d %s", code, errs)
	}
}

func TestTraceOfARunningBroker(t *testing.T) {
	p := runs(t, time.Now())
	device, _ := p.device(7, "press-7", "alice")
	of := starts(t, p.opens, "trace", "press-7")
	about := starts(t, p.opens, "trace", "factory/+", "-o", "json")
	of.until("from here on everything is seen")
	about.until(`"event":"begun"`)
	p.subscribes(device, "factory/a")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := device.Publish(ctx, &paho.Publish{Topic: "factory/a", QoS: 1, Payload: []byte(marker)}); err != nil {
		t.Fatal(err)
	}
	of.until("PUBACK")
	about.until(`"event":"sent"`)
	for _, v := range []*verb{of, about} {
		v.cancel()
		if code := v.ends(); code != exitYes || strings.Contains(v.out.String(), marker) {
			t.Errorf("%d %s%s", code, v.out.String(), v.errs.String())
		}
	}
	if code, out, errs := call(t, p.opens, "trace", "nobody", "--for", "10ms"); code != exitYes || !strings.Contains(out, "begun") || errs != "" {
		t.Errorf("it ends by itself: %d %s%s", code, out, errs)
	}
}

func TestPublishAndSubscribe(t *testing.T) {
	p := runs(t, time.Now())
	for _, user := range []string{"alice", "plain", "web", "prefixed"} {
		t.Run(user, func(t *testing.T) {
			listening := starts(t, p.opens, "sub", "factory/+", "--as-user", user, "--count", "2", "--qos", "1")
			listening.until("subscribed to factory/+ as alice")
			for _, args := range [][]string{{"hello there", "--qos", "2"}, {"\x1b[31mred", "--qos", "0"}} {
				if code, out, errs := call(t, p.opens, append([]string{"pub", "factory/x", "--as-user", user}, args...)...); code != exitYes || out != "" {
					t.Fatalf("%d %s%s", code, out, errs)
				}
			}
			if code := listening.ends(); code != exitYes {
				t.Errorf("%d %s", code, listening.errs.String())
			}
			golden(t, "sub", listening.out.String())
		})
	}
	code, _, errs := call(t, p.opens, "pub", "factory/kept", `{"a":1}`, "--retain", "--qos", "1", "--as-user", "alice")
	if code != exitYes || errs != "note: taken; nobody has subscribed to it\n" {
		t.Errorf("%d %s", code, errs)
	}
	_, out, _ := call(t, p.opens, "sub", "factory/kept", "--count", "1", "-o", "json", "--as-user", "alice")
	if out != `{"topic":"factory/kept","qos":0,"retain":true,"payload":"{\"a\":1}"}`+"\n" {
		t.Errorf("as JSON: %s", out)
	}
	if _, out, _ = call(t, p.opens, "sub", "factory/kept", "--count", "1", "--raw", "--as-user", "alice"); out != `{"a":1}` {
		t.Errorf("raw: %s", out)
	}
	if _, out, _ = call(t, p.opens, "sub", "factory/kept", "--count", "1", "-o", "yaml", "--as-user", "alice"); !strings.Contains(out, "topic: factory/kept") {
		t.Errorf("as YAML: %s", out)
	}
	if code, out, errs := call(t, p.opens, "sub", "factory/nothing", "--for", "10ms", "--as-user", "alice"); code != exitYes || out != "" {
		t.Errorf("it ends by itself: %d %s%s", code, out, errs)
	}
	listening := starts(t, p.opens, "sub", "factory/nothing", "--as-user", "alice", "--client-id", "kicked")
	listening.until("subscribed")
	if !p.engine.Disconnect("kicked") {
		t.Error("who is connected with --client-id has that client id")
	}
	if code := listening.ends(); code != exitNo || !strings.Contains(listening.errs.String(), "an administrative action (0x98)") {
		t.Errorf("%d %s", code, listening.errs.String())
	}
}

func TestWhoMayNotIsTold(t *testing.T) {
	p := runs(t, time.Now())
	for args, want := range map[string]struct {
		code int
		errs string
	}{
		"pub a b":                                       {exitUsage, "say as whom with --as-user"},
		"pub a/# b --as-user alice":                     {exitUsage, "a/#: a topic name must not hold the wildcard"},
		"sub a/#/b --as-user alice":                     {exitUsage, "a/#/b: "},
		"pub a b --as-user alice --qos 3":               {exitUsage, "--qos 3 is not 0, 1 or 2"},
		"sub a --as-user alice --raw -o json":           {exitUsage, "--raw and -o do not go together"},
		"pub a b --as-user nobody":                      {exitUnknown, "not found"},
		"pub a b --as-user unbound":                     {exitUnknown, "MQTTUser unbound has no binding yet"},
		"pub a b --as-user wrong":                       {exitNo, "the broker does not let alice in: unknown user, or wrong password (0x86)"},
		"pub factory/x b --as-user mistrusting":         {exitUnknown, "certificate signed by unknown authority"},
		"pub a b --as-user alice --qos 2":               {exitNo, "the broker does not take it: not authorized (0x87)"},
		"pub a b --as-user alice --qos 1":               {exitNo, "the broker does not take it: not authorized (0x87)"},
		"sub a --as-user alice":                         {exitNo, "the broker refuses the subscription to a: not authorized (0x87)"},
		"pub factory/x b --as-user exact":               {exitUsage, "these client ids alone: one, two; say which with --client-id"},
		"pub factory/x b --as-user exact --client-id q": {exitYes, "note: sent"},
	} {
		if code, out, errs := call(t, p.opens, strings.Fields(args)...); code != want.code || out != "" || !strings.Contains(errs, want.errs) || strings.Contains(errs, "password)") {
			t.Errorf("%s: %d %s%s\nwant %d %s", args, code, out, errs, want.code, want.errs)
		}
	}
}

func TestABindingIsWhatItSays(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(map[string][]byte)
		want   string
	}{
		"no host":     {func(d map[string][]byte) { delete(d, "host") }, "host or uri is missing"},
		"a bad uri":   {func(d map[string][]byte) { d["uri"] = []byte("mqtt://%zz") }, "uri is none"},
		"no proof":    {func(d map[string][]byte) { delete(d, "password") }, "holds neither password nor certificate"},
		"a bad pair":  {func(d map[string][]byte) { d["tls.crt"], d["uri"] = []byte("x"), []byte("mqtts://h:1") }, "tls"},
		"what is one": {func(map[string][]byte) {}, ""},
	} {
		data := map[string][]byte{"host": []byte("h"), "port": []byte("1"), "uri": []byte("mqtt://h:1"), "username": []byte("u"), "password": []byte("p")}
		tc.change(data)
		_, err := parseBinding(data)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
}

func TestCert(t *testing.T) {
	p := runs(t, noon)
	p.site.now = func() time.Time { return noon }
	code, out, errs := call(t, p.opens, "cert", "mq")
	if code != exitYes || errs != "" {
		t.Errorf("%d %s", code, errs)
	}
	golden(t, "cert", out)
	p.site.now = func() time.Time { return noon.Add(pki.LeafValidity + time.Hour) }
	if code, out, _ := call(t, p.opens, "cert", "mq", "-o", "wide"); code != exitNo || !strings.Contains(out, "-1") || !strings.Contains(out, "CN=mq-broker") {
		t.Errorf("an old one: %d %s", code, out)
	}
	_, out, _ = call(t, p.opens, "cert", "mq", "-o", "json")
	if !strings.Contains(out, `"sha256": "`) || !strings.Contains(out, `"source": "selfManaged"`) {
		t.Error(out)
	}
	p.site.now = func() time.Time { return noon }
	delete(p.ports, webPort)
	code, out, _ = call(t, p.opens, "cert", "mq")
	if code != exitNo {
		t.Errorf("exit code %d", code)
	}
	golden(t, "cert-unreachable", out)
}

func TestTopOfARunningBroker(t *testing.T) {
	p := runs(t, time.Now())
	p.device(7, "press-7", "alice")
	code, out, errs := call(t, p.opens, "top", "mq", "--interval", "10ms", "-o", "wide")
	if code != exitYes || errs != "" || !strings.Contains(out, "mq-broker-0   1 ") {
		t.Errorf("%d %s%s", code, out, errs)
	}
	// What is not measured would count as nothing.
	shown := read(must(p.metrics(t.Context(), client.ObjectKey{Namespace: "factory", Name: "mq-broker-0"}))(t), noon)
	for _, name := range []string{
		"connections", "sessions", "subscriptions", "queue_messages", "queue_bytes", "inflight_messages", "retained_messages", "received_bytes_total",
		"sent_bytes_total", "messages_received_total", "messages_sent_total", "connections_opened_total", "disconnections_total", "messages_dropped_total",
	} {
		found := false
		for i := range shown.values {
			found = found || shown.values[i].name == prefix+name
		}
		if !found {
			t.Errorf("the broker measures no %s", prefix+name)
		}
	}
	if reasons := shown.by(prefix + "messages_dropped_total"); len(reasons) < 5 || reasons["queue_messages"] != 0 {
		t.Errorf("reasons: %v", reasons)
	}
	delete(p.ports, contract.HealthPort)
	if code, out, errs := call(t, p.opens, "top", "--interval", "10ms"); code != exitUnknown || out != "" || !strings.Contains(errs, "metrics of pod mq-broker-0") {
		t.Errorf("%d %s%s", code, out, errs)
	}
}

func TestTopGoesOnOnATerminal(t *testing.T) {
	p := runs(t, time.Now())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	v := &verb{t: t, cancel: cancel, code: make(chan int, 1)}
	go func() {
		v.code <- run(ctx, []string{"top", "--interval", "10ms"}, streams{out: &v.out, err: &v.errs, terminal: true}, p.opens)
	}()
	for end := time.Now().Add(patience); strings.Count(v.out.String(), "POD") < 3; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not go on: %s%s", v.out.String(), v.errs.String())
		}
	}
	cancel()
	if code := v.ends(); code != exitYes || v.errs.String() != "" {
		t.Errorf("%d %s", code, v.errs.String())
	}
}
