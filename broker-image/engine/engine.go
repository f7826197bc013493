// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/listen"
)

const (
	forever         = math.MaxUint32
	connectPatience = 10 * time.Second
	housekeeping    = time.Second
	rememberedUsers = 100_000
	queuedWrites    = 4096
	queuedMessages  = 32 << 10
	statisticsEvery = 30 // seconds between two updates of $SYS
)

// ErrStopped says that the engine has been shut down.
var ErrStopped = errors.New("the broker has stopped")

// Options are what an Engine needs for its life. Zero values have defaults.
type Options struct {
	// Log is where the engine writes; nil discards.
	Log *slog.Logger
	// DataDir keeps sessions and retained messages over a restart; empty keeps nothing.
	DataDir string
	// Version is what $SYS/broker/version says.
	Version string
	// ConnectPatience bounds the time from accept to CONNECT, the TLS handshake included. Zero means 10 s.
	ConnectPatience time.Duration
}

// Engine is a broker. Its methods are safe for concurrent use.
type Engine struct {
	options Options
	log     *slog.Logger
	audit   *auditor
	server  *mqtt.Server
	store   *store
	cache   *auth.Cache
	claims  claims
	wills   wills
	inboxes inboxes
	sender  *mqtt.Client // in whose name the library gets what clients publish
	probe   Credential

	state    atomic.Pointer[state]
	stopping atomic.Bool

	refusedConnects   atomic.Int64
	refusedPublishes  atomic.Int64
	refusedSubscribes atomic.Int64
	refusedPackets    atomic.Int64

	applying sync.Mutex
	running  bool                        // guarded by applying
	sockets  map[string]*listen.Listener // guarded by applying

	mu      sync.Mutex
	members map[*conn]*member // every connection; nil until it is let in
	serving sync.WaitGroup    // added to under mu, while not stopping

	quit chan struct{}
	idle chan struct{} // closed when the housekeeper is gone
}

// Credential lets the process's own probe in. It exists nowhere else.
type Credential struct{ Username, Password string }

// String hides the password.
func (Credential) String() string { return "engine.Credential{hidden}" }

// GoString hides the password from %#v.
func (c Credential) GoString() string { return c.String() }

// New opens the data directory. Nothing is served before the first Apply.
func New(options Options) (*Engine, error) {
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}

	if options.Version == "" {
		options.Version = "unknown"
	}

	if options.ConnectPatience == 0 {
		options.ConnectPatience = connectPatience
	}

	e := &Engine{
		options: options,
		log:     options.Log,
		audit:   newAuditor(options.Log),
		cache:   auth.NewCache(rememberedUsers),
		claims:  claims{by: map[string]*claim{}},
		wills:   wills{timers: map[string]*pendingWill{}},
		probe:   Credential{Username: "$probe-" + randomText(), Password: randomText()},
		inboxes: inboxes{by: map[string]*inbox{}},
		sockets: map[string]*listen.Listener{},
		members: map[*conn]*member{},
		quit:    make(chan struct{}),
		idle:    make(chan struct{}),
	}

	if options.DataDir != "" {
		var err error
		if e.store, err = openStore(options.DataDir, options.Log); err != nil {
			return nil, err
		}
	}

	// Limits that a configuration can change are kept around the library, which reads its own without a lock. These are
	// fixed.
	capabilities := mqtt.NewDefaultServerCapabilities()
	capabilities.MaximumPacketSize = contract.MaxPacketSize
	capabilities.MaximumMessageExpiryInterval = 0 // or it would forget every message after a day
	capabilities.MaximumClientWritesPending = queuedWrites
	capabilities.MaximumInflight = queuedMessages
	capabilities.ReceiveMaximum = math.MaxUint16
	capabilities.Compatibilities.NoInheritedPropertiesOnAck = true

	e.server = mqtt.New(&mqtt.Options{
		Capabilities:           capabilities,
		Logger:                 slog.New(quiet{options.Log.Handler()}),
		SysTopicResendInterval: statisticsEvery,
	})

	e.server.Info.Version = options.Version

	if err := e.server.AddHook(&hook{engine: e}, nil); err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}

	e.sender = e.server.NewClient(nil, "inside", "inside", true)
	e.sender.Properties.ProtocolVersion = 5

	return e, nil
}

