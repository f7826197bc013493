// SPDX-License-Identifier: Apache-2.0

package bridges

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// link is a client that comes back whenever its connection ends.
type link struct {
	end     end
	options options
	filter  string // to subscribe to, if any
	qos     byte

	granted atomic.Int32
	mu      sync.Mutex
	conn    connection
	up      chan struct{} // closed while there is a connection
	cancel  context.CancelFunc
	done    chan struct{}
}

func (l *link) start(ctx context.Context) {
	ctx, l.cancel = context.WithCancel(ctx)
	l.up, l.done = make(chan struct{}), make(chan struct{})

	go func() {
		defer close(l.done)

		for ctx.Err() == nil {
			if c, err := l.connect(ctx); err == nil {
				l.serve(ctx, c)
			} else {
				pause(ctx, 20*time.Millisecond)
			}
		}
	}()
}

func (l *link) connect(ctx context.Context) (connection, error) {
	c, err := dial(ctx, l.end, l.options)
	if err != nil || l.filter == "" || c.present() {
		return c, err
	}

	granted, err := c.subscribe(ctx, l.filter, l.qos)
	if err != nil {
		c.close()

		return nil, err
	}

	l.granted.Store(int32(granted))

	return c, nil
}

func (l *link) serve(ctx context.Context, c connection) {
	l.mu.Lock()
	l.conn = c
	close(l.up)
	l.mu.Unlock()

	select {
	case <-c.lost():
	case <-ctx.Done():
		c.close()
	}

	l.mu.Lock()
	l.conn, l.up = nil, make(chan struct{})
	l.mu.Unlock()
}

func (l *link) stop() {
	l.cancel()
	<-l.done
}

