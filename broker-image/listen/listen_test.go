// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// patience is generous because the tests share their machine; nothing waits for it unless it fails.
const patience = 30 * time.Second

func certificate(t testing.TB, serial int64) *tls.Certificate {
	t.Helper()

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}

	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
	}

	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}

	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func secure(t testing.TB, serial int64) *tls.Config {
	t.Helper()

	config, err := TLSConfig(certificate(t, serial), "1.3")
	if err != nil {
		t.Fatal(err)
	}

	return config
}

// loopback trusts the peers of these tests.
func loopback(required bool) *Proxy {
	return &Proxy{Required: required, Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
}

// echo serves as a handler should: it leaves the accepting goroutine unless it was given one.
func echo(c *Conn) {
	if !c.Owned() {
		go echoOn(c)

		return
	}

	echoOn(c)
}

func echoOn(c *Conn) {
	defer c.Close()

	_ = c.SetDeadline(time.Time{})
	_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
}

func start(t testing.TB, network, address string, settings Settings, options Options) *Listener {
	t.Helper()

	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}

	if options.Patience == 0 {
		options.Patience = patience
	}

	l, err := Bind(network, address, settings, options)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = l.Close() })

	return l
}

func bind(t testing.TB, settings Settings, options Options) *Listener {
	t.Helper()

	l := start(t, "tcp", "127.0.0.1:0", settings, options)
	l.Start()

	return l
}

func dial(t testing.TB, l *Listener) net.Conn {
	t.Helper()

	conn, err := net.Dial(l.Address().Network(), l.Address().String())
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))

	return conn
}

func dialTLS(t testing.TB, l *Listener) *tls.Conn {
	t.Helper()

	return client(t, dial(t, l))
}

// client does TLS as one.
func client(t testing.TB, conn net.Conn) *tls.Conn {
	t.Helper()

	over := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	if err := over.Handshake(); err != nil {
		t.Fatal(err)
	}

	return over
}

func echoes(conn io.ReadWriter) error {
	if _, err := conn.Write([]byte("x")); err != nil {
		return err
	}

	_, err := io.ReadFull(conn, make([]byte, 1))

	return err
}

// ended says whether the other side has closed, and did not merely keep silent.
func ended(conn net.Conn) bool {
	_, err := io.Copy(io.Discard, conn)

	return !timedOut(err)
}

// eventually waits for a fact.
func eventually(t testing.TB, what string, fact func() bool) {
	t.Helper()

	for deadline := time.Now().Add(patience); !fact(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("in vain waited for: " + what)
		}
	}
}

func TestAnErrorOfAcceptDoesNotEndTheListener(t *testing.T) {
	l := start(t, "tcp", "127.0.0.1:0", Settings{Name: "a"}, Options{Handler: echo})
	take, fails := l.take, 4
	l.take = func() (socket, error) {
		fails--
		if fails >= 0 {
			return socket{}, errors.New("too many open files")
		}

		return take()
	}
	l.Start()

	if err := echoes(dial(t, l)); err != nil {
		t.Fatalf("a listener that failed four times must accept the fifth: %v", err)
	}

	if l.Fault() != "" {
		t.Errorf("the fault is over, got %q", l.Fault())
	}
}

func TestAPanicEndsItsConnectionOnly(t *testing.T) {
	handler := func(c *Conn) {
		serve := func() {
			first := make([]byte, 1)
			_, _ = io.ReadFull(c, first)

			if first[0] == '!' {
				panic("the value of this panic must not be logged")
			}

			_, _ = c.Write(first)
			echo(c)
		}

		// Here it is read on the accepting goroutine, so that its panic meets that one.
		serve()
	}

	for name, settings := range map[string]Settings{
		"on the accepting goroutine":    {},
		"on the connection's goroutine": {TLS: secure(t, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			l := bind(t, settings, Options{Handler: handler})
			connect := func() net.Conn {
				if settings.TLS == nil {
					return dial(t, l)
				}

				return dialTLS(t, l)
			}

			good := connect()
			if err := echoes(good); err != nil {
				t.Fatal(err)
			}

			bad := connect()
			_, _ = bad.Write([]byte("!"))

			if !ended(bad) {
				t.Error("the connection that panicked must be closed")
			}

			if err := echoes(good); err != nil {
				t.Errorf("the other connection must go on: %v", err)
			}

			if err := echoes(connect()); err != nil {
				t.Errorf("the listener must go on: %v", err)
			}

			if l.Panics() != 1 {
				t.Errorf("%d panics counted, want 1", l.Panics())
			}

			eventually(t, "the place is given back", func() bool { return l.Connections() == 2 })
		})
	}
}

