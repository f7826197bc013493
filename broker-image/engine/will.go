// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

// will is a will message that waits. The library is never told of it: it would publish it unchecked and lose most of
// its properties.
type will struct {
	client     string
	subject    acl.Subject
	listener   string
	topic      string
	payload    []byte
	qos        byte
	retain     bool
	delay      uint32
	properties packets.Properties
}

// wills are the wills of sessions whose connection is gone and whose delay is not over.
type wills struct {
	mu     sync.Mutex
	timers map[string]*pendingWill
}

type pendingWill struct {
	will  *will
	timer *time.Timer
}

// takeWill takes the will out of the CONNECT. The answer says why it is refused.
func (c *conn) takeWill(cl *mqtt.Client, pk *packets.Packet) (packets.Code, string) {
	cl.Properties.Will = mqtt.Will{}
	if !pk.Connect.WillFlag {
		return packets.CodeSuccess, ""
	}

	w := &will{
		client: c.id, subject: c.subject, listener: c.door.Name,
		topic: pk.Connect.WillTopic, payload: pk.Connect.WillPayload,
		qos: pk.Connect.WillQos, retain: pk.Connect.WillRetain,
		delay: pk.Connect.WillProperties.WillDelayInterval, properties: pk.Connect.WillProperties,
	}
	w.properties.WillDelayInterval = 0

	if !publishable(w.topic) {
		return packets.ErrTopicNameInvalid, "the will's topic is no topic that a client may publish to"
	}

	if !c.engine.state.Load().allowsWill(w) {
		return packets.ErrNotAuthorized, "no rule allows the will"
	}

	c.will = w

	return packets.CodeSuccess, ""
}

func (s *state) allowsWill(w *will) bool {
	return s.policy([]byte(w.subject.Username), w.listener).Publish(w.subject, w.topic, w.qos, w.retain).Allowed
}

// releaseWill publishes the will of a connection that ended without saying goodbye, at once or when its delay is over.
func (e *Engine) releaseWill(m *member) {
	w := m.conn.will

	// The session ends with its expiry, and the will is due then at the latest [MQTT-3.1.2-8].
	delay := min(w.delay, m.client.Properties.Props.SessionExpiryInterval)
	if m.client.Properties.ProtocolVersion < 5 || delay == 0 {
		e.publishWill(w)

		return
	}

	e.wills.mu.Lock()
	defer e.wills.mu.Unlock()

	pending := &pendingWill{will: w}
	pending.timer = time.AfterFunc(time.Duration(delay)*time.Second, func() {
		e.wills.mu.Lock()

		due := e.wills.timers[w.client] == pending
		if due {
			delete(e.wills.timers, w.client)
		}
		e.wills.mu.Unlock()

		if due {
			e.publishWill(w)
		}
	})
	e.wills.timers[w.client] = pending
}

// settleWill is called when a client id connects again: the delayed will of its session is forgotten [MQTT-3.1.3-9], or
// published if the client starts a new session, which ends the old one.
func (e *Engine) settleWill(id string, resumed bool) {
	e.wills.mu.Lock()
	pending := e.wills.timers[id]
	delete(e.wills.timers, id)
	e.wills.mu.Unlock()

	if pending != nil && pending.timer.Stop() && !resumed {
		e.publishWill(pending.will)
	}
}

func (e *Engine) stopWills() {
	e.wills.mu.Lock()
	defer e.wills.mu.Unlock()

	for id, pending := range e.wills.timers {
		pending.timer.Stop()
		delete(e.wills.timers, id)
	}
}

// publishWill asks the rules that hold now: those that held at CONNECT may be long gone.
func (e *Engine) publishWill(w *will) {
	if e.stopping.Load() {
		return
	}

	if !e.state.Load().allowsWill(w) {
		e.audit.line("will refused", "client", w.client, "user", w.subject.Username, "topic", w.topic)

		return
	}

	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: w.qos, Retain: w.retain},
		TopicName:   w.topic,
		Payload:     w.payload,
		Properties:  w.properties,
	}

	if code := e.inject(w.client, &pk); code != packets.CodeSuccess {
		e.log.Warn("will could not be published", "client", w.client, "topic", w.topic, "error", code)
	}
}
