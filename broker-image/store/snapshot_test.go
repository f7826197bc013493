// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// furnish gives a store one of everything.
func furnish(t testing.TB, s *Store) {
	t.Helper()
	will := message("will", 3)
	will.ExpiresAt = 61 // an interval, and one more
	commit(t, s, func(tx *Tx) {
		tx.PutSession(&Session{
			ID: 7, ClientID: "c7", Username: "u", CommonName: "cn", Listener: "l", Version: 5, Expiry: NeverExpires, Connected: true,
			Since: 99, Will: &Will{Message: *will, DueDelay: 5},
		})
		tx.PutSession(&Session{ID: 9, ClientID: "c9", NextSeq: 40, Since: 98})
		tx.PutSubscription(7, "a/#", SubscriptionOptions{QoS: 2, NoLocal: true, RetainHandling: 2, Identifier: 300})
		tx.PutInbound(7, 65535)
		ref := tx.PutMessage(message("shared", 64))
		tx.Enqueue(7, 1, ref, 1, true, []uint32{300, 5})
		tx.Enqueue(9, 50, ref, 2, false, nil)
		tx.Enqueue(7, 2, tx.PutMessage(message("large", inlineMax+1)), 1, false, nil)
		tx.Enqueue(7, 3, tx.PutMessage(message("small", 3)), 2, false, nil)
		tx.Enqueue(7, 4, tx.PutMessage(message("released", 3)), 2, false, nil)
		tx.PutRetained(message("r/1", 10))
		tx.PutMeta("counter", []byte("17"))
	})
	commit(t, s, func(tx *Tx) { tx.Release(7, 4) })
}

// full is all that a store holds, queues and all.
type full struct {
	Image  image
	Queues map[SessionID][]Queued
}

func everything(t testing.TB, dir string) full {
	t.Helper()
	s := open(t, dir, Options{})
	defer shut(t, s)
	f := full{Image: restore(t, s), Queues: map[SessionID][]Queued{}}
	for id := range f.Image.Sessions {
		f.Queues[id] = queue(t, s, id)
	}
	return f
}

type pair struct{ key, value []byte }

// drawn is what a snapshot gives, in steps of so many bytes.
func drawn(t testing.TB, n *Snapshot, size int) []pair {
	t.Helper()
	var all []pair
	for {
		before := len(all)
		err := n.Next(size, func(key, value []byte) {
			all = append(all, pair{append([]byte{}, key...), append([]byte{}, value...)})
		})
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(all) == before {
			t.Fatal("a step without a record")
		}
	}
}

func intake(t testing.TB, dir string, shift int64, records []pair) *Intake {
	t.Helper()
	i, err := NewIntake(dir, shift, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := i.Add(r.key, r.value); err != nil {
			t.Fatalf("%q: %v", r.key, err)
		}
	}
	if err := i.Finish(); err != nil {
		t.Fatal(err)
	}
	return i
}

