// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// shelf is a place for a ledger, with the users of the moment and a clock that the test sets.
type shelf struct {
	t     *testing.T
	path  string
	users map[string][]*Verifier
	now   time.Time
	mu    sync.Mutex
	log   bytes.Buffer
}

func newShelf(t *testing.T, users map[string][]*Verifier) *shelf {
	t.Helper()

	return &shelf{t: t, path: filepath.Join(t.TempDir(), "kept"), users: users, now: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)}
}

func (s *shelf) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.log.Write(p)
}

func (s *shelf) logged() string {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.log.String()
}

// start is the start of a process: nothing is known but what the file says.
func (s *shelf) start() (*Cache, *Ledger) {
	s.t.Helper()

	c := NewCache(10)
	l := OpenLedger(LedgerOptions{
		Path: s.path, Log: slog.New(slog.NewTextHandler(s, nil)), Now: func() time.Time { return s.now }, Delay: time.Hour,
		Configured: func(username, verifier string) bool {
			for _, v := range s.users[username] {
				if v.text == verifier {
					return true
				}
			}

			return false
		},
	}, maps.All(s.users))

	c.Keep(l)
	s.t.Cleanup(l.end)

	return c, l
}

// prove has a process check a password of each user, and end.
func (s *shelf) prove(passwords map[string]string) {
	s.t.Helper()

	c, l := s.start()

	for name, password := range passwords {
		if c.Verify(name, s.users[name], []byte(password)) == nil {
			s.t.Fatalf("the password of %s must be right", name)
		}
	}

	l.Close()
}

// costs is how many slow hashes a password costs, and whether it opens.
func (s *shelf) costs(c *Cache, name, password string) (computed int64, opened bool) {
	s.t.Helper()

	before := c.Computed()
	opened = c.Verify(name, s.users[name], []byte(password)) != nil

	return c.Computed() - before, opened
}

func (s *shelf) file() []byte {
	s.t.Helper()

	content, err := os.ReadFile(s.path)
	if err != nil {
		s.t.Fatal(err)
	}

	return content
}