func TestASlowPeerIsClosedInEachPhase(t *testing.T) {
	cases := map[string]struct {
		reason   string
		settings Settings
		begin    string
		drip     byte
		tls      bool
		refused  Reason
	}{
		"silent before the PROXY header": {
			reason: "who must send a header has no more time than others", settings: Settings{Proxy: loopback(true)},
			refused: BadProxyHeader,
		},
		"silent where a PROXY header is optional": {
			reason: "to wait for a first byte must not be to wait for ever", settings: Settings{Proxy: loopback(false)},
			refused: BadProxyHeader,
		},
		"dripping a PROXY header": {
			reason: "each byte must not buy new time", settings: Settings{Proxy: loopback(true)},
			begin: "PROXY UNKNOWN ", drip: 'x', refused: BadProxyHeader,
		},
		"silent before TLS": {
			reason: "the handshake is bounded", settings: Settings{TLS: secure(t, 1)}, refused: BadTLSHandshake,
		},
		"dripping a ClientHello": {
			reason: "each byte must not buy new time", settings: Settings{TLS: secure(t, 1)},
			begin: "\x16\x03\x01\x20\x00\x01\x00\x1f\xfc", refused: BadTLSHandshake,
		},
		"silent before HTTP": {
			reason: "the request is bounded", settings: Settings{WebSocket: &WebSocket{}}, refused: BadUpgrade,
		},
		"dripping an HTTP header": {
			reason: "the oldest slow loris", settings: Settings{WebSocket: &WebSocket{}},
			begin: "GET /mqtt HTTP/1.1\r\nX: ", drip: 'x', refused: BadUpgrade,
		},
		"dripping an HTTP header within TLS": {
			reason:   "the deadline of the handshake goes on for what follows",
			settings: Settings{TLS: secure(t, 1), WebSocket: &WebSocket{}},
			begin:    "GET /mqtt HTTP/1.1\r\nX: ", drip: 'x', tls: true, refused: BadUpgrade,
		},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			l := bind(t, c.settings, Options{Patience: 300 * time.Millisecond, Handler: func(c *Conn) {
				t.Errorf("handed over: %v", c.RemoteAddr())
				_ = c.Close()
			}})

			conn := dial(t, l)
			if c.tls {
				conn = dialTLS(t, l)
			}

			_, _ = io.WriteString(conn, c.begin)

			stop := make(chan struct{})
			defer close(stop)

			go func() {
				for c.begin != "" {
					select {
					case <-stop:
						return
					case <-time.After(10 * time.Millisecond):
						_, _ = conn.Write([]byte{c.drip})
					}
				}
			}()

			if !ended(conn) {
				t.Error("still open: " + c.reason)
			}

			eventually(t, "the place is given back", func() bool { return l.Connections() == 0 })

			if n := l.Refused(c.refused); n != 1 {
				t.Errorf("%d refused as %s, want 1", n, c.refused)
			}
		})
	}
}

