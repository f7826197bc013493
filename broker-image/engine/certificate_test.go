// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/acl"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/listen/listentest"
)

// byCertificate is a user that logs in by any certificate of its name.
func byCertificate(name string, rules ...acl.Rule) contract.User {
	return contract.User{Username: name, Certificate: &contract.CertificateLogin{}, ACL: rules}
}

func pin(c *tls.Certificate) string {
	sum := sha256.Sum256(c.Certificate[0])

	return hex.EncodeToString(sum[:])
}

// mutual is a configuration whose only door asks for certificates.
func mutual(t testing.TB, clientAuth string, trust contract.Trust, users ...contract.User) *contract.Config {
	t.Helper()

	config := baseConfig(users...)
	config.Pairs = map[string]contract.KeyPair{"server": keyPair(t, 1)}
	config.Trust = map[string]contract.Trust{"clients": trust}
	config.Listeners = []contract.Listener{{
		Name: "tls", Protocol: contract.TLS, Address: "127.0.0.1:0",
		TLS: &contract.ListenerTLS{Pair: "server", MinVersion: "1.2", ClientAuth: clientAuth, Trust: "clients"},
	}}

	return config
}

// show connects with a certificate, or without one, and says CONNECT. An error is that of TLS.
func (h *house) show(c *tls.Certificate, l login) (*peer, packet, error) {
	h.t.Helper()

	return h.showWith(&tls.Config{}, c, l)
}

func (h *house) showWith(config *tls.Config, c *tls.Certificate, l login) (*peer, packet, error) {
	h.t.Helper()

	if l.version == 0 {
		l.version = 5
	}

	config.InsecureSkipVerify = true
	if c != nil {
		// Whatever the server says that it likes.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c, nil }
	}

	conn := tls.Client(h.dial("tls"), config)
	if err := conn.Handshake(); err != nil {
		return nil, packet{}, err
	}

	p := newPeer(h.t, conn, l.version)
	if _, err := p.Write(l.packet().encode()); err != nil {
		return nil, packet{}, err
	}

	ack, err := p.receive() // in TLS 1.3 only now the client hears what became of its certificate
	if err == nil && ack.kind != tConnack {
		h.t.Fatalf("got packet type %d, want CONNACK", ack.kind)
	}

	return p, ack, err
}

// shown is show where it has to go well.
func (h *house) shown(c *tls.Certificate, l login) *peer {
	h.t.Helper()

	p, ack, err := h.show(c, l)
	if err != nil || ack.body[1] != 0 {
		h.t.Fatalf("%+v: %v, CONNACK % x", l, err, ack.body)
	}

	return p
}

func (h *house) line(metric string) string {
	h.t.Helper()

	for line := range strings.Lines(scrape(h)) {
		if strings.HasPrefix(line, metric+" ") {
			return strings.TrimSpace(line)
		}
	}

	return "no " + metric
}

const noTLS = 0xFF // what comes instead of a CONNACK where TLS itself says no

