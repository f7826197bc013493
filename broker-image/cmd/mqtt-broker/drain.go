// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/admin"
	"github.com/mqtt-operator/mqtt-operator/broker-image/engine"
)

// drainer has the engine's drain speak the admin endpoint's words.
type drainer struct{ broker *engine.Engine }

// Drain is of admin.Drainer.
func (d drainer) Drain(o admin.DrainOptions) error {
	options := engine.DrainOptions{Rate: o.Rate, Deadline: time.Duration(o.DeadlineSeconds * float64(time.Second))}
	if o.ServerReference != "" || o.Permanent {
		options.Redirect = &engine.Redirect{Reference: o.ServerReference, Permanent: o.Permanent}
	}

	return d.broker.Drain(options)
}

// DrainStatus is of admin.Drainer.
func (d drainer) DrainStatus() admin.DrainStatus {
	s := d.broker.DrainStatus()

	return admin.DrainStatus{
		Draining: s.Draining, Done: s.Done, Rate: s.Rate, ServerReference: s.Reference, Began: s.Began, Sent: s.Sent, Left: s.Left,
	}
}

// EndDrain is of admin.Drainer.
func (d drainer) EndDrain() { d.broker.EndDrain() }
