// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestASessionIsResumed by another process that has the same private key, for as long as a ticket is good, and by nobody else.
// With TLS 1.2 the process has to be the same.
func TestASessionIsResumed(t *testing.T) {
	mine, others := certificate(t, 1), certificate(t, 2)
	began := time.Date(2026, 11, 29, 23, 59, 0, 0, time.UTC)

	for name, tc := range map[string]struct {
		version uint16
		again   *tls.Certificate // of the process that comes after; nil: it is the same process
		later   time.Duration
		want    bool
	}{
		"the same process":             {version: tls.VersionTLS13, want: true},
		"after a restart":              {version: tls.VersionTLS13, again: mine, want: true},
		"after midnight":               {version: tls.VersionTLS13, later: 2 * time.Minute, want: true},
		"after a restart and a day":    {version: tls.VersionTLS13, again: mine, later: 30 * time.Hour, want: true},
		"after the days that are good": {version: tls.VersionTLS13, again: mine, later: (ticketDays + 1) * 24 * time.Hour},
		"another private key":          {version: tls.VersionTLS13, again: others},
		"TLS 1.2, the same process":    {version: tls.VersionTLS12, want: true},
		"TLS 1.2, after a restart":     {version: tls.VersionTLS12, again: mine},
	} {
		t.Run(name, func(t *testing.T) {
			clock := began
			process := func(c *tls.Certificate) *tls.Config {
				config, err := TLSConfig(c, "1.2")
				if err != nil {
					t.Fatal(err)
				}

				config.MaxVersion = tc.version
				if err := resume(config, c.PrivateKey, func() time.Time { return clock }); err != nil {
					t.Fatal(err)
				}

				return config
			}
			roots := x509.NewCertPool()
			for _, c := range []*tls.Certificate{mine, others} {
				leaf, err := x509.ParseCertificate(c.Certificate[0])
				if err != nil {
					t.Fatal(err)
				}

				roots.AddCert(leaf)
			}

			client := &tls.Config{RootCAs: roots, ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(1), MaxVersion: tc.version, MinVersion: tls.VersionTLS12}
			server := process(mine)

			if converse(t, server, client) {
				t.Fatal("there was nothing to be resumed yet")
			}

			if tc.again != nil {
				server = process(tc.again)
			}

			clock = clock.Add(tc.later)

			if got := converse(t, server, client); got != tc.want {
				t.Errorf("resumed: %t, want %t", got, tc.want)
			}
		})
	}
}

// converse has a client come, say something, hear it again, and tell whether it was known.
func converse(t *testing.T, server, client *tls.Config) bool {
	t.Helper()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	done := make(chan error, 1)

	go func() {
		there, err := listener.Accept()
		_ = listener.Close()

		if err != nil {
			done <- err

			return
		}

		conn := tls.Server(there, server)
		_, err = io.Copy(conn, conn)
		_ = conn.Close()
		done <- err
	}()

	conn, err := tls.Dial("tcp", listener.Addr().String(), client)
	if err != nil {
		t.Fatal(err)
	}

	if _, err := io.WriteString(conn, "x"); err != nil {
		t.Fatal(err)
	}

	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil { // a ticket comes before it
		t.Fatal(err)
	}

	_ = conn.Close()

	if err := <-done; err != nil {
		t.Fatal(err)
	}

	return conn.ConnectionState().DidResume
}

// TestAKeyOfNoKind is an error, and the key is not in it.
func TestAKeyOfNoKind(t *testing.T) {
	c := *certificate(t, 1)
	c.PrivateKey = "secret-marker"

	if _, err := TLSConfig(&c, "1.3"); err == nil || strings.Contains(err.Error(), "secret-marker") {
		t.Errorf("the error is %v", err)
	}
}
