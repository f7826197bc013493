// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

func TestAClientsCertificateCarriesItsNameAndNothingElse(t *testing.T) {
	ca := mustCA(t)
	for name, tc := range map[string]struct {
		reason   string
		username string
		dns      []string
	}{
		"a plain name":         {reason: "both usernameFrom cn and san must find it", username: "gateway", dns: []string{"gateway"}},
		"with dots and case":   {reason: "names are compared byte by byte", username: "Sensor_7.plant", dns: []string{"Sensor_7.plant"}},
		"no DNS name":          {reason: "a name that would be changed must not be found as another one", username: "Größe @ plant.7 $"},
		"an empty label":       {reason: "some read it as another name", username: "a..b"},
		"a hyphen at the edge": {reason: "some refuse the whole certificate", username: "-a"},
		"a long one":           {reason: "a label of DNS has at most 63 characters", username: strings.Repeat("a", 128)},
	} {
		t.Run(name, func(t *testing.T) {
			pair, err := IssueClient(ca, tc.username, time.Hour, now)
			if err != nil {
				t.Fatal(err)
			}
			leaf, good := IsClientOf(pair, ca, tc.username, now)
			if !good || leaf.Subject.CommonName != tc.username || strings.Join(leaf.DNSNames, " ") != strings.Join(tc.dns, " ") {
				t.Errorf("cn %q, dns %q: %s", leaf.Subject.CommonName, leaf.DNSNames, tc.reason)
			}
			if len(leaf.URIs)+len(leaf.EmailAddresses)+len(leaf.IPAddresses) > 0 || leaf.IsCA {
				t.Error("it says more than the name")
			}
			if len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth || len(leaf.UnknownExtKeyUsage) > 0 {
				t.Error("it may be used for more than logging in")
			}
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(ca.Certificate)
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
				t.Error(err)
			}
			if sum := sha256.Sum256(leaf.Raw); Pin(pair) != hex.EncodeToString(sum[:]) {
				t.Error("the pin is not the sum of the certificate")
			}
			if !leaf.NotAfter.Equal(now.Add(time.Hour)) {
				t.Errorf("it ends %s", leaf.NotAfter)
			}
		})
	}
}

func TestWhoseCertificateItIs(t *testing.T) {
	ca := mustCA(t)
	pair, err := IssueClient(ca, "alice", time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		reason   string
		ca       Pair
		username string
		at       time.Time
		want     bool
	}{
		"hers":              {reason: "nothing may be issued again", ca: ca, username: "alice", at: now, want: true},
		"another name":      {reason: "a Secret may be left over", ca: ca, username: "bob", at: now},
		"another CA":        {reason: "after a CA is replaced its certificates are, too", ca: mustCA(t), username: "alice", at: now},
		"no CA":             {reason: "nothing vouches for it", username: "alice", at: now},
		"over":              {reason: "no listener takes it", ca: ca, username: "alice", at: now.Add(2 * time.Hour)},
		"not her time, yet": {reason: "no listener takes it", ca: ca, username: "alice", at: now.Add(-time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			if _, got := IsClientOf(pair, tc.ca, tc.username, tc.at); got != tc.want {
				t.Errorf("got %v: %s", got, tc.reason)
			}
		})
	}
	if Pin(Pair{}) != "" || Pin(Pair{Certificate: pair.Key}) != "" {
		t.Error("what is no certificate has no pin")
	}
}

func TestAClientsCertificateNeverOutlivesItsCA(t *testing.T) {
	ca := mustCA(t)
	pair, err := IssueClient(ca, "alice", 2*CAValidity, now)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := Check(pair, now)
	root, _ := Check(ca, now)
	if leaf.NotAfter.After(root.NotAfter) {
		t.Error("it would be refused before it ends")
	}
	if _, err := IssueClient(pair, "mallory", time.Hour, now); err == nil {
		t.Error("a client's certificate signed another one")
	}
}
