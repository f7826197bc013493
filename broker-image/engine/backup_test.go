// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqtt-operator/mqtt-operator/broker-image/snapshot"
	"github.com/mqtt-operator/mqtt-operator/broker-image/store"
)

// saved is a backup of the broker as it is now.
func (h *house) saved() []byte {
	h.t.Helper()

	var b bytes.Buffer
	if _, err := h.Backup(h.t.Context(), &b); err != nil {
		h.t.Fatal(err)
	}

	return b.Bytes()
}

// restored is the broker that begins with what was saved.
func (h *house) restored(saved []byte, o RestoreOptions) *house {
	h.t.Helper()

	r, err := h.Restore(h.t.Context(), bytes.NewReader(saved), o)
	if err != nil {
		h.t.Fatal(err)
	}

	h.close()

	if err := r.Commit(); err != nil {
		h.t.Fatal(err)
	}

	return open(h.t, Options{DataDir: h.options.DataDir}, h.config)
}

// returning is a client whose session outlives its connection.
func returning(id, user string) login {
	return login{version: 5, id: id, user: user, resume: true, props: u32prop(pExpiry, 3600)}
}

// TestABackupBringsEverythingBack: one broker's state goes to another, which is empty.
func TestABackupBringsEverythingBack(t *testing.T) {
	config := baseConfig(person(t, "anna", allow("#")), person(t, "otto", allow("#")), person(t, "reader", allow("#")))
	h := open(t, Options{DataDir: t.TempDir()}, config)

	anna := h.login(returning("anna", "anna"))
	anna.subscribe(2, "a/#")

	otto := h.login(login{
		version: 5, id: "otto", user: "otto", resume: true, props: u32prop(pExpiry, 3600), willTopic: "a/will", willText: "gone",
		willQoS: 1, willProps: u32prop(pWillDelay, 1),
	})

	for i, qos := range []byte{1, 2, 2} {
		otto.publish(posted{topic: fmt.Sprintf("a/%d", i), payload: "in flight", qos: qos})

		if qos == 1 {
			otto.expect(tPuback)
		} else {
			id := otto.expect(tPubrec).body[:2]
			otto.send(packet{kind: tPubrel, flags: 2, body: id})
			otto.expect(tPubcomp)
		}
	}

	// The first is sent and not acknowledged, the second neither, of the third the first half is done.
	var ids []uint16
	for range 3 {
		ids = append(ids, anna.message().id)
	}

	anna.send(packet{kind: tPubrec, body: binary.BigEndian.AppendUint16(nil, ids[2])})
	anna.expect(tPubrel)
	_ = anna.Close()
	eventually(t, "anna is still here", func() bool { return h.session("anna").conn.Load() == nil })

	for i := range 20 {
		if code := otto.published("a/queued", strconv.Itoa(i), false); code != 0 {
			t.Fatalf("PUBACK %#x", code)
		}
	}

	otto.published("r/kept", "kept", true)

	// A message of QoS 2 that is not released.
	once := otto.publish(posted{topic: "a/once", payload: "once", qos: 2})
	otto.expect(tPubrec)

	saved := h.saved()
	otto.published("a/queued", "after the backup", false)
	otto.published("r/kept", "after the backup", true)
	_ = otto.Close()
	h.close()

	other := open(t, Options{DataDir: t.TempDir()}, config)
	h = other.restored(saved, RestoreOptions{})

	if s := h.Status(); s.Sessions != 2 {
		t.Errorf("%d sessions", s.Sessions)
	}

	reader := h.login(login{version: 5, id: "reader", user: "reader"})
	reader.subscribe(1, "r/#")

	if m := reader.message(); m.payload != "kept" || !m.retain {
		t.Errorf("retained: %+v", m)
	}

	anna = newPeer(t, h.dial("tcp"), 5)
	l := returning("anna", "anna")
	l.password = "anna"
	anna.send(l.packet())

	if ack := anna.expect(tConnack); ack.body[0] != 1 || ack.body[1] != 0 {
		t.Fatalf("CONNACK % x: the session must be there", ack.body[:2])
	}

	for i := range 2 {
		pk := anna.expect(tPublish)
		if m := anna.decode(pk); m.topic != fmt.Sprintf("a/%d", i) || m.id != ids[i] || pk.flags&8 == 0 {
			t.Errorf("in flight: %+v, flags %#x; want packet id %d, and DUP", m, pk.flags, ids[i])
		}
	}

	if pk := anna.expect(tPubrel); binary.BigEndian.Uint16(pk.body) != ids[2] {
		t.Errorf("PUBREL % x, want packet id %d", pk.body, ids[2])
	}

	for i := range 20 {
		if m := anna.message(); m.topic != "a/queued" || m.payload != strconv.Itoa(i) || m.qos != 1 {
			t.Fatalf("queued: %+v, want %d", m, i)
		}
	}

	if m := anna.message(); m.topic != "a/once" || m.qos != 2 {
		t.Errorf("queued: %+v", m)
	}

	// Otto was connected when the backup was made: his will is due, as after a crash.
	if m := anna.message(); m.topic != "a/will" || m.payload != "gone" {
		t.Errorf("the will: %+v", m)
	}

	anna.nothing("what came after the backup is not in it")

	// And his message of QoS 2 is known to have come.
	l = returning("otto", "otto")
	otto = h.login(l)
	otto.send(packet{kind: tPublish, flags: 4 | 8, body: append(append(binary.BigEndian.AppendUint16(text("a/once"), once), 0), "once"...)})
	otto.expect(tPubrec)
	anna.nothing("a message of QoS 2 must not come twice")
}

