// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"context"
	"slices"
	"time"

	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/plan/step"
)

// state is what becomes of one task. Only the dispatcher touches it, and the
// task's own goroutine between its start and its end.
type state struct {
	task       Task
	blocked    int      // how many of its needs are not done
	dependents []*state // who needs it
	settled    bool     // it ended, or will not run
	err        error
	took       time.Duration
	begin      time.Duration
	counts     map[protocol.State]int
	would      []string
}

// queue is the tasks of one host that have not begun, in plan order, and how
// many are under way.
type queue struct {
	waiting  []*state
	running  int
	bringing int
}

// smallest is how many bytes make a transfer that others should not share the
// link with.
const smallest = 1 << 20

// brings reports whether a task moves files or images of some size.
func brings(t Task) bool {
	var size int64
	for _, s := range t.Steps {
		switch s := s.(type) {
		case step.Install:
			size += s.Blob.Transfer
		case step.Image:
			size += s.Blob.Transfer
		}
	}
	return size >= smallest
}

func newRun(r *Runner, p Plan) *run {
	run := &run{runner: r, start: time.Now(), tasks: make(map[ID]*state, len(p.Tasks)), hosts: make(map[string]*queue)}
	for _, t := range p.Tasks {
		s := &state{task: t, counts: make(map[protocol.State]int)}
		run.tasks[t.ID()] = s
		if run.hosts[t.Host] == nil {
			run.hosts[t.Host] = &queue{}
		}
		run.hosts[t.Host].waiting = append(run.hosts[t.Host].waiting, s)
	}
	if r.Check { // nothing is changed, so nothing has to wait
		return run
	}
	for _, t := range p.Tasks {
		s := run.tasks[t.ID()]
		s.blocked = len(t.Needs)
		for _, n := range t.Needs {
			run.tasks[n].dependents = append(run.tasks[n].dependents, s)
		}
	}
	return run
}

// dispatch starts tasks until all have ended or will not run. When ctx ends it
// starts no more and waits for those under way.
func (r *run) dispatch(ctx context.Context) {
	ended := make(chan *state)
	running := 0
	start := func(host string) {
		for _, s := range r.hosts[host].next(r.runner.perHost()) {
			running++
			go func() {
				r.task(ctx, s)
				ended <- s
			}()
		}
	}
	for host := range r.hosts {
		start(host)
	}
	for running > 0 {
		s := <-ended
		running--
		touched := r.end(s)
		if ctx.Err() != nil {
			continue
		}
		for _, host := range touched {
			start(host)
		}
	}
	for _, q := range r.hosts {
		for _, s := range q.waiting {
			s.err = ErrNotRun
		}
	}
}

// end notes that a task has ended and returns the hosts that may go on.
func (r *run) end(s *state) []string {
	q := r.hosts[s.task.Host]
	q.running--
	if brings(s.task) {
		q.bringing--
	}
	touched := []string{s.task.Host}
	for _, d := range s.dependents {
		if s.err != nil {
			r.drop(d)
			continue
		}
		if d.blocked--; d.blocked == 0 {
			touched = append(touched, d.task.Host)
		}
	}
	slices.Sort(touched)
	return slices.Compact(touched)
}

// drop gives up a task and all that need it.
func (r *run) drop(s *state) {
	if s.settled {
		return
	}
	s.settled, s.err = true, ErrNotRun
	q := r.hosts[s.task.Host]
	q.waiting = slices.DeleteFunc(q.waiting, func(w *state) bool { return w == s })
	for _, d := range s.dependents {
		r.drop(d)
	}
}

// next takes the tasks whose turn it is: first in the plan, first begun.
func (q *queue) next(atOnce int) []*state {
	var turn []*state
	q.waiting = slices.DeleteFunc(q.waiting, func(s *state) bool {
		bring := brings(s.task)
		if s.blocked > 0 || q.running >= atOnce || bring && q.bringing > 0 {
			return false
		}
		q.running++
		if bring {
			q.bringing++
		}
		turn = append(turn, s)
		return true
	})
	return turn
}

// task does one task; it is the only part of a run that is done side by side.
func (r *run) task(ctx context.Context, s *state) {
	s.begin = time.Since(r.start)
	r.emit(Event{Kind: TaskStarted, Task: s.task})
	s.err = r.apply(ctx, s)
	s.settled = true
	s.took = time.Since(r.start) - s.begin
	r.emit(Event{Kind: TaskFinished, Task: s.task, Took: s.took, Err: s.err, Changed: s.counts[protocol.Changed]})
}
