// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mqtt-operator/mqtt-operator/broker-image/listen"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

const (
	readBuffer  = 128 << 10
	eventsAtOne = 256
	// vectors is how many segments go into one system call.
	vectors = 64
	// edges: told once when something changes, so that the set never has to be changed.
	edges = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff
)

// worker serves the connections of one epoll set. Its goroutine is the owner of each of them.
type worker struct {
	e     *Engine
	epoll int
	bell  int // an eventfd that wakes it
	buf   []byte
	conns map[int32]*conn
	// again holds connections that have more to read than one turn takes.
	again, spare []*conn
	// ready holds listeners that somebody waits at.
	ready []*gate
	// sleep waits for the epoll set with the runtime's own poller: a system call that sleeps would cost a thread, and
	// the runtime's watchdog a good deal of looking after it.
	sleep syscall.RawConn
	file  *os.File

	mu   sync.Mutex
	mail []*conn
	// gates are the listeners that it accepts for, knocks those that want to be looked at.
	gates  map[int32]*gate
	knocks []*gate
	stop   bool
	awake  bool // it looks at its mail before it sleeps
	gone   bool // its bell is closed
	done   chan struct{}
}

// gate is a listening socket in the epoll set.
type gate struct {
	fd    int32
	turn  func() time.Duration
	timer *time.Timer // when it wants its next turn; nil while it never wanted to wait
}

func (e *Engine) startWorker() (*worker, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}

	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epoll)

		return nil, fmt.Errorf("eventfd: %w", err)
	}

	if err := unix.SetNonblock(epoll, true); err != nil {
		_, _ = unix.Close(epoll), unix.Close(bell)

		return nil, fmt.Errorf("epoll: %w", err)
	}

	w := &worker{e: e, epoll: epoll, bell: bell, conns: map[int32]*conn{}, gates: map[int32]*gate{}, done: make(chan struct{})}
	w.file = os.NewFile(uintptr(epoll), "epoll")
	w.sleep, err = w.file.SyscallConn()
	if err != nil {
		_, _ = w.file.Close(), unix.Close(bell)

		return nil, fmt.Errorf("epoll: %w", err)
	}

	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, bell, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(bell)}); err != nil { //nolint:gosec // a descriptor fits
		_, _ = w.file.Close(), unix.Close(bell)

		return nil, fmt.Errorf("epoll: %w", err)
	}

	go w.run()

	return w, nil
}

// adopt makes the worker the owner of a connection.
func (w *worker) adopt(c *conn) {
	c.worker = w
	w.post(c)
}

// post has the worker look at a connection.
func (w *worker) post(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.mail = append(w.mail, c)
	w.ring()
}

// watcher lets listeners have their connections accepted by a worker: without a wake-up on the way from one goroutine to
// the next.
func (e *Engine) watcher() listen.Watch {
	return func(fd int, turn func() time.Duration) (poke func(), err error) {
		return e.someWorker().watch(fd, turn)
	}
}

// watch accepts for a listener.
func (w *worker) watch(fd int, turn func() time.Duration) (poke func(), err error) {
	g := &gate{fd: int32(fd), turn: turn} //nolint:gosec // a descriptor fits

	w.mu.Lock()
	defer w.mu.Unlock()

	if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: edges, Fd: g.fd}); err != nil {
		return nil, os.NewSyscallError("epoll_ctl", err)
	}

	w.gates[g.fd] = g

	return func() { w.knock(g) }, nil
}

// knock has the worker look at a listener.
func (w *worker) knock(g *gate) {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.knocks = append(w.knocks, g)
	w.ring()
}

// accept lets connections in. They come by mail, like those from other goroutines.
func (w *worker) accept() {
	for i, g := range w.ready {
		w.ready[i] = nil

		switch again := g.turn(); {
		case again == 0:
			w.mu.Lock()
			w.knocks = append(w.knocks, g)
			w.mu.Unlock()
		case again == listen.Gone:
			w.forget(g)
		case again > 0 && g.timer == nil:
			g.timer = time.AfterFunc(again, func() { w.knock(g) })
		case again > 0:
			g.timer.Reset(again)
		}
	}

	w.ready = w.ready[:0]
}

// forget is about a listener whose descriptor is closed, and may be another's already.
func (w *worker) forget(g *gate) {
	if g.timer != nil {
		g.timer.Stop()
	}

	w.mu.Lock()
	defer w.mu.Unlock()

	if w.gates[g.fd] == g {
		delete(w.gates, g.fd)
	}
}

