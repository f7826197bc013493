// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// scheme is a kind of verifier.
type scheme uint8

const (
	schemeArgon2id scheme = iota
	schemeSHA256
	schemeSCRAM
	schemeBcrypt
	schemeMosquitto // PBKDF2 with HMAC-SHA-512
	schemeSHA512    // of password and salt, as Mosquitto wrote it before 2.0
	schemePBKDF2SHA256
	schemePBKDF2SHA512
)

// String is what stands between the first two signs.
func (s scheme) String() string {
	return [...]string{"argon2id", "sha256", "scram-sha-256", "2b", "7", "6", "pbkdf2-sha256", "pbkdf2-sha512"}[s]
}

// form is how a verifier of the scheme looks.
func (s scheme) form() string {
	return [...]string{
		"$argon2id$v=19$m=…,t=…,p=…$salt$hash", "$sha256$salt$hash", "$scram-sha-256$i=…$salt$storedKey$serverKey",
		"$2b$cost$ with 53 characters behind it", "$7$iterations$salt$hash", "$6$salt$hash",
		"$pbkdf2-sha256$iterations$salt$hash or $pbkdf2-sha256$i=…,l=32$salt$hash",
		"$pbkdf2-sha512$iterations$salt$hash or $pbkdf2-sha512$i=…,l=64$salt$hash",
	}[s]
}

var schemes = map[string]scheme{
	"argon2id": schemeArgon2id, "sha256": schemeSHA256, "scram-sha-256": schemeSCRAM, "2a": schemeBcrypt, "2b": schemeBcrypt,
	"2y": schemeBcrypt, "7": schemeMosquitto, "6": schemeSHA512, "pbkdf2-sha256": schemePBKDF2SHA256, "pbkdf2-sha512": schemePBKDF2SHA512,
}

// hashes are the sizes that a hash of the scheme may have, in bytes.
func (s scheme) hashes() (low, top int) {
	switch s {
	case schemeArgon2id:
		return minHash, maxHash
	case schemeMosquitto, schemeSHA512, schemePBKDF2SHA512:
		return sha512.Size, sha512.Size
	case schemeSHA256, schemeSCRAM, schemePBKDF2SHA256, schemeBcrypt:
	}

	return sha256.Size, sha256.Size
}

var (
	// encoding is base64 as PHC strings use it: the standard alphabet, no padding, no stray bits.
	encoding = base64.RawStdEncoding.Strict()
	// padded is what Mosquitto writes.
	padded = base64.StdEncoding.Strict()
	// dotted is what passlib writes: a dot stands for the plus.
	dotted = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789./").WithPadding(base64.NoPadding).Strict()
	// blowfish is the alphabet of bcrypt.
	blowfish = base64.NewEncoding("./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789").WithPadding(base64.NoPadding).Strict()
)

// encoding is how the text of a verifier of this scheme writes bytes.
func (s scheme) encoding(text string) *base64.Encoding {
	switch {
	case s == schemeMosquitto, s == schemeSHA512:
		return padded
	case s != schemePBKDF2SHA256 && s != schemePBKDF2SHA512, strings.Contains(text, "$i="):
		return encoding
	default:
		return dotted
	}
}

// Parse reads a verifier. It is strict: what it does not know to the last character it refuses. Its errors never hold
// the text. The Verifier shares the memory of text.
func Parse(text string) (*Verifier, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("verifier: is longer than %d bytes", maxText)
	}

	parts := strings.Split(text, "$")
	if len(parts) < 3 || parts[0] != "" {
		return nil, errors.New("verifier: must begin with $argon2id$ or another known scheme: is this a plain password?")
	}

	s, known := schemes[parts[1]]
	if !known {
		return nil, errors.New("verifier: the scheme is none of argon2id, sha256, scram-sha-256, 2a, 2b, 2y, 7, 6, pbkdf2-sha256, pbkdf2-sha512")
	}

	v := &Verifier{text: text, scheme: s}

	if err := v.parse(parts[2:]); err != nil {
		return nil, err
	}

	return v, nil
}

// parse looks at what stands behind the scheme.
func (v *Verifier) parse(parts []string) error {
	sizes := map[scheme]int{schemeArgon2id: 4, schemeSHA256: 2, schemeSHA512: 2, schemeSCRAM: 4, schemeBcrypt: 2}

	want, other := sizes[v.scheme]
	if !other {
		want = 3
	}

	if len(parts) != want {
		return fmt.Errorf("verifier: must have the form %s", v.scheme.form())
	}

	switch v.scheme {
	case schemeBcrypt:
		return v.parseBcrypt(parts[0], parts[1])
	case schemeArgon2id:
		if parts[0] != "v="+strconv.Itoa(argon2.Version) {
			return fmt.Errorf("verifier: only argon2 version %d is known", argon2.Version)
		}

		if err := v.parseArgon(parts[1]); err != nil {
			return err
		}

		return v.parseBytes(parts[2:])
	case schemeSHA256, schemeSHA512:
		return v.parseBytes(parts)
	case schemeSCRAM, schemeMosquitto, schemePBKDF2SHA256, schemePBKDF2SHA512:
	}

	if err := v.parseIterations(parts[0]); err != nil {
		return err
	}

	return v.parseBytes(parts[1:])
}

