// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// thorough makes the search for damage that goes unseen longer: a number of places per file.
const thorough = "STORE_TEST_PLACES"

func places(t *testing.T) int {
	t.Helper()
	if v := os.Getenv(thorough); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 3
}

func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// content is all that a store holds, with the queues.
type content struct {
	Image  image
	Queues map[SessionID][]Queued
}

func contentOf(s *Store) (content, error) {
	i, err := tryRestore(s)
	if err != nil {
		return content{}, err
	}
	c := content{Image: i, Queues: map[SessionID][]Queued{}}
	for id := range i.Sessions {
		if c.Queues[id], err = s.Read(id, 0, 1<<30, 1<<40, nil); err != nil {
			return content{}, err
		}
	}
	return c, nil
}

// stock makes a store with something of each kind in tables, in the log, and in the last group.
func stock(t *testing.T, dir string) *Store {
	t.Helper()
	s := fresh1(t, dir, Options{ReserveBytes: 1})
	for round := range 4 {
		for n := range 60 {
			commit(t, s, func(tx *Tx) {
				id := SessionID(n%5 + 1)
				seq := uint64(round*100 + n + 1)
				tx.PutSession(&Session{ID: id, ClientID: fmt.Sprint("client", id)})
				tx.PutSubscription(id, fmt.Sprint("filter/", n), SubscriptionOptions{QoS: 1})
				tx.PutInbound(id, uint16(n))
				size := 100
				if n%9 == 0 {
					size = 3 * inlineMax
				}
				ref := tx.PutMessage(message(fmt.Sprint("topic/", n), size))
				tx.Enqueue(id, seq, ref, 1, false, nil)
				if n%4 == 0 {
					tx.Enqueue(id+1, seq, ref, 1, false, nil)
				}
				tx.PutRetained(message(fmt.Sprint("retained/", n), 50))
				tx.PutMeta(fmt.Sprint("meta", n), []byte{byte(n)})
			})
		}
		if round < 3 {
			if err := s.database().Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 3 { // the last groups are small: many lie in one block of the log
		commit(t, s, func(tx *Tx) { tx.PutMeta("last", []byte("word")) })
	}
	return s
}

func TestDamageIsNeverSilent(t *testing.T) {
	t.Parallel()
	live := filepath.Join(t.TempDir(), "live")
	s := stock(t, live)
	crashed := filepath.Join(t.TempDir(), "crashed")
	copyTree(t, live, crashed)
	shut(t, s)
	s = open(t, live, Options{})
	want, err := contentOf(s)
	if err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	random := rand.New(rand.NewPCG(1, 2))
	found := map[string]int{}
	tried := map[string]int{}
	for _, origin := range []string{live, crashed} {
		for _, name := range files(t, origin) {
			size := fileSize(t, filepath.Join(origin, name))
			for _, harm := range harms(random, size, places(t)) {
				what := fmt.Sprintf("%s: %s %s", filepath.Base(origin), name, harm.words)
				kind := filepath.Base(origin) + " " + kindOf(name)
				tried[kind]++
				dir := filepath.Join(t.TempDir(), "hurt")
				copyTree(t, origin, dir)
				harm.do(t, filepath.Join(dir, name))
				if err := look(t, dir, what, want); err != nil {
					found[kind]++
					if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFormat) {
						t.Errorf("%s: %v", what, err)
					}
				}
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	t.Logf("tried %v", tried)
	t.Logf("found %v", found)
}

// look opens a store that was hurt. An error is good; wrong content is not.
func look(t *testing.T, dir, what string, want content) error {
	t.Helper()
	s, err := Open(dir, Options{ReserveBytes: 1})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	got, err := contentOf(s)
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(want, got) { // cmp takes a third of a second for it
		t.Errorf("%s: not noticed, and wrong", what)
	}
	return nil
}

type harm struct {
	words string
	do    func(t *testing.T, path string)
}

func harms(random *rand.Rand, size int64, n int) []harm {
	out := []harm{{"removed", func(t *testing.T, path string) {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}}}
	if size == 0 {
		return out[:0] // a name is all there is to it
	}
	for range n {
		at, bit := random.Int64N(size), random.IntN(8)
		out = append(out, harm{fmt.Sprintf("byte %d of %d, bit %d", at, size, bit), func(t *testing.T, path string) {
			t.Helper()
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			b[at] ^= 1 << bit
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}})
	}
	for range n/3 + 1 {
		at := random.Int64N(size)
		out = append(out, harm{fmt.Sprintf("cut at %d of %d", at, size), func(t *testing.T, path string) {
			t.Helper()
			if err := os.Truncate(path, at); err != nil {
				t.Fatal(err)
			}
		}})
	}
	return out
}

func kindOf(name string) string {
	base := filepath.Base(name)
	switch {
	case strings.HasPrefix(base, "MANIFEST"), strings.HasPrefix(base, "OPTIONS"):
		return base[:7]
	case filepath.Ext(base) != "":
		return filepath.Ext(base)
	}
	return base
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{"*", "*/*"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if info, err := os.Stat(n); err != nil || info.IsDir() || filepath.Base(n) == ballastName {
				continue
			}
			rel, err := filepath.Rel(dir, n)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, rel)
		}
	}
	return out
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
