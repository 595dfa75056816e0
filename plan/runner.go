// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/plan/step"
)

// Agent is the connection to one host's muster-node.
type Agent interface {
	// Apply has the steps done, or with check only looked at, in order, and
	// reports each. It returns an error if the host could not be asked; a step
	// that failed is an event, and the last one.
	Apply(ctx context.Context, steps step.List, check bool, each func(protocol.Event)) error
}

// Runner has a plan done: tasks of all hosts side by side, each as soon as
// what it needs is done.
type Runner struct {
	// Agent connects to a host, or returns the connection there is.
	Agent func(ctx context.Context, host string) (Agent, error)
	// Events is told everything that happens, one call at a time; nil is quiet.
	Events func(Event)
	// PerHost is how many tasks one host does at a time; 0 means 8. Of those
	// that bring files or images one is done at a time: side by side they
	// would share the link and all end late.
	PerHost int
	// Check looks and changes nothing; needs are not waited for.
	Check bool
}

// Kind says what an Event is about.
type Kind string

// Kinds of events.
const (
	TaskStarted  Kind = "task-started"
	TaskFinished Kind = "task-finished"
	StepSaid     Kind = "step"
)

// Event is something that happened during a run.
type Event struct {
	Kind Kind
	Task Task
	Step protocol.Event // of StepSaid
	Took time.Duration  // of TaskFinished
	// Changed is how many steps of a task changed something, of TaskFinished.
	Changed int
	Err     error // of TaskFinished
}

// Error is the first failure of a task.
type Error struct {
	Host, Phase, Step string
	Cause             error
	Evidence          []string
}

func (e *Error) Error() string {
	if e.Step == "" {
		return fmt.Sprintf("%s: %s: %v", e.Host, e.Phase, e.Cause)
	}
	return fmt.Sprintf("%s: %s: %s: %v", e.Host, e.Phase, e.Step, e.Cause)
}

func (e *Error) Unwrap() error { return e.Cause }

// ErrNotRun is the cause for tasks that did not get their turn.
var ErrNotRun = errors.New("not run, because what it needs failed or the run was ended")

// Run does the plan and reports what became of it. Tasks that do not depend on
// a failed one are finished: other hosts need not suffer. The error joins one
// *Error for each failed task, in plan order, and the reason if ctx ended.
func (r *Runner) Run(ctx context.Context, p Plan) (Report, error) {
	if err := p.Check(); err != nil {
		return Report{}, err
	}
	run := newRun(r, p)
	run.dispatch(ctx)
	report, err := run.report(p)
	if cause := context.Cause(ctx); cause != nil && report.cut() && !errors.Is(err, cause) {
		err = errors.Join(err, cause) // once for all tasks that did not get their turn
	}
	return report, err
}

func (r *Runner) perHost() int {
	if r.PerHost > 0 {
		return r.PerHost
	}
	return 8
}

// run is one execution of a plan.
type run struct {
	runner *Runner
	start  time.Time
	tasks  map[ID]*state
	hosts  map[string]*queue
	mu     sync.Mutex // one event at a time
}

func (r *run) apply(ctx context.Context, s *state) error {
	t := s.task
	agent, err := r.runner.Agent(ctx, t.Host)
	if err != nil {
		return &Error{Host: t.Host, Phase: t.Phase, Cause: err}
	}
	var failed *Error
	err = agent.Apply(ctx, t.Steps, r.runner.Check, func(e protocol.Event) {
		if !waits(t, e.Index) {
			s.counts[e.State]++
		}
		if e.State == protocol.Would || e.State == protocol.Unknown {
			s.would = append(s.would, e.Text)
		}
		if e.State == protocol.Failed {
			failed = &Error{Host: t.Host, Phase: t.Phase, Step: e.Text, Cause: errors.New(e.Cause), Evidence: e.Evidence}
		}
		r.emit(Event{Kind: StepSaid, Task: t, Step: e})
	})
	if failed != nil {
		return failed
	}
	if err != nil {
		return &Error{Host: t.Host, Phase: t.Phase, Cause: err}
	}
	return nil
}

// waits reports whether a step is a condition, which is neither right nor
// changed.
func waits(t Task, index int) bool {
	if index < 0 || index >= len(t.Steps) {
		return false
	}
	_, is := t.Steps[index].(step.Condition)
	return is
}

func (r *run) emit(e Event) {
	if r.runner.Events == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runner.Events(e)
}
