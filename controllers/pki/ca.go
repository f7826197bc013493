// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// Keys under which a Secret holds a CA. All of it is in one Secret, so that a write which fails leaves the stage of
// before, whole.
const (
	// CACertKey holds every certificate that is to be trusted, PEM, first the one of the CA that signs.
	CACertKey = "ca.crt"
	// CAKeyKey holds the key of the CA that signs.
	CAKeyKey = "ca.key"
	// NextCertKey and NextKeyKey hold the CA that will sign; only in the phase Introducing.
	NextCertKey = "next.crt"
	NextKeyKey  = "next.key"
	// OldCertKey holds the certificate of the CA that signed before; only in the phases Switching and Retiring.
	OldCertKey = "old.crt"
	// GenerationKey counts the CAs that have signed: what was issued under another number is to be issued again.
	GenerationKey = "generation"
	// PhaseKey holds the phase, SinceKey when it began (RFC 3339), RotateKey the last wish that was granted.
	PhaseKey  = "phase"
	SinceKey  = "since"
	RotateKey = "rotate"
)

// CA is a CA with its place in its life:
//
//	Stable ──(old, or wished)──> Introducing ──> Switching ──> Retiring ──> Stable
//	trusted: one                 old and new     old and new   the new one
//	signs:   the one             the old one     the new one   the new one
//
// A stage ends when everybody has what it brought, see [Seen]; so whoever checks a certificate has trusted its signer
// before the first one was shown.
type CA struct {
	// Signing is the CA that signs.
	Signing Pair
	// Next will sign; only in the phase Introducing.
	Next Pair
	// Old is the certificate of the one before, PEM; only in the phases Switching and Retiring. Its key is gone.
	Old []byte
	// Generation counts the CAs that have signed, from 1.
	Generation int64
	Phase      v1alpha1.CAPhase
	// Since is when the phase began.
	Since time.Time
	// Rotate is the last wish for a new CA that was granted.
	Rotate string
}

// NewStable is a CA that has no past.
func NewStable(p Pair, generation int64, now time.Time) CA {
	return CA{Signing: p, Generation: generation, Phase: v1alpha1.CAStable, Since: now.Truncate(time.Second)}
}

// String hides the keys.
func (c CA) String() string { return fmt.Sprintf("pki.CA{%d %s}", c.Generation, c.Phase) }

// GoString hides the keys from %#v.
func (c CA) GoString() string { return c.String() }

// ReadCA reads what [CA.Data] wrote. Data of an earlier release, or written by hand, holds a certificate and a key
// alone; that is a stable CA of the first generation. What cannot be read is left empty, for [CA.Step] to mend.
func ReadCA(data map[string][]byte) CA {
	c := CA{Phase: v1alpha1.CAPhase(data[PhaseKey]), Generation: 1, Rotate: string(data[RotateKey])}
	if n, err := strconv.ParseInt(string(data[GenerationKey]), 10, 64); err == nil && n > 0 {
		c.Generation = n
	}
	c.Since, _ = time.Parse(time.RFC3339, string(data[SinceKey]))
	switch c.Phase {
	case v1alpha1.CAIntroducing:
		c.Next = Pair{Certificate: data[NextCertKey], Key: data[NextKeyKey]}
	case v1alpha1.CASwitching, v1alpha1.CARetiring:
		c.Old = data[OldCertKey]
	default:
		c.Phase = v1alpha1.CAStable
	}
	c.Signing = Pair{Certificate: without(data[CACertKey], c.Next.Certificate, c.Old), Key: data[CAKeyKey]}
	return c
}

// Data is the CA as a Secret holds it.
func (c CA) Data() map[string][]byte {
	data := map[string][]byte{
		CACertKey: c.Trusted(), CAKeyKey: c.Signing.Key,
		GenerationKey: []byte(strconv.FormatInt(c.Generation, 10)), PhaseKey: []byte(c.Phase), SinceKey: []byte(c.Since.UTC().Format(time.RFC3339)),
	}
	if c.Rotate != "" {
		data[RotateKey] = []byte(c.Rotate)
	}
	if c.Phase == v1alpha1.CAIntroducing {
		data[NextCertKey], data[NextKeyKey] = c.Next.Certificate, c.Next.Key
	}
	if len(c.Old) > 0 {
		data[OldCertKey] = c.Old
	}
	return data
}

// Trusted are the certificates to be trusted now, PEM, first the one of the CA that signs.
func (c CA) Trusted() []byte {
	switch c.Phase {
	case v1alpha1.CAIntroducing:
		return join(c.Signing.Certificate, c.Next.Certificate)
	case v1alpha1.CASwitching:
		return join(c.Signing.Certificate, c.Old)
	default:
		return c.Signing.Certificate
	}
}

// IsTrustedIn reports whether trust, PEM, holds exactly those of the CA's certificates that are to be trusted now, and
// whatever else.
func (c CA) IsTrustedIn(trust []byte) bool {
	held := blocks(trust)
	for _, block := range blocks(c.Trusted()) {
		if !slices.ContainsFunc(held, func(b []byte) bool { return bytes.Equal(b, block) }) {
			return false
		}
	}
	return c.Phase != v1alpha1.CARetiring || !slices.ContainsFunc(blocks(c.Old), func(old []byte) bool {
		return slices.ContainsFunc(held, func(b []byte) bool { return bytes.Equal(b, old) })
	})
}

