// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestIssue(t *testing.T) {
	now := time.Now()
	authority, err := NewAuthority("ca", now)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := NewAuthority("ca", now)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		reason string
		leaf   Leaf
		roots  *Authority
		usage  x509.ExtKeyUsage
		name   string
		valid  bool
	}{
		"a client": {
			reason: "a leaf without names is a user",
			leaf:   Leaf{CommonName: "admin", Groups: []string{"system:masters"}},
			roots:  authority, usage: x509.ExtKeyUsageClientAuth, valid: true,
		},
		"a client that serves": {
			reason: "a user's certificate must not pass for a server",
			leaf:   Leaf{CommonName: "admin"},
			roots:  authority, usage: x509.ExtKeyUsageServerAuth, valid: false,
		},
		"a server by name": {
			reason: "the API server is called by its Service's name",
			leaf:   Leaf{CommonName: "server", Names: []string{"kubernetes.default"}},
			roots:  authority, usage: x509.ExtKeyUsageServerAuth, name: "kubernetes.default", valid: true,
		},
		"a server by address": {
			reason: "the API server calls kubelets by address",
			leaf:   Leaf{CommonName: "server", Addresses: []net.IP{net.IPv4(10, 0, 0, 1)}},
			roots:  authority, usage: x509.ExtKeyUsageServerAuth, name: "10.0.0.1", valid: true,
		},
		"a server under another name": {
			reason: "only listed names count",
			leaf:   Leaf{CommonName: "other", Names: []string{"kubernetes.default"}},
			roots:  authority, usage: x509.ExtKeyUsageServerAuth, name: "other", valid: false,
		},
		"another authority of the same name": {
			reason: "a leaf of an earlier cluster must not be believed",
			leaf:   Leaf{CommonName: "admin"},
			roots:  stranger, usage: x509.ExtKeyUsageClientAuth, valid: false,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			pair, err := authority.Issue(tc.leaf, now)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tls.X509KeyPair(pair.Cert, pair.Key); err != nil {
				t.Fatalf("key and certificate do not belong together: %v", err)
			}
			block, _ := pem.Decode(pair.Cert)
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if cert.Subject.CommonName != tc.leaf.CommonName || len(cert.Subject.Organization) != len(tc.leaf.Groups) {
				t.Errorf("subject %s", cert.Subject)
			}
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(tc.roots.Cert)
			_, err = cert.Verify(x509.VerifyOptions{
				Roots: roots, KeyUsages: []x509.ExtKeyUsage{tc.usage}, DNSName: tc.name, CurrentTime: now,
			})
			if (err == nil) != tc.valid {
				t.Errorf("verify: %v, want valid %t: %s", err, tc.valid, tc.reason)
			}
		})
	}
}

func TestWriteHidesKeys(t *testing.T) {
	pair, err := NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := pair.Write(dir, "tokens"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "tokens.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v, want mode 0600", info.Mode(), err)
	}
	content, _ := os.ReadFile(filepath.Join(dir, "tokens.crt"))
	if block, _ := pem.Decode(content); block == nil || block.Type != "PUBLIC KEY" {
		t.Errorf("public half is not a public key: %s", content)
	}
}
