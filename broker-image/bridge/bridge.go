// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// Options are fixed for the life of a bridge. Zero values mean the defaults.
type Options struct {
	Log     *slog.Logger
	Version string
	// MinBackoff and MaxBackoff bound the pause between attempts to connect.
	MinBackoff, MaxBackoff time.Duration
	// Patience is how long a broker may take for an answer.
	Patience time.Duration
	// Steady is how long a connection must have held to count as good.
	Steady time.Duration
	// Parting is how long messages on their way may take when a route ends.
	Parting time.Duration
	// answer is how long the holder of the lock may take to say so when asked.
	answer time.Duration
}

func (o *Options) fill() {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&o.MinBackoff, 500 * time.Millisecond},
		{&o.MaxBackoff, 30 * time.Second},
		{&o.Patience, 10 * time.Second},
		{&o.Steady, 5 * time.Second},
		{&o.Parting, 2 * time.Second},
		{&o.answer, lockAnswer},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}

	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Bridge moves messages between two brokers. It is safe for concurrent use.
type Bridge struct {
	options       Options
	log           *slog.Logger
	started       time.Time
	local, remote *end
	keeper        *keeper
	lockKick      chan struct{}
	changed       chan struct{}
	stop          context.CancelFunc
	over          chan struct{}

	mu      sync.Mutex
	cfg     *contract.Bridge
	applied time.Time
	// term ends when this process is no more the active one; nil while it is not.
	term   context.Context //nolint:containedctx // a term of office, which ends by itself
	routes map[string]*route
	counts map[string]*counts
}

// New makes a bridge that does nothing before its first configuration.
func New(o Options) *Bridge {
	o.fill()

	ctx, stop := context.WithCancel(context.Background())
	b := &Bridge{
		options: o, log: o.Log, started: time.Now(), local: &end{name: "local"}, remote: &end{name: "remote"},
		lockKick: make(chan struct{}, 1), changed: make(chan struct{}, 1), stop: stop, over: make(chan struct{}),
		routes: map[string]*route{}, counts: map[string]*counts{},
	}
	b.keeper = newKeeper(b)

	go b.run(ctx)

	return b
}

// Apply makes a configuration the one that runs. What it changes happens soon after; routes that it leaves as they are
// notice nothing.
func (b *Bridge) Apply(cfg *contract.Bridge) error {
	if err := cfg.Validate(); err != nil {
		return err
	}

	b.mu.Lock()
	b.cfg, b.applied = cfg, time.Now()
	b.mu.Unlock()
	signal(b.changed)

	return nil
}

// Close ends the bridge: what is on its way gets a moment to arrive.
func (b *Bridge) Close() {
	b.stop()
	<-b.over
}

func (b *Bridge) configuration() *contract.Bridge {
	b.mu.Lock()
	defer b.mu.Unlock()

	return b.cfg
}

func (b *Bridge) inflight() int { return b.configuration().Inflight }

// activate is called by the keeper of the lock.
func (b *Bridge) activate(term context.Context) {
	b.mu.Lock()
	b.term = term
	b.mu.Unlock()
	signal(b.changed)
	b.log.Info("active")
}

// reassure is called by the keeper of the lock, which had doubted: links that waited for it connect.
func (b *Bridge) reassure() {
	for _, r := range b.current() {
		for _, l := range r.links {
			signal(l.kicked)
		}
	}

	b.log.Info("active, as before")
}

// retire is called by the keeper of the lock, whose term has ended.
func (b *Bridge) retire() {
	b.mu.Lock()
	b.term = nil
	b.mu.Unlock()
	signal(b.changed)
	b.log.Info("stand-by")
}

// run brings what runs in line with what should.
func (b *Bridge) run(ctx context.Context) {
	defer close(b.over)

	var (
		lock   *watch
		lockOf string
	)

	defer func() { lock.end() }()

	ticker := time.NewTicker(min(time.Second, b.options.Patience/4))
	defer ticker.Stop()

	for {
		select {
		case <-ctx.Done():
			b.reconcile(context.Background(), nil) //nolint:contextcheck // a term ends by itself

			return
		case now := <-ticker.C:
			b.tick(now)

			continue
		case <-b.changed:
		}

		b.mu.Lock()
		cfg, term := b.cfg, b.term
		b.mu.Unlock()

		identity := ""
		if cfg != nil {
			b.settle(cfg)

			if !cfg.Suspended {
				identity = cfg.Local.ClientIDPrefix
			}
		}

		if identity != lockOf || identity == "" {
			b.reconcile(context.Background(), nil) //nolint:contextcheck // a term ends by itself
			lock.end()

			lock, term = nil, nil
		}

		if lockOf = identity; identity != "" && lock == nil {
			lock = b.keep() //nolint:contextcheck // it outlives ctx until the routes have ended
		}

		if term != nil {
			b.reconcile(term, cfg) //nolint:contextcheck // a term ends by itself
		} else {
			b.reconcile(context.Background(), nil) //nolint:contextcheck // a term ends by itself
		}
	}
}

// watch is a keeper of the lock that runs.
type watch struct {
	stop context.CancelFunc
	done chan struct{}
}