func randomText() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: the runtime ends the process instead

	return base64.RawURLEncoding.EncodeToString(b)
}

// Apply makes the configuration the one that holds. It is all or nothing: if it returns an error, everything is as it
// was before, and the error says why.
func (e *Engine) Apply(config *contract.Config) error {
	e.applying.Lock()
	defer e.applying.Unlock()

	if e.stopping.Load() {
		return ErrStopped
	}

	before := e.state.Load()

	next, err := compile(config, before)
	if err != nil {
		return err
	}

	sockets, fresh, err := e.bind(next)
	if err != nil {
		return err
	}

	if !e.running {
		e.state.Store(next)

		if err := e.start(); err != nil {
			e.state.Store(nil)
			closeAll(fresh)

			return err
		}
	}

	e.state.Store(next)
	e.swap(sockets, next)

	for _, l := range fresh {
		l.Start()
	}

	e.sweep(before, next)

	return nil
}

// bind opens the sockets that are new. On error none stays open.
func (e *Engine) bind(next *state) (sockets map[string]*listen.Listener, fresh []*listen.Listener, err error) {
	sockets = map[string]*listen.Listener{}

	for _, d := range next.doors {
		if l, ok := e.sockets[d.socket()]; ok {
			sockets[d.socket()] = l

			continue
		}

		l, err := listen.Bind(d.Address, d.settings(), listen.Options{
			Log: e.log, Handler: e.serve, Patience: e.options.ConnectPatience,
		})
		if err != nil {
			closeAll(fresh)

			return nil, nil, fmt.Errorf("listener %q: %w", d.Name, err)
		}

		sockets[d.socket()] = l
		fresh = append(fresh, l)
	}

	return sockets, fresh, nil
}

func closeAll(listeners []*listen.Listener) {
	for _, l := range listeners {
		_ = l.Close()
	}
}

// swap changes the doors: kept sockets get their new settings, those that are not wanted any more are closed.
func (e *Engine) swap(sockets map[string]*listen.Listener, next *state) {
	for _, d := range next.doors {
		sockets[d.socket()].Set(d.settings())
	}

	for name, l := range e.sockets {
		if _, kept := sockets[name]; !kept {
			_ = l.Close()
		}
	}

	e.sockets = sockets
}

// start reads the store and begins the library's own work.
func (e *Engine) start() error {
	if err := e.server.Serve(); err != nil {
		return fmt.Errorf("sessions could not be restored: %w", err)
	}

	if err := e.restore(); err != nil {
		return err
	}

	e.running = true
	go e.keepHouse()

	return nil
}

// restore brings back what the library's form of storage does not know: when messages expire, and which QoS 2 messages
// have been received.
func (e *Engine) restore() error {
	received, err := e.store.received()
	if err != nil {
		return err
	}

	for _, r := range received {
		if _, ok := e.server.Clients.Get(r.client); ok {
			e.inboxes.open(r.client, false).add(r.id)
		}
	}

	revive := func(pk packets.Packet) packets.Packet {
		pk.ProtocolVersion = 5
		if interval := int64(pk.Properties.MessageExpiryInterval); interval > 0 {
			pk.Expiry = pk.Created + interval
		}

		return pk
	}

	for topic, pk := range e.server.Topics.Retained.GetAll() {
		e.server.Topics.Retained.Add(topic, revive(pk))
	}

	for _, cl := range e.server.Clients.GetAll() {
		for _, pk := range cl.State.Inflight.GetAll(false) {
			if pk.FixedHeader.Type == packets.Publish {
				cl.State.Inflight.Set(revive(pk))
			}
		}
	}

	return nil
}

func (e *Engine) keepHouse() {
	defer close(e.idle)

	ticker := time.NewTicker(housekeeping)
	defer ticker.Stop()

	for {
		select {
		case <-e.quit:
			return
		case now := <-ticker.C:
			e.expireSessions(now)
		}
	}
}

