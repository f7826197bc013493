// SPDX-License-Identifier: Apache-2.0

package bridges

import (
	"io"
	"net"
	"sync"
	"testing"
)

// line is the way from a bridge to a peer, which can be cut: the peer lives on, with all that it remembers.
type line struct {
	address string
	to      string

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]bool
}

func newLine(t *testing.T, to string) *line {
	t.Helper()

	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	l := &line{address: listener.Addr().String(), to: to, conns: map[net.Conn]bool{}}

	t.Cleanup(func() {
		_ = listener.Close()

		l.cut()
	})

	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}

			go l.carry(conn)
		}
	}()

	return l
}

// carry joins a connection with the peer, unless the line is cut.
func (l *line) carry(near net.Conn) {
	far, err := net.Dial("tcp", l.to)
	if err != nil {
		near.Close()

		return
	}

	l.mu.Lock()
	down := l.down

	if !down {
		l.conns[near], l.conns[far] = true, true
	}
	l.mu.Unlock()

	if down {
		near.Close()
		far.Close()

		return
	}

	var both sync.WaitGroup

	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1])

			near.Close()
			far.Close()
		})
	}

	both.Wait()

	l.mu.Lock()
	delete(l.conns, near)
	delete(l.conns, far)
	l.mu.Unlock()
}

// cut ends all connections and lets no new one through.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.down = true

	for conn := range l.conns {
		conn.Close()
	}
}

func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.down = false
}
