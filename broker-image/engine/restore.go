// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/store"
	"github.com/mqtt-operator/mqtt-operator/broker-image/topics"
)

// restore brings back what the last process has left. Queues stay on disk.
func (e *Engine) restore() error {
	if e.store == nil {
		return nil
	}

	e.lastSession.Store(uint64(e.store.Highest()))

	err := e.store.Restore(store.Visitor{Session: e.restoreSession, Retained: e.restoreMessage})
	if err != nil {
		return fmt.Errorf("sessions could not be restored: %w", err)
	}

	return nil
}

func (e *Engine) restoreMessage(m *store.Message) error {
	kept := restoredMessage(m)
	if kept.expiresAt != 0 && kept.expiresAt <= e.milliseconds(time.Now()) {
		return nil // removed from disk when another takes its place
	}

	kept.retain = true
	kept.born = e.births.Add(1)
	e.retained.Set(kept.topic, kept)
	e.retainedBytes.Add(kept.retainedSize())

	if kept.expiresAt != 0 {
		e.expireRetained(e.storeRound, kept)
	}

	return nil
}

func (e *Engine) restoreSession(v *store.Restored) error {
	s := &session{
		e: e, id: v.Session.ID, clientID: v.Session.ClientID, username: v.Session.Username,
		commonName: v.Session.CommonName, listener: v.Session.Listener,
		stored: true, expiry: v.Session.Expiry, away: v.Session.Since, willStored: true,
	}
	s.timer.fire = s.alarm
	s.out.next = max(1, v.Queue.Next, v.Session.NextSeq)
	s.out.first = s.out.next

	if v.Queue.Count > 0 {
		s.out.first = v.Queue.First
		s.offline, s.messages, s.bytes = v.Queue.Count, v.Queue.Count, v.Queue.Bytes
		e.queuedMessages.Add(int64(v.Queue.Count))
		e.queuedBytes.Add(v.Queue.Bytes)
	}

	if v.Session.Connected {
		s.away = e.began.UnixMilli() // it was here until the end
	}

	// What was queued before the client left may have been sent to it.
	s.mayHaveSeen, s.seenUntil = s.out.next, s.away

	for _, id := range v.Inbound {
		s.received.add(id)
	}

	if w := v.Session.Will; w != nil {
		m := restoredMessage(&w.Message)
		s.will = &will{message: m, delay: w.DueDelay, listener: s.listener, username: s.username, commonName: s.commonName}

		if m.expiresAt > 0 {
			s.will.expires, s.will.interval = true, uint32(m.expiresAt-1) //nolint:gosec // an interval; see save
			m.expiresAt = 0
		}
	}

	for _, sub := range v.Subscriptions {
		o := topics.Options{
			QoS: sub.QoS, NoLocal: sub.NoLocal, RetainAsPublished: sub.RetainAsPublished,
			RetainHandling: sub.RetainHandling, Identifier: sub.Identifier,
		}
		s.subs = append(s.subs, subscription{filter: sub.Filter, Options: o})
		e.index.Subscribe(sub.Filter, s, o)
	}

	e.sessions.shard(s.clientID).byID[s.clientID] = s

	return nil
}

// settleRestored looks at what became due while nobody was there: sessions that have expired, wills of clients that the
// end of the last process cut off.
func (e *Engine) settleRestored() {
	r := e.borrow()
	defer e.giveBack(r)

	e.sessions.each(func(s *session) {
		s.mu.Lock()
		if s.conn.Load() != nil || s.ended {
			s.mu.Unlock()

			return
		}

		s.schedule(r.nowMS)
		s.mu.Unlock()
	})
}
