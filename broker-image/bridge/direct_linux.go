// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// direct reads and writes a TCP connection. Its socket does not block, so neither do the calls of the system, and the
// runtime is not told of them: to look after a thread that is in one costs more than the call where there are many.
type direct struct{ raw syscall.RawConn }

// newDirect gives nil for what is no TCP connection by itself.
func newDirect(conn net.Conn) *direct {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}

	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}

	return &direct{raw}
}

// Read is of io.Reader. It waits until something is there, the deadline is over or the connection is closed.
func (d *direct) Read(b []byte) (n int, err error) {
	var errno syscall.Errno

	err = d.raw.Read(func(fd uintptr) bool {
		for {
			n, errno = call(unix.SYS_READ, fd, b)
			if errno != unix.EINTR {
				return errno != unix.EAGAIN
			}
		}
	})

	switch {
	case err != nil:
		return 0, err
	case errno != 0:
		return 0, os.NewSyscallError("read", errno)
	case n == 0 && len(b) > 0:
		return 0, io.EOF
	default:
		return n, nil
	}
}

// writeNow writes what there is room for, and says how much that was. Errors are for a write that waits to find.
func (d *direct) writeNow(b []byte) (n int) {
	_ = d.raw.Write(func(fd uintptr) bool {
		n, _ = call(unix.SYS_WRITE, fd, b)

		return true
	})

	return n
}

func call(number, fd uintptr, b []byte) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall(number, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b))) //nolint:gosec // the kernel's interface
	if errno != 0 {
		return 0, errno
	}

	return int(n), 0
}

// unread is how many bytes a socket has for who reads.
func unread(fd uintptr) (int, syscall.Errno) {
	var n int32

	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, fd, unix.TIOCINQ, uintptr(unsafe.Pointer(&n))) //nolint:gosec // as above

	return int(n), errno
}

// setLowWater has a reader woken when so many bytes are there; a kernel that does not know it wakes him for each.
func setLowWater(fd uintptr, bytes int) syscall.Errno {
	n := int32(bytes) //nolint:gosec // a quarter of a window

	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, uintptr(unsafe.Pointer(&n)), unsafe.Sizeof(n), 0) //nolint:gosec // as above

	return errno
}
