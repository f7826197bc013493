// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	readBuffer = 512 << 10
	maxEvents  = 1024
	// keepOut is the largest out buffer that a connection keeps when it is empty: idle connections own no memory.
	keepOut = 256 << 10
	// startOut is an out buffer's first size.
	startOut = 4 << 10
)

// Handler gets what happens on a connection. All calls come from Turn.
type Handler interface {
	// Opened says that the connection is established.
	Opened(c *Conn)
	// Data hands over what was read; it returns how much of it was used up. The rest comes again with more behind it.
	Data(c *Conn, b []byte) (int, error)
	// Closed says that the connection has ended without being closed by us.
	Closed(c *Conn, err error)
}

// Conn is one socket.
type Conn struct {
	fd         int
	generation int32
	handler    Handler
	loop       *Loop
	rest       []byte // what Data did not use up
	out        []byte
	connecting bool
	waiting    bool // for room to write
	dirty      bool
}

// Loop is an epoll set with its connections. Its methods belong to one goroutine.
type Loop struct {
	ep         int
	events     [maxEvents]unix.EpollEvent
	conns      []*Conn // by file descriptor
	buf        []byte
	dirty      []*Conn
	listener   int
	accept     func() Handler
	generation int32
	base       time.Time
	noWait2    bool // the kernel has no epoll_pwait2
}

// NewLoop makes a loop without connections.
func NewLoop() (*Loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	return &Loop{ep: ep, buf: make([]byte, readBuffer), listener: -1, base: time.Now()}, nil
}

// Now is the loop's clock in nanoseconds.
func (l *Loop) Now() int64 { return int64(time.Since(l.base)) }

// Close closes every socket, at once and without a word.
func (l *Loop) Close() {
	for _, c := range l.conns {
		if c != nil {
			c.Close()
		}
	}
	if l.listener >= 0 {
		_ = unix.Close(l.listener)
	}
	_ = unix.Close(l.ep)
}

// Listen takes connections at an address; accept makes a handler for each.
func (l *Loop) Listen(address netip.AddrPort, accept func() Handler) (netip.AddrPort, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return address, os.NewSyscallError("socket", err)
	}
	l.listener, l.accept = fd, accept
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return address, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}); err != nil {
		return address, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, 4096); err != nil {
		return address, os.NewSyscallError("listen", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return address, os.NewSyscallError("getsockname", err)
	}
	if in4, ok := name.(*unix.SockaddrInet4); ok {
		address = netip.AddrPortFrom(address.Addr(), uint16(in4.Port)) //nolint:gosec // a port
	}
	return address, l.control(unix.EPOLL_CTL_ADD, fd, 0, unix.EPOLLIN)
}

// Dial begins a connection from one of the machine's loopback addresses.
func (l *Loop) Dial(from netip.Addr, to netip.AddrPort, h Handler) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	// Without this a bind would take a port from all destinations' common stock.
	err = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	// Ended with a reset, so that thousands of sockets do not stay in TIME_WAIT.
	if err == nil {
		err = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()})
	}
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
		if errors.Is(err, unix.EINPROGRESS) {
			err = nil
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("dial %s from %s: %w", to, from, err)
	}
	return l.add(fd, h, true)
}

func (l *Loop) add(fd int, h Handler, connecting bool) (*Conn, error) {
	for fd >= len(l.conns) {
		l.conns = append(l.conns, make([]*Conn, max(1024, len(l.conns)))...)
	}
	l.generation++
	c := &Conn{fd: fd, generation: l.generation, handler: h, loop: l, connecting: connecting}
	l.conns[fd] = c
	events := uint32(unix.EPOLLIN)
	if connecting {
		events |= unix.EPOLLOUT
	}
	if err := l.control(unix.EPOLL_CTL_ADD, fd, c.generation, events); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (l *Loop) control(op, fd int, generation int32, events uint32) error {
	event := unix.EpollEvent{Events: events, Fd: int32(fd), Pad: generation} //nolint:gosec // a file descriptor is small
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.ep, op, fd, &event))
}

// Turn waits until something happens, at most for timeout; it hands out what has come, calls then, and writes what was
// said. then may be nil.
func (l *Loop) Turn(timeout time.Duration, then func()) error {
	n, err := l.wait(max(0, timeout))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return os.NewSyscallError("epoll_wait", err)
	}
	for i := range max(0, n) {
		event := &l.events[i]
		fd := int(event.Fd)
		if fd == l.listener {
			l.acceptAll()
			continue
		}
		if c := l.conns[fd]; c != nil && c.generation == event.Pad {
			c.ready(event.Events)
		}
	}
	if then != nil {
		then()
	}
	l.Flush()
	return nil
}

