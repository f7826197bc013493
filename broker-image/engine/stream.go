// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"sync"

	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

const streamBuffer = 16 << 10

var streamBuffers = sync.Pool{New: func() any { b := make([]byte, streamBuffer); return &b }}

// serveStream owns a connection that has a goroutine of its own: TLS, WebSocket, and whatever there is no epoll for. It
// returns when the connection is no more.
func (c *conn) serveStream() {
	for c.readStream() {
		for c.paused && !c.deaf() {
			<-c.wakeUp

			r := c.e.borrow()
			if c.proceed(r) {
				c.feedStream(r, nil)
			}

			c.e.giveBack(r)
		}
	}

	r := c.e.borrow()
	c.end(r)
	c.e.giveBack(r)
}

// readStream waits for bytes and handles them. It is false at the end.
func (c *conn) readStream() bool {
	if need := wire.Need(c.in); need > streamBuffer {
		return c.readLarge(need)
	}

	have := 0

	// One byte at first, so that an idle connection holds no buffer. No packet is that short.
	if len(c.in) == 0 {
		n, err := c.stream.Read(c.one[:])
		if n == 0 {
			return err == nil
		}

		have = 1
	}

	b, _ := streamBuffers.Get().(*[]byte)
	defer streamBuffers.Put(b)

	(*b)[0] = c.one[0]

	n, err := c.stream.Read((*b)[have:])
	have += n

	// TLS tells the last bytes and the end at once.
	if n == 0 {
		return err == nil
	}

	r := c.e.borrow()
	defer c.e.giveBack(r)

	r.count.Received.Bytes.Add(int64(have))
	c.feedStream(r, (*b)[:have])

	return err == nil
}

func (c *conn) readLarge(need int) bool {
	if cap(c.in)-len(c.in) < streamBuffer {
		bigger := make([]byte, len(c.in), min(2*cap(c.in)+streamBuffer, need+streamBuffer))
		copy(bigger, c.in)
		c.in = bigger
	}

	n, err := c.stream.Read(c.in[len(c.in):cap(c.in)])
	if n == 0 {
		return err == nil
	}

	c.in = c.in[:len(c.in)+n]

	r := c.e.borrow()
	defer c.e.giveBack(r)

	r.count.Received.Bytes.Add(int64(n))

	if len(c.in) >= need {
		c.feedStream(r, nil)
	}

	return err == nil
}

func (c *conn) feedStream(r *round, data []byte) {
	if len(c.in) > 0 {
		c.in = append(c.in, data...)
		data = c.in
	}

	rest := data[c.feed(r, data):]
	if len(rest) == 0 {
		c.in = nil

		return
	}

	c.in = append([]byte(nil), rest...)
}
