// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"runtime"
	"strings"

	"github.com/xdg-go/stringprep"
	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// The parameters of the verifiers that we make: the least that OWASP recommends for argon2id.
const (
	argonMemory  = 19456 // KiB
	argonTime    = 2
	argonThreads = 1

	saltBytes = 16
	hashBytes = 32
)

// The bounds of the verifiers that we accept. They keep one configuration line from costing the broker its memory, or a
// check from taking longer than some two seconds of one core.
const (
	// MaxMemory is the most KiB that one argon2 computation may ask for.
	MaxMemory = 64 * 1024
	// MinIterations and MaxIterations bound the iterations of a SCRAM verifier (RFC 7677, section 4); those of PBKDF2
	// elsewhere may be fewer.
	MinIterations = 4096
	MaxIterations = 1_000_000
	// MaxCost is the highest cost of bcrypt: 2^14 rounds.
	MaxCost = 14

	minMemory  = 8
	maxTime    = 10
	maxThreads = 4
	minCost    = 4
	minSalt    = 8
	maxSalt    = 64
	minHash    = 16
	maxHash    = 64
	maxText    = 512
)

// slots bounds how many costly computations run at a time, and with that their memory.
var slots = make(chan struct{}, runtime.GOMAXPROCS(0))

// Verifier is a parsed verifier. It never changes and is safe for concurrent use. Beside the text, which it shares with
// whoever parsed it, it takes up little: brokers hold tens of thousands.
type Verifier struct {
	text string
	// salt and hash are where the last parts of text begin; each ends at the next $ or with the text.
	salt, hash uint16
	scheme     scheme
	threads    uint8
	memory     uint32
	// time is the passes of argon2, the iterations of PBKDF2, or the cost of bcrypt.
	time uint32
}

// NewArgon2id makes a verifier for a password that a person chose. A nil salt is drawn at random; the same password
// and salt give the same verifier.
func NewArgon2id(password, salt []byte) (string, error) {
	salt, err := saltOrRandom(salt)
	if err != nil {
		return "", err
	}

	v := &Verifier{scheme: schemeArgon2id, memory: argonMemory, time: argonTime, threads: argonThreads}

	return argon2idText(salt, v.compute(password, salt, hashBytes)), nil
}

func argon2idText(salt, sum []byte) string {
	return fmt.Sprintf("$%s$v=%d$m=%d,t=%d,p=%d$%s$%s", schemeArgon2id, argon2.Version, argonMemory, argonTime, argonThreads,
		encoding.EncodeToString(salt), encoding.EncodeToString(sum))
}

// NewSHA256 makes a verifier for a password of 256 random bits. It must not be used for anything that can be guessed.
// A nil salt is drawn at random; the same password and salt give the same verifier.
func NewSHA256(password, salt []byte) (string, error) {
	salt, err := saltOrRandom(salt)
	if err != nil {
		return "", err
	}

	v := &Verifier{scheme: schemeSHA256}

	return fmt.Sprintf("$%s$%s$%s", schemeSHA256, encoding.EncodeToString(salt),
		encoding.EncodeToString(v.compute(password, salt, hashBytes))), nil
}

// NewSCRAM makes a verifier for SCRAM-SHA-256 (RFC 5802, RFC 7677). A nil salt is drawn at random; the same password,
// salt and iterations give the same verifier. The iterations are [MinIterations] to [MaxIterations]. It fails if
// SASLprep (RFC 4013) forbids a character of the password; the error does not tell which.
//
// An exchange tells the client one salt and one number of iterations. Where a user has two passwords for a while, their
// verifiers must be made with the same ones, else only the first can be used.
func NewSCRAM(password, salt []byte, iterations int) (string, error) {
	if iterations < MinIterations || iterations > MaxIterations {
		return "", fmt.Errorf("iterations: %d is outside %d to %d", iterations, MinIterations, MaxIterations)
	}

	salt, err := saltOrRandom(salt)
	if err != nil {
		return "", err
	}

	prepared, err := prepare(password)
	if err != nil {
		return "", err
	}

	stored, server, err := scramKeys(prepared, salt, iterations)
	if err != nil {
		return "", err
	}

	return fmt.Sprintf("$%s$i=%d$%s$%s$%s", schemeSCRAM, iterations, encoding.EncodeToString(salt),
		encoding.EncodeToString(stored), encoding.EncodeToString(server)), nil
}

