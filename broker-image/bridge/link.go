// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// end is one of the two brokers, shared by all connections to it.
type end struct {
	name     string
	settings atomic.Pointer[contract.BridgeEnd]
	echoes   echoes
	// last is the index of the endpoint that answered last.
	last atomic.Int64

	mu        sync.Mutex
	endpoint  string
	connected bool
	since     time.Time
}

// answered notes which endpoint did.
func (e *end) answered(n int, endpoint string) {
	e.last.Store(int64(n))
	e.mu.Lock()
	defer e.mu.Unlock()

	e.endpoint = endpoint
}

// is notes whether all is connected, and since when.
func (e *end) is(connected bool) (endpoint string, since time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()

	if e.connected != connected || e.since.IsZero() {
		e.connected, e.since = connected, time.Now()
	}

	return e.endpoint, e.since
}

// link is one MQTT connection of a route to an end, made again as often as it is lost.
type link struct {
	bridge   *Bridge
	end      *end
	clientID string
	// from is the flow whose source this is, to the flow whose destination; one of them may be nil.
	from, to *flow
	// partners are all links of the route, this one among them.
	partners []*link
	counts   *counts

	current atomic.Pointer[peer]
	kicked  chan struct{} // try again now
	changed chan struct{} // subscribe anew
	again   chan struct{} // connect anew

	mu      sync.Mutex
	fault   *fault
	notices []string
	// asked is the subscription that the session has.
	asked   subscription
	present bool
	// ended is closed when the flows know that the connection is no more.
	ended chan struct{}
}

func newLink(b *Bridge, e *end, id string) *link {
	return &link{
		bridge: b, end: e, clientID: id, fault: faultf(ReasonConnecting, "the first connection is being made"),
		kicked: make(chan struct{}, 1), changed: make(chan struct{}, 1), again: make(chan struct{}, 1),
	}
}

// signal does not wait: who was told already need not be told twice.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (l *link) peer() peer {
	if p := l.current.Load(); p != nil {
		return *p
	}

	return nil
}

// up is of owner.
func (l *link) up(p peer, sessionPresent bool) {
	l.mu.Lock()
	l.present = sessionPresent
	l.ended = make(chan struct{})

	if !sessionPresent {
		l.asked = subscription{}
	}
	l.mu.Unlock()
	l.current.Store(&p)

	if l.from != nil {
		l.from.sourceUp(p, sessionPresent)
	}

	if l.to != nil {
		l.to.destUp(p)
	}
}

// received is of owner.
func (l *link) received(p peer, m *inbound) {
	if l.from != nil {
		l.from.received(p, m)
	}
}

// completed is of owner.
func (l *link) completed(p peer, e *entry, code byte) {
	if l.to != nil {
		l.to.completed(p, e, code)
	}
}

// idle is of owner: what one batch of packets caused at the route's connections leaves together.
func (l *link) idle() {
	for _, other := range l.partners {
		if p := other.current.Load(); p != nil {
			(*p).flush()
		}
	}
}

// lost is of owner.
func (l *link) lost(p peer, why *fault) {
	l.current.Store(nil)

	if l.from != nil {
		l.from.sourceLost(p)
	}

	if l.to != nil {
		l.to.destLost(p, why)
	}

	l.mu.Lock()
	defer l.mu.Unlock()

	l.fault = why
	close(l.ended)
}

func (l *link) blame(why *fault) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.fault = why
}

// run connects until the context ends.
func (l *link) run(ctx context.Context) {
	failures := 0

	for ctx.Err() == nil {
		if !l.bridge.keeper.isSure() { // another process may be at work under the same client identifier
			l.blame(faultf(ReasonWaitingForLocal, "this connection is made again once the local broker has told that no other process of this bridge is at work"))
			l.wait(ctx, l.bridge.options.MaxBackoff)

			continue
		}

		began := time.Now()
		p, why := l.connect(ctx)

		switch {
		case ctx.Err() != nil && p == nil:
			return
		case why != nil:
			failures++

			l.blame(why)
			l.bridge.log.Warn("not connected", "end", l.end.name, "client", l.clientID, "reason", why.reason, "detail", why.text)
		default:
			if l.serve(ctx, p) {
				failures = 0

				continue
			}

			if ctx.Err() != nil {
				return
			}

			l.counts.reconnects.Add(1)

			why = l.state().fault
			failures++

			if time.Since(began) > l.bridge.options.Steady {
				failures = 0
			} else if l.to != nil && l.to.hadAnswers() {
				failures = 1 // it was of use
			}

			l.bridge.log.Warn("connection lost", "end", l.end.name, "client", l.clientID, "reason", why.reason, "detail", why.text)
		}

		l.wait(ctx, l.bridge.options.backoff(failures, why))
	}
}

