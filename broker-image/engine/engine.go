// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/listen"
	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/store"
	"github.com/mqtt-operator/mqtt-operator/broker-image/token"
	"github.com/mqtt-operator/mqtt-operator/broker-image/topics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

const (
	connectPatience = 10 * time.Second
	rememberedUsers = 100_000
	// busyDisk is how many bytes may wait for the disk before publishers that need it are read more slowly.
	busyDisk = 16 << 20
	// stallSilence is how long a client that is not read is not missed.
	stallSilence = time.Hour
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
	// Methods are the authentication methods of MQTT 5 by name; each call begins one exchange.
	Methods map[string]func() Exchange
	// KeyRoots are the CAs that are believed when keys of token issuers are fetched; nil: see [token.KeeperOptions].
	KeyRoots *x509.CertPool
	// ConfigFault tells whether a newer configuration was refused before it came to Apply; nil says no.
	ConfigFault func() bool
	// SysInterval is how often $SYS is published; zero means 10 s.
	SysInterval time.Duration
}

// Engine is a broker. Its methods are safe for concurrent use.
type Engine struct {
	doorkeeper

	options Options
	log     *slog.Logger
	audit   *auditor
	probe   Credential
	guest   *tls.Certificate // of the probe
	began   time.Time
	metrics *metrics.Set
	wheel   *wheel

	index    *topics.Index[*session]
	sessions *registry
	retained *topics.Retained[*message]
	keys     *token.Keeper
	store    *store.Store // nil when nothing is kept
	// storeRound belongs to the store's goroutine.
	storeRound *round

	state    atomic.Pointer[state]
	redirect atomic.Pointer[Redirect]
	tracer   atomic.Pointer[tracer]
	stopping atomic.Bool
	_        [128]byte // what stands above is read all the time, what stands below is written

	// snapshotting: a backup or a restore is under way.
	snapshotting   atomic.Bool
	lastSession    atomic.Uint64
	births         atomic.Uint64
	connections    atomic.Int64
	probes         atomic.Int64
	retainedBytes  atomic.Int64
	queuedMessages atomic.Int64
	queuedBytes    atomic.Int64
	nextWorker     atomic.Uint32

	refusedConnects   atomic.Int64
	refusedPublishes  atomic.Int64
	refusedSubscribes atomic.Int64
	refusedPackets    atomic.Int64
	fullNoted         atomic.Int64

	applying sync.Mutex
	running  bool                        // guarded by applying
	sockets  map[string]*listen.Listener // guarded by applying
	applied  time.Time                   // guarded by applying
	ledger   *auth.Ledger                // guarded by applying; nil: which passwords were right is not kept
	homeless bool                        // guarded by applying: the log has said that there is nowhere to keep it
	workers  []*worker

	mu      sync.Mutex
	members map[*conn]struct{} // every connection
	// lastSeat numbers the places that were given in accounts.
	lastSeat uint64
	serving  sync.WaitGroup // added to under mu, while not stopping
	doors    map[string]*metrics.Listener

	drainClock drainClock

	busyDisk  int64
	stalledMu sync.Mutex
	stalled   []*conn

	roundsMu sync.Mutex
	rounds   []*round

	quit chan struct{}
	idle chan struct{} // closed when the publisher of $SYS is gone
}

// Redirect sends clients to another server.
type Redirect struct {
	// Reference is the Server Reference of MQTT 5, such as "other.example:8883".
	Reference string
	// Permanent says that clients should go there from now on.
	Permanent bool
}