func (b *Bridge) keep() *watch {
	ctx, stop := context.WithCancel(context.Background())
	w := &watch{stop: stop, done: make(chan struct{})}

	go func() {
		defer close(w.done)

		b.keeper.run(ctx)
	}()

	return w
}

func (w *watch) end() {
	if w != nil {
		w.stop()
		<-w.done
	}
}

// settle gives the ends their settings. Where a connection is being tried, it is tried at once with the new ones.
func (b *Bridge) settle(cfg *contract.Bridge) {
	for _, s := range []struct {
		end      *end
		settings contract.BridgeEnd
	}{{b.local, cfg.Local}, {b.remote, cfg.Remote}} {
		before := s.end.settings.Load()
		if before != nil && same(before, &s.settings) {
			continue
		}

		if before != nil && !slices.Equal(before.Endpoints, s.settings.Endpoints) {
			s.end.last.Store(0)
		}

		s.end.settings.Store(&s.settings)
		signal(b.lockKick)

		for _, r := range b.current() {
			for _, l := range r.links {
				if l.end != s.end {
					continue
				}

				signal(l.kicked)

				// A password or certificate counts at the next connection; another user or address at once.
				if before != nil && (before.Username != s.settings.Username || !slices.Equal(before.Endpoints, s.settings.Endpoints)) {
					signal(l.again)
				}
			}
		}
	}
}

func same(a, b *contract.BridgeEnd) bool {
	return reflect.DeepEqual(a, b)
}

func (b *Bridge) current() []*route {
	b.mu.Lock()
	defer b.mu.Unlock()

	return slices.Collect(maps.Values(b.routes))
}

// reconcile starts, changes and ends routes. A nil cfg ends them all.
func (b *Bridge) reconcile(term context.Context, cfg *contract.Bridge) {
	wanted := map[string]*contract.BridgeRoute{}

	if cfg != nil {
		for i := range cfg.Routes {
			wanted[cfg.Routes[i].Name] = &cfg.Routes[i]
		}
	}

	var ending sync.WaitGroup

	for _, r := range b.current() {
		w := wanted[r.name]
		if w != nil && r.term == term && r.kind == kindOf(cfg, w) {
			continue
		}

		removed := cfg != nil && w == nil && r.term == term

		ending.Go(func() { r.end(removed) }) //nolint:contextcheck // a route has its term
		b.mu.Lock()
		delete(b.routes, r.name)
		b.mu.Unlock()
	}

	ending.Wait()

	if cfg == nil {
		return
	}

	for i := range cfg.Routes {
		c := &cfg.Routes[i]

		b.mu.Lock()
		r := b.routes[c.Name]
		b.mu.Unlock()

		if r != nil {
			r.change(cfg, c)

			continue
		}

		r = b.start(term, cfg, c)

		b.mu.Lock()
		b.routes[c.Name] = r
		b.mu.Unlock()
	}
}

// tick looks for destinations that owe an answer.
func (b *Bridge) tick(now time.Time) {
	for _, r := range b.current() {
		for _, f := range r.flows {
			// Three times as long as a handshake: a broker that is slow under load still makes progress.
			if p := f.tick(now, 3*b.options.Patience); p != nil {
				p.abort(faultf(ReasonNoAnswer, "the destination of route %s has not acknowledged a message for %v; ask who runs it", r.name, 3*b.options.Patience))
			}
		}
	}
}

// countsOf are the counters of a route in one direction.
func (b *Bridge) countsOf(name string, d contract.Direction) *counts {
	b.mu.Lock()
	defer b.mu.Unlock()

	key := name + "/" + string(d)
	if b.counts[key] == nil {
		b.counts[key] = &counts{}
	}

	return b.counts[key]
}

// Ready tells whether the bridge does what it is for: it is active with its ends connected, or a stand-by that is ready
// to be, or told to do nothing.
func (b *Bridge) Ready() (bool, string) {
	s := b.Status()
	cfg := b.configuration()

	switch {
	case cfg == nil:
		return false, "there is no configuration yet\n"
	case cfg.Suspended:
		return true, "suspended\n"
	case !s.Active:
		if lock := b.keeper.state(); !lock.connected {
			return false, "local: " + lock.fault.text + "\n"
		}

		return true, "stand-by\n"
	}

	var body strings.Builder

	ready := true

	for _, e := range []struct {
		name   string
		status admin.EndStatus
	}{{"local", s.Local}, {"remote", s.Remote}} {
		if e.status.Connected {
			body.WriteString(e.name + ": ok\n")

			continue
		}

		ready = false

		body.WriteString(e.name + ": " + e.status.Error + "\n")
	}

	return ready, body.String()
}

// Handler serves liveness and readiness and the metrics.
func (b *Bridge) Handler() http.Handler {
	answer := func(w http.ResponseWriter, good bool, body string) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")

		if !good {
			w.WriteHeader(http.StatusServiceUnavailable)
		}

		_, _ = w.Write([]byte(body)) // a caller that is gone needs no answer
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET "+contract.LivePath, func(w http.ResponseWriter, _ *http.Request) { answer(w, true, "alive\n") })
	mux.HandleFunc("GET "+contract.ReadyPath, func(w http.ResponseWriter, _ *http.Request) {
		ready, body := b.Ready()
		answer(w, ready, body)
	})
	mux.Handle("GET "+contract.MetricsPath, b.metrics())

	return mux
}
