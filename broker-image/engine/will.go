// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// will is what is published when a client goes without saying goodbye.
type will struct {
	*message

	delay    uint32 // seconds
	interval uint32 // message expiry that begins when the will is published
	expires  bool
	listener string
	username string
	// commonName is that of the certificate which the client came with.
	commonName string
	claims     *claims // with a token that brought rules along; a restart forgets them
}

// newWill takes the will out of a CONNECT, or says why it is refused.
func (c *conn) newWill(r *round, in *wire.Will, policy *acl.Policy, l *limits) (*will, *refusal) {
	if in == nil {
		return nil, nil
	}

	if code := publishable(in.Topic, l); code != wire.Success {
		return nil, &refusal{code, "the will's topic is no topic that a client may publish to", metrics.Forbidden}
	}

	if !policy.Publish(c.subject, in.Topic, in.QoS, in.Retain).Allowed {
		r.count.Deny(metrics.Will)

		return nil, &refusal{wire.NotAuthorized, "no rule allows the will", metrics.Forbidden}
	}

	return &will{
		message: &message{
			topic: in.Topic, payload: in.Payload, properties: in.Properties, publisher: c.subject.ClientID,
			qos: in.QoS, retain: in.Retain,
		},
		delay: in.DelayInterval, interval: in.Expiry, expires: in.HasExpiry,
		listener: c.door.Name, username: c.subject.Username, commonName: c.subject.CommonName, claims: c.who.claims(),
	}, nil
}

// publishWill publishes a will, if the rules of now still allow it.
func (e *Engine) publishWill(r *round, w *will) {
	now := e.state.Load()
	subject := acl.Subject{Username: w.username, ClientID: w.publisher, CommonName: w.commonName}

	if now == nil || !now.policyWith(w.username, w.listener, w.claims).Publish(subject, w.topic, w.qos, w.retain).Allowed {
		r.count.Deny(metrics.Will)

		return
	}

	p := r.publication()
	p.message = *w.message
	p.created = r.nowMS

	if w.expires {
		p.expiresAt = r.nowMS + int64(w.interval)*1000
	}

	e.route(r, p)
	r.release(p)
}
