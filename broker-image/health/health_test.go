// SPDX-License-Identifier: Apache-2.0

package health

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
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
