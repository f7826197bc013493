// SPDX-License-Identifier: Apache-2.0

package token

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
)

// What is wrong with a token. The texts are for the log, and hold nothing of the token.
var (
	ErrTooLong   = errors.New("the token is longer than 16 KiB")
	ErrForm      = errors.New("this is no signed JSON Web Token: it must be three parts of base64url with dots between them (RFC 7515, section 3.1)")
	ErrJSON      = errors.New("the token is no JSON object of at most 16 levels in which each name stands once (RFC 7519, section 4)")
	ErrType      = errors.New("the token is of a type that is not for access: typ must be absent, JWT or at+jwt (RFC 8725, section 3.11)")
	ErrNested    = errors.New("the token holds another token, which is not looked at (RFC 7519, section 5.2)")
	ErrCritical  = errors.New("the token has a header that must be understood and is not: crit, b64 or zip (RFC 7515, section 4.1.11)")
	ErrAlgorithm = errors.New("the token is signed by an algorithm that is not taken: use RS, PS or ES with 256, 384 or 512, or EdDSA")
	ErrIssuer    = errors.New("the token names an issuer that is not trusted here, or none")
)

const (
	// maxDepth bounds how deep a token's JSON may go, itself counted.
	maxDepth = 16
	// looksLike is how the header of every compact token begins: {" in base64url.
	looksLike = "eyJ"
)

// algorithms are those of the design note: nothing symmetric, and never none.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// Token is a token of which nothing is believed yet but its form.
type Token struct {
	// Issuer is what iss says.
	Issuer string

	signed    *jose.JSONWebSignature
	payload   []byte
	claims    object
	algorithm jose.SignatureAlgorithm
	keyID     string
}

// object is a JSON object whose values are not looked at yet.
type object map[string]json.RawMessage

// Looks says whether a password has the form of a token, at a glance: no JSON is read.
func Looks(password []byte) bool {
	return bytes.HasPrefix(password, []byte(looksLike)) && bytes.Count(password, []byte{'.'}) == 2
}

// Parse takes a token apart that came over the network. It costs what its length costs, at most
// [contract.MaxTokenBytes] bytes.
func Parse(text []byte) (*Token, error) {
	if len(text) > contract.MaxTokenBytes {
		return nil, ErrTooLong
	}

	parts := strings.Split(string(text), ".")
	if len(parts) != 3 || parts[2] == "" {
		return nil, ErrForm
	}

	raw := make([][]byte, len(parts))

	for i, part := range parts {
		// The decoder passes over line breaks, of which a token has none.
		decoded, err := base64.RawURLEncoding.Strict().DecodeString(part)
		if err != nil || strings.ContainsAny(part, "\r\n") {
			return nil, ErrForm
		}

		raw[i] = decoded
	}

	t := &Token{payload: raw[1]}

	if err := t.readHeader(raw[0]); err != nil {
		return nil, err
	}

	if bytes.HasPrefix(t.payload, []byte(looksLike)) {
		return nil, ErrNested
	}

	var err error
	if t.claims, err = parseObject(t.payload); err != nil {
		return nil, err
	}

	var ok bool
	if t.Issuer, ok = t.claims.text("iss"); !ok || t.Issuer == "" {
		return nil, ErrIssuer
	}

	if t.signed, err = jose.ParseSignedCompact(string(text), []jose.SignatureAlgorithm{t.algorithm}); err != nil {
		return nil, ErrForm
	}

	return t, nil
}

// readHeader looks at the header alone. Keys and addresses of keys in it (jwk, jku, x5c, x5u) are nobody's word but the
// client's: they are passed over, and only keys of the issuer count.
func (t *Token) readHeader(raw []byte) error {
	header, err := parseObject(raw)
	if err != nil {
		return err
	}

	for _, name := range []string{"crit", "b64", "zip"} {
		if _, there := header[name]; there {
			return ErrCritical
		}
	}

	if _, there := header["cty"]; there {
		return ErrNested
	}

	if _, there := header["typ"]; there {
		typ, _ := header.text("typ")

		switch strings.TrimPrefix(strings.ToLower(typ), "application/") {
		case "jwt", "at+jwt":
		default:
			return ErrType
		}
	}

	alg, _ := header.text("alg")
	for _, known := range algorithms {
		if alg == string(known) {
			t.algorithm = known
		}
	}

	if t.algorithm == "" {
		return ErrAlgorithm
	}

	if _, there := header["kid"]; there {
		id, ok := header.text("kid")
		if !ok || id == "" {
			return ErrKey
		}

		t.keyID = id
	}

	return nil
}

// parseObject reads one JSON object and nothing behind it. A name that stands twice is refused at every level: two
// readers may take two values for it (RFC 8259, section 4).
func parseObject(raw []byte) (object, error) {
	if !utf8.Valid(raw) || !distinct(raw) {
		return nil, ErrJSON
	}

	var o object
	if err := json.Unmarshal(raw, &o); err != nil || o == nil {
		return nil, ErrJSON
	}

	return o, nil
}

// distinct walks through one JSON object without ever calling itself, however deep the object is.
func distinct(raw []byte) bool {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()

	type level struct {
		names map[string]bool // nil in an array
		value bool            // the next string is a value
	}

	var stack []level

	for first := true; ; first = false {
		piece, err := decoder.Token()
		if err != nil {
			return errors.Is(err, io.EOF) && len(stack) == 0 && !first
		}

		if first != (len(stack) == 0) || first && piece != json.Delim('{') {
			return false
		}

		if piece == json.Delim('}') || piece == json.Delim(']') {
			stack = stack[:len(stack)-1]

			continue
		}

		if n := len(stack); n > 0 && stack[n-1].names != nil {
			top := &stack[n-1]

			if !top.value {
				name, _ := piece.(string)
				if top.names[name] {
					return false
				}

				top.names[name], top.value = true, true

				continue
			}

			top.value = false
		}

		switch piece {
		case json.Delim('{'):
			stack = append(stack, level{names: map[string]bool{}})
		case json.Delim('['):
			stack = append(stack, level{})
		}

		if len(stack) > maxDepth {
			return false
		}
	}
}

// text is a value that must be a string.
func (o object) text(name string) (string, bool) {
	var s *string
	if json.Unmarshal(o[name], &s) != nil || s == nil {
		return "", false
	}

	return *s, true
}
