// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"strings"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/topics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

func (c *conn) handleSubscribe(r *round, packet []byte) error {
	in, err := wire.ParseSubscribe(packet, c.version)
	if err != nil {
		return err
	}

	for i := range in.Filters {
		if _, _, shared := acl.SplitShare(in.Filters[i].Filter); shared && in.Filters[i].NoLocal {
			return &wire.Error{Code: wire.ProtocolError, Reason: "No Local on a shared subscription [MQTT-3.8.3-4]"}
		}
	}

	var (
		s     = c.sess
		codes = make([]byte, len(in.Filters))
		fresh = make([]bool, len(in.Filters))
	)

	s.mu.Lock()

	policy := c.policy.Load()

	for i := range in.Filters {
		codes[i], fresh[i] = s.subscribe(r, c, policy, &in.Filters[i], in.Identifier)
	}

	stored := s.stored
	s.mu.Unlock()

	if t := c.e.tracer.Load(); t != nil {
		for i := range in.Filters {
			t.subscribed(c, &in.Filters[i], codes[i])
		}
	}

	raw := wire.AppendSuback(nil, c.version, in.PacketID, codes, "") // [MQTT-3.8.4-1]
	c.owe(r, answer{typ: wire.TypeSuback, code: byte(min(len(codes), 255)), raw: raw}, stored && r.tx != nil)
	c.prompt = true

	for i := range in.Filters {
		f := &in.Filters[i]
		if codes[i] > 2 || f.RetainHandling == 2 || f.RetainHandling == 1 && !fresh[i] { // [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
			continue
		}

		s.sendRetained(r, c, f.Filter, codes[i], in.Identifier)
	}

	// A configuration that came in between has not seen these subscriptions.
	if c.policy.Load() != policy {
		s.mu.Lock()
		s.narrow(r, c.subject, c.policy.Load())
		s.mu.Unlock()
	}

	if stored {
		c.mindDisk(r)
	}

	return nil
}

// subscribe decides on one filter and enters it. mu is held.
func (s *session) subscribe(r *round, c *conn, policy *acl.Policy, f *wire.Filter, id uint32) (code byte, fresh bool) {
	l := &s.e.state.Load().limits

	if acl.ValidateFilter(f.Filter) != nil || strings.Count(f.Filter, "/") >= l.MaxTopicLevels {
		return wire.TopicFilterInvalid, false
	}

	d := policy.Subscribe(c.subject, f.Filter, f.QoS)
	if !d.Allowed {
		r.count.Deny(metrics.Subscribe)
		s.e.refusedSubscribes.Add(1)
		s.e.audit.line("subscription refused", "client", c.subject.ClientID, "user", c.subject.Username, "listener", c.door.Name,
			"remote", c.remote(), "filter", f.Filter)

		return wire.NotAuthorized, false
	}

	sub := subscription{filter: f.Filter, Options: topics.Options{
		QoS: d.MaxQoS, NoLocal: f.NoLocal, RetainAsPublished: f.RetainAsPublished, RetainHandling: f.RetainHandling,
		Identifier: id,
	}}

	at := s.find(f.Filter)

	var before *subscription

	switch {
	case at >= 0:
		old := s.subs[at]
		before = &old
		s.subs[at] = sub // [MQTT-3.8.4-3]
	case len(s.subs) >= l.MaxSubscriptions:
		return wire.QuotaExceeded, false
	case s.ended:
		return wire.UnspecifiedError, false
	default:
		s.subs = append(s.subs, sub)
	}

	s.e.index.Subscribe(sub.filter, s, sub.Options)
	s.saveSubscription(r, &sub)
	s.changes(r, f.Filter, before, &sub)

	return d.MaxQoS, at < 0
}

func (c *conn) handleUnsubscribe(r *round, packet []byte) error {
	in, err := wire.ParseUnsubscribe(packet, c.version)
	if err != nil {
		return err
	}

	s := c.sess
	codes := make([]byte, len(in.Filters))

	s.mu.Lock()

	for i, filter := range in.Filters {
		codes[i] = s.unsubscribe(r, filter)
	}

	stored := s.stored
	s.mu.Unlock()

	if t := c.e.tracer.Load(); t != nil {
		for i, filter := range in.Filters {
			t.unsubscribed(c, filter, codes[i])
		}
	}

	raw := wire.AppendUnsuback(nil, c.version, in.PacketID, codes, "")
	c.owe(r, answer{typ: wire.TypeUnsuback, code: byte(min(len(codes), 255)), raw: raw}, stored && r.tx != nil)

	if stored {
		c.mindDisk(r)
	}

	return nil
}

