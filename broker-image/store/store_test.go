// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const patience = 20 * time.Second

func open(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

// image is all that a store holds.
type image struct {
	Sessions map[SessionID]*Restored
	Retained map[string]*Message
	Meta     map[string]string
}

func restore(t testing.TB, s *Store) image {
	t.Helper()
	i, err := tryRestore(s)
	if err != nil {
		t.Fatalf("restore: %v", err)
	}
	return i
}

func tryRestore(s *Store) (image, error) {
	i := image{Sessions: map[SessionID]*Restored{}, Retained: map[string]*Message{}, Meta: map[string]string{}}
	err := s.Restore(Visitor{
		Session:  func(r *Restored) error { i.Sessions[r.Session.ID] = r; return nil },
		Retained: func(m *Message) error { i.Retained[m.Topic] = m; return nil },
		Meta:     func(k string, v []byte) error { i.Meta[k] = string(v); return nil },
	})
	return i, err
}

func fresh1(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s := open(t, dir, o)
	restore(t, s)
	return s
}

func shut(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// commit commits what build puts into a transaction, and waits for it.
func commit(t testing.TB, s *Store, build func(*Tx)) {
	t.Helper()
	if err := tryCommit(t, s, build); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

func tryCommit(t testing.TB, s *Store, build func(*Tx)) error {
	t.Helper()
	tx := s.Begin()
	build(tx)
	done := make(chan error, 1)
	s.Commit(tx, false, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		t.Fatal("commit: no answer")
		return nil
	}
}

func message(topic string, size int) *Message {
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(i * 7)
	}
	return &Message{
		Topic: topic, Payload: p, Properties: []byte{1, 2, 3}, QoS: 1, Created: 1234, ExpiresAt: 5678, Publisher: "pub",
	}
}

func queue(t testing.TB, s *Store, id SessionID) []Queued {
	t.Helper()
	q, err := s.Read(id, 0, 1<<30, 1<<40, nil)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return q
}

func TestAllThatIsStoredComesBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := fresh1(t, dir, Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if s.Crashed() {
		t.Error("a new store says that it crashed")
	}
	will := message("will", 3)
	one := &Session{
		ID: 7, ClientID: "c7", Username: "u", Listener: "l", Version: 5, Expiry: NeverExpires, Connected: true, Since: 99,
		Will: &Will{Message: *will, DueDelay: 5},
	}
	small, large := message("a/b", 64), message("big", inlineMax+1)
	commit(t, s, func(tx *Tx) {
		tx.PutSession(one)
		tx.PutSession(&Session{ID: 9, ClientID: "c9", NextSeq: 40})
		tx.PutSubscription(7, "a/#", SubscriptionOptions{QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 2, Identifier: 300})
		tx.PutSubscription(7, "gone", SubscriptionOptions{})
		tx.DeleteSubscription(7, "gone")
		tx.PutInbound(7, 65535)
		tx.PutInbound(7, 3)
		tx.DeleteInbound(7, 3)
		ref := tx.PutMessage(small)
		tx.Enqueue(7, 1, ref, 1, true, []uint32{300, 5})
		tx.Enqueue(9, 50, ref, 2, false, nil)
		tx.Enqueue(7, 2, tx.PutMessage(large), 1, false, nil)
		tx.Enqueue(7, 3, tx.PutMessage(small), 2, false, nil)
		tx.PutRetained(message("r/1", 10))
		tx.PutRetained(message("r/2", 10))
		tx.DeleteRetained("r/2")
		tx.PutMeta("counter", []byte("17"))
	})
	want := []Queued{
		{Seq: 1, QoS: 1, Retain: true, Identifiers: []uint32{300, 5}, Message: small},
		{Seq: 2, QoS: 1, Message: large},
		{Seq: 3, QoS: 2, Message: small},
	}
	if d := cmp.Diff(want, queue(t, s, 7)); d != "" {
		t.Errorf("before the restart (-want +got):\n%s", d)
	}
	commit(t, s, func(tx *Tx) { tx.Release(7, 3) })
	want[2] = Queued{Seq: 3, QoS: 2, Released: true}
	shut(t, s)

	s = open(t, dir, Options{})
	defer shut(t, s)
	if s.Crashed() || s.Highest() != 9 {
		t.Errorf("crashed %v, highest %d", s.Crashed(), s.Highest())
	}
	got := restore(t, s)
	smallSize, largeSize := int64(len(appendMessage(nil, small))), int64(len(appendMessage(nil, large)))
	wantImage := image{
		Sessions: map[SessionID]*Restored{
			7: {
				Session: *one, Inbound: []uint16{65535},
				Subscriptions: []Subscription{{Filter: "a/#", SubscriptionOptions: SubscriptionOptions{QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 2, Identifier: 300}}},
				Queue:         QueueInfo{Count: 3, Bytes: smallSize + largeSize, First: 1, Next: 4},
			},
			9: {Session: Session{ID: 9, ClientID: "c9", NextSeq: 40}, Queue: QueueInfo{Count: 1, Bytes: smallSize, First: 50, Next: 51}},
		},
		Retained: map[string]*Message{"r/1": message("r/1", 10)},
		Meta:     map[string]string{"counter": "17"},
	}
	if d := cmp.Diff(wantImage, got); d != "" {
		t.Errorf("after the restart (-want +got):\n%s", d)
	}
	if d := cmp.Diff(want, queue(t, s, 7)); d != "" {
		t.Errorf("after the restart (-want +got):\n%s", d)
	}
	if q := queue(t, s, 9); len(q) != 1 || !cmp.Equal(q[0].Message, small) {
		t.Errorf("the shared message came back as %v", q)
	}
}

func TestCommitsAreAnsweredInOrder(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []int
	s := fresh1(t, t.TempDir(), Options{})
	var wg sync.WaitGroup
	for i := range 2000 {
		tx := s.Begin()
		tx.PutMeta(strconv.Itoa(i%7), []byte(strconv.Itoa(i)))
		wg.Add(1)
		s.Commit(tx, i%5 == 0, func(err error) {
			defer wg.Done()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			got = append(got, i)
		})
	}
	wg.Wait()
	for i := range got {
		if got[i] != i {
			t.Fatalf("answer %d was for commit %d", i, got[i])
		}
	}
	if st := s.Stats(); st.Transactions != 2000 || st.Groups > 1500 || st.Pending != 0 {
		t.Errorf("stats %+v", st)
	}
	shut(t, s)
	if err := tryCommit(t, s, func(tx *Tx) { tx.PutMeta("a", nil) }); !errors.Is(err, ErrClosed) {
		t.Errorf("commit after close: %v", err)
	}
}
