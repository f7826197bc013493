// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"

	"github.com/mqtt-operator/mqtt-operator/broker-image/auth"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// Exchange is one run of an authentication method of MQTT 5 (section 4.12) for one client, of a method that is not built
// in. It is asked on the goroutine that serves the client's connection, so it must not wait for anything.
type Exchange interface {
	// Step takes what the client sent and gives what to answer. It is done when username is known. An error ends the
	// exchange; its text is for the log and must hold no secret.
	Step(data []byte) (answer []byte, done bool, username string, err error)
}

// methodSCRAM is the name that RFC 7677 gives SCRAM-SHA-256; MQTT takes names of SASL.
const methodSCRAM = "SCRAM-SHA-256"

// proof is one run of a method for one client. It is asked on the goroutine of the connection's owner, so it must not
// wait for anything.
type proof interface {
	step(r *round, c *conn, data []byte) outcome
}

// outcome is what comes of a step.
type outcome struct {
	// answer is sent to the client: in AUTH, or in CONNACK when it is let in.
	answer []byte
	// who is known at the end.
	who *identity
	// claims is whom the client says to be, as soon as it has said so.
	claims string
	// err ends the exchange; its text is for the log and must hold no secret. failure says what to count.
	err     error
	failure metrics.AuthFailure
}

// exchange is a proof under way, or the one that let the client in.
type exchange struct {
	proof

	method string
	claims string
	last   []byte
	// again: the client is let in already and proves itself anew.
	again bool
	// over: it has come to an end, and the client has no more to say in it.
	over bool
}

// foreign is a method that is not built in.
type foreign struct{ Exchange }

func (f foreign) step(_ *round, _ *conn, data []byte) outcome {
	answer, done, username, err := f.Step(data)

	o := outcome{answer: answer, claims: username, err: err, failure: metrics.BadMethod}
	if done {
		o.who = &identity{username: username, vouched: true}
	}

	return o
}

// scramProof is one run of SCRAM-SHA-256.
type scramProof struct{ exchange *auth.Exchange }

func (p *scramProof) step(r *round, c *conn, data []byte) outcome {
	k, from, now := &c.e.doorkeeper, c.source(), c.e.state.Load()

	if p.exchange == nil {
		x, challenge, err := k.scram.Begin(data, now.verifiers)
		if err != nil {
			return outcome{err: err, failure: metrics.BadMethod}
		}

		p.exchange = x

		if k.guard.Ask(x.Username, from, r.now).Locked {
			return outcome{claims: x.Username, err: errors.New(lockedOut), failure: metrics.TooManyAttempts}
		}

		return outcome{claims: x.Username, answer: challenge}
	}

	name := p.exchange.Username

	// Asked again: others may have failed since.
	if k.guard.Ask(name, from, r.now).Locked {
		return outcome{claims: name, err: errors.New(lockedOut), failure: metrics.TooManyAttempts}
	}

	v, final, err := p.exchange.Finish(data)

	switch {
	case errors.Is(err, auth.ErrScramProof):
		k.guard.Wrong(name, from, false, r.now)

		failure := metrics.WrongPassword
		if now.users[name] == nil {
			failure = metrics.UnknownUser
		}

		return outcome{claims: name, err: err, failure: failure}
	case err != nil:
		return outcome{claims: name, err: err, failure: metrics.BadMethod}
	}

	k.guard.Right(name, from, false)

	return outcome{claims: name, answer: final, who: &identity{username: name, verifier: v.Text()}}
}

// verifiers of a user; none if it does not exist.
func (s *state) verifiers(name string) []*auth.Verifier {
	if u := s.users[name]; u != nil {
		return u.verifiers
	}

	return nil
}

// begin gives a new run of a method, or nil if the listener does not take it or nobody knows it.
func (c *conn) begin(method string) proof {
	door := c.e.state.Load().door(c.door.Name)

	switch start := c.e.options.Methods[method]; {
	case start != nil:
		return foreign{start()}
	case method == methodSCRAM && door != nil && door.Takes(contract.MethodPassword):
		return &scramProof{}
	default:
		return nil
	}
}

