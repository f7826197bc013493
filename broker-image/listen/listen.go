// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	firstBackoff = 5 * time.Millisecond
	lastBackoff  = time.Second
	keepAlive    = 30 * time.Second
)

// Settings are what may change while the listener is open. A connection keeps those it was accepted under.
type Settings struct {
	// Name is the listener's name; the handler gets it with the connection.
	Name string
	// TLS is nil for plain TCP. It must not be changed after it was handed over.
	TLS *tls.Config
}

// Handler serves one connection. The connection is closed when it returns.
type Handler func(conn net.Conn, settings *Settings)

// Options are what stays for the listener's life.
type Options struct {
	// Log must not be nil.
	Log *slog.Logger
	// Handler must not be nil.
	Handler Handler
	// Patience is how long a connection has from being accepted until the handler lifts the deadline.
	Patience time.Duration
}

// Listener is one bound address.
type Listener struct {
	options  Options
	inner    net.Listener
	settings atomic.Pointer[Settings]
	fault    atomic.Pointer[string]
	panics   atomic.Int64
	closed   atomic.Bool
	done     chan struct{}
	stop     sync.Once
}

// Bind opens the address. Nothing is accepted before Start, so a Bind can be taken back unnoticed.
func Bind(address string, settings Settings, options Options) (*Listener, error) {
	config := net.ListenConfig{KeepAlive: keepAlive}

	inner, err := config.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("address %s: %w", address, err)
	}

	return wrap(inner, settings, options), nil
}

func wrap(inner net.Listener, settings Settings, options Options) *Listener {
	l := &Listener{options: options, inner: inner, done: make(chan struct{})}
	l.settings.Store(&settings)

	return l
}

// Start accepts connections until Close.
func (l *Listener) Start() { go l.accept() }

// Set changes the settings for the connections to come.
func (l *Listener) Set(settings Settings) { l.settings.Store(&settings) }

// Address is where the listener is bound.
func (l *Listener) Address() net.Addr { return l.inner.Addr() }

// Fault says why the listener cannot accept at the moment, or nothing.
func (l *Listener) Fault() string {
	if s := l.fault.Load(); s != nil {
		return *s
	}

	return ""
}

// Panics is the number of connections that ended in a panic of their handler.
func (l *Listener) Panics() int64 { return l.panics.Load() }

// Close stops accepting. Open connections are the handlers' to close.
func (l *Listener) Close() error {
	var err error

	l.stop.Do(func() {
		l.closed.Store(true)
		close(l.done)

		err = l.inner.Close()
	})

	return err
}

func (l *Listener) accept() {
	backoff := firstBackoff

	for {
		conn, err := l.inner.Accept()
		if err == nil {
			if l.fault.Swap(nil) != nil {
				l.options.Log.Info("listener accepts again", "listener", l.settings.Load().Name)
			}

			backoff = firstBackoff

			go l.serve(conn)

			continue
		}

		if l.closed.Load() {
			return
		}

		text := err.Error()
		if l.fault.Swap(&text) == nil {
			l.options.Log.Error("listener cannot accept; trying on", "listener", l.settings.Load().Name, "error", err)
		}

		select {
		case <-l.done:
			return
		case <-time.After(backoff):
		}

		backoff = min(2*backoff, lastBackoff)
	}
}

func (l *Listener) serve(conn net.Conn) {
	settings := l.settings.Load()

	defer func() {
		if fault := recover(); fault != nil {
			l.panics.Add(1)
			// The value of a panic may hold what the client sent; its type and the stack are enough to find the place.
			l.options.Log.Error("connection ended in a panic; the others go on", "listener", settings.Name,
				"remote", conn.RemoteAddr().String(), "panic", fmt.Sprintf("%T", fault), "stack", string(debug.Stack()))
		}

		_ = conn.Close()
	}()

	if l.options.Patience > 0 {
		_ = conn.SetDeadline(time.Now().Add(l.options.Patience))
	}

	if settings.TLS != nil {
		secure := tls.Server(conn, settings.TLS)
		if err := secure.HandshakeContext(context.Background()); err != nil {
			l.options.Log.Debug("TLS handshake failed", "listener", settings.Name,
				"remote", conn.RemoteAddr().String(), "error", err)

			return
		}

		l.options.Handler(secure, settings)

		return
	}

	l.options.Handler(conn, settings)
}

// TLSConfig makes the settings of a TLS listener. The least version is 1.2 or 1.3; 1.3 is always offered.
func TLSConfig(certificate *tls.Certificate, leastVersion string) (*tls.Config, error) {
	config := &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS13}

	switch leastVersion {
	case "1.3":
	case "1.2":
		config.MinVersion = tls.VersionTLS12
	default:
		return nil, fmt.Errorf("minVersion: %q is neither 1.2 nor 1.3", leastVersion)
	}

	if len(certificate.Certificate) == 0 {
		return nil, errors.New("certificate: is empty")
	}

	return config, nil
}
