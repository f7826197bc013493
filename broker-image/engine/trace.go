// SPDX-License-Identifier: Apache-2.0

package engine

import "github.com/mqtt-operator/mqtt-operator/broker-image/acl"

// tracer is told what happens while somebody watches.
type tracer struct{}

func (t *tracer) published(*round, *publication) {}

var _ = acl.Allow
