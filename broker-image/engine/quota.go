// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// meterPatience bounds how long a client waits before its user's rates are looked at again, as they may have changed.
const meterPatience = time.Second

// account is what all connections of one user use together. It stays the same while the user exists, however that
// changes.
type account struct {
	seats int // connections that count; guarded by Engine.mu
	meter atomic.Pointer[meter]
}

// meter bounds how fast a user sends.
type meter struct {
	messageRate, byteRate int64 // per second; 0 is no bound

	mu              sync.Mutex
	messages, bytes float64 // what is left; below zero is a debt
	last            time.Time
}

// spend takes what has been read, and tells how long nothing more should be. What is spent beyond what was left is owed,
// so that a large packet is let through and paid for.
func (m *meter) spend(now time.Time, messages, bytes int) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()

	m.fill(now)
	m.messages -= float64(messages)
	m.bytes -= float64(bytes)

	return m.debt()
}

// wait tells how long nothing more should be read.
func (m *meter) wait(now time.Time) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()

	m.fill(now)

	return m.debt()
}

// fill adds what has become free, up to what one second gives.
func (m *meter) fill(now time.Time) {
	passed := max(0, now.Sub(m.last).Seconds())
	if passed > 0 {
		m.last = now
	}

	m.messages = min(float64(m.messageRate), m.messages+passed*float64(m.messageRate))
	m.bytes = min(float64(m.byteRate), m.bytes+passed*float64(m.byteRate))
}

func (m *meter) debt() (wait time.Duration) {
	for _, b := range []struct {
		left float64
		rate int64
	}{{m.messages, m.messageRate}, {m.bytes, m.byteRate}} {
		if b.rate > 0 && b.left < 0 {
			wait = max(wait, time.Duration(-b.left/float64(b.rate)*float64(time.Second)))
		}
	}

	return wait
}

// obey has the account follow a quota. What was used up stays so, where the rates are what they were.
func (a *account) obey(q *contract.Quota, now time.Time) {
	var messages, bytes int64
	if q != nil {
		messages, bytes = int64(q.PublishRate), q.BytesRate
	}

	old := a.meter.Load()

	switch {
	case messages == 0 && bytes == 0:
		a.meter.Store(nil)
	case old == nil || old.messageRate != messages || old.byteRate != bytes:
		a.meter.Store(&meter{messageRate: messages, byteRate: bytes, messages: float64(messages), bytes: float64(bytes), last: now})
	}
}

// pay counts what a client has sent against its user's rates. It must come behind the handling of the packet.
func (c *conn) pay(r *round, messages, bytes int) {
	if c.account == nil {
		return
	}

	m := c.account.meter.Load()
	if m == nil {
		return
	}

	if wait := m.spend(r.now, messages, bytes); wait > 0 && !c.paused {
		c.paused, c.pause = true, pauseQuota
		time.AfterFunc(min(max(wait, tick), meterPatience), c.resume)
	}
}

// paid goes on after pay had the client wait. It is false if more is owed still.
func (c *conn) paid(r *round) bool {
	c.heard.Store(r.nowMS) // it is not the client that is silent

	m := c.account.meter.Load()
	if m == nil || c.deaf() {
		return true
	}

	wait := m.wait(r.now)
	if wait <= 0 {
		return true
	}

	time.AfterFunc(min(max(wait, tick), meterPatience), c.resume)

	return false
}

// seat gives a connection its place among those of its user. One that takes over another's session takes its place as
// well. It is false if there is none left.
func (e *Engine) seat(c, old *conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()

	// Asked here: a configuration that comes later finds the place taken, and takes it back if it has to.
	u := e.state.Load().users[c.who.username]
	if u == nil || c.who.probe {
		return true
	}

	a, moves := u.account, old != nil && old.seated != 0 && old.account == u.account

	if q := u.source.Quota; !moves && q != nil && q.Connections > 0 && a.seats >= q.Connections {
		return false
	}

	if moves {
		old.unseat()
	}

	a.seats++
	e.lastSeat++
	c.account, c.seated = a, e.lastSeat

	return true
}

