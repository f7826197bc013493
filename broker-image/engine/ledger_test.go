// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/broker-image/wire"
)

// keeping is a configuration whose broker knows over a restart which passwords were right.
func keeping(t testing.TB, users ...contract.User) *contract.Config {
	t.Helper()

	config := baseConfig(users...)
	config.Authentication.PasswordCache = contract.PasswordCacheVolume

	return config
}

func ledgerOf(dir string) string { return filepath.Join(dir, ledgerFile) }

// TestWhatWasRightIsKnownAfterARestart: chosen passwords cost their slow hash once, not once per start.
func TestWhatWasRightIsKnownAfterARestart(t *testing.T) {
	config := keeping(t, member(t, "anna", "argon2id"), member(t, "otto", "argon2id"), member(t, "emil", "sha256"))

	for name, tc := range map[string]struct {
		config *contract.Config
		costs  int64
	}{
		"kept on the volume": {config, 0},
		"kept in memory":     {baseConfig(config.Users...), 2},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()

			for start, costs := range []int64{2, tc.costs, tc.costs} {
				h := open(t, Options{DataDir: dir}, tc.config)

				for _, user := range []string{"anna", "otto", "emil", "anna"} {
					h.mustBe(0, "127.0.0.1", user, user, "the right password")
				}

				if got := h.cache.Computed(); got != costs {
					t.Errorf("start %d: %d slow hashes, want %d", start, got, costs)
				}

				h.close()
			}
		})
	}
}

// TestWhatIsKnownHelpsNoGuess: after the restart a wrong password costs and counts what it always did.
func TestWhatIsKnownHelpsNoGuess(t *testing.T) {
	dir, config := t.TempDir(), keeping(t, member(t, "anna", "argon2id"))

	h := open(t, Options{DataDir: dir}, config)
	h.mustBe(0, "127.0.0.1", "anna", "anna", "the right password")
	h.close()

	h = open(t, Options{DataDir: dir}, config)

	for i := range 5 {
		h.mustBe(wire.BadUserNameOrPassword, "127.0.0.2", "anna", "guess", "a wrong password")

		if got := h.cache.Computed(); got != int64(i+1) {
			t.Errorf("%d slow hashes for %d guesses", got, i+1)
		}
	}

	h.fails("anna", "127.0.0.2", 4)
	h.mustBe(wire.BadUserNameOrPassword, "127.0.0.2", "anna", "anna", "locked out: the right one must not be told from a guess")
	h.mustBe(0, "127.0.0.1", "anna", "anna", "the owner")
}

// TestAChangedPasswordIsNotKnown: a change opens nothing to the old password, while the broker was down or is running.
func TestAChangedPasswordIsNotKnown(t *testing.T) {
	before := keeping(t, member(t, "anna", "argon2id"), member(t, "otto", "argon2id"))
	changed := member(t, "changed", "argon2id")
	changed.Username = "anna"
	gone := member(t, "otto")

	prove := func(dir string) *house {
		h := open(t, Options{DataDir: dir}, before)
		h.mustBe(0, "127.0.0.1", "anna", "anna", "the right password")
		h.mustBe(0, "127.0.0.1", "otto", "otto", "the right password")

		return h
	}

	refused := func(h *house) {
		t.Helper()
		h.mustBe(wire.BadUserNameOrPassword, "127.0.0.1", "anna", "anna", "it was changed")
		h.mustBe(wire.BadUserNameOrPassword, "127.0.0.1", "otto", "otto", "it was revoked")
		h.mustBe(0, "127.0.0.1", "anna", "changed", "the new one")
	}

	t.Run("while it was down", func(t *testing.T) {
		dir := t.TempDir()
		prove(dir).close()
		refused(open(t, Options{DataDir: dir}, keeping(t, changed, gone)))
	})

	t.Run("while it runs", func(t *testing.T) {
		dir := t.TempDir()
		h := prove(dir)
		h.mustApply(func(c *contract.Config) { c.Users = []contract.User{changed, gone} })

		if h.ledger.Len() != 0 {
			t.Errorf("%d records of verifiers that are not configured", h.ledger.Len())
		}

		refused(h)
		h.close()

		// The old verifiers come back: their passwords are right, and have to prove it.
		h = open(t, Options{DataDir: dir}, before)
		h.mustBe(0, "127.0.0.1", "anna", "anna", "the right password")

		if got := h.cache.Computed(); got != 1 {
			t.Errorf("%d slow hashes: a record outlived its verifier", got)
		}
	})
}