func TestCertificateLogin(t *testing.T) {
	ca, other := listentest.NewAuthority(t, "ca"), listentest.NewAuthority(t, "other")
	twin := listentest.NewAuthority(t, "ca") // the same name, another key
	between := ca.Under("between")
	far := between.Under("far")
	anna, gone, unsigned := ca.Client("anna"), ca.Client("anna"), twin.Client("anna")
	pinned, reissued := ca.Client("pinned"), ca.Client("pinned")
	inOne := far.Client("anna")

	sibling := twin.Sign(&x509.Certificate{SerialNumber: anna.Leaf.SerialNumber, Subject: pkix.Name{CommonName: "anna"}})

	with := func(template x509.Certificate) *tls.Certificate {
		if template.Subject.CommonName == "" && template.Subject.ExtraNames == nil {
			template.Subject.CommonName = "anna"
		}

		return ca.Sign(&template)
	}
	named := func(name string) *tls.Certificate {
		return ca.Sign(&x509.Certificate{Subject: pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: commonName, Value: name}}}})
	}
	uri, _ := url.Parse("urn:anna")

	authorities := func(all ...*listentest.Authority) (trust contract.Trust) {
		for _, a := range all {
			trust.Authorities += a.PEM()
		}

		return trust
	}
	required := contract.ClientAuthRequired
	optional := contract.ClientAuthOptional
	later := time.Now().Add(time.Hour)

	users := func() []contract.User {
		both := person(t, "both", allow("#"))
		both.Certificate = &contract.CertificateLogin{}
		suspended := byCertificate("suspended")
		suspended.Suspended = true

		return []contract.User{
			byCertificate("anna", allow("#")), person(t, "otto", allow("#")), both, suspended,
			{Username: "pinned", Certificate: &contract.CertificateLogin{Pins: []string{strings.ToUpper(pin(pinned))}}},
		}
	}

	cases := map[string]struct {
		reason string
		show   *tls.Certificate
		auth   string
		trust  contract.Trust
		from   string
		change func(c *contract.Config)
		login  login
		v5, v3 byte
		log    string // what the log says
		count  string // the metric that counts it
	}{
		"a certificate of the authority": {show: anna, auth: required, trust: authorities(ca)},
		"none, where one is demanded": {
			auth: required, trust: authorities(ca), login: login{user: "otto", password: "otto"}, v5: noTLS, v3: noTLS,
			log: "the client shows no certificate", count: `connections_refused_total{listener="tls",reason="client_certificate"}`,
		},
		"none, where one is asked for, and a password": {
			reason: "optional means that a password will do",
			auth:   optional, trust: authorities(ca), login: login{user: "otto", password: "otto"},
		},
		"none, and nothing else": {
			auth: optional, trust: authorities(ca), v5: 0x86, v3: 5, log: "no credentials", count: `auth_failures_total{reason="no_credentials"}`,
		},
		"another authority's": {
			show: other.Client("anna"), auth: required, trust: authorities(ca), v5: noTLS, v3: noTLS,
			log: "unknown authority", count: `connections_refused_total{listener="tls",reason="client_certificate"}`,
		},
		"another authority's, where one is only asked for": {
			reason: "who shows one has to show a good one: a client that believes to be somebody must learn that it is not",
			show:   other.Client("anna"), auth: optional, trust: authorities(ca), login: login{user: "otto", password: "otto"},
			v5: noTLS, v3: noTLS, log: "unknown authority",
		},
		"an authority of the same name": {
			show: unsigned, auth: required, trust: authorities(ca), v5: noTLS, v3: noTLS, log: "unknown authority",
		},
		"expired": {
			show: with(x509.Certificate{NotAfter: time.Now().Add(-time.Minute)}), auth: required, trust: authorities(ca),
			v5: noTLS, v3: noTLS, log: "is after", count: `connections_refused_total{listener="tls",reason="client_certificate"}`,
		},
		"not valid yet": {
			show: with(x509.Certificate{NotBefore: time.Now().Add(time.Minute)}), auth: required, trust: authorities(ca),
			v5: noTLS, v3: noTLS, log: "is before",
		},
		"for servers": {
			show: with(x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}), auth: required, trust: authorities(ca),
			v5: noTLS, v3: noTLS, log: "its extended key usage has to hold clientAuth",
		},
		"for nothing in particular": {
			reason: "package x509 would let it pass",
			show:   with(x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{}}), auth: required, trust: authorities(ca),
			v5: noTLS, v3: noTLS, log: "its extended key usage has to hold clientAuth",
		},
		"the authority's own": {
			show: ca.TLS(), auth: required, trust: authorities(ca), v5: noTLS, v3: noTLS, log: "the certificate of an authority",
		},
		"an authority's between": {
			show: between.TLS(), auth: required, trust: authorities(ca), v5: noTLS, v3: noTLS, log: "the certificate of an authority",
		},
		"revoked": {
			show: gone, auth: required, v5: noTLS, v3: noTLS, log: "is revoked",
			trust: contract.Trust{Authorities: ca.PEM(), RevocationLists: ca.List(later, gone.Leaf)},
			count: `connections_refused_total{listener="tls",reason="certificate_revoked"}`,
		},
		"revoked, where one is only asked for": {
			show: gone, auth: optional, login: login{user: "otto", password: "otto"}, v5: noTLS, v3: noTLS, log: "is revoked",
			trust: contract.Trust{Authorities: ca.PEM(), RevocationLists: ca.List(later, gone.Leaf)},
		},
		"not the one that is revoked": {
			show: anna, auth: required, trust: contract.Trust{Authorities: ca.PEM(), RevocationLists: ca.List(later, gone.Leaf)},
		},
		"the serial number that another authority of that name has revoked": {
			reason: "a list is of a key, not of a name: two authorities may have one name while one replaces the other",
			show:   anna, auth: required,
			trust: contract.Trust{Authorities: ca.PEM() + twin.PEM(), RevocationLists: twin.List(later, sibling.Leaf)},
		},
		"revoked by the second list of two": {
			show: gone, auth: required, v5: noTLS, v3: noTLS, log: "is revoked",
			trust: contract.Trust{Authorities: ca.PEM(), RevocationLists: ca.List(later) + ca.List(later, gone.Leaf)},
		},
		"revoked by a list that is old": {
			reason: "what it says stays true",
			show:   gone, auth: required, v5: noTLS, v3: noTLS, log: "is revoked",
			trust: contract.Trust{Authorities: ca.PEM(), RevocationLists: ca.List(time.Now().Add(-time.Hour), gone.Leaf)},
		},
		"a list that is old": {
			reason: "a list that nobody renewed must not lock out a fleet",
			show:   anna, auth: required, log: "should have been followed by another",
			trust: contract.Trust{Authorities: ca.PEM(), RevocationLists: ca.List(time.Now().Add(-time.Hour), gone.Leaf)},
		},
		"by two authorities between": {show: inOne, auth: required, trust: authorities(ca)},
		"by two between, of which one is not shown": {
			show: &tls.Certificate{Certificate: inOne.Certificate[:2], PrivateKey: inOne.PrivateKey}, auth: required, trust: authorities(ca),
			v5: noTLS, v3: noTLS, log: "unknown authority",
		},
		"by an authority that is trusted for itself": {
			show: &tls.Certificate{Certificate: inOne.Certificate[:1], PrivateKey: inOne.PrivateKey}, auth: required, trust: authorities(far),
		},
		"by an authority between that is revoked": {
			show: inOne, auth: required, v5: noTLS, v3: noTLS, log: "is revoked",
			trust: contract.Trust{Authorities: ca.PEM(), RevocationLists: ca.List(later, between.Certificate)},
		},
		"by an authority that is trusted for itself, and revoked by who stands above it": {
			show: &tls.Certificate{Certificate: inOne.Certificate[:1], PrivateKey: inOne.PrivateKey}, auth: required, v5: noTLS, v3: noTLS, log: "is revoked",
			trust: contract.Trust{Authorities: ca.PEM() + between.PEM() + far.PEM(), RevocationLists: between.List(later, far.Certificate)},
		},
		"by an authority that is trusted for itself, and one further up is revoked": {
			show: &tls.Certificate{Certificate: inOne.Certificate[:1], PrivateKey: inOne.PrivateKey}, auth: required, v5: noTLS, v3: noTLS, log: "is revoked",
			trust: contract.Trust{Authorities: ca.PEM() + between.PEM() + far.PEM(), RevocationLists: ca.List(later, between.Certificate)},
		},
		"revoked by an authority between": {
			show: inOne, auth: required, v5: noTLS, v3: noTLS, log: "is revoked",
			trust: contract.Trust{Authorities: ca.PEM() + far.PEM(), RevocationLists: far.List(later, inOne.Leaf)},
		},

		"an empty common name":     {show: named(""), auth: required, trust: authorities(ca), v5: 0x87, v3: 5, log: "common name is empty", count: `auth_failures_total{reason="bad_certificate"}`},
		"a control character":      {show: named("an\nna"), auth: required, trust: authorities(ca), v5: 0x87, v3: 5, log: "control character U+000A"},
		"a zero byte":              {reason: "who reads to the zero reads another name", show: named("anna\x00x"), auth: required, trust: authorities(ca), v5: 0x87, v3: 5, log: "control character U+0000"},
		"a wildcard for a name":    {show: named("#"), auth: required, trust: authorities(ca), v5: 0x87, v3: 5, log: "which has a meaning in topics"},
		"more than one level":      {show: named("a/b"), auth: required, trust: authorities(ca), v5: 0x87, v3: 5, log: "which has a meaning in topics"},
		"129 bytes":                {show: named(strings.Repeat("x", 129)), auth: required, trust: authorities(ca), v5: 0x87, v3: 5, log: "has 129 bytes"},
		"a name of the broker's":   {show: named("$x"), auth: required, trust: authorities(ca), v5: 0x87, v3: 5, log: "begins with $"},
		"two common names":         {reason: "who has one of them signed may put in another", show: ca.Sign(&x509.Certificate{Subject: pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: commonName, Value: "anna"}, {Type: commonName, Value: "otto"}}}}), auth: required, trust: authorities(ca), v5: 0x87, v3: 5, log: "has 2 common names"},
		"a name that nobody has":   {show: ca.Client("nobody"), auth: required, trust: authorities(ca), v5: 0x87, v3: 5, log: "there is no user", count: `auth_failures_total{reason="bad_certificate"}`},
		"a name in another case":   {show: ca.Client("Anna"), auth: required, trust: authorities(ca), v5: 0x87, v3: 5, log: "there is no user"},
		"the name of the probe":    {show: ca.Client("$probe"), auth: required, trust: authorities(ca), v5: 0x87, v3: 5, log: "begins with $"},
		"a user with a password":   {reason: "a user logs in only in the ways that are said", show: ca.Client("otto"), auth: required, trust: authorities(ca), v5: 0x87, v3: 5, log: "may not log in with a certificate"},
		"a user that is suspended": {show: ca.Client("suspended"), auth: required, trust: authorities(ca), v5: 0x87, v3: 5, log: "the user is suspended", count: `auth_failures_total{reason="suspended"}`},
		"the one that is pinned":   {show: pinned, auth: required, trust: authorities(ca)},
		"another than the pinned":  {show: reissued, auth: required, trust: authorities(ca), v5: 0x87, v3: 5, log: "none of those that are the user's"},

		"a DNS name": {
			show: with(x509.Certificate{Subject: pkix.Name{CommonName: "x"}, DNSNames: []string{"anna", "otto"}, EmailAddresses: []string{"otto"}}),
			auth: required, from: contract.UsernameFromSAN, trust: authorities(ca),
		},
		"an e-mail address": {
			show: with(x509.Certificate{EmailAddresses: []string{"anna@example.com"}, URIs: []*url.URL{uri}}),
			auth: required, from: contract.UsernameFromSAN, trust: authorities(ca),
			change: func(c *contract.Config) { c.Users[0].Username = "anna@example.com" },
		},
		"a URI": {
			show: with(x509.Certificate{URIs: []*url.URL{uri}}), auth: required, from: contract.UsernameFromSAN, trust: authorities(ca),
			change: func(c *contract.Config) { c.Users[0].Username = "urn:anna" },
		},
		"no alternative name": {
			reason: "the common name must not stand in for it", show: anna, auth: required, from: contract.UsernameFromSAN, trust: authorities(ca),
			v5: 0x87, v3: 5, log: "no subject alternative name",
		},

		"the username beside it":            {show: anna, auth: required, trust: authorities(ca), login: login{user: "anna"}},
		"another username beside it":        {show: anna, auth: required, trust: authorities(ca), login: login{user: "otto"}, v5: 0x87, v3: 5, log: "of another user than the CONNECT says"},
		"another username, only asked for":  {show: anna, auth: optional, trust: authorities(ca), login: login{user: "otto"}, v5: 0x87, v3: 5, log: "of another user than the CONNECT says"},
		"a password beside it":              {reason: "where both are demanded, both have to be right", show: ca.Client("both"), auth: required, trust: authorities(ca), login: login{user: "both", password: "both"}},
		"a wrong password beside it":        {show: ca.Client("both"), auth: required, trust: authorities(ca), login: login{user: "both", password: "x"}, v5: 0x86, v3: 5, log: "wrong password"},
		"another's password beside it":      {show: anna, auth: required, trust: authorities(ca), login: login{user: "otto", password: "otto"}, v5: 0x87, v3: 5, log: "of another user"},
		"a password of one without":         {show: ca.Client("otto"), auth: required, trust: authorities(ca), login: login{user: "otto", password: "otto"}, v5: 0x87, v3: 5, log: "may not log in with a certificate"},
		"a password where it is asked for":  {reason: "then the password decides", show: anna, auth: optional, trust: authorities(ca), login: login{user: "otto", password: "otto"}},
		"a wrong one where it is asked for": {show: anna, auth: optional, trust: authorities(ca), login: login{user: "anna", password: "otto"}, v5: 0x86, v3: 5, log: "wrong password"},
		"only asked for, and nothing else":  {show: anna, auth: optional, trust: authorities(ca)},
		"a door for passwords and certificates, where certificates say nothing": {
			reason: "the certificate opens TLS, the password says who it is",
			show:   anna, auth: required, trust: authorities(ca), login: login{user: "otto", password: "otto"},
			change: func(c *contract.Config) { c.Listeners[0].Methods = []contract.Method{contract.MethodPassword} },
		},
		"a certificate at a door that takes passwords": {
			show: anna, auth: required, trust: authorities(ca), v5: 0x86, v3: 5, log: "no credentials",
			change: func(c *contract.Config) { c.Listeners[0].Methods = []contract.Method{contract.MethodPassword} },
		},
		"a password at a door that takes certificates": {
			reason: "nor does it say whether the password is right", auth: optional, trust: authorities(ca), login: login{user: "otto", password: "otto"},
			v5: 0x86, v3: 5, log: "the listener takes no passwords", count: `auth_failures_total{reason="wrong_listener"}`,
			change: func(c *contract.Config) { c.Listeners[0].Methods = []contract.Method{contract.MethodCertificate} },
		},
		"a certificate of nobody, where anybody may come": {
			reason: "who shows one means to be somebody", show: ca.Client("nobody"), auth: optional, trust: authorities(ca), v5: 0x87, v3: 5, log: "there is no user",
			change: func(c *contract.Config) { c.Listeners[0].Anonymous = &contract.Anonymous{} },
		},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			book := &logbook{}
			config := mutual(t, c.auth, c.trust, users()...)
			config.Listeners[0].TLS.UsernameFrom = c.from

			if c.change != nil {
				c.change(config)
			}

			if err := config.Validate(); err != nil {
				t.Fatal(err)
			}

			h := open(t, Options{Log: book.logger()}, config)

			for version, want := range map[byte]byte{5: c.v5, 4: c.v3} {
				for _, newest := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
					l := c.login
					l.version, l.id = version, fmt.Sprintf("c%d", version)

					p, ack, err := h.showWith(&tls.Config{MaxVersion: newest}, c.show, l)

					got := byte(noTLS)
					if err == nil {
						got = ack.body[1]
						_ = p.Close()
					}

					if got != want {
						t.Errorf("%s\nMQTT %d over TLS %x: got %#x (%v), want %#x\n%s", c.reason, version, newest, got, err, want, book)
					}
				}
			}

			eventually(t, "the log must say "+c.log+"\n"+book.String(), func() bool { return strings.Contains(book.String(), c.log) })

			// The client hears it before it is counted.
			eventually(t, "not counted: "+c.count, func() bool {
				return c.count == "" || strings.HasSuffix(h.line("mqtt_broker_"+c.count), " 4")
			})
		})
	}
}

