// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/storage"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
)

const (
	maxLevels = 128
	// nowhere is a topic that the library drops without a word when a client publishes to it.
	nowhere = "$SYS"
	// noFilter is a filter that the library refuses.
	noFilter = "#/"
)

// hook is where the library asks. It decides by the engine's state and keeps nothing itself.
type hook struct {
	mqtt.HookBase
	engine *Engine
}

func (h *hook) ID() string { return "mqtt-operator" }

func (h *hook) Provides(b byte) bool {
	return bytes.IndexByte([]byte{
		mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnSessionEstablished, mqtt.OnACLCheck,
		mqtt.OnPublish, mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnPacketProcessed, mqtt.OnDisconnect,
		mqtt.OnSubscribe, mqtt.OnSubscribed, mqtt.OnUnsubscribed, mqtt.OnClientExpired,
		mqtt.OnRetainMessage, mqtt.OnRetainedExpired, mqtt.OnQosPublish, mqtt.OnQosComplete, mqtt.OnQosDropped,
		mqtt.StoredClients, mqtt.StoredSubscriptions, mqtt.StoredInflightMessages, mqtt.StoredRetainedMessages,
	}, b) >= 0
}

// publishable tells whether clients may publish to the topic at all, whatever the rules say.
func publishable(topic string) bool {
	return acl.ValidateTopic(topic) == nil && strings.Count(topic, "/") < maxLevels && !reserved(topic)
}

// reserved tells whether the topic's first level is the broker's own. The library compares these without regard to
// case, so we do.
func reserved(topic string) bool {
	first, _, _ := strings.Cut(topic, "/")

	// The library takes every topic that begins with these four letters for its own.
	return len(first) >= len(mqtt.SysPrefix) && strings.EqualFold(first[:len(mqtt.SysPrefix)], mqtt.SysPrefix) ||
		strings.EqualFold(first, mqtt.SharePrefix)
}

// OnConnect decides whether a client gets in. Every refusal is answered here, with its reason.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	e := h.engine

	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return errClosedByUs
	}

	c.version = pk.ProtocolVersion
	c.mute.Store(c.version < 5)

	// The library's strings lie in the packet's buffer and would keep it alive as long as themselves.
	cl.ID = strings.Clone(cl.ID)
	cl.Properties.Username = bytes.Clone(cl.Properties.Username)

	code, why := e.admit(c, cl, &pk)
	if code == packets.CodeSuccess {
		return nil
	}

	e.abandon(c)
	e.refusedConnects.Add(1)
	e.audit.line("client refused", "client", cl.ID, "user", string(pk.Connect.Username), "listener", c.door.Name,
		"remote", cl.Net.Remote, "reason", why)

	_ = e.server.SendConnack(cl, connackCode(code, c.version), false, nil)

	return code
}

// connackCode is the code in the client's own protocol. MQTT 3 knows five, and its "not authorized" covers the rest.
func connackCode(code packets.Code, version byte) packets.Code {
	if version >= 5 {
		return code
	}

	switch code {
	case packets.ErrClientIdentifierNotValid, packets.ErrServerUnavailable:
		return code // the library translates these
	default:
		return packets.Err3NotAuthorized
	}
}

func (e *Engine) admit(c *conn, cl *mqtt.Client, pk *packets.Packet) (packets.Code, string) {
	if e.stopping.Load() {
		return packets.ErrServerUnavailable, "the broker is shutting down"
	}

	if pk.Properties.AuthenticationMethod != "" {
		return packets.ErrBadAuthenticationMethod, "no authentication method but user and password is known"
	}

	now := e.state.Load()

	if why := e.authenticate(c, pk, now); why != "" {
		return packets.ErrBadUsernameOrPassword, why
	}

	c.subject = acl.Subject{Username: c.who.username, ClientID: cl.ID}

	if code, why := e.claimID(c, cl.ID); code != packets.CodeSuccess {
		return code, why
	}

	if code, why := c.takeWill(cl, pk); code != packets.CodeSuccess {
		return code, why
	}

	c.keepAlive = time.Duration(pk.Connect.Keepalive) * time.Second
	c.aliasMax = now.config.Limits.TopicAliasMaximum
	c.window = int(now.config.Limits.ReceiveMaximum)

	// The library would put an alias without its topic into what it sends again on another connection.
	cl.Properties.Props.TopicAliasMaximum = 0

	if limit := now.config.Limits.MaxSessionExpiry; cl.Properties.Props.SessionExpiryInterval > limit {
		cl.Properties.Props.SessionExpiryInterval = limit
		cl.Properties.Props.SessionExpiryIntervalFlag = true
		c.capped = true
	}

	session, ok := e.server.Clients.Get(cl.ID)
	if ok {
		e.narrow(session, now.policy(cl.Properties.Username, c.door.Name))
		e.dropOversized(session, cl.Properties.Props.MaximumPacketSize)
	}

	c.inbox = e.inboxes.open(cl.ID, !ok || pk.Connect.Clean)
	e.settleWill(cl.ID, !pk.Connect.Clean)

	return packets.CodeSuccess, ""
}

