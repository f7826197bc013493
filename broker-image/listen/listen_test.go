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
	"sync"
	"testing"
	"time"
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

func echo(conn net.Conn, _ *Settings) {
	_ = conn.SetDeadline(time.Time{})
	_, _ = io.Copy(conn, conn)
}

func bind(t testing.TB, settings Settings, options Options) *Listener {
	t.Helper()

	options.Log = slog.New(slog.DiscardHandler)
	if options.Patience == 0 {
		options.Patience = patience
	}

	l, err := Bind("127.0.0.1:0", settings, options)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = l.Close() })
	l.Start()

	return l
}

func dial(t testing.TB, l *Listener) net.Conn {
	t.Helper()

	conn, err := net.Dial("tcp", l.Address().String())
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))

	return conn
}

func echoes(conn net.Conn) error {
	if _, err := conn.Write([]byte("x")); err != nil {
		return err
	}

	_, err := io.ReadFull(conn, make([]byte, 1))

	return err
}

// faulty fails a number of times before it accepts.
type faulty struct {
	net.Listener
	mu    sync.Mutex
	fails int
}

func (f *faulty) Accept() (net.Conn, error) {
	f.mu.Lock()
	fail := f.fails > 0
	f.fails--
	f.mu.Unlock()

	if fail {
		return nil, errors.New("too many open files")
	}

	return f.Listener.Accept()
}

func TestAnErrorOfAcceptDoesNotEndTheListener(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	l := wrap(&faulty{Listener: inner, fails: 4}, Settings{Name: "a"},
		Options{Log: slog.New(slog.DiscardHandler), Handler: echo, Patience: patience})
	l.Start()

	defer l.Close()

	conn := dial(t, l)
	if err := echoes(conn); err != nil {
		t.Fatalf("a listener that failed four times must accept the fifth: %v", err)
	}

	if l.Fault() != "" {
		t.Errorf("the fault is over, got %q", l.Fault())
	}
}

func TestAFaultIsVisibleWhileItLasts(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	l := wrap(&faulty{Listener: inner, fails: 1 << 30}, Settings{},
		Options{Log: slog.New(slog.DiscardHandler), Handler: echo})
	l.Start()

	defer l.Close()

	for deadline := time.Now().Add(patience); l.Fault() == ""; {
		if time.Now().After(deadline) {
			t.Fatal("a listener that cannot accept must say so")
		}

		time.Sleep(time.Millisecond)
	}
}

func TestAPanicEndsItsConnectionOnly(t *testing.T) {
	l := bind(t, Settings{}, Options{Handler: func(conn net.Conn, s *Settings) {
		first := make([]byte, 1)
		_, _ = io.ReadFull(conn, first)

		if first[0] == '!' {
			panic("the value of this panic must not be logged")
		}

		_, _ = conn.Write(first)
		echo(conn, s)
	}})

	bad, good := dial(t, l), dial(t, l)
	if err := echoes(good); err != nil {
		t.Fatal(err)
	}

	_, _ = bad.Write([]byte("!"))
	if _, err := bad.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the connection that panicked must be closed, got %v", err)
	}

	if err := echoes(good); err != nil {
		t.Errorf("the other connection must go on: %v", err)
	}

	if l.Panics() != 1 {
		t.Errorf("%d panics counted, want 1", l.Panics())
	}
}

func TestAHalfOpenConnectionIsClosed(t *testing.T) {
	config, err := TLSConfig(certificate(t, 1), "1.3")
	if err != nil {
		t.Fatal(err)
	}

	for name, settings := range map[string]Settings{"before the TLS handshake": {TLS: config}, "before the first byte": {}} {
		t.Run(name, func(t *testing.T) {
			l := bind(t, settings, Options{Patience: 50 * time.Millisecond, Handler: func(conn net.Conn, _ *Settings) {
				_, _ = conn.Read(make([]byte, 1))
			}})

			conn := dial(t, l)
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("a silent connection must be closed, got %v", err)
			}
		})
	}
}

func TestACertificateIsSwappedLive(t *testing.T) {
	first, err := TLSConfig(certificate(t, 1), "1.3")
	if err != nil {
		t.Fatal(err)
	}

	second, err := TLSConfig(certificate(t, 2), "1.3")
	if err != nil {
		t.Fatal(err)
	}

	l := bind(t, Settings{TLS: first}, Options{Handler: echo})
	connect := func() *tls.Conn {
		conn := tls.Client(dial(t, l), &tls.Config{InsecureSkipVerify: true})
		if err := conn.Handshake(); err != nil {
			t.Fatal(err)
		}

		return conn
	}

	old := connect()

	l.Set(Settings{TLS: second})

	if got := connect().ConnectionState().PeerCertificates[0].SerialNumber.Int64(); got != 2 {
		t.Errorf("a new connection got certificate %d, want 2", got)
	}

	if err := echoes(old); err != nil {
		t.Errorf("an open connection must not notice: %v", err)
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
}

func TestBindSaysWhy(t *testing.T) {
	l := bind(t, Settings{}, Options{Handler: echo})

	if _, err := Bind(l.Address().String(), Settings{}, Options{}); err == nil {
		t.Error("an address that is taken must be refused")
	}
}
