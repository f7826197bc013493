// SPDX-License-Identifier: Apache-2.0

package store

import (
	"sync"
	"testing"
)

func BenchmarkCommit(b *testing.B) {
	for name, o := range map[string]Options{"sync": {}, "interval": {Interval: true}} {
		b.Run(name, func(b *testing.B) {
			s := fresh1(b, b.TempDir(), o)
			commit(b, s, func(tx *Tx) { tx.PutSession(&Session{ID: 1}) })
			const workers = 50
			m := message("some/topic/of/a/device", 64)
			free := make(chan struct{}, workers)
			for range workers {
				free <- struct{}{}
			}
			done := func(err error) {
				if err != nil {
					b.Error(err)
				}
				free <- struct{}{}
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				<-free
				tx := s.Begin()
				tx.Enqueue(1, uint64(i+1), tx.PutMessage(m), 1, false, nil)
				s.Commit(tx, false, done)
			}
			for range workers {
				<-free
			}
			b.StopTimer()
			st := s.Stats()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
			b.ReportMetric(float64(st.Transactions)/float64(max(st.Groups, 1)), "msgs/group")
			shut(b, s)
		})
	}
}

func BenchmarkRestore(b *testing.B) {
	dir := b.TempDir()
	s := fresh1(b, dir, Options{Interval: true})
	fill(b, s, 100, 1000)
	shut(b, s)
	for b.Loop() {
		s := open(b, dir, Options{})
		i := restore(b, s)
		if n := len(i.Sessions); n != 100 {
			b.Fatalf("%d sessions", n)
		}
		shut(b, s)
	}
}

func fill(b *testing.B, s *Store, sessions, each int) {
	b.Helper()
	m := message("some/topic/of/a/device", 64)
	var wg sync.WaitGroup
	for id := range SessionID(sessions) {
		tx := s.Begin()
		tx.PutSession(&Session{ID: id + 1})
		for seq := range uint64(each) {
			tx.Enqueue(id+1, seq+1, tx.PutMessage(m), 1, false, nil)
		}
		wg.Add(1)
		s.Commit(tx, false, func(error) { wg.Done() })
	}
	wg.Wait()
}

func BenchmarkEnqueueDequeue(b *testing.B) {
	s := fresh1(b, b.TempDir(), Options{Interval: true})
	defer shut(b, s)
	commit(b, s, func(tx *Tx) { tx.PutSession(&Session{ID: 1}); tx.PutSession(&Session{ID: 2}) })
	m := message("some/topic/of/a/device", 64)
	free := make(chan struct{}, 50)
	for range cap(free) {
		free <- struct{}{}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		<-free
		tx := s.Begin()
		ref := tx.PutMessage(m)
		tx.Enqueue(1, uint64(i+1), ref, 1, false, nil)
		tx.Enqueue(2, uint64(i+1), ref, 1, false, nil)
		if i > 100 {
			tx.Dequeue(1, uint64(i-100))
			tx.Dequeue(2, uint64(i-100))
		}
		s.Commit(tx, false, func(error) { free <- struct{}{} })
	}
	for range cap(free) {
		<-free
	}
}
