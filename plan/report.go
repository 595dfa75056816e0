// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"slices"
	"time"

	"github.com/muster-project/muster/agent/protocol"
)

// Report says what became of a run.
type Report struct {
	Took    time.Duration
	Changed int // steps that changed something
	Right   int // steps and conditions that were right already
	Tasks   []TaskReport
}

// TaskReport says what became of one task.
type TaskReport struct {
	Task        Task
	Begin, Took time.Duration // Begin since the run's start
	Changed     int
	Would       []string // check: steps that are not right, or cannot be asked yet
	Err         error
}

func (r *run) report(p Plan) (Report, error) {
	report := Report{Took: time.Since(r.start)}
	var errs []error
	for _, t := range p.Tasks {
		s := r.tasks[t.ID()]
		report.Changed += s.counts[protocol.Changed]
		report.Right += s.counts[protocol.Right]
		report.Tasks = append(report.Tasks, TaskReport{
			Task: t, Begin: s.begin, Took: s.took, Changed: s.counts[protocol.Changed], Would: s.would, Err: s.err,
		})
		if s.err != nil && !errors.Is(s.err, ErrNotRun) {
			errs = append(errs, s.err)
		}
	}
	return report, errors.Join(errs...)
}

// Since returns the report with its times counted from before the run began:
// a command has reached and asked the hosts by then.
func (r Report) Since(before time.Duration) Report {
	r.Took += before
	r.Tasks = slices.Clone(r.Tasks)
	for i := range r.Tasks {
		if r.Tasks[i].Took > 0 {
			r.Tasks[i].Begin += before
		}
	}
	return r
}

// cut reports whether tasks were left that nobody began.
func (r Report) cut() bool {
	return slices.ContainsFunc(r.Tasks, func(t TaskReport) bool { return errors.Is(t.Err, ErrNotRun) })
}

// PhaseTime is when a phase worked, over all hosts.
type PhaseTime struct {
	Phase      string
	Begin, End time.Duration // since the run's start
}

// Phases returns the phases in the order they began. They overlap.
func (r Report) Phases() []PhaseTime {
	var times []PhaseTime
	for _, t := range r.Tasks {
		if t.Took == 0 {
			continue
		}
		i := slices.IndexFunc(times, func(p PhaseTime) bool { return p.Phase == t.Task.Phase })
		if i < 0 {
			times = append(times, PhaseTime{t.Task.Phase, t.Begin, t.Begin + t.Took})
			continue
		}
		times[i].Begin = min(times[i].Begin, t.Begin)
		times[i].End = max(times[i].End, t.Begin+t.Took)
	}
	slices.SortStableFunc(times, func(a, b PhaseTime) int { return int(a.Begin - b.Begin) })
	return times
}
