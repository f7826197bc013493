// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"sync"
	"time"
)

const (
	firstBuffer = 4 << 10
	// keptBuffer is the largest buffer that goes back to the pool.
	keptBuffer = 64 << 10
	// fullOutput is from where QoS 0 is dropped: what waits for a client that does not keep up.
	fullOutput = 1 << 20
	// calmOutput is from where messages of QoS 1 and 2 wait in the session instead.
	calmOutput = 128 << 10
	// chokedOutput is from where a client is not read: nothing else bounds the answers to what it sends.
	chokedOutput = 4 << 20
	// onePiece is how much is written to a stream at once.
	onePiece = 64 << 10
)

// output is what has still to be written on a connection. It is guarded by conn.mu. Nothing of it exists while there is
// nothing to write.
type output struct {
	segments []segment
	tail     *[]byte // the buffer that is appended to, after the segments
	size     int     // bytes that wait, apart from those in tail
	dirty    bool    // a round will flush it
	flushing bool    // somebody writes
	again    bool    // writing became possible while somebody wrote
	blocked  bool    // the socket took no more; its owner will hear when it does
	// hungry: the session has more to send when there is room.
	hungry bool
	// choked: the client is not read before there is room.
	choked bool
	// lastWords: the connection is cut when everything is written.
	lastWords    bool
	blockedSince int64
}

// segment is a piece of output, written up to off.
type segment struct {
	bytes  []byte
	pooled *[]byte
	off    int
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, firstBuffer); return &b }}

// buffer is what packets are appended to.
func (o *output) buffer() *[]byte {
	if o.tail == nil {
		o.tail, _ = buffers.Get().(*[]byte)
	}

	return o.tail
}

// pending is how many bytes wait.
func (o *output) pending() int {
	if o.tail == nil {
		return o.size
	}

	return o.size + len(*o.tail)
}

// share appends a head and a payload that others hold too.
func (o *output) share(head func([]byte) []byte, payload []byte) {
	b := o.buffer()
	*b = head(*b)
	o.seal()

	if len(payload) > 0 {
		o.segments = append(o.segments, segment{bytes: payload})
		o.size += len(payload)
	}
}

// seal makes the tail a segment.
func (o *output) seal() {
	if o.tail == nil {
		return
	}

	if len(*o.tail) == 0 {
		recycle(o.tail)
	} else {
		o.segments = append(o.segments, segment{bytes: *o.tail, pooled: o.tail})
		o.size += len(*o.tail)
	}

	o.tail = nil
}

func recycle(b *[]byte) {
	if cap(*b) > keptBuffer {
		return
	}

	*b = (*b)[:0]
	buffers.Put(b)
}

// take gives everything that is to be written to one writer.
func (o *output) take() []segment {
	o.seal()
	s := o.segments
	o.segments, o.size = nil, 0

	return s
}

// putBack returns what was not written, in front of what has come since.
func (o *output) putBack(s []segment) {
	for i := range s {
		o.size += len(s[i].bytes) - s[i].off
	}

	o.segments = append(s, o.segments...)
}

func (o *output) discard() {
	for _, s := range o.take() {
		if s.pooled != nil {
			recycle(s.pooled)
		}
	}
}

// written lets go of n bytes at the front and gives what is left.
func written(s []segment, n int) []segment {
	for len(s) > 0 && n >= len(s[0].bytes)-s[0].off {
		n -= len(s[0].bytes) - s[0].off

		if s[0].pooled != nil {
			recycle(s[0].pooled)
		}

		s[0] = segment{}
		s = s[1:]
	}

	if len(s) > 0 {
		s[0].off += n
	}

	return s
}

// flush writes what waits. It is called without any lock held.
func (c *conn) flush(r *round) {
	c.mu.Lock()
	c.dirty = false

	if c.flushing || c.blocked || c.dead {
		c.mu.Unlock()

		return
	}

	if c.stream != nil {
		if c.pending() > 0 || c.lastWords {
			c.flushing = true

			go c.writeStream()
		}

		c.mu.Unlock()

		return
	}

	c.flushing = true
	c.writeSocket(r)
	c.flushing = false
	dead := c.dead
	hungry, choked := c.eased()
	c.mu.Unlock()

	if dead {
		c.release()

		return
	}

	if choked {
		c.resume()
	}

	if hungry {
		c.sess.pump(r)
	}
}

// eased tells what goes on now that something was written. mu is held.
func (c *conn) eased() (hungry, choked bool) {
	if c.closing || c.pending() >= calmOutput {
		return false, false
	}

	hungry, choked = c.hungry, c.choked
	c.hungry, c.choked = false, false

	return hungry, choked
}

// writeSocket writes until nothing is left or the socket takes no more. mu is held, and let go while it writes.
func (c *conn) writeSocket(r *round) {
	for c.pending() > 0 && !c.dead {
		c.again = false
		s := c.take()
		c.mu.Unlock()

		n, err := c.writev(s)
		r.count.Sent.Bytes.Add(int64(n))
		s = written(s, n)

		c.mu.Lock()

		switch {
		case err != nil:
			c.discard()
			c.severLocked()

			return
		case len(s) == 0:
			c.blockedSince = 0
		case c.again:
			c.putBack(s)
		default:
			c.putBack(s)
			c.blocked = true

			if c.blockedSince == 0 || n > 0 {
				c.blockedSince = r.nowMS
			}

			return
		}
	}

	if c.lastWords && !c.dead {
		c.severLocked()
	}
}

// writable is called by the owner when the socket takes bytes again.
func (c *conn) writable(r *round) {
	c.mu.Lock()

	c.blocked, c.again = false, true
	if c.pending() > 0 || c.lastWords {
		c.touch(r)
	}

	c.mu.Unlock()
}

// writeStream writes on a goroutine of its own, which lives as long as there is something to write.
func (c *conn) writeStream() {
	c.mu.Lock()

	for c.pending() > 0 && !c.dead {
		s := c.take()
		c.mu.Unlock()

		n, err := c.writeAll(s)
		c.e.metrics.Shared.Sent.Bytes.Add(n)
		written(s, int(n))

		c.mu.Lock()

		c.blockedSince = 0

		if err != nil {
			c.discard()
			c.severLocked()

			break
		}

		hungry, choked := c.eased()
		c.mu.Unlock()
		c.ease(hungry, choked)
		c.mu.Lock()
	}

	c.flushing = false

	if c.lastWords && !c.dead {
		c.severLocked()
	}

	dead := c.dead
	c.mu.Unlock()

	if dead {
		c.release()
	}
}

func (c *conn) ease(hungry, choked bool) {
	if choked {
		c.resume()
	}

	if hungry {
		r := c.e.borrow()
		c.sess.pump(r)
		c.e.giveBack(r)
	}
}

// writeAll writes every segment, in pieces, so that it shows when the peer has stopped to read.
func (c *conn) writeAll(segments []segment) (total int64, err error) {
	for _, s := range segments {
		for rest := s.bytes[s.off:]; len(rest) > 0; {
			c.mu.Lock()
			c.blockedSince = c.e.milliseconds(time.Now())
			c.mu.Unlock()

			n, err := c.stream.Write(rest[:min(len(rest), onePiece)])
			total += int64(n)
			rest = rest[n:]

			if err != nil {
				return total, err
			}
		}
	}

	return total, nil
}