func (s *shelf) put(content []byte) {
	s.t.Helper()

	if err := os.WriteFile(s.path, content, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// cheap is argon2id that costs little, with a salt of its own.
func cheap(t testing.TB, password, salt string) *Verifier {
	t.Helper()

	v := &Verifier{scheme: schemeArgon2id, memory: minMemory, time: 1, threads: 1}

	return mustParse(t, fmt.Sprintf("$argon2id$v=19$m=8,t=1,p=1$%s$%s", encoding.EncodeToString([]byte(salt)),
		encoding.EncodeToString(v.compute([]byte(password), []byte(salt), minHash))), nil)
}

// signed puts the right sum under what was changed: whoever writes the file can do that, too.
func signed(content []byte) []byte {
	body := content[:len(content)-sha256.Size]
	sum := sha256.Sum256(body)

	return append(bytes.Clone(body), sum[:]...)
}

func TestALedgerOutlivesTheProcess(t *testing.T) {
	right := map[string]string{"anna": secret, "otto": "pässword with space", "emil": "password", "hugo": "password", "lisa": "password"}
	s := newShelf(t, map[string][]*Verifier{
		"anna": {argon(t, secret)}, "otto": {mustParse(t, mosquitto7, nil)}, "emil": {mustParse(t, bcrypt2b, nil)},
		"hugo": {mustParse(t, passlib256, nil)}, "lisa": {mustParse(t, "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", nil)},
	})
	s.prove(right)

	c, _ := s.start()

	for name, password := range right {
		if computed, opened := s.costs(c, name, password); computed != 0 || !opened {
			t.Errorf("%s: %d slow hashes, opened: %t", name, computed, opened)
		}

		for _, wrong := range []string{"", password + "x", password[1:], "guess"} {
			if computed, opened := s.costs(c, name, wrong); computed != 1 || opened {
				t.Errorf("%s with %q: %d slow hashes, opened: %t: a wrong password must cost what it always did", name, wrong, computed, opened)
			}
		}
	}

	if c.Quick("anna", s.users["anna"], []byte(secret)) == nil {
		t.Error("what is known from before must not wait for its turn")
	}
}

// TestWhatALedgerLeavesOut: the salt of SCRAM is told to whoever asks, and with it the file would test guesses.
func TestWhatALedgerLeavesOut(t *testing.T) {
	s := newShelf(t, map[string][]*Verifier{"anna": {mustParse(t, scram7677, nil)}, "otto": {fast(t, secret)}})
	s.prove(map[string]string{"anna": "pencil", "otto": secret})

	if _, err := os.Stat(s.path); !os.IsNotExist(err) {
		t.Errorf("there must be no file, since nothing is worth keeping: %v", err)
	}

	c, _ := s.start()
	if computed, opened := s.costs(c, "anna", "pencil"); computed != 1 || !opened {
		t.Errorf("%d slow hashes, opened: %t", computed, opened)
	}
}

// TestALedgerOpensNothingElse: the file comes to a broker whose users have other verifiers, be it that a password was
// changed or revoked, or that somebody has copied it.
func TestALedgerOpensNothingElse(t *testing.T) {
	v := cheap(t, secret, "somesalt")

	for name, tc := range map[string]struct {
		reason string
		users  map[string][]*Verifier
		as     string
		opens  bool
	}{
		"changed":            {reason: "the old password must end with its verifier", users: map[string][]*Verifier{"anna": {cheap(t, "another", "somesalt")}}, as: "anna"},
		"revoked":            {reason: "who has no verifier has no password", users: map[string][]*Verifier{"anna": {}}, as: "anna"},
		"deleted":            {reason: "who does not exist has no password", users: map[string][]*Verifier{}, as: "anna"},
		"another salt":       {reason: "the same password by another verifier has to be proved anew", users: map[string][]*Verifier{"anna": {cheap(t, secret, "another salt")}}, as: "anna", opens: true},
		"the user's name":    {reason: "a record belongs to one user, even where another has the same verifier", users: map[string][]*Verifier{"otto": {v}}, as: "otto", opens: true},
		"a fast one instead": {reason: "it is checked by itself", users: map[string][]*Verifier{"anna": {fast(t, "another")}}, as: "anna"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t, map[string][]*Verifier{"anna": {v}})
			s.prove(map[string]string{"anna": secret})

			there := newShelf(t, tc.users)
			there.put(s.file())

			c, l := there.start()
			if l.Len() != 0 || c.Quick(tc.as, tc.users[tc.as], []byte(secret)) != nil {
				t.Errorf("%s: %d records were taken over", tc.reason, l.Len())
			}

			if _, opened := there.costs(c, tc.as, secret); opened != tc.opens {
				t.Errorf("%s: opened: %t", tc.reason, opened)
			}
		})
	}
}

// TestALedgerUnderARunningBroker: a verifier goes while the process lives, and its record with it, from the disk at once.
func TestALedgerUnderARunningBroker(t *testing.T) {
	s := newShelf(t, map[string][]*Verifier{"anna": {cheap(t, secret, "somesalt")}, "otto": {cheap(t, "otto", "somesalt")}})
	s.prove(map[string]string{"anna": secret, "otto": "otto"})

	c, l := s.start()
	gone := s.users["anna"]
	s.users = map[string][]*Verifier{"anna": {cheap(t, "new", "somesalt")}, "otto": s.users["otto"]}
	l.Sweep()

	if _, opened := s.costs(c, "anna", secret); opened || l.Len() != 1 {
		t.Errorf("the old password opened: %t; %d records are left", opened, l.Len())
	}

	// A check that began before the change ends now.
	if c.Verify("anna", gone, []byte(secret)) == nil || l.Len() != 1 {
		t.Errorf("%d records: what is not configured must not be kept", l.Len())
	}

	// The delay is an hour, yet this is written at once.
	for deadline := time.Now().Add(time.Minute); len(s.file()) != len(ledgerMagic)+2*sha256.Size+recordBytes; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("the record is still on the disk")
		}
	}
}