// backoff is how long to wait before the next attempt: longer each time, and never the same for two bridges.
func (o *Options) backoff(failures int, why *fault) time.Duration {
	pause := min(o.MinBackoff<<min(max(failures-1, 0), 16), o.MaxBackoff)
	if failures == 0 { // it held for long; whoever else lost his connection now will come back as well
		pause = o.MinBackoff / 5
	}

	if why != nil && why.reason == ReasonTakenOver { // two that take each other's connection would never end
		pause = o.MaxBackoff
	}

	return pause/2 + rand.N(pause/2+1) //nolint:gosec // no secret
}

func (l *link) wait(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()

	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-l.kicked:
	}
}

// window3 is how many publications of QoS 2 may wait for a server of 3.1.1, which has no way to say its Receive Maximum:
// Mosquitto closes the connection at the 21st that is not released, whatever the version, and would at each new attempt.
const window3 = 16

// connect tries each endpoint once, beginning with the one that answered last.
func (l *link) connect(ctx context.Context) (peer, *fault) {
	settings := l.end.settings.Load()
	w := &passage{
		end: settings, clientID: l.clientID, window: l.bridge.inflight(), owner: l, patience: l.bridge.options.Patience,
		keepAlive: time.Duration(settings.KeepAliveSeconds) * time.Second,
		// Who only publishes needs no session: what was not acknowledged is published again.
		clean: l.from == nil || settings.CleanStart,
		sweep: l.from != nil && l.to != nil && l.to.quality() == 2,
	}

	if settings.Version == 4 && l.to != nil && l.to.quality() == 2 {
		w.window = min(w.window, window3)
	}

	if l.from != nil {
		w.expiry = settings.SessionExpirySeconds
	}

	return l.bridge.dial(ctx, l.end, w)
}

// dial tries the endpoints of an end.
func (b *Bridge) dial(ctx context.Context, e *end, w *passage) (peer, *fault) {
	var why *fault

	count := len(w.end.Endpoints)
	first := int(e.last.Load())

	for i := range count {
		n := (first + i) % count

		p, err := w.open(ctx, w.end.Endpoints[n])
		if err == nil {
			e.answered(n, w.end.Endpoints[n])

			return p, nil
		}

		failed := asFault(w.end.Endpoints[n], err)
		failed = &fault{reason: failed.reason, text: withhold(failed.text, w.end), code: failed.code}

		if why == nil || why.reason == ReasonHostNotFound || why.reason == ReasonRefused { // of several, the one that got furthest says most
			why = failed
		}

		if ctx.Err() != nil {
			break
		}
	}

	return nil, why
}

// withhold takes a password out of what a server said about it.
func withhold(text string, end *contract.BridgeEnd) string {
	if end.Password == "" {
		return text
	}

	return strings.ReplaceAll(text, end.Password, "…")
}

// serve looks after a connection until it ends; true says that it was ended to be made again.
func (l *link) serve(ctx context.Context, p peer) bool {
	l.bridge.log.Info("connected", "end", l.end.name, "client", l.clientID, "endpoint", l.end.settings.Load().Endpoints[l.end.last.Load()%int64(len(l.end.settings.Load().Endpoints))])

	l.mu.Lock()
	ended := l.ended

	select {
	case <-ended:
	default:
		l.fault, l.notices = nil, nil
	}
	l.mu.Unlock()
	l.notice(p)

	// The flows must know of the end before there is another connection.
	defer func() { <-ended }()

	failures := 0
	next := time.NewTimer(0)

	defer next.Stop()

	for {
		select {
		case <-ended:
			return false
		case <-ctx.Done():
			p.part()

			return false
		case <-l.again:
			l.settle(ctx)
			p.part()

			return true
		case <-l.changed:
			failures = 0

			next.Reset(0)
		case <-next.C:
			if l.from == nil {
				continue
			}

			if why := l.subscribe(ctx, p); why != nil {
				failures++

				l.from.fail(why.text)
				l.bridge.log.Warn("not subscribed", "end", l.end.name, "client", l.clientID, "reason", why.reason, "detail", why.text)
				next.Reset(l.bridge.options.backoff(failures, nil))
			}
		}
	}
}

