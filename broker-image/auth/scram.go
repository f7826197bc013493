// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
)

// SCRAM is the server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding. It is safe for concurrent
// use.
//
// A name that does not exist, or that has no verifier for SCRAM, gets an answer that looks like everybody else's, the
// same each time, and fails at the end.
type SCRAM struct {
	key     [sha256.Size]byte
	doubles atomic.Pointer[[]*Verifier]
}

// Bounds of what a client sends.
const (
	maxScramMessage = 2048
	maxScramNonce   = 256
	scramNonceBytes = 18
)

// What is wrong with a message of SCRAM, in words for a log.
var (
	errScramMessage  = errors.New("the SCRAM message is malformed")
	errScramBinding  = errors.New("the client asks for SCRAM with channel binding, which is not offered")
	errScramAuthzid  = errors.New("the client asks to act as somebody else (authzid), which is not offered")
	errScramExtended = errors.New("the client asks for an extension of SCRAM that is not known")
	errScramNonce    = errors.New("the nonce of the SCRAM message is not the one that was given")
)

// ErrScramProof says that a client could not prove that it knows the password.
var ErrScramProof = errors.New("unknown user or wrong password")

// NewSCRAMServer makes a server's side. What it answers for names that do not exist depends on seed: where that is kept
// over a restart, the restart does not tell them apart from the others. It need not be secret from whoever may read the
// verifiers. Empty means that it is drawn at random.
func NewSCRAMServer(seed []byte) *SCRAM {
	s := &SCRAM{}

	if len(seed) == 0 {
		_, _ = rand.Read(s.key[:]) // never fails: the runtime ends the process instead
	} else {
		s.key = sha256.Sum256(seed)
	}

	s.Imitate(nil)

	return s
}

// Imitate names verifiers of users. What a name that does not exist is answered has the iterations and the size of the
// salt of one of these; with none, [MinIterations] and the size that [NewSCRAM] draws.
func (s *SCRAM) Imitate(verifiers []*Verifier) { s.doubles.Store(&verifiers) }

// Exchange is one run, for one client.
type Exchange struct {
	// Username is the name that the client gave.
	Username string

	known      []*Verifier // that go with salt and iterations
	bare       string      // the client's first message without its header
	header     string
	nonce      string
	challenge  string
	fakeStored []byte
}

// Begin reads the first message of a client and gives what to answer. find gives the verifiers of a user, of any kind;
// it is called once. The name is taken as it stands, without SASLprep: as in CONNECT, names are equal if their bytes are.
func (s *SCRAM) Begin(message []byte, find func(username string) []*Verifier) (*Exchange, []byte, error) {
	header, bare, err := splitHeader(string(message))
	if err != nil {
		return nil, nil, err
	}

	fields := strings.Split(bare, ",")
	if strings.HasPrefix(fields[0], "m=") {
		return nil, nil, errScramExtended
	}

	if len(fields) < 2 {
		return nil, nil, errScramMessage
	}

	encoded, named := strings.CutPrefix(fields[0], "n=")
	username, ok := unescape(encoded)
	nonce, given := strings.CutPrefix(fields[1], "r=")

	if !named || !ok || !given || !isNonce(nonce) || !extensions(fields[2:]) {
		return nil, nil, errScramMessage
	}

	x := &Exchange{Username: username, header: header, bare: bare}

	salt, iterations := s.parameters(x, find(username))

	random := make([]byte, scramNonceBytes)
	_, _ = rand.Read(random) // never fails
	x.nonce = nonce + base64.RawURLEncoding.EncodeToString(random)
	x.challenge = "r=" + x.nonce + ",s=" + base64.StdEncoding.EncodeToString(salt) + ",i=" + strconv.Itoa(iterations)

	return x, []byte(x.challenge), nil
}

// splitHeader takes off the GS2 header (RFC 5802, section 7).
func splitHeader(message string) (header, bare string, err error) {
	if len(message) > maxScramMessage {
		return "", "", errScramMessage
	}

	parts := strings.SplitN(message, ",", 3)

	switch {
	case len(parts) != 3:
		return "", "", errScramMessage
	case strings.HasPrefix(parts[0], "p="):
		return "", "", errScramBinding
	case parts[0] != "n" && parts[0] != "y": // y: the client could do channel binding, and believes that we cannot
		return "", "", errScramMessage
	case strings.HasPrefix(parts[1], "a="):
		return "", "", errScramAuthzid
	case parts[1] != "":
		return "", "", errScramMessage
	}

	return parts[0] + ",,", parts[2], nil
}