// number reads what has one spelling only: digits, and no zero in front.
func number(digits string) (uint32, bool) {
	n, err := strconv.ParseUint(digits, 10, 32)

	return uint32(n), err == nil && digits == strconv.FormatUint(n, 10)
}

func (v *Verifier) parseArgon(text string) error {
	fields := strings.Split(text, ",")
	if len(fields) != 3 {
		return errors.New("verifier: the parameters must be m=…,t=…,p=…")
	}

	var values [3]uint32

	for i, want := range []struct {
		name     string
		low, top uint32
	}{{"m", minMemory, MaxMemory}, {"t", 1, maxTime}, {"p", 1, maxThreads}} {
		digits, ok := strings.CutPrefix(fields[i], want.name+"=")
		n, good := number(digits)

		if !ok || !good {
			return fmt.Errorf("verifier: parameter %d must be %s=number", i+1, want.name)
		}

		if n < want.low || n > want.top {
			return fmt.Errorf("verifier: %s=%d is outside %d to %d", want.name, n, want.low, want.top)
		}

		values[i] = n
	}

	v.memory, v.time, v.threads = values[0], values[1], uint8(values[2]) //nolint:gosec // bounded above
	if v.memory < minMemory*uint32(v.threads) {
		return fmt.Errorf("verifier: m=%d is less than %d for each of p=%d lanes", v.memory, minMemory, v.threads)
	}

	return nil
}

func (v *Verifier) parseIterations(text string) error {
	digits, low := text, uint32(1)

	switch v.scheme {
	case schemeSCRAM:
		low = MinIterations

		var ok bool
		if digits, ok = strings.CutPrefix(text, "i="); !ok {
			return errors.New("verifier: the iterations must be i=number")
		}
	case schemePBKDF2SHA256, schemePBKDF2SHA512:
		// The form of PHC strings names the size of the hash, too; some leave it out.
		if rest, ok := strings.CutPrefix(text, "i="); ok {
			size, _ := v.scheme.hashes()
			digits = strings.TrimSuffix(rest, ",l="+strconv.Itoa(size))
		}
	case schemeArgon2id, schemeSHA256, schemeSHA512, schemeBcrypt, schemeMosquitto:
	}

	n, ok := number(digits)
	if !ok {
		return errors.New("verifier: the iterations are no number")
	}

	if n < low || n > MaxIterations {
		return fmt.Errorf("verifier: %d iterations are outside %d to %d", n, low, MaxIterations)
	}

	v.time = n

	return nil
}

func (v *Verifier) parseBcrypt(cost, rest string) error {
	const salt, both = 22, 22 + 31

	n, err := strconv.ParseUint(cost, 10, 8)
	if err != nil || len(cost) != 2 {
		return errors.New("verifier: the cost of bcrypt must be two digits")
	}

	if n < minCost || n > MaxCost {
		return fmt.Errorf("verifier: cost %d of bcrypt is outside %d to %d", n, minCost, MaxCost)
	}

	if len(rest) != both {
		return fmt.Errorf("verifier: must have the form %s", v.scheme.form())
	}

	for _, part := range []string{rest[:salt], rest[salt:]} {
		if _, err := blowfish.DecodeString(part); err != nil || strings.ContainsAny(part, "\r\n") {
			return errors.New("verifier: salt and hash must be in the base64 of bcrypt, without stray bits")
		}
	}

	v.time = uint32(n)

	return nil
}

// parseBytes looks at salt and hash, and at a second hash where there is one.
func (v *Verifier) parseBytes(parts []string) error {
	enc, how := v.scheme.encoding(v.text), "without padding"
	if enc == padded {
		how = "with padding"
	}

	low, top := v.scheme.hashes()
	at := len(v.text) - len(strings.Join(parts, "$"))

	for i, part := range parts {
		what, low, top := "hash", low, top
		if i == 0 {
			what, low, top = "salt", minSalt, maxSalt
		}

		// DecodeString skips line breaks; a verifier has none.
		b, err := enc.DecodeString(part)
		if err != nil || len(b) < low || len(b) > top || strings.ContainsAny(part, "\r\n") {
			return fmt.Errorf("verifier: the %s must be %d to %d bytes in base64 %s", what, low, top, how)
		}

		switch i {
		case 0:
			v.salt = uint16(at) //nolint:gosec // a text has at most maxText bytes
		case 1:
			v.hash = uint16(at) //nolint:gosec // as above
		}

		at += len(part) + 1
	}

	return nil
}
