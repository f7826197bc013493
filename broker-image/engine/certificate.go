// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/listen"
	"github.com/mqtt-operator/mqtt-operator/broker-image/metrics"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// demands tells whether nobody comes in by the door without a client certificate.
func (d *door) demands() bool {
	return d != nil && d.TLS != nil && d.TLS.ClientAuth == contract.ClientAuthRequired
}

// names tells whether a client certificate says who a client of this door is.
func (d *door) names() bool {
	return d != nil && d.TLS != nil && d.TLS.ClientAuth != "" && d.Takes(contract.MethodCertificate)
}

// byCertificate looks whether it is a certificate that says who the client is, and decides if so. If the client shows
// something else beside it, that is looked at next:
//
//   - where the door only asks for certificates, what else is shown decides, and the certificate says nothing;
//   - where the door demands them, both have to be of one user; see agree.
func (c *conn) byCertificate(r *round, now *state) (decided bool) {
	d, peer, connect := now.door(c.door.Name), c.socket.Peer(), c.connect
	if peer == nil || !d.names() {
		return false
	}

	if stale := d.trust.Stale(r.now); stale != "" && !d.staleNoted.Swap(true) {
		c.e.log.Warn("a revocation list should have been followed by another; who was revoked since is let in", "listener", d.Name, "issuer", stale)
	}

	other := connect.AuthMethod != "" || connect.HasPassword
	if other && !d.demands() {
		return false
	}

	name, err := usernameOf(peer.Leaf(), d.TLS.UsernameFrom)

	switch {
	case err != nil:
		c.badCertificate(r, err.Error())

		return true
	case connect.Username != "" && connect.Username != name:
		c.badCertificate(r, "the certificate is of another user than the CONNECT says")

		return true
	case other:
		return false
	case now.users[name] == nil:
		c.badCertificate(r, fmt.Sprintf("there is no user %q, whom the certificate names", name))

		return true
	}

	c.who = certified(name, peer)
	c.admit(r)

	return true
}

// certified is who a certificate names.
func certified(username string, peer *listen.Peer) *identity {
	who := &identity{username: username}
	who.hold(peer)
	who.named = true

	return who
}

// hold ties an identity to a certificate: it ends with it.
func (i *identity) hold(peer *listen.Peer) {
	i.peer = peer

	if until := peer.Until().UnixMilli(); i.until == 0 || until < i.until {
		i.until = until
	}

	if name, err := usernameOf(peer.Leaf(), contract.UsernameFromCN); err == nil {
		i.commonName = name
	}
}

// agree sees to it that who comes in by a door that demands a certificate has one, and that it is of the user that else
// was shown. It completes the identity.
func (c *conn) agree(now *state, who *identity) (why string) {
	d := now.door(c.door.Name)
	if !d.demands() || who.probe || who.peer != nil {
		return ""
	}

	peer := c.socket.Peer()
	if peer == nil {
		return "the listener asks for a client certificate"
	}

	who.hold(peer)

	if !d.names() {
		return "" // the certificate opens the door, and something else says who it is
	}

	name, err := usernameOf(peer.Leaf(), d.TLS.UsernameFrom)

	switch {
	case err != nil:
		return err.Error()
	case name != who.username:
		return "the certificate is of another user than what else the client shows"
	}

	who.named = true

	return ""
}

func (c *conn) badCertificate(r *round, why string) {
	r.count.AuthFail(metrics.BadCertificate)
	c.turnAway(r, &refusal{wire.NotAuthorized, why, metrics.Unauthenticated})
}

var commonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// usernameOf takes the username out of a certificate. Its error quotes what it found, as whoever signed it may be asked
// to mend it.
func usernameOf(leaf *x509.Certificate, from string) (string, error) {
	name, what := leaf.Subject.CommonName, "common name"

	if from == contract.UsernameFromSAN {
		what = "first subject alternative name"

		switch {
		case len(leaf.DNSNames) > 0:
			name = leaf.DNSNames[0]
		case len(leaf.EmailAddresses) > 0:
			name = leaf.EmailAddresses[0]
		case len(leaf.URIs) > 0:
			name = leaf.URIs[0].String()
		default:
			return "", errors.New("the certificate has no subject alternative name among DNS names, e-mail addresses and URIs")
		}
	} else if n := countNames(leaf); n > 1 {
		return "", fmt.Errorf("the certificate has %d common names; it must have one", n)
	}

	if problem := contract.UsernameProblem(name); problem != "" {
		return "", fmt.Errorf("the certificate's %s %s", what, problem)
	}

	return name, nil
}

func countNames(leaf *x509.Certificate) (n int) {
	for _, part := range leaf.Subject.Names {
		if part.Type.Equal(commonName) {
			n++
		}
	}

	return n
}

// judgePeer tells whether the certificate that a connection was let in with, or its lack of one, still does.
func (d *door) judgePeer(who *identity) (verdict, string) {
	switch {
	case who.peer == nil && d.demands():
		return administrative, "the listener asks for a client certificate"
	case who.peer == nil:
		return stays, ""
	case d.trust == nil && who.named:
		return administrative, "the listener asks for client certificates no more"
	case d.trust == nil:
		return stays, ""
	}

	if err := d.trust.Believes(who.peer, time.Now()); err != nil {
		return unauthorized, err.Error()
	}

	return stays, ""
}

// judgeCertificate tells whether a user may be who a certificate says.
func (u *user) judgeCertificate(d *door, who *identity) (verdict, string) {
	switch {
	case !who.named && !d.demands(), !who.named && !d.names():
		return stays, ""
	case !who.named:
		return administrative, "the listener asks for a certificate of the user"
	case !d.Takes(contract.MethodCertificate):
		return administrative, "the listener takes no certificates for a proof"
	case u == nil:
		return unauthorized, "the user is gone"
	case u.source.Certificate == nil:
		return unauthorized, "the user may not log in with a certificate"
	}

	if name, err := usernameOf(who.peer.Leaf(), d.TLS.UsernameFrom); err != nil || name != who.username {
		return administrative, "the certificate does not name the user, as the listener reads it now"
	}

	if pins := u.source.Certificate.Pins; len(pins) > 0 && !pinnedTo(pins, who.peer.Leaf()) {
		return administrative, "the certificate is none of those that are the user's"
	}

	return stays, ""
}

// pinnedTo tells whether a certificate is one of those whose SHA-256 sums are given in hexadecimal.
func pinnedTo(pins []string, leaf *x509.Certificate) bool {
	sum := sha256.Sum256(leaf.Raw)
	have := hex.EncodeToString(sum[:])

	return slices.ContainsFunc(pins, func(pin string) bool { return strings.EqualFold(pin, have) })
}

// newGuest is a certificate for the process's own probe, so that it comes in where certificates are demanded. Its key
// is never written anywhere.
func newGuest() *tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // it needs nothing but random bytes, which never fail
	}

	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "$probe"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // whatever the clock says
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}

	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}

	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}

	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// refusedByCertificate says in the log why a client did not come as far as CONNECT.
func (e *Engine) refusedByCertificate(c *listen.Conn, why *listen.CertificateError) {
	e.refusedConnects.Add(1)
	e.audit.line("client refused", "listener", c.Settings.Name, "remote", c.RemoteAddr().String(), "reason", why.Error())
}