func TestALedgerThatIsDamaged(t *testing.T) {
	s := newShelf(t, map[string][]*Verifier{"anna": {cheap(t, secret, "somesalt")}})
	s.prove(map[string]string{"anna": secret})

	good := s.file()
	cases := map[string][]byte{
		"empty": {}, "cut in its head": good[:len(ledgerMagic)+3], "cut in a record": good[:len(good)-40], "without its sum": good[:len(good)-sha256.Size],
		"longer": append(bytes.Clone(good), 0), "another file": []byte(strings.Repeat("something else ", 20)),
		"a record more": append(bytes.Clone(good), make([]byte, recordBytes)...), "of a later version": bytes.Replace(good, []byte(" 1\n"), []byte(" 2\n"), 1),
	}

	for at := 0; at < len(good); at += 7 {
		flipped := bytes.Clone(good)
		flipped[at] ^= 0x10
		cases[fmt.Sprintf("byte %d", at)] = flipped
	}

	for name, content := range cases {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t, s.users)
			s.put(content)

			c, l := s.start()
			if computed, opened := s.costs(c, "anna", secret); computed != 1 || !opened {
				t.Errorf("%d slow hashes, opened: %t", computed, opened)
			}

			if n := strings.Count(s.logged(), "level=WARN"); n != 1 {
				t.Errorf("%d lines instead of one:\n%s", n, s.logged())
			}

			l.Close()

			c, _ = s.start()
			if computed, opened := s.costs(c, "anna", secret); computed != 0 || !opened {
				t.Errorf("it must be a good file again: %d slow hashes, opened: %t", computed, opened)
			}
		})
	}

	t.Run("a directory", func(t *testing.T) {
		s := newShelf(t, s.users)
		if err := os.MkdirAll(filepath.Join(s.path, "x"), 0o700); err != nil {
			t.Fatal(err)
		}

		s.prove(map[string]string{"anna": secret})

		if n := strings.Count(s.logged(), "level=WARN"); n != 2 { // it can be neither read nor written
			t.Errorf("%d lines instead of two:\n%s", n, s.logged())
		}
	})
}

// TestALedgerThatIsForged: whoever can write the file but does not know the hash gets nobody in, and locks nobody out.
func TestALedgerThatIsForged(t *testing.T) {
	s := newShelf(t, map[string][]*Verifier{"anna": {cheap(t, secret, "somesalt")}, "otto": {cheap(t, "otto", "somesalt")}})
	s.prove(map[string]string{"anna": secret, "otto": "otto"})

	good := s.file()
	record := func(content []byte, i int) []byte {
		return content[len(ledgerMagic)+sha256.Size+i*recordBytes:][:recordBytes]
	}
	guess := []byte("guess")

	for name, forge := range map[string]func(content []byte){
		"a tag without a key": func(c []byte) {
			sum := sha256.Sum256(guess)
			copy(record(c, 0)[idBytes:], sum[:])
			copy(record(c, 1)[idBytes:], sum[:])
		},
		"a tag under the salt": func(c []byte) {
			mac := hmac.New(sha256.New, c[len(ledgerMagic):][:sha256.Size])
			mac.Write(guess)
			sum := mac.Sum(nil)
			copy(record(c, 0)[idBytes:], sum)
			copy(record(c, 1)[idBytes:], sum)
		},
		"tags exchanged": func(c []byte) {
			first := bytes.Clone(record(c, 0)[idBytes:])
			copy(record(c, 0)[idBytes:], record(c, 1)[idBytes:])
			copy(record(c, 1)[idBytes:], first)
		},
		"names exchanged": func(c []byte) {
			first := bytes.Clone(record(c, 0)[:idBytes])
			copy(record(c, 0)[:idBytes], record(c, 1)[:idBytes])
			copy(record(c, 1)[:idBytes], first)
		},
		"another salt": func(c []byte) { c[len(ledgerMagic)] ^= 1 },
		"zeros": func(c []byte) {
			clear(record(c, 0)[idBytes:][:sha256.Size])
			clear(record(c, 1)[idBytes:][:sha256.Size])
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t, s.users)
			content := bytes.Clone(good)
			forge(content)
			s.put(signed(content))

			c, l := s.start()

			for user, passwords := range map[string][]string{"anna": {"guess", "otto", ""}, "otto": {"guess", secret, ""}} {
				for _, p := range passwords {
					if computed, opened := s.costs(c, user, p); computed != 1 || opened {
						t.Errorf("%s with %q: %d slow hashes, opened: %t", user, p, computed, opened)
					}
				}
			}

			for user, p := range map[string]string{"anna": secret, "otto": "otto"} {
				if _, opened := s.costs(c, user, p); !opened {
					t.Errorf("%s is locked out", user)
				}
			}

			l.Close()

			c, _ = s.start()
			if computed, _ := s.costs(c, "anna", secret); computed != 0 {
				t.Error("what was proved must stand in the file in place of the forgery")
			}
		})
	}
}

