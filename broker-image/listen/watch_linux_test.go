// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// watcher is an event loop for one listener, as simple as can be.
type watcher struct {
	t     *testing.T
	turns atomic.Int64
	over  chan struct{} // closed when the listener has said that it is gone
}

func newWatcher(t *testing.T) *watcher {
	t.Helper()

	return &watcher{t: t, over: make(chan struct{})}
}

func (w *watcher) watch(fd int, turn func() time.Duration) (poke func(), err error) {
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}

	go func() {
		defer close(w.over)

		for again := Readable; again != Gone; again = turn() {
			w.wait(fd, bell, again)
			w.turns.Add(1)
		}
	}()

	// The bell stays open: it may be rung after the end.
	w.t.Cleanup(func() { _ = unix.Close(bell) })

	return func() { _, _ = unix.Write(bell, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }, nil
}

func (w *watcher) wait(fd, bell int, again time.Duration) {
	watched := []unix.PollFd{{Fd: int32(bell), Events: unix.POLLIN}, {Fd: int32(fd), Events: unix.POLLIN}}
	timeout := -1

	// Who wants to be called after a time does not want to be called because somebody waits.
	if again >= 0 {
		watched, timeout = watched[:1], int((again+time.Millisecond-1)/time.Millisecond)
	}

	_, _ = unix.Poll(watched, timeout)

	var eight [8]byte
	_, _ = unix.Read(bell, eight[:])
}

func TestAWatcherAccepts(t *testing.T) {
	w := newWatcher(t)
	l := start(t, "tcp", "127.0.0.1:0", Settings{}, Options{Handler: echo, Watch: w.watch})

	if err := l.acceptor.watch(func(fd int) error {
		if polled(t, fd) {
			t.Error("Go's poller must not know the socket too, or it wakes up for each connection")
		}

		return nil
	}); err != nil {
		t.Fatal(err)
	}

	// More than one turn takes; the kernel accepts them by itself.
	var conns []net.Conn
	for range 3 * oneTurn {
		conns = append(conns, dial(t, l))
	}

	if l.Accepted() != 0 {
		t.Error("nobody is accepted before Start")
	}

	l.Start()

	for _, conn := range append(conns, dial(t, l)) {
		if err := echoes(conn); err != nil {
			t.Fatal(err)
		}
	}

	if w.turns.Load() < 3 {
		t.Errorf("%d turns: one turn must not take all, others want theirs", w.turns.Load())
	}

	_ = l.Close()
	<-w.over

	if _, err := net.Dial("tcp", l.Address().String()); err == nil {
		t.Error("a closed listener must not accept")
	}
}

func TestAWatcherWaitsForTheRate(t *testing.T) {
	rate := &Rate{PerSecond: 1, Burst: 1}
	w := newWatcher(t)
	l := start(t, "tcp", "127.0.0.1:0", Settings{ConnectRate: rate}, Options{Handler: echo, Watch: w.watch})
	l.bucket = bucket{rate: *rate, tokens: -1e6, last: time.Now()}
	l.Start()

	conn := dial(t, l)
	_, _ = conn.Write([]byte("x"))

	l.Set(Settings{ConnectRate: rate, Name: "the same rate"})
	eventually(t, "a turn", func() bool { return w.turns.Load() > 0 })

	if l.Accepted() != 0 {
		t.Error("the rate must hold the connection back")
	}

	l.Set(Settings{ConnectRate: &Rate{PerSecond: 1000, Burst: 1}})
	l.Set(Settings{})

	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Errorf("who waited must get in when the rate is lifted, and lose nothing: %v", err)
	}
}

func TestATurnSaysWhenItWantsTheNext(t *testing.T) {
	w := newWatcher(t)
	rate := &Rate{PerSecond: 1, Burst: 2}
	l := start(t, "tcp", "127.0.0.1:0", Settings{}, Options{Handler: echo, Watch: w.watch})

	if got := l.turn(); got != Readable {
		t.Errorf("nobody waits: %v", got)
	}

	l.settings.Store(&Settings{ConnectRate: rate})

	for range 3 {
		dial(t, l)
	}

	if got := l.turn(); got <= 0 || got > time.Second || l.Accepted() != 2 {
		t.Errorf("two are let in and the third waits for its second: %v, %d accepted", got, l.Accepted())
	}

	l.settings.Store(&Settings{})

	take := l.take
	l.take = func() (socket, error) { return socket{}, errors.New("too many open files") }

	for _, want := range []time.Duration{firstBackoff, 2 * firstBackoff} {
		if got := l.turn(); got != want || l.Fault() == "" {
			t.Errorf("after an error it waits a little, and longer each time: %v, want %v; fault %q", got, want, l.Fault())
		}
	}

	l.take = take

	if got := l.turn(); got != Readable || l.Fault() != "" || l.Accepted() != 3 {
		t.Errorf("the fault is over: %v, fault %q, %d accepted", got, l.Fault(), l.Accepted())
	}

	_ = l.Close()

	if got := l.turn(); got != Gone {
		t.Errorf("closed: %v", got)
	}
}

func TestAWatcherThatFailsIsAskedAgain(t *testing.T) {
	w, fails := newWatcher(t), 2
	l := start(t, "tcp", "127.0.0.1:0", Settings{}, Options{
		Handler: echo, Watch: func(fd int, turn func() time.Duration) (func(), error) {
			fails--
			if fails >= 0 {
				return nil, errors.New("no memory")
			}

			return w.watch(fd, turn)
		},
	})
	l.Start()

	if l.Fault() == "" {
		t.Error("it must be said")
	}

	if err := echoes(dial(t, l)); err != nil {
		t.Errorf("who failed twice is asked a third time: %v", err)
	}

	if l.Fault() != "" {
		t.Errorf("the fault is over, got %q", l.Fault())
	}
}
