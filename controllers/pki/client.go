// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// IssueClient makes a client certificate for username, signed by the first certificate of ca, valid for validity or as
// long as the CA. The name is the common name of the subject (usernameFrom: cn) and, where it can be one, the only DNS
// name (usernameFrom: san; see [FitsSAN]). The one use of its key is to authenticate clients (RFC 5280, section 4.2.1.12).
func IssueClient(ca Pair, username string, validity time.Duration, now time.Time) (Pair, error) {
	parent, err := tls.X509KeyPair(ca.Certificate, ca.Key)
	if err != nil {
		return Pair{}, fmt.Errorf("client certificate: the CA: %w", err)
	}
	signer, ok := parent.PrivateKey.(crypto.Signer)
	if !ok || !parent.Leaf.IsCA {
		return Pair{}, errors.New("client certificate: the CA cannot sign")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("client certificate: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: username},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              minTime(now.Add(validity), parent.Leaf.NotAfter),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	if FitsSAN(username) {
		template.DNSNames = []string{username}
	}
	return sign(template, parent.Leaf, key, signer)
}

// FitsSAN reports whether a username can stand in a certificate as a DNS name: labels of letters, digits, '-' and '_'
// between dots. Others have no place there in which they would be found again byte by byte.
func FitsSAN(username string) bool {
	for label := range strings.SplitSeq(username, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "-") != label || strings.ContainsFunc(label, isForeign) {
			return false
		}
	}
	return true
}

func isForeign(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// IsClientOf reports whether p is a client certificate for username that ca has signed and that holds at now. It gives
// the leaf as far as it can be read.
func IsClientOf(p, ca Pair, username string, now time.Time) (*x509.Certificate, bool) {
	leaf, err := Check(p, now)
	if err != nil || leaf.Subject.CommonName != username {
		return leaf, false
	}
	block, _ := pem.Decode(ca.Certificate)
	if block == nil {
		return leaf, false
	}
	issuer, err := x509.ParseCertificate(block.Bytes)
	return leaf, err == nil && leaf.CheckSignatureFrom(issuer) == nil
}

// Pin is the SHA-256 sum of the first certificate in p, in hexadecimal, or nothing where there is none.
func Pin(p Pair) string {
	block, _ := pem.Decode(p.Certificate)
	if block == nil || block.Type != "CERTIFICATE" {
		return ""
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:])
}