// TestALedgerTellsNothing: neither who has logged in, nor anything to test a guess with.
func TestALedgerTellsNothing(t *testing.T) {
	v := cheap(t, secret, "somesalt")
	s := newShelf(t, map[string][]*Verifier{"anna-of-the-north": {v}})
	s.prove(map[string]string{"anna-of-the-north": secret})

	content := s.file()
	for what, part := range map[string][]byte{
		"the name": []byte("anna"), "the password": []byte(secret), "the hash": v.bytes(v.hash), "its text": []byte(v.text[v.hash:]), "the salt": []byte("somesalt"),
	} {
		if bytes.Contains(content, part) {
			t.Errorf("the file holds %s", what)
		}
	}

	if info, err := os.Stat(s.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}

	// Whoever knows name, salt, parameters and even the password, but not the hash, cannot tell that the guess is right.
	_, l := s.start()
	k := l.known[holding{"anna-of-the-north", v.text}]
	other := *v
	other.text = v.text[:v.hash] + encoding.EncodeToString(make([]byte, minHash))

	if id, key := l.derive("anna-of-the-north", &other); id == k.id || bytes.Equal(key, func() []byte { _, key := l.derive("anna-of-the-north", v); return key }()) {
		t.Error("the key does not hang on the hash")
	}

	// The same users on two brokers, or after a new beginning: nothing shows that they are the same.
	elsewhere := newShelf(t, s.users)
	elsewhere.prove(map[string]string{"anna-of-the-north": secret})

	if bytes.Contains(elsewhere.file(), k.id[:]) || bytes.Contains(elsewhere.file(), k.tag[:]) {
		t.Error("two files can be compared")
	}
}

func TestALedgerForgetsWhatNobodyUses(t *testing.T) {
	s := newShelf(t, map[string][]*Verifier{"anna": {cheap(t, secret, "somesalt")}, "otto": {cheap(t, "otto", "somesalt")}})
	s.prove(map[string]string{"anna": secret, "otto": "otto"})

	s.now = s.now.AddDate(0, 0, keptDays)
	s.prove(map[string]string{"anna": secret}) // is used on the last day

	s.now = s.now.AddDate(0, 0, 1)

	c, l := s.start()
	if l.Len() != 1 {
		t.Errorf("%d records; one was not used for long", l.Len())
	}

	if computed, _ := s.costs(c, "otto", "otto"); computed != 1 {
		t.Error("it must be checked anew")
	}

	// A process that runs on for long: nobody reads the file meanwhile.
	s.now = s.now.AddDate(0, 0, keptDays+1)
	for name, password := range map[string]string{"anna": secret, "otto": "otto"} {
		if l.opens(name, s.users[name][0], []byte(password)) {
			t.Errorf("%s: the record is too old", name)
		}
	}

	l.Close()

	if n := len(s.file()); n != len(ledgerMagic)+2*sha256.Size {
		t.Errorf("%d bytes: what is too old must be gone", n)
	}

	// A clock that ran ahead is set right: what was used then counts as used now.
	s.prove(map[string]string{"anna": secret})
	s.now = s.now.AddDate(-1, 0, 0)

	if _, l := s.start(); l.Len() != 1 || l.known[holding{"anna", s.users["anna"][0].text}].day != l.today() {
		t.Errorf("%v", l.known)
	}
}