// claims is whom the client says to be, as far as that is known.
func (c *conn) claims() string {
	if c.exchange != nil && c.exchange.claims != "" {
		return c.exchange.claims
	}

	return c.connect.Username
}

// beginExchange starts the method that the CONNECT names, and refuses one that is not known [MQTT-4.12.0-1].
func (c *conn) beginExchange(r *round) {
	method := c.connect.AuthMethod

	if c.beginToken(method, c.connect.Username, c.connect.AuthData) {
		return
	}

	run := c.begin(method)
	if run == nil {
		r.count.AuthFail(metrics.BadMethod)
		c.turnAway(r, &refusal{wire.BadAuthenticationMethod, "the authentication method is not known, or the listener does not take it", metrics.Unauthenticated})

		return
	}

	c.exchange = &exchange{proof: run, method: method}
	c.step(r, c.connect.AuthData)
}

func (c *conn) step(r *round, data []byte) {
	x := c.exchange
	o := x.step(r, c, data)
	x.over = o.who != nil || o.err != nil

	if o.claims != "" {
		x.claims = o.claims
	}

	switch {
	case o.err != nil && x.again:
		r.count.AuthFail(o.failure)
		c.endAgain(r, o.err.Error())
	case o.err != nil:
		r.count.AuthFail(o.failure)
		c.turnAway(r, &refusal{wire.NotAuthorized, o.err.Error(), metrics.Unauthenticated})
	case o.who == nil:
		c.sendAuth(r, wire.ContinueAuthentication, o.answer)
	case x.again && o.who.username != c.who.username:
		c.endAgain(r, "authentication gave another user")
	case x.again:
		c.renew(r, o.who, o.answer)
	default:
		x.last = o.answer
		c.who = o.who
		c.admit(r)
	}
}

// renew has a client go on by what it has proved now, or not at all [MQTT-4.12.1-2]. That it is the same user was asked
// before.
func (c *conn) renew(r *round, who *identity, answer []byte) {
	if why := c.agree(c.e.state.Load(), who); why != "" {
		c.endAgain(r, why)

		return
	}

	c.who = who
	c.member.Store(who)

	c.sess.mu.Lock()
	if c.sess.conn.Load() == c {
		c.sess.claims = who.claims()
		if w := c.sess.will; w != nil {
			w.claims = c.sess.claims
		}
	}
	c.sess.mu.Unlock()

	c.soon()

	// Asked only now: an Apply before this has not seen the new identity, and one that comes behind it will.
	for now := c.e.state.Load(); ; {
		if kind, why := now.judge(&c.door.Listener, who); kind != stays {
			c.endAgain(r, why)

			return
		}

		c.e.examine(r, c, now)
		c.sess.obey(r, now)

		latest := c.e.state.Load()
		if latest == now {
			break
		}

		now = latest
	}

	c.sendAuth(r, wire.Success, answer)
}

// endAgain disconnects a client that was let in and could not prove itself anew [MQTT-4.12.1-2].
func (c *conn) endAgain(r *round, why string) {
	c.e.audit.line("client is disconnected", "client", c.subject.ClientID, "user", c.subject.Username, "listener", c.door.Name,
		"remote", c.remote(), "method", c.how(), "reason", "authentication failed: "+why)
	c.disconnect(r, wire.NotAuthorized, "authentication failed", metrics.Revoked)
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
		run := c.begin(a.Method)
		if run == nil {
			return &wire.Error{Code: wire.BadAuthenticationMethod, Reason: "the authentication method is not known any more"}
		}

		c.exchange = &exchange{proof: run, method: a.Method, again: true}
	case a.Code == wire.ContinueAuthentication && !c.exchange.over:
	default:
		return &wire.Error{Code: wire.ProtocolError, Reason: "AUTH with a reason that does not fit [MQTT-3.15.2-1]"}
	}

	c.step(r, a.Data)

	return nil
}
