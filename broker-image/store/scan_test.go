// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestALogThatRotsUnderAnOldSeal is the death of a machine: the seal on disk is older than the log.
func TestALogThatRotsUnderAnOldSeal(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]bool{"the first log of a database": false, "a later one": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rotUnderOldSeal(t, later)
		})
	}
}

func rotUnderOldSeal(t *testing.T, later bool) {
	t.Helper()
	live := filepath.Join(t.TempDir(), "live")
	s := fresh1(t, live, Options{ReserveBytes: 1})
	old, err := os.ReadFile(filepath.Join(live, sealName))
	if err != nil {
		t.Fatal(err)
	}
	commit(t, s, func(tx *Tx) { tx.PutMeta("b", nil) })
	if later {
		if err := s.database().Flush(); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		commit(t, s, func(tx *Tx) { tx.PutMeta("a", make([]byte, 100)) })
	}
	log := s.database().fs.log.Load().name
	dead := filepath.Join(t.TempDir(), "dead")
	copyTree(t, live, dead)
	shut(t, s)
	if err := os.WriteFile(filepath.Join(dead, sealName), old, 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dead, innerName, filepath.Base(log))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dead, Options{ReserveBytes: 1}); !errors.Is(err, ErrDamaged) {
		t.Fatalf("half of the log is gone, and Open says %v", err)
	}
	// What the last sync brought, with nothing behind it, looks like a torn write. It is repaired.
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b[:len(b)-5], 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dead, Options{ReserveBytes: 1})
	if !s.Crashed() {
		t.Error("the death was not noticed")
	}
	shut(t, s)
}
