// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"container/list"
	"sync"
)

const (
	// sourceShare is the part of a queue that one source may fill.
	sourceShare = 4
	// favour: every so many turns the last rank that waits has the first.
	favour = 8
)

// Job is a check of a password that waits for its turn.
type Job struct {
	Source Source
	// Rank is asked when the job comes, and when its turn has come: a source that has failed meanwhile is put behind
	// the others with all that waits in the same line.
	Rank func() Rank
	// Run does the work. Refuse is called instead where there is no room any more.
	Run, Refuse func()
}

// Queue lets a few jobs run at a time and the others wait, so that all strangers together cannot cost more than that.
// The sources of one rank take turns, whatever each of them has waiting. Suspects never take more than half of the
// places at once.
//
// A Queue is safe for concurrent use. It has no goroutine while there is nothing to do.
type Queue struct {
	places, size int

	mu       sync.Mutex
	turns    uint
	length   int
	running  int
	suspects int // of running
	lines    map[place]*line
	waiting  [ranks]*list.List // of *line, the next in front
}

// place is where jobs wait.
type place struct {
	source Source
	rank   Rank
}

// line is what one source has waiting in one rank.
type line struct {
	place

	jobs    []Job
	element *list.Element
}

// NewQueue makes a Queue that runs at most places jobs at a time, while at most size wait.
func NewQueue(places, size int) *Queue {
	q := &Queue{places: max(1, places), size: size, lines: map[place]*line{}}
	for r := range q.waiting {
		q.waiting[r] = list.New()
	}

	return q
}

// Len is the number of jobs that wait.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()

	return q.length
}

// Add lets a job wait for its turn. It is false if there is no room; neither Run nor Refuse is called then.
func (q *Queue) Add(j Job) bool {
	at := place{j.Source, j.Rank()}
	victim, begin, ok := q.enqueue(at, j)

	if victim != nil {
		victim.Refuse()
	}

	if begin {
		go q.work()
	}

	return ok
}

func (q *Queue) enqueue(at place, j Job) (victim *Job, begin, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()

	if l := q.lines[at]; l != nil && len(l.jobs) >= max(1, q.size/sourceShare) {
		return nil, false, false
	}

	if q.length >= q.size {
		if victim = q.displace(at.rank); victim == nil {
			return nil, false, false
		}
	}

	q.append(at, j)

	if begin = q.running < q.places; begin {
		q.running++
	}

	return victim, begin, true
}

func (q *Queue) append(at place, jobs ...Job) {
	l := q.lines[at]
	if l == nil {
		l = &line{place: at}
		l.element = q.waiting[at.rank].PushBack(l)
		q.lines[at] = l
	}

	l.jobs = append(l.jobs, jobs...)
	q.length += len(jobs)
}

// displace takes the newest job of the last line of a rank behind that of a newcomer.
func (q *Queue) displace(newcomer Rank) *Job {
	for r := ranks - 1; r > newcomer; r-- {
		if back := q.waiting[r].Back(); back != nil {
			l, _ := back.Value.(*line)
			j := l.jobs[len(l.jobs)-1]
			q.keep(l, l.jobs[:len(l.jobs)-1])

			return &j
		}
	}

	return nil
}

// keep leaves the line some of its jobs.
func (q *Queue) keep(l *line, jobs []Job) {
	q.length -= len(l.jobs) - len(jobs)
	l.jobs = jobs

	if len(jobs) == 0 {
		q.waiting[l.rank].Remove(l.element)
		delete(q.lines, l.place)
	}
}

// work runs one job after the other while there are any.
func (q *Queue) work() {
	for {
		job, suspect, ok := q.next()
		if !ok {
			return
		}

		job.Run()

		if suspect {
			q.mu.Lock()
			q.suspects--
			q.mu.Unlock()
		}
	}
}

// next gives the job whose turn it is. Without one, the place is given back.
func (q *Queue) next() (j Job, suspect, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()

	for {
		l := q.first()
		if l == nil {
			q.running--

			return Job{}, false, false
		}

		j = l.jobs[0]

		if rank := j.Rank(); rank > l.rank {
			jobs := l.jobs
			q.keep(l, nil)
			q.append(place{l.source, rank}, jobs...)

			continue
		}

		suspect = l.rank == Suspect
		if suspect {
			q.suspects++
		}

		l.jobs[0] = Job{}
		q.keep(l, l.jobs[1:])

		if len(l.jobs) > 0 {
			q.waiting[l.rank].MoveToBack(l.element)
		}

		q.turns++

		return j, suspect, true
	}
}

// first is the line whose turn it is.
func (q *Queue) first() *line {
	order := []Rank{Known, Stranger, Suspect}
	if q.turns%favour == favour-1 {
		order = []Rank{Suspect, Stranger, Known}
	}

	for _, r := range order {
		if r == Suspect && q.suspects >= max(1, q.places/2) {
			continue
		}

		if front := q.waiting[r].Front(); front != nil {
			l, _ := front.Value.(*line)

			return l
		}
	}

	return nil
}
