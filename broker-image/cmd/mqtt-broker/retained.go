// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/engine"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// retainer has the engine's retained messages speak the admin endpoint's words.
type retainer struct{ broker *engine.Engine }

// Retained is of admin.Retainer.
func (r retainer) Retained(filter string, each func(*admin.RetainedMessage) error) error {
	return r.broker.Retained(filter, func(m *engine.RetainedMessage) error { return each(retainedOut(m)) })
}

// Retain is of admin.Retainer.
func (r retainer) Retain(ctx context.Context, filter string, next func() (*admin.RetainedMessage, error)) (int, error) {
	return r.broker.Retain(ctx, filter, func() (*engine.RetainedMessage, error) {
		m, err := next()
		if err != nil {
			return nil, err
		}

		return retainedIn(m), nil
	})
}

func retainedOut(m *engine.RetainedMessage) *admin.RetainedMessage {
	out := &admin.RetainedMessage{Topic: m.Topic, QoS: m.QoS}
	out.SetPayload(m.Payload)

	if m.HasExpiry {
		out.Expires = &m.Expiry
	}

	f := &m.Properties
	p := admin.RetainedProperties{
		ContentType: f.ContentType, ResponseTopic: f.ResponseTopic, CorrelationDataBase64: f.CorrelationData, User: f.User,
	}

	if f.HasFormat {
		p.PayloadFormat = new(byte(0))
		if f.Text {
			*p.PayloadFormat = 1
		}
	}

	if f.HasFormat || f.ContentType != "" || f.ResponseTopic != "" || f.CorrelationData != nil || len(f.User) > 0 {
		out.Properties = &p
	}

	return out
}

func retainedIn(m *admin.RetainedMessage) *engine.RetainedMessage {
	in := &engine.RetainedMessage{Topic: m.Topic, QoS: m.QoS, Payload: m.Content()}
	if m.Expires != nil {
		in.HasExpiry, in.Expiry = true, *m.Expires
	}

	if p := m.Properties; p != nil {
		in.Properties = wire.Forwarded{
			ContentType: p.ContentType, ResponseTopic: p.ResponseTopic, CorrelationData: p.CorrelationDataBase64, User: p.User,
		}

		if p.PayloadFormat != nil {
			in.Properties.HasFormat, in.Properties.Text = true, *p.PayloadFormat == 1
		}
	}

	return in
}