func TestASnapshotIsTheStoreAtOneMoment(t *testing.T) {
	t.Parallel()
	dir, other := t.TempDir(), t.TempDir()
	s := fresh1(t, dir, Options{})
	for range 50 { // so that its groups have numbers that a new store has not
		commit(t, s, func(tx *Tx) { tx.PutMeta("x", nil) })
	}
	furnish(t, s)
	shut(t, s)
	want := everything(t, dir)

	s = fresh1(t, dir, Options{})
	n, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	commit(t, s, func(tx *Tx) {
		tx.DeleteSession(9)
		tx.Dequeue(7, 2)
		tx.DeleteRetained("r/1")
		tx.PutSession(&Session{ID: 70, ClientID: "later"})
		tx.PutRetained(message("r/later", 1))
	})
	records := drawn(t, n, 1)
	if got, want := n.Holding(), (Holding{Sessions: 2, Subscriptions: 1, Queued: 5, Inbound: 1, Wills: 1, Retained: 1}); got != want {
		t.Errorf("it holds %+v, want %+v", got, want)
	}
	n.Close()
	n.Close()
	if got, err := s.Holding(); err != nil || got != (Holding{Sessions: 2, Subscriptions: 1, Queued: 3, Inbound: 1, Wills: 1, Retained: 1}) {
		t.Errorf("the store holds %+v, %v", got, err)
	}
	shut(t, s)

	// Into a store that has something else, and is open.
	s = fresh1(t, other, Options{})
	commit(t, s, func(tx *Tx) {
		tx.PutSession(&Session{ID: 3, ClientID: "other"})
		tx.PutRetained(message("r/other", 1))
	})
	i := intake(t, other, 0, records)
	if got := i.Holding(); got != (Holding{Sessions: 2, Subscriptions: 1, Queued: 5, Inbound: 1, Wills: 1, Retained: 1}) {
		t.Errorf("it took in %+v", got)
	}
	if err := i.Adopt(); err != nil {
		t.Fatal(err)
	}
	if _, err := NewIntake(other, 0, Options{}); err == nil {
		t.Error("what was adopted must not be thrown away by the next intake")
	}
	shut(t, s)
	if d := cmp.Diff(want, everything(t, other)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	// It goes on as a store of its own: what several sessions wait for goes with the last of them.
	s = fresh1(t, other, Options{})
	if s.Highest() != 9 {
		t.Errorf("the highest session id is %d", s.Highest())
	}
	commit(t, s, func(tx *Tx) { tx.Dequeue(7, 1) })
	if q := queue(t, s, 9); len(q) != 1 || q[0].Message.Topic != "shared" {
		t.Errorf("what the other still waits for: %+v", q)
	}
	commit(t, s, func(tx *Tx) { tx.DeleteSession(9) })
	if st := s.Stats(); st.Shared != 0 {
		t.Errorf("%d shared messages stay behind", st.Shared)
	}
	shut(t, s)
}

func TestTheClocksOfAnIntakeAreMoved(t *testing.T) {
	t.Parallel()
	dir, other := t.TempDir(), t.TempDir()
	s := fresh1(t, dir, Options{})
	furnish(t, s)
	commit(t, s, func(tx *Tx) { tx.PutRetained(&Message{Topic: "r/stays", Created: 5}) })
	n, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	i := intake(t, other, 1000, drawn(t, n, 1<<20))
	n.Close()
	shut(t, s)
	if err := i.Adopt(); err != nil {
		t.Fatal(err)
	}
	got := everything(t, other)
	if c7 := got.Image.Sessions[7].Session; c7.Since != 1099 || c7.Will.Message.ExpiresAt != 61 {
		t.Errorf("session: since %d, the will's interval %d", c7.Since, c7.Will.Message.ExpiresAt-1)
	}
	for _, m := range []*Message{got.Queues[7][0].Message, got.Queues[7][1].Message, got.Queues[7][2].Message, got.Image.Retained["r/1"]} {
		if m.Created != 2234 || m.ExpiresAt != 6678 {
			t.Errorf("%s: created %d, expires at %d", m.Topic, m.Created, m.ExpiresAt)
		}
	}
	if m := got.Image.Retained["r/stays"]; m.Created != 1005 || m.ExpiresAt != 0 {
		t.Errorf("one that never expires: %+v", m)
	}
}

// TestAnIntakeIsAllOrNothing: what a directory holds after the process ended at each place.
func TestAnIntakeIsAllOrNothing(t *testing.T) {
	t.Parallel()
	source := t.TempDir()
	s := fresh1(t, source, Options{})
	furnish(t, s)
	n, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	records := drawn(t, n, 1<<20)
	n.Close()
	shut(t, s)
	all := everything(t, source)

	for name, c := range map[string]struct {
		adopt  bool
		at     func(dir string) error
		reason string
	}{
		"not finished": {reason: "nothing counts before it is adopted"},
		"adopted":      {adopt: true, reason: "all of it counts from then on"},
		"the old one is half": {adopt: true, at: func(dir string) error {
			files, err := filepath.Glob(filepath.Join(dir, innerName, "MANIFEST-*"))
			return errors.Join(err, os.Remove(files[0]))
		}, reason: "it was being removed"},
		"the seal is there": {adopt: true, at: func(dir string) error { return os.RemoveAll(filepath.Join(dir, innerName)) }, reason: "it is of the old one, and must not be compared with the new one"},
		"the old one is gone": {adopt: true, at: func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, innerName)), os.Remove(filepath.Join(dir, sealName)))
		}, reason: "the new one was to be moved next"},
		"moved": {adopt: true, at: func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, innerName)), os.Remove(filepath.Join(dir, sealName)),
				os.Rename(filepath.Join(dir, incomingName, innerName), filepath.Join(dir, innerName)))
		}, reason: "what was moved must not be removed as the old one"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := fresh1(t, dir, Options{})
			commit(t, s, func(tx *Tx) { tx.PutSession(&Session{ID: 3, ClientID: "old"}) })
			shut(t, s)
			want := everything(t, dir)
			i := intake(t, dir, 0, records)
			if h, err := Look(dir, Options{}); err != nil || h != (Holding{Sessions: 1}) {
				t.Errorf("to look changes nothing: %+v, %v", h, err)
			}
			if c.adopt {
				want = all
				if err := i.Adopt(); err != nil {
					t.Fatal(err)
				}
			}
			if c.at != nil {
				if err := c.at(dir); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if d := cmp.Diff(want, everything(t, dir)); d != "" {
					t.Errorf("%s (-want +got):\n%s", c.reason, d)
				}
			}
			for _, left := range []string{incomingName, readyName} {
				if _, err := os.Stat(filepath.Join(dir, left)); err == nil {
					t.Errorf("%s stays behind", left)
				}
			}
		})
	}
}

