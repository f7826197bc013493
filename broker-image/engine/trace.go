// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

const (
	// maxTraces may run at a time: each costs something per message while it runs.
	maxTraces = 4
	// traceRate is how many events per second one trace gives, and how many may come at once.
	traceRate = 1000
	// traceBacklog is how many events wait for whoever reads them.
	traceBacklog = 1024
	// traceText is the longest topic, name or reason that is given whole.
	traceText = 1024
)

// What a trace says no to.
var (
	ErrTraceBusy   = errors.New("as many traces run as may; end one of them")
	ErrTraceFilter = errors.New("a trace is of one client, of a topic filter, or of both")
)

// TraceFilter says what is watched. At least one of both is needed.
type TraceFilter struct {
	// ClientID is the one client to watch; empty for all.
	ClientID string
	// TopicFilter is as that of a subscription, without a share. With it, what has no topic is left out, unless a client is
	// named too.
	TopicFilter string
}

// TraceKind says what happened.
type TraceKind string

// What happens.
const (
	TraceBegun        TraceKind = "begun" // from here on everything is seen
	TraceConnected    TraceKind = "connected"
	TraceRefused      TraceKind = "refused" // at CONNECT
	TraceDisconnected TraceKind = "disconnected"
	TraceFault        TraceKind = "fault" // the client broke the protocol
	TraceSubscribed   TraceKind = "subscribed"
	TraceUnsubscribed TraceKind = "unsubscribed"
	TracePublished    TraceKind = "published" // a message came in and was taken
	TraceDenied       TraceKind = "denied"    // a message came in and was not taken
	TraceQueued       TraceKind = "queued"    // a message waits for the client
	TraceSent         TraceKind = "sent"      // a message went to the client
	TraceDropped      TraceKind = "dropped"   // a message did not, and will not
	TraceAckReceived  TraceKind = "ack-received"
	TraceAckSent      TraceKind = "ack-sent"
	TraceLost         TraceKind = "lost" // events that came too fast
)

// TraceEvent is one thing that happened. It holds names and numbers, and never a payload, a property or a secret.
type TraceEvent struct {
	Time time.Time
	Kind TraceKind
	// Client is whom it happened to; with published it is who published, and empty for the broker itself.
	Client, User, Listener, Remote string
	// Version is that of the protocol: 3, 4 or 5.
	Version byte
	// Topic of a message, Filter of a subscription.
	Topic, Filter string
	QoS           byte
	Retain, Dup   bool
	// Size is that of the payload in bytes.
	Size int
	// PacketID and Packet are those of an acknowledgement, or of a message of QoS 1 or 2.
	PacketID uint16
	Packet   string
	// Code is the reason code of MQTT 5, whatever the client speaks.
	Code byte
	// Reason is in words.
	Reason string
	// Count is how many subscriptions a message was for, or how many messages or events were lost.
	Count int
}

// trace is one that runs.
type trace struct {
	filter TraceFilter
	events chan TraceEvent
	lost   atomic.Int64

	mu    sync.Mutex
	limit *bucket
}

// tracer is told what happens while somebody watches. It never changes: one who comes or goes makes a new one, and there
// is none while nobody watches.
type tracer struct{ traces []*trace }

// Trace hands to sink what happens to what the filter names, until the context ends, sink gives an error, or the broker
// stops. It never holds up the broker: what comes faster than sink takes it, or than the rate, is left out and counted in
// an event of its own. Calls of sink come one after another.
func (e *Engine) Trace(ctx context.Context, filter TraceFilter, sink func(TraceEvent) error) error {
	if err := filter.check(); err != nil {
		return err
	}

	t := &trace{filter: filter, events: make(chan TraceEvent, traceBacklog), limit: newBucket(traceRate, time.Now())}

	if !e.watch(t) {
		return ErrTraceBusy
	}

	defer e.unwatch(t)

	if err := sink(TraceEvent{Time: time.Now(), Kind: TraceBegun}); err != nil {
		return err
	}

	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.quit:
			return nil
		case event := <-t.events:
			if n := t.lost.Swap(0); n > 0 {
				if err := sink(TraceEvent{Time: event.Time, Kind: TraceLost, Count: int(n)}); err != nil {
					return err
				}
			}

			if err := sink(event); err != nil {
				return err
			}
		}
	}
}

