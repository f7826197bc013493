// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// The words on the lock's topic, each but "free" with the name of who says it behind it.
const (
	wordAsk  = "ask"
	wordHeld = "held"
	wordFree = "free"
)

// Times of the lock. Who holds it must doubt it (lease) before anybody else may take it (silence), and a broker must have
// told of a connection that broke (keep-alive) before that.
const (
	lockBeat      = time.Second
	lockLease     = 2500 * time.Millisecond
	lockSilence   = 3 * time.Second
	lockAnswer    = 500 * time.Millisecond
	lockKeepAlive = 2 * time.Second
)

// keeper of the lock: it decides which of the processes of one bridge is active. The lock is a connection to the local
// broker with a client identifier that all of them share, so that two cannot have it, and a topic on which its holder
// says every second that it is there. See doc.go for the rules.
type keeper struct {
	bridge *Bridge
	me     string

	mu sync.Mutex
	// until is when the holder begins to doubt unless it hears itself again; past, or zero, while it does or holds nothing.
	until time.Time
	// cancel ends what runs under the lock; nil where nothing does.
	cancel context.CancelFunc
	// open says that the local broker does not let us have a lock; then every process is active.
	open  bool
	fault *fault
	up    bool
}

func newKeeper(b *Bridge) *keeper {
	name := make([]byte, 6)
	_, _ = rand.Read(name)

	return &keeper{bridge: b, me: hex.EncodeToString(name), fault: faultf(ReasonConnecting, "the first connection is being made")}
}

// listener is the owner of the lock's connections: it passes on what is said.
type listener struct {
	words chan string
	ended chan *fault
}

func newListener() *listener {
	return &listener{words: make(chan string, 64), ended: make(chan *fault, 1)}
}

func (*listener) up(peer, bool)                {}
func (*listener) completed(peer, *entry, byte) {}
func (*listener) idle()                        {}
func (l *listener) lost(_ peer, why *fault)    { l.ended <- why }

func (l *listener) received(_ peer, m *inbound) {
	select {
	case l.words <- string(m.payload):
	default: // who talks so much says nothing new
	}
}

// run watches, takes and holds the lock until the context ends.
func (k *keeper) run(ctx context.Context) {
	failures := 0

	for ctx.Err() == nil {
		why := k.watch(ctx)
		if why == nil {
			why = k.hold(ctx)
		}

		if ctx.Err() != nil {
			break
		}

		k.mu.Lock()
		k.fault, k.up = why, false
		k.mu.Unlock()

		pause := k.bridge.options.MinBackoff / 5
		if why != nil && why.reason != ReasonTakenOver && why.reason != ReasonLost {
			failures++
			pause = k.bridge.options.backoff(failures, nil)
			k.bridge.log.Warn("not connected", "end", "local", "client", "lock", "reason", why.reason, "detail", why.text)
		} else {
			failures = 0
		}

		select {
		case <-ctx.Done():
		case <-time.After(pause):
		case <-k.bridge.lockKick:
		}
	}

	k.retire()
}

// passage is a connection of the lock.
func (k *keeper) passage(id string, l *listener) (*passage, string) {
	cfg := k.bridge.configuration()
	settings := k.bridge.local.settings.Load()

	return &passage{
		end: settings, clientID: settings.ClientIDPrefix + id, clean: true, window: 16, keepAlive: lockKeepAlive,
		owner: l, patience: k.bridge.options.Patience,
	}, cfg.LockTopic()
}

// watch waits until nobody holds the lock: nil means that it may be taken.
func (k *keeper) watch(ctx context.Context) *fault {
	l := newListener()
	w, topic := k.passage("_"+k.me, l)

	p, why := k.bridge.dial(ctx, k.bridge.local, w)
	if why != nil {
		return why
	}
	defer p.part()

	code, _, err := p.subscribe(ctx, subscription{filter: topic})
	if err != nil {
		return asFault("lock", err)
	}

	k.connected(code >= topCode)

	if code >= topCode {
		return nil
	}

	p.note(topic, wordAsk+" "+k.me)

	quiet := time.NewTimer(k.bridge.options.answer)
	defer quiet.Stop()

	for {
		select {
		case <-ctx.Done():
			return nil
		case why := <-l.ended:
			return why
		case <-quiet.C:
			return nil
		case word := <-l.words:
			switch what, who, _ := strings.Cut(word, " "); {
			case what == wordHeld && who != k.me:
				k.retire()
				quiet.Reset(lockSilence)
			case what == wordFree:
				// Two that wait do not jump at the same moment; if they do, the later one has it.
				quiet.Reset(mathrand.N(100 * time.Millisecond)) //nolint:gosec // no secret
			}
		}
	}
}

