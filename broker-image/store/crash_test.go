// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"
)

const (
	childEnv  = "STORE_TEST_CHILD"
	childFrom = "STORE_TEST_FROM"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stdout, "error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child commits until it is killed, and prints the number of each transaction that was acknowledged.
func child(dir string) error {
	from, err := strconv.ParseUint(os.Getenv(childFrom), 10, 64)
	if err != nil {
		return err
	}
	s, err := Open(dir, Options{})
	if err != nil {
		return err
	}
	if err := s.Restore(Visitor{}); err != nil {
		return err
	}
	free := make(chan struct{}, 64)
	for range cap(free) {
		free <- struct{}{}
	}
	for n := from; ; n++ {
		<-free
		tx := s.Begin()
		tx.PutSession(&Session{ID: 1})
		tx.PutSession(&Session{ID: 2})
		m := message("t", 100)
		m.Created = int64(n)
		if n%10 == 0 {
			m.Payload = make([]byte, 2*inlineMax)
		}
		ref := tx.PutMessage(m)
		tx.Enqueue(1, n, ref, 1, false, nil)
		if n%3 == 0 {
			tx.Enqueue(2, n, ref, 1, false, nil)
		}
		s.Commit(tx, false, func(err error) {
			if err != nil {
				fmt.Fprintln(os.Stdout, "error", err)
			} else {
				fmt.Fprintln(os.Stdout, n)
			}
			free <- struct{}{}
		})
	}
}

func TestWhatWasAcknowledgedSurvivesTheDeathOfTheProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from := uint64(1)
	acked := map[uint64]bool{}
	for round := range 20 {
		from = runAndKill(t, dir, from, round*round*5+1, acked)
		if round%3 == 1 {
			continue // the next one finds what two deaths have left
		}
		s := open(t, dir, Options{})
		if !s.Crashed() {
			t.Error("the death of the process was not noticed")
		}
		restore(t, s)
		verify(t, s, acked)
		commit(t, s, func(tx *Tx) {
			tx.DropQueue(1)
			tx.DropQueue(2)
		})
		if n := s.Stats().Shared; n != 0 {
			t.Errorf("%d shared messages without a queue", n)
		}
		clear(acked)
		shut(t, s)
	}
}

// verify looks for all that was acknowledged.
func verify(t *testing.T, s *Store, acked map[uint64]bool) {
	t.Helper()
	have := map[SessionID]map[uint64]bool{1: {}, 2: {}}
	for id := range have {
		for _, q := range queue(t, s, id) {
			if q.Message.Created != int64(q.Seq) {
				t.Fatalf("message %d has the content of %d", q.Seq, q.Message.Created)
			}
			have[id][q.Seq] = true
		}
	}
	for n := range acked {
		if !have[1][n] || n%3 == 0 && !have[2][n] {
			t.Fatalf("message %d was acknowledged and is gone", n)
		}
	}
}

// runAndKill lets a child commit until it has acknowledged so many, and kills it. It gives the next free number.
func runAndKill(t *testing.T, dir string, from uint64, acks int, acked map[uint64]bool) uint64 {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+dir, fmt.Sprintf("%s=%d", childFrom, from))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	guard := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer guard.Stop()
	count := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		n, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil {
			t.Errorf("child: %s", lines.Text())
			break
		}
		acked[n] = true
		from = max(from, n)
		count++
		if count == acks {
			_ = cmd.Process.Signal(syscall.SIGKILL)
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the child ended by itself")
	}
	if count < acks {
		t.Fatalf("the child acknowledged %d of %d", count, acks)
	}
	return from + 1000 // more than it can have under way
}
