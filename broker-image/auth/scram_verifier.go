// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"fmt"
)

// NewSCRAM makes a verifier for SCRAM-SHA-256 (RFC 5802, section 3; RFC 7677):
// $scram-sha-256$i=iterations$salt$storedKey$serverKey. A nil salt is drawn at random; the same password, salt and
// iterations give the same verifier.
func NewSCRAM(password, salt []byte, iterations int) (string, error) {
	salt, err := saltOrRandom(salt)
	if err != nil {
		return "", err
	}

	salted, err := pbkdf2.Key(sha256.New, string(password), salt, iterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("verifier: %w", err)
	}

	mac := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))

		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))

	return fmt.Sprintf("$scram-sha-256$i=%d$%s$%s$%s", iterations, encoding.EncodeToString(salt),
		encoding.EncodeToString(stored[:]), encoding.EncodeToString(mac("Server Key"))), nil
}
