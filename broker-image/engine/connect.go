// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"crypto/subtle"
	"strings"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// pause is why a connection is not read.
type pause uint8

const (
	pauseVerify pause = iota // a password is being checked
	pauseRate                // the client publishes faster than it may
	pauseDisk                // the disk has fallen behind
	pauseOutput              // the client does not take in its answers
	pauseQuota               // the user sends faster than its quota allows
	pauseToken               // a token is being checked
)

// refusal is why a client is not let in. What why says is for the log; the client learns the code alone.
type refusal struct {
	code  byte
	why   string
	count metrics.Refusal
}

// handleConnect begins to decide on a client.
func (c *conn) handleConnect(r *round, packet []byte) {
	connect, err := wire.ParseConnect(packet)
	c.version = connect.Version

	if err != nil {
		c.refuseConnect(r, connect, packet, err)

		return
	}

	c.phase = authenticating
	c.connect = connect
	c.problem = connect.RequestProblemInformation

	if connect.ClientID == "" {
		// [MQTT-3.1.3-8] in 3.1.1; MQTT 3.1 knows no empty id at all.
		if connect.Version == wire.V31 || connect.Version == wire.V311 && !connect.CleanStart {
			c.turnAway(r, &refusal{wire.ClientIdentifierNotValid, "an empty client id, and not a clean session", metrics.BadClientID})

			return
		}
	}

	if c.e.stopping.Load() {
		c.turnAway(r, &refusal{wire.ServerShuttingDown, "the broker is shutting down", metrics.Unavailable})

		return
	}

	c.authenticate(r)
}

// refuseConnect answers a CONNECT that breaks a rule, if it is known in which version's form. Before MQTT 5 the only rule
// whose breach has an answer is the version itself [MQTT-3.1.2-2].
func (c *conn) refuseConnect(r *round, connect *wire.Connect, packet []byte, err error) {
	code := wire.CodeOf(err)
	why := &refusal{code, err.Error(), metrics.BadConnect}
	named := bytes.Contains(packet[:min(len(packet), 12)], []byte("\x00\x04MQTT"))

	switch {
	case code == wire.UnsupportedProtocolVersion && (connect.Version != 0 || named):
		why.count = metrics.UnsupportedVersion
		c.version = wire.V311

		if connect.Version > wire.V5 {
			c.version = wire.V5
		}
	case connect.Version == wire.V5:
	default:
		r.e.door(c).Refused(metrics.BadConnect)
		c.sever()

		return
	}

	c.phase = authenticating
	c.turnAway(r, why)
}

// authenticate finds out who the client is. A password is checked elsewhere: that may take long.
func (c *conn) authenticate(r *round) {
	connect := c.connect
	now := c.e.state.Load()

	if c.byCertificate(r, now) {
		return
	}

	if connect.AuthMethod != "" {
		c.beginExchange(r)

		return
	}

	name, password := connect.Username, connect.Password

	switch {
	case !connect.HasUsername && !connect.HasPassword, name == "" && len(password) == 0:
		d := now.door(c.door.Name)
		if d == nil || d.anonymous == nil {
			r.count.AuthFail(metrics.NoCredentials)
			c.turnAway(r, &refusal{wire.BadUserNameOrPassword, "no credentials, and the listener lets nobody in without", metrics.Unauthenticated})

			return
		}

		c.who = &identity{}
		c.admit(r)
	case subtle.ConstantTimeCompare([]byte(name), []byte(c.e.probe.Username)) == 1:
		if subtle.ConstantTimeCompare(password, []byte(c.e.probe.Password)) != 1 {
			c.unknown(r, metrics.WrongPassword)

			return
		}

		c.who = &identity{username: name, probe: true}
		c.admit(r)
	case now.takesToken(c.door.Name, password):
		c.checkToken(password, name, tokenMethods())
	case !now.takes(c.door.Name, contract.MethodPassword):
		r.count.AuthFail(metrics.WrongListener)
		c.turnAway(r, &refusal{wire.BadUserNameOrPassword, "the listener takes no passwords", metrics.Unauthenticated})
	default:
		c.verify(r, name, password, now)
	}
}

func (c *conn) unknown(r *round, why metrics.AuthFailure) {
	r.count.AuthFail(why)
	c.turnAway(r, &refusal{wire.BadUserNameOrPassword, "unknown user or wrong password", metrics.Unauthenticated})
}

// proceed goes on after a pause. It is false if there is nothing to read yet.
func (c *conn) proceed(r *round) (ready bool) {
	defer func() {
		if fault := recover(); fault != nil {
			c.panicked(r, fault)

			ready = true
		}
	}()

	if !c.paused {
		return true
	}

	if c.pause == pauseVerify {
		return c.settleVerify(r)
	}

	if c.pause == pauseToken {
		return c.settleToken(r)
	}

	if c.pause == pauseQuota && !c.paid(r) {
		return false
	}

	c.paused = false
	c.heard.Store(r.nowMS)

	return true
}

// turnAway answers a CONNECT with a refusal and ends the connection [MQTT-3.2.2-7].
func (c *conn) turnAway(r *round, why *refusal) {
	c.turnAwayTo(r, why, "")
}

