// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// polled says whether an epoll set of this process knows the socket behind a descriptor.
func polled(t *testing.T, fd int) bool {
	t.Helper()

	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		t.Fatal(err)
	}

	infos, _ := filepath.Glob("/proc/self/fdinfo/*")
	for _, name := range infos {
		text, _ := os.ReadFile(name)
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "tfd:") && strings.Contains(line+" ", fmt.Sprintf("ino:%x ", stat.Ino)) {
				return true
			}
		}
	}

	return false
}

func options(t *testing.T, fd int) map[string]int {
	t.Helper()

	got := map[string]int{}

	for name, o := range map[string][2]int{
		"no delay":   {unix.IPPROTO_TCP, unix.TCP_NODELAY},
		"keep alive": {unix.SOL_SOCKET, unix.SO_KEEPALIVE},
		"idle":       {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
		"interval":   {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
		"count":      {unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
	} {
		v, err := unix.GetsockoptInt(fd, o[0], o[1])
		if err != nil {
			t.Fatal(err)
		}

		got[name] = v
	}

	return got
}

var inherited = map[string]int{"no delay": 1, "keep alive": 1, "idle": 30, "interval": 15, "count": 4}

func TestRaw(t *testing.T) {
	cases := map[string]struct {
		reason   string
		settings Settings
		unix     bool
		send     string
		before   func(c *Conn) // what the handler does first
		early    string        // what must have been read; the rest waits in the socket
		refused  bool
	}{
		"a plain connection": {"", Settings{}, false, "", nil, "", false},
		"a unix socket":      {"", Settings{}, true, "", nil, "", false},
		"after its address was asked": {
			"that must not make a net.Conn of it",
			Settings{},
			false, "",
			func(c *Conn) { _, _ = c.RemoteAddr(), c.LocalAddr() }, "", false,
		},
		"after it was used as a net.Conn": {
			"", Settings{}, false, "", func(c *Conn) { _ = c.SetDeadline(time.Time{}) }, "", false,
		},
		"after a PROXY header": {
			"what was read with it must not get lost",
			Settings{Proxy: loopback(true)},
			false,
			"PROXY UNKNOWN\r\nhello", nil, "hello", false,
		},
		"after a PROXY header alone": {"", Settings{Proxy: loopback(true)}, false, "PROXY UNKNOWN\r\n", nil, "", false},
		"where a PROXY header might have been": {
			"", Settings{Proxy: loopback(false)}, false, "hello", nil, "hello", false,
		},
		"TLS": {"its bytes are of no use", Settings{TLS: secure(t, 1)}, false, "", nil, "", true},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			conns := make(chan *Conn, 1)
			network, address := "tcp", "127.0.0.1:0"

			if c.unix {
				network, address = "unix", socketPath(t)
			}

			l := start(t, network, address, c.settings, Options{Handler: func(conn *Conn) { conns <- conn }})
			l.Start()

			conn := dial(t, l)
			_, _ = io.WriteString(conn, c.send)

			if c.settings.TLS != nil {
				conn = client(t, conn)
			}

			got := <-conns
			if c.before != nil {
				c.before(got)
			}

			fd, early, ok := got.Raw()
			if ok == c.refused {
				t.Fatalf("%s: ok is %v", c.reason, ok)
			}

			if c.refused {
				_ = got.Close()

				return
			}

			if d := cmp.Diff(c.early, string(early)); d != "" {
				t.Errorf("%s, early:\n%s", c.reason, d)
			}

			if polled(t, fd) {
				t.Error("Go's poller must not know it")
			}

			if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); flags&unix.O_NONBLOCK == 0 {
				t.Error("it must not block")
			}

			if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
				t.Error("it must close on exec")
			}

			if !c.unix {
				if d := cmp.Diff(inherited, options(t, fd)); d != "" {
					t.Error(d)
				}
			}

			// It still is the same connection.
			if _, err := unix.Write(fd, []byte("world")); err != nil {
				t.Error(err)
			}

			if _, err := io.ReadFull(conn, make([]byte, 5)); err != nil {
				t.Error(err)
			}

			if _, err := got.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the Conn is closed for all else, got %v", err)
			}

			if _, _, again := got.Raw(); again {
				t.Error("it is given away once")
			}

			if l.Connections() != 1 {
				t.Error("the place is taken until Release")
			}

			_ = unix.Close(fd)

			got.Release()

			if l.Connections() != 0 {
				t.Error("Release must give the place back")
			}
		})
	}
}

func TestANetConnHasTheSameOptions(t *testing.T) {
	conns := make(chan *Conn, 1)
	l := bind(t, Settings{}, Options{Handler: func(c *Conn) { conns <- c }})
	dial(t, l)

	c := <-conns
	defer c.Close()

	conn, err := c.stream()
	if err != nil {
		t.Fatal(err)
	}

	known, _ := conn.(*net.TCPConn).SyscallConn()
	_ = known.Control(func(fd uintptr) {
		if d := cmp.Diff(inherited, options(t, int(fd))); d != "" {
			t.Error(d)
		}
	})
}

func TestWithoutDescriptorsTheListenerWaits(t *testing.T) {
	l := start(t, "tcp", "127.0.0.1:0", Settings{}, Options{Handler: echo})
	// The kernel accepts these by itself.
	clients := []net.Conn{dial(t, l), dial(t, l)}

	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}

	next, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}

	_ = unix.Close(next)

	tight := limit
	tight.Cur = uint64(next)

	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &tight); err != nil {
		t.Fatal(err)
	}

	l.Start()

	func() {
		defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) }()

		eventually(t, "words about it", func() bool { return strings.Contains(l.Fault(), "too many open files") })
	}()

	for _, conn := range clients {
		if err := echoes(conn); err != nil {
			t.Errorf("who waited must be served when there is room again: %v", err)
		}
	}

	if l.Fault() != "" {
		t.Errorf("the fault is over, got %q", l.Fault())
	}
}
