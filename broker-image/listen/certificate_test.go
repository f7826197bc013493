// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/listen/listentest"
)

// The engine's tests tell what becomes of every kind of certificate; here is what only this package can be asked.

func trustOf(t testing.TB, lists string, authorities ...*listentest.Authority) *Trust {
	t.Helper()

	all := make([]*x509.Certificate, 0, len(authorities))
	for _, a := range authorities {
		all = append(all, a.Certificate)
	}

	var parsed []*x509.RevocationList

	for block, rest := pem.Decode([]byte(lists)); block != nil; block, rest = pem.Decode(rest) {
		list, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}

		parsed = append(parsed, list)
	}

	trust, err := NewTrust(all, parsed)
	if err != nil {
		t.Fatal(err)
	}

	return trust
}

func TestSuitesOfTLS12(t *testing.T) {
	config, err := TLSConfig(certificate(t, 1), "1.2")
	if err != nil {
		t.Fatal(err)
	}

	l := bind(t, Settings{TLS: config}, Options{Handler: echo})

	for _, suites := range [][]*tls.CipherSuite{tls.CipherSuites(), tls.InsecureCipherSuites()} {
		for _, s := range suites {
			if s.SupportedVersions[0] > tls.VersionTLS12 {
				continue
			}

			conn := tls.Client(dial(t, l), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{s.ID}})
			// The server's key is ECDSA.
			good := strings.HasPrefix(s.Name, "TLS_ECDHE_ECDSA_") && (strings.Contains(s.Name, "_GCM_") || strings.Contains(s.Name, "_POLY1305_"))

			if err := conn.Handshake(); (err == nil) != good {
				t.Errorf("%s: %v, want success: %v", s.Name, err, good)
			}
		}
	}
}

func TestAListOfAStranger(t *testing.T) {
	ca, other := listentest.NewAuthority(t, "ca"), listentest.NewAuthority(t, "ca")

	block, _ := pem.Decode([]byte(other.List(time.Now())))

	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}

	if _, err := NewTrust([]*x509.Certificate{ca.Certificate}, []*x509.RevocationList{list}); err == nil {
		t.Error("an authority of the same name must not revoke for it")
	}

	if _, err := NewTrust(nil, nil); err == nil {
		t.Error("nobody to trust")
	}
}

func TestStaleLists(t *testing.T) {
	ca, other := listentest.NewAuthority(t, "ca"), listentest.NewAuthority(t, "other")
	trust := trustOf(t, ca.List(time.Now().Add(-time.Hour))+ca.List(time.Now().Add(time.Hour))+other.List(time.Now().Add(time.Minute)), ca, other)

	for after, want := range map[time.Duration]string{0: "CN=ca", -2 * time.Hour: "", time.Hour: "CN=ca; CN=other"} {
		if got := trust.Stale(time.Now().Add(after)); got != want {
			t.Errorf("after %v: %q, want %q", after, got, want)
		}
	}
}

// TestTheHandlerKnowsThePeer, and who is refused is told to the listener's owner with words.
func TestTheHandlerKnowsThePeer(t *testing.T) {
	ca := listentest.NewAuthority(t, "ca")
	trust := trustOf(t, "", ca)
	config := secure(t, 1)
	trust.Demand(config, false)

	peers, refused := make(chan *Peer, 1), make(chan *CertificateError, 1)
	l := bind(t, Settings{TLS: config, Trust: trust}, Options{
		Handler: func(c *Conn) {
			peers <- c.Peer()

			_ = c.Close()
		},
		Refused: func(_ *Conn, why *CertificateError) { refused <- why },
	})

	show := func(c *tls.Certificate) {
		client := &tls.Config{InsecureSkipVerify: true}
		if c != nil {
			client.Certificates = []tls.Certificate{*c}
		}

		_ = tls.Client(dial(t, l), client).Handshake()
	}

	end := time.Now().Add(time.Minute).Truncate(time.Second)
	cert := ca.Sign(&x509.Certificate{Subject: pkix.Name{CommonName: "anna"}, NotAfter: end})
	show(cert)

	if p := <-peers; p == nil || p.Leaf().Subject.CommonName != "anna" || !p.Until().Equal(end) {
		t.Errorf("got %+v", p)
	}

	show(nil)

	if p := <-peers; p != nil {
		t.Errorf("nothing was shown, got %+v", p)
	}

	show(ca.TLS())

	if why := <-refused; why.Reason != BadCertificate || !strings.Contains(why.Error(), "authority") {
		t.Errorf("got %v", why)
	}

	if l.Refused(BadCertificate) != 1 || l.Refused(BadTLSHandshake) != 0 {
		t.Error("counted under another reason")
	}
}

// TestBelieves: what is asked of a peer that is here when authorities and lists change.
func TestBelieves(t *testing.T) {
	ca, next := listentest.NewAuthority(t, "ca"), listentest.NewAuthority(t, "next")
	between := ca.Under("between")
	leaf := between.Client("anna")
	peer := &Peer{
		shown:  []*x509.Certificate{leaf.Leaf, between.Certificate},
		chains: [][]*x509.Certificate{{leaf.Leaf, between.Certificate, ca.Certificate}},
	}
	later := time.Now().Add(time.Hour)

	for name, c := range map[string]struct {
		trust *Trust
		want  error
	}{
		"as before":                       {trustOf(t, "", ca), nil},
		"one more":                        {trustOf(t, "", ca, next), nil},
		"another":                         {trustOf(t, "", next), &CertificateError{Reason: BadCertificate}},
		"by another way":                  {trustOf(t, "", between), nil},
		"by another way, and revoked":     {trustOf(t, between.List(later, leaf.Leaf), between), &CertificateError{Reason: RevokedCertificate}},
		"revoked":                         {trustOf(t, between.List(later, leaf.Leaf), ca, between), &CertificateError{Reason: RevokedCertificate}},
		"the authority between revoked":   {trustOf(t, ca.List(later, between.Certificate), ca), &CertificateError{Reason: RevokedCertificate}},
		"revoked by who did not issue it": {trustOf(t, ca.List(later, leaf.Leaf), ca), nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.trust.Believes(peer, time.Now())

			var got, want *CertificateError
			if errors.As(err, &got) != errors.As(c.want, &want) || got != nil && got.Reason != want.Reason {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func BenchmarkBelieves(b *testing.B) {
	ca := listentest.NewAuthority(b, "ca")
	leaf := ca.Client("anna")
	peer := &Peer{shown: []*x509.Certificate{leaf.Leaf}, chains: [][]*x509.Certificate{{leaf.Leaf, ca.Certificate}}}
	trust := trustOf(b, ca.List(time.Now().Add(time.Hour), ca.Client("x").Leaf), ca)

	b.ReportAllocs()

	for b.Loop() {
		if err := trust.Believes(peer, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
