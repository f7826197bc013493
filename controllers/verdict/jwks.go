// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// jwk are the members of a JSON Web Key (RFC 7517, RFC 7518 section 6, RFC 8037) that say whether it can verify a token.
type jwk struct {
	Kty string          `json:"kty"`
	Use string          `json:"use"`
	Crv string          `json:"crv"`
	N   string          `json:"n"`
	E   string          `json:"e"`
	X   string          `json:"x"`
	Y   string          `json:"y"`
	D   json.RawMessage `json:"d"`
	K   json.RawMessage `json:"k"`
}

// jwksProblem says why text is no key set that a broker can check tokens with, or nothing. It repeats none of it.
func jwksProblem(text string) string {
	set := struct {
		Keys []jwk `json:"keys"`
	}{}
	switch {
	case strings.TrimSpace(text) == "":
		return "is empty"
	case len(text) > contract.MaxJWKSBytes:
		return fmt.Sprintf("has %d bytes, at most %d are allowed", len(text), contract.MaxJWKSBytes)
	case json.Unmarshal([]byte(text), &set) != nil:
		return `is no JSON of the form {"keys": [...]}`
	case len(set.Keys) == 0:
		return "holds no keys"
	}
	usable := 0
	for i := range set.Keys {
		key := &set.Keys[i]
		if len(key.D) > 0 || len(key.K) > 0 || key.Kty == "oct" {
			return fmt.Sprintf("holds a private or a symmetric key (number %d), which has no place there: leave only public keys", i+1)
		}
		if key.canVerify() {
			usable++
		}
	}
	if usable == 0 {
		return "holds no key that can verify a token (RSA of 2048 bits or more, EC on P-256, P-384 or P-521, Ed25519; use sig)"
	}
	return ""
}

const minModulus = 2048 / 8

func (k *jwk) canVerify() bool {
	if k.Use != "" && k.Use != "sig" {
		return false
	}
	curves := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}
	switch k.Kty {
	case "RSA":
		n, e := number(k.N), number(k.E)
		return len(n) >= minModulus && len(e) > 0 && len(e) <= 4 && e[len(e)-1]%2 == 1
	case "EC":
		curve := curves[k.Crv]
		if curve == nil {
			return false
		}
		size := (curve.Params().BitSize + 7) / 8
		x, y := raw(k.X), raw(k.Y)
		if len(x) != size || len(y) != size {
			return false
		}
		_, err := ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, x...), y...))
		return err == nil
	case "OKP":
		return k.Crv == "Ed25519" && len(raw(k.X)) == ed25519.PublicKeySize
	default:
		return false
	}
}

func raw(text string) []byte {
	decoded, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return nil
	}
	return decoded
}

// number is raw without leading zeros.
func number(text string) []byte {
	decoded := raw(text)
	for len(decoded) > 0 && decoded[0] == 0 {
		decoded = decoded[1:]
	}
	return decoded
}
