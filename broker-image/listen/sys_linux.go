// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"errors"
	"fmt"
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

// acceptor takes connections past Go's poller: it waits with it for the listening socket alone. Package net does not let
// anybody wait for a listener's descriptor, package os does, so the listener becomes a file.
func acceptor(inner net.Listener) (take func() (socket, error), shut func() error, err error) {
	known, ok := inner.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, nil, fmt.Errorf("%T has no descriptor", inner)
	}

	file, err := known.File()
	if err != nil {
		return nil, nil, err
	}

	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()

		return nil, nil, err
	}

	if err := inner.Close(); err != nil {
		_ = file.Close()

		return nil, nil, err
	}

	return func() (socket, error) {
		var (
			s      socket
			failed error
		)

		if err := raw.Read(func(fd uintptr) bool {
			s, failed = accept(int(fd))

			return !errors.Is(failed, unix.EAGAIN)
		}); err != nil {
			return socket{}, err
		}

		return s, failed
	}, file.Close, nil
}

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
			return socket{}, errno
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

// disown takes the descriptor out of Go's poller. Without an error the net.Conn is closed.
func disown(conn net.Conn) (int, error) {
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