// TestARevocationIsLive: what a change of the configuration means for a client that is connected by its certificate.
func TestARevocationIsLive(t *testing.T) {
	ca, next := listentest.NewAuthority(t, "ca"), listentest.NewAuthority(t, "next")
	between := ca.Under("between")
	later := time.Now().Add(time.Hour)

	cases := map[string]struct {
		reason string
		auth   string
		login  login
		by     *listentest.Authority
		change func(c *contract.Config, shown *tls.Certificate)
		v5     int // 0 if the client stays
	}{
		"the user is gone":      {v5: 0x87, change: func(c *contract.Config, _ *tls.Certificate) { c.Users = nil }},
		"the user is suspended": {v5: 0x98, change: func(c *contract.Config, _ *tls.Certificate) { c.Users[0].Suspended = true }},
		"the certificate login is taken away": {
			v5: 0x87, change: func(c *contract.Config, _ *tls.Certificate) { c.Users[0] = person(t, "anna", allow("#")) },
		},
		"it is pinned": {change: func(c *contract.Config, shown *tls.Certificate) {
			c.Users[0].Certificate = &contract.CertificateLogin{Pins: []string{pin(ca.Client("anna")), pin(shown)}}
		}},
		"another is pinned": {v5: 0x98, change: func(c *contract.Config, _ *tls.Certificate) {
			c.Users[0].Certificate = &contract.CertificateLogin{Pins: []string{pin(ca.Client("anna"))}}
		}},
		"it is revoked": {v5: 0x87, change: func(c *contract.Config, shown *tls.Certificate) {
			c.Trust["clients"] = contract.Trust{Authorities: ca.PEM(), RevocationLists: ca.List(later, shown.Leaf)}
		}},
		"another is revoked": {change: func(c *contract.Config, _ *tls.Certificate) {
			c.Trust["clients"] = contract.Trust{Authorities: ca.PEM(), RevocationLists: ca.List(later, ca.Client("anna").Leaf)}
		}},
		"the authority between is revoked": {v5: 0x87, by: between, change: func(c *contract.Config, _ *tls.Certificate) {
			c.Trust["clients"] = contract.Trust{Authorities: ca.PEM(), RevocationLists: ca.List(later, between.Certificate)}
		}},
		"another authority is trusted as well": {reason: "the first step of a rotation", change: func(c *contract.Config, _ *tls.Certificate) {
			c.Trust["clients"] = contract.Trust{Authorities: ca.PEM() + next.PEM()}
		}},
		"the authority is dropped": {reason: "the last step of one", v5: 0x87, change: func(c *contract.Config, _ *tls.Certificate) {
			c.Trust["clients"] = contract.Trust{Authorities: next.PEM()}
		}},
		"the root is dropped, and the one between is trusted for itself": {by: between, change: func(c *contract.Config, _ *tls.Certificate) {
			c.Trust["clients"] = contract.Trust{Authorities: between.PEM()}
		}},
		"the listener takes no certificates": {v5: 0x98, change: func(c *contract.Config, _ *tls.Certificate) {
			c.Listeners[0].Methods = []contract.Method{contract.MethodPassword}
		}},
		"the listener asks for none": {v5: 0x98, change: func(c *contract.Config, _ *tls.Certificate) {
			c.Listeners[0].TLS = &contract.ListenerTLS{Pair: "server", MinVersion: "1.2"}
		}},
		"the listener only asks for one": {change: func(c *contract.Config, _ *tls.Certificate) {
			tls := *c.Listeners[0].TLS
			tls.ClientAuth = contract.ClientAuthOptional
			c.Listeners[0].TLS = &tls
		}},
		"the listener takes the username from elsewhere": {v5: 0x98, change: func(c *contract.Config, _ *tls.Certificate) {
			tls := *c.Listeners[0].TLS
			tls.UsernameFrom = contract.UsernameFromSAN
			c.Listeners[0].TLS = &tls
		}},
		"client ids are narrowed": {v5: 0x98, change: func(c *contract.Config, _ *tls.Certificate) {
			c.Users[0].ClientIDs = &contract.ClientIDs{Prefix: "other-"}
		}},
		"client ids are narrowed to it": {change: func(c *contract.Config, _ *tls.Certificate) {
			c.Users[0].ClientIDs = &contract.ClientIDs{Exact: []string{"c4", "c5"}}
		}},
		"rules are narrowed": {change: func(c *contract.Config, _ *tls.Certificate) { c.Users[0].ACL = nil }},
		"another pair":       {change: func(c *contract.Config, _ *tls.Certificate) { c.Pairs["server"] = keyPair(t, 2) }},
		"who came with a password must show a certificate": {
			auth: contract.ClientAuthOptional, login: login{user: "otto", password: "otto"}, v5: 0x98,
			change: func(c *contract.Config, _ *tls.Certificate) {
				tls := *c.Listeners[0].TLS
				tls.ClientAuth = contract.ClientAuthRequired
				c.Listeners[0].TLS = &tls
			},
		},
		"passwords are taken no more": {
			auth: contract.ClientAuthOptional, login: login{user: "otto", password: "otto"}, v5: 0x98,
			change: func(c *contract.Config, _ *tls.Certificate) {
				c.Listeners[0].Methods = []contract.Method{contract.MethodCertificate}
			},
		},
		"the certificate of who came with a password is revoked": {
			reason: "where both are demanded, the connection is tied to both", login: login{user: "both", password: "both"}, v5: 0x87,
			change: func(c *contract.Config, shown *tls.Certificate) {
				c.Trust["clients"] = contract.Trust{Authorities: ca.PEM(), RevocationLists: ca.List(later, shown.Leaf)}
			},
		},
		"the password of who came with a certificate as well is changed": {
			login: login{user: "both", password: "both"}, v5: 0x98,
			change: func(c *contract.Config, _ *tls.Certificate) {
				for i := range c.Users {
					if c.Users[i].Username == "both" {
						c.Users[i].Verifiers = person(t, "x").Verifiers
					}
				}
			},
		},
	}

	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			both := person(t, "both", allow("#"))
			both.Certificate = &contract.CertificateLogin{}

			by, auth, user := c.by, c.auth, c.login.user
			if by == nil {
				by = ca
			}

			if auth == "" {
				auth = contract.ClientAuthRequired
			}

			if user == "" {
				user = "anna"
			}

			shown := by.Client(user)
			h := open(t, Options{}, mutual(t, auth, contract.Trust{Authorities: ca.PEM()}, byCertificate("anna", allow("#")), person(t, "otto", allow("#")), both))

			clients := map[byte]*peer{}

			for _, version := range []byte{4, 5} {
				l := c.login
				l.version, l.id = version, fmt.Sprintf("c%d", version)
				clients[version] = h.shown(shown, l)
			}

			h.mustApply(func(config *contract.Config) {
				config.Trust = map[string]contract.Trust{"clients": config.Trust["clients"]}
				c.change(config, shown)

				if err := config.Validate(); err != nil {
					t.Fatal(err)
				}
			})

			for version, p := range clients {
				switch {
				case c.v5 == 0:
					p.nothing(c.reason)
				case version == 5:
					if got := p.expectClosed(); got != c.v5 {
						t.Errorf("%s: DISCONNECT %#x, want %#x", c.reason, got, c.v5)
					}
				default:
					p.expectClosed()
				}
			}
		})
	}
}

