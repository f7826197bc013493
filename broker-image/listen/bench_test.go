// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"net"
	"runtime"
	"testing"
	"time"
)

// BenchmarkAccept connects and hands over, one after the other; the client's half is in it.
func BenchmarkAccept(b *testing.B) {
	for name, settings := range map[string]Settings{
		"plain": {}, "TLS": {TLS: secure(b, 1)}, "ws": {WebSocket: &WebSocket{}},
	} {
		b.Run(name, func(b *testing.B) {
			conns := make(chan *Conn, 1)
			l := bind(b, settings, Options{Handler: func(c *Conn) { conns <- c }})

			b.ReportAllocs()

			for b.Loop() {
				conn := connect(b, l)
				_ = (<-conns).Close()
				_ = conn.Close()
			}
		})
	}
}

// BenchmarkIdle tells what an idle connection takes on our side, stacks of handlers apart.
func BenchmarkIdle(b *testing.B) {
	const crowd = 2000

	for name, settings := range map[string]Settings{
		"plain, raw": {}, "TLS": {TLS: secure(b, 1)}, "ws": {WebSocket: &WebSocket{}},
		"wss": {TLS: secure(b, 1), WebSocket: &WebSocket{}},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				conns := make(chan *Conn, crowd)
				l := bind(b, settings, Options{Handler: func(c *Conn) {
					_ = c.SetDeadline(time.Time{})
					conns <- c
				}})
				if settings.TLS == nil && settings.WebSocket == nil {
					l.options.Handler = func(c *Conn) { conns <- c }
				}

				clients, servers := make([]net.Conn, crowd), make([]*Conn, crowd)
				for i := range clients {
					clients[i] = connect(b, l)
					servers[i] = <-conns
				}

				with := heap()

				for _, c := range servers {
					_ = c.Close()
				}

				clear(servers)
				b.ReportMetric(float64(with-heap())/crowd, "B/conn")

				for _, c := range clients {
					_ = c.Close()
				}
			}
		})
	}
}

func connect(b *testing.B, l *Listener) net.Conn {
	b.Helper()

	var conn net.Conn

	conn, err := net.Dial("tcp", l.Address().String())
	if err != nil {
		b.Fatal(err)
	}

	if l.settings.Load().TLS != nil {
		conn = client(b, conn)
	}

	if l.settings.Load().WebSocket != nil {
		_, _ = conn.Write([]byte(upgradeHead + "Sec-WebSocket-Protocol: mqtt\r\n\r\n"))
		_, _ = conn.Read(make([]byte, 4096))
	}

	return conn
}

func heap() int64 {
	runtime.GC()
	runtime.GC()

	var m runtime.MemStats

	runtime.ReadMemStats(&m)

	return int64(m.HeapAlloc)
}
