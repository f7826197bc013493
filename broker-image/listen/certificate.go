// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Trust is what client certificates are checked against. It never changes and is safe for concurrent use.
type Trust struct {
	pool *x509.CertPool
	// anchors are the authorities, by their DER form, each with the authority that has signed it; nil if none has.
	anchors map[string]*x509.Certificate
	// lists are what is revoked, by who has said so.
	lists map[issuer]*revoked
	guest []byte
}

// maxAbove bounds how far one goes up from an authority, as two may have signed each other.
const maxAbove = 8

// issuer is an authority. Two of one name are told apart by their keys, so that a list of one says nothing about what
// the other has signed; an authority that was certified anew, with the key that it had, is the same.
type issuer struct{ name, key string }

// revoked is what all lists of one issuer say together.
type revoked struct {
	serials map[string]bool
	name    string
	// next is when the first of the lists should have been followed by another; zero if none says so.
	next time.Time
}

// NewTrust makes a Trust of CA certificates, at least one, and revocation lists (RFC 5280, section 5). A list that none
// of the authorities has signed is an error.
//
// A list whose next update is over goes on to count, and what it does not name goes on to be good: see the package's
// comment.
func NewTrust(authorities []*x509.Certificate, lists []*x509.RevocationList) (*Trust, error) {
	if len(authorities) == 0 {
		return nil, errors.New("no authority to trust")
	}

	t := &Trust{pool: x509.NewCertPool(), anchors: map[string]*x509.Certificate{}, lists: map[issuer]*revoked{}}

	for _, a := range authorities {
		t.pool.AddCert(a)
		t.anchors[string(a.Raw)] = nil

		for _, above := range authorities {
			if !bytes.Equal(a.Raw, above.Raw) && bytes.Equal(a.RawIssuer, above.RawSubject) && a.CheckSignatureFrom(above) == nil {
				t.anchors[string(a.Raw)] = above
			}
		}
	}

	for _, list := range lists {
		if err := t.add(list, authorities); err != nil {
			return nil, err
		}
	}

	return t, nil
}

func (t *Trust) add(list *x509.RevocationList, authorities []*x509.Certificate) error {
	signer := slices.IndexFunc(authorities, func(a *x509.Certificate) bool {
		return bytes.Equal(a.RawSubject, list.RawIssuer) && list.CheckSignatureFrom(a) == nil
	})
	if signer < 0 {
		return fmt.Errorf("the revocation list of %q was signed by none of the authorities", list.Issuer)
	}

	who := issuerOf(authorities[signer])

	all := t.lists[who]
	if all == nil {
		all = &revoked{serials: map[string]bool{}, name: list.Issuer.String()}
		t.lists[who] = all
	}

	for i := range list.RevokedCertificateEntries {
		all.serials[string(list.RevokedCertificateEntries[i].SerialNumber.Bytes())] = true
	}

	if !list.NextUpdate.IsZero() && (all.next.IsZero() || list.NextUpdate.Before(all.next)) {
		all.next = list.NextUpdate
	}

	return nil
}

func issuerOf(c *x509.Certificate) issuer {
	return issuer{string(c.RawSubject), string(c.RawSubjectPublicKeyInfo)}
}

// Stale names the authorities whose revocation lists should have been followed by others before now, in one line; empty
// if there are none.
func (t *Trust) Stale(now time.Time) string {
	var names []string

	for _, list := range t.lists {
		if !list.next.IsZero() && now.After(list.next) {
			names = append(names, list.name)
		}
	}

	slices.Sort(names)

	return strings.Join(names, "; ")
}

// Guest has one more certificate let in that no authority has signed: that of a client in this very process. The
// connection then has no [Conn.Peer]. It must be called before [Trust.Demand].
func (t *Trust) Guest(certificate *x509.Certificate) {
	t.guest = certificate.Raw
	t.pool.AddCert(certificate)
}

// Demand has a listener ask for client certificates. With required nobody comes in without one; a client that shows one
// has to show a good one in any case.
//
// Sessions of TLS are not resumed from then on: a ticket would let in who was let in before, without a look at what has
// been revoked since.
func (t *Trust) Demand(config *tls.Config, required bool) {
	config.ClientCAs = t.pool
	config.SessionTicketsDisabled = true
	config.ClientAuth = tls.VerifyClientCertIfGiven

	if required {
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}

	config.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.VerifiedChains) == 0 || t.isGuest(s.PeerCertificates[0]) {
			return nil
		}

		if err := fit(s.PeerCertificates[0]); err != nil {
			return err
		}

		return t.unrevoked(s.VerifiedChains)
	}
}

func (t *Trust) isGuest(c *x509.Certificate) bool {
	return t.guest != nil && bytes.Equal(t.guest, c.Raw)
}

// CertificateError says why a client certificate is not taken.
type CertificateError struct {
	Reason Reason // BadCertificate or RevokedCertificate
	text   string
}