// Seen is what has been observed of the stage that a CA is in.
type Seen struct {
	// Answered says that everybody who serves or checks certificates runs what the stage brought: what it trusts and
	// what it signed.
	Answered bool
	// Reissued says that nothing which counts is signed by the old CA any more.
	Reissued bool
	// Grace is how long clients get to follow.
	Grace time.Duration
	// Wish, where it is not empty and not [CA.Rotate], asks for a new CA.
	Wish string
}

// Step is pure but for the key that it draws: the CA in the stage in which it should be now, at most one further. A CA
// that is missing or cannot sign is drawn anew in one step, because there is nothing left that anybody could trust.
func (c CA) Step(commonName string, seen Seen, now time.Time) (CA, error) {
	leaf, err := Check(c.Signing, now)
	if err != nil || !leaf.IsCA {
		return c.replaced(commonName, seen, now)
	}
	due := !now.Before(RenewAt(leaf)) || !now.Add(LeafValidity).Before(leaf.NotAfter)
	waited := !now.Before(c.Since.Add(seen.Grace))
	switch c.Phase {
	case v1alpha1.CAIntroducing:
		next, err := Check(c.Next, now)
		switch {
		case err != nil || !next.IsCA:
			return c.introduce(commonName, seen.Wish, now)
		case seen.Answered && waited:
			c.Old, c.Signing, c.Next = firstBlock(c.Signing.Certificate), c.Next, Pair{}
			c.Generation++
			return c.enter(v1alpha1.CASwitching, now), nil
		}
	case v1alpha1.CASwitching:
		if seen.Answered && seen.Reissued && waited {
			return c.enter(v1alpha1.CARetiring, now), nil
		}
	case v1alpha1.CARetiring:
		if seen.Answered {
			c.Old = nil
			return c.enter(v1alpha1.CAStable, now), nil
		}
	default:
		if wished := seen.Wish != "" && seen.Wish != c.Rotate; due || wished {
			return c.introduce(commonName, seen.Wish, now)
		}
	}
	return c, nil
}

func (c CA) enter(phase v1alpha1.CAPhase, now time.Time) CA {
	c.Phase, c.Since = phase, now.Truncate(time.Second)
	return c
}

func (c CA) introduce(commonName, wish string, now time.Time) (CA, error) {
	next, err := NewCA(generationName(commonName, c.Generation+1), now)
	if err != nil {
		return c, err
	}
	c.Next = next
	if wish != "" {
		c.Rotate = wish
	}
	return c.enter(v1alpha1.CAIntroducing, now), nil
}

// replaced is the step for a CA that cannot sign. If the next one is there already, it is the next one's turn.
func (c CA) replaced(commonName string, seen Seen, now time.Time) (CA, error) {
	if len(c.Signing.Certificate) > 0 || len(c.Signing.Key) > 0 {
		c.Generation++
	}
	c.Generation = max(c.Generation, 1)
	pair := c.Next
	if next, err := Check(pair, now); err != nil || !next.IsCA {
		if pair, err = NewCA(generationName(commonName, c.Generation), now); err != nil {
			return c, err
		}
	}
	replaced := NewStable(pair, c.Generation, now)
	replaced.Rotate = c.Rotate
	if seen.Wish != "" {
		replaced.Rotate = seen.Wish
	}
	return replaced, nil
}

// generationName keeps the subjects of a broker's CAs apart: there are clients that look for a certificate's issuer by
// its name alone.
func generationName(commonName string, generation int64) string {
	if generation <= 1 {
		return commonName
	}
	return commonName + " " + strconv.FormatInt(generation, 10)
}

// IsIssuedBy reports whether the first certificate of leaf, PEM, was signed by one of those in ca, PEM.
func IsIssuedBy(leaf, ca []byte) bool {
	certificate, err := Leaf(leaf)
	if err != nil {
		return false
	}
	for _, block := range blocks(ca) {
		if issuer, err := x509.ParseCertificate(block); err == nil && certificate.CheckSignatureFrom(issuer) == nil {
			return true
		}
	}
	return false
}

// IsOver reports whether the time of the first certificate of leaf, PEM, is over.
func IsOver(leaf []byte, now time.Time) bool {
	certificate, err := Leaf(leaf)
	return err != nil || now.After(certificate.NotAfter)
}

// Leaf reads the first certificate of a PEM text.
func Leaf(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, ErrNoCertificate
	}
	return x509.ParseCertificate(block.Bytes)
}

// blocks are the certificates of a PEM text.
func blocks(text []byte) [][]byte {
	var found [][]byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		found = append(found, block.Bytes)
	}
	return found
}

func firstBlock(text []byte) []byte {
	if block, _ := pem.Decode(text); block != nil {
		return pem.EncodeToMemory(block)
	}
	return nil
}

// without is text less the certificates of others. A text that holds none of them is left as it is, byte by byte.
func without(text []byte, others ...[]byte) []byte {
	var drop [][]byte
	for _, other := range others {
		drop = append(drop, blocks(other)...)
	}
	all := blocks(text)
	kept := slices.DeleteFunc(slices.Clone(all), func(b []byte) bool {
		return slices.ContainsFunc(drop, func(d []byte) bool { return bytes.Equal(b, d) })
	})
	if len(kept) == len(all) {
		return text
	}
	var result bytes.Buffer
	for _, block := range kept {
		_ = pem.Encode(&result, &pem.Block{Type: "CERTIFICATE", Bytes: block})
	}
	return result.Bytes()
}

// join puts PEM texts behind each other.
func join(texts ...[]byte) []byte {
	var result bytes.Buffer
	for _, text := range texts {
		if text = bytes.TrimSpace(text); len(text) > 0 {
			result.Write(text)
			result.WriteByte('\n')
		}
	}
	return result.Bytes()
}