// Redirect has clients that come from now on sent elsewhere; nil lets them in again. Those of MQTT 5 are told where
// [MQTT-4.11.0-1].
func (e *Engine) Redirect(to *Redirect) { e.redirect.Store(to) }

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

	if options.SysInterval == 0 {
		options.SysInterval = metrics.SysInterval
	}

	e := &Engine{
		options:    options,
		log:        options.Log,
		audit:      newAuditor(options.Log),
		probe:      Credential{Username: "$probe-" + randomText(), Password: randomText()},
		guest:      newGuest(),
		began:      time.Now(),
		index:      topics.New[*session](),
		sessions:   newRegistry(),
		retained:   topics.NewRetained[*message](),
		sockets:    map[string]*listen.Listener{},
		members:    map[*conn]struct{}{},
		doors:      map[string]*metrics.Listener{},
		busyDisk:   busyDisk,
		drainClock: systemClock(),
		quit:       make(chan struct{}),
		idle:       make(chan struct{}),
	}

	e.metrics = metrics.New(metrics.Options{Version: options.Version, Started: e.began, State: e.measure, Log: options.Log})
	e.wheel = newWheel(e)
	e.storeRound = e.newRound()

	if options.DataDir != "" {
		var err error

		e.store, err = store.Open(options.DataDir, store.Options{
			Log: options.Log, AfterGroup: e.afterGroup,
			Observe: func(took time.Duration, _ int) { e.metrics.Sync.Observe(took, 1) },
		})
		if err != nil {
			return nil, err
		}
	}

	e.keys = e.newKeeper()

	var seed []byte

	if options.DataDir != "" {
		var err error

		// Without it names could be told apart by a restart, at worst.
		if seed, err = readSeed(options.DataDir); err != nil {
			e.log.Warn("the seed of SCRAM could not be kept", "error", err)
		}
	}

	e.doorkeeper = newDoorkeeper(seed)

	return e, nil
}

// Metrics is what the engine counts.
func (e *Engine) Metrics() *metrics.Set { return e.metrics }

func randomText() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: the runtime ends the process instead

	return base64.RawURLEncoding.EncodeToString(b)
}

// milliseconds is the time of day as it was at the start, moved on by a clock that nobody can set: a jump of the
// system's clock neither ends sessions nor lets messages expire.
func (e *Engine) milliseconds(now time.Time) int64 {
	return e.began.UnixMilli() + now.Sub(e.began).Milliseconds()
}

func (e *Engine) clock() time.Time { return time.Now() }

// Apply makes the configuration the one that holds. It is all or nothing: if it returns an error, everything is as it
// was before, and the error says why.
func (e *Engine) Apply(config *contract.Config) error {
	e.applying.Lock()
	defer e.applying.Unlock()

	if e.stopping.Load() {
		return ErrStopped
	}

	before := e.state.Load()

	next, err := compile(config, before, e.guest.Leaf)
	if err != nil {
		return err
	}

	sockets, fresh, err := e.bind(next)
	if err != nil {
		return err
	}

	e.openKeys(next, before)

	if !e.running {
		e.state.Store(next)

		if err := e.start(); err != nil {
			e.state.Store(nil)
			closeAll(fresh)

			return err
		}
	}

	e.meet(next)
	e.state.Store(next)
	e.keepPasswords(config.Authentication.PasswordCache == contract.PasswordCacheVolume)
	e.applied = time.Now()

	for _, u := range next.changed {
		u.account.obey(u.source.Quota, e.applied)
	}

	if e.store != nil {
		e.store.SetInterval(config.Persistence.Resolved().Sync == contract.SyncInterval)
	}

	e.swap(sockets, next)

	e.sweep(next)
	e.keepKeys(next)

	for _, l := range fresh {
		l.Start()
	}

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

		l, err := listen.Bind(d.network(), d.Address, d.settings(&next.limits), listen.Options{
			Log: e.log, Handler: e.serve, Patience: e.options.ConnectPatience, Refused: e.refusedByCertificate,
			Watch: e.watcher(),
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
		sockets[d.socket()].Set(d.settings(&next.limits))
	}

	for name, l := range e.sockets {
		if _, kept := sockets[name]; !kept {
			_ = l.Close()
		}
	}

	e.sockets = sockets

	e.mu.Lock()
	defer e.mu.Unlock()

	for name := range e.doors {
		if next.byName[name] == nil {
			e.metrics.Forget(name)
			delete(e.doors, name)
		}
	}

	for _, d := range next.doors {
		if e.doors[d.Name] == nil {
			e.doors[d.Name] = e.metrics.Listener(d.Name)
		}
	}
}

// start reads the store and begins the engine's own work.
func (e *Engine) start() error {
	if err := e.restore(); err != nil {
		return err
	}

	for range max(1, runtime.GOMAXPROCS(0)/2) { // the others do TLS, passwords and the disk
		w, err := e.startWorker()
		if err != nil {
			return err
		}

		if w != nil {
			e.workers = append(e.workers, w)
		}
	}

	e.running = true

	go e.wheel.run()
	go e.publishSys()

	e.settleRestored()

	return nil
}

// sweep looks at everyone again under the new configuration.
func (e *Engine) sweep(next *state) {
	r := e.borrow()
	defer e.giveBack(r)

	for _, c := range e.allMembers() {
		e.examine(r, c, next)
	}

	e.trim(r, next)

	e.sessions.each(func(s *session) { s.obey(r, next) })
}

// obey has the session follow a configuration.
func (s *session) obey(r *round, now *state) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.obeyQuota(r, now)

	policy, c := now.policyWith(s.username, s.listener, s.claims), s.conn.Load()
	if policy != nil && policy == s.rules && (c == nil || c.policy.Load() == policy) {
		return // nothing has changed for it
	}

	switch {
	case c != nil:
		c.policy.Store(policy)
	case policy == nil && now.mayClaim(s.username):
		s.suspended = false // it collects what was granted before, and hands out what the next token grants

		return
	}

	s.narrow(r, s.subject(), policy)
}