// counting is a publisher that does not rest: each message, of QoS 1 and retained, says how many there were with it.
func (h *house) counting(stop *atomic.Bool, acked *atomic.Int64, payload int) chan struct{} {
	h.t.Helper()

	p := h.login(login{version: 5, id: "counter", user: "counter"})
	over := make(chan struct{})

	go func() {
		defer close(over)

		fill := strings.Repeat("x", payload)

		for i := int64(1); !stop.Load(); i++ {
			flags, body := byte(1<<1|1), binary.BigEndian.AppendUint16(text("count"), uint16(i%65535+1))
			body = append(append(body, 0), strconv.FormatInt(i, 10)+" "+fill...)

			if _, err := p.Write((packet{kind: tPublish, flags: flags, body: body}).encode()); err != nil {
				return
			}

			if pk, err := p.receive(); err != nil || pk.kind != tPuback {
				return
			}

			acked.Store(i)
		}
	}()

	return over
}

// TestABackupUnderLoadHasNoGap: one message goes to two sessions and is retained, in one piece. So in a backup all three end
// with the same message, begin with the first, and miss none between; and all that was acknowledged before is in it.
func TestABackupUnderLoadHasNoGap(t *testing.T) {
	config := baseConfig(person(t, "counter", allow("#")), person(t, "anna", allow("#")), person(t, "otto", allow("#")))
	config.Limits.MaxQueuedMessages, config.Limits.MaxQueuedBytes = 1_000_000, 4<<30
	h := open(t, Options{DataDir: t.TempDir()}, config)

	for _, name := range []string{"anna", "otto"} {
		p := h.login(returning(name, name))
		p.subscribe(1, "count")
		p.bye()
	}

	var (
		stop  atomic.Bool
		acked atomic.Int64
	)

	over := h.counting(&stop, &acked, 2000)
	eventually(t, "nothing is counted", func() bool { return acked.Load() > 500 })

	for round := range 3 {
		before := acked.Load()
		saved := h.saved()
		at := acked.Load()
		eventually(t, "the publisher stands still", func() bool { return acked.Load() > at+100 })

		other := open(t, Options{DataDir: t.TempDir()}, config).restored(saved, RestoreOptions{})

		last := make(map[string]int64)
		for _, name := range []string{"anna", "otto"} {
			last[name] = other.countsOf(name)
		}

		m, found := other.retained.Get("count")
		if !found {
			t.Fatal("nothing is retained")
		}

		last["retained"] = number(t, string(m.payload))
		t.Logf("round %d: %d were acknowledged before, %d are in the backup, %d were acknowledged behind it", round, before, last["anna"], at)

		if last["anna"] != last["otto"] || last["anna"] != last["retained"] || last["anna"] < before || last["anna"] > at+1 {
			t.Errorf("round %d: %v, want the same everywhere, between %d and %d", round, last, before, at+1)
		}

		other.close()
	}

	stop.Store(true)
	<-over
}

func number(t testing.TB, payload string) int64 {
	t.Helper()

	word, _, _ := strings.Cut(payload, " ")

	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		t.Fatal(err)
	}

	return n
}