func (c *conn) turnAwayTo(r *round, why *refusal, reference string) {
	e := c.e
	e.refusedConnects.Add(1)
	e.door(c).Refused(why.count)

	var id, user string
	if c.connect != nil {
		id, user = c.connect.ClientID, c.claims()
	}

	e.audit.line("client refused", "client", id, "user", user, "listener", c.door.Name, "remote", c.remote(), "method", c.how(),
		"reason", why.why)

	if t := e.tracer.Load(); t != nil {
		t.refused(c, id, user, why)
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	if c.closing {
		return
	}

	code := why.code
	if c.version != wire.V5 && code == wire.BadUserNameOrPassword {
		code = wire.NotAuthorized // "bad user name or password" of MQTT 3 means malformed data; brokers answer 5
	}

	c.put(r, func(b []byte) []byte {
		return wire.AppendConnack(b, c.version, &wire.Connack{Code: code, ServerReference: reference})
	})
	r.count.Sent.Packets(wire.TypeConnack, 1)

	c.closing, c.lastWords = true, true
	e.wheel.set(&c.timer, lastWordsPatience)
}

// admit lets a client in whose identity is known, or turns it away.
func (c *conn) admit(r *round) {
	e, connect := c.e, c.connect
	now := e.state.Load()

	if to := e.redirect.Load(); to != nil && !c.who.probe {
		code := wire.UseAnotherServer
		if to.Permanent {
			code = wire.ServerMoved
		}

		c.turnAwayTo(r, &refusal{code, "clients are sent to another server", metrics.Unavailable}, to.Reference)

		return
	}

	if refused := e.closedByDrain(c.who); refused != nil {
		c.turnAway(r, refused)

		return
	}

	if why := c.agree(now, c.who); why != "" {
		c.badCertificate(r, why)

		return
	}

	// The configuration may have changed while the password was looked at.
	if kind, why := now.judge(&c.door.Listener, c.who); kind != stays {
		c.notAdmitted(r, now, why)

		return
	}

	assigned, refused := c.clientID(now.users[c.who.username])
	if refused != nil {
		r.count.AuthFail(metrics.WrongClientID)
		c.turnAway(r, refused)

		return
	}

	c.subject = acl.Subject{Username: c.who.username, ClientID: connect.ClientID, CommonName: c.who.commonName}
	policy := now.policyWith(c.who.username, c.door.Name, c.who.claims())
	c.policy.Store(policy)

	w, refused := c.newWill(r, connect.Will, policy, &now.limits)
	if refused != nil {
		c.turnAway(r, refused)

		return
	}

	c.quota, c.aliasMax = int32(now.limits.ReceiveMaximum), now.limits.TopicAliasMaximum
	c.receiveMaximum = int(connect.ReceiveMaximum)
	c.maxPacket = connect.MaximumPacketSize
	c.outAliasMax = min(connect.TopicAliasMaximum, maxOutAliases)

	if c.version != wire.V5 {
		c.receiveMaximum = window3
	}

	if now.limits.PublishRate > 0 {
		c.bucket = newBucket(now.limits.PublishRate, c.e.clock())
	}

	e.establish(r, c, now, w, assigned)
}

// notAdmitted turns away who has proved an identity that may not come in.
func (c *conn) notAdmitted(r *round, now *state, why string) {
	code, count := wire.NotAuthorized, metrics.UnknownUser

	switch u := now.users[c.who.username]; {
	case u != nil && u.source.Suspended:
		count = metrics.Suspended

		// Who tries passwords learns nothing by it: the answer is that to a wrong one.
		if c.who.verifier != "" {
			code = wire.BadUserNameOrPassword
		}
	case c.who.peer != nil:
		count = metrics.BadCertificate

		if d := now.door(c.door.Name); d != nil && d.trust != nil && d.trust.Believes(c.who.peer, r.now) != nil {
			count = metrics.RevokedCertificate
		}
	case u != nil:
		count = metrics.WrongListener
	}

	r.count.AuthFail(count)
	c.turnAway(r, &refusal{code, why, metrics.Unauthenticated})
}

const (
	// window3 is how many messages a client before MQTT 5 is sent at once; it cannot say.
	window3 = 1024
	// maxOutAliases bounds what aliases towards one client cost.
	maxOutAliases = 32
)

// connack is the answer to a client that is let in, beside what the session adds.
func (c *conn) connack(now *state, assigned string, expiry uint32) *wire.Connack {
	l := &now.limits
	keepAlive := time.Duration(c.connect.KeepAlive) * time.Second
	ack := &wire.Connack{
		ReceiveMaximum: l.ReceiveMaximum, MaximumPacketSize: l.MaxPacketSize, TopicAliasMaximum: l.TopicAliasMaximum,
		AssignedClientID: assigned,
	}

	if c.version == wire.V5 && expiry != c.connect.SessionExpiry {
		ack.SessionExpiry = &expiry // [MQTT-3.2.2-21]
	}

	if l.ServerKeepAlive > 0 && c.version == wire.V5 {
		keep := l.ServerKeepAlive
		ack.ServerKeepAlive = &keep
		keepAlive = time.Duration(keep) * time.Second
	}

	c.mu.Lock()
	c.keepAlive = keepAlive
	c.mu.Unlock()

	if c.exchange != nil {
		ack.AuthMethod, ack.AuthData = c.exchange.method, c.exchange.last
	}

	return ack
}

// reserved tells whether the topic's first level is the broker's own.
func reserved(topic string) bool {
	first, _, _ := strings.Cut(topic, "/")

	return first == "$SYS" || first == "$share"
}

// publishable tells whether clients may publish to the topic at all, whatever the rules say, and with which code not.
func publishable(topic string, l *limits) byte {
	switch {
	case strings.Count(topic, "/") >= l.MaxTopicLevels:
		return wire.TopicNameInvalid
	case reserved(topic):
		return wire.NotAuthorized
	}

	return wire.Success
}
