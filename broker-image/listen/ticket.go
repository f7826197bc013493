// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"crypto"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"sync"
	"time"
)

// ticketDays is for how many days a ticket is good: what RFC 8446, section 4.6.1, allows at most.
const ticketDays = 7

// resume lets TLS 1.3 sessions be resumed (RFC 8446, section 2.2), also by another process that has the same private key. A
// device that comes back after a restart then neither receives nor checks the certificate: for a small one that is most of
// what a connection costs.
//
// The keys of tickets are derived from the private key, another one for each day, so there is nothing else to be kept secret,
// to be stored or to be handed from pod to pod, and a new private key ends all tickets. Whoever learns it learns no more of what
// was said under it than without tickets, for each resumed session has an exchange of keys of its own (psk_dhe_ke). TLS 1.2 has
// none when it resumes; its tickets are those of package tls, whose keys are this process's own.
//
// now is the clock. It must be called before the configuration is used, and is an error for a private key of no known kind.
func resume(config *tls.Config, key crypto.PrivateKey, now func() time.Time) error {
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("certificate: its private key: %w", err)
	}

	t := &tickets{secret: secret, now: now}

	config.WrapSession = func(s tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		sealer, err := t.sealerFor(s.Version, config)
		if err != nil {
			return nil, err
		}

		return sealer.EncryptTicket(s, session)
	}
	config.UnwrapSession = func(ticket []byte, s tls.ConnectionState) (*tls.SessionState, error) {
		sealer, err := t.sealerFor(s.Version, config)
		if err != nil {
			return nil, err
		}

		return sealer.DecryptTicket(ticket, s)
	}

	return nil
}

// tickets seal and open what a client brings back. They are safe for concurrent use.
type tickets struct {
	secret []byte
	now    func() time.Time

	mu     sync.Mutex
	day    int64
	sealer *tls.Config // nothing but its keys for tickets is used
}

func (t *tickets) sealerFor(version uint16, config *tls.Config) (*tls.Config, error) {
	if version < tls.VersionTLS13 {
		return config, nil
	}

	return t.today()
}

// today seals with the key of today and opens with those of the days before, too.
func (t *tickets) today() (*tls.Config, error) {
	day := t.now().Unix() / int64(24*time.Hour/time.Second)

	t.mu.Lock()
	defer t.mu.Unlock()

	if t.sealer != nil && t.day == day {
		return t.sealer, nil
	}

	keys := make([][32]byte, 0, ticketDays+1)

	// The first one is from the hours before midnight, and six days and these hours are seven.
	for n := range int64(ticketDays + 1) {
		info := binary.BigEndian.AppendUint64([]byte("mqtt-operator.io tickets of TLS 1.3, day "), uint64(day-n)) //nolint:gosec // a number among numbers

		key, err := hkdf.Key(sha256.New, t.secret, nil, string(info), 32)
		if err != nil {
			return nil, err
		}

		keys = append(keys, [32]byte(key))
	}

	t.day, t.sealer = day, &tls.Config{MinVersion: tls.VersionTLS13}
	t.sealer.SetSessionTicketKeys(keys)

	return t.sealer, nil
}