func TestACertificateExpiresUnderItsConnection(t *testing.T) {
	ca := listentest.NewAuthority(t, "ca")
	h := open(t, Options{}, mutual(t, contract.ClientAuthRequired, contract.Trust{Authorities: ca.PEM()}, byCertificate("anna", allow("#"))))

	// Times in certificates are whole seconds: it has one to two left.
	end := time.Now().Add(2 * time.Second)
	short := ca.Sign(&x509.Certificate{Subject: pkix.Name{CommonName: "anna"}, NotAfter: end})
	long := h.shown(ca.Client("anna"), login{id: "long"})
	v5, v3 := h.shown(short, login{id: "v5", keepAlive: 60}), h.shown(short, login{id: "v3", version: 4})

	if got := v5.expectClosed(); got != 0x87 {
		t.Errorf("DISCONNECT %#x, want 0x87", got)
	}

	v3.expectClosed()

	if now := time.Now(); now.Before(end.Truncate(time.Second)) {
		t.Errorf("it ended %v too early", end.Truncate(time.Second).Sub(now))
	}

	long.nothing("another certificate of the user has not expired")
}

// TestNoTicketOutlivesARevocation: a client that was let in once is looked at anew, however TLS came about.
func TestNoTicketOutlivesARevocation(t *testing.T) {
	ca := listentest.NewAuthority(t, "ca")
	anna := ca.Client("anna")

	for _, newest := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(newest), func(t *testing.T) {
			h := open(t, Options{}, mutual(t, contract.ClientAuthRequired, contract.Trust{Authorities: ca.PEM()}, byCertificate("anna", allow("#"))))
			client := &tls.Config{MaxVersion: newest, ClientSessionCache: tls.NewLRUClientSessionCache(8), ServerName: "localhost"}

			for range 2 {
				p, ack, err := h.showWith(client, anna, login{id: "c"})
				if err != nil || ack.body[1] != 0 {
					t.Fatalf("%v, CONNACK % x", err, ack.body)
				}

				p.alive()

				if conn, ok := p.Conn.(*tls.Conn); !ok || conn.ConnectionState().DidResume {
					t.Error("a session was resumed")
				}

				_ = p.Close()
			}

			h.mustApply(func(c *contract.Config) {
				c.Trust = map[string]contract.Trust{"clients": {Authorities: ca.PEM(), RevocationLists: ca.List(time.Now().Add(time.Hour), anna.Leaf)}}
			})

			if _, ack, err := h.showWith(client, anna, login{id: "c"}); err == nil {
				t.Errorf("CONNACK % x, want no TLS", ack.body)
			}
		})
	}
}

