// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func FuzzRecords(f *testing.F) {
	f.Add(appendMessage(nil, message("a/b", 10)))
	f.Add(appendSession(nil, &Session{ClientID: "c", Username: "u", Expiry: math.MaxUint32, Will: &Will{Message: *message("w", 1), DueDelay: 3}}))
	f.Add(appendOptions(nil, SubscriptionOptions{QoS: 2, NoLocal: true, Identifier: 268435455}))
	f.Add(appendEntryHead(nil, &entry{qos: 1, kind: bodyShared, body: 5, size: 9, group: 77, identifiers: []byte{1, 2}}))
	f.Add(appendPromise(nil, promise{group: 1, manifest: 2, manifestN: 3, clean: true}, 4))
	f.Fuzz(func(t *testing.T, v []byte) {
		orig := bytes.Clone(v)
		var m, m2 Message
		if err := decodeMessage(v, &m); err == nil {
			if err := decodeMessage(appendMessage(nil, &m), &m2); err != nil || !same(m, m2) {
				t.Errorf("message: %v: %v became %v", err, m, m2)
			}
		} else if !errors.Is(err, ErrDamaged) {
			t.Errorf("message: %v", err)
		}
		var s, s2 Session
		if decodeSession(v, &s) == nil {
			if err := decodeSession(appendSession(nil, &s), &s2); err != nil || s.ClientID != s2.ClientID || s.Expiry != s2.Expiry {
				t.Errorf("session: %v: %v became %v", err, s, s2)
			}
		}
		if o, err := decodeOptions(v); err == nil {
			if o2, err := decodeOptions(appendOptions(nil, o)); err != nil || o != o2 {
				t.Errorf("options: %v: %v became %v", err, o, o2)
			}
		}
		var e, e2 entry
		if decodeEntry(v, &e) == nil {
			if err := decodeEntry(append(appendEntryHead(nil, &e), e.inline...), &e2); err != nil || e.body != e2.body || e.group != e2.group || e.size != e2.size {
				t.Errorf("entry: %v: %v became %v", err, e, e2)
			}
		}
		_, _ = decodeIdentifiers(v)
		if p, n, ok := decodePromise(v); ok && !bytes.Equal(appendPromise(nil, p, n)[:12], v[:12]) {
			t.Error("promise changed")
		}
		_, _, _, _ = splitSessionKey(v)
		_, _ = scanLog(v, 7)
		if !bytes.Equal(orig, v) {
			t.Error("a decoder wrote into what it read")
		}
	})
}

func same(a, b Message) bool {
	return cmp.Equal(a, b, cmp.Comparer(bytes.Equal))
}
