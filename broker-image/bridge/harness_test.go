// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/engine"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// patience is how long a test waits for what must come; a machine may have much else to do.
const patience = time.Minute

// house is one of our brokers.
type house struct {
	t       testing.TB
	engine  *engine.Engine
	address string
	dir     string
	config  contract.Config
}

func allow(filter string) acl.Rule {
	return acl.Rule{Effect: acl.Allow, Actions: []acl.Action{acl.Publish, acl.Subscribe}, Filter: filter}
}

// openHouse starts a broker on loopback that lets everybody in. change may be nil.
func openHouse(t testing.TB, change func(*contract.Config)) *house {
	t.Helper()

	h := &house{t: t, dir: t.TempDir(), config: contract.Config{
		Broker: contract.Broker{
			Format: contract.Format, Name: "test/test", Revision: 1,
			Listeners: []contract.Listener{{
				Name: "tcp", Protocol: contract.TCP, Address: "127.0.0.1:0",
				Anonymous: &contract.Anonymous{ACL: []acl.Rule{allow("#"), allow("$mqtt-bridge/#")}},
			}},
			Limits: contract.DefaultLimits(), Logging: contract.DefaultLogging(),
			Persistence: contract.Persistence{Sync: contract.SyncInterval},
		},
	}}
	h.config.Limits.MaxQueuedMessages = 1_000_000
	h.config.Limits.MaxQueuedBytes = 1 << 30

	if change != nil {
		change(&h.config)
	}

	h.start()
	t.Cleanup(h.stop)

	return h
}

func (h *house) start() {
	h.t.Helper()

	e, err := engine.New(engine.Options{DataDir: h.dir})
	if err != nil {
		h.t.Fatal(err)
	}

	if h.address != "" {
		h.config.Listeners[0].Address = h.address
	}

	config := h.config
	if err := e.Apply(&config); err != nil {
		h.t.Fatal(err)
	}

	h.engine = e
	h.address = e.Status().Listeners[0].Address
}

func (h *house) stop() {
	if h.engine == nil {
		return
	}

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()

	_ = h.engine.Shutdown(ctx)
	h.engine = nil
}

func (h *house) url() string { return "mqtt://" + h.address }

// relay stands between two ends of a connection and breaks it when told to.
type relay struct {
	t        testing.TB
	listener net.Listener
	target   string

	refusing, frozen atomic.Bool
	thaw             chan struct{}
	held             atomic.Int64 // reads that a freeze has stopped

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newRelay(t testing.TB, target string) *relay {
	t.Helper()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	r := &relay{t: t, listener: listener, target: target, conns: map[net.Conn]bool{}, thaw: make(chan struct{})}

	t.Cleanup(func() {
		_ = listener.Close()
		r.unfreeze()
		r.cut()
	})

	go r.accept()

	return r
}

func (r *relay) url() string { return "mqtt://" + r.listener.Addr().String() }

func (r *relay) accept() {
	for {
		near, err := r.listener.Accept()
		if err != nil {
			return
		}

		if r.refusing.Load() {
			_ = near.Close()

			continue
		}

		far, err := net.Dial("tcp", r.target)
		if err != nil {
			_ = near.Close()

			continue
		}

		r.mu.Lock()
		r.conns[near], r.conns[far] = true, true
		r.mu.Unlock()

		go r.pass(near, far)
		go r.pass(far, near)
	}
}

func (r *relay) pass(from, to net.Conn) {
	defer func() {
		_ = from.Close()
		_ = to.Close()

		r.mu.Lock()
		defer r.mu.Unlock()

		delete(r.conns, from)
		delete(r.conns, to)
	}()

	buffer := make([]byte, 32<<10)

	for {
		n, err := from.Read(buffer)
		if r.frozen.Load() {
			if n > 0 {
				r.held.Add(1)
			}

			r.mu.Lock()
			thaw := r.thaw
			r.mu.Unlock()

			if r.frozen.Load() { // or it thawed meanwhile, and this is the channel of the next time
				<-thaw
			}
		}

		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}

		if err != nil {
			return
		}
	}
}