func TestAnIntakeTakesOnlyWhatAStoreWouldRead(t *testing.T) {
	t.Parallel()
	session := appendSessionKey(nil, 1, partSession)
	at := func(part byte, rest ...byte) []byte { return append(appendSessionKey(nil, 1, part), rest...) }
	for name, records := range map[string][]pair{
		"no key":                      {{nil, nil}},
		"an unknown kind":             {{[]byte("Z"), nil}},
		"the number of a group":       {{[]byte{keyGroup}, make([]byte, 16)}},
		"half a number":               {{[]byte{keyHighest}, make([]byte, 8)}},
		"half a session's key":        {{session[:5], nil}},
		"half a session":              {{session, []byte{0, 5}}},
		"half a subscription":         {{at(partSubscription, 'a'), nil}},
		"a packet id of three bytes":  {{at(partInbound, 1, 2, 3), nil}},
		"a place in a queue too long": {{at(partQueue, 1, 2, 3, 4, 5, 6, 7, 8, 9), appendEntryHead(nil, &entry{released: true})}},
		"half an entry":               {{appendQueueKey(nil, 1, 1), []byte{1}}},
		"an unknown part":             {{at('z'), nil}},
		"half a message":              {{[]byte("Ra"), []byte{0}}},
		"one key twice":               {{[]byte("Ma"), nil}, {[]byte("Ma"), nil}},
		"keys out of order":           {{[]byte("Mb"), nil}, {[]byte("Ma"), nil}},
	} {
		i, err := NewIntake(t.TempDir(), 1, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			err = i.Add(r.key, r.value)
		}
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		i.Discard()
	}
	dir := t.TempDir()
	if _, err := NewIntake(dir, 0, Options{ReserveBytes: 1 << 60}); !errors.Is(err, ErrFull) {
		t.Errorf("no room: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("%v stays behind", left)
	}
}

func TestASnapshotEndsWithItsStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := fresh1(t, dir, Options{})
	furnish(t, s)
	n, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	if err := n.Next(1, func(_, _ []byte) {}); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	n.Close()
	s = open(t, dir, Options{})
	if s.Crashed() {
		t.Error("an open snapshot must not keep a store from its orderly end")
	}
	shut(t, s)
	if _, err := s.Snapshot(); err == nil {
		t.Error("a closed store gives a snapshot")
	}
}

func TestASnapshotEndsWithItsDatabase(t *testing.T) {
	t.Parallel()
	sick := &sickFS{FS: vfs.Default}
	s := fresh1(t, t.TempDir(), Options{fs: sick})
	furnish(t, s)
	n, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Next(1, func(_, _ []byte) {}); err != nil {
		t.Fatal(err)
	}
	hook := func(op, name string) error {
		if op == "sync" && strings.HasSuffix(name, ".log") {
			return syscall.EIO
		}
		return nil
	}
	sick.hook.Store(&hook)
	if err := tryCommit(t, s, func(tx *Tx) { tx.PutMeta("a", nil) }); err == nil {
		t.Fatal("the disk does not fail")
	}
	if err := n.Next(1, func(_, _ []byte) {}); !errors.Is(err, ErrClosed) && !errors.Is(err, ErrReopened) {
		t.Errorf("after the fault: %v", err)
	}
	sick.hook.Store(nil)
	for end := time.Now().Add(patience); s.Fault() != ""; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(s.Fault())
		}
	}
	if err := n.Next(1, func(_, _ []byte) {}); !errors.Is(err, ErrClosed) && !errors.Is(err, ErrReopened) {
		t.Errorf("in the next database: %v", err)
	}
	n.Close()
	if again, err := s.Snapshot(); err != nil {
		t.Error(err)
	} else {
		drawn(t, again, 1)
		again.Close()
	}
	shut(t, s)
}

func TestAFullDiskIsNotSparedForASnapshot(t *testing.T) {
	t.Parallel()
	s := fresh1(t, t.TempDir(), Options{})
	furnish(t, s)
	n, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	s.disk.full.Store(true)
	if err := n.Next(1, func(_, _ []byte) {}); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	n.Close()
	shut(t, s)
}
