// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"time"
)

const (
	// CAValidity is how long a CA made here is valid.
	CAValidity = 10 * 365 * 24 * time.Hour
	// LeafValidity is how long a certificate issued here is valid.
	LeafValidity = 90 * 24 * time.Hour
	// clockSkew lets peers whose clock is behind accept a fresh certificate.
	clockSkew = 5 * time.Minute
	// serialBits is what RFC 5280 section 4.1.2.2 leaves room for, and enough never to meet twice.
	serialBits = 120
)

// Faults of a key pair that somebody else made. Messages of errors that wrap them name no content.
var (
	ErrNoCertificate = errors.New("holds no PEM certificate")
	ErrNoKey         = errors.New("holds no PEM private key")
	ErrMismatch      = errors.New("the private key does not belong to the certificate")
	ErrExpired       = errors.New("the certificate has expired")
	ErrNotYetValid   = errors.New("the certificate is not valid yet")
)

// Pair is a certificate (chain) with its key, PEM.
type Pair struct{ Certificate, Key []byte }

// String hides the key.
func (Pair) String() string { return "pki.Pair{hidden}" }

// GoString hides the key from %#v.
func (p Pair) GoString() string { return p.String() }

// Request says what a certificate is for.
type Request struct {
	CommonName string
	// DNSNames and IPs become subject alternative names, in this order.
	DNSNames []string
	IPs      []net.IP
	// Client and Server set the extended key usages.
	Client, Server bool
}

// NewCA makes a self-signed CA that may sign leaves only.
func NewCA(commonName string, now time.Time) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("ca %s: %w", commonName, err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: commonName},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(CAValidity),
		IsCA:                  true,
		MaxPathLenZero:        true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	return sign(template, template, key, key)
}

// Issue makes a certificate for r, signed by ca.
func Issue(ca Pair, r Request, now time.Time) (Pair, error) {
	parent, err := tls.X509KeyPair(ca.Certificate, ca.Key)
	if err != nil {
		return Pair{}, fmt.Errorf("certificate %s: the CA: %w", r.CommonName, err)
	}
	signer, ok := parent.PrivateKey.(crypto.Signer)
	if !ok || !parent.Leaf.IsCA {
		return Pair{}, fmt.Errorf("certificate %s: the CA cannot sign", r.CommonName)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("certificate %s: %w", r.CommonName, err)
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: r.CommonName},
		NotBefore: now.Add(-clockSkew),
		NotAfter:  minTime(now.Add(LeafValidity), parent.Leaf.NotAfter),
		DNSNames:  r.DNSNames, IPAddresses: r.IPs,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
	if r.Server {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if r.Client {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	return sign(template, parent.Leaf, key, signer)
}

func sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey, signer crypto.Signer) (Pair, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		return Pair{}, fmt.Errorf("certificate %s: %w", template.Subject.CommonName, err)
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return Pair{}, fmt.Errorf("certificate %s: %w", template.Subject.CommonName, err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, fmt.Errorf("certificate %s: %w", template.Subject.CommonName, err)
	}
	return Pair{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}, nil
}

// Check reads a pair and returns its leaf, or an error that wraps one of the faults above.
func Check(p Pair, now time.Time) (*x509.Certificate, error) {
	pair, err := tls.X509KeyPair(p.Certificate, p.Key)
	if err != nil {
		return nil, fault(p)
	}
	switch {
	case now.After(pair.Leaf.NotAfter):
		return pair.Leaf, fmt.Errorf("%w on %s", ErrExpired, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(pair.Leaf.NotBefore):
		return pair.Leaf, fmt.Errorf("%w until %s", ErrNotYetValid, pair.Leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return pair.Leaf, nil
}

// fault finds out which half of a bad pair is at fault.
func fault(p Pair) error {
	block, _ := pem.Decode(p.Certificate)
	if block == nil || block.Type != "CERTIFICATE" {
		return ErrNoCertificate
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return ErrNoCertificate
	}
	if block, _ = pem.Decode(p.Key); block == nil || !strings.HasSuffix(block.Type, "PRIVATE KEY") {
		return ErrNoKey
	}
	return ErrMismatch
}

// IsCurrent reports whether p, issued here for r by ca, can go on serving: right names, right signer, and less than
// two thirds of its life gone.
func IsCurrent(p, ca Pair, r Request, now time.Time) bool {
	leaf, err := Check(p, now)
	if err != nil || !now.Before(RenewAt(leaf)) || !slices.Equal(leaf.DNSNames, r.DNSNames) {
		return false
	}
	if !slices.EqualFunc(leaf.IPAddresses, r.IPs, net.IP.Equal) || leaf.Subject.CommonName != r.CommonName {
		return false
	}
	block, _ := pem.Decode(ca.Certificate)
	if block == nil {
		return false
	}
	issuer, err := x509.ParseCertificate(block.Bytes)
	return err == nil && leaf.CheckSignatureFrom(issuer) == nil
}

// RenewAt is when two thirds of the life of a certificate are gone.
func RenewAt(leaf *x509.Certificate) time.Time {
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 3 * 2)
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