// cut breaks every connection, as a network does: without a word of MQTT.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()

	for c := range r.conns {
		_ = c.Close()
	}
}

// freeze lets nothing pass, and nobody notice.
func (r *relay) freeze() { r.frozen.Store(true) }

func (r *relay) unfreeze() {
	r.mu.Lock()
	defer r.mu.Unlock()

	if r.frozen.Swap(false) {
		close(r.thaw)
		r.thaw = make(chan struct{})
	}
}

// tap is a client of a test.
type tap struct {
	t     testing.TB
	peer  peer
	reads atomic.Pointer[peer] // the same, for the goroutine that reads

	mu       sync.Mutex
	messages []*inbound
	news     chan struct{}
	window   chan struct{}
	codes    map[byte]int
	wg       sync.WaitGroup
	silent   bool // do not keep messages
	seen     func(*inbound)
}

func newTap(t testing.TB, url string, version int, id string, clean bool) *tap {
	t.Helper()

	c := &tap{t: t, news: make(chan struct{}, 1), window: make(chan struct{}, 500), codes: map[byte]int{}}
	c.connect(url, version, id, clean)

	return c
}

func (c *tap) connect(url string, version int, id string, clean bool) {
	c.t.Helper()

	w := &passage{
		end: &contract.BridgeEnd{Version: version}, clientID: id, clean: clean, expiry: 3600, window: 1000,
		keepAlive: time.Minute, patience: patience, owner: c,
	}

	p, err := w.open(c.t.Context(), url)
	if err != nil {
		c.t.Fatal(err)
	}

	c.peer = p
	c.t.Cleanup(func() { p.abort(faultf(ReasonClosed, "the test is over")) })
}

func (c *tap) up(p peer, _ bool) { c.reads.Store(&p) }
func (c *tap) lost(peer, *fault) {}

func (c *tap) idle() {
	if p := c.reads.Load(); p != nil {
		(*p).flush()
	}
}

func (c *tap) received(p peer, m *inbound) {
	if m.qos == released {
		return
	}

	if m.qos > 0 {
		p.acknowledge(&entry{id: m.id, qos: m.qos})
		p.flush()
	}

	c.mu.Lock()
	if c.seen != nil {
		c.seen(m)
	}

	if !c.silent {
		kept := *m
		c.messages = append(c.messages, &kept)
	}
	c.mu.Unlock()

	select {
	case c.news <- struct{}{}:
	default:
	}
}

func (c *tap) completed(_ peer, e *entry, code byte) {
	if e == nil {
		return
	}

	c.mu.Lock()
	c.codes[code]++
	c.mu.Unlock()

	<-c.window
	c.wg.Done()
}

func (c *tap) subscribe(filter string, qos byte) {
	c.t.Helper()

	code, _, err := c.peer.subscribe(c.t.Context(), subscription{filter: filter, qos: qos, retain: true})
	if err != nil || code >= topCode {
		c.t.Fatalf("SUBSCRIBE %s: %v, code %#x", filter, err, code)
	}
}

// publish does not wait for the acknowledgement; see settle.
func (c *tap) publish(e *entry) {
	c.t.Helper()

	e.arrived = time.Now()

	if e.outQoS > 0 {
		c.window <- struct{}{}
		c.wg.Add(1)
	}

	if err := c.peer.publish(e, e.arrived); err != nil {
		c.t.Errorf("publish: %v", err)
	}

	c.peer.flush()
}

func (c *tap) say(topic, payload string, qos byte) {
	c.t.Helper()
	c.publish(&entry{topic: topic, payload: []byte(payload), outQoS: qos})
}

// settle waits until all that was published is acknowledged.
func (c *tap) settle() { c.wg.Wait() }

func (c *tap) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()

	return len(c.messages)
}

