// SPDX-License-Identifier: Apache-2.0

package health

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// stage is a listener that plays a broker. It answers CONNECT and PINGREQ with what it is given, and counts its visits.
func stage(t *testing.T, connackBytes, pingrespBytes []byte) (string, *atomic.Int32) {
	t.Helper()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = l.Close() })

	visits := &atomic.Int32{}

	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}

			visits.Add(1)

			go func() {
				defer conn.Close()

				header := make([]byte, 2)
				if _, err := io.ReadFull(conn, header); err != nil {
					return
				}

				_, _ = io.CopyN(io.Discard, conn, int64(header[1]))
				_, _ = conn.Write(connackBytes)

				if _, err := io.ReadFull(conn, header); err != nil || header[0] != pingreq {
					return
				}

				_, _ = conn.Write(pingrespBytes)
				_, _ = io.Copy(io.Discard, conn)
			}()
		}
	}()

	return l.Addr().String(), visits
}

func get(t *testing.T, c *Checker, path string) (int, string) {
	t.Helper()

	w := httptest.NewRecorder()
	c.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))

	return w.Code, w.Body.String()
}

func checker(targets []Target, err error) *Checker {
	return New(Broker{Targets: func() ([]Target, error) { return targets, err }, Username: "u", Password: "p"})
}

func TestReady(t *testing.T) {
	good, _ := stage(t, []byte{connack, 2, 0, 0}, []byte{pingresp, 0})
	refusing, _ := stage(t, []byte{connack, 2, 0, 5}, nil)
	dumb, _ := stage(t, []byte{connack, 2, 0, 0}, nil)
	odd, _ := stage(t, []byte{connack, 2, 0, 0}, []byte{0x30, 0})
	other, _ := stage(t, []byte("HTTP/1.1 400 Bad Request"), nil)

	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	gone := closed.Addr().String()
	_ = closed.Close()

	cases := map[string]struct {
		targets []Target
		err     error
		code    int
		says    []string
	}{
		"every listener answers":      {[]Target{{Name: "a", Address: good}, {Name: "b", Address: good}}, nil, 200, []string{"listener a: ok", "listener b: ok"}},
		"no listener is no fault":     {nil, nil, 200, []string{"no listeners"}},
		"no configuration":            {nil, errors.New("no configuration yet"), 503, []string{"no configuration yet"}},
		"one of two is closed":        {[]Target{{Name: "a", Address: good}, {Name: "b", Address: gone}}, nil, 503, []string{"listener a: ok", "listener b: no connection"}},
		"CONNECT is refused":          {[]Target{{Name: "a", Address: refusing}}, nil, 503, []string{"listener a: CONNECT: refused with code 5"}},
		"it speaks something else":    {[]Target{{Name: "a", Address: other}}, nil, 503, []string{"listener a: CONNECT: answered with packet 0x48"}},
		"PINGREQ is answered oddly":   {[]Target{{Name: "a", Address: odd}}, nil, 503, []string{"listener a: PINGREQ: answered with packet 0x30"}},
		"PINGREQ is not answered":     {[]Target{{Name: "a", Address: dumb}}, nil, 503, []string{"listener a: PINGREQ: no answer"}},
		"WebSocket is not there":      {[]Target{{Name: "a", Address: other, WebSocket: "/mqtt"}}, nil, 503, []string{"listener a: no WebSocket"}},
		"no socket file":              {[]Target{{Name: "a", Network: "unix", Address: "/nowhere/s"}}, nil, 503, []string{"listener a: no connection"}},
		"TLS is wanted and not there": {[]Target{{Name: "a", Address: good, TLS: pinnedToNothing()}}, nil, 503, []string{"listener a: no TLS"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			code, body := get(t, checker(c.targets, c.err), "/readyz")
			if code != c.code {
				t.Errorf("status %d, want %d: %s", code, c.code, body)
			}

			for _, s := range c.says {
				if !strings.Contains(body, s) {
					t.Errorf("the body should say %q:\n%s", s, body)
				}
			}
		})
	}
}

func TestWhatIsSaidAndNoReasonToStayAway(t *testing.T) {
	good, _ := stage(t, []byte{connack, 2, 0, 0}, []byte{pingresp, 0})

	cases := map[string]struct {
		reason  string
		target  Target
		storage string
		says    string
	}{
		"a full listener":     {"unready would shut the other listeners too", Target{Name: "a", Address: "127.0.0.1:1", Full: true}, "", "listener a: full"},
		"a full disk":         {"those who come for their queues make room", Target{Name: "a", Address: good}, "no space left", "storage: degraded, what must be kept is refused: no space left"},
		"a disk that is well": {"its word is there too", Target{Name: "a", Address: good}, "", "storage: ok"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			k := New(Broker{
				Targets: func() ([]Target, error) { return []Target{c.target}, nil }, Username: "u", Password: "p",
				Storage: func() string { return c.storage },
			})

			if code, body := get(t, k, "/readyz"); code != http.StatusOK || !strings.Contains(body, c.says) {
				t.Errorf("%d, want 200 and %q: %s\n%s", code, c.says, c.reason, body)
			}
		})
	}
}

func TestAProxyHeaderComesFirst(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	first := make(chan string, 1)

	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()

		line := make([]byte, len("PROXY UNKNOWN\r\n"))
		_, _ = io.ReadFull(conn, line)
		first <- string(line)
	}()

	asked := netip.Addr{}
	target := Target{Name: "a", Address: l.Addr().String(), Proxy: func(from netip.Addr) bool {
		asked = from

		return true
	}}

	get(t, checker([]Target{target}, nil), "/readyz")

	if got := <-first; got != "PROXY UNKNOWN\r\n" {
		t.Errorf("got %q", got)
	}

	if !asked.IsLoopback() {
		t.Errorf("asked for %v; it must be the address that the listener sees", asked)
	}
}

func TestCallersShareAnAnswer(t *testing.T) {
	address, visits := stage(t, []byte{connack, 2, 0, 0}, []byte{pingresp, 0})
	c := checker([]Target{{Name: "a", Address: address}}, nil)

	for range 50 {
		if code, body := get(t, c, "/readyz"); code != http.StatusOK {
			t.Fatal(body)
		}
	}

	if n := visits.Load(); n > 5 {
		t.Errorf("%d probes for 50 questions at a time", n)
	}

	c.asked = c.asked.Add(-2 * time.Second)
	before := visits.Load()

	get(t, c, "/readyz")

	if visits.Load() != before+1 {
		t.Error("an old answer must not be given again")
	}
}

func TestOff(t *testing.T) {
	c := checker(nil, nil)

	if code, _ := get(t, c, "/readyz"); code != http.StatusOK {
		t.Fatal("must be ready")
	}

	c.Off("shutting down")

	if code, body := get(t, c, "/readyz"); code != http.StatusServiceUnavailable || body != "shutting down\n" {
		t.Errorf("%d %q; the answer before must not be given any more", code, body)
	}

	if code, _ := get(t, c, "/livez"); code != http.StatusOK {
		t.Error("a broker that shuts down lives")
	}
}

func pinnedToNothing() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true}
}