func TestTheDeadlineHoldsUntilTheHandlerLiftsIt(t *testing.T) {
	for name, settings := range map[string]Settings{"plain": {}, "TLS": {TLS: secure(t, 1)}} {
		t.Run(name, func(t *testing.T) {
			l := bind(t, settings, Options{Patience: 500 * time.Millisecond, Handler: func(c *Conn) {
				go func() {
					defer c.Close()

					_, err := c.Read(make([]byte, 1))
					if !timedOut(err) {
						t.Errorf("a handler that did not lift the deadline reads %v", err)
					}
				}()
			}})

			conn := dial(t, l)
			if settings.TLS != nil {
				conn = dialTLS(t, l)
			}

			if !ended(conn) {
				t.Error("a silent connection must be closed")
			}
		})
	}
}

func TestAThousandHalfOpenConnectionsHinderNobody(t *testing.T) {
	l := bind(t, Settings{TLS: secure(t, 1)}, Options{Handler: echo})

	silent := make([]net.Conn, 1000)
	for i := range silent {
		silent[i] = dial(t, l)
	}

	if err := echoes(dialTLS(t, l)); err != nil {
		t.Fatalf("an honest client must get through: %v", err)
	}

	if n := l.Connections(); n != 1001 {
		t.Errorf("%d connections, want 1001", n)
	}

	for _, conn := range silent {
		_ = conn.Close()
	}

	eventually(t, "the places of those that hung up", func() bool { return l.Connections() <= 1 })
}

func TestNobodyIsLetInBeyondTheBound(t *testing.T) {
	l := bind(t, Settings{MaxConnections: 2}, Options{Handler: echo})
	first, second := dial(t, l), dial(t, l)

	for _, conn := range []net.Conn{first, second} {
		if err := echoes(conn); err != nil {
			t.Fatal(err)
		}
	}

	if !ended(dial(t, l)) {
		t.Error("the third must be closed at once")
	}

	if n := l.Refused(Full); n != 1 {
		t.Errorf("%d refused, want 1", n)
	}

	_ = first.Close()

	eventually(t, "the place", func() bool { return l.Connections() == 1 })

	if err := echoes(dial(t, l)); err != nil {
		t.Errorf("a place that was given back is for the next: %v", err)
	}

	l.Set(Settings{MaxConnections: 3})

	if err := echoes(dial(t, l)); err != nil {
		t.Errorf("a greater bound counts at once: %v", err)
	}

	l.Set(Settings{MaxConnections: 1})

	if !ended(dial(t, l)) {
		t.Error("a smaller bound counts at once")
	}

	if err := echoes(second); err != nil {
		t.Errorf("who is in stays in: %v", err)
	}
}

func TestAReleaseCountsOnce(t *testing.T) {
	conns := make(chan *Conn, 1)
	l := bind(t, Settings{}, Options{Handler: func(c *Conn) { conns <- c }})
	dial(t, l)

	c := <-conns
	_ = c.Close()
	_ = c.Close()
	c.Release()

	if n := l.Connections(); n != 0 {
		t.Errorf("%d connections, want 0", n)
	}

	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed connection reads %v", err)
	}

	if _, _, ok := c.Raw(); ok {
		t.Error("a closed connection has no descriptor")
	}
}

func TestTheRate(t *testing.T) {
	began := time.Unix(1000, 0)
	// Each step asks at a time and, if it need not wait, takes a token.
	type step struct {
		At   time.Duration
		Rate *Rate
		Wait time.Duration
	}

	slow, fast := &Rate{PerSecond: 1, Burst: 2}, &Rate{PerSecond: 10, Burst: 10}
	cases := map[string]struct {
		reason string
		steps  []step
	}{
		"without a rate": {"nobody waits", []step{{0, nil, 0}, {0, nil, 0}, {0, nil, 0}}},
		"a burst, then one by one": {"the bucket is full at first", []step{
			{0, slow, 0}, {0, slow, 0}, {0, slow, time.Second}, {time.Second, slow, 0}, {time.Second, slow, time.Second},
		}},
		"a pause fills no more than the bucket": {"a burst is bounded", []step{
			{0, slow, 0}, {time.Hour, slow, 0}, {time.Hour, slow, 0}, {time.Hour, slow, time.Second},
		}},
		"a faster rate counts at once": {"the rest of the wait is at the new rate", []step{
			{0, slow, 0}, {0, slow, 0}, {0, slow, time.Second}, {0, fast, 100 * time.Millisecond},
		}},
		"a smaller burst counts at once": {"what was saved under the old one is lost", []step{
			{0, fast, 0}, {0, slow, 0}, {0, slow, 0}, {0, slow, time.Second},
		}},
		"a rate that comes back": {"it begins with a full bucket", []step{
			{0, slow, 0}, {0, slow, 0}, {0, nil, 0}, {0, slow, 0},
		}},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var (
				b   bucket
				got []step
			)

			for _, s := range c.steps {
				s.Wait = b.wait(s.Rate, began.Add(s.At))
				if s.Wait == 0 {
					b.spend()
				}

				got = append(got, s)
			}

			if d := cmp.Diff(c.steps, got); d != "" {
				t.Errorf("%s:\n%s", c.reason, d)
			}
		})
	}
}

