// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// The parameters of the verifiers that we make: the least that OWASP recommends for argon2id.
const (
	argonMemory  = 19456 // KiB
	argonTime    = 2
	argonThreads = 1

	saltBytes = 16
	hashBytes = 32
)

// The bounds of the verifiers that we accept. They keep one configuration line from costing the broker its memory.
const (
	// MaxMemory is the most KiB that one argon2 computation may ask for.
	MaxMemory = 64 * 1024

	minMemory  = 8
	maxTime    = 10
	maxThreads = 4
	minSalt    = 8
	maxSalt    = 64
	minHash    = 16
	maxHash    = 64
	maxText    = 512
)

const (
	schemeArgon2id = "argon2id"
	schemeSHA256   = "sha256"
)

// encoding is base64 as PHC strings use it: the standard alphabet, no padding, no stray bits.
var encoding = base64.RawStdEncoding.Strict()

// argonSlots bounds how many argon2 computations run at a time, and with that their memory.
var argonSlots = make(chan struct{}, runtime.GOMAXPROCS(0))

// Verifier is a parsed verifier. It never changes and is safe for concurrent use.
type Verifier struct {
	text    string
	scheme  string
	memory  uint32
	time    uint32
	threads uint8
	salt    []byte
	hash    []byte
}

// NewArgon2id makes a verifier for a password that a person chose. A nil salt is drawn at random; the same password
// and salt give the same verifier.
func NewArgon2id(password, salt []byte) (string, error) {
	salt, err := saltOrRandom(salt)
	if err != nil {
		return "", err
	}

	v := &Verifier{scheme: schemeArgon2id, memory: argonMemory, time: argonTime, threads: argonThreads, salt: salt}
	hash := v.compute(password, hashBytes)

	return fmt.Sprintf("$%s$v=%d$m=%d,t=%d,p=%d$%s$%s", schemeArgon2id, argon2.Version, v.memory, v.time, v.threads,
		encoding.EncodeToString(salt), encoding.EncodeToString(hash)), nil
}

// NewSHA256 makes a verifier for a password of 256 random bits. It must not be used for anything that can be guessed.
// A nil salt is drawn at random; the same password and salt give the same verifier.
func NewSHA256(password, salt []byte) (string, error) {
	salt, err := saltOrRandom(salt)
	if err != nil {
		return "", err
	}

	v := &Verifier{scheme: schemeSHA256, salt: salt}

	return fmt.Sprintf("$%s$%s$%s", schemeSHA256, encoding.EncodeToString(salt),
		encoding.EncodeToString(v.compute(password, hashBytes))), nil
}

func saltOrRandom(salt []byte) ([]byte, error) {
	switch n := len(salt); {
	case salt == nil:
		salt = make([]byte, saltBytes)
		_, _ = rand.Read(salt) // never fails: the runtime ends the process instead
	case n < minSalt || n > maxSalt:
		return nil, fmt.Errorf("salt: has %d bytes, want %d to %d", n, minSalt, maxSalt)
	}

	return salt, nil
}

// Parse reads a verifier. It is strict: what it does not know to the last character it refuses. Its errors never hold
// the text.
func Parse(text string) (*Verifier, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("verifier: is longer than %d bytes", maxText)
	}

	parts := strings.Split(text, "$")
	if len(parts) < 2 || parts[0] != "" {
		return nil, errors.New("verifier: must begin with $argon2id$ or $sha256$")
	}

	v := &Verifier{text: strings.Clone(text), scheme: parts[1]}

	switch {
	case v.scheme == schemeArgon2id && len(parts) == 6:
		if parts[2] != "v="+strconv.Itoa(argon2.Version) {
			return nil, fmt.Errorf("verifier: only argon2 version %d is known", argon2.Version)
		}

		if err := v.parseParameters(parts[3]); err != nil {
			return nil, err
		}
	case v.scheme == schemeSHA256 && len(parts) == 4:
	case v.scheme == schemeArgon2id:
		return nil, errors.New("verifier: must have the form $argon2id$v=19$m=…,t=…,p=…$salt$hash")
	case v.scheme == schemeSHA256:
		return nil, errors.New("verifier: must have the form $sha256$salt$hash")
	default:
		return nil, errors.New("verifier: the scheme is neither argon2id nor sha256")
	}

	if err := v.parseBytes(parts[len(parts)-2], parts[len(parts)-1]); err != nil {
		return nil, err
	}

	return v, nil
}