// Error says it.
func (e *CertificateError) Error() string { return e.text }

const notForClients = "the client's certificate is not for clients: its extended key usage has to hold clientAuth"

// fit tells whether a certificate was made for clients. Package x509 lets one without any extended key usage pass for
// everything; here it does not, since an authority may sign servers of many kinds as well.
func fit(leaf *x509.Certificate) error {
	switch {
	case leaf.IsCA:
		return &CertificateError{BadCertificate, "the client shows the certificate of an authority; give it one of its own"}
	case !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth):
		return &CertificateError{BadCertificate, notForClients}
	}

	return nil
}

// unrevoked asks whether one chain at least has nothing in it that was revoked.
func (t *Trust) unrevoked(chains [][]*x509.Certificate) error {
	var first error

	for _, chain := range chains {
		err := t.unrevokedChain(chain)
		if err == nil {
			return nil
		}

		if first == nil {
			first = err
		}
	}

	return first
}

func (t *Trust) unrevokedChain(chain []*x509.Certificate) error {
	if len(t.lists) == 0 {
		return nil
	}

	for i := range chain {
		c, above := chain[i], t.anchors[string(chain[i].Raw)]
		if i+1 < len(chain) {
			above = chain[i+1]
		}

		// Above an authority that is trusted for itself there may be others. Nobody above a root could have revoked it.
		for range maxAbove {
			if above == nil {
				break
			}

			if list := t.lists[issuerOf(above)]; list != nil && list.serials[string(c.SerialNumber.Bytes())] {
				return &CertificateError{RevokedCertificate, fmt.Sprintf("certificate %x of %q is revoked", c.SerialNumber, list.name)}
			}

			if i+1 < len(chain) {
				break
			}

			c, above = above, t.anchors[string(above.Raw)]
		}
	}

	return nil
}

// Peer is a client that has shown a certificate which was believed. It never changes.
type Peer struct {
	shown  []*x509.Certificate
	chains [][]*x509.Certificate
}

// Leaf is the client's certificate.
func (p *Peer) Leaf() *x509.Certificate { return p.shown[0] }

// Until is when the first certificate expires of those that vouch for the client, or that of another chain if that lasts
// longer.
func (p *Peer) Until() (until time.Time) {
	for _, chain := range p.chains {
		first := chain[0].NotAfter
		for _, c := range chain[1:] {
			if c.NotAfter.Before(first) {
				first = c.NotAfter
			}
		}

		if first.After(until) {
			until = first
		}
	}

	return until
}

// Believes tells whether the client would be let in today, as far as authorities and revocation lists go. Whether
// certificates have expired is not asked; see [Peer.Until]. An error is a *CertificateError.
func (t *Trust) Believes(p *Peer, now time.Time) error {
	held := make([][]*x509.Certificate, 0, len(p.chains))

	for _, chain := range p.chains {
		if _, trusted := t.anchors[string(chain[len(chain)-1].Raw)]; trusted {
			held = append(held, chain)
		}
	}

	if len(held) > 0 {
		return t.unrevoked(held)
	}

	// What vouched for it is not trusted any more, but maybe something else does.
	between := x509.NewCertPool()
	for _, c := range p.shown[1:] {
		between.AddCert(c)
	}

	chains, err := p.shown[0].Verify(x509.VerifyOptions{
		Roots: t.pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return &CertificateError{BadCertificate, "the authority of the client's certificate is not trusted any more"}
	}

	return t.unrevoked(chains)
}

// peer is what a finished handshake says about the client; nil if it has shown nothing.
func (t *Trust) peer(s *tls.ConnectionState) *Peer {
	if t == nil || len(s.VerifiedChains) == 0 || t.isGuest(s.PeerCertificates[0]) {
		return nil
	}

	return &Peer{shown: s.PeerCertificates, chains: s.VerifiedChains}
}

// handshakeReason tells why TLS did not come about.
func handshakeReason(err error) Reason {
	if refused, ok := errors.AsType[*CertificateError](err); ok {
		return refused.Reason
	}

	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return BadCertificate
	}

	// Package tls has no type for this one.
	if strings.Contains(err.Error(), "client didn't provide a certificate") {
		return BadCertificate
	}

	return BadTLSHandshake
}

// certificateError gives the words for a handshake that failed for the client's certificate, else nil.
func certificateError(reason Reason, err error) *CertificateError {
	if reason != BadCertificate && reason != RevokedCertificate {
		return nil
	}

	if refused, ok := errors.AsType[*CertificateError](err); ok {
		return refused
	}

	failed, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if !ok {
		return &CertificateError{reason, "the client shows no certificate, and the listener asks for one"}
	}

	text := "the client's certificate is not valid: " + failed.Err.Error()

	if invalid, ok := errors.AsType[x509.CertificateInvalidError](failed.Err); ok && invalid.Reason == x509.IncompatibleUsage {
		text = notForClients
	}

	return &CertificateError{reason, text}
}
