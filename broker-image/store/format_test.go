// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestADirectoryThatIsNotOurs(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ file, text, reason string }{
		"of the first form":    {"mqtt.db", "bolt", "its messages must not vanish without a word"},
		"of a newer release":   {formatName, "mqtt-broker store 2\n", "a downgrade must not read what it does not know"},
		"with a broken number": {formatName, "", "it may be anything"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, c.file), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir, Options{}); !errors.Is(err, ErrFormat) {
				t.Errorf("%s: %v", c.reason, err)
			}
		})
	}
	dir := t.TempDir()
	s := fresh1(t, dir, Options{})
	if _, err := Open(dir, Options{}); err == nil {
		t.Error("two may not have it open at once")
	}
	shut(t, s)
}