func TestARateDelaysAndIsChangedLive(t *testing.T) {
	rate := &Rate{PerSecond: 1, Burst: 1}
	l := start(t, "tcp", "127.0.0.1:0", Settings{ConnectRate: rate}, Options{Handler: echo})
	// So far in debt that nobody gets in before the test is over.
	l.bucket = bucket{rate: *rate, tokens: -1e6, last: time.Now()}
	l.Start()

	conn := dial(t, l)
	_, _ = conn.Write([]byte("x"))

	l.Set(Settings{ConnectRate: rate, Name: "the same rate"})

	if l.Accepted() != 0 {
		t.Error("the rate must hold the connection back")
	}

	l.Set(Settings{})

	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Errorf("who waited must get in when the rate is lifted, and lose nothing: %v", err)
	}
}

func TestCloseEndsTheWaitForTheRate(t *testing.T) {
	rate := &Rate{PerSecond: 1, Burst: 1}
	l := start(t, "tcp", "127.0.0.1:0", Settings{ConnectRate: rate}, Options{Handler: echo})
	l.bucket = bucket{rate: *rate, tokens: -1e6, last: time.Now()}

	over := make(chan struct{})

	go func() {
		defer close(over)

		l.accept()
	}()

	_ = l.Close()

	select {
	case <-over:
	case <-time.After(patience):
		t.Error("the accepting goroutine must end")
	}
}

func TestACertificateIsSwappedLive(t *testing.T) {
	l := bind(t, Settings{TLS: secure(t, 1)}, Options{Handler: echo})
	old := dialTLS(t, l)

	l.Set(Settings{TLS: secure(t, 2)})

	if got := dialTLS(t, l).ConnectionState().PeerCertificates[0].SerialNumber.Int64(); got != 2 {
		t.Errorf("a new connection got certificate %d, want 2", got)
	}

	if err := echoes(old); err != nil {
		t.Errorf("an open connection must not notice: %v", err)
	}
}

func TestAConnectionKeepsItsSettings(t *testing.T) {
	conns := make(chan *Conn, 2)
	l := bind(t, Settings{Name: "old"}, Options{Handler: func(c *Conn) { conns <- c }})
	dial(t, l)

	old := <-conns
	defer old.Close()

	l.Set(Settings{Name: "new"})
	dial(t, l)

	fresh := <-conns
	defer fresh.Close()

	if got := []string{old.Settings.Name, fresh.Settings.Name}; cmp.Diff([]string{"old", "new"}, got) != "" {
		t.Errorf("names %v", got)
	}
}

func TestTheLeastVersionIsKept(t *testing.T) {
	for least, wanted := range map[string]bool{"1.3": false, "1.2": true} {
		config, err := TLSConfig(certificate(t, 1), least)
		if err != nil {
			t.Fatal(err)
		}

		l := bind(t, Settings{TLS: config}, Options{Handler: echo})
		conn := tls.Client(dial(t, l), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})

		if err := conn.Handshake(); (err == nil) != wanted {
			t.Errorf("least version %s: a TLS 1.2 handshake ends with %v", least, err)
		}
	}

	if _, err := TLSConfig(certificate(t, 1), "1.1"); err == nil {
		t.Error("TLS 1.1 must be refused")
	}

	if _, err := TLSConfig(&tls.Certificate{}, "1.3"); err == nil {
		t.Error("an empty certificate must be refused")
	}
}