// TestAUserCreatedAnew: the certificate of one that was deleted does not open for another of its name.
func TestAUserCreatedAnew(t *testing.T) {
	ca := listentest.NewAuthority(t, "ca")
	first, second := ca.Client("anna"), ca.Client("anna")
	pinnedTo := func(c *tls.Certificate) contract.User {
		u := byCertificate("anna", allow("#"))
		u.Certificate.Pins = []string{pin(c)}

		return u
	}

	h := open(t, Options{}, mutual(t, contract.ClientAuthRequired, contract.Trust{Authorities: ca.PEM()}, pinnedTo(first)))
	old := h.shown(first, login{id: "c"})

	h.mustApply(func(c *contract.Config) { c.Users = nil })

	if got := old.expectClosed(); got != 0x87 {
		t.Errorf("DISCONNECT %#x, want 0x87", got)
	}

	h.mustApply(func(c *contract.Config) { c.Users = []contract.User{pinnedTo(second)} })

	if _, ack, err := h.show(first, login{id: "c"}); err != nil || ack.body[1] != 0x87 {
		t.Errorf("%v, CONNACK % x, want 0x87", err, ack.body)
	}

	h.shown(second, login{id: "c"})
}

// TestReloadsDisturbNobody: pairs, authorities and lists change under a hundred connections, and new ones see each change.
func TestReloadsDisturbNobody(t *testing.T) {
	const clients = 100

	ca, next := listentest.NewAuthority(t, "ca"), listentest.NewAuthority(t, "next")
	anna, newcomer := ca.Client("anna"), next.Client("anna")
	h := open(t, Options{}, mutual(t, contract.ClientAuthRequired, contract.Trust{Authorities: ca.PEM()}, byCertificate("anna", allow("#"))))

	all := make([]*peer, 0, clients)
	for i := range clients {
		all = append(all, h.shown(anna, login{id: fmt.Sprint("c", i)}))
	}

	trust := func(lists string, authorities ...*listentest.Authority) {
		h.mustApply(func(c *contract.Config) {
			t := contract.Trust{RevocationLists: lists}
			for _, a := range authorities {
				t.Authorities += a.PEM()
			}

			c.Trust = map[string]contract.Trust{"clients": t}
		})
	}
	later := time.Now().Add(time.Hour)

	h.mustApply(func(c *contract.Config) { c.Pairs["server"] = keyPair(t, 2) })

	fresh := h.shown(anna, login{id: "fresh"})
	if conn, ok := fresh.Conn.(*tls.Conn); !ok || conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64() != 2 {
		t.Error("a new pair is for new connections")
	}

	if _, _, err := h.show(newcomer, login{id: "n"}); err == nil {
		t.Error("an authority that is not trusted yet")
	}

	trust("", ca, next)
	h.shown(newcomer, login{id: "n"})

	trust(ca.List(later, ca.Client("anna").Leaf), ca, next)
	trust(ca.List(later)+next.List(later, newcomer.Leaf), ca, next)

	if _, _, err := h.show(newcomer, login{id: "n"}); err == nil {
		t.Error("a list that has come must be heeded")
	}

	for _, p := range all {
		p.nothing("what has changed is no concern of this client's")
	}

	if n := h.Status().Connections; n != clients+1 {
		t.Errorf("%d connections, want %d", n, clients+1)
	}

	trust("", next)

	for _, p := range all {
		if got := p.expectClosed(); got != 0x87 {
			t.Fatalf("its authority was dropped: DISCONNECT %#x, want 0x87", got)
		}
	}
}