// TestALedgerThatCannotBeWritten: the disk is full or broken. Everything goes on, one line tells of it.
func TestALedgerThatCannotBeWritten(t *testing.T) {
	s := newShelf(t, map[string][]*Verifier{"anna": {cheap(t, secret, "somesalt")}, "otto": {cheap(t, "otto", "somesalt")}})
	s.path = filepath.Join(s.path, "not yet", "kept")

	c, l := s.start()

	for name, password := range map[string]string{"anna": secret, "otto": "otto"} {
		if _, opened := s.costs(c, name, password); !opened {
			t.Errorf("%s must get in", name)
		}

		l.save()
	}

	if n := strings.Count(s.logged(), "level=WARN"); n != 1 {
		t.Errorf("%d lines instead of one:\n%s", n, s.logged())
	}

	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		t.Fatal(err)
	}

	l.Close()

	if _, l := s.start(); l.Len() != 2 {
		t.Errorf("%d records: what could not be written at first must be written later", l.Len())
	}
}

func TestALedgerThatIsGivenUp(t *testing.T) {
	s := newShelf(t, map[string][]*Verifier{"anna": {cheap(t, secret, "somesalt")}})
	s.prove(map[string]string{"anna": secret})

	c, l := s.start()
	c.Keep(nil)
	l.Discard()

	if computed, opened := s.costs(c, "anna", secret); computed != 1 || !opened {
		t.Errorf("%d slow hashes, opened: %t", computed, opened)
	}

	if left, _ := filepath.Glob(s.path + "*"); len(left) != 0 {
		t.Errorf("%v is left", left)
	}

	if err := RemoveLedger(s.path); err != nil {
		t.Error(err)
	}
}

// TestALedgerThatComesLate: what the process remembers is kept from when its password is used again.
func TestALedgerThatComesLate(t *testing.T) {
	s := newShelf(t, map[string][]*Verifier{"anna": {cheap(t, secret, "somesalt")}})

	c, l := s.start()
	c.Keep(nil)
	s.costs(c, "anna", secret)
	c.Keep(l)

	if computed, _ := s.costs(c, "anna", secret); computed != 0 || l.Len() != 1 {
		t.Errorf("%d slow hashes, %d records", computed, l.Len())
	}
}

// TestManyAtOnce has logins, changes and writings meet.
func TestManyAtOnce(t *testing.T) {
	s := newShelf(t, map[string][]*Verifier{})
	passwords := map[string]string{}

	for i := range 20 {
		name := fmt.Sprint("user", i)
		s.users[name], passwords[name] = []*Verifier{cheap(t, name, "somesalt")}, name
	}

	c, l := s.start()

	var wg sync.WaitGroup

	for name, password := range passwords {
		wg.Go(func() {
			for range 20 {
				c.Verify(name, s.users[name], []byte(password))
				l.Sweep()
				l.save()
			}
		})
	}

	wg.Wait()
	l.Close()

	if _, l := s.start(); l.Len() != 20 {
		t.Errorf("%d records", l.Len())
	}
}

func BenchmarkLedger(b *testing.B) {
	v := argon(b, secret)
	l := OpenLedger(LedgerOptions{
		Path: filepath.Join(b.TempDir(), "kept"), Log: slog.New(slog.DiscardHandler), Delay: time.Hour,
		Configured: func(string, string) bool { return true },
	}, maps.All(map[string][]*Verifier{}))

	defer l.Close()

	l.note("anna", v, []byte(secret))

	b.Run("opens", func(b *testing.B) {
		for b.Loop() {
			l.opens("anna", v, []byte(secret))
		}
	})
	b.Run("touch", func(b *testing.B) {
		for b.Loop() {
			l.touch("anna", v, []byte(secret))
		}
	})
}

func FuzzLedger(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte(ledgerMagic))
	f.Add(signed(append([]byte(ledgerMagic), make([]byte, 2*sha256.Size+2*recordBytes)...)))
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, c := range [][]byte{content, signed(append([]byte(ledgerMagic), append(bytes.Clone(content), make([]byte, sha256.Size)...)...))} {
			if _, records, err := parseLedger(c); err == nil && len(records)*recordBytes > len(c) {
				t.Errorf("%d records in %d bytes", len(records), len(c))
			}
		}
	})
}
