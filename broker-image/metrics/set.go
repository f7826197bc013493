// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// SysInterval is how often topics below $SYS are published unless somebody says otherwise, as in Mosquitto.
const SysInterval = 10 * time.Second

// Options are fixed for the life of a Set.
type Options struct {
	// Version is the broker's, Revision the commit it was built from.
	Version, Revision string
	// Started is when the broker began to run; averages and uptime count from here.
	Started time.Time
	// State is asked once for each scrape and for each call of SysTopics, from any goroutine. It must be quick. Nil: all
	// is zero.
	State func() State
	// Log is told what a scrape could not be given. Nil: nobody is.
	Log *slog.Logger
}

// State is what can be looked up at the moment of asking.
type State struct {
	// SessionsOnline have a connection, SessionsOffline are kept for clients that may come back.
	SessionsOnline, SessionsOffline int64
	// Subscriptions includes SharedSubscriptions.
	Subscriptions, SharedSubscriptions int64
	// Retained messages, and the bytes of their topics and payloads.
	RetainedMessages, RetainedBytes int64
	// Queued messages wait in a session to be sent; the bytes are those of topic, properties and payload.
	QueuedMessages, QueuedBytes int64
	// Inflight messages are sent and not acknowledged.
	Inflight int64
	// Stored messages are held by the broker: retained ones, and queued ones once for each session.
	StoredMessages, StoredBytes int64
	// PasswordChecks wait for their turn.
	PasswordChecks int64
	// AuditLinesDropped were left out of the log, since start.
	AuditLinesDropped int64
	// StorageFault says that what must be kept cannot be written at the moment.
	StorageFault bool
	// ConfigRevision is that of the configuration in force, since ConfigTime.
	ConfigRevision int64
	ConfigTime     time.Time
	// ConfigFault says that a newer configuration could not be put into force.
	ConfigFault bool
	// Listeners are those of the configuration.
	Listeners []ListenerState
	// KeySets are those that are fetched from the issuers of tokens.
	KeySets []KeySetState
}

// ListenerState is one door, as it knows itself.
type ListenerState struct {
	Name string
	// Fault says that it cannot accept at the moment.
	Fault bool
	// Refused are connections that it refused by itself, since it is there. They are added to those that Listener.Refused
	// was told.
	Refused map[Refusal]int64
	// Accepted sockets, whatever became of them; added to what Listener.Accepted was told.
	Accepted int64
	// Panics that it caught by itself; added to those in Counters.
	Panics int64
}

// KeySetState is what is known of one issuer's keys.
type KeySetState struct {
	// Issuer is as in the configuration.
	Issuer string
	// Keys is how many can be used.
	Keys int
	// Fetched is when they came; zero: never.
	Fetched time.Time
	// Failures counts fetches that brought nothing.
	Failures int64
}

// Set is all that is counted.
type Set struct {
	// Shared are the counters of whoever is no worker.
	Shared *Counters
	// Sync is how long the disk took to confirm a group of commits.
	Sync Histogram

	options  Options
	registry *prometheus.Registry

	mu        sync.Mutex
	counters  []*Counters
	listeners map[string]*Listener

	accepted  atomic.Int64
	connected atomic.Int64
	// most is the most connections that there ever were at once.
	most atomic.Int64

	disconnections [disconnections]atomic.Int64

	sys sys
}

// New has a registry of its own, so that a process may hold several sets.
func New(o Options) *Set {
	s := &Set{options: o, listeners: map[string]*Listener{}, registry: prometheus.NewRegistry()}
	s.Shared = s.NewCounters()
	s.sys.last = o.Started
	s.registry.MustRegister(s, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	return s
}

// NewCounters are summed up with all others from now on, for good: a worker that ends leaves what it counted.
func (s *Set) NewCounters() *Counters {
	c := new(Counters)

	s.mu.Lock()
	defer s.mu.Unlock()

	s.counters = append(s.counters, c)

	return c
}

// Listener is where connections of one listener are counted. The same name gives the same Listener.
func (s *Set) Listener(name string) *Listener {
	s.mu.Lock()
	defer s.mu.Unlock()

	l := s.listeners[name]
	if l == nil {
		l = &Listener{set: s, name: name}
		s.listeners[name] = l
	}

	l.gone.Store(false)

	return l
}

// Forget has a listener that was removed no longer shown, as soon as its last connection has ended.
func (s *Set) Forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if l := s.listeners[name]; l != nil {
		l.gone.Store(true)
	}
}

// all gives the counters and listeners to show, the latter in the order of their names.
func (s *Set) all() ([]*Counters, []*Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()

	maps.DeleteFunc(s.listeners, func(_ string, l *Listener) bool { return l.gone.Load() && l.open() == 0 })

	names := slices.Sorted(maps.Keys(s.listeners))
	listeners := make([]*Listener, 0, len(names))

	for _, n := range names {
		listeners = append(listeners, s.listeners[n])
	}

	return slices.Clone(s.counters), listeners
}

func (s *Set) state() State {
	if s.options.State == nil {
		return State{}
	}

	return s.options.State()
}

// The protocol versions in the order in which a Listener counts them.
var protocols = [...]string{"3.1", "3.1.1", "5"}

// Listener counts the connections of one listener. Connections that do not count, such as probes of the broker's own,
// are not told to it.
type Listener struct {
	set  *Set
	name string
	gone atomic.Bool

	accepted atomic.Int64
	now      [len(protocols)]atomic.Int64
	ever     [len(protocols)]atomic.Int64
	refused  [refusals]atomic.Int64
}

// Accepted counts a socket that was accepted, whatever becomes of it.
func (l *Listener) Accepted() {
	l.accepted.Add(1)
	l.set.accepted.Add(1)
}

// Refused counts a connection that ended before it was answered with success.
func (l *Listener) Refused(r Refusal) {
	if r < refusals {
		l.refused[r].Add(1)
	}
}

// Connected counts a client whose CONNECT is answered with success. The version is the protocol level: 3, 4 or 5.
func (l *Listener) Connected(version byte) {
	at := protocol(version)
	l.now[at].Add(1)
	l.ever[at].Add(1)

	now := l.set.connected.Add(1)
	for {
		most := l.set.most.Load()
		if now <= most || l.set.most.CompareAndSwap(most, now) {
			return
		}
	}
}

// Disconnected takes back one Connected with the same version.
func (l *Listener) Disconnected(version byte, why Disconnection) {
	l.now[protocol(version)].Add(-1)
	l.set.connected.Add(-1)

	if why < disconnections {
		l.set.disconnections[why].Add(1)
	}
}

func (l *Listener) open() (n int64) {
	for i := range l.now {
		n += l.now[i].Load()
	}

	return n
}

func protocol(version byte) int { return min(max(int(version), 3), 5) - 3 }