// OnConnectAuthenticate only repeats what OnConnect found: a client without an identity stays out.
func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, _ packets.Packet) bool {
	c, ok := cl.Net.Conn.(*conn)

	return ok && c.who != nil && c.claim != nil
}

// OnSessionEstablished comes when the CONNACK is out.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return
	}

	e := h.engine
	c.established = true
	c.writing.Store(true)
	_ = c.Conn.SetWriteDeadline(time.Time{})

	cl.State.Inflight.ResetReceiveQuota(math.MaxInt32) // kept in inbound.go

	if !c.who.probe {
		e.store.putSession(cl)
		e.audit.line("client connected", "client", c.id, "user", c.who.username, "listener", c.door.Name,
			"remote", cl.Net.Remote, "version", c.version)
	}

	e.join(&member{conn: c, client: cl})
}

// OnPacketRead sees each packet before the library acts on it.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok || !c.established {
		return pk, nil
	}

	switch pk.FixedHeader.Type {
	case packets.Publish:
		return h.publish(c, cl, pk)
	case packets.Pubrel:
		return h.release(c, cl, pk), nil
	case packets.Subscribe, packets.Unsubscribe:
		if pk.PacketID > 0 {
			// The library compares the id with those of messages under way to the client, which are another matter.
			c.request, pk.PacketID, pk.FixedHeader.Qos = pk.PacketID, 0, 0
		}
	case packets.Disconnect:
		if pk.ReasonCode != packets.CodeDisconnectWillMessage.Code {
			c.will = nil // [MQTT-3.14.4-3]
		}
	case packets.Auth, packets.Connack, packets.Suback, packets.Unsuback, packets.Pingresp:
		// Never right from a client that has agreed on no authentication method.
		_ = h.engine.server.DisconnectClient(cl, packets.ErrProtocolViolation)

		return pk, packets.ErrRejectPacket
	}

	return pk, nil
}

func (c *conn) resolveAlias(pk *packets.Packet) packets.Code {
	if !pk.Properties.TopicAliasFlag {
		return packets.CodeSuccess
	}

	alias := pk.Properties.TopicAlias
	if alias == 0 || alias > c.aliasMax { // [MQTT-3.3.2-8] [MQTT-3.3.2-9]
		return packets.ErrTopicAliasInvalid
	}

	if pk.TopicName == "" {
		topic, ok := c.aliases[alias]
		if !ok {
			return packets.ErrProtocolViolation
		}

		pk.TopicName = topic
	} else {
		if c.aliases == nil {
			c.aliases = map[uint16]string{}
		}

		pk.TopicName = strings.Clone(pk.TopicName)
		c.aliases[alias] = pk.TopicName
	}

	pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = 0, false

	return packets.CodeSuccess
}

// OnACLCheck is asked for a filter of a SUBSCRIBE under way, which has been decided when it comes and is only repeated,
// and for each delivery. It is never asked about publishing: see inbound.go.
func (h *hook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	c, online := cl.Net.Conn.(*conn)
	if write {
		return false
	}

	if strings.ContainsAny(topic, "+#") || mqtt.IsSharedFilter(topic) {
		// Not a topic, so not a delivery: only the goroutine that reads this connection gets here.
		return online && slices.Contains(c.granting, topic)
	}

	policy := h.engine.state.Load().policy(cl.Properties.Username, cl.Net.Listener)

	return policy.Deliver(subjectOf(cl), topic).Allowed
}

// OnSubscribe decides each filter: what is granted gets its QoS capped, what is not is made invalid so that the library
// leaves it out.
func (h *hook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return pk
	}

	c.decided = h.engine.state.Load()
	policy := c.decided.policy(cl.Properties.Username, c.door.Name)
	c.granting, c.refused = c.granting[:0], make([]bool, len(pk.Filters))

	for i := range pk.Filters {
		sub := &pk.Filters[i]
		sub.Filter = strings.Clone(sub.Filter)

		if acl.ValidateFilter(sub.Filter) != nil || strings.Count(sub.Filter, "/") >= maxLevels || sharesOddly(sub.Filter) {
			sub.Filter = noFilter

			continue
		}

		d := policy.Subscribe(c.subject, sub.Filter, sub.Qos)
		if !d.Allowed {
			h.engine.refusedSubscribes.Add(1)
			h.engine.audit.line("subscription refused", "client", c.id, "user", c.subject.Username, "filter", sub.Filter)

			c.refused[i] = true
			sub.Filter = noFilter

			continue
		}

		sub.Qos = d.MaxQoS
		c.granting = append(c.granting, sub.Filter)
	}

	return pk
}

