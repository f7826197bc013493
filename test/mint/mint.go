// SPDX-License-Identifier: Apache-2.0

// Package mint makes JSON Web Tokens and key sets for tests, good ones and others. It signs by the standard library alone,
// so that it shares no mistake with what it tests.
package mint

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // for crypto.Hash
	_ "crypto/sha512" // for crypto.Hash
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"testing"
	"time"
)

// Key signs tokens.
type Key struct {
	// ID is its kid; empty names none.
	ID string
	// Algorithm is as in RFC 7518: RS256, PS512, ES384, EdDSA.
	Algorithm string

	private crypto.Signer
}

// NewKey draws a key for an algorithm.
func NewKey(t testing.TB, id, algorithm string) *Key {
	t.Helper()

	k := &Key{ID: id, Algorithm: algorithm}

	var err error

	switch algorithm {
	case "ES256":
		k.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		k.private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		k.private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "EdDSA":
		_, k.private, err = ed25519.GenerateKey(rand.Reader)
	default:
		k.private, err = rsa.GenerateKey(rand.Reader, 2048)
	}

	if err != nil {
		t.Fatal(err)
	}

	return k
}

// Public is the other half.
func (k *Key) Public() crypto.PublicKey { return k.private.Public() }

// JWK is the public key as RFC 7517 writes it, with kid, alg and use.
func (k *Key) JWK() map[string]any {
	jwk := map[string]any{"use": "sig", "alg": k.Algorithm}
	if k.ID != "" {
		jwk["kid"] = k.ID
	}

	switch p := k.private.Public().(type) {
	case *rsa.PublicKey:
		jwk["kty"], jwk["n"], jwk["e"] = "RSA", encode(p.N.Bytes()), encode(big.NewInt(int64(p.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := p.Bytes()
		if err != nil {
			panic(err) // it was drawn above
		}

		half := len(point) / 2
		jwk["kty"], jwk["crv"], jwk["x"], jwk["y"] = "EC", p.Params().Name, encode(point[1:1+half]), encode(point[1+half:])
	case ed25519.PublicKey:
		jwk["kty"], jwk["crv"], jwk["x"] = "OKP", "Ed25519", encode(p)
	}

	return jwk
}

// Set is a key set of some keys.
func Set(keys ...*Key) string {
	all := make([]map[string]any, 0, len(keys))
	for _, k := range keys {
		all = append(all, k.JWK())
	}

	return write(map[string]any{"keys": all})
}

// Claims are those of a token that is good for a time.
func Claims(issuer, audience, subject string, life time.Duration) map[string]any {
	now := time.Now()

	return map[string]any{
		"iss": issuer, "aud": audience, "sub": subject, "iat": now.Unix(), "exp": float64(now.Add(life).UnixMilli()) / 1000,
	}
}

// Token is a signed token. What header says is added to, or stands instead of, alg, kid and typ; a nil value removes.
func (k *Key) Token(claims, header map[string]any) string {
	whole := map[string]any{"alg": k.Algorithm, "typ": "JWT"}
	if k.ID != "" {
		whole["kid"] = k.ID
	}

	maps.Copy(whole, header)
	maps.DeleteFunc(whole, func(_ string, v any) bool { return v == nil })

	return k.Sign(write(whole), write(claims))
}

// Sign makes a token of two texts, whatever they are.
func (k *Key) Sign(header, payload string) string {
	text := encode([]byte(header)) + "." + encode([]byte(payload))

	return text + "." + encode(k.signature([]byte(text)))
}

func (k *Key) signature(text []byte) []byte {
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[k.Algorithm[2:]]
	digest := text

	if hash != 0 {
		h := hash.New()
		h.Write(text)
		digest = h.Sum(nil)
	}

	var (
		signature []byte
		err       error
	)

	switch private := k.private.(type) {
	case *rsa.PrivateKey:
		var options crypto.SignerOpts = hash
		if k.Algorithm[0] == 'P' {
			options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
		}

		signature, err = private.Sign(rand.Reader, digest, options)
	case *ecdsa.PrivateKey:
		var r, s *big.Int
		if r, s, err = ecdsa.Sign(rand.Reader, private, digest); err == nil {
			size := (private.Params().BitSize + 7) / 8
			signature = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
		}
	case ed25519.PrivateKey:
		signature = ed25519.Sign(private, digest)
	}

	if err != nil {
		panic(fmt.Sprintf("mint: %s does not sign: %v", k.Algorithm, err))
	}

	return signature
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func write(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("mint: %v", err))
	}

	return string(text)
}
