// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"hash/maphash"
	"sync"

	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/store"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

const shards = 64

// registry knows who owns a session: the one place that does. A shard's lock is held while a client id changes hands, so
// that takeovers happen one after another. It comes before every session's lock.
type registry struct {
	seed   maphash.Seed
	shards [shards]shard
}

type shard struct {
	mu   sync.Mutex
	byID map[string]*session
}

func newRegistry() *registry {
	g := &registry{seed: maphash.MakeSeed()}
	for i := range g.shards {
		g.shards[i].byID = map[string]*session{}
	}

	return g
}

func (g *registry) shard(id string) *shard { return &g.shards[maphash.String(g.seed, id)%shards] }

// each calls visit for every session there is. Sessions that come or go meanwhile may be left out.
func (g *registry) each(visit func(*session)) {
	var some []*session

	for i := range g.shards {
		sh := &g.shards[i]
		sh.mu.Lock()

		some = some[:0]
		for _, s := range sh.byID {
			some = append(some, s)
		}
		sh.mu.Unlock()

		for _, s := range some {
			visit(s)
		}
	}
}

func (g *registry) len() (n int) {
	for i := range g.shards {
		sh := &g.shards[i]
		sh.mu.Lock()
		n += len(sh.byID)
		sh.mu.Unlock()
	}

	return n
}

// establish gives the client its session, old or new, and answers its CONNECT.
func (e *Engine) establish(r *round, c *conn, now *state, w *will, assigned string) {
	connect := c.connect
	expiry := sessionExpiry(connect, now.sessionExpiry(c.who.username))
	sh := e.sessions.shard(connect.ClientID)

	var due []*will

	sh.mu.Lock()

	s := sh.byID[connect.ClientID]
	if s != nil && s.username != c.who.username {
		sh.mu.Unlock()
		c.turnAway(r, &refusal{wire.ClientIdentifierNotValid, "the session belongs to another user", metrics.BadClientID})

		return
	}

	resumed := false

	var old *conn
	if s != nil {
		old = s.conn.Load()
	}

	if !e.seat(c, old) {
		sh.mu.Unlock()
		c.turnAway(r, &refusal{wire.QuotaExceeded, tooManyConnections, metrics.UserQuota})

		return
	}

	if s != nil {
		resumed = !connect.CleanStart && s.expiry > 0
		due = append(due, s.takeover(r, old, resumed))

		if !resumed {
			e.discard(r, s)
		}
	}

	if !resumed {
		s = e.newSession(c, expiry)
		sh.byID[connect.ClientID] = s
	}

	ok := e.join(c)
	if ok {
		c.sess = s
		s.attach(r, c, now, w, expiry, resumed, assigned)
	}
	sh.mu.Unlock()

	for _, w := range due {
		if w != nil {
			e.publishWill(r, w)
		}
	}

	// A configuration that came in between has not seen this client.
	if latest := e.state.Load(); ok && latest != now {
		e.examine(r, c, latest)
		s.obey(r, latest)
	}

	if !ok {
		c.turnAway(r, &refusal{wire.ServerShuttingDown, "the broker is shutting down", metrics.Unavailable})
	}

	// A drain that began in between has this client on its list, or it is seen here.
	if ok && e.closedByDrain(c.who) != nil {
		e.sendAway(r, c)
	}
}

// sessionExpiry is how long the session outlives the connection, in seconds. Before MQTT 5 that is for ever or not at
// all [MQTT-3.1.2-23 in 3.1.1: section 3.1.2.4].
func sessionExpiry(connect *wire.Connect, limit uint32) uint32 {
	if connect.Version == wire.V5 {
		return min(connect.SessionExpiry, limit)
	}

	if connect.CleanStart {
		return 0
	}

	return limit
}

func (e *Engine) newSession(c *conn, expiry uint32) *session {
	s := &session{
		e: e, id: store.SessionID(e.lastSession.Add(1)), clientID: c.connect.ClientID, username: c.who.username,
		commonName: c.who.commonName, listener: c.door.Name, expiry: expiry, stored: expiry > 0 && e.store != nil && !c.who.probe,
	}
	s.out.first, s.out.next = 1, 1
	s.timer.fire = s.alarm

	return s
}

// discard ends a session for good. Its shard's lock is held; it has no connection any more.
func (e *Engine) discard(r *round, s *session) {
	if sh := e.sessions.shard(s.clientID); sh.byID[s.clientID] == s {
		delete(sh.byID, s.clientID)
	}

	e.wheel.stop(&s.timer)

	s.mu.Lock()
	s.ended = true
	subs := s.subs
	s.subs, s.unsure = nil, nil
	n, bytes := s.messages, s.bytes
	orphans := s.orphans()
	s.out = outbox{}
	s.retained = nil
	e.queuedMessages.Add(-int64(n))
	e.queuedBytes.Add(-bytes)
	s.messages, s.bytes, s.offline = 0, 0, 0
	s.mu.Unlock()

	for i := range subs {
		e.index.Unsubscribe(subs[i].filter, s)
	}

	r.count.Drop(metrics.SessionEnded, n, int(bytes))

	if t := e.tracer.Load(); t != nil && n > 0 {
		t.dropped(s, metrics.SessionEnded, nil, n)
	}

	if s.stored || s.willStored {
		r.write().DeleteSession(s.id)
	}

	for _, o := range orphans {
		e.redispatch(r, s, o)
	}
}