func TestBindSaysWhy(t *testing.T) {
	l := bind(t, Settings{}, Options{Handler: echo})

	if _, err := Bind("tcp", l.Address().String(), Settings{}, Options{}); err == nil {
		t.Error("an address that is taken must be refused")
	}

	if _, err := Bind("udp", "127.0.0.1:0", Settings{}, Options{}); err == nil {
		t.Error("a network that we do not serve must be refused")
	}
}

func TestNobodyIsHandedOverAfterClose(t *testing.T) {
	var handed atomic.Int64

	l := bind(t, Settings{TLS: secure(t, 1)}, Options{Handler: func(c *Conn) {
		handed.Add(1)

		_ = c.Close()
	}})

	conn := dial(t, l)

	eventually(t, "the connection is accepted", func() bool { return l.Connections() == 1 })

	_ = l.Close()
	_ = l.Close()

	// The handshake was under way, and ends well for the client.
	_ = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).Handshake()

	if !ended(conn) {
		t.Error("still open")
	}

	if handed.Load() != 0 {
		t.Error("a closed listener hands nothing over")
	}
}

func TestAddresses(t *testing.T) {
	conns := make(chan *Conn, 1)

	for name, l := range map[string]*Listener{
		"plain":      start(t, "tcp", "127.0.0.1:0", Settings{}, Options{Handler: func(c *Conn) { conns <- c }}),
		"TLS":        start(t, "tcp", "127.0.0.1:0", Settings{TLS: secure(t, 1)}, Options{Handler: func(c *Conn) { conns <- c }}),
		"both kinds": start(t, "tcp", ":0", Settings{}, Options{Handler: func(c *Conn) { conns <- c }}),
	} {
		l.Start()

		_, p, _ := net.SplitHostPort(l.Address().String())

		client, err := net.Dial("tcp", "127.0.0.1:"+p)
		if err != nil {
			t.Fatal(err)
		}

		if name == "TLS" {
			client = tls.Client(client, &tls.Config{InsecureSkipVerify: true})
			_ = client.(*tls.Conn).Handshake()
		}

		c := <-conns

		// An IPv4 client of a socket for both families is one of IPv4.
		if d := cmp.Diff(client.LocalAddr().String(), c.RemoteAddr().String()); d != "" {
			t.Errorf("%s, remote: %s", name, d)
		}

		if d := cmp.Diff(client.RemoteAddr().String(), c.LocalAddr().String()); d != "" {
			t.Errorf("%s, local: %s", name, d)
		}

		_ = c.Close()
		_ = client.Close()
	}
}

// TestAllAddressesAreOfBothFamilies: a listener without a host, as the operator writes it, takes clients of IPv4 and of IPv6.
func TestAllAddressesAreOfBothFamilies(t *testing.T) {
	l := start(t, "tcp", ":0", Settings{}, Options{Handler: echo})
	l.Start()

	_, port, _ := net.SplitHostPort(l.Address().String())

	for _, host := range []string{"127.0.0.1", "::1"} {
		client, err := net.Dial("tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Errorf("%s: %v", host, err)

			continue
		}

		answer := make([]byte, 1)

		_, err = client.Write([]byte{7})
		if err == nil {
			_ = client.SetDeadline(time.Now().Add(patience))
			_, err = io.ReadFull(client, answer)
		}

		if err != nil || answer[0] != 7 {
			t.Errorf("%s: %v %v", host, answer, err)
		}

		_ = client.Close()
	}
}

func TestReasonsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Reasons() {
		seen[r.String()] = true
	}

	if len(seen) != reasons || seen["unknown"] {
		t.Errorf("names %v", seen)
	}
}
