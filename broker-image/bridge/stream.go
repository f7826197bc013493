// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	readBuffer = 16 << 10
	// keptBuffer is what a connection keeps of its write buffer once all is written.
	keptBuffer = 64 << 10
	// earlyFlush is the amount that is written without waiting for the end of a batch.
	earlyFlush = 32 << 10
	// calm is the time between two flushes of a connection that has little to do.
	calm = 300 * time.Microsecond
	// partingTime is how long a connection that is closed may take to write what is left.
	partingTime = time.Second
)

// stream is a connection as the MQTT libraries see it. Reading is buffered, since they read byte by byte, and looked
// over by a guard, since they trust what they read. Writing never blocks: packets gather in a buffer that one goroutine
// writes, many with one call of the system.
type stream struct {
	net.Conn

	in    *bufio.Reader
	guard guard
	// idle is called before a read that may wait: what was caused by what was read so far is complete.
	idle func()
	// aside is given whole packets before the library would read them, those of which isAside says so by their first byte;
	// nil takes none.
	aside   func(packet []byte) error
	isAside func(first byte) bool
	// owed is how many acknowledgements of publications the peer owes.
	owed atomic.Int64
	lull lull
	// quiet is the longest time without a byte from the peer in nanoseconds, 0 for no bound.
	quiet atomic.Int64
	// hold is closed when what follows CONNACK may be read; nil holds nothing back.
	hold chan struct{}
	// stall is how long one write may take.
	stall time.Duration

	flushed atomic.Int64 // when flush was last called, in nanoseconds
	// writing is held by who writes.
	writing sync.Mutex
	// direct is there where a write can be tried without waiting.
	direct *direct

	// packet is held while the library writes one packet in pieces.
	packet sync.Mutex

	mu      sync.Mutex
	out     []byte
	spare   []byte
	closing bool
	dirty   atomic.Bool
	wake    chan struct{}

	once   sync.Once
	err    error
	closed chan struct{} // closed when the connection is
	left   chan struct{} // closed when the writer has ended
}

func newStream(conn net.Conn, version int, stall time.Duration) *stream {
	s := &stream{
		Conn: conn, guard: guard{version: version}, idle: func() {},
		stall: stall, wake: make(chan struct{}, 1), closed: make(chan struct{}), left: make(chan struct{}),
	}

	if s.direct = newDirect(conn); s.direct != nil {
		s.in = bufio.NewReaderSize(s.direct, readBuffer)
		s.lull = newLull(s.direct)
	} else {
		s.in = bufio.NewReaderSize(conn, readBuffer)
	}

	go s.write()

	return s
}

// Read is of net.Conn.
func (s *stream) Read(p []byte) (int, error) {
	if s.hold != nil && s.guard.started {
		select {
		case <-s.hold:
		case <-s.closed:
		}
	}

	if err := s.readAside(); err != nil {
		s.fail(err)

		return 0, err
	}

	if s.in.Buffered() == 0 {
		s.pause()
	}

	if s.aside != nil { // what comes behind this packet may stand aside
		p = p[:min(len(p), s.guard.ahead())]
	}

	n, err := s.in.Read(p)
	if err == nil {
		err = s.guard.see(p[:n])
	}

	if err != nil {
		s.fail(err)

		return 0, err // with bytes beside it, the error would be seen a read too late
	}

	return n, nil
}

// pause comes before a read that may wait.
func (s *stream) pause() {
	s.idle()
	s.lull.wait(int(s.owed.Load()), s.Conn.SetReadDeadline)

	if quiet := s.quiet.Load(); quiet > 0 {
		_ = s.Conn.SetReadDeadline(time.Now().Add(time.Duration(quiet)))
	}
}

// readAside hands over the packets that are not for the library, and returns before one that is.
func (s *stream) readAside() error {
	for s.aside != nil && s.guard.isBetween() {
		if s.in.Buffered() == 0 {
			s.pause()

			if _, err := s.in.Peek(1); err != nil {
				return err
			}
		}

		there, _ := s.in.Peek(s.in.Buffered())
		if !s.isAside(there[0]) {
			return nil
		}

		size, err := frameSize(there)

		switch {
		case err != nil:
			return err
		case size > 0 && size <= len(there):
			if err := s.aside(there[:size]); err != nil {
				return err
			}

			_, _ = s.in.Discard(size) // it is there
		case size > readBuffer:
			if err := s.readLarge(size); err != nil {
				return err
			}
		default:
			s.pause()

			if _, err := s.in.Peek(len(there) + 1); err != nil {
				return err
			}
		}
	}

	return nil
}

