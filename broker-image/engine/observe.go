// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/listen"
	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
)

// retainedTimer lets a retained message go when it has expired.
type retainedTimer struct {
	timer

	e *Engine
	m *message
}

func (e *Engine) expireRetained(r *round, m *message) {
	t := &retainedTimer{e: e, m: m}
	t.fire = t.due
	e.wheel.set(&t.timer, time.Duration(max(0, m.expiresAt-e.milliseconds(time.Now())))*time.Millisecond)
	_ = r
}

func (t *retainedTimer) due(r *round) {
	e := t.e

	current, ok := e.retained.Get(t.m.topic)
	if !ok || current != t.m {
		return
	}

	e.retained.Delete(t.m.topic)
	e.retainedBytes.Add(-t.m.retainedSize())

	if e.store != nil {
		r.write().DeleteRetained(t.m.topic)
	}
}

func (e *Engine) sessionCount() int64 { return max(0, int64(e.sessions.len())-e.probes.Load()) }

// inflight counts what was sent and is not acknowledged. Only sessions that are connected are looked at closely.
func (g *registry) inflight() (n int64) {
	for i := range g.shards {
		sh := &g.shards[i]
		sh.mu.Lock()

		for _, s := range sh.byID {
			if s.conn.Load() != nil {
				s.mu.Lock()
				n += int64(s.out.inflight)
				s.mu.Unlock()
			}
		}
		sh.mu.Unlock()
	}

	return n
}

// measure is what metrics ask for.
func (e *Engine) measure() metrics.State {
	online := e.connections.Load()
	s := metrics.State{
		SessionsOnline: online, SessionsOffline: max(0, e.sessionCount()-online),
		Subscriptions: int64(e.index.Len()), SharedSubscriptions: int64(e.index.Shared()),
		Inflight:         e.sessions.inflight(),
		RetainedMessages: int64(e.retained.Len()), RetainedBytes: e.retainedBytes.Load(),
		QueuedMessages: e.queuedMessages.Load(), QueuedBytes: e.queuedBytes.Load(),
		PasswordChecks: int64(e.queue.Len()), AuditLinesDropped: e.audit.left.Load(),
	}

	s.StoredMessages, s.StoredBytes = s.RetainedMessages+s.QueuedMessages, s.RetainedBytes+s.QueuedBytes

	if e.store != nil {
		s.StorageFault = e.store.Fault() != ""
	}

	if e.options.ConfigFault != nil {
		s.ConfigFault = e.options.ConfigFault()
	}

	e.applying.Lock()
	defer e.applying.Unlock()

	now := e.state.Load()
	if now == nil {
		return s
	}

	s.ConfigRevision, s.ConfigTime = now.revision, e.applied

	s.KeySets = now.keySets()

	for _, d := range now.doors {
		if l := e.sockets[d.socket()]; l != nil {
			s.Listeners = append(s.Listeners, metrics.ListenerState{
				Name: d.Name, Fault: l.Fault() != "", Panics: l.Panics(), Accepted: l.Accepted(),
				Refused: map[metrics.Refusal]int64{
					metrics.ConnectionLimit:    l.Refused(listen.Full),
					metrics.ProxyHeader:        l.Refused(listen.BadProxyHeader),
					metrics.TLSHandshake:       l.Refused(listen.BadTLSHandshake),
					metrics.ClientCertificate:  l.Refused(listen.BadCertificate),
					metrics.CertificateRevoked: l.Refused(listen.RevokedCertificate),
					metrics.WebSocketHandshake: l.Refused(listen.BadUpgrade),
					metrics.ClosedEarly:        l.Refused(listen.Broken),
				},
			})
		}
	}

	return s
}

// publishSys publishes what is counted below $SYS, as retained messages.
func (e *Engine) publishSys() {
	defer close(e.idle)

	ticker := time.NewTicker(e.options.SysInterval)
	defer ticker.Stop()

	var before []metrics.SysTopic

	for {
		now := e.metrics.SysTopics(time.Now())
		r := e.borrow()

		for _, t := range metrics.Changed(before, now) {
			p := r.publication()
			p.message = message{topic: t.Topic, payload: []byte(t.Payload), retain: true, created: r.nowMS}
			e.route(r, p)
			r.release(p)
		}

		e.giveBack(r)

		before = now

		select {
		case <-e.quit:
			return
		case <-ticker.C:
		}
	}
}