func (f *TraceFilter) check() error {
	if *f == (TraceFilter{}) {
		return ErrTraceFilter
	}

	if f.TopicFilter == "" {
		return nil
	}

	if _, _, shared := acl.SplitShare(f.TopicFilter); shared {
		return errors.Join(ErrTraceFilter, errors.New("topic: give the filter without its share group"))
	}

	if err := acl.ValidateFilter(f.TopicFilter); err != nil {
		return errors.Join(ErrTraceFilter, err)
	}

	return nil
}

func (e *Engine) watch(t *trace) bool {
	for {
		before := e.tracer.Load()
		next := &tracer{}

		if before != nil {
			next.traces = slices.Clone(before.traces)
		}

		if len(next.traces) >= maxTraces {
			return false
		}

		next.traces = append(next.traces, t)

		if e.tracer.CompareAndSwap(before, next) {
			return true
		}
	}
}

func (e *Engine) unwatch(t *trace) {
	for {
		before := e.tracer.Load()

		var next *tracer
		if left := slices.DeleteFunc(slices.Clone(before.traces), func(o *trace) bool { return o == t }); len(left) > 0 {
			next = &tracer{traces: left}
		}

		if e.tracer.CompareAndSwap(before, next) {
			return
		}
	}
}

// tell hands an event to everyone who wants it. It never waits. Its texts may be views into a read buffer.
func (t *tracer) tell(event TraceEvent) {
	told := false

	for _, w := range t.traces {
		if !w.filter.wants(&event) {
			continue
		}

		if !told {
			told = true
			event.Time = time.Now()
			event.own()
		}

		w.offer(&event)
	}
}

func (w *trace) offer(event *TraceEvent) {
	w.mu.Lock()

	ok := w.limit.take(event.Time)
	if !ok {
		w.limit.tokens++ // who is told no has not spent anything
	}

	w.mu.Unlock()

	if ok {
		select {
		case w.events <- *event:
			return
		default:
		}
	}

	w.lost.Add(1)
}

// own gives the event texts of its own, and of bounded length.
func (event *TraceEvent) own() {
	for _, text := range []*string{&event.Client, &event.User, &event.Topic, &event.Filter, &event.Reason} {
		if len(*text) > traceText {
			*text = strings.ToValidUTF8((*text)[:traceText], "") + "…"
		} else {
			*text = strings.Clone(*text)
		}
	}
}

func (f *TraceFilter) wants(event *TraceEvent) bool {
	if f.ClientID != "" && f.ClientID != event.Client {
		return false
	}

	switch {
	case f.TopicFilter == "":
		return true
	case event.Topic != "":
		return covers(f.TopicFilter, event.Topic, false)
	case event.Filter != "":
		_, filter, _ := acl.SplitShare(event.Filter)

		return covers(f.TopicFilter, filter, true)
	default:
		return f.ClientID != ""
	}
}

// covers tells whether a filter matches a topic; with wild, whether there is a topic that both match.
func covers(filter, other string, wild bool) bool {
	// A wildcard in the first place does not match the broker's own topics [MQTT-4.7.2-1].
	if strings.HasPrefix(other, "$") && !strings.HasPrefix(filter, "$") || strings.HasPrefix(filter, "$") && !strings.HasPrefix(other, "$") {
		return false
	}

	for {
		mine, restMine, moreMine := strings.Cut(filter, "/")
		theirs, restTheirs, moreTheirs := strings.Cut(other, "/")

		switch {
		case mine == "#", wild && theirs == "#":
			return true
		case mine != theirs && mine != "+" && (!wild || theirs != "+"):
			return false
		case !moreMine && !moreTheirs:
			return true
		case !moreTheirs: // a/# matches a
			return restMine == "#"
		case !moreMine:
			return wild && restTheirs == "#"
		}

		filter, other = restMine, restTheirs
	}
}

func (c *conn) traced(kind TraceKind) TraceEvent {
	return TraceEvent{Kind: kind, Client: c.subject.ClientID, User: c.subject.Username, Listener: c.door.Name, Version: byte(c.version)}
}

func (t *tracer) connected(c *conn) {
	event := c.traced(TraceConnected)
	event.Remote = c.remote()
	t.tell(event)
}

