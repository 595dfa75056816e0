// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/muster-project/muster/agent/protocol"
	"github.com/muster-project/muster/plan"
	"github.com/muster-project/muster/plan/step"
)

// fleet is hosts in memory. It knows tasks by the path of their first step,
// and remembers what began and ended in which order.
type fleet struct {
	t      *testing.T
	takes  map[string]time.Duration    // a task's time, of the test's clock
	events map[string][]protocol.Event // what a task says; one Changed if not listed
	breaks map[string]error            // tasks amid which the connection ends
	down   map[string]error            // hosts nobody can connect to

	mu    sync.Mutex
	log   []string       // "begin ID", "end ID"
	busy  map[string]int // tasks of a host under way
	peak  map[string]int // most tasks of a host at a time
	check bool           // the last Apply only looked
}

func newFleet(t *testing.T) *fleet {
	return &fleet{
		t: t, takes: map[string]time.Duration{}, events: map[string][]protocol.Event{}, breaks: map[string]error{},
		down: map[string]error{}, busy: map[string]int{}, peak: map[string]int{},
	}
}

// agent connects to a host; it has the shape of plan.Runner.Agent.
func (f *fleet) agent(_ context.Context, host string) (plan.Agent, error) {
	if err := f.down[host]; err != nil {
		return nil, err
	}
	return connection{f, host}, nil
}

type connection struct {
	fleet *fleet
	host  string
}

// Apply says what the fleet was told to say, after the task's time.
func (c connection) Apply(ctx context.Context, steps step.List, check bool, each func(protocol.Event)) error {
	id := steps[0].(step.Absent).Path
	c.begin(id, check)
	defer c.end(id)
	select {
	case <-time.After(c.fleet.takes[id]):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	events, ok := c.fleet.events[id]
	if !ok {
		events = []protocol.Event{{Text: steps[0].String(), State: protocol.Started}, {Text: steps[0].String(), State: protocol.Changed}}
	}
	for _, e := range events {
		each(e)
	}
	return c.fleet.breaks[id]
}

func (c connection) begin(id string, check bool) {
	f := c.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	f.check = check
	f.log = append(f.log, "begin "+id)
	f.busy[c.host]++
	f.peak[c.host] = max(f.peak[c.host], f.busy[c.host])
}

func (c connection) end(id string) {
	f := c.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, "end "+id)
	f.busy[c.host]--
}

// ran reports whether a task was begun.
func (f *fleet) ran(id plan.ID) bool { return slices.Contains(f.log, "begin "+string(id)) }

// inOrder fails the test if a task began before all that it needs ended.
func (f *fleet) inOrder(p plan.Plan) {
	f.t.Helper()
	for _, t := range p.Tasks {
		begin := slices.Index(f.log, "begin "+string(t.ID()))
		for _, n := range t.Needs {
			if end := slices.Index(f.log, "end "+string(n)); begin >= 0 && (end < 0 || end > begin) {
				f.t.Errorf("%s began before %s ended:\n%v", t.ID(), n, f.log)
			}
		}
	}
}

// failing is the events of a task whose second step fails.
func failing(id string) []protocol.Event {
	return []protocol.Event{
		{Text: "first of " + id, State: protocol.Changed},
		{Index: 1, Text: "second of " + id, State: protocol.Failed, Cause: "no room", Evidence: []string{fmt.Sprintf("%s: disk full", id)}},
	}
}