// examine applies a configuration to one connection.
func (e *Engine) examine(r *round, c *conn, now *state) {
	s := c.member.Load()
	if s == nil {
		return
	}

	kind, why := now.judge(&c.door.Listener, s)
	if kind == stays && !s.probe {
		kind, why = now.users[s.username].judgeClientID(c.subject.ClientID)
	}

	code := wire.NotAuthorized
	ended := metrics.Revoked

	switch kind {
	case stays:
		c.mindKey(now, s)

		return
	case administrative:
		code, ended = wire.AdministrativeAction, metrics.Administrative
	case unauthorized:
	}

	e.audit.line("client is disconnected", "client", c.subject.ClientID, "user", c.subject.Username, "listener", c.door.Name,
		"remote", c.remote(), "reason", why)
	c.disconnect(r, code, why, ended)
}

func (e *Engine) allMembers() []*conn {
	e.mu.Lock()
	defer e.mu.Unlock()

	all := make([]*conn, 0, len(e.members))
	for c := range e.members {
		all = append(all, c)
	}

	return all
}

// serve is called by a listener for each connection. It must not block for one that is not Owned.
func (e *Engine) serve(socket *listen.Conn) {
	now := e.state.Load()

	d := now.door(socket.Settings.Name)
	if d == nil {
		_ = socket.Close()

		return
	}

	c := newConn(e, d, socket)
	c.keepAlive = -1
	patience := time.Until(socket.Deadline())

	if fd, early, ok := socket.Raw(); ok && len(e.workers) > 0 {
		c.fd, c.in = fd, early

		if !e.enter(c) {
			c.release()

			return
		}

		e.wheel.set(&c.timer, patience)
		e.someWorker().adopt(c)

		return
	}

	c.stream = socket
	c.wakeUp = make(chan struct{}, 1)

	if !e.enter(c) {
		c.release()

		return
	}

	_ = socket.SetDeadline(time.Time{})
	e.wheel.set(&c.timer, patience)

	if socket.Owned() {
		c.serveStream()
	} else {
		go c.serveStream()
	}
}

// someWorker gives each its turn.
func (e *Engine) someWorker() *worker {
	return e.workers[e.nextWorker.Add(1)%uint32(len(e.workers))] //nolint:gosec // a handful
}

// enter makes a connection known, unless the broker is shutting down.
func (e *Engine) enter(c *conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()

	if e.stopping.Load() {
		return false
	}

	e.members[c] = struct{}{}
	e.serving.Add(1)

	return true
}

// join counts a connection as a client's. It is false if the broker is shutting down.
func (e *Engine) join(c *conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()

	if e.stopping.Load() {
		return false
	}

	c.joined, c.since = true, e.milliseconds(e.clock())
	c.member.Store(c.who)

	if c.who.probe {
		e.probes.Add(1)

		return true
	}

	e.connections.Add(1)
	e.metricsOf(c.door.Name).Connected(byte(c.version))
	e.audit.line("client connected", "client", c.subject.ClientID, "user", c.who.username, "listener", c.door.Name,
		"remote", c.remote(), "method", c.how(), "version", byte(c.version))

	if t := e.tracer.Load(); t != nil {
		t.connected(c)
	}

	return true
}