// ring wakes the worker unless it is awake. mu is held: when the worker has gone, its bell may be another file.
func (w *worker) ring() {
	if w.awake || w.gone {
		return
	}

	w.awake = true

	one := [8]byte{1}
	_, _ = unix.Write(w.bell, one[:])
}

// halt ends the worker when its last connection has gone.
func (w *worker) halt() {
	w.mu.Lock()
	w.stop = true
	w.ring()
	w.mu.Unlock()
	<-w.done
}

func (w *worker) run() {
	defer close(w.done)
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()

		w.gone = true
		_, _ = w.file.Close(), unix.Close(w.bell)
	}()

	r := w.e.newRound()
	events := make([]unix.EpollEvent, eventsAtOne)
	w.buf = make([]byte, readBuffer)

	for {
		n := w.wait(events)
		r.begin()

		for i := range events[:n] {
			w.event(r, &events[i])
		}

		w.accept()

		w.again, w.spare = w.spare[:0], w.again
		for i, c := range w.spare {
			w.spare[i] = nil
			w.read(r, c)
		}

		stop := w.readMail(r)
		r.finish()

		if stop && len(w.conns) == 0 {
			return
		}
	}
}

// wait gives the connections that are ready, and sleeps while there are none.
func (w *worker) wait(events []unix.EpollEvent) int {
	if len(w.again) > 0 || len(w.ready) > 0 {
		n := w.poll(events)
		w.wakeUp()

		return n
	}

	n := 0
	_ = w.sleep.Read(func(uintptr) bool {
		n = w.poll(events)

		return n > 0
	})

	w.wakeUp()

	return n
}

// wakeUp saves others the ringing: the mail is read in any case before the worker sleeps.
func (w *worker) wakeUp() {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.awake = true
}

// poll asks the kernel without sleeping, so the runtime need not know of the system call.
func (w *worker) poll(events []unix.EpollEvent) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(w.epoll),
		uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0) //nolint:gosec // the kernel's interface
	if errno != 0 {
		return 0
	}

	return int(n)
}

func (w *worker) event(r *round, ev *unix.EpollEvent) {
	if int(ev.Fd) == w.bell {
		var eight [8]byte
		_, _ = unix.Read(w.bell, eight[:])

		return
	}

	c := w.conns[ev.Fd]
	if c == nil {
		w.mu.Lock()
		defer w.mu.Unlock()

		if g := w.gates[ev.Fd]; g != nil {
			w.ready = append(w.ready, g)
		}

		return
	}

	if ev.Events&unix.EPOLLOUT != 0 {
		c.writable(r)
	}

	if ev.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.hungUp = true
	}

	if ev.Events&^unix.EPOLLOUT != 0 {
		w.read(r, c)
	}
}

// readMail looks at connections that are new or were paused.
func (w *worker) readMail(r *round) (stop bool) {
	w.mu.Lock()
	mail := w.mail
	w.mail = nil
	w.ready = append(w.ready, w.knocks...)
	w.knocks = w.knocks[:0]
	w.awake = false
	stop = w.stop
	w.mu.Unlock()

	for _, c := range mail {
		switch {
		case !c.entered:
			w.enter(r, c)
		case w.conns[int32(c.fd)] == c: //nolint:gosec // a descriptor fits
			w.wake(r, c)
		}
	}

	return stop
}

// enter begins to serve a connection.
func (w *worker) enter(r *round, c *conn) {
	c.entered = true
	fd := int32(c.fd) //nolint:gosec // a descriptor fits
	w.conns[fd] = c

	if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{Events: edges, Fd: fd}); err != nil {
		w.e.log.Error("a connection could not be watched", "error", err)
		w.leave(r, c)

		return
	}

	if len(c.in) > 0 {
		w.again = append(w.again, c)
	}
}

// wake goes on with a connection that was paused.
func (w *worker) wake(r *round, c *conn) {
	if !c.proceed(r) {
		return
	}

	// What came before the pause; nothing is read on top of it.
	if len(c.in) > 0 {
		w.feed(r, c, c.in)
	}

	w.read(r, c)
}

func (w *worker) leave(r *round, c *conn) {
	delete(w.conns, int32(c.fd)) //nolint:gosec // a descriptor fits
	c.end(r)
}

