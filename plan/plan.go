// SPDX-License-Identifier: Apache-2.0

// Package plan holds what is to be done to all hosts, as data: tasks of steps
// with the tasks they need before them, and the Runner that has it done.
//
// A task belongs to a host and a phase. There are no barriers between hosts or
// phases beyond what Needs says: a fast host does not wait for a slow one, and
// a host uploads programs while another one makes certificates.
package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/muster-project/muster/plan/step"
)

// ID names a task: host/phase or host/phase/part.
type ID string

// Task is steps done in order on one host.
type Task struct {
	Host  string
	Phase string
	Part  string // empty, or which part of the phase this is
	// For is the host that the task is about, if it runs elsewhere: a node is
	// labelled through the API from a control-plane host.
	For   string `json:",omitempty"`
	Needs []ID   `json:",omitempty"`
	Steps step.List
}

// ID returns the task's name.
func (t Task) ID() ID {
	parts := []string{t.Host, t.Phase}
	if t.Part != "" {
		parts = append(parts, t.Part)
	}
	return ID(strings.Join(parts, "/"))
}

// About is the host that the task is about.
func (t Task) About() string {
	if t.For != "" {
		return t.For
	}
	return t.Host
}

// Plan is the tasks of a run. Their order is the order in which ready tasks
// are started.
type Plan struct {
	Cluster string
	Tasks   []Task
}

// Only returns the tasks that keep accepts. Needs that point at tasks left out
// are dropped: they are taken as done.
func (p Plan) Only(keep func(Task) bool) Plan {
	var tasks []Task
	left := make(map[ID]bool)
	for _, t := range p.Tasks {
		if keep(t) {
			tasks = append(tasks, t)
			left[t.ID()] = true
		}
	}
	for i := range tasks {
		var needs []ID
		for _, n := range tasks[i].Needs {
			if left[n] {
				needs = append(needs, n)
			}
		}
		tasks[i].Needs = needs
	}
	return Plan{Cluster: p.Cluster, Tasks: tasks}
}

// Hosts returns the hosts that tasks run on, sorted.
func (p Plan) Hosts() []string {
	var hosts []string
	for _, t := range p.Tasks {
		hosts = append(hosts, t.Host)
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// Check reports every task that is named twice, needs a task that is not
// there, or needs itself in the end.
func (p Plan) Check() error {
	byID := make(map[ID]Task, len(p.Tasks))
	for _, t := range p.Tasks {
		if _, twice := byID[t.ID()]; twice {
			return fmt.Errorf("plan: two tasks are called %s", t.ID())
		}
		byID[t.ID()] = t
	}
	for _, t := range p.Tasks {
		for _, n := range t.Needs {
			if _, ok := byID[n]; !ok {
				return fmt.Errorf("plan: %s needs %s, which is not in the plan", t.ID(), n)
			}
		}
	}
	return p.checkCycles(byID)
}

func (p Plan) checkCycles(byID map[ID]Task) error {
	const visiting, done = 1, 2
	state := make(map[ID]int, len(byID))
	var visit func(id ID, path []string) error
	visit = func(id ID, path []string) error {
		path = append(path, string(id))
		switch state[id] {
		case visiting:
			return fmt.Errorf("plan: tasks need each other: %s", strings.Join(path, " -> "))
		case done:
			return nil
		}
		state[id] = visiting
		for _, n := range byID[id].Needs {
			if err := visit(n, path); err != nil {
				return err
			}
		}
		state[id] = done
		return nil
	}
	for _, t := range p.Tasks {
		if err := visit(t.ID(), nil); err != nil {
			return err
		}
	}
	return nil
}
