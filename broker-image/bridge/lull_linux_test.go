// SPDX-License-Identifier: Apache-2.0

package bridge

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bothEnds are both ends of a TCP connection, the first one with its lull.
func bothEnds(t *testing.T) (*net.TCPConn, net.Conn, *lull) {
	t.Helper()

	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()

	conn, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(listener.Addr().String())))
	if err != nil {
		t.Fatal(err)
	}

	peer, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _, _ = conn.Close(), peer.Close() })

	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}

	return conn, peer, &lull{raw: raw}
}

// read is how many bytes the next read brings.
func read(t *testing.T, conn net.Conn) int {
	t.Helper()

	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))

	n, err := conn.Read(make([]byte, 16<<10))
	if err != nil {
		t.Fatal(err)
	}

	return n
}

func write(t *testing.T, conn net.Conn, bytes int) {
	t.Helper()

	if _, err := conn.Write(make([]byte, bytes)); err != nil {
		t.Fatal(err)
	}
}

// wokenAt is how many bytes have to be there before a reader is woken.
func wokenAt(t *testing.T, l *lull) int {
	t.Helper()

	bytes := 0

	err := l.raw.Control(func(fd uintptr) { bytes, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT) })
	if err != nil {
		t.Fatal(err)
	}

	return bytes
}

func TestAcknowledgementsGather(t *testing.T) {
	conn, peer, l := bothEnds(t)
	l.most = time.Hour
	over := make(chan struct{})

	go func() {
		defer close(over)
		l.wait(4*lullFirst, conn.SetReadDeadline)
	}()

	for range lullFirst - 1 {
		write(t, peer, ackSize)
	}

	for wokenAt(t, l) != lullFirst*ackSize {
		select {
		case <-over:
			t.Fatal("it did not wait")
		default:
		}
	}

	select {
	case <-over:
		t.Error("it did not wait for all")
	default:
	}

	write(t, peer, ackSize)

	<-over

	if n := read(t, conn); n != lullFirst*ackSize {
		t.Errorf("after the wait a read brings %d bytes, not %d", n, lullFirst*ackSize)
	}
}

// TestAFewAcknowledgementsAreTakenAsTheyCome, which a reader that went on to wait for many would not.
func TestAFewAcknowledgementsAreTakenAsTheyCome(t *testing.T) {
	conn, peer, l := bothEnds(t)

	l.wait(4*lullFirst, conn.SetReadDeadline) // nothing comes in time

	if n := wokenAt(t, l); n != 1 {
		t.Errorf("the next read is woken at %d bytes", n)
	}

	write(t, peer, 1)

	if n := read(t, conn); n != 1 {
		t.Errorf("a read brings %d bytes, not 1", n)
	}

	l.most = time.Hour
	for range lullSkip { // nor is it tried again at once
		l.wait(4*lullFirst, conn.SetReadDeadline)
	}

	write(t, peer, lullFirst*ackSize)
	l.wait(4*lullFirst, conn.SetReadDeadline)

	if n := read(t, conn); n != lullFirst*ackSize {
		t.Errorf("a read brings %d bytes, not %d", n, lullFirst*ackSize)
	}

	l.wait(lullOwed-1, conn.SetReadDeadline) // too little is owed

	if n := wokenAt(t, l); n != 1 {
		t.Errorf("the next read is woken at %d bytes", n)
	}

	write(t, peer, 1)

	if n := read(t, conn); n != 1 {
		t.Errorf("a read brings %d bytes, not 1", n)
	}
}

// TestALullFindsItsLength: twice as many where they come in time, as many as came where they do not.
func TestALullFindsItsLength(t *testing.T) {
	conn, peer, l := bothEnds(t)
	owed := 4 * lullMost

	for _, want := range []int{lullFirst, 2 * lullFirst, 4 * lullFirst, lullMost} {
		l.most = time.Hour

		write(t, peer, want*ackSize)
		l.wait(owed, conn.SetReadDeadline)

		if n := wokenAt(t, l); n != want*ackSize {
			t.Errorf("it waited for %d bytes, want %d", n, want*ackSize)
		}

		read(t, conn)
	}

	l.most = 0

	write(t, peer, (lullLeast+8)*ackSize)
	l.wait(owed, conn.SetReadDeadline)
	read(t, conn)

	l.most = time.Hour

	write(t, peer, (lullLeast+8)*ackSize)
	l.wait(owed, conn.SetReadDeadline)

	if n := wokenAt(t, l); n != (lullLeast+8)*ackSize {
		t.Errorf("after %d came it waited for %d bytes", lullLeast+8, n)
	}
}

// TestALullEndsWithItsConnection, from either side.
func TestALullEndsWithItsConnection(t *testing.T) {
	conn, _, l := bothEnds(t)
	l.most = time.Hour
	ended := make(chan struct{})

	go func() {
		defer close(ended)
		l.wait(4*lullFirst, conn.SetReadDeadline)
	}()

	_ = conn.Close()

	<-ended

	conn, peer, l := bothEnds(t)
	_ = peer.Close()

	l.wait(4*lullFirst, conn.SetReadDeadline)

	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the end was not seen")
	}
}