// read takes what the connection has sent, at most a buffer full at a time so that all get their turn.
func (w *worker) read(r *round, c *conn) {
	if w.conns[int32(c.fd)] != c { //nolint:gosec // a descriptor fits
		return
	}

	if c.paused {
		// What is there is read after the pause; but who has gone need not be waited for.
		if c.hungUp && (c.phase != established || c.deaf()) {
			w.leave(r, c)
		}

		return
	}

	buf, from := w.roomFor(c)
	n, err := readNow(c.fd, buf[from:])

	switch {
	case n > 0:
		r.count.Received.Bytes.Add(int64(n))

		more := n == len(buf)-from || c.hungUp
		w.feed(r, c, buf[:from+n])
		w.hurry(r, c)

		if more && !c.paused {
			w.again = append(w.again, c)
		}
	case errors.Is(err, unix.EAGAIN):
		if from > 0 {
			w.feed(r, c, buf[:from]) // what came with the PROXY header
		}
	case errors.Is(err, unix.EINTR):
		w.again = append(w.again, c)
	default:
		if from > 0 && !c.deaf() {
			w.feed(r, c, buf[:from])
		}

		w.leave(r, c)
	}
}

// hurry lets a client go on that waits for an answer, while others of the round are still to be looked at: in a crowd
// that comes back, both ends then work at the same time. What has to be stored first waits for the round's end.
func (w *worker) hurry(r *round, c *conn) {
	if c.prompt && r.tx == nil {
		c.flush(r)
	}

	c.prompt = false
}

// roomFor is where the next bytes go, behind from bytes that wait for the rest of their packet. Small beginnings are
// moved into the worker's buffer; the beginning of a large packet has a buffer of its own that grows with what has come,
// never with what was claimed.
func (w *worker) roomFor(c *conn) (buf []byte, from int) {
	if len(c.in) < len(w.buf)/2 && wire.Need(c.in) <= len(w.buf)/2 {
		return w.buf, copy(w.buf, c.in)
	}

	if cap(c.in)-len(c.in) < len(w.buf)/4 {
		bigger := make([]byte, len(c.in), max(len(w.buf), min(2*cap(c.in), wire.Need(c.in)+len(w.buf))))
		copy(bigger, c.in)
		c.in = bigger
	}

	return c.in[:cap(c.in)], len(c.in)
}

func (w *worker) feed(r *round, c *conn, data []byte) {
	own := len(c.in) > 0 && len(data) > 0 && &c.in[:1][0] == &data[0]
	if own && wire.Need(data) > len(data) {
		c.in = data // the packet is not whole yet

		return
	}

	rest := data[c.feed(r, data):]

	switch {
	case len(rest) == 0:
		c.in = nil
	case own:
		c.in = append([]byte(nil), rest...)
	default:
		c.in = append(c.in[:0], rest...)
	}
}

func (c *conn) cutSocket() { _ = unix.Shutdown(c.fd, unix.SHUT_RDWR) }

func (c *conn) closeSocket() { _ = unix.Close(c.fd) }

// writev writes segments with as few calls as possible, and never waits.
func (c *conn) writev(segments []segment) (total int, err error) {
	for len(segments) > 0 {
		var n int

		wanted := 0

		if len(segments) == 1 {
			wanted = len(segments[0].bytes) - segments[0].off
			n, err = writeNow(c.fd, segments[0].bytes[segments[0].off:])
			segments = segments[1:]
		} else {
			count := min(len(segments), vectors)
			iov := make([]unix.Iovec, 0, count)

			for i := range segments[:count] {
				rest := segments[i].bytes[segments[i].off:]
				wanted += len(rest)
				iov = append(iov, unix.Iovec{Base: unsafe.SliceData(rest), Len: uint64(len(rest))}) //nolint:gosec // the kernel's interface
			}

			n, err = writevNow(c.fd, iov)
			segments = segments[count:]
		}

		if n > 0 {
			total += n
		}

		switch {
		case errors.Is(err, unix.EAGAIN):
			return total, nil
		case errors.Is(err, unix.EINTR):
			return total, nil
		case err != nil:
			return total, err
		case n < wanted:
			return total, nil
		}
	}

	return total, nil
}

// The sockets do not block, so neither do these calls: the runtime need not be told of them, which would cost more than
// the call's own work when the processor was idle before.

func readNow(fd int, b []byte) (int, error) {
	return done(unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))) //nolint:gosec // the kernel's interface
}

func writeNow(fd int, b []byte) (int, error) {
	return done(unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))) //nolint:gosec // the kernel's interface
}

func writevNow(fd int, iov []unix.Iovec) (int, error) {
	return done(unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(iov))), uintptr(len(iov)))) //nolint:gosec // the kernel's interface
}

func done(n, _ uintptr, errno unix.Errno) (int, error) {
	if errno != 0 {
		return -1, errno
	}

	return int(n), nil
}