func (k *keeper) connected(open bool) {
	k.mu.Lock()
	defer k.mu.Unlock()

	k.fault, k.up, k.open = nil, true, open
}

// hold takes the lock and keeps it for as long as it hears itself say so.
func (k *keeper) hold(ctx context.Context) *fault {
	if ctx.Err() != nil {
		return nil
	}

	l := newListener()
	w, topic := k.passage("_lock", l)
	w.willTopic, w.will = topic, wordFree

	if k.isOpen() {
		w.willTopic = ""
	}

	p, why := k.bridge.dial(ctx, k.bridge.local, w)
	if why != nil {
		return why
	}

	defer p.part()

	if k.isOpen() {
		k.extend(ctx, 0)

		select {
		case <-ctx.Done():
			return nil
		case why := <-l.ended:
			k.retire()

			return why
		}
	}

	code, _, err := p.subscribe(ctx, subscription{filter: topic})
	if err != nil || code >= topCode {
		return faultf(ReasonSubscription, "the local broker does not let this user have the lock; grant it the topic %s", topic)
	}

	held := wordHeld + " " + k.me
	beat := time.NewTicker(lockBeat)

	defer beat.Stop()

	said := time.Now()
	began := said

	p.note(topic, held)

	for {
		select {
		case <-ctx.Done():
			k.retire()
			p.note(topic, wordFree)

			return nil
		case why := <-l.ended:
			if why.reason == ReasonTakenOver {
				k.retire()
			}

			return why
		case <-beat.C:
			if !k.isSure() && time.Since(began) > lockLease {
				why := faultf(ReasonNoAnswer, "the local broker does not bring back what is published to %s; grant this user to publish and subscribe there", topic)
				p.abort(why)

				return why
			}

			said = time.Now()
			p.note(topic, held)
		case word := <-l.words:
			switch what, who, _ := strings.Cut(word, " "); {
			case word == held:
				k.extend(ctx, time.Until(said.Add(lockLease)))
			case what == wordHeld && who < k.me: // another broker of the same cluster, perhaps; one of the two has to go
				k.retire()

				return faultf(ReasonTakenOver, "another process holds the lock")
			case what == wordAsk || word == wordFree:
				p.note(topic, held)
			}
		}
	}
}

func (k *keeper) isOpen() bool {
	k.mu.Lock()
	defer k.mu.Unlock()

	return k.open
}

// isSure tells whether this process is the active one beyond doubt. One that doubts goes on with the connections that it
// has, which a server ends where another process has taken its place, and makes no new ones, by which it would do the same
// to that one. It reads the clock, and does not wait for a timer: a process that was stopped for a while doubts from its
// first moment on.
func (k *keeper) isSure() bool {
	k.mu.Lock()
	defer k.mu.Unlock()

	return k.cancel != nil && time.Now().Before(k.until)
}

// extend makes this process the active one, beyond doubt for so long; 0 is until it is retired.
func (k *keeper) extend(ctx context.Context, lease time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()

	now := time.Now()
	doubted := !now.Before(k.until)

	switch {
	case lease == 0:
		k.until = now.Add(24 * 365 * time.Hour)
	case lease > 0:
		k.until = now.Add(lease)
	default:
		return // it heard what it said too long ago
	}

	if k.cancel == nil {
		// What runs under it goes on for a moment while a new connection for the lock is made, so it is no child of ctx.
		var term context.Context

		term, k.cancel = context.WithCancel(context.WithoutCancel(ctx))
		k.bridge.activate(term)
	} else if doubted {
		k.bridge.reassure()
	}
}

// retire makes this process a stand-by, at once.
func (k *keeper) retire() {
	k.mu.Lock()
	defer k.mu.Unlock()

	k.until = time.Time{}

	if k.cancel != nil {
		k.cancel()
		k.cancel = nil
		k.bridge.retire()
	}
}

func (k *keeper) state() linkState {
	k.mu.Lock()
	defer k.mu.Unlock()

	s := linkState{connected: k.up, fault: k.fault}
	if k.open {
		s.notices = []string{"does not let this user have the topic " + contract.BridgeLockPrefix + "…, so a second process of this bridge is not kept from being active; grant it"}
	}

	return s
}
