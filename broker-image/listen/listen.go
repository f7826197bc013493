// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	firstBackoff = 5 * time.Millisecond
	lastBackoff  = time.Second
	// oneTurn is how many connections are accepted before those that are there already get their turn.
	oneTurn = 64
	// A peer that is gone without a word is noticed after keepAliveIdle + keepAliveCount * keepAliveInterval.
	keepAliveIdle     = 30 * time.Second
	keepAliveInterval = 15 * time.Second
	keepAliveCount    = 4
)

// Listener is one bound address.
type Listener struct {
	options  Options
	address  net.Addr
	acceptor *acceptor
	take     func() (socket, error) // the next connection, or errNone where somebody watches
	remove   func()                 // what Close has to do beside closing
	settings atomic.Pointer[Settings]
	epoch    time.Time
	open     atomic.Int64
	accepted atomic.Int64
	refused  [reasons]atomic.Int64
	fault    atomic.Pointer[string]
	panics   atomic.Int64
	closed   atomic.Bool
	changed  chan struct{}
	done     chan struct{}
	stop     sync.Once
	poke     atomic.Pointer[func()] // has turn called, where somebody watches
	bucket   bucket                 // belongs to the accepting goroutine, like backoff
	backoff  time.Duration
}

// socket is what accept gives: a descriptor that Go's poller does not know, or a connection where that is not possible.
type socket struct {
	fd     int // -1 if there is conn
	conn   net.Conn
	remote netip.AddrPort // not valid for a unix socket
}

func (s socket) close() {
	if s.conn != nil {
		_ = s.conn.Close()

		return
	}

	closeFD(s.fd)
}

// Bind opens the address: host:port for network "tcp", a path for "unix". Nothing is accepted before Start, so a Bind
// can be taken back unnoticed.
func Bind(network, address string, settings Settings, options Options) (*Listener, error) {
	var (
		inner  net.Listener
		remove func()
		err    error
	)

	switch network {
	case "tcp":
		inner, err = bindTCP(address)
	case "unix":
		inner, remove, err = bindUnix(address)
	default:
		err = fmt.Errorf("network %q is neither tcp nor unix", network)
	}

	if err != nil {
		return nil, fmt.Errorf("address %s: %w", address, err)
	}

	l, err := wrap(inner, settings, options)
	if err != nil {
		_ = inner.Close()

		if remove != nil {
			remove()
		}

		return nil, fmt.Errorf("address %s: %w", address, err)
	}

	l.remove = remove

	return l, nil
}

func bindTCP(address string) (net.Listener, error) {
	config := net.ListenConfig{
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount,
		},
		Control: tuneListener,
	}
	// The sockets of multipath TCP do not pass all options on to the connections, and no client of MQTT asks for it.
	config.SetMultipathTCP(false)

	return config.Listen(context.Background(), "tcp", address)
}

func wrap(inner net.Listener, settings Settings, options Options) (*Listener, error) {
	l := &Listener{
		options: options, address: inner.Addr(), epoch: time.Now(),
		changed: make(chan struct{}, 1), done: make(chan struct{}), backoff: firstBackoff,
	}
	l.settings.Store(&settings)

	var err error

	if l.acceptor, err = newAcceptor(inner, options.Watch != nil); err != nil {
		return nil, err
	}

	l.take = l.acceptor.wait
	if options.Watch != nil {
		l.take = l.acceptor.now
	}

	return l, nil
}

// errNone says that nobody waits to be accepted.
var errNone = errors.New("no connection waits")

// Start accepts connections until Close.
func (l *Listener) Start() {
	if l.options.Watch == nil {
		go l.accept()

		return
	}

	var poke func()

	err := l.acceptor.watch(func(fd int) (err error) {
		poke, err = l.options.Watch(fd, l.turn)

		return err
	})

	switch {
	case err == nil:
		l.poke.Store(&poke)
	case !l.closed.Load():
		time.AfterFunc(l.backOff(err), l.Start)
	}

	// What has changed before there was somebody to tell.
	l.nudge()
}

// Set changes the settings for the connections to come.
func (l *Listener) Set(settings Settings) {
	l.settings.Store(&settings)

	// Who waits for the old rate looks at the new one.
	l.nudge()
}