// waitFor waits until so many messages have come and returns all that did.
func (c *tap) waitFor(n int) []*inbound {
	c.t.Helper()

	deadline := time.After(patience)

	for {
		c.mu.Lock()
		have := c.messages
		c.mu.Unlock()

		if len(have) >= n {
			return have
		}

		select {
		case <-c.news:
		case <-deadline:
			c.t.Fatalf("%d messages came, want %d", len(have), n)
		}
	}
}

// eventually waits for a fact.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()

	deadline := time.After(patience)
	look := time.NewTicker(5 * time.Millisecond)

	defer look.Stop()

	for !is() {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("it never came about that %s", what)
		}
	}
}

var prefixes atomic.Int64

// config is a bridge's configuration that is good as it stands. Each has client identifiers of its own.
func config(local, remote string, routes ...contract.BridgeRoute) *contract.Bridge {
	end := func(url string) contract.BridgeEnd {
		return contract.BridgeEnd{
			Endpoints: []string{url}, Version: 5, ClientIDPrefix: fmt.Sprintf("b%d-", prefixes.Load()), KeepAliveSeconds: 10, SessionExpirySeconds: 3600,
		}
	}

	prefixes.Add(1)

	return &contract.Bridge{
		Format: contract.BridgeFormat, Name: fmt.Sprintf("test/bridge-%d", prefixes.Load()), Revision: 1,
		Local: end(local), Remote: end(remote), Routes: routes, Inflight: 100, Logging: contract.DefaultLogging(),
	}
}

// properties gives what is passed on its wire form.
func properties(t testing.TB, said *wire.Forwarded) []byte {
	t.Helper()

	b, err := wire.AppendForwarded(nil, said)
	if err != nil {
		t.Fatal(err)
	}

	return b
}

func route1(name string, d contract.Direction, filter string) contract.BridgeRoute {
	return contract.BridgeRoute{Name: name, Direction: d, Filter: filter, MaxQoS: 1}
}

// quick are options for tests: as in earnest, with less waiting.
func quick(t testing.TB) Options {
	t.Helper()

	out := io.Discard
	if os.Getenv("BRIDGE_LOG") != "" {
		out = t.Output()
	}

	return Options{
		MinBackoff: 20 * time.Millisecond, MaxBackoff: 200 * time.Millisecond, Patience: 2 * time.Second, Steady: 500 * time.Millisecond, answer: 100 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

func startBridge(t testing.TB, cfg *contract.Bridge) *Bridge {
	t.Helper()

	b := New(quick(t))
	t.Cleanup(b.Close)

	if err := b.Apply(cfg); err != nil {
		t.Fatal(err)
	}

	return b
}

func connected(t testing.TB, b *Bridge) {
	t.Helper()
	eventually(t, "every route is connected", func() bool {
		s := b.Status()
		for _, r := range s.Routes {
			if !r.Connected {
				return false
			}
		}

		return s.Local.Connected && s.Remote.Connected
	})
}

// ledger counts numbered messages: what is lost, what came twice, what came out of order.
type ledger struct {
	mu       sync.Mutex
	seen     map[uint32]int
	last     map[string]uint32
	disorder int
	total    int
}

func newLedger() *ledger { return &ledger{seen: map[uint32]int{}, last: map[string]uint32{}} }

func numbered(n int) []byte { return binary.BigEndian.AppendUint32(make([]byte, 0, 64), uint32(n)) }

// take notes a message. A repeated one may step back; a new one must be behind all others of its topic.
func (l *ledger) take(m *inbound) {
	l.mu.Lock()
	defer l.mu.Unlock()

	n := binary.BigEndian.Uint32(m.payload)
	l.total++

	l.seen[n]++
	if l.seen[n] == 1 {
		if last, found := l.last[m.topic]; found && n < last {
			l.disorder++
		}

		l.last[m.topic] = n
	}
}

func (l *ledger) distinct() int {
	l.mu.Lock()
	defer l.mu.Unlock()

	return len(l.seen)
}

func (l *ledger) repeated() int {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.total - len(l.seen)
}
