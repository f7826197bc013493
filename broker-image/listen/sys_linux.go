// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tuneListener sets what every connection inherits, so that accepting one costs no further call.
func tuneListener(_, _ string, c syscall.RawConn) error {
	var err error

	control := c.Control(func(fd uintptr) {
		for _, o := range []struct{ level, name, value int }{
			{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepAliveIdle / time.Second)},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepAliveInterval / time.Second)},
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveCount},
		} {
			err = errors.Join(err, unix.SetsockoptInt(int(fd), o.level, o.name, o.value))
		}
	})

	return errors.Join(control, err)
}

// tuneUnixListener takes rights away before the file exists: Linux makes it with the mode that the socket has.
func tuneUnixListener(_, _ string, c syscall.RawConn) error {
	var err error

	control := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), unixMode) })

	return errors.Join(control, err)
}

// acceptor takes connections past Go's poller.
type acceptor struct {
	file *os.File
	raw  syscall.RawConn
}

// newAcceptor takes the descriptor out of the listener, because package net lets nobody wait for it. Where somebody else
// watches it, Go's poller must not know it, or it would wake up for each connection too.
func newAcceptor(inner net.Listener, watched bool) (*acceptor, error) {
	fd, err := disown(inner)
	if err != nil {
		return nil, err
	}

	// Package os hands a descriptor to the poller if it does not block at this moment.
	if err := unix.SetNonblock(fd, !watched); err != nil {
		closeFD(fd)

		return nil, os.NewSyscallError("fcntl", err)
	}

	a := &acceptor{file: os.NewFile(uintptr(fd), "listener")}

	if a.raw, err = a.file.SyscallConn(); err == nil {
		err = unix.SetNonblock(fd, true)
	}

	if err != nil {
		_ = a.file.Close()

		return nil, err
	}

	return a, nil
}

// wait takes the next connection.
func (a *acceptor) wait() (s socket, err error) {
	closed := a.raw.Read(func(fd uintptr) bool {
		s, err = accept(int(fd))

		return !errors.Is(err, errNone)
	})

	return s, errors.Join(closed, err)
}

// now takes a connection if there is one.
func (a *acceptor) now() (s socket, err error) {
	closed := a.raw.Control(func(fd uintptr) { s, err = accept(int(fd)) })

	return s, errors.Join(closed, err)
}

// watch hands the descriptor to who watches it.
func (a *acceptor) watch(by func(fd int) error) (err error) {
	closed := a.raw.Control(func(fd uintptr) { err = by(int(fd)) })

	return errors.Join(closed, err)
}

func (a *acceptor) close() error { return a.file.Close() }

func accept(listening int) (socket, error) {
	for {
		// The socket does not block, so the runtime need not know of the call; and the library's own would ask the kernel
		// what kind of socket it is, each time.
		var from unix.RawSockaddrAny

		size := uint32(unix.SizeofSockaddrAny)
		fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listening), uintptr(unsafe.Pointer(&from)), //nolint:gosec // the kernel's interface
			uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0) //nolint:gosec // the kernel's interface

		switch errno {
		case 0:
			return socket{fd: int(fd), remote: peer(&from)}, nil
		case unix.EINTR, unix.ECONNABORTED:
			// A client that went away before its turn is no fault of ours.
		case unix.EAGAIN:
			return socket{}, errNone
		default:
			return socket{}, os.NewSyscallError("accept", errno)
		}
	}
}

// peer reads what the kernel wrote; not valid for a unix socket.
func peer(from *unix.RawSockaddrAny) netip.AddrPort {
	switch from.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(from)) //nolint:gosec // the kernel's interface

		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), in.Port<<8|in.Port>>8)
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(from)) //nolint:gosec // the kernel's interface

		return addrPort(&unix.SockaddrInet6{Addr: in.Addr, ZoneId: in.Scope_id, Port: int(in.Port<<8 | in.Port>>8)})
	default:
		return netip.AddrPort{}
	}
}

func addrPort(a unix.Sockaddr) netip.AddrPort {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), port(a.Port))
	case *unix.SockaddrInet6:
		ip := netip.AddrFrom16(a.Addr).Unmap()
		if a.ZoneId != 0 && ip.IsLinkLocalUnicast() {
			ip = ip.WithZone(strconv.FormatUint(uint64(a.ZoneId), 10))
		}

		return netip.AddrPortFrom(ip, port(a.Port))
	default:
		return netip.AddrPort{}
	}
}

func port(p int) uint16 {
	return uint16(p) //nolint:gosec // the kernel's ports have 16 bits
}

// localAddr asks the kernel.
func localAddr(fd int) net.Addr {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return nil
	}

	if u, ok := name.(*unix.SockaddrUnix); ok {
		return &net.UnixAddr{Net: "unix", Name: u.Name}
	}

	return net.TCPAddrFromAddrPort(addrPort(name))
}

// adopt makes a net.Conn of a descriptor, which is gone afterwards either way.
func adopt(fd int) (net.Conn, error) {
	file := os.NewFile(uintptr(fd), "")
	defer file.Close()

	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}

	// FileConn thinks that it knows better than what was inherited.
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{
			Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount,
		})
	}

	return conn, nil
}

// disown takes the descriptor of a connection or listener out of Go's poller. Without an error it is closed.
func disown(conn io.Closer) (int, error) {
	known, ok := conn.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("%T has no descriptor", conn)
	}

	raw, err := known.SyscallConn()
	if err != nil {
		return -1, err
	}

	fd := -1

	// A copy of the descriptor keeps the connection open; closing the original tells the poller to forget it.
	if control := raw.Control(func(known uintptr) {
		fd, err = unix.FcntlInt(known, unix.F_DUPFD_CLOEXEC, 0)
	}); control != nil || err != nil {
		return -1, errors.Join(control, err)
	}

	_ = conn.Close()

	return fd, nil
}

func closeFD(fd int) { _ = unix.Close(fd) }