// nudge has the accepting goroutine look at what is different.
func (l *Listener) nudge() {
	if poke := l.poke.Load(); poke != nil {
		(*poke)()

		return
	}

	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// Address is where the listener is bound.
func (l *Listener) Address() net.Addr { return l.address }

// Fault says why the listener cannot accept at the moment, or nothing.
func (l *Listener) Fault() string {
	if s := l.fault.Load(); s != nil {
		return *s
	}

	return ""
}

// Panics is the number of connections that ended in a panic of their handler.
func (l *Listener) Panics() int64 { return l.panics.Load() }

// Connections is the number of those that are open, handshakes included.
func (l *Listener) Connections() int { return int(l.open.Load()) }

// Accepted is the number of connections that were accepted so far, refused ones included.
func (l *Listener) Accepted() int64 { return l.accepted.Load() }

// Refused is the number of connections that were not handed over for a reason.
func (l *Listener) Refused(r Reason) int64 { return l.refused[r].Load() }

// Close stops accepting. Open connections are the handlers' to close; those that are still shaking hands are not handed
// over any more.
func (l *Listener) Close() error {
	var err error

	l.stop.Do(func() {
		l.closed.Store(true)
		close(l.done)

		err = l.acceptor.close()

		if l.remove != nil {
			l.remove()
		}

		l.nudge()
	})

	return err
}

func (l *Listener) accept() {
	for l.await() {
		s, err := l.take()
		if err == nil {
			l.accepts(s)

			continue
		}

		if l.closed.Load() {
			return
		}

		select {
		case <-l.done:
			return
		case <-time.After(l.backOff(err)):
		}
	}
}

// turn accepts those who wait, not too many at once, and never waits itself. It says when it wants to be called again.
func (l *Listener) turn() (again time.Duration) {
	for range oneTurn {
		if l.closed.Load() {
			return Gone
		}

		if wait := l.bucket.wait(l.settings.Load().ConnectRate, time.Now()); wait > 0 {
			return wait
		}

		s, err := l.take()

		switch {
		case err == nil:
			l.accepts(s)
		case errors.Is(err, errNone):
			l.recovered()

			return Readable
		case l.closed.Load():
			return Gone
		default:
			return l.backOff(err)
		}
	}

	return 0
}

func (l *Listener) accepts(s socket) {
	l.backoff = firstBackoff

	l.recovered()
	l.bucket.spend()
	l.admit(s)
}

// backOff is how long to wait after an error.
func (l *Listener) backOff(err error) time.Duration {
	l.failed(err)

	wait := l.backoff
	l.backoff = min(2*wait, lastBackoff)

	return wait
}

func (l *Listener) failed(err error) {
	text := err.Error()
	if l.fault.Swap(&text) == nil {
		l.options.Log.Error("listener cannot accept; trying on", "listener", l.settings.Load().Name, "error", err)
	}
}

func (l *Listener) recovered() {
	if l.fault.Load() != nil {
		l.fault.Store(nil)
		l.options.Log.Info("listener accepts again", "listener", l.settings.Load().Name)
	}
}

// await waits until the rate lets a connection in. It says no when the listener is closed.
func (l *Listener) await() bool {
	for {
		wait := l.bucket.wait(l.settings.Load().ConnectRate, time.Now())
		if wait <= 0 {
			return !l.closed.Load()
		}

		timer := time.NewTimer(wait)

		select {
		case <-l.done:
			timer.Stop()

			return false
		case <-l.changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// admit runs on the accepting goroutine.
func (l *Listener) admit(s socket) {
	settings := l.settings.Load()

	l.accepted.Add(1)

	// Only this goroutine lets connections in, so the bound cannot be overrun between the question and the answer.
	if settings.MaxConnections > 0 && l.open.Load() >= int64(settings.MaxConnections) {
		l.refused[Full].Add(1)
		s.close()

		return
	}

	l.open.Add(1)

	c := &Conn{Settings: settings, listener: l, fd: s.fd, conn: s.conn, remote: s.remote}
	if l.options.Patience > 0 {
		c.deadline = time.Since(l.epoch) + l.options.Patience
	}

	if s.conn != nil {
		_ = s.conn.SetDeadline(c.Deadline())
	}

	ask := settings.Proxy.asks(s.remote)
	if ask == noHeader && settings.TLS == nil && settings.WebSocket == nil {
		l.hand(c)

		return
	}

	c.owned = true

	go l.prepare(c, ask)
}

// prepare does all that must be done before MQTT, and hands the connection over.
func (l *Listener) prepare(c *Conn, ask header) {
	// A library that panics on what a client sends must not end the broker either.
	defer l.survive(c)

	if reason, err := c.open(ask); err != nil {
		l.refused[reason].Add(1)
		l.options.Log.LogAttrs(context.Background(), slog.LevelDebug, "connection refused",
			slog.String("listener", c.Settings.Name), slog.String("remote", c.RemoteAddr().String()),
			slog.String("reason", reason.String()), slog.Any("error", err))

		_ = c.Close()

		return
	}

	if l.closed.Load() {
		_ = c.Close()

		return
	}

	l.options.Handler(c)
}

func (l *Listener) hand(c *Conn) {
	defer l.survive(c)

	l.options.Handler(c)
}

// survive is deferred around everything that serves one connection.
func (l *Listener) survive(c *Conn) {
	fault := recover() //nolint:revive // the callers defer it
	if fault == nil {
		return
	}

	l.panics.Add(1)
	// The value of a panic may hold what the client sent; its type and the stack are enough to find the place.
	l.options.Log.Error("connection ended in a panic; the others go on", "listener", c.Settings.Name,
		"remote", c.RemoteAddr().String(), "panic", fmt.Sprintf("%T", fault), "stack", string(debug.Stack()))

	_ = c.Close()
}

// timedOut tells a deadline from other errors.
func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