// settle waits, for a bounded time, until nothing is under way that would come twice if the connection ended.
func (l *link) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, l.bridge.options.Patience)
	defer cancel()

	if l.from != nil {
		l.from.drain(ctx)
	}

	if l.to != nil {
		l.to.hold(ctx)
	}
}

// notice collects what the end does not give as it was asked.
func (l *link) notice(p peer) {
	limits := p.limits()
	settings := l.end.settings.Load()

	var said []string

	if l.from != nil && !settings.CleanStart && !limits.expiryKept {
		said = append(said, fmt.Sprintf("keeps sessions for %d s only, %d s were asked for: what waits longer is lost", limits.expiry, settings.SessionExpirySeconds))
	}

	if l.to != nil {
		if !limits.retain && l.to.retains() {
			said = append(said, "retains no messages; they are passed on without the flag")
		}

		if limits.maxQoS < l.to.quality() {
			said = append(said, fmt.Sprintf("takes QoS %d at most", limits.maxQoS))
		}
	}

	if l.from != nil && settings.Version == 4 && l.from.retains() {
		said = append(said, "speaks 3.1.1, where the retain flag comes with a new subscription only")
	}

	l.mu.Lock()
	defer l.mu.Unlock()

	l.notices = said
}

// subscribe asks the source for what the flow is about.
func (l *link) subscribe(ctx context.Context, p peer) *fault {
	want := l.from.subscription(l.to != nil)
	limits := p.limits()

	switch {
	case !limits.wildcards && strings.ContainsAny(want.filter, "+#"):
		return faultf(ReasonSubscription, "the %s broker knows no wildcards, and the route asks for %q; write one route for each topic", l.end.name, want.filter)
	case !limits.shared && strings.HasPrefix(want.filter, "$share/"):
		return faultf(ReasonSubscription, "the %s broker knows no shared subscriptions; remove the share of the route", l.end.name)
	}

	l.mu.Lock()
	asked, present := l.asked, l.present
	l.mu.Unlock()

	// A server of 3.1.1 sends retained messages at each SUBSCRIBE, so it is asked once for each session.
	if !(l.end.settings.Load().Version == 4 && present && asked == want) {
		code, said, err := p.subscribe(ctx, want)

		switch {
		case err != nil && isTimeout(err):
			why := faultf(ReasonNoAnswer, "the %s broker does not answer a SUBSCRIBE; ask who runs it", l.end.name)
			p.abort(why)

			return why
		case err != nil:
			return asFault("SUBSCRIBE", err)
		case code >= topCode:
			return faultf(ReasonSubscription, "the %s broker refuses the subscription to %q (reason code 0x%02x%s); grant its user the topics of the route", l.end.name, want.filter, code, quoted(said))
		case code < want.qos:
			l.mu.Lock()
			l.notices = append(l.notices, fmt.Sprintf("delivers %q with QoS %d at most", want.filter, code))
			l.mu.Unlock()
		}
	}

	// The new one is there before the old one goes: nothing falls between them.
	if asked.filter != "" && asked.filter != want.filter {
		if err := p.unsubscribe(ctx, asked.filter); err != nil {
			return asFault("UNSUBSCRIBE", err)
		}
	}

	l.mu.Lock()
	l.asked = want
	l.mu.Unlock()
	l.from.sourceSubscribed(p)

	return nil
}

func isTimeout(err error) bool {
	return asFault("", err).reason == ReasonNoAnswer
}

// linkState is what a status says of a link.
type linkState struct {
	connected bool
	fault     *fault
	notices   []string
}

func (l *link) state() linkState {
	l.mu.Lock()
	defer l.mu.Unlock()

	s := linkState{connected: l.peer() != nil, fault: l.fault, notices: slices.Clone(l.notices)}

	if l.to != nil {
		if size := l.to.smaller(); size > 0 {
			s.notices = append(s.notices, fmt.Sprintf("takes packets of up to %d bytes; larger messages are dropped", size))
		}

		if most := l.to.ceiling(); most > 0 {
			s.notices = append(s.notices, fmt.Sprintf("ends the connection where too many messages wait for its answer; %d do at most", most))
		}
	}

	return s
}