func (t *tracer) refused(c *conn, id, user string, why *refusal) {
	event := c.traced(TraceRefused)
	event.Client, event.User, event.Remote, event.Code, event.Reason = id, user, c.remote(), why.code, why.why
	t.tell(event)
}

func (t *tracer) disconnected(c *conn) {
	event := c.traced(TraceDisconnected)
	event.Reason = c.ended.String()
	t.tell(event)
}

func (t *tracer) fault(c *conn, code byte, err error) {
	event := c.traced(TraceFault)
	event.Code, event.Reason = code, err.Error()
	t.tell(event)
}

func (t *tracer) subscribed(c *conn, f *wire.Filter, code byte) {
	event := c.traced(TraceSubscribed)
	event.Filter, event.QoS, event.Code = f.Filter, f.QoS, code
	t.tell(event)
}

func (t *tracer) unsubscribed(c *conn, filter string, code byte) {
	event := c.traced(TraceUnsubscribed)
	event.Filter, event.Code = filter, code
	t.tell(event)
}

// published is told of every message that is taken, those of wills and of the broker itself too.
func (t *tracer) published(p *publication, subscriptions int) {
	event := tracedMessage(TracePublished, &p.message)
	event.Client, event.Count = p.publisher, subscriptions

	if p.from != nil {
		event.User = p.from.username
	}

	t.tell(event)
}

func (t *tracer) denied(c *conn, in *wire.Publish, topic string, code byte) {
	event := c.traced(TraceDenied)
	event.Topic, event.QoS, event.Retain, event.Size, event.PacketID = topic, in.QoS, in.Retain, len(in.Payload), in.PacketID
	event.Code = code
	t.tell(event)
}

func (t *tracer) queued(s *session, m *message, g *grant) {
	event := tracedMessage(TraceQueued, m)
	event.Client, event.User, event.QoS, event.Retain = s.clientID, s.username, g.qos, g.retain
	t.tell(event)
}

func (t *tracer) sent(c *conn, m *message, h *wire.PublishHeader) {
	event := c.traced(TraceSent)
	event.Topic, event.Size = m.topic, len(m.payload)
	event.QoS, event.Retain, event.Dup = h.QoS, h.Retain, h.Dup

	if h.QoS > 0 {
		event.PacketID = h.PacketID
	}

	t.tell(event)
}

// dropped is told of a message that a client will not get. Where many go at once, m is nil.
func (t *tracer) dropped(s *session, why metrics.Reason, m *message, count int) {
	event := TraceEvent{Kind: TraceDropped}
	if m != nil {
		event = tracedMessage(TraceDropped, m)
	}

	event.Client, event.User, event.Reason, event.Count = s.clientID, s.username, why.String(), count
	t.tell(event)
}

func tracedMessage(kind TraceKind, m *message) TraceEvent {
	return TraceEvent{Kind: kind, Topic: m.topic, QoS: m.qos, Retain: m.retain, Size: len(m.payload)}
}

func (t *tracer) ack(c *conn, kind TraceKind, typ byte, id uint16, code byte) {
	if typ == wire.TypeSuback || typ == wire.TypeUnsuback {
		code = 0 // each filter has its own, and an event
	}

	event := c.traced(kind)
	event.Packet, event.PacketID, event.Code = ackName(typ), id, code
	t.tell(event)
}

func ackName(typ byte) string {
	switch typ {
	case wire.TypePuback:
		return "PUBACK"
	case wire.TypePubrec:
		return "PUBREC"
	case wire.TypePubrel:
		return "PUBREL"
	case wire.TypePubcomp:
		return "PUBCOMP"
	case wire.TypeSuback:
		return "SUBACK"
	default:
		return "UNSUBACK"
	}
}

// queued tells of a message that waits. mu is held.
func (s *session) queued(p *publication, g *grant) {
	if t := s.e.tracer.Load(); t != nil {
		t.queued(s, &p.message, g)
	}
}

// drop counts a message that the session's client does not get.
func (s *session) drop(r *round, why metrics.Reason, m *message) {
	r.count.Drop(why, 1, len(m.payload))

	if t := s.e.tracer.Load(); t != nil {
		t.dropped(s, why, m, 1)
	}
}