func (s *session) unsubscribe(r *round, filter string) byte {
	if acl.ValidateFilter(filter) != nil {
		return wire.TopicFilterInvalid
	}

	at := s.find(filter)
	if at < 0 {
		return wire.NoSubscriptionExisted
	}

	before := s.subs[at]
	s.remove(at)

	if s.stored {
		r.write().DeleteSubscription(s.id, filter)
	}

	s.changes(r, filter, &before, nil)

	return wire.Success
}

// remove takes a subscription out. mu is held.
func (s *session) remove(at int) {
	filter := s.subs[at].filter

	s.subs[at] = s.subs[len(s.subs)-1]
	s.subs[len(s.subs)-1] = subscription{}
	s.subs = s.subs[:len(s.subs)-1]
	s.e.index.Unsubscribe(filter, s) // [MQTT-3.10.4-2]
}

// subscriptionChange is on its way to the disk; now is nil when the subscription ends.
type subscriptionChange struct {
	s      *session
	filter string
	now    *subscription
}

// unsure is a subscription of which the disk may not have what memory has.
type unsure struct {
	onDisk  *subscription // nil: none
	pending int           // changes on their way
}

// changes notes what is on its way to the disk, in case that refuses it. mu is held.
func (s *session) changes(r *round, filter string, before, now *subscription) {
	if !s.stored {
		return
	}

	u := s.unsure[filter]
	if u == nil {
		u = &unsure{onDisk: before}

		if s.unsure == nil {
			s.unsure = map[string]*unsure{}
		}

		s.unsure[filter] = u
	}

	u.pending++

	after := r.then()
	after.subs = append(after.subs, subscriptionChange{s: s, filter: filter, now: now})
}

// subscriptionStored is told that a change is on disk, or cannot be. What the disk refuses does not hold in memory
// either: the client was told so, and a restart would not know it. It runs on the store's goroutine.
func (s *session) subscriptionStored(change *subscriptionChange, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	u := s.unsure[change.filter]
	if u == nil {
		return // the session has ended
	}

	if err == nil {
		u.onDisk = change.now
	}

	u.pending--
	if u.pending > 0 {
		return // a later change decides
	}

	delete(s.unsure, change.filter)

	if len(s.unsure) == 0 {
		s.unsure = nil
	}

	if err != nil {
		s.restoreSubscription(change.filter, u.onDisk)
	}
}

// restoreSubscription makes memory agree with the disk, as far as the rules of now allow it. Nothing is written: the disk
// has just refused that. mu is held.
func (s *session) restoreSubscription(filter string, to *subscription) {
	if policy := s.e.state.Load().policy(s.username, s.listener); to != nil && policy != nil {
		d := policy.Subscribe(s.subject(), filter, to.QoS)
		if d.Allowed {
			to.QoS = min(to.QoS, d.MaxQoS)
		} else {
			to = nil
		}
	}

	at := s.find(filter)

	switch {
	case to == nil && at >= 0:
		s.remove(at)

		return
	case to == nil:
		return
	case at >= 0:
		s.subs[at] = *to
	default:
		s.subs = append(s.subs, *to)
	}

	s.e.index.Subscribe(filter, s, to.Options)
}

func (c *conn) handleDisconnect(packet []byte) error {
	in, err := wire.ParseDisconnect(packet, c.version)
	if err != nil {
		return err
	}

	s := c.sess

	if in.HasSessionExpiry {
		if c.asked == 0 && in.SessionExpiry > 0 { // [MQTT-3.14.2-2]
			return &wire.Error{Code: wire.ProtocolError, Reason: "a session expiry at the end, and none at the beginning [MQTT-3.14.2-2]"}
		}

		s.mu.Lock()

		if s.conn.Load() == c {
			s.expiry = min(in.SessionExpiry, s.e.state.Load().sessionExpiry(s.username))
		}

		s.mu.Unlock()
	}

	c.orderly = in.Code != wire.DisconnectWithWill
	ended := metrics.ByClient

	if !c.orderly {
		ended = metrics.ByClientWithWill
	}

	c.goes(ended)

	return nil
}
