// SPDX-License-Identifier: Apache-2.0

// Package listentest makes authorities, certificates and revocation lists for tests. Only tests import it.
package listentest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

// Authority signs certificates. It is valid for two hours, one of which has passed.
type Authority struct {
	Certificate *x509.Certificate

	t     testing.TB
	key   *ecdsa.PrivateKey
	chain [][]byte // this one and those above it, without the root
}

// NewAuthority is a root.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()

	a := &Authority{t: t, key: newKey(t)}
	template := authority(name)
	a.Certificate = create(t, template, template, a.key, a.key)

	return a
}

// Under is an authority that a has signed.
func (a *Authority) Under(name string) *Authority {
	a.t.Helper()

	below := &Authority{t: a.t, key: newKey(a.t)}
	below.Certificate = create(a.t, authority(name), a.Certificate, below.key, a.key)
	below.chain = append([][]byte{below.Certificate.Raw}, a.chain...)

	return below
}

func authority(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// PEM is the authority's certificate.
func (a *Authority) PEM() string { return encode("CERTIFICATE", a.Certificate.Raw) }

// TLS is the authority's own certificate and key, as if they were a client's.
func (a *Authority) TLS() *tls.Certificate {
	return &tls.Certificate{Certificate: append([][]byte{a.Certificate.Raw}, a.chain...), PrivateKey: a.key, Leaf: a.Certificate}
}

// Client is a certificate for a client with this common name. It comes with those between it and the root.
func (a *Authority) Client(commonName string) *tls.Certificate {
	a.t.Helper()

	return a.Sign(&x509.Certificate{Subject: pkix.Name{CommonName: commonName}})
}

// Sign makes a certificate as the template says. What the template leaves out is as a client needs it: a serial number,
// two hours of which one has passed, and the extended key usage clientAuth, if none is given.
func (a *Authority) Sign(template *x509.Certificate) *tls.Certificate {
	a.t.Helper()

	if template.SerialNumber == nil {
		template.SerialNumber = serial()
	}

	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}

	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}

	if template.ExtKeyUsage == nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}

	key := newKey(a.t)
	leaf := create(a.t, template, a.Certificate, key, a.key)

	return &tls.Certificate{Certificate: append([][]byte{leaf.Raw}, a.chain...), PrivateKey: key, Leaf: leaf}
}

// List is a revocation list of the authority, PEM, which is to be followed by another at next.
func (a *Authority) List(next time.Time, revoked ...*x509.Certificate) string {
	a.t.Helper()

	return a.SignList(&x509.RevocationList{NextUpdate: next}, revoked...)
}

// SignList is a revocation list as the template says, PEM.
func (a *Authority) SignList(template *x509.RevocationList, revoked ...*x509.Certificate) string {
	a.t.Helper()

	template.Number, template.ThisUpdate = serial(), time.Now().Add(-2*time.Hour)
	for _, c := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: c.SerialNumber, RevocationTime: time.Now(),
		})
	}

	der, err := x509.CreateRevocationList(rand.Reader, template, a.Certificate, a.key)
	if err != nil {
		a.t.Fatal(err)
	}

	return encode("X509 CRL", der)
}

func create(t testing.TB, template, above *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()

	der, err := x509.CreateCertificate(rand.Reader, template, above, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}

	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}

	return c
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}

	return key
}

func serial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails

	return new(big.Int).SetBytes(b)
}

func encode(typ string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}))
}