// current waits for a connection; it is nil at the end.
func (l *link) current(ctx context.Context) connection {
	for {
		l.mu.Lock()
		conn, up := l.conn, l.up
		l.mu.Unlock()

		if conn != nil {
			return conn
		}

		select {
		case <-up:
		case <-ctx.Done():
			return nil
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// track is what became of the messages of one topic. They are numbered from 0, and number n+1 is published when number n
// is acknowledged: there is an order that must be kept.
type track struct {
	sent   int64 // that the source has acknowledged
	again  int64 // how often a message was published once more, because no acknowledgement came
	seen   []bool
	most   int64 // the highest number seen
	twice  int64
	resent int64 // seen before, and the receiver's broker says so itself: no doing of a bridge
	late   int64 // seen for the first time after a higher number
}

// counts are what a direction gives.
type counts struct {
	Sent, Received, Again, Resent, Twice, Lost, Disordered int64
}

func (c counts) String() string {
	return fmt.Sprintf("%d sent (%d of them again), %d received, %d twice (and %d that the receiver's broker repeated), %d lost, %d out of order",
		c.Sent, c.Again, c.Received, c.Twice, c.Resent, c.Lost, c.Disordered)
}

const (
	tracks  = 8
	payload = 64 // bytes
)

// load says what is published.
type load struct {
	qos   byte
	rate  int   // messages a second; 0: as many as the source takes
	limit int64 // messages of each topic; 0: until it is stopped
	ahead int64 // of the receiver, at most; 0: any number
}

// stream is a load in one direction, from a publisher to a receiver.
type stream struct {
	load

	from, to         end
	prefix, toPrefix string // of topics, at either end

	run       string
	mu        sync.Mutex
	tracks    [tracks]track
	lowest    byte // QoS of what arrived
	foreign   int64
	arrived   time.Time
	published atomic.Int64
	received  atomic.Int64 // each once
	probes    atomic.Int64
	source    *link
	sink      *link
	stopped   atomic.Bool
	behind    atomic.Bool // more is lost than the receiver may be behind
	working   sync.WaitGroup
}

var runs atomic.Int64

// open connects both ends, and waits until a message of the same QoS comes through.
func (s *stream) open(t *testing.T) *stream {
	t.Helper()

	s.run = fmt.Sprintf("r%d", runs.Add(1))
	s.lowest, s.arrived = 2, time.Now()

	for i := range s.tracks {
		s.tracks[i].most = -1
	}

	s.sink = &link{end: s.to, options: options{id: "sink-" + s.run, keep: true, receive: s.take}, filter: s.toPrefix + s.run + "/+", qos: 2}
	s.source = &link{end: s.from, options: options{id: "source-" + s.run}}
	s.sink.start(context.WithoutCancel(t.Context()))
	s.source.start(context.WithoutCancel(t.Context()))
	t.Cleanup(func() {
		s.stopped.Store(true)
		s.source.stop()
		s.sink.stop()
		s.working.Wait()
	})

	s.sink.current(t.Context())
	s.through(t)

	return s
}

// through sends probes until one arrives.
func (s *stream) through(t *testing.T) {
	t.Helper()

	before := s.probes.Load()
	next := time.Now()

	eventually(t, "a message of "+s.prefix+" comes through", func() bool {
		if time.Now().After(next) {
			next = time.Now().Add(100 * time.Millisecond)

			if c := s.source.current(t.Context()); c != nil {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				_ = c.publish(ctx, s.prefix+s.run+"/probe", min(s.qos, 1), false, []byte("probe"))

				cancel()
			}
		}

		return s.probes.Load() > before
	})
}

// start publishes on all topics at once.
func (s *stream) start() *stream {
	for i := range tracks {
		s.working.Go(func() { s.publish(i) })
	}

	return s
}

func (s *stream) publish(i int) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	topic := fmt.Sprintf("%s%s/%d", s.prefix, s.run, i)
	body := make([]byte, payload)
	tick := make(<-chan time.Time)

	if s.rate > 0 {
		ticker := time.NewTicker(time.Second * tracks / time.Duration(s.rate))
		defer ticker.Stop()

		tick = ticker.C
	}

	for number := int64(0); !s.stopped.Load() && (s.limit == 0 || number < s.limit); number++ {
		if s.rate > 0 {
			<-tick
		}

		// Messages that are lost must not stop the others: it is waited for them once.
		for begin := time.Now(); s.ahead > 0 && !s.behind.Load() && s.published.Load()-s.received.Load() > s.ahead; {
			pause(ctx, time.Millisecond)

			if time.Since(begin) > silence() {
				s.behind.Store(true)
			}
		}

		binary.BigEndian.PutUint64(body, uint64(number))

		if !s.deliver(ctx, i, topic, body) {
			return
		}
	}
}

// deliver publishes until there is an acknowledgement.
func (s *stream) deliver(ctx context.Context, i int, topic string, body []byte) bool {
	for !s.stopped.Load() {
		wait, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		c := s.source.current(wait)

		cancel()

		if c == nil {
			continue
		}

		err := c.publish(ctx, topic, s.qos, false, body)

		s.mu.Lock()
		if err == nil {
			s.tracks[i].sent++
		} else {
			s.tracks[i].again++
		}
		s.mu.Unlock()

		if err == nil {
			s.published.Add(1)

			return true
		}

		pause(ctx, 5*time.Millisecond)
	}

	return false
}

// take notes what arrives.
func (s *stream) take(m message) {
	level := m.topic[strings.LastIndexByte(m.topic, '/')+1:]
	if level == "probe" {
		s.probes.Add(1)

		return
	}

	i, err := strconv.Atoi(level)

	s.mu.Lock()
	defer s.mu.Unlock()

	if err != nil || i >= tracks || len(m.payload) != payload || m.topic != fmt.Sprintf("%s%s/%d", s.toPrefix, s.run, i) {
		s.foreign++

		return
	}

	number := int64(min(binary.BigEndian.Uint64(m.payload), math.MaxInt32))
	at := &s.tracks[i]

	for int64(len(at.seen)) <= number {
		at.seen = append(at.seen, make([]bool, 1024)...)
	}

	s.lowest = min(s.lowest, m.qos)

	switch {
	case at.seen[number] && m.dup:
		at.resent++

		return
	case at.seen[number]:
		at.twice++

		return
	case number < at.most:
		at.late++
	}

	at.seen[number] = true
	at.most = max(at.most, number)
	s.arrived = time.Now()
	s.received.Add(1)
}

// count is what there is now.
func (s *stream) count() counts {
	s.mu.Lock()
	defer s.mu.Unlock()

	var sum counts

	for i := range s.tracks {
		at := &s.tracks[i]
		sum.Sent += at.sent
		sum.Again += at.again
		sum.Twice += at.twice
		sum.Resent += at.resent
		sum.Disordered += at.late

		for n, seen := range at.seen {
			if seen {
				sum.Received++
			} else if int64(n) < at.sent {
				sum.Lost++
			}
		}

		sum.Lost += max(0, at.sent-int64(len(at.seen)))
	}

	return sum
}

// silence is how long nothing new arrives until the rest counts as lost.
func silence() time.Duration {
	if full {
		return 20 * time.Second
	}

	return 15 * time.Second
}

// finish ends publishing (or waits for the end of it, if there is a limit), waits for what is on its way, and counts.
func (s *stream) finish(t *testing.T) counts {
	t.Helper()

	if s.limit == 0 {
		s.stopped.Store(true)
	}

	s.working.Wait()

	s.mu.Lock()
	s.arrived = time.Now() // whoever was away has time to come back
	s.mu.Unlock()

	for {
		s.mu.Lock()
		quiet := time.Since(s.arrived)
		s.mu.Unlock()

		if s.count().Lost == 0 || quiet > silence() {
			break
		}

		pause(t.Context(), 10*time.Millisecond)
	}

	// What comes twice is in front of a message that is published now.
	s.through(t)

	if s.foreign > 0 {
		t.Errorf("%s: %d messages arrived that nobody published so", s.prefix, s.foreign)
	}

	return s.count()
}