// sharesOddly is a filter that the library takes for a share, and the specification does not.
func sharesOddly(filter string) bool {
	_, _, shared := acl.SplitShare(filter)

	return !shared && mqtt.IsSharedFilter(filter)
}

// OnSubscribed comes before the SUBACK. Filters that were not granted are not stored.
func (h *hook) OnSubscribed(cl *mqtt.Client, pk packets.Packet, codes []byte) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return
	}

	c.granting = c.granting[:0]

	for i := range pk.Filters {
		if codes[i] <= packets.CodeGrantedQos2.Code {
			h.engine.store.putSubscription(cl, &pk.Filters[i])
		}
	}

	// A configuration that came in between has not seen these subscriptions.
	if now := h.engine.state.Load(); now != c.decided {
		h.engine.narrow(cl, now.policy(cl.Properties.Username, c.door.Name))
	}
}

// OnPacketEncode corrects what the library answers.
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return pk
	}

	switch pk.FixedHeader.Type {
	case packets.Connack:
		h.connack(c, cl, &pk)
	case packets.Pubcomp:
		c.released(&pk)
	case packets.Unsuback:
		pk.PacketID = c.request
	case packets.Suback:
		pk.PacketID = c.request

		for i := range pk.ReasonCodes {
			if i < len(c.refused) && c.refused[i] && pk.ReasonCodes[i] == packets.ErrTopicFilterInvalid.Code {
				pk.ReasonCodes[i] = packets.ErrNotAuthorized.Code
			}
		}
	}

	return pk
}

func (h *hook) connack(c *conn, cl *mqtt.Client, pk *packets.Packet) {
	if pk.ReasonCode != packets.CodeSuccess.Code {
		return
	}

	pk.Properties.ReceiveMaximum = uint16(c.window)                                     //nolint:gosec // came from one
	pk.Properties.MaximumPacketSize = h.engine.state.Load().config.Limits.MaxPacketSize // [MQTT-3.2.2-15]
	pk.Properties.TopicAliasMaximum = c.aliasMax                                        // [MQTT-3.2.2-17]

	if c.capped {
		pk.Properties.SessionExpiryInterval = cl.Properties.Props.SessionExpiryInterval
		pk.Properties.SessionExpiryIntervalFlag = true
	}
}

// OnPacketProcessed writes down that a message was received for the first time: after a restart its PUBREL is due, not
// the message again.
func (h *hook) OnPacketProcessed(cl *mqtt.Client, pk packets.Packet, _ error) {
	if pk.FixedHeader.Type != packets.Pubrec {
		return
	}

	if waiting, ok := cl.State.Inflight.Get(pk.PacketID); ok {
		h.engine.store.putWaiting(cl, &waiting)
	}
}

// The rest keeps the disk in step with the library's memory.

func (h *hook) OnDisconnect(cl *mqtt.Client, _ error, expire bool) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok || c.who == nil || c.who.probe {
		return
	}

	if expire {
		h.engine.inboxes.drop(cl.ID)
		h.engine.store.deleteSession(cl.ID)
	} else {
		h.engine.store.putSession(cl) // a DISCONNECT may have changed its expiry
	}
}

func (h *hook) OnUnsubscribed(cl *mqtt.Client, pk packets.Packet) {
	for i := range pk.Filters {
		h.engine.store.deleteSubscription(cl.ID, pk.Filters[i].Filter)
	}
}

// OnClientExpired comes just before the library forgets a session, and does what it leaves undone.
func (h *hook) OnClientExpired(cl *mqtt.Client) { h.engine.endSession(cl) }

func (h *hook) OnRetainMessage(_ *mqtt.Client, pk packets.Packet, change int64) {
	if change == 1 {
		h.engine.store.putRetained(&pk)
	} else {
		h.engine.store.deleteRetained(pk.TopicName)
	}
}

func (h *hook) OnRetainedExpired(topic string) { h.engine.store.deleteRetained(topic) }

func (h *hook) OnQosPublish(cl *mqtt.Client, pk packets.Packet, _ int64, _ int) {
	h.engine.store.putWaiting(cl, &pk)
}

func (h *hook) OnQosComplete(cl *mqtt.Client, pk packets.Packet) {
	h.engine.store.deleteWaiting(cl, pk.PacketID)
}

func (h *hook) OnQosDropped(cl *mqtt.Client, pk packets.Packet) {
	cl.State.Inflight.IncreaseSendQuota() // forgotten by the library
	h.engine.store.deleteWaiting(cl, pk.PacketID)
}

func (h *hook) StoredClients() ([]storage.Client, error) { return h.engine.store.clients() }

func (h *hook) StoredSubscriptions() ([]storage.Subscription, error) {
	return h.engine.store.subscriptions()
}

func (h *hook) StoredInflightMessages() ([]storage.Message, error) { return h.engine.store.waiting() }

func (h *hook) StoredRetainedMessages() ([]storage.Message, error) { return h.engine.store.retained() }