// unescape reads a name, in which =2C stands for a comma and =3D for the equals sign.
func unescape(text string) (string, bool) {
	var b strings.Builder

	for {
		before, after, found := strings.Cut(text, "=")
		_, _ = b.WriteString(before)

		switch {
		case !found:
			return b.String(), b.Len() > 0
		case strings.HasPrefix(after, "2C"):
			_ = b.WriteByte(',')
		case strings.HasPrefix(after, "3D"):
			_ = b.WriteByte('=')
		default:
			return "", false
		}

		text = after[2:]
	}
}

// isNonce takes printable ASCII without the comma, by which the text has been cut.
func isNonce(text string) bool {
	return text != "" && len(text) <= maxScramNonce && !strings.ContainsFunc(text, func(r rune) bool { return r < '!' || r > '~' })
}

// extensions are optional ones: an unknown one is passed over.
func extensions(fields []string) bool {
	for _, f := range fields {
		if len(f) < 3 || f[1] != '=' || !(f[0] >= 'a' && f[0] <= 'z' || f[0] >= 'A' && f[0] <= 'Z') {
			return false
		}
	}

	return true
}

// parameters are the salt and the iterations to tell the client. The first verifier decides: the newest.
func (s *SCRAM) parameters(x *Exchange, verifiers []*Verifier) (salt []byte, iterations int) {
	for _, v := range verifiers {
		if !v.SCRAM() {
			continue
		}

		if x.known == nil {
			salt, iterations = v.Salt(), v.Iterations()
		}

		if v.Iterations() == iterations && subtle.ConstantTimeCompare(v.Salt(), salt) == 1 {
			x.known = append(x.known, v)
		}
	}

	sum := sign(s.key[:], x.Username)
	x.fakeStored = sign(sum, "stored")

	if x.known != nil {
		return salt, iterations
	}

	size, iterations := saltBytes, MinIterations

	if doubles := *s.doubles.Load(); len(doubles) > 0 {
		like := doubles[binary.BigEndian.Uint64(sum)%uint64(len(doubles))]
		size, iterations = len(like.Salt()), like.Iterations()
	}

	return append(sign(sum, "salt"), sign(sum, "more salt")...)[:size], iterations
}

// Finish reads the last message of the client. It returns the verifier whose password the client knows, and the last
// answer, by which the client knows that the server has the verifier. The error is [ErrScramProof] if the client does
// not know the password, or there is none; any other if the message is not as it must be.
func (x *Exchange) Finish(message []byte) (*Verifier, []byte, error) {
	if len(message) > maxScramMessage {
		return nil, nil, errScramMessage
	}

	without, encoded, found := cutLast(string(message), ",p=")
	fields := strings.Split(without, ",")
	proof, err := base64.StdEncoding.Strict().DecodeString(encoded)

	if !found || err != nil || len(proof) != sha256.Size || strings.ContainsAny(encoded, "\r\n") || len(fields) < 2 || !extensions(fields[2:]) {
		return nil, nil, errScramMessage
	}

	binding, ok := strings.CutPrefix(fields[0], "c=")
	if !ok || binding != base64.StdEncoding.EncodeToString([]byte(x.header)) {
		return nil, nil, errScramBinding
	}

	nonce, ok := strings.CutPrefix(fields[1], "r=")
	if !ok || nonce != x.nonce {
		return nil, nil, errScramNonce
	}

	all := x.bare + "," + x.challenge + "," + without

	for _, v := range x.known {
		stored, server := v.keys()
		if proves(proof, stored, all) {
			return v, []byte("v=" + base64.StdEncoding.EncodeToString(sign(server, all))), nil
		}
	}

	if x.known == nil {
		proves(proof, x.fakeStored, all) // takes as long
	}

	return nil, nil, ErrScramProof
}

func cutLast(text, by string) (before, after string, found bool) {
	i := strings.LastIndex(text, by)
	if i < 0 {
		return text, "", false
	}

	return text[:i], text[i+len(by):], true
}

// proves tells whether the proof was made by somebody who knows the key whose hash is stored.
func proves(proof, stored []byte, message string) bool {
	key := make([]byte, sha256.Size)
	subtle.XORBytes(key, proof, sign(stored, message))

	sum := sha256.Sum256(key)

	return subtle.ConstantTimeCompare(sum[:], stored) == 1
}

// keys are the two of a verifier for SCRAM.
func (v *Verifier) keys() (stored, server []byte) {
	return v.bytes(v.hash), v.bytes(uint16(strings.LastIndexByte(v.text, '$') + 1)) //nolint:gosec // a text has at most maxText bytes
}
