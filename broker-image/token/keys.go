// SPDX-License-Identifier: Apache-2.0

package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// What is wrong with a key set.
var (
	ErrSetTooLong = fmt.Errorf("the key set is longer than %d bytes", contract.MaxJWKSBytes)
	ErrSetForm    = errors.New(`this is no JSON Web Key Set: it must be an object {"keys": [...]} (RFC 7517, section 5)`)
	ErrSetEmpty   = errors.New("the key set holds no key that can check a token: give public RSA keys of 2048 to 8192 bits, or keys on P-256, P-384, P-521 or Ed25519, for signatures")
)

const (
	minRSABits = 2048
	maxRSABits = 8192
	// maxTries bounds how many keys are tried for a token that names none.
	maxTries = 16
)

// Print tells keys apart: the SHA-256 sum of a public key (RFC 7638).
type Print [sha256.Size]byte

// Set are the public keys of one issuer. It never changes and is safe for concurrent use. A nil Set is empty.
type Set struct{ keys []key }

// key is one public key that checks signatures.
type key struct {
	id        string
	algorithm string // the only one that it is for; empty: whatever fits its type
	public    crypto.PublicKey
	sum       Print
}

// ParseKeys reads a JSON Web Key Set of at most [contract.MaxJWKSBytes] bytes. What is no public key for signatures, or
// is of a kind or size that is not taken, is passed over as RFC 7517 (section 5) wants it; private and symmetric keys
// are, too. When nothing is left the error is [ErrSetEmpty].
func ParseKeys(text []byte) (*Set, error) {
	if len(text) > contract.MaxJWKSBytes {
		return nil, ErrSetTooLong
	}

	whole, err := parseObject(text)
	if err != nil {
		return nil, ErrSetForm
	}

	var each []json.RawMessage
	if json.Unmarshal(whole["keys"], &each) != nil || each == nil {
		return nil, ErrSetForm
	}

	s := &Set{}

	for _, raw := range each {
		if k, ok := parseKey(raw); ok {
			s.keys = append(s.keys, k)
		}
	}

	if len(s.keys) == 0 {
		return nil, ErrSetEmpty
	}

	return s, nil
}

func parseKey(raw []byte) (k key, ok bool) {
	var o object
	if json.Unmarshal(raw, &o) != nil || o == nil {
		return key{}, false
	}

	if !forSignatures(o) {
		return key{}, false
	}

	// Only what makes up the public key: certificates beside it are not asked, so they need not be in order.
	public := object{}

	for _, name := range []string{"kty", "crv", "x", "y", "n", "e"} {
		if v, there := o[name]; there {
			public[name] = v
		}
	}

	text, err := json.Marshal(public)
	if err != nil {
		return key{}, false
	}

	var parsed jose.JSONWebKey
	if parsed.UnmarshalJSON(text) != nil || !parsed.Valid() || !strong(parsed.Key) {
		return key{}, false
	}

	sum, err := parsed.Thumbprint(crypto.SHA256)
	if err != nil {
		return key{}, false
	}

	k.id, _ = o.text("kid")
	k.algorithm, _ = o.text("alg")
	k.public, k.sum = parsed.Key, Print(sum)

	return k, true
}

// forSignatures tells whether a key says that it is public, and for nothing else than checking signatures.
func forSignatures(o object) bool {
	for _, private := range []string{"d", "k", "p", "q", "dp", "dq", "qi", "oth", "priv"} {
		if _, there := o[private]; there {
			return false
		}
	}

	for _, name := range []string{"use", "kid", "alg"} {
		if _, there := o[name]; there {
			if v, ok := o.text(name); !ok || name == "use" && v != "sig" {
				return false
			}
		}
	}

	operations, there := o["key_ops"]
	if !there {
		return true
	}

	var list []string

	return json.Unmarshal(operations, &list) == nil && slices.Contains(list, "verify")
}

func strong(public any) bool {
	switch p := public.(type) {
	case *rsa.PublicKey:
		bits := p.N.BitLen()

		return bits >= minRSABits && bits <= maxRSABits && p.E > 1 && p.E&1 == 1 && p.E < 1<<31
	case *ecdsa.PublicKey:
		return true // the library knows no other curves than the three, and checks that the point is on one
	case ed25519.PublicKey:
		return len(p) == ed25519.PublicKeySize
	}

	return false
}

// fits tells whether the algorithm is one for this key: a token must not choose how its issuer's key is used.
func (k *key) fits(a jose.SignatureAlgorithm) bool {
	if k.algorithm != "" && k.algorithm != string(a) {
		return false
	}

	switch p := k.public.(type) {
	case *rsa.PublicKey:
		return a[0] == 'R' || a[0] == 'P'
	case *ecdsa.PublicKey:
		return a == jose.ES256 && p.Curve == elliptic.P256() || a == jose.ES384 && p.Curve == elliptic.P384() ||
			a == jose.ES512 && p.Curve == elliptic.P521()
	case ed25519.PublicKey:
		return a == jose.EdDSA
	}

	return false
}

// Len is the number of keys.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}

	return len(s.keys)
}

// Holds tells whether a key is in the set.
func (s *Set) Holds(p Print) bool {
	return s != nil && slices.ContainsFunc(s.keys, func(k key) bool { return k.sum == p })
}

// Knows tells whether the set has a key that the token may have been signed with.
func (s *Set) Knows(t *Token) bool { return len(s.candidates(t)) > 0 }

func (s *Set) candidates(t *Token) (found []*key) {
	if s == nil {
		return nil
	}

	for i := range s.keys {
		if k := &s.keys[i]; (t.keyID == "" || k.id == t.keyID) && k.fits(t.algorithm) && len(found) < maxTries {
			found = append(found, k)
		}
	}

	return found
}
