// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/muster-project/muster/plan"
)

// outcome is what becomes of a task.
type outcome string

const (
	succeeded outcome = "succeeded"
	failed    outcome = "failed"
	notRun    outcome = "not run"
)

func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return succeeded
	case errors.Is(err, plan.ErrNotRun):
		return notRun
	}
	return failed
}

// randomPlan makes a plan in any order and tells the fleet how long its tasks
// take, which break, and which hosts are down.
func randomPlan(f *fleet, random *rand.Rand) plan.Plan {
	n := 1 + random.IntN(25)
	tasks := make([]plan.Task, n)
	for i := range tasks {
		id := fmt.Sprintf("h%d/p%d/%d", random.IntN(4), random.IntN(3), i)
		var needs []plan.ID
		for _, before := range tasks[:i] {
			if random.IntN(5) == 0 {
				needs = append(needs, before.ID())
			}
		}
		tasks[i] = task(id, needs...)
		f.takes[id] = time.Duration(1+random.IntN(5)) * time.Second
		if random.IntN(8) == 0 {
			f.breaks[id] = fmt.Errorf("%s broke", id)
		}
	}
	if random.IntN(6) == 0 {
		host := tasks[random.IntN(n)].Host
		f.down[host] = fmt.Errorf("%s is down", host)
	}
	random.Shuffle(n, func(i, j int) { tasks[i], tasks[j] = tasks[j], tasks[i] })
	return plan.Plan{Tasks: tasks}
}

// model says by plain recursion what must come of a plan: a task runs if all
// it needs succeeded, fails if it breaks or its host is down, and starts as
// soon as the last of its needs has ended.
type model struct {
	fleet   *fleet
	byID    map[plan.ID]plan.Task
	outcome map[plan.ID]outcome
	end     map[plan.ID]time.Duration
	longest time.Duration
}

func newModel(f *fleet, p plan.Plan) *model {
	m := &model{fleet: f, byID: map[plan.ID]plan.Task{}, outcome: map[plan.ID]outcome{}, end: map[plan.ID]time.Duration{}}
	for _, t := range p.Tasks {
		m.byID[t.ID()] = t
	}
	for _, t := range p.Tasks {
		m.work(t)
	}
	return m
}

func (m *model) work(t plan.Task) {
	id := t.ID()
	if _, known := m.outcome[id]; known {
		return
	}
	m.outcome[id] = succeeded
	for _, n := range t.Needs {
		m.work(m.byID[n])
		m.end[id] = max(m.end[id], m.end[n])
		if m.outcome[n] != succeeded {
			m.outcome[id] = notRun
		}
	}
	if m.outcome[id] == notRun {
		return
	}
	if m.begins(id) {
		m.end[id] += m.fleet.takes[string(id)]
		m.longest = max(m.longest, m.end[id])
	}
	if m.cause(id) != nil {
		m.outcome[id] = failed
	}
}

// cause is why the task fails if it runs.
func (m *model) cause(id plan.ID) error {
	if err := m.fleet.down[m.byID[id].Host]; err != nil {
		return err
	}
	return m.fleet.breaks[string(id)]
}

// begins reports whether the host gets to see the task.
func (m *model) begins(id plan.ID) bool {
	return m.outcome[id] != notRun && m.fleet.down[m.byID[id].Host] == nil
}
