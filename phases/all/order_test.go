// SPDX-License-Identifier: Apache-2.0

package all_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/muster-project/muster/phases"
	"github.com/muster-project/muster/plan"
	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/templates"
)

// history is what has surely been done on a host when a step begins: the steps
// before it in its task, and the tasks of the host that it waits for.
type history struct {
	paths map[string]bool
	users map[string]bool
}

func (h history) add(s step.Step) {
	for _, t := range s.Touches() {
		switch t.Kind {
		case step.TouchPath:
			h.paths[t.Name] = true
		case step.TouchUser:
			h.users[t.Name] = true
		case step.TouchSysctl, step.TouchUnit:
		}
	}
}

// before is the history at the beginning of a task.
func before(p plan.Plan, task plan.Task) history {
	// muster-node is on every host before the first step; the kubelet writes
	// its certificate itself, which is what NodeReady waits for.
	h := history{paths: map[string]bool{
		templates.BinDir + "/muster-node": true, step.KubeletClientCert: true,
	}, users: map[string]bool{}}
	byID := map[plan.ID]plan.Task{}
	for _, t := range p.Tasks {
		byID[t.ID()] = t
	}
	seen := map[plan.ID]bool{}
	var visit func(plan.ID)
	visit = func(id plan.ID) {
		if seen[id] {
			return
		}
		seen[id] = true
		if byID[id].Host == task.Host {
			for _, s := range byID[id].Steps {
				h.add(s)
			}
		}
		for _, n := range byID[id].Needs {
			visit(n)
		}
	}
	for _, n := range task.Needs {
		visit(n)
	}
	return h
}

// eachStep calls test for each step with what was done on its host before.
func eachStep(p plan.Plan, test func(plan.ID, step.Step, history)) {
	for _, task := range p.Tasks {
		h := before(p, task)
		for _, s := range task.Steps {
			test(task.ID(), s, h)
			h.add(s)
		}
	}
}

// uses are the files of a host that a step reads, and the users it names.
func uses(s step.Step) (files, users []string) {
	as := func(c step.Credentials) []string { return []string{c.CA, c.Cert, c.Key} }
	switch s := s.(type) {
	case step.Unit:
		files = append([]string{templates.UnitDir + "/" + s.Name}, s.Inputs...)
	case step.Certificate:
		files, users = []string{s.CAPath}, []string{s.Owner}
	case step.Authority:
		users = []string{s.Owner}
	case step.SigningKey:
		users = []string{s.Owner}
	case step.File:
		users = []string{s.Owner}
	case step.Directory:
		users = []string{s.Owner}
	case step.Bootstrap:
		files = []string{s.CAPath}
	case step.Identity:
		files = []string{s.CAPath}
	case step.Healthy:
		files = s.Argv[:1]
	case step.Image:
		files = []string{templates.BinDir + "/ctr"}
	case step.Object:
		files = as(s.As)
	case step.Ready:
		files = as(s.As)
	case step.NodeReady:
		files = as(s.As)
	case step.Rollout:
		files = as(s.As)
	}
	return files, users
}

// Tasks run side by side: what a step reads must have been made by what it
// waits for, not by what happens to be listed before it.
func TestStepsFindWhatTheyRead(t *testing.T) {
	each(t, func(t *testing.T, _ phases.Cluster, p plan.Plan) {
		checked := 0
		eachStep(p, func(id plan.ID, s step.Step, h history) {
			files, users := uses(s)
			for _, f := range files {
				checked++
				if !h.paths[f] {
					t.Errorf("%s: %s reads %s, which nothing that it waits for has made", id, s, f)
				}
			}
			for _, u := range users {
				if u != "" && !h.users[u] {
					t.Errorf("%s: %s names user %s, whom nothing that it waits for has made", id, s, u)
				}
			}
		})
		if checked < 20 {
			t.Errorf("only %d files looked at", checked)
		}
	})
}

// Files that name other files: a kubeconfig its certificates, a unit its
// program and configuration.
func TestFilesNameWhatIsThere(t *testing.T) {
	each(t, func(t *testing.T, _ phases.Cluster, p plan.Plan) {
		for _, host := range p.Hosts() {
			made := map[string]bool{templates.BinDir + "/muster-node": true}
			for _, task := range p.Tasks {
				if task.Host == host {
					for _, s := range task.Steps {
						for _, touch := range s.Touches() {
							made[touch.Name] = true
						}
					}
				}
			}
			for _, task := range p.Tasks {
				for _, s := range task.Steps {
					f, ok := s.(step.File)
					if !ok || task.Host != host {
						continue
					}
					for _, named := range pathsIn(f.Data) {
						if !made[named] {
							t.Errorf("%s: %s names %s, which nothing makes on %s", task.ID(), f, named, host)
						}
					}
				}
			}
		}
	})
}

// pathsIn are the programs, certificates and keys that a text names.
func pathsIn(text string) []string {
	var found []string
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \n\t\"'=,", r) }) {
		isProgram := strings.HasPrefix(word, templates.BinDir+"/")
		isPKI := strings.HasPrefix(word, templates.PKIDir+"/") && strings.Contains(word, ".")
		if isProgram || isPKI {
			found = append(found, word)
		}
	}
	return found
}

// Two tasks of a host may run at once and a reset undoes in reverse: a path
// belongs to one task, or all who touch it make the very same of it.
func TestEachPathHasOneMaker(t *testing.T) {
	type maker struct {
		task plan.ID
		step step.Step
	}
	each(t, func(t *testing.T, _ phases.Cluster, p plan.Plan) {
		makers := map[string]maker{}
		for _, task := range p.Tasks {
			for _, s := range task.Steps {
				for _, touch := range s.Touches() {
					key := task.Host + ":" + string(touch.Kind) + ":" + touch.Name
					first, ok := makers[key]
					if ok && !reflect.DeepEqual(first.step, s) {
						t.Errorf("%s: %s by %s (%s) and by %s (%s)", task.Host, touch.Name, first.task, first.step, task.ID(), s)
					}
					makers[key] = maker{task.ID(), s}
				}
			}
		}
	})
}

// What runs elsewhere says whom it is for, or join would leave it out.
func TestTasksElsewhereSayForWhom(t *testing.T) {
	each(t, func(t *testing.T, c phases.Cluster, p plan.Plan) {
		for _, task := range p.Tasks {
			if _, ok := c.Host(task.Host); !ok {
				t.Errorf("%s is on a host that the inventory does not have", task.ID())
			}
			if _, ok := c.Host(task.About()); !ok {
				t.Errorf("%s is about %s, which the inventory does not have", task.ID(), task.About())
			}
			if task.For != "" && task.Host != c.ControlPlane().Name {
				t.Errorf("%s is for %s but not on the control-plane host", task.ID(), task.For)
			}
			if len(task.Steps) == 0 {
				t.Errorf("%s has no steps", task.ID())
			}
		}
	})
}