// sweep looks at everyone again under the new configuration.
func (e *Engine) sweep(before, next *state) {
	for _, m := range e.allMembers() {
		e.examine(m, next)
	}

	for _, cl := range e.server.Clients.GetAll() {
		if !cl.Closed() {
			continue // looked at as a member
		}

		policy := next.policy(cl.Properties.Username, cl.Net.Listener)
		if before == nil || policy != before.policy(cl.Properties.Username, cl.Net.Listener) {
			e.narrow(cl, policy)
		}
	}
}

// serve is called by a listener for each connection.
func (e *Engine) serve(raw net.Conn, settings *listen.Settings) {
	d := e.state.Load().door(settings.Name)
	if d == nil {
		return
	}

	c := newConn(e, raw, d)
	if !e.enter(c) {
		return
	}
	defer e.serving.Done()

	orderly := false

	defer func() {
		e.leave(c, orderly)

		if orderly {
			c.goodbye()
		}
	}()

	err := e.server.EstablishConnection(d.Name, c)
	orderly = true

	if err != nil {
		e.log.Debug("connection ended", "listener", d.Name, "client", c.id, "reason", err)
	}
}

// enter makes a connection known, unless the broker is shutting down.
func (e *Engine) enter(c *conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()

	if e.stopping.Load() {
		return false
	}

	e.members[c] = nil
	e.serving.Add(1)

	return true
}

// authenticate gives the connection its identity, or says why not. What it says is for the log; the client learns only
// that it was refused.
func (e *Engine) authenticate(c *conn, pk *packets.Packet, now *state) string {
	name, password := string(pk.Connect.Username), pk.Connect.Password
	who := &identity{username: name, door: c.door}

	switch {
	case name == "" && len(password) == 0:
		d := now.door(c.door.Name)
		if d == nil || d.anonymous == nil {
			return "no credentials, and the listener lets nobody in without"
		}
	case subtle.ConstantTimeCompare([]byte(name), []byte(e.probe.Username)) == 1:
		if subtle.ConstantTimeCompare(password, []byte(e.probe.Password)) != 1 {
			return "unknown user or wrong password"
		}

		who.probe = true
	default:
		var verifiers []*auth.Verifier
		if u := now.users[name]; u != nil && name != "" {
			verifiers = u.verifiers
		}

		fitted := e.cache.Verify(name, verifiers, password)
		if fitted == nil {
			return "unknown user or wrong password"
		}

		who.verifier = fitted.Text()
	}

	c.who = who

	return ""
}

// Shutdown disconnects every client, writes what is still to be written and closes everything. If the context ends
// first, the rest is cut off.
func (e *Engine) Shutdown(ctx context.Context) error {
	e.mu.Lock()
	again := e.stopping.Swap(true)
	e.mu.Unlock()

	if again {
		return ErrStopped
	}

	e.applying.Lock() // no Apply is under way, and none will begin
	running := e.running

	for _, l := range e.sockets {
		_ = l.Close()
	}
	e.applying.Unlock()

	e.stopWills()
	e.dismiss()

	gone := make(chan struct{})

	go func() {
		e.serving.Wait()
		close(gone)
	}()

	var err error

	select {
	case <-gone:
	case <-ctx.Done():
		err = fmt.Errorf("clients did not leave in time: %w", ctx.Err())
	}

	if running {
		close(e.quit)
		<-e.idle

		err = errors.Join(err, e.closeServer(ctx))
	}

	return errors.Join(err, e.store.close())
}

// dismiss tells every client that the broker shuts down. Who has not been let in yet is closed without a word.
func (e *Engine) dismiss() {
	e.mu.Lock()
	defer e.mu.Unlock()

	for c, m := range e.members {
		if m == nil {
			_ = c.Close()
		} else {
			e.disconnect(m, packets.ErrServerShuttingDown)
		}
	}
}

func (e *Engine) closeServer(ctx context.Context) error {
	closed := make(chan error, 1)

	go func() { closed <- e.server.Close() }()

	select {
	case err := <-closed:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the server did not close in time: %w", ctx.Err())
	}
}
