// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"net"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

// takeoverPatience is how long a new connection waits for the one that it takes over to be gone without a trace.
const takeoverPatience = 5 * time.Second

// claims keeps which identity holds a client id, from CONNECT until the connection is gone. While any connection with
// the id lives, no other identity gets it, and takeovers happen one after another.
type claims struct {
	mu sync.Mutex
	by map[string]*claim
}

type claim struct {
	username string
	refs     int
	// turn is held by the connection that is between CONNECT and its CONNACK.
	turn sync.Mutex
	// current is the connection that has the session; guarded by claims.mu.
	current *conn
}

// take claims a client id for an identity. It is false if another identity holds it.
func (c *claims) take(id, username string) (*claim, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	held, ok := c.by[id]
	if !ok {
		held = &claim{username: username}
		c.by[id] = held
	}

	if held.username != username {
		return nil, false
	}

	held.refs++

	return held, true
}

func (c *claims) release(id string, held *claim, by *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if held.current == by {
		held.current = nil
	}

	held.refs--
	if held.refs == 0 {
		delete(c.by, id)
	}
}

func (c *claims) current(held *claim) *conn {
	c.mu.Lock()
	defer c.mu.Unlock()

	return held.current
}

func (c *claims) setCurrent(held *claim, current *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()

	held.current = current
}

// member is a connection that has been let in, with its client in the library.
type member struct {
	conn   *conn
	client *mqtt.Client
}

// claimID makes sure that nobody else is in the way of a client id. When it succeeds, the session under that id, if there
// is one, belongs to the same user and is offline.
func (e *Engine) claimID(c *conn, id string) (packets.Code, string) {
	c.id = id

	// Asked before the claim too: who has no right to the session must not hold up the one who has.
	if !e.owns(c, id) {
		return packets.ErrClientIdentifierNotValid, "the session belongs to another user"
	}

	held, ok := e.claims.take(id, c.who.username)
	if !ok {
		return packets.ErrClientIdentifierNotValid, "the client id is in use by another user"
	}

	held.turn.Lock()

	c.claim = held

	if old := e.claims.current(held); old != nil {
		if m := e.member(old); m != nil {
			e.disconnect(m, packets.ErrSessionTakenOver) // [MQTT-3.1.4-3]
		}

		select {
		case <-old.done:
		case <-time.After(takeoverPatience):
			return packets.ErrServerUnavailable, "the connection to be taken over does not end"
		}
	}

	if !e.owns(c, id) {
		return packets.ErrClientIdentifierNotValid, "the session belongs to another user"
	}

	return packets.CodeSuccess, ""
}

// owns tells whether the session under a client id is the identity's own, or does not exist.
func (e *Engine) owns(c *conn, id string) bool {
	existing, ok := e.server.Clients.Get(id)

	return !ok || bytes.Equal(existing.Properties.Username, []byte(c.who.username))
}

// abandon gives back the claim of a connection that is not let in after all.
func (e *Engine) abandon(c *conn) {
	if held := c.claim; held != nil {
		c.claim = nil

		held.turn.Unlock()
		e.claims.release(c.id, held, c)
	}
}

// join makes the connection known and looks at it once more: a configuration that came while it was let in has not
// seen it.
func (e *Engine) join(m *member) {
	c := m.conn

	e.mu.Lock()
	e.members[c] = m
	e.mu.Unlock()

	e.claims.setCurrent(c.claim, c)
	c.claim.turn.Unlock()

	e.examine(m, e.state.Load())
}

func (e *Engine) member(c *conn) *member {
	e.mu.Lock()
	defer e.mu.Unlock()

	return e.members[c]
}

func (e *Engine) allMembers() []*member {
	e.mu.Lock()
	defer e.mu.Unlock()

	all := make([]*member, 0, len(e.members))
	for _, m := range e.members {
		if m != nil {
			all = append(all, m)
		}
	}

	return all
}

// leave takes away whatever the connection left behind: its place, its claim and its will.
func (e *Engine) leave(c *conn, orderly bool) {
	defer close(c.done)

	if c.acks.queue != nil {
		close(c.acks.queue)
	}

	e.mu.Lock()
	m := e.members[c]
	delete(e.members, c)
	e.mu.Unlock()

	if m != nil {
		if !orderly {
			e.dropVolatile(m.client)
		}

		if c.will != nil {
			e.releaseWill(m)
		}

		if !c.who.probe {
			e.audit.line("client disconnected", "client", c.id, "user", c.who.username)
		}
	}

	if c.claim == nil {
		return
	}

	if m == nil { // it never joined
		if cl, ok := e.server.Clients.Get(c.id); ok && cl.Net.Conn == net.Conn(c) {
			e.dropVolatile(cl)
		}

		e.abandon(c)

		return
	}

	e.claims.release(c.id, c.claim, c)
}

// dropVolatile ends the session of a client whose goroutine died in a panic, as the library would have.
func (e *Engine) dropVolatile(cl *mqtt.Client) {
	if persists(cl) {
		return
	}

	e.endSession(cl)
	e.server.Clients.Delete(cl.ID)
}

