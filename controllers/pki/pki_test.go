// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func mustCA(t *testing.T) Pair {
	t.Helper()
	ca, err := NewCA("test-ca", now)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func mustIssue(t *testing.T, ca Pair, r Request) Pair {
	t.Helper()
	pair, err := Issue(ca, r, now)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func TestIssuedCertificateVerifiesAgainstItsCA(t *testing.T) {
	ca := mustCA(t)
	pair := mustIssue(t, ca, Request{CommonName: "mq", DNSNames: []string{"mq.factory.svc"}, Server: true})
	leaf, err := Check(pair, now)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Certificate)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "mq.factory.svc", CurrentTime: now}); err != nil {
		t.Errorf("a client that trusts the CA must accept the certificate: %v", err)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
		t.Error("a server's certificate must not serve as a client's")
	}
}

func TestCheckNamesTheFault(t *testing.T) {
	ca := mustCA(t)
	a, b := mustIssue(t, ca, Request{CommonName: "a", Server: true}), mustIssue(t, ca, Request{CommonName: "b", Server: true})
	for name, tc := range map[string]struct {
		pair Pair
		at   time.Time
		want error
	}{
		"a good pair":                    {pair: a, at: now},
		"the key of another certificate": {pair: Pair{a.Certificate, b.Key}, at: now, want: ErrMismatch},
		"no certificate":                 {pair: Pair{[]byte("hello"), a.Key}, at: now, want: ErrNoCertificate},
		"a key where the certificate is": {pair: Pair{a.Key, a.Key}, at: now, want: ErrNoCertificate},
		"no key":                         {pair: Pair{a.Certificate, nil}, at: now, want: ErrNoKey},
		"after its end":                  {pair: a, at: now.Add(LeafValidity + time.Second), want: ErrExpired},
		"before its beginning":           {pair: a, at: now.Add(-time.Hour), want: ErrNotYetValid},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Check(tc.pair, tc.at); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestIsCurrent(t *testing.T) {
	ca, r := mustCA(t), Request{CommonName: "mq", DNSNames: []string{"mq", "mq.factory.svc"}, Server: true}
	pair := mustIssue(t, ca, r)
	other := r
	other.DNSNames = []string{"mq"}
	for name, tc := range map[string]struct {
		reason string
		ca     Pair
		r      Request
		at     time.Time
		want   bool
	}{
		"fresh":              {reason: "nothing changed, so nothing may be issued again", ca: ca, r: r, at: now, want: true},
		"just before renew":  {reason: "renewal begins at two thirds", ca: ca, r: r, at: now.Add(LeafValidity*2/3 - time.Hour), want: true},
		"after two thirds":   {reason: "renewal begins at two thirds", ca: ca, r: r, at: now.Add(LeafValidity * 2 / 3)},
		"other names wanted": {reason: "a removed listener's name must leave the certificate", ca: ca, r: other, at: now},
		"another CA":         {reason: "clients trust the CA of now", ca: mustCA(t), r: r, at: now},
	} {
		t.Run(name, func(t *testing.T) {
			if got := IsCurrent(pair, tc.ca, tc.r, tc.at); got != tc.want {
				t.Errorf("got %v: %s", got, tc.reason)
			}
		})
	}
}

func TestPairPrintsNoKey(t *testing.T) {
	if text := fmt.Sprintf("%v %+v %#v", mustCA(t), mustCA(t), mustCA(t)); strings.Contains(text, "45, 45") || strings.Contains(text, "PRIVATE") {
		t.Errorf("a printed pair shows its key: %s", text)
	}
}
