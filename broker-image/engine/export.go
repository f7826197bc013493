// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

const (
	// importMessages and importBytes are how much is retained until it is waited for the disk.
	importMessages = 256
	importBytes    = 256 << 10
)

// RetainedMessage is a retained message as it travels between brokers.
type RetainedMessage struct {
	Topic      string
	Payload    []byte
	QoS        byte
	Properties wire.Forwarded
	// Expiry is what is left of its time, in seconds.
	Expiry    uint32
	HasExpiry bool
}

// Retained calls each with every retained message whose topic the filter matches, by topic, until it gives an error. What is
// set meanwhile may be there or not. Nobody waits for each, which may take its time.
func (e *Engine) Retained(filter string, each func(*RetainedMessage) error) error {
	if err := checkFilter(filter); err != nil {
		return err
	}

	var fault error

	e.retained.Match(filter, func(topic string, m *message) bool {
		expiry, alive := m.expiry(e.milliseconds(e.clock()))
		if !alive {
			return true
		}

		found := &RetainedMessage{Topic: topic, Payload: m.payload, QoS: m.qos, Expiry: expiry, HasExpiry: m.expiresAt != 0}
		if found.Properties, fault = wire.ParseForwarded(m.properties); fault == nil {
			fault = each(found)
		}

		return fault == nil
	})

	return fault
}

// checkFilter refuses what no subscription could have as its filter, and shares.
func checkFilter(filter string) error {
	if _, _, shared := acl.SplitShare(filter); shared {
		return errors.New("filter: give it without its share group")
	}

	return acl.ValidateFilter(filter)
}

// Retain publishes messages that are to be retained, as a client would that may do everything: who has subscribed gets them,
// and the limits of the configuration hold. It asks next for one after another until that gives [io.EOF], and returns when
// they are on disk. Messages whose topic the filter does not match are passed over. The number is of those that were
// retained, also where there is an error.
func (e *Engine) Retain(ctx context.Context, filter string, next func() (*RetainedMessage, error)) (int, error) {
	if err := checkFilter(filter); err != nil {
		return 0, err
	}

	done := 0

	for over := false; !over; {
		if err := ctx.Err(); err != nil {
			return done, err
		}

		now := e.state.Load()
		if now == nil || e.stopping.Load() {
			return done, ErrNotServing
		}

		b := importing{e: e, limits: &now.limits}
		some, fault := gather(filter, next)

		if refused := b.publishAll(some); refused != nil {
			fault = refused
		}

		over = fault != nil

		kept, err := b.settle(ctx)
		done += kept

		if err != nil {
			return done, err
		}

		if over && !errors.Is(fault, io.EOF) {
			return done, fault
		}
	}

	return done, nil
}

// importing is a number of messages that are retained together.
type importing struct {
	e      *Engine
	limits *limits
	topics []string
	births []uint64
	packet []byte
}

// gather asks for messages until they are enough. It is io.EOF when there are no more. Nothing else waits for it: a round, in
// which messages are published, must not take as long as whoever sends them.
func gather(filter string, next func() (*RetainedMessage, error)) (some []*RetainedMessage, err error) {
	for bytes := 0; len(some) < importMessages && bytes < importBytes; {
		m, err := next()
		if err != nil {
			return some, err
		}

		if covers(filter, m.Topic, false) {
			some = append(some, m)
			bytes += len(m.Topic) + len(m.Payload)
		}
	}

	return some, nil
}

// publishAll ends with the first that is refused.
func (b *importing) publishAll(some []*RetainedMessage) error {
	r := b.e.borrow()
	defer b.e.giveBack(r)

	for _, m := range some {
		if err := b.publish(r, m); err != nil {
			return fmt.Errorf("topic %q: %w", m.Topic, err)
		}
	}

	return nil
}

// publish makes a packet of a message, as a client would have sent it, so that the same is asked of it.
func (b *importing) publish(r *round, m *RetainedMessage) error {
	properties, err := wire.AppendForwarded(nil, &m.Properties)

	switch {
	case err != nil:
		return err
	case m.QoS > 2:
		return fmt.Errorf("QoS %d is not 0, 1 or 2", m.QoS)
	case len(m.Payload) == 0:
		return errors.New("its payload is empty, which would remove a retained message")
	case len(m.Topic) > math.MaxUint16:
		return errors.New("the topic is longer than 65535 bytes")
	}

	h := &wire.PublishHeader{Retain: true, QoS: m.QoS, PacketID: 1, Expiry: m.Expiry, HasExpiry: m.HasExpiry}
	if size := wire.PublishSize(wire.V5, h, len(m.Topic), len(properties), len(m.Payload)); size > int(b.limits.MaxPacketSize) {
		return fmt.Errorf("its packet would have %d bytes, and the broker takes %d (spec.limits.maxPacketSize)", size, b.limits.MaxPacketSize)
	}

	b.packet, _ = wire.AppendPublish(b.packet[:0], wire.V5, h, m.Topic, properties, m.Payload)

	in := &r.parsed
	if err := wire.ParsePublish(b.packet, wire.V5, in); err != nil {
		return err
	}

	if publishable(m.Topic, b.limits) != wire.Success {
		return errors.New("it has too many levels (spec.limits.maxTopicLevels), or is the broker's own")
	}

	if !b.e.retainedRoom(m.Topic, len(m.Payload)) {
		return errors.New("the broker retains as much as it may (spec.limits.maxRetainedMessages, maxRetainedBytes)")
	}

	p := r.publication()
	p.message = message{
		topic: m.Topic, payload: in.Payload, properties: in.Properties, created: r.nowMS, qos: in.QoS, retain: true,
	}
	p.borrowed = true

	if in.HasExpiry {
		p.expiresAt = r.nowMS + int64(in.Expiry)*1000
	}

	b.e.route(r, p)
	b.topics, b.births = append(b.topics, m.Topic), append(b.births, p.born)
	r.release(p)

	return nil
}

// settle waits until all of them are on disk, or something says that they cannot be.
func (b *importing) settle(ctx context.Context) (kept int, err error) {
	if len(b.topics) == 0 {
		return 0, nil
	}

	if b.e.store != nil {
		if err := b.e.reachDisk(ctx); err != nil {
			return 0, err
		}
	}

	for i, topic := range b.topics {
		// What the disk refused has been taken back; what came from others meanwhile is younger.
		if m, had := b.e.retained.Get(topic); had && m.born >= b.births[i] {
			kept++
		} else if b.e.store != nil && b.e.store.Fault() != "" {
			err = fmt.Errorf("topic %q: %s", topic, b.e.store.Fault())
		}
	}

	return kept, err
}

// reachDisk waits until all that was handed to the store before is on disk, or was refused.
func (e *Engine) reachDisk(ctx context.Context) error {
	done := make(chan error, 1)
	e.store.Commit(e.store.Begin(), false, func(err error) { done <- err })

	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