// unseat gives the place back. mu is held.
func (c *conn) unseat() {
	if c.seated != 0 {
		c.account.seats--
		c.seated = 0
	}
}

// surplus are the connections that a smaller quota has no place for: of each user those that came last. They are out of
// the count when it returns.
func (e *Engine) surplus(now *state) (found []*conn) {
	e.mu.Lock()
	defer e.mu.Unlock()

	over := map[*account]int{}

	for _, u := range now.changed {
		if q := u.source.Quota; q != nil && q.Connections > 0 && u.account.seats > q.Connections {
			over[u.account] = u.account.seats - q.Connections
		}
	}

	if len(over) == 0 {
		return nil
	}

	for c := range e.members {
		if c.seated != 0 && over[c.account] > 0 {
			found = append(found, c)
		}
	}

	slices.SortFunc(found, func(a, b *conn) int { return cmp.Compare(b.seated, a.seated) })

	return slices.DeleteFunc(found, func(c *conn) bool {
		if over[c.account] == 0 {
			return true
		}

		over[c.account]--
		c.unseat()

		return false
	})
}

// trim ends the connections that a smaller quota has no place for.
func (e *Engine) trim(r *round, now *state) {
	for _, c := range e.surplus(now) {
		e.audit.line("client is disconnected", "client", c.subject.ClientID, "user", c.subject.Username, "listener", c.door.Name,
			"remote", c.remote(), "reason", tooManyConnections)
		c.disconnect(r, wire.QuotaExceeded, tooManyConnections, metrics.QuotaExceeded)
	}
}

const tooManyConnections = "the user has as many connections as its quota allows"

// clientID decides on the client identifier: it may be refused, or assigned where the client has none.
func (c *conn) clientID(u *user) (assigned string, refused *refusal) {
	var bounds *contract.ClientIDs
	if u != nil {
		bounds = u.source.ClientIDs
	}

	id := &c.connect.ClientID

	switch {
	case *id == "" && bounds != nil && bounds.Prefix == "":
		return "", &refusal{wire.ClientIdentifierNotValid, "an empty client id, and the user may only use those that are named for it", metrics.BadClientID}
	case *id == "" && bounds != nil:
		assigned = bounds.Prefix + randomText()[:22]
		*id = assigned
	case *id == "":
		assigned = "auto-" + randomText()[:22] // [MQTT-3.1.3-6]
		*id = assigned
	case !bounds.Allow(*id):
		return "", &refusal{wire.ClientIdentifierNotValid, "the user may not use this client id", metrics.BadClientID}
	}

	return assigned, nil
}

// judgeClientID tells whether the user may use a client identifier.
func (u *user) judgeClientID(id string) (verdict, string) {
	if u == nil || u.source.ClientIDs.Allow(id) {
		return stays, ""
	}

	return administrative, "the user may not use this client id any more"
}

// sessionExpiry is the most that a session of the user may last without a connection, in seconds.
func (s *state) sessionExpiry(username string) uint32 {
	if u := s.users[username]; u != nil && u.source.Quota != nil && u.source.Quota.SessionExpiry != nil {
		return min(s.limits.MaxSessionExpiry, *u.source.Quota.SessionExpiry)
	}

	return s.limits.MaxSessionExpiry
}

// queuedMessages is the most that may wait for one session of the user; 0 if only the broker's limit counts.
func (s *state) queuedMessages(username string) int {
	if u := s.users[username]; u != nil && u.source.Quota != nil {
		return u.source.Quota.QueuedMessages
	}

	return 0
}

// obeyQuota has a session follow its user's quota. mu is held.
func (s *session) obeyQuota(r *round, now *state) {
	s.maxQueued = now.queuedMessages(s.username)

	u := now.users[s.username]
	if u == nil || u.source.Quota == nil || u.source.Quota.SessionExpiry == nil || s.ended {
		return
	}

	most := *u.source.Quota.SessionExpiry
	if s.expiry <= most {
		return
	}

	s.expiry = most

	c := s.conn.Load()
	if c == nil {
		s.schedule(r.nowMS)
	}

	if s.stored {
		since := s.away
		if c != nil {
			since = r.nowMS
		}

		s.save(r, c != nil, since)
	}
}