func (v *Verifier) parseParameters(text string) error {
	fields := strings.Split(text, ",")
	if len(fields) != 3 {
		return errors.New("verifier: the parameters must be m=…,t=…,p=…")
	}

	var values [3]uint32

	for i, want := range []struct {
		name     string
		low, top uint64
	}{{"m", minMemory, MaxMemory}, {"t", 1, maxTime}, {"p", 1, maxThreads}} {
		digits, ok := strings.CutPrefix(fields[i], want.name+"=")
		n, err := strconv.ParseUint(digits, 10, 32)

		if !ok || err != nil || digits != strconv.FormatUint(n, 10) {
			return fmt.Errorf("verifier: parameter %d must be %s=number", i+1, want.name)
		}

		if n < want.low || n > want.top {
			return fmt.Errorf("verifier: %s=%d is outside %d to %d", want.name, n, want.low, want.top)
		}

		values[i] = uint32(n)
	}

	v.memory, v.time, v.threads = values[0], values[1], uint8(values[2]) //nolint:gosec // bounded above
	if v.memory < minMemory*uint32(v.threads) {
		return fmt.Errorf("verifier: m=%d is less than %d for each of p=%d lanes", v.memory, minMemory, v.threads)
	}

	return nil
}

func (v *Verifier) parseBytes(salt, hash string) error {
	var err error
	if v.salt, err = encoding.DecodeString(salt); err != nil || len(v.salt) < minSalt || len(v.salt) > maxSalt {
		return fmt.Errorf("verifier: the salt must be %d to %d bytes in base64 without padding", minSalt, maxSalt)
	}

	low, top := minHash, maxHash
	if v.scheme == schemeSHA256 {
		low, top = sha256.Size, sha256.Size
	}

	if v.hash, err = encoding.DecodeString(hash); err != nil || len(v.hash) < low || len(v.hash) > top {
		return fmt.Errorf("verifier: the hash must be %d to %d bytes in base64 without padding", low, top)
	}

	// DecodeString skips line breaks; a verifier has none.
	if strings.ContainsAny(salt+hash, "\r\n") {
		return errors.New("verifier: must not hold line breaks")
	}

	return nil
}

// Verify tells whether the password is the one that the verifier was made from. It may wait for other computations.
func (v *Verifier) Verify(password []byte) bool {
	return subtle.ConstantTimeCompare(v.compute(password, len(v.hash)), v.hash) == 1
}

// Salt is the salt that the verifier was made with, to make the same verifier again.
func (v *Verifier) Salt() []byte { return append([]byte(nil), v.salt...) }

// Text is the verifier as it was parsed, to compare two of them. It is as secret as a hash is.
func (v *Verifier) Text() string { return v.text }

// Slow tells whether a check is costly on purpose.
func (v *Verifier) Slow() bool { return v.scheme == schemeArgon2id }

// String names the scheme and hides the rest, so that a printed configuration shows no hash.
func (v *Verifier) String() string { return "$" + v.scheme + "$…" }

// GoString hides like String.
func (v *Verifier) GoString() string { return v.String() }

func (v *Verifier) compute(password []byte, size int) []byte {
	if v.scheme == schemeSHA256 {
		h := sha256.New()
		h.Write(v.salt)
		h.Write(password)

		return h.Sum(nil)
	}

	argonSlots <- struct{}{}

	defer func() { <-argonSlots }()

	return argon2.IDKey(password, v.salt, v.time, v.memory, v.threads, uint32(size)) //nolint:gosec // at most maxHash
}