// TestTheCommonNameInRules: %cn is the certificate's, in every question, and outlives the process with the session.
func TestTheCommonNameInRules(t *testing.T) {
	ca := listentest.NewAuthority(t, "ca")
	cert := ca.Sign(&x509.Certificate{Subject: pkix.Name{CommonName: "press-7"}, DNSNames: []string{"anna"}})
	config := mutual(t, contract.ClientAuthOptional, contract.Trust{Authorities: ca.PEM()}, byCertificate("anna", allow("lab/%cn/#")), person(t, "otto", allow("lab/%cn/#"), only(acl.Publish, "#")))
	config.Listeners[0].TLS.UsernameFrom = contract.UsernameFromSAN

	dir := t.TempDir()
	h := open(t, Options{DataDir: dir}, config)
	forever := u32prop(pExpiry, 3600)
	anna := h.shown(cert, login{id: "c", resume: true, props: forever, willTopic: "lab/press-7/will", willText: "farewell", willQoS: 1})

	for topic, want := range map[string]byte{"lab/press-7/x": 0, "lab/anna/x": 0x87, "lab/%cn/x": 0x87} {
		if got := anna.published(topic, "", false); got != want {
			t.Errorf("publish %s: %#x, want %#x", topic, got, want)
		}
	}

	if got := anna.subscribe(1, "lab/press-7/#", "lab/+/#"); !slices.Equal(got, []byte{1, 0x87}) {
		t.Errorf("SUBACK % x", got)
	}

	// A configuration that changes nothing for it, while it is here and while it is away.
	h.mustApply(func(*contract.Config) {})
	_ = anna.Close()
	eventually(t, "it is away", func() bool { return h.Status().Connections == 0 })
	h.mustApply(func(c *contract.Config) { c.Users[0].ACL = append(c.Users[0].ACL, deny("x")) })

	otto := h.shown(cert, login{id: "o", user: "otto", password: "otto"})
	if got := otto.subscribe(0, "lab/press-7/x"); !slices.Equal(got, []byte{0x87}) {
		t.Errorf("the password decides who it is, so the certificate's name is nobody's: SUBACK % x", got)
	}

	otto.published("lab/press-7/x", "kept", false)
	otto.bye()
	h.close()

	h = open(t, Options{DataDir: dir}, h.config)
	h.mustApply(func(c *contract.Config) { c.Users[0].ACL = append(c.Users[0].ACL, deny("y")) })

	otto = h.shown(cert, login{id: "o", user: "otto", password: "otto"})
	otto.published("lab/press-7/x", "after the restart", false)
	otto.bye()

	back := h.shown(cert, login{id: "c", resume: true, props: forever})

	got := map[string]bool{}
	for range 3 {
		got[back.message().payload] = true
	}

	if !got["farewell"] || !got["kept"] || !got["after the restart"] {
		t.Errorf("got %v, want its own will and what was kept for it, before and after the restart", got)
	}
}