// frameSize is the size of the packet that b begins with, 0 while not enough of its head is there. What is wrong with the
// packet otherwise is not looked at: see [exchange.handle].
func frameSize(b []byte) (int, error) {
	length := 0

	for n := 1; n < len(b); n++ {
		length |= int(b[n]&0x7f) << (7 * (n - 1))

		switch {
		case b[n]&0x80 == 0:
			return 1 + n + length, nil
		case n == 4:
			return 0, fmt.Errorf("%w: a length of more than four bytes", errNotMQTT)
		}
	}

	return 0, nil
}

// readLarge hands over a packet that the buffer does not hold. Memory grows with what has come, not with what was claimed.
func (s *stream) readLarge(size int) error {
	packet := make([]byte, 0, 2*readBuffer)

	for len(packet) < size {
		if s.in.Buffered() == 0 {
			s.pause()
		}

		packet = slices.Grow(packet, 1)

		n, err := s.in.Read(packet[len(packet):min(cap(packet), size)])
		if err != nil {
			return err
		}

		packet = packet[:len(packet)+n]
	}

	return s.aside(packet)
}

// Lock is of sync.Locker: with it paho.golang keeps the pieces of a packet together.
func (s *stream) Lock() { s.packet.Lock() }

// Unlock is of sync.Locker.
func (s *stream) Unlock() { s.packet.Unlock() }

// Write is of net.Conn. The bytes are on their way, not sent, when it returns.
func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	s.out = append(s.out, p...)
	s.mu.Unlock()
	s.dirty.Store(true)
	s.flush()

	select {
	case <-s.closed:
		return 0, net.ErrClosed
	default:
		return len(p), nil
	}
}

// gather adds the packets that put appends; they are written at the next flush at the latest.
func (s *stream) gather(put func([]byte) []byte) {
	s.packet.Lock()
	s.mu.Lock()
	s.out = put(s.out)
	size := len(s.out)
	s.mu.Unlock()
	s.packet.Unlock()
	s.dirty.Store(true)

	if size >= earlyFlush {
		s.flush()
	}
}

// backlog is how many bytes wait to be written.
func (s *stream) backlog() int {
	s.mu.Lock()
	defer s.mu.Unlock()

	return len(s.out)
}

// flush has what gathered written. Where there are few messages it tries to write them itself, which saves a change of
// goroutines for each; where there are many, they gather while another goroutine writes.
func (s *stream) flush() {
	if !s.dirty.Load() {
		return
	}

	now := time.Now().UnixNano()
	isCalm := now-s.flushed.Swap(now) > int64(calm)

	if isCalm && s.direct != nil && s.writing.TryLock() {
		is := s.tryOut()

		s.writing.Unlock()

		if is {
			return
		}
	}

	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// tryOut writes without waiting; true says that nothing is left.
func (s *stream) tryOut() bool {
	batch := s.takeOut()
	if len(batch) == 0 {
		return true
	}

	written := s.direct.writeNow(batch)
	if written == len(batch) {
		s.giveBack(batch)

		return true
	}

	// The rest, and an error that will come again, is for the goroutine that may wait.
	s.mu.Lock()
	s.out = append(batch[written:], s.out...)
	s.mu.Unlock()
	s.dirty.Store(true)

	return false
}

// takeOut takes what has gathered. The caller holds writing.
func (s *stream) takeOut() []byte {
	s.dirty.Store(false)
	s.mu.Lock()
	defer s.mu.Unlock()

	batch := s.out
	s.out, s.spare = s.spare[:0], nil

	return batch
}

func (s *stream) giveBack(batch []byte) {
	if cap(batch) <= keptBuffer {
		s.mu.Lock()
		s.spare = batch[:0]
		s.mu.Unlock()
	}
}

func (s *stream) write() {
	defer close(s.left)

	for {
		select {
		case <-s.wake:
		case <-s.closed:
			return
		}

		s.writing.Lock()
		s.mu.Lock()
		last := s.closing
		s.mu.Unlock()

		batch := s.takeOut()
		if len(batch) > 0 {
			_ = s.Conn.SetWriteDeadline(time.Now().Add(s.stall))

			written := 0
			if s.direct != nil {
				written = s.direct.writeNow(batch)
			}

			if written < len(batch) {
				if _, err := s.Conn.Write(batch[written:]); err != nil {
					s.writing.Unlock()
					s.fail(err)

					return
				}
			}
		}

		s.giveBack(batch)
		s.writing.Unlock()

		if last {
			return
		}
	}
}

// SetDeadline is of net.Conn; writes have a deadline of their own.
func (s *stream) SetDeadline(t time.Time) error { return s.Conn.SetReadDeadline(t) }

// SetWriteDeadline is of net.Conn; see SetDeadline.
func (s *stream) SetWriteDeadline(time.Time) error { return nil }

// Close writes what has gathered and closes the connection.
func (s *stream) Close() error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()

	select {
	case s.wake <- struct{}{}:
	default:
	}

	select {
	case <-s.left:
	case <-s.closed:
	case <-time.After(partingTime):
	}

	s.fail(net.ErrClosed)

	return nil
}

