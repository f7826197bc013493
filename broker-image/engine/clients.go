// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

const (
	// clientsText is how many bytes of names one page holds: a client identifier alone may have 64 KiB.
	clientsText = 1 << 20
	// sentAway is what a client is told that somebody disconnects.
	sentAway = "an administrator has ended the connection"
)

// ClientFilter says which clients are listed. What is empty does not narrow.
type ClientFilter struct {
	// After is the client id behind which the page begins.
	After string
	// Prefix is how the client id begins.
	Prefix string
	// User and Listener are the whole names.
	User, Listener string
	// Limit is how many are listed at most.
	Limit int
}

// Client is one that is connected.
type Client struct {
	ClientID, User, Listener, Remote string
	// Version is that of the protocol: 3, 4 (3.1.1) or 5.
	Version byte
	// Since is when it was let in.
	Since time.Time
	// Subscriptions it has.
	Subscriptions int
	// Queued messages wait to be sent to it, and Inflight ones have been and are not acknowledged.
	Queued, Inflight int
	QueuedBytes      int64
}

// ClientPage is a part of the list.
type ClientPage struct {
	Clients []Client
	// Next is the After of the page that follows; empty if none does.
	Next string
}

// Clients lists those that are connected, by client id. It holds no lock for longer than it takes to look at one.
func (e *Engine) Clients(filter ClientFilter) ClientPage {
	limit := max(1, filter.Limit)

	// One more than asked for says whether another page follows. What lies behind them is let go of now and then, so that
	// a page costs no memory for those that are on others.
	var found []*session

	cut := func() {
		slices.SortFunc(found, func(a, b *session) int { return cmp.Compare(a.clientID, b.clientID) })
		found = slices.Delete(found, min(limit+1, len(found)), len(found))
	}

	e.sessions.each(func(s *session) {
		if filter.wants(s) {
			if found = append(found, s); len(found) >= 2*(limit+1) {
				cut()
			}
		}
	})
	cut()

	page, size := ClientPage{}, 0

	for i, s := range found {
		if size += len(s.clientID) + len(s.username); i > 0 && (i == limit || size > clientsText) {
			page.Next = found[i-1].clientID

			break
		}

		if c, ok := s.describe(); ok {
			page.Clients = append(page.Clients, c)
		}
	}

	return page
}

func (f *ClientFilter) wants(s *session) bool {
	if s.clientID <= f.After || !strings.HasPrefix(s.clientID, f.Prefix) || f.User != "" && f.User != s.username {
		return false
	}

	c := s.client()

	return c != nil && (f.Listener == "" || f.Listener == c.door.Name)
}

// client is the connection that has the session, nil if there is none or it is that of the probe.
func (s *session) client() *conn {
	c := s.conn.Load()
	if c == nil {
		return nil
	}

	if who := c.member.Load(); who == nil || who.probe {
		return nil
	}

	return c
}

// describe is false if the client has gone meanwhile.
func (s *session) describe() (Client, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	c := s.client()
	if c == nil {
		return Client{}, false
	}

	return Client{
		ClientID: s.clientID, User: s.username, Listener: c.door.Name, Remote: c.remote(), Version: byte(c.version),
		Since: time.UnixMilli(c.since), Subscriptions: len(s.subs),
		Queued: s.messages, QueuedBytes: s.bytes, Inflight: s.out.inflight,
	}, true
}

// Disconnect ends the connection of a client, and says whether it had one. A client of MQTT 5 is told that it is an
// administrative action. Its session is kept for as long as it asked for, and its will is published, as whenever it is
// the server that ends a connection.
func (e *Engine) Disconnect(clientID string) bool {
	sh := e.sessions.shard(clientID)

	sh.mu.Lock()
	s := sh.byID[clientID]
	sh.mu.Unlock()

	if s == nil {
		return false
	}

	c := s.client()
	if c == nil {
		return false
	}

	r := e.borrow()
	defer e.giveBack(r)

	e.audit.line("client is disconnected", "client", clientID, "user", s.username, "listener", c.door.Name,
		"remote", c.remote(), "reason", sentAway)
	c.disconnect(r, wire.AdministrativeAction, sentAway, metrics.Administrative)

	return true
}