// countsOf reads the queue of a session on disk and gives the last number in it. There must be no gap before it.
func (h *house) countsOf(id string) int64 {
	h.t.Helper()

	last, from := int64(0), uint64(0)

	for {
		found, err := h.store.Read(h.session(id).id, from, 1000, 1<<20, nil)
		if err != nil {
			h.t.Fatal(err)
		}

		for i := range found {
			n := number(h.t, string(found[i].Message.Payload))
			if n != last+1 {
				h.t.Fatalf("%s has %d behind %d", id, n, last)
			}

			last, from = n, found[i].Seq+1
		}

		if len(found) == 0 {
			return last
		}
	}
}

// peak is a reader that is slow enough to look at the memory in use.
type peak struct {
	base, most, bytes int64
}

func (p *peak) Write(b []byte) (int, error) {
	p.bytes += int64(len(b))
	p.most = max(p.most, heap())

	return len(b), nil
}

// TestABackupNeedsLittleMemory: however much there is, and while a client publishes.
func TestABackupNeedsLittleMemory(t *testing.T) {
	config := baseConfig(person(t, "counter", allow("#")), person(t, "anna", allow("#")))
	config.Limits.MaxQueuedMessages, config.Limits.MaxQueuedBytes = 1_000_000, 4<<30
	h := open(t, Options{DataDir: t.TempDir()}, config)

	p := h.login(returning("anna", "anna"))
	p.subscribe(1, "count", "bulk")
	p.bye()

	var (
		stop  atomic.Bool
		acked atomic.Int64
	)

	bulk := h.login(login{version: 5, id: "bulk", user: "counter"})

	const size, many = 64 << 10, 2000
	for range many {
		bulk.published("bulk", strings.Repeat("b", size), false)
	}

	over := h.counting(&stop, &acked, 100)
	eventually(t, "nothing is counted", func() bool { return acked.Load() > 10 })

	measure := &peak{base: heap()}
	if _, err := h.Backup(t.Context(), measure); err != nil {
		t.Fatal(err)
	}

	stop.Store(true)
	<-over

	grown := measure.most - measure.base
	t.Logf("a backup of %d MiB held %d KiB more", measure.bytes>>20, grown>>10)

	if measure.bytes < size*many || grown > 8<<20 {
		t.Errorf("%d bytes held %d bytes more", measure.bytes, grown)
	}
}

func TestARestoreIsAllOrNothing(t *testing.T) {
	config := baseConfig(person(t, "anna", allow("#")), person(t, "otto", allow("#")))
	h := open(t, Options{DataDir: t.TempDir()}, config)
	h.login(returning("anna", "anna")).bye()

	saved := h.saved()
	changed := bytes.Clone(saved)
	changed[len(changed)/2] ^= 1

	other := open(t, Options{DataDir: t.TempDir()}, config)

	for name, c := range map[string]struct {
		text []byte
		is   error
	}{
		"cut off":     {saved[:len(saved)-1], snapshot.ErrDamaged},
		"altered":     {changed, snapshot.ErrDamaged},
		"another":     {[]byte("something else altogether"), snapshot.ErrOther},
		"other store": {withForm(t, 2), snapshot.ErrOther},
		"its totals":  {withForm(t, 1), snapshot.ErrDamaged},
	} {
		if _, err := other.Restore(t.Context(), bytes.NewReader(c.text), RestoreOptions{}); !errors.Is(err, c.is) {
			t.Errorf("%s: %v", name, err)
		}

		if left, _ := filepath.Glob(filepath.Join(other.options.DataDir, "incoming*")); len(left) > 0 {
			t.Errorf("%s: %v stays behind", name, left)
		}
	}

	// Who has something keeps it.
	keeps := other.login(returning("otto", "otto"))

	_, err := other.Restore(t.Context(), bytes.NewReader(saved), RestoreOptions{})
	if state, is := errors.AsType[*StateError](err); !is || state.Sessions != 1 {
		t.Errorf("it has a session: %v", err)
	}

	keeps.send(packet{kind: tDisconnect, body: append([]byte{0}, props(u32prop(pExpiry, 0))...)})
	eventually(t, "the session ends", func() bool { return other.Status().Sessions == 0 })

	// Also what comes while it is restored.
	r, err := other.Restore(t.Context(), bytes.NewReader(saved), RestoreOptions{})
	if err != nil {
		t.Fatal(err)
	}

	if _, err := other.Backup(t.Context(), &bytes.Buffer{}); !errors.Is(err, ErrSnapshotBusy) {
		t.Errorf("two at a time: %v", err)
	}

	if err := r.Commit(); err == nil {
		t.Error("it must not be taken in while the broker runs")
	}

	other.login(returning("otto", "otto")).published("kept", "x", true)
	other.close()

	if err := r.Commit(); !errors.As(err, new(*StateError)) {
		t.Errorf("a session came meanwhile: %v", err)
	}

	other = open(t, Options{DataDir: other.options.DataDir}, config)
	if other.session("otto") == nil || other.session("anna") != nil {
		t.Error("it must have what it had")
	}

	other = other.restored(saved, RestoreOptions{Replace: true})
	if _, kept := other.retained.Get("kept"); other.session("otto") != nil || other.session("anna") == nil || kept {
		t.Error("it must have what was restored, and nothing else")
	}
}