// TestTheProbeComesInWhereCertificatesAreDemanded: the broker would not be ready otherwise.
func TestTheProbeComesInWhereCertificatesAreDemanded(t *testing.T) {
	ca := listentest.NewAuthority(t, "ca")
	h := open(t, Options{}, mutual(t, contract.ClientAuthRequired, contract.Trust{Authorities: ca.PEM()}, person(t, "otto", allow("#"))))

	targets, err := h.Targets()
	if err != nil {
		t.Fatal(err)
	}

	guest := &targets[0].TLS.Certificates[0]
	c := h.ProbeCredential()
	h.shown(guest, login{user: c.Username, password: c.Password}).alive()

	for reason, l := range map[string]login{
		"the certificate alone says nothing":         {},
		"nor does it stand in for the one of a user": {user: "otto", password: "otto"},
	} {
		if _, ack, err := h.show(guest, l); err != nil || ack.body[1] == 0 {
			t.Errorf("%s: %v, CONNACK % x", reason, err, ack.body)
		}
	}
}

// TestTakeoverAcrossLogins: a session belongs to a user, however that proved itself.
func TestTakeoverAcrossLogins(t *testing.T) {
	ca := listentest.NewAuthority(t, "ca")
	both := person(t, "both", allow("#"))
	both.Certificate = &contract.CertificateLogin{}
	h := open(t, Options{}, mutual(t, contract.ClientAuthOptional, contract.Trust{Authorities: ca.PEM()}, byCertificate("anna", allow("#")), person(t, "otto", allow("#")), both))

	for version, want := range map[byte]byte{5: 0x85, 4: 2} {
		anna := h.shown(ca.Client("anna"), login{id: "a", version: version})
		otto := h.shown(nil, login{id: "o", user: "otto", password: "otto", version: version})

		if _, ack, err := h.show(nil, login{id: "a", user: "otto", password: "otto", version: version}); err != nil || ack.body[1] != want {
			t.Errorf("a password takes a session of a certificate's user: %v, CONNACK % x, want %#x", err, ack.body, want)
		}

		if _, ack, err := h.show(ca.Client("anna"), login{id: "o", version: version}); err != nil || ack.body[1] != want {
			t.Errorf("a certificate takes a session of a password's user: %v, CONNACK % x, want %#x", err, ack.body, want)
		}

		anna.nothing("nobody has taken its session")
		otto.nothing("nobody has taken its session")
		anna.bye()
		otto.bye()
	}

	first := h.shown(nil, login{id: "b", user: "both", password: "both"})
	h.shown(ca.Client("both"), login{id: "b"})

	if got := first.expectClosed(); got != 0x8E {
		t.Errorf("one user with two ways to log in: DISCONNECT %#x, want 0x8E", got)
	}
}

