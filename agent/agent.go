// SPDX-License-Identifier: Apache-2.0

// Package agent is the host side of muster: what muster-node does when muster
// drives it over an SSH session. It applies steps, keeps the journal, answers
// questions about the host, signs with the CA keys that live there, and undoes
// everything on reset. It is the only code that changes a host.
package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/facts"
	"github.com/muster-project/muster/plan/step"
)

// Agent answers the calls of one session.
type Agent struct {
	Host    *step.Host
	Journal *Journal
	Kernel  Kernel // nil is Linux
	Version string

	lock *Lock
}

var _ protocol.Handler = (*Agent)(nil)

// Handle answers one call.
func (a *Agent) Handle(ctx context.Context, r protocol.Request, w *protocol.Writer) error {
	switch r.Op {
	case protocol.OpHello:
		return w.Value(protocol.Hello{Protocol: protocol.Version, Version: a.Version, Root: os.Geteuid() == 0})
	case protocol.OpFacts:
		return w.Value(facts.Gather(ctx, a.Host))
	case protocol.OpLock:
		return a.takeLock(ctx, r.Operator, w)
	case protocol.OpApply:
		return a.Apply(ctx, r.Steps, r.Check, w.Event)
	case protocol.OpReset:
		return a.Reset(ctx, w.Event)
	case protocol.OpSnapshot:
		snapshot, err := Snapshot(ctx, a.Host, a.kernel())
		return answer(w, snapshot, err)
	case protocol.OpSign:
		cert, err := a.sign(r)
		return answer(w, protocol.Data{Data: cert}, err)
	case protocol.OpAuthority:
		cert, err := a.authority(r.Name)
		return answer(w, protocol.Data{Data: cert}, err)
	case protocol.OpToken:
		token, err := a.token(ctx, r)
		return answer(w, protocol.Data{Data: []byte(token)}, err)
	default:
		return fmt.Errorf("no such call %q", r.Op)
	}
}

func answer(w *protocol.Writer, v any, err error) error {
	if err != nil {
		return err
	}
	return w.Value(v)
}

func (a *Agent) kernel() Kernel {
	if a.Kernel == nil {
		return Linux{}
	}
	return a.Kernel
}

// Close gives up what the session held.
func (a *Agent) Close() error {
	if a.lock == nil {
		return nil
	}
	return a.lock.Release()
}

// errStep ends a task; the reason has already been sent as an event.
var errStep = errors.New("a step failed")

// Apply makes the host right, step by step, and reports each. With check it
// only says which steps are not right. The first failure ends it.
func (a *Agent) Apply(ctx context.Context, steps step.List, check bool, emit func(any) error) error {
	for i, s := range steps {
		e := applier{agent: a, index: i, emit: emit}
		err := e.one(ctx, s, check)
		if err != nil {
			return err
		}
	}
	return nil
}

// applier reports on one step.
type applier struct {
	agent *Agent
	index int
	emit  func(any) error
	start time.Time
}

func (e applier) one(ctx context.Context, s step.Step, check bool) error {
	e.start = time.Now()
	if c, ok := s.(step.Condition); ok {
		if check {
			return nil
		}
		return e.await(ctx, c)
	}
	done, err := s.Done(ctx, e.agent.Host)
	switch {
	case check && err != nil:
		return e.say(s, protocol.Unknown, err)
	case err != nil:
		return e.fail(ctx, s, fmt.Errorf("look at it: %w", err))
	case done:
		return e.say(s, protocol.Right, nil)
	case check:
		return e.say(s, protocol.Would, nil)
	}
	if err := e.say(s, protocol.Started, nil); err != nil {
		return err
	}
	if err := e.agent.Journal.Intend(ctx, e.agent.Host, e.agent.kernel(), s); err != nil {
		return e.fail(ctx, s, fmt.Errorf("journal: %w", err))
	}
	if err := s.Do(ctx, e.agent.Host); err != nil {
		return e.fail(ctx, s, err)
	}
	if err := e.agent.Journal.Did(s); err != nil {
		return e.fail(ctx, s, fmt.Errorf("journal: %w", err))
	}
	return e.say(s, protocol.Changed, nil)
}

// pollEvery is how often a condition is asked: often enough not to be felt,
// seldom enough not to load a host of one core.
const pollEvery = 100 * time.Millisecond

func (e applier) await(ctx context.Context, c step.Condition) error {
	// The deadline also ends a question that gets no answer.
	asking, cancel := context.WithTimeout(ctx, c.Within())
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	said := false
	var last error
	for {
		done, err := c.Done(asking, e.agent.Host)
		if done {
			return e.say(c, protocol.Right, nil)
		}
		if err != nil && asking.Err() == nil {
			last = err // not that the deadline cut the question off
		}
		if !said {
			if err := e.say(c, protocol.Started, nil); err != nil {
				return err
			}
			said = true
		}
		select {
		case <-asking.Done():
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return e.fail(ctx, c, late(c, last))
		case <-tick.C:
		}
	}
}

func late(c step.Condition, last error) error {
	if last == nil {
		return fmt.Errorf("not within %s", c.Within())
	}
	return fmt.Errorf("not within %s: %w", c.Within(), last)
}

func (e applier) say(s step.Step, state protocol.State, err error) error {
	event := protocol.Event{Index: e.index, Text: s.String(), State: state, Took: time.Since(e.start)}
	if err != nil {
		event.Cause = err.Error()
	}
	return e.emit(event)
}

func (e applier) fail(ctx context.Context, s step.Step, err error) error {
	event := protocol.Event{
		Index: e.index, Text: s.String(), State: protocol.Failed, Took: time.Since(e.start), Cause: err.Error(),
	}
	if x, ok := s.(step.Explainer); ok && ctx.Err() == nil {
		event.Evidence = x.Explain(ctx, e.agent.Host)
	}
	if err := e.emit(event); err != nil {
		return err
	}
	return errStep
}