// withForm is a snapshot whose records have some form, and whose totals say too much.
func withForm(t testing.TB, form int) []byte {
	t.Helper()

	var b bytes.Buffer

	w, err := snapshot.NewWriter(&b, snapshot.Header{Store: form})
	if err != nil {
		t.Fatal(err)
	}

	if err := w.Close(snapshot.Totals{Sessions: 1}); err != nil {
		t.Fatal(err)
	}

	return b.Bytes()
}

func TestClocksRunOnOverARestoreUnlessTheyAreStopped(t *testing.T) {
	config := baseConfig(person(t, "anna", allow("#")))
	h := open(t, Options{DataDir: t.TempDir()}, config)

	anna := h.login(login{version: 5, id: "anna", user: "anna", resume: true, props: u32prop(pExpiry, 3600)})
	anna.publish(posted{topic: "r", payload: "x", qos: 1, retain: true, props: u32prop(0x02, 600)})
	anna.expect(tPuback)
	anna.bye()
	h.close() // so that it is known on disk that she has left

	h = open(t, Options{DataDir: h.options.DataDir}, config)

	// The backup is of an hour and a bit ago.
	saved := aged(t, h.saved(), time.Hour+time.Minute)

	for stopped, want := range map[bool]bool{false: false, true: true} {
		other := open(t, Options{DataDir: t.TempDir()}, config).restored(saved, RestoreOptions{StopClocks: stopped})

		eventually(t, fmt.Sprintf("clocks stopped: %t", stopped), func() bool {
			_, kept := other.retained.Get("r")

			return kept == want && (other.session("anna") != nil) == want
		})
		other.close()
	}
}

// aged is a backup as it would have been, had it been made before: the moment it is of, and all others, lie so far back.
func aged(t testing.TB, saved []byte, by time.Duration) []byte {
	t.Helper()

	dir := t.TempDir()

	s, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	i, err := store.NewIntake(dir, -by.Milliseconds(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}

	r, err := snapshot.NewReader(bytes.NewReader(saved))
	if err != nil {
		t.Fatal(err)
	}

	for {
		key, value, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}

		if err := errors.Join(err, i.Add(key, value)); err != nil {
			t.Fatal(err)
		}
	}

	if err := errors.Join(i.Finish(), i.Adopt()); err != nil {
		t.Fatal(err)
	}

	if s, err = store.Open(dir, store.Options{}); err != nil {
		t.Fatal(err)
	}

	at, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}

	var b bytes.Buffer

	head := r.Header
	head.Taken = head.Taken.Add(-by)

	w, err := snapshot.NewWriter(&b, head)
	if err != nil {
		t.Fatal(err)
	}

	for err == nil {
		err = at.Next(1<<20, w.Record)
	}

	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}

	at.Close()

	if err := errors.Join(w.Close(r.Footer().Totals), s.Close()); err != nil {
		t.Fatal(err)
	}

	return b.Bytes()
}

func TestABrokerThatKeepsNothingHasNoBackup(t *testing.T) {
	h := open(t, Options{}, baseConfig(person(t, "anna", allow("#"))))
	if _, err := h.Backup(t.Context(), &bytes.Buffer{}); !errors.Is(err, ErrNothingKept) {
		t.Errorf("got %v", err)
	}

	if _, err := h.Restore(t.Context(), &bytes.Buffer{}, RestoreOptions{}); !errors.Is(err, ErrNothingKept) {
		t.Errorf("got %v", err)
	}

	idle, err := New(Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}

	if _, err := idle.Backup(t.Context(), &bytes.Buffer{}); !errors.Is(err, ErrNotServing) {
		t.Errorf("before its first configuration: %v", err)
	}

	if err := idle.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}