// vouch is an authentication method that believes what it is told.
type vouch struct{}

func (vouch) Step(data []byte) (answer []byte, done bool, username string, err error) {
	return nil, true, string(data), nil
}

// TestWhatElseIsShownMustAgree: where certificates are demanded, no other method brings in another user.
func TestWhatElseIsShownMustAgree(t *testing.T) {
	ca := listentest.NewAuthority(t, "ca")
	options := Options{Methods: map[string]func() Exchange{"VOUCH": func() Exchange { return vouch{} }}}
	config := mutual(t, contract.ClientAuthRequired, contract.Trust{Authorities: ca.PEM()}, byCertificate("anna", allow("#")), byCertificate("otto", allow("#")))
	h := open(t, options, config)
	anna := ca.Client("anna")
	says := func(name string) login {
		return login{id: name, props: slices.Concat([]byte{pAuthMethod}, text("VOUCH"), []byte{0x16}, text(name))}
	}

	if _, ack, err := h.show(anna, says("otto")); err != nil || ack.body[1] != 0x87 {
		t.Errorf("a certificate of anna, and proof of being otto: %v, CONNACK % x, want 0x87", err, ack.body)
	}

	p := h.shown(anna, says("anna"))

	h.mustApply(func(c *contract.Config) {
		c.Trust = map[string]contract.Trust{"clients": {Authorities: ca.PEM(), RevocationLists: ca.List(time.Now().Add(time.Hour), anna.Leaf)}}
	})

	if got := p.expectClosed(); got != 0x87 {
		t.Errorf("tied to both, and the certificate is revoked: DISCONNECT %#x, want 0x87", got)
	}
}