// wait is epoll_wait with nanoseconds where the kernel has it: schedules of half a millisecond need it.
func (l *Loop) wait(timeout time.Duration) (int, error) {
	if !l.noWait2 && timeout > 0 {
		spec := unix.NsecToTimespec(int64(timeout))
		n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(l.ep), uintptr(unsafe.Pointer(&l.events[0])), maxEvents, //nolint:gosec // what the kernel writes to
			uintptr(unsafe.Pointer(&spec)), 0, 0) //nolint:gosec // what the kernel reads
		if errno == 0 {
			return int(n), nil
		}
		if errno != unix.ENOSYS {
			return 0, errno
		}
		l.noWait2 = true
	}
	return unix.EpollWait(l.ep, l.events[:], int(timeout/time.Millisecond))
}

// Run turns until the context ends.
func (l *Loop) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := l.Turn(50*time.Millisecond, nil); err != nil {
			return err
		}
	}
	return nil
}

// Flush writes what connections have to say.
func (l *Loop) Flush() {
	for i := 0; i < len(l.dirty); i++ { // Closed may add to it
		c := l.dirty[i]
		l.dirty[i] = nil
		c.dirty = false
		c.flush()
	}
	l.dirty = l.dirty[:0]
}

func (l *Loop) acceptAll() {
	for range 256 {
		fd, _, err := unix.Accept4(l.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if c, err := l.add(fd, l.accept(), false); err == nil {
			c.handler.Opened(c)
		}
	}
}

func (c *Conn) ready(events uint32) {
	if c.connecting {
		code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		if err == nil && events&unix.EPOLLOUT == 0 {
			return
		}
		c.connecting = false
		if err == nil {
			err = c.loop.control(unix.EPOLL_CTL_MOD, c.fd, c.generation, unix.EPOLLIN)
		}
		if err != nil {
			c.fail(err)
			return
		}
		c.handler.Opened(c)
		return
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.read()
	}
	if events&unix.EPOLLOUT != 0 && c.fd >= 0 {
		c.flush()
	}
}

func (c *Conn) read() {
	buf := c.loop.buf
	kept := copy(buf, c.rest)
	if kept == len(buf) {
		c.fail(errors.New("a packet is too large for the load generator"))
		return
	}
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(c.fd), uintptr(unsafe.Pointer(&buf[kept])), uintptr(len(buf)-kept)) //nolint:gosec // a buffer
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return
	case errno != 0:
		c.fail(errno)
		return
	case n == 0:
		c.fail(io.EOF)
		return
	}
	all := buf[:kept+int(n)]
	used, err := c.handler.Data(c, all)
	if err != nil {
		c.fail(err)
		return
	}
	if c.fd >= 0 {
		c.keep(all[used:])
	}
}

func (c *Conn) keep(rest []byte) {
	switch {
	case len(rest) > 0:
		c.rest = append(c.rest[:0], rest...)
	case len(c.rest) > 0:
		c.rest = c.rest[:0]
	}
}

// Out is the buffer to append to; what is appended must be given back with Send.
func (c *Conn) Out() []byte {
	if c.out == nil {
		c.out = make([]byte, 0, startOut)
	}
	return c.out
}

// Send takes the buffer back; it is written at the end of the turn.
func (c *Conn) Send(out []byte) {
	c.out = out
	if !c.dirty && c.fd >= 0 {
		c.dirty = true
		c.loop.dirty = append(c.loop.dirty, c)
	}
}

// Backlog is how many bytes wait for the peer to read.
func (c *Conn) Backlog() int { return len(c.out) }

func (c *Conn) flush() {
	if c.fd < 0 || c.connecting || len(c.out) == 0 {
		return
	}
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(c.fd), uintptr(unsafe.Pointer(&c.out[0])), uintptr(len(c.out))) //nolint:gosec // a buffer
	if errno != 0 && errno != unix.EAGAIN && errno != unix.EINTR {
		c.fail(errno)
		return
	}
	if errno != 0 {
		n = 0
	}
	left := copy(c.out, c.out[n:])
	c.out = c.out[:left]
	if left == 0 && cap(c.out) > keepOut {
		c.out = nil
	}
	if wait := left > 0; wait != c.waiting {
		c.waiting = wait
		events := uint32(unix.EPOLLIN)
		if wait {
			events |= unix.EPOLLOUT
		}
		if err := c.loop.control(unix.EPOLL_CTL_MOD, c.fd, c.generation, events); err != nil {
			c.fail(err)
		}
	}
}

func (c *Conn) fail(err error) {
	c.Close()
	c.handler.Closed(c, err)
}

// Close ends the connection; the handler hears nothing of it.
func (c *Conn) Close() {
	if c.fd < 0 {
		return
	}
	c.loop.conns[c.fd] = nil
	_ = unix.Close(c.fd)
	c.fd = -1
	c.out, c.rest = nil, nil
}