// leave forgets a connection.
func (e *Engine) leave(c *conn, ended metrics.Disconnection) {
	e.mu.Lock()
	delete(e.members, c)
	c.unseat()

	if c.joined {
		if c.who.probe {
			e.probes.Add(-1)
		} else {
			e.connections.Add(-1)
			e.metricsOf(c.door.Name).Disconnected(byte(c.version), ended)
			e.audit.line("client disconnected", "client", c.subject.ClientID, "user", c.who.username, "listener", c.door.Name,
				"remote", c.remote(), "reason", ended)

			if t := e.tracer.Load(); t != nil {
				t.disconnected(c)
			}
		}
	}

	e.mu.Unlock()
	e.serving.Done()
}

// metricsOf is where the connections of a listener are counted. mu is held.
func (e *Engine) metricsOf(name string) *metrics.Listener {
	l := e.doors[name]
	if l == nil {
		l = e.metrics.Listener(name)
		e.doors[name] = l
	}

	return l
}

func (e *Engine) door(c *conn) *metrics.Listener {
	e.mu.Lock()
	defer e.mu.Unlock()

	return e.metricsOf(c.door.Name)
}

// Shutdown refuses new clients, sends those who are there away at the rate of the configuration, writes what is still to
// be written and closes everything. Who has not been sent away when most of the context's time is over goes at once, and
// when it ends, the rest is cut off.
func (e *Engine) Shutdown(ctx context.Context) error {
	e.mu.Lock()
	again := e.stopping.Swap(true)
	e.mu.Unlock()

	if again {
		return ErrStopped
	}

	e.applying.Lock() // no Apply is under way, and none will begin
	running, ledger := e.running, e.ledger

	for _, l := range e.sockets {
		_ = l.Close()
	}
	e.applying.Unlock()

	draining, drained := drainTime(ctx)
	e.drain(draining)
	drained()
	e.dismiss()
	e.keys.Close()

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

		for _, c := range e.allMembers() {
			c.sever()
		}

		<-gone
	}

	if running {
		close(e.quit)
		<-e.idle
		e.wheel.close()

		for _, w := range e.workers {
			w.halt()
		}
	}

	if ledger != nil {
		ledger.Close()
	}

	if e.store != nil {
		err = errors.Join(err, e.store.Close())
	}

	return err
}

// slowDown stops reading from a client that publishes faster than it may.
func (c *conn) slowDown(r *round) {
	c.paused, c.pause = true, pauseRate

	time.AfterFunc(c.bucket.wait(), c.resume)
	_ = r
}

// resumeStalled lets publishers go on when the disk has caught up.
func (e *Engine) resumeStalled() {
	if e.store.Pending() > e.busyDisk/2 {
		return
	}

	e.stalledMu.Lock()
	waiting := e.stalled
	e.stalled = nil
	e.stalledMu.Unlock()

	for _, c := range waiting {
		c.resume()
	}
}

// mindDisk is called when a client has given the disk work, whether it waits for that or not.
func (c *conn) mindDisk(r *round) {
	if !c.paused && c.e.store != nil && c.e.store.Pending() > c.e.busyDisk {
		c.stall(r)
	}
}

// stall stops reading from a client whose messages need the disk while that has fallen behind.
func (c *conn) stall(r *round) {
	r.settle() // that too has to get there

	c.paused, c.pause = true, pauseDisk
	c.heard.Store(r.nowMS + stallSilence.Milliseconds()) // it is not the client that is silent

	e := c.e
	e.stalledMu.Lock()
	e.stalled = append(e.stalled, c)
	e.stalledMu.Unlock()

	if e.store.Pending() <= e.busyDisk/2 { // it has caught up meanwhile
		e.resumeStalled()
	}
}

// noteFull says that a session's queue is full, and not more often than is useful.
func (e *Engine) noteFull(s *session, why metrics.Reason) {
	now := time.Since(e.began).Nanoseconds()
	if last := e.fullNoted.Load(); now-last < int64(10*time.Second) && last != 0 || !e.fullNoted.CompareAndSwap(last, now) {
		return
	}

	e.log.Warn("the queue of a session is full; messages for it are dropped", "client", s.clientID, "user", s.username,
		"reason", why, "messages", s.depth(), "bytes", s.bytes)
}

func (e *Engine) storageFailed(err error) {
	now := time.Since(e.began).Nanoseconds()
	if last := e.fullNoted.Load(); now-last < int64(10*time.Second) && last != 0 || !e.fullNoted.CompareAndSwap(last, now) {
		return
	}

	e.log.Error("what has to be kept cannot be written to disk; messages of QoS 1 and 2 that need it are refused", "error", err)
}