// TestAnotherBrokersFile: who copies the file gets in nowhere with it.
func TestAnotherBrokersFile(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()

	h := open(t, Options{DataDir: from}, keeping(t, member(t, "anna", "argon2id")))
	h.mustBe(0, "127.0.0.1", "anna", "anna", "the right password")
	h.close()

	content, err := os.ReadFile(ledgerOf(from))
	if err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(ledgerOf(to), content, 0o600); err != nil {
		t.Fatal(err)
	}

	other := member(t, "another", "argon2id")
	other.Username = "anna"

	h = open(t, Options{DataDir: to}, keeping(t, other))
	h.mustBe(wire.BadUserNameOrPassword, "127.0.0.1", "anna", "anna", "the password of another broker's anna")
	h.mustBe(0, "127.0.0.1", "anna", "another", "its own")
}

// TestNothingIsKeptUnasked: the file goes when the option does, and never comes without it.
func TestNothingIsKeptUnasked(t *testing.T) {
	dir := t.TempDir()
	user := member(t, "anna", "argon2id")
	isThere := func() bool {
		_, err := os.Stat(ledgerOf(dir))

		return err == nil
	}

	h := open(t, Options{DataDir: dir}, baseConfig(user))
	h.mustBe(0, "127.0.0.1", "anna", "anna", "the right password")
	h.close()

	if isThere() {
		t.Error("nobody has asked for it")
	}

	h = open(t, Options{DataDir: dir}, baseConfig(user))
	h.mustBe(0, "127.0.0.1", "anna", "anna", "the right password")
	h.mustApply(func(c *contract.Config) { c.Authentication.PasswordCache = contract.PasswordCacheVolume })
	h.mustBe(0, "127.0.0.1", "anna", "anna", "now it is kept")
	eventually(t, "it must be written while the broker runs", isThere)

	crashed := open(t, Options{DataDir: copyStore(t, h)}, keeping(t, user))
	crashed.mustBe(0, "127.0.0.1", "anna", "anna", "after a crash")

	if got := crashed.cache.Computed(); got != 0 {
		t.Errorf("%d slow hashes", got)
	}

	h.mustApply(func(c *contract.Config) { c.Authentication.PasswordCache = "" })

	if isThere() {
		t.Error("it must be gone when the option is turned off")
	}

	h.close()

	if isThere() {
		t.Error("it came back")
	}

	open(t, Options{DataDir: dir}, keeping(t, user)).close()

	h = open(t, Options{DataDir: dir}, keeping(t, user))
	h.mustBe(0, "127.0.0.1", "anna", "anna", "the right password")
	h.close()
	open(t, Options{DataDir: dir}, baseConfig(user))

	if isThere() {
		t.Error("it must be gone when the broker starts without the option")
	}
}

func TestAPasswordCacheWithoutADirectory(t *testing.T) {
	log := &logbook{}
	h := open(t, Options{Log: log.logger()}, keeping(t, member(t, "anna", "argon2id")))
	h.mustBe(0, "127.0.0.1", "anna", "anna", "the right password")
	h.mustApply(func(*contract.Config) {})

	if n := strings.Count(log.String(), "there is no data directory"); n != 1 {
		t.Errorf("%d lines instead of one:\n%s", n, log)
	}
}
