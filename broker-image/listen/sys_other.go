// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package listen

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
)

var errNoRaw = errors.New("descriptors are not handed out on this system")

func tuneListener(_, _ string, _ syscall.RawConn) error     { return nil }
func tuneUnixListener(_, _ string, _ syscall.RawConn) error { return nil }

type acceptor struct{ inner net.Listener }

func newAcceptor(inner net.Listener, _ bool) (*acceptor, error) { return &acceptor{inner}, nil }

func (a *acceptor) wait() (socket, error) {
	conn, err := a.inner.Accept()
	if err != nil {
		return socket{}, err
	}

	s := socket{fd: -1, conn: conn}
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		ap := a.AddrPort()
		s.remote = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}

	return s, nil
}

func (a *acceptor) now() (socket, error)           { return socket{}, errNoRaw }
func (a *acceptor) watch(func(fd int) error) error { return errNoRaw }
func (a *acceptor) close() error                   { return a.inner.Close() }

func localAddr(int) net.Addr        { return nil }
func adopt(int) (net.Conn, error)   { return nil, errNoRaw }
func disown(io.Closer) (int, error) { return -1, errNoRaw }
func closeFD(int)                   {}