// fail closes the connection at once; the first reason is kept.
func (s *stream) fail(err error) {
	s.once.Do(func() {
		s.err = err

		_ = s.Conn.Close()

		close(s.closed)
	})
}

// guard follows the frames of what a peer sends and ends the connection where the libraries would believe what is no
// MQTT: they take the length of a packet for granted and reserve memory for it, and a wrong count in a SUBACK would end
// the process.
type guard struct {
	version int

	started bool // the first packet is over
	head    bool // within the length of a packet, behind its type
	kind    byte
	length  int
	digits  int
	rest    int
	body    []byte // of a first packet that is read
	// connack may be asked for while the connection is read.
	connack atomic.Pointer[connack]
}

// isBetween tells whether a packet has ended, and none begun, since the first one.
func (g *guard) isBetween() bool { return g.started && !g.head && g.rest == 0 }

// ahead is how many bytes are of the same packet for certain, 1 at least.
func (g *guard) ahead() int { return max(g.rest, 1) }

// connack is what a CONNACK says in all versions. It is short in those before 5.
type connack struct {
	flags, code byte
	short       bool
}

const (
	maxFirstPacket = 64 << 10
	kindConnack    = 2
	kindSuback     = 9
	kindAuth       = 15
)

var errNotMQTT = errors.New("what came back is not MQTT")

func (g *guard) see(p []byte) error {
	for len(p) > 0 {
		switch {
		case g.rest > 0:
			p = p[g.pass(p):]
		case !g.head:
			g.kind, g.head, g.length, g.digits = p[0]>>4, true, 0, 0
			if !g.started && g.kind != kindConnack && (g.version != 5 || g.kind != kindAuth) {
				return errNotMQTT
			}

			p = p[1:]
		default:
			g.length |= int(p[0]&0x7f) << (7 * g.digits)
			g.digits++

			more := p[0]&0x80 != 0
			if more && g.digits == 4 {
				return errNotMQTT
			}

			p = p[1:]

			if !more {
				if err := g.begin(); err != nil {
					return err
				}
			}
		}
	}

	return nil
}

// pass takes what belongs to the body of a packet.
func (g *guard) pass(p []byte) int {
	n := min(g.rest, len(p))

	if !g.started && len(g.body) < 2 {
		g.body = append(g.body, p[:min(n, 2-len(g.body))]...)
	}

	g.rest -= n
	if g.rest == 0 {
		g.end()
	}

	return n
}

func (g *guard) begin() error {
	g.head, g.rest = false, g.length

	switch {
	case !g.started && (g.length < 2 || g.length > maxFirstPacket):
		return errNotMQTT
	case g.started && g.version == 4 && g.kind == kindSuback && g.length != 3: // one filter is asked for at a time
		return fmt.Errorf("%w: a SUBACK of %d bytes answers one filter", errNotMQTT, g.length)
	case g.started && g.version == 4 && g.kind == kindConnack:
		return fmt.Errorf("%w: a second CONNACK", errNotMQTT)
	}

	if g.rest == 0 {
		g.end()
	}

	return nil
}

func (g *guard) end() {
	if !g.started && g.kind == kindConnack && len(g.body) == 2 {
		g.connack.Store(&connack{flags: g.body[0], code: g.body[1], short: g.length == 2})
	}

	if g.kind == kindConnack {
		g.started = true
	}

	g.body = g.body[:0]
}

// isEnd tells whether a connection just ended, without words from the peer.
func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// isReset tells whether the peer closed a connection on which it had left something unread.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
