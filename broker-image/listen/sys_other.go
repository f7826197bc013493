// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package listen

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
)

var errNoRaw = errors.New("descriptors are not handed out on this system")

func tuneListener(_, _ string, _ syscall.RawConn) error     { return nil }
func tuneUnixListener(_, _ string, _ syscall.RawConn) error { return nil }

func acceptor(inner net.Listener) (take func() (socket, error), shut func() error, err error) {
	return func() (socket, error) {
		conn, err := inner.Accept()
		if err != nil {
			return socket{}, err
		}

		s := socket{fd: -1, conn: conn}
		if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
			ap := a.AddrPort()
			s.remote = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
		}

		return s, nil
	}, inner.Close, nil
}

func localAddr(int) net.Addr       { return nil }
func adopt(int) (net.Conn, error)  { return nil, errNoRaw }
func disown(net.Conn) (int, error) { return -1, errNoRaw }
func closeFD(int)                  {}