// persists tells whether the client's session outlives its connection.
func persists(cl *mqtt.Client) bool {
	if cl.Properties.ProtocolVersion == 5 {
		return cl.Properties.Props.SessionExpiryInterval > 0
	}

	return !cl.Properties.Clean
}

// disconnect tells the client why and closes. It never waits for long: a client that does not read is closed all the
// same.
func (e *Engine) disconnect(m *member, code packets.Code) {
	go func() {
		guard := time.AfterFunc(farewell, func() { _ = m.conn.Close() })
		defer guard.Stop()

		_ = e.server.DisconnectClient(m.client, code)
	}()
}

// examine applies a configuration to one connection.
func (e *Engine) examine(m *member, now *state) {
	switch v, why := now.judge(m.conn.who); v {
	case stays:
		e.narrow(m.client, now.policy(m.client.Properties.Username, m.client.Net.Listener))
	case unauthorized:
		e.audit.line("client is disconnected", "client", m.conn.id, "user", m.conn.who.username, "reason", why)
		e.disconnect(m, packets.ErrNotAuthorized)
	case administrative:
		e.audit.line("client is disconnected", "client", m.conn.id, "user", m.conn.who.username, "reason", why)
		e.disconnect(m, packets.ErrAdministrativeAction)
	}
}

// narrow takes from a session what its rules no longer grant: subscriptions and messages that wait.
func (e *Engine) narrow(cl *mqtt.Client, policy *acl.Policy) {
	if policy == nil { // nothing is delivered; the session may get its user back
		return
	}

	who := subjectOf(cl)

	for filter, sub := range cl.State.Subscriptions.GetAll() {
		switch d := policy.Subscribe(who, filter, sub.Qos); {
		case !d.Allowed:
			e.audit.line("subscription withdrawn", "client", cl.ID, "user", who.Username, "filter", filter)
			e.server.Topics.Unsubscribe(filter, cl.ID)
			cl.State.Subscriptions.Delete(filter)
			e.store.deleteSubscription(cl.ID, filter)
		case d.MaxQoS < sub.Qos:
			sub.Qos = d.MaxQoS
			e.server.Topics.Subscribe(cl.ID, sub)
			cl.State.Subscriptions.Add(filter, sub)
			e.store.putSubscription(cl, &sub)
		}
	}

	for _, pk := range cl.State.Inflight.GetAll(false) {
		if pk.FixedHeader.Type == packets.Publish && !policy.Deliver(who, pk.TopicName).Allowed {
			e.dropWaiting(cl, &pk)
		}
	}
}

func (e *Engine) dropWaiting(cl *mqtt.Client, pk *packets.Packet) {
	if cl.State.Inflight.Delete(pk.PacketID) {
		cl.State.Inflight.IncreaseSendQuota()
		e.store.deleteWaiting(cl, pk.PacketID)
	}
}

// dropOversized removes messages that the client says it cannot take [MQTT-3.1.2-25]. The library would try to send
// them and fail the connection, each time the client comes.
func (e *Engine) dropOversized(session *mqtt.Client, limit uint32) {
	if limit == 0 {
		return
	}

	for _, pk := range session.State.Inflight.GetAll(false) {
		if pk.FixedHeader.Type != packets.Publish {
			continue
		}

		var buf bytes.Buffer

		pk.ProtocolVersion = 5
		pk.Mods.AllowResponseInfo = true

		if err := pk.PublishEncode(&buf); err != nil || int64(buf.Len()) > int64(limit) {
			e.dropWaiting(session, &pk)
		}
	}
}

// expireSessions ends sessions of MQTT 3, whose age the library does not bound. It is called from a ticker.
func (e *Engine) expireSessions(now time.Time) {
	limit := e.state.Load().config.Limits.MaxSessionExpiry
	if limit == forever {
		return
	}

	for id, cl := range e.server.Clients.GetAll() {
		gone := cl.StopTime()
		if cl.Properties.ProtocolVersion == 5 || gone == 0 || gone+int64(limit) >= now.Unix() {
			continue
		}

		held, ok := e.claims.take(id, string(cl.Properties.Username))
		if !ok {
			continue
		}

		if held.turn.TryLock() {
			if current, ok := e.server.Clients.Get(id); ok && current == cl && e.claims.current(held) == nil {
				e.endSession(cl)
				e.server.Clients.Delete(id)
			}

			held.turn.Unlock()
		}

		e.claims.release(id, held, nil)
	}
}

// endSession removes what a session has in the index and on disk.
func (e *Engine) endSession(cl *mqtt.Client) {
	cl.ClearInflights()
	e.server.UnsubscribeClient(cl)
	e.inboxes.drop(cl.ID)
	e.store.deleteSession(cl.ID)
}

func subjectOf(cl *mqtt.Client) acl.Subject {
	if c, ok := cl.Net.Conn.(*conn); ok {
		return c.subject
	}

	return acl.Subject{Username: string(cl.Properties.Username), ClientID: cl.ID}
}
