// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// Exchange is one run of an authentication method of MQTT 5 (section 4.12) for one client. It is asked on the goroutine
// that serves the client's connection, so it must not wait for anything.
type Exchange interface {
	// Step takes what the client sent and gives what to answer. It is done when username is known. An error ends the
	// exchange; its text is for the log and must hold no secret.
	Step(data []byte) (answer []byte, done bool, username string, err error)
}

// exchange is an Exchange under way, or the one that let the client in.
type exchange struct {
	Exchange

	method string
	last   []byte
	// again: the client is let in already and proves itself anew.
	again bool
	// over: it has come to an end, and the client has no more to say in it.
	over bool
}

// beginExchange starts the method that the CONNECT names, and refuses one that is not known [MQTT-4.12.0-1].
func (c *conn) beginExchange(r *round) {
	method := c.connect.AuthMethod

	if c.beginToken(method, c.connect.Username, c.connect.AuthData) {
		return
	}

	start := c.e.options.Methods[method]
	if start == nil {
		r.count.AuthFail(metrics.BadMethod)
		c.turnAway(r, &refusal{wire.BadAuthenticationMethod, "the authentication method is not known", metrics.Unauthenticated})

		return
	}

	c.exchange = &exchange{Exchange: start(), method: method}
	c.step(r, c.connect.AuthData)
}

func (c *conn) step(r *round, data []byte) {
	answer, done, username, err := c.exchange.Step(data)
	c.exchange.over = done || err != nil

	switch {
	case err != nil && c.exchange.again:
		r.count.AuthFail(metrics.BadMethod)
		c.disconnect(r, wire.NotAuthorized, "authentication failed", metrics.Revoked)
	case err != nil:
		r.count.AuthFail(metrics.BadMethod)
		c.turnAway(r, &refusal{wire.NotAuthorized, err.Error(), metrics.Unauthenticated})
	case !done:
		c.sendAuth(r, wire.ContinueAuthentication, answer)
	case c.exchange.again && username != c.who.username:
		c.disconnect(r, wire.NotAuthorized, "authentication gave another user", metrics.Revoked)
	case c.exchange.again:
		c.sendAuth(r, wire.Success, answer)
	default:
		c.exchange.last = answer
		c.who = &identity{username: username, vouched: true}
		c.admit(r)
	}
}

func (c *conn) sendAuth(r *round, code byte, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.put(r, func(b []byte) []byte { return wire.AppendAuth(b, code, c.exchange.method, data) }) // [MQTT-4.12.0-5]
	r.count.Sent.Packets(wire.TypeAuth, 1)
}

func (c *conn) handleAuth(r *round, packet []byte) error {
	if c.version != wire.V5 {
		return &wire.Error{Code: wire.ProtocolError, Reason: "AUTH before MQTT 5"}
	}

	a, err := wire.ParseAuth(packet)
	if err != nil {
		return err
	}

	if c.exchange == nil {
		return &wire.Error{Code: wire.ProtocolError, Reason: "AUTH without an authentication method in CONNECT [MQTT-4.12.0-6]"}
	}

	if a.Method != c.exchange.method {
		return &wire.Error{Code: wire.BadAuthenticationMethod, Reason: "another authentication method than before [MQTT-4.12.1-1]"}
	}

	switch {
	case a.Code == wire.ReAuthenticate && c.phase == established && c.beginToken(a.Method, c.who.username, a.Data):
		return nil
	case a.Code == wire.ReAuthenticate && c.phase == established:
		start := c.e.options.Methods[a.Method]
		if start == nil {
			return &wire.Error{Code: wire.BadAuthenticationMethod, Reason: "the authentication method is not known any more"}
		}

		c.exchange = &exchange{Exchange: start(), method: a.Method, again: true}
	case a.Code == wire.ContinueAuthentication && !c.exchange.over:
	default:
		return &wire.Error{Code: wire.ProtocolError, Reason: "AUTH with a reason that does not fit [MQTT-3.15.2-1]"}
	}

	c.step(r, a.Data)

	return nil
}