// prepare is SASLprep (RFC 4013), by which equal passwords become equal bytes.
func prepare(password []byte) (string, error) {
	prepared, err := stringprep.SASLprep.Prepare(string(password))
	if err != nil || prepared == "" {
		return "", errors.New("password: is empty or holds characters that SASLprep (RFC 4013) forbids, such as control characters; choose another, or do without SCRAM")
	}

	return prepared, nil
}

func scramKeys(prepared string, salt []byte, iterations int) (stored, server []byte, err error) {
	salted, err := pbkdf2.Key(sha256.New, prepared, salt, iterations, sha256.Size)
	if err != nil {
		return nil, nil, fmt.Errorf("pbkdf2: %w", err)
	}

	key := sha256.Sum256(sign(salted, "Client Key"))

	return key[:], sign(salted, "Server Key"), nil
}

func sign(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write([]byte(text))

	return mac.Sum(nil)
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

// Verify tells whether the password is the one that the verifier was made from. It may wait for other computations.
func (v *Verifier) Verify(password []byte) bool {
	if v.scheme == schemeBcrypt {
		release := v.slot()
		defer release()

		return bcrypt.CompareHashAndPassword([]byte(v.text), password) == nil
	}

	want := v.bytes(v.hash)

	return subtle.ConstantTimeCompare(v.compute(password, v.Salt(), len(want)), want) == 1
}

// Salt is the salt that the verifier was made with, to make the same verifier again. That of bcrypt is nil: it cannot
// be told apart from the hash.
func (v *Verifier) Salt() []byte {
	if v.scheme == schemeBcrypt {
		return nil
	}

	return v.bytes(v.salt)
}

// bytes decodes the part of the text that begins at a place. Parse has seen it.
func (v *Verifier) bytes(from uint16) []byte {
	part, _, _ := strings.Cut(v.text[from:], "$")
	b, _ := v.scheme.encoding(v.text).DecodeString(part)

	return b
}

// Text is the verifier as it was parsed, to compare two of them. It is as secret as a hash is.
func (v *Verifier) Text() string { return v.text }

// Slow tells whether a check is costly on purpose.
func (v *Verifier) Slow() bool { return v.scheme != schemeSHA256 && v.scheme != schemeSHA512 }

// SCRAM tells whether the verifier is for SCRAM-SHA-256.
func (v *Verifier) SCRAM() bool { return v.scheme == schemeSCRAM }

// Iterations of a SCRAM verifier.
func (v *Verifier) Iterations() int { return int(v.time) }

// String names the scheme and hides the rest, so that a printed configuration shows no hash.
func (v *Verifier) String() string { return "$" + v.scheme.String() + "$…" }

// GoString hides like String.
func (v *Verifier) GoString() string { return v.String() }

// slot waits until another costly computation may run, and gives what ends it.
func (v *Verifier) slot() func() {
	if !v.Slow() {
		return func() {}
	}

	slots <- struct{}{}

	return func() { <-slots }
}

// compute gives the hash of a password; nothing if it cannot have one. It is not for bcrypt.
func (v *Verifier) compute(password, salt []byte, size int) (sum []byte) {
	release := v.slot()
	defer release()

	switch v.scheme {
	case schemeArgon2id:
		return argon2.IDKey(password, salt, v.time, v.memory, v.threads, uint32(size)) //nolint:gosec // at most maxHash
	case schemeSHA256:
		return digest(sha256.New(), salt, password)
	case schemeSHA512:
		return digest(sha512.New(), password, salt)
	case schemeMosquitto, schemePBKDF2SHA512:
		sum, _ = pbkdf2.Key(sha512.New, string(password), salt, int(v.time), size)
	case schemePBKDF2SHA256:
		sum, _ = pbkdf2.Key(sha256.New, string(password), salt, int(v.time), size)
	case schemeSCRAM:
		prepared, err := prepare(password)
		if err != nil {
			return nil
		}

		sum, _, _ = scramKeys(prepared, salt, int(v.time))
	case schemeBcrypt:
	}

	return sum
}

func digest(h hash.Hash, parts ...[]byte) []byte {
	for _, p := range parts {
		_, _ = h.Write(p)
	}

	return h.Sum(nil)
}

// spend costs what a check of the password costs.
func (v *Verifier) spend(password []byte) {
	if v.scheme == schemeBcrypt {
		v.Verify(password)

		return
	}

	v.compute(password, v.Salt(), hashBytes)
}
